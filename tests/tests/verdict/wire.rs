//! Packets that come in by real devices, by the programs as they are attached: in any number of pieces, shorter than a
//! test run takes them, and with VLAN tags that the kernel has taken out.

use std::ffi::c_int;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

use pcc_ebpf::abi::{Counter, Device};
use pcc_ebpf::packet::ether;
use pcc_userspace::dataplane::Side;
use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};
use tests::packet::{Extension, Packet, Transport, flag};

use crate::bench::{Bench, Outcome, with_bench};

/// What the programs ask the kernel to have in one piece.
const PULLED: usize = 192;
/// More than a page: shorter packets are made of one piece whatever is asked for.
const LARGE: usize = 5000;

/// A LAN device, and the other end of its cable.
struct Wire {
    ifindex: u32,
    ethernet: bool,
    cable: OwnedFd,
}

impl Wire {
    /// A tap or tun device with the LAN's programs attached.
    fn new(bench: &mut Bench, ethernet: bool) -> Self {
        let name = if ethernet { "tap" } else { "tun" };
        let cable = open(name, ethernet);
        let up = Command::new("ip").args(["link", "set", name, "up"]).status().unwrap();
        assert!(up.success(), "setting `{name}` up");
        let ifindex = name_to_index(socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap(), name).unwrap();
        let device = Device { uplink: 0, header_length: if ethernet { 14 } else { 0 }, ..Device::default() };
        bench.set_device(ifindex, device);
        bench.plane.attach(name, ifindex, Side::Lan, device).unwrap();
        Self { ifindex, ethernet, cable }
    }

    /// Lets `packet` come in; where it is large, only `linear` bytes of it are in the first piece.
    fn receive(&self, bench: &mut Bench, packet: &[u8], linear: usize) -> Outcome {
        let pieces = packet.len() >= LARGE;
        let seen = if pieces { &packet[..linear.max(PULLED)] } else { packet };
        let ether_type = match (self.ethernet, packet[0] >> 4) {
            (true, _) => u16::from_be_bytes([packet[12], packet[13]]),
            (false, 4) => ether::IPV4,
            (false, _) => ether::IPV6,
        };
        // `struct virtio_net_hdr`: no offload, and how long the headers are said to be.
        let mut bytes = vec![0; 10];
        bytes[2..4].copy_from_slice(&(linear as u16).to_ne_bytes());
        bytes.extend(packet);
        bench.arrives(self.ifindex, seen, ether_type, || {
            rustix::io::write(&self.cable, &bytes).unwrap_or_else(|error| panic!("{packet:02x?}: {error}"));
        })
    }
}

/// `struct ifreq` as TUNSETIFF reads it.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

fn open(name: &str, ethernet: bool) -> OwnedFd {
    const SET_INTERFACE: Opcode = opcode::write::<c_int>(b'T', 202);
    const TUN: u16 = 0x0001;
    const TAP: u16 = 0x0002;
    const NO_PACKET_INFORMATION: u16 = 0x1000;
    const VIRTIO_HEADER: u16 = 0x4000;
    let device = rustix::fs::open("/dev/net/tun", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let flags = NO_PACKET_INFORMATION | VIRTIO_HEADER | if ethernet { TAP } else { TUN };
    let mut request = Request { name: [0; 16], flags, rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads a `struct ifreq`, whose size on 64-bit machines is that of `Request`.
    unsafe { ioctl(device.as_fd(), Setter::<SET_INTERFACE, Request>::new(request)) }.unwrap();
    device
}

fn packets() -> Vec<Packet> {
    let v4 = || Packet::new("192.0.2.1:40000", "198.51.100.8:443");
    let v6 = || Packet::new("[2001:db8::10]:40000", "[2001:db8:9::8]:443");
    vec![
        v4().transport(Transport::Tcp(flag::SYN)),
        v4().transport(Transport::Udp).options(40),
        v4().transport(Transport::Icmp(8, 7)),
        v4().transport(Transport::Unreachable),
        v4().transport(Transport::Other(47)),
        v4().transport(Transport::Udp).fragment(185, true),
        v6().transport(Transport::Tcp(flag::ACK)),
        v6().transport(Transport::Icmp(128, 7)),
        v6().transport(Transport::Udp).extension(Extension::HopByHop(1)).fragment(0, true),
        v6().transport(Transport::Sctp).extension(Extension::Routing(6)).extension(Extension::Destination(3)),
    ]
}

#[test]
fn headers_are_found_however_the_packet_is_cut_to_pieces() {
    with_bench(|bench| {
        for ethernet in [true, false] {
            let wire = Wire::new(bench, ethernet);
            for packet in packets() {
                let packet = if ethernet { packet } else { packet.bare() };
                let whole = wire.receive(bench, &packet.build(), 0);
                let bytes = packet.payload(LARGE).build();
                for linear in (if ethernet { 14 } else { 1 })..PULLED + 2 {
                    bench.forget_flows();
                    assert_eq!(wire.receive(bench, &bytes, linear).mark, whole.mark, "{linear} bytes in one piece");
                }
            }
        }
    });
}

/// What lies behind the bytes that the programs ask for stays unread.
#[test]
fn headers_far_inside_a_packet_in_pieces_are_malformed() {
    with_bench(|bench| {
        let wire = Wire::new(bench, true);
        let packet = Packet::new("[2001:db8::10]:1", "[2001:db8:9::8]:2").transport(Transport::Udp);
        let far = packet.extension(Extension::Destination(255));
        assert_eq!(wire.receive(bench, &far.build(), 0).counter, Counter::CacheMiss, "in one piece");
        bench.forget_flows();
        let large = far.payload(LARGE).build();
        assert_eq!(wire.receive(bench, &large, 14).counter, Counter::Malformed);
        assert_eq!(wire.receive(bench, &large, 2150).counter, Counter::CacheMiss, "the headers in one piece");
    });
}

#[test]
fn short_packets_do_no_harm() {
    with_bench(|bench| {
        for (ethernet, shortest) in [(true, 14), (false, 1)] {
            let wire = Wire::new(bench, ethernet);
            for packet in packets() {
                let bytes = if ethernet { packet } else { packet.bare() }.build();
                for end in shortest..bytes.len().min(120) {
                    wire.receive(bench, &bytes[..end], 0);
                }
            }
        }
    });
}

/// The kernel takes the tag out of the frame before the programs see it.
#[test]
fn tagged_frames_are_left_alone() {
    with_bench(|bench| {
        let wire = Wire::new(bench, true);
        let packet = || Packet::new("192.0.2.1:40000", "198.51.100.8:443").transport(Transport::Udp);
        for packet in [
            packet().tag(ether::VLAN, 42),
            packet().tag(ether::SERVICE_VLAN, 42),
            packet().tag(ether::SERVICE_VLAN, 7).tag(ether::VLAN, 42),
        ] {
            assert_eq!(wire.receive(bench, &packet.build(), 0).counter, Counter::Vlan);
        }
        assert_eq!(wire.receive(bench, &packet().build(), 0).counter, Counter::CacheMiss);
    });
}
