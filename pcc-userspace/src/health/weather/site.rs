//! An uplink with both its families, at the mercy of the weather.

use std::time::{Duration, Instant};

use super::super::damping::Damping;
use super::super::simulation::{Line, Random, Weather};
use super::super::standing::{Health, Member};
use super::super::uplink::{Event, State, Transition};
use super::SECOND;
use crate::config::{self, Degraded, OnDown};
use crate::host::Family;
use crate::topology::Uplink;

/// One family of an uplink.
pub struct Path {
    pub line: Line,
    /// Of the line.
    pub deadline: Option<Instant>,
    pub needed: usize,
    /// Of each target.
    pub since: Vec<Instant>,
    /// When carrier or switch were last touched.
    pub touched: Instant,
    pub state: State,
    /// Falls since the uplink was last switched on.
    pub falls: Vec<Instant>,
    pub all_falls: usize,
}

pub struct Site {
    pub uplink: Uplink,
    pub carrier: bool,
    pub enabled: bool,
    pub draining: bool,
    pub paths: [Path; 2],
}

impl Site {
    pub fn new(id: u32, random: &mut Random, now: Instant) -> Self {
        let mut config = config::Uplink::new(&format!("wan{id}"));
        config.weight = random.below(4) as u32;
        config.tier = 1 + random.below(3) as u32;
        config.on_down = if random.percent(50) { OnDown::Keep } else { OnDown::Release };
        config.degraded.weight = [0, 50, 100][random.below(3) as usize];
        config.degraded.latency = random.percent(50).then_some(Duration::from_millis(100));
        config.check.interval = Duration::from_millis(1500 + random.below(4500));
        config.check.quorum = 1 + random.below(2) as u32;
        config.check.hold_down = [60 * SECOND, 10 * SECOND, 60 * SECOND, 300 * SECOND][random.below(4) as usize];
        let targets = random.below(4) as usize;
        let paths = Family::BOTH.map(|_| {
            let line = Line::new((&config).into(), targets, random.next(), now);
            Path {
                state: line.uplink.state(),
                deadline: line.deadline(),
                needed: (config.check.quorum as usize).min(targets),
                since: vec![now; targets],
                touched: now,
                falls: Vec::new(),
                all_falls: 0,
                line,
            }
        });
        let uplink = Uplink { id, config, link: None, ipv4: None, ipv6: None };
        Self { uplink, carrier: true, enabled: true, draining: false, paths }
    }

    pub fn member(&self, now: Instant) -> Member {
        let health = |path: &Path| {
            let uplink = &path.line.uplink;
            Some(Health { state: uplink.state(), suspended: uplink.is_suspended(now) })
        };
        Member {
            id: self.uplink.id,
            weight: self.uplink.config.weight,
            tier: self.uplink.config.tier,
            on_down: self.uplink.config.on_down,
            draining: self.draining,
            health: self.paths.each_ref().map(health),
        }
    }

    /// The weather turns.
    pub fn change(&mut self, random: &mut Random, now: Instant) {
        match random.below(100) {
            0..=19 => self.set_carrier(!self.carrier, now),
            20 => self.set_enabled(!self.enabled, now),
            21..=23 => self.set_enabled(true, now),
            24..=25 => self.draining = random.percent(30),
            26..=30 => self.paths.iter_mut().for_each(|path| path.handle(Event::Suspect, now)),
            // Nobody waits for ever.
            31..=49 => self.set_carrier(true, now),
            _ => {
                let everywhere = random.percent(50);
                let weather = weather(random);
                for path in &mut self.paths {
                    for (target, since) in path.line.weather.iter_mut().zip(&mut path.since) {
                        if everywhere || random.percent(30) {
                            if *target != weather {
                                *since = now;
                            }
                            *target = weather;
                        }
                    }
                }
            }
        }
    }

    pub fn set_carrier(&mut self, carrier: bool, now: Instant) {
        let changed = carrier != self.carrier;
        self.carrier = carrier;
        for path in &mut self.paths {
            path.touched = if changed { now } else { path.touched };
            path.handle(Event::Carrier(carrier), now);
        }
    }

    pub fn set_enabled(&mut self, enabled: bool, now: Instant) {
        let changed = enabled != self.enabled;
        self.enabled = enabled;
        for path in &mut self.paths {
            path.touched = if changed { now } else { path.touched };
            if changed && enabled {
                path.falls.clear();
            }
            path.handle(Event::Admin(enabled), now);
        }
    }
}

fn weather(random: &mut Random) -> Weather {
    match random.below(10) {
        0..=2 => Weather::FAIR,
        3..=5 => Weather::SILENT,
        6 => Weather { fails: true, ..Weather::FAIR },
        7 => Weather { trip: Duration::from_millis(random.below(700)), ..Weather::FAIR },
        _ => Weather { loss: random.below(60), trip: Duration::from_millis(random.below(200)), fails: false },
    }
}

impl Path {
    pub fn handle(&mut self, event: Event, now: Instant) {
        if let Some(transition) = self.line.uplink.handle(event, now) {
            self.seen(now, transition);
        }
        self.deadline = self.line.deadline();
    }

    pub fn step(&mut self, now: Instant) {
        let mut all = Vec::new();
        self.line.step(now, &mut |at, transition| all.push((at, transition)));
        for (at, transition) in all {
            self.seen(at, transition);
        }
        self.deadline = self.line.deadline();
    }

    /// Transitions follow one another, and falls are bounded over every stretch of time.
    pub fn seen(&mut self, now: Instant, transition: Transition) {
        assert_eq!(transition.from, self.state);
        assert_ne!(transition.from, transition.to);
        self.state = transition.to;
        if transition.from.is_usable() && matches!(transition.to, State::Down(_)) {
            self.falls.push(now);
            self.all_falls += 1;
            let hold_down = self.line.uplink.rules().hold_down;
            for (first, count) in self.falls.iter().rev().zip(1..) {
                assert!(count <= Damping::most_falls(hold_down, now - *first), "{count} falls in {:?}", now - *first);
            }
        }
    }

    /// The state is what the weather must have made it, where it has been clear for long enough.
    pub fn check_truth(&self, site: &Site, now: Instant) {
        let state = self.line.uplink.state();
        assert_eq!(state, self.state);
        assert_eq!(state == State::AdminDown, !site.enabled);
        if !site.enabled {
            return;
        }
        if !site.carrier {
            assert_eq!(state.to_string(), "down: no carrier");
            return;
        }
        let rules = self.line.uplink.rules();
        let timing = rules.timing;
        let been = |time: Duration, is: &dyn Fn(Weather) -> bool| {
            let begun = |since: &Instant| now - (*since).max(self.touched) > time;
            self.line.weather.iter().zip(&self.since).filter(|(weather, since)| is(**weather) && begun(since)).count()
        };
        let targets = self.since.len();
        // The last answer on its way, an interval, twelve probes 60 ms apart, the first of them overdue, the last one lost.
        let soon = timing.interval + timing.timeout * 2 + 2 * SECOND;
        let dead = been(soon, &|weather| weather == Weather::SILENT || weather.fails);
        assert!(targets - dead >= self.needed || !state.is_usable(), "{state} with {dead} of {targets} dead");
        if now - self.touched > rules.hold_down + soon {
            let fair = been(rules.hold_down + soon, &|weather| weather == Weather::FAIR);
            assert!(fair < self.needed || state.is_usable(), "{state} with {fair} of {targets} fair");
            let long = rules.hold_down + soon + timing.interval * (Degraded::WINDOW as u32 * 2 + 10);
            let fair = been(long, &|weather| weather == Weather::FAIR);
            assert!(fair < targets || now - self.touched < long || state == State::Up, "{state} in fair weather");
        }
    }
}
