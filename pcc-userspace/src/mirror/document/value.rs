//! Values of properties.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Reader, is_free_text};
use crate::routeros::menus::{self, Listed};
use crate::routeros::{Argument, Severity, Value};

/// The keys of a value as an inline table.
const EXACT: [&str; 4] = ["value", "negated", "missing", "unknown"];

impl Reader {
    /// The property `key`, whose name is at `at`.
    pub fn argument(&mut self, menu: &str, key: &str, at: Range<usize>, value: &Spanned<DeValue<'_>>) -> Argument {
        let place = at.start..value.span().end.max(at.end);
        let name = self.property(menu, key, &at);
        let plain = |text: String| (Value::Text(text), false);
        let (value, negated) = match value.get_ref() {
            DeValue::String(text) => match text.strip_prefix('!') {
                Some(rest) if !is_free_text(&name) => (Value::Text(rest.to_owned()), true),
                _ => plain(text.clone().into_owned()),
            },
            DeValue::Boolean(true) => plain("yes".to_owned()),
            DeValue::Boolean(false) => plain("no".to_owned()),
            DeValue::Integer(number) if number.radix() == 10 => plain(number.as_str().replace(['_', '+'], "")),
            DeValue::Table(table) => match exact(table) {
                Some((value, negated)) => {
                    self.lost(&value, menu, &name, &place);
                    (value, negated)
                }
                None => self.unreadable(&name, &place),
            },
            _ => self.unreadable(&name, &place),
        };
        Argument { span: self.places.span(&place), name, value, negated }
    }

    fn unreadable(&mut self, name: &str, place: &Range<usize>) -> (Value, bool) {
        let message = format!("the value of `{name}` is no text");
        self.error(place, "value-bad", message, "write it in quotes, as RouterOS does");
        (Value::Missing, false)
    }

    /// A script that lost a value says so in a note, and so does a document that was made from it.
    fn lost(&mut self, value: &Value, menu: &str, name: &str, place: &Range<usize>) {
        match value {
            Value::Missing => {
                let message = format!("`{name}` of `/{menu}` has no value");
                self.error(place, "value-missing", message, "write the value in quotes");
            }
            Value::Unknown(reason) => {
                let message = format!("`{name}` depends on what only a running router knows: {reason}");
                self.note(Severity::Warning, "needs-router", place, message, Some("write the value in quotes"));
            }
            Value::Text(_) | Value::Unset => {}
        }
    }

    /// The full name of a property.
    fn property(&mut self, menu: &str, key: &str, at: &Range<usize>) -> String {
        match menus::property(menu, key) {
            menus::Property::Known(known) => return known.to_owned(),
            menus::Property::Unchecked => {}
            menus::Property::Ambiguous(names) => {
                let message = format!("`{key}` is the beginning of {}", Listed(&names));
                self.error(at, "ambiguous", message, "write the whole name");
            }
            menus::Property::Unknown => {
                let message = format!("`{key}` is no property of `/{menu}`");
                let fix = menus::similar_property(menu, key).map(|similar| format!("perhaps `{similar}`"));
                self.note(Severity::Warning, "unknown-property", at, message, fix.as_deref());
            }
        }
        key.to_owned()
    }
}

/// A value that is a menu, or items of one, not the value of a property.
pub fn is_menu(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Table(table) => {
            let mut keys = table.keys().map(|key| key.get_ref().as_ref());
            table.is_empty() || keys.any(|key| !EXACT.contains(&key))
        }
        DeValue::Array(items) => !items.is_empty() && items.iter().all(|item| item.get_ref().is_table()),
        _ => false,
    }
}

/// The value of a property as an inline table.
fn exact(table: &DeTable<'_>) -> Option<(Value, bool)> {
    let get = |name: &str| table.iter().find(|(key, _)| key.get_ref() == name).map(|(_, value)| value.get_ref());
    let negated = get("negated").is_some_and(|value| value.as_bool() == Some(true));
    let value = match (get("value"), get("missing"), get("unknown")) {
        (Some(text), None, None) => Value::Text(text.as_str()?.to_owned()),
        (None, Some(DeValue::Boolean(true)), None) => Value::Missing,
        (None, None, Some(reason)) => Value::Unknown(reason.as_str()?.to_owned()),
        _ => return None,
    };
    Some((value, negated))
}
