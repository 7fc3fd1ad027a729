//! A line and its targets, simulated from event to event: what the tests of uplinks share.

use std::time::{Duration, Instant};

use super::uplink::{Event, Rules, Transition, Uplink};
use crate::config;

/// SplitMix64: seeds print, and runs repeat.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// True `percent` times of 100.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// What happens to probes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// In percent.
    pub loss: u64,
    pub trip: Duration,
    /// Probes are answered with a failure.
    pub fails: bool,
}

impl Weather {
    pub const FAIR: Self = Self { loss: 0, trip: Duration::from_millis(10), fails: false };
    pub const SILENT: Self = Self { loss: 100, ..Self::FAIR };
}

/// An uplink with answers on their way.
pub struct Line {
    pub uplink: Uplink,
    /// By target.
    pub weather: Vec<Weather>,
    answers: Vec<(Instant, Event)>,
    pub random: Random,
    pub probes: u64,
}

pub fn defaults() -> Rules {
    (&config::Uplink::new("wan1")).into()
}

impl Line {
    pub fn new(rules: Rules, targets: usize, seed: u64, now: Instant) -> Self {
        Self {
            uplink: Uplink::new(rules, targets, true, now),
            weather: vec![Weather::FAIR; targets],
            answers: Vec::new(),
            random: Random(seed),
            probes: 0,
        }
    }

    pub fn with(self, uplink: Uplink) -> Self {
        Self { uplink, ..self }
    }

    pub fn set(&mut self, weather: Weather) {
        self.weather.fill(weather);
    }

    /// When something happens by itself.
    pub fn deadline(&self) -> Option<Instant> {
        self.answers.iter().map(|(at, _)| *at).chain(self.uplink.next_deadline()).min()
    }

    /// Sends what is due at `now`, and hands over what has arrived.
    pub fn step(&mut self, now: Instant, seen: &mut impl FnMut(Instant, Transition)) {
        let mut handle = |uplink: &mut Uplink, event| {
            if let Some(transition) = uplink.handle(event, now) {
                seen(now, transition);
            }
        };
        self.answers.sort_by_key(|(at, _)| *at);
        let arrived = self.answers.partition_point(|(at, _)| *at <= now);
        for (_, event) in self.answers.drain(..arrived) {
            handle(&mut self.uplink, event);
        }
        handle(&mut self.uplink, Event::Tick);
        while let Some((target, sequence)) = self.uplink.next_probe(now) {
            self.probes += 1;
            let Weather { loss, trip, fails } = self.weather[target];
            if !self.random.percent(loss) {
                let event =
                    if fails { Event::Failed(target, sequence) } else { Event::Answered(target, sequence, trip) };
                self.answers.push((now + trip, event));
            }
            handle(&mut self.uplink, Event::Sent(target, sequence));
        }
    }

    /// Runs from `now` to `end`; transitions with their time.
    pub fn run(&mut self, mut now: Instant, end: Instant) -> Vec<(Instant, Transition)> {
        let mut all = Vec::new();
        while let Some(next) = self.deadline().filter(|next| *next <= end) {
            now = now.max(next);
            self.step(now, &mut |at, transition| all.push((at, transition)));
        }
        all
    }
}
