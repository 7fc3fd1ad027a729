use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A host whose chain `forward` of `table inet fw` has this rule.
fn with(statement: Value) -> Firewall {
    let chain =
        json!({"chain": {"family": "inet", "table": "fw", "name": "forward", "type": "filter", "hook": "forward"}});
    ruleset(vec![chain, rule("forward", statement)])
}

fn ruleset(objects: Vec<Value>) -> Firewall {
    Firewall { ruleset: Some(json!({"nftables": Value::Array(objects)})), events: true, ..Firewall::default() }
}

fn rule(chain: &str, statement: Value) -> Value {
    json!({"rule": {"family": "inet", "table": "fw", "chain": chain, "handle": 7, "expr": Value::Array(vec![statement])}})
}

fn of(firewall: &Firewall) -> Lease {
    Lease::of(firewall, "pcc")
}

fn seconds(statement: Value) -> u32 {
    of(&with(statement)).seconds
}

#[test]
fn rules_that_tell_of_their_changes_leave_a_long_lease() {
    assert_eq!(of(&ruleset(vec![json!({"metainfo": {"version": "1.0.6"}})])).seconds, LONG);
    for statement in [
        json!({"accept": null}),
        json!({"counter": {"packets": 3, "bytes": 180}}),
        json!({"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth0"}}),
        json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}),
        json!({"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@plain"}}),
        json!({"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"|": [{"meta": {"key": "mark"}}, 256]}}}),
        json!({"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["invalid", {"drop": null}]]}}}),
        json!({"reject": {"type": "icmpx", "expr": "port-unreachable"}}),
        json!({"ct helper": "ftp"}),
        json!({"flow": {"op": "add", "flowtable": "@f"}}),
    ] {
        assert_eq!(seconds(statement.clone()), LONG, "{statement}");
    }
}

#[test]
fn what_changes_without_notice_makes_it_short_and_is_named() {
    for statement in [
        json!({"limit": {"rate": 5, "burst": 5, "per": "second"}}),
        json!({"limit": "lim"}),
        json!({"quota": {"val": 5, "val_unit": "mbytes", "inv": true}}),
        json!({"ct count": {"val": 5, "inv": true}}),
        json!({"ct timeout": "to"}),
        json!({"last": null}),
        json!({"xt": null}),
        json!({"xt": {"type": "match", "name": "set"}}),
        json!({"meter": {"key": {"payload": {"protocol": "ip", "field": "saddr"}}, "stmt": {"limit": {}}, "name": "m"}}),
        json!({"match": {"op": "==", "left": {"meta": {"key": "hour"}}, "right": {"range": ["10:00", "11:00"]}}}),
        json!({"match": {"op": ">", "left": {"ct": {"key": "bytes"}}, "right": 1000}}),
        json!({"vmap": {"key": {"numgen": {"mode": "inc", "mod": 2}}, "data": {"set": [[0, {"accept": null}]]}}}),
        json!({"set": {"op": "add", "elem": {"payload": {"protocol": "ip", "field": "saddr"}}, "set": "@seen"}}),
        json!({"of the future": null}),
        json!(null),
    ] {
        assert_eq!(seconds(statement.clone()), SHORT, "{statement}");
    }
    let lease = of(&with(json!({"limit": {"rate": 5, "burst": 5, "per": "second"}})));
    assert_eq!(lease.reason, "table inet fw, chain forward has a `limit`, which changes without notice");
}

#[test]
fn what_must_see_every_packet_leaves_no_shortcuts() {
    let lease = of(&with(json!({"queue": {"num": 0}})));
    assert_eq!(lease.seconds, 0);
    assert_eq!(lease.reason, "table inet fw, chain forward has a `queue`, which must see every packet");
    assert_eq!(seconds(json!({"xt": {"type": "target", "name": "NFQUEUE"}})), 0);
    assert_eq!(seconds(json!({"dup": {"addr": "192.0.2.1"}})), 0);
    let read = Firewall { signs: Signs { queues: true, ..Signs::default() }, ..with(json!({"accept": null})) };
    assert_eq!(of(&read).seconds, 0);
    let slow = Firewall { timeouts: vec![("net/netfilter/nf_conntrack_udp_timeout".into(), 30)], ..read };
    assert_eq!(of(&slow).seconds, 0);
}

#[test]
fn sets_whose_elements_go_by_themselves_count_where_they_are_asked() {
    let asks = rule("forward", json!({"match": {"left": {"payload": {}}, "op": "==", "right": "@banned"}}));
    let forward =
        json!({"chain": {"family": "inet", "table": "fw", "name": "forward", "type": "filter", "hook": "forward"}});
    let input = json!({"chain": {"family": "inet", "table": "fw", "name": "input", "type": "filter", "hook": "input"}});
    let set = |flags: Value| json!({"set": {"family": "inet", "table": "fw", "name": "banned", "flags": flags}});
    let of = |objects: &[&Value]| of(&ruleset(objects.iter().copied().cloned().collect())).seconds;
    assert_eq!(of(&[&forward, &set(json!(["interval"])), &asks]), LONG);
    assert_eq!(of(&[&forward, &set(json!(["timeout"])), &asks]), SHORT);
    assert_eq!(of(&[&forward, &set(json!("dynamic")), &asks]), SHORT);
    assert_eq!(of(&[&forward, &set(json!(["timeout"]))]), LONG, "nobody asks it");
    // Written in a chain that forwarded packets do not pass, asked in one that they do.
    let writes = rule("input", json!({"set": {"op": "add", "elem": {"payload": {}}, "set": "@banned"}}));
    assert_eq!(of(&[&forward, &input, &set(json!([])), &writes]), LONG);
    assert_eq!(of(&[&forward, &input, &set(json!([])), &writes, &asks]), SHORT);
}

#[test]
fn only_chains_that_forwarded_packets_may_pass_count() {
    let chain = |name: &str, kind: &str, hook: &str, family: &str| json!({"chain": {"family": family, "table": "fw", "name": name, "type": kind, "hook": hook}});
    let plain = json!({"chain": {"family": "inet", "table": "fw", "name": "plain"}});
    let limit = |chain: &str| rule(chain, json!({"limit": {"rate": 1}}));
    let of = |objects: Vec<Value>| of(&ruleset(objects)).seconds;
    for hook in ["prerouting", "forward", "postrouting", "ingress", "egress", "of the future"] {
        assert_eq!(of(vec![chain("c", "filter", hook, "inet"), limit("c")]), SHORT, "{hook}");
    }
    for hook in ["input", "output"] {
        assert_eq!(of(vec![chain("c", "filter", hook, "inet"), limit("c")]), LONG, "{hook}");
    }
    assert_eq!(of(vec![chain("c", "nat", "prerouting", "inet"), limit("c")]), LONG, "only a connection's first packet");
    let forward = chain("f", "filter", "forward", "inet");
    assert_eq!(of(vec![forward.clone(), plain.clone(), limit("plain")]), LONG, "nobody goes there");
    for way in [
        json!({"jump": {"target": "plain"}}),
        json!({"vmap": {"key": {}, "data": {"set": [[1, {"goto": {"target": "plain"}}]]}}}),
        json!({"vmap": {"key": {}, "data": "@somewhere"}}),
    ] {
        assert_eq!(of(vec![forward.clone(), plain.clone(), limit("plain"), rule("f", way.clone())]), SHORT, "{way}");
    }
    // A loop of chains, which the kernel refuses, ends.
    assert_eq!(of(vec![forward, plain, rule("f", json!({"jump": {"target": "f"}}))]), LONG);
}

#[test]
fn our_own_tables_do_not_count() {
    let in_table = |family: &str, table: &str| {
        let rule = json!({"rule": {"family": family, "table": table, "chain": "c", "expr": [{"limit": {}}]}});
        of(&ruleset(vec![rule])).seconds
    };
    assert_eq!((in_table("inet", "pcc"), in_table("inet", "pcc-guard")), (LONG, LONG));
    assert_eq!((in_table("ip", "pcc"), in_table("inet", "pcc-other")), (SHORT, SHORT));
}

#[test]
fn legacy_tables_and_silence_of_conntrack_make_it_short() {
    let quiet = with(json!({"accept": null}));
    let signs = Signs { legacy: vec!["filter".into()], queues: false };
    let legacy = of(&Firewall { signs, ..quiet.clone() });
    assert_eq!((legacy.seconds, legacy.reason.starts_with("filter of legacy iptables")), (SHORT, true), "{legacy:?}");
    assert_eq!(of(&Firewall { events: false, ..quiet.clone() }).seconds, SHORT);
    assert_eq!(of(&Firewall { ruleset: None, ..quiet }).seconds, SHORT);
}

#[test]
fn a_connection_is_seen_twice_before_it_times_out() {
    let with = |timeouts: &[u32]| {
        let timeouts = timeouts.iter().map(|it| ("net/netfilter/nf_conntrack_udp_timeout".to_owned(), *it));
        of(&Firewall { timeouts: timeouts.collect(), ..with(json!({"accept": null})) })
    };
    assert_eq!(with(&[30, 120]).seconds, 15);
    assert_eq!(with(&[30]).reason, "net.netfilter.nf_conntrack_udp_timeout is 30 s");
    assert_eq!((with(&[600]).seconds, with(&[1]).seconds, with(&[0]).seconds), (LONG, 1, 1));
}

fn junk() -> impl Strategy<Value = Value> {
    const WORDS: [&str; 22] = [
        "nftables", "rule", "chain", "set", "map", "table", "family", "name", "expr", "vmap", "data", "jump", "goto",
        "target", "hook", "flags", "key", "meta", "@s", "inet", "fw", "limit",
    ];
    let word = prop::sample::select(&WORDS[..]).prop_map(str::to_owned);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(word.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_no_ruleset_makes_it_short(value in junk()) {
        let is_list = value.get("nftables").is_some_and(Value::is_array);
        let lease = of(&Firewall { ruleset: Some(value), events: true, ..Firewall::default() });
        prop_assert!(is_list || lease.seconds == SHORT);
    }

    #[test]
    fn no_object_of_a_ruleset_does_harm(objects in prop::collection::vec(junk(), 0..8)) {
        of(&ruleset(objects));
    }

    #[test]
    fn an_odd_statement_never_makes_it_long(value in junk()) {
        prop_assume!(value.as_object().and_then(|it| it.keys().next()).is_none_or(|it| !STATEMENTS.contains(&it.as_str())));
        prop_assert!(seconds(value) <= SHORT);
    }
}
