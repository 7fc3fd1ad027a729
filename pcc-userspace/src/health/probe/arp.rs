//! ARP requests for one neighbour on one device, for gateways that answer no ping.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use pnet_datalink::{ChannelType, Config, NetworkInterface, channel, interfaces};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use super::Answer;
use super::latest::Latest;

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV4: u16 = 0x0800;
const HARDWARE_ETHERNET: u16 = 1;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
/// Ethernet header and ARP body.
const FRAME: usize = 14 + 28;

/// A link-layer address.
pub(super) type Mac = [u8; 6];

/// Asks by ARP for one address on one device. Answers for another address, or to somebody else, are not seen.
#[derive(Debug)]
pub struct Requester {
    /// A packet socket; see [`super::icmp::Pinger`] about the type.
    socket: UdpSocket,
    own: Mac,
    source: Ipv4Addr,
    target: Ipv4Addr,
    latest: Latest,
}

impl Requester {
    /// Opens a packet socket in the network namespace of the calling thread, inside a tokio runtime. Fails without
    /// `CAP_NET_RAW`, if there is no such device, or with [`io::ErrorKind::AddrNotAvailable`] if it has no Ethernet address. A
    /// device that was removed and made again or that got another address needs a new requester.
    pub fn new(ifindex: u32, target: Ipv4Addr) -> io::Result<Self> {
        let (device, own) = device(ifindex)?;
        // Without a protocol it hears nothing before it is bound.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)?;
        bind(&socket, &device)?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            own,
            source: source(&device, target),
            target,
            latest: Latest::new(),
        })
    }

    /// Sends one request without waiting. An error means that this request is lost, no more: the next one may succeed.
    pub fn send(&self, sequence: u16) -> io::Result<()> {
        self.latest.asked(sequence);
        let frame = request(self.own, self.source, self.target);
        SockRef::from(&self.socket).send(&frame).map(|_| ())
    }

    /// Waits for the next answer. It counts for the last request, whichever it was to. Safe to cancel.
    pub async fn receive(&self) -> Answer {
        let mut buffer = [0; 128];
        loop {
            match self.socket.recv(&mut buffer).await {
                Ok(length) if is_reply(&buffer[..length], self.own, self.target) => {
                    return self.latest.answered();
                }
                Ok(_) => {}
                // As in `icmp`: the pause keeps a lasting error from spinning.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

/// The device with this index and its Ethernet address.
pub(super) fn device(ifindex: u32) -> io::Result<(NetworkInterface, Mac)> {
    let device = interfaces().into_iter().find(|device| device.index == ifindex);
    let device = device.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    // Of links without one some are listed with zeros.
    let own = device.mac.filter(|mac| !mac.is_zero());
    let own = own.ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?.octets();
    Ok((device, own))
}

/// Binds `socket` to ARP on `device`. The channel is made for that alone: nothing else that is safe binds a packet socket.
fn bind(socket: &Socket, device: &NetworkInterface) -> io::Result<()> {
    let copy = OwnedFd::from(socket.try_clone()?);
    let config = Config {
        channel_type: ChannelType::Layer3(ETHERTYPE_ARP),
        promiscuous: false,
        // The channel closes it.
        socket_fd: Some(copy.into_raw_fd()),
        ..Config::default()
    };
    channel(device, config).map(drop)
}

/// The address to ask from: beside the target, else the first of the device, else none, as before a lease.
fn source(device: &NetworkInterface, target: Ipv4Addr) -> Ipv4Addr {
    let beside = device.ips.iter().filter(|network| network.contains(target.into()));
    let own = beside.chain(&device.ips).find_map(|network| match network.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    own.unwrap_or(Ipv4Addr::UNSPECIFIED)
}

/// RFC 826, to everybody on the link.
fn request(own: Mac, source: Ipv4Addr, target: Ipv4Addr) -> BytesMut {
    let mut frame = BytesMut::with_capacity(FRAME);
    frame.put_slice(&[0xff; 6]);
    frame.put_slice(&own);
    frame.put_u16(ETHERTYPE_ARP);
    frame.put_u16(HARDWARE_ETHERNET);
    frame.put_u16(ETHERTYPE_IPV4);
    frame.put_u8(size_of::<Mac>() as u8);
    frame.put_u8(size_of::<Ipv4Addr>() as u8);
    frame.put_u16(REQUEST);
    frame.put_slice(&own);
    frame.put_slice(&source.octets());
    frame.put_slice(&[0; 6]);
    frame.put_slice(&target.octets());
    frame
}

/// `frame` answers a request of `own` for `target`.
fn is_reply(mut frame: &[u8], own: Mac, target: Ipv4Addr) -> bool {
    if frame.len() < FRAME {
        return false;
    }
    frame.advance(2 * size_of::<Mac>());
    let fixed = [frame.get_u16(), frame.get_u16(), frame.get_u16(), frame.get_u16(), frame.get_u16()];
    let sender = &frame[size_of::<Mac>()..][..4];
    let receiver = &frame[size_of::<Mac>() + 4..][..size_of::<Mac>()];
    fixed == [ETHERTYPE_ARP, HARDWARE_ETHERNET, ETHERTYPE_IPV4, 0x0604, REPLY]
        && sender == target.octets()
        && receiver == own
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWN: Mac = [2, 0, 0, 0, 0, 1];
    const OTHER: Mac = [2, 0, 0, 0, 0, 2];
    const SOURCE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
    const TARGET: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

    fn reply() -> BytesMut {
        let mut frame = request(OTHER, TARGET, SOURCE);
        frame[..6].copy_from_slice(&OWN);
        frame[21] = 2;
        frame[32..38].copy_from_slice(&OWN);
        frame
    }

    #[test]
    fn a_request_is_laid_out_as_rfc_826_says() {
        let frame = request(OWN, SOURCE, TARGET);
        assert_eq!(frame[..14], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6]);
        assert_eq!(frame[14..22], [0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(frame[22..32], [2, 0, 0, 0, 0, 1, 198, 18, 0, 2]);
        assert_eq!(frame[32..], [0, 0, 0, 0, 0, 0, 198, 18, 0, 1]);
        assert!(!is_reply(&frame, OWN, TARGET));
    }

    proptest! {
        #[test]
        fn only_answers_to_us_are_taken(padding in 0_usize..32, byte in 0_usize..42, bits in 1_u8..) {
            let mut frame = reply();
            frame.put_bytes(0, padding);
            prop_assert!(is_reply(&frame, OWN, TARGET));
            prop_assert!(!is_reply(&frame[..41], OWN, TARGET));
            frame[byte] ^= bits;
            let free = byte < 12 || (22..28).contains(&byte) || byte >= 38;
            prop_assert_eq!(is_reply(&frame, OWN, TARGET), free);
        }

        #[test]
        fn no_frame_makes_it_panic(frame in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = is_reply(&frame, OWN, TARGET);
        }
    }
}
