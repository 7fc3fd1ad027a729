//! Are new connections spread over the uplinks as wanted, and if not, why: `pcc verify`.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

pub use ledger::{Ledger, Period, Shares};
pub use measure::{Basis, measure};

pub mod judge;
mod ledger;
mod measure;
mod sample;

/// What was measured, and what follows. This is what `pcc verify --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whether new connections are spread as wanted.
    pub verdict: Verdict,
    /// How many seconds ago the first of the connections began that are judged.
    pub seconds: u64,
    /// How many are judged: those of the LAN that a balancer or a rule gave an uplink since.
    pub connections: u64,
    /// Sum of the squared differences to what is wanted, each divided by what is wanted.
    pub chi_square: Option<f64>,
    /// How often chance alone makes a difference like this or a larger one, 0 to 1.
    pub probability: Option<f64>,
    /// Each uplink.
    pub uplinks: Vec<Share>,
    /// What is hashed, among the connections that there are now.
    pub inputs: Inputs,
    /// What skews the distribution, the strongest first.
    pub causes: Vec<Cause>,
    /// What one should know besides.
    pub notes: Vec<String>,
}

/// What is said about a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// No more than chance does, or than two points in a hundred.
    #[serde(rename = "as wanted")]
    AsWanted,
    /// Something else than chance.
    #[serde(rename = "skewed")]
    Skewed,
    /// Nothing can be said.
    #[serde(rename = "too few connections to tell")]
    TooFew,
}

/// One uplink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Its name.
    pub uplink: String,
    /// Share that it should have had by the weights and states of that time, without rules, 0 to 1.
    pub wanted: f64,
    /// Share that it had.
    pub seen: f64,
    /// Connections that began on it.
    pub connections: u64,
}

/// What is hashed: connections with equal fields are one throw of the dice, not many.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    /// The global `hash`.
    pub hash: String,
    /// Connections that no rule decided and that are there now.
    pub connections: u64,
    /// How many different fields they have; of very many a sample.
    pub distinct: u64,
    /// How often chance alone spreads so many fields as unevenly or more so, 0 to 1; `None`: too few.
    pub probability: Option<f64>,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Of which kind.
    pub kind: Kind,
    /// The client or the rule; empty otherwise.
    pub name: String,
    /// In words.
    pub text: String,
}

/// Kinds of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One client has very many connections with equal fields.
    Client,
    /// A rule gives an uplink more than its weight.
    Rule,
    /// Few different fields are hashed.
    Hash,
    /// The connections that did it are over.
    Over,
    /// Nothing that is known.
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::AsWanted => "as wanted",
            Self::Skewed => "skewed",
            Self::TooFew => "too few connections to tell",
        })
    }
}

impl Report {
    /// What `pcc verify` prints.
    pub fn text(&self) -> String {
        let Inputs { hash, connections, distinct, probability } = &self.inputs;
        let time = humantime::format_duration(std::time::Duration::from_secs(self.seconds));
        let mut text = format!("{} new connections in {time}, hash {hash}\n\n", self.connections);
        let _ =
            writeln!(text, "{:<12} {:>8} {:>8} {:>11} {:>10}", "uplink", "wanted", "seen", "connections", "difference");
        for Share { uplink, wanted, seen, connections } in &self.uplinks {
            let [wanted, seen, difference] = [*wanted, *seen, seen - wanted].map(|share| share * 100.0);
            let _ = writeln!(text, "{uplink:<12} {wanted:>6.1} % {seen:>6.1} % {connections:>11} {difference:>+8.1} %");
        }
        let chance = self.probability.map_or_else(String::new, |p| format!(", by chance alone in {}", odds(p)));
        let _ = writeln!(text, "\n{}{chance}", self.verdict);
        for cause in &self.causes {
            let _ = writeln!(text, "because {}", cause.text);
        }
        let spread = match probability {
            Some(p) => format!("; these are spread like that by chance in {}", odds(*p)),
            None => String::new(),
        };
        let _ = writeln!(
            text,
            "\nequal fields go the same way: {connections} live connections without rule have {distinct} different ones{spread}"
        );
        for note in &self.notes {
            let _ = writeln!(text, "{note}");
        }
        text
    }
}

/// A probability for people.
fn odds(probability: f64) -> String {
    if probability >= 0.01 {
        format!("{:.0} of 100 cases", probability * 100.0)
    } else if probability >= 1e-6 {
        format!("1 of {:.0} cases", 1.0 / probability)
    } else {
        "less than 1 of 1000000 cases".to_owned()
    }
}
