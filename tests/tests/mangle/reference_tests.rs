//! The reference itself, by hand.

use super::*;
use crate::world::address;

fn rule(chain: &'static str, matchers: Vec<Test>, action: Action) -> Rule {
    let matchers = matchers.into_iter().map(|test| Matcher { negated: false, test }).collect();
    Rule { ipv6: false, chain, matchers, action, passthrough: true, disabled: false }
}

/// The rules that match a datagram of a new connection, one packet after the other.
fn matched(rules: Vec<Rule>, packets: usize) -> Vec<Vec<usize>> {
    let packet = Packet {
        interface: "bridge1",
        source: address("10.0.0.2"),
        destination: address("203.0.113.9"),
        protocol: 17,
        source_port: 40_000,
        destination_port: 53,
        tcp_flags: 0,
        icmp_type: 0,
        icmp_code: 0,
        dscp: 0,
        ttl: 64,
        size: 100,
    };
    let router = Router { rules, entries: Vec::new() };
    let mut memory = Memory::default();
    let connection = Connection { mark: None, established: false };
    (0..packets).map(|_| walk(&router, 0, &mut memory, &packet, connection, 0).matched).collect()
}

#[test]
fn chains_return_where_they_end_and_passthrough_no_ends_all() {
    let mark = || Action::Mark(Kind::Packet, "bulk");
    let rules = vec![
        rule("prerouting", vec![], Action::Jump("inbound")),
        rule("inbound", vec![Test::InInterface("ether1")], mark()),
        rule("inbound", vec![], Action::Jump("classify")),
        rule("classify", vec![], Action::Return),
        rule("classify", vec![], Action::Accept),
        rule("prerouting", vec![], Action::Passthrough),
        rule("prerouting", vec![], Action::Jump("last one")),
        Rule { passthrough: false, ..rule("last one", vec![], mark()) },
        rule("prerouting", vec![], mark()),
    ];
    assert_eq!(matched(rules, 1), [[0, 2, 3, 5, 6, 7]]);
}

#[test]
fn a_connection_mark_is_seen_at_once_and_disabled_rules_are_not() {
    let unmarked = || vec![Test::Mark(Kind::Connection, None)];
    let mark = || Action::Mark(Kind::Connection, "wan1");
    let rules = vec![
        Rule { disabled: true, ..rule("prerouting", unmarked(), mark()) },
        rule("prerouting", unmarked(), mark()),
        rule("prerouting", unmarked(), mark()),
        rule("prerouting", vec![Test::Mark(Kind::Connection, Some("wan1"))], Action::Accept),
    ];
    assert_eq!(matched(rules, 1), [[1, 3]]);
}

#[test]
fn nth_counts_what_comes_to_it_and_comes_before_pcc() {
    let never = Test::Pcc { fields: "dst-port", denominator: 2, remainder: 2 };
    let nth = |packet| Test::Nth { every: 3, packet };
    let rules = vec![
        rule("prerouting", vec![never, nth(1)], Action::Accept),
        rule("prerouting", vec![nth(2)], Action::Accept),
        rule("prerouting", vec![Test::Dscp(7), nth(1)], Action::Accept),
    ];
    assert_eq!(matched(rules, 5), [vec![], vec![1], vec![], vec![], vec![1]]);
}
