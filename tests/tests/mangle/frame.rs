//! The bytes of a packet, and what the cache knows it by.

use std::net::SocketAddr;

use bytes::BytesMut;
use pcc_ebpf::abi::FlowKey;
use tests::packet::{Extension, Packet, Transport, flag};

use crate::reference;

const ETHERNET: usize = 14;
/// Identifier of all echoes.
const ECHO: u16 = 7;

impl reference::Packet {
    /// The Ethernet frame; `extended`: with IPv4 options, or with an IPv6 extension header.
    pub fn frame(&self, extended: bool) -> BytesMut {
        let packet = self;
        let is_ipv6 = packet.source.is_ipv6();
        let (transport, transport_length) = match packet.protocol {
            6 => (Transport::Tcp(packet.tcp_flags), 20),
            17 => (Transport::Udp, 8),
            136 => (Transport::UdpLite, 8),
            132 => (Transport::Sctp, 12),
            33 => (Transport::Dccp, 20),
            1 | 58 => (Transport::Icmp(packet.icmp_type, ECHO), 8),
            other => (Transport::Other(other), 0),
        };
        let (header, extension) = if is_ipv6 { (40, 8) } else { (20, 4) };
        let headers = header + if extended { extension } else { 0 } + transport_length;
        let source = SocketAddr::new(packet.source, packet.source_port);
        let destination = SocketAddr::new(packet.destination, packet.destination_port);
        let sent = Packet::between(source, destination).transport(transport);
        let sent = match (extended, is_ipv6) {
            (false, _) => sent,
            (true, false) => sent.options(extension),
            (true, true) => sent.extension(Extension::HopByHop(0)),
        };
        let mut frame = BytesMut::from(&sent.payload(packet.size as usize - headers).build()[..]);
        assert_eq!(frame.len(), ETHERNET + packet.size as usize, "{self:?}");
        if is_ipv6 {
            frame[ETHERNET] |= packet.dscp >> 2;
            frame[ETHERNET + 1] |= packet.dscp << 6;
            frame[ETHERNET + 7] = packet.ttl;
        } else {
            frame[ETHERNET + 1] = packet.dscp << 2 | 1;
            frame[ETHERNET + 8] = packet.ttl;
        }
        if matches!(packet.protocol, 1 | 58) {
            frame[ETHERNET + headers - transport_length + 1] = packet.icmp_code;
        }
        frame
    }

    /// A packet the other way, by the interface that this one came in by.
    pub fn answer(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            ..self.clone()
        }
    }

    /// It begins a TCP connection.
    pub const fn opens(&self) -> bool {
        self.protocol == 6 && self.tcp_flags & (flag::SYN | flag::ACK) == flag::SYN
    }

    /// The key of its flow; `None` for an ICMP error, which belongs to another one.
    pub fn key(&self) -> Option<FlowKey> {
        let ports = match (self.protocol, self.icmp_type) {
            (1, 0 | 8) | (58, 128 | 129) => [ECHO; 2],
            (1 | 58, _) => return None,
            // 0 for protocols without ports.
            _ => [self.source_port, self.destination_port],
        };
        let source = SocketAddr::new(self.source, ports[0]);
        Some(FlowKey::new(source, SocketAddr::new(self.destination, ports[1]), self.protocol))
    }
}
