//! Each check over made-up facts, and what must hold for all of them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::json;

use super::facts::{Facts, Kernel, Native, Place, Remains, Role, Setup};
use super::*;
use crate::config::flags::ConfigFlags;
use crate::config::{Config, file::Source};
use crate::host::linux::Details;
use crate::host::{Address, Family, Link, Mark, MarkUse, NextHop, Observed, Route, RouteKind, Rule, TABLE_MAIN};
use crate::journal::Journal;
use crate::lease::Lease;
use crate::topology;

fn address(ifindex: u32, network: &str) -> Address {
    Address { ifindex, network: network.parse().unwrap(), peer: None, usable_source: true }
}

fn hop(gateway: &str, ifindex: u32, device: &str) -> NextHop {
    NextHop { gateway: Some(gateway.parse().unwrap()), ifindex, device: device.into(), onlink: false, weight: 1 }
}

fn default_route(table: u32, next_hops: Vec<NextHop>, metric: u32) -> Route {
    let v4 = next_hops.iter().all(|hop| hop.gateway.is_none_or(|it| it.is_ipv4()));
    Route {
        destination: if v4 { "0.0.0.0/0" } else { "::/0" }.parse().unwrap(),
        next_hops,
        table,
        metric: Some(metric),
        protocol: 16,
        kind: RouteKind::Unicast,
        preferred_source: None,
        scope: 0,
    }
}

/// A router with a LAN and `uplinks` uplinks of both families.
fn host(uplinks: u32) -> Observed {
    let mut host = Observed {
        links: vec![Link::card(1, "lo"), Link::card(2, "lan")],
        addresses: vec![address(2, "192.0.2.1/24"), address(2, "2001:db8:a::1/64")],
        ..Observed::default()
    };
    for number in 1..=uplinks {
        let (index, name) = (number + 2, format!("wan{number}"));
        host.links.push(Link::card(index, &name));
        host.addresses.push(address(index, &format!("198.18.{number}.2/24")));
        host.addresses.push(address(index, &format!("2001:db8:{number}::2/64")));
        for gateway in [format!("198.18.{number}.1"), format!("2001:db8:{number}::1")] {
            host.routes.push(default_route(TABLE_MAIN, vec![hop(&gateway, index, &name)], 100 * number));
        }
    }
    for (priority, table) in [(0, 255), (32_766, 254), (32_767, 253)] {
        let rules = Family::BOTH.map(|family| Rule { protocol: 2, ..Rule::lookup(family, priority, table) });
        host.rules.extend(rules);
    }
    host
}

/// What is known of `host`, with a configuration of all its uplinks and `flags` besides.
fn facts_of(observed: Observed, flags: ConfigFlags) -> Facts {
    let mut names: Vec<String> = observed.links.iter().map(|link| link.name.clone()).collect();
    names.retain(|name| name.starts_with("wan"));
    if flags.wan.is_empty() {
        return facts_of(observed, ConfigFlags { wan: names, lan: vec!["lan".into()], ..flags });
    }
    let config = Config::build(&flags, Source::default()).unwrap();
    let topology = topology::resolve(&config, &topology::assign_ids(&config, &[].into()), &observed);
    let place = |device: &String, role| Place { device: device.clone(), role };
    let places =
        flags.wan.iter().map(|it| place(it, Role::Uplink)).chain(flags.lan.iter().map(|it| place(it, Role::Lan)));
    let lease = Some(Lease { seconds: 20, reason: String::new() });
    let mut facts = Facts {
        instance: "default".into(),
        setup: Some(Setup {
            name: "flags".into(),
            places: places.collect(),
            devices: [].into(),
            native: Some(Native { config, topology, lease, choice: None }),
        }),
        mark_mask: 0xff,
        bases: (Config::TABLE_BASE, Config::PRIORITY_BASE),
        kernel: Kernel {
            btf: true,
            bpffs: true,
            cgroup2: true,
            lockdown: None,
            tcx: Some(true),
            programs: Some(Ok(())),
            table: Some(Ok(())),
            lacking: BTreeSet::new(),
        },
        marks: Some(Vec::new()),
        ruleset: Some(json!({ "nftables": [] })),
        programs: Some(["systemd".to_owned(), "dhcpcd".to_owned()].into()),
        networkd: [true, true],
        remains: Remains { pins: Some(Vec::new()), ..Remains::default() },
        observed,
        ..Facts::default()
    };
    for (key, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv6/conf/all/disable_ipv6", "0"),
        ("net/netfilter/nf_conntrack_acct", "1"),
        ("net/netfilter/nf_conntrack_count", "100"),
        ("net/netfilter/nf_conntrack_max", "1000"),
        ("net/netfilter/nf_conntrack_tcp_loose", "1"),
    ] {
        set(&mut facts, key, value);
    }
    for name in ["all".to_owned()].into_iter().chain(facts.observed.links.clone().into_iter().map(|link| link.name)) {
        for (key, value) in
            [("accept_redirects", "0"), ("forwarding", "1"), ("rp_filter", "0"), ("src_valid_mark", "0")]
        {
            set(&mut facts, &format!("net/ipv4/conf/{name}/{key}"), value);
        }
        set(&mut facts, &format!("net/ipv6/conf/{name}/accept_ra"), "1");
        set(&mut facts, &format!("net/ipv6/conf/{name}/disable_ipv6"), "0");
    }
    facts
}

fn set(facts: &mut Facts, key: &str, value: &str) {
    facts.sysctls.insert(key.to_owned(), value.to_owned());
}

fn healthy() -> Facts {
    facts_of(host(2), ConfigFlags::default())
}

/// Healthy facts that `change` spoiled.
fn spoiled(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = healthy();
    change(&mut facts);
    facts
}

/// The facts of a host that `change` spoiled.
fn altered(change: impl FnOnce(&mut Observed)) -> Facts {
    flagged(ConfigFlags::default(), change)
}

fn flagged(flags: ConfigFlags, change: impl FnOnce(&mut Observed)) -> Facts {
    let mut observed = host(2);
    change(&mut observed);
    facts_of(observed, flags)
}

fn mark(place: &str, mask: Option<u32>) -> MarkUse {
    MarkUse { place: place.into(), text: "text".into(), mark: Mark::Packet, sets: true, mask }
}

fn assigned(text: &str) -> Vec<crate::config::flags::Assignment> {
    vec![text.parse().unwrap()]
}

fn rule(change: impl FnOnce(&mut Rule)) -> Rule {
    let mut rule = Rule { protocol: 0, ..Rule::lookup(Family::V4, 1000, 77) };
    change(&mut rule);
    rule
}

/// A firewall with one chain at hook forward that drops, and these statements in its only rule.
fn dropping(statements: &serde_json::Value) -> serde_json::Value {
    let (family, table) = ("inet", "fw");
    json!({ "nftables": [
        { "chain": { "family": family, "table": table, "name": "f", "hook": "forward", "policy": "drop" } },
        { "flowtable": { "family": family, "table": table, "name": "ft" } },
        { "rule": { "family": family, "table": table, "chain": "f", "handle": 7, "expr": statements } },
    ] })
}

fn docker(rules: &str) -> Facts {
    let text = format!(
        "*nat\n:FORWARD ACCEPT [0:0]\nCOMMIT\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:DOCKER-USER - [0:0]\n\
         -A FORWARD -j DOCKER-USER\n-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         -A FORWARD -i docker0 ! -o docker0 -j ACCEPT\n{rules}COMMIT\n"
    );
    spoiled(|facts| facts.iptables = vec![("iptables".into(), text)])
}

/// A defect: the findings that it must make, its id and subject, and the facts.
type Defect = (Vec<(&'static str, &'static str)>, Facts);

fn of(id: &'static str, subject: &'static str, facts: Facts) -> Defect {
    (vec![(id, subject)], facts)
}

fn kernel_defects() -> Vec<Defect> {
    let kernel = |change: fn(&mut Kernel)| spoiled(|facts| change(&mut facts.kernel));
    vec![
        of("tool-missing", "nft", kernel(|it| it.lacking = ["nft".to_owned(), "tc".to_owned()].into())),
        (
            vec![("tool-missing", "tc"), ("tcx-missing", "kernel")],
            kernel(|it| (it.lacking, it.tcx) = (["tc".to_owned()].into(), Some(false))),
        ),
        of("bpffs-missing", "/sys/fs/bpf", kernel(|it| it.bpffs = false)),
        of("btf-missing", "/sys/kernel/btf/vmlinux", kernel(|it| it.btf = false)),
        of("programs-refused", "kernel", kernel(|it| it.programs = Some(Err("the verifier".into())))),
        of("table-refused", "nft", kernel(|it| it.table = Some(Err("nft: no such file".into())))),
        of("tcx-missing", "kernel", kernel(|it| it.tcx = Some(false))),
        of("cgroup2-missing", "cgroup2", kernel(|it| it.cgroup2 = false)),
    ]
}

fn parameter_defects() -> Vec<Defect> {
    let sysctl = |key: &str, value: &str| spoiled(|facts| set(facts, key, value));
    vec![
        of("forwarding-off", "IPv4", sysctl("net/ipv4/ip_forward", "0")),
        of("forwarding-off", "IPv6", sysctl("net/ipv6/conf/all/forwarding", "0")),
        of("forwarding-off", "lan", sysctl("net/ipv4/conf/lan/forwarding", "0")),
        of("rp-filter-strict", "wan2", sysctl("net/ipv4/conf/wan2/rp_filter", "1")),
        (vec![("rp-filter-strict", "wan1"), ("rp-filter-strict", "wan2")], sysctl("net/ipv4/conf/all/rp_filter", "1")),
        (
            vec![("gateway-missing", "wan2"), ("ra-ignored", "wan2")],
            altered(|host| host.routes.retain(|it| it.metric != Some(200) || it.family() == Family::V4)),
        ),
        of(
            "redirects-accepted",
            "wan1",
            spoiled(|facts| {
                set(facts, "net/ipv4/conf/all/accept_redirects", "1");
                set(facts, "net/ipv4/conf/wan1/accept_redirects", "1");
            }),
        ),
        of("conntrack-full", "conntrack", sysctl("net/netfilter/nf_conntrack_count", "800")),
        of("conntrack-acct-off", "conntrack", sysctl("net/netfilter/nf_conntrack_acct", "0")),
        of("conntrack-loose-off", "conntrack", sysctl("net/netfilter/nf_conntrack_tcp_loose", "0")),
        of(
            "bridge-netfilter",
            "lan",
            spoiled(|facts| {
                facts.observed.links[1].kind = Some("bridge".into());
                set(facts, "net/bridge/bridge-nf-call-iptables", "1");
            }),
        ),
    ]
}

fn rule_defects() -> Vec<Defect> {
    let marks = |found: MarkUse| spoiled(|facts| facts.marks = Some(vec![found]));
    let rules = |rule: Rule| {
        altered(|host| {
            host.routes.push(default_route(77, vec![hop("198.18.1.1", 3, "wan1")], 0));
            host.rules.push(rule);
        })
    };
    vec![
        of("mark-rule", "ip rule", marks(mark("ip rule", Some(0xf)))),
        of("mark-nft", "nftables table ip x", marks(mark("nftables table ip x", Some(0x10)))),
        of("mark-iptables", "iptables table mangle", marks(mark("iptables table mangle", Some(0x1ff)))),
        of("mark-whole", "ip rule", marks(mark("ip rule", None))),
        of("mwan3", "ip rule", marks(MarkUse { text: "-j mwan3_hook".into(), ..mark("ip rule", Some(0x3f00)) })),
        of("rule-before", "ip rule", rules(rule(|_| ()))),
        of("rule-before", "ip rule", rules(rule(|it| it.action = crate::host::RuleAction::Prohibit))),
        of("tables-taken", "ip -4 rule del pref 32501 lookup 20501 protocol 205", {
            altered(|host| host.rules.push(Rule::lookup(Family::V4, 32_501, 20_501)))
        }),
        of("flowtable", "nftables table inet fw", {
            let flow = json!([{ "flow": { "op": "add", "flowtable": "@ft" } }, { "accept": null }]);
            spoiled(|facts| facts.ruleset = Some(dropping(&flow)))
        }),
        of("forward-drops", "nftables table inet fw", {
            spoiled(|facts| facts.ruleset = Some(dropping(&json!([{ "counter": {} }]))))
        }),
        of("docker-drops", "lan", docker("")),
        of("no-shortcuts", "fast path", {
            spoiled(|facts| {
                let native = facts.setup.as_mut().and_then(|setup| setup.native.as_mut()).unwrap();
                native.lease = Some(Lease { seconds: 0, reason: "a queue".into() });
            })
        }),
    ]
}

fn device_defects() -> Vec<Defect> {
    let mac = |facts: &mut Facts, number: u32| {
        let gateway: IpAddr = format!("198.18.{number}.1").parse().unwrap();
        facts.neighbours.insert((number + 2, gateway), vec![2, 0, 0, 0, 0, 1]);
    };
    let second = |change: fn(&mut Link)| altered(|host| change(&mut host.links[3]));
    let wans = |names: &[&str]| ConfigFlags {
        wan: names.iter().map(|it| (*it).to_owned()).collect(),
        lan: vec!["lan".into()],
        ..ConfigFlags::default()
    };
    vec![
        of("default-elsewhere", "wan1", {
            let mut found = facts_of(host(2), wans(&["wan2"]));
            found.observed.routes.retain(|route| route.metric != Some(100) || route.family() == Family::V4);
            found
        }),
        of("default-multipath", "table main", {
            altered(|host| {
                let hops = vec![hop("198.18.1.1", 3, "wan1"), hop("198.18.2.1", 4, "wan2")];
                host.routes.push(default_route(TABLE_MAIN, hops, 500));
            })
        }),
        of("device-missing", "wan9", facts_of(host(2), wans(&["wan1", "wan2", "wan9"]))),
        of("device-down", "wan2", second(|link| link.up = false)),
        of("device-down", "wan2", second(|link| link.carrier = false)),
        of("device-enslaved", "wan2", {
            let mut found =
                altered(|host| host.links.push(Link { kind: Some("bridge".into()), ..Link::card(9, "br0") }));
            found.details.insert(4, Details { controller: Some(9), lro: false });
            found
        }),
        of("lan-without-address", "lan", altered(|host| host.addresses.retain(|it| it.ifindex != 2))),
        (
            vec![("uplink-without-address", "wan2"), ("ra-ignored", "wan2")],
            altered(|host| host.addresses.retain(|it| it.ifindex != 4)),
        ),
        (
            vec![("gateway-missing", "wan2"), ("ra-ignored", "wan2")],
            altered(|host| host.routes.retain(|it| it.metric != Some(200))),
        ),
        of("gateway-off-link", "wan2", {
            flagged(ConfigFlags { gateway: assigned("wan2=203.0.113.1"), ..ConfigFlags::default() }, |_| ())
        }),
        of("gateway-bypassed", "wan1", {
            flagged(ConfigFlags { bypass: vec!["198.18.1.0/24".into()], ..ConfigFlags::default() }, |_| ())
        }),
        of("gateway-shared", "wan1, wan2", spoiled(|facts| (1..=2).for_each(|number| mac(facts, number)))),
        (
            vec![("gateway-shared", "wan1, wan2"), ("networks-overlap", "wan1, wan2")],
            altered(|host| {
                host.addresses.push(address(4, "198.18.1.3/24"));
                host.routes.insert(0, default_route(TABLE_MAIN, vec![hop("198.18.1.1", 4, "wan2")], 150));
            }),
        ),
        (
            vec![("address-shared", "wan1, wan2"), ("networks-overlap", "wan1, wan2")],
            altered(|host| host.addresses.push(address(4, "198.18.1.2/24"))),
        ),
        of("networks-overlap", "wan1, lan", altered(|host| host.addresses.push(address(2, "198.18.1.129/25")))),
        (vec![("mtu-too-small", "wan2"), ("mtu-unclamped", "wan2")], second(|link| link.mtu = 1200)),
        of("mtu-unclamped", "wan2", second(|link| link.mtu = 1492)),
        of("mtu-pppoe", "wan2", {
            let mut found = second(|link| {
                (link.kind, link.ethernet, link.point_to_point) = (Some("ppp".into()), false, true);
            });
            found.observed.links.push(Link::card(9, "eth0"));
            found.pppoe = vec!["eth0".into()];
            found
        }),
        of("lro-on", "wan1", {
            spoiled(|facts| facts.details = [(3, Details { controller: None, lro: true })].into())
        }),
        of("network-manager", "wan1", spoiled(|facts| facts.managed = ["wan1".to_owned(), "lan".to_owned()].into())),
    ]
}

fn other_defects() -> Vec<Defect> {
    let runs = |name: &str| spoiled(|facts| facts.programs = Some([name.to_owned()].into()));
    vec![
        of("mwan3", "mwan3track", runs("mwan3track")),
        of("keepalived", "keepalived", runs("keepalived")),
        of("networkd", "systemd-networkd", runs("systemd-network")),
        of("journal-damaged", "/run/pcc/default/journal.json", {
            spoiled(|facts| facts.remains.damaged = Some("expected value".into()))
        }),
        of("controller-gone", "default", spoiled(|facts| facts.remains.journal = Some(Journal::default()))),
        of("stale-pins", "/sys/fs/bpf/pcc/default/0", spoiled(|facts| facts.remains.pins = Some(vec!["0".into()]))),
    ]
}

fn defects() -> Vec<Defect> {
    [kernel_defects(), parameter_defects(), rule_defects(), device_defects(), other_defects()].concat()
}

fn found(report: &Report) -> BTreeSet<(&str, &str)> {
    report.findings.iter().map(|finding| (finding.id, finding.subject.as_str())).collect()
}

#[test]
fn each_defect_is_found_and_nothing_else() {
    for (expected, facts) in defects() {
        let report = diagnose(&facts);
        assert_eq!(found(&report), expected.into_iter().collect(), "{report}");
        assert!(report.skipped.is_empty(), "{:?}", report.skipped);
    }
}

#[test]
fn each_check_has_a_defect_here() {
    let defects = defects();
    let known: BTreeSet<&str> = defects.iter().flat_map(|(expected, _)| expected).map(|(id, _)| *id).collect();
    assert_eq!(known, CHECKS.iter().map(|check| check.id).collect());
    assert_eq!(known.len(), CHECKS.len(), "ids are unique");
}

#[test]
fn commands_are_exact() {
    let command = |facts: &Facts| diagnose(facts).findings.first().and_then(|finding| finding.command.clone());
    let strict = spoiled(|facts| set(facts, "net/ipv4/conf/wan2/rp_filter", "1"));
    assert_eq!(command(&strict).as_deref(), Some("sysctl -w net.ipv4.conf.wan2.rp_filter=2"));
    let full = spoiled(|facts| set(facts, "net/netfilter/nf_conntrack_count", "990"));
    assert_eq!(command(&full).as_deref(), Some("sysctl -w net.netfilter.nf_conntrack_max=2000"));
    let flow = json!([{ "flow": { "op": "add", "flowtable": "@ft" } }, { "accept": null }]);
    let flow = spoiled(|facts| facts.ruleset = Some(dropping(&flow)));
    assert_eq!(command(&flow).as_deref(), Some("nft delete rule inet fw f handle 7"));
}

#[test]
fn what_is_worse_comes_first_and_depends_on_the_circumstances() {
    let severity = |facts: &Facts| diagnose(facts).findings.first().map(|finding| finding.severity);
    let off = spoiled(|facts| set(facts, "net/ipv4/ip_forward", "0"));
    assert_eq!(severity(&off), Some(Severity::Advice), "pcc will switch it on");
    let mut running = off.clone();
    running.remains.running = true;
    assert_eq!(severity(&running), Some(Severity::Problem), "somebody switched it off");
    running.observed.addresses.retain(|it| it.ifindex != 2);
    set(&mut running, "net/netfilter/nf_conntrack_acct", "0");
    let severities: Vec<_> = diagnose(&running).findings.iter().map(|finding| finding.severity).collect();
    assert!(severities.is_sorted() && severities.len() == 3, "{severities:?}");
}

#[test]
fn dockers_users_may_accept_the_lan() {
    for rules in ["-A DOCKER-USER -i lan -j ACCEPT\n", "-A FORWARD -j ACCEPT\n"] {
        assert_eq!(diagnose(&docker(rules)).findings, [], "{rules}");
    }
    for rules in
        ["-A DOCKER-USER -i eth9 -j ACCEPT\n", "-A INPUT -i lan -j ACCEPT\n", "-A DOCKER-USER ! -i lan -j ACCEPT\n"]
    {
        assert_eq!(found(&diagnose(&docker(rules))), [("docker-drops", "lan")].into(), "{rules}");
    }
}

#[test]
fn without_a_configuration_only_the_host_is_looked_at() {
    let facts = spoiled(|facts| facts.setup = None);
    let report = diagnose(&facts);
    assert_eq!(report.findings, []);
    let host = CHECKS.iter().filter(|check| check.scope == Scope::Host).count();
    assert_eq!(report.passed.len(), host);
}

#[test]
fn what_cannot_be_seen_is_skipped_and_not_found() {
    let facts = spoiled(|facts| {
        (facts.marks, facts.ruleset, facts.programs) = (None, None, None);
        (facts.kernel.programs, facts.kernel.table, facts.kernel.tcx) = (None, None, None);
        facts.remains.pins = None;
    });
    let report = diagnose(&facts);
    assert_eq!(report.findings, []);
    assert!(report.skipped.contains(&"mark-nft") && report.skipped.contains(&"stale-pins"), "{:?}", report.skipped);
    assert!(report.to_string().contains("not checked: programs-refused"), "{report}");
    assert_eq!(diagnose(&Facts::default()).count(Severity::Problem), 2, "no BPF file system, no BTF");
}

proptest! {
    #[test]
    fn nothing_is_found_on_a_healthy_host(
        uplinks in 1..=8u32,
        mtu in 1280..9000u32,
        gateways in any::<bool>(),
        ipv6 in any::<bool>(),
        mask in 1..=0x00ff_ffffu32,
        name in "[a-z]{1,12}",
        connections in 0..799u64,
        loose in 0..=2u64,
    ) {
        let mut observed = host(uplinks);
        observed.links.iter_mut().for_each(|link| link.mtu = mtu);
        if !ipv6 {
            observed.addresses.retain(|it| it.network.addr().is_ipv4());
            observed.routes.retain(|it| it.family() == Family::V4);
        }
        let mut flags = ConfigFlags::default();
        if gateways {
            observed.routes.clear();
            let lines = (1..=uplinks).flat_map(|it| {
                let v6 = ipv6.then(|| format!("wan{it}=2001:db8:{it}::1"));
                [format!("wan{it}=198.18.{it}.1")].into_iter().chain(v6)
            });
            flags.gateway = lines.map(|line| line.parse().unwrap()).collect();
        }
        let mut facts = facts_of(observed, flags);
        if !ipv6 {
            set(&mut facts, "net/ipv6/conf/all/disable_ipv6", "1");
        }
        // No check knows that one.
        facts.programs = Some([format!("x{name}")].into());
        facts.marks = Some(vec![mark("nftables table ip x", Some(mask << 8))]);
        set(&mut facts, "net/netfilter/nf_conntrack_count", &connections.to_string());
        set(&mut facts, "net/ipv4/conf/wan1/rp_filter", if loose == 1 { "0" } else { "2" });
        facts.ruleset = Some(dropping(&json!([{ "accept": null }])));
        let report = diagnose(&facts);
        prop_assert_eq!(&report.findings, &[]);
        prop_assert!(report.skipped.is_empty());
    }

    #[test]
    fn odd_values_do_no_harm(key in 0..40usize, value in "[-0-9a-z]{0,22}") {
        let mut facts = healthy();
        if let Some(key) = facts.sysctls.keys().nth(key).cloned() {
            set(&mut facts, &key, &value);
        }
        let _ = diagnose(&facts).to_string();
    }
}

#[test]
fn the_readme_lists_the_checks() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let rows: String =
        CHECKS.iter().map(|it| format!("| `{}` | {} | {} |\n", it.id, it.severity.word(), it.meaning)).collect();
    assert!(readme.contains(&rows), "the README must have:\n{rows}");
}
