//! Pure: `[[rule]]` as [`Step`]s for the walk in the kernel.
//!
//! The rules of IPv4 and of IPv6 are one program each, in one array. A rule is its tests, each leading to the next rule
//! where it fails, and one step that names its policy and ends the walk.

use std::collections::BTreeMap;

use ipnet::IpNet;
use pcc_ebpf::abi::{Op, POLICIES, POLICY_DEFAULT, POLICY_MAIN, Step};
use pcc_ebpf::classify::HashFields;

use crate::config::rule::{Condition, Decision, Policy, Rule};
use crate::host::Family;
use crate::mirror::compile::assemble::{Assembler, END};
use crate::mirror::compile::expression::Expression;
use crate::mirror::compile::{Part, Place};

#[cfg(test)]
mod tests;

/// Prefixes of one family that all sets may have together: two programs are there while one replaces the other.
pub const MEMBERS: usize = 1 << 19;
/// So many prefixes are compared one by one; more become a set.
const INLINE: usize = 3;

/// Compiled rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Step 0 is the end.
    pub steps: Vec<Step>,
    /// First steps of the IPv4 and of the IPv6 rules; 0: there are none.
    pub first: [u32; 2],
    /// Sets by number, each with prefixes of one family.
    pub sets: Vec<(u32, Vec<IpNet>)>,
}

/// What is wrong with rules that are right each for itself, with the index of the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No packet can match it.
    Never(usize),
    /// A rule before it matches everything.
    Shadowed(usize),
    /// There are more policies than tables.
    Policies(usize),
    /// The program is longer than the map.
    Steps(usize),
    /// There are more than [`MEMBERS`].
    Prefixes(usize),
}

/// The policies of `rules` by number, the default one first.
pub fn policies(rules: &[Rule], hash: HashFields) -> Vec<Policy> {
    let mut policies = vec![Policy::default_of(hash)];
    for rule in rules {
        if let Decision::Policy(policy) = &rule.decision
            && !policies.contains(policy)
        {
            policies.push(policy.clone());
        }
    }
    policies
}

/// Compiles `rules`. With a fault the program must not be used.
pub fn compile(rules: &[Rule], hash: HashFields) -> (Program, Vec<Fault>) {
    let policies = policies(rules, hash);
    let mut compiler = Compiler { assembler: Assembler::default(), sets: BTreeMap::new(), members: [0; 2] };
    let mut faults = Vec::new();
    let mut possible = vec![false; rules.len()];
    let mut first = [0; 2];
    if let Some(index) = rules.iter().position(Rule::matches_everything)
        && index + 1 < rules.len()
    {
        faults.push(Fault::Shadowed(index + 1));
    }
    for (first, family) in first.iter_mut().zip(Family::BOTH) {
        let begin = compiler.assembler.begin();
        for (index, rule) in rules.iter().enumerate() {
            possible[index] |= compiler.rule(rule, index, number(&policies, &rule.decision), family);
            if compiler.assembler.is_full() {
                faults.push(Fault::Steps(index));
            } else if compiler.members.iter().any(|members| *members > MEMBERS) {
                faults.push(Fault::Prefixes(index));
            } else if number(&policies, &rule.decision) == POLICY_MAIN + 1 {
                faults.push(Fault::Policies(index));
            } else {
                continue;
            }
            return (Program::default(), faults);
        }
        if compiler.assembler.finish() {
            *first = begin;
        }
    }
    faults
        .extend(possible.iter().enumerate().filter(|(_, possible)| !**possible).map(|(index, _)| Fault::Never(index)));
    let (steps, _) = compiler.assembler.into_steps();
    let sets = compiler.sets.into_iter().map(|(prefixes, number)| (number, prefixes)).collect();
    (Program { steps, first, sets }, faults)
}

/// The number of the policy of `decision`; one above [`POLICY_MAIN`] for one too many.
fn number(policies: &[Policy], decision: &Decision) -> u32 {
    let Decision::Policy(policy) = decision else { return POLICY_MAIN };
    let found = policies.iter().zip(POLICY_DEFAULT..POLICIES).find(|(known, _)| *known == policy);
    found.map_or(POLICY_MAIN + 1, |(_, number)| number)
}

struct Compiler {
    assembler: Assembler,
    /// Numbers of the sets.
    sets: BTreeMap<Vec<IpNet>, u32>,
    members: [usize; 2],
}

impl Compiler {
    /// Appends a rule; false if no packet of `family` can match it.
    fn rule(&mut self, rule: &Rule, index: usize, policy: u32, family: Family) -> bool {
        let parts = [
            condition(&rule.interfaces, |lan| Expression::test(Op::Device, device_number(*lan), 0)),
            condition(&rule.protocols, |protocol| Expression::test(Op::Protocol, u32::from(*protocol), 0)),
            condition(&rule.source_ports, |range| {
                Expression::test(Op::SourcePort, u32::from(*range.start()), u32::from(*range.end()))
            }),
            condition(&rule.destination_ports, |range| {
                Expression::test(Op::DestinationPort, u32::from(*range.start()), u32::from(*range.end()))
            }),
            self.addresses(&rule.source, [Op::SourcePrefix, Op::SourceSet], family),
            self.addresses(&rule.destination, [Op::DestinationPrefix, Op::DestinationSet], family),
        ];
        let matched = Expression::all(parts);
        let place = |part| Place { rule: index, part };
        let assembler = &mut self.assembler;
        match matched {
            Expression::Constant(false) => return false,
            Expression::Constant(true) => assembler.action(Op::Policy, policy, END, place(Part::Action)),
            test => {
                let (decide, next) = (assembler.label(), assembler.label());
                assembler.test(&test, decide, next, place(Part::Matcher(0)));
                assembler.bind(decide);
                assembler.action(Op::Policy, policy, END, place(Part::Action));
                assembler.bind(next);
            }
        }
        true
    }

    /// `ops` look at a prefix and at a set.
    fn addresses(&mut self, condition: &Condition<IpNet>, ops: [Op; 2], family: Family) -> Expression {
        let of = |nets: &[IpNet]| -> Vec<IpNet> {
            nets.iter().copied().filter(|net| Family::of(net.addr()) == family).collect()
        };
        let any = match condition.any.is_empty() {
            true => Expression::ALWAYS,
            false => self.within(of(&condition.any), ops, family),
        };
        let none = self.within(of(&condition.none), ops, family).negated();
        Expression::all([any, none])
    }

    /// The address is in one of `nets`.
    fn within(&mut self, nets: Vec<IpNet>, [prefix, set]: [Op; 2], family: Family) -> Expression {
        if nets.len() <= INLINE || nets.iter().any(|net| net.prefix_len() == 0) {
            return Expression::any(nets.into_iter().map(|net| Expression::prefix(prefix, net)));
        }
        let free = u32::try_from(self.sets.len()).unwrap_or(u32::MAX).saturating_add(1);
        let length = nets.len();
        let number = *self.sets.entry(nets).or_insert_with(|| {
            self.members[family as usize] += length;
            free
        });
        Expression::test(set, number, 0)
    }
}

/// The number by which steps know a LAN device ([`pcc_ebpf::abi::Device::number`]), given its index in the configuration.
pub fn device_number(lan: usize) -> u32 {
    u32::try_from(lan).unwrap_or(u32::MAX).saturating_add(1)
}

fn condition<T>(condition: &Condition<T>, test: impl Fn(&T) -> Expression) -> Expression {
    let any = match condition.any.is_empty() {
        true => Expression::ALWAYS,
        false => Expression::any(condition.any.iter().map(&test)),
    };
    let none = Expression::any(condition.none.iter().map(&test)).negated();
    Expression::all([any, none])
}
