//! What was, second by second: series, rates of counters, growth over the last minute.

use std::collections::VecDeque;

/// Samples that a series keeps.
pub const KEPT: usize = 600;

/// Over how long shares are seen, in milliseconds.
pub const MINUTE: u64 = 60_000;

/// Samples of one figure, oldest first; `None` where it was not known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series(VecDeque<Option<f64>>);

impl Series {
    /// Adds the newest.
    pub fn push(&mut self, sample: Option<f64>) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(sample.filter(|sample| sample.is_finite()));
    }

    /// The newest.
    pub fn last(&self) -> Option<f64> {
        self.0.back().copied().flatten()
    }

    /// The newest `count`, oldest first; `None` in front where there are fewer.
    pub fn tail(&self, count: usize) -> Vec<Option<f64>> {
        let missing = count.saturating_sub(self.0.len());
        let known = self.0.iter().skip(self.0.len().saturating_sub(count)).copied();
        std::iter::repeat_n(None, missing).chain(known).collect()
    }
}

/// How fast a counter grows, a second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rate {
    before: Option<(u64, u64)>,
    /// One sample for each reading.
    pub series: Series,
}

impl Rate {
    /// The counter was `value` at the time `at`, in milliseconds.
    pub fn read(&mut self, at: u64, value: u64) {
        let now = (at, value);
        self.series.push(self.before.and_then(|before| rate(before, now)));
        self.before = Some(now);
    }

    /// It could not be read. What it grew by until the next reading is of no known second.
    pub fn gap(&mut self) {
        self.before = None;
        self.series.push(None);
    }

    /// The newest.
    pub fn now(&self) -> Option<f64> {
        self.series.last()
    }
}

/// Growth a second between two readings of a counter, each a time in milliseconds and a value. `None` when the counter began
/// anew in between, or the clock did not go on.
pub fn rate(before: (u64, u64), now: (u64, u64)) -> Option<f64> {
    let time = now.0.checked_sub(before.0).filter(|time| *time > 0)?;
    let growth = now.1.checked_sub(before.1)?;
    Some(growth as f64 * 1000.0 / time as f64)
}

/// What a counter grew by in the last minute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    before: Option<u64>,
    steps: VecDeque<(u64, u64)>,
}

impl Growth {
    /// The counter was `value` at the time `at`, in milliseconds. One that began anew counts from there.
    pub fn read(&mut self, at: u64, value: u64) {
        let step = self.before.and_then(|before| value.checked_sub(before)).unwrap_or(0);
        self.before = Some(value);
        if step > 0 {
            self.steps.push_back((at, step));
        }
        while self.steps.front().is_some_and(|(then, _)| then + MINUTE < at || *then > at) {
            self.steps.pop_front();
        }
    }

    /// The sum.
    pub fn sum(&self) -> u64 {
        self.steps.iter().fold(0, |sum, (_, step)| sum.saturating_add(*step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_growth_by_time() {
        assert_eq!(rate((1000, 10), (3000, 30)), Some(10.0));
        assert_eq!(rate((1000, 10), (1500, 10)), Some(0.0));
    }

    #[test]
    fn counters_that_began_anew_and_clocks_that_stand_have_no_rate() {
        assert_eq!(rate((1000, 10), (2000, 9)), None);
        assert_eq!(rate((1000, 10), (1000, 20)), None);
        assert_eq!(rate((1000, 10), (900, 20)), None);
        assert_eq!(rate((0, 0), (1, u64::MAX)), Some(u64::MAX as f64 * 1000.0));
    }

    #[test]
    fn a_gap_interrupts_a_rate() {
        let mut rate = Rate::default();
        rate.read(1000, 5);
        assert_eq!(rate.now(), None);
        rate.read(2000, 8);
        assert_eq!(rate.now(), Some(3.0));
        rate.gap();
        rate.read(9000, 1000);
        assert_eq!(rate.now(), None);
        rate.read(10_000, 1001);
        assert_eq!(rate.series.tail(6), [None, None, Some(3.0), None, None, Some(1.0)]);
    }

    #[test]
    fn a_series_keeps_the_newest() {
        let mut series = Series::default();
        for sample in 0..2 * KEPT {
            series.push(Some(sample as f64));
        }
        assert_eq!(series.tail(2 * KEPT).iter().flatten().count(), KEPT);
        assert_eq!(series.tail(1), [Some((2 * KEPT - 1) as f64)]);
        series.push(Some(f64::NAN));
        assert_eq!(series.last(), None);
    }

    #[test]
    fn growth_forgets_what_is_older_than_a_minute() {
        let mut growth = Growth::default();
        growth.read(1000, 100);
        growth.read(2000, 110);
        growth.read(40_000, 115);
        assert_eq!(growth.sum(), 15);
        growth.read(62_001, 115);
        assert_eq!(growth.sum(), 5);
        // A restart.
        growth.read(63_000, 3);
        growth.read(64_000, 4);
        assert_eq!(growth.sum(), 6);
        // The clock was put back.
        growth.read(10, 5);
        assert_eq!(growth.sum(), 1);
    }
}
