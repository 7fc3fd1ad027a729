//! Blanks, comments, continued lines, words and strings.

use std::cell::RefCell;
use std::rc::Rc;

use source::Source;

use super::notes::Notes;
use super::parser::State;
use super::{Note, Severity};

mod damage;
pub mod shape;
pub mod source;
mod string;

/// Brackets in brackets that are read; deeper ones are refused.
const DEEPEST: usize = 64;

/// Reads commands from a source. [`super::parser`] and [`super::expression`] add what lies above words.
pub struct Parser<'a> {
    pub source: &'a Source,
    pub notes: &'a RefCell<Notes>,
    pub at: usize,
    /// Round or square brackets around this place: inside them a line end is a blank.
    pub inside: usize,
    /// Where a nesting that is too deep made the parser skip to, so that the brackets around it do not complain.
    pub gave_up: Option<usize>,
    pub state: State,
    /// Where the text ends for now: that of the source, or the string whose variables are read.
    limit: usize,
    depth: usize,
    vain: usize,
}

/// Where a word ends, besides at blanks and brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The value of an argument.
    Argument,
    /// An element of an array: also at `=`.
    Element,
    /// The name or value of a condition: also at `=`, `!`, `<`, `>`, `~`.
    Condition,
}

impl<'a> Parser<'a> {
    pub fn new(source: &'a Source, notes: &'a RefCell<Notes>) -> Self {
        Self {
            source,
            notes,
            at: 0,
            limit: source.text.len(),
            inside: 0,
            gave_up: None,
            state: Default::default(),
            depth: 0,
            vain: 0,
        }
    }

    pub fn text(&self) -> &'a str {
        &self.source.text[..self.limit]
    }

    pub fn rest(&self) -> &'a str {
        self.text().get(self.at..).unwrap_or_default()
    }

    pub fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub fn bump(&mut self) {
        self.at += self.peek().map_or(0, char::len_utf8);
    }

    /// Skips `text` if it comes next.
    pub fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        self.at += if found { text.len() } else { 0 };
        found
    }

    /// What is on the rest of this line, as far as one looks to see what it is.
    pub fn line(&self) -> &'a str {
        shape::line(self.rest())
    }

    pub fn skip_line(&mut self) {
        self.at += self.rest().find('\n').unwrap_or(self.rest().len());
    }

    pub fn damage(&self, id: &'static str, at: usize) {
        self.notes.borrow_mut().damage(id, at, || self.source.span(at, at));
    }

    pub fn note(&self, severity: Severity, id: &'static str, start: usize, end: usize, message: impl Into<String>) {
        if !self.notes.borrow().is_full(id) {
            self.notes.borrow_mut().add(Note::new(severity, id, self.source.span(start, end), message));
        }
    }

    /// The same with its fix.
    pub fn fixable(
        &self,
        severity: Severity,
        id: &'static str,
        start: usize,
        end: usize,
        message: String,
        fix: impl Into<String>,
    ) {
        if !self.notes.borrow().is_full(id) {
            let note = Note::new(severity, id, self.source.span(start, end), message);
            self.notes.borrow_mut().add(note.with_fix(fix));
        }
    }

    /// One level of brackets deeper; `None` if that is too deep, and then the rest of the line is skipped.
    pub fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.depth >= DEEPEST {
            let message = format!("brackets nested deeper than {DEEPEST}: the rest of the line is skipped");
            self.note(Severity::Error, "too-deep", self.at, self.at, message);
            self.skip_line();
            self.gave_up = Some(self.at);
            return None;
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        Some(result)
    }

    /// Skips `bracket`, or says that the one at `start` is never closed.
    pub fn close(&mut self, bracket: &str, start: usize) {
        if !self.eat(bracket) && self.gave_up != Some(self.at) {
            let open = self.text().get(start..).and_then(|text| text.chars().next()).unwrap_or(' ');
            self.note(Severity::Error, "unclosed", start, start, format!("`{open}` without its `{bracket}`"));
        }
    }

    /// Skips blanks, comments and line ends that do not end the command.
    pub fn blanks(&mut self) {
        while let Some(character) = self.peek() {
            match character {
                ' ' | '\t' => self.at += 1,
                '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => {
                    self.damage("non-breaking-blank", self.at);
                    self.bump();
                }
                '\\' => {
                    let Some(next) = self.backslash() else { break };
                    self.at = next;
                }
                '\n' if self.inside > 0 && !shape::begins_command(shape::line(&self.rest()[1..])) => self.at += 1,
                '#' if self.at == 0 || shape::may_precede_comment(self.text().as_bytes()[self.at - 1]) => {
                    if self.state.add_comment(self.at) {
                        self.count();
                    }
                    self.skip_line();
                }
                _ => break,
            }
        }
    }

    /// What follows the backslash here, where that ends a line or stands alone; `None` if it belongs to a word.
    fn backslash(&self) -> Option<usize> {
        let rest = &self.rest()[1..];
        let end = rest.len() - rest.trim_start_matches([' ', '\t', '\u{a0}']).len();
        let line_end = self.at + 1 + end;
        if !rest[end..].is_empty() && !rest[end..].starts_with('\n') {
            return (end > 0).then(|| {
                self.damage("stray-backslash", self.at);
                line_end
            });
        }
        let following = rest.get(end + 1..).unwrap_or_default();
        let text = following.trim_start_matches([' ', '\t', '\n']);
        let wide = following[..following.len() - text.len()].contains('\n');
        let line = shape::line(text);
        let wanting = self.text()[..self.at].ends_with('=');
        if shape::begins_command(line) || (wide && !shape::continues(line, wanting)) {
            if !wanting {
                self.damage("stray-backslash", self.at);
            }
            return Some(line_end);
        }
        if end > 0 {
            self.damage("blank-after-backslash", self.at);
        }
        if wide {
            self.damage("blank-line-in-command", self.at);
        }
        Some(self.text().len() - text.len())
    }

    /// The unquoted word here, if nothing in it or right behind it needs a closer look.
    pub fn plain_word(&mut self, place: Place) -> Option<&'a str> {
        let ends = |byte: u8| match byte {
            b' ' | b'\t' | b'\n' | b';' | b')' | b']' | b'}' => true,
            b'=' => place != Place::Argument,
            b'!' | b'<' | b'>' | b'~' => place == Place::Condition,
            _ => false,
        };
        let rest = self.rest();
        let end = rest.bytes().position(|byte| ends(byte) || !byte.is_ascii_graphic() || b"\"$([{\\".contains(&byte));
        let end = end.unwrap_or(rest.len());
        if end == 0 || !rest.as_bytes().get(end).is_none_or(|byte| ends(*byte)) {
            return None;
        }
        self.at += end;
        Some(&rest[..end])
    }

    /// An unquoted word, perhaps empty.
    pub fn word(&mut self, place: Place) -> String {
        let mut word = String::new();
        while let Some(character) = self.peek() {
            match character {
                '\n' | ';' | '"' | '(' | ')' | '[' | ']' | '{' | '}' => break,
                '$' if self.variable_follows() => break,
                '=' if place != Place::Argument => break,
                '!' | '<' | '>' | '~' if place == Place::Condition => break,
                '\\' if self.rest()[1..].starts_with(['\n', ' ', '\t']) || self.rest().len() == 1 => break,
                '\u{2010}'..='\u{2015}' | '\u{2212}' => {
                    self.damage("dash", self.at);
                    word.push('-');
                }
                _ if shape::is_blank(Some(character)) => break,
                _ => word.push(character),
            }
            self.bump();
        }
        word
    }

    /// Whether the `$` here begins the name of a variable.
    pub fn variable_follows(&self) -> bool {
        let next = self.rest().chars().nth(1);
        next.is_some_and(|next| next.is_ascii_alphanumeric() || next == '_' || next == '"')
    }

    /// `$name` or `$"name"`.
    pub fn variable(&mut self) -> Rc<str> {
        self.at += 1;
        let rest = self.rest();
        if let Some(quoted) = rest.strip_prefix('"')
            && let Some(end) = quoted.find(['"', '\n'])
        {
            self.at += end + 2;
            return quoted[..end].into();
        }
        let end = rest.find(|next: char| !next.is_ascii_alphanumeric() && next != '_').unwrap_or(rest.len());
        self.at += end;
        rest[..end].into()
    }
}

#[cfg(test)]
#[path = "lexer_tests.rs"]
mod tests;
