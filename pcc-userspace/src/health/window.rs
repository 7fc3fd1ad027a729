//! What became of the last probes of a target: loss, latency, jitter. Pure.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::config::Degraded;

/// The last [`Degraded::WINDOW`] probes of a target whose fate is known.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// Round-trip times, or `None` for a lost probe.
    probes: VecDeque<Option<Duration>>,
    lost: usize,
    /// Of the round-trip times.
    sum: Duration,
    last: Option<Duration>,
    fresh: usize,
}

/// What a window says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Lost probes in percent.
    pub loss: u32,
    /// Mean round-trip time.
    pub latency: Option<Duration>,
    /// Mean difference of one round-trip time to the next.
    pub jitter: Option<Duration>,
    /// The last round-trip time, also of a late answer.
    pub last: Option<Duration>,
}

/// Why an uplink that works counts as degraded, with what was measured then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Lost probes in percent.
    Loss(u32),
    /// Mean round-trip time.
    Latency(Duration),
    /// Mean difference of one round-trip time to the next.
    Jitter(Duration),
}

/// Times are judged from so many answers on.
const ENOUGH: usize = 10;

impl Window {
    /// A probe was answered after `trip`, or lost.
    pub fn push(&mut self, trip: Option<Duration>) {
        if self.probes.len() == Degraded::WINDOW
            && let Some(oldest) = self.probes.pop_front()
        {
            self.lost -= usize::from(oldest.is_none());
            self.sum -= oldest.unwrap_or_default();
        }
        self.probes.push_back(trip);
        self.lost += usize::from(trip.is_none());
        self.sum += trip.unwrap_or_default();
        self.last = trip.or(self.last);
        self.fresh += 1;
    }

    /// A probe that was counted as lost was answered after `trip`.
    pub fn late(&mut self, trip: Duration) {
        self.last = Some(trip);
    }

    /// Forgets all probes.
    pub fn clear(&mut self) {
        self.probes.clear();
        (self.lost, self.sum) = (0, Duration::ZERO);
    }

    /// Lost probes in it.
    pub fn lost(&self) -> usize {
        self.lost
    }

    /// From now on [`Self::has_turned_over`] counts anew.
    pub fn turn(&mut self) {
        self.fresh = 0;
    }

    /// All that is in it came after [`Self::turn`].
    pub fn has_turned_over(&self) -> bool {
        self.fresh >= Degraded::WINDOW
    }

    /// Mean round-trip time.
    pub fn latency(&self) -> Option<Duration> {
        self.sum.checked_div((self.probes.len() - self.lost) as u32)
    }

    /// What it says.
    pub fn statistics(&self) -> Statistics {
        Statistics { loss: self.loss(), latency: self.latency(), jitter: self.jitter(), last: self.last }
    }

    fn loss(&self) -> u32 {
        (self.lost * 100).checked_div(self.probes.len()).unwrap_or(0) as u32
    }

    fn jitter(&self) -> Option<Duration> {
        let trips = || self.probes.iter().copied().flatten();
        let sum: Duration = trips().zip(trips().skip(1)).map(|(one, next)| one.abs_diff(next)).sum();
        sum.checked_div((self.probes.len() - self.lost).saturating_sub(1) as u32)
    }

    /// Why the uplink is degraded by it. One that is (`already`) stays so until it is well below the limits: at half the loss,
    /// at four fifths of the times.
    ///
    /// Loss is counted against the whole window, also while it is not full, so that a few losses at the start mean nothing.
    pub fn cause(&self, limits: &Degraded, already: bool) -> Option<Cause> {
        let (lost, limit) = (self.lost * 100, limits.loss as usize * Degraded::WINDOW);
        if lost > 0 && if already { lost * 2 > limit } else { lost >= limit } {
            return Some(Cause::Loss(self.loss()));
        }
        if self.probes.len() - self.lost < ENOUGH {
            return None;
        }
        let above = |limit: Option<Duration>, time: &dyn Fn() -> Option<Duration>| {
            let limit = if already { limit? * 4 / 5 } else { limit? };
            time().filter(|time| *time > limit)
        };
        let latency = above(limits.latency, &|| self.latency()).map(Cause::Latency);
        latency.or_else(|| above(limits.jitter, &|| self.jitter()).map(Cause::Jitter))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loss(percent) => write!(out, "{percent} % loss"),
            Self::Latency(time) => write!(out, "latency {} ms", time.as_millis()),
            Self::Jitter(time) => write!(out, "jitter {} ms", time.as_millis()),
        }
    }
}
