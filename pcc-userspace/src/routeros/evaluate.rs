//! Runs commands: assignments, conditions, loops and functions, as far as they need no router.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::rc::Rc;
use std::sync::Arc;

use data::Data;

use super::lexer::source::Source;
use super::notes::Notes;
use super::parser::syntax::{Command, Expression, Given, GivenValue, Kind, Operator};
use super::{Note, Severity, Statement};

mod account;
mod builtins;
mod control;
mod data;
mod items;
mod operators;
mod statement;
mod variables;

/// Commands in loops and functions, and quarters of a kilobyte of copied values.
const MOST_STEPS: usize = 100_000;
/// Calls and brackets in each other.
const DEEPEST: usize = 100;

/// Runs the commands of one script.
pub struct Machine<'a> {
    pub source: &'a Source,
    pub notes: &'a RefCell<Notes>,
    /// What the commands so far configure.
    pub statements: Vec<Statement>,
    pub scopes: Vec<HashMap<Rc<str>, Data>>,
    pub globals: HashMap<Rc<str>, Data>,
    steps: usize,
    depth: usize,
    /// Loops and functions around the command that runs.
    pub repeats: usize,
    /// The counted commands of the top-level command that runs, from the number `first` on: what is not accounted for.
    open: Vec<Option<(usize, usize)>>,
    first: usize,
    /// The same of earlier ones, which hold functions, with the top-level command by its first number.
    waiting: BTreeMap<usize, (usize, (usize, usize))>,
    stopped: bool,
    /// In a loop over items: the scopes outside of it.
    each: Option<usize>,
    /// A variable from outside of that loop is no longer known.
    carried: bool,
    looked_back: usize,
    last_menu: Option<(Rc<str>, Arc<[String]>)>,
}

/// How a command ended.
pub enum Flow {
    Next,
    Return(Data),
    /// `:error`, with its message.
    Fail(Rc<str>),
}

impl<'a> Machine<'a> {
    pub fn new(source: &'a Source, notes: &'a RefCell<Notes>) -> Self {
        Self {
            source,
            notes,
            statements: Vec::new(),
            scopes: vec![HashMap::new()],
            globals: HashMap::new(),
            steps: 0,
            depth: 0,
            repeats: 0,
            open: Vec::new(),
            first: 0,
            waiting: BTreeMap::new(),
            stopped: false,
            each: None,
            carried: false,
            looked_back: 0,
            last_menu: None,
        }
    }

    pub fn note(&self, severity: Severity, id: &'static str, start: usize, end: usize, message: impl Into<String>) {
        if !self.notes.borrow().is_full(id) {
            self.notes.borrow_mut().add(Note::new(severity, id, self.source.span(start, end), message));
        }
    }

    /// Pays for `size` copied bytes; `false` if the script has run for too long.
    pub fn pay(&mut self, size: usize) -> bool {
        self.steps += size / 256 + self.repeats.min(1);
        self.steps <= MOST_STEPS
    }

    fn run(&mut self, command: &Command) -> Flow {
        if !self.pay(0) {
            return Flow::Next;
        }
        if self.depth >= DEEPEST {
            self.note(
                Severity::Error,
                "too-deep",
                command.start,
                command.end,
                "calls nested too deeply; this one is skipped",
            );
            self.skip(std::slice::from_ref(command));
            return Flow::Next;
        }
        self.depth += 1;
        let flow = match &command.kind {
            Kind::Menu { number, menu, verb } => {
                self.statement(command, *number, menu, verb);
                Flow::Next
            }
            Kind::Script(word) => self.script(command, word),
            Kind::Call(name) => {
                self.call(name, command);
                Flow::Next
            }
            Kind::Block(block) => self.block(block),
        };
        self.depth -= 1;
        flow
    }

    pub fn block(&mut self, block: &[Command]) -> Flow {
        self.scopes.push(HashMap::new());
        let flow = self.commands(block);
        self.scopes.pop();
        flow
    }

    fn commands(&mut self, block: &[Command]) -> Flow {
        for command in block {
            match self.run(command) {
                Flow::Next => {}
                other => return other,
            }
        }
        Flow::Next
    }

    fn script(&mut self, command: &Command, word: &str) -> Flow {
        match word {
            "local" | "global" => self.declare(command, word == "local"),
            "set" => self.assign(command),
            "if" => return self.condition(command),
            "for" | "foreach" | "while" => return self.repeat(command, word),
            "do" | "onerror" | "retry" => return self.attempt(command),
            "return" => return Flow::Return(self.first(command)),
            "error" => {
                let message = self.first(command).join(";");
                return Flow::Fail(message.unwrap_or_else(|_| "…".into()));
            }
            "execute" | "import" | "parse" => {
                let message = format!("what `:{word}` runs is not looked at");
                self.note(Severity::Warning, "needs-router", command.start, command.end, message);
            }
            _ => {
                for given in &command.arguments {
                    self.given(given);
                }
            }
        }
        Flow::Next
    }

    fn first(&mut self, command: &Command) -> Data {
        command.arguments.first().map_or(Data::Nothing, |given| self.given(given))
    }

    pub fn given(&mut self, given: &Given) -> Data {
        match &given.value {
            GivenValue::Expression(expression) => self.evaluate(expression),
            GivenValue::Missing | GivenValue::Unset => Data::Nothing,
        }
    }

    pub fn evaluate(&mut self, expression: &Expression) -> Data {
        if self.depth >= DEEPEST {
            return Data::unknown("brackets nested too deeply");
        }
        self.depth += 1;
        let value = self.evaluate_inside(expression);
        self.depth -= 1;
        if self.pay(value.size()) { value } else { Data::unknown("a script that runs for too long") }
    }

    fn evaluate_inside(&mut self, expression: &Expression) -> Data {
        match expression {
            Expression::Text(text) => Data::Text(Rc::clone(text)),
            Expression::Variable(name, at) => self.variable(name, *at),
            Expression::Join(parts) => {
                let mut text = String::new();
                for part in parts {
                    match self.evaluate(part).join(";") {
                        Ok(part) => text.push_str(&part),
                        Err(unknown) => return Data::Unknown(unknown),
                    }
                }
                Data::text(text)
            }
            Expression::Unary(operator, operand) => operators::unary(*operator, &self.evaluate(operand)),
            Expression::Chain(first, more) => {
                let mut value = self.evaluate(first);
                for (operator, operand) in more {
                    value = match (operator, value.truth()) {
                        (Operator::And, Some(false)) | (Operator::Or, Some(true)) => value,
                        _ => operators::binary(*operator, &value, &self.evaluate(operand)),
                    };
                    if !self.pay(value.size()) {
                        return Data::unknown("a script that runs for too long");
                    }
                }
                value
            }
            Expression::Array(elements) => {
                let mut array = Vec::new();
                for (key, element) in elements {
                    let key = key.as_ref().and_then(|key| self.evaluate(key).join(";").ok());
                    array.push((key, self.evaluate(element)));
                }
                Data::array(array)
            }
            Expression::Command(command) => self.substitute(command),
            Expression::Find { menu, test, start } => self.find(menu, test.as_deref(), *start),
            Expression::Code(block) => Data::Code(Rc::clone(block)),
            Expression::Invalid => Data::noted("text that is not understood"),
        }
    }

    /// The value of `[command]`.
    fn substitute(&mut self, command: &Command) -> Data {
        match &command.kind {
            Kind::Menu { number, menu, verb } => {
                if number.is_some() {
                    self.statement(command, *number, menu, verb);
                }
                Data::unknown(format!("the result of `/{menu} {verb}`"))
            }
            Kind::Call(name) => self.call(name, command),
            Kind::Script(
                "local" | "global" | "set" | "if" | "for" | "foreach" | "while" | "do" | "error" | "return",
            ) => match self.run(command) {
                Flow::Return(value) => value,
                Flow::Next | Flow::Fail(_) => Data::Nothing,
            },
            Kind::Script(word) => {
                let values: Vec<_> = command.arguments.iter().map(|given| self.given(given)).collect();
                builtins::call(word, &values)
            }
            Kind::Block(_) => Data::Nothing,
        }
    }

    /// `$name arguments…`.
    fn call(&mut self, name: &Rc<str>, command: &Command) -> Data {
        let block = match self.variable(name, command.start) {
            Data::Code(block) => block,
            Data::Unknown(unknown) => return Data::Unknown(unknown),
            value if command.arguments.is_empty() => return value,
            _ => return Data::unknown(format!("a call of `{name}`, which is no function")),
        };
        let mut arguments = HashMap::new();
        let mut position = 0;
        for given in &command.arguments {
            let value = self.given(given);
            let key = given.name.clone().unwrap_or_else(|| {
                position += 1;
                position.to_string().into()
            });
            arguments.insert(key, value);
        }
        let outer = mem::replace(&mut self.scopes, vec![arguments]);
        let inside = self.each.map(|_| 0);
        let each = mem::replace(&mut self.each, inside);
        self.repeats += 1;
        let flow = if self.pay(0) { self.block(&block) } else { Flow::Next };
        self.repeats -= 1;
        self.scopes = outer;
        self.each = each;
        if let Flow::Return(value) = flow { value } else { Data::Nothing }
    }
}

#[cfg(test)]
#[path = "evaluate_tests.rs"]
mod tests;
