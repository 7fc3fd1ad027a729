//! Variables: declared, set, read and forgotten.

use std::rc::Rc;

use super::data::Data;
use super::{Machine, operators};
use crate::routeros::Severity;
use crate::routeros::parser::syntax::{Command, Expression, Given, GivenValue, Operator};

impl Machine<'_> {
    pub fn declare(&mut self, command: &Command, local: bool) {
        let Some(name) = self.name(command) else { return };
        let value = command.arguments.get(1).map(|given| self.given(given));
        if local {
            if let Some(scope) = self.scopes.last_mut() {
                scope.insert(name, value.unwrap_or(Data::Nothing));
            }
        } else if let Some(value) = value {
            self.globals.insert(name, value);
        } else {
            self.globals.entry(name).or_insert(Data::Nothing);
        }
    }

    pub fn assign(&mut self, command: &Command) {
        let value = command.arguments.get(1).map_or(Data::Nothing, |given| self.given(given));
        if let Some(Given { value: GivenValue::Expression(Expression::Chain(array, more)), .. }) =
            command.arguments.first()
            && let (Expression::Variable(name, at), [(Operator::Element, key)]) = (&**array, more.as_slice())
        {
            let key = self.evaluate(key);
            let array = self.variable(name, *at);
            let changed = operators::with_element(&array, &key, value);
            self.store(name, changed);
            return;
        }
        let Some(name) = self.name(command) else { return };
        if !self.store(&name, value.clone()) {
            let message = format!("`{name}` is set, but declared nowhere");
            self.note(Severity::Error, "undeclared-variable", command.start, command.end, message);
            self.globals.insert(name, value);
        }
    }

    /// The name that the first argument is.
    fn name(&mut self, command: &Command) -> Option<Rc<str>> {
        let name = match command.arguments.first() {
            Some(
                Given { name: Some(name), .. } | Given { value: GivenValue::Expression(Expression::Text(name)), .. },
            ) => Some(Rc::clone(name)),
            Some(given) => self.given(given).join(",").ok(),
            None => None,
        };
        if name.is_none() {
            self.note(Severity::Error, "syntax", command.start, command.end, "a variable without a name");
        }
        name
    }

    fn store(&mut self, name: &str, value: Data) -> bool {
        let scopes = self.scopes.iter_mut().rev();
        let place = scopes.chain([&mut self.globals]).find_map(|scope| scope.get_mut(name));
        place.map(|place| *place = value).is_some()
    }

    pub fn variable(&mut self, name: &str, at: usize) -> Data {
        let scopes = self.scopes.iter().rev();
        if let Some(value) = scopes.chain([&self.globals]).find_map(|scope| scope.get(name)) {
            return value.clone();
        }
        let message = format!("the variable `{name}` is declared nowhere");
        self.note(Severity::Error, "undeclared-variable", at, at + 1 + name.len(), message);
        Data::noted(format!("the undeclared variable `{name}`"))
    }

    pub fn forget(&mut self, command: &Command) {
        let name = match command.arguments.first().map(|given| &given.value) {
            Some(GivenValue::Expression(Expression::Text(name))) => Rc::clone(name),
            Some(GivenValue::Expression(Expression::Chain(array, _))) => match &**array {
                Expression::Variable(name, _) => Rc::clone(name),
                _ => return,
            },
            _ => return,
        };
        for scope in self.scopes.iter_mut().chain([&mut self.globals]) {
            if let Some(value) = scope.get_mut(&name) {
                forget(value);
            }
        }
    }
}

pub fn forget(value: &mut Data) {
    if !matches!(value, Data::Code(_)) {
        *value = Data::unknown("set by commands that are skipped");
    }
}
