//! Packets of a connection as frames, and what can be wrong with them.

use std::net::{IpAddr, SocketAddr};

use pcc_ebpf::candidate::fold;
use pcc_ebpf::packet::protocol;
use tests::packet::{Extension, Packet, Transport};

use crate::world::{CLIENT_MAC, LAN_MAC, SERVER_MAC, WAN_MAC};

pub type Mac = [u8; 6];

/// A connection from the client to the server. The router keeps its port, which no other connection has.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub ipv6: bool,
    pub tcp: bool,
    pub port: u16,
}

impl Flow {
    pub const SERVER_PORT: u16 = 443;

    const fn protocol(&self) -> u8 {
        if self.tcp { protocol::TCP } else { protocol::UDP }
    }
}

/// A packet on its way to the router: a sound one of its connection, and what is changed about it, in the order of the fields.
#[derive(Clone, Debug)]
pub struct Shot {
    /// From the client; else from the server.
    pub outward: bool,
    /// Tells it from others, in the place of the IP id.
    pub number: u32,
    pub body: Body,
    /// Flags of TCP.
    pub flags: u8,
    /// Sequence and acknowledgement number.
    pub numbers: (u16, u16),
    /// Bytes behind the header.
    pub payload: usize,
    pub tos: u8,
    pub ttl: u8,
    pub may_fragment: bool,
    pub tags: Vec<(u16, u16)>,
    /// Of IPv4.
    pub options: usize,
    /// Of IPv6.
    pub extensions: Vec<Extension>,
    /// Words of the TCP header.
    pub data_offset: Option<u8>,
    /// Added to the length in the UDP header.
    pub datagram: i16,
    /// Added to the length in the IP header.
    pub length: i16,
    /// Bytes of the IP header and of the transport header, but addresses, ports, sequence numbers and flags.
    pub flips: Vec<(bool, usize, u8)>,
    pub ip_checksum: Checksum,
    pub checksum: Checksum,
    pub destination: Destination,
    /// Bytes behind the packet.
    pub padding: usize,
    /// How many are missing at its end instead.
    pub missing: usize,
}

/// What it carries.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    /// What the connection's packets carry.
    Plain,
    /// The same in two fragments; where it is cut, and whether the second comes first.
    Fragments(usize, bool),
    /// An ICMP echo request.
    Echo,
    /// An ICMP error about a datagram of the other direction.
    Error,
    /// To a port that the connection does not have.
    Stranger,
}

/// What is in the field of a checksum.
#[derive(Clone, Copy, Debug)]
pub enum Checksum {
    Right,
    /// What is right, and this.
    Plus(u16),
    /// This, right or wrong.
    Fixed(u16),
    /// This, and something else of the packet makes it right.
    Steered(u16),
    /// The same, but the checksum is the one that the packet has behind the router.
    SteeredBehind(u16),
}

/// The link-layer destination.
#[derive(Clone, Copy, Debug)]
pub enum Destination {
    Router,
    Neighbour,
    Broadcast,
    Multicast,
}

impl Shot {
    /// A sound packet from the client.
    pub const fn plain(payload: usize) -> Self {
        Self {
            outward: true,
            number: 0,
            body: Body::Plain,
            flags: 0x10,
            numbers: (0, 0),
            payload,
            tos: 0,
            ttl: 64,
            may_fragment: false,
            tags: Vec::new(),
            options: 0,
            extensions: Vec::new(),
            data_offset: None,
            datagram: 0,
            length: 0,
            flips: Vec::new(),
            ip_checksum: Checksum::Right,
            checksum: Checksum::Right,
            destination: Destination::Router,
            padding: 0,
            missing: 0,
        }
    }

    /// The frames that it is made of, between these ends, with the router's outer address.
    pub fn frames(&self, flow: &Flow, ends: (SocketAddr, SocketAddr), router: IpAddr) -> Vec<Vec<u8>> {
        let (mut frame, ip, transport) = self.build(flow, ends);
        self.change_headers(flow, &mut frame, ip, transport);
        self.change_checksums(flow, &mut frame, ip, transport, (ends, router));
        if let Body::Fragments(at, swapped) = self.body {
            let mut two = self.cut(&frame, ip, transport, at);
            if swapped {
                two.reverse();
            }
            return two;
        }
        if self.missing == 0 {
            frame.resize(frame.len() + self.padding, 0xee);
        }
        frame.truncate(frame.len().saturating_sub(self.missing).max(14));
        vec![frame]
    }

    /// A sound frame, and where its IP header and its transport header are.
    fn build(&self, flow: &Flow, (source, mut destination): (SocketAddr, SocketAddr)) -> (Vec<u8>, usize, usize) {
        if matches!(self.body, Body::Stranger) {
            destination.set_port(destination.port() + 1);
        }
        let (transport, header) = match self.body {
            Body::Echo => (Transport::Icmp(if flow.ipv6 { 128 } else { 8 }, flow.port), 8),
            Body::Error => (Transport::Unreachable, if flow.ipv6 { 8 + 56 } else { 8 + 36 }),
            _ if flow.tcp => (Transport::Tcp(self.flags), 20),
            _ => (Transport::Udp, 8),
        };
        let packet = Packet::between(source, destination).transport(transport).payload(self.payload);
        let packet = self.tags.iter().fold(packet, |packet, (kind, id)| packet.tag(*kind, *id));
        let packet = if flow.ipv6 {
            self.extensions.iter().fold(packet, |packet, extension| packet.extension(*extension))
        } else {
            packet.options(self.options)
        };
        let mut frame = packet.build().to_vec();
        let (own, peer) = if self.outward { (CLIENT_MAC, LAN_MAC) } else { (SERVER_MAC, WAN_MAC) };
        frame[..6].copy_from_slice(&match self.destination {
            Destination::Router => peer,
            Destination::Neighbour => [0x02, 0, 0, 0, 9, 9],
            Destination::Broadcast => [0xff; 6],
            Destination::Multicast => [0x01, 0, 0x5e, 0, 0, 5],
        });
        frame[6..12].copy_from_slice(&own);
        let transport = frame.len() - self.payload - header;
        (frame, 14 + 4 * self.tags.len(), transport)
    }

    fn change_headers(&self, flow: &Flow, frame: &mut [u8], ip: usize, transport: usize) {
        let plain = !matches!(self.body, Body::Echo | Body::Error);
        if plain && flow.tcp {
            // A reset is taken for an old one by what conntrack has seen acknowledged: this one is new.
            let reset = if self.flags & 4 != 0 { 200_000 } else { 0 };
            let sequence = 1_000_000 + reset + u32::from(self.numbers.0);
            frame[transport + 4..transport + 8].copy_from_slice(&sequence.to_be_bytes());
            let acknowledged = 1_000_000 + u32::from(self.numbers.1);
            frame[transport + 8..transport + 12].copy_from_slice(&acknowledged.to_be_bytes());
            if let Some(words) = self.data_offset {
                frame[transport + 12] = words << 4;
            }
        }
        if plain && !flow.tcp {
            add(&mut frame[transport + 4..transport + 6], self.datagram);
        }
        if flow.ipv6 {
            let label = self.number & 0xfffff;
            let first = 6 << 28 | u32::from(self.tos) << 20 | label;
            frame[ip..ip + 4].copy_from_slice(&first.to_be_bytes());
            frame[ip + 7] = self.ttl;
            add(&mut frame[ip + 4..ip + 6], self.length);
        } else {
            frame[ip + 1] = self.tos;
            frame[ip + 4..ip + 6].copy_from_slice(&(self.number as u16).to_be_bytes());
            if !self.may_fragment && !matches!(self.body, Body::Fragments(..)) {
                frame[ip + 6] |= 0x40;
            }
            frame[ip + 8] = self.ttl;
            add(&mut frame[ip + 2..ip + 4], self.length);
        }
        let (addresses, header) = if flow.ipv6 { (8..40, 40) } else { (12..20, 20) };
        for (in_ip, at, value) in &self.flips {
            let at = if *in_ip { ip + at % header } else { transport + at % 20 };
            let kept = addresses.contains(&at.wrapping_sub(ip))
                || (transport..transport + 4).contains(&at)
                || flow.tcp && (transport + 4..transport + 12).contains(&at)
                || flow.tcp && at == transport + 13;
            if !kept && let Some(byte) = frame.get_mut(at) {
                *byte ^= value;
            }
        }
    }

    fn change_checksums(
        &self,
        flow: &Flow,
        frame: &mut [u8],
        ip: usize,
        transport: usize,
        (ends, router): ((SocketAddr, SocketAddr), IpAddr),
    ) {
        let field = match self.body {
            Body::Echo | Body::Error => transport + 2,
            _ if flow.tcp => transport + 16,
            _ => transport + 6,
        };
        let is_datagram = matches!(self.body, Body::Plain | Body::Stranger | Body::Fragments(..));
        let rest = if is_datagram { pseudo(flow, ends, frame.len() - transport) } else { 0 };
        if is_datagram || !flow.ipv6 {
            put(frame, field, [0, 0]);
            let right = !(fold(rest + sum(&frame[transport..])) as u16);
            let right = if right == 0 && !flow.tcp { 0xffff } else { right };
            put(frame, field, right.to_be_bytes());
        }
        if let Some(value) = self.checksum.other_than(u16::from_be_bytes([frame[field], frame[field + 1]])) {
            put(frame, field, value.to_be_bytes());
        }
        if is_datagram && let Checksum::Steered(value) | Checksum::SteeredBehind(value) = self.checksum {
            let behind = matches!(self.checksum, Checksum::SteeredBehind(_));
            let ends = match behind {
                false => ends,
                true if self.outward => (SocketAddr::new(router, ends.0.port()), ends.1),
                true => (ends.0, SocketAddr::new(crate::world::client(flow.ipv6), ends.1.port())),
            };
            // Some bytes behind the header, at an even place.
            let at = transport + if flow.tcp { 20 } else { 8 };
            if frame.len() >= at + 2 {
                put(frame, field, value.to_be_bytes());
                put(frame, at, [0, 0]);
                let others = pseudo(flow, ends, frame.len() - transport) + sum(&frame[transport..]);
                put(frame, at, (!(fold(others) as u16)).to_be_bytes());
                // The place that was steered is right behind the router; before it, the checksum is another one.
                if behind {
                    put(frame, field, [0, 0]);
                    let right = !(fold(rest + sum(&frame[transport..])) as u16);
                    put(frame, field, right.to_be_bytes());
                }
            }
        }
        if !flow.ipv6 {
            self.change_ip_checksum(frame, ip);
        }
    }

    fn change_ip_checksum(&self, frame: &mut [u8], ip: usize) {
        let end = (ip + usize::from(frame[ip] & 15) * 4).clamp(ip + 20, frame.len().max(ip + 20));
        let Some(header) = frame.get_mut(ip..end) else { return };
        if let Checksum::Steered(value) | Checksum::SteeredBehind(value) = self.ip_checksum {
            put(header, 10, value.to_be_bytes());
            put(header, 4, [0, 0]);
            let id = !(fold(sum(header)) as u16);
            put(header, 4, id.to_be_bytes());
            return;
        }
        put(header, 10, [0, 0]);
        let right = !(fold(sum(header)) as u16);
        put(header, 10, self.ip_checksum.other_than(right).unwrap_or(right).to_be_bytes());
    }

    /// Two fragments of a plain packet.
    fn cut(&self, frame: &[u8], ip: usize, transport: usize, at: usize) -> Vec<Vec<u8>> {
        let data = &frame[transport..];
        let at = (at * 8).clamp(8, data.len().max(9) - 1) / 8 * 8;
        let pieces = [(0, &data[..at.min(data.len())], true), (at, &data[at.min(data.len())..], false)];
        let is_ipv6 = frame[ip] >> 4 == 6;
        let piece = |(offset, bytes, more): (usize, &[u8], bool)| {
            let mut piece = frame[..transport].to_vec();
            if is_ipv6 {
                let next = std::mem::replace(&mut piece[ip + 6], 44);
                piece.extend([next, 0]);
                piece.extend((offset as u16 | u16::from(more)).to_be_bytes());
                piece.extend(self.number.to_be_bytes());
                let length = (piece.len() - ip - 40 + bytes.len()) as u16;
                put(&mut piece, ip + 4, length.to_be_bytes());
            } else {
                put(&mut piece, ip + 2, ((transport - ip + bytes.len()) as u16).to_be_bytes());
                let more = if more { 0x2000 } else { 0 };
                put(&mut piece, ip + 6, (more | (offset / 8) as u16).to_be_bytes());
                self.change_ip_checksum(&mut piece, ip);
            }
            piece.extend(bytes);
            piece
        };
        pieces.into_iter().map(piece).collect()
    }
}

impl Checksum {
    const fn other_than(self, right: u16) -> Option<u16> {
        match self {
            Self::Plus(value) => Some(right.wrapping_add(value)),
            Self::Fixed(value) => Some(value),
            Self::Right | Self::Steered(_) | Self::SteeredBehind(_) => None,
        }
    }
}

fn put(bytes: &mut [u8], at: usize, two: [u8; 2]) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&two);
    }
}

fn add(field: &mut [u8], value: i16) {
    let sum = u16::from_be_bytes([field[0], field[1]]).wrapping_add_signed(value);
    field.copy_from_slice(&sum.to_be_bytes());
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|two| u64::from(two[0]) << 8 | two.get(1).map_or(0, |low| u64::from(*low))).sum()
}

/// The sum of the header that the transport's checksum covers besides.
fn pseudo(flow: &Flow, ends: (SocketAddr, SocketAddr), length: usize) -> u64 {
    let address = |end: SocketAddr| match end.ip() {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    };
    address(ends.0) + address(ends.1) + u64::from(flow.protocol()) + length as u64
}
