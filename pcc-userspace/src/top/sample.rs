//! What tests show: a recording of three uplinks, of which one becomes bad.

use std::sync::LazyLock;

use super::app::App;
use super::record::{self, Record, What};
use crate::mirror;

/// The recording.
pub fn records() -> Vec<Record> {
    static RECORDS: LazyLock<Vec<Record>> =
        LazyLock::new(|| record::read(include_str!("../../../tests/screens/three-uplinks.jsonl").as_bytes()).unwrap());
    RECORDS.clone()
}

/// A live view that has been told all of it.
pub fn app() -> App {
    let mut app = App::new(std::time::Duration::from_secs(1), false);
    records().into_iter().for_each(|record| app.absorb(record));
    app
}

/// A snapshot of a RouterOS configuration.
pub fn mirror(at: u64, bytes: u64) -> Record {
    let interface = |name: &str, factor: u64| mirror::status::InterfaceStatus {
        interface: name.into(),
        device: format!("eth{factor}"),
        bytes_out: bytes * factor,
        bytes_in: bytes * factor * 10,
        packets_out: bytes * factor / 100,
        packets_in: bytes * factor / 100,
    };
    let watch = |target: &str, state: &str| mirror::status::WatchStatus { target: target.into(), state: state.into() };
    let status = mirror::status::Status {
        version: "0.1.0".into(),
        instance: "default".into(),
        pid: 7,
        script: "dual-wan.rsc".into(),
        dialect: "v7".into(),
        interfaces: vec![interface("ether1", 1), interface("ether2", 2), interface("bridge", 3)],
        watches: vec![watch("ping 192.0.2.1", "up"), watch("ping 198.51.100.1", "down: silent")],
        routes: vec![mirror::status::RouteStatus {
            table: "to_ISP1".into(),
            route: "default via 192.0.2.1 dev eth0".into(),
        }],
        connections: [(String::new(), 4), ("ISP1_conn".into(), 120)].into(),
        connections_age_seconds: 0.0,
        counters: Vec::new(),
    };
    Record { at, what: What::Mirror(Box::new(status)) }
}
