//! Pure: everything that follows from a configuration on a host, before anything is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use pcc_ebpf::abi::{Field, MarkFields, Settings};

use super::compile::{self, Program};
use super::names::{Devices, Names};
use super::routes::{self, Inputs, Routing, Watch, WatchKey};
use super::{Config, config, netfilter};
use crate::host::{self, Link, Observed};
use crate::plan;
use crate::problem::{Problem, Problems};
use crate::routeros::{Note, Severity, Span};
use crate::ruleset;
use crate::start::IDLE_SECONDS;

/// A configuration, compiled.
#[derive(Clone, Debug)]
pub struct Blueprint {
    /// Numbers of marks.
    pub names: Names,
    /// Where they are in both marks.
    pub fields: MarkFields,
    /// Interfaces and their devices.
    pub devices: Devices,
    /// Chain prerouting.
    pub program: Program,
    /// The transaction that makes our nftables table.
    pub table: String,
    /// What tells whether a table that stands is this one.
    pub fingerprint: String,
    /// Routes, routing rules and what they hang on.
    pub routing: Routing,
    /// What the operator should know, by place in the text.
    pub notes: Vec<Note>,
}

impl Blueprint {
    /// Compiles `config` for the host `observed`. Numbers that an earlier run gave (`names`, and `numbers` of interfaces)
    /// are kept.
    ///
    /// # Errors
    /// What cannot be mirrored, each with its place in the text.
    pub fn draw(
        config: &Config,
        names: &Names,
        numbers: &BTreeMap<String, u32>,
        observed: &Observed,
    ) -> Result<Self, Problems> {
        let model = &config.model;
        let names = Names::of(model, names);
        let fields = names.fields(config.mark_mask).map_err(|bits| too_few_bits(config, &names, bits))?;
        let devices = Devices::of(model, &mapping(config, observed), numbers);
        refuse_unmapped(config, &devices, observed)?;
        refuse_shared(&devices)?;
        let linux: BTreeMap<String, String> =
            devices.iter().map(|device| (device.interface.clone(), device.linux.clone())).collect();
        let (program, mut notes) = compile::compile(model, &names, &devices);
        let inputs = Inputs {
            model,
            dialect: config.dialect,
            devices: &linux,
            tables: names.routing.map(),
            table_base: config.base.table_base,
            check_interval: config.check_interval,
            observed,
        };
        let (routing, more) = routes::compile(&inputs);
        notes.extend(more);
        let name = ruleset::table_name(&config.base.instance);
        let (body, more) = netfilter::table(&name, model, &names, &fields, &devices, config.dialect, PLACEHOLDER);
        notes.extend(more);
        let fingerprint = format!("pcc mirror {:016x}", digest(&body));
        let table = body.replacen(PLACEHOLDER, &fingerprint, 1);
        notes.sort_by(|one, other| (one.span, other.severity, one.id).cmp(&(other.span, one.severity, other.id)));
        notes.dedup();
        let errors = notes.iter().filter(|note| note.severity == Severity::Error);
        let problems: Vec<Problem> = errors.map(|note| refusal(config, note, observed)).collect();
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        Ok(Self { names, fields, devices, program, table, fingerprint, routing, notes })
    }

    /// What marks of another layout differ in: the mask, and the largest connection, routing and packet mark.
    pub const fn layout(&self) -> [u32; 4] {
        let MarkFields { connection, routing, packet, .. } = self.fields;
        [self.fields.mask(), connection.most, routing.most, packet.most]
    }

    /// What the programs must know, beside what they already do.
    pub fn settings(&self, seed: u32, present: Settings) -> Settings {
        Settings {
            mark_mask: self.fields.mask(),
            mark_ours: self.fields.ours(),
            mark_missed: self.fields.tentative(),
            connection: self.fields.connection,
            routing: self.fields.routing,
            packet: self.fields.packet,
            seed,
            idle_seconds: IDLE_SECONDS,
            ..present
        }
    }

    /// The members of every set on the host `observed`.
    pub fn sets(&self, config: &Config, observed: &Observed) -> Vec<(u32, Vec<IpNet>)> {
        self.program.members(&config.model, &local(observed), &broadcast(observed))
    }

    /// The routes that the host must have now.
    pub fn routes(&self, observed: &Observed, down: &BTreeSet<WatchKey>) -> Vec<host::Route> {
        routes::active(&self.routing, observed, &|key| down.contains(key))
    }

    /// The routing rules that the host must have.
    pub fn rules(&self, config: &Config) -> Vec<host::Rule> {
        let ours = self.fields.ours();
        let routing: Field = self.fields.routing;
        routes::rules(&self.routing, config.base.priority_base, &|table| {
            (ours | routing.of(table), ours | routing.mask())
        })
    }

    /// The changes that give the host these routes and rules.
    pub fn reconcile(&self, config: &Config, observed: &Observed, down: &BTreeSet<WatchKey>) -> Vec<host::Change> {
        let (table_base, priority_base) = (config.base.table_base, config.base.priority_base);
        plan::reconcile(&self.routes(observed, down), &self.rules(config), table_base, priority_base, observed)
    }

    /// What must be probed now.
    pub fn watched(&self, observed: &Observed, down: &BTreeSet<WatchKey>) -> Vec<Watch> {
        routes::watched(&self.routing, observed, &|key| down.contains(key))
    }

    /// The devices that exist, with their numbers.
    pub fn links<'a>(&'a self, observed: &'a Observed) -> impl Iterator<Item = (&'a Link, u32)> {
        self.devices.iter().filter_map(|device| Some((observed.link(&device.linux)?, device.number)))
    }
}

const PLACEHOLDER: &str = "pcc mirror";

/// The given mapping, and every interface that has the name of a device of the host.
fn mapping(config: &Config, observed: &Observed) -> BTreeMap<String, String> {
    let mut map: BTreeMap<String, String> = config
        .model
        .interfaces
        .iter()
        .map(|interface| interface.name.as_str())
        .chain(config.model.addresses.iter().map(|address| address.interface.as_str()))
        .chain(config.model.members.iter().map(|member| member.interface.as_str()))
        .chain(config.model.clients.iter().map(|client| client.interface.as_str()))
        .chain(config.interfaces().into_keys())
        .chain(config.gateways())
        // A device that was given to an interface is that one, whatever it is called.
        .filter(|name| observed.link(name).is_some() && !config.map.values().any(|device| device == name))
        .map(|name| (name.to_owned(), name.to_owned()))
        .collect();
    for (interface, device) in &config.map {
        map.insert(interface.clone(), device.clone());
    }
    map
}

/// Every interface that rules name needs a device.
fn refuse_unmapped(config: &Config, devices: &Devices, observed: &Observed) -> Result<(), Problems> {
    let unmapped = config.interfaces().into_iter().filter(|(name, _)| devices.get(name).is_none());
    let refuse = |(name, span): (&str, Span)| Problem {
        message: format!("{}:{}:{}: interface `{name}` has no Linux device", config.name, span.line, span.column),
        hint: mapping_hint(name, observed),
    };
    let problems: Vec<Problem> = unmapped.map(refuse).collect();
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

/// Packets of one device cannot come in by two interfaces: rules for one of them would never match.
fn refuse_shared(devices: &Devices) -> Result<(), Problems> {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    let mut problems = Vec::new();
    for device in devices.iter() {
        if let Some(owner) = owners.insert(&device.linux, &device.interface) {
            let message =
                format!("device `{}` is given to two interfaces, `{owner}` and `{}`", device.linux, device.interface);
            problems.push(Problem::new(
                message,
                "`--map` gives each of them a device of its own, or only one of them this one",
            ));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

/// An error note as a problem.
fn refusal(config: &Config, note: &Note, observed: &Observed) -> Problem {
    let problem = config::problem(&config.name, note);
    if note.id != routes::UNMAPPED {
        return problem;
    }
    Problem { hint: mapping_hint("INTERFACE", observed), ..problem }
}

fn mapping_hint(interface: &str, observed: &Observed) -> String {
    format!("`--map {interface}=DEVICE`; this host has: {}", observed.device_names())
}

fn too_few_bits(config: &Config, names: &Names, bits: u32) -> Problems {
    let count = |numbers: &super::names::Numbers| numbers.iter().count();
    let (connections, tables) = (count(&names.connection), count(&names.routing));
    let marks = format!("{connections} connection marks and {tables} routing marks take {bits} bits");
    let problem = match config.mark_mask {
        Some(mask) => Problem::new(
            format!("`--mark-mask {mask:#x}` is too narrow or not in one piece: {marks}"),
            format!("`--mark-mask {:#x}`, or any {bits} adjacent bits", (1_u64 << bits) - 1),
        ),
        None => Problem::new(format!("{marks}, more than a mark has"), "use fewer marks"),
    };
    Problems(vec![problem])
}

/// The host's own addresses, loopback included.
fn local(observed: &Observed) -> Vec<IpNet> {
    let own = observed.addresses.iter().map(|address| IpNet::from(address.network.addr()));
    let mut local: Vec<IpNet> = own.collect();
    local.push(IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8));
    local
}

/// The broadcast addresses of the networks that it is connected to.
fn broadcast(observed: &Observed) -> Vec<IpAddr> {
    let networks = observed.addresses.iter().filter_map(|address| match address.network {
        IpNet::V4(network) if network.prefix_len() < 31 => Some(IpAddr::V4(network.broadcast())),
        _ => None,
    });
    networks.chain([IpAddr::V4(Ipv4Addr::BROADCAST)]).collect()
}

/// A number that differs where the text does (FNV-1a).
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
