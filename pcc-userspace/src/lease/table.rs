//! Pure: what in a table of nftables packets pass that take shortcuts, and how long a lease it leaves.

use std::collections::BTreeMap;

use serde_json::Value;

use super::established::meet;
use super::judge::{Sets, judge};

/// A rule that matters, or something in it.
pub struct Finding {
    /// The lease that it leaves.
    pub seconds: u32,
    /// Where it stands.
    pub place: String,
    /// What it is.
    pub what: String,
}

/// A table as it is printed. Rules come in their order.
#[derive(Default)]
pub struct Table<'a> {
    chains: BTreeMap<&'a str, &'a Value>,
    sets: Sets<'a>,
    /// The statements of each rule, by chain.
    rules: BTreeMap<&'a str, Vec<&'a Vec<Value>>>,
}

/// A walk through the chains of a table.
struct Walk<'a, 'b> {
    table: &'b Table<'a>,
    /// Chains that were passed, behind conntrack or not: whether none of the packets came out again.
    passed: BTreeMap<(&'a str, bool), bool>,
    found: Vec<(&'a str, u32, String)>,
}

/// Where packets go on.
enum Next {
    /// With what comes next.
    On,
    /// Nowhere; no other rule of the base chain sees them.
    End,
    /// In the chain that jumped here.
    Return,
    /// Some there, the others with what comes next.
    Both,
}

impl<'a> Table<'a> {
    /// Adds the chain `name`.
    pub fn add_chain(&mut self, name: &'a str, chain: &'a Value) {
        self.chains.insert(name, chain);
    }

    /// Adds the set or map `name`.
    pub fn add_set(&mut self, name: &'a str, set: &'a Value) {
        self.sets.add(name, set);
    }

    /// Adds a rule at the end of `chain`.
    pub fn add_rule(&mut self, chain: &'a str, statements: &'a Vec<Value>) {
        statements.iter().for_each(|statement| self.sets.note(statement));
        self.rules.entry(chain).or_default().push(statements);
    }

    /// What matters in the table `name`.
    pub fn findings(&self, family: &str, name: &str) -> Vec<Finding> {
        let mut walk = Walk { table: self, passed: BTreeMap::new(), found: Vec::new() };
        for (chain, declared) in self.chains.iter().filter(|(_, declared)| is_start(family, declared)) {
            walk.chain(chain, is_tracked(family, declared));
        }
        // Rules of a chain that nobody declared are odd enough to count.
        for chain in self.rules.keys().filter(|chain| !self.chains.contains_key(*chain)) {
            walk.chain(chain, false);
        }
        let place = |chain| format!("table {family} {name}, chain {chain}");
        walk.found.into_iter().map(|(chain, seconds, what)| Finding { seconds, place: place(chain), what }).collect()
    }

    fn user_chains(&self) -> impl Iterator<Item = &'a str> {
        self.chains.iter().filter(|(_, chain)| chain.get("hook").is_none()).map(|(name, _)| *name)
    }
}

/// Packets of an established connection that go from one device to another pass this base chain.
fn is_start(family: &str, chain: &Value) -> bool {
    match (chain["type"].as_str(), chain["hook"].as_str()) {
        // Only the first packet of a connection passes them.
        (Some("nat"), _) => false,
        // Of a bridge the host's own side counts too.
        (_, Some("input" | "output")) => family == "bridge",
        (_, hook) => hook.is_some() && family != "arp",
    }
}

/// Conntrack has seen the packets of this base chain, so that `ct state` tells the truth.
fn is_tracked(family: &str, chain: &Value) -> bool {
    const CONNTRACK: i64 = -200;
    let hook = match chain["hook"].as_str() {
        Some("prerouting") => chain["prio"].as_i64().is_some_and(|priority| priority > CONNTRACK),
        hook => matches!(hook, Some("forward" | "postrouting")),
    };
    hook && matches!(family, "inet" | "ip" | "ip6")
}

impl<'a> Walk<'a, '_> {
    /// Passes `chain`. True if no packet comes out again.
    fn chain(&mut self, chain: &'a str, tracked: bool) -> bool {
        if let Some(ends) = self.passed.get(&(chain, tracked)) {
            return *ends;
        }
        // For a loop, which the kernel refuses.
        self.passed.insert((chain, tracked), false);
        let table = self.table;
        let mut all = true;
        for statements in table.rules.get(chain).into_iter().flatten() {
            match self.rule(chain, statements, tracked) {
                Next::On => {}
                Next::Both => all = false,
                Next::Return => break,
                Next::End => {
                    self.passed.insert((chain, tracked), all);
                    return all;
                }
            }
        }
        false
    }

    fn rule(&mut self, chain: &'a str, statements: &'a [Value], tracked: bool) -> Next {
        // Each packet gets as far as this statement.
        let mut all = true;
        let mut on = Next::On;
        for (number, statement) in statements.iter().enumerate() {
            let condition = match &statement["match"] {
                Value::Object(it) => meet(
                    it.get("left").unwrap_or(&Value::Null),
                    it.get("op").and_then(Value::as_str).unwrap_or_default(),
                    it.get("right").unwrap_or(&Value::Null),
                    tracked,
                ),
                _ => None,
            };
            if condition == Some(false) {
                break;
            }
            let rest = &statements[number + 1..];
            self.found.extend(judge(&self.table.sets, statement, rest).map(|(seconds, what)| (chain, seconds, what)));
            match self.verdict(statement, tracked) {
                next @ (Next::End | Next::Return) if all => return next,
                Next::Return | Next::Both => on = Next::Both,
                Next::On | Next::End => {}
            }
            all &= condition == Some(true) || ["counter", "log"].iter().any(|key| statement.get(*key).is_some());
        }
        on
    }

    /// Where all packets go that get to `statement`; passes the chains that some of them go to.
    fn verdict(&mut self, statement: &'a Value, tracked: bool) -> Next {
        let Some((key, value)) = statement.as_object().and_then(|object| object.iter().next()) else { return Next::On };
        let target = value["target"].as_str();
        match (key.as_str(), target) {
            ("accept" | "drop", _) => Next::End,
            ("return", _) => Next::Return,
            ("jump", Some(target)) if self.chain(target, tracked) => Next::End,
            ("goto", Some(target)) if self.chain(target, tracked) => Next::End,
            ("goto", Some(_)) => Next::Return,
            ("vmap", _) => self.map(value, tracked),
            _ => Next::On,
        }
    }

    fn map(&mut self, map: &'a Value, tracked: bool) -> Next {
        let Some(elements) = map["data"]["set"].as_array() else {
            // The elements of a named map are not listed: it may lead anywhere.
            for chain in self.table.user_chains() {
                self.chain(chain, tracked);
            }
            return Next::Both;
        };
        let (mut all, mut some) = (None, Next::On);
        for (key, verdict) in elements.iter().filter_map(|element| Some((element.get(0)?, element.get(1)?))) {
            let key = key["elem"].get("val").unwrap_or(key);
            match meet(&map["key"], "==", key, tracked) {
                Some(false) => {}
                Some(true) => all = Some(self.verdict(verdict, tracked)),
                None => {
                    if matches!(self.verdict(verdict, tracked), Next::Return | Next::Both) {
                        some = Next::Both;
                    }
                }
            }
        }
        all.unwrap_or(some)
    }
}
