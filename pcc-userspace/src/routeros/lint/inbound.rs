//! Connections that come in on an uplink: are their answers sent back by it (7.6)?

use super::facts::{Facts, Uplink};
use super::walk::{Outcome, Packet};
use super::{Findings, also, quoted};
use crate::routeros::Span;
use crate::routeros::model::matcher::{ConnectionState, Test};
use crate::routeros::model::rule::{Action, Rule};

const ID: &str = "lint-7.6";

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    rehashed(facts, findings);
    answers_marked(facts, findings);
    if facts.uplinks.len() < 2 || facts.pcc_rules().next().is_none() {
        return;
    }
    let mut unmarked: Vec<&Uplink> = Vec::new();
    let mut input_only: Vec<Span> = Vec::new();
    for uplink in &facts.uplinks {
        let router = to_router(facts, uplink, findings);
        let forwarded = to_host(facts, uplink, findings);
        match (router, forwarded) {
            (Answer::Unmarked | Answer::Settled, Answer::Unmarked) => unmarked.push(uplink),
            (Answer::Marked(rule), Answer::Unmarked) => input_only.push(rule.span()),
            _ => {}
        }
    }
    report_unmarked(facts, &unmarked, findings);
    if let Some(first) = input_only.first() {
        let forwards =
            facts.model.nat.iter().find(|rule| rule.active() && matches!(rule.action, Action::DestinationNat(_)));
        let message = format!(
            "connections are marked in chain input only, so that port-forwarded ones are not{}",
            also(&input_only)
        );
        match forwards {
            Some(rule) => {
                let message =
                    format!("{message}; the answers of the server of line {} take any uplink", rule.span().line);
                findings.error(ID, *first, message);
            }
            None => findings.warning(ID, *first, message),
        }
        findings.fix("chain=prerouting connection-mark=no-mark, before the rules with per-connection-classifier");
    }
}

/// What becomes of the answer to a connection that came in.
enum Answer<'a> {
    /// The connection gets no mark, and its answer does not find back for certain.
    Unmarked,
    /// This rule marks the connection.
    Marked(&'a Rule),
    /// The answer goes back by itself, or a finding says why not.
    Settled,
}

/// A connection to the router itself.
fn to_router<'a>(facts: &Facts<'a>, uplink: &Uplink, findings: &mut Findings) -> Answer<'a> {
    let first = Packet::new(&uplink.interface, facts.internet, uplink.address).into_router();
    let prerouting = facts.walk("prerouting", &first);
    let input = facts.walk("input", &Packet { connection_mark: prerouting.connection_mark.clone(), ..first });
    let marked_by = input.connection_rule.or(prerouting.connection_rule);
    let mut answer = Packet::new("", uplink.address, facts.internet).established(input.connection_mark.clone());
    answer.from_router = true;
    answer.out_interface = facts.egress(None).unwrap_or_default();
    let output = facts.walk("output", &answer);
    let egress = facts.egress(output.routing_mark.as_deref());
    let Some(rule) = marked_by else {
        return if egress.as_deref() == Some(&uplink.interface) { Answer::Settled } else { Answer::Unmarked };
    };
    let mark = input.connection_mark.as_deref().unwrap_or_default();
    match (output.routing_rule, egress) {
        (_, Some(egress)) if egress == uplink.interface => {}
        (Some(routing), Some(egress)) => wrong_uplink(routing, mark, uplink, &egress, findings),
        // A mark that no rule uses at all is a matter of 7.7.
        (None, _) if table_of(facts, mark).is_some() => {
            let message = format!(
                "connections marked `{mark}` come in on `{}`, but no rule in chain output routes their answers",
                uplink.interface
            );
            findings.error(ID, rule.span(), message);
            findings.fix(format!(
                "/ip firewall mangle add chain=output connection-mark={mark} action=mark-routing new-routing-mark={}",
                table_of(facts, mark).unwrap_or("TABLE")
            ));
        }
        _ => {}
    }
    Answer::Marked(rule)
}

/// A connection to a host behind the router, by a port forward.
fn to_host<'a>(facts: &Facts<'a>, uplink: &Uplink, findings: &mut Findings) -> Answer<'a> {
    let Some(lan) = facts.balanced_lan() else { return Answer::Settled };
    let first = Packet::new(&uplink.interface, facts.internet, uplink.address).into_router();
    let prerouting = facts.walk("prerouting", &first);
    let mut inside = Packet::new(&uplink.interface, facts.internet, lan.host);
    inside.out_interface.clone_from(&lan.interface);
    inside.connection_mark.clone_from(&prerouting.connection_mark);
    let forward = facts.walk("forward", &inside);
    let mark = forward.connection_mark.clone();
    let answers = facts.hashes().map(|hash| {
        let answer = Packet::new(&lan.interface, lan.host, facts.internet).established(mark.clone()).hashed(hash);
        facts.walk("prerouting", &answer)
    });
    let goes_back = |answer: &Outcome<'_>| {
        facts.egress(answer.routing_mark.as_deref()).is_some_and(|egress| egress == uplink.interface)
    };
    let Some(rule) = forward.connection_rule.or(prerouting.connection_rule) else {
        return if answers.into_iter().all(|answer| goes_back(&answer)) { Answer::Settled } else { Answer::Unmarked };
    };
    let name = mark.as_deref().unwrap_or_default();
    for answer in answers {
        if goes_back(&answer) || answer.connection_mark != mark {
            // Overwritten marks are reported once, by rule.
            continue;
        }
        match (answer.routing_rule, facts.egress(answer.routing_mark.as_deref())) {
            (Some(routing), Some(egress)) => wrong_uplink(routing, name, uplink, &egress, findings),
            (None, _) if !findings.0.iter().any(|note| note.span == rule.span()) => {
                let message =
                    format!("no rule in chain prerouting routes the answers of local servers on mark `{name}`");
                findings.error(ID, rule.span(), message);
            }
            _ => {}
        }
    }
    Answer::Marked(rule)
}

fn wrong_uplink(routing: &Rule, mark: &str, uplink: &Uplink, egress: &str, findings: &mut Findings) {
    let message = format!(
        "connections that come in on `{}` have mark `{mark}`, but this rule sends their answers out by `{egress}`",
        uplink.interface
    );
    findings.error("lint-7.7", routing.item.place("new-routing-mark"), message);
}

fn report_unmarked(facts: &Facts<'_>, unmarked: &[&Uplink], findings: &mut Findings) {
    // One uplink without marks may be the one that main prefers, if the text does not tell which that is.
    if unmarked.is_empty() || unmarked.len() == 1 && facts.egress(None).is_none() {
        return;
    }
    let cut = unmarked.iter().find_map(|uplink| {
        let first = Packet::new(&uplink.interface, facts.internet, uplink.address).into_router();
        let walk = facts.walk("prerouting", &first);
        let end = walk.ended_by?;
        let behind = facts.mangle.iter().find(|rule| {
            rule.chain == "prerouting"
                && rule.span() > end.span()
                && matches!(rule.action, Action::MarkConnection(_))
                && facts.matches(rule, &first, &walk)
        })?;
        Some((end, behind))
    });
    let names = quoted(unmarked.iter().map(|uplink| &uplink.interface));
    if let Some((end, behind)) = cut {
        let message = format!(
            "connections that come in on {names} get no mark: this rule ends their walk before the mark of line {}",
            behind.span().line
        );
        findings.error(ID, end.span(), message);
        findings.fix(format!("remove this rule, and add connection-mark=no-mark to line {}", behind.span().line));
        return;
    }
    let Some(first) = facts.pcc_rules().next() else { return };
    let message =
        format!("connections that come in on {names} get no mark, so that their answers may leave by another uplink");
    findings.error(ID, first.span(), message);
    let rules: Vec<_> = unmarked
        .iter()
        .map(|uplink| {
            format!(
                "/ip firewall mangle add chain=prerouting in-interface={} connection-mark=no-mark action=mark-connection \
                 new-connection-mark={} place-before=0",
                uplink.interface,
                mark_of(facts, uplink).unwrap_or("MARK"),
            )
        })
        .collect();
    findings.fix(rules.join("\n"));
}

/// PCC rules that also match the later packets of a connection that has another mark.
fn rehashed(facts: &Facts<'_>, findings: &mut Findings) {
    let mut offending: Vec<_> = facts
        .pcc_rules()
        .filter(|rule| {
            let once = rule.tests(|test| match test {
                Test::ConnectionMark(_) => true,
                Test::ConnectionState(states) => !states.contains(&ConnectionState::Established),
                _ => false,
            });
            rule.chain == "prerouting" && matches!(rule.action, Action::MarkConnection(_)) && !once
        })
        .collect();
    for lan in &facts.lans {
        // The mark of a connection that came in, whatever its name.
        let answer = Packet::new(&lan.interface, lan.host, facts.internet).established(Some(String::new()));
        let walks = facts.hashes().map(|hash| facts.walk("prerouting", &answer.hashed(hash)));
        let in_user_chain = walks.filter_map(|walk| walk.connection_rule).filter(|rule| rule.pcc().is_some());
        for rule in in_user_chain.filter(|rule| rule.chain != "prerouting") {
            if !offending.iter().any(|known| known.span() == rule.span()) {
                offending.push(rule);
            }
        }
    }
    let Some(first) = offending.first() else { return };
    let spans: Vec<_> = offending.iter().map(|rule| rule.span()).collect();
    let marked_before = facts.mangle.iter().find(|rule| {
        let inbound = rule.tests(|test| match test {
            Test::InInterface(name) => facts.is_uplink(name),
            _ => false,
        });
        matches!(rule.action, Action::MarkConnection(_))
            && matches!(rule.chain.as_str(), "prerouting" | "forward")
            && inbound
    });
    let lines = also(&spans);
    match marked_before {
        Some(inbound) => {
            let message = format!(
                "without `connection-mark=no-mark` the answers of local servers lose the mark of line {}{lines}",
                inbound.span().line
            );
            findings.error(ID, first.span(), message);
        }
        None => {
            let message = format!(
                "without `connection-mark=no-mark` every packet is hashed again, answers to inbound connections too{lines}"
            );
            findings.warning(ID, first.span(), message);
        }
    }
    findings.fix("connection-mark=no-mark");
}

/// Rules on an uplink that also mark the answers to connections from inside.
fn answers_marked(facts: &Facts<'_>, findings: &mut Findings) {
    let spans: Vec<_> = facts
        .mangle
        .iter()
        .filter(|rule| {
            let uplink = rule.matchers.iter().any(|matcher| match &matcher.test {
                Test::InInterface(name) => !matcher.negated && facts.is_uplink(name),
                _ => false,
            });
            let whole = rule.matchers.len() == 1;
            rule.chain == "prerouting" && matches!(rule.action, Action::MarkConnection(_)) && uplink && whole
        })
        .map(|rule| rule.span())
        .collect();
    if let Some(first) = spans.first() {
        let message = format!(
            "without `connection-mark=no-mark` answers to connections from inside change their mark, too{}",
            also(&spans)
        );
        findings.info(ID, *first, message);
        findings.fix("connection-mark=no-mark");
    }
}

/// The table to which rules send connections with `mark`.
fn table_of<'a>(facts: &Facts<'a>, mark: &str) -> Option<&'a str> {
    facts.mangle.iter().find_map(|rule| match (&rule.action, rule.connection_mark()) {
        (Action::MarkRouting(table), Some((Some(tested), false))) if tested == mark => Some(table.as_str()),
        _ => None,
    })
}

/// The connection mark whose table leads to `uplink`.
fn mark_of<'a>(facts: &Facts<'a>, uplink: &Uplink) -> Option<&'a str> {
    facts.mangle.iter().find_map(|rule| match (&rule.action, rule.connection_mark()) {
        (Action::MarkRouting(table), Some((Some(mark), false))) => {
            (facts.egress(Some(table)).as_deref() == Some(&uplink.interface)).then_some(mark.as_str())
        }
        _ => None,
    })
}
