//! What the compilation of one rule needs from outside it, and what it leaves behind: sets, counters, notes.

use std::collections::BTreeMap;

use pcc_ebpf::abi::{NTH_COUNTERS, Op, STEPS};

use super::expression::Expression;
use super::{BROADCAST, LOCAL, Set, SetSource};
use crate::mirror::names::{Devices, Names};
use crate::routeros::model::Model;
use crate::routeros::model::matcher::Test;
use crate::routeros::model::rule::Rule;
use crate::routeros::{Note, Severity, Span};

/// The configuration and the results so far.
pub struct Context<'a> {
    pub model: &'a Model,
    pub names: &'a Names,
    pub devices: &'a Devices,
    sets: Vec<Set>,
    /// Counters of the rules that have one.
    nth: BTreeMap<usize, u32>,
    notes: Vec<Note>,
    too_long: bool,
}

impl<'a> Context<'a> {
    pub const fn new(model: &'a Model, names: &'a Names, devices: &'a Devices) -> Self {
        Self { model, names, devices, sets: Vec::new(), nth: BTreeMap::new(), notes: Vec::new(), too_long: false }
    }

    /// The sets, the number of counters and the notes, by place and each once.
    pub fn finish(self) -> (Vec<Set>, u32, Vec<Note>) {
        let Self { sets, nth, mut notes, .. } = self;
        notes.sort_by(|a, b| (a.span, b.severity, a.id, &a.message).cmp(&(b.span, a.severity, b.id, &b.message)));
        notes.dedup();
        (sets, u32::try_from(nth.len()).unwrap_or(u32::MAX), notes)
    }

    /// Adds a note with a fix.
    pub fn note(
        &mut self,
        severity: Severity,
        id: &'static str,
        span: Span,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.notes.push(Note::new(severity, id, span, message).with_fix(fix));
    }

    /// Adds a note about what is good to know.
    pub fn info(&mut self, id: &'static str, span: Span, message: impl Into<String>) {
        self.notes.push(Note::new(Severity::Info, id, span, message));
    }

    /// Says once that the program has no room for the steps of `rule`.
    pub fn too_long(&mut self, rule: usize) {
        if !std::mem::replace(&mut self.too_long, true) {
            let message = format!("with this rule the compiled rules are longer than {STEPS} steps");
            let fix = "use address lists instead of many rules, and fewer jumps: a chain is put in at each of them";
            self.note(Severity::Error, "mirror-size", self.model.mangle[rule].span(), message, fix);
        }
    }

    /// Refuses the jump of `rule`.
    pub fn bad_jump(&mut self, rule: usize, message: String) {
        let span = self.model.mangle[rule].item.place("jump-target");
        self.note(
            Severity::Error,
            "mirror-chain",
            span,
            message,
            "jump to a chain of its own name that ends or returns",
        );
    }

    /// The tests of a rule in the order in which they are made, with the index of their matcher; `None` if one of them is
    /// refused.
    ///
    /// `nth` counts what reaches it, so it comes behind all others but PCC, as in RouterOS. The others commute: first what
    /// costs least, last what differs from packet to packet, so that few decisions depend on it.
    pub fn tests(&mut self, rule: usize) -> Option<Vec<(usize, Expression)>> {
        let matchers = &self.model.mangle[rule].matchers;
        let mut tests: Vec<_> = (0..matchers.len()).map(|at| (at, self.matcher(rule, at))).collect();
        let counts = matchers.iter().any(|matcher| matches!(matcher.test, Test::Nth { .. }));
        tests.sort_by_key(|(at, _)| rank(&matchers[*at].test, counts));
        tests.into_iter().map(|(at, test)| Some((at, test?))).collect()
    }

    /// A test of the addresses in `source`: the source address if `op` is [`Op::SourceSet`].
    pub fn set(&mut self, op: Op, source: SetSource) -> Expression {
        if let Some(known) = self.sets.iter().find(|set| set.source == source) {
            return Expression::test(op, known.number, 0);
        }
        let number = match source {
            SetSource::Local => LOCAL,
            SetSource::Broadcast => BROADCAST,
            SetSource::List(_) | SetSource::Prefixes(_) => {
                self.sets.iter().map(|set| set.number).fold(BROADCAST, u32::max) + 1
            }
        };
        self.sets.push(Set { number, source });
        Expression::test(op, number, 0)
    }

    /// The counter of the `nth` matcher of `rule`.
    pub fn counter(&mut self, rule: usize, span: Span) -> Option<u32> {
        let next = u32::try_from(self.nth.len()).unwrap_or(u32::MAX);
        if next >= NTH_COUNTERS && !self.nth.contains_key(&rule) {
            let message = format!("more than {NTH_COUNTERS} rules with `nth`");
            self.note(Severity::Error, "mirror-size", span, message, "divide with `per-connection-classifier` instead");
            return None;
        }
        Some(*self.nth.entry(rule).or_insert(next))
    }
}

fn rank(test: &Test, counts: bool) -> u32 {
    match test {
        Test::InInterface(_) | Test::InInterfaceList(_) => 0,
        Test::ConnectionMark(_) | Test::RoutingMark(_) | Test::PacketMark(_) | Test::Protocol(_) => 1,
        Test::SourceAddress(_) | Test::DestinationAddress(_) => 2,
        Test::SourcePort(_) | Test::DestinationPort(_) | Test::AnyPort(_) => 3,
        Test::SourceAddressList(_)
        | Test::DestinationAddressList(_)
        | Test::SourceAddressType(_)
        | Test::DestinationAddressType(_) => 4,
        Test::Pcc(_) if !counts => 5,
        Test::ConnectionState(_) => 6,
        Test::Random(_) => 8,
        Test::Nth { .. } => 9,
        Test::Pcc(_) => 10,
        _ => 7,
    }
}

/// `rule` has a matcher for one of the protocols that `wanted` accepts.
pub fn has_protocol(rule: &Rule, wanted: impl Fn(u8) -> bool) -> bool {
    rule.matchers.iter().any(|matcher| match matcher.test {
        Test::Protocol(number) => !matcher.negated && wanted(number),
        _ => false,
    })
}
