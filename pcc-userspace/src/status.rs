//! One snapshot of a running instance, and its renderings.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use pcc_ebpf::abi::MarkLayout;
use serde::{Deserialize, Serialize};

use crate::controller::Diagnosis;
use crate::dataplane::DataPlane;
use crate::host::Family;
use crate::instance::Instance;
use crate::metrics::counting::Counted;

pub use fast_path::FastPathStatus;

mod fast_path;
pub mod rule;

/// A running instance at one moment. This is what `pcc status --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the controller.
    pub version: String,
    /// Name of the instance.
    pub instance: String,
    /// Process id of the controller.
    pub pid: u32,
    /// The fields that are hashed.
    pub hash: String,
    /// Shortcuts of established connections.
    pub fast_path: FastPathStatus,
    /// Uplinks in the order of the configuration.
    pub uplinks: Vec<UplinkStatus>,
    /// Rules in the order of the configuration.
    pub rules: Vec<rule::RuleStatus>,
    /// Seconds since the `connections` of uplinks were counted; counting many takes long.
    #[serde(default)]
    pub connections_age_seconds: f64,
    /// Counters of the data path since it was loaded.
    pub counters: Vec<(String, u64)>,
}

/// One uplink at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UplinkStatus {
    /// Name.
    pub name: String,
    /// Device.
    pub device: String,
    /// Id in marks and maps.
    pub id: u32,
    /// Weight in force.
    pub weight: u32,
    /// IPv4, if it has that.
    pub ipv4: Option<FamilyStatus>,
    /// IPv6, if it has that.
    pub ipv6: Option<FamilyStatus>,
    /// Share of all balanced connections that began on it since the data path was loaded, 0 to 1.
    pub share_seen: f64,
    /// Balanced connections that began on it since the data path was loaded.
    pub connections_begun: u64,
    /// Connections that conntrack holds for it now, inbound ones and the router's own included.
    pub connections: u64,
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
    /// Packets, of both directions, that took a shortcut by tc.
    pub shortcuts_tc: u64,
    /// Packets that took one by XDP.
    pub shortcuts_xdp: u64,
}

/// One family of an uplink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FamilyStatus {
    /// Takes new connections.
    pub live: bool,
    /// `up`, `unknown`, `admin-down`, or `degraded: ` or `down: ` and the reason.
    pub state: String,
    /// New connections are withheld, because those of late were not answered.
    pub suspended: bool,
    /// It is drained by hand: it gets no new connections.
    #[serde(default)]
    pub draining: bool,
    /// Lost probes of the best target, in percent of the last ones; `None` without target.
    pub loss: Option<u32>,
    /// Mean round-trip time of its last probes, in milliseconds.
    pub latency_ms: Option<f64>,
    /// Mean difference of one round-trip time to the next, in milliseconds.
    pub jitter_ms: Option<f64>,
    /// Next hop.
    pub gateway: Option<String>,
    /// Share of new connections that it is given, 0 to 1.
    pub share_wanted: f64,
    /// How often it went down since the controller started.
    #[serde(default)]
    pub fail_overs: u64,
}

impl Status {
    /// Reads everything from `instance` but how many connections there are, which are [counted](Self::with_connections) beside the
    /// loop. `health` says what is known of an uplink (by id) in a family.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub fn read(instance: &Instance, health: impl Fn(u32, Family) -> Option<Diagnosis>) -> Result<Self> {
        Ok(Self { rules: rule::read(instance)?, ..Self::brief(instance, health)? })
    }

    /// The same without rules.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub fn brief(instance: &Instance, health: impl Fn(u32, Family) -> Option<Diagnosis>) -> Result<Self> {
        let traffic: Vec<_> =
            instance.topology.uplinks.iter().map(|uplink| instance.plane.traffic(uplink.id)).collect::<Result<_>>()?;
        let begun: u64 = traffic.iter().map(|traffic| traffic.connections).sum();
        let mut uplinks = Vec::new();
        for (uplink, traffic) in instance.topology.uplinks.iter().zip(traffic) {
            let shares = instance.plane.shares().each_ref().map(|of| of.get(&uplink.id).copied().unwrap_or(0));
            let family = |family: Family, buckets: u32| {
                let known = health(uplink.id, family);
                let statistics = known.as_ref().and_then(|known| known.statistics);
                let milliseconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64() * 1000.0);
                uplink.way(family).map(|way| FamilyStatus {
                    live: instance.standing.taking.has(family, uplink.id),
                    state: known.as_ref().map_or_else(|| "no next hop".to_owned(), |known| known.state.clone()),
                    suspended: known.as_ref().is_some_and(|known| known.suspended),
                    draining: known.as_ref().is_some_and(|known| known.draining),
                    loss: statistics.map(|statistics| statistics.loss),
                    latency_ms: milliseconds(statistics.and_then(|statistics| statistics.latency)),
                    jitter_ms: milliseconds(statistics.and_then(|statistics| statistics.jitter)),
                    gateway: way.gateway.map(|gateway| gateway.to_string()),
                    share_wanted: f64::from(buckets) / f64::from(pcc_ebpf::abi::BUCKETS),
                    fail_overs: known.as_ref().map_or(0, |known| known.fail_overs),
                })
            };
            uplinks.push(UplinkStatus {
                name: uplink.config.name.clone(),
                device: uplink.config.device.clone(),
                id: uplink.id,
                weight: instance.weights.get(&uplink.id).copied().unwrap_or(0),
                ipv4: family(Family::V4, shares[0]),
                ipv6: family(Family::V6, shares[1]),
                share_seen: if begun == 0 { 0.0 } else { traffic.connections as f64 / begun as f64 },
                connections_begun: traffic.connections,
                connections: 0,
                packets_out: traffic.packets_out,
                packets_in: traffic.packets_in,
                bytes_out: traffic.bytes_out,
                bytes_in: traffic.bytes_in,
                shortcuts_tc: traffic.shortcuts_tc,
                shortcuts_xdp: traffic.shortcuts_xdp,
            });
        }
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: instance.config.instance.clone(),
            pid: std::process::id(),
            hash: instance.config.hash.name().to_owned(),
            fast_path: FastPathStatus::read(instance),
            uplinks,
            rules: Vec::new(),
            connections_age_seconds: 0.0,
            counters: counters(&instance.plane)?,
        })
    }

    /// With connections as they were `counted`; `layout` says whose a mark is.
    #[must_use]
    pub fn with_connections(mut self, counted: &Counted, layout: MarkLayout) -> Self {
        for uplink in &mut self.uplinks {
            let of = |(mark, count): (&u32, &u64)| (layout.uplink(*mark) == Some(uplink.id)).then_some(*count);
            uplink.connections = counted.by_mark.iter().filter_map(of).sum();
        }
        self.connections_age_seconds = counted.age_seconds();
        self
    }

    /// The families that uplinks had and lost are there too, as `health` knows them.
    #[must_use]
    pub fn with_lost(mut self, health: impl Fn(u32, Family) -> Option<Diagnosis>) -> Self {
        for uplink in &mut self.uplinks {
            for (family, status) in [(Family::V4, &mut uplink.ipv4), (Family::V6, &mut uplink.ipv6)] {
                if status.is_none() {
                    *status = health(uplink.id, family).map(|known| FamilyStatus::lost(&known));
                }
            }
        }
        self
    }

    /// The table that `pcc status` prints.
    pub fn table(&self) -> String {
        let mut text = format!(
            "instance {}, pid {}, pcc {}, hash {}\n\n{:<12} {:<10} {:>6}  {:<8} {:>7} {:>7} {:>10} {:>11} {:>9} {:>9}\n",
            self.instance,
            self.pid,
            self.version,
            self.hash,
            "uplink",
            "device",
            "weight",
            "family",
            "wanted",
            "seen",
            "begun",
            "connections",
            "out",
            "in"
        );
        for uplink in &self.uplinks {
            let mut first = true;
            for (name, family) in [("IPv4", &uplink.ipv4), ("IPv6", &uplink.ipv6)] {
                let Some(family) = family else { continue };
                let draining = if family.draining { ", draining" } else { "" };
                let gateway = family.gateway.as_deref().map(|gateway| format!(" via {gateway}")).unwrap_or_default();
                if first {
                    let _ = writeln!(
                        text,
                        "{:<12} {:<10} {:>6}  {name:<8} {:>7} {:>7} {:>10} {:>11} {:>9} {:>9}  {}{draining}{gateway}",
                        uplink.name,
                        uplink.device,
                        uplink.weight,
                        percent(family.share_wanted),
                        percent(uplink.share_seen),
                        uplink.connections_begun,
                        uplink.connections,
                        bytes(uplink.bytes_out),
                        bytes(uplink.bytes_in),
                        family.state
                    );
                } else {
                    let _ = writeln!(
                        text,
                        "{:<12} {:<10} {:>6}  {name:<8} {:>7} {:>7} {:>10} {:>11} {:>9} {:>9}  {}{draining}{gateway}",
                        "",
                        "",
                        "",
                        percent(family.share_wanted),
                        "",
                        "",
                        "",
                        "",
                        "",
                        family.state
                    );
                }
                first = false;
            }
            if first {
                let _ = writeln!(
                    text,
                    "{:<12} {:<10} {:>6}  waits for an address and a next hop",
                    uplink.name, uplink.device, uplink.weight
                );
            }
        }
        text += &age_line(self.connections_age_seconds);
        text + &rule::table(&self.rules) + &fast_path::lines(self) + &counter_line(&self.counters)
    }
}

impl FamilyStatus {
    /// Without address or next hop.
    fn lost(known: &Diagnosis) -> Self {
        Self {
            live: false,
            state: known.state.clone(),
            suspended: false,
            draining: known.draining,
            loss: None,
            latency_ms: None,
            jitter_ms: None,
            gateway: None,
            share_wanted: 0.0,
            fail_overs: known.fail_overs,
        }
    }
}

/// Counters of the data path by name.
pub fn counters(plane: &DataPlane) -> Result<Vec<(String, u64)>> {
    Ok(plane.counters()?.into_iter().map(|(counter, value)| (counter.name().to_owned(), value)).collect())
}

/// The line of those counters that are not 0, behind an empty one.
pub fn counter_line(counters: &[(String, u64)]) -> String {
    let counters: Vec<String> =
        counters.iter().filter(|(_, value)| *value != 0).map(|(name, value)| format!("{name} {value}")).collect();
    format!("\npackets: {}\n", if counters.is_empty() { "none yet".to_owned() } else { counters.join(", ") })
}

/// The line that says how old a count of connections is, if that is worth one.
pub fn age_line(seconds: f64) -> String {
    if seconds < 1.0 { String::new() } else { format!("connections were counted {seconds:.0} s ago\n") }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Decimal units, as on the uplink's bill.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if value < 1000.0 || unit == "TB" {
            return if unit == "B" { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_count_is_told() {
        assert_eq!(age_line(0.99), "");
        assert_eq!(age_line(12.3), "connections were counted 12 s ago\n");
    }

    #[test]
    fn bytes_have_decimal_units() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500_000), "1.5 MB");
        assert_eq!(bytes(u64::MAX), "18446744.1 TB");
    }
}
