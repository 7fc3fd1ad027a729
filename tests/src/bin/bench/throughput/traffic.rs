//! The bench's kernel programs: the generator, the sinks and the least router.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use aya::maps::{Array, MapData};
use aya::programs::xdp::XdpLink;
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, Pod};
use pcc_ebpf::traffic::{HEADERS, Order, PORT, Place, Turn, map, program};
use tests::lab::{Namespace, address};
use tests::packet::{Packet, Transport};

use super::case::{Family, Packets};

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("TRAFFIC_OBJECT"));

/// Frames that the kernel makes before it lets the receiver run. Rings have room for 256.
const BATCH: u32 = 64;

/// The programs, in the kernel.
pub struct Traffic {
    ebpf: Ebpf,
    order: Order,
    /// Destination and source of the link layer of frames that are made.
    link: [u16; 6],
    frame: Vec<u8>,
}

/// How many frames were made, and where they arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub sent: u64,
    arrived: [u64; 4],
}

impl Counts {
    /// Frames that arrived at `place`.
    pub fn at(&self, place: Place) -> u64 {
        self.arrived[place as usize]
    }

    /// Frames that came through the router, or to it where they end there.
    pub fn through(&self) -> u64 {
        self.at(Place::Isp1) + self.at(Place::Isp2) + self.at(Place::Lan)
    }

    /// What was added since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let arrived = std::array::from_fn(|place| self.arrived[place] - earlier.arrived[place]);
        Self { sent: self.sent - earlier.sent, arrived }
    }
}

/// A device as its namespace sees it.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    pub index: u32,
    pub hardware: [u8; 6],
}

impl Device {
    /// Asks `ip`.
    pub fn of(namespace: &Namespace, name: &str) -> Result<Self> {
        let text = namespace.ip(&format!("-j link show dev {name}"));
        let value: serde_json::Value = serde_json::from_str(&text).with_context(|| format!("reading `{text}`"))?;
        let link = &value[0];
        let index = link["ifindex"].as_u64().and_then(|index| index.try_into().ok());
        let mut hardware = [0; 6];
        for (byte, text) in hardware.iter_mut().zip(link["address"].as_str().unwrap_or_default().split(':')) {
            *byte = u8::from_str_radix(text, 16).with_context(|| format!("reading the address of `{name}`"))?;
        }
        Ok(Self { index: index.with_context(|| format!("`{name}` has no index"))?, hardware })
    }

    /// Its address as `ip` writes it.
    pub fn text(&self) -> String {
        self.hardware.map(|byte| format!("{byte:02x}")).join(":")
    }
}

impl Traffic {
    /// Loads them. Frames go from `device` of the client to the hardware address `router`.
    pub fn load(device: Device, router: [u8; 6]) -> Result<Self> {
        let mut ebpf = Ebpf::load(OBJECT).context("loading the bench's programs")?;
        for name in program::SINKS.into_iter().chain([program::GENERATE, program::BARE]) {
            xdp(&mut ebpf, name)?.load().with_context(|| format!("loading `{name}`"))?;
        }
        let order = Order { device: device.index, ..Order::default() };
        Ok(Self { ebpf, order, link: pairs(router, device.hardware), frame: Vec::new() })
    }

    /// Lets program `name` see what `device` of `namespace` receives, while the link lives.
    pub fn attach(&mut self, name: &str, namespace: &Namespace, device: &str) -> Result<XdpLink> {
        let program = xdp(&mut self.ebpf, name)?;
        let attached = namespace.run(|| program.attach(device, XdpMode::Driver));
        let id = attached.with_context(|| format!("attaching `{name}` to `{device}`"))?;
        Ok(program.take_link(id)?)
    }

    /// Makes the least router send by both `uplinks`: devices, with the hardware addresses of those that they lead to.
    pub fn redirect_to(&mut self, uplinks: [(Device, [u8; 6]); 2]) {
        self.order.out = uplinks.map(|(device, _)| device.index);
        self.order.link = uplinks.map(|(device, peer)| pairs(peer, device.hardware));
    }

    /// What is sent from now on: the flows `first..end` with frames as `packets` says; and whether servers answer.
    pub fn order(&mut self, packets: &Packets, first: u32, end: u32, echo: bool) -> Result<()> {
        self.frame = frame(packets, self.link);
        let order = &mut self.order;
        for (word, bytes) in order.headers.iter_mut().zip(self.frame.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into()?);
        }
        let checksum = |offset: usize| u32::from(!u16::from_be_bytes([self.frame[offset], self.frame[offset + 1]]));
        order.six = u32::from(packets.family == Family::V6);
        order.header_sum = if order.six == 0 { checksum(24) } else { 0 };
        order.datagram_sum = checksum(if order.six == 0 { 40 } else { 60 });
        (order.first, order.end, order.echo) = (first, end, u32::from(echo));
        let order = *order;
        array::<Order>(&mut self.ebpf, map::ORDER)?.set(0, order, 0)?;
        let mut turn = array::<Turn>(&mut self.ebpf, map::TURN)?;
        let now = turn.get(&0, 0)?;
        if !(first..end).contains(&now.flow) {
            turn.set(0, Turn { flow: first, ..now }, 0)?;
        }
        Ok(())
    }

    /// Begins with the first flow again.
    pub fn rewind(&mut self) -> Result<()> {
        let mut turn = array::<Turn>(&mut self.ebpf, map::TURN)?;
        let now = turn.get(&0, 0)?;
        Ok(turn.set(0, Turn { flow: self.order.first, ..now }, 0)?)
    }

    /// Sends `frames` frames, in the namespace and on the processor of the calling thread, and returns the nanoseconds that
    /// each took. The kernel takes the time, without that for making ready and for what else wanted the processor.
    pub fn send(&self, frames: u32) -> Result<f64> {
        let program: &Xdp = self.ebpf.program(program::GENERATE).context("no generator")?.try_into()?;
        let run = TestRunOptions {
            data_in: Some(&self.frame),
            repeat: frames,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        };
        let result = program.test_run(run).context("running the generator")?;
        // It leaves fractions out.
        Ok(result.duration.as_nanos() as f64 + 0.5)
    }

    /// All counts so far.
    pub fn counts(&self) -> Result<Counts> {
        let turn = Array::<_, Turn>::try_from(self.ebpf.map(map::TURN).context("no map of turns")?)?;
        let arrived = Array::<_, u64>::try_from(self.ebpf.map(map::ARRIVED).context("no map of arrivals")?)?;
        let mut counts = Counts { sent: turn.get(&0, 0)?.sent, ..Counts::default() };
        for (place, count) in (0..).zip(&mut counts.arrived) {
            *count = arrived.get(&place, 0)?;
        }
        Ok(counts)
    }
}

/// The frame of a flow whose addresses end in 0 and whose source port is 0.
fn frame(packets: &Packets, link: [u16; 6]) -> Vec<u8> {
    let (client, server): (IpAddr, IpAddr) = match packets.family {
        Family::V4 => {
            let [a, b, c, _] = address::CLIENT4.octets();
            ([a, b, c, 0].into(), address::server4(0).into())
        }
        Family::V6 => {
            let mut client = address::CLIENT6.octets();
            client[15] = 0;
            (client.into(), address::server6(0).into())
        }
    };
    let headers = if packets.family == Family::V4 { 14 + 20 + 8 } else { 14 + 40 + 8 };
    let payload = (packets.size as usize).max(HEADERS) - headers;
    let packet = Packet::between(SocketAddr::new(client, 0), SocketAddr::new(server, PORT));
    let mut bytes = packet.transport(Transport::Udp).payload(payload).build().to_vec();
    for (place, word) in bytes.chunks_exact_mut(2).zip(link) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// Destination and source of the link layer.
fn pairs(destination: [u8; 6], source: [u8; 6]) -> [u16; 6] {
    let bytes = [destination, source];
    std::array::from_fn(|word| {
        let half = bytes[word / 3];
        u16::from_ne_bytes([half[word % 3 * 2], half[word % 3 * 2 + 1]])
    })
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(ebpf.program_mut(name).with_context(|| format!("the object has no program `{name}`"))?.try_into()?)
}

fn array<'a, T: Pod>(ebpf: &'a mut Ebpf, name: &str) -> Result<Array<&'a mut MapData, T>> {
    Ok(Array::try_from(ebpf.map_mut(name).with_context(|| format!("the object has no map `{name}`"))?)?)
}
