//! Lines that are no commands: prose, and what `print` shows.

use crate::routeros::Severity;
use crate::routeros::lexer::{Parser, shape};
use crate::routeros::menus::{self, Word};

const PUNCTUATION: [char; 5] = [',', ':', '?', '!', '\u{2019}'];

/// Lines one after the other that are no commands.
pub struct Run {
    id: &'static str,
    start: usize,
    count: usize,
}

impl Parser<'_> {
    pub fn begins_line(&self) -> bool {
        let before = self.text()[..self.at].trim_end_matches([' ', '\t']);
        before.is_empty() || before.ends_with('\n')
    }

    /// Skips a line of prose or of `print`.
    pub fn is_no_command(&mut self, line: &str) -> bool {
        if shape::is_usual(line) {
            return false;
        }
        let printed = self.state.run.as_ref().is_some_and(|run| run.id == "print-format");
        let numbered = line.starts_with(|next: char| next.is_ascii_digit());
        let item = shape::is_printed_item(line) || (printed && (numbered || shape::is_assignment(line)));
        if item || shape::is_printed_header(line) {
            self.add_to_run("print-format", usize::from(numbered));
            self.state.total += usize::from(numbered);
            return true;
        }
        let prose = self.is_prose_line(line);
        if prose {
            self.add_to_run("prose", 1);
        }
        prose
    }

    fn is_prose_line(&self, line: &str) -> bool {
        let name = shape::name(line);
        let lower = name.to_ascii_lowercase();
        let behind = line[name.len()..].trim_start();
        match line.chars().next() {
            Some(':' | '$' | '{') => false,
            Some('[') => shape::is_placeholder(line),
            Some('/') => is_prose_behind("", line[1..].trim_start()),
            _ if shape::is_assignment(line) => false,
            _ if name.is_empty() => true,
            _ if line[name.len()..].starts_with(PUNCTUATION) => !shape::is_assignment(behind),
            _ if lower != name => {
                let verb = matches!(menus::word(&self.state.menu, &lower), Word::Verb(_));
                !(shape::is_assignment(behind) || verb && shape::chooses(behind))
            }
            _ if shape::script_word(name, behind) => false,
            _ if name == ".." => false,
            _ => match [&*self.state.menu, ""].iter().find(|menu| menus::word(menu, &lower) != Word::Unknown) {
                Some(menu) => is_prose_behind(menu, line),
                None => !shape::is_assignment(behind),
            },
        }
    }

    fn add_to_run(&mut self, id: &'static str, count: usize) {
        if self.state.run.as_ref().is_some_and(|run| run.id != id) {
            self.end_run();
        }
        self.state.run.get_or_insert(Run { id, start: self.at, count: 0 }).count += count;
        self.skip_line();
    }

    pub fn end_run(&mut self) {
        let Some(Run { id, start, count }) = self.state.run.take() else { return };
        let end = self.source.text.len();
        let lines = if count == 1 { "line" } else { "lines" };
        if id == "prose" {
            self.note(Severity::Info, id, start, end, format!("{count} {lines} of prose, skipped"));
        } else {
            let message = format!("what `print` shows is no configuration: its items, {count}, are skipped");
            self.fixable(Severity::Error, id, start, end, message, "paste what `export` shows instead");
        }
    }
}

/// Whether `line` reads like prose where its words stop being a path from `menu`.
fn is_prose_behind(menu: &str, line: &str) -> bool {
    let mut menu = menu;
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '/']);
        let name = shape::name(rest);
        if name.is_empty() {
            return false;
        }
        match menus::word(menu, &name.to_ascii_lowercase()) {
            Word::Menu(below) => (menu, rest) = (below, &rest[name.len()..]),
            Word::Verb("print" | "export") => return false,
            Word::Verb(_) => return shape::is_prose(&rest[name.len()..]),
            Word::Ambiguous(_) | Word::Unknown => return !menus::is_unknown(menu) && shape::is_prose(rest),
        }
    }
}
