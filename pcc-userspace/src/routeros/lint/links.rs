//! Interfaces: names and lists (7.24), MSS (7.16), hand-written gateways of dynamic links (7.28).

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::facts::Facts;
use super::{Findings, also, quoted};
use crate::routeros::Span;
use crate::routeros::model::matcher::Test;
use crate::routeros::model::route::{MAIN, Route};
use crate::routeros::model::rule::{Action, Rule};
use crate::routeros::model::service::Client;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for rule in rules(facts) {
        for matcher in &rule.matchers {
            match &matcher.test {
                Test::InInterface(name) | Test::OutInterface(name) => interface(facts, name, matcher.span, findings),
                Test::InInterfaceList(name) | Test::OutInterfaceList(name) => list(facts, name, matcher.span, findings),
                _ => {}
            }
        }
    }
    mss(facts, findings);
    hard_coded(facts, findings);
    same_gateway(facts, findings);
}

fn rules<'a>(facts: &Facts<'a>) -> impl Iterator<Item = &'a Rule> {
    let model = facts.model;
    [&model.mangle, &model.nat, &model.filter, &model.raw].into_iter().flatten().filter(|rule| rule.active())
}

fn interface(facts: &Facts<'_>, name: &str, span: Span, findings: &mut Findings) {
    const ID: &str = "lint-7.24";
    let model = facts.model;
    if name.starts_with('*') {
        findings.warning(ID, span, format!("`{name}` is the remains of a deleted interface"));
        return;
    }
    if let Some(port) = model.bridge_ports.iter().find(|port| port.interface == name && !port.item.disabled()) {
        let message = format!("`{name}` is a port of bridge `{}`: packets are seen on the bridge", port.group);
        findings.warning(ID, span, message);
        findings.fix(port.group.clone());
        return;
    }
    match model.interface(name) {
        Some(known) if known.item.disabled() => {
            findings.warning(ID, span, format!("interface `{name}` is disabled (line {})", known.item.span.line));
        }
        Some(_) => {}
        None => {
            let renamed = model.interfaces.iter().find(|known| known.default_name.as_deref() == Some(name));
            let alike = model.interfaces.iter().find(|known| known.name.eq_ignore_ascii_case(name));
            if let Some(now) = renamed.or(alike) {
                findings.warning(ID, span, format!("no interface is called `{name}`"));
                findings.fix(now.name.clone());
            }
        }
    }
}

/// A missing list matters only where the text shows the lists, that is, makes some.
fn list(facts: &Facts<'_>, name: &str, span: Span, findings: &mut Findings) {
    let model = facts.model;
    let built_in = ["all", "none", "dynamic", "static"].contains(&name);
    let known = model.lists.iter().any(|list| list.name == name) || facts.list_is_known(name);
    if built_in || known || model.lists.is_empty() {
        return;
    }
    findings.warning("lint-7.24", span, format!("there is no interface list `{name}`"));
    if let Some(alike) = model.lists.iter().find(|list| list.name.eq_ignore_ascii_case(name)) {
        findings.fix(alike.name.clone());
    }
}

fn mss(facts: &Facts<'_>, findings: &mut Findings) {
    const ID: &str = "lint-7.16";
    let changing: Vec<_> = facts.mangle.iter().filter(|rule| matches!(rule.action, Action::ChangeMss(_))).collect();
    for rule in &changing {
        if matches!(rule.action, Action::ChangeMss(Some(_))) && !rule.tests(|test| matches!(test, Test::TcpMss(_))) {
            let message = "without `tcp-mss` a smaller MSS may be raised to this one";
            findings.warning(ID, rule.item.place("new-mss"), message);
            let Action::ChangeMss(Some(mss)) = rule.action else { continue };
            findings.fix(format!("tcp-mss={}-65535", mss.saturating_add(1)));
        }
    }
    if !changing.is_empty() {
        return;
    }
    for interface in
        facts.model.interfaces.iter().filter(|known| known.kind == "pppoe-client" && !known.item.disabled())
    {
        let named = interface.item.text("profile").unwrap_or("default");
        let profile = facts.model.profiles.iter().find(|profile| profile.text("name") == Some(named));
        let clamps = profile.and_then(|profile| profile.text("change-tcp-mss"));
        let small =
            interface.item.text("max-mtu").and_then(|mtu| mtu.parse::<u32>().ok()).is_none_or(|mtu| mtu <= 1492);
        let message = format!("`{}` has an MTU below 1500, and nothing clamps the MSS", interface.name);
        match (clamps, profile.is_none() || named.starts_with("default")) {
            (Some("yes"), _) => continue,
            _ if !small => continue,
            // An export does not show what a built-in profile does.
            (None, true) => {
                findings.info(ID, interface.item.span, format!("{message}, unless PPP profile `{named}` does"));
            }
            _ => findings.warning(ID, interface.item.span, message),
        }
        findings.fix(format!(
            "/ip firewall mangle add chain=forward out-interface={} protocol=tcp tcp-flags=syn tcp-mss=1453-65535 \
             action=change-mss new-mss=1452",
            interface.name
        ));
    }
}

/// Gateways typed in for links that get theirs by DHCP.
fn hard_coded(facts: &Facts<'_>, findings: &mut Findings) {
    const ID: &str = "lint-7.28";
    for script in facts.model.scripts.iter().filter(|script| script.text.contains("$\"lease-gateway\"")) {
        findings.warning(ID, script.span, "a DHCP client script has no variable `lease-gateway`");
        findings.fix("$\"gateway-address\"");
    }
    let alone = |client: &&Client| {
        client.dhcp && !client.item.disabled() && client.tables.is_empty() && client.item.text("script").is_none()
    };
    let Some(client) = facts.model.clients.iter().find(alone) else { return };
    let maintained =
        |route: &Route| facts.model.scripts.iter().any(|script| script.actions.other || script.actions.concern(route));
    let spans: Vec<_> = facts
        .model
        .routes
        .iter()
        .filter(|route| route.active() && route.is_default() && route.table != MAIN && !maintained(route))
        .filter(|route| {
            route.gateways.iter().any(|gateway| {
                let way = facts.way(gateway, route.target_scope);
                let unknown = way.interface.is_none() && way.through.is_empty() && gateway.address.is_some();
                unknown || gateway.address.is_some() && way.interface.as_deref() == Some(&client.interface)
            })
        })
        .map(|route| route.item.place("gateway"))
        .collect();
    if let Some(first) = spans.first() {
        let message = format!(
            "the gateway is fixed, but `{}` gets its gateway by DHCP (line {}){}",
            client.interface,
            client.item.span.line,
            also(&spans)
        );
        findings.warning(ID, *first, message);
        findings.fix("/ip dhcp-client set … default-route-tables=TABLE, or a lease script that sets the gateway");
    }
}

/// One gateway address on two uplinks.
fn same_gateway(facts: &Facts<'_>, findings: &mut Findings) {
    const ID: &str = "lint-7.28";
    let mut best: Vec<(IpAddr, &str, Span)> = Vec::new();
    let balanced = facts.balanced_tables();
    for table in facts.marked_tables().filter(|table| balanced.contains(*table)) {
        let Some(route) = facts.defaults(table).first().copied() else { continue };
        let [gateway] = route.gateways.as_slice() else { continue };
        let (Some(address), None) = (gateway.address, &gateway.interface) else { continue };
        if let Some((_, other, span)) = best.iter().find(|(known, ..)| *known == address) {
            let message =
                format!("tables `{other}` (line {}) and `{table}` use the same gateway `{address}`", span.line);
            findings.warning(ID, route.item.place("gateway"), message);
            findings.fix(format!("gateway={address}%INTERFACE"));
        }
        best.push((address, table, route.span()));
    }
    let mut reported = BTreeSet::new();
    for route in facts.model.routes.iter().filter(|route| route.active()) {
        for gateway in route.gateways.iter().filter(|gateway| gateway.interface.is_none()) {
            let Some(address) = gateway.address else { continue };
            let on =
                facts.model.addresses.iter().filter(|known| known.network.contains(&address) && !known.item.disabled());
            let on: BTreeSet<_> = on.map(|known| known.interface.as_str()).collect();
            if on.len() > 1 && reported.insert(address) {
                let names: Vec<_> = on.into_iter().collect();
                let message =
                    format!("gateway `{address}` is on the networks of several interfaces ({})", quoted(names));
                findings.warning(ID, route.item.place("gateway"), message);
                findings.fix(format!("gateway={address}%INTERFACE"));
            }
        }
    }
}
