//! Which items a command means: by number, by name, by `find`.

use super::item::Item;
use super::scope::{holds_interfaces, is_port};
use super::store::Store;
use crate::routeros::{Condition, Selector, Severity, Span, Statement};

/// Items that all `find`s of a text together may look at, so that a hostile text ends soon.
const BUDGET: usize = 10_000_000;

/// Which items of which menu.
type Found = Vec<(String, usize)>;

impl Store {
    /// The items that `statement` means; `None`, with a note, if the text alone cannot tell.
    pub(super) fn select(&mut self, menu: &str, statement: &Statement) -> Option<Found> {
        let mut found = Found::new();
        for selector in &statement.items {
            match selector {
                Selector::Name(name) => match self.named(menu, name, statement.span) {
                    Some(place) => found.push(place),
                    None => return self.absent(menu, statement, &format!("`{name}` names nothing in this text")),
                },
                Selector::Id(id) => {
                    return self.absent(menu, statement, &format!("`*{id}` is an internal id of one router"));
                }
                Selector::Unknown(reason) => return self.absent(menu, statement, reason),
                Selector::Find { menu: searched, condition } => {
                    let searched = searched.join(" ");
                    let searched = if searched.is_empty() { menu.to_owned() } else { searched };
                    let places = self.find(&searched, condition.as_ref(), statement)?;
                    found.extend(places);
                }
            }
        }
        found.dedup();
        Some(found)
    }

    fn find(&mut self, menu: &str, condition: Option<&Condition>, statement: &Statement) -> Option<Found> {
        let mut found = Found::new();
        let menus: Vec<String> = match menu {
            "interface" => self.menus.keys().filter(|menu| holds_interfaces(menu)).cloned().collect(),
            menu => vec![menu.to_owned()],
        };
        for menu in menus {
            for (at, item) in self.menus.get(&menu).into_iter().flatten().enumerate() {
                self.looked_at += 1;
                let held = match condition {
                    None => Some(true),
                    Some(_) if self.looked_at > BUDGET => None,
                    Some(condition) => item.satisfies(condition, &mut self.expressions),
                };
                match held {
                    Some(true) => found.push((menu.clone(), at)),
                    Some(false) => {}
                    None => return self.absent(&menu, statement, "only the running router can answer this `find`"),
                }
            }
        }
        if found.is_empty()
            && let Some(condition) = condition
        {
            return match port(condition).filter(|_| holds_interfaces(menu)) {
                Some(name) => Some(vec![self.built_in_port(menu, name, statement.span)]),
                None => self.absent(menu, statement, "nothing in this text matches the `find`"),
            };
        }
        Some(found)
    }

    /// The item with the number or name `name`.
    fn named(&mut self, menu: &str, name: &str, span: Span) -> Option<(String, usize)> {
        if menu == "interface" {
            let known = self.menus.iter().filter(|(menu, _)| holds_interfaces(menu)).find_map(|(menu, items)| {
                Some((menu.clone(), items.iter().position(|item| item.text("name") == Some(name))?))
            });
            return known.or_else(|| is_port(name).then(|| self.built_in_port(menu, name, span)));
        }
        if let Some(at) = self.numbered(menu, name) {
            return Some((menu.to_owned(), at));
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

    pub(super) fn numbered(&self, menu: &str, text: &str) -> Option<usize> {
        let items = self.menus.get(menu)?;
        items
            .iter()
            .position(|item| item.text("name") == Some(text))
            .or_else(|| text.parse().ok().filter(|at| *at < items.len()))
    }

    fn built_in_port(&mut self, menu: &str, name: &str, span: Span) -> (String, usize) {
        let menu = if menu == "interface" { "interface ethernet" } else { menu };
        let items = self.menus.entry(menu.to_owned()).or_default();
        items.push(Item::built_in(span, &[("default-name", name), ("name", name)]));
        (menu.to_owned(), items.len() - 1)
    }

    fn absent(&mut self, menu: &str, statement: &Statement, reason: &str) -> Option<Found> {
        let decides = ["mangle", "nat", "route"].iter().any(|word| menu.ends_with(word)) && statement.verb != "remove";
        let severity = if decides { Severity::Warning } else { Severity::Info };
        let message = format!("`{}` in `/{menu}` is not applied: {reason}", statement.verb);
        self.note(severity, "not-in-text", statement, message);
        None
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
