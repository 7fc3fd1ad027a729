//! Hold-down with damping: the more often an uplink went down lately, the longer it has to prove itself. Pure.

use std::time::{Duration, Instant};

/// Counts how often an uplink went down.
///
/// Each fall raises the level by one, up to the first one of the longest probation; each full [`Self::FORGIVE`] of being up lowers
/// it by one. At level n ≥ 2 the uplink must answer without interruption for 1 s · 2ⁿ⁻², `hold_down` at most, before it is up.
///
/// So in a time T there are at most [`Self::most_falls`] falls: a fall raises the level, which has `most` steps, unless it is at the
/// top; what lowers it takes a minute of being up; and before a fall from the top lies a probation of `hold_down`. Both take
/// time, and no time counts for both.
#[derive(Clone, Debug)]
pub struct Damping {
    hold_down: Duration,
    level: u32,
    up_since: Option<Instant>,
    answers_since: Option<Instant>,
}

impl Damping {
    /// So long an uplink must be up to be forgiven one fall.
    pub const FORGIVE: Duration = Duration::from_secs(60);
    /// The first probation.
    const FIRST: Duration = Duration::from_secs(1);

    /// No fall so far. `hold_down` is the longest probation; 0 switches damping off.
    pub fn new(hold_down: Duration) -> Self {
        Self { hold_down, level: 0, up_since: None, answers_since: None }
    }

    /// The same with another longest probation.
    #[must_use]
    pub fn with(self, hold_down: Duration) -> Self {
        Self { hold_down, ..self }
    }

    /// Nothing is held against the uplink any more.
    pub fn forget(&mut self) {
        *self = Self::new(self.hold_down);
    }

    /// The uplink was usable and went down.
    pub fn fell(&mut self, now: Instant) {
        self.settle(now);
        self.level = (self.level + 1).min(self.top());
        (self.up_since, self.answers_since) = (None, None);
    }

    /// The uplink, on probation, stopped to answer.
    pub fn interrupted(&mut self) {
        self.answers_since = None;
    }

    /// The uplink answers; how long the probation is on which it still is.
    pub fn probation(&mut self, now: Instant) -> Option<Duration> {
        if self.up_since.is_some() {
            return None;
        }
        let since = *self.answers_since.get_or_insert(now);
        let hold = self.hold();
        if now < since + hold {
            return Some(hold);
        }
        self.up_since = Some(now);
        None
    }

    /// When the probation ends if it goes on to answer.
    pub fn deadline(&self) -> Option<Instant> {
        let since = self.answers_since.filter(|_| self.up_since.is_none())?;
        Some(since + self.hold())
    }

    /// The most falls within `time`.
    pub fn most_falls(hold_down: Duration, time: Duration) -> u64 {
        let period = hold_down.min(Self::FORGIVE).as_millis().max(1);
        u64::from(Self::new(hold_down).top()) + 1 + u64::try_from(time.as_millis() / period).unwrap_or(u64::MAX)
    }

    /// Forgives what is to be forgiven.
    fn settle(&mut self, now: Instant) {
        let minutes =
            self.up_since.map_or(0, |since| now.saturating_duration_since(since).as_secs() / Self::FORGIVE.as_secs());
        self.level = self.level.saturating_sub(u32::try_from(minutes).unwrap_or(u32::MAX));
    }

    fn hold(&self) -> Duration {
        Self::hold_at(self.level).min(self.hold_down)
    }

    fn hold_at(level: u32) -> Duration {
        level.checked_sub(2).map_or(Duration::ZERO, |steps| Self::FIRST * 2_u32.saturating_pow(steps))
    }

    /// The first level with the longest probation.
    fn top(&self) -> u32 {
        (1..).find(|level| Self::hold_at(*level) >= self.hold_down).unwrap_or(1)
    }
}
