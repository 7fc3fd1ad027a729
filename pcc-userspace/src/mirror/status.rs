//! One snapshot of a running RouterOS configuration, and its renderings.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use pcc_ebpf::abi::Field;
use serde::{Deserialize, Serialize};

use super::instance::Instance;
use super::names::Numbers;
use super::routes::{self, WatchKey};
use crate::host::PROTOCOL;
use crate::metrics::counting::Counted;
use crate::status::{age_line, bytes, counters};

/// A running configuration at one moment. This is what `pcc status --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the controller.
    pub version: String,
    /// Name of the instance.
    pub instance: String,
    /// Process id of the controller.
    pub pid: u32,
    /// The script.
    pub script: String,
    /// RouterOS generation.
    pub dialect: String,
    /// Interfaces by name.
    pub interfaces: Vec<InterfaceStatus>,
    /// What is probed.
    pub watches: Vec<WatchStatus>,
    /// Active routes of the script, as `ip route` prints them, with the script's name of the table.
    pub routes: Vec<RouteStatus>,
    /// Connections by connection mark; those without one under the empty name.
    pub connections: BTreeMap<String, u64>,
    /// Seconds since they were counted; counting many takes long.
    #[serde(default)]
    pub connections_age_seconds: f64,
    /// Counters of the data path since it was loaded.
    pub counters: Vec<(String, u64)>,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// RouterOS's name.
    pub interface: String,
    /// The device.
    pub device: String,
    /// Packets that left by it.
    #[serde(default)]
    pub packets_out: u64,
    /// Packets that came in.
    #[serde(default)]
    pub packets_in: u64,
    /// Bytes that left by it.
    pub bytes_out: u64,
    /// Bytes that came in.
    pub bytes_in: u64,
}

/// One probed host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchStatus {
    /// What is probed and how.
    pub target: String,
    /// `up`, `unknown`, or `down: ` and the reason.
    pub state: String,
}

/// One active route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteStatus {
    /// The script's name of the table.
    pub table: String,
    /// The route.
    pub route: String,
}

impl Status {
    /// Reads everything from `instance` but connections, which are [counted](Self::with_connections) beside the loop. `state` says
    /// what is known about a watch.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub fn read(instance: &Instance, state: impl Fn(&WatchKey) -> Option<String>) -> Result<Self> {
        let mut interfaces = Vec::new();
        for device in instance.blueprint.devices.iter() {
            let traffic = instance.plane.traffic(device.number)?;
            interfaces.push(InterfaceStatus {
                interface: device.interface.clone(),
                device: device.linux.clone(),
                packets_out: traffic.packets_out,
                packets_in: traffic.packets_in,
                bytes_out: traffic.bytes_out,
                bytes_in: traffic.bytes_in,
            });
        }
        let watches = instance.watched().into_iter().map(|watch| WatchStatus {
            target: watch.key.to_string(),
            state: state(&watch.key).unwrap_or_else(|| "unknown".to_owned()),
        });
        let base = instance.config.base.table_base;
        let routes = instance.blueprint.routes(&instance.observed, &instance.down);
        let routes = routes.iter().filter_map(|route| {
            let table = match route.table.checked_sub(base)? {
                routes::MAIN => "main",
                number => instance.blueprint.names.routing.name(number)?,
            };
            (route.protocol == PROTOCOL).then(|| RouteStatus { table: table.to_owned(), route: route.to_string() })
        });
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: instance.config.base.instance.clone(),
            pid: std::process::id(),
            script: instance.config.name.clone(),
            dialect: instance.config.dialect.to_string(),
            interfaces,
            watches: watches.collect(),
            routes: routes.collect(),
            connections: BTreeMap::new(),
            connections_age_seconds: 0.0,
            counters: counters(&instance.plane)?,
        })
    }

    /// With connections as they were `counted`, by the name that `names` has for the connection mark in its `field`.
    #[must_use]
    pub fn with_connections(mut self, counted: &Counted, field: Field, names: &Numbers) -> Self {
        for (mark, count) in &counted.by_mark {
            let name = names.name(field.get(*mark)).unwrap_or_default();
            *self.connections.entry(name.to_owned()).or_default() += count;
        }
        self.connections_age_seconds = counted.age_seconds();
        self
    }

    /// The table that `pcc status` prints.
    pub fn table(&self) -> String {
        let Self { instance, pid, version, script, dialect, .. } = self;
        let mut text = format!("instance {instance}, pid {pid}, pcc {version}, {script} (RouterOS {dialect})\n\n");
        let _ = writeln!(text, "{:<16} {:<12} {:>10} {:>10}", "interface", "device", "out", "in");
        for InterfaceStatus { interface, device, bytes_out, bytes_in, .. } in &self.interfaces {
            let _ = writeln!(text, "{interface:<16} {device:<12} {:>10} {:>10}", bytes(*bytes_out), bytes(*bytes_in));
        }
        let _ = writeln!(text, "\n{:<24} {:>11}", "connection mark", "connections");
        for (mark, count) in &self.connections {
            let _ = writeln!(text, "{:<24} {count:>11}", if mark.is_empty() { "no-mark" } else { mark });
        }
        text += &age_line(self.connections_age_seconds);
        let _ = writeln!(text, "\n{:<16} route", "table");
        for RouteStatus { table, route } in &self.routes {
            let _ = writeln!(text, "{table:<16} {route}");
        }
        if !self.watches.is_empty() {
            let _ = writeln!(text, "\n{:<40} state", "watched");
        }
        for WatchStatus { target, state } in &self.watches {
            let _ = writeln!(text, "{target:<40} {state}");
        }
        text + &crate::status::counter_line(&self.counters)
    }
}
