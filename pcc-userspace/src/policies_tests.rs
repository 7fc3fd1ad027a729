//! Tables of the policies while uplinks come and go.

use pcc_ebpf::classify::HashFields;

use super::*;
use crate::config;
use crate::config::rule::Sticky;
use crate::plan::Live;
use crate::topology::Uplink;

fn topology() -> Topology {
    let uplink =
        |id: u32| Uplink { id, config: config::Uplink::new(&format!("wan{id}")), link: None, ipv4: None, ipv6: None };
    Topology { uplinks: vec![uplink(1), uplink(2), uplink(40)], lans: Vec::new() }
}

fn group(members: &[(usize, u32)]) -> Policy {
    Policy { members: Members::Group(members.to_vec()), ..Policy::default_of(HashFields::BOTH_ADDRESSES) }
}

fn live(ids: &[u32]) -> Standing {
    Standing::sound(Live { ipv4: ids.to_vec(), ipv6: ids.to_vec() })
}

fn weights() -> BTreeMap<u32, u32> {
    BTreeMap::from([(1, 1), (2, 1), (40, 0)])
}

fn count(table: &Table, id: u32) -> usize {
    table.buckets[0].iter().filter(|bucket| **bucket == id).count()
}

#[test]
fn groups_have_their_own_weights_and_the_default_those_in_force() {
    let policies = [group(&[]), group(&[(0, 3), (2, 1)])];
    let policies = [Policy { members: Members::All, ..policies[0].clone() }, policies[1].clone()];
    let tables = tables(&policies, &topology(), &live(&[1, 2, 40]), &weights(), &|_| None);
    let [all, some] = tables.as_slice() else { panic!("{tables:?}") };
    assert_eq!((count(all, 1), count(all, 2), count(all, 40)), (512, 512, 0));
    assert_eq!((count(some, 1), count(some, 40)), (768, 256));
    assert_eq!((all.policy.members, some.policy.members), ([0b110, 0], [0b10, 1 << 8]));
    assert!(some.policy.has(1) && some.policy.has(40) && !some.policy.has(2) && !some.policy.has(64 + 1));
}

#[test]
fn a_group_without_live_uplinks_is_empty_and_comes_back_as_it_was() {
    let policies = [group(&[(0, 1), (1, 1)])];
    let at = |live: &Standing, before: Option<&Table>| {
        tables(&policies, &topology(), live, &weights(), &|_| before.cloned()).remove(0)
    };
    let both = at(&live(&[1, 2, 40]), None);
    let one = at(&live(&[2, 40]), Some(&both));
    assert_eq!(count(&one, 2), 1024);
    let none = at(&live(&[40]), Some(&one));
    assert_eq!(count(&none, 0), 1024);
    assert_eq!(at(&live(&[1, 2, 40]), Some(&none)), both);
}

#[test]
fn identities_tell_policies_apart_whatever_their_number() {
    let sticky = |lifetime| Policy {
        sticky: Some(Sticky { by: HashFields::BOTH_ADDRESSES, lifetime }),
        ..group(&[(0, 1), (1, 1)])
    };
    let second = std::time::Duration::from_millis(1500);
    let policies = [
        group(&[(0, 1), (1, 1)]),
        group(&[(0, 3), (1, 1)]),
        group(&[(0, 1), (2, 1)]),
        sticky(None),
        sticky(Some(second)),
    ];
    let made = |policies: &[Policy]| tables(policies, &topology(), &live(&[1, 2, 40]), &weights(), &|_| None);
    let tables = made(&policies);
    let identities: BTreeSet<u32> = tables.iter().map(|table| table.policy.identity).collect();
    assert_eq!((identities.len(), identities.contains(&0)), (5, false));
    assert_eq!(made(&policies[2..3])[0].policy, tables[2].policy);
    assert_eq!((tables[3].policy.lifetime, tables[4].policy.lifetime), (0, 2));
}

/// Another policy had the number before: its table says nothing.
#[test]
fn a_table_of_another_policy_is_not_continued() {
    let policies = [group(&[(0, 1), (1, 1)])];
    let other = Table { buckets: [vec![2; 1024], vec![2; 1024]], ..Table::default() };
    let made = tables(&policies, &topology(), &live(&[1, 2]), &weights(), &|_| Some(other.clone()));
    assert_eq!(made[0].buckets[0][..2], [1, 1]);
}

/// Uplinks 1, 2, 3 in tiers 1, 1, 2; what is left of the weight of a degraded one is 50, 0 and 50 %.
fn tiered(taking: &[u32], degraded: &[u32]) -> BTreeMap<u32, usize> {
    let mut topology = topology();
    topology.uplinks[2].id = 3;
    topology.uplinks[2].config.tier = 2;
    topology.uplinks[1].config.degraded.weight = 0;
    let of = |ids: &[u32]| Live { ipv4: ids.to_vec(), ipv6: ids.to_vec() };
    let standing = Standing { degraded: of(degraded), ..Standing::sound(of(taking)) };
    let weights = BTreeMap::from([(1, 1), (2, 1), (3, 1)]);
    let policy = Policy::default_of(HashFields::BOTH_ADDRESSES);
    let table = tables(&[policy], &topology, &standing, &weights, &|_| None).remove(0);
    let ids = table.buckets[0].iter().fold(BTreeMap::new(), |mut counts, id| {
        *counts.entry(*id).or_insert(0) += 1;
        counts
    });
    let tier = |id: &u32| if *id == 3 { 2 } else { 1 };
    for id in ids.keys().filter(|id| **id != 0) {
        assert!(table.policy.has(*id));
        assert!([1, 2, 3].iter().all(|other| table.policy.has(*other) == (tier(other) == tier(id))));
    }
    ids
}

#[test]
fn a_tier_is_used_when_every_tier_before_it_is_down() {
    assert_eq!(tiered(&[1, 2, 3], &[]), [(1, 512), (2, 512)].into());
    assert_eq!(tiered(&[2, 3], &[]), [(2, 1024)].into());
    assert_eq!(tiered(&[3], &[]), [(3, 1024)].into());
    assert_eq!(tiered(&[], &[]), [(0, 1024)].into());
}

#[test]
fn a_degraded_uplink_takes_less_unless_nothing_is_left() {
    assert_eq!(tiered(&[1, 2, 3], &[1]), [(1, 341), (2, 683)].into());
    assert_eq!(tiered(&[1, 2, 3], &[2]), [(1, 1024)].into());
    assert_eq!(tiered(&[2, 3], &[2]), [(3, 1024)].into());
    assert_eq!(tiered(&[2], &[2]), [(2, 1024)].into());
}

#[test]
fn groups_know_no_tiers_but_who_is_degraded() {
    let mut topology = topology();
    topology.uplinks[1].config.tier = 2;
    let standing = Standing { degraded: Live { ipv4: vec![2], ipv6: vec![] }, ..live(&[1, 2]) };
    let table = tables(&[group(&[(0, 1), (1, 2)])], &topology, &standing, &weights(), &|_| None).remove(0);
    assert_eq!(table.buckets.each_ref().map(|it| it.iter().filter(|id| **id == 1).count()), [512, 341]);
}
