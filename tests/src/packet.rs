//! Packets as bytes, good and bad: every header that the parser reads, and what may stand around it.

use std::net::SocketAddr;

use pcc_ebpf::packet::protocol;

mod encode;

/// TCP flags, to be combined with `|`.
pub mod flag {
    /// No more data follows.
    pub const FIN: u8 = 0x01;
    /// Begins a connection.
    pub const SYN: u8 = 0x02;
    /// Ends it at once.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// ECN echo.
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced.
    pub const CWR: u8 = 0x80;
}

/// A packet between two addresses of one family. Starts as a TCP segment without flags inside an Ethernet frame.
/// Checksums are right, except that SCTP's stays 0.
#[derive(Clone, Debug)]
pub struct Packet {
    source: SocketAddr,
    destination: SocketAddr,
    ethernet: bool,
    ether_type: Option<u16>,
    tags: Vec<(u16, u16)>,
    options: usize,
    fragment: (u16, bool),
    extensions: Vec<Extension>,
    transport: Transport,
    payload: usize,
}

/// IPv6 extension headers. The number is the length field as it is on the wire.
#[derive(Clone, Copy, Debug)]
pub enum Extension {
    /// Hop-by-hop options, `8 * (n + 1)` bytes.
    HopByHop(u8),
    /// Routing, `8 * (n + 1)` bytes.
    Routing(u8),
    /// Destination options, `8 * (n + 1)` bytes.
    Destination(u8),
    /// Authentication, `4 * (n + 2)` bytes.
    Authentication(u8),
    /// Fragment: offset in units of 8 bytes, and whether more follow.
    Fragment(u16, bool),
}

/// What follows the IP header. Ports are those of the packet's addresses.
#[derive(Clone, Copy, Debug)]
pub enum Transport {
    /// TCP with these [`flag`]s.
    Tcp(u8),
    /// UDP.
    Udp,
    /// UDP-Lite that covers the whole datagram.
    UdpLite,
    /// SCTP.
    Sctp,
    /// DCCP request.
    Dccp,
    /// ICMP of the packet's family: type and the 16 bits at the place of an echo's identifier.
    Icmp(u8, u16),
    /// ICMP destination unreachable of the packet's family, with the packet that it is about.
    Unreachable,
    /// Any other protocol: its header is only payload.
    Other(u8),
}

impl Packet {
    /// From `source` to `destination`: `192.0.2.1:4000` or `[2001:db8::1]:4000`.
    ///
    /// # Panics
    /// On anything else, and where the families differ.
    pub fn new(source: &str, destination: &str) -> Self {
        let address = |text: &str| text.parse().unwrap_or_else(|error| panic!("address `{text}`: {error}"));
        Self::between(address(source), address(destination))
    }

    /// From `source` to `destination`.
    ///
    /// # Panics
    /// Where the families differ.
    pub fn between(source: SocketAddr, destination: SocketAddr) -> Self {
        assert_eq!(source.is_ipv4(), destination.is_ipv4(), "families of {source} and {destination}");
        Self {
            source,
            destination,
            ethernet: true,
            ether_type: None,
            tags: Vec::new(),
            options: 0,
            fragment: (0, false),
            extensions: Vec::new(),
            transport: Transport::Tcp(0),
            payload: 8,
        }
    }

    /// Without Ethernet header.
    #[must_use]
    pub fn bare(self) -> Self {
        Self { ethernet: false, ..self }
    }

    /// With a VLAN tag inside those that it has: `ether_type` is that of the tag, `id` the VLAN.
    #[must_use]
    pub fn tag(mut self, ether_type: u16, id: u16) -> Self {
        self.tags.push((ether_type, id));
        self
    }

    /// With another EtherType than that of its IP header.
    #[must_use]
    pub fn ether_type(self, ether_type: u16) -> Self {
        Self { ether_type: Some(ether_type), ..self }
    }

    /// With `length` bytes of IPv4 options: a multiple of 4, at most 40.
    #[must_use]
    pub fn options(self, length: usize) -> Self {
        Self { options: length, ..self }
    }

    /// As a fragment: offset in units of 8 bytes, and whether more follow. What a later fragment carries looks like a
    /// transport header all the same.
    #[must_use]
    pub fn fragment(self, offset: u16, more: bool) -> Self {
        if self.source.is_ipv6() {
            return self.extension(Extension::Fragment(offset, more));
        }
        Self { fragment: (offset, more), ..self }
    }

    /// With an IPv6 extension header behind those that it has.
    #[must_use]
    pub fn extension(mut self, extension: Extension) -> Self {
        self.extensions.push(extension);
        self
    }

    /// With this transport header.
    #[must_use]
    pub fn transport(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }

    /// With `length` bytes behind the transport header, 8 at first.
    #[must_use]
    pub fn payload(self, length: usize) -> Self {
        Self { payload: length, ..self }
    }

    /// The flow of the answers, with the same headers.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source, ..self }
    }

    /// Source address and port.
    pub const fn source(&self) -> SocketAddr {
        self.source
    }

    /// Destination address and port.
    pub const fn destination(&self) -> SocketAddr {
        self.destination
    }

    /// The protocol number of its transport header.
    pub const fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Tcp(_) => protocol::TCP,
            Transport::Udp => protocol::UDP,
            Transport::UdpLite => protocol::UDP_LITE,
            Transport::Sctp => protocol::SCTP,
            Transport::Dccp => protocol::DCCP,
            Transport::Icmp(..) | Transport::Unreachable if self.source.is_ipv4() => protocol::ICMP,
            Transport::Icmp(..) | Transport::Unreachable => protocol::ICMPV6,
            Transport::Other(number) => number,
        }
    }
}
