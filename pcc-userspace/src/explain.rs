//! `pcc explain`: what becomes of a packet, and why. Here is the packet; [`native`] and [`crate::mirror::explain`] have the
//! answers.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use etherparse::PacketBuilder;
use pcc_ebpf::packet::{Details, protocol};

use crate::problem::Problem;

pub mod native;

/// A packet as people write it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Interface by RouterOS's name, or Linux device.
    pub interface: String,
    /// Source.
    pub source: SocketAddr,
    /// Destination.
    pub destination: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// The connection's mark, or its uplink; `None` for the first packet of a connection.
    pub connection_mark: Option<String>,
}

/// Bytes of the Ethernet header of a packet that is asked about.
pub const ETHERNET: u32 = 14;

/// The frame that is asked about: the first packet of its connection, or a later one.
///
/// # Errors
/// Addresses of two families.
pub fn packet(asked: &Asked, later: bool) -> Result<Vec<u8>> {
    const TTL: u8 = 64;
    let start = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let (from, to) = (asked.source.port(), asked.destination.port());
    let network = match (asked.source.ip(), asked.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => start.ipv4(source.octets(), destination.octets(), TTL),
        (IpAddr::V6(source), IpAddr::V6(destination)) => start.ipv6(source.octets(), destination.octets(), TTL),
        _ => return Err(Problem::new("source and destination are of two families", "both IPv4, or both IPv6").into()),
    };
    let mut bytes = Vec::new();
    match (asked.protocol, asked.source.is_ipv4()) {
        (protocol::TCP, _) if later => network.tcp(from, to, 1, 64_000).ack(1).write(&mut bytes, &[])?,
        (protocol::TCP, _) => network.tcp(from, to, 0, 64_000).syn().write(&mut bytes, &[])?,
        (protocol::UDP, _) => network.udp(from, to).write(&mut bytes, &[])?,
        (protocol::ICMP, true) => network.icmpv4_echo_request(from, 1).write(&mut bytes, &[])?,
        (protocol::ICMPV6, false) => network.icmpv6_echo_request(from, 1).write(&mut bytes, &[])?,
        // The first bytes of most other protocols are no ports.
        (other, _) => network.write(&mut bytes, etherparse::IpNumber(other), &[0; 8])?,
    }
    Ok(bytes)
}

/// What [`packet`] has besides its flow.
pub fn details(protocol: u8, later: bool) -> Details {
    const SYN: u32 = 2;
    const ACK: u32 = 16;
    let tcp_flags = match (protocol, later) {
        (protocol::TCP, false) => SYN,
        (protocol::TCP, true) => ACK,
        _ => 0,
    };
    let icmp_type = match protocol {
        protocol::ICMP => 8,
        protocol::ICMPV6 => 128,
        _ => 0,
    };
    Details { dscp: 0, ttl: 64, tcp_flags, icmp_type, icmp_code: 0 }
}

/// The clock that the programs read.
pub fn coarse_seconds() -> u32 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    u32::try_from(time.tv_sec).unwrap_or(0)
}

/// What the kernel says about a mark that was computed.
pub fn verdict(mark: u32, confirmed: Option<u32>) -> String {
    match confirmed {
        Some(confirmed) if confirmed == mark => "the program in the kernel agrees".to_owned(),
        Some(confirmed) => format!("the program in the kernel says {confirmed:#x}: please report this"),
        None => "the program in the kernel was not asked".to_owned(),
    }
}
