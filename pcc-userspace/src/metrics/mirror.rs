//! The metrics of a RouterOS configuration. Pure.

use std::collections::BTreeMap;

use super::common::{self, counter, gauge, info};
use super::text::{Column, Exposition, Family, Value};
use super::{Format, Surroundings};
use crate::mirror::status::{InterfaceStatus, Status};

/// Writes `status`, taken by [`Status::read`].
pub fn render(format: Format, status: &Status, around: &Surroundings) -> String {
    let mut out = Exposition::new(format);
    let labels = vec![
        ("name", status.instance.as_str()),
        ("script", status.script.as_str()),
        ("dialect", status.dialect.as_str()),
        ("kernel", around.kernel.as_str()),
    ];
    out.write(info("pcc", "The instance: its name, the script and its dialect."), [(labels, Value::Whole(1))]);
    let mut both = |family: Family, values: [Column<InterfaceStatus>; 2]| {
        let samples = status.interfaces.iter().flat_map(|it| {
            let labels = |word| vec![("interface", it.interface.as_str()), ("device", &it.device), ("direction", word)];
            values.map(|(word, value)| (labels(word), Value::from(value(it))))
        });
        out.write(family, samples);
    };
    both(
        counter("pcc_interface_bytes", "Bytes by the interface, link-layer headers included.").of("bytes"),
        [("in", |it| it.bytes_in), ("out", |it| it.bytes_out)],
    );
    both(
        counter("pcc_interface_packets", "Packets by the interface."),
        [("in", |it| it.packets_in), ("out", |it| it.packets_out)],
    );
    out.write(
        gauge("pcc_watch_up", "1 if what is probed counts as usable."),
        status
            .watches
            .iter()
            .map(|watch| (vec![("target", watch.target.as_str())], Value::from(!watch.state.starts_with("down")))),
    );
    let mut tables = BTreeMap::<&str, u64>::new();
    for route in &status.routes {
        *tables.entry(&route.table).or_default() += 1;
    }
    out.write(
        gauge("pcc_routes", "Active routes of the script, by its name of the table."),
        tables.into_iter().map(|(table, count)| (vec![("table", table)], count.into())),
    );
    if around.counted.is_some() {
        let help =
            "Connections by connection mark when they were last counted; those without one under the empty mark.";
        let connections = status.connections.iter();
        out.write(
            gauge("pcc_connections", help),
            connections.map(|(mark, count)| (vec![("mark", mark.as_str())], (*count).into())),
        );
    }
    common::write(&mut out, around, &status.version, &status.counters);
    out.finish()
}
