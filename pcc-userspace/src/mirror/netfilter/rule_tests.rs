//! The text of each action, and what is left out.

use super::table;
use super::tests::{lines, made, refuses, rule};
use crate::mirror::names::{Devices, Names};
use crate::routeros::dialect::Dialect;
use crate::routeros::model::Model;
use crate::routeros::{Severity, read};

#[test]
fn actions_of_mangle() {
    for (chain, words, wanted) in [
        ("forward", "action=accept", "accept"),
        ("forward", "action=return", "return"),
        ("forward", "action=drop", "drop"),
        ("forward", "action=passthrough", "counter"),
        ("forward", "action=log log-prefix=seen", "log prefix \"seen: \""),
        ("forward", "action=accept log=yes", "log accept"),
        ("forward", "action=jump jump-target=x", "jump m4_x"),
        ("input", "action=mark-connection new-connection-mark=c1", "jump mark_connection1"),
        ("input", "action=mark-connection new-connection-mark=c1 passthrough=no", "goto mark_connection1_end"),
        ("forward", "action=mark-packet new-packet-mark=p1", "meta mark set meta mark & 0xfffffbff | 0x400"),
        (
            "output",
            "action=mark-routing new-routing-mark=r1 passthrough=no",
            "meta mark set meta mark & 0xfffffeff | 0x8100 accept",
        ),
        ("output", "action=mark-routing new-routing-mark=main", "meta mark set meta mark & 0xfffffeff | 0x8000"),
        ("forward", "action=change-mss new-mss=1400 protocol=tcp", "meta l4proto 6 tcp option maxseg size set 1400"),
        ("postrouting", "action=change-mss new-mss=clamp-to-pmtu", "tcp option maxseg size set rt mtu"),
        ("forward", "action=change-dscp new-dscp=12", "ip dscp set 12"),
        ("postrouting", "action=change-ttl new-ttl=set:65", "ip ttl set 65"),
        (
            "forward",
            "action=add-src-to-address-list address-list=seen address-list-timeout=1h",
            "update @added4_seen { ip saddr timeout 3600s }",
        ),
        ("forward", "action=add-dst-to-address-list address-list=seen", "update @added4_seen { ip daddr }"),
    ] {
        assert_eq!(rule("ip", &format!("mangle add chain={chain} {words}")), [wanted], "{words}");
    }
    for (chain, words, reason) in [
        ("forward", "action=mark-routing new-routing-mark=r1", "routed already"),
        ("input", "action=mark-connection new-connection-mark=no-mark", "taken away"),
        ("forward", "action=fasttrack-connection", "exempted"),
        ("forward", "action=route route-dst=192.0.2.1", "next hop"),
        ("input", "action=change-mss new-mss=clamp-to-pmtu", "path MTU"),
        ("forward", "action=clear-df", "not possible in mangle"),
        ("forward", "action=strip-ipv4-options", "not possible in mangle"),
        ("forward", "action=reject", "not possible in mangle"),
        ("forward", "action=sniff-tzsp", "not possible in mangle"),
        ("forward", "action=change-ttl new-ttl=decrement:1", "not count"),
        ("forward", "action=jump jump-target=output", "built in"),
    ] {
        refuses(&rule("ip", &format!("mangle add chain={chain} {words}")), reason);
    }
    assert_eq!(rule("ipv6", "mangle add chain=forward action=change-dscp new-dscp=1"), ["ip6 dscp set 1"]);
}

#[test]
fn lists_that_rules_add_to_are_looked_up_twice() {
    let (text, notes) = made(
        "/ip firewall mangle\nadd chain=forward action=add-src-to-address-list address-list=local\n\
         add chain=forward src-address-list=local comment=here\nadd chain=forward src-address-list=!local comment=here\n",
    );
    assert!(notes.is_empty(), "{notes:?}");
    assert!(text.contains(
        "set list4_local { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.0.2.1-192.0.2.3 }; }"
    ));
    assert!(text.contains("set added4_local { type ipv4_addr;"));
    assert_eq!(
        lines(&text),
        [
            "ip saddr @list4_local accept",
            "ip saddr != @list4_local ip saddr @added4_local accept",
            "ip saddr != @list4_local ip saddr != @added4_local accept"
        ]
    );
}

#[test]
fn actions_of_nat() {
    for (menu, words, wanted) in [
        ("ip", "chain=srcnat action=masquerade out-interface-list=WAN", "oifname { \"ppp0\", \"wan1\" } masquerade"),
        (
            "ip",
            "chain=srcnat action=masquerade protocol=udp to-ports=1024-2000",
            "meta l4proto 17 masquerade to :1024-2000",
        ),
        ("ip", "chain=srcnat action=src-nat to-addresses=192.0.2.1 randomise-ports=yes", "snat ip to 192.0.2.1 random"),
        ("ip", "chain=srcnat action=src-nat to-addresses=192.0.2.1-192.0.2.9", "snat ip to 192.0.2.1-192.0.2.9"),
        (
            "ip",
            "chain=srcnat action=same to-addresses=192.0.2.1-192.0.2.9 same-not-by-dst=yes",
            "snat ip to 192.0.2.1-192.0.2.9 persistent",
        ),
        ("ip", "chain=srcnat action=netmap to-addresses=192.0.2.0/24", "snat ip prefix to 192.0.2.0/24"),
        ("ip", "chain=dstnat action=netmap to-addresses=10.0.0.0/24", "dnat ip prefix to 10.0.0.0/24"),
        (
            "ip",
            "chain=dstnat action=dst-nat protocol=tcp to-addresses=10.0.0.2 to-ports=80",
            "meta l4proto 6 dnat ip to 10.0.0.2:80",
        ),
        ("ip", "chain=dstnat action=dst-nat protocol=tcp to-ports=80", "meta l4proto 6 dnat to :80"),
        ("ip", "chain=dstnat action=redirect protocol=udp to-ports=53", "meta l4proto 17 redirect to :53"),
        ("ip", "chain=dstnat action=redirect", "redirect"),
        ("ip", "chain=output action=dst-nat to-addresses=10.0.0.2", "dnat ip to 10.0.0.2"),
        ("ip", "chain=srcnat action=accept", "accept"),
        ("ip", "chain=srcnat action=jump jump-target=x", "jump n4_x"),
        ("ipv6", "chain=srcnat action=masquerade", "masquerade"),
        (
            "ipv6",
            "chain=dstnat action=dst-nat to-address=fd00::1/128 protocol=tcp to-ports=80",
            "meta l4proto 6 dnat ip6 to [fd00::1]:80",
        ),
    ] {
        assert_eq!(rule(menu, &format!("nat add {words}")), [wanted], "{words}");
    }
    for (words, reason) in [
        ("chain=dstnat action=masquerade", "is not possible"),
        ("chain=srcnat action=dst-nat to-addresses=10.0.0.2", "is not possible"),
        ("chain=dstnat action=dst-nat", "needs `to-addresses`"),
        ("chain=dstnat action=dst-nat to-addresses=10.0.0.2 to-ports=80", "needs a `protocol`"),
        ("chain=dstnat action=dst-nat to-addresses=fd00::1", "other family"),
        ("chain=srcnat action=netmap to-addresses=192.0.2.1-192.0.2.9", "one prefix"),
        ("chain=srcnat action=endpoint-independent-nat", "not possible in NAT"),
        ("chain=srcnat action=mark-packet new-packet-mark=p1", "not possible in NAT"),
    ] {
        refuses(&rule("ip", &format!("nat add {words}")), reason);
    }
}

#[test]
fn rules_that_no_packet_reaches_are_left_out() {
    for words in [
        "mangle add chain=prerouting layer7-protocol=x",
        "mangle add chain=lost layer7-protocol=x",
        "mangle add chain=forward layer7-protocol=x disabled=yes",
    ] {
        assert_eq!(rule("ip", words), Vec::<String>::new(), "{words}");
    }
}

#[test]
fn the_firewall_stays_where_it_is() {
    let (_, notes) =
        made("/ip firewall filter add chain=input action=drop\n/ip firewall raw add chain=prerouting action=drop\n");
    assert_eq!(
        notes.iter().map(|note| (note.id, note.severity)).collect::<Vec<_>>(),
        [("mirror-firewall", Severity::Warning)]
    );
    assert!(made("/ip firewall filter add chain=input action=drop disabled=yes\n").1.is_empty());
}

#[test]
fn another_hash_is_said() {
    let (_, notes) = made("/ip firewall mangle add chain=output per-connection-classifier=src-address:2/0\n");
    assert_eq!(
        notes.iter().map(|note| (note.id, note.severity)).collect::<Vec<_>>(),
        [("mirror-hash", Severity::Info)]
    );
}

#[test]
fn without_marks_nothing_is_asked() {
    let model = Model::build(&read(b"/ip firewall nat add chain=srcnat action=masquerade")).model;
    let names = Names::default();
    let (text, notes) = table("t", &model, &names, &names.fields(None).unwrap(), &Devices::default(), Dialect::V6, "x");
    assert!(notes.is_empty());
    assert!(!text.contains("& 0x0 "), "{text}");
    assert!(text.starts_with("table inet t\ndelete table inet t\ntable inet t {\n comment \"x\"\n"));
}
