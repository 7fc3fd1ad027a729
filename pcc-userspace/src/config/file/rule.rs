//! `[[rule]]` and `[lists]` as written.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::{At, Place};

/// One `[[rule]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleDraft {
    /// What people call it.
    pub name: Option<At<String>>,
    /// Source addresses, prefixes and lists.
    pub source: Option<Several>,
    /// Destination addresses, prefixes and lists.
    pub destination: Option<Several>,
    /// Source ports.
    pub source_port: Option<Several>,
    /// Destination ports.
    pub destination_port: Option<Several>,
    /// Protocols.
    pub protocol: Option<Several>,
    /// LAN devices.
    pub interface: Option<Several>,
    /// `main`, `all`, or uplinks.
    #[serde(rename = "use")]
    pub uses: Several,
    /// RouterOS's word for the hashed fields.
    pub hash: Option<At<String>>,
    /// Which connections keep to one uplink.
    pub sticky: Option<StickyDraft>,
}

/// The `sticky` of a rule.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StickyDraft {
    /// RouterOS's word for the shared fields.
    pub by: At<String>,
    /// Time such as `10m`.
    pub lifetime: Option<At<String>>,
}

/// A word or a list of words; a number is the word of its digits.
#[derive(Clone, Debug, PartialEq)]
pub struct Several {
    /// Where it begins.
    pub place: Place,
    /// Each with its own place.
    pub words: Vec<At<String>>,
}

/// A word, or a number as the word of its digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(pub String);

impl<'de> Deserialize<'de> for Several {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Shape>::deserialize(deserializer)?;
        let place = Place::File { offset: spanned.span().start };
        let words = match spanned.into_inner() {
            Shape::One(word) => vec![At { value: word, place }],
            Shape::Many(words) => words.into_iter().map(|at| At { value: at.value.0, place: at.place }).collect(),
        };
        Ok(Self { place, words })
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(ShapeVisitor { list: false })? {
            Shape::One(word) => Ok(Self(word)),
            Shape::Many(_) => Err(serde::de::Error::custom("expected one value, found a list")),
        }
    }
}

enum Shape {
    One(String),
    Many(Vec<At<Word>>),
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor { list: true })
    }
}

/// Unlike an untagged enum it keeps the places inside.
struct ShapeVisitor {
    list: bool,
}

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.list { "a string, a number or a list of them" } else { "a string or a number" })
    }

    fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
        Ok(Shape::One(text.to_owned()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Shape, E> {
        Ok(Shape::One(number.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
        if !self.list {
            return Err(serde::de::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        }
        let mut words = Vec::new();
        while let Some(word) = list.next_element()? {
            words.push(word);
        }
        Ok(Shape::Many(words))
    }
}
