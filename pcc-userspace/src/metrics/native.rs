//! The metrics of an instance with uplinks. Pure.

use super::common::{self, counter, gauge, info, one};
use super::text::{Column, Exposition, Family, Kind, Sample, Value};
use super::{Format, Surroundings};
use crate::fast_path::Way;
use crate::status::{FamilyStatus, Status, UplinkStatus};

/// Writes `status`, taken by [`Status::brief`], and how often shortcuts became stale, by cause.
pub fn render(format: Format, status: &Status, around: &Surroundings, outdated: &[(String, u64)]) -> String {
    let mut out = Exposition::new(format);
    let labels = vec![
        ("name", status.instance.as_str()),
        ("hash", status.hash.as_str()),
        ("fast_path", status.fast_path.mode.as_str()),
        ("kernel", around.kernel.as_str()),
    ];
    out.write(
        info("pcc", "The instance: its name, the hashed fields, the mode of the fast path."),
        [(labels, Value::Whole(1))],
    );
    write_families(&mut out, &status.uplinks);
    write_uplinks(&mut out, &status.uplinks, around.counted.is_some());
    write_fast_path(&mut out, status, outdated);
    common::write(&mut out, around, &status.version, &status.counters);
    out.finish()
}

/// What an uplink has in each family.
fn write_families(out: &mut Exposition, uplinks: &[UplinkStatus]) {
    let mut each = |family: Family, value: &dyn Fn(&FamilyStatus) -> Option<Value>| {
        let parts = uplinks.iter().flat_map(parts);
        out.write(family, parts.filter_map(|(labels, part)| Some((labels, value(part)?))));
    };
    each(gauge("pcc_uplink_up", "1 if the uplink answers, well or badly."), &|part| {
        Some(["up", "degraded"].contains(&word(part)).into())
    });
    each(gauge("pcc_uplink_taking", "1 if new connections may be given to the uplink."), &|part| {
        Some(part.live.into())
    });
    each(
        gauge("pcc_uplink_suspended", "1 while new connections are withheld, because those of late were not answered."),
        &|part| Some(part.suspended.into()),
    );
    each(
        gauge("pcc_uplink_rtt_seconds", "Mean round-trip time of the last probes of the best target.").of("seconds"),
        &|part| Some((part.latency_ms? / 1000.0).into()),
    );
    each(
        gauge("pcc_uplink_jitter_seconds", "Mean difference of one round-trip time to the next.").of("seconds"),
        &|part| Some((part.jitter_ms? / 1000.0).into()),
    );
    each(gauge("pcc_uplink_loss_ratio", "Lost ones among the last probes of the best target.").of("ratio"), &|part| {
        Some((f64::from(part.loss?) / 100.0).into())
    });
    each(
        gauge("pcc_uplink_share_wanted_ratio", "Share of new connections that the uplink is given.").of("ratio"),
        &|part| Some(part.share_wanted.into()),
    );
    each(counter("pcc_uplink_fail_overs", "How often the uplink went down since the start."), &|part| {
        Some(part.fail_overs.into())
    });
    let state = Family { kind: Kind::StateSet, name: STATE, unit: "", help: "State of the uplink." };
    out.write(state, uplinks.iter().flat_map(parts).flat_map(|(labels, part)| states(&labels, word(part))));
}

const STATE: &str = "pcc_uplink_state";
/// The states as labels, and as the status calls them.
const STATES: [(&str, &str); 5] =
    [("up", "up"), ("degraded", "degraded"), ("down", "down"), ("unknown", "unknown"), ("admin_down", "admin-down")];

fn states<'a>(labels: &[(&'static str, &'a str)], word: &str) -> Vec<Sample<'a>> {
    let sample =
        |(label, state): (&'static str, &str)| ([labels, &[(STATE, label)]].concat(), Value::from(word == state));
    STATES.into_iter().map(sample).collect()
}

/// The state without its reason. An uplink that has no check has no next hop: it is down.
fn word(part: &FamilyStatus) -> &str {
    let word = part.state.split(':').next().unwrap_or_default();
    if STATES.iter().any(|(_, state)| *state == word) { word } else { "down" }
}

fn parts(uplink: &UplinkStatus) -> impl Iterator<Item = (Vec<(&'static str, &str)>, &FamilyStatus)> {
    let families = [("IPv4", &uplink.ipv4), ("IPv6", &uplink.ipv6)];
    families.into_iter().filter_map(|(name, part)| Some((with(uplink, "family", name), part.as_ref()?)))
}

fn named(uplink: &UplinkStatus) -> Vec<(&'static str, &str)> {
    vec![("uplink", &uplink.name), ("device", &uplink.device)]
}

fn with<'a>(uplink: &'a UplinkStatus, label: &'static str, value: &'a str) -> Vec<(&'static str, &'a str)> {
    vec![("uplink", &uplink.name), ("device", &uplink.device), (label, value)]
}

/// What an uplink has in both families together.
fn write_uplinks(out: &mut Exposition, uplinks: &[UplinkStatus], counted: bool) {
    let mut each = |family: Family, value: &dyn Fn(&UplinkStatus) -> Value| {
        out.write(family, uplinks.iter().map(|uplink| (named(uplink), value(uplink))));
    };
    each(gauge("pcc_uplink_waiting", "1 while the uplink has never had an address and a next hop."), &|uplink| {
        (uplink.ipv4.is_none() && uplink.ipv6.is_none()).into()
    });
    each(gauge("pcc_uplink_weight", "Weight in force."), &|uplink| uplink.weight.into());
    each(
        counter(
            "pcc_uplink_connections_begun",
            "Balanced connections that began on the uplink, since the data path was loaded.",
        ),
        &|uplink| uplink.connections_begun.into(),
    );
    if counted {
        let help = "Connections of the uplink when they were last counted, inbound ones and the router's own included.";
        each(gauge("pcc_uplink_connections", help), &|uplink| uplink.connections.into());
    }
    let mut both = |family: Family, label: &'static str, values: [Column<UplinkStatus>; 2]| {
        let samples = uplinks
            .iter()
            .flat_map(|uplink| values.map(|(word, value)| (with(uplink, label, word), Value::from(value(uplink)))));
        out.write(family, samples);
    };
    both(
        counter("pcc_uplink_bytes", "Bytes by the uplink, link-layer headers included.").of("bytes"),
        "direction",
        [("in", |uplink| uplink.bytes_in), ("out", |uplink| uplink.bytes_out)],
    );
    both(
        counter("pcc_uplink_packets", "Packets by the uplink."),
        "direction",
        [("in", |uplink| uplink.packets_in), ("out", |uplink| uplink.packets_out)],
    );
    both(
        counter("pcc_uplink_shortcut_packets", "Those of its packets, in both directions, that took a shortcut."),
        "way",
        [("tc", |uplink| uplink.shortcuts_tc), ("xdp", |uplink| uplink.shortcuts_xdp)],
    );
}

fn write_fast_path(out: &mut Exposition, status: &Status, outdated: &[(String, u64)]) {
    let fast_path = &status.fast_path;
    let count = |way| fast_path.pairs.iter().filter(|pair| pair.way == way).count() as u64;
    let ways = [("xdp", Way::Xdp), ("tc", Way::Tc), ("stack", Way::Stack)];
    out.write(
        gauge(
            "pcc_fast_path_pairs",
            "Pairs of a LAN device and an uplink, each direction for itself, by the way of established connections.",
        ),
        ways.map(|(word, way)| (vec![("way", word)], count(way).into())),
    );
    let help = "Time after which a packet of a connection goes through the stack again; 0: no shortcuts.";
    out.write(gauge("pcc_fast_path_lease_seconds", help).of("seconds"), one(fast_path.lease_seconds));
    out.write(
        gauge("pcc_fast_path_entries_limit", "Shortcuts that are remembered in each family."),
        one(fast_path.entries),
    );
    out.write(
        counter("pcc_fast_path_outdated", "How often shortcuts became stale, by cause, since the start."),
        outdated.iter().map(|(cause, count)| (vec![("cause", cause.as_str())], (*count).into())),
    );
}
