//! What the fast path promises, and whether it was reached.

use super::candidate::Candidate::{self, Generator, Nftables, PccOff, PccTc, PccXdp, Redirect};
use super::case::{Case, Family};
use super::memory::Memory;
use super::report::Report;
use super::stats::{Spread, differences, ratios};

/// Who has to be measured to judge all goals.
pub const CANDIDATES: [Candidate; 6] = [Generator, Nftables, PccOff, PccTc, PccXdp, Redirect];
/// And in what.
pub const CASES: [Case; 6] = [
    Case::small(Family::V4),
    Case::small(Family::V6),
    Case::many(Family::V4),
    Case::Connections(Family::V4),
    Case::Bulk { streams: 1, offloads: true },
    Case::Bulk { streams: 16, offloads: true },
];

/// One promise.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    pub what: String,
    pub bound: Bound,
    pub unit: &'static str,
    /// `None`: it was not measured.
    pub seen: Option<Spread>,
}

/// Where figures must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    /// Whether every round clears the bound.
    pub fn is_reached(&self) -> Option<bool> {
        let seen = self.seen?;
        Some(match self.bound {
            Bound::AtLeast(bound) => seen.min >= bound,
            Bound::AtMost(bound) => seen.max <= bound,
        })
    }
}

/// All goals, judged by `report`.
pub fn judge(report: &Report) -> Vec<Goal> {
    let small = Case::small(Family::V4);
    let many = Case::many(Family::V4);
    let new = Case::Connections(Family::V4);
    let bulk = |streams| Case::Bulk { streams, offloads: true };
    let net = |case, candidate| report.net(case, candidate);
    let per_packet = |case, one, other| Some(ratios(&net(case, one)?, &net(case, other)?));
    let as_seen =
        |case, one: Candidate, other: Candidate| Some(ratios(report.rounds(case, one)?, report.rounds(case, other)?));
    let across = |one, other| Some(ratios(&net(one, PccXdp)?, &net(other, PccXdp)?));
    let more = || Some(differences(report.rounds(small, PccXdp)?, report.rounds(small, Redirect)?));
    let maps = report.memory.as_ref().and_then(Memory::of_a_million).map(|bytes| vec![bytes / 1e6]);

    let (least, most) = (Bound::AtLeast, Bound::AtMost);
    let mut goals = Vec::new();
    let mut goal = |what: &str, bound, unit, seen: Option<Vec<f64>>| {
        goals.push(Goal { what: what.to_owned(), bound, unit, seen: seen.and_then(|rounds| Spread::of(&rounds)) });
    };
    goal("nftables / fast path XDP, a packet", least(15.0), "", per_packet(small, Nftables, PccXdp));
    goal("fast path XDP − bare redirect, a packet", most(60.0), " ns", more());
    goal("nftables / fast path tc, a packet", least(2.0), "", per_packet(small, Nftables, PccTc));
    goal("fast path off / nftables, a packet", most(1.0), "", per_packet(small, PccOff, Nftables));
    goal("nftables / fast path XDP, a packet of 1M flows", least(6.0), "", per_packet(many, Nftables, PccXdp));
    goal("1M flows / 1k flows, a packet by fast path XDP", most(3.0), "", across(many, small));
    goal("map of 1M IPv4 flows in one direction", most(150.0), " MB", maps);
    for (candidate, name) in [(PccOff, "off"), (PccTc, "tc"), (PccXdp, "XDP")] {
        let what = format!("new connections a second, fast path {name} / nftables");
        goal(&what, least(1.0), "", as_seen(new, candidate, Nftables));
    }
    goal("1 TCP stream, fast path tc / nftables", least(1.0), "", as_seen(bulk(1), PccTc, Nftables));
    goal("16 TCP streams, fast path tc / nftables", least(1.0), "", as_seen(bulk(16), PccTc, Nftables));
    goal("IPv6 / IPv4, a packet by fast path XDP", most(1.25), "", across(Case::small(Family::V6), small));
    goals
}

#[cfg(test)]
mod tests {
    use super::super::machine::Machine;
    use super::*;

    fn report(figures: &[(Candidate, &[f64])]) -> Report {
        let machine = Machine { processor: "p".into(), cores: 2, kernel: "k".into() };
        let mut report = Report::new(machine);
        for (candidate, rounds) in figures {
            for figure in *rounds {
                report.add(Case::small(Family::V4), *candidate, *figure);
            }
        }
        report
    }

    fn of<'a>(goals: &'a [Goal], what: &str) -> &'a Goal {
        goals.iter().find(|goal| goal.what.starts_with(what)).expect("there is such a goal")
    }

    #[test]
    fn ratios_are_taken_without_the_generator_and_round_by_round() {
        let report = report(&[(Generator, &[100.0, 200.0]), (Nftables, &[2100.0, 2200.0]), (PccXdp, &[200.0, 300.0])]);
        let goals = judge(&report);
        let goal = of(&goals, "nftables / fast path XDP, a packet");
        assert_eq!(goal.seen, Some(Spread { median: 20.0, min: 20.0, max: 20.0 }));
        assert_eq!(goal.is_reached(), Some(true));
    }

    #[test]
    fn one_bad_round_misses_a_goal() {
        let report = report(&[(Redirect, &[100.0, 100.0, 100.0]), (PccXdp, &[130.0, 161.0, 140.0])]);
        assert_eq!(of(&judge(&report), "fast path XDP − bare").is_reached(), Some(false));
    }

    #[test]
    fn the_cases_of_goals_suffice_to_judge_all_of_them() {
        let mut report = report(&[]);
        for case in CASES {
            CANDIDATES.iter().zip(1..).for_each(|(candidate, figure)| report.add(case, *candidate, f64::from(figure)));
        }
        let open: Vec<_> = judge(&report).into_iter().filter(|goal| goal.is_reached().is_none()).collect();
        assert!(open.iter().all(|goal| goal.unit == " MB"), "{open:?}");
    }

    #[test]
    fn what_was_not_measured_is_neither_reached_nor_missed() {
        assert!(judge(&report(&[])).iter().all(|goal| goal.is_reached().is_none()));
    }
}
