//! What the loops around both kinds of instance have in common.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::oneshot;

use super::refusal;
use crate::control::Answer;
use crate::events::{Kind, Teller};
use crate::host::guard::Guard;
use crate::metrics::counting::{Counted, Counting};
use crate::problem::{self, Problem};

/// Keeps connections alive while somebody flushes all rules, where the kernel can.
pub fn guard(table: &str) -> Option<Guard> {
    Guard::hold(table)
        .inspect_err(|error| tracing::warn!("connections will end where somebody flushes all rules: {error:#}"))
        .ok()
}

/// Answers with what `answer` makes of `status` and a fresh count of connections by `marks`, beside the loop.
pub fn answer_counted<S: Send + 'static>(
    counting: &Counting,
    marks: (u32, u32),
    status: Result<S>,
    reply: oneshot::Sender<Answer>,
    answer: impl FnOnce(S, &Counted) -> Answer + Send + 'static,
) {
    let tell = |answer| drop(reply.send(answer));
    match status {
        Ok(status) => counting.fresh(marks, move |counted| {
            tell(counted.map_or_else(|error| refusal(&error), |counted| answer(status, &counted)));
        }),
        Err(error) => tell(refusal(&error)),
    }
}

/// Tells what became of looking after our nftables table.
pub fn tell_repaired(outcome: Result<bool>, teller: &Teller) {
    match outcome {
        Ok(true) => teller.tell(Kind::Repaired),
        Ok(false) => {}
        Err(error) => tracing::error!("putting the nftables table back: {error:#}"),
    }
}

/// Tells that another configuration is in force, and what the operator should know of it.
pub fn tell_reloaded(warnings: &[String], teller: &Teller) {
    tracing::info!("reloaded");
    teller.tell(Kind::Reloaded);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// Tells what became of going back to the configuration before.
pub fn tell_rolled_back(outcome: Result<Vec<String>>, teller: &Teller) {
    match outcome {
        Ok(_) => teller.tell(Kind::RolledBack),
        Err(error) => tracing::error!("going back: {}", problem::report(&error)),
    }
}

/// A reload finds a configuration of the other kind.
pub fn other_kind(what: &str) -> Problem {
    Problem::new(format!("the file holds {what} now"), "stop the instance, `pcc down`, and start it with that file")
}

/// A configuration that is being tried: the one to go back to, and when.
#[derive(Debug)]
pub struct Trial<C>(Option<(C, Instant)>);

impl<C> Trial<C> {
    /// Nothing is being tried.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Another configuration than `before` is in force, for `time` unless confirmed; without a time for good. What is tried on
    /// top of something tried goes back to what was there at first.
    pub fn begin(&mut self, before: C, time: Option<Duration>, now: Instant) {
        let before = self.0.take().map_or(before, |(before, _)| before);
        self.0 = time.map(|time| (before, now + time));
    }

    /// Keeps what is being tried.
    ///
    /// # Errors
    /// There is nothing.
    pub fn confirm(&mut self) -> Result<(), Problem> {
        if self.0.take().is_none() {
            return Err(Problem::new("no configuration is being tried", "`pcc reload --try 30s` tries one"));
        }
        tracing::info!("the configuration is confirmed");
        Ok(())
    }

    /// The configuration to go back to at `now`, once.
    pub fn overdue(&mut self, now: Instant) -> Option<C> {
        let (before, _) = self.0.take_if(|(_, end)| *end <= now)?;
        tracing::warn!("the configuration was not confirmed in time: going back");
        Some(before)
    }

    /// When to look.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.as_ref().map(|(_, end)| *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_goes_back_to_the_first_unless_confirmed() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut trial = Trial::none();
        assert!(trial.confirm().is_err());
        trial.begin("a", Some(second), now);
        trial.begin("b", Some(2 * second), now);
        assert_eq!((trial.deadline(), trial.overdue(now + second)), (Some(now + 2 * second), None));
        assert_eq!(trial.overdue(now + 2 * second), Some("a"));
        assert_eq!(trial.overdue(now + 2 * second), None);
        trial.begin("a", Some(second), now);
        trial.confirm().unwrap();
        assert_eq!(trial.overdue(now + second), None);
        trial.begin("a", Some(second), now);
        trial.begin("b", None, now);
        assert_eq!(trial.deadline(), None);
    }
}
