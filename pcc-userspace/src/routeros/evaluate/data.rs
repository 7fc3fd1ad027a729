//! Values while a script runs, and what operators make of them.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::rc::Rc;

use crate::routeros::Condition;
use crate::routeros::parser::syntax::Block;

/// Bytes of a text, elements of an array, and arrays in arrays, beyond which a value is given up.
const MOST_TEXT: usize = 64 << 10;
const MOST_ELEMENTS: usize = 10_000;
const DEEPEST: usize = 16;

/// A value. Numbers, addresses and booleans are their text.
#[derive(Clone, Debug)]
pub enum Data {
    Nothing,
    Text(Rc<str>),
    Array(Rc<Array>),
    /// What a `find` finds.
    Items(Rc<Items>),
    Code(Block),
    Unknown(Unknown),
}

/// Elements with their keys, if they have any.
#[derive(Debug)]
pub struct Array {
    pub elements: Vec<(Option<Rc<str>>, Data)>,
    depth: usize,
}

/// Items of a menu, `None` for all.
#[derive(Clone, Debug)]
pub struct Items {
    pub menu: Rc<str>,
    pub condition: Option<Condition>,
    /// Statements before the `find`.
    pub since: usize,
    /// The variable of a loop over the items, which stands for one after the other.
    pub each: bool,
}

/// Why a value is not known.
#[derive(Clone, Debug)]
pub struct Unknown {
    pub reason: Rc<str>,
    /// A note says so already.
    pub noted: bool,
}

impl Data {
    pub fn text(text: impl Into<Rc<str>>) -> Self {
        let text = text.into();
        if text.len() > MOST_TEXT {
            Self::unknown(format!("a text of more than {MOST_TEXT} bytes"))
        } else {
            Self::Text(text)
        }
    }

    pub fn boolean(value: bool) -> Self {
        Self::text(if value { "true" } else { "false" })
    }

    pub fn unknown(reason: impl Into<Rc<str>>) -> Self {
        Self::Unknown(Unknown { reason: reason.into(), noted: false })
    }

    pub fn noted(reason: impl Into<Rc<str>>) -> Self {
        Self::Unknown(Unknown { reason: reason.into(), noted: true })
    }

    /// An array, if it is not too large.
    pub fn array(elements: Vec<(Option<Rc<str>>, Self)>) -> Self {
        let depth = elements.iter().map(|(_, element)| element.depth()).max().unwrap_or(0) + 1;
        if depth > DEEPEST || elements.len() > MOST_ELEMENTS {
            return Self::unknown("an array that is too large");
        }
        Self::Array(Rc::new(Array { elements, depth }))
    }

    fn depth(&self) -> usize {
        if let Self::Array(array) = self { array.depth } else { 0 }
    }

    /// What it costs to copy it.
    pub fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Array(array) => array.elements.len() * 16,
            _ => 0,
        }
    }

    /// As text, elements of arrays with `separator` between them.
    pub fn join(&self, separator: &str) -> Result<Rc<str>, Unknown> {
        match self {
            Self::Nothing => Ok("".into()),
            Self::Text(text) => Ok(Rc::clone(text)),
            Self::Array(_) => {
                let mut text = String::new();
                self.write(separator, &mut text)?;
                Ok(text.into())
            }
            Self::Items(_) => Err(Unknown { reason: "the ids of items".into(), noted: false }),
            Self::Code(_) => Err(Unknown { reason: "commands as a value".into(), noted: false }),
            Self::Unknown(unknown) => Err(unknown.clone()),
        }
    }

    fn write(&self, separator: &str, text: &mut String) -> Result<(), Unknown> {
        if text.len() > MOST_TEXT {
            return Err(Unknown { reason: "an array that is too large".into(), noted: false });
        }
        let Self::Array(array) = self else {
            text.push_str(&self.join(separator)?);
            return Ok(());
        };
        for (index, (key, element)) in array.elements.iter().enumerate() {
            text.push_str(if index > 0 { separator } else { "" });
            if let Some(key) = key {
                // Writing to a `String` cannot fail.
                let _ = write!(text, "{key}=");
            }
            element.write(separator, text)?;
        }
        Ok(())
    }

    /// `true` or `false`, if it is one of them.
    pub fn truth(&self) -> Option<bool> {
        let Self::Text(text) = self else { return None };
        truth(text)
    }

    pub fn number(&self) -> Option<i64> {
        let Self::Text(text) = self else { return None };
        number(text)
    }
}

pub fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "yes" => Some(true),
        "false" | "no" => Some(false),
        _ => None,
    }
}

pub fn number(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None if text.starts_with('+') => None,
        None => text.parse().ok(),
    }
}

pub fn address(text: &str) -> Option<u32> {
    text.parse::<Ipv4Addr>().ok().map(u32::from)
}
