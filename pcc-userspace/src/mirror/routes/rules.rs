//! Routing rules: what the script says, and the kernel's rules around it.

use ipnet::IpNet;

use super::compile::Compiler;
use super::{MAIN, Routing};
use crate::host::{Family, Rule, RuleAction};
use crate::plan;
use crate::routeros::dialect::Dialect;
use crate::routeros::model::route::{self, RoutingRule};
use crate::routeros::{Severity, Span};

/// Priorities relative to the base.
mod offset {
    /// The marks; no packet has two, so that they share it.
    pub(super) const MARKS: u32 = 1;
    /// The first rule of the script.
    pub(super) const SCRIPT: u32 = 2;
    /// The script's main table, last of all.
    pub(super) const MAIN: u32 = 99;
}

/// A routing rule of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRule {
    /// Where it is written.
    pub span: Span,
    /// Source addresses.
    pub source: Option<IpNet>,
    /// Destination addresses.
    pub destination: Option<IpNet>,
    /// Linux device that the packet came in by.
    pub input: Option<String>,
    /// Id of the table that the routing mark names.
    pub mark: Option<u32>,
    /// For IPv4 alone: v6 has the menu once per family.
    pub ipv4_only: bool,
    /// What becomes of the packet.
    pub action: Action,
}

/// What a [`PolicyRule`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Looks up a kernel table; without a route there the next rule is asked.
    Lookup {
        /// Kernel table.
        table: u32,
        /// Without a route there the packet is unreachable.
        only: bool,
        /// Routes with prefixes up to this length do not count (`min-prefix`).
        min_prefix: Option<u32>,
    },
    /// Drops with "network unreachable".
    Unreachable,
    /// Drops.
    Drop,
}

/// All kernel rules of the mirror, each at its own priority from `priority_base` on: main's routes that are no defaults, the
/// marks (`mark_of` a table id gives value and mask), the script's rules, the script's main table.
pub fn rules(routing: &Routing, priority_base: u32, mark_of: &dyn Fn(u32) -> (u32, u32)) -> Vec<Rule> {
    let mut rules = Vec::new();
    for family in routing.families() {
        rules.push(plan::main_first(family, routing.table_base, priority_base));
        let marks = routing.tables.iter().map(|id| {
            let rule = Rule::lookup(family, priority_base + offset::MARKS, routing.table_base + id);
            Rule { mark: Some(mark_of(*id)), ..rule }
        });
        rules.extend(marks);
        let mut priority = priority_base + offset::SCRIPT;
        // Rules of the other family keep their place, so that both families show the same numbers.
        for rule in &routing.rules {
            for action in rule.steps() {
                if rule.net_family().is_none_or(|only| only == family) {
                    rules.push(rule.kernel(family, priority, action, mark_of));
                }
                priority += 1;
            }
        }
        rules.push(Rule::lookup(family, priority_base + offset::MAIN, routing.main()));
    }
    rules
}

impl PolicyRule {
    /// The family of its addresses; `None` for both.
    pub fn net_family(&self) -> Option<Family> {
        let net = self.source.or(self.destination);
        net.map(|net| Family::of(net.addr())).or(self.ipv4_only.then_some(Family::V4))
    }

    /// What the kernel does one after the other.
    fn steps(&self) -> Vec<Action> {
        match self.action {
            Action::Lookup { only: true, .. } => vec![self.action, Action::Unreachable],
            action => vec![action],
        }
    }

    fn kernel(&self, family: Family, priority: u32, action: Action, mark_of: &dyn Fn(u32) -> (u32, u32)) -> Rule {
        let (action, table, suppress_prefix_length) = match action {
            Action::Lookup { table, min_prefix, .. } => (RuleAction::Lookup, table, min_prefix),
            Action::Unreachable => (RuleAction::Unreachable, 0, None),
            Action::Drop => (RuleAction::Blackhole, 0, None),
        };
        Rule {
            source: self.source,
            destination: self.destination,
            input: self.input.clone(),
            mark: self.mark.map(mark_of),
            action,
            suppress_prefix_length,
            ..Rule::lookup(family, priority, table)
        }
    }
}

impl Compiler<'_> {
    /// The script's rules, as far as they fit.
    pub(super) fn rules(&mut self) -> Vec<PolicyRule> {
        let most = (offset::MAIN - offset::SCRIPT) as usize;
        let (mut rules, mut steps) = (Vec::new(), 0);
        let model = self.inputs.model;
        for rule in model.rules.iter().filter(|rule| !rule.item.disabled()) {
            let Some(compiled) = self.rule(rule) else { continue };
            steps += compiled.steps().len();
            if steps > most {
                let message = format!("more routing rules than fit: {most}, where `lookup-only-in-table` takes two");
                self.note(Severity::Error, "rule-limit", rule.item.span, message);
                break;
            }
            rules.push(compiled);
        }
        rules
    }

    fn rule(&mut self, rule: &RoutingRule) -> Option<PolicyRule> {
        let span = rule.item.span;
        if rule.broken {
            self.note(Severity::Error, "rule-broken", span, "a value of this rule was lost: it is left out");
            return None;
        }
        if let Some(property) = rule.item.properties.iter().find(|property| property.negated) {
            let message = format!("`{}=!…` on a routing rule cannot be mirrored", property.name);
            self.note(Severity::Error, "rule-negated", property.span, message);
            return None;
        }
        if let Some(chain) = rule.item.text("chain") {
            let message = format!("chain `{chain}` of routing rules cannot be mirrored");
            self.note(Severity::Error, "rule-chain", rule.item.place("chain"), message);
            return None;
        }
        let families = [rule.source, rule.destination].map(|net| net.map(|net| net.addr().is_ipv4()));
        if let [Some(source), Some(destination)] = families
            && source != destination
        {
            self.note(Severity::Error, "rule-family", span, "its addresses are of different families");
            return None;
        }
        let input = match &rule.interface {
            None => None,
            Some(name) => Some(self.device(name, rule.item.place("interface"), "routing rule")?),
        };
        let mark = match rule.mark.as_deref() {
            None => None,
            Some(mark) => match self.inputs.tables.get(mark) {
                Some(id) => Some(*id),
                None => {
                    let message = format!("no packet gets the routing mark `{mark}`: the rule never applies");
                    self.note(Severity::Warning, "rule-mark", rule.item.place("routing-mark"), message);
                    return None;
                }
            },
        };
        let action = self.action(rule)?;
        // A table without an address of either family is asked for both in v7.
        let ipv4_only = self.inputs.dialect == Dialect::V6;
        Some(PolicyRule { span, source: rule.source, destination: rule.destination, input, mark, ipv4_only, action })
    }

    fn action(&mut self, rule: &RoutingRule) -> Option<Action> {
        let only = match rule.action.as_str() {
            "lookup" => false,
            "lookup-only-in-table" => true,
            "unreachable" => return Some(Action::Unreachable),
            "drop" => return Some(Action::Drop),
            other => {
                let message = format!("action `{other}` of a routing rule cannot be mirrored");
                self.note(Severity::Error, "rule-action", rule.item.place("action"), message);
                self.fix("action=lookup, lookup-only-in-table, unreachable or drop");
                return None;
            }
        };
        let name = rule.table.as_deref().unwrap_or(route::MAIN);
        let table = self.table(name, rule.item.place("table"))?;
        let min_prefix = match rule.item.text("min-prefix").map(str::parse) {
            None => None,
            Some(Ok(length)) if length <= 128 => Some(length),
            Some(_) => {
                let message = "`min-prefix` is a prefix length";
                self.note(Severity::Error, "rule-broken", rule.item.place("min-prefix"), message);
                return None;
            }
        };
        debug_assert!(table <= self.inputs.table_base + MAIN);
        Some(Action::Lookup { table, only, min_prefix })
    }
}
