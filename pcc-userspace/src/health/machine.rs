//! Whether one target of one uplink answers, as a state machine without clock and IO: the caller says what happened and
//! when, sends the probe that [`Machine::next_probe`] asks for, and comes back at [`Machine::next_deadline`].

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::config::Check;

/// Whether one target answers.
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
/// With a [`Hurry`] it decides sooner and on better grounds.
#[derive(Clone, Debug)]
pub struct Machine {
    interval: Duration,
    timeout: Duration,
    losses: u32,
    answers: u32,
    hurry: Option<Hurry>,
    pings: bool,
    carrier: bool,
    state: State,
    ever_answered: bool,
    /// Answers or losses since the last of the other kind.
    run: Run,
    waiting: VecDeque<Waiting>,
    /// Lost a short time ago; with a hurry only.
    expired: VecDeque<Waiting>,
    /// The last answer came.
    heard_at: Option<Instant>,
    smoothed: Option<Duration>,
    sent_at: Option<Instant>,
    /// Without hurry.
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

/// Asks sooner while something is about to be decided, and takes answers for what they are, a sign of life:
///
/// - the first answer ends `Unknown`;
/// - a late answer is an answer too, and breaks a run of losses;
/// - a probe that was lost while answers to others came in says nothing: only probes make a run that were sent after the last
///   answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hurry {
    /// A probe is overdue after this, or after three smoothed round trips if they are longer; after the timeout at the latest.
    pub overdue: Duration,
    /// Between two probes as soon as one is overdue, until so many are out that their loss means "down".
    pub doubt: Duration,
    /// Between two probes in state `Unknown` and while the target returns.
    pub returning: Duration,
}

impl Default for Hurry {
    /// With an interval of 300 ms, a timeout of 400 ms and four losses a silence is noticed after
    /// 300 + 100 + 2 · 60 + 400 = 920 ms at the latest.
    fn default() -> Self {
        Self {
            overdue: Duration::from_millis(100),
            doubt: Duration::from_millis(60),
            returning: Duration::from_millis(100),
        }
    }
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
    /// It was answered with a failure: a loss at once.
    Failed(u16),
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

/// What became of probes, for statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// So many were lost.
    pub lost: usize,
    /// One was answered.
    pub answer: Option<Answer>,
}

/// Which answer counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One within its timeout.
    InTime,
    /// One to a probe that was counted as lost.
    Late,
}

/// Lost probes are remembered for so many timeouts.
const MEMORY: u32 = 4;

#[derive(Clone, Copy, Debug)]
struct Waiting {
    sequence: u16,
    sent: Instant,
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
            hurry: None,
            pings,
            carrier,
            state,
            ever_answered: false,
            run: Run::Answers(0),
            waiting: VecDeque::new(),
            expired: VecDeque::new(),
            heard_at: None,
            smoothed: None,
            sent_at: None,
            next_at: now,
            next_sequence: 0,
        }
    }

    /// The same with a hurry.
    #[must_use]
    pub fn hurrying(self, hurry: Hurry) -> Self {
        Self { hurry: Some(hurry), ..self }
    }

    /// From the next probe on, so often is asked, and so many losses in a row mean "down".
    pub fn adapt(&mut self, interval: Duration, losses: u32) {
        (self.interval, self.losses) = (interval, losses);
    }

    /// The next probe is due at once.
    pub fn ask(&mut self, now: Instant) {
        self.next_at = self.next_at.min(now);
    }

    /// What is known now.
    pub fn state(&self) -> State {
        self.state
    }

    /// Losses since the last answer.
    pub fn losses_in_a_row(&self) -> u32 {
        if let Run::Losses(losses) = self.run { losses } else { 0 }
    }

    /// The sequence number of the probe that is to be sent at `now`, if one is due. Answer with [`Event::Sent`].
    pub fn next_probe(&self, now: Instant) -> Option<u16> {
        (self.probes() && now >= self.due()).then_some(self.next_sequence)
    }

    /// When to call [`Self::next_probe`] and to report a [`Event::Tick`] next; `None` if only an event can change anything.
    pub fn next_deadline(&self) -> Option<Instant> {
        let lost = self.waiting.front().map(|probe| probe.deadline);
        let due = self.probes().then(|| self.due());
        lost.into_iter().chain(due).min()
    }

    /// Takes in what happened at `now`, which never goes back. Answers that come too late (without a hurry), twice or unasked
    /// change nothing.
    pub fn handle(&mut self, event: Event, now: Instant) -> Option<Transition> {
        let from = self.state;
        self.observe(event, now);
        (from != self.state).then_some(Transition { from, to: self.state })
    }

    /// As [`Self::handle`], for those who keep statistics.
    pub fn observe(&mut self, event: Event, now: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        while let Some(probe) = self.waiting.pop_front_if(|probe| probe.deadline <= now) {
            self.lost(probe);
            outcome.lost += 1;
            if self.hurry.is_some() {
                self.expired.push_back(probe);
            }
        }
        let memory = self.timeout * MEMORY;
        while self.expired.pop_front_if(|probe| probe.deadline + memory <= now).is_some() {}
        match event {
            Event::Carrier(carrier) => self.carrier(carrier, now),
            Event::Sent(sequence) => self.sent(sequence, now),
            Event::Answered(sequence) => outcome.answer = self.answered(sequence, now),
            Event::Failed(sequence) => {
                if let Some(probe) = take(&mut self.waiting, sequence) {
                    self.lost(probe);
                    outcome.lost += 1;
                }
            }
            Event::Tick => {}
        }
        outcome
    }

    fn probes(&self) -> bool {
        self.pings && self.carrier
    }

    fn due(&self) -> Instant {
        let (Some(hurry), Some(sent_at)) = (self.hurry, self.sent_at) else { return self.next_at };
        let sooner = match (self.state, self.run) {
            (State::Up, _) => self.doubt_begins(hurry, sent_at).map(|begin| begin.max(sent_at + hurry.doubt)),
            (State::Unknown | State::Down(Reason::Returning), _) | (_, Run::Answers(_)) => {
                Some(sent_at + hurry.returning)
            }
            (State::Down(_), Run::Losses(_)) => None,
        };
        sooner.map_or(self.next_at, |sooner| sooner.min(self.next_at))
    }

    /// When a probe is overdue, unless enough of them are out.
    fn doubt_begins(&self, hurry: Hurry, sent_at: Instant) -> Option<Instant> {
        let mut counting = self.waiting.iter().filter(|probe| self.counts(probe)).peekable();
        let overdue = self.smoothed.map_or(hurry.overdue, |trip| hurry.overdue.max(trip * 3)).min(self.timeout);
        let lost = self.losses_in_a_row();
        let begin = if lost > 0 { Some(sent_at) } else { counting.peek().map(|probe| probe.sent + overdue) };
        begin.filter(|_| counting.count() < self.losses.saturating_sub(lost) as usize)
    }

    /// The loss of `probe` would say something.
    fn counts(&self, probe: &Waiting) -> bool {
        self.hurry.is_none() || self.heard_at.is_none_or(|heard_at| heard_at <= probe.sent)
    }

    fn carrier(&mut self, carrier: bool, now: Instant) {
        if carrier == self.carrier {
            return;
        }
        self.carrier = carrier;
        self.waiting.clear();
        self.expired.clear();
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
        self.waiting.push_back(Waiting { sequence, sent: now, deadline: now + self.timeout });
        self.next_sequence = sequence.wrapping_add(1);
        self.sent_at = Some(now);
        self.next_at = now + self.interval;
    }

    fn answered(&mut self, sequence: u16, now: Instant) -> Option<Answer> {
        let in_time = take(&mut self.waiting, sequence).map(|probe| (probe, Answer::InTime));
        let (probe, answer) = in_time.or_else(|| Some((take(&mut self.expired, sequence)?, Answer::Late)))?;
        let trip = now - probe.sent;
        // RFC 6298, 2.3.
        self.smoothed = Some(self.smoothed.map_or(trip, |smoothed| (smoothed * 7 + trip) / 8));
        self.heard_at = Some(now);
        self.ever_answered = true;
        let answers = if let Run::Answers(answers) = self.run { answers.saturating_add(1) } else { 1 };
        self.run = Run::Answers(answers);
        if answers >= self.answers || (self.hurry.is_some() && self.state == State::Unknown) {
            self.state = State::Up;
        }
        Some(answer)
    }

    fn lost(&mut self, probe: Waiting) {
        if !self.counts(&probe) {
            return;
        }
        let losses = self.losses_in_a_row().saturating_add(1);
        self.run = Run::Losses(losses);
        if losses >= self.losses {
            self.state = State::Down(if self.ever_answered { Reason::Silent } else { Reason::NeverAnswered });
        }
    }
}

/// Takes the probe with this sequence number out.
fn take(probes: &mut VecDeque<Waiting>, sequence: u16) -> Option<Waiting> {
    let index = probes.iter().position(|probe| probe.sequence == sequence)?;
    probes.remove(index)
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
