//! What `pcc flows` prints for people.

use std::fmt::Write as _;

use super::{Flow, Listing};
use crate::status::bytes;

impl Listing {
    /// The table, and how many there are besides.
    pub fn table(&self) -> String {
        let rows: Vec<[String; 8]> = self.flows.iter().map(row).collect();
        let heads = ["protocol", "client", "server", "uplink", "state", "out", "in", "way"].map(str::to_owned);
        let mut text = String::new();
        if !rows.is_empty() {
            let all = || std::iter::once(&heads).chain(&rows);
            let widths: [usize; 8] =
                std::array::from_fn(|at| all().map(|row| row[at].chars().count()).max().unwrap_or(0));
            for row in all() {
                let mut line = String::new();
                for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
                    let _ = if at == 5 || at == 6 {
                        write!(line, "{cell:>width$}  ")
                    } else {
                        write!(line, "{cell:<width$}  ")
                    };
                }
                let _ = writeln!(text, "{}", line.trim_end());
            }
            text.push('\n');
        }
        let noun = if self.total == 1 { "connection" } else { "connections" };
        let _ = match self.flows.len() as u64 {
            shown if shown == self.total => writeln!(text, "{shown} {noun}"),
            shown => writeln!(text, "{shown} of {} {noun}", self.total),
        };
        text
    }
}

fn row(flow: &Flow) -> [String; 8] {
    let (client, server) = if flow.inbound {
        (flow.translated_destination, format!("← {}", flow.source))
    } else {
        (flow.source, flow.destination.to_string())
    };
    let amount = |count: Option<u64>| match count {
        Some(count) if flow.at_least => format!("≥ {}", bytes(count)),
        Some(count) => bytes(count),
        None => "?".to_owned(),
    };
    let marks =
        [&flow.connection_mark, &flow.routing_mark].into_iter().flatten().cloned().collect::<Vec<_>>().join(", ");
    let uplink = flow.uplink.clone().unwrap_or(marks);
    let way = match (flow.shortcut, flow.cached) {
        (true, _) => "shortcut",
        (false, true) => "cached",
        (false, false) => "",
    };
    [
        flow.protocol.clone(),
        client.to_string(),
        server,
        if uplink.is_empty() { "-".to_owned() } else { uplink },
        flow.state.clone().unwrap_or_else(|| "?".to_owned()),
        amount(flow.bytes_out),
        amount(flow.bytes_in),
        way.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_and_says_how_many_there_are() {
        let flow = Flow {
            protocol: "tcp".into(),
            source: "10.0.0.9:40000".parse().unwrap(),
            destination: "203.0.113.9:443".parse().unwrap(),
            translated_source: "192.0.2.1:40000".parse().unwrap(),
            translated_destination: "203.0.113.9:443".parse().unwrap(),
            client: "10.0.0.9".parse().unwrap(),
            inbound: false,
            uplink: Some("fibre".into()),
            connection_mark: None,
            routing_mark: None,
            state: Some("established".into()),
            timeout: 432_000,
            bytes_out: Some(1200),
            bytes_in: Some(3_400_000),
            packets_out: Some(10),
            packets_in: Some(2000),
            at_least: false,
            cached: true,
            cache_used: Some(0),
            shortcut: true,
            shortcut_bytes_out: 0,
            shortcut_bytes_in: 3_000_000,
        };
        let inbound = Flow {
            protocol: "udp".into(),
            source: "[2001:db8::1]:9".parse().unwrap(),
            translated_destination: "[2001:db8:a::9]:53".parse().unwrap(),
            inbound: true,
            uplink: None,
            state: Some("unreplied".into()),
            bytes_out: None,
            bytes_in: None,
            shortcut: false,
            cached: false,
            ..flow.clone()
        };
        let closing = Flow { at_least: true, shortcut: false, ..flow.clone() };
        let listing =
            Listing { total: 1234, accounting: true, flows: vec![flow, inbound, closing], clients: Vec::new() };
        assert_eq!(
            listing.table(),
            "protocol  client              server             uplink  state             out        in  way\n\
             tcp       10.0.0.9:40000      203.0.113.9:443    fibre   established    1.2 kB    3.4 MB  shortcut\n"
                .to_owned()
                + "udp       [2001:db8:a::9]:53  ← [2001:db8::1]:9  -       unreplied           ?         ?\n\
                   tcp       10.0.0.9:40000      203.0.113.9:443    fibre   established  ≥ 1.2 kB  ≥ 3.4 MB  cached\n\n3 of 1234 connections\n"
        );
        assert_eq!(Listing::default().table(), "0 connections\n");
    }
}
