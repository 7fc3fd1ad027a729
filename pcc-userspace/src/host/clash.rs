//! Who else uses the bits of the marks that are ours. nftables, iptables and routing rules are searched.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::{Mark, MarkUse, Rule, nft};
use crate::problem::Problem;

mod iptables;
mod nftables;

/// What the uses of others mean for us.
#[derive(Clone, Debug, Default)]
pub struct Clashes {
    /// Masked uses of our bits: both sides would break. One for each rule.
    pub refused: Vec<Problem>,
    /// Uses of a whole mark, and what will happen. One for each rule.
    pub warnings: Vec<String>,
}

/// All uses of marks on the host but those of the nftables table `inet own_table` and of the rules that `own` names.
pub fn observe_marks(own_table: &str, rules: &[Rule], own: impl Fn(&Rule) -> bool) -> Result<Vec<MarkUse>> {
    let mut uses: BTreeSet<MarkUse> = rules.iter().filter(|rule| !own(rule)).filter_map(rule_use).collect();
    let tables = nft::ruleset(|family, name| (family, name) == ("inet", own_table))
        .context("looking for other users of the mark")?;
    let found = nftables::rules(&tables, own_table);
    if !found.is_empty() {
        let listing = nft::listing().context("looking for other users of the mark")?;
        uses.extend(nftables::uses(&found, &listing));
    }
    uses.extend(iptables::observe());
    Ok(uses.into_iter().collect())
}

/// What `iptables-save` and `ip6tables-save` print, by tool.
pub fn saved() -> Vec<(String, String)> {
    iptables::saved()
}

/// Judges `uses` by `ours`, the bits that are ours.
pub fn clashes(uses: &[MarkUse], ours: u32) -> Clashes {
    let mut clashes = Clashes::default();
    let hint = match free_mask(uses) {
        Some(mask) => format!("take bits that nobody uses: `mark_mask = {mask:#x}` or `--mark-mask {mask:#x}`"),
        None => "take other bits for one of the two; no eight adjacent bits are free".to_owned(),
    };
    for found in uses {
        match found.mask {
            Some(mask) if mask & ours != 0 => {
                let message = format!(
                    "{} uses bits {:#x} of the {}, which are ours ({ours:#x}): `{}`",
                    found.place,
                    mask & ours,
                    name(found.mark),
                    found.text
                );
                clashes.refused.push(Problem::new(message, hint.clone()));
            }
            Some(_) => {}
            None => clashes.warnings.push(format!("{}: `{}` {}", found.place, found.text, consequence(found))),
        }
    }
    clashes
}

/// Eight adjacent bits that no masked use touches, from the lowest byte upwards.
fn free_mask(uses: &[MarkUse]) -> Option<u32> {
    let used = uses.iter().filter_map(|found| found.mask).fold(0, |all, mask| all | mask);
    (0..4).map(|byte| 0xff << (8 * byte)).find(|mask| used & mask == 0)
}

fn name(mark: Mark) -> &'static str {
    match mark {
        Mark::Packet => "packet mark",
        Mark::Connection => "connection mark",
    }
}

fn consequence(found: &MarkUse) -> &'static str {
    match (found.mark, found.sets) {
        (Mark::Packet, true) => {
            "sets the whole packet mark and wipes ours: these packets keep the uplink of their connection only if this \
             runs in prerouting before our rules (priority mangle + 1), otherwise table main decides"
        }
        (Mark::Packet, false) => {
            "compares the whole packet mark: a balanced packet has our bits besides and equals no mark that it expects"
        }
        (Mark::Connection, true) => {
            "sets the whole connection mark and wipes ours: such a connection may change its uplink once and break"
        }
        (Mark::Connection, false) => {
            "compares the whole connection mark: a balanced connection has our bits besides and equals no mark that it \
             expects"
        }
    }
}

fn rule_use(rule: &Rule) -> Option<MarkUse> {
    let (_, mask) = rule.mark?;
    let text = format!("ip {} rule add {rule}", rule.family.flag());
    MarkUse::new("ip rule".to_owned(), text, Mark::Packet, false, mask)
}

impl MarkUse {
    /// A use of the bits `mask`; `None` if there are none.
    fn new(place: String, text: String, mark: Mark, sets: bool, mask: u32) -> Option<Self> {
        (mask != 0).then_some(Self { place, text, mark, sets, mask: (mask != u32::MAX).then_some(mask) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Family, PROTOCOL};

    fn rule(mark: (u32, u32), protocol: u8) -> Rule {
        Rule { mark: Some(mark), protocol, ..Rule::lookup(Family::V4, 5210, 52) }
    }

    #[test]
    fn a_masked_overlap_is_refused_with_the_rule_and_free_bits() {
        let found = rule_use(&rule((0x40, 0xf0), 0)).unwrap();
        let Clashes { refused, warnings } = clashes(&[found], 0xff);
        assert_eq!(
            refused[0].message,
            "ip rule uses bits 0xf0 of the packet mark, which are ours (0xff): \
             `ip -4 rule add pref 5210 fwmark 0x40/0xf0 lookup 52`"
        );
        assert!(refused[0].hint.contains("0xff00"), "{}", refused[0].hint);
        assert!(warnings.is_empty());
    }

    #[test]
    fn other_bits_are_nobodys_business() {
        let tailscale = rule_use(&rule((0x80000, 0xff0000), 0)).unwrap();
        let Clashes { refused, warnings } = clashes(&[tailscale], 0xff);
        assert!(refused.is_empty() && warnings.is_empty());
    }

    #[test]
    fn a_whole_mark_is_a_warning() {
        let wireguard = rule_use(&rule((0xca6c, u32::MAX), 0)).unwrap();
        let Clashes { refused, warnings } = clashes(&[wireguard], 0xff);
        assert!(refused.is_empty());
        assert!(warnings[0].contains("fwmark 0xca6c lookup 52"), "{warnings:?}");
        assert!(warnings[0].contains("compares the whole packet mark"), "{warnings:?}");
    }

    #[test]
    fn without_free_bits_the_hint_says_so() {
        let uses: Vec<_> = (0..4).filter_map(|byte| rule_use(&rule((0, 1 << (8 * byte)), PROTOCOL))).collect();
        assert_eq!(free_mask(&uses), None);
        assert!(clashes(&uses, 1).refused[0].hint.contains("no eight adjacent bits"));
    }
}
