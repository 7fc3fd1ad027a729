//! One packet, the shortcut that it may take, and what the pure functions make of both.

use aya::maps::HashMap as BpfHashMap;
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use pcc_ebpf::abi::{Address6, Device, Shortcut, ShortcutKey, TICK, Traffic, device, map, program, trait_of, way};
use pcc_ebpf::candidate::{self, Candidate, fold};
use pcc_ebpf::packet::protocol;
use pcc_ebpf::shortcut::{Address, Change, Passage, adjusted, holds, lower_ttl, size, suits};
use rustix::time::{ClockId, clock_gettime};

use crate::bench::{Bench, LAN, Skb, WAN1};

pub const UPLINK: u32 = 1;
const ETHERNET: usize = 14;
/// A test run of XDP has packets come in by the first device of the namespace.
const LOOPBACK: u32 = 1;
const MARK: u32 = 0x1200;
const PRIORITY: u32 = 6;
const OUTBOUND: [u32; 3] = [0x1122_3344, 0x5566_7788, 0x99aa_bbcc];

/// What a program does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Pass,
    Redirect,
}

/// What the families have of their own.
pub trait Family: Address {
    const MAP: &'static str;
    const TTL: usize;
    const SOURCE: usize;
    const DESTINATION: usize;
    const TRANSPORT: usize;
    fn read(frame: &[u8]) -> Option<Candidate<Self>>;
    /// A plain header stands where it must.
    fn is_plain(frame: &[u8]) -> bool;
    fn set_tos(frame: &mut [u8], tos: u8);
    fn of_words(words: [u32; 4]) -> Self;
    fn put(bench: &mut Bench, key: &ShortcutKey<Self>, shortcut: &Shortcut<Self::Stored>);
    fn get(bench: &mut Bench, key: &ShortcutKey<Self>) -> Option<Shortcut<Self::Stored>>;
    fn bytes(self) -> Vec<u8>;
}

impl Family for u32 {
    const MAP: &'static str = map::SHORT4;
    const TTL: usize = 22;
    const SOURCE: usize = 26;
    const DESTINATION: usize = 30;
    const TRANSPORT: usize = 34;
    fn read(frame: &[u8]) -> Option<Candidate<Self>> {
        let is_own = frame[12..14] == [0x08, 0x00];
        is_own.then(|| candidate::ipv4(frame, ETHERNET, frame.len() as u32))?
    }
    fn is_plain(frame: &[u8]) -> bool {
        frame.len() >= 54 && frame[12..15] == [0x08, 0x00, 0x45]
    }
    fn set_tos(frame: &mut [u8], tos: u8) {
        frame[15] = tos;
    }
    fn of_words(words: [u32; 4]) -> Self {
        words[0]
    }
    fn put(bench: &mut Bench, key: &ShortcutKey<Self>, shortcut: &Shortcut<Self>) {
        let map = bench.plane.ebpf().map_mut(Self::MAP).unwrap();
        BpfHashMap::<_, ShortcutKey<Self>, Shortcut<Self>>::try_from(map).unwrap().insert(key, shortcut, 0).unwrap();
    }
    fn get(bench: &mut Bench, key: &ShortcutKey<Self>) -> Option<Shortcut<Self>> {
        let map = bench.plane.ebpf().map_mut(Self::MAP).unwrap();
        BpfHashMap::<_, ShortcutKey<Self>, Shortcut<Self>>::try_from(map).unwrap().get(key, 0).ok()
    }
    fn bytes(self) -> Vec<u8> {
        self.to_ne_bytes().to_vec()
    }
}

impl Family for [u32; 4] {
    const MAP: &'static str = map::SHORT6;
    const TTL: usize = 21;
    const SOURCE: usize = 22;
    const DESTINATION: usize = 38;
    const TRANSPORT: usize = 54;
    fn read(frame: &[u8]) -> Option<Candidate<Self>> {
        let is_own = frame[12..14] == [0x86, 0xdd];
        is_own.then(|| candidate::ipv6(frame, ETHERNET, frame.len() as u32))?
    }
    fn is_plain(frame: &[u8]) -> bool {
        frame.len() >= 74 && frame[12..14] == [0x86, 0xdd] && frame[14] >> 4 == 6
    }
    fn set_tos(frame: &mut [u8], tos: u8) {
        frame[14] = 0x60 | tos >> 4;
        frame[15] = tos << 4 | frame[15] & 15;
    }
    fn of_words(words: [u32; 4]) -> Self {
        words
    }
    fn put(bench: &mut Bench, key: &ShortcutKey<Self>, shortcut: &Shortcut<Address6>) {
        let map = bench.plane.ebpf().map_mut(Self::MAP).unwrap();
        let map = BpfHashMap::<_, ShortcutKey<Self>, Shortcut<Address6>>::try_from(map);
        map.unwrap().insert(key, shortcut, 0).unwrap();
    }
    fn get(bench: &mut Bench, key: &ShortcutKey<Self>) -> Option<Shortcut<Address6>> {
        let map = bench.plane.ebpf().map_mut(Self::MAP).unwrap();
        BpfHashMap::<_, ShortcutKey<Self>, Shortcut<Address6>>::try_from(map).unwrap().get(key, 0).ok()
    }
    fn bytes(self) -> Vec<u8> {
        self.map(u32::to_ne_bytes).concat()
    }
}

/// A packet and the shortcut that is known when it comes in.
pub struct Scene<A: Family> {
    program: &'static str,
    pub frame: Vec<u8>,
    pub skb: Skb,
    /// What is known of the device that it comes in by.
    pub device: Option<Device>,
    /// Seconds.
    pub lease: u32,
    pub passage: Passage<A>,
    pub shortcut: Shortcut<A::Stored>,
}

impl<A: Family> Scene<A> {
    /// All is as it must be for `frame` to take it; `None` where it can take none. `traits` besides those that are needed.
    pub fn new(program: &'static str, frame: &[u8], traits: u8) -> Option<Self> {
        let packet = A::read(frame)?;
        let mut scene = Self::of_nothing(program, frame);
        scene.passage = Passage::of(&packet, scene.skb.ifindex);
        scene.shortcut = Shortcut {
            check: scene.passage.check(),
            size: packet.length as u16,
            tos: packet.tos,
            traits: traits | scene.shortcut.traits,
            ..scene.shortcut
        };
        Some(scene)
    }

    /// A packet that has no shortcut.
    pub fn of_nothing(program: &'static str, frame: &[u8]) -> Self {
        let ifindex = if program == program::SHORTCUT { LAN } else { LOOPBACK };
        let key = ShortcutKey {
            source: A::of_words([1; 4]),
            destination: A::of_words([2; 4]),
            source_port: 1,
            destination_port: 2,
        };
        let half = |at: usize| u16::from_ne_bytes([frame[at], frame[at + 1]]);
        let word = |at: usize| u32::from_ne_bytes(frame[at..at + 4].try_into().unwrap());
        let shortcut = Shortcut {
            check: 0,
            leased: now(),
            bytes: 0,
            packets: 0,
            generation: 0,
            size: 0,
            out: WAN1,
            mark: MARK,
            priority: PRIORITY,
            traits: trait_of::ACTIVE | trait_of::FRAMES | trait_of::ETHERNET,
            tos: 0,
            uplink: UPLINK as u16,
            port: 4711_u16.to_be(),
            inbound_begin: half(0),
            inbound_end: word(2),
            outbound: OUTBOUND,
            address: A::of_words([0x0907_0503, 1, 2, 3]).stored(),
        };
        Self {
            program,
            frame: frame.to_vec(),
            skb: Skb { ifindex, mark: 0xab00, priority: 2, ..Skb::default() },
            device: Some(Device {
                uplink: 0,
                header_length: 14,
                number: 0,
                shortcuts: device::TAKES,
                ..Device::default()
            }),
            lease: 20,
            passage: Passage { key, way: way(ifindex, 6) },
            shortcut,
        }
    }

    /// The same at the device of an uplink.
    pub fn on(mut self, ifindex: u32, uplink: u32) -> Self {
        self.skb.ifindex = ifindex;
        self.device = self.device.map(|device| Device { uplink, ..device });
        self.passage.way = way(ifindex, self.passage.way & 0xff);
        self.shortcut.check = self.passage.check();
        self
    }

    /// The shortcut as it is afterwards.
    pub fn stored(&self, bench: &mut Bench) -> Option<Shortcut<A::Stored>> {
        A::get(bench, &self.passage.key)
    }

    /// Plays it, with what was counted for the uplink and the shortcut: packets and bytes.
    pub fn play_and_count(&mut self, bench: &mut Bench) -> (Action, Traffic, (u32, u64)) {
        let before = bench.plane.traffic(UPLINK).unwrap();
        let action = self.play(bench);
        let after = bench.plane.traffic(UPLINK).unwrap();
        let traffic = Traffic {
            packets_out: after.packets_out - before.packets_out,
            bytes_out: after.bytes_out - before.bytes_out,
            packets_in: after.packets_in - before.packets_in,
            bytes_in: after.bytes_in - before.bytes_in,
            connections: after.connections - before.connections,
            shortcuts_tc: after.shortcuts_tc - before.shortcuts_tc,
            shortcuts_xdp: after.shortcuts_xdp - before.shortcuts_xdp,
        };
        let used = self.stored(bench).unwrap();
        (action, traffic, (used.packets, used.bytes))
    }

    /// Lets the packet come in. What becomes of it must be what the pure functions say.
    pub fn play(&mut self, bench: &mut Bench) -> Action {
        bench.plane.set_lease(self.lease).unwrap();
        let is_tc = self.program == program::SHORTCUT;
        if let Some(device) = self.device {
            bench.set_device(self.skb.ifindex, device);
        }
        A::put(bench, &self.passage.key, &self.shortcut);
        let expected = self.expected(bench);
        let run = if is_tc { self.run_tc(bench) } else { self.run_xdp(bench) };
        let (action, frame, mark, priority) = run;
        let redirected = if is_tc { 7 } else { 4 };
        let passed = if is_tc { u32::MAX } else { 2 };
        let wanted = match expected {
            Some(frame) if is_tc => (redirected, frame, self.shortcut.mark, self.shortcut.priority),
            Some(frame) => (redirected, frame, self.skb.mark, self.skb.priority),
            None => (passed, self.frame.clone(), self.skb.mark, self.skb.priority),
        };
        assert_eq!((action, mark, priority), (wanted.0, wanted.2, wanted.3), "{} {:02x?}", self.program, self.frame);
        assert_eq!(frame, wanted.1, "{} made of {:02x?}", self.program, self.frame);
        if action == redirected { Action::Redirect } else { Action::Pass }
    }

    /// The frame that leaves, by the pure functions.
    fn expected(&self, bench: &Bench) -> Option<Vec<u8>> {
        const OURS: [u8; 6] = [0x02, 0, 0, 0, 0, 1];
        let is_tc = self.program == program::SHORTCUT;
        let packet = A::read(&self.frame)?;
        let (passage, shortcut) = (&self.passage, &self.shortcut);
        let epoch = bench.plane.epoch(u32::from(shortcut.uplink)).ok()?;
        let half = |at: usize| u16::from_ne_bytes([self.frame[at], self.frame[at + 1]]);
        let word = |at: usize| u32::from_ne_bytes(self.frame[at..at + 4].try_into().unwrap());
        let goes = Passage::of(&packet, self.skb.ifindex) == *passage
            && holds(shortcut, &epoch, now())
            && shortcut.check == passage.check();
        let own = if is_tc {
            self.device.is_some_and(|device| device.shortcuts & device::TAKES != 0)
                && self.frame[..6] == OURS
                && suits(shortcut, &packet, size(&packet, self.skb.segment))
        } else {
            shortcut.traits & trait_of::FRAMES != 0
                && shortcut.out == WAN1
                && (half(0), word(2)) == (shortcut.inbound_begin, shortcut.inbound_end)
                && suits(shortcut, &packet, packet.length)
        };
        (goes && own).then(|| self.rewritten(&packet))
    }

    fn rewritten(&self, packet: &Candidate<A>) -> Vec<u8> {
        let (shortcut, mut frame) = (&self.shortcut, self.frame.clone());
        let change = Change::of(shortcut, &self.passage.key);
        frame[A::TTL] -= 1;
        if A::TRANSPORT == 34 {
            edit(&mut frame, 24, |sum| adjusted(sum, change.address + lower_ttl()));
        }
        let field = checksum_field::<A>(packet.protocol);
        edit(&mut frame, field, |sum| match (packet.protocol, sum, adjusted(sum, change.address + change.port)) {
            (protocol::UDP, 0, _) => 0,
            (protocol::UDP, _, 0) => 0xffff,
            (_, _, new) => new,
        });
        let (address, port) = match shortcut.traits & trait_of::SOURCE {
            0 => (A::DESTINATION, A::TRANSPORT + 2),
            _ => (A::SOURCE, A::TRANSPORT),
        };
        let new = A::of(shortcut.address).bytes();
        frame[address..address + new.len()].copy_from_slice(&new);
        frame[port..port + 2].copy_from_slice(&shortcut.port.to_ne_bytes());
        if self.program == program::SHORTCUT_XDP || shortcut.traits & trait_of::ETHERNET != 0 {
            frame[..12].copy_from_slice(&shortcut.outbound.map(u32::to_ne_bytes).concat());
        }
        frame
    }

    /// What it returns, the frame, mark and priority.
    fn run_tc(&self, bench: &mut Bench) -> (u32, Vec<u8>, u32, u32) {
        let program: &SchedClassifier = bench.plane.ebpf().program(self.program).unwrap().try_into().unwrap();
        let (context, mut context_out) = (self.skb.bytes(), [0; Skb::LEN]);
        let mut data = vec![0; self.frame.len() + 64];
        let options = TestRunOptions {
            data_in: Some(&self.frame),
            data_out: Some(&mut data),
            ctx_in: Some(&context),
            ctx_out: Some(&mut context_out),
            ..TestRunOptions::new()
        };
        let result = program.test_run(options).unwrap_or_else(|error| panic!("{:02x?}: {error:?}", self.frame));
        data.truncate(result.data_size_out as usize);
        (result.return_value, data, Skb::mark_in(&context_out), Skb::priority_in(&context_out))
    }

    fn run_xdp(&self, bench: &mut Bench) -> (u32, Vec<u8>, u32, u32) {
        let program: &Xdp = bench.plane.ebpf().program(self.program).unwrap().try_into().unwrap();
        let mut data = vec![0; self.frame.len() + 64];
        let options = TestRunOptions { data_in: Some(&self.frame), data_out: Some(&mut data), ..TestRunOptions::new() };
        let result = program.test_run(options).unwrap_or_else(|error| panic!("{:02x?}: {error:?}", self.frame));
        data.truncate(result.data_size_out as usize);
        (result.return_value, data, self.skb.mark, self.skb.priority)
    }
}

/// Writes all checksums of a plain packet.
pub fn finish(frame: &mut [u8]) {
    let sum = |bytes: &[u8]| {
        bytes.chunks(2).map(|two| u64::from(two[0]) << 8 | two.get(1).map_or(0, |low| u64::from(*low))).sum::<u64>()
    };
    let (transport, addresses, protocol) =
        if frame[12..14] == [0x08, 0x00] { (34, 26..34, frame[23]) } else { (54, 22..54, frame[20]) };
    if transport == 34 {
        frame[24..26].fill(0);
        let checksum = !(fold(sum(&frame[14..34])) as u16);
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    }
    let pseudo = sum(&frame[addresses]) + u64::from(protocol) + (frame.len() - transport) as u64;
    set_checksum(frame, 0);
    let checksum = !(fold(pseudo + sum(&frame[transport..])) as u16);
    set_checksum(frame, checksum.to_be());
}

/// Writes the checksum behind a plain IP header, as it lies in memory.
pub fn set_checksum(frame: &mut [u8], checksum: u16) {
    let field = match frame[12..14] {
        [0x08, 0x00] => checksum_field::<u32>(frame[23]),
        _ => checksum_field::<[u32; 4]>(frame[20]),
    };
    edit(frame, field, |_| checksum);
}

const fn checksum_field<A: Family>(protocol: u8) -> usize {
    A::TRANSPORT + if protocol == protocol::UDP { 6 } else { 16 }
}

/// Changes a half word as it lies in memory.
fn edit(frame: &mut [u8], at: usize, change: impl FnOnce(u16) -> u16) {
    if let Some(place) = frame.get_mut(at..at + 2) {
        let new = change(u16::from_ne_bytes([place[0], place[1]]));
        place.copy_from_slice(&new.to_ne_bytes());
    }
}

/// The clock of leases.
fn now() -> u32 {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    ((time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64) >> TICK) as u32
}
