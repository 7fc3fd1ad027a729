//! Pure: a RouterOS script as the [document](super::document) that says the same.
//!
//! The items are those that are there after the script has run: loops are unrolled, `set`, `move` and `remove` are done. A
//! comment goes with the item that follows it, or on whose line it stands. Menus that pcc does not take over are named
//! once and left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use toml_writer::{ToTomlKey as _, ToTomlValue as _};

use super::document::{MARKER, header, is_free_text, looks_built_in};
use crate::routeros::dialect::Dialect;
use crate::routeros::menus::{self, Word};
use crate::routeros::model::Model;
use crate::routeros::model::item::{Item, Property};
use crate::routeros::model::matcher::Test;
use crate::routeros::model::scope::{Scope, scope};
use crate::routeros::{Script, Value};
use comments::Comments;

mod comments;

/// The document of `script`, whose interfaces have the Linux devices `devices`. Those that have none yet are named in
/// comments.
pub fn to_toml(script: &Script, dialect: Dialect, devices: &BTreeMap<String, String>) -> String {
    let menus = Model::items(script);
    let comments = Comments::assign(script, &menus);
    let mut out = String::new();
    write_comments(&mut out, &comments.head);
    if !comments.head.is_empty() {
        out.push('\n');
    }
    // Writing to a `String` cannot fail, here and below.
    let _ = writeln!(out, "dialect = \"{dialect}\"");
    write_interfaces(&mut out, script, devices);
    write_outside(&mut out, script);
    for (menu, items) in &menus {
        let table = matches!(scope(menu), Scope::Settings | Scope::Read) && items.len() == 1 && items[0].built_in;
        for (at, item) in items.iter().enumerate() {
            out.push('\n');
            write_comments(&mut out, comments.of(menu, at));
            let header = header(menu);
            let _ = writeln!(out, "{}", if table { &header[1..header.len() - 1] } else { &header });
            write_item(&mut out, menu, item, table);
        }
    }
    if !comments.tail.is_empty() {
        out.push('\n');
        write_comments(&mut out, &comments.tail);
    }
    out
}

fn write_comments(out: &mut String, comments: &[&str]) {
    for comment in comments {
        // TOML allows no control characters.
        let text = comment.replace(|character: char| character.is_control() && character != '\t', "\u{fffd}");
        let _ = writeln!(out, "#{text}");
    }
}

fn write_interfaces(out: &mut String, script: &Script, devices: &BTreeMap<String, String>) {
    let names = interfaces(script);
    if names.is_empty() && devices.is_empty() {
        return;
    }
    out.push_str("\n# The Linux device of each interface.\n[interfaces]\n");
    for (interface, device) in devices {
        let _ = writeln!(out, "{} = {}", interface.to_toml_key(), device.to_toml_value());
    }
    for name in names.iter().filter(|name| !devices.contains_key(*name)) {
        write_comments(out, &[&format!(" {} = \"\"", name.to_toml_key())]);
    }
}

/// The interfaces that the script names.
fn interfaces(script: &Script) -> BTreeSet<String> {
    let model = Model::build(script).model;
    let mut names: BTreeSet<String> = model.interfaces.iter().map(|interface| interface.name.clone()).collect();
    names.extend(model.members.iter().map(|member| member.interface.clone()));
    names.extend(model.addresses.iter().map(|address| address.interface.clone()));
    names.extend(model.clients.iter().map(|client| client.interface.clone()));
    names.extend(model.routes.iter().flat_map(|route| route.gateways.iter().filter_map(|it| it.interface.clone())));
    for matcher in model.mangle.iter().chain(&model.nat).flat_map(|rule| &rule.matchers) {
        match &matcher.test {
            Test::InInterface(name) | Test::OutInterface(name) => _ = names.insert(name.clone()),
            _ => {}
        }
    }
    // `all-ppp` and its like are no interfaces but kinds of them.
    names.retain(|name| !name.is_empty() && !name.starts_with("all-"));
    names
}

fn write_outside(out: &mut String, script: &Script) {
    let mut outside: BTreeMap<String, usize> = BTreeMap::new();
    for statement in &script.statements {
        let menu = statement.menu.join(" ");
        if scope(&menu) == Scope::Outside {
            *outside.entry(menu).or_default() += 1;
        }
    }
    if outside.is_empty() {
        return;
    }
    out.push_str("\n# Not taken over:\n");
    for (menu, count) in outside {
        let commands = if count == 1 { "command" } else { "commands" };
        write_comments(out, &[&format!("   /{menu} ({count} {commands})")]);
    }
}

fn write_item(out: &mut String, menu: &str, item: &Item, table: bool) {
    let properties = &item.properties;
    let names: Vec<_> = properties.iter().map(|property| property.name.as_str()).collect();
    let name = properties.iter().find(|property| property.name == "name").map(|property| &property.value);
    let name = if let Some(Value::Text(name)) = name { name } else { "" };
    if !table && looks_built_in(menu, &names, name) != item.built_in {
        let _ = writeln!(out, "{MARKER} = {}", item.built_in);
    }
    for property in properties {
        let line = format!("{} = {}", property.name.to_toml_key(), value(property));
        if is_menu(menu, &property.name) {
            // TOML has one name for both.
            for line in line.lines() {
                write_comments(out, &[&format!(" {line}")]);
            }
        } else {
            let _ = writeln!(out, "{line}");
        }
    }
}

/// A property that is called like a menu below its own one. RouterOS has none.
fn is_menu(menu: &str, name: &str) -> bool {
    matches!(menus::word(menu, name), Word::Menu(below) if scope(below) != Scope::Outside && below.ends_with(name))
}

fn value(property: &Property) -> String {
    let Property { name, value, negated, .. } = property;
    let negation = if *negated { ", negated = true" } else { "" };
    match value {
        Value::Text(text)
            if is_free_text(name) && *negated || !is_free_text(name) && !negated && text.starts_with('!') =>
        {
            format!("{{ value = {}{negation} }}", text.to_toml_value())
        }
        Value::Text(text) if *negated => format!("!{text}").to_toml_value(),
        Value::Text(text) => text.to_toml_value(),
        Value::Missing | Value::Unset => format!("{{ missing = true{negation} }}"),
        Value::Unknown(reason) => format!("{{ unknown = {}{negation} }}", reason.to_toml_value()),
    }
}

#[cfg(test)]
mod tests;
