//! Looks at the connections that there are, beside the controller's loop, and judges.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use ipnet::IpNet;
use pcc_ebpf::abi::FlowKey;
use pcc_ebpf::classify::{HashFields, hash};
use pcc_ebpf::flow::has_ports;

use super::judge::{self, Judgement};
use super::ledger::{Period, Shares};
use super::sample::{Live, Names, Sample};
use super::{Report, Share, Verdict};
use crate::config::rule::Decision;
use crate::config::{Config, Paths};
use crate::dataplane::Pinned;
use crate::explain::native::matching;
use crate::flows::scene::{Marks, Scene};
use crate::host::connections::{self, Connection, Filter};
use crate::host::linux::Linux;
use crate::journal::Journal;

/// What the controller knows; the rest is looked up without it.
#[derive(Debug)]
pub struct Basis {
    /// The configuration in force.
    pub config: Config,
    /// Where things are kept.
    pub paths: Paths,
    /// Of the hash.
    pub seed: u32,
    /// Ids and names of the uplinks.
    pub uplinks: Vec<(u32, String)>,
    /// What happened.
    pub period: Period,
    /// What is wanted now.
    pub shares: Shares,
}

/// Judges how the connections of `basis` are spread.
///
/// # Errors
/// The kernel refuses to tell.
pub fn measure(basis: &Basis) -> Result<Report> {
    Ok(report(basis, &sample(basis)?))
}

fn sample(basis: &Basis) -> Result<Sample> {
    let Basis { config, paths, seed, .. } = basis;
    let observed = Linux::open()?.addressed()?;
    let mut sample = Sample::default();
    let (Some(journal), Some(pinned)) = (Journal::load(&paths.run)?, Pinned::open(&paths.pins)?) else {
        return Ok(sample);
    };
    let scene = Scene::of(&pinned, &journal, &observed);
    let Marks::Uplinks(layout) = &scene.marks else { return Ok(sample) };
    let lan = |link: &str| config.lans.iter().position(|lan| lan == link);
    let networks: Vec<(IpNet, usize)> = observed
        .addresses
        .iter()
        .filter_map(|address| {
            let link = observed.links.iter().find(|link| link.index == address.ifindex)?;
            Some((address.network.trunc(), lan(&link.name)?))
        })
        .collect();
    let lan_of =
        |client: IpAddr| networks.iter().find(|(network, _)| network.contains(&client)).map_or(0, |(_, at)| *at);
    connections::walk(Filter::default(), |connection| {
        let ends = scene.ends(&connection);
        let uplink = layout.uplink(connection.mark);
        match uplink {
            // The router's own follow main, unless they are balanced, too.
            _ if !ends.inbound && scene.local.contains(&ends.client.ip()) && !config.balance_router => {}
            Some(_) if ends.inbound => sample.inbound += 1,
            None if ends.inbound => {}
            None => sample.unmarked += 1,
            Some(uplink) => sample.take(live(config, *seed, uplink, &connection, lan_of(ends.client.ip()))),
        }
    })?;
    Ok(sample)
}

fn live(config: &Config, seed: u32, uplink: u32, connection: &Connection, lan: usize) -> Live {
    let Connection { protocol, original: (from, to), .. } = *connection;
    let mut key = FlowKey::new(from, to, protocol);
    if !has_ports(key.protocol) {
        (key.source_port, key.destination_port) = (0, 0);
    }
    Live {
        client: from.ip(),
        server: to.ip(),
        uplink,
        rule: rule(config, lan, from, to, protocol),
        hash: hash(&key, config.hash, seed),
    }
}

/// The rule that decided, if one did.
fn rule(config: &Config, lan: usize, from: SocketAddr, to: SocketAddr, protocol: u8) -> Option<usize> {
    if config.rules.is_empty() { None } else { matching(&config.rules, lan, from, to, protocol) }
}

/// Pure: all that follows.
fn report(basis: &Basis, sample: &Sample) -> Report {
    let Basis { config, uplinks, period, shares, .. } = basis;
    let ipv4 = if sample.total() == 0 { 0.5 } else { sample.families[0] as f64 / sample.total() as f64 };
    let (begun, expected) = (period.begun(), period.expected(ipv4));
    let total: u64 = begun.values().sum();
    let ids: BTreeSet<u32> = begun.keys().chain(expected.keys()).copied().collect();
    let cell = |id: &u32| (begun.get(id).copied().unwrap_or(0), expected.get(id).copied().unwrap_or(0.0));
    let Judgement { verdict, chi_square, probability } = judge::judge(&ids.iter().map(cell).collect::<Vec<_>>());
    let name = |id: u32| {
        uplinks
            .iter()
            .find(|(known, _)| *known == id)
            .map_or_else(|| format!("{id}, which is gone"), |(_, name)| name.clone())
    };
    let share = |id: &u32| {
        let (connections, expected) = cell(id);
        let part = |count: f64| if total == 0 { 0.0 } else { count / total as f64 };
        Share { uplink: name(*id), wanted: part(expected), seen: part(connections as f64), connections }
    };
    let inputs = sample.inputs(HashFields::name(config.hash), shares);
    let rule = |at: usize| {
        let rule = config.rules.get(at);
        let sticky =
            rule.is_some_and(|rule| matches!(&rule.decision, Decision::Policy(policy) if policy.sticky.is_some()));
        (rule.and_then(|rule| rule.name.clone()).unwrap_or_else(|| (at + 1).to_string()), sticky)
    };
    let surplus = |id: &&u32| {
        let (seen, expected) = cell(id);
        seen as f64 - expected
    };
    let most = ids.iter().max_by(|one, other| surplus(one).total_cmp(&surplus(other)));
    let causes = match (verdict, most) {
        (Verdict::Skewed, Some(id)) => sample.causes(*id, shares, &Names { uplink: &name, rule: &rule }, &inputs),
        _ => Vec::new(),
    };
    Report {
        verdict,
        seconds: period.length.as_secs(),
        connections: total,
        chi_square,
        probability,
        uplinks: ids.iter().map(share).collect(),
        inputs,
        causes,
        notes: notes(period, sample, &name),
    }
}

/// What happened in the period, and what is not in it.
fn notes(period: &Period, sample: &Sample, name: &dyn Fn(u32) -> String) -> Vec<String> {
    const CHANGES: usize = 5;
    let words = |shares: &Shares| {
        let of = |shares: &BTreeMap<u32, f64>| {
            let each: Vec<String> =
                shares.iter().map(|(id, share)| format!("{} {:.1} %", name(*id), share * 100.0)).collect();
            if each.is_empty() { "none".to_owned() } else { each.join(", ") }
        };
        let [v4, v6] = shares;
        if v4 == v6 { of(v4) } else { format!("{} of IPv4 and {} of IPv6", of(v4), of(v6)) }
    };
    let changes: Vec<String> = period
        .parts
        .windows(2)
        .map(|parts| {
            let ago = humantime::format_duration(Duration::from_secs(parts[0].ended.as_secs()));
            format!(
                "{ago} ago the shares changed from {} to {}: `wanted` follows",
                words(&parts[0].shares),
                words(&parts[1].shares)
            )
        })
        .collect();
    let mut notes = Vec::new();
    if let Some(more @ 1..) = changes.len().checked_sub(CHANGES) {
        notes.push(format!("the shares changed {more} times more before"));
    }
    notes.extend(changes.into_iter().rev().take(CHANGES).rev());
    let left = [(sample.inbound, "that began outside"), (sample.unmarked, "that main sends")];
    let left: Vec<String> =
        left.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if !left.is_empty() {
        notes.push(format!("not counted, of the live connections: {}", left.join(", ")));
    }
    notes
}
