//! Which items a command means: by number, by name, by `find`.

use std::rc::Rc;

use super::item::Item;
use super::scope::{holds_interfaces, is_port};
use super::store::{Found, Store};
use crate::routeros::{Condition, Selector, Severity, Span, Statement};

/// What it costs to try a condition on an item, measured in items of which the name is looked at.
const TRY: usize = 4;

impl Store {
    /// The items that `statement` means; `None`, with a note, if the text alone cannot tell.
    pub(super) fn select(&mut self, menu: &str, statement: &Statement) -> Option<Found> {
        let mut found = Found::new();
        for selector in &statement.items {
            match selector {
                Selector::Name(name) => match self.named(menu, name, statement.span) {
                    Some((menu, at)) => add(&mut found, &menu, &[at]),
                    None => return self.absent(menu, statement, &format!("`{name}` names nothing in this text")),
                },
                Selector::Id(id) => {
                    return self.absent(menu, statement, &format!("`*{id}` is an internal id of one router"));
                }
                Selector::Unknown(reason) => return self.absent(menu, statement, reason),
                Selector::Find { menu: searched, condition } => {
                    let searched = searched.join(" ");
                    let searched = if searched.is_empty() { menu.to_owned() } else { searched };
                    for (menu, places) in self.find(&searched, condition.as_ref(), statement)? {
                        add(&mut found, &menu, &places);
                    }
                }
            }
        }
        Some(found)
    }

    fn find(&mut self, menu: &str, condition: Option<&Condition>, statement: &Statement) -> Option<Found> {
        let mut found = Found::new();
        let menus: Vec<Rc<str>> = match menu {
            "interface" => {
                self.menus.keys().filter(|menu| holds_interfaces(menu)).map(|menu| menu.as_str().into()).collect()
            }
            menu => vec![menu.into()],
        };
        for menu in menus {
            let length = self.menus.get(&*menu).map_or(0, Vec::len);
            if condition.is_some() && !self.pay(TRY * length) {
                return self.absent(&menu, statement, "");
            }
            let mut places = Vec::new();
            for (at, item) in self.menus.get(&*menu).into_iter().flatten().enumerate() {
                match condition.map_or(Some(true), |condition| item.satisfies(condition, &mut self.expressions)) {
                    Some(true) => places.push(at),
                    Some(false) => {}
                    None => return self.absent(&menu, statement, "only the running router can answer this `find`"),
                }
            }
            if !places.is_empty() {
                found.push((menu, places));
            }
        }
        if found.is_empty()
            && let Some(condition) = condition
        {
            return match port(condition).filter(|_| holds_interfaces(menu)) {
                Some(name) => {
                    let (menu, at) = self.built_in_port(menu, name, statement.span);
                    Some(vec![(menu.into(), vec![at])])
                }
                None => self.absent(menu, statement, "nothing in this text matches the `find`"),
            };
        }
        Some(found)
    }

    /// The item with the number or name `name`.
    fn named(&mut self, menu: &str, name: &str, span: Span) -> Option<(String, usize)> {
        if menu == "interface" {
            let menus: Vec<_> = self.menus.keys().filter(|menu| holds_interfaces(menu)).cloned().collect();
            let known = menus.into_iter().find_map(|menu| self.called(&menu, name).map(|at| (menu, at)));
            return known.or_else(|| (is_port(name) && self.pay(0)).then(|| self.built_in_port(menu, name, span)));
        }
        if let Some(at) = self.numbered(menu, name) {
            return Some((menu.to_owned(), at));
        }
        if !self.pay(0) {
            return None;
        }
        if holds_interfaces(menu) && is_port(name) {
            return Some(self.built_in_port(menu, name, span));
        }
        if menu == "ppp profile" && matches!(name, "default" | "default-encryption") {
            let items = self.menus.entry(menu.to_owned()).or_default();
            items.push(Item::built_in(span, &[("name", name)]));
            return Some((menu.to_owned(), items.len() - 1));
        }
        None
    }

    /// The item with the name or number `text`.
    pub(super) fn numbered(&mut self, menu: &str, text: &str) -> Option<usize> {
        let length = self.menus.get(menu)?.len();
        let called = self.called(menu, text);
        called.or_else(|| text.parse().ok().filter(|at| *at < length && self.pay(0)))
    }

    /// The item with the name `name`; `None` also if the text has looked at too many items.
    fn called(&mut self, menu: &str, name: &str) -> Option<usize> {
        let length = self.menus.get(menu)?.len();
        self.pay(length).then_some(())?;
        self.menus.get(menu)?.iter().position(|item| item.text("name") == Some(name))
    }

    fn built_in_port(&mut self, menu: &str, name: &str, span: Span) -> (String, usize) {
        let menu = if menu == "interface" { "interface ethernet" } else { menu };
        let items = self.menus.entry(menu.to_owned()).or_default();
        items.push(Item::built_in(span, &[("default-name", name), ("name", name)]));
        (menu.to_owned(), items.len() - 1)
    }

    /// Notes that `statement` is not applied, for this reason or because the text has looked at too many items.
    pub(super) fn absent(&mut self, menu: &str, statement: &Statement, reason: &str) -> Option<Found> {
        let reason = if self.pay(0) { reason } else { "the commands of this text look at too many items" };
        let decides = ["mangle", "nat", "route"].iter().any(|word| menu.ends_with(word)) && statement.verb != "remove";
        let severity = if decides { Severity::Warning } else { Severity::Info };
        let message = format!("`{}` in `/{menu}` is not applied: {reason}", statement.verb);
        self.note(severity, "not-in-text", statement, message);
        None
    }
}

/// Adds places in `menu`, which is in `found` at most once.
fn add(found: &mut Found, menu: &str, places: &[usize]) {
    match found.iter_mut().find(|(known, _)| **known == *menu) {
        Some((_, known)) => known.extend(places),
        None => found.push((menu.into(), places.to_vec())),
    }
}

/// The physical port that a condition means, if it means one.
fn port(condition: &Condition) -> Option<&str> {
    match condition {
        Condition::Equal(name, value) if name == "default-name" => Some(value),
        Condition::Equal(name, value) if name == "name" && is_port(value) => Some(value),
        Condition::And(all) if all.len() == 1 => port(&all[0]),
        _ => None,
    }
}
