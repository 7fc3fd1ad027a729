//! Pure: chain `prerouting` of mangle as [`Step`]s for the eBPF walk.
//!
//! IPv4 and IPv6 rules become one program each, in one array. A rule is its tests, each leading to the next rule where it
//! fails, and then one step for its action. A user chain is put in at every jump, so that control only goes forward.
//! Netfilter keeps more states of a connection than tc can see: a packet that it calls `related`, `invalid` or `untracked`
//! counts here as `new` until its connection is answered, then as `established`.

use std::collections::BTreeMap;
use std::rc::Rc;

use ipnet::IpNet;
use pcc_ebpf::abi::{Op, Step};

use super::names::{Devices, Names};
use crate::routeros::Note;
use crate::routeros::model::rule::{Action, Rule};
use crate::routeros::model::{Family, Model};
use action::Effect;
use assemble::{Assembler, END, Label};
use context::Context;
use expression::Expression;

mod action;
mod address;
pub(crate) mod assemble;
mod context;
pub(crate) mod expression;
mod interface;
mod matcher;
mod sets;
mod state;
#[cfg(test)]
mod tests;

/// Number of the set of the host's own addresses.
pub const LOCAL: u32 = 1;
/// Number of the set of broadcast addresses.
pub const BROADCAST: u32 = 2;

/// The chain that is compiled.
const BASE: &str = "prerouting";
/// Chains that packets enter by themselves.
const BUILT_IN: [&str; 5] = ["prerouting", "input", "forward", "output", "postrouting"];
/// Jumps in jumps that are followed; what is nested deeper is refused.
const DEEPEST: usize = 64;

/// Compiled rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The steps; the first is the end of every walk and never read.
    pub steps: Vec<Step>,
    /// Where IPv4 packets begin; 0: no rule is for them.
    pub first4: u32,
    /// Where IPv6 packets begin; 0: no rule is for them.
    pub first6: u32,
    /// The sets that the steps ask for.
    pub sets: Vec<Set>,
    /// Counters of `nth` matchers in use: 0 to this, exclusive.
    pub nth_counters: u32,
    /// Where each step comes from, as many as there are steps; `None` for the first.
    pub places: Vec<Option<Place>>,
}

/// Addresses that steps ask for by number. One number serves both families.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its number.
    pub number: u32,
    /// Its members.
    pub source: SetSource,
}

/// Where the members of a [`Set`] come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetSource {
    /// The host's addresses ([`LOCAL`]); they change while the program runs.
    Local,
    /// The host's broadcast addresses ([`BROADCAST`]); they change, too.
    Broadcast,
    /// An address list of the script, by name.
    List(String),
    /// These.
    Prefixes(Vec<IpNet>),
}

/// Which part of the script a step comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index in [`Model::mangle`].
    pub rule: usize,
    /// The part of that rule.
    pub part: Part,
}

/// A part of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Index in [`crate::routeros::model::rule::Rule::matchers`].
    Matcher(usize),
    /// Its action. Reaching such a step means that the rule matched.
    Action,
}

/// Compiles the mangle rules of chain `prerouting` and of the chains that they jump to.
///
/// The notes say what is left out; with one of severity `Error` among them the program does not do what the script does
/// and must not run.
pub fn compile(model: &Model, names: &Names, devices: &Devices) -> (Program, Vec<Note>) {
    let mut context = Context::new(model, names, devices);
    let mut assembler = Assembler::default();
    let [first4, first6] = [Family::V4, Family::V6].map(|family| {
        let first = assembler.begin();
        Chains::new(&mut context, &mut assembler, family).inline(BASE, END, &mut Vec::new());
        if assembler.finish() { first } else { 0 }
    });
    let (sets, nth_counters, notes) = context.finish();
    let mut program = Program { sets, nth_counters, first4, first6, steps: Vec::new(), places: Vec::new() };
    if assembler.is_full() {
        // Half a program would decide wrongly.
        (program.first4, program.first6, assembler) = (0, 0, Assembler::default());
    }
    (program.steps, program.places) = assembler.into_steps();
    (program, notes)
}

/// A rule that has an effect, ready to be put in.
struct Ready {
    rule: usize,
    tests: Vec<(usize, Expression)>,
    effect: Effect,
}

/// The chains of one family.
struct Chains<'a, 'b> {
    context: &'a mut Context<'b>,
    assembler: &'a mut Assembler,
    rules: BTreeMap<&'b str, Vec<usize>>,
    ready: BTreeMap<String, Rc<[Ready]>>,
}

impl<'a, 'b> Chains<'a, 'b> {
    fn new(context: &'a mut Context<'b>, assembler: &'a mut Assembler, family: Family) -> Self {
        let mut rules: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, rule) in context.model.mangle.iter().enumerate() {
            if rule.family == family && !rule.item.disabled() {
                rules.entry(rule.chain.as_str()).or_default().push(at);
            }
        }
        Self { context, assembler, rules, ready: BTreeMap::new() }
    }

    /// Puts the rules of `chain` in; behind them the walk goes on at `end`. `callers` are the chains around it.
    fn inline(&mut self, chain: &str, end: Label, callers: &mut Vec<String>) {
        callers.push(chain.to_owned());
        for Ready { rule, tests, effect } in self.ready(chain).iter() {
            if self.assembler.is_full() {
                break;
            }
            let next = self.assembler.label();
            for (at, test) in tests {
                let holds = self.assembler.label();
                self.assembler.test(test, holds, next, Place { rule: *rule, part: Part::Matcher(*at) });
                self.assembler.bind(holds);
            }
            let place = Place { rule: *rule, part: Part::Action };
            match effect {
                Effect::Mark { op, number, ends } => {
                    self.assembler.action(*op, *number, if *ends { END } else { next }, place);
                }
                Effect::Accept => self.assembler.action(Op::Pass, 0, END, place),
                Effect::Return => self.assembler.action(Op::Pass, 0, end, place),
                Effect::Jump(target) => {
                    let entry = self.assembler.label();
                    self.assembler.action(Op::Pass, 0, entry, place);
                    self.assembler.bind(entry);
                    if self.may_jump(*rule, target, callers) {
                        self.inline(target, next, callers);
                    }
                }
            }
            self.assembler.bind(next);
            if self.assembler.is_full() {
                self.context.too_long(*rule);
            }
        }
        callers.pop();
    }

    fn may_jump(&mut self, rule: usize, target: &str, callers: &[String]) -> bool {
        let message = if callers.iter().any(|caller| caller == target) {
            format!("a loop: chain `{target}` leads back to itself")
        } else if BUILT_IN.contains(&target) {
            format!("a jump to the built-in chain `{target}`")
        } else if callers.len() > DEEPEST {
            format!("jumps nested deeper than {DEEPEST} chains")
        } else {
            return true;
        };
        self.context.bad_jump(rule, message);
        false
    }

    /// The rules of `chain` that have an effect. Notes about them are made once, however often the chain is put in.
    fn ready(&mut self, chain: &str) -> Rc<[Ready]> {
        if let Some(known) = self.ready.get(chain) {
            return Rc::clone(known);
        }
        let rules = self.rules.get(chain).cloned().unwrap_or_default();
        let ready: Rc<[Ready]> = rules.into_iter().filter_map(|rule| self.prepare(rule)).collect();
        self.ready.insert(chain.to_owned(), Rc::clone(&ready));
        ready
    }

    fn prepare(&mut self, rule: usize) -> Option<Ready> {
        let effect = self.context.effect(rule);
        let Rule { broken, action, .. } = &self.context.model.mangle[rule];
        if *broken || *action == Action::Watch {
            return None;
        }
        // Also of a refused action, so that all that is wrong with a rule is said at once.
        let tests = self.context.tests(rule);
        let (effect, mut tests) = (effect?, tests?);
        if tests.iter().any(|(_, test)| *test == Expression::Constant(false)) {
            return None;
        }
        tests.retain(|(_, test)| *test != Expression::Constant(true));
        Some(Ready { rule, tests, effect })
    }
}
