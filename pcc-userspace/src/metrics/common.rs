//! What every kind of instance tells.

use std::time::{SystemTime, UNIX_EPOCH};

use super::Surroundings;
use super::text::{Exposition, Family, Kind, Sample, Value};

/// A gauge without unit.
pub(super) const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { kind: Kind::Gauge, name, unit: "", help }
}

/// A counter without unit.
pub(super) const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { kind: Kind::Counter, name, unit: "", help }
}

/// Labels that say all.
pub(super) const fn info(name: &'static str, help: &'static str) -> Family {
    Family { kind: Kind::Info, name, unit: "", help }
}

impl Family {
    /// The same in a unit, with which its name ends.
    pub(super) const fn of(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }
}

/// The only sample of a family.
pub(super) fn one<'a>(value: impl Into<Value>) -> [Sample<'a>; 1] {
    [(Vec::new(), value.into())]
}

/// Writes what does not depend on the kind of configuration, but for connections.
pub(super) fn write(out: &mut Exposition, around: &Surroundings, version: &str, counters: &[(String, u64)]) {
    out.write(info("pcc_build", "Version of the controller."), [(vec![("version", version)], Value::Whole(1))]);
    out.write(
        counter("pcc_packets", "Packets by what the data path did with them, since it was loaded."),
        counters.iter().map(|(reason, count)| (vec![("reason", reason.as_str())], (*count).into())),
    );
    out.write(
        gauge("pcc_flow_cache_entries_limit", "Decisions that the flow cache has room for."),
        one(around.flow_entries),
    );
    if let Some((entries, limit)) = around.conntrack {
        out.write(gauge("pcc_conntrack_entries", "Connections of all kinds that conntrack holds."), one(entries));
        out.write(gauge("pcc_conntrack_entries_limit", "Connections that conntrack may hold."), one(limit));
    }
    if let Some(counted) = &around.counted {
        let help = "When connections were last counted, since the epoch; that is done beside the scrape.";
        out.write(gauge("pcc_connections_counted_timestamp_seconds", help).of("seconds"), one(epoch(counted.at)));
    }
    out.write(
        counter("pcc_events_lost", "Events that listeners were too slow for, since the start."),
        one(around.events_lost),
    );
    let process = &around.process;
    out.write(
        counter("process_cpu_seconds", "Time of a processor that the controller took.").of("seconds"),
        one(process.busy.as_secs_f64()),
    );
    out.write(
        gauge("process_resident_memory_bytes", "Resident memory of the controller.").of("bytes"),
        one(process.resident),
    );
    out.write(gauge("process_open_fds", "Open file descriptors of the controller."), one(process.files));
    if let Some(started) = around.started {
        let help = "When the controller started, since the epoch.";
        out.write(gauge("process_start_time_seconds", help).of("seconds"), one(epoch(started)));
    }
}

fn epoch(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
