//! What works against balancing on the same router: FastTrack (7.1), sticky marks (7.13), IPsec (7.17), reverse-path filters
//! (7.19), HotSpot and proxy (7.26); and texts that wipe a configuration (7.30).

use std::net::IpAddr;

use super::facts::Facts;
use super::{Findings, quoted};
use crate::routeros::model::item::Item;
use crate::routeros::model::matcher::Test;
use crate::routeros::model::rule::{Action, Rule};
use crate::routeros::model::scope::{Scope, scope};
use crate::routeros::{Script, Selector};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    fasttrack(facts, findings);
    sticky(facts, findings);
    ipsec(facts, findings);
    if facts.mangle.iter().any(|rule| matches!(rule.action, Action::MarkRouting(_))) {
        strict_filter(facts, findings);
    }
    captive(facts, findings);
}

fn fasttrack(facts: &Facts<'_>, findings: &mut Findings) {
    let routed: Vec<_> = facts
        .mangle
        .iter()
        .filter(|rule| matches!(rule.action, Action::MarkRouting(_)) && rule.chain == "prerouting")
        .collect();
    if routed.is_empty() {
        return;
    }
    for rule in facts.model.filter.iter().chain(&facts.model.mangle) {
        if rule.action != Action::Fasttrack || !rule.active() {
            continue;
        }
        let takes = |mark: &Option<String>| match rule.connection_mark() {
            Some((tested, negated)) => (tested == mark) != negated,
            None => true,
        };
        let hit: Vec<_> = routed
            .iter()
            .filter(|routing| match routing.connection_mark() {
                Some((mark, false)) => takes(mark),
                _ => rule.connection_mark().is_none(),
            })
            .collect();
        if hit.is_empty() || rule.tests(|test| matches!(test, Test::RoutingMark(_))) {
            continue;
        }
        let tables = quoted(hit.iter().filter_map(|rule| match &rule.action {
            Action::MarkRouting(table) => Some(table),
            _ => None,
        }));
        let message = format!(
            "FastTrack takes connections that have a routing mark ({tables}): after their first packets they use main"
        );
        findings.error("lint-7.1", rule.span(), message);
        findings.fix("connection-mark=no-mark");
    }
}

fn sticky(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(rule) = facts.pcc_rules().find(|rule| matches!(rule.action, Action::MarkConnection(_))) else { return };
    if facts.marked_tables().any(|table| facts.defaults(table).len() > 1) {
        let message =
            "marks stay with their connections: after a fail-back, those that began on the backup break or move late";
        findings.info("lint-7.13", rule.span(), message);
    }
}

fn ipsec(facts: &Facts<'_>, findings: &mut Findings) {
    let menus = ["ip ipsec policy", "ip ipsec peer", "ip ipsec identity"];
    let tunnel = menus
        .iter()
        .filter_map(|menu| facts.model.read.get(menu))
        .flatten()
        .find(|item| !item.disabled() && !item.built_in);
    let (Some(tunnel), Some(pcc)) = (tunnel, facts.pcc_rules().next()) else { return };
    let spares = |rule: &Rule| rule.tests(|test| matches!(test, Test::IpsecPolicy { .. }));
    let excluded = tunnel_networks(facts).iter().any(|net| {
        facts.mangle.iter().any(|rule| {
            rule.action == Action::Accept
                && rule.tests(|test| match test {
                    Test::DestinationAddress(range) => range.contains(*net),
                    Test::DestinationAddressList(list) => facts.in_address_list(*net, list),
                    _ => false,
                })
        })
    });
    if !facts.mangle.iter().any(|rule| spares(rule)) && !excluded {
        let message = format!("packets of the IPsec tunnel (line {}) are balanced too", tunnel.span.line);
        findings.warning("lint-7.17", pcc.span(), message);
        findings
            .fix("/ip firewall mangle add chain=prerouting dst-address=REMOTE-NETWORK action=accept place-before=0");
    }
    let masquerade =
        facts.model.nat.iter().find(|rule| rule.active() && rule.action == Action::Masquerade && !spares(rule));
    let accepted =
        facts.model.nat.iter().any(|rule| rule.active() && rule.chain == "srcnat" && rule.action == Action::Accept);
    if let (Some(rule), false) = (masquerade, accepted) {
        let message =
            format!("masquerades packets of the IPsec tunnel (line {}), which then fit no policy", tunnel.span.line);
        findings.warning("lint-7.17", rule.span(), message);
        findings.fix("ipsec-policy=out,none");
    }
}

/// An address of each network behind an IPsec tunnel.
fn tunnel_networks(facts: &Facts<'_>) -> Vec<IpAddr> {
    let policies = facts.model.read.get("ip ipsec policy").into_iter().flatten();
    policies.filter_map(|item| item.text("dst-address")?.split('/').next()?.parse().ok()).collect()
}

fn strict_filter(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(item) = facts.model.settings.get("ip settings") else { return };
    if item.text("rp-filter") == Some("strict") {
        let message = "a strict reverse-path filter drops packets whose answer would take another uplink";
        findings.warning("lint-7.19", item.place("rp-filter"), message);
        findings.fix("/ip settings set rp-filter=loose");
    }
}

fn captive(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(pcc) = facts.pcc_rules().next() else { return };
    let items = |menu: &str| facts.model.read.get(menu).into_iter().flatten().filter(|item: &&Item| !item.disabled());
    let hotspot = items("ip hotspot").next().map(|item| (item, "HotSpot"));
    let proxy = items("ip proxy").find(|item| item.flag("enabled")).map(|item| (item, "the web proxy"));
    if let Some((item, name)) = hotspot.or(proxy) {
        let message = format!(
            "{name} answers from the main table only, so that PCC (line {}) does not work for it",
            pcc.span().line
        );
        findings.warning("lint-7.26", item.span, message);
    }
}

/// Commands that remove what they did not make.
pub(super) fn untrusted(script: &Script, findings: &mut Findings) {
    for statement in &script.statements {
        let all = statement.items.iter().any(|item| matches!(item, Selector::Find { condition: None, .. }));
        if statement.verb == "remove"
            && all
            && let menu = statement.menu.join(" ")
            && scope(&menu) != Scope::Outside
        {
            findings.warning(
                "lint-7.30",
                statement.span,
                format!("removes everything from `/{menu}` of the router it runs on"),
            );
        }
        if statement.verb == "reset-configuration" {
            findings.warning("lint-7.30", statement.span, "resets the router it runs on");
        }
    }
}
