//! The text of each matcher, in both polarities.

use std::collections::BTreeMap;

use super::table;
use crate::mirror::names::{Devices, Names};
use crate::routeros::dialect::Dialect;
use crate::routeros::model::Model;
use crate::routeros::{Note, Severity, read};

const SETTING: &str = "
    /interface pppoe-client add name=pppoe-out1 interface=ether2 disabled=no
    /interface list add name=WAN
    /interface list member add list=WAN interface=ether1
    /interface list member add list=WAN interface=pppoe-out1
    /interface list add name=broken
    /interface list member add list=broken interface=ether9
    /ip firewall address-list add list=local address=10.0.0.0/8
    /ip firewall address-list add list=local address=192.0.2.1-192.0.2.3
    /ip firewall address-list add list=named address=example.com
    /ip firewall mangle add chain=prerouting action=mark-connection new-connection-mark=c1
    /ip firewall mangle add chain=prerouting action=mark-routing new-routing-mark=r1
    /ip firewall mangle add chain=prerouting action=mark-packet new-packet-mark=p1
";

pub fn made(script: &str) -> (String, Vec<Note>) {
    let model = Model::build(&read(format!("{SETTING}{script}").as_bytes())).model;
    let names = Names::of(&model, &Names::default());
    let fields = names.fields(Some(0xff00)).unwrap();
    let map = [("ether1", "wan1"), ("pppoe-out1", "ppp0"), ("bridge", "lan")];
    let map: BTreeMap<_, _> = map.into_iter().map(|(name, linux)| (name.to_owned(), linux.to_owned())).collect();
    let devices = Devices::of(&model, &map, &BTreeMap::new());
    table("t", &model, &names, &fields, &devices, Dialect::V7, "x")
}

/// The lines of the script's chains whose comment is `here`, without it.
pub fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.trim().strip_suffix("comment \"here\""));
    lines.map(|line| line.trim().to_owned()).collect()
}

/// What becomes of a rule, or the reasons why nothing does.
pub fn rule(menu: &str, words: &str) -> Vec<String> {
    let (text, notes) = made(&format!("/{menu} firewall {words} comment=here\n"));
    let errors: Vec<_> = notes.iter().filter(|note| note.severity == Severity::Error).collect();
    if errors.is_empty() { lines(&text) } else { errors.iter().map(|note| format!("! {}", note.message)).collect() }
}

/// A matcher in a rule of chain forward that accepts.
fn matcher(words: &str) -> Vec<String> {
    let lines = rule("ip", &format!("mangle add chain=forward action=accept {words}"));
    lines.iter().map(|line| line.strip_suffix("accept").unwrap_or(line).trim().to_owned()).collect()
}

#[track_caller]
pub fn refuses(lines: &[String], reason: &str) {
    assert!(matches!(lines, [line] if line.starts_with("! ") && line.contains(reason)), "{lines:?}");
}

#[test]
fn rules_do_not_mark_connections_that_were_there_before() {
    let (text, _) = made("/ip firewall mangle add chain=forward action=mark-connection new-connection-mark=c1");
    let chains: Vec<_> = text.lines().filter(|line| line.contains("chain mark_connection")).collect();
    let ours = "ct mark & 0x8000 == 0";
    assert!(chains.len() == 2 && chains[0].contains(&format!("{{ {ours} return; ct mark set")), "{chains:?}");
    assert!(chains[1].contains(&format!("{{ {ours} accept; ct mark set")), "{chains:?}");
}

#[test]
fn matchers_in_both_polarities() {
    for (words, positive, negated) in [
        ("in-interface=ether1", "iifname \"wan1\"", "iifname != \"wan1\""),
        ("out-interface=bridge", "oifname \"lan\"", "oifname != \"lan\""),
        ("out-interface=all-ppp", "oifname \"ppp0\"", "oifname != \"ppp0\""),
        ("in-interface-list=WAN", "iifname { \"ppp0\", \"wan1\" }", "iifname != { \"ppp0\", \"wan1\" }"),
        ("src-address=10.0.0.0/8", "ip saddr 10.0.0.0/8", "ip saddr != 10.0.0.0/8"),
        ("dst-address=192.0.2.1-192.0.2.6", "ip daddr 192.0.2.1-192.0.2.6", "ip daddr != 192.0.2.1-192.0.2.6"),
        ("dst-address-list=local", "ip daddr @list4_local", "ip daddr != @list4_local"),
        ("dst-address-type=local", "fib daddr type local", "fib daddr type != local"),
        ("src-address-type=unicast", "fib saddr type unicast", "fib saddr type != unicast"),
        ("connection-mark=c1", "ct mark & 0x200 == 0x200", "ct mark & 0x200 != 0x200"),
        ("connection-mark=no-mark", "ct mark & 0x200 == 0x0", "ct mark & 0x200 != 0x0"),
        ("routing-mark=r1", "meta mark & 0x100 == 0x100", "meta mark & 0x100 != 0x100"),
        ("packet-mark=p1", "meta mark & 0x400 == 0x400", "meta mark & 0x400 != 0x400"),
        ("connection-state=new", "ct state new", "ct state != new"),
        (
            "connection-state=established,related",
            "ct state { established, related }",
            "ct state != { established, related }",
        ),
        ("connection-nat-state=srcnat", "ct status & 0x10 != 0", "ct status & 0x10 == 0"),
        ("connection-nat-state=srcnat,dstnat", "ct status & 0x30 != 0", "ct status & 0x30 == 0"),
        ("protocol=tcp", "meta l4proto 6", "meta l4proto != 6"),
        ("packet-size=0-1300", "meta length 0-1300", "meta length != 0-1300"),
        ("icmp-options=8:0-255", "meta l4proto 1 icmp type 8", "meta l4proto 1 icmp type != 8"),
        ("ipsec-policy=in,ipsec", "meta secpath exists", "meta secpath missing"),
        ("ipsec-policy=out,none", "rt ipsec missing", "rt ipsec exists"),
        ("nth=3,1", "numgen inc mod 3 0", "numgen inc mod 3 != 0"),
        ("random=30", "numgen random mod 100 < 30", "numgen random mod 100 >= 30"),
        ("dscp=46", "ip dscp 46", "ip dscp != 46"),
        ("ttl=equal:64", "ip ttl 64", "ip ttl != 64"),
        ("ttl=less-than:2", "ip ttl 0-1", "ip ttl != 0-1"),
        ("ttl=greater-than:254", "ip ttl 255", "ip ttl != 255"),
        ("limit=10/1m,5:packet", "limit rate 10/minute burst 5 packets", "limit rate over 10/minute burst 5 packets"),
        ("src-mac-address=00:11:22:33:44:AA", "ether saddr 00:11:22:33:44:aa", "ether saddr != 00:11:22:33:44:aa"),
        (
            "per-connection-classifier=both-addresses:4/1",
            "jhash ip saddr . ip daddr mod 4 seed 0x706363 == 1",
            "jhash ip saddr . ip daddr mod 4 seed 0x706363 != 1",
        ),
    ] {
        assert_eq!(matcher(words), [positive], "{words}");
        let not = words.replacen('=', "=!", 1);
        assert_eq!(matcher(&not), [negated], "{not}");
    }
}

#[test]
fn what_is_always_or_never_true_needs_no_expression() {
    for words in ["src-address=0.0.0.0/0", "in-interface-list=all", "nth=1,1", "ttl=!greater-than:255"] {
        assert_eq!(matcher(words), [""], "{words}");
    }
    for words in [
        "src-address=!0.0.0.0/0",
        "in-interface-list=none",
        "src-address-list=unknown",
        "ttl=less-than:0",
        "per-connection-classifier=src-address:2/2",
        "protocol=icmp dst-port=80",
        "protocol=udp tcp-flags=syn",
    ] {
        assert_eq!(matcher(words), Vec::<String>::new(), "{words}");
    }
}

#[test]
fn ports_need_a_protocol_that_has_them() {
    assert_eq!(matcher("protocol=tcp dst-port=80,443,440-450"), ["meta l4proto 6 th dport { 440-450, 80 }"]);
    assert_eq!(matcher("src-port=53"), ["meta l4proto { 6, 17, 33, 132, 136 } th sport 53"]);
    assert_eq!(matcher("protocol=udp src-port=!53"), ["meta l4proto 17 th sport != 53"]);
    assert_eq!(
        matcher("protocol=udp port=53"),
        ["meta l4proto 17 th sport 53", "meta l4proto 17 th sport != 53 th dport 53"]
    );
    assert_eq!(matcher("protocol=udp port=!53"), ["meta l4proto 17 th sport != 53 th dport != 53"]);
}

#[test]
fn rules_that_take_several_lines_hold_once() {
    assert_eq!(
        matcher("tcp-mss=!0-1300"),
        ["meta l4proto 6 tcp option maxseg size != 0-1300", "meta l4proto 6 tcp option maxseg missing"]
    );
    assert_eq!(matcher("tcp-mss=1301-65535"), ["meta l4proto 6 tcp option maxseg size 1301-65535"]);
    assert_eq!(matcher("tcp-mss=0-65535"), ["meta l4proto 6 tcp option maxseg exists"]);
    assert_eq!(matcher("icmp-options=3:4"), ["meta l4proto 1 icmp type 3 icmp code 4"]);
    assert_eq!(
        matcher("icmp-options=!3:4"),
        ["meta l4proto 1 icmp type != 3", "meta l4proto 1 icmp type 3 icmp code != 4"]
    );
    assert_eq!(
        matcher("per-connection-classifier=src-address-and-port:2/0"),
        [
            "meta l4proto { 6, 17, 33, 132, 136 } jhash ip saddr . th sport mod 2 seed 0x706363 == 0",
            "meta l4proto != { 6, 17, 33, 132, 136 } jhash ip saddr mod 2 seed 0x706363 == 0",
        ]
    );
    refuses(&matcher("protocol=tcp port=80 nth=2,1"), "count by themselves");
    refuses(&matcher("nth=2,1 per-connection-classifier=both-ports:2/1"), "count by themselves");
    assert_eq!(
        matcher("nth=2,1 protocol=tcp random=5").concat(),
        "meta l4proto 6 numgen random mod 100 < 5 numgen inc mod 2 0"
    );
}

#[test]
fn exclamation_marks_of_tcp_flags_belong_to_their_word() {
    assert_eq!(matcher("tcp-flags=syn"), ["meta l4proto 6 tcp flags & 0x2 == 0x2"]);
    assert_eq!(matcher("tcp-flags=syn,!ack"), ["meta l4proto 6 tcp flags & 0x12 == 0x2"]);
    assert_eq!(matcher("tcp-flags=!syn,ack"), ["meta l4proto 6 tcp flags & 0x12 == 0x10"]);
    refuses(&matcher("tcp-flags=what"), "no TCP flag");
}

#[test]
fn what_nft_cannot_match_is_an_error_at_its_place() {
    refuses(&matcher("in-interface=ether9"), "no Linux device");
    refuses(&matcher("in-interface-list=broken"), "`ether9`");
    refuses(&matcher("in-interface-list=dynamic"), "interface list `dynamic`");
    refuses(&matcher("out-interface=all-vlan"), "`all-vlan`");
    refuses(&matcher("src-address=2001:db8::1"), "other family");
    refuses(&matcher("dst-address-type=blackhole"), "blackhole");
    refuses(&matcher("layer7-protocol=x"), "cannot be matched");
    refuses(&matcher("limit=10k,5:bit"), "only limits of packets");
    refuses(&matcher("src-address-list=named"), "`example.com`");
    refuses(&rule("ip", "mangle add chain=output in-interface=ether1"), "incoming interface");
    refuses(&rule("ip", "mangle add chain=input ipsec-policy=out,none"), "no IPsec policy");
    let (_, notes) = made("/ip firewall mangle add chain=forward in-interface=ether9\n");
    assert_eq!((notes[0].id, notes[0].span.line), ("mirror-interface", SETTING.lines().count() as u32 + 1));
}
