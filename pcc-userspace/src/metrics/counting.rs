//! Connections by mark, counted beside the loop: with a million of them the kernel takes seconds to list them.
//!
//! They are counted when somebody asks. A status waits for a [fresh](Counting::fresh) count, on a thread of its own, unless that
//! would keep a core busy. A scrape takes the [latest](Counting::latest): if it is old, another begins, and the scrape waits for it
//! a moment, which is enough for some thousand connections.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, anyhow};

use crate::host::conntrack::Conntrack;

/// For a scrape a count is good for so long at least.
const REST: Duration = Duration::from_secs(5);
/// For everybody it is good for so many times what it took, so that counting takes 5 % of a core at most.
const REST_FACTOR: u32 = 20;
/// A count that took no longer than this is repeated for each status: those who ask for one rest by themselves.
const QUICK: Duration = Duration::from_millis(50);
/// A scrape waits for so long.
const MOMENT: Duration = Duration::from_millis(2);

/// A finished count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Connections by mark.
    pub by_mark: BTreeMap<u32, u64>,
    /// When they were counted.
    pub at: SystemTime,
}

impl Counted {
    /// Seconds since then.
    pub fn age_seconds(&self) -> f64 {
        self.at.elapsed().unwrap_or_default().as_secs_f64()
    }
}

/// Counts on demand. Copies of it are one.
#[derive(Clone, Debug, Default)]
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
    /// When the last attempt began and ended, and what kept it from succeeding.
    attempt: Option<(Instant, Instant, Result<(), String>)>,
}

impl Counting {
    /// The last count of connections whose mark has a bit of `ours`, by their mark under `mask`; `None` before the first has ended. If
    /// it is old, another begins.
    pub fn latest(&self, (ours, mask): (u32, u32)) -> Option<Counted> {
        let mut state = self.0.lock();
        if state.is_old(Instant::now()) {
            state.running = true;
            let shared = Arc::clone(&self.0);
            if let Err(error) = spawn(move || shared.run((ours, mask))) {
                let now = Instant::now();
                state.end(Err(error), now, now);
            }
        }
        let waited = self.0.ended.wait_timeout_while(state, MOMENT, |state| state.running);
        waited.unwrap_or_else(PoisonError::into_inner).0.last.clone()
    }

    /// Hands such a count to `tell`, on a thread of its own: one that begins after this is called, or the last one if that took long
    /// and is not old.
    pub fn fresh(&self, marks: (u32, u32), tell: impl FnOnce(Result<Counted>) + Send + 'static) {
        let (shared, asked) = (Arc::clone(&self.0), Instant::now());
        if let Err(error) = spawn(move || tell(shared.fresh(asked, marks))) {
            // Whoever waits hears that nobody answers.
            tracing::error!("counting connections: {error:#}");
        }
    }
}

/// In the network namespace of the calling thread. It is nobody's: the end of the controller does not wait for a long count.
fn spawn(work: impl FnOnce() + Send + 'static) -> Result<()> {
    thread::Builder::new().name("connections".into()).spawn(work).context("starting a thread")?;
    Ok(())
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self, asked: Instant, marks: (u32, u32)) -> Result<Counted> {
        loop {
            let waited = self.ended.wait_while(self.lock(), |state| state.running);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            if let Some(outcome) = state.answer(asked, Instant::now()) {
                return outcome;
            }
            state.running = true;
            drop(state);
            self.run(marks);
        }
    }

    /// Counts, for whoever said that it is running.
    fn run(&self, (ours, mask): (u32, u32)) {
        let begun = Instant::now();
        let count = || Conntrack::open()?.count_by_mark(ours, mask);
        let counted = count().map(|by_mark| Counted { by_mark, at: SystemTime::now() });
        self.lock().end(counted, begun, Instant::now());
        self.ended.notify_all();
    }
}

impl State {
    /// A scrape at `now` has to begin another count.
    fn is_old(&self, now: Instant) -> bool {
        let rest = |(begun, ended, _): &(Instant, Instant, _)| *ended + REST.max((*ended - *begun) * REST_FACTOR);
        !self.running && self.attempt.as_ref().is_none_or(|attempt| rest(attempt) <= now)
    }

    /// What somebody gets at `now` who `asked` for a fresh count; `None` if it has to be made.
    fn answer(&self, asked: Instant, now: Instant) -> Option<Result<Counted>> {
        let (begun, ended, outcome) = self.attempt.as_ref()?;
        let took = *ended - *begun;
        let spared = took > QUICK && now < *ended + took * REST_FACTOR;
        let failed = |error: &String| Err(anyhow!("{error}"));
        match (outcome, &self.last) {
            _ if *begun < asked && !spared => None,
            (Err(error), _) => Some(failed(error)),
            (Ok(()), last) => last.clone().map(Ok),
        }
    }

    fn end(&mut self, counted: Result<Counted>, begun: Instant, now: Instant) {
        self.running = false;
        let outcome = counted.map(|counted| self.last = Some(counted)).map_err(|error| format!("{error:#}"));
        if let Err(error) = &outcome {
            tracing::debug!("counting connections: {error}");
        }
        self.attempt = Some((begun, now, outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(mark: u32) -> Counted {
        Counted { by_mark: [(mark, 1)].into(), at: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn for_a_scrape_a_slow_count_is_followed_by_a_longer_rest() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut state = State::default();
        assert!(state.is_old(start));
        state.running = true;
        assert!(!state.is_old(after(100)), "one at a time");
        state.end(Ok(counted(1)), after(100), after(100));
        assert!(!state.is_old(after(104)) && state.is_old(after(105)));
        state.end(Ok(counted(2)), after(105), after(107));
        assert!(!state.is_old(after(107 + 39)) && state.is_old(after(107 + 40)));
        assert_eq!(state.last, Some(counted(2)));
        state.end(Err(anyhow!("no")), after(147), after(147));
        assert_eq!(state.last, Some(counted(2)), "a count that failed changes nothing");
        assert!(!state.is_old(after(151)));
    }

    #[test]
    fn a_status_gets_a_count_that_began_after_it_was_asked_for_unless_that_takes_long() {
        let start = Instant::now();
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut state = State::default();
        let answer = |state: &State, asked, now| state.answer(after(asked), after(now)).map(Result::unwrap);
        assert_eq!(answer(&state, 0, 0), None);
        state.end(Ok(counted(1)), after(10), after(20));
        assert_eq!(answer(&state, 10, 20), Some(counted(1)));
        assert_eq!(answer(&state, 11, 20), None, "it began before");
        state.end(Ok(counted(2)), after(1000), after(2000));
        assert_eq!(answer(&state, 1500, 2000), Some(counted(2)), "it is slow, and not old");
        assert_eq!(answer(&state, 21_999, 21_999), Some(counted(2)));
        assert_eq!(answer(&state, 22_000, 22_000), None);
        state.end(Err(anyhow!("no rights")), after(23_000), after(23_001));
        assert_eq!(state.answer(after(23_000), after(23_001)).unwrap().unwrap_err().to_string(), "no rights");
        assert!(state.answer(after(23_002), after(23_002)).is_none(), "it is tried again");
    }

    #[test]
    fn many_wait_for_one_count_at_a_time() {
        let (counting, (sender, receiver)) = (Counting::default(), std::sync::mpsc::channel());
        for _ in 0..8 {
            let sender = sender.clone();
            counting.fresh((0, 0), move |counted| sender.send(counted.map(|it| it.age_seconds())).unwrap());
        }
        drop(sender);
        // Whether this user may count is not what is tested.
        assert_eq!(receiver.iter().filter(|age| age.as_ref().map_or(true, |age| *age < 60.0)).count(), 8);
        assert!(!counting.0.lock().running);
    }
}
