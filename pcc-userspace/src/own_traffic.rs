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
pub const SETS: [&str; 4] = ["leave4", "leave6", "uplink_addresses4", "uplink_addresses6"];
/// Our maps likewise.
pub const MAPS: [&str; 4] = ["stale4", "stale6", "spread4", "spread6"];

/// Slots of the maps `spread4` and `spread6`.
const SLOTS: u32 = 256;

/// Declares [`SETS`], [`MAPS`] and the chains of [`rules`].
///
/// The maps are of type `numgen inc`, which a `jhash` matches as well: `nft list` of 1.0.6 crashes on maps of type `jhash`.
pub fn sets() -> String {
    [("4", "ipv4", "ip"), ("6", "ipv6", "ip6")]
        .map(|(n, family, ip)| {
            let local = if n == "6" { "  ip6 daddr fe80::/10 return\n" } else { "" };
            format!(
                " set leave{n} {{ type ifname; }}
 set uplink_addresses{n} {{ type {family}_addr; }}
 map stale{n} {{ type mark : verdict; }}
 map spread{n} {{ typeof numgen inc mod {SLOTS} : verdict; flags interval; }}
 chain own_new{n} {{
  fib daddr type != unicast return
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
        let weights = policies::shares(topology, standing, weights, family);
        let spread = pick(family, "spread4", "spread6");
        elements.extend(
            ranges(&weights).into_iter().map(|(first, last, id)| (spread, format!("{first}-{last} : goto begin{id}"))),
        );
        for uplink in &topology.uplinks {
            let id = uplink.id;
            let is_mains = sources.usual.iter().any(|it| it.uplink == Some(id) && Family::of(it.address) == family);
            if config.balance_router || is_mains && !standing.taking.has(family, id) {
                elements.push((pick(family, "leave4", "leave6"), format!("\"{}\"", uplink.config.device)));
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

/// Which of the [`SLOTS`] go to which uplink: first and last of each range, and an id. `weights` are pairs of id and weight.
fn ranges(weights: &[(u32, u32)]) -> Vec<(u32, u32, u32)> {
    let table = buckets::assign(None, weights);
    let step = table.len() / SLOTS as usize;
    let mut ranges: Vec<(u32, u32, u32)> = Vec::new();
    for (slot, id) in (0..SLOTS).zip(table.into_iter().step_by(step)).filter(|(_, id)| *id != 0) {
        match ranges.last_mut() {
            Some((_, last, owner)) if *owner == id => *last = slot,
            _ => ranges.push((slot, slot, id)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_the_shares() {
        assert_eq!(ranges(&[(1, 1), (2, 1)]), [(0, 127, 1), (128, 255, 2)]);
        assert_eq!(ranges(&[(1, 3), (4, 1)]), [(0, 191, 1), (192, 255, 4)]);
        assert_eq!(ranges(&[(2, 7), (3, 0)]), [(0, 255, 2)]);
        assert_eq!(ranges(&[]), []);
        assert_eq!(ranges(&[(1, 0)]), []);
    }

    proptest! {
        #[test]
        fn ranges_fill_all_slots_once(weights in prop::collection::btree_map(1_u32..32, 0_u32..1000, 1..9)) {
            let weights: Vec<_> = weights.into_iter().collect();
            let ranges = ranges(&weights);
            let total: u32 = weights.iter().map(|(_, weight)| weight).sum();
            let mut next = 0;
            for (first, last, id) in &ranges {
                prop_assert_eq!(*first, next);
                prop_assert!(last >= first);
                next = last + 1;
                let weight = weights.iter().find(|(known, _)| known == id).unwrap().1;
                let exact = f64::from(weight) * f64::from(SLOTS) / f64::from(total);
                prop_assert!((f64::from(last - first + 1) - exact).abs() < 2.0);
            }
            prop_assert_eq!(next, if total == 0 { 0 } else { SLOTS });
        }
    }
}
