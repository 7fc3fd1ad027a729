//! Routing tables of v7, and properties of the other dialect (7.8).

use super::facts::Facts;
use super::{Findings, also};
use crate::routeros::Span;
use crate::routeros::model::route::MAIN;

const ID: &str = "lint-7.8";

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let model = facts.model;
    let places = |property: &str| -> Vec<Span> {
        let routes = model.routes.iter().filter(|route| route.item.property(property).is_some());
        routes.map(|route| route.item.place(property)).collect()
    };
    if !facts.is_v7() {
        if let spans @ [first, ..] = places("routing-table").as_slice() {
            let message = format!("a v6 route has no `routing-table`{}", also(spans));
            findings.error(ID, *first, message);
            findings.fix("routing-mark=NAME");
        }
        if let Some(table) = model.tables.first() {
            findings.error(ID, table.item.span, "v6 has no menu `/routing table`; a table exists by its mark");
        }
        return;
    }
    // Without any sign of v7 the text may be a piece of a v6 configuration.
    if !facts.detected.is_certain() {
        return;
    }
    if let spans @ [first, ..] = places("routing-mark").as_slice() {
        findings.error(ID, *first, format!("a v7 route has no `routing-mark`{}", also(spans)));
        findings.fix("routing-table=NAME");
    }
    undeclared(facts, findings);
    for table in
        model.tables.iter().filter(|table| !table.fib && used(facts).iter().any(|(name, _)| *name == table.name))
    {
        let message =
            format!("table `{}` has no `fib`, so its routes are not installed and its packets use main", table.name);
        findings.error(ID, table.item.span, message);
        findings.fix(format!("/routing table set [find name={}] fib", table.name));
    }
}

fn undeclared(facts: &Facts<'_>, findings: &mut Findings) {
    let mut reported = Vec::new();
    for (name, span) in used(facts) {
        let declared = facts.model.tables.iter().any(|table| table.name == name && !table.item.disabled());
        let vrf = facts.model.vrfs.iter().any(|vrf| vrf.text("name") == Some(name));
        if name == MAIN || declared || vrf || reported.contains(&name) {
            continue;
        }
        reported.push(name);
        if name.starts_with('*') {
            findings.error(ID, span, format!("`{name}` is the remains of a deleted table"));
            continue;
        }
        findings.error(ID, span, format!("table `{name}` is not declared in `/routing table`"));
        findings.fix(format!("/routing table add name={name} fib"));
    }
}

/// Every table that a rule, route or client names.
fn used<'a>(facts: &Facts<'a>) -> Vec<(&'a str, Span)> {
    let model = facts.model;
    let marks = model.mangle.iter().filter(|rule| !rule.item.disabled());
    let marks =
        marks.filter_map(|rule| Some((rule.item.text("new-routing-mark")?, rule.item.place("new-routing-mark"))));
    let routes = model.routes.iter().filter(|route| !route.item.disabled());
    let routes = routes.map(|route| (route.table.as_str(), route.item.place("routing-table")));
    let rules = model.rules.iter().filter(|rule| !rule.item.disabled());
    let rules = rules.filter_map(|rule| Some((rule.table.as_deref()?, rule.item.place("table"))));
    let clients = model.clients.iter().flat_map(|client| {
        client.tables.iter().map(|(table, _)| (table.as_str(), client.item.place("default-route-tables")))
    });
    marks.chain(routes).chain(rules).chain(clients).collect()
}
