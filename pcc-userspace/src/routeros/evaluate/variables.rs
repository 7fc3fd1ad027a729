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
            let value = if self.each.is_some() { left_behind() } else { value };
            let before = self.globals.insert(name, value);
            self.carried |= !matches!(before, Some(Data::Unknown(_)));
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
        let each = self.each;
        let Some((place, index)) = self.places(name).next() else { return false };
        if is_outside(each, index) {
            let known = !matches!(place, Data::Unknown(_));
            *place = left_behind();
            self.carried |= known;
        } else {
            *place = value;
        }
        true
    }

    /// The variables called `name`, those that hide others first, with the number of their scope if they are local.
    fn places(&mut self, name: &str) -> impl Iterator<Item = (&mut Data, Option<usize>)> {
        let scopes = self.scopes.iter_mut().enumerate().rev().map(|(index, scope)| (scope, Some(index)));
        scopes.chain([(&mut self.globals, None)]).filter_map(move |(scope, index)| Some((scope.get_mut(name)?, index)))
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
        let each = self.each;
        let mut carried = false;
        for (value, index) in self.places(&name) {
            carried |= forget(value) && is_outside(each, index);
        }
        self.carried |= carried;
    }

    /// Forgets the global variables, which a function that is skipped may set.
    pub fn forget_globals(&mut self) {
        for value in self.globals.values_mut() {
            self.carried |= forget(value);
        }
    }
}

/// Forgets a value, unless it is a function; whether it was known.
fn forget(value: &mut Data) -> bool {
    let known = !matches!(value, Data::Code(_) | Data::Unknown(_));
    if known {
        *value = Data::unknown("set by commands that are skipped");
    }
    known
}

/// Whether the scope `index`, or the global one, is outside of the loop over items around which there are `each` scopes.
fn is_outside(each: Option<usize>, index: Option<usize>) -> bool {
    each.is_some_and(|outside| index.is_none_or(|index| index < outside))
}

fn left_behind() -> Data {
    Data::unknown("set in a loop over items")
}
