//! Names of marks: set and used, alike, contradictory (7.7).

use std::collections::BTreeMap;

use super::facts::Facts;
use super::order::covers;
use super::{Findings, also, quoted};
use crate::routeros::Span;
use crate::routeros::model::item::Item;
use crate::routeros::model::matcher::Test;
use crate::routeros::model::route::MAIN;
use crate::routeros::model::rule::{Action, Rule};

const ID: &str = "lint-7.7";

/// Names with the places where they stand.
type Names<'a> = BTreeMap<&'a str, Vec<Span>>;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    connection_marks(facts, findings);
    routing_marks(facts, findings);
    contradictions(facts, findings);
    shared_tables(facts, findings);
}

fn connection_marks(facts: &Facts<'_>, findings: &mut Findings) {
    let model = facts.model;
    // Rules with lost values still show which names belong together.
    let rules =
        || [&model.mangle, &model.nat, &model.filter, &model.raw].into_iter().flatten().filter(|r| !r.item.disabled());
    let (mut set, mut used) = (Names::new(), Names::new());
    for rule in rules() {
        collect(&mut set, &rule.item, "new-connection-mark");
        collect(&mut used, &rule.item, "connection-mark");
    }
    let disabled = model.mangle.iter().filter(|rule| rule.item.disabled());
    let asleep: Vec<_> = disabled.filter_map(|rule| rule.item.text("new-connection-mark")).collect();
    let lonely: Vec<_> = set.keys().filter(|name| !used.contains_key(**name)).copied().collect();
    let strange: Vec<_> =
        used.keys().filter(|name| !set.contains_key(**name) && !asleep.contains(name)).copied().collect();
    for name in &lonely {
        let spans = &set[name];
        let message = format!("connection mark `{name}` is set, but no rule uses it{}", also(spans));
        findings.error(ID, spans[0], message);
        if let Some(other) = twin(name, &strange) {
            findings.fix(format!("`{other}` is used but never set; perhaps new-connection-mark={other}"));
        }
    }
    for name in strange.into_iter().filter(|_| !set.is_empty()) {
        let spans = &used[name];
        findings.error(ID, spans[0], format!("no rule sets connection mark `{name}`{}", also(spans)));
        if let Some(other) = twin(name, &lonely) {
            findings.fix(format!("connection-mark={other}"));
        }
    }
}

fn routing_marks(facts: &Facts<'_>, findings: &mut Findings) {
    let model = facts.model;
    let mut set = Names::new();
    for rule in model.mangle.iter().filter(|rule| !rule.item.disabled()) {
        collect(&mut set, &rule.item, "new-routing-mark");
    }
    let mut tables = Names::new();
    for route in model.routes.iter().filter(|route| !route.item.disabled() && route.table != MAIN) {
        tables.entry(&route.table).or_default().push(route.span());
    }
    let clients = model.clients.iter().flat_map(|client| &client.tables).map(|(table, _)| table.as_str());
    let vrfs = model.vrfs.iter().flat_map(|vrf| [vrf.text("name"), vrf.text("routing-mark")]).flatten();
    let rules = model.rules.iter().filter_map(|rule| rule.mark.as_deref());
    let elsewhere: Vec<_> = clients.chain(vrfs).chain(rules).collect();
    let nowhere: Vec<_> = set
        .keys()
        .filter(|name| !tables.contains_key(**name) && !elsewhere.contains(name) && **name != MAIN)
        .copied()
        .collect();
    let unreached: Vec<_> = tables
        .keys()
        .filter(|name| {
            let ruled = model.rules.iter().any(|rule| rule.table.as_deref() == Some(**name));
            !set.contains_key(**name) && !elsewhere.contains(name) && !ruled
        })
        .copied()
        .collect();
    if let (true, Some(first)) = (tables.is_empty(), nowhere.first()) {
        let message = format!(
            "no route of this text belongs to a routing mark ({}); is it a part of a configuration?",
            quoted(&nowhere)
        );
        findings.info(ID, set[first][0], message);
        return;
    }
    for name in &nowhere {
        let spans = &set[name];
        let message = format!("routing mark `{name}` has no route; its packets use main{}", also(spans));
        findings.error(ID, spans[0], message);
        let property = if facts.is_v7() { "routing-table" } else { "routing-mark" };
        findings.fix(match twin(name, &unreached) {
            Some(other) => format!("new-routing-mark={other}"),
            None => format!("/ip route add gateway=GATEWAY {property}={name} check-gateway=ping"),
        });
    }
    for name in unreached {
        let spans = &tables[name];
        findings.warning(ID, spans[0], format!("no rule sends packets to table `{name}`{}", also(spans)));
    }
}

/// Two rules of a chain match the same packets and send them to different tables.
fn contradictions(facts: &Facts<'_>, findings: &mut Findings) {
    let marking: Vec<_> = facts.mangle.iter().filter(|rule| routing_mark(rule).is_some()).collect();
    for (at, first) in marking.iter().enumerate() {
        let second = marking[at + 1..].iter().find(|second| {
            second.chain == first.chain
                && first.passthrough
                && routing_mark(first) != routing_mark(second)
                && first.pcc().is_none()
                && covers(facts, second, first)
                && covers(facts, first, second)
        });
        if let Some(second) = second {
            let mark = second.connection_mark().and_then(|(mark, _)| mark.as_deref());
            let what = mark.map_or("the same packets".to_owned(), |mark| format!("connection mark `{mark}`"));
            let message = format!(
                "sends {what} to `{}`, which line {} sends to `{}`; this rule wins for both",
                routing_mark(second).unwrap_or_default(),
                first.span().line,
                routing_mark(first).unwrap_or_default(),
            );
            findings.error(ID, second.item.place("connection-mark"), message);
            let unused = facts.mangle.iter().find_map(|rule| match &rule.action {
                Action::MarkConnection(set) if !uses(facts, set) => Some(set),
                _ => None,
            });
            if let Some(unused) = unused {
                findings.fix(format!("connection-mark={unused}"));
            }
        }
    }
}

/// Connections of two uplinks go to one table.
fn shared_tables(facts: &Facts<'_>, findings: &mut Findings) {
    let mut seen: Vec<(&str, &str, &str, String)> = Vec::new();
    for rule in &facts.mangle {
        let (Some(table), Some((Some(mark), false))) = (routing_mark(rule), rule.connection_mark()) else { continue };
        let Some(uplink) = inbound_uplink(facts, mark) else { continue };
        let clash = seen.iter().find(|(chain, other, known, from)| {
            *chain == rule.chain && *other == table && known != mark && *from != uplink
        });
        if let Some((_, _, other, from)) = clash {
            let message = format!(
                "connections of uplink `{uplink}` (mark `{mark}`) go to table `{table}`, like those of `{from}` (mark `{other}`)"
            );
            findings.error(ID, rule.item.place("new-routing-mark"), message);
        }
        seen.push((&rule.chain, table, mark, uplink));
    }
}

/// The one uplink on which connections get `mark` when they come in.
fn inbound_uplink(facts: &Facts<'_>, mark: &str) -> Option<String> {
    let setting = facts.mangle.iter().filter(|rule| matches!(&rule.action, Action::MarkConnection(set) if set == mark));
    let mut uplinks = setting.flat_map(|rule| &rule.matchers).filter_map(|matcher| match &matcher.test {
        Test::InInterface(name) if !matcher.negated && facts.is_uplink(name) => Some(name),
        _ => None,
    });
    let first = uplinks.next()?;
    uplinks.all(|other| other == first).then(|| first.clone())
}

fn routing_mark(rule: &Rule) -> Option<&str> {
    match &rule.action {
        Action::MarkRouting(mark) => Some(mark),
        _ => None,
    }
}

fn uses(facts: &Facts<'_>, mark: &str) -> bool {
    let all = [&facts.model.mangle, &facts.model.nat, &facts.model.filter];
    all.into_iter()
        .flatten()
        .any(|rule| rule.item.text("connection-mark").is_some_and(|text| text.trim_start_matches('!') == mark))
}

fn collect<'a>(names: &mut Names<'a>, item: &'a Item, property: &str) {
    if let Some(name) = item.text(property).map(|text| text.trim_start_matches('!')).filter(|name| *name != "no-mark") {
        names.entry(name).or_default().push(item.place(property));
    }
}

/// The name among `others` that `name` was probably meant to be.
fn twin<'a>(name: &str, others: &[&'a str]) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace(['-', '_', ' '], "");
    let alike = others.iter().find(|other| plain(other) == plain(name));
    alike.copied().or(if let [only] = others { Some(only) } else { None })
}
