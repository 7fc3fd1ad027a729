//! The script's own chains do in the kernel what they do on RouterOS. Needs root.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::{SocketAddr, UdpSocket};

use lab::{Lab, made, pass};

mod lab;

/// Marks behind the script's postrouting rules.
const LAB: &str = "table inet lab {
 set seen { type mark . mark; flags dynamic; size 64; }
 chain after { type filter hook postrouting priority mangle + 5;
  oifname \"wan\" update @seen { meta mark . ct mark }
 }
}
";

struct Scene {
    lab: Lab,
    client: UdpSocket,
    server: UdpSocket,
}

impl Scene {
    fn new(test: &str, script: &str) -> Self {
        let lab = Lab::new(test);
        let client = lab.socket("client", "10.0.0.2:1000");
        let server = lab.socket("server", "198.18.1.9:2000");
        lab.nft(LAB);
        lab.nft(&made(script).0);
        Self { lab, client, server }
    }

    /// Connection mark and packet mark of one packet to the server, and the connection's mark in conntrack.
    fn marks(&self, script: &str) -> (u32, u32, u32) {
        let fields = made(script).1;
        pass(&self.client, &self.server);
        let seen = self.lab.seen("seen");
        let [(packet, connection)] = Vec::from_iter(seen).try_into().unwrap();
        (fields.connection.get(packet), fields.packet.get(packet), fields.connection.get(connection))
    }
}

/// Sends one packet from `from` to `to` and says where it seems to come from.
fn seen_from(from: &UdpSocket, to: SocketAddr, at: &UdpSocket) -> SocketAddr {
    from.send_to(b"x", to).unwrap();
    at.recv_from(&mut [0; 8]).unwrap().1
}

#[test]
fn chains_return_and_end_as_on_routeros() {
    let script = "/ip firewall mangle
        add chain=forward action=jump jump-target=first protocol=udp
        add chain=first action=mark-packet new-packet-mark=a
        add chain=first action=return connection-mark=no-mark
        add chain=first action=mark-packet new-packet-mark=lost
        add chain=forward action=mark-connection new-connection-mark=c connection-mark=no-mark
        add chain=forward action=jump jump-target=second packet-mark=a
        add chain=second action=mark-packet new-packet-mark=b passthrough=no connection-mark=c
        add chain=second action=mark-packet new-packet-mark=lost
        add chain=forward action=mark-connection new-connection-mark=lost
        add chain=postrouting out-interface=ether1 action=mark-connection new-connection-mark=d packet-mark=b";
    let scene = Scene::new("chains", script);
    // Numbers run in the order of the names: c, d, lost; a, b, lost.
    assert_eq!(scene.marks(script), (2, 2, 2));
    // Of a connection with a mark the rule behind `return` sees the packet, so that nothing else does.
    assert_eq!(scene.marks(script).1, 3);
}

#[test]
fn nth_counts_and_lists_fill() {
    let script = "/ip firewall mangle
        add chain=forward action=mark-packet new-packet-mark=a nth=3,2 out-interface=ether1
        add chain=forward action=mark-packet new-packet-mark=b dst-address-list=met
        add chain=forward action=add-dst-to-address-list address-list=met address-list-timeout=1h nth=2,2";
    let scene = Scene::new("nth", script);
    let marks: Vec<_> = (0..5).map(|_| scene.marks(script).1).collect();
    assert_eq!(marks, [0, 1, 2, 2, 2]);
}

#[test]
fn addresses_are_translated() {
    let scene = Scene::new(
        "nat",
        "/ip firewall nat
        add chain=dstnat action=dst-nat protocol=udp dst-address-type=local dst-port=8000-8001 to-addresses=198.18.1.9 to-ports=2000
        add chain=dstnat action=redirect protocol=udp in-interface=bridge dst-port=53
        add chain=dstnat action=netmap dst-address=198.18.3.0/24 to-addresses=198.18.1.0/24
        add chain=srcnat action=jump jump-target=out out-interface=ether1
        add chain=out action=accept protocol=udp src-port=1000
        add chain=out action=netmap protocol=udp src-port=1001 to-addresses=198.18.2.0/24
        add chain=out action=src-nat protocol=udp src-port=1002 to-addresses=198.18.2.77 to-ports=7000
        add chain=out action=masquerade",
    );
    let client = |port: u16| scene.lab.socket("client", &format!("10.0.0.2:{port}"));
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let server = scene.server.local_addr().unwrap();
    let seen = |from: &UdpSocket, to| seen_from(from, to, &scene.server);
    assert_eq!(seen(&scene.client, address("10.0.0.1:8000")), address("10.0.0.2:1000"));
    assert_eq!(seen(&client(1001), server), address("198.18.2.2:1001"));
    assert_eq!(seen(&client(1002), server), address("198.18.2.77:7000"));
    assert_eq!(seen(&client(1003), address("198.18.3.9:2000")), address("198.18.1.1:1003"));
    let service = scene.lab.socket("router", "10.0.0.1:53");
    assert_eq!(seen_from(&client(1004), address("203.0.113.1:53"), &service), address("10.0.0.2:1004"));
}
