//! One lab with its router, and both ends of a connection through it: hosts that nobody is, so that no stack answers in
//! their place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use pnet_datalink::{Channel, Config, DataLinkReceiver, DataLinkSender, channel, interfaces};
use tests::lab::{Defaults, Lab, Namespace, PATIENCE, Pcc};

use crate::compare::normal;
use crate::frame::{Flow, Mac, Shot};

/// The hosts behind the LAN and behind the uplink.
pub const CLIENT: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(192, 0, 2, 50), Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0x50));
pub const SERVER: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(198, 51, 100, 200), Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 9));
/// The link-layer addresses that the lab gives to its devices.
pub const CLIENT_MAC: Mac = [0x02, 0, 0, 0, 0x02, 100];
pub const LAN_MAC: Mac = [0x02, 0, 0, 0, 0x01, 100];
pub const SERVER_MAC: Mac = [0x02, 0, 0, 0, 0x02, 1];
pub const WAN_MAC: Mac = [0x02, 0, 0, 0, 0x01, 1];
/// The uplink's is smaller than the LAN's: what does not fit is answered or cut into fragments.
const MTU: u32 = 1400;
/// How long the last packets of a batch may be on their way without one that arrives.
const PAUSE: Duration = Duration::from_millis(2);

/// What may take shortcuts in a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Off,
    Tc,
    Xdp,
}

/// A lab whose router runs `pcc`.
pub struct World {
    pub mode: Mode,
    lab: Lab,
    pcc: Pcc,
    client: End,
    server: End,
    markers: u64,
}

/// What came out of a router: at the client's end and at the server's, in no order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub client: Vec<Vec<u8>>,
    pub server: Vec<Vec<u8>>,
}

/// A packet socket on the far end of one of the router's cables.
struct End {
    sender: Box<dyn DataLinkSender>,
    receiver: Box<dyn DataLinkReceiver>,
    router: Mac,
    host: (Ipv4Addr, Ipv6Addr),
}

impl World {
    pub fn new(mode: Mode) -> Self {
        let lab = Lab::builder().uplinks(1).mtu(1, MTU).defaults(Defaults::All).whole_frames().build();
        prepare(&lab);
        let pcc = start(&lab, mode);
        pcc.wait_for("ready", 2 * PATIENCE);
        let client = End::new(lab.client().namespace(), LAN_MAC, CLIENT);
        let server = End::new(lab.isp(1).namespace(), WAN_MAC, SERVER);
        let mut world = Self { mode, lab, pcc, client, server, markers: 0 };
        world.open(&MARKERS, &Shot::plain(100), 4);
        world
    }

    /// The router's address that the server sees.
    pub fn router(&self, ipv6: bool) -> IpAddr {
        let link = self.lab.isp(1).link;
        if ipv6 { link.router6.into() } else { link.router4.into() }
    }

    /// Both ends of a connection as its packets of one direction have them when they come to the router.
    pub fn ends(&self, flow: &Flow, outward: bool) -> (SocketAddr, SocketAddr) {
        let pick = |(v4, v6): (Ipv4Addr, Ipv6Addr)| if flow.ipv6 { IpAddr::from(v6) } else { v4.into() };
        let server = SocketAddr::new(pick(SERVER), Flow::SERVER_PORT);
        if outward {
            (SocketAddr::new(pick(CLIENT), flow.port), server)
        } else {
            (server, SocketAddr::new(self.router(flow.ipv6), flow.port))
        }
    }

    /// Opens a connection with packets like `shot`, and lets `rounds` of them go each way, one after the other.
    pub fn open(&mut self, flow: &Flow, shot: &Shot, rounds: u32) {
        let opening = if flow.tcp { [(true, 0x02), (false, 0x12), (true, 0x10)].as_slice() } else { &[] };
        for (number, (outward, flags)) in (0..).zip(opening) {
            self.pass(flow, &Shot { outward: *outward, flags: *flags, payload: 0, number, ..shot.clone() });
        }
        for number in 0..2 * rounds {
            self.pass(flow, &Shot { outward: number % 2 == 0, number: number + 3, ..shot.clone() });
        }
    }

    /// Sends a sound packet and waits until it has gone through.
    fn pass(&mut self, flow: &Flow, shot: &Shot) {
        self.send(flow, shot);
        let (source, destination) = self.ends(flow, shot.outward);
        let end = if shot.outward { &mut self.server } else { &mut self.client };
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if end.receive().is_some_and(|frame| ports(&frame, flow.ipv6) == (source.port(), destination.port())) {
                return;
            }
        }
        panic!("{:?}: {flow:?} {shot:?} was lost; stderr of `pcc`:\n{}", self.mode, self.pcc.stderr());
    }

    /// Sends what `shot` is made of.
    pub fn send(&mut self, flow: &Flow, shot: &Shot) {
        let frames = shot.frames(flow, self.ends(flow, shot.outward), self.router(flow.ipv6));
        // Frames that are too long or too short for the cable are lost in all labs alike.
        let end = if shot.outward { &mut self.client } else { &mut self.server };
        for frame in frames {
            let _ = end.sender.send_to(&frame, None).unwrap();
        }
    }

    /// All that has come out since the last time.
    pub fn output(&mut self) -> Output {
        let mut output = Output::default();
        for outward in [true, false] {
            self.markers += 1;
            let number = 1000 + self.markers as u32;
            let shot = Shot { outward, number, ..Shot::plain(20) };
            self.send(&MARKERS, &shot);
            let (end, seen) = self.end(outward, &mut output);
            let deadline = Instant::now() + PATIENCE;
            loop {
                assert!(Instant::now() < deadline, "the marker was lost");
                let Some(frame) = end.receive() else { continue };
                if ports(&frame, false).0 == MARKERS.port || ports(&frame, false).1 == MARKERS.port {
                    break;
                }
                seen.push(frame);
            }
        }
        self.more(&mut output);
        output
    }

    /// Adds what comes out after a pause.
    pub fn more(&mut self, output: &mut Output) {
        for outward in [false, true] {
            let (end, seen) = self.end(outward, output);
            seen.extend(std::iter::from_fn(|| end.receive()));
            seen.sort_unstable();
        }
    }

    fn end<'a>(&'a mut self, outward: bool, output: &'a mut Output) -> (&'a mut End, &'a mut Vec<Vec<u8>>) {
        if outward { (&mut self.server, &mut output.server) } else { (&mut self.client, &mut output.client) }
    }

    /// Packets that took a shortcut in tc and in XDP.
    pub fn taken(&self) -> (u64, u64) {
        self.lab.shortcuts_taken()
    }
}

/// The connection of the packets that come last.
const MARKERS: Flow = Flow { ipv6: false, tcp: false, port: 19_999 };

/// Starts `pcc` with the fast path of `mode`.
fn start(lab: &Lab, mode: Mode) -> Pcc {
    let name = match mode {
        Mode::Off => "off",
        Mode::Tc => "tc",
        Mode::Xdp => "xdp",
    };
    lab.pcc(&["run", "--wan", &lab.wans(), "--lan", lab.lans(), "--fast-path", name])
}

/// Makes the router's answers the same in every lab: what it says does not depend on time, chance, or how much it has said.
fn prepare(lab: &Lab) {
    let router = lab.router();
    for (address, mac, device) in [
        (IpAddr::from(CLIENT.0), CLIENT_MAC, "lan"),
        (CLIENT.1.into(), CLIENT_MAC, "lan"),
        (lab.isp(1).link.gateway4.into(), SERVER_MAC, "wan1"),
        (lab.isp(1).link.gateway6.into(), SERVER_MAC, "wan1"),
    ] {
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        router.ip(&format!("neigh replace {address} lladdr {mac} dev {device} nud permanent"));
    }
    // The host behind the uplink is silent.
    lab.isp(1).namespace().ip_batch(&format!("route add blackhole {}\nroute add blackhole {}\n", SERVER.0, SERVER.1));
    router.set_sysctls(&[
        ("net/ipv4/icmp_ratemask", "0"),
        ("net/ipv6/icmp/ratemask", "127"),
        ("net/ipv6/auto_flowlabels", "0"),
        ("net/ipv4/ipfrag_time", "600"),
        ("net/ipv6/ip6frag_time", "600"),
        ("net/netfilter/nf_conntrack_frag6_timeout", "600"),
        // As `pcc` has them while shortcuts are taken.
        ("net/netfilter/nf_conntrack_tcp_be_liberal", "1"),
        ("net/netfilter/nf_conntrack_checksum", "0"),
    ]);
}

impl End {
    fn new(namespace: &Namespace, router: Mac, host: (Ipv4Addr, Ipv6Addr)) -> Self {
        namespace.run(|| {
            let device = interfaces().into_iter().find(|device| device.name == "eth0").unwrap();
            let config = Config { read_timeout: Some(PAUSE), promiscuous: false, ..Config::default() };
            let Channel::Ethernet(sender, receiver) = channel(&device, config).unwrap() else { panic!("no Ethernet") };
            Self { sender, receiver, router, host }
        })
    }

    /// The next packet that the router has sent to the host, as [`normal`] has it; `None` after a pause.
    fn receive(&mut self) -> Option<Vec<u8>> {
        while let Ok(frame) = self.receiver.next() {
            if let Some(packet) = normal(frame, self.router, self.host) {
                return Some(packet);
            }
        }
        None
    }
}

/// The ports of a frame with a plain IP header.
fn ports(frame: &[u8], ipv6: bool) -> (u16, u16) {
    let at = if ipv6 { 54 } else { 34 };
    let port = |at: usize| frame.get(at..at + 2).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]));
    (port(at), port(at + 2))
}

/// The client's address.
pub fn client(ipv6: bool) -> IpAddr {
    if ipv6 { CLIENT.1.into() } else { CLIENT.0.into() }
}
