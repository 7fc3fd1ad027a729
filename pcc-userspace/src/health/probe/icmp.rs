//! ICMP and ICMPv6 echo over one uplink.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, BytesMut};
use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice};
use network_types::icmp::{Icmpv4Hdr, Icmpv4Type, Icmpv6Hdr, Icmpv6Type};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use super::{Answer, filter};

const _: () = assert!(Icmpv4Hdr::LEN == Icmpv6Hdr::LEN, "both headers are built by one function");

/// Identity and send time, which the answer brings back.
const PAYLOAD: usize = 2 * size_of::<u64>();

/// Pings one address over one device. Answers that come in by another device, from another host or to somebody else's
/// ping are not seen.
#[derive(Debug)]
pub struct Pinger {
    /// A raw socket. This type sends and receives datagrams whatever their protocol; tokio's `AsyncFd` needs `unsafe`.
    socket: UdpSocket,
    target: SocketAddr,
    identity: Identity,
    start: Instant,
}

/// What comes back for a ping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The answer.
    Answer(Answer),
    /// A router, or the host itself, says why the ping with this number is not answered.
    Error(u16, String),
}

impl Pinger {
    /// Opens a raw socket in the network namespace of the calling thread, inside a tokio runtime. `mark` is the mark of the
    /// uplink in host order: the device alone does not lead the kernel to the uplink's gateway, nor does the mark alone keep
    /// the ping on the device. Fails without `CAP_NET_RAW` and `CAP_NET_ADMIN`, or if there is no such device. A device that
    /// was removed and made again needs a new pinger.
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
        socket.attach_filter(&filter::echo(target.is_ipv4(), identity.identifier()))?;
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
        loop {
            if let Heard::Answer(answer) = self.hear().await {
                return answer;
            }
        }
    }

    /// Waits for the next answer or error, also to an older ping. Safe to cancel.
    pub async fn hear(&self) -> Heard {
        let mut buffer = [0; 256];
        loop {
            match self.socket.recv_from(&mut buffer).await {
                Ok((length, source)) => {
                    if let Some(heard) = self.read(&buffer[..length], source.ip()) {
                        return heard;
                    }
                }
                // Losses are told by the absence of answers; the pause keeps a lasting error from spinning.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn read(&self, packet: &[u8], source: IpAddr) -> Option<Heard> {
        let (reply, message) = if self.target.is_ipv4() {
            // Raw IPv4 sockets deliver the IP header; its length is in words in the low half of the first byte.
            let header = usize::from(packet.first()? & 0x0f) * size_of::<u32>();
            (Icmpv4Type::EchoReply as u8, packet.get(header..)?)
        } else {
            (Icmpv6Type::EchoReply as u8, packet)
        };
        if source == self.target.ip()
            && let Some((sequence, sent)) = self.identity.reply(reply, message)
        {
            let round_trip = self.start.elapsed().saturating_sub(Duration::from_micros(sent));
            return Some(Heard::Answer(Answer { sequence, round_trip }));
        }
        let why = meaning(self.target.is_ipv4(), *message.first()?, *message.get(1)?)?;
        let sequence = self.identity.quoted(message.get(Icmpv4Hdr::LEN..)?, self.target.ip())?;
        Some(Heard::Error(sequence, format!("{why}, says {source}")))
    }
}

/// Why a packet was not delivered, from type and code of an ICMP error (RFC 792, 1812, 4443); `None` for all else, also for
/// packets that are too big: pings are not.
fn meaning(ipv4: bool, kind: u8, code: u8) -> Option<&'static str> {
    Some(match (ipv4, kind, code) {
        (true, 3, 4) => return None,
        (true, 3, 0 | 6 | 8 | 11) => "network unreachable",
        (true, 3, 1 | 5 | 7 | 12) => "host unreachable",
        (true, 3, 2 | 3) => "service unreachable",
        (true, 3, 9 | 10 | 13) | (false, 1, 1 | 5 | 6) => "forbidden",
        (false, 1, 0) => "network unreachable",
        (false, 1, 2 | 3) => "host unreachable",
        (false, 1, 4) => "service unreachable",
        (true, 3, _) | (false, 1, _) => "unreachable",
        (true, 11, _) | (false, 3, _) => "time exceeded",
        _ => return None,
    })
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

    /// Sequence number, if `packet`, the quotation in an ICMP error, is a request of ours to `target`. No more of it than the
    /// ICMP header need be quoted (RFC 792).
    fn quoted(self, packet: &[u8], target: IpAddr) -> Option<u16> {
        let (request, mut message) = match target {
            IpAddr::V4(target) => {
                let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
                let ours = header.destination_addr() == target && header.protocol() == IpNumber::ICMP;
                (Icmpv4Type::Echo as u8, ours.then(|| &packet[header.slice().len()..])?)
            }
            IpAddr::V6(target) => {
                let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
                let ours = header.destination_addr() == target && header.next_header() == IpNumber::IPV6_ICMP;
                (Icmpv6Type::EchoRequest as u8, ours.then(|| &packet[header.slice().len()..])?)
            }
        };
        if message.len() < Icmpv4Hdr::LEN || message.get_u8() != request || message.get_u8() != 0 {
            return None;
        }
        message.advance(size_of::<u16>());
        let (identifier, sequence) = (message.get_u16(), message.get_u16());
        let same = message.len() < size_of::<u64>() || message.get_u64() == self.0;
        (identifier == self.identifier() && same).then_some(sequence)
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
    use std::net::{Ipv4Addr, Ipv6Addr};

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
            let _ = IDENTITY.quoted(&packet, Ipv4Addr::LOCALHOST.into());
            let _ = IDENTITY.quoted(&packet, Ipv6Addr::LOCALHOST.into());
        }

        #[test]
        fn only_quotations_of_our_own_requests_are_taken(
            sequence: u16, ipv6: bool, byte in 0_usize..64, bits in 1_u8.., options in 0_usize..3,
        ) {
            let (target, other, mut packet) = if ipv6 {
                let mut header = vec![0; 40];
                (header[0], header[6]) = (0x60, 58);
                header[24..].copy_from_slice(&[9; 16]);
                (IpAddr::from([9; 16]), IpAddr::from([8; 16]), header)
            } else {
                let mut header = vec![0; 20 + 4 * options];
                (header[0], header[9]) = (0x45 + options as u8, 1);
                header[16..20].copy_from_slice(&[9; 4]);
                (IpAddr::from([9; 4]), IpAddr::from([8; 4]), header)
            };
            let header = packet.len();
            packet.extend_from_slice(&IDENTITY.request(if ipv6 { 128 } else { 8 }, sequence, 7));
            prop_assert_eq!(IDENTITY.quoted(&packet, target), Some(sequence));
            prop_assert_eq!(IDENTITY.quoted(&packet[..header + 8], target), Some(sequence));
            prop_assert_eq!(IDENTITY.quoted(&packet[..header + 7], target), None);
            prop_assert_eq!(IDENTITY.quoted(&packet, other), None);
            // Behind the IP header: type, code, identifier and identity must be ours.
            let byte = byte % 24;
            packet[header + byte] ^= bits;
            let free = (2..4).contains(&byte) || (6..8).contains(&byte) || byte >= 16;
            prop_assert_eq!(IDENTITY.quoted(&packet, target).is_some(), free);
        }
    }
}
