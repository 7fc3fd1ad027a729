//! The state of one uplink in one family, from what its targets answer. Without clock and IO, as [`machine`]: the caller says
//! what happened and when, sends the probes that [`Uplink::next_probe`] asks for, and comes back at [`Uplink::next_deadline`].
//!
//! Up is who hears from as many targets as the quorum says; down, who does not. In between, the first answers end *unknown*; an
//! uplink that is up stays so, and one that is down too. A loss is counted only when its timeout is over, but what decides is
//! asked for sooner, see [`Hurry`]. Each loss in the [`Window`] of a target demands one loss in a row more, up to three times as
//! many, so that an uplink with 30 % loss is degraded and not down every few seconds.
//!
//! *Up* and *unknown* → *down* is damped by [`Damping`]; passive health withholds new connections by a [`Suspension`] and never
//! changes the state.

use std::time::{Duration, Instant};

use super::damping::Damping;
use super::machine::{self, Answer, Hurry, Machine, Timing};
use super::suspension::Suspension;
use super::window::Window;
use crate::config::{self, Degraded};

pub use super::state::{Reason, State};
pub use super::window::{Cause, Statistics};

/// One uplink in one family.
#[derive(Clone, Debug)]
pub struct Uplink {
    rules: Rules,
    targets: Vec<Target>,
    carrier: bool,
    enabled: bool,
    /// What the targets say, without damping.
    verdict: Verdict,
    state: State,
    degraded: Option<Cause>,
    damping: Damping,
    suspension: Suspension,
    now: Instant,
}

/// What is told by which rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How often is asked, and what counts.
    pub timing: Timing,
    /// So many targets must answer; all of them if there are fewer.
    pub quorum: u32,
    /// The longest probation of one that goes down again and again; 0: no damping.
    pub hold_down: Duration,
    /// When it counts as degraded.
    pub degraded: Degraded,
}

impl From<&config::Uplink> for Rules {
    fn from(uplink: &config::Uplink) -> Self {
        let check = &uplink.check;
        Self { timing: check.into(), quorum: check.quorum, hold_down: check.hold_down, degraded: uplink.degraded }
    }
}

/// What happened. Targets are numbered from 0; numbers beyond those of [`Uplink::new`] change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The carrier is there (`true`) or not.
    Carrier(bool),
    /// The probe of this target with this sequence number was sent, or could not be.
    Sent(usize, u16),
    /// It was answered, after this round-trip time.
    Answered(usize, u16, Duration),
    /// It was answered with a failure (unreachable, refused, a wrong status): a loss at once.
    Failed(usize, u16),
    /// Time has passed.
    Tick,
    /// The user switched the uplink on (`true`) or off.
    Admin(bool),
    /// Connections by it seem to fail, whatever probes say: all targets are asked at once, and it is suspended.
    Suspect,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
}

#[derive(Clone, Debug)]
struct Target {
    machine: Machine,
    window: Window,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Unknown,
    Up,
    Down(Reason),
}

/// A target with losses in its window is asked so many times as often: 30 % loss are 20 % of the window within ten seconds.
const LOSSY_PACE: u32 = 3;
/// A target with losses in its window is down after at most so many times as many losses in a row.
const MOST_PATIENCE: u32 = 3;

impl Uplink {
    /// The state at `now`, enabled. With no `targets` the carrier alone decides.
    pub fn new(rules: Rules, targets: usize, carrier: bool, now: Instant) -> Self {
        let machine = Machine::new(rules.timing, true, carrier, now).hurrying(Hurry::default());
        let mut uplink = Self {
            rules,
            targets: vec![Target { machine, window: Window::default() }; targets],
            carrier,
            enabled: true,
            verdict: if targets > 0 { Verdict::Unknown } else { Verdict::Up },
            state: State::Unknown,
            degraded: None,
            damping: Damping::new(rules.hold_down),
            suspension: Suspension::default(),
            now,
        };
        uplink.judge(now);
        uplink
    }

    /// The same uplink with other rules, or with other targets: a new device, address or next hop. What is held against it stays,
    /// and so does the user's word. If it was usable, it is until its targets tell otherwise; if not, they have to answer first.
    pub fn successor(&self, rules: Rules, targets: usize, carrier: bool, now: Instant) -> Self {
        let is_fit = self.state.is_usable() || (!self.enabled && !matches!(self.verdict, Verdict::Down(_)));
        let mut next = Self::new(rules, targets, true, now);
        (next.state, next.enabled) = (self.state, self.enabled);
        next.damping = self.damping.clone().with(rules.hold_down);
        if !is_fit {
            next.handle(Event::Carrier(false), now);
        }
        next.handle(Event::Carrier(carrier), now);
        next.suspension = self.suspension.clone();
        next
    }

    /// What it is judged by.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What is known now.
    pub fn state(&self) -> State {
        self.state
    }

    /// Passive health withholds new connections from it at `now`, as long as others can take them.
    pub fn is_suspended(&self, now: Instant) -> bool {
        self.suspension.is_active(now)
    }

    /// What the probes of each target say.
    pub fn statistics(&self) -> Vec<Statistics> {
        self.targets.iter().map(|target| target.window.statistics()).collect()
    }

    /// A probe that is to be sent at `now`, by target and sequence number; there may be more. Answer with [`Event::Sent`].
    pub fn next_probe(&self, now: Instant) -> Option<(usize, u16)> {
        (0..).zip(&self.targets).find_map(|(index, target)| Some((index, target.machine.next_probe(now)?)))
    }

    /// When to call [`Self::next_probe`], to report an [`Event::Tick`], and to look at state and suspension again; `None` if only
    /// an event can change anything. The end of a suspension is no transition.
    pub fn next_deadline(&self) -> Option<Instant> {
        let probes = self.targets.iter().filter_map(|target| target.machine.next_deadline());
        let probation = self.damping.deadline().filter(|_| self.enabled);
        probes.chain(probation).chain(self.suspension.deadline(self.now)).min()
    }

    /// Takes in what happened at `now`, which never goes back.
    pub fn handle(&mut self, event: Event, now: Instant) -> Option<Transition> {
        let from = self.state;
        self.now = now;
        match event {
            Event::Carrier(carrier) => {
                if carrier != self.carrier {
                    self.suspension.end();
                }
                self.carrier = carrier;
                self.observe_all(machine::Event::Carrier(carrier), now);
            }
            Event::Sent(target, sequence) => self.observe(target, machine::Event::Sent(sequence), None, now),
            Event::Answered(target, sequence, trip) => {
                self.observe(target, machine::Event::Answered(sequence), Some(trip), now);
            }
            Event::Failed(target, sequence) => self.observe(target, machine::Event::Failed(sequence), None, now),
            Event::Tick => self.observe_all(machine::Event::Tick, now),
            Event::Admin(enabled) => {
                if enabled && !self.enabled {
                    // Who switches it on says that it is good.
                    self.damping.forget();
                    self.suspension.end();
                }
                self.enabled = enabled;
            }
            Event::Suspect => {
                self.suspension.suspect(now);
                for target in &mut self.targets {
                    target.machine.ask(now);
                }
            }
        }
        self.judge(now);
        (from != self.state).then_some(Transition { from, to: self.state })
    }

    fn observe_all(&mut self, event: machine::Event, now: Instant) {
        for index in 0..self.targets.len() {
            self.observe(index, event, None, now);
        }
    }

    fn observe(&mut self, index: usize, event: machine::Event, trip: Option<Duration>, now: Instant) {
        let timing = self.rules.timing;
        let Some(Target { machine, window }) = self.targets.get_mut(index) else { return };
        let was_down = !machine.state().is_usable();
        let outcome = machine.observe(event, now);
        for _ in 0..outcome.lost {
            window.push(None);
        }
        if was_down && machine.state().is_usable() {
            // What was lost while it was down says nothing about how it works now.
            window.clear();
        }
        match (outcome.answer, trip) {
            (Some(Answer::InTime), trip) => window.push(Some(trip.unwrap_or_default())),
            (Some(Answer::Late), Some(trip)) => window.late(trip),
            _ => {}
        }
        let others = (window.lost() as u32).saturating_sub(machine.losses_in_a_row());
        let lossy = window.lost() > 0 && machine.state() == machine::State::Up;
        let interval = if lossy { timing.interval / LOSSY_PACE } else { timing.interval };
        machine.adapt(interval, timing.losses.saturating_add(others).min(timing.losses.saturating_mul(MOST_PATIENCE)));
    }

    fn judge(&mut self, now: Instant) {
        let was_usable = self.state.is_usable();
        self.verdict = self.verdict();
        self.degraded = self.degraded();
        self.state = match self.verdict {
            Verdict::Down(reason) => {
                if was_usable {
                    self.damping.fell(now);
                } else {
                    self.damping.interrupted();
                }
                State::Down(reason)
            }
            Verdict::Unknown => State::Unknown,
            Verdict::Up => match (self.damping.probation(now), self.degraded) {
                (Some(time), _) => State::Down(Reason::Probation(time)),
                (None, Some(cause)) => State::Degraded(cause),
                (None, None) => State::Up,
            },
        };
        if !self.enabled {
            self.state = State::AdminDown;
        }
    }

    fn verdict(&self) -> Verdict {
        let states = || self.targets.iter().map(|target| target.machine.state());
        let needed = (self.rules.quorum as usize).min(self.targets.len());
        let usable = states().filter(|state| state.is_usable()).count();
        let up = states().filter(|state| *state == machine::State::Up).count();
        if !self.carrier {
            Verdict::Down(Reason::Check(machine::Reason::NoCarrier))
        } else if usable < needed {
            Verdict::Down(self.reason(needed))
        } else if up >= needed {
            Verdict::Up
        } else {
            self.verdict
        }
    }

    fn reason(&self, needed: usize) -> Reason {
        let down = |state: machine::State| if let machine::State::Down(reason) = state { Some(reason) } else { None };
        let reasons: Vec<_> = self.targets.iter().filter_map(|target| down(target.machine.state())).collect();
        let all_of = |reason| reasons.len() == self.targets.len() && reasons.iter().all(|it| *it == reason);
        use machine::Reason::{NeverAnswered, Returning, Silent};
        if reasons.contains(&Returning) {
            Reason::Check(Returning)
        } else if let Some(reason) = [NeverAnswered, Silent].into_iter().find(|reason| all_of(*reason)) {
            Reason::Check(reason)
        } else {
            Reason::Quorum { needed, targets: self.targets.len() }
        }
    }

    /// By the best of the targets that answer.
    fn degraded(&mut self) -> Option<Cause> {
        if self.verdict != Verdict::Up {
            return None;
        }
        let answering = self.targets.iter().filter(|target| target.machine.state() == machine::State::Up);
        let best = answering.min_by_key(|target| (target.window.lost(), target.window.latency()))?;
        match self.degraded {
            Some(cause) => {
                let recovered =
                    best.window.has_turned_over() && best.window.cause(&self.rules.degraded, true).is_none();
                (!recovered).then_some(cause)
            }
            None => {
                let cause = best.window.cause(&self.rules.degraded, false)?;
                self.targets.iter_mut().for_each(|target| target.window.turn());
                Some(cause)
            }
        }
    }
}

#[cfg(test)]
#[path = "uplink_tests.rs"]
mod tests;
