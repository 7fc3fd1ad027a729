//! Items that a `find` finds: loops over them, and whether its condition still means them when they are used.

use std::rc::Rc;

use super::data::{Data, Items};
use super::{Flow, Machine};
use crate::routeros::model::is_reference;
use crate::routeros::parser::syntax::{Command, Expression, Given, GivenValue, Kind};
use crate::routeros::{Condition, Statement};

/// Statements that are looked at again for all values of a text together, so that a hostile one ends soon.
const MOST_LOOKED_BACK: usize = 2_000_000;

/// Commands that end a block before its end.
const LEAVING: &[&str] = &["break", "continue", "error", "exit", "quit", "return"];

impl Machine<'_> {
    /// `:foreach` over the items that a `find` finds: its commands run once for all of them. What is not the same for all
    /// items is unknown: the item itself, and variables that one round leaves for the next.
    pub fn each_item(&mut self, command: &Command, items: &Items, pairs: bool, block: &[Command]) -> Flow {
        if self.each.is_some() || leaves(block) {
            let value = Data::Items(Rc::new(items.clone()));
            self.not_known(command, &value, "list");
            return Flow::Next;
        }
        let item = Data::Items(Rc::new(Items { each: true, ..items.clone() }));
        let values = [(0, Data::unknown("the number of an item")), (usize::from(pairs), item)];
        let before = self.statements.len();
        self.each = Some(self.scopes.len());
        loop {
            self.statements.truncate(before);
            self.carried = false;
            self.with_variables(command, &values[usize::from(!pairs)..], block);
            if !self.carried || self.exhausted(command) {
                break;
            }
        }
        self.each = None;
        Flow::Next
    }

    /// Whether a statement may have changed, since `items` were found, which items their condition means.
    pub fn are_stale(&mut self, items: &Items) -> bool {
        let later = self.statements.get(items.since..).unwrap_or_default();
        self.looked_back += later.len();
        if self.looked_back > MOST_LOOKED_BACK {
            return !later.is_empty();
        }
        let mut properties = Vec::new();
        if let Some(condition) = &items.condition {
            collect(condition, &mut properties);
        }
        later.iter().any(|statement| changes(statement, &items.menu, &properties))
    }
}

/// Whether a command in `block` may end it early.
fn leaves(block: &[Command]) -> bool {
    let code = |given: &Given| match &given.value {
        GivenValue::Expression(Expression::Code(block)) => leaves(block),
        _ => false,
    };
    block.iter().any(|command| match &command.kind {
        Kind::Script(word) if LEAVING.contains(word) => true,
        Kind::Block(block) => leaves(block),
        _ => command.arguments.iter().any(code),
    })
}

/// Whether `statement` may change which items of `menu` a condition on `properties` means.
fn changes(statement: &Statement, menu: &str, properties: &[&str]) -> bool {
    let interfaces = |words: &mut dyn Iterator<Item = &str>| words.next() == Some("interface");
    let renames = interfaces(&mut statement.menu.iter().map(String::as_str)) && statement.argument("name").is_some();
    let same = statement.menu.iter().map(String::as_str).eq(menu.split(' '))
        || (interfaces(&mut menu.split(' ')) && interfaces(&mut statement.menu.iter().map(String::as_str)));
    if !same {
        return renames && properties.iter().any(|property| is_reference(property));
    }
    match statement.verb.as_str() {
        "add" => true,
        "set" => statement.arguments.iter().any(|argument| properties.contains(&argument.name.as_str())),
        "enable" | "disable" => properties.contains(&"disabled"),
        "comment" => properties.contains(&"comment"),
        "remove" | "move" | "print" | "export" | "find" | "get" => false,
        _ => !properties.is_empty(),
    }
}

/// Adds the properties that `condition` looks at.
fn collect<'a>(condition: &'a Condition, properties: &mut Vec<&'a str>) {
    match condition {
        Condition::Equal(name, _)
        | Condition::NotEqual(name, _)
        | Condition::Less(name, _)
        | Condition::Greater(name, _)
        | Condition::Matches(name, _)
        | Condition::Flag(name) => properties.push(name),
        Condition::Not(inner) => collect(inner, properties),
        Condition::And(all) | Condition::Or(all) => all.iter().for_each(|inner| collect(inner, properties)),
    }
}
