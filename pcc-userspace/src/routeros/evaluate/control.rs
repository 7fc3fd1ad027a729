//! Conditions and loops.

use std::rc::Rc;

use super::data::Data;
use super::{Flow, Machine};
use crate::routeros::Severity;
use crate::routeros::parser::syntax::{Block, Command, Expression, Given, GivenValue, Kind};

impl Machine<'_> {
    /// `:if`.
    pub fn condition(&mut self, command: &Command) -> Flow {
        let value = command.arguments.iter().find(|given| given.name.is_none()).map(|given| self.given(given));
        let value = value.unwrap_or(Data::Nothing);
        match value.truth() {
            Some(truth) => {
                code(command, if truth { "do" } else { "else" }).map_or(Flow::Next, |block| self.block(&block))
            }
            None => {
                self.not_known(command, &value, "condition");
                Flow::Next
            }
        }
    }

    /// `:for`, `:foreach` and `:while`.
    pub fn repeat(&mut self, command: &Command, word: &str) -> Flow {
        let Some(block) = code(command, "do") else { return Flow::Next };
        self.repeats += 1;
        let flow = match word {
            "while" => self.repeat_while(command, None, &block),
            "for" => self.count_up(command, &block),
            _ => self.each(command, &block),
        };
        self.repeats -= 1;
        flow
    }

    /// Says that the script stops repeating here, if it has run for too long.
    pub fn exhausted(&mut self, command: &Command) -> bool {
        let exhausted = !self.pay(0);
        if exhausted {
            let message = "this repeats for too long and is given up";
            self.note(Severity::Error, "step-limit", command.start, command.end, message);
            self.skip(std::slice::from_ref(command));
        }
        exhausted
    }

    fn repeat_while(&mut self, command: &Command, condition: Option<&Given>, block: &[Command]) -> Flow {
        let Some(condition) = condition.or_else(|| command.arguments.iter().find(|given| given.name.is_none())) else {
            return Flow::Next;
        };
        loop {
            if self.exhausted(command) {
                return Flow::Next;
            }
            let value = self.given(condition);
            match value.truth() {
                Some(true) => {}
                Some(false) => return Flow::Next,
                None => {
                    if !self.exhausted(command) {
                        self.not_known(command, &value, "condition");
                    }
                    return Flow::Next;
                }
            }
            match self.block(block) {
                Flow::Next => {}
                other => return other,
            }
        }
    }

    fn count_up(&mut self, command: &Command, block: &[Command]) -> Flow {
        let mut bounds = [Data::Nothing, Data::Nothing, Data::text("1")];
        for (bound, name) in bounds.iter_mut().zip(["from", "to", "step"]) {
            if let Some(given) = named(command, name) {
                *bound = self.given(given);
            }
        }
        let [Some(from), Some(to), Some(step)] = bounds.each_ref().map(Data::number) else {
            let unknown = bounds.iter().find(|bound| bound.number().is_none()).cloned().unwrap_or(Data::Nothing);
            self.not_known(command, &unknown, "range");
            return Flow::Next;
        };
        // RouterOS counts down by itself.
        let step = if from > to { -step.saturating_abs() } else { step.saturating_abs() };
        let mut value = from;
        while if from > to { value >= to } else { value <= to } {
            if self.exhausted(command) {
                return Flow::Next;
            }
            match self.with_variables(command, &[(0, Data::text(value.to_string()))], block) {
                Flow::Next => {}
                other => return other,
            }
            match value.checked_add(step) {
                Some(next) if next != value => value = next,
                _ => return Flow::Next,
            }
        }
        Flow::Next
    }

    fn each(&mut self, command: &Command, block: &[Command]) -> Flow {
        let value = named(command, "in").map_or(Data::Nothing, |given| self.given(given));
        let array = match &value {
            Data::Array(array) => Rc::clone(array),
            Data::Text(_) => match Data::array(vec![(None, value.clone())]) {
                Data::Array(array) => array,
                _ => return Flow::Next,
            },
            Data::Nothing => return Flow::Next,
            Data::Items(items) => {
                let pairs = self.loop_names(command).contains(',');
                return self.each_item(command, items, pairs, block);
            }
            Data::Code(_) | Data::Unknown(_) => {
                self.not_known(command, &value, "list");
                return Flow::Next;
            }
        };
        let pairs = self.loop_names(command).contains(',');
        for (index, (key, element)) in array.elements.iter().enumerate() {
            if self.exhausted(command) {
                return Flow::Next;
            }
            let key = key.clone().unwrap_or_else(|| index.to_string().into());
            let values = [(0, Data::text(key)), (usize::from(pairs), element.clone())];
            match self.with_variables(command, &values[usize::from(!pairs)..], block) {
                Flow::Next => {}
                other => return other,
            }
        }
        Flow::Next
    }

    /// What stands before `in=` or `from=`: a name, or key and value with a comma.
    fn loop_names(&mut self, command: &Command) -> Rc<str> {
        let names = command.arguments.iter().find(|given| given.name.is_none()).map(|given| self.given(given));
        names.and_then(|names| names.join(",").ok()).unwrap_or_default()
    }

    pub fn with_variables(&mut self, command: &Command, values: &[(usize, Data)], block: &[Command]) -> Flow {
        let names = self.loop_names(command);
        let names: Vec<_> = names.split(',').collect();
        let scope = values.iter().filter_map(|(index, value)| Some((Rc::from(*names.get(*index)?), value.clone())));
        self.scopes.push(scope.collect());
        let flow = self.block(block);
        self.scopes.pop();
        flow
    }

    /// `:do`, with `on-error=` or `while=`, and `:onerror`.
    pub fn attempt(&mut self, command: &Command) -> Flow {
        let body = code(command, "do").or_else(|| code(command, "command"));
        let flow = body.as_ref().map_or(Flow::Next, |body| self.block(body));
        match (flow, code(command, "on-error")) {
            (Flow::Fail(_), Some(handler)) => self.block(&handler),
            (Flow::Next, _) => match (named(command, "while"), body) {
                (Some(condition), Some(body)) => {
                    self.repeats += 1;
                    let flow = self.repeat_while(command, Some(condition), &body);
                    self.repeats -= 1;
                    flow
                }
                _ => Flow::Next,
            },
            (flow, _) => flow,
        }
    }

    /// Says that `command` hangs on what is not known, and skips what is inside.
    pub fn not_known(&mut self, command: &Command, value: &Data, what: &str) {
        let skipped = self.skip(std::slice::from_ref(command));
        let reason = match value {
            Data::Unknown(unknown) => Rc::clone(&unknown.reason),
            Data::Items(_) => "the items that a `find` finds".into(),
            _ => "its type".into(),
        };
        let (severity, inside) = match skipped {
            0 => (Severity::Info, "it is skipped".to_owned()),
            1 => (Severity::Warning, "it is skipped with the command in it".to_owned()),
            more => (Severity::Warning, format!("it is skipped with the {more} commands in it")),
        };
        let message = format!("the {what} depends on what only a running router knows ({reason}): {inside}");
        self.note(severity, "needs-router", command.start, command.end, message);
    }

    /// Accounts for all commands inside, forgets what they assign, and says how many there are.
    pub fn skip(&mut self, commands: &[Command]) -> usize {
        let mut skipped = 0;
        for command in commands {
            match &command.kind {
                Kind::Menu { number, .. } => {
                    self.account(*number);
                    skipped += 1;
                }
                Kind::Script("set" | "global") => self.forget(command),
                Kind::Call(_) => self.forget_globals(),
                Kind::Script(_) => {}
                Kind::Block(block) => skipped += self.skip(block),
            }
            for given in &command.arguments {
                if let GivenValue::Expression(Expression::Code(block)) = &given.value {
                    skipped += self.skip(block);
                }
            }
        }
        skipped
    }
}

fn named<'a>(command: &'a Command, name: &str) -> Option<&'a Given> {
    command.arguments.iter().find(|given| given.name.as_deref() == Some(name))
}

fn code(command: &Command, name: &str) -> Option<Block> {
    match &named(command, name)?.value {
        GivenValue::Expression(Expression::Code(block)) => Some(Rc::clone(block)),
        _ => None,
    }
}
