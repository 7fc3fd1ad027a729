//! PCC's arithmetic and choice of fields (7.2, 7.3, 7.20, 7.27, 7.29).

use std::collections::BTreeMap;

use super::Findings;
use super::facts::Facts;
use super::order::covers_marked;
use crate::routeros::model::matcher::Test;
use crate::routeros::model::rule::{Action, Rule};
use crate::routeros::model::values::Pcc;

/// Larger common denominators are not checked bucket by bucket.
const MOST_BUCKETS: u64 = 20_000;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let model = facts.model;
    for rules in [&model.mangle, &model.nat] {
        let pcc: Vec<_> = rules.iter().filter(|rule| rule.active() && rule.pcc().is_some()).collect();
        for rule in &pcc {
            single(rule, findings);
        }
        let mut groups: BTreeMap<_, Vec<&Rule>> = BTreeMap::new();
        for rule in pcc {
            groups.entry((rule.family, rule.chain.as_str(), other_matchers(rule))).or_default().push(rule);
        }
        for group in groups.values() {
            let all: Vec<_> = rules.iter().filter(|rule| rule.active()).collect();
            partition(facts, group, &all, findings);
        }
    }
    fields(facts, findings);
    protocols(facts, findings);
}

fn single(rule: &Rule, findings: &mut Findings) {
    let Some((pcc, negated)) = rule.pcc() else { return };
    let place = rule.item.place("per-connection-classifier");
    if pcc.remainder >= pcc.denominator {
        let often = if negated { "always" } else { "never" };
        let message =
            format!("{often} matches: remainder {} is not below denominator {}", pcc.remainder, pcc.denominator);
        findings.warning("lint-7.20", place, message);
    }
    if pcc.fields.bits() & 3 == 0 {
        let message =
            format!("`{}` puts all traffic without ports, such as ICMP and GRE, into one bucket", pcc.fields.name());
        findings.warning("lint-7.20", place, message);
    }
}

/// Whether the rules of `group`, which differ by PCC only, take every connection once.
fn partition(facts: &Facts<'_>, group: &[&Rule], all: &[&Rule], findings: &mut Findings) {
    let parts: Vec<(&Rule, Pcc, bool)> =
        group.iter().filter_map(|rule| rule.pcc().map(|(pcc, negated)| (*rule, pcc, negated))).collect();
    let Some(&(first, one, _)) = parts.first() else { return };
    let place = |rule: &Rule| rule.item.place("per-connection-classifier");
    if let Some((rule, other, _)) = parts.iter().find(|(_, pcc, _)| pcc.fields != one.fields) {
        let message = format!(
            "hashes `{}`, line {} hashes `{}`: together they do not divide the connections",
            other.fields.name(),
            first.span().line,
            one.fields.name()
        );
        findings.warning("lint-7.20", place(rule), message);
        return;
    }
    let common = parts.iter().try_fold(1_u64, |common, (_, pcc, _)| {
        let denominator = u64::from(pcc.denominator);
        let lcm = common / greatest_common_divisor(common, denominator) * denominator;
        (lcm <= MOST_BUCKETS).then_some(lcm)
    });
    let Some(common) = common else { return };
    let mut taken: Vec<Option<usize>> = vec![None; usize::try_from(common).unwrap_or(0)];
    let mut twice: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    for (at, (_, pcc, negated)) in parts.iter().enumerate() {
        for (bucket, owner) in (0_u64..).zip(taken.iter_mut()) {
            if (bucket % u64::from(pcc.denominator) == u64::from(pcc.remainder)) == *negated {
                continue;
            }
            match *owner {
                Some(before) => *twice.entry((before, at)).or_default() += 1,
                None => *owner = Some(at),
            }
        }
    }
    for (before, at) in twice.into_keys() {
        let (earlier, later) = (parts[before].0, parts[at].0);
        let wins = if later.connection_mark().is_some() || !earlier.passthrough {
            "the first one wins"
        } else {
            "the last one wins"
        };
        let message = match earlier.action == later.action {
            true => format!("takes connections that line {} takes already, for the same mark", earlier.span().line),
            false => format!("takes connections that line {} takes already; {wins}", earlier.span().line),
        };
        findings.warning("lint-7.20", place(later), message);
    }
    gaps(facts, &parts, &taken, all, findings);
}

fn gaps(
    facts: &Facts<'_>,
    parts: &[(&Rule, Pcc, bool)],
    taken: &[Option<usize>],
    all: &[&Rule],
    findings: &mut Findings,
) {
    let Some(&(last, ..)) = parts.last() else { return };
    let missing: Vec<_> =
        (0..).zip(taken).filter(|(_, owner)| owner.is_none()).map(|(bucket, _): (u64, _)| bucket).collect();
    let caught = all.iter().any(|rule| {
        rule.span() > last.span()
            && rule.chain == last.chain
            && rule.family == last.family
            && rule.pcc().is_none()
            && std::mem::discriminant(&rule.action) == std::mem::discriminant(&last.action)
            && covers_marked(facts, rule, last)
    });
    if missing.is_empty() || caught {
        return;
    }
    let share = missing.len() * 100 / taken.len();
    let list: Vec<_> = missing.iter().take(6).map(|bucket| format!("{}/{bucket}", taken.len())).collect();
    let more = if missing.len() > 6 { ", …" } else { "" };
    let message =
        format!("no rule takes {}{more}: {share} % of the connections stay unmarked and use main", list.join(", "));
    findings.warning("lint-7.20", last.item.place("per-connection-classifier"), message);
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// All matchers but PCC and the connection mark, in a comparable form.
fn other_matchers(rule: &Rule) -> Vec<String> {
    let others = rule.matchers.iter().filter(|m| !matches!(m.test, Test::Pcc(_) | Test::ConnectionMark(_)));
    let mut others: Vec<_> = others.map(|matcher| format!("{}{:?}", matcher.negated, matcher.test)).collect();
    others.sort();
    others
}

fn fields(facts: &Facts<'_>, findings: &mut Findings) {
    let Some((rule, (pcc, _))) = facts.pcc_rules().find_map(|rule| Some((rule, rule.pcc()?))) else { return };
    let place = rule.item.place("per-connection-classifier");
    let by_source_port = facts.pcc_rules().find(|rule| rule.pcc().is_some_and(|(pcc, _)| pcc.fields.bits() & 4 != 0));
    match by_source_port.filter(|rule| rule.chain == "prerouting") {
        Some(rule) if !pins_https(facts, 6) => {
            let message =
                "hashes the source port: sites that tie a login to the client's address see several addresses";
            findings.warning("lint-7.2", rule.item.place("per-connection-classifier"), message);
            findings.fix("per-connection-classifier=both-addresses:…");
        }
        _ => {
            let message = format!(
                "balances connections by `{}`: one download or speed test never uses more than one uplink",
                pcc.fields.name()
            );
            findings.info("lint-7.3", place, message);
        }
    }
    findings.info("lint-7.27", place, "RouterOS draws a new hash seed at each boot, so clients change uplinks then");
}

/// One site, several protocols, different rules.
fn protocols(facts: &Facts<'_>, findings: &mut Findings) {
    let of = |rule: &Rule, number: u8| rule.matchers.iter().any(|m| !m.negated && m.test == Test::Protocol(number));
    let tcp: Vec<_> = facts.pcc_rules().filter(|rule| of(rule, 6)).collect();
    let shape = |rule: &Rule| (rule.pcc(), rule.action.clone());
    let unlike = tcp.iter().find(|rule| !facts.pcc_rules().any(|other| of(other, 17) && shape(other) == shape(rule)));
    if let Some(rule) = unlike {
        let message = "balances TCP by a rule of its own: UDP (QUIC) to the same site may take another uplink";
        findings.warning("lint-7.29", rule.span(), message);
    }
    if facts.pcc_rules().next().is_some() && pins_https(facts, 6) && !pins_https(facts, 17) {
        let pin = facts.mangle.iter().find(|rule| is_https_pin(rule, 6));
        let message = "pins HTTPS over TCP only: QUIC (UDP port 443) to the same site may take another uplink";
        findings.warning("lint-7.29", pin.map_or_else(Default::default, |rule| rule.span()), message);
        findings.fix("the same rule with protocol=udp");
    }
}

/// A rule decides about HTTPS connections of every client before PCC does.
fn pins_https(facts: &Facts<'_>, protocol: u8) -> bool {
    facts.mangle.iter().any(|rule| is_https_pin(rule, protocol))
}

fn is_https_pin(rule: &Rule, protocol: u8) -> bool {
    rule.chain == "prerouting"
        && rule.pcc().is_none_or(|(pcc, _)| pcc.fields.bits() & 12 == 0)
        && matches!(rule.action, Action::MarkConnection(_) | Action::MarkRouting(_))
        && rule.tests(|test| *test == Test::Protocol(protocol))
        && rule.tests(|test| match test {
            Test::DestinationPort(ports) => ports.iter().any(|range| range.contains(&443)),
            _ => false,
        })
}
