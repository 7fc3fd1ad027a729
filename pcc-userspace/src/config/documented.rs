//! README's block of the configuration has every key that the reader knows, and the defaults that hold.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, DeserializeOwned, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};
use toml::{Table, Value};

use super::file::{CheckDraft, DegradedDraft, Draft, PageDraft, RuleDraft, Source, StickyDraft, UplinkDraft};
use super::flags::ConfigFlags;
use super::*;

const README: &str = include_str!("../../../README.md");

/// What has no default of a fixed value; README shows an example.
const EXAMPLES: [&str; 9] =
    ["seed", "flow_entries", "shortcut_entries", "hook", "metrics", "id", "gateway", "gateway6", "mss"];

/// The TOML blocks of README, with what they only mention put in force.
fn blocks() -> Vec<String> {
    let blocks = README.split("\n```toml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    blocks.map(|block| block.lines().map(|line| uncommented(line).to_owned() + "\n").collect()).collect()
}

/// `# key = …` without the `# `. Other comments stay.
fn uncommented(line: &str) -> &str {
    let is_key = |rest: &&str| {
        rest.split_once(" = ").is_some_and(|(key, _)| key.chars().all(|it| it.is_alphanumeric() || it == '_'))
    };
    line.strip_prefix("# ").filter(is_key).unwrap_or(line)
}

/// Asks a type for the names of its fields, and gives it nothing.
struct Fields<'a>(&'a mut BTreeSet<String>);

#[derive(Debug)]
struct Asked;

impl fmt::Display for Asked {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("asked for fields")
    }
}

impl std::error::Error for Asked {}

impl de::Error for Asked {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = Asked;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Asked> {
        self.0.extend(fields.iter().map(|&field| field.to_owned()));
        Err(Asked)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Asked> {
        Err(Asked)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The keys that `T` is read from.
fn known<T: DeserializeOwned>() -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    assert!(T::deserialize(Fields(&mut fields)).is_err() && !fields.is_empty());
    fields
}

fn keys<'a>(tables: impl IntoIterator<Item = &'a Table>) -> BTreeSet<String> {
    tables.into_iter().flat_map(Table::keys).cloned().collect()
}

/// The tables of an array of tables, or the one table.
fn tables<'a>(within: &'a Table, key: &str) -> Vec<&'a Table> {
    match within.get(key) {
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_table).collect(),
        Some(Value::Table(one)) => vec![one],
        _ => Vec::new(),
    }
}

#[test]
fn every_key_is_in_readme() {
    let documents: Vec<Table> = blocks().iter().map(|block| block.parse().unwrap()).collect();
    let all = |key| documents.iter().flat_map(|document| tables(document, key)).collect::<Vec<_>>();
    let (uplinks, rules) = (all("uplink"), all("rule"));
    let inner = |outer: &[&Table], key: &str| keys(outer.iter().flat_map(|table| tables(table, key)));
    assert_eq!(keys(&documents), known::<Draft>());
    assert_eq!(keys(uplinks.iter().copied()), known::<UplinkDraft>());
    assert_eq!(inner(&uplinks, "check"), known::<CheckDraft>());
    assert_eq!(inner(&uplinks, "degraded"), known::<DegradedDraft>());
    let in_table = README.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split(" | ").next());
    let in_table: BTreeSet<&str> = in_table.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let in_rules = keys(rules.iter().copied());
    assert!(in_rules.is_subset(&known::<RuleDraft>()));
    for key in known::<RuleDraft>() {
        assert!(in_rules.contains(&key) || in_table.contains(key.as_str()), "`{key}` of rules");
    }
    assert_eq!(inner(&rules, "sticky"), known::<StickyDraft>());
    let page = README.split('`').find(|span| span.starts_with("{ url = ")).unwrap();
    let page: Table = format!("page = {page}").parse().unwrap();
    assert_eq!(keys(tables(&page, "page")), known::<PageDraft>());
}

#[test]
fn the_defaults_in_readme_hold() {
    let built = |text: &str| Config::build(&ConfigFlags::default(), Source { name: "README.md", text }).unwrap();
    let block = &blocks()[0];
    let is_example = |line: &&str| EXAMPLES.iter().any(|key| line.starts_with(&format!("{key} = ")));
    let documented: String =
        block.lines().filter(|line| !is_example(line)).map(|line| line.to_owned() + "\n").collect();
    let documented = documented.replace(r#", latency = "300ms", jitter = "50ms""#, "");
    assert!(documented.lines().count() > 20 && documented != *block, "{documented}");
    assert_eq!(built(&documented), built("lan = [\"eth2\"]\n[[uplink]]\ndevice = \"eth0\"\n"));
    // The examples are accepted as well.
    built(block);
}
