//! All that was measured, as a value: it is printed, drawn, judged, saved and compared.

use serde::{Deserialize, Serialize};

use super::candidate::Candidate;
use super::case::{Case, Packets};
use super::machine::Machine;
use super::memory::Memory;
use super::stats::{Spread, differences};

/// The figures of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub machine: Machine,
    pub figures: Vec<Figure>,
    /// Nanoseconds of one run of each of pcc's programs.
    pub programs: Vec<Timed>,
    /// Milliseconds from the loss of an uplink under full load until all packets arrive by the other.
    pub fail_over: Vec<Timed>,
    pub memory: Option<Memory>,
}

/// One case of one candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    #[serde(flatten)]
    pub case: Case,
    pub candidate: Candidate,
    /// In [`Case::unit`], one for each round.
    pub rounds: Vec<f64>,
}

/// A figure with a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    pub name: String,
    pub figure: f64,
}

impl Report {
    /// A report without figures.
    pub fn new(machine: Machine) -> Self {
        Self { machine, figures: Vec::new(), programs: Vec::new(), fail_over: Vec::new(), memory: None }
    }

    /// Adds the figure of one more round.
    pub fn add(&mut self, case: Case, candidate: Candidate, figure: f64) {
        match self.figures.iter_mut().find(|it| it.case == case && it.candidate == candidate) {
            Some(known) => known.rounds.push(figure),
            None => self.figures.push(Figure { case, candidate, rounds: vec![figure] }),
        }
    }

    /// The cases, each once, in the order in which they were measured first.
    pub fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for figure in &self.figures {
            if !cases.contains(&figure.case) {
                cases.push(figure.case);
            }
        }
        cases
    }

    /// The rounds of one case of one candidate.
    pub fn rounds(&self, case: Case, candidate: Candidate) -> Option<&[f64]> {
        let figure = self.figures.iter().find(|it| it.case == case && it.candidate == candidate)?;
        Some(&figure.rounds)
    }

    /// Round by round, what a packet costs the router: without the generator.
    pub fn net(&self, case: Case, candidate: Candidate) -> Option<Vec<f64>> {
        let Case::Packets(Packets { .. }) = case else { return None };
        if candidate == Candidate::Generator {
            return None;
        }
        Some(differences(self.rounds(case, candidate)?, self.rounds(case, Candidate::Generator)?))
    }

    /// The spread of one case of one candidate.
    pub fn spread(&self, case: Case, candidate: Candidate) -> Option<Spread> {
        Spread::of(self.rounds(case, candidate)?)
    }
}
