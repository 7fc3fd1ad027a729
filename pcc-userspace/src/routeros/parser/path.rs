//! Paths of menus and where they lead.

use std::mem;

use super::syntax::{Command, Kind};
use crate::routeros::Severity;
use crate::routeros::lexer::{Parser, shape};
use crate::routeros::menus::{self, Listed, Word};

/// Bytes of a path.
const LONGEST_PATH: usize = 200;

/// Where a path leads.
pub struct Path {
    /// In full words.
    pub menu: String,
    /// The command at its end.
    pub verb: Option<&'static str>,
    /// A word of it is no menu that is known, nor a command.
    unknown: bool,
}

impl Parser<'_> {
    /// A path with its command, from the menu `menu` on.
    pub fn path(&mut self, start: usize, menu: String) -> Option<Command> {
        let path = self.words(menu);
        if let Some(verb) = path.verb {
            return Some(self.menu_command(start, &path.menu, verb));
        }
        self.blanks();
        match self.peek() {
            Some('{') => {
                let before = mem::replace(&mut self.state.menu, path.menu.into());
                let block = self.block();
                self.state.menu = before;
                Some(Command { start, end: self.at, kind: Kind::Block(block), arguments: Vec::new() })
            }
            None | Some('\n' | ';' | '}' | ']' | ')' | ':') => {
                self.state.menu = path.menu.into();
                self.state.from_block = None;
                None
            }
            Some(_) if path.unknown => {
                let (menu, verb) = path.menu.rsplit_once(' ').unwrap_or(("", &path.menu));
                Some(self.menu_command(start, menu, verb))
            }
            Some(_) => {
                let message = format!("`/{}` without a command such as `add`", path.menu);
                self.refuse(start, "unknown-command", message);
                None
            }
        }
    }

    /// The words of a path and its verb.
    pub fn words(&mut self, menu: String) -> Path {
        let mut path = Path { menu, verb: None, unknown: false };
        while path.menu.len() < LONGEST_PATH {
            self.blanks();
            while self.eat("/") {
                self.blanks();
            }
            let start = self.at;
            let name = shape::name(self.rest());
            let behind = self.rest()[name.len()..].chars().next();
            if name.is_empty() || behind.is_some_and(|next| !next.is_whitespace() && !"/;{}[]\\".contains(next)) {
                break;
            }
            self.at += name.len();
            if name == ".." {
                path.menu.truncate(path.menu.rfind(' ').unwrap_or(0));
                continue;
            }
            let lower = name.to_ascii_lowercase();
            if lower != name {
                self.damage("wrong-case", start);
            }
            match menus::word(&path.menu, &lower) {
                Word::Menu(below) => below.clone_into(&mut path.menu),
                Word::Verb(verb) => {
                    path.verb = Some(verb);
                    break;
                }
                unknown => {
                    self.note_unknown_word(&path, &lower, &unknown, start);
                    path.unknown = true;
                    path.menu.push_str(if path.menu.is_empty() { "" } else { " " });
                    path.menu.push_str(&lower);
                }
            }
        }
        path
    }

    fn note_unknown_word(&self, path: &Path, word: &str, meaning: &Word, start: usize) {
        if let Word::Ambiguous(words) = meaning {
            let message = format!("`{word}` is the beginning of {}", Listed(words));
            self.note(Severity::Error, "ambiguous", start, self.at, message);
        } else if !path.unknown && !menus::is_unknown(&path.menu) && !self.notes.borrow().is_full("unknown-menu") {
            let message = format!("no `{word}` is known in `/{}`", path.menu);
            match menus::similar_menu(&path.menu, word) {
                Some(similar) => {
                    self.fixable(
                        Severity::Error,
                        "unknown-menu",
                        start,
                        self.at,
                        message,
                        format!("perhaps `{similar}`"),
                    );
                }
                None => self.note(Severity::Warning, "unknown-menu", start, self.at, message),
            }
        }
    }
}
