//! Steps with targets that are not known yet.

use pcc_ebpf::abi::{Op, STEPS, Step};

use super::Place;
use super::expression::Expression;

/// A place in the program, [`Assembler::bind`]ed later than the steps that lead to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(u32);

/// The end of the walk.
pub const END: Label = Label(0);

/// The steps so far.
#[derive(Debug)]
pub struct Assembler {
    /// Until [`Self::finish`] the targets of the last ones are labels.
    steps: Vec<Step>,
    places: Vec<Option<Place>>,
    /// The steps that labels mean.
    bound: Vec<u32>,
    first: usize,
    full: bool,
}

impl Default for Assembler {
    fn default() -> Self {
        Self { steps: vec![Step::default()], places: vec![None], bound: vec![0], first: 1, full: false }
    }
}

impl Assembler {
    /// Begins a walk and returns the index of its first step.
    pub fn begin(&mut self) -> u32 {
        self.first = self.steps.len();
        self.bound.truncate(1);
        self.here()
    }

    /// Ends the walk that was begun; whether it has any step.
    pub fn finish(&mut self) -> bool {
        let end = self.here();
        for step in &mut self.steps[self.first..] {
            for target in [&mut step.then, &mut step.otherwise] {
                let at = self.bound.get(*target as usize).copied().unwrap_or(0);
                *target = if at < end { at } else { 0 };
            }
        }
        self.steps.len() > self.first
    }

    /// There were more steps than a program may have; some are missing.
    pub const fn is_full(&self) -> bool {
        self.full
    }

    pub fn into_steps(self) -> (Vec<Step>, Vec<Option<Place>>) {
        (self.steps, self.places)
    }

    pub fn label(&mut self) -> Label {
        self.bound.push(0);
        Label(u32::try_from(self.bound.len() - 1).unwrap_or(0))
    }

    /// `label` means the next step.
    pub fn bind(&mut self, label: Label) {
        let here = self.here();
        if let Some(bound) = self.bound.get_mut(label.0 as usize) {
            *bound = here;
        }
    }

    /// Goes on at `then` if `expression` holds, else at `otherwise`.
    pub fn test(&mut self, expression: &Expression, then: Label, otherwise: Label, place: Place) {
        match expression {
            Expression::Constant(value) => {
                self.push(step(Op::Pass, 0), if *value { then } else { otherwise }, END, place);
            }
            Expression::Test(step) => self.push(*step, then, otherwise, place),
            Expression::Not(inner) => self.test(inner, otherwise, then, place),
            Expression::All(parts) => self.each(parts, place, |next| (next, otherwise), (then, otherwise)),
            Expression::Any(parts) => self.each(parts, place, |next| (then, next), (then, otherwise)),
        }
    }

    /// Does `op` and goes on at `then`.
    pub fn action(&mut self, op: Op, low: u32, then: Label, place: Place) {
        self.push(step(op, low), then, END, place);
    }

    fn each(
        &mut self,
        parts: &[Expression],
        place: Place,
        between: impl Fn(Label) -> (Label, Label),
        last: (Label, Label),
    ) {
        for (at, part) in parts.iter().enumerate() {
            let next = self.label();
            let (then, otherwise) = if at + 1 == parts.len() { last } else { between(next) };
            self.test(part, then, otherwise, place);
            self.bind(next);
        }
    }

    fn push(&mut self, step: Step, then: Label, otherwise: Label, place: Place) {
        self.full |= self.here() >= STEPS;
        if !self.full {
            self.steps.push(Step { then: then.0, otherwise: otherwise.0, ..step });
            self.places.push(Some(place));
        }
    }

    fn here(&self) -> u32 {
        u32::try_from(self.steps.len()).unwrap_or(u32::MAX)
    }
}

fn step(op: Op, low: u32) -> Step {
    Step { op: op as u32, low, ..Step::default() }
}
