//! What the lease of shortcuts follows from, read in the network namespace of the calling thread.

use std::fs;

use super::{nft, sysctl};
use crate::lease::{Firewall, Signs};
use crate::ruleset;

const TIMEOUTS: [&str; 3] = [
    "net/netfilter/nf_conntrack_udp_timeout",
    "net/netfilter/nf_conntrack_udp_timeout_stream",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
];

/// Reads all of it but our own table, `own`, which runs `nft`. What cannot be read is left out.
pub fn read(own: &str) -> Firewall {
    let ruleset = nft::ruleset(|family, name| ruleset::is_own(own, family, name))
        .inspect_err(|error| tracing::debug!("reading the firewall: {error:#}"))
        .ok();
    let number = |key: &str| sysctl::read(key).ok().flatten().and_then(|value| value.parse::<u32>().ok());
    Firewall {
        ruleset,
        signs: signs(),
        timeouts: TIMEOUTS.iter().filter_map(|key| Some(((*key).to_owned(), number(key)?))).collect(),
        events: number("net/netfilter/nf_conntrack_events").is_some_and(|events| events != 0),
    }
}

/// Reads what comes and goes without notice, which costs little.
pub fn signs() -> Signs {
    // A kernel without it has no such file.
    let words = |file: &str| fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
    let mut legacy: Vec<String> = ["ip_tables_names", "ip6_tables_names"]
        .iter()
        .flat_map(|file| words(file).lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    legacy.sort();
    legacy.dedup();
    Signs { legacy, queues: !words("netfilter/nfnetlink_queue").trim().is_empty() }
}
