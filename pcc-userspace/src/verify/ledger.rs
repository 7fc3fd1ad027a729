//! Pure: how many connections had begun when, and what was wanted meanwhile. So what is wanted of a period is right also where
//! weights changed in it, or uplinks went down.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Between two marks that nothing but the time makes.
const INTERVAL: Duration = Duration::from_secs(60);
/// So many are kept.
const MARKS: usize = 512;

/// Shares of new connections of both families, by uplink id; they sum up to 1, or there are none.
pub type Shares = [BTreeMap<u32, f64>; 2];

/// When how many connections had begun.
#[derive(Debug, Default)]
pub struct Ledger {
    marks: VecDeque<Mark>,
}

#[derive(Clone, Debug)]
struct Mark {
    at: Instant,
    /// By uplink id, since the data path was loaded.
    begun: BTreeMap<u32, u64>,
    /// What is wanted from then on.
    shares: Shares,
}

/// A time with what happened in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Period {
    /// How long it is.
    pub length: Duration,
    /// Its parts, in each of which the same was wanted.
    pub parts: Vec<Part>,
}

/// A time in which nothing changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// How long ago it ended.
    pub ended: Duration,
    /// Connections that began, by uplink id.
    pub begun: BTreeMap<u32, u64>,
    /// What was wanted.
    pub shares: Shares,
}

impl Ledger {
    /// It is time for a mark, or `shares` are others than before.
    pub fn is_due(&self, now: Instant, shares: &Shares) -> bool {
        self.marks.back().is_none_or(|last| last.shares != *shares || now.duration_since(last.at) >= INTERVAL)
    }

    /// Notes how many have begun, and what is wanted from now on.
    pub fn note(&mut self, at: Instant, begun: BTreeMap<u32, u64>, shares: Shares) {
        if self.marks.len() >= MARKS {
            // The oldest one that changed nothing, or else the oldest.
            let idle = (1..self.marks.len()).find(|index| self.marks[*index].shares == self.marks[index - 1].shares);
            self.marks.remove(idle.filter(|index| *index < MARKS / 2).unwrap_or(0));
        }
        self.marks.push_back(Mark { at, begun, shares });
    }

    /// What happened from the last mark that is not younger than `since` to now; all that is known, without `since`.
    pub fn since(&self, since: Option<Duration>, now: Instant, begun: &BTreeMap<u32, u64>) -> Period {
        let age = |mark: &Mark| now.saturating_duration_since(mark.at);
        let first = since.and_then(|since| self.marks.iter().rposition(|mark| age(mark) >= since)).unwrap_or(0);
        let Some(start) = self.marks.get(first) else { return Period::default() };
        let mut parts: Vec<Part> = Vec::new();
        let ends = self.marks.iter().skip(first + 1).map(|mark| (mark.at, &mark.begun)).chain([(now, begun)]);
        for (mark, (end, until)) in self.marks.iter().skip(first).zip(ends) {
            let new =
                until.iter().map(|(id, count)| (*id, count.saturating_sub(mark.begun.get(id).copied().unwrap_or(0))));
            let ended = now.saturating_duration_since(end);
            match parts.last_mut() {
                Some(last) if last.shares == mark.shares => {
                    last.ended = ended;
                    for (id, count) in new {
                        *last.begun.entry(id).or_default() += count;
                    }
                }
                _ => parts.push(Part { ended, begun: new.collect(), shares: mark.shares.clone() }),
            }
        }
        Period { length: age(start), parts }
    }
}

impl Period {
    /// Connections that began, by uplink id.
    pub fn begun(&self) -> BTreeMap<u32, u64> {
        let mut sum = BTreeMap::new();
        for (id, count) in self.parts.iter().flat_map(|part| &part.begun) {
            *sum.entry(*id).or_default() += count;
        }
        sum
    }

    /// Those that were expected, by uplink id, if so many in a hundred were IPv4 as `ipv4` says, 0 to 1. Where nothing was wanted of a
    /// family, that is what happened.
    pub fn expected(&self, ipv4: f64) -> BTreeMap<u32, f64> {
        let mut sum = BTreeMap::new();
        for part in &self.parts {
            let count = part.begun.values().sum::<u64>() as f64;
            let [v4, v6] = &part.shares;
            let (v4_part, v6_part) = match (v4.is_empty(), v6.is_empty()) {
                (false, false) => (ipv4, 1.0 - ipv4),
                (false, true) => (1.0, 0.0),
                (true, false) => (0.0, 1.0),
                (true, true) => {
                    for (id, count) in &part.begun {
                        *sum.entry(*id).or_default() += *count as f64;
                    }
                    continue;
                }
            };
            for (shares, weight) in [(v4, v4_part), (v6, v6_part)] {
                for (id, share) in shares {
                    *sum.entry(*id).or_default() += share * weight * count;
                }
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(first: f64) -> Shares {
        let one = BTreeMap::from([(1, first), (2, 1.0 - first)]);
        [one.clone(), one]
    }

    fn begun(first: u64, second: u64) -> BTreeMap<u32, u64> {
        [(1, first), (2, second)].into()
    }

    #[test]
    fn what_is_wanted_follows_each_change() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut ledger = Ledger::default();
        assert_eq!(ledger.since(None, start, &begun(9, 9)), Period::default());
        assert!(ledger.is_due(start, &shares(0.5)));
        ledger.note(start, begun(100, 100), shares(0.5));
        assert!(!ledger.is_due(start + second, &shares(0.5)));
        assert!(ledger.is_due(start + second, &shares(1.0)) && ledger.is_due(start + 60 * second, &shares(0.5)));
        ledger.note(start + 60 * second, begun(150, 150), shares(0.5));
        ledger.note(start + 70 * second, begun(200, 200), shares(1.0));
        let now = start + 100 * second;
        let period = ledger.since(None, now, &begun(400, 201));
        assert_eq!((period.length, period.parts.len()), (100 * second, 2), "equal parts are one");
        assert_eq!(period.parts[0].ended, 30 * second);
        assert_eq!(period.begun(), begun(300, 101));
        assert_eq!(period.expected(0.5), [(1, 100.0 + 201.0), (2, 100.0)].into());
        let late = ledger.since(Some(35 * second), now, &begun(400, 201));
        assert_eq!((late.length, late.begun()), (40 * second, begun(250, 51)));
        assert_eq!(ledger.since(Some(1000 * second), now, &begun(400, 201)).length, 100 * second);
    }

    #[test]
    fn families_are_weighed_and_what_nobody_balances_counts_for_nothing() {
        let part = |shares| Part { shares, begun: begun(60, 40), ..Part::default() };
        let of = |shares| Period { parts: vec![part(shares)], ..Period::default() }.expected(0.25);
        let only = |id| BTreeMap::from([(id, 1.0)]);
        assert_eq!(of([only(1), only(2)]), [(1, 25.0), (2, 75.0)].into());
        assert_eq!(of([only(1), BTreeMap::new()]), [(1, 100.0)].into());
        assert_eq!(of(Shares::default()), [(1, 60.0), (2, 40.0)].into());
    }

    proptest! {
        #[test]
        fn as_many_are_expected_as_began(
            notes in prop::collection::vec((0_u64..100, 0_u64..50, 0_u64..50, 0_u8..4), 1..700),
            since in prop::option::of(0_u64..100_000),
            ipv4 in 0.0_f64..=1.0,
        ) {
            let (mut now, mut counts) = (Instant::now(), [0, 0]);
            let mut ledger = Ledger::default();
            for (seconds, first, second, share) in notes {
                now += Duration::from_secs(seconds);
                counts = [counts[0] + first, counts[1] + second];
                ledger.note(now, begun(counts[0], counts[1]), shares(f64::from(share) / 4.0));
                prop_assert!(ledger.marks.len() <= MARKS);
            }
            let period = ledger.since(since.map(Duration::from_secs), now, &begun(counts[0], counts[1]));
            let (sum, expected) = (period.begun().values().sum::<u64>() as f64, period.expected(ipv4).values().sum::<f64>());
            prop_assert!((sum - expected).abs() < 1e-6 * (1.0 + sum), "{} and {}", sum, expected);
        }
    }
}
