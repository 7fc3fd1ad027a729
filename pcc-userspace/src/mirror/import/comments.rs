//! Which comment belongs to which item.

use std::collections::BTreeMap;

use crate::routeros::model::item::Item;
use crate::routeros::{Script, Span};

type Place = (u32, u32);

/// The comments of a script, each in one place.
#[derive(Debug, Default)]
pub struct Comments<'a> {
    /// About the whole text.
    pub head: Vec<&'a str>,
    /// Behind the last item.
    pub tail: Vec<&'a str>,
    of_items: BTreeMap<(&'a str, usize), Vec<&'a str>>,
}

impl<'a> Comments<'a> {
    /// A comment goes to the item that the command on its line or else the next command makes or changes; if that item is
    /// gone, to the next one in the text.
    pub fn assign(script: &'a Script, menus: &'a BTreeMap<String, Vec<Item>>) -> Self {
        let owners = owners(menus);
        // Where each command begins, and the last line on which it gives a property.
        let mut commands: Vec<(Place, u32)> = Vec::new();
        for statement in &script.statements {
            let last = statement.arguments.iter().map(|argument| argument.span.line).max();
            commands.push((place(statement.span), last.unwrap_or(0).max(statement.span.line)));
        }
        commands.sort_unstable();
        let mut comments = Self::default();
        let head = head(script, commands.first().map(|(place, _)| place.0));
        for (at, comment) in script.comments.iter().enumerate() {
            let after = place(comment.span);
            let next = commands.partition_point(|(begin, _)| *begin < after);
            let around = next.checked_sub(1).map(|before| commands[before]).filter(|(_, last)| *last >= after.0);
            let command = around.or_else(|| commands.get(next).copied());
            let owner = command.and_then(|(begin, _)| owners.range(begin..).next());
            let list = match owner {
                _ if at < head => &mut comments.head,
                Some((_, owner)) => comments.of_items.entry(*owner).or_default(),
                None => &mut comments.tail,
            };
            list.push(&comment.text);
        }
        comments
    }

    /// Those of the item `at` of `menu`.
    pub fn of(&self, menu: &'a str, at: usize) -> &[&'a str] {
        self.of_items.get(&(menu, at)).map_or(&[], Vec::as_slice)
    }
}

/// The item to which each place of the text belongs that made or changed one.
fn owners(menus: &BTreeMap<String, Vec<Item>>) -> BTreeMap<Place, (&str, usize)> {
    let mut owners = BTreeMap::new();
    for (menu, items) in menus {
        for (at, item) in items.iter().enumerate() {
            let places = item.properties.iter().map(|property| property.span).chain([item.span]);
            for span in places {
                owners.entry(place(span)).or_insert((menu.as_str(), at));
            }
        }
    }
    owners
}

/// How many comments are about the whole text: those from its first line on, if a blank line follows or they are the header
/// of an export.
fn head(script: &Script, first_command: Option<u32>) -> usize {
    let lines = script.comments.iter().zip(1..);
    let count = lines.take_while(|(comment, line)| comment.span.line == *line && comment.span.column == 1).count();
    let of_export = script.comments[..count].iter().any(|comment| comment.text.contains("by RouterOS "));
    let follows = first_command.and_then(|line| usize::try_from(line).ok()).is_some_and(|line| line == count + 1);
    if follows && !of_export { 0 } else { count }
}

fn place(span: Span) -> Place {
    (span.line, span.column)
}
