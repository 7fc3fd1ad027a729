//! Plans over made-up hosts, and what must hold for all of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::host::{Address, Link};
use crate::sources::{Source, UsualSources};
use crate::{config, ruleset, survey, topology};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn route(table: u32, destination: &str, gateway: Option<&str>, ifindex: u32, metric: Option<u32>) -> Route {
    Route {
        destination: net(destination),
        next_hops: vec![NextHop { gateway: gateway.map(ip), ifindex, device: String::new(), onlink: false, weight: 1 }],
        table,
        metric,
        protocol: 3,
        kind: RouteKind::Unicast,
        preferred_source: None,
        scope: 0,
    }
}

/// A router with a LAN and two uplinks, as DHCP and router advertisements leave it.
fn host() -> Observed {
    let address = |ifindex, network| Address { ifindex, network: net(network), peer: None, usable_source: true };
    Observed {
        links: vec![Link::card(1, "lo"), Link::card(2, "lan"), Link::card(3, "wan1"), Link::card(4, "wan2")],
        addresses: vec![
            address(2, "192.0.2.1/24"),
            address(3, "198.18.1.2/24"),
            address(3, "2001:db8:1::2/64"),
            address(4, "198.18.2.2/24"),
        ],
        routes: vec![
            route(TABLE_MAIN, "0.0.0.0/0", Some("198.18.2.1"), 4, Some(200)),
            route(TABLE_MAIN, "0.0.0.0/0", Some("198.18.1.1"), 3, Some(100)),
            route(TABLE_MAIN, "192.0.2.0/24", None, 2, None),
            route(TABLE_MAIN, "::/0", Some("fe80::1"), 3, Some(1024)),
            route(TABLE_MAIN, "2001:db8:1::/64", None, 3, Some(256)),
            route(TABLE_MAIN, "fe80::/64", None, 3, Some(256)),
            route(TABLE_MAIN, "fe80::/64", None, 4, Some(256)),
        ],
        rules: Vec::new(),
    }
}

fn config() -> Config {
    let uplink = |device: &str| config::Uplink::new(device);
    Config {
        instance: "default".into(),
        uplinks: vec![uplink("wan1"), uplink("wan2")],
        lans: vec!["lan".into()],
        hash: Config::HASH,
        seed: None,
        marks: pcc_ebpf::abi::MarkLayout::DEFAULT,
        bypass: Vec::new(),
        flow_entries: None,
        table_base: Config::TABLE_BASE,
        priority_base: Config::PRIORITY_BASE,
        rules: Vec::new(),
        balance_router: false,
        hook: Vec::new(),
        fast_path: FastPath::Auto,
        shortcut_entries: None,
        metrics: None,
    }
}

fn resolve(config: &Config, observed: &Observed) -> (Topology, Live) {
    let ids = topology::assign_ids(config, &BTreeMap::new());
    let topology = topology::resolve(config, &ids, observed);
    let live = survey::possible(&topology);
    (topology, live)
}

/// What the kernel would do.
fn apply(observed: &mut Observed, changes: &[Change]) {
    for change in changes {
        match change {
            Change::AddRoute(route) => observed.routes.push(route.clone()),
            Change::ReplaceRoute(route) => {
                let key = |route: &Route| (route.destination, route.table, route.metric);
                observed.routes.retain(|present| key(present) != key(route));
                observed.routes.push(route.clone());
            }
            Change::RemoveRoute(route) => observed.routes.retain(|present| present != route),
            Change::AddRule(rule) => observed.rules.push(rule.clone()),
            Change::RemoveRule(rule) => observed.rules.retain(|present| present != rule),
            other => panic!("not a change of routing: {other}"),
        }
    }
}

#[test]
fn next_hops_are_those_of_the_routes_that_are_there() {
    let (topology, live) = resolve(&config(), &host());
    let gateways: Vec<_> =
        topology.uplinks.iter().map(|uplink| uplink.ipv4.as_ref().and_then(|way| way.gateway)).collect();
    assert_eq!(gateways, [Some(ip("198.18.1.1")), Some(ip("198.18.2.1"))]);
    assert_eq!(topology.uplinks[0].ipv6.as_ref().unwrap().gateway, Some(ip("fe80::1")));
    assert_eq!(topology.uplinks[1].ipv6, None, "no IPv6 without an address and a next hop");
    assert_eq!(live, Live { ipv4: vec![1, 2], ipv6: vec![1] });
}

#[test]
fn the_rules_stand_in_the_order_that_the_readme_gives() {
    let (topology, live) = resolve(&config(), &host());
    let mut observed = host();
    apply(&mut observed, &routing(&config(), &topology, &live, &host()));
    let mut ipv4: Vec<_> = observed.rules.iter().filter(|rule| rule.family == Family::V4).collect();
    ipv4.sort_by_key(|rule| rule.priority);
    let seen: Vec<_> = ipv4.iter().map(|rule| (rule.priority, rule.mark, rule.table)).collect();
    assert_eq!(
        seen,
        [
            (32500, None, TABLE_MAIN),
            (32501, Some((0x81, 0x9f)), 20501),
            (32502, Some((0x82, 0x9f)), 20502),
            (32580, None, 20501),
            (32580, None, 20502),
            (33000, None, 20599),
        ]
    );
    assert_eq!(ipv4[0].suppress_prefix_length, Some(0));
    let mirror: Vec<_> = observed.routes.iter().filter(|route| route.table == 20598).collect();
    assert_eq!(mirror.len(), 3, "main's IPv6 routes but its default");
    for table in [20501, 20502] {
        assert!(observed.routes.iter().any(|route| route.table == table && route.kind == RouteKind::Blackhole));
    }
}

#[test]
fn an_uplink_that_is_not_live_keeps_its_table_but_leaves_the_fallback() {
    let (topology, _) = resolve(&config(), &host());
    let live = Live { ipv4: vec![2], ipv6: Vec::new() };
    let mut observed = host();
    apply(&mut observed, &routing(&config(), &topology, &live, &host()));
    let leads = |table, ifindex| {
        observed
            .routes
            .iter()
            .any(|route| route.table == table && route.next_hops.iter().any(|hop| hop.ifindex == ifindex))
    };
    assert!(leads(20501, 3) && leads(20599, 4) && !leads(20599, 3));
}

#[test]
fn ids_outlive_a_restart_and_another_order() {
    let mut config = config();
    let first = topology::assign_ids(&config, &BTreeMap::new());
    assert_eq!(first, [("wan1".to_owned(), 1), ("wan2".to_owned(), 2)].into());
    config.uplinks.reverse();
    assert_eq!(topology::assign_ids(&config, &first), first);
    config.uplinks[0].id = Some(1);
    assert_eq!(topology::assign_ids(&config, &first), [("wan1".to_owned(), 2), ("wan2".to_owned(), 1)].into());
}

#[test]
fn the_usual_source_is_that_of_mains_default_or_of_the_first_live_uplink() {
    let (topology, live) = resolve(&config(), &host());
    let mut observed = host();
    let source = |address: &str, uplink| Source { address: ip(address), uplink };
    let sources = UsualSources::of(&topology, &live, &observed);
    assert_eq!(sources.usual, [source("198.18.1.2", Some(1)), source("2001:db8:1::2", Some(1))]);
    let connected = [(1, "198.18.1.0/24"), (1, "2001:db8:1::/64"), (2, "198.18.2.0/24")];
    assert_eq!(sources.connected, connected.map(|(uplink, network)| (uplink, net(network))));
    observed.routes.retain(|route| route.destination.addr().is_ipv6());
    observed.routes.insert(0, route(TABLE_MAIN, "0.0.0.0/0", Some("192.0.2.9"), 2, None));
    let live = Live { ipv4: vec![2], ipv6: Vec::new() };
    assert_eq!(UsualSources::of(&topology, &live, &observed).usual[0], source("192.0.2.1", None));
    observed.routes.clear();
    assert_eq!(UsualSources::of(&topology, &live, &observed).usual, [source("198.18.2.2", Some(2))]);
}

#[test]
fn router_advertisements_are_accepted_before_forwarding_is_turned_on() {
    let (topology, _) = resolve(&config(), &host());
    let keys = |value: &'static str| {
        let wanted = sysctls(&topology, FastPath::Off, |key| {
            Some(if key.ends_with("accept_ra") { "1" } else { value }.to_owned())
        });
        wanted.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
    };
    assert_eq!(
        keys("0"),
        [
            "net/ipv4/conf/wan1/src_valid_mark=1",
            "net/ipv6/conf/wan1/accept_ra=2",
            "net/ipv4/conf/wan2/src_valid_mark=1",
            "net/ipv6/conf/wan2/accept_ra=2",
            "net/ipv4/ip_forward=1",
            "net/ipv6/conf/all/forwarding=1",
        ]
    );
    assert_eq!(keys("1"), ["net/ipv6/conf/wan1/accept_ra=2", "net/ipv6/conf/wan2/accept_ra=2"]);
}

#[test]
fn conntrack_bears_with_connections_that_it_does_not_see() {
    let (topology, _) = resolve(&config(), &host());
    let keys = |fast_path, unacknowledged: &'static str, exists: bool| {
        let wanted = sysctls(&topology, fast_path, |key| match key.strip_prefix("net/netfilter/nf_conntrack_") {
            _ if !exists => None,
            Some("tcp_be_liberal") => Some("0".into()),
            Some("tcp_timeout_unacknowledged") => Some(unacknowledged.into()),
            Some("tcp_timeout_established") => Some("432000".into()),
            Some("checksum") => Some("1".into()),
            _ => None,
        });
        wanted.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
    };
    let all = [
        "net/netfilter/nf_conntrack_tcp_be_liberal=1",
        "net/netfilter/nf_conntrack_tcp_timeout_unacknowledged=432000",
        "net/netfilter/nf_conntrack_checksum=0",
    ];
    assert_eq!(keys(FastPath::Auto, "300", true), all);
    assert_eq!(keys(FastPath::Tc, "500000", true), [all[0], all[2]], "it is raised, never lowered");
    for none in [keys(FastPath::Off, "300", true), keys(FastPath::Auto, "300", false)] {
        assert_eq!(none, Vec::<String>::new());
    }
}

#[test]
fn an_update_of_the_elements_touches_no_rule() {
    let (topology, live) = resolve(&config(), &host());
    let sources = UsualSources::of(&topology, &live, &host());
    let (config, standing, ending) = (config(), Standing::sound(live), [].into());
    let weights = [(1, 1), (2, 1)].into();
    let state = ruleset::State {
        config: &config,
        topology: &topology,
        standing: &standing,
        ending: &ending,
        weights: &weights,
        sources: &sources,
    };
    let update = ruleset::update(&state);
    for line in update.lines() {
        let allowed = ["flush set inet pcc ", "flush map inet pcc ", "add element inet pcc "];
        assert!(allowed.iter().any(|start| line.starts_with(start)), "{line}");
    }
    for element in ["usual_source4 { \"wan2\" : 198.18.1.2 }", "connected4 { \"wan2\" . 198.18.2.0/24 }"] {
        assert!(update.contains(element), "{update}");
    }
    assert!(update.contains("wan_links { 3 }"), "by index: {update}");
    let created = ruleset::create(&state);
    let elements =
        |text: &str| text.lines().filter(|line| line.starts_with("add element")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(elements(&created), elements(&update));
}

#[test]
fn only_who_clamps_segments_has_a_chain_for_it() {
    let (mut topology, live) = resolve(&config(), &host());
    let sources = UsualSources::of(&topology, &live, &host());
    let (config, standing, ending) = (config(), Standing::sound(live), [].into());
    let weights = [(1, 1), (2, 1)].into();
    let scripts = |topology: &Topology| {
        let state = ruleset::State {
            config: &config,
            topology,
            standing: &standing,
            ending: &ending,
            weights: &weights,
            sources: &sources,
        };
        [ruleset::create(&state), ruleset::extend(&state)]
    };
    assert!(scripts(&topology).iter().all(|script| !script.contains("hook forward")));
    topology.uplinks[0].config.mss = Some(config::Mss::Clamp);
    topology.uplinks[0].link = None;
    assert!(scripts(&topology).iter().all(|script| script.contains("chain forward { type filter hook forward ")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens to devices, addresses, routes and health: one pass settles, a second changes nothing, clearing
    /// leaves exactly what is not ours, and nothing of others is ever touched.
    #[test]
    fn one_pass_settles_and_clearing_restores(
        down in proptest::collection::vec(any::<bool>(), 4),
        keep_routes in proptest::collection::vec(any::<bool>(), 7),
        rounds in proptest::collection::vec(proptest::collection::vec(1..3_u32, 0..3), 1..4),
    ) {
        let config = config();
        let mut observed = host();
        for (link, down) in observed.links.iter_mut().zip(&down) {
            link.up = !down;
        }
        let mut kept = keep_routes.iter();
        observed.routes.retain(|_| *kept.next().unwrap_or(&true));
        let foreign = observed.clone();
        for ids in rounds {
            let (topology, possible) = resolve(&config, &observed);
            let of = |family| possible.of(family).iter().copied().filter(|id| ids.contains(id)).collect();
            let live = Live { ipv4: of(Family::V4), ipv6: of(Family::V6) };
            let changes = routing(&config, &topology, &live, &observed);
            apply(&mut observed, &changes);
            prop_assert_eq!(routing(&config, &topology, &live, &observed), Vec::new());
            prop_assert!(foreign.routes.iter().all(|route| observed.routes.contains(route)));
        }
        let changes = clear_routing(config.table_base, config.priority_base, &observed);
        apply(&mut observed, &changes);
        prop_assert_eq!(observed, foreign);
    }
}
