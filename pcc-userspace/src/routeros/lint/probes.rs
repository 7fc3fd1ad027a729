//! Probes that do not test the uplink that they are to test (7.14).

use std::net::IpAddr;

use super::Findings;
use super::dns::check_hosts;
use super::facts::Facts;
use crate::routeros::Span;
use crate::routeros::model::matcher::Test;
use crate::routeros::model::route::{MAIN, Route, RouteKind};
use crate::routeros::model::rule::Action;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let mut hosts: Vec<(IpAddr, Span)> = Vec::new();
    for route in facts.model.routes.iter().filter(|route| route.active()) {
        for gateway in &route.gateways {
            let way = facts.way(gateway, route.target_scope);
            let (Some(host), Some(hop)) = (gateway.address, way.through.first()) else { continue };
            let single = hop.destination.prefix_len() == hop.destination.max_prefix_len();
            if !single || route.check.is_none() {
                continue;
            }
            if !hosts.iter().any(|(known, _)| *known == host) {
                hosts.push((host, hop.span()));
                // With a higher target scope the default route of another uplink resolves the host, too.
                if route.target_scope >= 30 && !is_guarded(facts, hop, host) {
                    let message =
                        format!("when this route is down, probes of `{host}` leave by another uplink and succeed");
                    findings.warning("lint-7.14", hop.span(), message);
                    findings.fix(format!("/ip route add dst-address={host}/32 blackhole distance=20"));
                }
            }
        }
    }
    for watched in facts.model.netwatch.iter().filter(|watched| !watched.item.disabled()) {
        let Ok(host) = watched.host.parse::<IpAddr>() else { continue };
        let pinned = facts.model.routes.iter().any(|route| {
            route.active() && !route.is_default() && route.table == MAIN && route.destination.contains(&host)
        });
        if !watched.down.routes.is_empty() || !watched.up.routes.is_empty() {
            hosts.push((host, watched.item.place("host")));
            if !pinned && !facts.model.addresses.iter().any(|known| known.network.contains(&host)) {
                let message =
                    format!("no route pins `{host}` to an uplink: when one is dead, the probe leaves by another");
                findings.warning("lint-7.14", watched.item.place("host"), message);
                findings.fix(format!("/ip route add dst-address={host}/32 gateway=GATEWAY"));
            }
        }
    }
    check_hosts(facts, &hosts, findings);
}

fn is_guarded(facts: &Facts<'_>, hop: &Route, host: IpAddr) -> bool {
    let blackhole = facts.model.routes.iter().any(|route| {
        route.active()
            && route.kind != RouteKind::Unicast
            && route.destination == hop.destination
            && route.distance > hop.distance
    });
    let filtered = facts.model.filter.iter().any(|rule| {
        rule.active()
            && rule.chain == "output"
            && rule.action == Action::Drop
            && rule.tests(|test| matches!(test, Test::DestinationAddress(range) if range.contains(host)))
    });
    blackhole || filtered
}
