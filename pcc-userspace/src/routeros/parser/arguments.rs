//! What stands behind a command's word.

use std::mem;
use std::rc::Rc;

use super::syntax::{Command, Expression, Given, GivenValue, Kind};
use crate::routeros::Severity;
use crate::routeros::lexer::{Parser, Place, shape};
use crate::routeros::menus::{self, Property, Word};

/// Arguments of scripting commands whose braces hold commands.
const CODE: &[&str] = &["do", "else", "on-error", "command"];
/// Arguments of a command that are read; RouterOS knows fewer properties.
const MOST_ARGUMENTS: usize = 256;
/// Commands that change something, also when they stand in brackets.
const CHANGING: &[&str] = &["add", "comment", "disable", "enable", "move", "remove", "set", "unset"];

impl Command {
    /// A command that only evaluates `value`.
    pub fn evaluating(start: usize, end: usize, value: Expression) -> Self {
        let value = GivenValue::Expression(value);
        let arguments = vec![Given { start, end, name: None, value, negated: false }];
        Self { start, end, kind: Kind::Script("put"), arguments }
    }
}

impl Parser<'_> {
    /// The rest of the scripting command `word`.
    pub fn script(&mut self, start: usize, word: &'static str) -> Command {
        let mut arguments = Vec::new();
        if word == "do" {
            self.blanks();
            if self.peek() == Some('{') {
                arguments.push(self.code(self.at, "do"));
            }
        }
        arguments.extend(self.arguments(None));
        Command { start, end: self.end(start), kind: Kind::Script(word), arguments }
    }

    /// The rest of the command `verb` of `menu`.
    pub fn menu_command(&mut self, start: usize, menu: &str, verb: &str) -> Command {
        // A `[find …]` among the arguments is in the command's menu.
        let outer = self.state.menu();
        let menu = self.state.shared.text(menu);
        self.state.choose(Rc::clone(&menu));
        let arguments = self.arguments(Some((&menu, verb)));
        if !mem::take(&mut self.state.split) {
            self.state.choose(outer);
        }
        let end = self.end(start);
        let mut number = None;
        if self.inside == 0 || CHANGING.contains(&verb) {
            number = Some(self.state.count_command(start, end));
        }
        let verb = self.state.shared.text(verb);
        Command { start, end, kind: Kind::Menu { number, menu, verb }, arguments }
    }

    /// Where the command that began at `start` ends, without blanks behind it.
    fn end(&self, start: usize) -> usize {
        start + self.text()[start..self.at].trim_end().len()
    }

    /// Arguments up to the command's end; `command` is the menu and verb, or none for scripting.
    pub fn arguments(&mut self, command: Option<(&str, &str)>) -> Vec<Given> {
        let mut given: Vec<Given> = Vec::new();
        loop {
            self.blanks();
            let start = self.at;
            match self.peek() {
                Some('\n') if command.is_some_and(|(menu, verb)| self.lost_backslash(menu, verb)) => {
                    self.at += self.rest().len() - self.rest().trim_start().len();
                    self.damage("backslash-lost", self.at);
                    continue;
                }
                None | Some('\n' | ';' | ']' | ')' | '}') => return given,
                _ => {}
            }
            if command.is_some() && self.lost_line_break(&given) {
                return given;
            }
            if command.is_some() && given.len() == MOST_ARGUMENTS {
                let message = format!("more than {MOST_ARGUMENTS} arguments: the rest of the line is skipped");
                self.note(Severity::Error, "too-long", start, start, message);
                self.skip_line();
                continue;
            }
            self.count();
            given.extend(self.argument(command));
            if self.at == start {
                let message = format!("`{}` is not understood", shape::excerpt(self.line()));
                self.note(Severity::Error, "syntax", start, start, message);
                self.bump();
            }
        }
    }

    fn argument(&mut self, command: Option<(&str, &str)>) -> Option<Given> {
        let start = self.at;
        let not = command.is_some() && self.eat("!");
        let name = shape::name(self.rest());
        let behind = &self.rest()[name.len()..];
        let value = behind.trim_start_matches([' ', '\t', '\u{a0}']);
        let apart = command.is_some() && behind.len() > value.len() && value.starts_with('=');
        if name.starts_with(|first: char| first.is_ascii_alphabetic()) && (behind.starts_with('=') || apart) {
            if apart {
                self.damage("blank-before-equals", self.at + name.len());
            }
            self.at = self.text().len() - value.len() + usize::from(apart || behind.starts_with('='));
            let name = self.name(name, start);
            return Some(self.named(start, name, not, command));
        }
        if not {
            self.at += name.len();
            let name = Some(self.name(name, start));
            return Some(Given { start, end: self.at, name, value: GivenValue::Unset, negated: false });
        }
        let value = GivenValue::Expression(self.value(Place::Argument)?);
        Some(Given { start, end: self.at, name: None, value, negated: false })
    }

    fn name(&mut self, name: &str, at: usize) -> Rc<str> {
        if !name.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
            return self.state.shared.text(name);
        }
        if name.contains('\u{2013}') {
            self.damage("dash", at);
        }
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            self.damage("wrong-case", at);
        }
        name.to_ascii_lowercase().replace('\u{2013}', "-").into()
    }

    /// The value behind `name=`.
    fn named(&mut self, start: usize, name: Rc<str>, not: bool, command: Option<(&str, &str)>) -> Given {
        let Some((menu, verb)) = command else { return self.named_of_script(start, name) };
        let equals = self.at;
        let mut negated = self.eat("!") || not;
        let mut value = self.argument_value();
        if value.is_none() {
            self.blanks();
            let rest = self.rest();
            if !shape::is_assignment(rest) && !shape::begins_command(rest) && !rest.starts_with(':') {
                negated |= self.eat("!");
                value = self.argument_value();
            }
        }
        let bare = self.text()[equals..self.at].trim_start_matches(['!', '\\', '\n', ' ', '\t']);
        let value = value.filter(|_| !bare.bytes().all(|byte| byte == b','));
        let Some(value) = value else {
            let severity = if &*name == "comment" { Severity::Warning } else { Severity::Error };
            let message = format!("`{name}` of `/{menu} {verb}` has no value");
            self.fixable(
                severity,
                "value-missing",
                start,
                equals,
                message,
                format!("write the value behind `{name}=`"),
            );
            return Given { start, end: equals, name: Some(name), value: GivenValue::Missing, negated };
        };
        Given { start, end: self.at, name: Some(name), value: GivenValue::Expression(value), negated }
    }

    fn named_of_script(&mut self, start: usize, name: Rc<str>) -> Given {
        self.blanks();
        if self.peek() == Some('{') && CODE.contains(&&*name) {
            return self.code(start, &name);
        }
        let value = self.value(Place::Argument);
        let value = value.map_or(GivenValue::Missing, GivenValue::Expression);
        Given { start, end: self.at, name: Some(name), value, negated: false }
    }

    /// A value of a menu command; braces in it are a script, which is data.
    fn argument_value(&mut self) -> Option<Expression> {
        if self.peek() == Some('{')
            && let Some(text) = self.balanced()
        {
            return Some(Expression::Text(text));
        }
        self.value(Place::Argument)
    }

    fn code(&mut self, start: usize, name: &str) -> Given {
        let menu = self.state.menu();
        let block = self.block();
        self.state.choose(menu);
        let value = GivenValue::Expression(Expression::Code(block));
        Given { start, end: self.at, name: Some(name.into()), value, negated: false }
    }

    /// Whether the next line is a property of this command, whose backslash was lost.
    fn lost_backslash(&self, menu: &str, verb: &str) -> bool {
        if self.inside > 0 || !matches!(verb, "add" | "set") {
            return false;
        }
        let rest = self.rest();
        let next = rest.trim_start();
        let line = shape::line(next);
        let wide = rest[..rest.len() - next.len()].matches('\n').count() > 1;
        shape::is_assignment(line)
            && match menus::property(menu, shape::name(line)) {
                Property::Known(_) => true,
                Property::Unchecked => !wide,
                Property::Ambiguous(_) | Property::Unknown => false,
            }
    }

    /// Whether another command begins here, whose line break was lost.
    fn lost_line_break(&mut self, given: &[Given]) -> bool {
        if self.inside > 0 || !given.iter().any(|given| given.name.is_some()) {
            return false;
        }
        let line = self.rest();
        let script = line.strip_prefix(':').is_some_and(|rest| shape::scripting(shape::name(rest)).is_some());
        let command = shape::begins_command(line);
        self.state.split = command && !line.starts_with('/');
        let lost = command || script;
        if lost {
            self.damage("line-break-lost", self.at);
        }
        lost
    }

    /// `[ … ]`.
    pub fn substitution(&mut self) -> Expression {
        let start = self.at;
        self.at += 1;
        self.inside += 1;
        let value = self.deeper(|parser| parser.substituted(start));
        self.inside -= 1;
        self.close("]", start);
        value.unwrap_or(Expression::Invalid)
    }

    fn substituted(&mut self, start: usize) -> Expression {
        self.blanks();
        let at = self.at;
        let name = shape::name(self.rest());
        let menu = self.state.menu();
        let word = menus::word(&menu, &name.to_ascii_lowercase());
        match self.peek() {
            Some('$') if self.variable_follows() => {
                let name = self.variable();
                let arguments = self.arguments(None);
                return Expression::Command(Box::new(Command {
                    start: at,
                    end: self.at,
                    kind: Kind::Call(name),
                    arguments,
                }));
            }
            Some('(' | '[' | '"') => return self.value(Place::Argument).unwrap_or(Expression::Invalid),
            Some(':') => {
                self.at += 1;
                let name = shape::name(self.rest());
                if let Some(known) = shape::scripting(name) {
                    self.at += name.len();
                    return Expression::Command(Box::new(self.script(at, known)));
                }
            }
            _ => {
                if let Some(known) = shape::scripting(name).filter(|_| matches!(word, Word::Unknown)) {
                    self.at += name.len();
                    return Expression::Command(Box::new(self.script(at, known)));
                }
            }
        }
        let root = self.peek() == Some('/') || word == Word::Unknown;
        if root && !shape::begins_path(&format!("/{}", self.line().trim_start_matches('/'))) {
            return self.placeholder(start);
        }
        let path = self.words(if root { String::new() } else { menu.to_string() });
        match path.verb {
            Some("find") => {
                let test = self.condition().map(Box::new);
                Expression::Find { menu: path.menu.into(), test, start: at }
            }
            Some(verb) => Expression::Command(Box::new(self.menu_command(at, &path.menu, verb))),
            None => self.placeholder(start),
        }
    }

    /// Brackets whose text is no command.
    fn placeholder(&mut self, start: usize) -> Expression {
        let line = self.line();
        self.at += line.find(']').unwrap_or(line.len());
        let text = shape::excerpt(&self.text()[start..self.at]);
        let message = format!("`{text}]` is no command; perhaps it stands for a value of your own");
        self.note(Severity::Error, "placeholder", start, self.at + 1, message);
        Expression::Invalid
    }
}
