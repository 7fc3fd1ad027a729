//! Pure: how long packets may take a shortcut before one goes through the stack again.
//!
//! What tells of its changes needs no lease; [`crate::controller`] makes all shortcuts stale then. The lease bounds how long
//! the rest goes unnoticed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

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

/// A rule that matters, or something in it.
struct Finding {
    seconds: u32,
    place: String,
    what: String,
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
            "chain" => drop(table.chains.insert(text("name"), object)),
            "set" | "map" => {
                let restless = ["timeout", "flags", "stmt"].iter().any(|key| match object.get(*key) {
                    Some(Value::Array(flags)) if *key == "flags" => flags.iter().any(is_restless),
                    Some(flag) if *key == "flags" => is_restless(flag),
                    other => other.is_some(),
                });
                if restless {
                    table.restless.insert(text("name"));
                }
            }
            "rule" => {
                let statements = object.get("expr").and_then(Value::as_array);
                table.rules.push((text("chain"), statements?));
            }
            _ => {}
        }
    }
    Some(tables.into_iter().flat_map(|((family, name), table)| table.findings(family, name)).collect())
}

/// Flags of a set whose elements come and go by themselves.
fn is_restless(flag: &Value) -> bool {
    matches!(flag.as_str(), Some("dynamic" | "timeout"))
}

#[derive(Default)]
struct Table<'a> {
    chains: BTreeMap<&'a str, &'a Value>,
    /// Sets and maps whose elements come and go without notice.
    restless: BTreeSet<&'a str>,
    /// Chain and statements of each rule.
    rules: Vec<(&'a str, &'a Vec<Value>)>,
}

impl<'a> Table<'a> {
    fn findings(mut self, family: &str, name: &str) -> Vec<Finding> {
        // nft 1.0.6 does not print the flag `dynamic` in JSON.
        for statement in self.rules.iter().flat_map(|(_, statements)| *statements) {
            let written = ["set", "map"].iter().filter_map(|kind| statement.get(kind)?.get(kind)?.as_str());
            self.restless.extend(written.filter_map(|set| set.strip_prefix('@')));
        }
        let passed = self.passed(family);
        let table = &self;
        let rules = table.rules.iter().filter(|(chain, _)| passed.contains(chain));
        let found = rules.flat_map(|(chain, statements)| {
            statements.iter().filter_map(move |statement| Some((*chain, table.judge(statement)?)))
        });
        found
            .map(|(chain, (seconds, what))| Finding {
                seconds,
                place: format!("table {family} {name}, chain {chain}"),
                what,
            })
            .collect()
    }

    /// The chains that packets of an established connection may pass from one device to another.
    fn passed(&self, family: &str) -> BTreeSet<&'a str> {
        let is_start = |chain: &&Value| match (chain["type"].as_str(), chain["hook"].as_str()) {
            // Only the first packet of a connection passes them.
            (Some("nat"), _) => false,
            // Of a bridge the host's own side counts too.
            (_, Some("input" | "output")) => family == "bridge",
            (_, hook) => hook.is_some() && family != "arp",
        };
        let starts = self.chains.iter().filter(|(_, chain)| is_start(chain)).map(|(name, _)| *name);
        // Rules of a chain that nobody declared are odd enough to count.
        let strange = self.rules.iter().map(|(chain, _)| *chain).filter(|chain| !self.chains.contains_key(chain));
        let mut open: Vec<&str> = starts.chain(strange).collect();
        let mut passed = BTreeSet::new();
        while let Some(chain) = open.pop() {
            if !passed.insert(chain) {
                continue;
            }
            for statement in self.rules.iter().filter(|(of, _)| *of == chain).flat_map(|(_, statements)| *statements) {
                walk(statement, &mut |key, value| match (key, value) {
                    ("jump" | "goto", target) => open.extend(target["target"].as_str()),
                    // The elements of a named map are not listed: it may lead anywhere.
                    ("vmap", map) if map["data"].is_string() => {
                        open.extend(self.chains.iter().filter(|(_, it)| it.get("hook").is_none()).map(|(it, _)| *it));
                    }
                    _ => {}
                });
            }
        }
        passed
    }

    /// The seconds that `statement` leaves, if it matters, and what it is.
    fn judge(&self, statement: &Value) -> Option<(u32, String)> {
        let Some((key, value)) = statement.as_object().and_then(|object| object.iter().next()) else {
            return Some((SHORT, "a statement that is not known".into()));
        };
        let what = match key.as_str() {
            "queue" | "dup" => return Some((0, format!("a `{key}`, which must see every packet"))),
            "xt" if matches!(value["name"].as_str(), Some("NFQUEUE" | "TEE")) => {
                return Some((0, "a target of iptables that must see every packet".into()));
            }
            "xt" => match value["name"].as_str() {
                Some(name) => format!("`{name}` of iptables"),
                None => "a match or target of iptables".into(),
            },
            key if !STATEMENTS.contains(&key) => format!("a `{key}`"),
            _ => return self.restless_part(value).map(|what| (SHORT, what)),
        };
        Some((SHORT, what))
    }

    /// What in the operands of a statement changes without notice.
    fn restless_part(&self, value: &Value) -> Option<String> {
        let mut found = None;
        walk(value, &mut |key, value| {
            let part = match key {
                "" => value
                    .as_str()
                    .and_then(|text| text.strip_prefix('@'))
                    .filter(|set| self.restless.contains(set))
                    .map(|set| format!("set `{set}`")),
                "meta" | "ct" => {
                    value["key"].as_str().filter(|it| RESTLESS_KEYS.contains(it)).map(|it| format!("`{key} {it}`"))
                }
                "numgen" => Some("a `numgen`".into()),
                _ => None,
            };
            if found.is_none() {
                found = part;
            }
        });
        found
    }
}

/// Statements that do the same to each packet, as far as their operands do. All others are taken to change without notice.
const STATEMENTS: [&str; 26] = [
    "accept",
    "continue",
    "counter",
    "ct expectation",
    "ct helper",
    "drop",
    "flow",
    "fwd",
    "goto",
    "jump",
    "log",
    "map",
    "mangle",
    "masquerade",
    "match",
    "notrack",
    "redirect",
    "reject",
    "reset",
    "return",
    "secmark",
    "set",
    "snat",
    "dnat",
    "tproxy",
    "vmap",
];
/// Keys of `meta` and `ct` whose value is another one after a while.
const RESTLESS_KEYS: [&str; 9] = ["time", "hour", "day", "random", "cpu", "bytes", "packets", "avgpkt", "expiration"];

/// Shows `see` each key of all objects inside `value` with what is below it, and each other value with an empty key.
fn walk<'a>(value: &'a Value, see: &mut impl FnMut(&'a str, &'a Value)) {
    match value {
        Value::Object(parts) => {
            for (key, part) in parts {
                see(key, part);
                walk(part, see);
            }
        }
        Value::Array(parts) => parts.iter().for_each(|part| walk(part, see)),
        other => see("", other),
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
