//! Reads packets that could take a shortcut, strictly: what is odd in any way is left to the stack, which knows what to do.

use crate::packet::{Packet, protocol};

/// A whole TCP segment or UDP datagram, or a super packet of them, behind a plain IP header. Addresses and ports are in
/// network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// [`protocol::TCP`] or [`protocol::UDP`].
    pub protocol: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// What it does to its connection.
    pub stage: Stage,
    /// Bytes of the IP packet.
    pub length: u32,
    /// Bytes of the IP header and of the TCP or UDP header.
    pub headers: u32,
    /// What tells it from other packets of its flow, and what no translation touches: the sequence number or the length.
    pub seal: u32,
}

/// What a packet does to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// SYN, FIN or RST: the connection is another one from now on, or ends.
    Turns,
    /// Flags that no sender uses.
    Odd,
    /// It goes on.
    Goes,
}

/// Length of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Length of an IPv6 header.
pub const IPV6_HEADER: usize = 40;
/// Length of a UDP header.
const UDP_HEADER: u32 = 8;
/// Length of a TCP header without options.
const TCP_HEADER: u32 = 20;
/// Shortest Ethernet frame, without checksum: shorter ones have padding.
const SHORTEST_FRAME: u32 = 60;

/// Reads an IPv4 packet at `offset` of a frame with `frame` bytes.
#[inline(always)]
pub fn ipv4<P: Packet + ?Sized>(packet: &P, offset: usize, frame: u32) -> Option<Candidate<u32>> {
    const VERSION_AND_HEADER: u32 = 0x45;
    /// All but "do not fragment".
    const FRAGMENT: u32 = 0xbfff;
    let [first, second, third, source, destination] = packet.words::<5>(offset)?;
    let sum = [first, second, third, source, destination].iter().fold(0_u64, |sum, word| sum + *word as u64);
    let (first, second, third) = (u32::from_be(first), u32::from_be(second), u32::from_be(third));
    if first >> 24 != VERSION_AND_HEADER || second & FRAGMENT != 0 || fold(sum) != 0xffff {
        return None;
    }
    let network = Network {
        source,
        destination,
        protocol: (third >> 16) as u8,
        tos: (first >> 16) as u8,
        ttl: (third >> 24) as u8,
        length: first & 0xffff,
        header: IPV4_HEADER as u32,
    };
    transport(packet, offset, frame, network)
}

/// Reads an IPv6 packet at `offset` of a frame with `frame` bytes.
#[inline(always)]
pub fn ipv6<P: Packet + ?Sized>(packet: &P, offset: usize, frame: u32) -> Option<Candidate<[u32; 4]>> {
    let [first, second] = packet.words::<2>(offset)?;
    let source = packet.words::<4>(offset + 8)?;
    let destination = packet.words::<4>(offset + 24)?;
    let (first, second) = (u32::from_be(first), u32::from_be(second));
    if first >> 28 != 6 {
        return None;
    }
    let network = Network {
        source,
        destination,
        protocol: (second >> 8) as u8,
        tos: (first >> 20) as u8,
        ttl: second as u8,
        length: (second >> 16) + IPV6_HEADER as u32,
        header: IPV6_HEADER as u32,
    };
    transport(packet, offset, frame, network)
}

struct Network<A> {
    source: A,
    destination: A,
    protocol: u8,
    tos: u8,
    ttl: u8,
    length: u32,
    header: u32,
}

#[inline(always)]
fn transport<P: Packet + ?Sized, A>(
    packet: &P,
    offset: usize,
    frame: u32,
    network: Network<A>,
) -> Option<Candidate<A>> {
    let end = offset as u32 + network.length;
    if end > frame || end < frame && frame > SHORTEST_FRAME {
        return None;
    }
    let room = network.length.checked_sub(network.header)?;
    let offset = offset + network.header as usize;
    let (ports, stage, header, seal);
    if network.protocol == protocol::UDP {
        let [both, second] = packet.words::<2>(offset)?;
        let length = u32::from_be(second) >> 16;
        if length != room || length < UDP_HEADER {
            return None;
        }
        (ports, stage, header, seal) = (both, Stage::Goes, UDP_HEADER, length);
    } else if network.protocol == protocol::TCP {
        let [both, sequence, _, fourth, _] = packet.words::<5>(offset)?;
        let fourth = u32::from_be(fourth);
        header = fourth >> 28 << 2;
        if header < TCP_HEADER || header > room {
            return None;
        }
        (ports, stage, seal) = (both, tcp_stage(fourth >> 16), sequence);
    } else {
        return None;
    }
    let ports = u32::from_be(ports);
    Some(Candidate {
        source: network.source,
        destination: network.destination,
        source_port: ((ports >> 16) as u16).to_be(),
        destination_port: (ports as u16).to_be(),
        protocol: network.protocol,
        tos: network.tos,
        ttl: network.ttl,
        stage,
        length: network.length,
        headers: network.header + header,
        seal,
    })
}

/// By the flags of a TCP header: conntrack follows all but those that merely acknowledge.
#[inline(always)]
const fn tcp_stage(flags: u32) -> Stage {
    const SYN: u32 = 2;
    const RST: u32 = 4;
    const ACK: u32 = 16;
    const FIN: u32 = 1;
    if flags & (SYN | FIN | RST) != 0 {
        Stage::Turns
    } else if flags & ACK != 0 {
        Stage::Goes
    } else {
        Stage::Odd
    }
}

/// A one's complement sum of 16-bit words, from a sum of wider ones (RFC 1071).
#[inline(always)]
pub const fn fold(sum: u64) -> u32 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u32
}

#[cfg(test)]
#[path = "candidate_tests.rs"]
pub(crate) mod tests;
