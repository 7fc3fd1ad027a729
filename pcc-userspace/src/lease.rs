//! Pure: how long packets may take a shortcut before one goes through the stack again.
//!
//! What tells of its changes needs no lease; [`crate::controller`] makes all shortcuts stale then. The lease bounds how long
//! the rest goes unnoticed.

mod established;
mod judge;
mod table;

use std::collections::BTreeMap;

use serde_json::Value;

use self::table::{Finding, Table};
use crate::ruleset;

/// Seconds where all of the firewall tells of its changes.
pub const LONG: u32 = 20;
/// Seconds where a part of it does not, or nobody watches it.
pub const SHORT: u32 = 2;

/// How long, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Seconds; 0: no shortcuts.
    pub seconds: u32,
    /// Why no more.
    pub reason: String,
}

/// What the lease follows from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// All of nftables as `nft -j list ruleset` prints it; `None` if it cannot be read.
    pub ruleset: Option<Value>,
    /// What besides nftables is there.
    pub signs: Signs,
    /// Timeouts of conntrack, in seconds, by their sysctl.
    pub timeouts: Vec<(String, u32)>,
    /// Conntrack tells of connections that were deleted.
    pub events: bool,
}

/// Parts of the firewall that come and go without notice. Reading them is cheap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// Tables of legacy iptables and ip6tables, by name.
    pub legacy: Vec<String>,
    /// A program reads packets from a queue of netfilter.
    pub queues: bool,
}

impl Lease {
    /// The lease for `firewall`. `own` is the name of our own table.
    pub fn of(firewall: &Firewall, own: &str) -> Self {
        let lease = Self::by_rules(firewall, own);
        let Some((key, timeout)) = firewall.timeouts.iter().min_by_key(|(_, timeout)| *timeout) else { return lease };
        // A connection that only takes shortcuts must not time out.
        let most = (timeout / 2).max(1);
        if most >= lease.seconds {
            return lease;
        }
        Self { seconds: most, reason: format!("{} is {timeout} s", key.replace('/', ".")) }
    }

    fn by_rules(firewall: &Firewall, own: &str) -> Self {
        let short = |reason: String| Self { seconds: SHORT, reason };
        if firewall.signs.queues {
            return Self { seconds: 0, reason: "a program reads packets from a netfilter queue".into() };
        }
        let found = firewall.ruleset.as_ref().map(|ruleset| findings(ruleset, own));
        let worst = found.as_ref().and_then(|found| found.as_ref()?.iter().min_by_key(|finding| finding.seconds));
        match (found.as_ref(), worst) {
            (_, Some(Finding { seconds: 0, place, what })) => {
                Self { seconds: 0, reason: format!("{place} has {what}") }
            }
            (None | Some(None), _) => short("the rules of nftables cannot be read".into()),
            (_, Some(Finding { place, what, .. })) => {
                short(format!("{place} has {what}, which changes without notice"))
            }
            (_, None) if !firewall.signs.legacy.is_empty() => {
                short(format!("{} of legacy iptables, which changes without notice", firewall.signs.legacy.join(", ")))
            }
            (_, None) if !firewall.events => {
                short("net.netfilter.nf_conntrack_events is 0, so that deleted connections are not told".into())
            }
            (_, None) => Self { seconds: LONG, reason: "all of the firewall tells of its changes".into() },
        }
    }
}

/// The parts of a ruleset that the lease depends on; `None` if this is none.
fn findings(ruleset: &Value, own: &str) -> Option<Vec<Finding>> {
    let objects = ruleset.get("nftables")?.as_array()?;
    let mut tables: BTreeMap<(&str, &str), Table<'_>> = BTreeMap::new();
    for (kind, object) in objects.iter().filter_map(Value::as_object).flatten() {
        let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
        let (family, name) = (text("family"), text(if kind == "table" { "name" } else { "table" }));
        if kind == "metainfo" || ruleset::is_own(own, family, name) {
            continue;
        }
        let table = tables.entry((family, name)).or_default();
        match kind.as_str() {
            "chain" => table.add_chain(text("name"), object),
            "set" | "map" => table.add_set(text("name"), object),
            "rule" => table.add_rule(text("chain"), object.get("expr").and_then(Value::as_array)?),
            _ => {}
        }
    }
    Some(tables.into_iter().flat_map(|((family, name), table)| table.findings(family, name)).collect())
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
