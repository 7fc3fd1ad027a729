//! Pure: the TOML form of a RouterOS configuration, which [`super::import`] writes.
//!
//! A menu is an array of tables, a menu of settings a table, a property a key with RouterOS's name and its value as text:
//!
//! ```toml
//! dialect = "v7"
//! [interfaces]
//! fibre = "eth0"
//! [[ip.firewall.mangle]]
//! chain = "prerouting"
//! in-interface = "fibre"
//! dst-address-type = "!local"
//! ```
//!
//! It becomes the statements of a script, so that whatever reads scripts reads it. As in a script, a `!` before a value
//! negates the matcher, except in texts such as `comment`. What this form cannot say is written as an inline table
//! `{ value = "…", negated = true }`; `{ missing = true }` and `{ unknown = "reason" }` stand for values that a script lost.
//! `built-in = true` says that an item exists without an `add`, where its menu and properties do not show it.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml_writer::ToTomlKey;

use crate::problem::Problem;
use crate::routeros::dialect::Dialect;
use crate::routeros::menus::{self, Listed};
use crate::routeros::model::scope::{Scope, holds_interfaces, scope};
use crate::routeros::{Argument, BUILT_IN, Note, Script, Severity, Statement, Value};
use place::Places;
use value::is_menu;

mod place;
mod value;

/// The key that says whether an item exists without an `add`.
pub(super) const MARKER: &str = "built-in";
/// Words at the top of a document: menus, and the two keys of [`Settings`].
const MENUS: [&str; 7] = ["interface", "ip", "ipv6", "ppp", "routing", "system", "tool"];
const DIALECT: &str = "dialect";
const INTERFACES: &str = "interfaces";

/// What a document says besides what RouterOS knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The RouterOS generation.
    pub dialect: Option<Dialect>,
    /// Interfaces and their Linux devices.
    pub interfaces: BTreeMap<String, String>,
}

/// Whether `text` is a RouterOS configuration in TOML, not pcc's own configuration. Syntax errors may be in it. Only the
/// beginning of a long text decides.
pub fn is_routeros_document(text: &str) -> bool {
    const MOST_SEEN: usize = 256 << 10;
    let text = &text[..text.floor_char_boundary(MOST_SEEN)];
    // Most texts are scripts, of which TOML makes an error for each word.
    let begins = |line: &str| {
        let key = line.trim_start_matches([' ', '\t', '[', '"', '\'']);
        MENUS.iter().chain(&[DIALECT, INTERFACES]).any(|word| key.starts_with(word))
    };
    if !text.lines().any(begins) {
        return false;
    }
    let ours = |key: &str| MENUS.contains(&key) || key == DIALECT || key == INTERFACES;
    // Of a text that is no TOML the part before the error counts.
    let (table, _) = DeTable::parse_recoverable(text);
    let has = |wanted: &dyn Fn(&str) -> bool| table.get_ref().keys().any(|key| wanted(key.get_ref().as_ref()));
    has(&ours) && !has(&|key| key == "uplink")
}

/// Reads a document: its statements, as [`crate::routeros::read`] gives those of a script, and its settings.
///
/// # Errors
/// The text is no TOML, or something at its top is neither a menu nor a setting. Everything else is a note of the script.
pub fn read_toml(text: &str) -> Result<(Script, Settings), Problem> {
    let places = Places::new(text);
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map(|span| places.show(&span)).unwrap_or_default();
        Problem::new(format!("this is no TOML{at}: {}", error.message()), "`pcc import FILE.rsc` shows the form")
    })?;
    let (mut settings, mut reader) = (Settings::default(), Reader { places, script: Script::default() });
    for (key, value) in sorted(table.get_ref()) {
        match key.get_ref().as_ref() {
            DIALECT => settings.dialect = Some(reader.dialect(value)?),
            INTERFACES => settings.interfaces = reader.interfaces(value)?,
            word if MENUS.contains(&word) => reader.menu(word, value),
            word => {
                let at = reader.places.show(&key.span());
                let words: Vec<_> = [DIALECT, INTERFACES].iter().chain(&MENUS).copied().collect();
                let hint = format!("what may be at the top: {}", Listed(&words));
                return Err(Problem::new(format!("`{word}`{at} is no menu of RouterOS"), hint));
            }
        }
    }
    reader.script.notes.sort_by_key(|note| note.span);
    Ok((reader.script, settings))
}

/// An item of `menu` exists without an `add`, as far as its properties show.
pub(super) fn looks_built_in(menu: &str, properties: &[&str], name: &str) -> bool {
    let profile = menu == "ppp profile" && matches!(name, "default" | "default-encryption");
    holds_interfaces(menu) && properties.contains(&"default-name") || profile
}

/// A `!` before a text belongs to the text.
pub(super) fn is_free_text(property: &str) -> bool {
    const FREE: [&str; 13] = [
        "comment",
        "down-script",
        "log-prefix",
        "name",
        "on-down",
        "on-event",
        "on-up",
        "password",
        "script",
        "service-name",
        "source",
        "up-script",
        "user",
    ];
    FREE.contains(&property)
}

/// The entries of a table in the order of the text.
fn sorted<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(&'a Spanned<Cow<'i>>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

type Cow<'i> = std::borrow::Cow<'i, str>;

struct Reader {
    places: Places,
    script: Script,
}

impl Reader {
    fn dialect(&self, value: &Spanned<DeValue<'_>>) -> Result<Dialect, Problem> {
        match value.get_ref().as_str() {
            Some("v6") => Ok(Dialect::V6),
            Some("v7") => Ok(Dialect::V7),
            _ => {
                let at = self.places.show(&value.span());
                Err(Problem::new(format!("`{DIALECT}`{at} is neither `v6` nor `v7`"), "dialect = \"v7\""))
            }
        }
    }

    fn interfaces(&self, value: &Spanned<DeValue<'_>>) -> Result<BTreeMap<String, String>, Problem> {
        let bad = |span: &Range<usize>| {
            let at = self.places.show(span);
            Problem::new(format!("`{INTERFACES}`{at} does not give a Linux device"), "ether1 = \"eth0\"")
        };
        let table = value.get_ref().as_table().ok_or_else(|| bad(&value.span()))?;
        let mut interfaces = BTreeMap::new();
        for (name, device) in table {
            let device_name = device.get_ref().as_str().filter(|name| !name.is_empty());
            let device = device_name.ok_or_else(|| bad(&device.span()))?;
            interfaces.insert(name.get_ref().clone().into_owned(), device.to_owned());
        }
        Ok(interfaces)
    }

    /// A menu and the menus below it.
    fn menu(&mut self, path: &str, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => self.table(path, table, &value.span(), false),
            DeValue::Array(items) if items.iter().all(|item| item.get_ref().is_table()) => {
                for item in items {
                    if let Some(table) = item.get_ref().as_table() {
                        self.table(path, table, &item.span(), true);
                    }
                }
            }
            _ => self.error(&value.span(), "syntax", format!("`/{path}` is a menu, not a value"), &header(path)),
        }
    }

    /// A table: one item of the menu `path` (`of_array`), its settings, or menus below it.
    fn table(&mut self, path: &str, table: &DeTable<'_>, span: &Range<usize>, of_array: bool) {
        if menus::is_unknown(path) {
            self.unknown_menu(path, span);
        }
        let (mut arguments, mut marker, mut below) = (Vec::new(), None, false);
        for (key, value) in sorted(table) {
            let name = key.get_ref().as_ref();
            if is_menu(value.get_ref()) {
                self.menu(&format!("{path} {name}"), value);
                below = true;
            } else if let (MARKER, Some(built_in)) = (name, value.get_ref().as_bool()) {
                marker = Some(built_in);
            } else {
                arguments.push(self.argument(path, name, key.span(), value));
            }
        }
        let settings = !of_array && matches!(scope(path), Scope::Settings | Scope::Read);
        // Only there because a menu below it is.
        if !of_array && (!settings || below) && arguments.is_empty() && marker.is_none() {
            return;
        }
        self.script.total += 1;
        if !of_array && !settings {
            let message = format!("`/{path}` has items, each with a header of its own");
            return self.error(span, "syntax", message, &header(path));
        }
        let text = |wanted: &str| {
            let argument = arguments.iter().find(|argument: &&Argument| argument.name == wanted)?;
            if let Value::Text(text) = &argument.value { Some(text.as_str()) } else { None }
        };
        let names: Vec<_> = arguments.iter().map(|argument| argument.name.as_str()).collect();
        let looks = looks_built_in(path, &names, text("name").unwrap_or_default());
        let verb = match (settings, marker.unwrap_or(looks)) {
            (true, _) => "set",
            (false, true) => BUILT_IN,
            (false, false) => "add",
        };
        self.script.statements.push(Statement {
            span: self.places.span(span),
            menu: path.split(' ').map(str::to_owned).collect(),
            verb: verb.to_owned(),
            items: Vec::new(),
            arguments,
        });
    }

    fn unknown_menu(&mut self, path: &str, span: &Range<usize>) {
        let (parent, word) = path.rsplit_once(' ').unwrap_or(("", path));
        let similar = menus::similar_menu(parent, word);
        // What stands straight below `/interface` holds interfaces, also of kinds that are new.
        let kind = similar.is_none() && scope(path) != Scope::Outside;
        let severity = if kind { Severity::Warning } else { Severity::Error };
        let fix = similar.map(|similar| format!("perhaps `{similar}`"));
        let message = format!("no `{word}` is known in `/{parent}`");
        self.note(severity, "unknown-menu", span, message, fix.as_deref());
    }

    fn error(&mut self, at: &Range<usize>, id: &'static str, message: String, fix: &str) {
        self.note(Severity::Error, id, at, message, Some(fix));
    }

    fn note(&mut self, severity: Severity, id: &'static str, at: &Range<usize>, message: String, fix: Option<&str>) {
        let note = Note::new(severity, id, self.places.span(at), message);
        self.script.notes.push(Note { fix: fix.map(str::to_owned), ..note });
    }
}

/// The header of an item of the menu `path`.
pub(super) fn header(path: &str) -> String {
    let words: Vec<_> = path.split(' ').map(ToTomlKey::to_toml_key).collect();
    format!("[[{}]]", words.join("."))
}

#[cfg(test)]
mod tests;
