//! What became slower since an earlier run.

use std::fmt;

use super::candidate::Candidate;
use super::case::Case;
use super::report::Report;
use super::stats::Spread;

/// A figure whose rounds are all worse than those of the earlier run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slower {
    pub case: Case,
    pub candidate: Candidate,
    pub was: Spread,
    pub is: Spread,
}

/// What is slower in `now` than in `then` by more than both runs vary. The router's own share of a packet is compared.
pub fn slower(then: &Report, now: &Report) -> Vec<Slower> {
    let spread = |report: &Report, case: Case, candidate| match report.net(case, candidate) {
        Some(net) => Spread::of(&net),
        None => report.spread(case, candidate),
    };
    let worse = |figure: &super::report::Figure| {
        let (case, candidate) = (figure.case, figure.candidate);
        let (was, is) = (spread(then, case, candidate)?, spread(now, case, candidate)?);
        let worse = if case.is_cost() { is.min > was.max } else { is.max < was.min };
        worse.then_some(Slower { case, candidate, was, is })
    };
    now.figures.iter().filter_map(worse).collect()
}

impl fmt::Display for Slower {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { case, candidate, was, is } = self;
        let digits = if is.median.abs() < 100.0 { 2 } else { 0 };
        let unit = case.unit();
        write!(out, "{case}, {candidate}: {:.digits$} {unit}, was {:.digits$}", is.median, was.median)
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::Family;
    use super::super::machine::Machine;
    use super::*;

    fn report(cost: [f64; 2], rate: [f64; 2]) -> Report {
        let mut report = Report::new(Machine { processor: "p".into(), cores: 2, kernel: "k".into() });
        for (cost, rate) in cost.into_iter().zip(rate) {
            report.add(Case::small(Family::V4), Candidate::PccXdp, cost);
            report.add(Case::Connections(Family::V4), Candidate::PccXdp, rate);
        }
        report
    }

    #[test]
    fn only_what_is_worse_in_every_round_counts() {
        let then = report([100.0, 120.0], [5.0, 6.0]);
        assert_eq!(slower(&then, &report([119.0, 300.0], [1.0, 5.0])), []);
        let found = slower(&then, &report([121.0, 300.0], [1.0, 4.9]));
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].to_string(), "IPv4, 64 bytes, 1k flows, pcc, fast path XDP: 210 ns a packet, was 110");
    }

    #[test]
    fn a_report_survives_its_file() {
        let report = report([100.5, 120.0], [5.0, 6.0]);
        let text = serde_json::to_string(&report).expect("a report can be written");
        assert_eq!(serde_json::from_str::<Report>(&text).expect("and read"), report);
    }
}
