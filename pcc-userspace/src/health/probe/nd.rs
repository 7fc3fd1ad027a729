//! IPv6 neighbour solicitations (RFC 4861) for one neighbour on one device.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use etherparse::icmpv6::{TYPE_NEIGHBOR_ADVERTISEMENT, TYPE_NEIGHBOR_SOLICITATION};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use super::latest::Latest;
use super::{Answer, Path, arp, filter};

/// Neighbours take nothing that may have come through a router (section 7.1).
const HOP_LIMIT: u32 = 255;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
/// ICMPv6 header with flags, and the target.
const ADVERTISEMENT: usize = 8 + 16;
const SOLICITED: u8 = 0x40;

/// Asks for the link-layer address of one neighbour on one device. Advertisements of another address, or that nobody asked
/// for, are not seen; one that the kernel asked for is.
#[derive(Debug)]
pub struct Solicitor {
    /// A raw socket; see [`super::icmp::Pinger`] about the type.
    socket: UdpSocket,
    target: Ipv6Addr,
    group: SocketAddr,
    packet: BytesMut,
    latest: Latest,
}

impl Solicitor {
    /// Opens a raw socket in the network namespace of the calling thread, inside a tokio runtime. Fails without
    /// `CAP_NET_RAW` and `CAP_NET_ADMIN`, if there is no such device, or with [`io::ErrorKind::AddrNotAvailable`] if it has no
    /// Ethernet address. A device that was removed and made again or that got another address needs a new one.
    pub fn new(path: &Path, target: Ipv6Addr) -> io::Result<Self> {
        let (_, own) = arp::device(path.ifindex)?;
        let socket = Socket::new(Domain::IPV6, Type::RAW.nonblocking(), Some(Protocol::ICMPV6))?;
        path.bind(&socket)?;
        socket.set_multicast_hops_v6(HOP_LIMIT)?;
        socket.attach_filter(&filter::kind(TYPE_NEIGHBOR_ADVERTISEMENT))?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            target,
            group: SocketAddrV6::new(group(target), 0, 0, path.ifindex).into(),
            packet: solicitation(own, target),
            latest: Latest::new(),
        })
    }

    /// Sends one solicitation without waiting. An error means that this one is lost, no more: the next may succeed.
    pub fn send(&self, sequence: u16) -> io::Result<()> {
        self.latest.asked(sequence);
        SockRef::from(&self.socket).send_to(&self.packet, &self.group.into()).map(|_| ())
    }

    /// Waits for the next answer. It counts for the last solicitation, whichever it was to. Safe to cancel.
    pub async fn receive(&self) -> Answer {
        let mut buffer = [0; 256];
        loop {
            match self.socket.recv_from(&mut buffer).await {
                Ok((length, SocketAddr::V6(source)))
                    if is_near(*source.ip(), self.target) && is_answer(&buffer[..length], self.target) =>
                {
                    return self.latest.answered();
                }
                Ok(_) => {}
                // As in `icmp`: the pause keeps a lasting error from spinning.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

/// The solicited-node group of `target` (RFC 4291 section 2.7.1).
fn group(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The kernel writes the checksum and chooses the link-local address as source.
fn solicitation(own: arp::Mac, target: Ipv6Addr) -> BytesMut {
    let mut packet = BytesMut::with_capacity(ADVERTISEMENT + 8);
    packet.put_u8(TYPE_NEIGHBOR_SOLICITATION);
    packet.put_bytes(0, 7);
    packet.put_slice(&target.octets());
    packet.put_u8(SOURCE_LINK_LAYER_ADDRESS);
    // Length in units of eight bytes.
    packet.put_u8(1);
    packet.put_slice(&own);
    packet
}

/// No router forwards a packet with a link-local source, nor one with its own address.
fn is_near(source: Ipv6Addr, target: Ipv6Addr) -> bool {
    source == target || source.is_unicast_link_local()
}

fn is_answer(packet: &[u8], target: Ipv6Addr) -> bool {
    packet.len() >= ADVERTISEMENT
        && packet[..2] == [TYPE_NEIGHBOR_ADVERTISEMENT, 0]
        && packet[4] & SOLICITED != 0
        && packet[8..ADVERTISEMENT] == target.octets()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TARGET: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x1234, 0x5678, 0x9abc, 0xdef0);

    #[test]
    fn a_solicitation_is_laid_out_as_rfc_4861_says() {
        assert_eq!(group(TARGET), "ff02::1:ffbc:def0".parse::<Ipv6Addr>().unwrap());
        let packet = solicitation([2, 0, 0, 0, 0, 1], TARGET);
        assert_eq!(packet[..8], [135, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(packet[8..24], TARGET.octets());
        assert_eq!(packet[24..], [1, 1, 2, 0, 0, 0, 0, 1]);
        assert!(!is_answer(&packet, TARGET));
    }

    proptest! {
        #[test]
        fn only_solicited_advertisements_of_the_target_are_taken(byte in 0_usize..24, bits in 1_u8.., options in 0_usize..9) {
            let mut packet = BytesMut::new();
            packet.put_slice(&[136, 0, 0, 0, 0x60, 0, 0, 0]);
            packet.put_slice(&TARGET.octets());
            packet.put_bytes(0, options);
            prop_assert!(is_answer(&packet, TARGET));
            prop_assert!(!is_answer(&packet[..23], TARGET));
            packet[byte] ^= bits;
            let free = (2..8).contains(&byte) && !(byte == 4 && bits & 0x40 != 0);
            prop_assert_eq!(is_answer(&packet, TARGET), free);
        }
    }
}
