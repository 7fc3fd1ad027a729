//! The host rim against the kernel, in network namespaces of its own. Needs root.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use namespace::{Namespace, sh};
use pcc_userspace::host::clash;
use pcc_userspace::host::device::{Facts, xdp};
use pcc_userspace::host::guard::Guard;
use pcc_userspace::host::linux::Linux;
use pcc_userspace::host::netlink::{Changed, Ended, Endings, Monitor};
use pcc_userspace::host::{
    Change, Family, Host, Mark, NextHop, Observed, PROTOCOL, Route, RouteKind, Rule, RuleAction,
};

mod namespace;

const TABLE: u32 = 20_501;

/// Runs `test` on a thread of its own, because it changes the thread's namespace.
fn isolated(name: &str, test: impl FnOnce() + Send + 'static) {
    let name = format!("host-{name}");
    let thread = std::thread::spawn(move || {
        let _namespace = Namespace::enter(&name);
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn observe() -> Observed {
    Linux::open().unwrap().observe().unwrap()
}

fn facts(device: &str) -> Facts {
    let mut linux = Linux::open().unwrap();
    let observed = linux.observe().unwrap();
    let link = observed.link(device).unwrap();
    linux.device_facts(&[link]).unwrap().remove(&link.index).unwrap()
}

fn hop(gateway: Option<&str>, device: &str) -> NextHop {
    NextHop {
        gateway: gateway.map(|address| address.parse().unwrap()),
        ifindex: rustix::net::netdevice::name_to_index(
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None).unwrap(),
            device,
        )
        .unwrap(),
        device: device.to_owned(),
        onlink: false,
        weight: 1,
    }
}

fn route(destination: &str, next_hops: Vec<NextHop>) -> Route {
    Route {
        destination: destination.parse().unwrap(),
        metric: destination.contains(':').then_some(1024),
        table: TABLE,
        protocol: PROTOCOL,
        kind: if next_hops.is_empty() { RouteKind::Blackhole } else { RouteKind::Unicast },
        next_hops,
        preferred_source: None,
        scope: 0,
    }
}

fn rule(family: Family, priority: u32) -> Rule {
    Rule::lookup(family, priority, TABLE)
}

/// Routes of every form that a plan may contain.
fn routes() -> Vec<Route> {
    let weighted = |hop: NextHop, weight| NextHop { weight, ..hop };
    let onlink = |hop: NextHop| NextHop { onlink: true, ..hop };
    vec![
        route("0.0.0.0/0", vec![hop(Some("198.18.1.1"), "wan1")]),
        Route { metric: Some(7), ..route("0.0.0.0/0", vec![hop(Some("198.18.2.1"), "wan2")]) },
        Route { metric: Some(u32::MAX), ..route("0.0.0.0/0", vec![]) },
        Route { scope: 253, ..route("192.0.2.0/24", vec![hop(None, "wan1")]) },
        route("192.0.2.0/25", vec![hop(None, "wan1")]),
        Route {
            preferred_source: "198.18.1.2".parse().ok(),
            ..route("203.0.113.0/24", vec![hop(Some("198.18.1.1"), "wan1")])
        },
        route("203.0.113.0/25", vec![onlink(hop(Some("192.0.2.1"), "wan2"))]),
        route("203.0.113.128/25", vec![hop(Some("fe80::1"), "wan2")]),
        route(
            "198.51.100.0/24",
            vec![weighted(hop(Some("198.18.1.1"), "wan1"), 1), weighted(onlink(hop(Some("192.0.2.9"), "wan2")), 256)],
        ),
        route("::/0", vec![hop(Some("fe80::1"), "wan1")]),
        Route { metric: Some(7), ..route("::/0", vec![hop(Some("2001:db8:2::1"), "wan2")]) },
        Route { metric: Some(u32::MAX), ..route("::/0", vec![]) },
        route("fe80::/64", vec![hop(None, "wan1")]),
        route("fe80::/64", vec![hop(None, "wan2")]),
        Route {
            preferred_source: "2001:db8:1::2".parse().ok(),
            ..route("2001:db8:9::/48", vec![hop(Some("fe80::1"), "wan1")])
        },
        route("2001:db8:a::/48", vec![onlink(hop(Some("2001:db8:ff::1"), "wan2"))]),
        Route {
            metric: Some(5),
            ..route(
                "2001:db8:b::/48",
                vec![weighted(hop(Some("fe80::1"), "wan1"), 2), weighted(hop(Some("fe80::1"), "wan2"), 3)],
            )
        },
        Route { kind: RouteKind::Unreachable, ..route("2001:db8:c::/48", vec![]) },
        Route { kind: RouteKind::Prohibit, ..route("2001:db8:d::/48", vec![]) },
        Route { kind: RouteKind::Unreachable, ..route("198.51.102.0/24", vec![]) },
        Route { kind: RouteKind::Prohibit, ..route("198.51.101.0/24", vec![]) },
        Route { kind: RouteKind::Other(9), ..route("198.51.103.0/24", vec![]) },
    ]
}

fn rules() -> Vec<Rule> {
    let sources = ["198.18.1.2/32", "2001:db8:1::/64"];
    let both = Family::BOTH.into_iter().zip(sources).flat_map(|(family, source)| {
        let other = |priority, action| Rule { action, table: 0, ..rule(family, priority) };
        [
            Rule { destination: source.parse().ok(), ..rule(family, 32_604) },
            Rule { input: Some("wan1".into()), ..rule(family, 32_605) },
            Rule {
                mark: Some((0x81, 0x9f)),
                source: source.parse().ok(),
                destination: source.parse().ok(),
                input: Some("later0".into()),
                ..other(32_606, RuleAction::Unreachable)
            },
            other(33_001, RuleAction::Blackhole),
            other(33_002, RuleAction::Unreachable),
            other(33_003, RuleAction::Prohibit),
            Rule { mark: Some((0x81, 0x9f)), ..rule(family, 32_600) },
            Rule { mark: Some((0x82, u32::MAX)), ..rule(family, 32_601) },
            Rule { source: source.parse().ok(), ..rule(family, 32_602) },
            Rule { table: 254, suppress_prefix_length: Some(0), ..rule(family, 32_500) },
            Rule { mark: Some((0, 0x80)), inverted: true, ..rule(family, 32_603) },
            rule(family, 33_000),
            Rule { table: 109, ..rule(family, 33_000) },
        ]
    });
    both.collect()
}

fn changes() -> Vec<(Change, Change)> {
    let routes = routes().into_iter().map(|route| (Change::AddRoute(route.clone()), Change::RemoveRoute(route)));
    let rules = rules().into_iter().map(|rule| (Change::AddRule(rule.clone()), Change::RemoveRule(rule)));
    routes.chain(rules).collect()
}

#[test]
fn what_is_added_is_observed_once_and_what_is_removed_is_gone() {
    isolated("changes", || {
        let mut host = Linux::open().unwrap();
        let before = host.observe().unwrap();
        for (add, _) in changes() {
            host.apply(&add).unwrap();
            host.apply(&add).unwrap();
        }
        let observed = host.observe().unwrap();
        let (wanted_routes, wanted_rules) = (routes(), rules());
        for route in &wanted_routes {
            assert_eq!(
                observed.routes.iter().filter(|found| *found == route).count(),
                1,
                "{route}: {:#?}",
                observed.routes
            );
        }
        for rule in &wanted_rules {
            assert_eq!(observed.rules.iter().filter(|found| *found == rule).count(), 1, "{rule}");
        }
        assert_eq!(observed.routes.len(), before.routes.len() + wanted_routes.len());
        assert_eq!(observed.rules.len(), before.rules.len() + wanted_rules.len());
        for (_, remove) in changes() {
            host.apply(&remove).unwrap();
            host.apply(&remove).unwrap();
        }
        assert_eq!(host.observe().unwrap(), before);
    });
}

#[test]
fn the_printed_commands_do_the_same() {
    isolated("printed", || {
        let mut host = Linux::open().unwrap();
        let before = host.observe().unwrap();
        for (add, _) in changes() {
            host.apply(&add).unwrap();
        }
        let state =
            "ip -4 -d -N rule; ip -6 -d -N rule; ip -4 -d -N route show table all; ip -6 -d -N route show table all";
        let (applied, applied_text) = (host.observe().unwrap(), sh(state));
        for (_, remove) in changes() {
            sh(&remove.to_string());
        }
        assert_eq!(host.observe().unwrap(), before);
        for (add, _) in changes() {
            sh(&add.to_string());
        }
        assert_eq!(host.observe().unwrap(), applied);
        assert_eq!(sh(state), applied_text);
        for (_, remove) in changes() {
            host.apply(&remove).unwrap();
        }
        assert_eq!(host.observe().unwrap(), before);
    });
}

#[test]
fn a_replacement_leaves_nothing_of_the_route_before_it() {
    isolated("replaced", || {
        let mut host = Linux::open().unwrap();
        let gateways = |family| match family {
            Family::V4 => ("198.51.100.0/24", ["198.18.1.1", "198.18.2.1"]),
            Family::V6 => ("2001:db8:b::/48", ["2001:db8:1::1", "2001:db8:2::1"]),
        };
        for family in Family::BOTH {
            let (destination, [one, two]) = gateways(family);
            let (one, two) = (hop(Some(one), "wan1"), hop(Some(two), "wan2"));
            let route = |hops| Route { metric: Some(1), ..route(destination, hops) };
            let heavy = NextHop { weight: 3, ..one.clone() };
            let states = [
                route(vec![one.clone()]),
                route(vec![one.clone(), two.clone()]),
                route(vec![heavy, two.clone()]),
                route(vec![two.clone()]),
                route(vec![]),
                route(vec![one.clone(), two.clone()]),
                route(vec![one]),
            ];
            for wanted in states {
                for printed in [false, true] {
                    let change = Change::ReplaceRoute(wanted.clone());
                    match printed {
                        true => _ = sh(&change.to_string()),
                        false => host.apply(&change).unwrap(),
                    }
                    let found = host.observe().unwrap().routes;
                    let found: Vec<_> = found.iter().filter(|route| route.table == TABLE).collect();
                    assert_eq!(found, [&wanted], "{change}");
                }
            }
            host.apply(&Change::RemoveRoute(route(vec![hop(Some(gateways(family).1[0]), "wan1")]))).unwrap();
        }
    });
}

#[test]
fn a_removal_after_the_device_has_gone_succeeds() {
    isolated("gone", || {
        let mut host = Linux::open().unwrap();
        let all = changes();
        for (add, _) in &all {
            host.apply(add).unwrap();
        }
        sh("ip link del wan1; ip link del wan2");
        for (_, remove) in &all {
            host.apply(remove).unwrap();
        }
        assert!(observe().routes.iter().all(|route| route.protocol != PROTOCOL));
    });
}

#[test]
fn a_refusal_says_what_and_why() {
    isolated("refused", || {
        let mut host = Linux::open().unwrap();
        let off_link = route("0.0.0.0/0", vec![hop(Some("192.0.2.77"), "wan1")]);
        let error = format!("{:#}", host.apply(&Change::AddRoute(off_link)).unwrap_err());
        assert!(error.starts_with("`ip -4 route append default via 192.0.2.77 dev wan1 table 20501"), "{error}");
        assert!(error.contains("Nexthop has invalid gateway: Network is unreachable"), "{error}");
        let sysctl = Change::Sysctl { key: "net/ipv4/no_such".into(), value: "1".into() };
        assert!(format!("{:#}", host.apply(&sysctl).unwrap_err()).contains("net/ipv4/no_such"));
        let nft = Change::Nft { summary: "x".into(), script: "add table inet a\nbogus\n".into() };
        let error = format!("{:#}", host.apply(&nft).unwrap_err());
        assert!(error.contains("Error: syntax error"), "{error}");
        assert_eq!(sh("nft list tables"), "", "one transaction");
    });
}

#[test]
fn links_and_addresses_are_seen_as_they_are() {
    isolated("links", || {
        sh("ip link add name tap0 type veth peer name tap1
            ip tuntap add tun0 mode tun; ip link set tun0 up mtu 1400
            ip addr add 192.0.2.1 peer 192.0.2.2/32 dev tun0
            ip addr add 2001:db8:1::3/64 dev wan1 nodad preferred_lft 0
            ip link set isp2 down");
        let observed = observe();
        let link = |name: &str| observed.link(name).unwrap();
        assert!(link("wan1").ethernet && link("wan1").up && link("wan1").carrier && !link("wan1").point_to_point);
        assert!(link("wan2").up && !link("wan2").carrier);
        assert!(!link("tun0").ethernet && link("tun0").point_to_point && link("tun0").mtu == 1400);
        assert!(!link("tap0").up);
        let address = |text: &str| {
            let ip: IpAddr = text.parse().unwrap();
            observed.addresses.iter().find(|address| address.network.addr() == ip).unwrap()
        };
        assert_eq!(address("192.0.2.1").peer, "192.0.2.2".parse().ok());
        assert!(address("198.18.1.2").usable_source && address("198.18.1.2").peer.is_none());
        assert_eq!(address("198.18.1.2").network.prefix_len(), 24);
        assert!(address("2001:db8:1::2").usable_source);
        assert!(!address("2001:db8:1::3").usable_source, "deprecated");
        assert!(!address("127.0.0.1").usable_source && !address("::1").usable_source);
        assert!(observed.addresses.iter().any(|address| {
            address.ifindex == link("wan1").index
                && address.network.addr().to_string().starts_with("fe80")
                && !address.usable_source
        }));
        assert!(observed.routes.iter().all(|route| route.table != 255));
    });
}

#[test]
fn observing_takes_a_few_milliseconds() {
    isolated("quick", || {
        sh(
            "for n in $(seq 1 2000); do echo route add 203.0.$((n / 200)).$((n % 200))/32 via 198.18.1.1; done | ip -batch -",
        );
        let mut host = Linux::open().unwrap();
        host.observe().unwrap();
        let start = Instant::now();
        assert!(host.observe().unwrap().routes.len() > 2000);
        let took = start.elapsed();
        assert!(took < Duration::from_millis(500), "{took:?}");
    });
}

#[test]
fn changes_of_the_host_are_noticed() {
    isolated("monitor", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            sh("nft add table inet other; nft add table inet pcc-watched; nft add chain inet pcc-watched c
                nft add rule inet pcc-watched c counter; nft 'add set inet pcc-watched s { type mark; }'");
            let mut monitor = Monitor::new("pcc-watched").unwrap();
            // Of others, and elements: nothing that tells of a loss.
            sh("nft add element inet pcc-watched s { 1 }; nft flush set inet pcc-watched s; nft delete table inet other");
            assert!(tokio::time::timeout(Duration::from_millis(50), monitor.next()).await.is_err());
            for (command, expected) in [
                ("ip rule add pref 5 lookup 9", Changed::Rules),
                ("ip -6 rule add pref 5 lookup 9", Changed::Rules),
                ("ip route add 203.0.113.0/24 dev wan1", Changed::Routes),
                ("ip -6 route add 2001:db8:77::/48 dev wan1", Changed::Routes),
                ("ip addr add 203.0.113.1/32 dev wan1", Changed::Addresses),
                ("ip addr add 2001:db8:78::1/128 dev wan1 nodad", Changed::Addresses),
                ("ip link set isp1 down", Changed::Links),
                ("nft flush chain inet pcc-watched c", Changed::Ruleset),
                ("nft flush ruleset", Changed::Ruleset),
            ] {
                sh(command);
                let wait = async { while monitor.next().await.unwrap() != expected {} };
                tokio::time::timeout(Duration::from_secs(2), wait).await.expect(command);
                while tokio::time::timeout(Duration::from_millis(50), monitor.next()).await.is_ok() {}
            }
            // More than the queue holds, unread.
            sh("for n in $(seq 1 30000); do
                    echo route add 203.0.113.1/32 dev wan1 table 77; echo route del 203.0.113.1/32 dev wan1 table 77
                done | ip -batch -");
            let wait = async { while monitor.next().await.unwrap() != Changed::Everything {} };
            tokio::time::timeout(Duration::from_secs(5), wait).await.expect("lost notices are reported");
        });
    });
}

/// Runs `script`; the changes told within a second of it.
async fn told(monitor: &mut Monitor, script: &str) -> BTreeSet<Changed> {
    sh(script);
    let mut told = BTreeSet::new();
    while let Ok(changed) = tokio::time::timeout(Duration::from_millis(200), monitor.next()).await {
        told.insert(changed.unwrap());
    }
    told
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn what_others_change_in_nftables_is_noticed() {
    isolated("firewall", || {
        block_on(async {
            let _guard = Guard::hold("pcc-watched").unwrap();
            sh("nft add table inet pcc-watched; nft 'add set inet pcc-watched s { type mark; }'
                nft add chain inet pcc-watched c
                nft add table ip other; nft 'add set ip other s { type mark; }'; nft add chain ip other c");
            let mut monitor = Monitor::new("pcc-watched").unwrap();
            let mut add = async |element: &str| told(&mut monitor, &format!("nft add element {element}")).await;
            assert_eq!(add("ip other s { 1 }").await, [].into(), "nobody asked");
            monitor.watch_closely(Some(BTreeSet::new())).unwrap();
            for command in [
                "nft add element inet pcc-watched s { 1, 2 }",
                "nft flush set inet pcc-watched s",
                "nft add rule inet pcc-watched c counter",
            ] {
                assert_eq!(told(&mut monitor, command).await, [].into(), "{command}");
            }
            for command in [
                "nft add element ip other s { 2 }",
                "nft delete element ip other s { 2 }",
                "nft add rule ip other c counter",
                "nft insert rule ip other c accept",
                "nft flush chain ip other c",
                "nft add chain ip other d",
                "nft delete chain ip other d",
                "nft 'add set ip other t { type mark; }'",
                "nft delete set ip other t",
                "nft add counter ip other n",
                "nft delete counter ip other n",
                "nft add table netdev pcc-watched",
                "nft delete table netdev pcc-watched",
                "nft delete table ip other",
            ] {
                assert_eq!(told(&mut monitor, command).await, [Changed::Firewall].into(), "{command}");
            }
            sh("nft add table ip other");
            assert_eq!(told(&mut monitor, "true").await, [Changed::Firewall].into());
            let both = told(&mut monitor, "nft flush ruleset").await;
            assert_eq!(both, [Changed::Ruleset, Changed::Firewall].into(), "told together");
            monitor.watch_closely(None).unwrap();
            assert_eq!(told(&mut monitor, "nft add table ip other").await, [].into());
        });
    });
}

#[test]
fn a_neighbour_that_is_another_one_is_noticed() {
    isolated("neighbours", || {
        block_on(async {
            let mut monitor = Monitor::new("pcc-watched").unwrap();
            sh("ip neigh add 198.18.1.9 lladdr 02:00:00:00:00:01 dev wan1 nud reachable
                ip neigh add 198.18.2.9 lladdr 02:00:00:00:00:01 dev wan2 nud reachable");
            let index = hop(None, "wan1").ifindex;
            monitor.watch_closely(Some([index].into())).unwrap();
            for (command, matters) in [
                ("ip neigh replace 198.18.1.9 lladdr 02:00:00:00:00:01 dev wan1 nud stale", false),
                ("ip neigh replace 198.18.1.9 lladdr 02:00:00:00:00:01 dev wan1 nud probe", false),
                ("ip neigh replace 198.18.1.9 lladdr 02:00:00:00:00:02 dev wan1 nud reachable", true),
                ("ip neigh replace 198.18.2.9 lladdr 02:00:00:00:00:02 dev wan2 nud reachable", false),
                ("ip neigh add 2001:db8:1::9 lladdr 02:00:00:00:00:01 dev wan1 nud reachable", false),
                ("ip neigh replace 2001:db8:1::9 lladdr 02:00:00:00:00:03 dev wan1 nud reachable", true),
                ("ip neigh del 198.18.1.9 dev wan1", true),
                ("ip neigh flush dev wan2", false),
            ] {
                let expected = if matters { [Changed::Neighbours].into() } else { [].into() };
                assert_eq!(told(&mut monitor, command).await, expected, "{command}");
            }
        });
    });
}

#[test]
fn connections_that_somebody_deletes_are_told() {
    const OURS: u32 = 0x80;
    isolated("endings", || {
        block_on(async {
            let host = Linux::open().unwrap();
            let mut endings = Endings::new(OURS, host.conntrack_port().unwrap()).unwrap();
            let mut ended = async |script: &str| -> Vec<Ended> {
                sh(script);
                match tokio::time::timeout(Duration::from_millis(500), endings.next()).await {
                    Ok(ended) => ended.unwrap().expect("none lost"),
                    Err(_) => Vec::new(),
                }
            };
            let udp = "conntrack -I -p udp --sport 7 --dport 53 -u SEEN_REPLY -m 0x81";
            let nat = format!(
                "{udp} -t 300 -s 192.0.2.1 -d 203.0.113.9 -r 203.0.113.9 -q 198.18.1.2 \
                --reply-port-src 53 --reply-port-dst 1024 >/dev/null 2>&1"
            );
            let entries = ended(&format!("{nat}; conntrack -D -p udp >/dev/null 2>&1")).await;
            let ends = |from: &str, to: &str| (from.parse().unwrap(), to.parse().unwrap());
            assert_eq!(
                entries,
                [Ended {
                    protocol: 17,
                    original: ends("192.0.2.1:7", "203.0.113.9:53"),
                    reply: ends("203.0.113.9:53", "198.18.1.2:1024"),
                }]
            );
            let tcp6 = "conntrack -I -p tcp --sport 7 --dport 80 -u SEEN_REPLY,ASSURED -m 0x81 --state ESTABLISHED \
                -s 2001:db8:a::1 -d 2001:db8:9::9";
            let entries =
                ended(&format!("{tcp6} -t 300 >/dev/null 2>&1; conntrack -D -f ipv6 -p tcp >/dev/null 2>&1")).await;
            assert_eq!(
                entries,
                [Ended {
                    protocol: 6,
                    original: ends("[2001:db8:a::1]:7", "[2001:db8:9::9]:80"),
                    reply: ends("[2001:db8:9::9]:80", "[2001:db8:a::1]:7"),
                }]
            );
            // Without our mark, without an answer, of another protocol.
            let common = "-s 192.0.2.1 -d 203.0.113.9 -t 300";
            let others = format!(
                "
                conntrack -I -p udp --sport 8 --dport 53 -u SEEN_REPLY -m 0x1 {common} >/dev/null 2>&1
                conntrack -I -p udp --sport 9 --dport 53 -m 0x81 {common} >/dev/null 2>&1
                conntrack -I -p gre --srckey 1 --dstkey 2 -u SEEN_REPLY -m 0x81 {common} >/dev/null 2>&1
                conntrack -D >/dev/null 2>&1"
            );
            assert_eq!(ended(&others).await, []);
            // One whose time is over, unless a reset ended it.
            let brief = |state: &str| {
                format!(
                    "conntrack -I -p tcp --sport 7 --dport 80 -u SEEN_REPLY -m 0x81 \
                --state {state} -s 192.0.2.1 -d 203.0.113.9 -t 1 >/dev/null 2>&1; sleep 1.5
                conntrack -L >/dev/null 2>&1; sleep 0.1; test $(conntrack -C) = 0"
                )
            };
            assert_eq!(ended(&brief("TIME_WAIT")).await, []);
            assert_eq!(ended(&brief("CLOSE")).await.len(), 1);
            // By ourselves.
            sh(&nat);
            let delete = Change::DeleteConnections { family: None, mark: 0x81, mask: 0xff };
            let mut host = host;
            host.apply(&delete).unwrap();
            assert_eq!(ended("test $(conntrack -C) = 0").await, []);
            sh(&format!("{nat}; conntrack -D -p udp >/dev/null 2>&1"));
            assert_eq!(ended("true").await.len(), 1, "it still listens");
        });
    });
}

/// The marks that conntrack lists, sorted.
fn conntrack_marks(family: &str) -> Vec<String> {
    let listed = sh(&format!("conntrack -L -f {family} 2>/dev/null"));
    let words = listed.split_whitespace().filter_map(|word| word.strip_prefix("mark="));
    let mut marks: Vec<_> = words.map(str::to_owned).collect();
    marks.sort();
    marks
}

/// 500 UDP entries a family: 200 of uplink 1, 100 of uplink 2, 200 with foreign bits alone; all with foreign bits.
fn fill_conntrack() {
    sh("for n in $(seq 1 500); do
            mark=0x12345600; [ $n -le 200 ] && mark=0x12345681
            [ $n -gt 200 ] && [ $n -le 300 ] && mark=0x12345682
            common=\"-p udp --sport $n --dport 53 -t 300 -m $mark\"
            conntrack -I -s 192.0.2.1 -d 203.0.113.9 $common
            conntrack -I -s 2001:db8:a::1 -d 2001:db8:9::9 $common
        done >/dev/null 2>&1");
}

#[test]
fn connections_are_counted_and_deleted_by_mark() {
    isolated("delete", || {
        fill_conntrack();
        let mut host = Linux::open().unwrap();
        let mut counts = || host.count_by_mark(0x80, 0x9f).unwrap().into_iter().collect::<Vec<_>>();
        assert_eq!(counts(), [(0x81, 400), (0x82, 200)]);
        let delete = |family, mark| {
            let change = Change::DeleteConnections { family, mark, mask: 0x9f };
            Linux::open().unwrap().apply(&change).unwrap();
        };
        delete(Some(Family::V6), 0x81);
        assert_eq!(counts(), [(0x81, 200), (0x82, 200)]);
        assert_eq!((conntrack_marks("ipv4").len(), conntrack_marks("ipv6").len()), (500, 300));
        delete(None, 0x82);
        assert_eq!(counts(), [(0x81, 200)]);
        delete(Some(Family::V4), 0x81);
        delete(Some(Family::V4), 0x81);
        assert_eq!(counts(), []);
        assert_eq!((conntrack_marks("ipv4").len(), conntrack_marks("ipv6").len()), (200, 200));
    });
}

#[test]
fn the_guard_outlives_a_flush_of_all_rules_and_nothing_else() {
    isolated("guard", || {
        let guard = Guard::hold("pcc-x").unwrap();
        sh("nft add table inet other; nft flush ruleset");
        let left = sh("nft list ruleset");
        assert!(left.contains("table inet pcc-x-guard") && !left.contains("other"), "{left}");
        assert_eq!(left.matches("type nat hook").count(), 4, "{left}");
        sh("ip link set lo up; ping -c 1 -q 127.0.0.1");
        assert!(!conntrack_marks("ipv4").is_empty(), "connections are tracked");
        drop(guard);
        assert_eq!(sh("nft list ruleset"), "");
    });
}

#[test]
fn connections_without_translation_are_swept() {
    isolated("sweep", || {
        // Out of the LAN; to a network inside; of the host; from outside to the host; translated.
        sh("exec >/dev/null 2>&1
            add() { conntrack -I -p udp --sport 1 --dport 53 -t 300 -m $1 -s $2 -d $3 $4 $5; }
            add 1 10.0.0.2 203.0.113.9; add 2 10.0.0.2 10.8.0.1; add 3 198.18.1.2 203.0.113.9
            add 4 203.0.113.7 198.18.1.2; add 5 10.0.0.3 203.0.113.9 -n 198.18.1.2
            add 6 2001:db8:a::2 2001:db8:9::9; add 7 2001:db8:a::2 2001:db8:a8::1");
        let local = vec!["198.18.1.2".parse().unwrap()];
        let inside = ["10.8.0.0/16", "2001:db8:a8::/48"].map(|network| network.parse().unwrap()).to_vec();
        Linux::open().unwrap().apply(&Change::SweepUntranslated { local, inside }).unwrap();
        assert_eq!(conntrack_marks("ipv4"), ["2", "3", "4", "5"]);
        assert_eq!(conntrack_marks("ipv6"), ["7"]);
    });
}

#[test]
fn of_connections_that_end_answered_tcp_is_left_to_its_resets() {
    isolated("end", || {
        sh("exec >/dev/null 2>&1
            tcp() { conntrack -I -p tcp --sport $1 --dport 80 -t 300 --state ESTABLISHED -s $2 -d $3 $5 $6 -m $4; }
            tcp 1 10.0.0.2 203.0.113.9 0x81 -u SEEN_REPLY; tcp 2 10.0.0.2 203.0.113.9 0x81
            tcp 3 10.0.0.2 203.0.113.9 0x82 -u SEEN_REPLY; tcp 4 2001:db8:a::2 2001:db8:9::9 0x81 -u SEEN_REPLY
            conntrack -I -p udp --sport 5 --dport 53 -t 300 -s 10.0.0.2 -d 203.0.113.9 -u SEEN_REPLY -m 0x81");
        let end = Change::EndConnections { family: Family::V4, mark: 0x81, mask: 0x9f, wake: 0xc0 };
        Linux::open().unwrap().apply(&end).unwrap();
        assert_eq!(conntrack_marks("ipv4"), ["129", "130"]);
        assert_eq!(conntrack_marks("ipv6"), ["129"]);
    });
}

#[test]
fn connections_are_released() {
    isolated("release", || {
        fill_conntrack();
        // Zones, protocols without ports, and translated ones: those of ours go, the foreign one stays.
        sh("exec >/dev/null 2>&1
            conntrack -I -s 192.0.2.1 -d 203.0.113.9 -p udp --sport 1 --dport 53 -t 300 -m 0x81 --zone 5
            conntrack -I -s 192.0.2.1 -d 203.0.113.9 -p icmp --icmp-type 8 --icmp-code 0 --icmp-id 7 -t 300 -m 0x81
            conntrack -I -s 2001:db8:a::1 -d 2001:db8:9::9 -p icmpv6 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 7 -t 300 -m 0x81
            conntrack -I -s 192.0.2.1 -d 203.0.113.9 -p tcp --sport 1 --dport 80 --state ESTABLISHED -t 300 -m 0x81
            conntrack -I -s 192.0.2.1 -d 203.0.113.9 -p 99 -t 300 -m 0x81
            conntrack -I -s 192.0.2.1 -d 203.0.113.9 -p tcp --sport 2 --dport 80 --state ESTABLISHED -t 300 -m 0x81 -n 198.18.1.2
            conntrack -I -s 2001:db8:a::1 -d 2001:db8:9::9 -p udp --sport 999 --dport 80 -t 300 -m 0x81 -n 2001:db8:1::2
            conntrack -I -s 192.0.2.1 -d 203.0.113.9 -p tcp --sport 3 --dport 80 --state ESTABLISHED -t 300 -m 0x7 -n 198.18.1.2");
        assert_eq!((conntrack_marks("ipv4").len(), conntrack_marks("ipv6").len()), (506, 502));
        let mut host = Linux::open().unwrap();
        for _ in 0..2 {
            host.apply(&Change::ReleaseConnections { ours: 0x80, mask: 0xff }).unwrap();
        }
        assert!(host.count_by_mark(0x80, 0xff).unwrap().is_empty());
        let (four, six) = (conntrack_marks("ipv4"), conntrack_marks("ipv6"));
        let foreign = 0x1234_5600u32.to_string();
        let count = |marks: &[String], mark: &str| marks.iter().filter(|found| *found == mark).count();
        assert_eq!((count(&four, &foreign), count(&four, "0"), count(&four, "7")), (500, 4, 1), "{four:?}");
        assert_eq!((count(&six, &foreign), count(&six, "0")), (500, 1));
        assert_eq!((four.len(), six.len()), (505, 501));
    });
}

#[test]
fn uses_of_marks_by_others_are_found() {
    isolated("marks", || {
        let mut host = Linux::open().unwrap();
        assert_eq!(host.mark_uses("pcc-default", &observe()).unwrap(), []);
        assert_eq!(host.table_comment("pcc-default").unwrap(), None);
        let script = "table inet pcc-default {
                comment \"one two\"
                chain c { meta mark set meta mark & 0xffffff00 | 0x81; }
            }
            table ip other { chain c { meta mark & 0x80 == 0x80 drop; }; }
            table ip whole { chain c { ct mark set 0x5; }; }
            add table inet bare";
        host.apply(&Change::Nft { summary: "three tables".into(), script: script.into() }).unwrap();
        assert_eq!(host.table_comment("pcc-default").unwrap().as_deref(), Some("one two"));
        assert_eq!(host.table_comment("bare").unwrap().as_deref(), Some(""));
        sh("ip rule add pref 5 fwmark 0x40/0x40 lookup 9; ip -6 rule add pref 6 fwmark 0xca6c lookup 9");
        host.apply(&Change::AddRule(Rule { mark: Some((0x81, 0x9f)), ..rule(Family::V4, 32_600) })).unwrap();
        let uses = host.mark_uses("pcc-default", &observe()).unwrap();
        let found: Vec<_> =
            uses.iter().map(|found| (found.text.as_str(), found.mark, found.sets, found.mask)).collect();
        assert_eq!(
            found,
            [
                ("ip -4 rule add pref 5 fwmark 0x40/0x40 lookup 9", Mark::Packet, false, Some(0x40)),
                ("ip -6 rule add pref 6 fwmark 0xca6c lookup 9", Mark::Packet, false, None),
                ("meta mark & 0x00000080 == 0x00000080 drop", Mark::Packet, false, Some(0x80)),
                ("ct mark set 0x00000005", Mark::Connection, true, None),
            ]
        );
        let clashes = clash::clashes(&uses, 0xff);
        assert_eq!((clashes.refused.len(), clashes.warnings.len()), (2, 2));
    });
}

#[test]
fn devices_tell_their_kind_and_what_xdp_can_do_there() {
    isolated("xdp", || {
        sh("ip link add br0 type bridge; ethtool -K isp1 gro off");
        let observed = observe();
        let kind = |name: &str| observed.link(name).unwrap().kind.clone();
        assert_eq!((kind("wan1"), kind("br0")), (Some("veth".into()), Some("bridge".into())));
        assert_eq!(kind("lo"), None);
        let all = xdp::BASIC | xdp::REDIRECT | xdp::TRANSMIT;
        let can = |device: &str| facts(device).xdp.unwrap() & all;
        assert_eq!(can("wan1"), xdp::BASIC | xdp::REDIRECT, "the peer takes no frames without GRO");
        sh("ethtool -K isp1 gro on");
        assert_eq!((can("wan1"), can("br0")), (all, 0));
    });
}

#[test]
fn shapers_and_filters_of_others_are_found() {
    isolated("shapers", || {
        let none = Facts { xdp: facts("wan1").xdp, ..Facts::default() };
        assert_eq!(facts("wan1"), none);
        sh("tc qdisc add dev wan1 root pfifo limit 10; tc qdisc add dev wan1 clsact");
        assert_eq!(facts("wan1"), none, "nobody shapes, and nothing is filtered");
        sh("ip link add ifb0 type ifb; tc filter add dev wan1 egress protocol all u32 match u32 0 0 flowid 1:1");
        assert_eq!(facts("wan1"), Facts { egress: Some("u32".into()), ..none.clone() });
        sh("tc filter add dev wan1 ingress protocol all u32 match u32 0 0 action mirred egress redirect dev ifb0");
        let both = Facts { ingress: Some("u32".into()), egress: Some("u32".into()), ..none.clone() };
        assert_eq!(facts("wan1"), both);
        sh("tc qdisc replace dev wan1 root tbf rate 1mbit burst 10kb latency 50ms");
        assert_eq!(facts("wan1"), Facts { shaper: Some("tbf".into()), ..both });
        assert_eq!(facts("wan2"), Facts { xdp: facts("wan2").xdp, ..Facts::default() });
        sh("tc qdisc add dev wan2 ingress
            tc filter add dev wan2 parent ffff: protocol ip u32 match u32 0 0 flowid :1");
        assert_eq!((facts("wan2").ingress, facts("wan2").egress), (Some("u32".into()), None));
        sh("tc qdisc del dev wan2 ingress
            tc qdisc add dev wan2 root handle 1: htb
            tc filter add dev wan2 parent 1: protocol ip u32 match u32 0 0 flowid 1:1");
        let shaped = Facts { shaper: Some("htb".into()), egress: Some("u32".into()), ..facts("wan2") };
        assert_eq!((facts("wan2"), shaped.ingress.clone()), (shaped, None));
    });
}
