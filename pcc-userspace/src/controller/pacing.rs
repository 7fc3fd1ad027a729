//! Work that notices ask for, not more often than it may be done. Pure.

use std::time::{Duration, Instant};

/// When to do it.
#[derive(Clone, Copy, Debug)]
pub struct Pacing {
    delay: Duration,
    gap: Duration,
    last: Option<Instant>,
    wanted: Option<Instant>,
}

impl Pacing {
    /// `delay` after the first notice, `gap` after the last time.
    pub const fn new(delay: Duration, gap: Duration) -> Self {
        Self { delay, gap, last: None, wanted: None }
    }

    /// Something asks for it at `now`.
    pub fn notice(&mut self, now: Instant) {
        let soonest = self.last.map_or(now, |last| last + self.gap);
        self.wanted.get_or_insert(soonest.max(now + self.delay));
    }

    /// It is to be done at `now`: once for all notices until now.
    pub fn due(&mut self, now: Instant) -> bool {
        let due = self.wanted.is_some_and(|wanted| wanted <= now);
        if due {
            (self.last, self.wanted) = (Some(now), None);
        }
        due
    }

    /// When to ask whether it is due.
    pub const fn deadline(&self) -> Option<Instant> {
        self.wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: Duration = Duration::from_millis(100);

    #[test]
    fn the_first_notice_is_followed_at_once_and_the_last_one_always() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut pacing = Pacing::new(Duration::ZERO, GAP);
        assert!(!pacing.due(start), "nothing asked for it");
        let mut done = Vec::new();
        // A storm of a notice every 7 ms, for 310 ms; looked at every millisecond.
        for now in 0..600 {
            if now % 7 == 0 && now <= 310 {
                pacing.notice(at(now));
            }
            if pacing.due(at(now)) {
                done.push(now);
            }
        }
        assert_eq!(done, [0, 100, 200, 300, 400], "at 301 one more was asked for");
        assert_eq!(pacing.deadline(), None);
        pacing.notice(at(900));
        assert!(pacing.due(at(900)), "quiet since");
        pacing.notice(at(901));
        assert_eq!((pacing.due(at(950)), pacing.deadline()), (false, Some(at(1000))));
    }

    #[test]
    fn notices_that_come_together_are_waited_for() {
        let start = Instant::now();
        let delay = Duration::from_millis(50);
        let mut pacing = Pacing::new(delay, 10 * GAP);
        pacing.notice(start);
        pacing.notice(start + delay / 2);
        assert_eq!(pacing.deadline(), Some(start + delay));
        assert!(!pacing.due(start + delay / 2) && pacing.due(start + delay) && !pacing.due(start + delay));
        pacing.notice(start + 2 * delay);
        assert_eq!(pacing.deadline(), Some(start + delay + 10 * GAP));
    }
}
