//! Address lists as sets: what the script lists, and what its rules add.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::case::{Cases, addresses, word};
use super::chains::{digit, identifier};
use super::refusal::Refusal;
use crate::routeros::Note;
use crate::routeros::model::matcher::Test;
use crate::routeros::model::rule::{Action, Rule};
use crate::routeros::model::{Family, Model};

/// The lists that rules look at or add to, by family and name.
#[derive(Debug)]
pub struct Lists<'a>(BTreeMap<(Family, &'a str), List>);

#[derive(Debug)]
struct List {
    /// nft cannot add addresses to a set of ranges, so each kind has its own set.
    name: String,
    listed: Vec<String>,
    added: bool,
    tested: bool,
}

impl<'a> Lists<'a> {
    /// The lists of `rules`, with an error for each entry that is a host name.
    pub fn of(model: &'a Model, rules: impl Iterator<Item = &'a Rule>, notes: &mut Vec<Note>) -> Self {
        let mut tested = BTreeSet::new();
        let mut added = BTreeSet::new();
        for rule in rules {
            for matcher in &rule.matchers {
                if let Test::SourceAddressList(list) | Test::DestinationAddressList(list) = &matcher.test {
                    tested.insert((rule.family, list.as_str()));
                }
            }
            if let Action::AddToAddressList { list, .. } = &rule.action {
                added.insert((rule.family, list.as_str()));
            }
        }
        let mut lists = BTreeMap::new();
        for (index, key) in tested.union(&added).copied().enumerate() {
            let (family, name) = key;
            let entries = model.address_lists.get(name).map(Vec::as_slice).unwrap_or_default();
            let entries = entries.iter().filter(|entry| entry.family == family && !entry.disabled);
            for entry in entries.clone().filter(|_| tested.contains(&key)) {
                let message = match entry.addresses {
                    Some(range) if family.holds(range.first) => continue,
                    Some(_) => format!("`{}` is no address of `/{}`", entry.text, family.menu()),
                    None => format!("host name `{}` of address list `{name}` is not resolved", entry.text),
                };
                notes.push(Refusal::list(message, "write its addresses").at(entry.span));
            }
            let list = List {
                name: identifier(&digit(family).to_string(), index, name),
                listed: addresses(entries.filter_map(|entry| entry.addresses), family),
                added: added.contains(&key),
                tested: tested.contains(&key),
            };
            lists.insert(key, list);
        }
        Self(lists)
    }

    /// The sets with their elements.
    pub fn sets(&self) -> String {
        let mut text = String::new();
        for ((family, _), List { name, listed, added, tested }) in &self.0 {
            let digit = if *family == Family::V4 { "ipv4_addr" } else { "ipv6_addr" };
            if *tested && !listed.is_empty() {
                let elements = listed.join(", ");
                let _ =
                    writeln!(text, " set list{name} {{ type {digit}; flags interval; elements = {{ {elements} }}; }}");
            }
            if *added {
                let _ = writeln!(text, " set added{name} {{ type {digit}; size 65535; flags dynamic,timeout; }}");
            }
        }
        text
    }

    /// The address `saddr` or `daddr` is in the list `name`.
    pub fn test(&self, family: Family, name: &str, address: &str, negated: bool) -> Cases {
        let Some(list) = self.0.get(&(family, name)) else { return Cases::constant(negated) };
        let key = format!("{} {address}", word(family));
        let (listed, added) = (format!("@list{}", list.name), format!("@added{}", list.name));
        match (!list.listed.is_empty(), list.added, negated) {
            (false, false, _) => Cases::constant(negated),
            (true, false, false) => Cases::one(format!("{key} {listed}")),
            (true, false, true) => Cases::one(format!("{key} != {listed}")),
            (false, true, false) => Cases::one(format!("{key} {added}")),
            (false, true, true) => Cases::one(format!("{key} != {added}")),
            (true, true, true) => Cases::one(format!("{key} != {listed} {key} != {added}")),
            (true, true, false) => Cases::of([format!("{key} {listed}"), format!("{key} != {listed} {key} {added}")]),
        }
    }

    /// The set that rules add to.
    pub fn added(&self, family: Family, name: &str) -> Option<String> {
        self.0.get(&(family, name)).filter(|list| list.added).map(|list| format!("@added{}", list.name))
    }
}
