//! Reads a packet's headers, without knowing where the bytes are.
//!
//! Offsets and lengths come from `network-types`; values are read as words, because the byte arrays of its headers
//! cost one load per byte in the kernel.

use core::mem::offset_of;

use network_types::eth::EthHdr;
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::vlan::VlanHdr;

use crate::abi::{Counter, FlowKey, IPV4, IPV6};
use crate::flow;

/// Bytes of a packet. Every method returns `None` past its end, and values in the byte order of the packet.
pub trait Packet {
    /// One byte that is not the packet's last: no header ends with a byte that is read alone.
    fn byte(&self, offset: usize) -> Option<u8>;
    /// Two bytes.
    fn half(&self, offset: usize) -> Option<u16>;
    /// Words of four bytes.
    fn words<const N: usize>(&self, offset: usize) -> Option<[u32; N]>;
    /// Four bytes.
    #[inline(always)]
    fn word(&self, offset: usize) -> Option<u32> {
        self.words(offset).map(|[word]| word)
    }
}

/// What the classifier needs to know about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Its flow.
    pub key: FlowKey,
    /// [`IPV4`] or [`IPV6`].
    pub family: u32,
    /// A TCP SYN without ACK: it begins a connection, so nothing that was remembered about its flow holds.
    pub opens: bool,
    /// The flow key tells this connection from every other; false for ICMP errors, which belong to another one.
    pub cacheable: bool,
    /// What changes from packet to packet.
    pub details: Details,
}

/// What may differ between the packets of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Differentiated services code point, 0 to 63.
    pub dscp: u32,
    /// TTL or hop limit.
    pub ttl: u32,
    /// The flags of a TCP header: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128; 0 for other protocols.
    pub tcp_flags: u32,
    /// Type of an ICMP or ICMPv6 message, 0 for other protocols.
    pub icmp_type: u32,
    /// Its code.
    pub icmp_code: u32,
}

/// EtherTypes in host order.
pub mod ether {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// VLAN tag, IEEE 802.1Q.
    pub const VLAN: u16 = 0x8100;
    /// Service VLAN tag, IEEE 802.1ad.
    pub const SERVICE_VLAN: u16 = 0x88a8;
}

/// IP protocol numbers, <https://www.iana.org/assignments/protocol-numbers>.
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
}

/// IPv6 extension headers that carry a next header, RFC 8200 §4 and RFC 4302.
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION: u8 = 60;
    /// More of them in one packet are passed on unread: no honest sender uses six.
    pub(super) const MOST: usize = 6;
}

/// Why a packet's headers were not read to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The bytes at hand end too early; more of the packet may be elsewhere.
    Short,
    /// The packet is not for the classifier, for this reason.
    Skip(Counter),
}

/// Parses a packet whose IP header follows `header_length` bytes of link layer (14 for Ethernet, 0 for tun, ppp, wg).
/// `ether_type` (host order) names the network protocol where there is no Ethernet header to tell it.
#[inline(always)]
pub fn parse<P: Packet + ?Sized>(packet: &P, header_length: u32, ether_type: u16) -> Result<Headers, Unread> {
    let (offset, ether_type) = if header_length as usize == EthHdr::LEN {
        (EthHdr::LEN, need(packet.half(offset_of!(EthHdr, ether_type)))?)
    } else {
        (0, ether_type)
    };
    match ether_type {
        ether::IPV4 => ipv4(packet, offset),
        ether::IPV6 => ipv6(packet, offset),
        ether::VLAN | ether::SERVICE_VLAN => Err(Unread::Skip(Counter::Vlan)),
        _ => Err(Unread::Skip(Counter::NotIp)),
    }
}

/// VLAN id (0 to 4095) of the outer tag inside an Ethernet frame, for diagnostics: a tag that the device took out
/// (`skb->vlan_tci`) is not in the frame any more.
pub fn vlan_id<P: Packet + ?Sized>(packet: &P) -> Option<u16> {
    let ether_type = u16::from_be(packet.half(offset_of!(EthHdr, ether_type))?);
    if ether_type != ether::VLAN && ether_type != ether::SERVICE_VLAN {
        return None;
    }
    const { assert!(VlanHdr::LEN == 4) };
    Some(u16::from_be(packet.half(EthHdr::LEN)?) & 0x0fff)
}

#[inline(always)]
fn need(half: Option<u16>) -> Result<u16, Unread> {
    half.map(u16::from_be).ok_or(Unread::Short)
}

#[inline(always)]
fn ipv4<P: Packet + ?Sized>(packet: &P, offset: usize) -> Result<Headers, Unread> {
    const FRAGMENT_OFFSET: u16 = 0x1fff;
    let first = packet.byte(offset).ok_or(Unread::Short)?;
    let header = ((first & 0x0f) as usize) * 4;
    if first >> 4 != 4 || header < Ipv4Hdr::LEN {
        return Err(Unread::Skip(Counter::Malformed));
    }
    let source = packet.word(offset + offset_of!(Ipv4Hdr, src_addr)).ok_or(Unread::Short)?;
    let destination = packet.word(offset + offset_of!(Ipv4Hdr, dst_addr)).ok_or(Unread::Short)?;
    let fragment = need(packet.half(offset + offset_of!(Ipv4Hdr, frags)))?;
    if fragment & FRAGMENT_OFFSET != 0 {
        return Err(Unread::Skip(Counter::Fragment));
    }
    let protocol = packet.byte(offset + offset_of!(Ipv4Hdr, proto)).ok_or(Unread::Short)?;
    let details = Details {
        dscp: (packet.byte(offset + offset_of!(Ipv4Hdr, tos)).ok_or(Unread::Short)? >> 2) as u32,
        ttl: packet.byte(offset + offset_of!(Ipv4Hdr, ttl)).ok_or(Unread::Short)? as u32,
        ..Details::default()
    };
    let key = FlowKey {
        source: flow::mapped(source),
        destination: flow::mapped(destination),
        source_port: 0,
        destination_port: 0,
        protocol: protocol as u32,
    };
    transport(packet, offset + header, Headers { key, family: IPV4, opens: false, cacheable: true, details })
}

#[inline(always)]
fn ipv6<P: Packet + ?Sized>(packet: &P, offset: usize) -> Result<Headers, Unread> {
    let first = packet.byte(offset).ok_or(Unread::Short)?;
    if first >> 4 != 6 {
        return Err(Unread::Skip(Counter::Malformed));
    }
    let source = packet.words(offset + offset_of!(Ipv6Hdr, src_addr)).ok_or(Unread::Short)?;
    let destination = packet.words(offset + offset_of!(Ipv6Hdr, dst_addr)).ok_or(Unread::Short)?;
    // No host has such an address, and the flow would be taken for one of IPv4.
    if flow::is_mapped(&source) || flow::is_mapped(&destination) {
        return Err(Unread::Skip(Counter::Malformed));
    }
    let mut protocol = packet.byte(offset + offset_of!(Ipv6Hdr, next_hdr)).ok_or(Unread::Short)?;
    // Four bits of version, eight of traffic class, of which the upper six are the DSCP.
    let class = need(packet.half(offset))? >> 4 & 0xff;
    let ttl = packet.byte(offset + offset_of!(Ipv6Hdr, hop_limit)).ok_or(Unread::Short)? as u32;
    let details = Details { dscp: (class >> 2) as u32, ttl, ..Details::default() };
    let mut offset = offset + Ipv6Hdr::LEN;
    for _ in 0..extension::MOST {
        let length = match protocol {
            extension::HOP_BY_HOP | extension::ROUTING | extension::DESTINATION => {
                (packet.byte(offset + 1).ok_or(Unread::Short)? as usize + 1) * 8
            }
            extension::AUTHENTICATION => (packet.byte(offset + 1).ok_or(Unread::Short)? as usize + 2) * 4,
            extension::FRAGMENT => {
                // The last three bits are two reserved ones and "more fragments".
                if need(packet.half(offset + 2))? >> 3 != 0 {
                    return Err(Unread::Skip(Counter::Fragment));
                }
                8
            }
            _ => {
                let key =
                    FlowKey { source, destination, source_port: 0, destination_port: 0, protocol: protocol as u32 };
                return transport(
                    packet,
                    offset,
                    Headers { key, family: IPV6, opens: false, cacheable: true, details },
                );
            }
        };
        protocol = packet.byte(offset).ok_or(Unread::Short)?;
        offset += length;
    }
    Err(Unread::Skip(Counter::Malformed))
}

/// Completes `headers` with what the transport header at `offset` tells.
#[inline(always)]
fn transport<P: Packet + ?Sized>(packet: &P, offset: usize, mut headers: Headers) -> Result<Headers, Unread> {
    const TCP_FLAGS: usize = 13;
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    let protocol = headers.key.protocol as u8;
    if flow::has_ports(headers.key.protocol) {
        headers.key.source_port = need(packet.half(offset))?;
        headers.key.destination_port = need(packet.half(offset + 2))?;
        if protocol == protocol::TCP {
            let flags = packet.byte(offset + TCP_FLAGS).ok_or(Unread::Short)?;
            headers.opens = flags & (SYN | ACK) == SYN;
            headers.details.tcp_flags = flags as u32;
        }
    } else if protocol == protocol::ICMP || protocol == protocol::ICMPV6 {
        let kind = packet.byte(offset).ok_or(Unread::Short)?;
        headers.details.icmp_type = kind as u32;
        headers.details.icmp_code = packet.byte(offset + 1).ok_or(Unread::Short)? as u32;
        headers.cacheable = flow::is_echo(protocol, kind);
        if headers.cacheable {
            // Both ports, so that the reversed key is the key of the answer.
            headers.key.source_port = need(packet.half(offset + 4))?;
            headers.key.destination_port = headers.key.source_port;
        }
    }
    Ok(headers)
}

#[cfg(not(target_arch = "bpf"))]
impl Packet for [u8] {
    fn byte(&self, offset: usize) -> Option<u8> {
        let [byte, _] = *self.get(offset..)?.first_chunk()?;
        Some(byte)
    }
    fn half(&self, offset: usize) -> Option<u16> {
        Some(u16::from_ne_bytes(*self.get(offset..)?.first_chunk()?))
    }
    fn words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        let bytes = self.get(offset..)?.get(..4 * N)?;
        let mut words = bytes.chunks_exact(4).map(|word| word.try_into().map_or(0, u32::from_ne_bytes));
        Some(core::array::from_fn(|_| words.next().unwrap_or(0)))
    }
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
