use std::time::Instant;

use interpreter::{Compiled, Marks, Packet, compiled, op, packet};
use ipnet::IpNet;
use pcc_ebpf::abi::{Op, STEPS, Step};

use super::sets::decompose;
use super::{BROADCAST, LOCAL, Part, SetSource};
use crate::routeros::Severity;
use crate::routeros::model::values::AddressRange;

mod interpreter;
mod random;
mod refused;

fn rules(rules: &str) -> Compiled {
    compiled(&format!("/ip firewall mangle\n{rules}"))
}

/// The same, without errors.
fn sound(text: &str) -> Compiled {
    let compiled = rules(text);
    assert!(compiled.notes.iter().all(|note| note.severity < Severity::Error), "{:?}", compiled.notes);
    compiled
}

fn lan() -> Packet {
    packet("lan", "10.0.0.7", "198.51.100.8")
}

fn connection(mark: &str) -> Marks {
    Marks { connection: mark.into(), ..Marks::default() }
}

/// Severity, id and line of every note.
fn notes(compiled: &Compiled) -> Vec<(Severity, &'static str, u32)> {
    compiled.notes.iter().map(|note| (note.severity, note.id, note.span.line)).collect()
}

#[test]
fn without_rules_there_is_nothing_to_do() {
    let compiled = sound("add chain=forward action=accept\nadd chain=prerouting action=accept disabled=yes");
    assert_eq!((compiled.program.first4, compiled.program.first6), (0, 0));
    assert_eq!((compiled.program.steps.len(), compiled.program.places.len()), (1, 1));
    assert_eq!(compiled.walk(&lan()).0, Marks::default());
}

#[test]
fn the_example_divides_connections_and_keeps_answers() {
    let compiled = compiled(include_str!("../../../examples/dual-wan.rsc"));
    assert_eq!(compiled.notes, []);
    let marks: std::collections::BTreeSet<_> = (1..=254)
        .map(|host| compiled.walk(&packet("lan", "10.20.0.9", &format!("203.0.113.{host}"))).0)
        .map(|marks| (marks.connection, marks.routing))
        .collect();
    let pair = |connection: &str, routing: &str| (connection.to_owned(), routing.to_owned());
    assert_eq!(Vec::from_iter(marks), [pair("by-cable", "to-cable"), pair("by-fibre", "to-fibre")]);
    let (marks, lines) = compiled.walk(&packet("fibre", "203.0.113.1", "192.0.2.2"));
    assert_eq!((marks.connection.as_str(), marks.routing.as_str()), ("by-fibre", ""));
    assert_eq!(lines.len(), 1);
}

#[test]
fn jumps_return_and_passthrough_no_ends_the_walk_from_inside() {
    let compiled = sound(
        "add chain=prerouting action=jump jump-target=lan in-interface=lan\n\
         add chain=prerouting action=mark-packet new-packet-mark=behind\n\
         add chain=lan action=return protocol=udp\n\
         add chain=lan action=mark-connection new-connection-mark=web protocol=tcp dst-port=!80,443,8000-8100\n\
         add chain=lan action=mark-connection new-connection-mark=end passthrough=no connection-mark=no-mark dst-address=198.51.100.9\n\
         add chain=lan action=jump jump-target=empty\n\
         add chain=lan action=accept connection-mark=no-mark src-address=10.0.0.8",
    );
    let walk = |packet: &Packet| compiled.walk(packet);
    let with = |change: &dyn Fn(&mut Packet)| {
        let mut packet = lan();
        change(&mut packet);
        walk(&packet)
    };
    assert_eq!(walk(&lan()), (Marks { packet: "behind".into(), ..Marks::default() }, vec![2, 7, 3]));
    assert_eq!(with(&|packet| packet.protocol = 17).1, [2, 4, 3]);
    assert_eq!(with(&|packet| packet.ports.1 = 8_101).0.connection, "web");
    assert_eq!(with(&|packet| packet.ports.1 = 8_100).0.connection, "");
    assert_eq!(
        with(&|packet| packet.destination = "198.51.100.9".parse().expect("address")),
        (connection("end"), vec![2, 6])
    );
    assert_eq!(with(&|packet| packet.source = "10.0.0.8".parse().expect("address")).1, [2, 7, 8]);
    assert_eq!(with(&|packet| packet.interface = "fibre".into()).1, [3]);
}

#[test]
fn loops_and_jumps_to_built_in_chains_are_refused_at_the_jump() {
    let looping = rules(
        "add chain=prerouting action=jump jump-target=a\nadd chain=a action=jump jump-target=b\n\
         add chain=b action=jump jump-target=a\nadd chain=prerouting action=jump jump-target=forward\n\
         add chain=unreached action=jump jump-target=unreached",
    );
    assert_eq!(notes(&looping), [(Severity::Error, "mirror-chain", 4), (Severity::Error, "mirror-chain", 5)]);
    let deep: String = (0..100).map(|at| format!("add chain=c{at} action=jump jump-target=c{}\n", at + 1)).collect();
    let deep = rules(&format!("add chain=prerouting action=jump jump-target=c0\n{deep}"));
    assert_eq!(notes(&deep), [(Severity::Error, "mirror-chain", 66)]);
}

#[test]
fn a_program_that_is_too_long_is_refused_as_a_whole_and_soon() {
    let mut text = String::from("add chain=prerouting action=jump jump-target=c0\n");
    for at in 0..40 {
        text.push_str(&format!("add chain=c{at} action=jump jump-target=c{}\n", at + 1).repeat(2));
    }
    let start = Instant::now();
    let long = rules(&text);
    assert!(start.elapsed().as_secs() < 5);
    assert_eq!(long.notes.iter().map(|note| note.id).collect::<Vec<_>>(), ["mirror-size"]);
    assert_eq!((long.program.steps.len(), long.program.first4), (1, 0));
    let many = rules(&"add chain=prerouting action=mark-packet new-packet-mark=p protocol=tcp\n".repeat(8_191));
    assert_eq!((many.notes.len(), many.program.steps.len()), (0, STEPS as usize - 1));
    let more = rules(&"add chain=prerouting action=mark-packet new-packet-mark=p protocol=tcp\n".repeat(8_192));
    assert_eq!(notes(&more), [(Severity::Error, "mirror-size", 8_193)]);
}

#[test]
fn partitions_are_complete_and_impossible_remainders_match_nothing() {
    let compiled = sound(
        "add chain=prerouting action=mark-connection new-connection-mark=a per-connection-classifier=both-addresses-and-ports:3/0\n\
         add chain=prerouting action=mark-connection new-connection-mark=b per-connection-classifier=both-addresses-and-ports:3/1\n\
         add chain=prerouting action=mark-connection new-connection-mark=c per-connection-classifier=both-addresses-and-ports:3/2\n\
         add chain=prerouting action=accept per-connection-classifier=both-addresses:3/3\n\
         add chain=prerouting action=mark-packet new-packet-mark=all per-connection-classifier=!both-addresses:3/3",
    );
    let mut counts = std::collections::BTreeMap::new();
    for port in 1..=3_000 {
        let (marks, lines) = compiled.walk(&Packet { ports: (port, 443), ..lan() });
        assert_eq!((lines.len(), marks.packet.as_str()), (2, "all"));
        *counts.entry(marks.connection).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 3);
    assert!(counts.values().all(|count| (900..1_100).contains(count)), "{counts:?}");
}

#[test]
fn sets_hold_lists_ranges_and_the_hosts_addresses() {
    let compiled = compiled(
        "/ip firewall address-list\nadd list=l address=10.0.0.0/25\nadd list=l address=10.0.0.128-10.0.1.255\n\
         add list=l address=192.0.2.1\nadd list=l address=192.0.2.9 disabled=yes\n\
         /ipv6 firewall address-list add list=l address=2001:db8::/32\n\
         /ip firewall mangle\n\
         add chain=prerouting action=accept dst-address-list=l\n\
         add chain=prerouting action=accept src-address-list=!l dst-address-type=local,broadcast\n\
         add chain=prerouting action=accept dst-address=192.0.2.1-192.0.2.254\n\
         add chain=prerouting action=accept dst-address=192.0.2.4-192.0.2.7\n\
         /ipv6 firewall mangle add chain=prerouting action=accept dst-address-list=l dst-address-type=!broadcast",
    );
    assert_eq!(compiled.notes, []);
    let sources: Vec<_> = compiled.program.sets.iter().map(|set| (set.number, set.source.clone())).collect();
    let range = AddressRange::parse("192.0.2.1-192.0.2.254").expect("a range");
    assert_eq!(
        sources,
        [
            (3, SetSource::List("l".into())),
            (LOCAL, SetSource::Local),
            (BROADCAST, SetSource::Broadcast),
            (4, SetSource::Prefixes(decompose(vec![range]))),
        ]
    );
    let members: Vec<Vec<_>> =
        compiled.members.iter().map(|(_, nets)| nets.iter().map(ToString::to_string).collect()).collect();
    assert_eq!(members[0], ["10.0.0.0/23", "192.0.2.1/32", "2001:db8::/32"]);
    assert_eq!(members[1], ["10.0.0.1/32", "192.0.2.2/32", "2001:db8::1/128"]);
    assert_eq!(members[2], ["0.0.0.0/8", "10.0.0.255/32", "255.255.255.255/32"]);
    assert_eq!(members[3].len(), 14);
    let inline =
        compiled.program.steps.iter().find(|step| op(&Step { op: step.op.max(1), ..**step }) == Op::DestinationPrefix);
    assert_eq!(
        inline.map(|step| (step.low, step.words)),
        Some((96 + 30, pcc_ebpf::flow::words("192.0.2.4".parse().expect("address"))))
    );
}

#[test]
fn a_hundred_thousand_entries_become_few_prefixes_soon() {
    let ranges: Vec<_> = (0..100_000_u32)
        .rev()
        .map(|at| AddressRange::from(IpNet::from(std::net::IpAddr::from((0x0a00_0000 + at).to_be_bytes()))))
        .collect();
    let start = Instant::now();
    let nets: Vec<_> = decompose(ranges).iter().map(ToString::to_string).collect();
    assert!(start.elapsed().as_secs() < 5);
    assert_eq!(nets[0], "10.0.0.0/16");
    assert_eq!(nets.len(), 6);
    let whole = ["0.0.0.0/0", "255.255.255.255", "::/0"].map(|text| AddressRange::parse(text).expect("a range"));
    assert_eq!(decompose(whole.to_vec()).iter().map(ToString::to_string).collect::<Vec<_>>(), ["0.0.0.0/0", "::/0"]);
}

#[test]
fn what_counts_comes_last_and_keeps_one_counter_a_rule() {
    let compiled = sound(
        "add chain=prerouting action=jump jump-target=a\nadd chain=prerouting action=jump jump-target=a\n\
         add chain=a action=mark-packet new-packet-mark=x nth=2,1 random=30 per-connection-classifier=both-addresses:2/0 protocol=tcp\n\
         add chain=a action=mark-packet new-packet-mark=y random=30 per-connection-classifier=both-addresses:2/0 connection-state=new nth=1,1",
    );
    let ops: Vec<_> = compiled.program.steps.iter().skip(1).map(op).collect();
    let once = [
        [Op::Pass, Op::Protocol, Op::Random, Op::Nth, Op::Pcc, Op::MarkPacket].as_slice(),
        &[Op::State, Op::Random, Op::Pcc, Op::MarkPacket],
    ]
    .concat();
    assert_eq!(ops, [once.clone(), once].concat());
    assert_eq!(compiled.program.nth_counters, 1);
    let place = compiled.program.places[2].expect("a place");
    assert_eq!((place.rule, place.part), (2, Part::Matcher(3)));
}

#[test]
fn negations_of_what_a_packet_lacks_do_not_match() {
    let compiled = rules(
        "add chain=prerouting action=mark-packet new-packet-mark=p dst-port=!53\n\
         add chain=prerouting action=mark-connection new-connection-mark=c icmp-options=!8:0-255",
    );
    assert_eq!(notes(&compiled), [(Severity::Warning, "mirror-matcher", 2), (Severity::Warning, "mirror-matcher", 3)]);
    let lines = |packet: Packet| compiled.walk(&packet).1;
    assert_eq!(lines(lan()), [2]);
    assert_eq!(lines(Packet { protocol: 47, ..lan() }), Vec::<u32>::new());
    assert_eq!(lines(Packet { protocol: 1, icmp: (0, 0), ..lan() }), [3]);
    assert_eq!(lines(Packet { protocol: 1, icmp: (8, 3), ..lan() }), Vec::<u32>::new());
}

#[test]
fn header_fields() {
    let lines = |matchers: &str, packet: Packet| {
        sound(&format!("add chain=prerouting action=accept {matchers}")).walk(&packet).1.len() == 1
    };
    assert!(lines("protocol=tcp tcp-flags=syn,!ack", lan()));
    assert!(!lines("protocol=tcp tcp-flags=syn,!ack", Packet { flags: 0x12, ..lan() }));
    assert!(lines("protocol=tcp tcp-flags=!syn,ack", Packet { flags: 0x10, ..lan() }));
    assert!(!lines("protocol=tcp tcp-flags=!syn,ack", Packet { flags: 0x12, ..lan() }));
    for (ttl, text, holds) in [
        (64, "ttl=equal:64", true),
        (64, "ttl=!equal:64", false),
        (64, "ttl=not-equal:64", false),
        (63, "ttl=less-than:64", true),
        (64, "ttl=less-than:64", false),
        (64, "ttl=greater-than:64", false),
        (65, "ttl=greater-than:64", true),
        (255, "ttl=greater-than:255", false),
    ] {
        assert_eq!(lines(text, Packet { ttl, ..lan() }), holds, "{text}");
    }
    assert!(lines("packet-size=!100-65535 dscp=46", Packet { size: 99, dscp: 46, ..lan() }));
    assert!(lines("routing-mark=main connection-mark=no-mark ipsec-policy=in,none", lan()));
}

#[test]
fn interfaces_need_devices_and_lists_may_lack_some() {
    let compiled = compiled(
        "/interface list\nadd name=LAN\nadd name=MOST include=all exclude=LAN\n\
         /interface list member\nadd list=LAN interface=lan\nadd list=LAN interface=wg9\nadd list=LAN interface=off\n\
         /interface wireguard add name=off disabled=yes\n\
         /interface bridge port add bridge=lan interface=ether5\n\
         /ip firewall mangle\n\
         add chain=prerouting action=accept in-interface=ether9\n\
         add chain=prerouting action=accept in-interface=off\n\
         add chain=prerouting action=accept in-interface=ether5\n\
         add chain=prerouting action=mark-packet new-packet-mark=p in-interface-list=LAN\n\
         add chain=prerouting action=mark-connection new-connection-mark=c in-interface-list=!MOST\n\
         add chain=prerouting action=accept in-interface-list=dynamic\n\
         add chain=prerouting action=accept in-interface-list=!all",
    );
    use Severity::{Error, Info, Warning};
    let found: Vec<_> = notes(&compiled).iter().map(|(severity, _, line)| (*severity, *line)).collect();
    assert_eq!(found, [(Error, 11), (Info, 12), (Warning, 13), (Warning, 14), (Error, 16)]);
    assert_eq!(compiled.notes[0].fix.as_deref(), Some("--map ether9=DEVICE"));
    assert_eq!(compiled.walk(&lan()).1, [14, 15]);
    assert_eq!(compiled.walk(&packet("fibre", "10.0.0.7", "10.0.0.8")).1, Vec::<u32>::new());
}
