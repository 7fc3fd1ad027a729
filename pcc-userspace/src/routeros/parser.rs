//! Commands: which menu and verb, what is prose, and where one ends.

use std::mem;
use std::rc::Rc;

use prose::Run;
use shared::Shared;
use syntax::{Block, Command, Kind};

use super::Severity;
use super::lexer::{Parser, shape};
use super::menus::{self, Word};

mod arguments;
mod expression;
mod path;
mod prose;
mod shared;
pub mod syntax;

/// Commands, arguments and parts of values that are read, so that no text fills the memory.
const MOST_NODES: usize = 4_000_000;

/// What the parser remembers from command to command.
#[derive(Default)]
pub struct State {
    /// The menu in which relative commands are, in full words; empty at the root.
    menu: Rc<str>,
    /// A command ended where another one of its menu begins on the same line.
    pub split: bool,
    /// The menu was chosen inside a `{ … }` that is closed.
    from_block: Option<usize>,
    /// The places of the commands that were counted since somebody took them.
    pub counted: Vec<(usize, usize)>,
    numbered: usize,
    /// Commands so far, understood or not.
    pub total: usize,
    nodes: usize,
    run: Option<Run>,
    comments: Vec<usize>,
    pub shared: Shared,
}

impl State {
    pub fn menu(&self) -> Rc<str> {
        Rc::clone(&self.menu)
    }

    pub fn choose(&mut self, menu: Rc<str>) {
        self.menu = menu;
    }

    /// Where comments begin.
    pub fn comments(&self) -> &[usize] {
        &self.comments
    }

    /// Adds the place of a comment. A text may be read twice, so each place counts once.
    pub fn add_comment(&mut self, at: usize) -> bool {
        let new = match self.comments.last() {
            Some(last) if *last >= at => self.comments.binary_search(&at).err(),
            _ => Some(self.comments.len()),
        };
        new.map(|place| self.comments.insert(place, at)).is_some()
    }

    /// Counts a command and returns its index among all.
    pub fn count_command(&mut self, start: usize, end: usize) -> usize {
        self.total += 1;
        self.counted.push((start, end));
        self.numbered += 1;
        self.numbered - 1
    }
}

impl Parser<'_> {
    /// The next command; `None` at the end of the text, or of the block that `closing` ends.
    pub fn command(&mut self, closing: Option<char>) -> Option<Command> {
        loop {
            self.blanks();
            let at = self.at;
            match self.peek() {
                None => {
                    self.end_run();
                    return None;
                }
                Some('\n' | ';') => self.at += 1,
                next if next == closing => return None,
                Some(next @ (')' | ']' | '}')) => {
                    self.note(Severity::Error, "unopened", at, at, format!("`{next}` without its opening bracket"));
                    self.at += 1;
                }
                Some(_) => {
                    if let Some(command) = self.one() {
                        return Some(command);
                    }
                    if self.at == at {
                        self.bump();
                    }
                }
            }
        }
    }

    /// Counts a node; at too many of them the text ends here.
    pub fn count(&mut self) {
        self.state.nodes += 1;
        if self.state.nodes == MOST_NODES {
            self.note(
                Severity::Error,
                "too-long",
                self.at,
                self.at,
                "the text holds too much: it is not read from here on",
            );
        }
        if self.state.nodes >= MOST_NODES {
            self.at = self.text().len();
        }
    }

    fn one(&mut self) -> Option<Command> {
        self.count();
        let (start, line) = (self.at, self.line());
        if self.begins_line() && self.is_no_command(line) {
            return None;
        }
        self.end_run();
        match self.peek()? {
            ':' => {
                self.at += 1;
                let word = shape::name(self.rest());
                match shape::scripting(word) {
                    Some(known) => {
                        self.at += word.len();
                        Some(self.script(start, known))
                    }
                    None if shape::begins_path(&format!("/{word}")) => self.path(start, String::new()),
                    None => {
                        self.refuse(start, "unknown-command", format!("`:{}` is no command", shape::excerpt(word)));
                        None
                    }
                }
            }
            '/' => self.path(start, String::new()),
            '$' if self.variable_follows() => {
                let name = self.variable();
                let arguments = self.arguments(None);
                Some(Command { start, end: self.at, kind: Kind::Call(name), arguments })
            }
            '{' => Some(self.bare_block(start)),
            '[' => {
                let value = self.substitution();
                Some(Command::evaluating(start, self.at, value))
            }
            _ => self.relative(start, line),
        }
    }

    fn relative(&mut self, start: usize, line: &str) -> Option<Command> {
        let name = shape::name(line);
        if shape::is_usual(line)
            && let menu = Rc::clone(&self.state.menu)
            && let Word::Verb(verb) = menus::word(&menu, name)
        {
            self.warn_of_block(start);
            self.at += name.len();
            return Some(self.menu_command(start, &menu, verb));
        }
        let behind = line[name.len()..].trim_start();
        if let Some(known) = shape::scripting(name).filter(|_| shape::script_word(name, behind)) {
            self.at += name.len();
            return Some(self.script(start, known));
        }
        let lower = name.to_ascii_lowercase();
        let menu = Rc::clone(&self.state.menu);
        let here = menus::word(&menu, &lower);
        if name == ".." || !matches!(here, Word::Unknown) {
            if matches!(here, Word::Verb(_)) {
                self.warn_of_block(start);
            }
            return self.path(start, menu.to_string());
        }
        if matches!(menus::word("", &lower), Word::Menu(_) | Word::Verb("import" | "ping")) {
            if !menu.is_empty() {
                self.damage("slash-lost", start);
            }
            return self.path(start, String::new());
        }
        let message = if shape::is_assignment(line) {
            "a property without a command".to_owned()
        } else if matches!(menus::word("ip address", &lower), Word::Verb(_)) {
            format!("`{name}` outside of any menu")
        } else {
            format!("`{}` is no command here", shape::excerpt(name))
        };
        self.refuse(start, "unknown-command", message);
        None
    }

    /// Counts what begins at `start` as a command that is not understood, and skips it.
    pub fn refuse(&mut self, start: usize, id: &'static str, message: String) {
        self.state.total += 1;
        while !self.rest().is_empty() {
            self.skip_line();
            if !self.text()[..self.at].ends_with('\\') || self.text()[..self.at].ends_with("\\\n") {
                break;
            }
            self.at += 1;
        }
        self.note(Severity::Error, id, start, self.at, message);
    }

    fn warn_of_block(&mut self, start: usize) {
        if let Some(chosen) = self.state.from_block.take() {
            let line = self.source.span(chosen, chosen).line;
            let message =
                format!("this runs in the menu that a closed `{{ … }}` chose in line {line}; RouterOS may not do that");
            self.note(Severity::Warning, "menu-from-block", start, start, message);
        }
    }

    /// `{ … }` in which the menu stays as the block leaves it.
    fn bare_block(&mut self, start: usize) -> Command {
        let before = Rc::clone(&self.state.menu);
        let block = self.block();
        if self.state.menu != before {
            self.state.from_block = Some(start);
        }
        Command { start, end: self.at, kind: Kind::Block(block), arguments: Vec::new() }
    }

    /// `{ … }` with commands.
    pub fn block(&mut self) -> Block {
        let start = self.at;
        self.at += 1;
        let inside = mem::take(&mut self.inside);
        let commands = self.deeper(|parser| {
            let mut commands = Vec::new();
            while let Some(command) = parser.command(Some('}')) {
                commands.push(command);
            }
            commands
        });
        self.inside = inside;
        self.close("}", start);
        commands.unwrap_or_default().into()
    }
}

#[cfg(test)]
#[path = "parser_tests.rs"]
mod tests;
