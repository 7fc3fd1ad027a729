//! The latest question, for protocols whose answers carry no number.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Answer;

/// Number and time of the latest question. An answer counts for it, whichever it was to.
#[derive(Debug)]
pub(super) struct Latest {
    start: Instant,
    /// Microseconds from `start` to the question, and in the low 16 bits its number.
    last: AtomicU64,
}

impl Latest {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Question `sequence` is sent now.
    pub(super) fn asked(&self, sequence: u16) {
        // 2^48 µs are nine years.
        let sent = self.start.elapsed().as_micros() as u64;
        self.last.store(sent << 16 | u64::from(sequence), Ordering::Relaxed);
    }

    /// An answer came now.
    pub(super) fn answered(&self) -> Answer {
        let last = self.last.load(Ordering::Relaxed);
        let sent = Duration::from_micros(last >> 16);
        Answer { sequence: last as u16, round_trip: self.start.elapsed().saturating_sub(sent) }
    }
}
