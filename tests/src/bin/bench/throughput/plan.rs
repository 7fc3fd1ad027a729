//! Which cases are measured, and for how long.

use std::time::Duration;

use super::case::{Case, Family, Packets};

/// How a run goes.
#[derive(Clone, Debug)]
pub struct Plan {
    pub rounds: u32,
    /// Cases, and in how many of the rounds each is measured.
    pub cases: Vec<(Case, u32)>,
    /// What one figure takes, after all connections are known.
    pub time: Duration,
    /// Connections that are opened for a figure.
    pub new: u32,
}

/// Rounds with a million connections: it takes long until all of them are known.
const LARGE: u32 = 3;

impl Plan {
    /// At most three minutes.
    pub fn quick(rounds: u32) -> Self {
        let families = [Family::V4, Family::V6];
        let small = families.map(Case::small);
        let new = families.map(Case::Connections);
        let bulk = [true, false].map(|offloads| Case::Bulk { streams: 1, offloads });
        let cases = small.into_iter().chain(new).chain(bulk).map(|case| (case, rounds)).collect();
        Self { rounds, cases, time: Duration::from_millis(300), new: 30_000 }
    }

    /// Everything.
    pub fn full(rounds: u32) -> Self {
        let mut cases = Vec::new();
        for family in [Family::V4, Family::V6] {
            for (size, flows) in [(64, 1_000), (512, 1_000), (1_500, 1_000), (64, 100_000)] {
                cases.push((Case::Packets(Packets { family, size, flows }), rounds));
            }
            cases.push((Case::many(family), rounds.min(LARGE)));
            cases.push((Case::Connections(family), rounds));
        }
        for streams in [1, 16] {
            cases.extend([true, false].map(|offloads| (Case::Bulk { streams, offloads }, rounds)));
        }
        Self { rounds, cases, time: Duration::from_millis(600), new: 50_000 }
    }

    /// Of all of these only `cases`.
    pub fn only(mut self, cases: &[Case]) -> Self {
        self.cases.retain(|(case, _)| cases.contains(case));
        self
    }
}

/// `items` as they take their turns in round `round`: another one begins each time.
pub fn rotated(items: usize, round: u32) -> impl Iterator<Item = usize> {
    (0..items).map(move |place| (place + round as usize) % items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_has_a_turn_in_every_round() {
        assert_eq!(rotated(3, 0).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(rotated(3, 4).collect::<Vec<_>>(), [1, 2, 0]);
    }

    #[test]
    fn the_quick_plan_has_no_large_case() {
        let plan = Plan::quick(3);
        assert!(plan.cases.iter().all(|(case, _)| !matches!(case, Case::Packets(it) if it.flows > 1_000)));
        assert!(plan.cases.iter().all(|(_, rounds)| *rounds == 3));
    }
}
