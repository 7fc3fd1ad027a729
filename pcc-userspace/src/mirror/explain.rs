//! `pcc explain`: what becomes of a packet, and which rule made it so.

use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use pcc_ebpf::abi::{Device, Flow, Settings, knowledge, program};
use serde::Serialize;

use super::Config;
use super::blueprint::Blueprint;
use super::routes;
use super::trace::{Compiled, Question, Trace, Visit};
use crate::dataplane::DataPlane;
use crate::explain::{Asked, ETHERNET, coarse_seconds, details, packet, verdict};
use crate::host::{Link, Observed, Route, TABLE_MAIN};
use crate::names;
use crate::routeros::model::item::Property;
use crate::routeros::{Span, Value};

/// The answer. This is what `pcc explain --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Rules in the order in which they were tried.
    pub rules: Vec<Tried>,
    /// Connection mark at the end; empty for none.
    pub connection_mark: String,
    /// Packet mark at the end.
    pub packet_mark: String,
    /// Routing mark at the end.
    pub routing_mark: String,
    /// Our bits of the Linux packet mark.
    pub mark: u32,
    /// The table that has the route: `main` of the script, `host` for the host's own, or a routing mark.
    pub table: String,
    /// The route, as `ip route` prints it; empty if there is none.
    pub route: String,
    /// The interface that the packet leaves by; empty if it stays here or goes nowhere.
    pub uplink: String,
    /// The mark that the program in the kernel gives the same packet; `None` if it could not be asked.
    pub confirmed: Option<u32>,
}

/// One rule that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Tried {
    /// Line of the script.
    pub line: u32,
    /// Its chain.
    pub chain: String,
    /// Its comment.
    pub comment: String,
    /// What it does, as written.
    pub action: String,
    /// It matched.
    pub matched: bool,
    /// The matcher that failed, as written.
    pub failed: String,
    /// Marks that it changed, as `name: before -> after`.
    pub changes: Vec<String>,
}

/// Explains what `config` does with a packet on the host `observed`, as if everything that is watched answered.
///
/// # Errors
/// An interface or a connection mark that there is not, addresses of two families, or a configuration that cannot run here.
pub fn explain(config: &Config, blueprint: &Blueprint, observed: &Observed, asked: &Asked) -> Result<Explanation> {
    let device = blueprint
        .devices
        .iter()
        .find(|device| device.interface == asked.interface || device.linux == asked.interface)
        .ok_or_else(|| {
            let known: Vec<&str> = blueprint.devices.iter().map(|device| device.interface.as_str()).collect();
            names::unknown("interface", &asked.interface, &known)
        })?;
    let link = observed.link(&device.linux).with_context(|| format!("no device `{}`", device.linux))?;
    let connection = match asked.connection_mark.as_deref() {
        None => None,
        Some("no-mark") => Some(0),
        Some(name) => Some(blueprint.names.connection.get(name).ok_or_else(|| {
            let known: Vec<&str> = blueprint.names.connection.iter().map(|(name, _)| name).collect();
            names::unknown("connection mark", name, &known)
        })?),
    };
    let packet = packet(asked, connection.is_some())?;
    let question = Question {
        device: device.number,
        source: asked.source,
        destination: asked.destination,
        protocol: asked.protocol,
        connection,
        details: details(asked.protocol, connection.is_some()),
        size: u32::try_from(packet.len()).unwrap_or(0) - ETHERNET,
    };
    let sets = blueprint.sets(config, observed);
    let program = &blueprint.program;
    let seed = match config.base.seed {
        Some(seed) => seed,
        None => crate::start::boot_seed(&crate::host::linux::Linux::open()?)?,
    };
    let present = Settings { first_step4: program.first4, first_step6: program.first6, ..Settings::default() };
    let settings = blueprint.settings(seed, present);
    let trace = Compiled { program, sets: &sets }.trace(&settings, &question);
    let confirmed = confirm(blueprint, &settings, &sets, link, &question, &packet);
    Ok(report(config, blueprint, observed, &trace, asked.destination.ip(), confirmed))
}

/// The mark that the program gives the packet, with maps of its own; `None` without the rights to load it.
fn confirm(
    blueprint: &Blueprint,
    settings: &Settings,
    sets: &[(u32, Vec<ipnet::IpNet>)],
    link: &Link,
    question: &Question,
    packet: &[u8],
) -> Option<u32> {
    let ask = || -> Result<u32> {
        let mut plane = DataPlane::private()?;
        let program = &blueprint.program;
        plane.set_settings(settings)?;
        plane.publish_rules(&program.steps, [program.first4, program.first6], sets)?;
        let number = question.device;
        plane
            .set_device(link.index, Device { uplink: number, header_length: ETHERNET, number, ..Device::default() })?;
        if let Some(connection) = question.connection {
            let mark = settings.mark_ours | settings.connection.of(connection);
            let generation = plane.settings()?.rules_generation;
            let (confirmed, last_seen) = (knowledge::CONFIRMED, coarse_seconds());
            plane.set_flow(question.headers().key, Flow { mark, uplink: 0, generation, confirmed, last_seen })?;
        }
        Ok(plane.test(program::MIRROR_INGRESS, link.index, packet)? & settings.mark_mask)
    };
    ask().inspect_err(|error| tracing::warn!("the program in the kernel was not asked: {error:#}")).ok()
}

fn report(
    config: &Config,
    blueprint: &Blueprint,
    observed: &Observed,
    trace: &Trace,
    destination: IpAddr,
    confirmed: Option<u32>,
) -> Explanation {
    let names = &blueprint.names;
    let name = |numbers: &super::names::Numbers, number| numbers.name(number).unwrap_or_default().to_owned();
    let local = blueprint_local(observed, destination);
    let found = if local { None } else { find(config, blueprint, observed, trace.end.routing, destination) };
    let (table, route) = match &found {
        Some((table, route)) => (table.clone(), route.to_string()),
        None if local => ("local".to_owned(), String::new()),
        None => (String::new(), String::new()),
    };
    let uplink = found.and_then(|(_, route)| route.next_hops.first().map(|hop| hop.device.clone())).map(|linux| {
        let device = blueprint.devices.iter().find(|device| device.linux == linux);
        device.map_or(linux.clone(), |device| device.interface.clone())
    });
    Explanation {
        rules: trace.visits.iter().filter_map(|visit| tried(config, blueprint, visit)).collect(),
        connection_mark: name(&names.connection, trace.end.connection),
        packet_mark: name(&names.packet, trace.end.packet),
        routing_mark: name(&names.routing, trace.end.routing),
        mark: trace.mark,
        table,
        route,
        uplink: uplink.unwrap_or_default(),
        confirmed,
    }
}

fn blueprint_local(observed: &Observed, destination: IpAddr) -> bool {
    observed.addresses.iter().any(|address| address.network.addr() == destination)
}

/// The route that the packet takes, with the name of its table: main's networks first, then the marked table, then the
/// script's main, then the host's.
fn find(
    config: &Config,
    blueprint: &Blueprint,
    observed: &Observed,
    routing: u32,
    destination: IpAddr,
) -> Option<(String, Route)> {
    let base = config.base.table_base;
    let ours = blueprint.routes(observed, &std::collections::BTreeSet::new());
    let longest = |routes: &[Route], table: u32, defaults: bool| {
        let fits = routes.iter().filter(|route| {
            route.table == table
                && route.destination.contains(&destination)
                && (defaults || route.destination.prefix_len() > 0)
        });
        fits.max_by_key(|route| (route.destination.prefix_len(), std::cmp::Reverse(route.metric))).cloned()
    };
    if let Some(route) = longest(&observed.routes, TABLE_MAIN, false) {
        return Some(("host".to_owned(), route));
    }
    if routing != 0
        && let Some(route) = longest(&ours, base + routing, true)
    {
        return Some((blueprint.names.routing.name(routing)?.to_owned(), route));
    }
    if let Some(route) = longest(&ours, base + routes::MAIN, true) {
        return Some(("main".to_owned(), route));
    }
    longest(&observed.routes, TABLE_MAIN, true).map(|route| ("host".to_owned(), route))
}

fn tried(config: &Config, blueprint: &Blueprint, visit: &Visit) -> Option<Tried> {
    let rule = config.model.mangle.get(visit.rule)?;
    let names = &blueprint.names;
    let changed = |label: &str, numbers: &super::names::Numbers, before: u32, after: u32| {
        let name = |number| numbers.name(number).unwrap_or("none").to_owned();
        (before != after).then(|| format!("{label}: {} -> {}", name(before), name(after)))
    };
    let (before, after) = (&visit.before, &visit.after);
    let changes = [
        changed("connection mark", &names.connection, before.connection, after.connection),
        changed("packet mark", &names.packet, before.packet, after.packet),
        changed("routing mark", &names.routing, before.routing, after.routing),
    ];
    let at = |span: Span| rule.item.properties.iter().find(|property| property.span == span).map(written);
    let failed = visit.failed.and_then(|matcher| rule.matchers.get(matcher)).and_then(|matcher| at(matcher.span));
    let action: Vec<String> = rule
        .item
        .properties
        .iter()
        .filter(|property| {
            ["action", "jump-target", "passthrough"].contains(&property.name.as_str())
                || property.name.starts_with("new-")
        })
        .map(written)
        .collect();
    Some(Tried {
        line: rule.item.span.line,
        chain: rule.chain.clone(),
        comment: rule.item.text("comment").unwrap_or_default().to_owned(),
        action: if action.is_empty() { "action=accept".to_owned() } else { action.join(" ") },
        matched: visit.failed.is_none(),
        failed: failed.unwrap_or_default(),
        changes: changes.into_iter().flatten().collect(),
    })
}

/// `name=value` as in the script.
fn written(property: &Property) -> String {
    let value = match &property.value {
        Value::Text(text) => text.as_str(),
        Value::Unset | Value::Missing | Value::Unknown(_) => "",
    };
    format!("{}={}{value}", property.name, if property.negated { "!" } else { "" })
}

impl Explanation {
    /// What `pcc explain` prints: a line for each rule that was tried, then the verdict.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Tried { line, chain, comment, action, matched, failed, changes } in &self.rules {
            let verdict = if *matched { "matches".to_owned() } else { format!("not {failed}") };
            let _ = write!(text, "line {line:<4} {chain:<12} {action:<60} {verdict}");
            if !changes.is_empty() {
                let _ = write!(text, " ({})", changes.join(", "));
            }
            if !comment.is_empty() {
                let _ = write!(text, "  # {comment}");
            }
            text.push('\n');
        }
        let named = |name: &str| if name.is_empty() { "none".to_owned() } else { format!("`{name}`") };
        let Self { connection_mark, packet_mark, routing_mark, mark, table, route, uplink, confirmed, .. } = self;
        let _ = writeln!(text, "\nconnection mark  {}", named(connection_mark));
        let _ = writeln!(text, "packet mark      {}", named(packet_mark));
        let _ = writeln!(text, "routing mark     {}", named(routing_mark));
        let _ = writeln!(text, "table            {}", named(table));
        let _ = writeln!(text, "route            {}", if route.is_empty() { "none" } else { route });
        let _ = writeln!(text, "uplink           {}", named(uplink));
        let _ = writeln!(text, "packet mark bits {mark:#x}: {}", verdict(*mark, *confirmed));
        text
    }
}
