use super::interface::Interface;
use super::item::Property;
use super::matcher::Reading;
use super::matcher::{AddressType, ConnectionState, Matcher, Test, read};
use super::route::{Check, RouteKind};
use super::rule::Action;
use super::service::Change;
use super::values::{AddressRange, Pcc, duration, ports, protocol};
use super::{Built, Family, Model};
use crate::routeros::{Severity, Span, Value, read as read_script};

fn build(text: &str) -> Built {
    Model::build(&read_script(text.as_bytes()))
}

fn model(text: &str) -> Model {
    let built = build(text);
    let notes: Vec<_> = built.notes.iter().filter(|note| note.severity > Severity::Info).collect();
    assert!(notes.is_empty(), "{notes:?}");
    built.model
}

fn test(name: &str, text: &str) -> Option<(Test, bool)> {
    let property =
        Property { span: Span::default(), name: name.into(), value: Value::Text(text.into()), negated: false };
    match read(&property) {
        Reading::Matcher(Matcher { negated, test, .. }) => Some((test, negated)),
        _ => None,
    }
}

#[test]
fn commands_run_over_the_scripts_own_items() {
    let model = model(
        "/ip firewall mangle\n\
         add chain=prerouting action=accept comment=one\n\
         add chain=prerouting action=accept comment=two disabled=yes\n\
         add chain=prerouting action=accept comment=three place-before=0\n\
         set [find comment=one] new-connection-mark=m action=mark-connection passthrough=no\n\
         enable [find comment=two]\n\
         add chain=prerouting action=accept comment=gone\n\
         remove [find comment=gone]\n\
         move [find comment=two] destination=0\n",
    );
    let comments: Vec<_> = model.mangle.iter().map(|rule| rule.item.text("comment").unwrap_or_default()).collect();
    assert_eq!(comments, ["two", "three", "one"]);
    assert!(model.mangle[0].active());
    assert_eq!(model.mangle[2].action, Action::MarkConnection("m".into()));
    assert!(model.mangle[2].ends());
    assert_eq!(model.mangle[2].item.place("passthrough").line, 5);
    assert_eq!(model.mangle[2].span().line, 2);
}

#[test]
fn finds_compare_flags_expressions_and_negations() {
    let rules =
        "/ip route\nadd gateway=192.0.2.1 comment=a-1 distance=3\nadd gateway=192.0.2.2 comment=b-2 disabled=yes\n";
    let left = |find: &str| -> Vec<String> {
        let model = model(&format!("{rules}remove [find {find}]"));
        model.routes.iter().filter_map(|route| route.item.text("comment").map(str::to_owned)).collect()
    };
    assert_eq!(left("comment~\"^a\""), ["b-2"]);
    assert_eq!(left("where disabled"), ["a-1"]);
    assert_eq!(left("where !disabled"), ["b-2"]);
    assert_eq!(left("where distance>2"), ["b-2"]);
    assert_eq!(left("where distance=1 or comment=a-1"), Vec::<String>::new());
    assert_eq!(left(""), Vec::<String>::new());
}

#[test]
fn loops_over_items_and_items_in_variables_reach_the_items() {
    let text = "/ip route\nadd gateway=192.0.2.1 comment=a\nadd gateway=192.0.2.2 comment=b\nadd gateway=192.0.2.3 comment=a\n";
    let model = model(&format!(
        "{text}:foreach i in=[/ip route find comment=a] do={{ /ip route set $i disabled=yes; /ip route set $i distance=9 }}\n\
         :local other [find comment=b]\nset $other distance=5\n:foreach i in=$other do={{ /ip route enable $i }}\n"
    ));
    let state: Vec<_> = model.routes.iter().map(|route| (route.distance, route.active())).collect();
    assert_eq!(state, [(9, false), (5, true), (9, false)]);
    assert_eq!(self::model(&format!("{text}:foreach i in=[find comment=a] do={{ remove $i }}")).routes.len(), 1);
}

#[test]
fn renames_reach_earlier_mentions_and_ports_need_no_add() {
    let model = model(
        "/interface list member add list=WAN interface=ether1\n\
         /interface set [find default-name=ether1] name=north\n\
         /interface ethernet set ether2 name=south\n\
         /interface pppoe-client add name=dial interface=south disabled=no\n",
    );
    assert_eq!(model.members[0].interface, "north");
    let names = |i: &Interface| (i.name.clone(), i.default_name.clone().unwrap_or_default(), i.kind.clone());
    let names: Vec<_> = model.interfaces.iter().map(names).collect();
    assert!(names.contains(&("north".into(), "ether1".into(), "ethernet".into())), "{names:?}");
    assert!(names.contains(&("south".into(), "ether2".into(), "ethernet".into())), "{names:?}");
    assert_eq!(
        model.interface("dial").map(|dial| (dial.parent.as_deref(), dial.is_point_to_point())),
        Some((Some("south"), true))
    );
}

#[test]
fn what_a_text_cannot_answer_is_noted() {
    let built = build(
        "/ip firewall mangle set [find comment=other] disabled=yes\n\
         /ip firewall filter set [find comment=defconf] disabled=yes\n\
         /ip firewall mangle set *1A disabled=yes\n\
         /queue simple add name=a target=b\n\
         /queue simple add name=c target=d\n",
    );
    let notes: Vec<_> = built.notes.iter().map(|note| (note.id, note.severity, note.span.line)).collect();
    assert_eq!(
        notes,
        [
            ("not-in-text", Severity::Warning, 1),
            ("not-in-text", Severity::Info, 2),
            ("not-in-text", Severity::Warning, 3),
            ("out-of-scope", Severity::Info, 4),
        ]
    );
    assert!(built.applied.is_empty());
}

#[test]
fn routes_of_both_dialects() {
    let model = model(
        "/ip route\n\
         add gateway=192.0.2.1%ether1,198.51.100.1@main routing-mark=a check-gateway=ping scope=20 target-scope=11\n\
         add dst-address=10.0.0.0/8 type=unreachable\n\
         add dst-address=10.0.0.0/8 blackhole distance=20 routing-table=b pref-src=192.0.2.9\n\
         add gateway=pppoe-out1 disabled=yes\n\
         /ipv6 route add gateway=fe80::1%ether1\n",
    );
    let [first, second, third, fourth, fifth] = model.routes.as_slice() else { panic!("{:?}", model.routes) };
    assert_eq!((first.table.as_str(), first.check, first.scope, first.target_scope), ("a", Some(Check::Ping), 20, 11));
    assert_eq!(first.gateways[0].interface.as_deref(), Some("ether1"));
    assert_eq!(first.gateways[1].table.as_deref(), Some("main"));
    assert_eq!((second.kind, third.kind), (RouteKind::Unreachable, RouteKind::Blackhole));
    assert_eq!((third.distance, third.table.as_str(), third.preferred_source.is_some()), (20, "b", true));
    assert!(!fourth.active() && fourth.gateways[0].address.is_none());
    assert_eq!((fifth.family, fifth.destination.prefix_len()), (Family::V6, 0));
}

#[test]
fn matchers_become_values() {
    assert_eq!(
        test("src-address", "!10.0.0.0/8"),
        Some((Test::SourceAddress(AddressRange::parse("10.0.0.0/8").expect("net")), true))
    );
    assert_eq!(
        test("dst-address-type", "!local"),
        Some((Test::DestinationAddressType(vec![AddressType::Local]), true))
    );
    assert_eq!(
        test("connection-state", "established,related"),
        Some((Test::ConnectionState(vec![ConnectionState::Established, ConnectionState::Related]), false))
    );
    assert_eq!(test("connection-mark", "no-mark"), Some((Test::ConnectionMark(None), false)));
    assert_eq!(test("dst-port", "80,443-445"), Some((Test::DestinationPort(vec![80..=80, 443..=445]), false)));
    assert_eq!(
        test("tcp-flags", "syn,!ack"),
        Some((Test::TcpFlags { set: vec!["syn".into()], unset: vec!["ack".into()] }, false))
    );
    assert_eq!(test("tcp-mss", "!0-1300"), Some((Test::TcpMss(0..=1300), true)));
    assert_eq!(test("icmp-options", "8:0-255"), Some((Test::Icmp { kind: 8, codes: Some(0..=255) }, false)));
    assert_eq!(test("ipsec-policy", "out,none"), Some((Test::IpsecPolicy { incoming: false, ipsec: false }, false)));
    assert_eq!(test("nth", "3,1"), Some((Test::Nth { every: 3, packet: 1 }, false)));
    assert_eq!(
        test("hotspot", "!auth,from-client"),
        Some((Test::Other { name: "hotspot".into(), value: "!auth,from-client".into() }, false))
    );
    let written =
        |text: &str| model(&format!("/ip firewall mangle add chain=forward {text}")).mangle[0].matchers[0].clone();
    let flags = written("tcp-flags=!syn,ack");
    assert_eq!(flags.test, Test::TcpFlags { set: vec!["ack".into()], unset: vec!["syn".into()] });
    assert!(!flags.negated, "the first `!` is that of `syn`");
    assert_eq!(test("src-address-type", ""), None);
    for word in ["equal:64", "not-equal:64", "less-than:2", "greater-than:254"] {
        assert_eq!(test("ttl", word), Some((Test::Ttl(word.into()), false)));
        assert_eq!(test("hop-limit", &format!("!{word}")), Some((Test::Ttl(word.into()), true)));
    }
    let rule = &model("/ipv6 firewall mangle add chain=forward hop-limit=less-than:2 action=drop").mangle[0];
    assert!(!rule.broken && rule.tests(|test| *test == Test::Ttl("less-than:2".into())));
    for (name, value) in [
        ("dst-port", "80-"),
        ("random", "0"),
        ("nth", "2,3"),
        ("dscp", "64"),
        ("src-address", "10.0.0.0/33"),
        ("ttl", "below:3"),
        ("ttl", "equal:256"),
        ("hop-limit", "equal"),
    ] {
        assert_eq!(test(name, value), None, "{name}={value}");
    }
}

#[test]
fn pcc_errors_say_what_was_meant() {
    assert_eq!(Pcc::parse("both-addresses:4/3").map(|pcc| (pcc.denominator, pcc.remainder)), Ok((4, 3)));
    assert!(Pcc::parse("both-addresses_and_ports:2/0").is_err_and(|text| text.contains("`both-addresses-and-ports`")));
    for text in ["both-addresses", "both-addresses:2", "both-addresses:0/0", "both-addresses:2/x", "all:2/0"] {
        assert!(Pcc::parse(text).is_err(), "{text}");
    }
}

#[test]
fn times_ports_protocols() {
    let millis = |text| duration(text).map(|time| time.as_millis());
    assert_eq!(millis("1w2d"), Some(777_600_000));
    assert_eq!(millis("00:00:10"), Some(10_000));
    assert_eq!(millis("1d03:00:00"), Some(97_200_000));
    assert_eq!(millis("800ms"), Some(800));
    assert_eq!(millis("30"), Some(30_000));
    assert_eq!([millis(""), millis("5x"), millis("s"), millis("9999999999999999999s"), millis("1:2:3:4")], [None; 5]);
    assert_eq!(ports("1-5,7"), Some(vec![1..=5, 7..=7]));
    assert_eq!([ports("5-1"), ports("70000"), ports("")], [None, None, None]);
    assert_eq!(
        [protocol("tcp"), protocol("udp-lite"), protocol("47"), protocol("x")],
        [Some(6), Some(136), Some(47), None]
    );
}

#[test]
fn bad_rules_are_broken_and_noted() {
    let built = build(
        "/ip firewall mangle\n\
         add chain=prerouting action=mark-connection\n\
         add chain=prerouting per-connection-classifier=both-addresses_and_ports:2/0\n\
         add chain=prerouting no-such-matcher=1\n\
         add action=accept\n\
         add chain=prerouting src-address=10.0.0.1/24\n\
         add chain=prerouting action=Accept\n\
         add chain=prerouting action=mark-conection new-connection-mark=a\n\
         add chain=prerouting action=set-priority new-priority=1\n",
    );
    let notes: Vec<_> = built.notes.iter().map(|note| (note.id, note.span.line)).collect();
    assert_eq!(
        notes,
        [("value-bad", 2), ("value-bad", 3), ("value-bad", 5), ("host-bits", 6), ("value-bad", 7), ("value-bad", 8)]
    );
    let broken: Vec<_> = built.model.mangle.iter().map(|rule| rule.broken).collect();
    assert_eq!(broken, [true, true, true, true, false, true, true, false]);
}

#[test]
fn lists_hold_ranges_and_names() {
    let Built { model, notes, .. } = build(
        "/ip firewall address-list\nadd list=l address=10.0.0.0/8\nadd list=l address=192.0.2.1-192.0.2.9\nadd list=l address=example.com timeout=1d\n\
         add list=l address=192.0.2.20 timeout=00:10:00\nadd list=l address=192.0.2.21 timeout=none-static\n",
    );
    let entries: Vec<_> = model.address_lists["l"].iter().map(|entry| entry.addresses.is_some()).collect();
    assert_eq!(entries, [true, true, false, true, true]);
    let timeouts: Vec<_> =
        model.address_lists["l"].iter().map(|entry| entry.timeout.map(|time| time.as_secs())).collect();
    assert_eq!(timeouts, [None, None, Some(86_400), Some(600), None]);
    let notes: Vec<_> = notes.iter().map(|note| (note.id, note.span.line, note.span.column)).collect();
    assert_eq!(notes, [("list-timeout", 4, 32), ("list-timeout", 5, 31)]);
}

#[test]
fn netwatch_scripts_are_read() {
    let model = model(
        "/ip route\nadd gateway=192.0.2.1 comment=first\nadd gateway=192.0.2.2 comment=second\n\
         /tool netwatch add host=203.0.113.1 interval=5s \
         down-script=\"/ip route disable [find comment=\\\"first\\\"]\" \
         up-script=\"/ip route set [find comment=\\\"first\\\"] distance=4\"\n",
    );
    let watched = &model.netwatch[0];
    assert_eq!(watched.down.routes[0].change, Change::Disable);
    assert_eq!(watched.up.routes[0].change, Change::Distance(4));
    assert!(watched.down.concern(&model.routes[0]) && !watched.down.concern(&model.routes[1]));
    assert!(!watched.down.other);
}

#[test]
fn addresses_with_peers_and_wrong_networks() {
    let built = build(
        "/ip address\nadd address=192.0.2.1/32 network=192.0.2.254 interface=a\n\
         add address=192.0.2.65/26 network=192.0.2.0 interface=b\nadd address=junk interface=c\n",
    );
    let networks: Vec<_> = built.model.addresses.iter().map(|address| address.network.to_string()).collect();
    assert_eq!(networks, ["192.0.2.254/32", "192.0.2.64/26"]);
    assert_eq!(
        built.notes.iter().map(|note| (note.id, note.span.line)).collect::<Vec<_>>(),
        [("network-mismatch", 3), ("value-bad", 4)]
    );
}
