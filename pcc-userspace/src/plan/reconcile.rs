//! Pure: the changes that turn our routes and rules as they are into those that must be. Every mode shares them.

use std::collections::HashMap;

use ipnet::IpNet;

use super::{FALLBACK_PRIORITY, offset};
use crate::config::check::RANGE;
use crate::host::{Change, Observed, PROTOCOL, Route, RouteKind, Rule};

/// The changes that leave exactly `routes` and `rules` of all that is ours: first what is missing, then what is too much.
/// A route that only changes its next hops is replaced, so that no packet finds neither.
pub fn reconcile(
    routes: &[Route],
    rules: &[Rule],
    table_base: u32,
    priority_base: u32,
    observed: &Observed,
) -> Vec<Change> {
    let ours = by_slot(observed.routes.iter().filter(|route| is_our_route(table_base, route)));
    let wanted = by_slot(routes.iter());
    let is_in = |slots: &Slots<'_>, route: &Route| at(slots, route).iter().any(|other| same_route(other, route));
    let is_replacement = |route: &Route| at(&ours, route).len() == 1 && at(&wanted, route).len() == 1;
    let our_rules: Vec<&Rule> =
        observed.rules.iter().filter(|rule| is_our_rule(table_base, priority_base, rule)).collect();
    let missing = routes.iter().filter(|route| !is_in(&ours, route));
    let mut changes: Vec<Change> = missing
        .map(|route| match is_replacement(route) {
            true => Change::ReplaceRoute(route.clone()),
            false => Change::AddRoute(route.clone()),
        })
        .collect();
    changes.extend(rules.iter().filter(|rule| !our_rules.contains(rule)).cloned().map(Change::AddRule));
    changes
        .extend(our_rules.iter().filter(|rule| !rules.contains(rule)).map(|rule| Change::RemoveRule((*rule).clone())));
    let surplus = observed
        .routes
        .iter()
        .filter(|route| is_our_route(table_base, route) && !is_in(&wanted, route) && !is_replacement(route));
    changes.extend(surplus.cloned().map(Change::RemoveRoute));
    changes
}

/// The changes that remove every rule and route of the instance.
pub fn clear_routing(table_base: u32, priority_base: u32, observed: &Observed) -> Vec<Change> {
    reconcile(&[], &[], table_base, priority_base, observed)
}

/// The kernel replaces a route by these.
type Slot = (u32, IpNet, Option<u32>);
type Slots<'a> = HashMap<Slot, Vec<&'a Route>>;

fn slot(route: &Route) -> Slot {
    (route.table, route.destination, route.metric)
}

fn at<'a, 'b>(slots: &'b Slots<'a>, route: &Route) -> &'b [&'a Route] {
    slots.get(&slot(route)).map_or(&[], Vec::as_slice)
}

fn by_slot<'a>(routes: impl Iterator<Item = &'a Route>) -> Slots<'a> {
    let mut slots = Slots::new();
    for route in routes {
        slots.entry(slot(route)).or_default().push(route);
    }
    slots
}

fn is_our_route(table_base: u32, route: &Route) -> bool {
    route.protocol == PROTOCOL && (table_base..table_base + RANGE).contains(&route.table)
}

fn is_our_rule(table_base: u32, priority_base: u32, rule: &Rule) -> bool {
    rule.protocol == PROTOCOL
        && ((priority_base..priority_base + RANGE).contains(&rule.priority)
            || (rule.priority == FALLBACK_PRIORITY && rule.table == table_base + offset::FALLBACK))
}

/// The kernel fills in flags and scopes of its own; what decides where packets go is compared.
fn same_route(one: &Route, other: &Route) -> bool {
    let hops = |route: &Route| {
        let mut hops: Vec<_> = match route.kind {
            RouteKind::Unicast => route.next_hops.iter().map(|hop| (hop.gateway, hop.ifindex, hop.weight)).collect(),
            _ => Vec::new(),
        };
        hops.sort_unstable();
        hops
    };
    slot(one) == slot(other)
        && one.kind == other.kind
        && one.preferred_source == other.preferred_source
        && hops(one) == hops(other)
}
