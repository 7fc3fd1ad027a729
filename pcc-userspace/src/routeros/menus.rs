//! The menus, commands and properties of RouterOS, as far as abbreviations and typing errors need them.

use std::fmt;
use std::sync::LazyLock;

use properties::{ALWAYS, PROPERTIES, SOMETIMES};
use tables::{DIRECTORIES, MENUS, MORE_VERBS, ROOT_VERBS, VERBS};

mod properties;
mod tables;

/// What a word means in a menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// A menu below this one, as its full path.
    Menu(&'static str),
    /// A command of this menu.
    Verb(&'static str),
    /// The beginning of several words.
    Ambiguous(Vec<&'static str>),
    Unknown,
}

/// What a word means among the properties of a menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    Known(&'static str),
    Ambiguous(Vec<&'static str>),
    Unknown,
    /// The properties of this menu are not known.
    Unchecked,
}

/// What `word` means in the menu `menu`, a path in full words such as `ip firewall`; the root is empty.
pub fn word(menu: &str, word: &str) -> Word {
    if word.is_empty() {
        return Word::Unknown;
    }
    // Most words differ in the first letter, which is compared faster than a word.
    let near = |known: &str| known.as_bytes().first() == word.as_bytes().first();
    let children = children(menu).iter().filter(|(last, _)| near(last));
    if let Some((_, path)) = children.clone().find(|(last, _)| *last == word) {
        return Word::Menu(path);
    }
    let verbs = verbs(menu).iter().filter(|verb| near(verb));
    if let Some(verb) = verbs.clone().chain(MORE_VERBS.iter().filter(|verb| near(verb))).find(|verb| **verb == word) {
        return Word::Verb(verb);
    }
    let mut menus = children.clone().filter(|(last, _)| last.starts_with(word));
    let mut prefixed = verbs.clone().filter(|verb| verb.starts_with(word));
    match (menus.next(), prefixed.next(), menus.next().is_some() || prefixed.next().is_some()) {
        (None, None, _) => Word::Unknown,
        (Some((_, path)), None, false) => Word::Menu(path),
        (None, Some(verb), false) => Word::Verb(verb),
        _ => {
            let words = children.map(|(last, _)| *last).chain(verbs.copied());
            Word::Ambiguous(words.filter(|known| known.starts_with(word)).collect())
        }
    }
}

/// The full name of the property `name` in the menu `menu`.
pub fn property(menu: &str, name: &str) -> Property {
    let Some((known, complete)) = PROPERTY_NAMES.get(menu) else { return Property::Unchecked };
    let first = known.partition_point(|known| *known < name);
    if let Some(exact) = known.get(first).filter(|known| **known == name) {
        return Property::Known(exact);
    }
    let mut matching: Vec<_> = known.iter().skip(first).take_while(|known| known.starts_with(name)).copied().collect();
    if matching.len() > 1 {
        // Not every command has these.
        matching.retain(|known| !SOMETIMES.contains(known));
    }
    match matching.as_slice() {
        [one] => Property::Known(one),
        [] if *complete => Property::Unknown,
        [] => Property::Unchecked,
        _ => Property::Ambiguous(matching),
    }
}

/// The property of the menu `menu` that looks like `name`.
pub fn similar_property(menu: &str, name: &str) -> Option<&'static str> {
    similar(name, PROPERTY_NAMES.get(menu)?.0.iter().copied())
}

/// Whether nothing is known of the menu, not even that it exists.
pub fn is_unknown(menu: &str) -> bool {
    let (parent, last) = menu.rsplit_once(' ').unwrap_or(("", menu));
    !menu.is_empty() && !children(parent).iter().any(|(word, _)| *word == last)
}

/// The menu below `menu` that looks like `word`.
pub fn similar_menu(menu: &str, word: &str) -> Option<&'static str> {
    similar(word, children(menu).iter().map(|(last, _)| *last))
}

/// Literals in backticks, one after the other.
pub struct Listed<'a>(pub &'a [&'a str]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.0.iter().enumerate() {
            write!(out, "{}`{word}`", if index > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

/// What is known of each menu, the menus sorted by length and name: many begin alike, and lengths are compared faster.
struct ByMenu<T>(Vec<(&'static str, T)>);

impl<T> ByMenu<T> {
    fn new(entries: impl Iterator<Item = (&'static str, T)>) -> Self {
        let mut entries: Vec<_> = entries.collect();
        entries.sort_unstable_by_key(|(menu, _)| (menu.len(), *menu));
        Self(entries)
    }

    fn get(&self, menu: &str) -> Option<&T> {
        let place = self.0.binary_search_by(|(known, _)| (known.len(), *known).cmp(&(menu.len(), menu)));
        place.ok().and_then(|at| self.0.get(at)).map(|(_, entry)| entry)
    }
}

/// The menus right below each menu, as last word and full path.
static CHILDREN: LazyLock<ByMenu<Vec<(&str, String)>>> = LazyLock::new(|| {
    let path = |menu: &str, word: &str| if menu.is_empty() { word.to_owned() } else { format!("{menu} {word}") };
    let children =
        |menu, words: &'static str| words.split_ascii_whitespace().map(|word| (word, path(menu, word))).collect();
    ByMenu::new(MENUS.iter().map(|(menu, words)| (*menu, children(menu, words))))
});

/// The properties of each menu, sorted, and whether these are all.
static PROPERTY_NAMES: LazyLock<ByMenu<(Vec<&str>, bool)>> = LazyLock::new(|| {
    let names = |properties: &'static [&'static str]| {
        let mut names: Vec<_> =
            properties.iter().chain(&[ALWAYS]).flat_map(|names| names.split_ascii_whitespace()).collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    ByMenu::new(PROPERTIES.iter().map(|(menu, properties, complete)| (*menu, (names(properties), *complete))))
});

fn children(menu: &str) -> &'static [(&'static str, String)] {
    CHILDREN.get(menu).map_or(&[], Vec::as_slice)
}

fn verbs(menu: &str) -> &'static [&'static str] {
    if menu.is_empty() {
        ROOT_VERBS
    } else if DIRECTORIES.contains(&menu) {
        &["export"]
    } else {
        VERBS
    }
}

/// The candidate that `word` becomes by at most two insertions, deletions, replacements or swaps.
pub fn similar(word: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    const LONGEST: usize = 40;
    if !(4..=LONGEST).contains(&word.len()) {
        return None;
    }
    candidates
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, candidate)| candidate)
}

fn distance(left: &str, right: &str) -> usize {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let mut rows = vec![vec![0; right.len() + 1]; left.len() + 1];
    for i in 0..=left.len() {
        for j in 0..=right.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
                let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[left.len()][right.len()]
}
