//! Pure: what the host must look like, and the changes that make it so.
//!
//! The same functions serve the start, every event while running, and `pcc plan`. Only what is ours is ever touched:
//! routes of our protocol number in our tables, rules of our protocol number.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::{Config, FastPath};
use crate::host::{Change, Family, NextHop, Observed, PROTOCOL, Route, RouteKind, Rule, TABLE_MAIN};
use crate::problem::Problem;
use crate::topology::{Topology, Uplink, is_default};

pub use reconcile::{clear_routing, reconcile};

mod reconcile;

/// Tables and rules of the instance, relative to its bases.
mod offset {
    /// IPv6: the mirror of main's routes that are not defaults.
    pub(super) const MIRROR: u32 = 98;
    /// Defaults of the live uplinks.
    pub(super) const FALLBACK: u32 = 99;
    /// Rules by source address; all of them share the priority.
    pub(super) const SOURCE: u32 = 80;
}

/// Priority of the rule behind main.
pub const FALLBACK_PRIORITY: u32 = 33_000;
const SCOPE_LINK: u8 = 253;
/// Uplink tables end here, so that traffic of an uplink whose routes are gone does not leak into main.
const WORST_METRIC: u32 = u32::MAX;

/// Uplinks that take new connections, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// For IPv4.
    pub ipv4: Vec<u32>,
    /// For IPv6.
    pub ipv6: Vec<u32>,
}

impl Live {
    /// For `family`.
    pub fn of(&self, family: Family) -> &[u32] {
        match family {
            Family::V4 => &self.ipv4,
            Family::V6 => &self.ipv6,
        }
    }

    /// `id` takes connections of `family`.
    pub fn has(&self, family: Family, id: u32) -> bool {
        self.of(family).contains(&id)
    }

    /// Those of both, ours first.
    pub fn union(&self, other: &Self) -> Self {
        let of = |family| {
            let more = other.of(family).iter().filter(|id| !self.has(family, **id));
            self.of(family).iter().chain(more).copied().collect()
        };
        Self { ipv4: of(Family::V4), ipv6: of(Family::V6) }
    }
}

/// What the uplinks are good for at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Connections that are there go on by them: all that are not down, and those whose connections wait for their return.
    pub carrying: Live,
    /// They take new connections; a part of [`Self::carrying`].
    pub taking: Live,
    /// They take fewer of them than their weight says; a part of [`Self::taking`].
    pub degraded: Live,
}

impl Standing {
    /// Nothing is known against `live`.
    pub fn sound(live: Live) -> Self {
        Self { carrying: live.clone(), taking: live, degraded: Live::default() }
    }
}

/// The routing table of uplink `id`.
pub fn table(config: &Config, id: u32) -> u32 {
    config.table_base + id
}

/// The changes that give the host the routes and rules it must have: first what is missing, then what is too much. `live`
/// uplinks take new connections of the router itself where main has no way for them.
pub fn routing(config: &Config, topology: &Topology, live: &Live, observed: &Observed) -> Vec<Change> {
    let routes = routes(config, topology, live, observed);
    let rules = rules(config, topology);
    reconcile(&routes, &rules, config.table_base, config.priority_base, observed)
}

/// Somebody else's routes or rules stand where ours would.
pub fn tables_taken(table_base: u32, priority_base: u32) -> Problem {
    Problem::new(
        format!("another instance uses routing tables from {table_base} or rule priorities from {priority_base}"),
        "end it with `pcc down --instance NAME`, or give this one its own `table_base` and `rule_priority`",
    )
}

/// The kernel settings that balancing needs, where `current` (by key below `/proc/sys`) differs. The order matters:
/// an uplink must accept router advertisements as a router before forwarding is turned on, or its default route goes.
pub fn sysctls(
    topology: &Topology,
    fast_path: FastPath,
    current: impl Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    let mut wanted = Vec::new();
    let mut want = |key: String, value: &str| {
        if current(&key).is_some_and(|now| now != value) {
            wanted.push((key, value.to_owned()));
        }
    };
    let uses = |family| topology.uplinks.iter().any(|uplink| uplink.way(family).is_some());
    for uplink in topology.uplinks.iter().filter(|uplink| uplink.link.is_some()) {
        let device = &uplink.config.device;
        want(format!("net/ipv4/conf/{device}/src_valid_mark"), "1");
        let accept_ra = format!("net/ipv6/conf/{device}/accept_ra");
        if uses(Family::V6) && current(&accept_ra).is_some_and(|value| value == "1") {
            want(accept_ra, "2");
        }
    }
    if uses(Family::V4) {
        want("net/ipv4/ip_forward".to_owned(), "1");
    }
    if uses(Family::V6) {
        want("net/ipv6/conf/all/forwarding".to_owned(), "1");
    }
    if fast_path != FastPath::Off {
        let conntrack = |key: &str| format!("net/netfilter/nf_conntrack_{key}");
        // Of what takes shortcuts conntrack sees neither sequence numbers nor acknowledgements.
        want(conntrack("tcp_be_liberal"), "1");
        let (short, long) = (conntrack("tcp_timeout_unacknowledged"), conntrack("tcp_timeout_established"));
        let seconds = |key: &str| current(key)?.parse::<u64>().ok();
        if let (Some(now), Some(established)) = (seconds(&short), seconds(&long))
            && now < established
        {
            want(short, &established.to_string());
        }
        // The shortcuts do not look at checksums either: the receiver does.
        want(conntrack("checksum"), "0");
    }
    wanted
}

fn routes(config: &Config, topology: &Topology, live: &Live, observed: &Observed) -> Vec<Route> {
    let mut routes = Vec::new();
    for family in families(topology) {
        let fallback = config.table_base + offset::FALLBACK;
        for (uplink, metric) in topology.by_preference().into_iter().zip(1..) {
            let table = table(config, uplink.id);
            routes.push(blackhole(family, table));
            routes.extend(default_route(uplink, family, table, 1));
            if live.has(family, uplink.id) {
                routes.extend(default_route(uplink, family, fallback, metric));
            }
        }
        if family == Family::V6 {
            routes.extend(mirror(config.table_base, observed));
        }
    }
    routes
}

fn rules(config: &Config, topology: &Topology) -> Vec<Rule> {
    let mut rules = Vec::new();
    for family in families(topology) {
        let rule = |priority, table| Rule::lookup(family, priority, table);
        rules.push(main_first(family, config.table_base, config.priority_base));
        for uplink in &topology.uplinks {
            let table = table(config, uplink.id);
            let mark = Some((config.marks.of(uplink.id), config.marks.id_mask()));
            rules.push(Rule { mark, ..rule(config.priority_base + uplink.id, table) });
            // After the marks: an answer follows its connection, whatever address it has.
            for address in uplink.way(family).into_iter().flat_map(|way| &way.addresses) {
                let source = Some(IpNet::from(*address));
                rules.push(Rule { source, ..rule(config.priority_base + offset::SOURCE, table) });
            }
        }
        rules.push(rule(FALLBACK_PRIORITY, config.table_base + offset::FALLBACK));
    }
    rules
}

fn families(topology: &Topology) -> impl Iterator<Item = Family> {
    Family::BOTH.into_iter().filter(|family| topology.uplinks.iter().any(|uplink| uplink.way(*family).is_some()))
}

fn anywhere(family: Family) -> IpNet {
    match family {
        Family::V4 => IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
        Family::V6 => IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
    }
}

fn blackhole(family: Family, table: u32) -> Route {
    Route {
        destination: anywhere(family),
        next_hops: Vec::new(),
        table,
        metric: Some(WORST_METRIC),
        protocol: PROTOCOL,
        kind: RouteKind::Blackhole,
        preferred_source: None,
        scope: 0,
    }
}

fn default_route(uplink: &Uplink, family: Family, table: u32, metric: u32) -> Option<Route> {
    let way = uplink.way(family)?;
    let link = uplink.link.as_ref()?;
    let hop = NextHop {
        gateway: way.gateway,
        ifindex: link.index,
        device: link.name.clone(),
        onlink: way.gateway.is_some(),
        weight: 1,
    };
    Some(Route {
        destination: anywhere(family),
        next_hops: vec![hop],
        table,
        metric: Some(metric),
        protocol: PROTOCOL,
        kind: RouteKind::Unicast,
        preferred_source: None,
        scope: if family == Family::V4 && way.gateway.is_none() { SCOPE_LINK } else { 0 },
    })
}

/// The rule before all others: main's routes that are not defaults. IPv6 needs a [`mirror`] of them: a path-MTU exception
/// is a /128 clone of the default route, which `suppress_prefixlength 0` lets through.
pub fn main_first(family: Family, table_base: u32, priority: u32) -> Rule {
    match family {
        Family::V4 => Rule { suppress_prefix_length: Some(0), ..Rule::lookup(family, priority, TABLE_MAIN) },
        Family::V6 => Rule::lookup(family, priority, table_base + offset::MIRROR),
    }
}

/// Copies of main's IPv6 routes that are not defaults, for [`main_first`].
pub fn mirror(table_base: u32, observed: &Observed) -> Vec<Route> {
    observed
        .routes
        .iter()
        .filter(|route| {
            route.table == TABLE_MAIN && route.destination.addr().is_ipv6() && !is_default(route, Family::V6)
        })
        .map(|route| Route { table: table_base + offset::MIRROR, protocol: PROTOCOL, ..route.clone() })
        .collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
