//! A day of random weather over several uplinks: states, standing and bucket tables, each against the truth that the weather
//! knows and against what the rules say in plain words.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pcc_ebpf::abi::BUCKETS;
use pcc_ebpf::classify::HashFields;
use proptest::prelude::*;

use super::simulation::Random;
use super::standing::{Member, standing};
use super::uplink::State;
use crate::config::OnDown;
use crate::config::rule::{Members, Policy};
use crate::host::Family;
use crate::plan::Standing;
use crate::policies::{self, Table};
use crate::topology::{Topology, Uplink};
use site::{Path, Site};

mod site;

const DAY: Duration = Duration::from_secs(24 * 3600);
const SECOND: Duration = Duration::from_secs(1);

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
