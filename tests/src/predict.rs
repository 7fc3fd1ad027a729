//! Which uplink a connection must take, computed without a kernel.

use std::net::SocketAddr;

use pcc_ebpf::abi::{BUCKETS, FlowKey};
use pcc_ebpf::classify::{HashFields, hash};
use pcc_userspace::buckets;

use crate::lab::Protocol;

/// The canonical bucket table of some weights, a seed and a field set.
#[derive(Clone, Debug)]
pub struct Prediction {
    table: Vec<u32>,
    fields: HashFields,
    seed: u32,
}

impl Prediction {
    /// Uplinks with the ids 1, 2, … and these weights.
    pub fn new(weights: &[u32], fields: HashFields, seed: u32) -> Self {
        let weights: Vec<(u32, u32)> = (1..).zip(weights.iter().copied()).collect();
        Self { table: buckets::assign(None, &weights), fields, seed }
    }

    /// The id of the uplink that the connection takes.
    pub fn uplink(&self, protocol: Protocol, source: SocketAddr, destination: SocketAddr) -> u32 {
        let number = match (protocol, source.is_ipv4()) {
            (Protocol::Tcp, _) => 6,
            (Protocol::Udp, _) => 17,
            (Protocol::Icmp, true) => 1,
            (Protocol::Icmp, false) => 58,
        };
        let hash = hash(&FlowKey::new(source, destination, number), self.fields, self.seed);
        self.table[(hash & (BUCKETS - 1)) as usize]
    }
}
