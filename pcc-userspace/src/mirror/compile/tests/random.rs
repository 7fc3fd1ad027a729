//! What holds for all rules: programs go forward, stay in bounds, and do what the rules do.

use proptest::prelude::*;
use proptest::sample::select;

use super::interpreter::{INTERFACES, Marks, Packet, compiled, op};
use crate::routeros::Severity;
use pcc_ebpf::abi::{NTH_COUNTERS, Op, STEPS};

/// Matchers that the plain evaluation knows.
const MATCHERS: &[&str] = &[
    "in-interface=lan",
    "in-interface=!fibre",
    "in-interface-list=WAN",
    "in-interface-list=!WAN",
    "src-address=10.0.0.0/24",
    "dst-address=!198.51.100.7-198.51.100.9",
    "dst-address=198.51.100.1-198.51.100.253",
    "dst-address=198.51.100.8",
    "src-address-list=some",
    "dst-address-list=!some",
    "dst-address-type=local",
    "dst-address-type=!local",
    "dst-address-type=!unicast,broadcast",
    "src-address-type=unicast",
    "connection-mark=no-mark",
    "connection-mark=!no-mark",
    "connection-mark=one",
    "connection-mark=!two",
    "packet-mark=p",
    "routing-mark=!to-b",
    "connection-state=new",
    "connection-state=!new",
    "connection-state=established,new",
    "protocol=tcp",
    "protocol=!udp",
    "protocol=tcp dst-port=80,443,1000-2000",
    "protocol=udp dst-port=!53,443",
    "protocol=tcp src-port=!40000",
    "protocol=tcp port=!443,50000-60000",
    "port=53",
    "dst-port=!53",
    "per-connection-classifier=both-addresses:2/0",
    "per-connection-classifier=!both-addresses-and-ports:3/1",
    "per-connection-classifier=src-address:2/2",
];

const ACTIONS: &[&str] = &[
    "action=accept",
    "action=return",
    "action=jump jump-target=first",
    "action=jump jump-target=second",
    "action=jump jump-target=third",
    "action=mark-connection new-connection-mark=one",
    "action=mark-connection new-connection-mark=two passthrough=no",
    "action=mark-packet new-packet-mark=p",
    "action=mark-routing new-routing-mark=to-a",
    "action=mark-routing new-routing-mark=to-b passthrough=no",
    "action=passthrough",
];

const HEAD: &str = "/interface list add name=WAN\n\
    /interface list member\nadd list=WAN interface=fibre\nadd list=WAN interface=cable\n\
    /ip firewall address-list\n\
    add list=some address=10.0.0.7\nadd list=some address=198.51.100.5-198.51.100.130\n\
    /ip firewall mangle\n";

/// Chains jump to later ones only, so that there are no loops.
fn rule() -> impl Strategy<Value = String> {
    let chains = select(&["prerouting", "prerouting", "first", "second", "third"][..]);
    let matchers = proptest::collection::vec(select(MATCHERS), 0..3);
    (chains, matchers, select(ACTIONS), 0..8_u8).prop_map(|(chain, matchers, action, disabled)| {
        let back = match chain {
            "first" => action.ends_with("=first"),
            "second" => action.ends_with("=first") || action.ends_with("=second"),
            "third" => action.contains("jump"),
            _ => false,
        };
        let action = if back { "action=return" } else { action };
        let disabled = if disabled == 0 { " disabled=yes" } else { "" };
        format!("add chain={chain} {} {action}{disabled}\n", matchers.join(" "))
    })
}

prop_compose! {
    fn any_packet()(
        interface in select(&INTERFACES[..]),
        source in select(&["10.0.0.7", "10.0.0.9", "203.0.113.3"][..]),
        destination in select(&[
            "198.51.100.8", "198.51.100.131", "198.51.100.254", "10.0.0.1", "10.0.0.255", "255.255.255.255", "224.0.0.9",
        ][..]),
        protocol in select(&[6_u8, 17, 1][..]),
        source_port in select(&[40_000_u16, 53, 55_555][..]),
        destination_port in select(&[80_u16, 443, 53, 1_500][..]),
        new in any::<bool>(),
        connection in select(&["", "one", "two"][..]),
    ) -> Packet {
        let mut packet = super::interpreter::packet(interface, source, destination);
        (packet.protocol, packet.ports, packet.new) = (protocol, (source_port, destination_port), new);
        packet.marks = Marks { connection: connection.into(), ..Marks::default() };
        packet
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn compiled_rules_do_what_the_rules_do(
        rules in proptest::collection::vec(rule(), 0..14),
        packets in proptest::collection::vec(any_packet(), 1..20),
    ) {
        // So that every mark has a number, whatever the rules are.
        let marks = "add chain=unused action=mark-connection new-connection-mark=one\n\
                     add chain=unused action=mark-connection new-connection-mark=two\n";
        let compiled = compiled(&format!("{HEAD}{marks}{}", rules.concat()));
        prop_assert!(compiled.notes.iter().all(|note| note.severity < Severity::Error), "{:?}", compiled.notes);
        for packet in packets {
            prop_assert_eq!(compiled.walk(&packet).0, compiled.expected(&packet), "{:?}\n{}", packet, rules.concat());
        }
    }

    #[test]
    fn programs_go_forward_and_stay_in_bounds(
        rules in proptest::collection::vec((select(CHAINS), select(ANY), select(ACTS), select(&["ip", "ipv6"][..])), 0..40),
    ) {
        let rule = |(chain, matchers, action, menu): &(&str, &str, &str, &str)| {
            format!("/{menu} firewall mangle add chain={chain} {matchers} {action}\n")
        };
        let compiled = compiled(&rules.iter().map(rule).collect::<String>());
        let program = &compiled.program;
        let length = u32::try_from(program.steps.len()).expect("a short program");
        prop_assert!(length <= STEPS && program.nth_counters <= NTH_COUNTERS);
        prop_assert_eq!(program.places.len(), program.steps.len());
        prop_assert!(program.first4 < length && program.first6 < length);
        for (at, step) in (0..).zip(&program.steps).skip(1) {
            for target in [step.then, step.otherwise] {
                prop_assert!(target == 0 || (target > at && target < length), "{at}: {step:?}");
            }
            let place = program.places[at as usize].expect("a place");
            prop_assert!(place.rule < compiled.model.mangle.len());
            match op(step) {
                Op::Nth => prop_assert!(step.low < program.nth_counters),
                Op::SourceSet | Op::DestinationSet => {
                    prop_assert!(program.sets.iter().any(|set| set.number == step.low));
                }
                Op::Pcc => prop_assert!(step.words[0] > step.words[1]),
                _ => {}
            }
        }
    }
}

const CHAINS: &[&str] = &["prerouting", "prerouting", "a", "b", "c", "forward"];

const ANY: &[&str] = &[
    "",
    "in-interface=lan",
    "in-interface=unmapped",
    "in-interface-list=all",
    "src-address=!0.0.0.0/0",
    "src-address=2001:db8::1-2001:db8::ff:3",
    "dst-address-type=!local,broadcast",
    "nth=2,1",
    "!nth=3,3",
    "random=50",
    "per-connection-classifier=!both-ports:4/7",
    "connection-state=!related",
    "connection-state=invalid",
    "tcp-flags=syn,!ack protocol=tcp",
    "packet-size=!0-100",
    "icmp-options=!8:0",
    "ttl=less-than:0",
    "ttl=not-equal:3",
    "ipsec-policy=in,none",
    "ipsec-policy=in,ipsec",
    "tcp-mss=1300-65535",
    "connection-rate=1M-2M",
    "dscp=46",
    "no-such=thing",
];

const ACTS: &[&str] = &[
    "action=jump jump-target=a",
    "action=jump jump-target=b",
    "action=jump jump-target=c",
    "action=jump jump-target=prerouting",
    "action=return",
    "action=accept",
    "action=drop",
    "action=log log=yes",
    "action=mark-packet new-packet-mark=x passthrough=no",
    "action=mark-routing new-routing-mark=main",
    "action=mark-connection new-connection-mark=no-mark",
    "action=change-mss new-mss=clamp-to-pmtu",
    "",
];
