//! Pure: what the policies of the rules are in the maps, given what the uplinks are good for.
//!
//! Uplinks of a tier share what is not ruled otherwise, by their weights, while no uplink of an earlier tier can take it. A
//! degraded uplink counts with less of its weight, and with all of it where nothing would be left otherwise. Rules that name
//! uplinks know no tiers.

use std::collections::{BTreeMap, BTreeSet};

use pcc_ebpf::abi;

use crate::buckets;
use crate::config::rule::{Members, Policy};
use crate::host::Family;
use crate::plan::Standing;
use crate::topology::{Topology, Uplink};

/// One policy with its bucket tables of IPv4 and IPv6.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// How connections choose.
    pub policy: abi::Policy,
    /// Among which.
    pub buckets: [Vec<u32>; 2],
}

/// The tables of `policies`, the default one first, while uplinks are good for what `standing` says. `weights` by uplink id are those in force; `current` gives the table
/// that a policy number has now, so that as few buckets as possible move.
pub fn tables(
    policies: &[Policy],
    topology: &Topology,
    standing: &Standing,
    weights: &BTreeMap<u32, u32>,
    current: &dyn Fn(u32) -> Option<Table>,
) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::with_capacity(policies.len());
    for (policy, number) in policies.iter().zip(0..) {
        let members = members(policy, topology, weights);
        let wanted = Family::BOTH.map(|family| wanted(&members, standing, family));
        let taken: Vec<u32> = tables.iter().map(|table| table.policy.identity).collect();
        let kernel = kernel_policy(policy, &in_use(&members, &wanted), &taken);
        // Under another identity the number meant another policy.
        let current = current(number).filter(|table| table.policy.identity == kernel.identity);
        let buckets = Family::BOTH.map(|family| {
            let current = current.as_ref().map(|table| table.buckets[family as usize].as_slice());
            let current = current.filter(|buckets| buckets.iter().any(|bucket| *bucket != 0));
            buckets::assign(current, &wanted[family as usize])
        });
        tables.push(Table { policy: kernel, buckets });
    }
    tables
}

/// Who takes the new connections of `family` that no rule gives away: ids, and in which proportion.
pub fn shares(
    topology: &Topology,
    standing: &Standing,
    weights: &BTreeMap<u32, u32>,
    family: Family,
) -> Vec<(u32, u32)> {
    wanted(&all(topology, weights), standing, family)
}

/// An uplink of a policy.
#[derive(Clone, Copy, Debug)]
struct Member {
    id: u32,
    weight: u32,
    /// What is left of the weight while it is degraded, in percent.
    degraded: u32,
    /// 0 where tiers do not count.
    tier: u32,
}

fn members(policy: &Policy, topology: &Topology, weights: &BTreeMap<u32, u32>) -> Vec<Member> {
    match &policy.members {
        Members::All => all(topology, weights),
        Members::Group(group) => {
            let uplinks = group.iter().filter_map(|(index, weight)| Some((topology.uplinks.get(*index)?, *weight)));
            uplinks.map(|(uplink, weight)| Member::new(uplink, weight, 0)).collect()
        }
    }
}

fn all(topology: &Topology, weights: &BTreeMap<u32, u32>) -> Vec<Member> {
    let weight = |uplink: &Uplink| weights.get(&uplink.id).copied().unwrap_or(0);
    topology.uplinks.iter().map(|uplink| Member::new(uplink, weight(uplink), uplink.config.tier)).collect()
}

impl Member {
    fn new(uplink: &Uplink, weight: u32, tier: u32) -> Self {
        Self { id: uplink.id, weight, degraded: uplink.config.degraded.weight, tier }
    }
}

/// Who takes new connections of `family`, by id, with hundredths of its weight.
fn wanted(members: &[Member], standing: &Standing, family: Family) -> Vec<(u32, u32)> {
    const WHOLE: u32 = 100;
    let first_tier = |percent: &dyn Fn(&Member) -> u32| -> Vec<(u32, u32)> {
        let taking = members.iter().filter(|member| standing.taking.has(family, member.id));
        let weighted: Vec<_> = taking.map(|member| (member, member.weight.saturating_mul(percent(member)))).collect();
        let weighted = weighted.iter().filter(|(_, weight)| *weight > 0);
        let tier = weighted.clone().map(|(member, _)| member.tier).min();
        weighted.filter(|(member, _)| Some(member.tier) == tier).map(|(member, weight)| (member.id, *weight)).collect()
    };
    let by_health =
        first_tier(&|member| if standing.degraded.has(family, member.id) { member.degraded } else { WHOLE });
    if by_health.is_empty() { first_tier(&|_| WHOLE) } else { by_health }
}

/// The members among which connections may stick: those of the tiers that are used, in any family. While none is, all.
fn in_use<'a>(members: &'a [Member], wanted: &[Vec<(u32, u32)>; 2]) -> Vec<&'a Member> {
    let used: BTreeSet<u32> = wanted.iter().flatten().map(|(id, _)| *id).collect();
    let tiers: BTreeSet<u32> =
        members.iter().filter(|member| used.contains(&member.id)).map(|member| member.tier).collect();
    members.iter().filter(|member| tiers.is_empty() || tiers.contains(&member.tier)).collect()
}

fn kernel_policy(policy: &Policy, members: &[&Member], taken: &[u32]) -> abi::Policy {
    let (sticky_fields, lifetime) = policy.sticky.map_or((0, 0), |sticky| {
        let seconds = sticky.lifetime.map_or(0, |time| time.as_secs() + u64::from(time.subsec_nanos() > 0));
        (sticky.by.bits(), u32::try_from(seconds).unwrap_or(u32::MAX))
    });
    let mut bits = [0; 2];
    for member in members.iter().filter(|member| member.weight > 0) {
        if let Some(word) = bits.get_mut((member.id / 32) as usize) {
            *word |= 1 << (member.id % 32);
        }
    }
    let mut ids: Vec<u32> = match policy.members {
        Members::All => Vec::new(),
        Members::Group(_) => members.iter().map(|member| member.id).collect(),
    };
    ids.sort_unstable();
    let mut identity = digest([policy.hash.bits(), sticky_fields].into_iter().chain(ids));
    while identity == 0 || taken.contains(&identity) {
        identity = identity.wrapping_add(1);
    }
    abi::Policy { hash_fields: policy.hash.bits(), sticky_fields, lifetime, identity, members: bits }
}

/// A number that differs where the words do (FNV-1a).
fn digest(words: impl Iterator<Item = u32>) -> u32 {
    words.flat_map(u32::to_le_bytes).fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
#[path = "policies_tests.rs"]
mod tests;
