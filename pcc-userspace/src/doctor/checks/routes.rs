//! Routes and rules of others.

use crate::doctor::{Case, Facts};
use crate::host::{Change, Family, PROTOCOL, RouteKind, RuleAction, TABLE_MAIN};
use crate::plan;
use crate::topology::{default_hops, is_default};

pub(super) fn taken(facts: &Facts) -> Option<Vec<Case>> {
    let (table, priority) = facts.bases;
    let known = facts.remains.journal.is_some() || facts.remains.damaged.is_some();
    let there = if known { Vec::new() } else { plan::clear_routing(table, priority, &facts.observed) };
    let case = there.first().map(|change| {
        let problem = plan::tables_taken(table, priority);
        Case::new(change.to_string(), problem.message, problem.hint)
    });
    Some(case.into_iter().collect())
}

pub(super) fn before(facts: &Facts) -> Option<Vec<Case>> {
    let leads_away = |table: u32, family| {
        facts.observed.routes.iter().any(|route| route.table == table && is_default(route, family))
    };
    let rules = facts.observed.rules.iter().filter(|rule| {
        let ours = rule.protocol == PROTOCOL || rule.priority == 0 || rule.priority >= facts.bases.1;
        let decides = match rule.action {
            RuleAction::Lookup => {
                rule.table != TABLE_MAIN && rule.suppress_prefix_length.is_none() && leads_away(rule.table, rule.family)
            }
            _ => true,
        };
        // Those with a mark are told by the checks of marks.
        !ours && rule.mark.is_none() && decides
    });
    let cases = rules.map(|rule| {
        let added = Change::AddRule(rule.clone());
        let what = format!("`{added}` decides before pcc's rules, whatever uplink a connection has");
        Case::new("ip rule", what, "remove it if an earlier set-up for several uplinks left it; keep it for a VPN")
            .command(Change::RemoveRule(rule.clone()).to_string())
    });
    Some(cases.collect())
}

pub(super) fn elsewhere(facts: &Facts) -> Option<Vec<Case>> {
    let native = facts.native();
    let is_uplink =
        |device: &str| native.is_none_or(|it| it.config.uplinks.iter().any(|uplink| uplink.device == device));
    let cases = Family::BOTH.into_iter().filter_map(|family| {
        let (route, hop) = default_hops(family, &facts.observed).next()?;
        if is_uplink(&hop.device) {
            return None;
        }
        let what = format!("main's preferred {family} default route leads over `{}`, which is no uplink", hop.device);
        let advice = format!(
            "the router's own connections, and all while no uplink is up, go there: name `{}` as an uplink, or remove the route",
            hop.device
        );
        Some(Case::new(&hop.device, what, advice).command(Change::RemoveRoute(route.clone()).to_string()))
    });
    Some(cases.collect())
}

pub(super) fn multipath(facts: &Facts) -> Option<Vec<Case>> {
    let several = facts.observed.routes.iter().filter(|route| {
        let default = Family::BOTH.into_iter().any(|family| is_default(route, family));
        default && route.table == TABLE_MAIN && route.kind == RouteKind::Unicast && route.next_hops.len() > 1
    });
    let cases = several.map(|route| {
        let family = route.family();
        let what = format!(
            "main's {family} default route has {} next hops: the kernel spreads what pcc leaves to main",
            route.next_hops.len()
        );
        let advice = "give each uplink a default route of its own, with metrics, as DHCP clients do";
        Case::new("table main", what, advice).command(Change::RemoveRoute(route.clone()).to_string())
    });
    Some(cases.collect())
}
