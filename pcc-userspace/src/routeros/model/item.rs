//! One item of a menu: what an `add` made and what later commands changed.

use std::collections::HashMap;

use regex_lite::Regex;

use crate::routeros::{Argument, Condition, Span, Statement, Value};

/// An item of a menu with the properties that the text gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// The command that made it; for built-in items the first that named it.
    pub span: Span,
    /// Exists without an `add`: a physical port, a default profile, the one item of a settings menu.
    pub built_in: bool,
    /// In the order in which they were first written; each name once.
    pub properties: Vec<Property>,
}

/// One property of an [`Item`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Where its present value was written.
    pub span: Span,
    /// Its name in full.
    pub name: String,
    /// Its value; never [`Value::Unset`].
    pub value: Value,
    /// Written as `name=!value`.
    pub negated: bool,
}

/// Compiled regular expressions of `find` conditions; `None` for one that does not compile.
#[derive(Debug, Default)]
pub struct Expressions(HashMap<String, Option<Regex>>);

impl Item {
    /// The item that the arguments of an `add` describe.
    pub fn new(statement: &Statement) -> Self {
        let mut item = Self { span: statement.span, ..Self::default() };
        statement.arguments.iter().for_each(|argument| item.set(argument));
        item
    }

    /// An item that exists before the text begins.
    pub fn built_in(span: Span, properties: &[(&str, &str)]) -> Self {
        let properties = properties
            .iter()
            .map(|(name, value)| Property {
                span,
                name: (*name).to_owned(),
                value: Value::Text((*value).to_owned()),
                negated: false,
            })
            .collect();
        Self { span, built_in: true, properties }
    }

    /// Gives a property its value, or unsets it.
    pub fn set(&mut self, argument: &Argument) {
        if argument.value == Value::Unset {
            self.properties.retain(|property| property.name != argument.name);
            return;
        }
        let Argument { span, name, value, negated } = argument.clone();
        match self.properties.iter_mut().find(|property| property.name == name) {
            Some(property) => *property = Property { span, name, value, negated },
            None => self.properties.push(Property { span, name, value, negated }),
        }
    }

    /// The property called `name`.
    pub fn property(&self, name: &str) -> Option<&Property> {
        self.properties.iter().find(|property| property.name == name)
    }

    /// The value of `name`; `None` if it is not set, empty, lost or unknown.
    pub fn text(&self, name: &str) -> Option<&str> {
        match &self.property(name)?.value {
            Value::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// Where `name` was written; the whole item if it is not set.
    pub fn place(&self, name: &str) -> Span {
        self.property(name).map_or(self.span, |property| property.span)
    }

    /// `name` is `yes` or `true`.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.text(name), Some("yes" | "true"))
    }

    /// The item is switched off.
    pub fn disabled(&self) -> bool {
        self.flag("disabled")
    }

    /// `name` is written, but its value was lost or depends on a running router.
    pub fn lost(&self, name: &str) -> bool {
        matches!(self.property(name), Some(Property { value: Value::Missing | Value::Unknown(_), .. }))
    }

    /// Whether `condition` holds; `None` if only a running router knows.
    pub fn satisfies(&self, condition: &Condition, expressions: &mut Expressions) -> Option<bool> {
        Some(match condition {
            Condition::Equal(name, value) => self.comparable(name)? == value,
            Condition::NotEqual(name, value) => self.comparable(name)? != value,
            Condition::Less(name, value) => number(self.comparable(name)?)? < number(value)?,
            Condition::Greater(name, value) => number(self.comparable(name)?)? > number(value)?,
            Condition::Matches(name, pattern) => expressions.get(pattern)?.is_match(self.comparable(name)?),
            Condition::Flag(name) => matches!(self.comparable(name)?, "yes" | "true"),
            Condition::Not(inner) => !self.satisfies(inner, expressions)?,
            Condition::And(all) => {
                let held: Vec<_> = all.iter().map(|inner| self.satisfies(inner, expressions)).collect();
                if held.contains(&Some(false)) {
                    return Some(false);
                }
                held.into_iter().collect::<Option<Vec<_>>>().map(|_| true)?
            }
            Condition::Or(all) => {
                let held: Vec<_> = all.iter().map(|inner| self.satisfies(inner, expressions)).collect();
                if held.contains(&Some(true)) {
                    return Some(true);
                }
                held.into_iter().collect::<Option<Vec<_>>>().map(|_| false)?
            }
        })
    }

    /// The value that a `find` sees, defaults included.
    fn comparable(&self, name: &str) -> Option<&str> {
        const LIVE: [&str; 8] =
            ["active", "inactive", "running", "invalid", "bound", "status", "actual-interface", "gateway-status"];
        let written = match self.property(name).map(|property| &property.value) {
            _ if LIVE.contains(&name) => return None,
            Some(Value::Missing | Value::Unknown(_)) => return None,
            Some(Value::Text(text)) if !text.is_empty() => Some(text.as_str()),
            _ => None,
        };
        Some(match (written, name) {
            (Some(text), _) => text,
            (None, "disabled" | "dynamic" | "default") => "no",
            (None, "static") => "yes",
            (None, "distance") => "1",
            (None, "routing-table") => "main",
            (None, "dst-address") => "0.0.0.0/0",
            (None, _) => "",
        })
    }
}

impl Expressions {
    fn get(&mut self, pattern: &str) -> Option<&Regex> {
        if !self.0.contains_key(pattern) {
            self.0.insert(pattern.to_owned(), Regex::new(pattern).ok());
        }
        self.0.get(pattern)?.as_ref()
    }
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}
