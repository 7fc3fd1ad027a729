//! Connections by mark, counted beside the loop: with a million of them the kernel takes seconds to list them.
//!
//! They are counted when somebody asks and the last count is old, on a thread of its own. Whoever asks waits for it a moment, which
//! is enough for some thousand connections, and otherwise gets the last count with its time. A slow count is followed by a longer
//! rest.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;

use crate::host::conntrack::Conntrack;

/// A count is good for so long at least.
const REST: Duration = Duration::from_secs(5);
/// And for so many times what it took, so that counting takes 5 % of a core at most.
const REST_FACTOR: u32 = 20;

/// A finished count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Connections by mark.
    pub by_mark: BTreeMap<u32, u64>,
    /// When they were counted.
    pub at: SystemTime,
}

/// Whoever asks waits for so long.
const MOMENT: Duration = Duration::from_millis(2);

/// Counts on demand.
#[derive(Debug, Default)]
pub struct Counting(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Counted>,
    running: bool,
    /// Not before; `None` at once.
    next: Option<Instant>,
}

impl Counting {
    /// The last count of connections whose mark has a bit of `ours`, by their mark under `mask`; `None` before the first has ended. If
    /// it is old, another begins.
    pub fn latest(&self, ours: u32, mask: u32) -> Option<Counted> {
        let mut state = self.0.lock();
        if state.begins(Instant::now()) {
            let shared = Arc::clone(&self.0);
            let thread = std::thread::Builder::new().name("connections".into()).spawn(move || {
                let begun = Instant::now();
                let counted =
                    count(ours, mask).inspect_err(|error| tracing::debug!("counting connections: {error:#}")).ok();
                shared.lock().end(counted, begun, Instant::now());
                shared.ended.notify_all();
            });
            if let Err(error) = thread {
                tracing::debug!("counting connections: {error}");
                state.end(None, Instant::now(), Instant::now());
            }
        }
        let waited = self.0.ended.wait_timeout_while(state, MOMENT, |state| state.running);
        waited.unwrap_or_else(PoisonError::into_inner).0.last.clone()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// It is time for another count at `now`, which is begun.
    fn begins(&mut self, now: Instant) -> bool {
        let begins = !self.running && self.next.is_none_or(|next| next <= now);
        self.running |= begins;
        begins
    }

    fn end(&mut self, counted: Option<Counted>, begun: Instant, now: Instant) {
        self.running = false;
        self.next = Some(now + REST.max((now - begun) * REST_FACTOR));
        if counted.is_some() {
            self.last = counted;
        }
    }
}

/// In the network namespace of the thread that started this one.
fn count(ours: u32, mask: u32) -> Result<Counted> {
    let by_mark = Conntrack::open()?.count_by_mark(ours, mask)?;
    Ok(Counted { by_mark, at: SystemTime::now() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_count_is_followed_by_a_longer_rest() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let counted = |mark| Some(Counted { by_mark: [(mark, 1)].into(), at: SystemTime::UNIX_EPOCH });
        let mut state = State::default();
        assert!(state.begins(start));
        assert!(!state.begins(after(100)), "one at a time");
        state.end(counted(1), after(100), after(100));
        assert!(!state.begins(after(104)) && state.begins(after(105)));
        state.end(counted(2), after(105), after(107));
        assert!(!state.begins(after(107 + 39)) && state.begins(after(107 + 40)));
        assert_eq!(state.last, counted(2));
        state.end(None, after(147), after(147));
        assert_eq!(state.last, counted(2), "a count that failed changes nothing");
        assert!(!state.begins(after(151)));
    }
}
