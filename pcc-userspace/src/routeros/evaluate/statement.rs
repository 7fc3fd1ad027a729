//! A command of a menu → [`Statement`].

use std::rc::Rc;
use std::sync::Arc;

use super::Machine;
use super::data::{Data, Items, Unknown};
use crate::routeros::lexer::shape;
use crate::routeros::menus::{self, Listed, Property};
use crate::routeros::parser::syntax::{Command, Expression, Given, GivenValue, Operator, Test};
use crate::routeros::{Argument, Condition, Note, Selector, Severity, Statement, Value};

/// Commands whose first bare word says which items they mean.
const OF_ITEMS: &[&str] = &[
    "set",
    "remove",
    "enable",
    "disable",
    "move",
    "unset",
    "comment",
    "edit",
    "get",
    "reset",
    "reset-counters",
    "run",
    "monitor",
    "release",
    "renew",
    "make-static",
];
/// Commands that change nothing.
const READING: &[&str] = &["export", "find", "get", "monitor", "print"];
/// Properties in which nobody misses a value of one's own.
const FREE: &[&str] = &["comment", "name", "password", "service-name", "user"];

impl Machine<'_> {
    /// Adds what `command` configures.
    pub fn statement(&mut self, command: &Command, number: Option<usize>, menu: &Rc<str>, verb: &str) {
        if !self.pay(0) {
            return;
        }
        let mut items = Vec::new();
        let mut arguments = Vec::with_capacity(command.arguments.len());
        let mut of_each = false;
        for given in &command.arguments {
            let bare = given.name.is_none() || given.name.as_deref() == Some("numbers");
            if bare && OF_ITEMS.contains(&verb) && items.is_empty() {
                let data = self.given(given);
                of_each = matches!(&data, Data::Items(items) if items.each);
                self.select(given, data, menu, &mut items);
            } else if given.name.is_none() && verb == "move" {
                arguments.extend(self.argument(given, "destination", menu, verb));
            } else {
                arguments.extend(match &given.name {
                    Some(name) => self.argument(given, &Rc::clone(name), menu, verb),
                    None => self.flag(given, menu, verb),
                });
            }
        }
        self.account(number);
        if self.differs(verb, of_each, &arguments) {
            let message = format!("`{verb}` runs once for each item that a `find` finds, which only a router can do");
            self.note(Severity::Warning, "needs-router", command.start, command.end, message);
            return;
        }
        let menu = self.menu(menu);
        self.statements.push(Statement {
            span: self.source.span(command.start, command.end),
            menu,
            verb: verb.to_owned(),
            items,
            arguments,
        });
    }

    /// The words of `menu`, shared with the commands before.
    fn menu(&mut self, menu: &Rc<str>) -> Arc<[String]> {
        match &self.last_menu {
            Some((last, words)) if last == menu => Arc::clone(words),
            _ => {
                let words: Arc<[String]> = split(menu).into();
                self.last_menu = Some((Rc::clone(menu), Arc::clone(&words)));
                words
            }
        }
    }

    /// Whether a command in a loop over items, which runs once for all of them, would do something else if it ran for one
    /// after the other.
    fn differs(&self, verb: &str, of_each: bool, arguments: &[Argument]) -> bool {
        let numbered = || {
            let place = arguments.iter().find(|argument| argument.name == "destination");
            place.is_some_and(|place| !matches!(&place.value, Value::Text(text) if text.parse::<u64>().is_err()))
        };
        let same = if of_each { verb != "move" || !numbered() } else { READING.contains(&verb) };
        self.each.is_some() && !same
    }

    fn flag(&mut self, given: &Given, menu: &str, verb: &str) -> Option<Argument> {
        let Ok(name) = self.given(given).join(",") else { return None };
        let name = match menus::property(menu, &name) {
            Property::Known(known) => known.to_owned(),
            Property::Unknown | Property::Ambiguous(_) if matches!(verb, "add" | "set") => {
                let message = format!("`{}` is no flag of `/{menu}`, and no value is given", shape::excerpt(&name));
                self.note(Severity::Error, "unknown-word", given.start, given.end, message);
                return None;
            }
            _ => name.to_string(),
        };
        let span = self.source.span(given.start, given.end);
        Some(Argument { span, name, value: Value::Text("yes".into()), negated: false })
    }

    fn argument(&mut self, given: &Given, name: &str, menu: &str, verb: &str) -> Option<Argument> {
        let span = self.source.span(given.start, given.end);
        let name = if matches!(verb, "add" | "set") { self.property(given, name, menu) } else { name.to_owned() };
        let value = match &given.value {
            GivenValue::Missing => Value::Missing,
            GivenValue::Unset => Value::Unset,
            GivenValue::Expression(expression) => match self.evaluate(expression).join(",") {
                Ok(text) => {
                    if shape::is_placeholder(&text) && !FREE.contains(&&*name) {
                        let message = format!("`{}` stands for a value of your own", shape::excerpt(&text));
                        let note = Note::new(Severity::Error, "placeholder", span, message);
                        self.notes.borrow_mut().add(note.with_fix(format!("write the value of `{name}`")));
                    }
                    Value::Text(text.to_string())
                }
                Err(unknown) => Value::Unknown(self.unknown(given, &name, &unknown)),
            },
        };
        Some(Argument { span, name, value, negated: given.negated })
    }

    fn property(&mut self, given: &Given, name: &str, menu: &str) -> String {
        let end = given.start + name.len();
        match menus::property(menu, name) {
            Property::Known(known) => return known.to_owned(),
            Property::Unchecked => {}
            Property::Ambiguous(names) => {
                let message = format!("`{name}` is the beginning of {}", Listed(&names));
                self.note(Severity::Error, "ambiguous", given.start, end, message);
            }
            Property::Unknown if self.notes.borrow().is_full("unknown-property") => {}
            Property::Unknown => {
                let message = format!("`{name}` is no property of `/{menu}`");
                let note =
                    Note::new(Severity::Warning, "unknown-property", self.source.span(given.start, end), message);
                let note = match menus::similar_property(menu, name) {
                    Some(similar) => note.with_fix(format!("perhaps `{similar}`")),
                    None => note,
                };
                self.notes.borrow_mut().add(note);
            }
        }
        name.to_owned()
    }

    /// The reason, after it has been noted.
    fn unknown(&mut self, given: &Given, what: &str, unknown: &Unknown) -> String {
        if !unknown.noted {
            let message = format!("`{what}` depends on what only a running router knows: {}", unknown.reason);
            self.note(Severity::Warning, "needs-router", given.start, given.end, message);
        }
        unknown.reason.to_string()
    }

    fn select(&mut self, given: &Given, data: Data, menu: &str, items: &mut Vec<Selector>) {
        match data {
            Data::Text(text) if matches!(given.value, GivenValue::Expression(Expression::Text(_))) => {
                items.extend(text.split(',').filter(|item| !item.is_empty()).map(selector));
            }
            Data::Text(text) => items.push(selector(&text)),
            Data::Items(found) if self.are_stale(&found) => {
                let unknown = Data::unknown("items that were found before other commands changed them");
                self.select(given, unknown, menu, items);
            }
            Data::Items(found) => {
                let Items { menu, condition, .. } = &*found;
                items.push(Selector::Find { menu: split(menu), condition: condition.clone() });
            }
            Data::Array(array) => {
                for (_, element) in array.elements.iter().filter(|(_, element)| !matches!(element, Data::Array(_))) {
                    self.select(given, element.clone(), menu, items);
                }
            }
            Data::Nothing => {}
            Data::Code(_) => items.push(Selector::Unknown("commands".into())),
            Data::Unknown(unknown) => {
                let what = format!("the choice of items of /{menu}");
                items.push(Selector::Unknown(self.unknown(given, &what, &unknown)));
            }
        }
    }

    /// What a `find` in `menu` finds.
    pub fn find(&mut self, menu: &Rc<str>, test: Option<&Test>, start: usize) -> Data {
        match test.map(|test| self.test(menu, test)).transpose() {
            Ok(condition) => {
                let since = self.statements.len();
                Data::Items(Rc::new(Items { menu: Rc::clone(menu), condition, since, each: false }))
            }
            Err(unknown) if unknown.noted => Data::Unknown(unknown),
            Err(Unknown { reason, .. }) => {
                let message = format!("the condition of this `find` is not understood: {reason}");
                self.note(Severity::Warning, "needs-router", start, start + "find".len(), message);
                Data::noted(reason)
            }
        }
    }

    fn test(&mut self, menu: &str, test: &Test) -> Result<Condition, Unknown> {
        let full = |name: &str| match menus::property(menu, name) {
            Property::Known(known) => known.to_owned(),
            _ => name.to_owned(),
        };
        Ok(match test {
            Test::Compare(name, operator, value) => {
                let (name, value) = (full(name), self.evaluate(value).join(",")?.to_string());
                match operator {
                    Operator::Equal => Condition::Equal(name, value),
                    Operator::NotEqual => Condition::NotEqual(name, value),
                    Operator::Less => Condition::Less(name, value),
                    Operator::Greater => Condition::Greater(name, value),
                    _ => Condition::Matches(name, value),
                }
            }
            Test::Flag(name) => Condition::Flag(full(name)),
            Test::Not(inner) => Condition::Not(Box::new(self.test(menu, inner)?)),
            Test::All(tests) => Condition::And(self.tests(menu, tests)?),
            Test::Any(tests) => Condition::Or(self.tests(menu, tests)?),
            Test::Other(start) => {
                let line = shape::excerpt(shape::line(self.source.text.get(*start..).unwrap_or_default()));
                return Err(Unknown { reason: format!("`{line}`").into(), noted: false });
            }
        })
    }

    fn tests(&mut self, menu: &str, tests: &[Test]) -> Result<Vec<Condition>, Unknown> {
        tests.iter().map(|test| self.test(menu, test)).collect()
    }
}

fn selector(text: &str) -> Selector {
    match text.strip_prefix('*') {
        Some(id) => Selector::Id(id.to_owned()),
        None => Selector::Name(text.to_owned()),
    }
}

fn split(menu: &str) -> Vec<String> {
    menu.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}
