//! The kernel's routes for one host and one health.

use std::net::IpAddr;

use super::resolve::{Slot, State, Way};
use super::{Routing, WatchKey};
use crate::host::{Family, NextHop, Observed, PROTOCOL, Route, RouteKind};
use crate::plan;

/// `rtm_scope` of an IPv4 route without a gateway.
const SCOPE_LINK: u8 = 253;
/// The kernel keeps weights in a byte, less one.
const MOST_WEIGHT: u32 = 256;

/// The routes of all tables of the mirror, for the host as `observed` and the health that `down` tells: per table and
/// destination those of the lowest distance that lead somewhere. Equal ones share the traffic.
pub fn active(routing: &Routing, observed: &Observed, down: &dyn Fn(&WatchKey) -> bool) -> Vec<Route> {
    let state = State::settle(routing, observed, down);
    let mut routes: Vec<Route> = state.active().filter_map(|(slot, active)| state.route(slot, active)).collect();
    if routing.families().contains(&Family::V6) {
        routes.extend(plan::mirror(routing.table_base, observed));
    }
    routes
}

impl State<'_> {
    fn route(&self, (table, destination): Slot, active: &[usize]) -> Option<Route> {
        let first = active.first()?;
        let family = Family::of(destination.addr());
        let shares = shares(active.iter().flat_map(|index| self.ways(*index)));
        let kind = match shares.as_slice() {
            [] => self.routing.routes[*first].kind,
            _ => RouteKind::Unicast,
        };
        let hops = fit(family, shares).into_iter().map(|(way, weight)| self.next_hop(way, weight));
        let next_hops: Vec<NextHop> = hops.collect();
        let direct = next_hops.iter().all(|hop| hop.gateway.is_none());
        Some(Route {
            destination,
            table,
            // IPv6 takes 0 for "default".
            metric: Some(u32::from(self.distance(*first)).max(1)),
            protocol: PROTOCOL,
            kind,
            preferred_source: active.iter().find_map(|index| self.source(*index)),
            scope: if family == Family::V4 && kind == RouteKind::Unicast && direct { SCOPE_LINK } else { 0 },
            next_hops,
        })
    }

    fn next_hop(&self, way: Way, weight: u16) -> NextHop {
        let link = self.link(way);
        NextHop {
            gateway: way.gateway,
            ifindex: link.index,
            device: link.name.clone(),
            onlink: way.gateway.is_some(),
            weight,
        }
    }

    /// `pref-src`; the kernel takes only addresses that it has.
    fn source(&self, index: usize) -> Option<IpAddr> {
        let source = self.routing.routes[index].preferred_source?;
        self.observed.addresses.iter().any(|address| address.network.addr() == source).then_some(source)
    }
}

/// Each way once, with the number of its mentions in lowest terms.
fn shares<'a>(ways: impl Iterator<Item = &'a Way>) -> Vec<(Way, u16)> {
    let mut shares: Vec<(Way, u32)> = Vec::new();
    for way in ways {
        match shares.iter_mut().find(|(known, _)| known == way) {
            Some((_, count)) => *count += 1,
            None => shares.push((*way, 1)),
        }
    }
    let divisor = shares.iter().fold(0, |divisor, (_, count)| greatest_common_divisor(divisor, *count)).max(1);
    let weight = |count: u32| u16::try_from((count / divisor).clamp(1, MOST_WEIGHT)).unwrap_or(1);
    shares.into_iter().map(|(way, count)| (way, weight(count))).collect()
}

/// IPv6 shares traffic among gateways only; a device without one would become a route of its own.
fn fit(family: Family, mut shares: Vec<(Way, u16)>) -> Vec<(Way, u16)> {
    if family == Family::V6 && shares.len() > 1 {
        match shares.iter().any(|(way, _)| way.gateway.is_some()) {
            true => shares.retain(|(way, _)| way.gateway.is_some()),
            false => shares.truncate(1),
        }
    }
    if let [(_, weight)] = shares.as_mut_slice() {
        *weight = 1;
    }
    shares
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
