//! The table of mirror mode reconciles the marks of packets and connections. Needs root.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::net::UdpSocket;

use pcc_ebpf::abi::MarkFields;

use lab::{Lab, made, pass};

mod lab;

/// Numbers run in the order of the names.
const MARKS: &str = "/ip firewall mangle
add chain=prerouting action=mark-connection new-connection-mark=c1
add chain=prerouting action=mark-connection new-connection-mark=c2
add chain=prerouting action=mark-connection new-connection-mark=c3
add chain=prerouting action=mark-routing new-routing-mark=r1
add chain=prerouting action=mark-routing new-routing-mark=r2
add chain=prerouting action=mark-routing new-routing-mark=r3
add chain=prerouting action=mark-packet new-packet-mark=p1
add chain=output connection-mark=c1 action=mark-routing new-routing-mark=r2
add chain=output connection-mark=c2 action=mark-connection new-connection-mark=c3 passthrough=no
add chain=output dst-port=2002 protocol=udp action=mark-connection new-connection-mark=c1
";

/// In place of the eBPF programs: marks by device. Our table must keep bits 0–2 of the packet mark and 4–6 of the
/// connection's.
const LAB: &str = "table inet lab {
 map marks { type ifname : mark; }
 set seen { type mark . mark; flags dynamic; size 64; }
 set sent { type mark . mark; flags dynamic; size 64; }
 set bare { type mark; flags dynamic; size 64; }
 chain early { type filter hook prerouting priority raw; udp dport 3000 notrack; }
 chain before { type filter hook prerouting priority mangle;
  meta mark set iifname map @marks
  ct state new ct mark set ct mark | 0x70
 }
 chain after { type filter hook prerouting priority mangle + 5;
  udp dport 3000 update @bare { meta mark }
  meta l4proto udp update @seen { meta mark . ct mark }
 }
 chain leaving { type filter hook output priority mangle + 5;
  meta l4proto udp update @sent { meta mark . ct mark }
 }
}
";

struct Scene {
    lab: Lab,
    fields: MarkFields,
}

/// What a mark says.
#[derive(Clone, Copy, Default)]
struct Says {
    ours: bool,
    tentative: bool,
    c: u32,
    r: u32,
    reply: u32,
}

const OURS: Says = Says { ours: true, tentative: false, c: 0, r: 0, reply: 0 };
const GUESS: Says = Says { tentative: true, ..OURS };
/// Not seen by our programs.
const NOTHING: Says = Says { ours: false, ..OURS };

impl Scene {
    fn new(test: &str) -> Self {
        let lab = Lab::new(test);
        lab.nft(LAB);
        let (_, fields) = made(MARKS);
        Self { lab, fields }
    }

    fn install(&self) {
        self.lab.nft(&made(MARKS).0);
    }

    fn mark(&self, says: Says) -> u32 {
        let Says { ours, tentative, c, r, reply } = says;
        let fields = &self.fields;
        let bit = |set: bool, bit: u32| if set { bit } else { 0 };
        bit(ours, fields.ours())
            | bit(tentative, fields.tentative())
            | fields.connection.of(c)
            | fields.routing.of(r)
            | fields.reply.of(reply)
    }

    /// Sends one packet that comes in with the mark `arrives` and checks both marks behind our table.
    #[track_caller]
    fn send(&self, from: &UdpSocket, to: &UdpSocket, arrives: Says, packet: Says, connection: Says) {
        let mark = self.mark(arrives) | 5;
        self.lab.nft(&format!(
            "flush map inet lab marks\nadd element inet lab marks {{ \"lan\" : {mark:#x}, \"wan\" : {mark:#x} }}"
        ));
        pass(from, to);
        let wanted = (self.mark(packet) | 5, self.mark(connection) | 0x70);
        let seen = self.lab.seen("seen");
        assert_eq!(seen, BTreeSet::from([wanted]), "{seen:x?} is not {wanted:x?}");
    }
}

#[test]
fn marks_of_packets_and_connections_are_reconciled() {
    let scene = Scene::new("marks");
    let client = scene.lab.socket("client", "10.0.0.2:1000");
    let server = scene.lab.socket("server", "198.18.1.9:2000");
    scene.install();
    let there = |arrives, packet, connection| scene.send(&client, &server, arrives, packet, connection);
    let back = |arrives, packet, connection| scene.send(&server, &client, arrives, packet, connection);

    // Neither a guess nor a decision begins with anything.
    let first = Says { c: 1, r: 2, ..OURS };
    there(first, first, first);
    // A guess that conntrack knows better about.
    back(Says { c: 2, r: 1, ..GUESS }, Says { c: 1, ..OURS }, first);
    there(Says { c: 3, r: 3, ..GUESS }, first, first);
    // A decision about the way back is kept apart.
    let both = Says { reply: 3, ..first };
    back(Says { c: 1, r: 3, ..OURS }, Says { c: 1, r: 3, ..OURS }, both);
    // A guess that was right, but not about the way.
    back(Says { c: 1, r: 1, ..GUESS }, Says { c: 1, r: 3, ..GUESS }, both);
    there(Says { c: 1, r: 0, ..GUESS }, Says { c: 1, r: 2, ..GUESS }, both);
    // Devices without our programs.
    there(NOTHING, first, both);
    back(NOTHING, Says { c: 1, r: 3, ..OURS }, both);
    // A decision without a connection mark takes the connection's, and overwrites its way.
    let turned = Says { c: 1, r: 1, reply: 3, ..OURS };
    there(Says { r: 1, ..OURS }, Says { c: 1, r: 1, ..OURS }, turned);
    there(OURS, Says { c: 1, ..OURS }, turned);
    // A decision overwrites the connection mark.
    there(Says { c: 2, ..OURS }, Says { c: 2, ..OURS }, Says { c: 2, ..turned });
    back(Says { c: 3, ..OURS }, Says { c: 3, ..OURS }, Says { c: 3, ..turned });
}

#[test]
fn connections_begin_by_decision_by_guess_and_unseen() {
    let scene = Scene::new("begin");
    let server = scene.lab.socket("server", "198.18.1.9:2000");
    let client = |port: u16| scene.lab.socket("client", &format!("10.0.0.2:{port}"));
    let old = client(1000);
    pass(&old, &server);
    pass(&server, &old);
    scene.lab.seen("seen");
    scene.install();

    // What was there before pcc stays where it was.
    let decided = Says { c: 1, r: 1, ..OURS };
    scene.send(&old, &server, decided, NOTHING, NOTHING);
    scene.send(&server, &old, Says { c: 2, ..GUESS }, NOTHING, NOTHING);
    scene.send(&old, &server, NOTHING, NOTHING, NOTHING);

    let guessed = client(1001);
    scene.send(
        &guessed,
        &server,
        Says { c: 2, r: 2, ..GUESS },
        Says { c: 2, r: 2, ..GUESS },
        Says { c: 2, r: 2, ..OURS },
    );
    let unseen = client(1002);
    scene.send(&unseen, &server, NOTHING, OURS, OURS);
    scene.send(
        &server,
        &unseen,
        Says { c: 3, r: 1, ..OURS },
        Says { c: 3, r: 1, ..OURS },
        Says { c: 3, reply: 1, ..OURS },
    );

    // An answered connection without a mark is not new: a guess that took it for one gives it none.
    let unmarked = client(1004);
    scene.send(&unmarked, &server, OURS, OURS, OURS);
    scene.send(&server, &unmarked, OURS, OURS, OURS);
    scene.send(&server, &unmarked, Says { c: 2, r: 1, ..GUESS }, OURS, OURS);
    scene.send(&unmarked, &server, Says { c: 1, r: 1, ..GUESS }, OURS, OURS);

    // Packets without a connection keep what they have.
    let untracked = scene.lab.socket("server", "198.18.1.9:3000");
    let mark = scene.mark(Says { c: 1, r: 1, ..GUESS }) | 5;
    scene.lab.nft(&format!("flush map inet lab marks\nadd element inet lab marks {{ \"lan\" : {mark:#x} }}"));
    pass(&client(1003), &untracked);
    assert!(scene.lab.nft("list set inet lab bare").contains(&format!("{mark:#010x}")));
    assert!(scene.lab.seen("seen").is_empty());
}

#[test]
fn the_routers_packets_follow_the_output_rules_and_probes_do_not() {
    let scene = Scene::new("output");
    let server = scene.lab.socket("server", "198.18.1.9:2000");
    let other = scene.lab.socket("server", "198.18.1.9:2002");
    let service = scene.lab.socket("router", "198.18.1.1:53");
    scene.install();
    let sent = |from: &UdpSocket, to: &UdpSocket, packet: Says, connection: u32| {
        pass(from, to);
        let wanted = BTreeSet::from([(scene.mark(packet), connection)]);
        let seen = scene.lab.seen("sent");
        assert_eq!(seen, wanted, "{seen:x?} is not {wanted:x?}");
    };
    let begun = |says| scene.mark(says) | 0x70;
    let first = Says { c: 1, r: 3, ..OURS };
    scene.send(&server, &service, first, first, first);
    sent(&service, &server, Says { c: 1, r: 2, ..OURS }, begun(first));
    // The script's rule replaces the mark, and is the last.
    scene.send(&server, &service, Says { c: 2, ..OURS }, Says { c: 2, ..OURS }, Says { c: 2, ..first });
    sent(&service, &server, Says { c: 3, ..OURS }, begun(Says { c: 3, ..first }));
    // New connections of the router.
    let own = scene.lab.socket("router", "198.18.1.1:5000");
    sent(&own, &other, Says { c: 1, ..OURS }, scene.mark(Says { c: 1, ..OURS }));
    let probe = scene.lab.socket("router", "198.18.1.1:5001");
    socket2::SockRef::from(&probe).set_mark(scene.mark(GUESS)).unwrap();
    sent(&probe, &other, GUESS, 0);
}
