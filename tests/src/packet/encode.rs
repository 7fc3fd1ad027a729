//! From headers to bytes.

use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};
use network_types::eth::EthHdr;
use network_types::ip::Ipv4Hdr;
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;
use pcc_ebpf::packet::ether;

use super::{Extension, Packet, Transport};

impl Packet {
    /// Its bytes.
    pub fn build(&self) -> Bytes {
        let mut packet = BytesMut::new();
        if self.ethernet {
            self.put_ethernet(&mut packet);
        }
        let transport = self.transport_bytes();
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let start = packet.len();
                let header = Ipv4Hdr::LEN + self.options;
                let (offset, more) = self.fragment;
                packet.put_u8(0x40 | (header / 4) as u8);
                packet.put_u8(0);
                packet.put_u16((header + transport.len()) as u16);
                packet.put_u16(0x1234);
                packet.put_u16(offset & 0x1fff | if more { 0x2000 } else { 0 });
                packet.put_u8(64);
                packet.put_u8(self.protocol());
                packet.put_u16(0);
                packet.put_slice(&source.octets());
                packet.put_slice(&destination.octets());
                // No-operation options.
                packet.put_bytes(1, self.options);
                let sum = checksum(&[&packet[start..]]).to_be_bytes();
                packet[start + 10..start + 12].copy_from_slice(&sum);
            }
            (source, destination) => {
                let (extensions, first) = self.extension_bytes();
                packet.put_u32(0x6000_0000);
                packet.put_u16((extensions.len() + transport.len()) as u16);
                packet.put_u8(first);
                packet.put_u8(64);
                packet.put_slice(&octets(source));
                packet.put_slice(&octets(destination));
                packet.put(extensions);
            }
        }
        packet.put(transport);
        packet.freeze()
    }

    fn put_ethernet(&self, packet: &mut BytesMut) {
        packet.put_slice(&[0x02, 0, 0, 0, 0, 1]);
        packet.put_slice(&[0x02, 0, 0, 0, 0, 2]);
        debug_assert_eq!(packet.len(), EthHdr::LEN - 2);
        for (ether_type, id) in &self.tags {
            packet.put_u16(*ether_type);
            packet.put_u16(*id);
        }
        let own = if self.source.is_ipv4() { ether::IPV4 } else { ether::IPV6 };
        packet.put_u16(self.ether_type.unwrap_or(own));
    }

    /// The extension headers, and the number of what stands first after the IPv6 header.
    fn extension_bytes(&self) -> (BytesMut, u8) {
        let numbers = self.extensions.iter().map(|extension| extension.number()).chain([self.protocol()]);
        let mut numbers = numbers.skip(1);
        let mut bytes = BytesMut::new();
        for extension in &self.extensions {
            bytes.put_u8(numbers.next().unwrap_or_default());
            match *extension {
                Extension::HopByHop(length) | Extension::Routing(length) | Extension::Destination(length) => {
                    bytes.put_u8(length);
                    bytes.put_bytes(0, (usize::from(length) + 1) * 8 - 2);
                }
                Extension::Authentication(length) => {
                    bytes.put_u8(length);
                    bytes.put_bytes(0, (usize::from(length) + 2) * 4 - 2);
                }
                Extension::Fragment(offset, more) => {
                    bytes.put_u8(0);
                    bytes.put_u16(offset << 3 | u16::from(more));
                    bytes.put_u32(0x1234_5678);
                }
            }
        }
        (bytes, self.extensions.first().map_or(self.protocol(), |extension| extension.number()))
    }

    /// The transport header with its payload.
    fn transport_bytes(&self) -> BytesMut {
        let mut bytes = BytesMut::new();
        if pcc_ebpf::flow::has_ports(self.protocol().into()) && !matches!(self.transport, Transport::Other(_)) {
            bytes.put_u16(self.source.port());
            bytes.put_u16(self.destination.port());
        }
        match self.transport {
            Transport::Tcp(flags) => {
                bytes.put_u32(1);
                bytes.put_u32(2);
                bytes.put_u8(((TcpHdr::LEN / 4) << 4) as u8);
                bytes.put_u8(flags);
                bytes.put_u16(1024);
                bytes.put_u32(0);
            }
            Transport::Udp => {
                bytes.put_u16((UdpHdr::LEN + self.payload) as u16);
                bytes.put_u16(0);
            }
            Transport::UdpLite => bytes.put_u32(0),
            Transport::Sctp => {
                bytes.put_u32(0x1234_5678);
                bytes.put_u32(0);
            }
            // Data offset 5, checksum coverage 0, type request, short sequence number; then a service code.
            Transport::Dccp => bytes.put_slice(&[5, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7]),
            Transport::Icmp(kind, identifier) => {
                bytes.put_u32(u32::from(kind) << 24);
                bytes.put_u16(identifier);
                bytes.put_u16(1);
            }
            Transport::Unreachable => {
                bytes.put_u32(if self.source.is_ipv4() { 3 << 24 } else { 1 << 24 });
                bytes.put_u32(0);
                let about = Self::between(self.destination, self.source).bare().transport(Transport::Udp);
                bytes.put(about.build());
            }
            Transport::Other(_) => {}
        }
        bytes.put_bytes(0x55, self.payload);
        self.put_checksum(&mut bytes);
        bytes
    }

    fn put_checksum(&self, bytes: &mut [u8]) {
        let (place, pseudo) = match self.transport {
            Transport::Tcp(_) => (16, true),
            Transport::Udp | Transport::UdpLite | Transport::Dccp => (6, true),
            Transport::Icmp(..) | Transport::Unreachable => (2, self.source.is_ipv6()),
            Transport::Sctp | Transport::Other(_) => return,
        };
        let mut header = BytesMut::new();
        if pseudo {
            header.put_slice(&octets(self.source.ip()));
            header.put_slice(&octets(self.destination.ip()));
            header.put_u32(bytes.len() as u32);
            header.put_u32(self.protocol().into());
        }
        // 0 would say that there is no checksum; to all but UDP both are the same.
        let sum = match checksum(&[&header, bytes]) {
            0 => 0xffff_u16,
            sum => sum,
        };
        let sum = sum.to_be_bytes();
        bytes[place..place + 2].copy_from_slice(&sum);
    }
}

impl Extension {
    const fn number(self) -> u8 {
        match self {
            Self::HopByHop(_) => 0,
            Self::Routing(_) => 43,
            Self::Fragment(..) => 44,
            Self::Authentication(_) => 51,
            Self::Destination(_) => 60,
        }
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The Internet checksum (RFC 1071) of parts of which only the last may have an odd length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let halves = parts.iter().flat_map(|part| part.chunks(2));
    let sum = halves.map(|half| u64::from(half[0]) << 8 | half.get(1).map_or(0, |low| u64::from(*low))).sum::<u64>();
    !(0..4).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A datagram of RFC 1071's kind, summed by hand.
    #[test]
    fn checksums_are_those_of_the_wire() {
        let packet = Packet::new("192.0.2.1:1", "198.51.100.2:2").bare().transport(Transport::Udp).payload(0).build();
        assert_eq!(checksum(&[&packet[..20]]), 0, "a header with its checksum sums up to nothing");
        // c000 + 0201 + c633 + 6402 + 0011 + 0008 + 0001 + 0002 + 0008 = 1ec5a, folded ec5b, inverted 13a4.
        assert_eq!(packet[26..28], [0x13, 0xa4]);
    }

    #[test]
    fn lengths_are_those_of_the_headers() {
        let packet = Packet::new("[2001:db8::1]:1", "[2001:db8::2]:2")
            .extension(Extension::HopByHop(1))
            .extension(Extension::Authentication(4))
            .fragment(0, true)
            .payload(0);
        let bytes = packet.build();
        assert_eq!(bytes.len(), 14 + 40 + 16 + 24 + 8 + 20);
        assert_eq!(usize::from(bytes[18]) << 8 | usize::from(bytes[19]), bytes.len() - 54);
        assert_eq!((bytes[20], bytes[54], bytes[70], bytes[94]), (0, 51, 44, 6));
    }
}
