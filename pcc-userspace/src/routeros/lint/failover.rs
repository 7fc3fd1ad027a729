//! What happens when an uplink dies: checks (7.4), equal distances (7.22), fallback (7.23).

use std::collections::BTreeMap;

use super::facts::Facts;
use super::{Findings, also, quoted};
use crate::routeros::Span;
use crate::routeros::model::Family;
use crate::routeros::model::route::{Check, Gateway, MAIN, Route, RouteKind};

const ID: &str = "lint-7.4";

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    interface_gateways(facts, findings);
    unresolved(facts, findings);
    unwatched(facts, findings);
    no_main(facts, findings);
    equal_distances(facts, findings);
    duplicates(facts, findings);
    fallback(facts, findings);
}

/// Who notices that a next hop is dead.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watch {
    Checked,
    /// The link goes down with it, or the text does not tell what kind of link it is.
    Link,
    Nobody,
}

fn watch(facts: &Facts<'_>, route: &Route, gateway: &Gateway) -> Watch {
    let way = facts.way(gateway, route.target_scope);
    let scripted = facts.model.netwatch.iter().any(|host| host.down.concern(route) || host.up.concern(route))
        || facts.model.scripts.iter().any(|script| script.actions.concern(route));
    let checked = route.check.is_some() && gateway.address.is_some()
        || way.through.iter().any(|hop| hop.check.is_some())
        || is_watched_elsewhere(facts, gateway);
    if scripted || checked {
        return Watch::Checked;
    }
    match &gateway.interface {
        Some(name) if gateway.address.is_none() && facts.is_point_to_point(name) != Some(false) => Watch::Link,
        _ => Watch::Nobody,
    }
}

/// v6 watches an address for all routes through it, v7 each next hop for itself.
fn is_watched_elsewhere(facts: &Facts<'_>, gateway: &Gateway) -> bool {
    !facts.is_v7() && gateway.address.is_some_and(|address| facts.is_checked(address))
}

/// Only a check on another route watches its gateway.
fn is_borrowed(facts: &Facts<'_>, route: &Route) -> bool {
    route.check.is_none()
        && route.gateways.iter().any(|gateway| {
            let way = facts.way(gateway, route.target_scope);
            way.through.iter().all(|hop| hop.check.is_none()) && is_watched_elsewhere(facts, gateway)
        })
}

fn default_routes<'a>(facts: &Facts<'a>) -> impl Iterator<Item = &'a Route> {
    facts.model.routes.iter().filter(|route| route.active() && route.is_default() && route.kind == RouteKind::Unicast)
}

fn interface_gateways(facts: &Facts<'_>, findings: &mut Findings) {
    let mut spans: BTreeMap<bool, Vec<(Span, &str)>> = BTreeMap::new();
    for route in default_routes(facts) {
        for gateway in route.gateways.iter().filter(|gateway| gateway.address.is_none()) {
            let Some(name) = gateway.interface.as_deref() else { continue };
            if facts.is_point_to_point(name) == Some(false) && facts.is_uplink(name) {
                spans.entry(route.check.is_some()).or_default().push((route.item.place("gateway"), name));
            }
        }
        if route.check == Some(Check::Bfd) {
            findings.warning(ID, route.item.place("check-gateway"), "BFD is not supported for static routes");
            findings.fix("check-gateway=ping");
        }
    }
    for (checked, places) in spans {
        let at: Vec<_> = places.iter().map(|(span, _)| *span).collect();
        let probe = if checked { ", and `check-gateway` has no address to probe" } else { "" };
        let message = format!(
            "the gateway is an Ethernet interface ({}): the router asks by ARP for every destination{probe}{}",
            quoted(places.iter().map(|(_, name)| name)),
            also(&at)
        );
        findings.error(ID, at[0], message);
        findings.fix("gateway=ADDRESS%INTERFACE, or let the DHCP client add the route (default-route-tables)");
    }
}

/// Next hops that only a missing route could resolve.
fn unresolved(facts: &Facts<'_>, findings: &mut Findings) {
    let routes = facts.model.routes.iter().filter(|route| route.active());
    for route in routes {
        for gateway in &route.gateways {
            let (Some(address), None, None) = (gateway.address, &gateway.interface, &gateway.table) else { continue };
            if facts.model.addresses.iter().any(|known| known.network.contains(&address)) {
                continue;
            }
            if !facts.way(gateway, route.target_scope).through.is_empty() {
                continue;
            }
            let host = |other: &&Route| {
                other.active() && other.table == MAIN && !other.is_default() && other.destination.contains(&address)
            };
            let place = route.item.place("gateway");
            if let Some(other) = facts.model.routes.iter().find(host) {
                let scope =
                    if other.scope <= other.target_scope { other.target_scope.saturating_add(1) } else { other.scope };
                let message = format!(
                    "gateway `{address}` cannot be resolved: the route at line {} has scope {scope}, above target scope {}",
                    other.span().line,
                    route.target_scope
                );
                findings.error(ID, place, message);
                findings.fix(format!("target-scope={scope}"));
                continue;
            }
            // A check host among check hosts, or a target scope that only recursion needs.
            let siblings = facts.model.routes.iter().filter(|other| {
                other.active()
                    && other.destination == route.destination
                    && other.table == route.table
                    && other.span() != route.span()
            });
            let recursive = siblings
                .flat_map(|other| other.gateways.iter().map(move |gateway| (other, gateway)))
                .any(|(other, gateway)| !facts.way(gateway, other.target_scope).through.is_empty());
            if route.target_scope > 10 || recursive && !route.is_default() {
                let message = format!("no host route leads to gateway `{address}`, so this route is never active");
                findings.error(ID, place, message);
                findings.fix(format!("/ip route add dst-address={address}/32 gateway=GATEWAY scope=10"));
            }
        }
    }
}

fn unwatched(facts: &Facts<'_>, findings: &mut Findings) {
    let marked: Vec<_> = facts.marked_tables().collect();
    let blind = |route: &&Route| {
        route.gateways.iter().any(|gateway| watch(facts, route, gateway) == Watch::Nobody && gateway.address.is_some())
    };
    let spans: Vec<_> =
        default_routes(facts).filter(|route| route.table != MAIN).filter(blind).map(Route::span).collect();
    if let Some(first) = spans.first() {
        let message = format!("nothing notices that this gateway is dead: its connections stay on it{}", also(&spans));
        if facts.pcc_rules().next().is_some() || marked.len() > 1 {
            findings.error(ID, *first, message);
        } else {
            findings.warning(ID, *first, message);
        }
        findings.fix("check-gateway=ping");
    }
    let borrowed: Vec<_> = default_routes(facts)
        .filter(|route| route.table != MAIN && is_borrowed(facts, route))
        .map(Route::span)
        .collect();
    if let Some(first) = borrowed.first() {
        let message = format!(
            "watched only because v6 watches an address for all of its routes; v7 would not{}",
            also(&borrowed)
        );
        findings.info(ID, *first, message);
        findings.fix("check-gateway=ping");
    }
    let main = facts.defaults(MAIN);
    let relying: Vec<_> = marked.iter().filter(|table| facts.defaults(table).len() == 1).collect();
    let [best, _, ..] = main else { return };
    if !blind(best) {
        return;
    }
    let place = best.span();
    if !relying.is_empty() && facts.is_v7() && spans.is_empty() {
        let message = format!(
            "tables {} fall back to main, but in v7 this route stays up when its gateway is dead: it needs the same check",
            quoted(relying)
        );
        findings.error(ID, place, message);
    } else {
        findings.warning(ID, place, "unmarked traffic stays on this gateway when it is dead");
    }
    findings.fix("check-gateway=ping");
}

/// Marked tables with one uplink each and nothing behind them.
fn no_main(facts: &Facts<'_>, findings: &mut Findings) {
    let dynamic = facts.model.clients.iter().any(|client| client.default_route.is_some() && !client.item.disabled());
    let written = facts.model.routes.iter().any(|route| {
        route.table == MAIN
            && !route.item.disabled()
            && (route.is_default() || route.broken)
            && route.kind == RouteKind::Unicast
    });
    let known = facts
        .uplinks
        .iter()
        .all(|uplink| facts.model.interface(&uplink.interface).is_some() || uplink.network.is_some());
    let single = default_routes(facts).find(|route| route.table != MAIN && facts.defaults(&route.table).len() == 1);
    if let (Some(route), false, false, true) = (single, dynamic, written, known && !facts.uplinks.is_empty()) {
        let message = format!(
            "table `{}` has one gateway, and main has no default route: no failover, and the router itself and unmarked \
             traffic have no way out",
            route.table
        );
        findings.error(ID, route.span(), message);
        if let Some(gateway) = route.item.text("gateway") {
            findings.fix(format!("/ip route add gateway={gateway} check-gateway=ping distance=1"));
        }
    }
}

fn equal_distances(facts: &Facts<'_>, findings: &mut Findings) {
    type Exit<'a> = (&'a Vec<Gateway>, Vec<Option<String>>);
    let mut seen: Vec<(&str, u8, Option<Exit<'_>>, Span)> = Vec::new();
    for client in facts.model.clients.iter().filter(|client| !client.item.disabled()) {
        if let Some(distance) = client.default_route {
            if let Some((.., span)) = seen.iter().find(|(table, other, ..)| *table == MAIN && *other == distance) {
                let message = format!(
                    "its default route has distance {distance}, like that of line {}: unplanned ECMP",
                    span.line
                );
                findings.warning("lint-7.22", client.item.span, message);
                findings.fix(format!("default-route-distance={}", distance.saturating_add(1)));
            }
            seen.push((MAIN, distance, None, client.item.span));
        }
    }
    for route in default_routes(facts).filter(|route| route.family == Family::V4) {
        let ways = route.gateways.iter().map(|gateway| facts.way(gateway, route.target_scope));
        let egress: Vec<_> = ways
            .map(|way| {
                way.interface.or_else(|| way.through.last().and_then(|hop| hop.item.text("gateway").map(str::to_owned)))
            })
            .collect();
        let equal = seen.iter().find(|(table, distance, other, _)| {
            // Two check hosts of one uplink are no second way.
            *table == route.table
                && *distance == route.distance
                && other.as_ref().is_none_or(|(gateways, ways)| {
                    *gateways != &route.gateways && (*ways != egress || egress.contains(&None))
                })
        });
        if let Some((.., span)) = equal {
            let message = format!(
                "default route of table `{}` with distance {}, like line {}: unplanned ECMP",
                route.table, route.distance, span.line
            );
            let place =
                if route.item.property("distance").is_some() { route.item.place("distance") } else { route.span() };
            findings.warning("lint-7.22", place, message);
            findings.fix(format!("distance={}", route.distance.saturating_add(1)));
        }
        seen.push((&route.table, route.distance, Some((&route.gateways, egress)), route.span()));
    }
}

fn duplicates(facts: &Facts<'_>, findings: &mut Findings) {
    let mut seen: BTreeMap<_, Span> = BTreeMap::new();
    for route in facts.model.routes.iter().filter(|route| route.active()) {
        let gateway = route.item.text("gateway").unwrap_or_default();
        let key = (route.destination, route.table.as_str(), route.distance, gateway, route.kind == RouteKind::Unicast);
        match seen.get(&key) {
            Some(first) => {
                let message = format!("the same route as line {}", first.line);
                findings.warning("lint-7.22", route.span(), message);
            }
            None => _ = seen.insert(key, route.span()),
        }
    }
}

fn fallback(facts: &Facts<'_>, findings: &mut Findings) {
    let bare: Vec<_> = facts
        .marked_tables()
        .filter(|table| {
            let guarded = facts.model.routes.iter().any(|route| {
                route.active() && route.is_default() && route.table == *table && route.kind != RouteKind::Unicast
            });
            facts.defaults(table).len() == 1 && !guarded
        })
        .collect();
    let first = bare.first().and_then(|table| facts.defaults(table).first().map(|route| route.span()));
    if let Some(span) = first {
        let message = format!("no backup in {}: when the gateway is down, packets use main", quoted(&bare));
        findings.info("lint-7.23", span, message);
    }
}
