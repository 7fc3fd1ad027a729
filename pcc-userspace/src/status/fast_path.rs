//! What `pcc status` says of shortcuts.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::Status;
use crate::config::FastPath;
use crate::dataplane;
use crate::fast_path::{Pair, Way};
use crate::instance::Instance;

/// Shortcuts at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FastPathStatus {
    /// `auto`, `xdp`, `tc` or `off`.
    pub mode: String,
    /// Seconds after which a packet of a connection goes through the stack again; 0: there are no shortcuts.
    pub lease_seconds: u32,
    /// Why so many.
    pub lease_reason: String,
    /// Shortcuts that are remembered at most in each family.
    pub entries: u32,
    /// From each LAN device to each uplink, and back.
    pub pairs: Vec<Pair>,
}

impl FastPathStatus {
    pub(super) fn read(instance: &Instance) -> Self {
        let lease = &instance.circumstances.lease;
        Self {
            mode: instance.config.fast_path.word().to_owned(),
            lease_seconds: lease.seconds,
            lease_reason: lease.reason.clone(),
            entries: dataplane::pinned_shortcut_entries(&instance.paths.pins).unwrap_or(0),
            pairs: instance.choice.pairs.clone(),
        }
    }
}

/// A line for each pair, the lease, and the packets by uplink, behind an empty line; one line where there are no shortcuts.
pub(super) fn lines(status: &Status) -> String {
    let FastPathStatus { mode, lease_seconds, lease_reason, entries, pairs } = &status.fast_path;
    if mode == FastPath::Off.word() {
        return "\nfast path: off\n".to_owned();
    }
    let mut text = String::from("\n");
    for Pair { from, to, way, reason } in pairs {
        let way = match way {
            Way::Xdp => "xdp",
            Way::Tc => "tc",
            Way::Stack => "stack",
        };
        let _ = writeln!(text, "fast path: {from} → {to} {way} ({reason})");
    }
    if *lease_seconds > 0 {
        let _ = writeln!(text, "fast path: lease {lease_seconds} s ({lease_reason}), {entries} entries");
    }
    let used = status.uplinks.iter().filter(|uplink| uplink.shortcuts_tc + uplink.shortcuts_xdp > 0);
    let used: Vec<String> = used
        .map(|uplink| format!("{} {} tc, {} xdp", uplink.name, uplink.shortcuts_tc, uplink.shortcuts_xdp))
        .collect();
    if !used.is_empty() {
        let _ = writeln!(text, "shortcuts taken: {}", used.join("; "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::UplinkStatus;

    fn status() -> Status {
        let uplink = |name: &str, shortcuts_tc| UplinkStatus {
            name: name.into(),
            device: name.into(),
            id: 1,
            weight: 1,
            ipv4: None,
            ipv6: None,
            share_seen: 0.0,
            connections_begun: 0,
            connections: 0,
            packets_out: 0,
            packets_in: 0,
            bytes_out: 0,
            bytes_in: 0,
            shortcuts_tc,
            shortcuts_xdp: 0,
        };
        Status {
            version: String::new(),
            instance: String::new(),
            pid: 1,
            hash: String::new(),
            fast_path: FastPathStatus {
                mode: "auto".into(),
                lease_seconds: 2,
                lease_reason: "ipset".into(),
                entries: 64,
                pairs: vec![Pair { from: "lan".into(), to: "wan1".into(), way: Way::Tc, reason: "why".into() }],
            },
            uplinks: vec![uplink("wan1", 7), uplink("wan2", 0)],
            rules: Vec::new(),
            connections_age_seconds: 0.0,
            counters: Vec::new(),
        }
    }

    #[test]
    fn each_pair_has_a_line() {
        let wanted = "\nfast path: lan → wan1 tc (why)\nfast path: lease 2 s (ipset), 64 entries\n\
                      shortcuts taken: wan1 7 tc, 0 xdp\n";
        assert_eq!(lines(&status()), wanted);
    }

    #[test]
    fn without_shortcuts_there_is_little_to_say() {
        let mut status = status();
        status.fast_path.mode = "off".into();
        assert_eq!(lines(&status), "\nfast path: off\n");
    }

    #[test]
    fn scripts_read_the_ways_by_their_words() {
        let document = serde_json::to_value(status().fast_path).unwrap();
        assert_eq!(document["pairs"][0]["way"], "tc");
        assert_eq!(document["lease_seconds"], 2);
    }
}
