//! Runs a script's commands over its own items.

use std::collections::{BTreeMap, HashSet};

use super::item::{Expressions, Item};
use super::scope::{Scope, holds_interfaces, scope};
use crate::routeros::{Argument, BUILT_IN, Note, Script, Selector, Severity, Span, Statement, Value};

/// The items of every menu after the script has run.
#[derive(Debug, Default)]
pub struct Store {
    pub(super) menus: BTreeMap<String, Vec<Item>>,
    /// About commands that were not, or not fully, applied.
    pub notes: Vec<Note>,
    /// Where the commands stand that were applied.
    pub applied: HashSet<Span>,
    outside: BTreeMap<String, (Span, usize)>,
    mentioned: HashSet<String>,
    pub(super) expressions: Expressions,
    pub(super) looked_at: usize,
}

impl Store {
    /// Runs the statements of `script` in their order.
    pub fn run(script: &Script) -> Self {
        let mut store = Self::default();
        for statement in &script.statements {
            store.apply(statement);
        }
        for (menu, (span, count)) in std::mem::take(&mut store.outside) {
            let message =
                format!("menu `/{menu}` is not taken over ({count} command{})", if count == 1 { "" } else { "s" });
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

    fn apply(&mut self, statement: &Statement) {
        let menu = statement.menu.join(" ");
        let scope = scope(&menu);
        if matches!(scope, Scope::Outside | Scope::Read) {
            let entry = self.outside.entry(menu.clone()).or_insert((statement.span, 0));
            entry.1 += 1;
        }
        if scope == Scope::Outside {
            return;
        }
        let understood = match statement.verb.as_str() {
            "add" => self.add(&menu, statement),
            BUILT_IN => self.built_in(&menu, statement),
            "set" | "comment" | "unset" => self.set(&menu, scope, statement),
            "remove" => self.remove(&menu, statement),
            "enable" => self.switch(&menu, statement, "no"),
            "disable" => self.switch(&menu, statement, "yes"),
            "move" => self.shift(&menu, statement),
            "print" | "export" | "find" | "get" => true,
            verb => {
                self.note(Severity::Info, "verb-ignored", statement, format!("`{verb}` changes no configuration"));
                false
            }
        };
        if understood && scope != Scope::Read {
            self.applied.insert(statement.span);
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
        statement.arguments.iter().for_each(|argument| item.set(argument));
        item.properties.retain(|property| property.name != "copy-from" && property.name != "place-before");
        let at = match statement.argument("place-before") {
            None => None,
            Some(Argument { value: Value::Text(text), .. }) => {
                let at = self.numbered(menu, text);
                // Number 0 is the first rule of the text, whether or not the router has others before it.
                if at.is_none() && text != "0" {
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
        self.mention(&item);
        let items = self.menus.entry(menu.to_owned()).or_default();
        items.insert(at.unwrap_or(items.len()), item);
        true
    }

    fn built_in(&mut self, menu: &str, statement: &Statement) -> bool {
        let item = Item { built_in: true, ..Item::new(statement) };
        self.menus.entry(menu.to_owned()).or_default().push(item);
        true
    }

    fn set(&mut self, menu: &str, scope: Scope, statement: &Statement) -> bool {
        let found = if statement.items.is_empty() {
            if scope == Scope::List {
                let message = format!("`{}` does not say which items it means", statement.verb);
                self.note(Severity::Warning, "not-in-text", statement, message);
                return false;
            }
            let items = self.menus.entry(menu.to_owned()).or_default();
            if items.is_empty() {
                items.push(Item::built_in(statement.span, &[]));
            }
            Some(vec![(menu.to_owned(), 0)])
        } else {
            self.select(menu, statement)
        };
        let Some(found) = found else { return false };
        for (menu, at) in found {
            let Some(item) = self.menus.get_mut(&menu).and_then(|items| items.get_mut(at)) else { continue };
            let before = item.text("name").map(str::to_owned);
            match statement.verb.as_str() {
                "unset" => {
                    let named = statement.text("value-name").map(str::to_owned);
                    item.properties.retain(|property| Some(&property.name) != named.as_ref());
                }
                _ => statement.arguments.iter().for_each(|argument| item.set(argument)),
            }
            let item = item.clone();
            self.mention(&item);
            if let (Some(before), Some(after)) = (before, item.text("name"))
                && before != after
                && (holds_interfaces(&menu) || menu == "interface list")
            {
                self.rename(&before, after);
            }
        }
        true
    }

    fn remove(&mut self, menu: &str, statement: &Statement) -> bool {
        let Some(mut found) = self.select(menu, statement) else { return false };
        found.sort_unstable();
        for (menu, at) in found.into_iter().rev() {
            if let Some(items) = self.menus.get_mut(&menu)
                && at < items.len()
            {
                items.remove(at);
            }
        }
        true
    }

    fn switch(&mut self, menu: &str, statement: &Statement, disabled: &str) -> bool {
        let Some(found) = self.select(menu, statement) else { return false };
        let value = Value::Text(disabled.to_owned());
        let argument = Argument { span: statement.span, name: "disabled".into(), value, negated: false };
        for (menu, at) in found {
            if let Some(item) = self.menus.get_mut(&menu).and_then(|items| items.get_mut(at)) {
                item.set(&argument);
            }
        }
        true
    }

    fn shift(&mut self, menu: &str, statement: &Statement) -> bool {
        let mut statement = statement.clone();
        let target = match (statement.text("destination"), statement.items.len()) {
            (Some(text), _) => Some(text.to_owned()),
            (None, 2..) => match statement.items.pop() {
                Some(Selector::Name(text)) => Some(text),
                _ => None,
            },
            (None, _) => None,
        };
        let target = target.and_then(|text| self.numbered(menu, &text));
        let Some(mut found) = self.select(menu, &statement) else { return false };
        let Some(items) = self.menus.get_mut(menu) else { return false };
        found.sort_unstable();
        let mut at = target.unwrap_or(items.len());
        let mut moved = Vec::new();
        for (_, from) in found.into_iter().rev().filter(|(_, from)| *from < items.len()).collect::<Vec<_>>() {
            at -= usize::from(from < at);
            moved.push(items.remove(from));
        }
        for item in moved {
            items.insert(at.min(items.len()), item);
        }
        true
    }

    pub(super) fn note(&mut self, severity: Severity, id: &'static str, statement: &Statement, message: String) {
        self.notes.push(Note::new(severity, id, statement.span, message));
    }

    fn mention(&mut self, item: &Item) {
        for property in item.properties.iter().filter(|property| is_reference(&property.name)) {
            if let Value::Text(text) = &property.value {
                self.mentioned.insert(text.clone());
            }
        }
    }

    /// RouterOS refers to interfaces and lists by id, so a rename reaches every mention.
    fn rename(&mut self, before: &str, after: &str) {
        if !self.mentioned.remove(before) {
            return;
        }
        self.mentioned.insert(after.to_owned());
        let properties = self.menus.values_mut().flatten().flat_map(|item| &mut item.properties);
        for property in properties.filter(|property| is_reference(&property.name)) {
            if matches!(&property.value, Value::Text(text) if text == before) {
                property.value = Value::Text(after.to_owned());
            }
        }
    }
}

/// The property names an interface or a list of them.
pub fn is_reference(property: &str) -> bool {
    const REFERENCES: [&str; 10] = [
        "interface",
        "in-interface",
        "out-interface",
        "in-interface-list",
        "out-interface-list",
        "list",
        "gateway",
        "bridge",
        "include",
        "exclude",
    ];
    REFERENCES.contains(&property)
}
