//! What each rule gives to whom.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use pcc_ebpf::abi::BUCKETS;
use serde::{Deserialize, Serialize};

use super::percent;
use crate::config::Config;
use crate::config::rule::{Decision, Members, Policy};
use crate::instance::Instance;
use crate::rules;

/// One rule at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// Its name, or its number from 1.
    pub rule: String,
    /// What it uses: `main`, `all`, or uplinks with weights.
    pub uses: String,
    /// Share of new IPv4 connections by uplink, 0 to 1. Without any the default weights decide, or main if it uses that.
    pub ipv4: BTreeMap<String, f64>,
    /// The same for IPv6.
    pub ipv6: BTreeMap<String, f64>,
}

/// Reads all rules of `instance`.
pub fn read(instance: &Instance) -> Result<Vec<RuleStatus>> {
    let config = &instance.config;
    let policies = rules::policies(&config.rules, config.hash);
    let mut tables = Vec::with_capacity(policies.len());
    for (number, _) in (0..).zip(&policies) {
        tables.push(instance.plane.table(number)?);
    }
    let shares = |buckets: &[u32]| {
        let mut shares = BTreeMap::new();
        for id in buckets {
            if let Some(uplink) = instance.topology.uplinks.iter().find(|uplink| uplink.id == *id) {
                *shares.entry(uplink.config.name.clone()).or_default() += 1.0 / f64::from(BUCKETS);
            }
        }
        shares
    };
    let of = |(index, rule): (usize, &crate::config::rule::Rule)| {
        let (uses, policy) = match &rule.decision {
            Decision::Main => ("main".to_owned(), None),
            Decision::Policy(policy) => (members(config, policy), Some(policy)),
        };
        let table = policy.and_then(|policy| tables.get(policies.iter().position(|known| known == policy)?));
        let [ipv4, ipv6] = [0, 1].map(|family| {
            table.and_then(|table| table.buckets.get(family)).map(|buckets| shares(buckets)).unwrap_or_default()
        });
        RuleStatus { rule: rule.name.clone().unwrap_or_else(|| (index + 1).to_string()), uses, ipv4, ipv6 }
    };
    Ok(config.rules.iter().enumerate().map(of).collect())
}

/// The lines of all rules, behind an empty one.
pub fn table(rules: &[RuleStatus]) -> String {
    if rules.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{:<12} {:<24} {:<28} IPv6\n", "rule", "uses", "IPv4");
    for RuleStatus { rule, uses, ipv4, ipv6 } in rules {
        let shares = |shares: &BTreeMap<String, f64>| match (uses.as_str(), shares.is_empty()) {
            ("main", _) => "main".to_owned(),
            (_, true) => "no uplink: as without rule".to_owned(),
            _ => {
                let each: Vec<_> = shares.iter().map(|(name, share)| format!("{name} {}", percent(*share))).collect();
                each.join(", ")
            }
        };
        let _ = writeln!(text, "{rule:<12} {uses:<24} {:<28} {}", shares(ipv4), shares(ipv6));
    }
    text
}

fn members(config: &Config, policy: &Policy) -> String {
    let Members::Group(group) = &policy.members else { return "all".to_owned() };
    let name = |index: usize| config.uplinks.get(index).map_or("", |uplink| uplink.name.as_str());
    match group.as_slice() {
        [(index, _)] => name(*index).to_owned(),
        group => {
            group.iter().map(|(index, weight)| format!("{}:{weight}", name(*index))).collect::<Vec<_>>().join(", ")
        }
    }
}
