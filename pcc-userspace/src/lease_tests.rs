use proptest::prelude::*;
use serde_json::json;

use super::judge::{POLICERS, STATEMENTS};
use super::*;

/// A host whose chain `forward` of `table inet fw` has this rule.
fn with(statement: Value) -> Firewall {
    let chain =
        json!({"chain": {"family": "inet", "table": "fw", "name": "forward", "type": "filter", "hook": "forward"}});
    ruleset(vec![chain, rule("forward", statement)])
}

/// The lease where a rule has these statements.
fn in_rule(statements: &[Value]) -> Lease {
    of(&chains(&[(forward(), &[statements.to_vec()])]))
}

fn forward() -> Value {
    base("forward", 0)
}

fn base(hook: &str, priority: i32) -> Value {
    json!({"name": hook, "type": "filter", "hook": hook, "prio": priority})
}

/// A table with these chains and their rules.
fn chains(chains: &[(Value, &[Vec<Value>])]) -> Firewall {
    let mut objects = Vec::new();
    for (chain, rules) in chains {
        let mut declared = json!({"family": "inet", "table": "fw"});
        declared.as_object_mut().unwrap().extend(chain.as_object().unwrap().clone());
        objects.push(json!({"chain": declared}));
        let name = &chain["name"];
        objects.extend(
            rules.iter().map(|it| json!({"rule": {"family": "inet", "table": "fw", "chain": name, "expr": it}})),
        );
    }
    ruleset(objects)
}

fn state(op: &str, right: impl Into<Value>) -> Value {
    json!({"match": {"op": op, "left": {"ct": {"key": "state"}}, "right": right.into()}})
}

fn flags(op: &str, right: impl Into<Value>) -> Value {
    let masked = json!({"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, ["fin", "syn", "rst", "ack"]]});
    json!({"match": {"op": op, "left": masked, "right": right.into()}})
}

fn payload(protocol: &str, field: &str, right: impl Into<Value>) -> Value {
    json!({"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": field}}, "right": right.into()}})
}

fn limit() -> Value {
    json!({"limit": {"rate": 5, "burst": 5, "per": "second"}})
}

fn accept() -> Value {
    json!({"accept": null})
}

fn drop_it() -> Value {
    json!({"drop": null})
}

fn jump(target: &str) -> Value {
    json!({"jump": {"target": target}})
}

/// Restless, so that it shows whether it is passed.
fn probe() -> Vec<Value> {
    vec![json!({"xt": null})]
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
    let lease = of(&with(json!({"ct timeout": "to"})));
    assert_eq!(lease.reason, "table inet fw, chain forward has a `ct timeout`, which changes without notice");
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
    let probe = |chain: &str| rule(chain, json!({"xt": null}));
    let of = |objects: Vec<Value>| of(&ruleset(objects)).seconds;
    for hook in ["prerouting", "forward", "postrouting", "ingress", "egress", "of the future"] {
        assert_eq!(of(vec![chain("c", "filter", hook, "inet"), probe("c")]), SHORT, "{hook}");
    }
    for hook in ["input", "output"] {
        assert_eq!(of(vec![chain("c", "filter", hook, "inet"), probe("c")]), LONG, "{hook}");
    }
    assert_eq!(of(vec![chain("c", "nat", "prerouting", "inet"), probe("c")]), LONG, "only a connection's first packet");
    let forward = chain("f", "filter", "forward", "inet");
    assert_eq!(of(vec![forward.clone(), plain.clone(), probe("plain")]), LONG, "nobody goes there");
    for way in [
        json!({"jump": {"target": "plain"}}),
        json!({"vmap": {"key": {}, "data": {"set": [[1, {"goto": {"target": "plain"}}]]}}}),
        json!({"vmap": {"key": {}, "data": "@somewhere"}}),
    ] {
        assert_eq!(of(vec![forward.clone(), plain.clone(), probe("plain"), rule("f", way.clone())]), SHORT, "{way}");
    }
    // A loop of chains, which the kernel refuses, ends.
    assert_eq!(of(vec![forward, plain, rule("f", json!({"jump": {"target": "f"}}))]), LONG);
}

#[test]
fn our_own_tables_do_not_count() {
    let in_table = |family: &str, table: &str| {
        let rule = json!({"rule": {"family": family, "table": table, "chain": "c", "expr": [{"xt": null}]}});
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

#[test]
fn established_packets_do_not_pass_what_stands_behind_their_acceptance() {
    let vmap = |elements: Value| json!({"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": elements}}});
    let counter = json!({"counter": {"packets": 0, "bytes": 0}});
    let behind = |first: Vec<Value>| of(&chains(&[(forward(), &[first, probe()])])).seconds;
    for first in [
        vec![state("in", json!("established")), accept()],
        vec![state("in", json!(["established", "related"])), counter.clone(), accept()],
        vec![counter.clone(), state("in", json!({"|": ["established", "related"]})), accept()],
        vec![state("==", json!({"set": ["established", "related"]})), accept()],
        vec![state("!=", json!("new")), accept()],
        vec![vmap(json!([["established", {"accept": null}], ["related", {"accept": null}]]))],
        vec![vmap(json!([[{"elem": {"val": "established", "counter": null}}, {"accept": null}]]))],
        vec![accept()],
    ] {
        assert_eq!(behind(first.clone()), LONG, "{first:?}");
    }
    for first in [
        vec![state("in", json!(["new", "related"])), accept()],
        vec![state("!", json!("established")), accept()],
        vec![state("!=", json!({"set": ["established", "new"]})), accept()],
        vec![state("==", json!(["established", "related"])), accept()],
        vec![state("==", json!("@states")), accept()],
        vec![state("of the future", json!("established")), accept()],
        vec![state("in", json!("established")), payload("ip", "saddr", json!("192.0.2.1")), accept()],
        vec![payload("tcp", "dport", json!(22)), state("in", json!("established")), accept()],
        vec![state("in", json!("established")), counter],
        vec![state("in", json!("established")), json!({"queue": {}}), accept()],
        vec![vmap(json!([["related", {"accept": null}]]))],
        vec![vmap(json!("@verdicts"))],
    ] {
        assert!(behind(first.clone()) <= SHORT, "{first:?}");
    }
}

#[test]
fn acceptance_ends_one_base_chain_only() {
    let first = vec![state("in", json!("established")), accept()];
    let of = |base: Value| of(&chains(&[(forward(), std::slice::from_ref(&first)), (base, &[probe()])])).seconds;
    assert_eq!(of(base("postrouting", 0)), SHORT);
    assert_eq!(of(json!({"name": "later", "type": "filter", "hook": "forward", "prio": 10})), SHORT);
}

#[test]
fn before_conntrack_there_is_no_state() {
    let lease = |base: Value, family: &str| {
        let rules = [vec![state("in", json!("established")), accept()], probe()];
        let mut firewall = chains(&[(base, &rules)]);
        let objects = firewall.ruleset.as_mut().and_then(|it| it["nftables"].as_array_mut()).unwrap();
        for object in objects.iter_mut().filter_map(Value::as_object_mut).flat_map(|it| it.values_mut()) {
            object["family"] = family.into();
        }
        of(&firewall).seconds
    };
    assert_eq!((lease(base("prerouting", -150), "ip"), lease(base("prerouting", -300), "ip")), (LONG, SHORT));
    assert_eq!((lease(base("prerouting", -200), "ip6"), lease(base("ingress", 0), "netdev")), (SHORT, SHORT));
    assert_eq!(lease(forward(), "bridge"), SHORT);
    // Nor does a match of new connections keep others out there.
    let invalid = [vec![state("in", json!("invalid")), limit(), drop_it()]];
    assert_eq!(of(&chains(&[(base("prerouting", -300), &invalid)])).seconds, 0);
    assert_eq!(of(&chains(&[(base("prerouting", -150), &invalid)])).seconds, LONG);
}

#[test]
fn a_chain_that_all_go_to_may_accept_them() {
    let user = json!({"name": "user"});
    let accepts = vec![state("in", json!("established")), accept()];
    let some = payload("tcp", "dport", json!(80));
    let lease = |first: Vec<Value>, rules: &[Vec<Value>]| {
        of(&chains(&[(forward(), &[first, probe()]), (user.clone(), rules)])).seconds
    };
    assert_eq!(lease(vec![jump("user")], std::slice::from_ref(&accepts)), LONG);
    assert_eq!(lease(vec![json!({"goto": {"target": "user"}})], std::slice::from_ref(&accepts)), LONG);
    assert_eq!(lease(vec![state("in", json!("established")), jump("user")], &[vec![accept()]]), LONG);
    assert_eq!(lease(vec![some.clone(), jump("user")], std::slice::from_ref(&accepts)), SHORT);
    assert_eq!(lease(vec![jump("user")], &[vec![json!({"return": null})], accepts.clone()]), SHORT);
    assert_eq!(lease(vec![jump("user")], &[vec![some, json!({"return": null})], accepts]), SHORT);
    assert_eq!(lease(vec![jump("user")], &[]), SHORT);
    let way_back = json!({"vmap": {"key": {}, "data": {"set": [[1, {"return": null}]]}}});
    assert_eq!(lease(vec![jump("user")], &[vec![way_back], vec![accept()]]), SHORT);
    assert_eq!(
        lease(vec![jump("user")], &[vec![json!({"vmap": {"key": {}, "data": "@verdicts"}})], vec![accept()]]),
        SHORT
    );
    // A chain that is left by `goto` comes back to the policy of the base chain.
    assert_eq!(lease(vec![json!({"goto": {"target": "user"}})], &[]), LONG);
    // Only new connections go there.
    let way = json!({"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["new", {"jump": {"target": "user"}}], ["established", {"accept": null}]]}}});
    assert_eq!(lease(vec![way], &[probe()]), LONG);
    assert_eq!(
        of(&chains(&[(forward(), &[vec![state("in", json!("new")), jump("user")]]), (user, &[probe()])])).seconds,
        LONG
    );
}

#[test]
fn a_limit_must_see_every_packet() {
    let quota = json!({"quota": {"val": 5, "val_unit": "mbytes", "inv": true}});
    let address = json!({"payload": {"protocol": "ip", "field": "saddr"}});
    for statements in [
        vec![limit(), drop_it()],
        vec![limit(), json!({"counter": null}), accept()],
        vec![state("in", json!(["new", "established"])), limit(), drop_it()],
        vec![limit(), state("in", json!("new")), accept()],
        vec![limit(), json!({"mangle": {"key": {"meta": {"key": "mark"}}, "value": 1}})],
        vec![limit(), json!({"xt": {"type": "target", "name": "REJECT"}})],
        vec![json!({"limit": "lim"})],
        vec![quota.clone(), drop_it()],
        vec![json!({"quota": "q"}), drop_it()],
        vec![json!({"quota": {"map": {"key": address, "data": {"set": [["192.0.2.1", "q"]]}}}}), drop_it()],
        vec![json!({"meter": {"key": address, "stmt": limit(), "name": "m"}}), drop_it()],
        vec![json!({"set": {"op": "update", "elem": address, "set": "@m", "stmt": [limit()]}}), drop_it()],
        vec![json!({"xt": {"type": "match", "name": "hashlimit"}}), drop_it()],
        vec![json!({"xt": {"type": "match", "name": "conntrack"}}), limit(), drop_it()],
        vec![flags("in", json!(["syn", "ack"])), limit(), drop_it()],
        vec![flags("==", json!("ack")), limit(), drop_it()],
        vec![flags("!=", json!("syn")), limit(), drop_it()],
        vec![payload("ip", "protocol", json!({"set": ["icmp", "udp"]})), limit(), drop_it()],
        vec![payload("ip", "protocol", json!("@protocols")), limit(), drop_it()],
        vec![payload("ip", "protocol", json!({"range": [1, 20]})), limit(), drop_it()],
    ] {
        assert_eq!(in_rule(&statements).seconds, 0, "{statements:?}");
    }
    let reason = "table inet fw, chain forward has a `limit`, which must see every packet: use a shaper (tc) instead, or let it \
                  match new connections only";
    assert_eq!(in_rule(&[limit(), drop_it()]).reason, reason);
}

#[test]
fn a_limit_that_stops_no_established_packet_does_not_count() {
    let log = json!({"log": {"prefix": "x"}});
    let plain = json!({"payload": {"protocol": "tcp", "field": "flags"}});
    let icmp = json!({"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": {"set": ["icmp", "ipv6-icmp", 99]}}});
    for statements in [
        vec![state("in", json!(["new", "untracked"])), limit(), accept()],
        vec![state("==", json!({"set": ["new", "invalid"]})), json!({"quota": "q"}), drop_it()],
        vec![flags("==", json!("syn")), limit(), drop_it()],
        vec![flags("==", json!(["syn", "ack"])), limit(), drop_it()],
        vec![flags("==", json!({"set": [{"|": ["syn", "ack"]}, "fin"]})), limit(), drop_it()],
        vec![json!({"match": {"op": "in", "left": plain, "right": "syn"}}), limit(), drop_it()],
        vec![payload("icmp", "type", json!("echo-request")), limit(), accept()],
        vec![payload("icmpv6", "type", json!({"set": ["echo-request", "echo-reply"]})), limit(), accept()],
        vec![payload("ip", "protocol", json!("icmp")), limit(), accept()],
        vec![payload("ip6", "nexthdr", json!("ipv6-icmp")), limit(), accept()],
        vec![icmp, limit(), accept()],
        vec![limit(), log.clone()],
        vec![limit(), json!({"counter": null}), payload("ip", "saddr", json!("192.0.2.1")), log],
    ] {
        assert_eq!(in_rule(&statements).seconds, LONG, "{statements:?}");
    }
    let xt = |name: &str| in_rule(&[limit(), json!({"xt": {"type": "target", "name": name}})]).seconds;
    assert_eq!((xt("LOG"), xt("NFLOG"), xt("MARK")), (SHORT, SHORT, 0));
    assert_eq!(in_rule(&[limit(), json!({"xt": null})]).seconds, SHORT, "nobody can tell");
    // What is inside of a tunnel says nothing of the packet.
    let inner = json!({"payload": {"tunnel": "vxlan", "protocol": "icmp", "field": "type"}});
    assert_eq!(in_rule(&[json!({"match": {"op": "==", "left": inner, "right": 8}}), limit(), drop_it()]).seconds, 0);
}

#[test]
fn a_set_whose_elements_have_a_limit_must_see_every_packet() {
    let set = json!({"set": {"family": "inet", "table": "fw", "name": "slow", "stmt": [limit()]}});
    let chain =
        json!({"chain": {"family": "inet", "table": "fw", "name": "forward", "type": "filter", "hook": "forward"}});
    let lease = |statements: Value| {
        let rule = json!({"rule": {"family": "inet", "table": "fw", "chain": "forward", "expr": statements}});
        of(&ruleset(vec![set.clone(), chain.clone(), rule]))
    };
    let asks = payload("ip", "saddr", json!("@slow"));
    let lookup = lease(json!([asks, drop_it()]));
    assert_eq!(lookup.seconds, 0);
    assert!(lookup.reason.contains("set `slow` with a limit"), "{lookup:?}");
    assert_eq!(lease(json!([asks, {"log": null}])).seconds, SHORT);
    assert_eq!(lease(json!([{"vmap": {"key": {}, "data": "@slow"}}])).seconds, 0);
    assert_eq!(lease(json!([state("in", json!("new")), asks, drop_it()])).seconds, LONG);
}

/// Made by `nft -j list ruleset` of what such hosts load.
#[test]
fn usual_firewalls_leave_a_long_lease() {
    let read = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    let fw4 = read(include_str!("lease/testdata/fw4.json"));
    let firewalld = read(include_str!("lease/testdata/firewalld.json"));
    let debian = read(include_str!("lease/testdata/debian.json"));
    for (name, ruleset) in [("fw4", fw4), ("firewalld", firewalld), ("debian", debian)] {
        let firewall = Firewall { ruleset: Some(ruleset.clone()), events: true, ..Firewall::default() };
        let lease = of(&firewall);
        assert_eq!(lease.seconds, LONG, "{name}: {}", lease.reason);
        // Each has limits behind the rule that accepts what is established.
        let mut open = ruleset;
        open["nftables"].as_array_mut().unwrap().retain(|it| !accepts_established(&it["rule"]["expr"]));
        assert_eq!(of(&Firewall { ruleset: Some(open), ..firewall }).seconds, 0, "{name}");
    }
}

fn accepts_established(statements: &Value) -> bool {
    let text = statements.to_string();
    text.contains("established") && text.contains("accept")
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

    /// Whatever stands before and behind it, and in a chain of its own.
    #[test]
    fn no_rule_hides_another_base_chain(before in prop::collection::vec(junk(), 0..4), behind in prop::collection::vec(junk(), 0..4)) {
        let rules = [before, behind];
        let later = json!({"name": "later", "type": "filter", "hook": "forward", "prio": 10});
        prop_assert_eq!(of(&chains(&[(forward(), &rules), (later, &[vec![limit(), drop_it()]])])).seconds, 0);
    }

    #[test]
    fn only_matches_of_the_state_hide_a_limit(before in prop::collection::vec(junk(), 0..4)) {
        let text = json!(before).to_string();
        prop_assume!(!["state", "accept", "drop", "return", "goto"].iter().any(|it| text.contains(it)));
        prop_assert_eq!(of(&chains(&[(forward(), &[before, vec![limit(), drop_it()]])])).seconds, 0);
    }

    #[test]
    fn an_odd_statement_never_makes_it_long(value in junk()) {
        let known = |it: &str| STATEMENTS.contains(&it) || POLICERS.contains(&it);
        prop_assume!(value.as_object().and_then(|it| it.keys().next()).is_none_or(|it| !known(it)));
        prop_assert!(seconds(value) <= SHORT);
    }
}
