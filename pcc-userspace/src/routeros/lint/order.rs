//! The order of rules: what never sees a packet, and what comes too late (7.21).

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Facts;
use super::walk::Packet;
use super::{Findings, also};
use crate::routeros::Span;
use crate::routeros::model::matcher::{ConnectionState, Matcher, Test};
use crate::routeros::model::rule::{Action, Rule};

const ID: &str = "lint-7.21";
/// Rules of one chain that are compared with each other.
const MOST_RULES: usize = 1_000;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for rules in [&facts.model.mangle, &facts.model.nat, &facts.model.filter, &facts.model.raw] {
        let active: Vec<_> = rules.iter().filter(|rule| rule.active()).collect();
        let chains: BTreeSet<_> = active.iter().map(|rule| (rule.family, rule.chain.as_str())).collect();
        for (family, chain) in chains {
            let chain: Vec<_> = active
                .iter()
                .copied()
                .filter(|rule| rule.family == family && rule.chain == chain)
                .take(MOST_RULES)
                .collect();
            shadowed(facts, &chain, findings);
            late_established(&chain, findings);
        }
        user_chains(&active, findings);
    }
    first_packets(facts, findings);
}

/// Every packet that `inner` matches also matches `outer`, as far as can be told from what does not change on the way.
pub(super) fn covers(facts: &Facts<'_>, outer: &Rule, inner: &Rule) -> bool {
    outer.matchers.iter().all(|wide| inner.matchers.iter().any(|narrow| implies(facts, narrow, wide)))
}

/// The same, apart from a `connection-mark=no-mark` of `outer`.
pub(super) fn covers_marked(facts: &Facts<'_>, outer: &Rule, inner: &Rule) -> bool {
    let no_mark = |matcher: &&Matcher| matcher.test == Test::ConnectionMark(None) && !matcher.negated;
    let mut wide = outer.matchers.iter().filter(|matcher| !no_mark(matcher));
    wide.all(|wide| inner.matchers.iter().any(|narrow| implies(facts, narrow, wide)))
}

fn implies(facts: &Facts<'_>, narrow: &Matcher, wide: &Matcher) -> bool {
    let stateful = matches!(&wide.test, Test::Nth { .. } | Test::Random(_))
        || matches!(&wide.test, Test::Other { name, .. } if matches!(name.as_str(), "limit" | "dst-limit" | "time" | "connection-limit" | "connection-rate"));
    if stateful {
        return false;
    }
    if narrow.negated == wide.negated && narrow.test == wide.test {
        return true;
    }
    if narrow.negated || wide.negated {
        return false;
    }
    match (&narrow.test, &wide.test) {
        (Test::InInterface(name), Test::InInterfaceList(list))
        | (Test::OutInterface(name), Test::OutInterfaceList(list)) => {
            facts.list_is_known(list) && facts.in_interface_list(name, list)
        }
        (Test::SourceAddress(narrow), Test::SourceAddress(wide))
        | (Test::DestinationAddress(narrow), Test::DestinationAddress(wide)) => wide.covers(narrow),
        (Test::ConnectionState(narrow), Test::ConnectionState(wide)) => narrow.iter().all(|state| wide.contains(state)),
        (Test::DestinationPort(narrow), Test::DestinationPort(wide))
        | (Test::SourcePort(narrow), Test::SourcePort(wide)) => {
            narrow.iter().all(|ports| wide.iter().any(|w| w.start() <= ports.start() && ports.end() <= w.end()))
        }
        _ => false,
    }
}

/// Rules that an earlier rule leaves nothing to.
fn shadowed(facts: &Facts<'_>, chain: &[&Rule], findings: &mut Findings) {
    let mut buried: BTreeMap<Span, (&Rule, Vec<Span>)> = BTreeMap::new();
    for (at, later) in chain.iter().enumerate() {
        let swallowed = chain[..at].iter().enumerate().find(|(from, earlier)| {
            earlier.ends() && covers(facts, earlier, later) && !marks_change(&chain[*from..at], earlier)
        });
        if let Some((_, earlier)) = swallowed {
            buried.entry(earlier.span()).or_insert((earlier, Vec::new())).1.push(later.span());
            continue;
        }
        if later.connection_mark() != Some((&None, false)) || later.pcc().is_some() {
            continue;
        }
        let marked = chain[..at].iter().find(|earlier| {
            matches!(&earlier.action, Action::MarkConnection(mark) if mark != "no-mark")
                && covers_marked(facts, earlier, later)
        });
        if let Some(earlier) = marked {
            let message = format!("never matches: line {} has marked all of its packets", earlier.span().line);
            findings.warning(ID, later.span(), message);
        }
    }
    for (span, (earlier, places)) in buried {
        let word = earlier.item.text("action").unwrap_or("accept");
        let message =
            format!("never matches: `{word}` at line {} takes all of its packets{}", span.line, also(&places));
        findings.warning(ID, places[0], message);
    }
}

/// A rule of `between` sets a mark that `rule` tests, so that the same test later tells something else.
fn marks_change(between: &[&Rule], rule: &Rule) -> bool {
    between.iter().any(|other| match &other.action {
        Action::MarkConnection(_) => rule.tests(|test| matches!(test, Test::ConnectionMark(_))),
        Action::MarkRouting(_) => rule.tests(|test| matches!(test, Test::RoutingMark(_))),
        Action::MarkPacket(_) => rule.tests(|test| matches!(test, Test::PacketMark(_))),
        Action::Jump(_) => {
            rule.tests(|test| matches!(test, Test::ConnectionMark(_) | Test::RoutingMark(_) | Test::PacketMark(_)))
        }
        _ => false,
    })
}

fn user_chains(rules: &[&Rule], findings: &mut Findings) {
    const BUILT_IN: [&str; 7] = ["prerouting", "input", "forward", "output", "postrouting", "srcnat", "dstnat"];
    let targets: BTreeSet<_> = rules
        .iter()
        .filter_map(|rule| match &rule.action {
            Action::Jump(target) => Some((rule.family, target.as_str())),
            _ => None,
        })
        .collect();
    let mut reported = BTreeSet::new();
    for rule in rules.iter().filter(|rule| !BUILT_IN.contains(&rule.chain.as_str()) && !rule.chain.is_empty()) {
        let chain = (rule.family, rule.chain.as_str());
        // HotSpot and the like jump to chains of these names by themselves.
        let dynamic =
            rule.chain.starts_with("hs-") || rule.chain.starts_with("pre-") || rule.chain == "unused-hs-chain";
        if !targets.contains(&chain) && !dynamic && reported.insert(chain) {
            findings.warning(ID, rule.span(), format!("chain `{}` is never entered: no rule jumps to it", rule.chain));
        }
    }
    for rule in rules {
        if let Action::Jump(target) = &rule.action
            && !rules.iter().any(|other| other.family == rule.family && other.chain == *target)
        {
            findings.warning(ID, rule.item.place("jump-target"), format!("chain `{target}` has no rules"));
        }
    }
}

/// Connections whose first packet takes another way than the rest.
fn first_packets(facts: &Facts<'_>, findings: &mut Findings) {
    for lan in &facts.lans {
        for hash in facts.hashes() {
            let first = Packet::new(&lan.interface, lan.host, facts.internet).hashed(hash);
            let begun = facts.walk("prerouting", &first);
            let later = facts.walk("prerouting", &first.clone().established(begun.connection_mark.clone()));
            let (Some(rule), Some(table)) = (begun.connection_rule, &later.routing_mark) else { continue };
            if begun.routing_mark == later.routing_mark {
                continue;
            }
            let reason = if begun.ended_by.is_some_and(|end| end.span() == rule.span()) {
                "`passthrough=no` ends the walk before the routing mark".to_owned()
            } else {
                let line = later.routing_rule.map_or(0, |rule| rule.span().line);
                format!("the rule at line {line} that sets the routing mark stands before it")
            };
            let message =
                format!("the first packet of a connection does not go to `{table}` like the others: {reason}");
            findings.warning(ID, rule.span(), message);
            findings.fix(if reason.starts_with('`') {
                "passthrough=yes".to_owned()
            } else {
                "move the `mark-routing` rules behind the `mark-connection` rules".to_owned()
            });
        }
    }
}

/// Filter chains that drop before they accept the answers of running connections.
fn late_established(chain: &[&Rule], findings: &mut Findings) {
    let accepts = chain.iter().position(|rule| {
        rule.action == Action::Accept
            && rule.matchers.len() == 1
            && rule.tests(
                |test| matches!(test, Test::ConnectionState(states) if states.contains(&ConnectionState::Established)),
            )
    });
    let Some(at) = accepts else { return };
    let drops = chain[..at]
        .iter()
        .find(|rule| rule.action == Action::Drop && !rule.tests(|test| matches!(test, Test::ConnectionState(_))));
    if let Some(drop) = drops {
        let message = format!(
            "running connections are accepted only here; `drop` at line {} comes first and cuts answers too",
            drop.span().line
        );
        findings.info(ID, chain[at].span(), message);
    }
}
