//! RouterOS scripts and exports as configuration.
//!
//! ```text
//! text ─ lexer, parser ─▶ syntax ─ evaluate ─▶ Script (statements in the order in which they would run)
//!                                                └─ model ─▶ Model ─▶ lint, import
//! ```
//!
//! Nothing here fails: every stage returns what it understood and [`Note`]s about the rest. Each statement of the text is
//! accounted for: it is in the [`Script`], or a note says where it is and why it is not.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use evaluate::Machine;
use lexer::Parser;
use lexer::source::Source;
use notes::Notes;

pub mod check;
pub mod dialect;
mod evaluate;
mod lexer;
pub mod lint;
pub(crate) mod menus;
pub mod model;
mod notes;
mod parser;
pub mod render;

#[cfg(test)]
mod language_tests;
#[cfg(test)]
mod property_tests;

/// Reads the script or export `text`, in whatever encoding and state a page left it.
pub fn read(text: &[u8]) -> Script {
    let mut notes = Notes::default();
    let source = Source::read(text, &mut notes);
    let notes = RefCell::new(notes);
    let mut parser = Parser::new(&source, &notes);
    let mut machine = Machine::new(&source, &notes);
    while let Some(command) = parser.command(None) {
        machine.top(&command, &mut parser.state.counted);
    }
    let (statements, total) = (machine.finish(), parser.state.total);
    let comments = parser.state.comments().iter().map(|at| source.comment(*at)).collect();
    Script { statements, version: source.version(), comments, notes: notes.into_inner().finish(), total }
}

/// A place in the text. Lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Line of the first character.
    pub line: u32,
    /// Column of the first character.
    pub column: u32,
    /// Characters up to the end of the place or of its first line, at least 1.
    pub length: u32,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Works, but probably not as meant.
    Warning,
    /// Cannot work, or cannot be understood.
    Error,
}

/// Something to say about one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How bad it is.
    pub severity: Severity,
    /// A stable word for it, in kebab case: `value-missing`, `out-of-scope`, `lint-7.6`, …
    pub id: &'static str,
    /// Where.
    pub span: Span,
    /// What is wrong, one lower-case line, literals in backticks.
    pub message: String,
    /// What to do, where there is something; text to paste where possible.
    pub fix: Option<String>,
}

/// What a text does when it runs: loops unrolled, variables replaced, paths complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// In the order in which they would run.
    pub statements: Vec<Statement>,
    /// The version that an export names in its header, such as `7.7`.
    pub version: Option<String>,
    /// Every `#` comment, in the order of the text.
    pub comments: Vec<Comment>,
    /// About what is not in `statements`, and about oddities of what is.
    pub notes: Vec<Note>,
    /// Statements of the text, understood or not. Each is in `statements` (once or, in loops, several times) or in `notes`.
    pub total: usize,
}

/// What stands behind a `#`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// From the `#` to the end of the line.
    pub span: Span,
    /// Without the `#` and trailing blanks.
    pub text: String,
}

/// A verb that no script has: a [document](crate::mirror::document) gives the properties of an item that exists without
/// an `add`.
pub const BUILT_IN: &str = "built-in";

/// One command with its menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The complete command.
    pub span: Span,
    /// Its menu in full words, such as `["ip", "firewall", "mangle"]`. Commands of a menu share it.
    pub menu: Arc<[String]>,
    /// `add`, `set`, `remove`, `enable`, `disable`, `move`, `print`, … in full.
    pub verb: String,
    /// Which items a `set`, `remove`, … means.
    pub items: Vec<Selector>,
    /// In the order of the text. A property occurs once for each time it is written.
    pub arguments: Vec<Argument>,
}

/// `name=value`, `name=!value`, `!name`, or a bare `name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// From the name to the end of the value.
    pub span: Span,
    /// The property in full words where the menu is known, else as written.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// `name=!value`: the matcher is negated as a whole.
    pub negated: bool,
}

/// The value of an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text with quotes and escapes resolved; a bare flag is `yes`.
    Text(String),
    /// `!name`: the property is unset.
    Unset,
    /// `name=` with nothing behind it. A note says so already.
    Missing,
    /// It depends on what only a running router knows; the reason. A note says so already.
    Unknown(String),
}

/// Which items of a menu a command means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// By number or name: `0`, `ether1`.
    Name(String),
    /// By internal id: `*1A`, without the star.
    Id(String),
    /// `[find …]`, perhaps of another menu.
    Find {
        /// Menu in full words; the statement's own if the text names none.
        menu: Vec<String>,
        /// What must hold; `None` for all items.
        condition: Option<Condition>,
    },
    /// It depends on what only a running router knows.
    Unknown(String),
}

/// The condition of a `find`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `name=value`.
    Equal(String, String),
    /// `name!=value`.
    NotEqual(String, String),
    /// `name<value`.
    Less(String, String),
    /// `name>value`.
    Greater(String, String),
    /// `name~"regular expression"`.
    Matches(String, String),
    /// A bare `disabled`: the flag is set.
    Flag(String),
    /// `!…` and `not`.
    Not(Box<Condition>),
    /// `and`, `&&`, or side by side.
    And(Vec<Condition>),
    /// `or`, `||`.
    Or(Vec<Condition>),
}

impl Statement {
    /// The last value that is written for `name`; `None` if it is absent, unset, missing or unknown.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.argument(name).and_then(|argument| match &argument.value {
            Value::Text(text) => Some(text.as_str()),
            Value::Unset | Value::Missing | Value::Unknown(_) => None,
        })
    }

    /// The last argument called `name`.
    pub fn argument(&self, name: &str) -> Option<&Argument> {
        self.arguments.iter().rev().find(|argument| argument.name == name)
    }

    /// The menu as RouterOS prints it: `/ip firewall mangle`.
    pub fn path(&self) -> String {
        format!("/{}", self.menu.join(" "))
    }
}

impl Note {
    /// A note without a fix.
    pub fn new(severity: Severity, id: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { severity, id, span, message: message.into(), fix: None }
    }

    /// The same with a fix.
    #[must_use]
    pub fn with_fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}
