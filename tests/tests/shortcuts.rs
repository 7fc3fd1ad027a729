//! Connections that live take the shortcut, and nobody outside can tell.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::net::{IpAddr, SocketAddr};

use tests::lab::address::{CLIENT4, CLIENT6, FORWARDED_PORT, PORT, ROUTER4, ROUTER6, SERVER4, SERVER6};
use tests::lab::settings::READY;
use tests::lab::{Client, Conversation, Defaults, Isp, Lab, PATIENCE, Pcc, Protocol, eventually};

/// Of 100 packets: more than one direction has.
const ENOUGH: u64 = 80;

fn run(lab: &Lab, mode: &str) -> Pcc {
    run_on(lab, lab.lans(), mode)
}

fn run_on(lab: &Lab, lans: &str, mode: &str) -> Pcc {
    let wans = lab.wans();
    let by_port = ["--hash", "both-addresses-and-ports"];
    let pcc = lab.pcc(&[&["run", "--wan", &wans, "--lan", lans, "--fast-path", mode], &by_port[..]].concat());
    // Before, there is no lease.
    pcc.wait_for("shortcuts last", READY);
    // An uplink that comes up makes its shortcuts stale. One without a gateway is not checked.
    let gateways = lab.gateways();
    let is_checked = |isp: &&Isp| gateways.iter().any(|flag| flag.starts_with(&format!("--gateway={}=", isp.device)));
    for isp in lab.isps().iter().filter(is_checked) {
        for family in ["IPv4", "IPv6"] {
            pcc.wait_for(&format!("uplink {} {family}: up", isp.device), READY);
        }
    }
    pcc
}

#[test]
fn connections_that_live_take_the_shortcut_and_stay_where_they_are() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let _pcc = run(&lab, "tc");
    exchange(&lab, |lab| lab.shortcuts_taken().0);
}

#[test]
fn in_xdp_too() {
    let lab = Lab::builder().defaults(Defaults::All).whole_frames().build();
    let _pcc = run(&lab, "xdp");
    exchange(&lab, |lab| lab.shortcuts_taken().1);
}

#[test]
fn through_a_bridge() {
    let lab = Lab::builder().defaults(Defaults::All).port_forward().build();
    // Where bridged packets go through the IP firewall too, it sees them before our programs: nothing confirms their marks, and
    // nothing is learned.
    let through_firewall = ["ip", "ip6"].map(|tables| format!("net/bridge/bridge-nf-call-{tables}tables"));
    for key in through_firewall.iter().filter(|key| lab.router().sysctl(key).is_ok()) {
        lab.router().set_sysctls(&[(key, "0")]);
    }
    lab.router().ip_batch(&format!(
        "link add br-lan type bridge
        addr flush dev lan
        link set lan master br-lan
        link set br-lan up
        addr add {ROUTER4}/24 dev br-lan
        addr add {ROUTER6}/64 dev br-lan nodad
        "
    ));
    let _pcc = run_on(&lab, "br-lan", "tc");
    on_uplinks(&lab, lab.client(), &[1, 2]);
    inbound(&lab);
    echoes_go_through_the_stack(&lab, lab.client());
}

#[test]
fn from_two_lans_but_not_between_them() {
    let lab = Lab::builder().defaults(Defaults::All).second_lan().build();
    let _pcc = run(&lab, "tc");
    on_uplinks(&lab, lab.client(), &[1, 2]);
    on_uplinks(&lab, lab.second_client(), &[1, 2]);
    echoes_go_through_the_stack(&lab, lab.second_client());
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for other in [IpAddr::from(CLIENT4), CLIENT6.into()] {
            let remote = SocketAddr::new(other, FORWARDED_PORT);
            let mut neighbour = lab.second_client().open(protocol, None, remote, PATIENCE).unwrap();
            assert_eq!(talk(&lab, &mut neighbour), 0, "{protocol:?} {other}");
        }
    }
}

/// They share an entry of the map, and its first owner keeps it.
#[test]
fn of_connections_that_differ_by_their_protocol_alone_the_first_has_it() {
    const CLIENT_PORT: u16 = 41_000;
    let lab = Lab::builder().defaults(Defaults::All).build();
    let _pcc = run(&lab, "tc");
    for server in [IpAddr::from(SERVER4), SERVER6.into()] {
        let open = |protocol| {
            let remote = SocketAddr::new(server, PORT);
            lab.client().open(protocol, Some(CLIENT_PORT), remote, PATIENCE).unwrap()
        };
        let mut first = open(Protocol::Udp);
        let taken = talk(&lab, &mut first);
        assert!(taken >= ENOUGH, "{server}: {taken}");
        let mut second = open(Protocol::Tcp);
        assert_eq!(talk(&lab, &mut second), 0, "{server}");
        let taken = talk(&lab, &mut first);
        assert!(taken >= ENOUGH, "{server}, after the other: {taken}");
    }
}

#[test]
fn by_uplinks_that_share_their_gateway() {
    let lab = Lab::builder().defaults(Defaults::All).same_gateway().port_forward().build();
    let _pcc = run(&lab, "tc");
    on_uplinks(&lab, lab.client(), &[1, 2]);
    inbound(&lab);
    echoes_go_through_the_stack(&lab, lab.client());
}

#[test]
fn by_an_uplink_without_ethernet_header() {
    let lab = Lab::builder().defaults(Defaults::All).tun(2).port_forward().build();
    let _pcc = run(&lab, "tc");
    on_uplinks(&lab, lab.client(), &[1, 2]);
    inbound(&lab);
    echoes_go_through_the_stack(&lab, lab.client());
}

#[test]
fn when_a_port_is_forwarded() {
    let lab = Lab::builder().defaults(Defaults::All).port_forward().build();
    let _pcc = run(&lab, "tc");
    inbound(&lab);
}

/// A connection of each protocol and family by each of `isps`.
fn on_uplinks(lab: &Lab, client: &Client, isps: &[u32]) {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for server in [IpAddr::from(SERVER4), SERVER6.into()] {
            for isp in isps {
                let mut conversation = by(client, protocol, server, *isp);
                let taken = talk(lab, &mut conversation);
                assert!(taken >= ENOUGH, "{protocol:?} {server} by {isp}: {taken}");
            }
        }
    }
}

/// A connection by `isp`, which may have to come up first.
fn by(client: &Client, protocol: Protocol, server: IpAddr, isp: u32) -> Conversation {
    let mut found = None;
    eventually(PATIENCE * 2, || {
        found = client.open(protocol, None, SocketAddr::new(server, PORT), PATIENCE).ok().filter(|it| it.isp == isp);
        found.is_some()
    });
    found.unwrap_or_else(|| panic!("no {protocol:?} to {server} by {isp}"))
}

/// A connection of each protocol and family to the client, by each uplink.
fn inbound(lab: &Lab) {
    for isp in lab.isps() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for like in [IpAddr::from(SERVER4), SERVER6.into()] {
                let remote = SocketAddr::new(isp.link.router(like), FORWARDED_PORT);
                let mut conversation = isp.client().open(protocol, None, remote, PATIENCE).unwrap();
                assert_eq!(conversation.identity.server, "client");
                let taken = talk(lab, &mut conversation);
                assert!(taken >= ENOUGH, "{protocol:?} to {remote} by {}: {taken}", isp.number);
            }
        }
    }
}

fn echoes_go_through_the_stack(lab: &Lab, client: &Client) {
    for server in [IpAddr::from(SERVER4), SERVER6.into()] {
        let mut echo = client.open(Protocol::Icmp, None, SocketAddr::new(server, PORT), PATIENCE).unwrap();
        assert_eq!(talk(lab, &mut echo), 0, "{server}");
    }
}

/// 50 packets there and 50 back: packets of them that took shortcuts in tc.
fn talk(lab: &Lab, conversation: &mut Conversation) -> u64 {
    let before = lab.shortcuts_taken().0;
    for _ in 0..50 {
        conversation.exchange(&[7; 500]).unwrap();
    }
    lab.shortcuts_taken().0 - before
}

fn exchange(lab: &Lab, taken: impl Fn(&Lab) -> u64) {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for server in [IpAddr::from(SERVER4), SERVER6.into()] {
            let before = taken(lab);
            let remote = SocketAddr::new(server, PORT);
            let mut conversations = lab.client().open_many(protocol, &[(23_456, remote)], 1, PATIENCE);
            let mut conversation = conversations.remove(0).unwrap();
            for _ in 0..50 {
                conversation.exchange(&[7; 500]).unwrap();
            }
            let taken = taken(lab) - before;
            assert!(taken >= 80, "{protocol:?} {server}: {taken}");
        }
    }
}
