//! What is written can be read, whatever things are called.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use pcc_userspace::fast_path::{Pair, Way};
use pcc_userspace::metrics::counting::Counted;
use pcc_userspace::metrics::{Format, Surroundings, mirror, native, process::Process};
use pcc_userspace::mirror::status as mirrored;
use pcc_userspace::status::{FamilyStatus, FastPathStatus, Status, UplinkStatus};
use proptest::prelude::*;
use tests::exposition::Exposition;

fn around(counted: bool) -> Surroundings {
    Surroundings {
        kernel: "6.18.0".into(),
        process: Process { busy: Duration::from_millis(1500), resident: 1 << 24, files: 20 },
        started: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)),
        events_lost: 3,
        conntrack: Some((10, 100)),
        flow_entries: 65_536,
        counted: counted.then(|| Counted { by_mark: BTreeMap::new(), at: SystemTime::UNIX_EPOCH }),
    }
}

fn family(state: &str) -> FamilyStatus {
    FamilyStatus {
        live: state == "up",
        state: state.into(),
        suspended: false,
        draining: false,
        loss: Some(25),
        latency_ms: Some(12.5),
        jitter_ms: None,
        gateway: None,
        share_wanted: 0.25,
        fail_overs: 2,
    }
}

fn status(names: &[String; 2], states: [Option<&str>; 2]) -> Status {
    let uplink = |(id, name): (u32, &String)| UplinkStatus {
        name: name.clone(),
        device: name.clone(),
        id,
        weight: id,
        ipv4: states[0].map(family),
        ipv6: states[1].map(family),
        share_seen: 0.5,
        connections_begun: 7,
        connections: 5,
        packets_out: 1,
        packets_in: 2,
        bytes_out: u64::MAX,
        bytes_in: 4,
        shortcuts_tc: 5,
        shortcuts_xdp: 6,
    };
    Status {
        version: "1.2.3".into(),
        instance: "default".into(),
        pid: 1,
        hash: "both-addresses".into(),
        fast_path: FastPathStatus {
            mode: "auto".into(),
            lease_seconds: 15,
            lease_reason: names[0].clone(),
            entries: 64,
            pairs: vec![Pair { from: "lan".into(), to: "wan".into(), way: Way::Tc, reason: String::new() }],
        },
        uplinks: (1..).zip(names).map(uplink).collect(),
        rules: Vec::new(),
        connections_age_seconds: 0.0,
        counters: vec![("cache_hit".into(), 11), ("cache_miss".into(), 12)],
    }
}

fn names() -> [String; 2] {
    ["fibre".into(), "cable".into()]
}

fn read(status: &Status, counted: bool) -> Exposition {
    let text = native::render(Format::OpenMetrics, status, &around(counted), &[("a route changed".into(), 9)]);
    Exposition::parse(&text).unwrap_or_else(|problem| panic!("{problem}\n{text}"))
}

#[test]
fn each_value_is_where_it_belongs() {
    let read = read(&status(&names(), [Some("up"), Some("degraded: 25 % loss")]), true);
    let of = |name: &str, family: &str| read.value(name, &[("uplink", "fibre"), ("family", family)]);
    for (name, v4, v6) in [
        ("pcc_uplink_up", 1.0, 1.0),
        ("pcc_uplink_taking", 1.0, 0.0),
        ("pcc_uplink_suspended", 0.0, 0.0),
        ("pcc_uplink_rtt_seconds", 0.0125, 0.0125),
        ("pcc_uplink_loss_ratio", 0.25, 0.25),
        ("pcc_uplink_share_wanted_ratio", 0.25, 0.25),
        ("pcc_uplink_fail_overs", 2.0, 2.0),
    ] {
        assert_eq!((of(name, "IPv4"), of(name, "IPv6")), (Some(v4), Some(v6)), "{name}");
    }
    for (name, labels, value) in [
        ("pcc_uplink_bytes", &[("uplink", "cable"), ("direction", "in")][..], 4.0),
        ("pcc_uplink_packets", &[("uplink", "cable"), ("direction", "out")], 1.0),
        ("pcc_uplink_shortcut_packets", &[("uplink", "cable"), ("way", "xdp")], 6.0),
        ("pcc_uplink_connections_begun", &[("uplink", "cable")], 7.0),
        ("pcc_uplink_connections", &[("uplink", "cable")], 5.0),
        ("pcc_uplink_weight", &[("uplink", "cable")], 2.0),
        ("pcc_uplink_waiting", &[("uplink", "cable")], 0.0),
        ("pcc_fast_path_pairs", &[("way", "tc")], 1.0),
        ("pcc_fast_path_pairs", &[("way", "stack")], 0.0),
        ("pcc_fast_path_lease_seconds", &[], 15.0),
        ("pcc_fast_path_outdated", &[("cause", "a route changed")], 9.0),
        ("pcc_packets", &[("reason", "cache_miss")], 12.0),
        ("pcc_conntrack_entries_limit", &[], 100.0),
        ("pcc_flow_cache_entries_limit", &[], 65_536.0),
        ("pcc_connections_counted_timestamp_seconds", &[], 0.0),
        ("pcc_events_lost", &[], 3.0),
        ("pcc_build", &[("version", "1.2.3")], 1.0),
        ("pcc", &[("kernel", "6.18.0"), ("fast_path", "auto"), ("name", "default"), ("hash", "both-addresses")], 1.0),
        ("process_cpu_seconds", &[], 1.5),
        ("process_start_time_seconds", &[], 1_000_000.0),
    ] {
        assert_eq!(read.value(name, labels), Some(value), "{name}");
    }
}

#[test]
fn the_state_is_one_of_five() {
    for (state, label, up) in [
        ("up", "up", 1.0),
        ("degraded: 30 % loss", "degraded", 1.0),
        ("down: no carrier", "down", 0.0),
        ("no next hop", "down", 0.0),
        ("unknown", "unknown", 0.0),
        ("admin-down", "admin_down", 0.0),
    ] {
        let read = read(&status(&names(), [Some(state), None]), true);
        let labels = [("uplink", "cable"), ("family", "IPv4"), ("pcc_uplink_state", label)];
        assert_eq!(read.value("pcc_uplink_state", &labels), Some(1.0), "{state}");
        assert_eq!(read.value("pcc_uplink_up", &labels[..2]), Some(up), "{state}");
        assert_eq!(read.value("pcc_uplink_up", &[("family", "IPv6")]), None);
    }
}

#[test]
fn what_is_not_known_is_not_told() {
    let read = read(&status(&names(), [None, None]), false);
    assert!(!read.families.contains_key("pcc_uplink_connections") && !read.families.contains_key("pcc_uplink_up"));
    assert_eq!(read.value("pcc_uplink_waiting", &[("uplink", "cable")]), Some(1.0));
}

proptest! {
    #[test]
    fn any_names_can_be_read_back(one in ".{0,12}", two in ".{0,12}", counted: bool) {
        prop_assume!(one != two);
        let read = read(&status(&[one.clone(), two], [Some("up"), None]), counted);
        prop_assert_eq!(read.value("pcc_uplink_weight", &[("uplink", &one)]), Some(1.0));
        let status = mirrored::Status {
            version: "1".into(),
            instance: "default".into(),
            pid: 1,
            script: one.clone(),
            dialect: "7".into(),
            interfaces: vec![mirrored::InterfaceStatus {
                interface: one.clone(),
                device: "eth0".into(),
                packets_out: 1,
                packets_in: 2,
                bytes_out: 3,
                bytes_in: 4,
            }],
            watches: vec![mirrored::WatchStatus { target: one.clone(), state: "down: silent".into() }],
            routes: vec![mirrored::RouteStatus { table: one.clone(), route: "default".into() }],
            connections: [(one.clone(), 5)].into(),
            connections_age_seconds: 0.0,
            counters: vec![("walked".into(), 6)],
        };
        let text = mirror::render(Format::OpenMetrics, &status, &around(counted));
        let read = Exposition::parse(&text).unwrap_or_else(|problem| panic!("{problem}\n{text}"));
        let value = |name: &str, label: &str| read.value(name, &[(label, &one)]);
        prop_assert_eq!(value("pcc_watch_up", "target"), Some(0.0));
        prop_assert_eq!(value("pcc_routes", "table"), Some(1.0));
        prop_assert_eq!(value("pcc_connections", "mark"), counted.then_some(5.0));
        prop_assert_eq!(read.sum("pcc_interface_bytes", &[("interface", &one)]), 7.0);
    }
}
