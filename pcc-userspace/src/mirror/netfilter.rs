//! Pure: our nftables table where RouterOS rules decide.
//!
//! It ties the eBPF walk to conntrack (`conntrack`), and holds mangle's chains other than `prerouting`, and NAT. Its rules
//! never change while it stands. Each chain of the script is an nft chain for one family, and the base chain of a hook leads
//! there, so that `accept` and `return` mean what they mean on RouterOS.

use std::fmt::Write as _;

use pcc_ebpf::abi::MarkFields;

use super::names::{Devices, Names};
use crate::routeros::dialect::Dialect;
use crate::routeros::model::matcher::Test;
use crate::routeros::model::rule::{Action, Rule};
use crate::routeros::model::{Family, Model};
use crate::routeros::{Note, Severity};
use chains::{Chain, Chains, Hook, Menu};
use lists::Lists;

mod action;
mod case;
mod chains;
mod conntrack;
mod header;
mod interface;
mod lists;
mod matcher;
mod nat;
mod partition;
mod refusal;
#[cfg(test)]
mod rule_tests;
#[cfg(test)]
mod tests;
mod text;

const MANGLE: [(&str, Hook); 4] =
    [("input", Hook::Input), ("forward", Hook::Forward), ("output", Hook::Output), ("postrouting", Hook::Postrouting)];

/// Chains, hooks and nft's type, hook and priority. Only v7 has the last two.
const NAT: [(&str, Hook, &str); 4] = [
    ("srcnat", Hook::Postrouting, "hook postrouting priority srcnat"),
    ("dstnat", Hook::Prerouting, "hook prerouting priority dstnat"),
    ("input", Hook::Input, "hook input priority 100"),
    ("output", Hook::Output, "hook output priority -100"),
];

/// What matchers and actions are looked up in.
#[derive(Debug)]
struct Context<'a> {
    model: &'a Model,
    names: &'a Names,
    fields: &'a MarkFields,
    devices: &'a Devices,
    lists: Lists<'a>,
}

/// One transaction that replaces the table `inet <name>`, whatever stands there. `fingerprint` becomes its comment: at most
/// 127 bytes, without `"` and `\`.
///
/// The notes say what is left out; with one of severity `Error` among them the table does not do what the script does and
/// must not be used. Addresses that rules have added to lists go with the table that is replaced.
pub fn table(
    name: &str,
    model: &Model,
    names: &Names,
    fields: &MarkFields,
    devices: &Devices,
    dialect: Dialect,
    fingerprint: &str,
) -> (String, Vec<Note>) {
    let bases = if dialect == Dialect::V7 { &NAT[..] } else { &NAT[..2] };
    let nat: Vec<_> = bases.iter().map(|(name, hook, _)| (*name, *hook)).collect();
    let families = [Family::V4, Family::V6];
    let mangle = families.map(|family| Chains::of(&model.mangle, Menu::Mangle, family, &MANGLE));
    let nat = families.map(|family| Chains::of(&model.nat, Menu::Nat, family, &nat));
    let mut notes = Vec::new();
    let reached = || mangle.iter().chain(&nat).flat_map(Chains::iter).flat_map(|chain| chain.rules.iter().copied());
    let lists = Lists::of(model, reached(), &mut notes);
    let context = Context { model, names, fields, devices, lists };

    let mut text = format!("table inet {name}\ndelete table inet {name}\ntable inet {name} {{\n");
    let _ = writeln!(text, "{}", text::comment(Some(fingerprint)));
    text.push_str(&conntrack::maps(names, fields));
    text.push_str(&context.lists.sets());
    for chains in mangle.iter().chain(&nat) {
        for chain in chains.iter() {
            text.push_str(&self::chain(&context, chains, chain, &mut notes));
        }
    }
    text.push_str(&conntrack::prerouting(fields));
    for (base, _) in MANGLE {
        let entries = entries(&mangle, base);
        if base == "output" {
            text.push_str(&conntrack::output(fields, &entries));
        } else if !entries.is_empty() {
            let head = format!("type filter hook {base} priority mangle + 1; policy accept;");
            let _ = write!(text, " chain {base} {{ {head}\n{entries} }}\n");
        }
    }
    for (base, _, hook) in bases {
        let entries = entries(&nat, base);
        if !entries.is_empty() {
            let _ = write!(text, " chain nat_{base} {{ type nat {hook}; policy accept;\n{entries} }}\n");
        }
    }
    text.push_str("}\n");
    notes.extend(firewall(model));
    (text, notes)
}

/// The rules of a base chain that lead to the chain `base` of each family.
fn entries(families: &[Chains<'_>; 2], base: &str) -> String {
    let entry = |chains: &Chains<'_>| {
        let chain = chains.get(base).filter(|chain| !chain.rules.is_empty())?;
        Some(format!("  meta nfproto ipv{} goto {}\n", chains::digit(chains.family), chain.identifier))
    };
    families.iter().filter_map(entry).collect()
}

fn chain(context: &Context<'_>, chains: &Chains<'_>, chain: &Chain<'_>, notes: &mut Vec<Note>) -> String {
    let mut text = format!(" chain {} {{\n", chain.identifier);
    for rule in &chain.rules {
        text.push_str(&self::rule(context, chains, chain, rule, notes));
    }
    text.push_str(" }\n");
    text
}

fn rule(context: &Context<'_>, chains: &Chains<'_>, chain: &Chain<'_>, rule: &Rule, notes: &mut Vec<Note>) -> String {
    let statements = action::statements(context, chains, chain, rule);
    let statements = statements.map_err(|refusal| {
        let property = if matches!(rule.action, Action::Jump(_)) { "jump-target" } else { "action" };
        notes.push(refusal.at(rule.item.place(property)));
    });
    let cases = matcher::cases(context, chain, rule, notes);
    for matcher in &rule.matchers {
        if matches!(&matcher.test, Test::Pcc(pcc) if pcc.denominator > 1) {
            let message = "the parts are as large as on RouterOS, but a connection may be in another one: nftables cannot \
                           compute RouterOS's hash";
            notes.push(Note::new(Severity::Info, "mirror-hash", matcher.span, message));
        }
    }
    let (Ok(statements), Some(cases)) = (statements, cases) else { return String::new() };
    if statements.is_empty() {
        return String::new();
    }
    let comment = text::comment(rule.item.text("comment"));
    let line = |case: &str| {
        let blank = if case.is_empty() { "" } else { " " };
        format!("  {case}{blank}{statements}{comment}\n")
    };
    cases.iter().map(line).collect()
}

/// What is never taken over.
fn firewall(model: &Model) -> Option<Note> {
    let rules = model.filter.iter().chain(&model.raw).filter(|rule| rule.active()).map(Rule::span);
    let hotspots = model.read.get("ip hotspot").into_iter().flatten().filter(|item| !item.disabled());
    let span = rules.chain(hotspots.map(|item| item.span)).min()?;
    let message = "filter, raw and hotspot did not move over: this host's own firewall decides what may pass";
    Some(
        Note::new(Severity::Warning, "mirror-firewall", span, message)
            .with_fix("protect this host with its own nftables rules"),
    )
}
