//! Policies, rules and their sets: written beside those in force, then switched.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use aya::Pod;
use aya::maps::MapData;
use aya::maps::lpm_trie::{Key, LpmTrie};
use ipnet::IpNet;
use pcc_ebpf::abi::{
    BUCKETS, IPV4, IPV6, Member4, Member6, Op, Policy, STEPS, Settings, Step, bucket_index, map, policy_index,
};
use pcc_ebpf::flow;

use super::DataPlane;
use crate::policies::Table;
use crate::rules::Program;

/// Numbers of sets are below this.
pub const SET_SPACE: u32 = 1 << 16;

/// The buckets of each uplink in the default policy, by family.
fn shares(policies: &[Table]) -> [BTreeMap<u32, u32>; 2] {
    let mut shares = [BTreeMap::new(), BTreeMap::new()];
    for (shares, buckets) in shares.iter_mut().zip(policies.first().into_iter().flat_map(|default| &default.buckets)) {
        for uplink in buckets {
            *shares.entry(*uplink).or_default() += 1;
        }
    }
    shares
}

impl DataPlane {
    /// Policy `number` with its bucket tables in force.
    pub fn table(&self, number: u32) -> Result<Table> {
        let index = policy_index(self.settings()?.active_table, number);
        let policy = self.array::<Policy>(map::POLICIES)?.get(&index, 0)?;
        Ok(Table { policy, buckets: [self.buckets_of(number, IPV4)?, self.buckets_of(number, IPV6)?] })
    }

    fn buckets_of(&self, policy: u32, family: u32) -> Result<Vec<u32>> {
        let table = self.settings()?.active_table;
        let buckets = self.array::<u32>(map::BUCKETS)?;
        (0..BUCKETS).map(|hash| Ok(buckets.get(&bucket_index(table, policy, family, hash), 0)?)).collect()
    }

    /// Puts new policies, by number, and their bucket tables in force, in one step: those that are not in use are written,
    /// then the switch is thrown.
    pub fn publish_policies(&mut self, policies: &[Table]) -> Result<()> {
        let mut settings = self.settings()?;
        let next = settings.active_table ^ 1;
        self.write_policies(next, policies)?;
        settings.active_table = next;
        self.set_settings(&settings)?;
        self.shares = shares(policies);
        Ok(())
    }

    /// How many buckets of the default policy each uplink has, by family, as they were published. Asks the kernel nothing.
    pub const fn shares(&self) -> &[BTreeMap<u32, u32>; 2] {
        &self.shares
    }

    fn write_policies(&mut self, table: u32, policies: &[Table]) -> Result<()> {
        let mut map = self.array_mut::<Policy>(map::POLICIES)?;
        for (number, policy) in (0..).zip(policies) {
            map.set(policy_index(table, number), policy.policy, 0)?;
        }
        let mut map = self.array_mut::<u32>(map::BUCKETS)?;
        for (number, policy) in (0..).zip(policies) {
            for (family, buckets) in (IPV4..).zip(&policy.buckets) {
                for (hash, uplink) in (0..BUCKETS).zip(buckets) {
                    map.set(bucket_index(table, number, family, hash), uplink, 0)?;
                }
            }
        }
        Ok(())
    }

    /// Puts settings, policies and rules in force in one step, whatever ran before. Which tables are in use is decided
    /// here, not by `settings`.
    ///
    /// # Errors
    /// As of [`Self::publish_rules`].
    pub fn publish(&mut self, settings: &Settings, policies: &[Table], program: &Program) -> Result<()> {
        let present = self.settings()?;
        let (table, steps) = (present.active_table ^ 1, present.active_steps ^ 1);
        self.write_policies(table, policies)?;
        self.write_steps(steps, &program.steps, &program.sets)?;
        let [first_step4, first_step6] = program.first;
        self.set_settings(&Settings {
            active_table: table,
            active_steps: steps,
            first_step4,
            first_step6,
            rules_generation: present.rules_generation.wrapping_add(1),
            ..*settings
        })?;
        self.shares = shares(policies);
        self.sync_sets(present.active_steps, &[])
    }

    /// Makes the bypass list exactly `prefixes`.
    pub fn set_bypass(&mut self, prefixes: &[IpNet]) -> Result<()> {
        let mut wanted4 = BTreeSet::new();
        let mut wanted6 = BTreeSet::new();
        for prefix in prefixes {
            let length = u32::from(prefix.prefix_len());
            let words = flow::words(prefix.network());
            match prefix {
                IpNet::V4(_) => wanted4.insert((length, words[3])),
                IpNet::V6(_) => wanted6.insert((length, words)),
            };
        }
        let map = self.ebpf.map_mut(map::BYPASS4).context("map of the bypass list")?;
        sync_trie(LpmTrie::<_, u32, u32>::try_from(map)?, &wanted4, |_| true)?;
        let map = self.ebpf.map_mut(map::BYPASS6).context("map of the bypass list")?;
        sync_trie(LpmTrie::<_, [u32; 4], u32>::try_from(map)?, &wanted6, |_| true)
    }

    /// Puts new rules with their sets (numbers below [`SET_SPACE`] with prefixes) in force, in one step: the program that is
    /// not in use is written beside sets of its own, then the switch is thrown. Decisions by the old rules are forgotten.
    /// `first` are the first steps of the IPv4 and of the IPv6 rules.
    ///
    /// # Errors
    /// More than [`STEPS`] steps, or more members of sets than the maps can hold.
    pub fn publish_rules(&mut self, steps: &[Step], first: [u32; 2], sets: &[(u32, Vec<IpNet>)]) -> Result<()> {
        let mut settings = self.settings()?;
        let (old, next) = (settings.active_steps, settings.active_steps ^ 1);
        self.write_steps(next, steps, sets)?;
        settings.active_steps = next;
        [settings.first_step4, settings.first_step6] = first;
        settings.rules_generation = settings.rules_generation.wrapping_add(1);
        self.set_settings(&settings)?;
        self.sync_sets(old, &[])
    }

    /// Writes the program that is not in use, and its sets.
    fn write_steps(&mut self, program: u32, steps: &[Step], sets: &[(u32, Vec<IpNet>)]) -> Result<()> {
        anyhow::ensure!(steps.len() <= STEPS as usize, "{} steps are more than {STEPS}", steps.len());
        self.sync_sets(program, sets)?;
        let mut map = self.array_mut::<Step>(map::STEPS)?;
        for (index, step) in (program * STEPS..).zip(steps) {
            let is_set = [Op::SourceSet, Op::DestinationSet].iter().any(|op| step.op == *op as u32);
            let low = if is_set { program * SET_SPACE + step.low } else { step.low };
            map.set(index, Step { low, ..*step }, 0)?;
        }
        Ok(())
    }

    /// Makes the sets of the rules in force exactly `sets`. Decisions that rest on them are forgotten.
    pub fn set_sets(&mut self, sets: &[(u32, Vec<IpNet>)]) -> Result<()> {
        let mut settings = self.settings()?;
        self.sync_sets(settings.active_steps, sets)?;
        settings.rules_generation = settings.rules_generation.wrapping_add(1);
        self.set_settings(&settings)
    }

    /// Makes the sets of one of the two programs exactly `sets`.
    fn sync_sets(&mut self, space: u32, sets: &[(u32, Vec<IpNet>)]) -> Result<()> {
        const SET_BITS: u32 = 32;
        let mut wanted4 = BTreeSet::new();
        let mut wanted6 = BTreeSet::new();
        for (number, prefixes) in sets {
            let set = (space * SET_SPACE + number).to_be();
            for prefix in prefixes {
                let length = SET_BITS + u32::from(prefix.prefix_len());
                let address = flow::words(prefix.network());
                match prefix {
                    IpNet::V4(_) => wanted4.insert((length, Member4 { set, address: address[3] })),
                    IpNet::V6(_) => wanted6.insert((length, Member6 { set, address })),
                };
            }
        }
        let is_here = |set: u32| u32::from_be(set) / SET_SPACE == space;
        let map = self.ebpf.map_mut(map::SETS4).context("map of sets")?;
        sync_trie(LpmTrie::<_, Member4, u32>::try_from(map)?, &wanted4, |key| is_here(key.set))?;
        let map = self.ebpf.map_mut(map::SETS6).context("map of sets")?;
        sync_trie(LpmTrie::<_, Member6, u32>::try_from(map)?, &wanted6, |key| is_here(key.set))
    }
}

/// Makes the keys that are `ours` exactly `wanted`.
fn sync_trie<K: Pod + Ord>(
    mut trie: LpmTrie<&mut MapData, K, u32>,
    wanted: &BTreeSet<(u32, K)>,
    ours: impl Fn(&K) -> bool,
) -> Result<()> {
    let keys = trie.keys().filter_map(Result::ok).map(|key| (key.prefix_len(), key.data()));
    let present: BTreeSet<(u32, K)> = keys.filter(|(_, key)| ours(key)).collect();
    for (length, prefix) in wanted.difference(&present) {
        trie.insert(&Key::new(*length, *prefix), 1, 0)?;
    }
    for (length, prefix) in present.difference(wanted) {
        trie.remove(&Key::new(*length, *prefix))?;
    }
    Ok(())
}
