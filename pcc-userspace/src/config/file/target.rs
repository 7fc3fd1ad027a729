//! The `target` of a check: a word or a table, or a list of both.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{At, Place, Words};

/// What a check asks, as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// `"gateway"`
    One(TargetDraft),
    /// `["1.1.1.1", { url = "https://example.org/", address = "203.0.113.9" }]`
    Many(Vec<At<TargetDraft>>),
}

/// One target.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetDraft {
    /// A word, an address or a URL.
    Word(String),
    /// A table.
    Page(PageDraft),
}

/// `{ url = "https://example.org/204", address = "203.0.113.9", status = 204, body = "ok" }`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageDraft {
    /// URL.
    pub url: String,
    /// Where its server is, if the URL has a name.
    pub address: Option<Words>,
    /// The status that counts.
    pub status: Option<i64>,
    /// What the page must contain.
    pub body: Option<String>,
}

impl Targets {
    /// Each with its place; `place` is that of the whole.
    pub fn each(&self, place: Place) -> Vec<(&TargetDraft, Place)> {
        match self {
            Self::One(target) => vec![(target, place)],
            Self::Many(targets) => targets.iter().map(|at| (&at.value, at.place)).collect(),
        }
    }
}

impl<'de> Deserialize<'de> for TargetDraft {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneTarget)
    }
}

impl<'de> Deserialize<'de> for Targets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AllTargets)
    }
}

/// Unlike serde's untagged enums this tells what is wrong inside a table.
struct OneTarget;

impl<'de> Visitor<'de> for OneTarget {
    type Value = TargetDraft;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a string or a table with `url`")
    }

    fn visit_str<E>(self, word: &str) -> Result<TargetDraft, E> {
        Ok(TargetDraft::Word(word.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<TargetDraft, A::Error> {
        PageDraft::deserialize(MapAccessDeserializer::new(table)).map(TargetDraft::Page)
    }
}

struct AllTargets;

impl<'de> Visitor<'de> for AllTargets {
    type Value = Targets;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a string, a table with `url`, or a list of them")
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Targets, E> {
        OneTarget.visit_str(word).map(Targets::One)
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Targets, A::Error> {
        OneTarget.visit_map(table).map(Targets::One)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Targets, A::Error> {
        let mut targets = Vec::new();
        while let Some(target) = list.next_element()? {
            targets.push(target);
        }
        Ok(Targets::Many(targets))
    }
}
