//! Which commands of the text ran: each is in the statements, or a note tells about it.

use super::{Flow, Machine};
use crate::routeros::lexer::shape;
use crate::routeros::parser::syntax::Command;
use crate::routeros::{Severity, Statement};

impl Machine<'_> {
    /// Runs a command of the top level, in which the commands at `counted`, taken from there, are to be accounted for.
    pub fn top(&mut self, command: &Command, counted: &mut Vec<(usize, usize)>) {
        self.open.clear();
        self.open.extend(counted.drain(..).map(Some));
        if !self.stopped
            && let Flow::Fail(message) = self.run(command)
        {
            self.stopped = true;
            let message = format!("the script ends here with the error `{}`", shape::excerpt(&message));
            self.note(Severity::Warning, "stopped", command.start, command.end, message);
        }
        for (index, place) in self.open.iter().enumerate() {
            self.waiting.extend(place.map(|place| (self.first + index, (self.first, place))));
        }
        self.first += self.open.len();
    }

    /// The statements, with notes about the commands that never ran.
    pub fn finish(self) -> Vec<Statement> {
        let mut left = self.waiting.values().peekable();
        while let Some((group, (start, end))) = left.next() {
            let mut more = 0;
            while left.next_if(|(other, _)| other == group).is_some() {
                more += 1;
            }
            let message = match more {
                0 => "this command does not run".to_owned(),
                more => format!("this command and {more} more do not run"),
            };
            self.note(Severity::Info, "not-run", *start, *end, message);
        }
        self.statements
    }

    /// The command with this number is in the statements, or a note tells about it.
    pub fn account(&mut self, number: Option<usize>) {
        let Some(number) = number else { return };
        match number.checked_sub(self.first).and_then(|index| self.open.get_mut(index)) {
            Some(open) => *open = None,
            None => {
                self.waiting.remove(&number);
            }
        }
    }
}
