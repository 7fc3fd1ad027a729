//! Commands that change items which are there.

use std::collections::HashSet;

use super::item::Item;
use super::scope::{Scope, holds_interfaces};
use super::store::{Found, Store};
use crate::routeros::{Argument, Selector, Severity, Statement, Value};

/// What it costs to change an item, measured in items that are looked at.
const CHANGE: usize = 4;

impl Store {
    pub(super) fn set(&mut self, menu: &str, scope: Scope, statement: &Statement) -> bool {
        let found = if statement.items.is_empty() {
            if scope == Scope::List {
                let message = format!("`{}` does not say which items it means", statement.verb);
                self.note(Severity::Warning, "not-in-text", statement, message);
                return false;
            }
            let items = self.items(menu);
            if items.is_empty() {
                items.push(Item::built_in(statement.span, &[]));
            }
            vec![(menu.into(), vec![0])]
        } else {
            let Some(found) = self.chosen(menu, statement) else { return false };
            found
        };
        let unset = (statement.verb == "unset").then(|| statement.text("value-name"));
        let mut renamed = Vec::new();
        for (menu, places) in found {
            let renames = holds_interfaces(&menu) || &*menu == "interface list";
            let Some(items) = self.menus.get_mut(&*menu) else { continue };
            for at in places {
                let Some(item) = items.get_mut(at) else { continue };
                let before = item.text("name").filter(|_| renames).map(str::to_owned);
                match unset {
                    Some(named) => item.properties.retain(|property| Some(property.name.as_str()) != named),
                    None => statement.arguments.iter().for_each(|argument| item.set(argument)),
                }
                mention(item, &mut self.mentioned);
                if let (Some(before), Some(after)) = (before, item.text("name"))
                    && before != after
                {
                    renamed.push((before, after.to_owned()));
                }
            }
        }
        renamed.iter().all(|(before, after)| self.rename(before, after, statement))
    }

    pub(super) fn remove(&mut self, menu: &str, statement: &Statement) -> bool {
        let Some(found) = self.select(menu, statement) else { return false };
        for (menu, mut places) in found {
            places.sort_unstable();
            places.dedup();
            let Some(first) = places.first().copied() else { continue };
            if !self.pay_moves(&menu, first) {
                return self.absent(&menu, statement, "").is_some();
            }
            let Some(items) = self.menus.get_mut(&*menu) else { continue };
            let (mut at, mut next) = (0, places.into_iter().peekable());
            items.retain(|_| {
                at += 1;
                next.next_if_eq(&(at - 1)).is_none()
            });
        }
        true
    }

    pub(super) fn switch(&mut self, menu: &str, statement: &Statement, disabled: &str) -> bool {
        let Some(found) = self.chosen(menu, statement) else { return false };
        let value = Value::Text(disabled.to_owned());
        let argument = Argument { span: statement.span, name: "disabled".into(), value, negated: false };
        for (menu, places) in found {
            let Some(items) = self.menus.get_mut(&*menu) else { continue };
            for at in places {
                if let Some(item) = items.get_mut(at) {
                    item.set(&argument);
                }
            }
        }
        true
    }

    pub(super) fn shift(&mut self, menu: &str, statement: &Statement) -> bool {
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
        let Some(found) = self.select(menu, &statement) else { return false };
        let mut places: Vec<_> = found.into_iter().filter(|(of, _)| &**of == menu).flat_map(|(_, at)| at).collect();
        places.sort_unstable();
        places.dedup();
        let first = places.iter().copied().chain(target).min().unwrap_or(0);
        if !self.pay_moves(menu, first) {
            return self.absent(menu, &statement, "").is_some();
        }
        let Some(items) = self.menus.get_mut(menu) else { return false };
        let at = target.unwrap_or(items.len());
        let at = at - places.iter().filter(|place| **place < at).count();
        let (mut moved, mut kept) = (Vec::new(), Vec::with_capacity(items.len()));
        let mut next = places.into_iter().peekable();
        for (index, item) in std::mem::take(items).into_iter().enumerate() {
            if next.next_if_eq(&index).is_some() { moved.push(item) } else { kept.push(item) }
        }
        let behind = kept.split_off(at.min(kept.len()));
        items.extend(kept.into_iter().chain(moved).chain(behind));
        true
    }

    /// The items that `statement` means, paid for.
    fn chosen(&mut self, menu: &str, statement: &Statement) -> Option<Found> {
        let found = self.select(menu, statement)?;
        let items: usize = found.iter().map(|(_, places)| places.len()).sum();
        if self.pay(CHANGE * items) { Some(found) } else { self.absent(menu, statement, "") }
    }

    /// RouterOS refers to interfaces and lists by id, so a rename reaches every mention.
    fn rename(&mut self, before: &str, after: &str, statement: &Statement) -> bool {
        if !self.mentioned.remove(before) {
            return true;
        }
        self.mentioned.insert(after.to_owned());
        let all = self.menus.values().map(Vec::len).sum();
        if !self.pay(all) {
            return self.absent("interface", statement, "").is_some();
        }
        let properties = self.menus.values_mut().flatten().flat_map(|item| &mut item.properties);
        for property in properties.filter(|property| is_reference(&property.name)) {
            if matches!(&property.value, Value::Text(text) if text == before) {
                property.value = Value::Text(after.to_owned());
            }
        }
        true
    }
}

/// Notes the interfaces and lists that `item` mentions.
pub fn mention(item: &Item, mentioned: &mut HashSet<String>) {
    for property in item.properties.iter().filter(|property| is_reference(&property.name)) {
        if let Value::Text(text) = &property.value
            && !mentioned.contains(text)
        {
            mentioned.insert(text.clone());
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

#[cfg(test)]
mod tests {
    use crate::routeros::model::Model;
    use crate::routeros::model::store::Store;
    use crate::routeros::read;

    #[test]
    fn what_goes_beyond_the_budget_is_not_applied_and_noted() {
        let routes = "add gateway=192.0.2.1\n".repeat(300);
        let texts = [
            format!("/ip route\n{routes}{}", "remove [find comment=none]\n".repeat(300)),
            format!("/ip route\n{}", "add place-before=0 gateway=192.0.2.1\n".repeat(1_000)),
            format!("/ip route\n{routes}{}", "move 299 0\n".repeat(300)),
            format!("/ip route\n{routes}{}", "disable [find]\n".repeat(300)),
            format!("/ip route\n{routes}{}", "set [find] distance=2\n".repeat(300)),
            format!("/ip route\n{routes}{}", "remove 0\n".repeat(300)),
            (0..300).map(|at| format!("/interface vlan add name=v{at}\n/interface set v{at} mtu=1400\n")).collect(),
            (1..300).map(|at| format!("/interface set ether{at} name=e{at}\n")).collect(),
        ];
        for text in texts {
            let script = read(text.as_bytes());
            let store = Store::run_within(&script, 20_000);
            let beyond = store.notes.iter().filter(|note| note.message.contains("too many items")).count();
            assert!(beyond > 0, "{}", &text[..200]);
            let noted = store.notes.iter().filter(|note| note.id == "not-in-text").count();
            assert!(store.applied.len() + noted >= script.total, "{} + {noted}", store.applied.len());
        }
    }

    #[test]
    fn a_long_script_is_within_the_budget() {
        let mut text = String::from("/ip firewall address-list\n");
        for number in 0..20_000_u32 {
            text.push_str(&format!("add list=l address=10.{}.{}.{}\n", number >> 16, number >> 8 & 255, number & 255));
        }
        text.push_str(&"set [find address=10.0.0.1] comment=one\n".repeat(20));
        let built = Model::build(&read(text.as_bytes()));
        assert_eq!((built.model.address_lists["l"].len(), built.notes.len()), (20_000, 0));
    }

    #[test]
    fn several_items_are_moved_and_removed_at_once() {
        let after = |commands: &str| {
            let rules: String =
                ["a", "b", "c", "d", "e"].map(|name| format!("add gateway=192.0.2.1 comment={name}\n")).concat();
            let model = Model::build(&read(format!("/ip route\n{rules}{commands}").as_bytes())).model;
            let comments = model.routes.iter().filter_map(|route| route.item.text("comment"));
            comments.collect::<String>()
        };
        assert_eq!(after("move 0,2 4"), "bdace");
        assert_eq!(after("move 3,4 destination=0"), "deabc");
        assert_eq!(after("move 1"), "acdeb");
        assert_eq!(after("move [find comment~\"[ad]\"]"), "bcead");
        assert_eq!(after("remove 0,2,2,4"), "bd");
        assert_eq!(after("remove [find comment~\"[abde]\"]"), "c");
    }
}
