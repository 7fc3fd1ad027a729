//! ICMP and ICMPv6 echo over one uplink.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, BytesMut};
use network_types::icmp::{Icmpv4Hdr, Icmpv4Type, Icmpv6Hdr, Icmpv6Type};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

const _: () = assert!(Icmpv4Hdr::LEN == Icmpv6Hdr::LEN, "both headers are built by one function");

/// Identity and send time, which the answer brings back.
const PAYLOAD: usize = 2 * size_of::<u64>();

/// Pings one address over one device. Answers that come in by another device, from another host or to somebody else's
/// ping are not seen.
#[derive(Debug)]
pub struct Prober {
    /// A raw socket. This type sends and receives datagrams whatever their protocol; tokio's `AsyncFd` needs `unsafe`.
    socket: UdpSocket,
    target: SocketAddr,
    identity: Identity,
    start: Instant,
}

/// An answer to a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The number that the ping was sent with.
    pub sequence: u16,
    /// Time from sending to reading the answer.
    pub round_trip: Duration,
}

impl Prober {
    /// Opens a raw socket in the network namespace of the calling thread, inside a tokio runtime. `mark` is the mark of the
    /// uplink in host order: the device alone does not lead the kernel to the uplink's gateway, nor does the mark alone keep
    /// the ping on the device. Fails without `CAP_NET_RAW` and `CAP_NET_ADMIN`, or if there is no such device. A device that
    /// was removed and made again needs a new prober.
    pub fn new(device: Option<&str>, ifindex: u32, mark: u32, target: IpAddr) -> io::Result<Self> {
        let (domain, protocol, target) = match target {
            IpAddr::V4(address) => (Domain::IPV4, Protocol::ICMPV4, SocketAddr::from((address, 0))),
            IpAddr::V6(address) => {
                let scope = if address.is_unicast_link_local() { ifindex } else { 0 };
                (Domain::IPV6, Protocol::ICMPV6, SocketAddrV6::new(address, 0, 0, scope).into())
            }
        };
        let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(protocol))?;
        socket.set_mark(mark)?;
        socket.bind_device(device.map(str::as_bytes))?;
        let identity = Identity(RandomState::new().build_hasher().finish());
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, target, identity, start: Instant::now() })
    }

    /// Sends one ping without waiting. An error (no route, no neighbour, device down or gone) means that this ping is lost,
    /// no more: the next one may succeed.
    pub fn send(&self, sequence: u16) -> io::Result<()> {
        // 2^64 µs are longer than any uptime.
        let sent = self.start.elapsed().as_micros() as u64;
        let request = if self.target.is_ipv4() { Icmpv4Type::Echo as u8 } else { Icmpv6Type::EchoRequest as u8 };
        let packet = self.identity.request(request, sequence, sent);
        SockRef::from(&self.socket).send_to(&packet, &self.target.into()).map(|_| ())
    }

    /// Waits for the next answer, also to an older ping. Safe to cancel.
    pub async fn receive(&self) -> Answer {
        let mut buffer = [0; 256];
        loop {
            match self.socket.recv_from(&mut buffer).await {
                Ok((length, source)) if source.ip() == self.target.ip() => {
                    if let Some(answer) = self.answer(&buffer[..length]) {
                        return answer;
                    }
                }
                Ok(_) => {}
                // Losses are told by the absence of answers; the pause keeps a lasting error from spinning.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn answer(&self, packet: &[u8]) -> Option<Answer> {
        let (reply, message) = if self.target.is_ipv4() {
            // Raw IPv4 sockets deliver the IP header; its length is in words in the low half of the first byte.
            let header = usize::from(packet.first()? & 0x0f) * size_of::<u32>();
            (Icmpv4Type::EchoReply as u8, packet.get(header..)?)
        } else {
            (Icmpv6Type::EchoReply as u8, packet)
        };
        let (sequence, sent) = self.identity.reply(reply, message)?;
        Some(Answer { sequence, round_trip: self.start.elapsed().saturating_sub(Duration::from_micros(sent)) })
    }
}

/// A random number that tells our pings from those of others; its low bits are the echo identifier.
#[derive(Clone, Copy, Debug)]
struct Identity(u64);

impl Identity {
    fn identifier(self) -> u16 {
        self.0 as u16
    }

    /// An echo request; `sent` comes back in the answer.
    fn request(self, kind: u8, sequence: u16, sent: u64) -> BytesMut {
        let mut packet = BytesMut::with_capacity(Icmpv4Hdr::LEN + PAYLOAD);
        packet.put_u8(kind);
        packet.put_u8(0);
        packet.put_u16(0);
        packet.put_u16(self.identifier());
        packet.put_u16(sequence);
        packet.put_u64(self.0);
        packet.put_u64(sent);
        // For ICMPv6 the kernel writes its own, which covers the addresses.
        let checksum = checksum(&packet);
        packet[2..4].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    /// Sequence number and send time, if `packet` is the answer to a request of ours.
    fn reply(self, kind: u8, mut packet: &[u8]) -> Option<(u16, u64)> {
        if packet.len() < Icmpv4Hdr::LEN + PAYLOAD || packet.get_u8() != kind || packet.get_u8() != 0 {
            return None;
        }
        packet.advance(size_of::<u16>());
        let (identifier, sequence) = (packet.get_u16(), packet.get_u16());
        let (identity, sent) = (packet.get_u64(), packet.get_u64());
        (identifier == self.identifier() && identity == self.0).then_some((sequence, sent))
    }
}

/// RFC 1071 over an even number of bytes.
fn checksum(packet: &[u8]) -> u16 {
    let words = packet.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDENTITY: Identity = Identity(0x0123_4567_89ab_cdef);

    #[test]
    fn an_echo_request_is_laid_out_as_rfc_792_says() {
        let packet = IDENTITY.request(8, 0x1234, 7);
        assert_eq!(packet[..2], [8, 0]);
        assert_eq!(packet[4..16], [0xcd, 0xef, 0x12, 0x34, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
        assert_eq!(packet[16..], 7_u64.to_be_bytes());
        assert_eq!(checksum(&packet), 0, "a packet with its checksum adds up to nothing");
    }

    proptest! {
        #[test]
        fn only_our_own_answers_are_taken(sequence: u16, sent: u64, byte in 0_usize..24, bits in 1_u8..) {
            let mut packet = IDENTITY.request(0, sequence, sent);
            prop_assert_eq!(IDENTITY.reply(0, &packet), Some((sequence, sent)));
            prop_assert_eq!(IDENTITY.reply(0, &packet[..23]), None);
            prop_assert_eq!(IDENTITY.reply(129, &packet), None);
            packet[byte] ^= bits;
            let free = (2..4).contains(&byte) || (6..8).contains(&byte) || byte >= 16;
            prop_assert_eq!(IDENTITY.reply(0, &packet).is_some(), free);
        }

        #[test]
        fn no_packet_makes_it_panic(packet in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = IDENTITY.reply(0, &packet);
        }
    }
}
