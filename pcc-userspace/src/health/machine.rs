//! The health of one uplink in one IP family as a state machine without clock and IO: the caller says what happened and
//! when, sends the probe that [`Machine::next_probe`] asks for, and comes back at [`Machine::next_deadline`].

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::config::Check;

/// Health of one uplink in one family.
///
/// ```text
///            `count` answers in a row            `count` losses in a row
///  Unknown ──────────────────────────► Up ─────────────────────────────► Down(Silent)
///     │                                ▲ ▲                                    │
///     │ `count` losses, never an answer│ └────────────────────────────────────┘
///     └────► Down(NeverAnswered) ──────┤       `count` answers in a row
///                                      │
///  carrier lost, any state ► Down(NoCarrier) ─ carrier back ► Down(Returning) ► Up or Down as above
/// ```
///
/// With nothing to ping the carrier alone decides between `Up` and `Down(NoCarrier)`. A new thing to ping is a new machine.
#[derive(Clone, Debug)]
pub struct Machine {
    interval: Duration,
    timeout: Duration,
    losses: u32,
    answers: u32,
    pings: bool,
    carrier: bool,
    state: State,
    ever_answered: bool,
    /// Answers or losses since the last of the other kind.
    run: Run,
    waiting: VecDeque<Waiting>,
    next_at: Instant,
    next_sequence: u16,
}

/// How often is probed, and what counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two probes.
    pub interval: Duration,
    /// Until an unanswered probe is lost.
    pub timeout: Duration,
    /// Lost probes in a row that mean "down", at least 1.
    pub losses: u32,
    /// Answered probes in a row that mean "up", at least 1.
    pub answers: u32,
}

impl From<&Check> for Timing {
    fn from(check: &Check) -> Self {
        Self { interval: check.interval, timeout: check.timeout, losses: check.losses, answers: check.answers }
    }
}

/// What is known about an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Just started; counts as usable, so that a restart interrupts nothing.
    Unknown,
    /// Works.
    Up,
    /// Takes no new connections.
    Down(Reason),
}

impl State {
    /// New connections may be given to the uplink.
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Unknown | Self::Up)
    }
}

/// Why an uplink is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The device has no carrier or is switched off.
    NoCarrier,
    /// It answered before and stopped.
    Silent,
    /// Not one answer since the start: perhaps it does not answer pings at all.
    NeverAnswered,
    /// The carrier is back, the answers are not counted yet.
    Returning,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The carrier is there (`true`) or not.
    Carrier(bool),
    /// The probe with this sequence number was sent, or could not be: both end in an answer or a loss.
    Sent(u16),
    /// It was answered.
    Answered(u16),
    /// Time has passed; probes whose deadline is over are lost.
    Tick,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    sequence: u16,
    deadline: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Run {
    Answers(u32),
    Losses(u32),
}

impl Machine {
    /// The state at `now`. `pings` is false if there is nothing to ping.
    pub fn new(timing: Timing, pings: bool, carrier: bool, now: Instant) -> Self {
        let state = match (carrier, pings) {
            (false, _) => State::Down(Reason::NoCarrier),
            (true, true) => State::Unknown,
            (true, false) => State::Up,
        };
        Self {
            interval: timing.interval,
            timeout: timing.timeout,
            losses: timing.losses,
            answers: timing.answers,
            pings,
            carrier,
            state,
            ever_answered: false,
            run: Run::Answers(0),
            waiting: VecDeque::new(),
            next_at: now,
            next_sequence: 0,
        }
    }

    /// What is known now.
    pub fn state(&self) -> State {
        self.state
    }

    /// The sequence number of the probe that is to be sent at `now`, if one is due. Answer with [`Event::Sent`].
    pub fn next_probe(&self, now: Instant) -> Option<u16> {
        (self.probes() && now >= self.next_at).then_some(self.next_sequence)
    }

    /// When to call [`Self::next_probe`] and to report a [`Event::Tick`] next; `None` if only an event can change anything.
    pub fn next_deadline(&self) -> Option<Instant> {
        let lost = self.waiting.front().map(|probe| probe.deadline);
        let due = self.probes().then_some(self.next_at);
        lost.into_iter().chain(due).min()
    }

    /// Takes in what happened at `now`, which never goes back. Answers that come too late, twice or unasked change nothing.
    pub fn handle(&mut self, event: Event, now: Instant) -> Option<Transition> {
        let from = self.state;
        while let Some(probe) = self.waiting.front()
            && probe.deadline <= now
        {
            self.waiting.pop_front();
            self.lost();
        }
        match event {
            Event::Carrier(carrier) => self.carrier(carrier, now),
            Event::Sent(sequence) => self.sent(sequence, now),
            Event::Answered(sequence) => self.answered(sequence),
            Event::Tick => {}
        }
        (from != self.state).then_some(Transition { from, to: self.state })
    }

    fn probes(&self) -> bool {
        self.pings && self.carrier
    }

    fn carrier(&mut self, carrier: bool, now: Instant) {
        if carrier == self.carrier {
            return;
        }
        self.carrier = carrier;
        self.waiting.clear();
        self.run = Run::Answers(0);
        self.next_at = now;
        self.state = match (carrier, self.pings) {
            (false, _) => State::Down(Reason::NoCarrier),
            (true, true) => State::Down(Reason::Returning),
            (true, false) => State::Up,
        };
    }

    fn sent(&mut self, sequence: u16, now: Instant) {
        if !self.probes() {
            return;
        }
        self.waiting.push_back(Waiting { sequence, deadline: now + self.timeout });
        self.next_sequence = sequence.wrapping_add(1);
        self.next_at = now + self.interval;
    }

    fn answered(&mut self, sequence: u16) {
        let Some(index) = self.waiting.iter().position(|probe| probe.sequence == sequence) else { return };
        self.waiting.remove(index);
        self.ever_answered = true;
        let answers = if let Run::Answers(answers) = self.run { answers.saturating_add(1) } else { 1 };
        self.run = Run::Answers(answers);
        if answers >= self.answers {
            self.state = State::Up;
        }
    }

    fn lost(&mut self) {
        let losses = if let Run::Losses(losses) = self.run { losses.saturating_add(1) } else { 1 };
        self.run = Run::Losses(losses);
        if losses >= self.losses {
            self.state = State::Down(if self.ever_answered { Reason::Silent } else { Reason::NeverAnswered });
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => out.write_str("unknown"),
            Self::Up => out.write_str("up"),
            Self::Down(reason) => write!(out, "down: {reason}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NoCarrier => "no carrier",
            Self::Silent => "pings are no longer answered",
            Self::NeverAnswered => {
                "no ping was ever answered; if the next hop does not answer pings, check `carrier` or another address"
            }
            Self::Returning => "carrier is back, waiting for answers",
        })
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
