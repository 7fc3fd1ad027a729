//! Runs a script's commands over its own items.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::change::mention;
use super::item::{Expressions, Item};
use super::scope::{Scope, holds_interfaces, scope};
use crate::routeros::{Argument, BUILT_IN, Note, Script, Severity, Span, Statement, Value};

/// The items of every menu after the script has run.
#[derive(Debug, Default)]
pub struct Store {
    pub(super) menus: BTreeMap<String, Vec<Item>>,
    /// About commands that were not, or not fully, applied.
    pub notes: Vec<Note>,
    /// Where the commands stand that were applied, in the order of the text.
    pub applied: Vec<Span>,
    outside: BTreeMap<String, (Span, usize)>,
    pub(super) mentioned: HashSet<String>,
    pub(super) expressions: Expressions,
    budget: usize,
}

/// Items that a command means: menus, each once, and places in them.
pub(super) type Found = Vec<(Rc<str>, Vec<usize>)>;

/// Items that all commands of a text together may look at, so that a hostile text ends soon.
const BUDGET: usize = 40_000_000;
/// Menus that are left out, of which each gets a note; the others have one note together.
const MOST_OUTSIDE: usize = 1000;
const MORE: &str = "*";
/// Items that are moved at the cost of one that is looked at.
const MOVES: usize = 16;

impl Store {
    /// Runs the statements of `script` in their order.
    pub fn run(script: &Script) -> Self {
        Self::run_within(script, BUDGET)
    }

    /// The same, and looks at no more than `budget` items.
    pub(super) fn run_within(script: &Script, budget: usize) -> Self {
        let mut store = Self { budget, ..Self::default() };
        let (mut menu, mut of, mut before) = (String::new(), Scope::Outside, None);
        for statement in &script.statements {
            if before.is_none_or(|before| !Arc::ptr_eq(before, &statement.menu)) {
                menu = statement.menu.join(" ");
                of = scope(&menu);
                before = Some(&statement.menu);
            }
            store.apply(&menu, of, statement);
        }
        store.applied.sort_unstable();
        store.applied.dedup();
        for (menu, (span, count)) in std::mem::take(&mut store.outside) {
            let commands = if count == 1 { "command" } else { "commands" };
            let menu = if menu == MORE { "more menus are".to_owned() } else { format!("menu `/{menu}` is") };
            let message = format!("{menu} not taken over ({count} {commands})");
            store.notes.push(Note::new(Severity::Info, "out-of-scope", span, message));
        }
        store
    }

    /// The items of a menu, in order; empty if the script has none.
    pub fn take(&mut self, menu: &str) -> Vec<Item> {
        self.menus.remove(menu).unwrap_or_default()
    }

    /// The items of all menus that hold interfaces, with the menu's last word.
    pub fn take_interfaces(&mut self) -> Vec<(String, Item)> {
        let menus: Vec<_> = self.menus.keys().filter(|menu| holds_interfaces(menu)).cloned().collect();
        menus
            .into_iter()
            .flat_map(|menu| {
                let kind = menu.rsplit(' ').next().unwrap_or_default().to_owned();
                self.take(&menu).into_iter().map(move |item| (kind.clone(), item))
            })
            .collect()
    }

    fn apply(&mut self, menu: &str, scope: Scope, statement: &Statement) {
        if matches!(scope, Scope::Outside | Scope::Read) {
            let known = self.outside.len() < MOST_OUTSIDE || self.outside.contains_key(menu);
            let menu = if known { menu } else { MORE };
            match self.outside.get_mut(menu) {
                Some((_, count)) => *count += 1,
                None => {
                    self.outside.insert(menu.to_owned(), (statement.span, 1));
                }
            }
        }
        if scope == Scope::Outside {
            return;
        }
        let understood = match statement.verb.as_str() {
            "add" => self.add(menu, statement),
            BUILT_IN => self.built_in(menu, statement),
            "set" | "comment" | "unset" => self.set(menu, scope, statement),
            "remove" => self.remove(menu, statement),
            "enable" => self.switch(menu, statement, "no"),
            "disable" => self.switch(menu, statement, "yes"),
            "move" => self.shift(menu, statement),
            "print" | "export" | "find" | "get" => true,
            verb => {
                self.note(Severity::Info, "verb-ignored", statement, format!("`{verb}` changes no configuration"));
                false
            }
        };
        if understood && scope != Scope::Read {
            self.applied.push(statement.span);
        }
    }

    fn add(&mut self, menu: &str, statement: &Statement) -> bool {
        let mut item = Item::default();
        if let Some(model) = statement.text("copy-from") {
            match self.numbered(menu, model).and_then(|at| self.menus.get(menu)?.get(at)) {
                Some(original) => item = original.clone(),
                None => self.note(
                    Severity::Warning,
                    "not-in-text",
                    statement,
                    format!("`copy-from={model}` names nothing in this text"),
                ),
            }
        }
        item.span = statement.span;
        item.built_in = false;
        item.properties.reserve(statement.arguments.len());
        statement.arguments.iter().for_each(|argument| item.set(argument));
        item.properties.retain(|property| property.name != "copy-from" && property.name != "place-before");
        let at = match statement.argument("place-before") {
            None => None,
            Some(Argument { value: Value::Text(text), .. }) => {
                let at = self.numbered(menu, text).filter(|at| self.pay_moves(menu, *at));
                // Number 0 is the first rule of the text, whether or not the router has others before it.
                if at.is_none() && !self.pay(0) {
                    let message = "the commands of this text look at too many items; the rule is added last";
                    self.note(Severity::Warning, "not-in-text", statement, message.into());
                } else if at.is_none() && text != "0" {
                    let message = format!("`place-before={text}` names nothing in this text; the rule is added last");
                    self.note(Severity::Warning, "not-in-text", statement, message);
                }
                at
            }
            Some(_) => {
                let message = "`place-before` depends on the running router; the rule is added last";
                self.note(Severity::Warning, "not-in-text", statement, message.into());
                None
            }
        };
        mention(&item, &mut self.mentioned);
        let items = self.items(menu);
        items.insert(at.unwrap_or(items.len()), item);
        true
    }

    /// The items of a menu, which may be new.
    pub(super) fn items(&mut self, menu: &str) -> &mut Vec<Item> {
        if !self.menus.contains_key(menu) {
            self.menus.insert(menu.to_owned(), Vec::new());
        }
        self.menus.entry(menu.to_owned()).or_default()
    }

    /// [`Self::pay`] for moving the items of a menu from `at` on.
    pub(super) fn pay_moves(&mut self, menu: &str, at: usize) -> bool {
        let behind = self.menus.get(menu).map_or(0, |items| items.len().saturating_sub(at));
        self.pay(behind / MOVES)
    }

    fn built_in(&mut self, menu: &str, statement: &Statement) -> bool {
        let item = Item { built_in: true, ..Item::new(statement) };
        self.menus.entry(menu.to_owned()).or_default().push(item);
        true
    }

    pub(super) fn note(&mut self, severity: Severity, id: &'static str, statement: &Statement, message: String) {
        self.notes.push(Note::new(severity, id, statement.span, message));
    }

    /// Pays for looking at `items`; `false` if the text has looked at too many.
    pub(super) fn pay(&mut self, items: usize) -> bool {
        match self.budget.checked_sub(items) {
            Some(left) => self.budget = left,
            None => self.budget = 0,
        }
        self.budget > 0
    }
}
