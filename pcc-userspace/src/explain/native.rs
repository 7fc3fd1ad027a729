//! What becomes of a packet of a native configuration: rules, hash, bucket, uplink.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::Result;
use ipnet::IpNet;
use pcc_ebpf::abi::{BUCKETS, Device, FlowKey, program};
use pcc_ebpf::classify::{HashFields, hash};
use pcc_ebpf::flow::has_ports;
use serde::Serialize;

use super::{Asked, ETHERNET, packet, verdict};
use crate::config::rule::{Condition, Decision, Members, Policy, Rule};
use crate::config::{Config, Paths};
use crate::dataplane::DataPlane;
use crate::host::{Family, Host, Link, Observed, RouteKind, TABLE_MAIN};
use crate::instance::weights;
use crate::plan::Standing;
use crate::policies::Table;
use crate::problem::Problem;
use crate::topology::{self, Topology, Uplink};
use crate::{names, plan, policies, rules, start, survey};

/// The answer. This is what `pcc explain --json` prints.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Explanation {
    /// Why nothing was balanced: the route of main, the bypass list, a rule; empty if something was.
    pub left: String,
    /// Rules in the order in which they were tried.
    pub rules: Vec<Tried>,
    /// The uplinks to choose from, with their weights; empty for the default of all.
    pub group: String,
    /// RouterOS's word for what is hashed.
    pub hash_fields: String,
    /// The hash.
    pub hash: u32,
    /// The bucket that it selects.
    pub bucket: u32,
    /// The uplink; empty if main decides.
    pub uplink: String,
    /// Its next hop; empty for a point-to-point device.
    pub gateway: String,
    /// Its routing table, 0 if main decides.
    pub table: u32,
    /// Our bits of the packet mark.
    pub mark: u32,
    /// The mark that the program in the kernel gives the same packet; `None` if it could not be asked.
    pub confirmed: Option<u32>,
}

/// One rule that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Tried {
    /// Its number, from 1.
    pub rule: usize,
    /// Its name, if it has one.
    pub name: String,
    /// It matched.
    pub matched: bool,
    /// The key that failed.
    pub failed: String,
}

/// Explains what `config` does with the first packet of a connection on the host `observed`. The bucket tables are those of
/// the running data path, if there is one, else those of a start.
///
/// # Errors
/// An interface or an uplink that there is not, or addresses of two families.
pub fn explain(
    config: &Config,
    paths: &Paths,
    ids: &BTreeMap<String, u32>,
    host: &dyn Host,
    observed: &Observed,
    asked: &Asked,
) -> Result<Explanation> {
    let frame = packet(asked, false)?;
    let topology = topology::resolve(config, ids, observed);
    let standing = Standing::sound(survey::possible(&topology));
    let Some((lan, link)) = topology.lans.iter().find(|(_, link)| link.name == asked.interface) else {
        let known: Vec<&str> = config.lans.iter().map(String::as_str).collect();
        let hint = names::hint(&asked.interface, &known, &format!("there are: {}", known.join(", ")));
        return Err(Problem::new(format!("`{}` is no LAN device", asked.interface), hint).into());
    };
    if let Some(name) = &asked.connection_mark {
        let uplink = topology.uplink(name).ok_or_else(|| topology.no_uplink(name))?;
        return Ok(Explanation { left: "the connection keeps its uplink".to_owned(), ..leave(config, uplink, asked) });
    }
    if let Some(route) = routed_by_main(observed, asked) {
        return Ok(Explanation { left: format!("main has a route: {route}"), ..Explanation::default() });
    }
    let plane = twin(config, paths, host, &topology, &standing, link, *lan);
    let plane = plane.inspect_err(|error| tracing::warn!("the program in the kernel was not asked: {error:#}")).ok();
    let seed = match &plane {
        Some(plane) => plane.settings()?.seed,
        None => config.seed.map_or_else(|| start::boot_seed(host), Ok)?,
    };
    let policies = rules::policies(&config.rules, config.hash);
    let tables: Vec<Table> = match &plane {
        Some(plane) => (0..).zip(&policies).map(|(number, _)| plane.table(number)).collect::<Result<_>>()?,
        None => policies::tables(&policies, &topology, &standing, &weights(&topology), &|_| None),
    };
    let mut explanation = choose(config, &topology, *lan, &policies, &tables, seed, asked);
    if let Some(mut plane) = plane {
        explanation.confirmed = Some(plane.test(program::LAN_INGRESS, link.index, &frame)? & config.marks.id_mask());
    }
    Ok(explanation)
}

/// The program with a flow cache and counters of its own, and the maps of the running instance, or such as a start makes.
fn twin(
    config: &Config,
    paths: &Paths,
    host: &dyn Host,
    topology: &Topology,
    standing: &Standing,
    link: &Link,
    lan: usize,
) -> Result<DataPlane> {
    if let Some(twin) = DataPlane::twin(&paths.pins)? {
        return Ok(twin);
    }
    let mut plane = DataPlane::private()?;
    start::fill(&mut plane, config, host, topology, standing, &weights(topology))?;
    let number = rules::device_number(lan);
    plane.set_device(link.index, Device { uplink: 0, header_length: ETHERNET, number, ..Device::default() })?;
    Ok(plane)
}

/// The route of main that comes before all marks.
fn routed_by_main(observed: &Observed, asked: &Asked) -> Option<String> {
    let destination = asked.destination.ip();
    if observed.addresses.iter().any(|address| address.network.addr() == destination) {
        return Some("an address of this host".to_owned());
    }
    let routes = observed.routes.iter().filter(|route| {
        route.table == TABLE_MAIN
            && route.kind == RouteKind::Unicast
            && route.destination.prefix_len() > 0
            && route.destination.contains(&destination)
    });
    routes.max_by_key(|route| route.destination.prefix_len()).map(ToString::to_string)
}

/// Pure: rules, hash, bucket, uplink.
fn choose(
    config: &Config,
    topology: &Topology,
    lan: usize,
    policies: &[Policy],
    tables: &[Table],
    seed: u32,
    asked: &Asked,
) -> Explanation {
    let mut key = FlowKey::new(asked.source, asked.destination, asked.protocol);
    if !has_ports(key.protocol) {
        (key.source_port, key.destination_port) = (0, 0);
    }
    let mut explanation = Explanation::default();
    if !key.is_routable() {
        return Explanation { left: "no router forwards such a destination".to_owned(), ..explanation };
    }
    if let Some(prefix) = config.bypass.iter().find(|prefix| prefix.contains(&asked.destination.ip())) {
        return Explanation { left: format!("`{prefix}` is in the bypass list"), ..explanation };
    }
    let mut number = 0;
    for (rule, at) in config.rules.iter().zip(1..) {
        let failed = failed(rule, lan, asked.source, asked.destination, asked.protocol);
        let name = rule.name.clone().unwrap_or_default();
        let matched = failed.is_none();
        explanation.rules.push(Tried { rule: at, name, matched, failed: failed.unwrap_or_default().to_owned() });
        if matched {
            match &rule.decision {
                Decision::Main => return Explanation { left: format!("rule {at} says so"), ..explanation },
                Decision::Policy(policy) => number = policies.iter().position(|it| it == policy).unwrap_or(0),
            }
            break;
        }
    }
    let family = Family::of(asked.destination.ip());
    let mut of = |number: usize| {
        let (policy, table) = (policies.get(number)?, tables.get(number)?);
        explanation.group = group(policy, topology);
        explanation.hash_fields = HashFields::name(policy.hash).to_owned();
        explanation.hash = hash(&key, policy.hash, seed);
        explanation.bucket = explanation.hash & (BUCKETS - 1);
        let id = *table.buckets[family as usize].get(explanation.bucket as usize)?;
        topology.uplinks.iter().find(|uplink| uplink.id == id)
    };
    // A group without a living uplink falls back to all of them.
    match of(number).or_else(|| of(0)) {
        Some(uplink) => {
            let Explanation { uplink, gateway, table, mark, .. } = leave(config, uplink, asked);
            Explanation { uplink, gateway, table, mark, ..explanation }
        }
        None => Explanation { left: "no uplink takes new connections".to_owned(), ..explanation },
    }
}

/// How a packet leaves by `uplink`.
fn leave(config: &Config, uplink: &Uplink, asked: &Asked) -> Explanation {
    let way = uplink.way(Family::of(asked.destination.ip()));
    let gateway = way.and_then(|way| way.gateway).map(|gateway| gateway.to_string());
    Explanation {
        uplink: uplink.config.name.clone(),
        gateway: gateway.unwrap_or_default(),
        table: plan::table(config, uplink.id),
        mark: config.marks.of(uplink.id),
        ..Explanation::default()
    }
}

fn group(policy: &Policy, topology: &Topology) -> String {
    let Members::Group(members) = &policy.members else { return String::new() };
    let named = members.iter().filter_map(|(index, weight)| {
        topology.uplinks.get(*index).map(|uplink| format!("{}:{weight}", uplink.config.name))
    });
    named.collect::<Vec<_>>().join(", ")
}

/// The first of `rules` that a connection from one end to the other matches, which came in by LAN device `lan`.
pub fn matching(rules: &[Rule], lan: usize, from: SocketAddr, to: SocketAddr, protocol: u8) -> Option<usize> {
    rules.iter().position(|rule| failed(rule, lan, from, to, protocol).is_none())
}

/// The first key of the rule that does not hold.
fn failed(rule: &Rule, lan: usize, from: SocketAddr, to: SocketAddr, protocol: u8) -> Option<&'static str> {
    let within = |condition: &Condition<IpNet>, address: SocketAddr| condition.holds(|net| net.contains(&address.ip()));
    let ports = has_ports(u32::from(protocol));
    let port = |condition: &Condition<std::ops::RangeInclusive<u16>>, port: u16| {
        condition.holds(|range| ports && range.contains(&port))
    };
    let held = [
        ("interface", rule.interfaces.holds(|index| *index == lan)),
        ("protocol", rule.protocols.holds(|wanted| *wanted == protocol)),
        ("source_port", port(&rule.source_ports, from.port())),
        ("destination_port", port(&rule.destination_ports, to.port())),
        ("source", within(&rule.source, from)),
        ("destination", within(&rule.destination, to)),
    ];
    held.into_iter().find(|(_, held)| !held).map(|(key, _)| key)
}

impl Explanation {
    /// What `pcc explain` prints: a line for each rule that was tried, then the way.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Tried { rule, name, matched, failed } in &self.rules {
            let name = if name.is_empty() { String::new() } else { format!(" `{name}`") };
            let verdict = if *matched { "matches".to_owned() } else { format!("not its `{failed}`") };
            let _ = writeln!(text, "rule {rule}{name}: {verdict}");
        }
        if !self.left.is_empty() {
            let _ = writeln!(text, "not balanced: {}", self.left);
        }
        if !self.hash_fields.is_empty() {
            let group = if self.group.is_empty() { "all uplinks" } else { &self.group };
            let _ = writeln!(text, "among    {group}");
            let _ = writeln!(text, "hash     {:#010x} of {}, bucket {}", self.hash, self.hash_fields, self.bucket);
        }
        if !self.uplink.is_empty() {
            let Self { uplink, gateway, table, .. } = self;
            let via = if gateway.is_empty() { String::new() } else { format!(" via {gateway}") };
            let _ = writeln!(text, "uplink   {uplink}{via}, table {table}");
        }
        let _ = writeln!(text, "mark     {:#x}: {}", self.mark, verdict(self.mark, self.confirmed));
        text
    }
}
