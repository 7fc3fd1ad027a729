//! Pure: what the policies of the rules are in the maps, given who is alive.

use std::collections::BTreeMap;

use pcc_ebpf::abi;

use crate::buckets;
use crate::config::rule::{Members, Policy};
use crate::host::Family;
use crate::plan::Live;
use crate::topology::Topology;

/// One policy with its bucket tables of IPv4 and IPv6.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// How connections choose.
    pub policy: abi::Policy,
    /// Among which.
    pub buckets: [Vec<u32>; 2],
}

/// The tables of `policies`, the default one first. `weights` by uplink id are those in force; `current` gives the table
/// that a policy number has now, so that as few buckets as possible move.
pub fn tables(
    policies: &[Policy],
    topology: &Topology,
    live: &Live,
    weights: &BTreeMap<u32, u32>,
    current: &dyn Fn(u32) -> Option<Table>,
) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::with_capacity(policies.len());
    for (policy, number) in policies.iter().zip(0..) {
        let members = members(policy, topology, weights);
        let taken: Vec<u32> = tables.iter().map(|table| table.policy.identity).collect();
        let kernel = kernel_policy(policy, &members, &taken);
        // Under another identity the number meant another policy.
        let current = current(number).filter(|table| table.policy.identity == kernel.identity);
        let buckets = Family::BOTH.map(|family| {
            let current = current.as_ref().map(|table| table.buckets[family as usize].as_slice());
            let current = current.filter(|buckets| buckets.iter().any(|bucket| *bucket != 0));
            let wanted: Vec<(u32, u32)> = members.iter().copied().filter(|(id, _)| live.has(family, *id)).collect();
            buckets::assign(current, &wanted)
        });
        tables.push(Table { policy: kernel, buckets });
    }
    tables
}

/// Ids and weights of the uplinks of a policy.
fn members(policy: &Policy, topology: &Topology, weights: &BTreeMap<u32, u32>) -> Vec<(u32, u32)> {
    match &policy.members {
        Members::All => topology.uplinks.iter().map(|it| (it.id, weights.get(&it.id).copied().unwrap_or(0))).collect(),
        Members::Group(group) => {
            group.iter().filter_map(|(index, weight)| Some((topology.uplinks.get(*index)?.id, *weight))).collect()
        }
    }
}

fn kernel_policy(policy: &Policy, members: &[(u32, u32)], taken: &[u32]) -> abi::Policy {
    let (sticky_fields, lifetime) = policy.sticky.map_or((0, 0), |sticky| {
        let seconds = sticky.lifetime.map_or(0, |time| time.as_secs() + u64::from(time.subsec_nanos() > 0));
        (sticky.by.bits(), u32::try_from(seconds).unwrap_or(u32::MAX))
    });
    let mut bits = [0; 2];
    for (id, _) in members.iter().filter(|(_, weight)| *weight > 0) {
        if let Some(word) = bits.get_mut((id / 32) as usize) {
            *word |= 1 << (id % 32);
        }
    }
    let mut ids: Vec<u32> = match policy.members {
        Members::All => Vec::new(),
        Members::Group(_) => members.iter().map(|(id, _)| *id).collect(),
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
