//! Pure: the router's own new connections in the output chain of the ruleset.
//!
//! Main decides for them, and netfilter only sees to those that main sends by an uplink that takes no new connections,
//! or, if they are balanced, by any uplink: they get the mark of one that does, by a hash of addresses and ports, and
//! the kernel routes them again. Masquerading gives them the source of that uplink. Where control groups exist, programs
//! on sockets ([`pcc_ebpf::own`]) go before: they balance what is connected without translation, and tell sockets that
//! are bound, which stay where they are.

use pcc_ebpf::abi::MarkLayout;

use crate::buckets;
use crate::host::Family;
use crate::policies;
use crate::ruleset::State;

/// Our sets whose elements are [`elements`].
pub const SETS: [&str; 6] = ["leave4", "leave6", "balanced4", "balanced6", "uplink_addresses4", "uplink_addresses6"];
/// Our maps likewise.
pub const MAPS: [&str; 4] = ["stale4", "stale6", "spread4", "spread6"];

/// Slots of the maps `spread4` and `spread6`, one element each. A map of intervals would be a tree, in which a look-up may
/// miss while the elements of before and after a replacement are both there.
const SLOTS: u32 = 128;

/// Declares [`SETS`], [`MAPS`] and the chains of [`rules`].
///
/// Where new connections are balanced, a datagram socket without a mark that has an address was bound to it: connected ones
/// have got a mark, and others have no address.
/// The maps are of type `numgen inc`, which a `jhash` matches as well: `nft list` of 1.0.6 crashes on maps of type `jhash`.
pub fn sets() -> String {
    [("4", "ipv4", "ip"), ("6", "ipv6", "ip6")]
        .map(|(n, family, ip)| {
            let local = if n == "6" { "  ip6 daddr fe80::/10 return\n" } else { "" };
            format!(
                " set leave{n} {{ type ifname; }}
 set balanced{n} {{ type ifname; }}
 set uplink_addresses{n} {{ type {family}_addr; }}
 map stale{n} {{ type mark : verdict; }}
 map spread{n} {{ typeof numgen inc mod {SLOTS} : verdict; }}
 chain own_new{n} {{
  fib daddr type != unicast return
  oifname @balanced{n} meta l4proto udp socket wildcard 0 return
{local}  meta l4proto {{ tcp, udp }} jhash {ip} saddr . {ip} daddr . th sport . th dport mod {SLOTS} vmap @spread{n}
  jhash {ip} saddr . {ip} daddr mod {SLOTS} vmap @spread{n}
 }}
"
            )
        })
        .concat()
}

/// Rules of the output chain. Marks that say *confirmed* are those of health checks.
pub fn rules(marks: MarkLayout) -> String {
    let (ours, whole) = (marks.ours(), marks.id_mask() | marks.confirmed());
    let new = format!("ct mark & {ours:#x} == 0 ct direction original");
    let rules = [("4", "ipv4", "ip"), ("6", "ipv6", "ip6")].map(|(n, family, ip)| {
        format!(
            "  meta nfproto {family} oifname @leave{n} meta mark & {ours:#x} == 0 {new} goto own_new{n}
  meta nfproto {family} oifname @leave{n} meta mark & {whole:#x} == {ours:#x} {ip} saddr != @uplink_addresses{n} {new} goto own_new{n}
  meta nfproto {family} {new} meta mark & {whole:#x} vmap @stale{n}
"
        )
    });
    rules.concat()
}

/// Elements: names of sets and maps, and what they hold.
pub fn elements(state: &State<'_>) -> Vec<(&'static str, String)> {
    let State { config, topology, standing, weights, sources, .. } = state;
    let mut elements = Vec::new();
    let pick = |family, four: &'static str, six: &'static str| if family == Family::V4 { four } else { six };
    for family in Family::BOTH {
        let shares = policies::shares(topology, standing, weights, family);
        let slots: Vec<String> = slots(&shares).map(|(slot, id)| format!("{slot} : goto begin{id}")).collect();
        if !slots.is_empty() {
            elements.push((pick(family, "spread4", "spread6"), slots.join(", ")));
        }
        for uplink in &topology.uplinks {
            let id = uplink.id;
            let is_mains = sources.usual.iter().any(|it| it.uplink == Some(id) && Family::of(it.address) == family);
            if config.balance_router || is_mains && !standing.taking.has(family, id) {
                elements.push((pick(family, "leave4", "leave6"), format!("\"{}\"", uplink.config.device)));
            }
            if config.balance_router && standing.taking.has(family, id) {
                elements.push((pick(family, "balanced4", "balanced6"), format!("\"{}\"", uplink.config.device)));
            }
            if !standing.carrying.has(family, id) {
                let chain = pick(family, "own_new4", "own_new6");
                elements.push((pick(family, "stale4", "stale6"), format!("{:#x} : goto {chain}", config.marks.of(id))));
            }
        }
        let own = sources.own.iter().filter(|address| Family::of(**address) == family);
        let set = pick(family, "uplink_addresses4", "uplink_addresses6");
        elements.extend(own.map(|address| (set, address.to_string())));
    }
    elements
}

/// Which of the [`SLOTS`] go to which uplink, by id. `weights` are pairs of id and weight; without any there are none.
fn slots(weights: &[(u32, u32)]) -> impl Iterator<Item = (u32, u32)> {
    let table = buckets::assign(None, weights);
    let step = table.len() / SLOTS as usize;
    (0..SLOTS).zip(table.into_iter().step_by(step)).filter(|(_, id)| *id != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shares(weights: &[(u32, u32)]) -> Vec<(u32, usize)> {
        let ids: Vec<u32> = slots(weights).map(|(_, id)| id).collect();
        ids.chunk_by(|a, b| a == b).map(|chunk| (chunk[0], chunk.len())).collect()
    }

    #[test]
    fn slots_are_the_shares() {
        assert_eq!(shares(&[(1, 1), (2, 1)]), [(1, 64), (2, 64)]);
        assert_eq!(shares(&[(1, 3), (4, 1)]), [(1, 96), (4, 32)]);
        assert_eq!(shares(&[(2, 7), (3, 0)]), [(2, 128)]);
        assert_eq!(shares(&[]), []);
        assert_eq!(shares(&[(1, 0)]), []);
    }

    proptest! {
        #[test]
        fn slots_are_full_and_in_proportion(weights in prop::collection::btree_map(1_u32..32, 0_u32..1000, 1..9)) {
            let weights: Vec<_> = weights.into_iter().collect();
            let total: u32 = weights.iter().map(|(_, weight)| weight).sum();
            let numbers: Vec<u32> = slots(&weights).map(|(slot, _)| slot).collect();
            prop_assert_eq!(numbers, (0..if total == 0 { 0 } else { SLOTS }).collect::<Vec<_>>());
            let shares = shares(&weights);
            for (id, weight) in weights.iter().filter(|_| total > 0) {
                let count = shares.iter().find(|(known, _)| known == id).map_or(0, |(_, count)| *count);
                let exact = f64::from(*weight) * f64::from(SLOTS) / f64::from(total);
                prop_assert!((count as f64 - exact).abs() < 2.0, "{} has {} of {}", id, count, exact);
            }
        }
    }
}
