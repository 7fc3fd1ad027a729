//! A day of random weather over several uplinks: states, standing and bucket tables, each against the truth that the weather
//! knows and against what the rules say in plain words.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pcc_ebpf::abi::BUCKETS;
use pcc_ebpf::classify::HashFields;
use proptest::prelude::*;

use super::damping::Damping;
use super::simulation::{Line, Random, Weather};
use super::standing::{Health, Member, standing};
use super::uplink::{Event, State, Transition};
use crate::config::rule::{Members, Policy};
use crate::config::{self, Degraded, OnDown};
use crate::host::Family;
use crate::plan::Standing;
use crate::policies::{self, Table};
use crate::topology::{Topology, Uplink};

const DAY: Duration = Duration::from_secs(24 * 3600);
const SECOND: Duration = Duration::from_secs(1);

/// One family of an uplink.
struct Path {
    line: Line,
    /// Of the line.
    deadline: Option<Instant>,
    needed: usize,
    /// Of each target.
    since: Vec<Instant>,
    /// When carrier or switch were last touched.
    touched: Instant,
    state: State,
    /// Falls since the uplink was last switched on.
    falls: Vec<Instant>,
    all_falls: usize,
}

struct Site {
    uplink: Uplink,
    carrier: bool,
    enabled: bool,
    draining: bool,
    paths: [Path; 2],
}

struct World {
    random: Random,
    now: Instant,
    sites: Vec<Site>,
    weights: BTreeMap<u32, u32>,
    topology: Topology,
    standing: Standing,
    tables: Vec<Table>,
    changes: usize,
}

impl World {
    fn new(seed: u64, now: Instant) -> Self {
        let mut random = Random(seed);
        let count = 2 + random.below(3) as u32;
        let sites: Vec<Site> = (1..=count).map(|id| Site::new(id, &mut random, now)).collect();
        let uplinks: Vec<Uplink> = sites.iter().map(|site| site.uplink.clone()).collect();
        let weights = uplinks.iter().map(|uplink| (uplink.id, uplink.config.weight)).collect();
        let topology = Topology { uplinks, lans: Vec::new() };
        Self { random, now, sites, weights, topology, standing: Standing::default(), tables: Vec::new(), changes: 0 }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.plan();
        while self.now < end {
            let weather_at = self.now
                + Duration::from_millis(match self.random.below(10) {
                    0 => self.random.below(600_000),
                    1..=4 => self.random.below(1_000),
                    _ => self.random.below(20_000),
                });
            self.until(weather_at.min(end));
            self.check_truth();
            let site = self.random.below(self.sites.len() as u64) as usize;
            if self.random.percent(1) {
                self.storm(site);
            } else {
                self.sites[site].change(&mut self.random, self.now);
                self.plan();
            }
        }
    }

    /// A cable that sits loosely.
    fn storm(&mut self, site: usize) {
        for round in 0..60 {
            self.sites[site].set_carrier(round % 2 == 1, self.now);
            self.plan();
            let pause = Duration::from_millis(self.random.below(1_500));
            self.until(self.now + pause);
            self.check_truth();
        }
    }

    /// Lets the lines run until `end`.
    fn until(&mut self, end: Instant) {
        loop {
            let paths = self.sites.iter_mut().flat_map(|site| &mut site.paths);
            let Some((at, path)) = paths.filter_map(|path| Some((path.deadline?, path))).min_by_key(|it| it.0) else {
                break;
            };
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            let of = |path: &Path, now| (path.state, path.line.uplink.is_suspended(now));
            let before = of(path, at - Duration::from_millis(1));
            path.step(self.now);
            if of(path, self.now) != before {
                self.plan();
            }
        }
        self.now = end;
    }

    fn plan(&mut self) {
        let members: Vec<Member> = self.sites.iter().map(|site| site.member(self.now)).collect();
        let next = standing(&members);
        if next == self.standing && !self.tables.is_empty() {
            return;
        }
        self.changes += 1;
        let all = Policy::default_of(HashFields::BOTH_ADDRESSES);
        let group = Policy { members: Members::Group(vec![(0, 1), (1, 3)]), ..all.clone() };
        let tables = policies::tables(&[all, group], &self.topology, &next, &self.weights, &|number| {
            self.tables.get(number as usize).cloned()
        });
        self.standing = next;
        self.tables = tables;
        for family in Family::BOTH {
            self.check_standing(&members, family);
            let of_tier: BTreeMap<u32, u32> = members.iter().map(|member| (member.id, member.tier)).collect();
            self.check_table(0, &self.weights, &of_tier, &members, family);
            let no_tier: BTreeMap<u32, u32> = members.iter().map(|member| (member.id, 0)).collect();
            self.check_table(1, &BTreeMap::from([(1, 1), (2, 3)]), &no_tier, &members, family);
        }
    }

    fn check_standing(&self, members: &[Member], family: Family) {
        let Standing { carrying, taking, degraded } = &self.standing;
        for member in members {
            let [carries, takes, less] = [carrying, taking, degraded].map(|live| live.has(family, member.id));
            assert!((carries || !takes) && (takes || !less), "carrying ⊇ taking ⊇ degraded");
            let state = member.health[family as usize].map(|health| health.state);
            match state {
                Some(State::AdminDown) | None => assert!(!carries),
                Some(State::Down(_)) => assert!(!takes && carries == (member.on_down == OnDown::Keep)),
                Some(State::Unknown | State::Up | State::Degraded(_)) => assert!(carries),
            }
            assert!(!(takes && member.draining));
            assert_eq!(less, takes && matches!(state, Some(State::Degraded(_))));
        }
        // Who would take connections if nothing soft were held against anybody.
        let hard = |member: &&Member| {
            let usable = member.health[family as usize].is_some_and(|health| health.state.is_usable());
            usable && !member.draining && member.weight > 0
        };
        if members.iter().any(|member| hard(&member)) {
            let left = members.iter().filter(hard).any(|member| taking.has(family, member.id));
            assert!(left, "soft criteria leave one");
        }
    }

    /// The rules in plain words: the owners of the buckets are those of the first tier in which anybody is left.
    fn check_table(
        &self,
        number: usize,
        weights: &BTreeMap<u32, u32>,
        tiers: &BTreeMap<u32, u32>,
        members: &[Member],
        family: Family,
    ) {
        let buckets = &self.tables[number].buckets[family as usize];
        assert_eq!(buckets.len(), BUCKETS as usize);
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        for id in buckets {
            *counts.entry(*id).or_default() += 1;
        }
        let share = |id: u32, soft: bool| {
            let weight = weights.get(&id).copied().unwrap_or(0) * 100;
            let degraded = soft && self.standing.degraded.has(family, id);
            let left = if degraded { self.sites[id as usize - 1].uplink.config.degraded.weight } else { 100 };
            if self.standing.taking.has(family, id) { weight * left / 100 } else { 0 }
        };
        let mut wanted: BTreeMap<u32, u32> = BTreeMap::new();
        'found: for soft in [true, false] {
            for tier in tiers.values().copied().collect::<BTreeSet<_>>() {
                let of_tier = tiers.iter().filter(|(_, other)| **other == tier).map(|(id, _)| (*id, share(*id, soft)));
                wanted = of_tier.filter(|(_, share)| *share > 0).collect();
                if !wanted.is_empty() {
                    break 'found;
                }
            }
        }
        let total: u32 = wanted.values().sum();
        if total == 0 {
            assert_eq!(counts, BTreeMap::from([(0, BUCKETS)]));
            return;
        }
        assert!(counts.keys().eq(wanted.keys()), "{counts:?} instead of {wanted:?}");
        for (id, count) in &counts {
            let exact = f64::from(wanted[id]) * f64::from(BUCKETS) / f64::from(total);
            assert!((f64::from(*count) - exact).abs() < 1.0);
            // Never weight on a dead uplink.
            let owner = members.iter().find(|member| member.id == *id);
            assert!(owner.and_then(|it| it.health[family as usize]).is_some_and(|health| health.state.is_usable()));
        }
    }

    fn check_truth(&self) {
        for site in &self.sites {
            for path in &site.paths {
                path.check_truth(site, self.now);
            }
        }
    }
}

impl Site {
    fn new(id: u32, random: &mut Random, now: Instant) -> Self {
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

    fn member(&self, now: Instant) -> Member {
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
    fn change(&mut self, random: &mut Random, now: Instant) {
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

    fn set_carrier(&mut self, carrier: bool, now: Instant) {
        let changed = carrier != self.carrier;
        self.carrier = carrier;
        for path in &mut self.paths {
            path.touched = if changed { now } else { path.touched };
            path.handle(Event::Carrier(carrier), now);
        }
    }

    fn set_enabled(&mut self, enabled: bool, now: Instant) {
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
    fn handle(&mut self, event: Event, now: Instant) {
        if let Some(transition) = self.line.uplink.handle(event, now) {
            self.seen(now, transition);
        }
        self.deadline = self.line.deadline();
    }

    fn step(&mut self, now: Instant) {
        let mut all = Vec::new();
        self.line.step(now, &mut |at, transition| all.push((at, transition)));
        for (at, transition) in all {
            self.seen(at, transition);
        }
        self.deadline = self.line.deadline();
    }

    /// Transitions follow one another, and falls are bounded over every stretch of time.
    fn seen(&mut self, now: Instant, transition: Transition) {
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
    fn check_truth(&self, site: &Site, now: Instant) {
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

proptest! {
    // The seed is all that is to know; there is nothing to shrink.
    #![proptest_config(ProptestConfig { cases: 3, max_shrink_iters: 0, ..ProptestConfig::default() })]
    #[test]
    fn a_day_of_random_weather(seed in any::<u64>()) {
        let mut world = World::new(seed, Instant::now());
        world.run(DAY);
        let falls: usize = world.sites.iter().flat_map(|site| &site.paths).map(|path| path.all_falls).sum();
        prop_assert!(falls > 0 && world.changes > 100);
    }
}
