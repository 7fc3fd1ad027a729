//! The only place that touches packet bytes, the kernel's packet structure and map memory.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns, bpf_loop};
use aya_ebpf::programs::{TcContext, XdpContext};
use pcc_ebpf::abi::{
    Beat, Counter, DEVICE_PROBES, Device, Flow, FlowKey, IPV4, Member4, Member6, Peer, PeerKey, Policy, STEPS,
    Settings, Step, Sticky, StickyKey, Traffic, Uplink, device_slot, policy_index, pulse_index,
};
use pcc_ebpf::classify::{ENDING, Tables};
use pcc_ebpf::mangle::{self, Facts, Rules, Walk};
use pcc_ebpf::packet::{Headers, Packet};
use pcc_ebpf::peer::{Peers, is_tcp};
use pcc_ebpf::policy::{Choice, heir_family, holds, sticky_key};

use crate::maps::{self, Scratch};

/// A program's context that leads to bytes of a packet.
pub trait Bytes {
    /// Address of the first byte.
    fn start(&self) -> usize;
    /// Address behind the last one that can be read.
    fn end(&self) -> usize;
}

impl Bytes for TcContext {
    #[inline(always)]
    fn start(&self) -> usize {
        self.data()
    }
    #[inline(always)]
    fn end(&self) -> usize {
        self.data_end()
    }
}

impl Bytes for XdpContext {
    #[inline(always)]
    fn start(&self) -> usize {
        self.data()
    }
    #[inline(always)]
    fn end(&self) -> usize {
        self.data_end()
    }
}

/// The linear part of a packet, checked against its end at every read. It holds until a helper changes the packet.
#[derive(Clone, Copy)]
pub struct Linear {
    start: usize,
    end: usize,
}

impl Linear {
    /// Of the packet that a program runs for.
    #[inline(always)]
    pub fn of(ctx: &impl Bytes) -> Self {
        Self { start: ctx.start(), end: ctx.end() }
    }

    /// Bytes that can be read.
    #[inline(always)]
    pub fn length(&self) -> u32 {
        (self.end - self.start) as u32
    }

    /// What is at `offset`.
    #[inline(always)]
    pub fn value<T: Copy>(&self, offset: usize) -> Option<T> {
        self.read(offset)
    }

    /// Writes to `offset`; `None` past the end.
    #[inline(always)]
    pub fn set<T>(&self, offset: usize, value: T) -> Option<()> {
        let place = self.place(offset)?;
        // SAFETY: `place` checked that it is inside the packet, which the programs that write may change.
        unsafe { *place = value };
        Some(())
    }

    #[inline(always)]
    fn read<T: Copy>(&self, offset: usize) -> Option<T> {
        // SAFETY: every bit pattern of the integer types that `Packet` asks for is valid.
        self.place(offset).map(|place| unsafe { *place })
    }

    /// Where `T` is in the packet.
    #[inline(always)]
    pub fn place<T>(&self, offset: usize) -> Option<*mut T> {
        let start = self.start + offset;
        // The check is the one that the verifier demands. The kernel allows unaligned access on the architectures that pcc runs on.
        if start + size_of::<T>() > self.end { None } else { Some(start as *mut T) }
    }
}

impl Packet for Linear {
    #[inline(always)]
    fn byte(&self, offset: usize) -> Option<u8> {
        // Two bytes: the compiler turns a check for one into `start >= end`, from which the verifier learns nothing.
        self.read::<[u8; 2]>(offset).map(|[byte, _]| byte)
    }
    #[inline(always)]
    fn half(&self, offset: usize) -> Option<u16> {
        self.read(offset)
    }
    #[inline(always)]
    fn words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        self.read(offset)
    }
}

/// The maps as the classifier sees them.
pub struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<Flow> {
        // SAFETY: copied at once; an entry that the LRU recycles meanwhile gives a wrong hint, which conntrack overrules.
        unsafe { maps::FLOWS.get(key) }.copied()
    }
    #[inline(always)]
    fn uplink(&self, id: u32) -> Option<Uplink> {
        maps::UPLINKS.get(id).copied()
    }
    #[inline(always)]
    fn bucket(&self, index: u32) -> u32 {
        maps::BUCKETS.get(index).copied().unwrap_or(0)
    }
    #[inline(always)]
    fn bypassed(&self, headers: &Headers) -> bool {
        let destination = headers.key.destination;
        if headers.family == IPV4 {
            maps::BYPASS4.get(&Key::new(32, destination[3])).is_some()
        } else {
            maps::BYPASS6.get(&Key::new(128, destination)).is_some()
        }
    }
    #[inline(always)]
    fn policy(&self, index: u32) -> Option<Policy> {
        maps::POLICIES.get(index).copied()
    }
    #[inline(always)]
    fn sticky(&self, key: &StickyKey) -> Option<Sticky> {
        // SAFETY: as in `flow`.
        unsafe { maps::STICKY.get(key) }.copied()
    }
}

impl Peers for Maps {
    #[inline(always)]
    fn peer(&self, key: &PeerKey) -> Option<Peer> {
        // SAFETY: as in `flow`; a wrong time counts one question more or less.
        unsafe { maps::PEERS.get(key) }.copied()
    }
    #[inline(always)]
    fn set_peer(&mut self, key: &PeerKey, peer: Peer) {
        if let Some(entry) = maps::PEERS.get_ptr_mut(key) {
            // SAFETY: as in `flow`.
            unsafe { *entry = peer };
        } else {
            // A full map is no error: who is not in it counts nothing.
            let _ = maps::PEERS.insert(key, &peer, 0);
        }
    }
}

/// The rules in force.
#[derive(Clone, Copy)]
struct Program {
    /// Index of the first step in the map.
    base: u32,
}

impl Rules for Program {
    #[inline(always)]
    fn step(&self, index: u32) -> Option<Step> {
        maps::STEPS_MAP.get(self.base + index).copied()
    }
    #[inline(always)]
    fn is_member(&self, set: u32, family: u32, address: &[u32; 4]) -> bool {
        const SET_BITS: u32 = 32;
        let set = set.to_be();
        if family == IPV4 {
            maps::SETS4.get(&Key::new(SET_BITS + 32, Member4 { set, address: address[3] })).is_some()
        } else {
            maps::SETS6.get(&Key::new(SET_BITS + 128, Member6 { set, address: *address })).is_some()
        }
    }
    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_get_prandom_u32() }
    }
    #[inline(always)]
    fn count(&self, counter: u32) -> u32 {
        let Some(slot) = maps::NTH.get_ptr_mut(counter) else { return 0 };
        // SAFETY: the pointer comes from the map. Two packets on two CPUs may count as one: `nth` is a share, not a ledger.
        unsafe {
            let before = *slot;
            *slot = before.wrapping_add(1);
            before
        }
    }
}

/// A walk with all that it takes. It is in a map, because the verifier follows the values of the stack, and would go through
/// all steps for each of the ways on which a packet comes to them.
pub struct Walking {
    program: Program,
    /// What rules can ask.
    pub facts: Facts,
    /// How far it is.
    pub walk: Walk,
}

impl Walking {
    /// Walks to the end.
    #[inline(always)]
    pub fn run(&mut self) {
        // The kernel hands on a place on the stack, and the walk is elsewhere.
        let mut walking: *mut Self = self;
        // SAFETY: `step` has the type that the helper calls, and `walking` outlives the loop.
        unsafe { bpf_loop(STEPS, step as *mut _, (&raw mut walking).cast(), 0) };
    }
}

/// One turn of the loop; 1 ends it.
unsafe extern "C" fn step(_: u32, walking: *mut *mut Walking) -> i64 {
    // SAFETY: `run` passes a valid pointer to what nobody else uses meanwhile.
    let walking = unsafe { &mut **walking };
    !mangle::advance(&walking.program, &walking.facts, &mut walking.walk) as i64
}

/// The instance's settings; `None` never happens for slot 0.
#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    maps::SETTINGS.get(0)
}

/// What the program has to know about its device.
#[inline(always)]
pub fn device(ctx: &TcContext) -> Option<Device> {
    device_of(ifindex(ctx))
}

/// What is to be known about the device with this index.
#[inline(always)]
pub fn device_of(ifindex: u32) -> Option<Device> {
    for probe in 0..DEVICE_PROBES {
        let device = maps::DEVICES.get(device_slot(ifindex, probe))?;
        if device.ifindex == ifindex {
            return Some(*device);
        }
    }
    None
}

/// The first `bytes` of the packet can be read.
#[inline(always)]
pub fn reach(ctx: &impl Bytes, bytes: usize) -> bool {
    ctx.start() + bytes <= ctx.end()
}

/// Stores a decision. A full cache is no error: the next packet is decided anew.
#[inline(always)]
pub fn remember(key: &FlowKey, flow: &Flow) {
    if maps::FLOWS.insert(key, flow, 0).is_err() {
        count(Counter::CacheFull);
    }
}

/// Stores what was learned about a decision that is mostly there.
#[inline(always)]
pub fn correct(key: &FlowKey, flow: &Flow) {
    if !replace(key, flow) {
        remember(key, flow);
    }
}

/// Replaces a decision; false if there is none. In its place, as the kernel would give it another entry first, and take the old one
/// away.
#[inline(always)]
pub fn replace(key: &FlowKey, flow: &Flow) -> bool {
    let Some(entry) = maps::FLOWS.get_ptr_mut(key) else { return false };
    // SAFETY: the pointer comes from the map. Who reads half of it reads a wrong hint, which conntrack overrules.
    unsafe { *entry = *flow };
    true
}

/// Puts a packet and the beginning of its walk aside: into a map, because the verifier follows the values of the stack, and
/// would go through all that comes for each of the ways on which a packet comes to it. `None` never happens.
#[inline(always)]
pub fn set_aside(
    settings: &Settings,
    headers: &Headers,
    device: u32,
    size: u32,
    walk: Walk,
) -> Option<&'static mut Scratch> {
    let scratch: *mut Scratch = maps::SCRATCH.get_ptr_mut(0)?.cast();
    let base = if settings.active_steps == 0 { 0 } else { STEPS };
    // SAFETY: the slot has the size and the alignment; it belongs to this CPU, and tc programs do not interrupt each other on
    // one; every field is written before there is a reference. One by one: together they would be on the stack first.
    unsafe {
        let facts = &raw mut (*scratch).walking.facts;
        (&raw mut (*facts).headers).write(*headers);
        (&raw mut (*facts).device).write(device);
        (&raw mut (*facts).size).write(size);
        (&raw mut (*facts).seed).write(settings.seed);
        (&raw mut (*scratch).walking.walk).write(walk);
        (&raw mut (*scratch).walking.program).write(Program { base });
        (&raw mut (*scratch).choice).write(Choice::main(Counter::NoUplink));
        Some(&mut *scratch)
    }
}

/// Notes the uplink that connections like this one keep to, if there is one. False where another packet was first meanwhile: its note stands.
#[inline(never)]
pub fn stick(settings: &Settings, scratch: &mut Scratch, policy: u32) -> bool {
    const NO_EXIST: u64 = 1;
    let sticky = scratch.choice.sticky();
    if !scratch.choice.is_news {
        return true;
    }
    let Some(policy) = maps::POLICIES.get(policy_index(settings.active_table, policy)) else { return true };
    let headers = &scratch.walking.facts.headers;
    let mut key = sticky_key(policy, headers);
    let Some(entry) = maps::STICKY.get_ptr_mut(&key) else {
        return maps::STICKY.insert(&key, &sticky, NO_EXIST).is_ok();
    };
    // SAFETY: the pointer comes from the map; all fields are integers, and a word-sized store leaves one of two recent times.
    let ended = unsafe {
        if sticky.first_seen != sticky.last_seen {
            (*entry).last_seen = sticky.last_seen;
            return true;
        }
        entry.read_volatile()
    };
    // It did not hold when this packet looked.
    if holds(&Maps, headers, policy, &ended, sticky.last_seen).is_some() {
        return false;
    }
    // Only what is not there is stored by one processor alone. Readers see this note or that, never half of one.
    let family = key.family;
    key.family = heir_family(family, &ended);
    let is_first = maps::STICKY.insert(&key, &sticky, NO_EXIST).is_ok();
    // SAFETY: the kernel writes to an entry only here, all of it before others see it, or its time.
    let heir = if is_first { None } else { unsafe { maps::STICKY.get(&key) }.copied() };
    let heir = heir.filter(|heir| holds(&Maps, headers, policy, heir, sticky.last_seen).is_some());
    key.family = family;
    maps::STICKY.insert(&key, &heir.unwrap_or(sticky), 0).is_ok() && heir.is_none()
}

/// Notes that a flow is in use.
#[inline(always)]
pub fn refresh(key: &FlowKey, now: u32) {
    if let Some(flow) = maps::FLOWS.get_ptr_mut(key) {
        // SAFETY: the pointer comes from the map; a word-sized store that races leaves one of two recent times.
        unsafe { (*flow).last_seen = now };
    }
}

/// Notes that the connection of a flow is being closed.
#[inline(always)]
pub fn end(key: &FlowKey) {
    if let Some(flow) = maps::FLOWS.get_ptr_mut(key) {
        // SAFETY: as in `refresh`; a flow that is taken for one that ends takes no shortcut.
        unsafe { (*flow).confirmed = ENDING };
    }
}

/// Adds one to a counter.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(slot) = maps::COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the slot belongs to this CPU, and tc programs do not interrupt each other on one.
        unsafe { *slot += 1 };
    }
}

/// Changes the traffic counters of uplink `id`.
#[inline(always)]
pub fn traffic(id: u32, change: impl FnOnce(&mut Traffic)) {
    if let Some(slot) = maps::TRAFFIC.get_ptr_mut(id) {
        // SAFETY: as in `count`.
        change(unsafe { &mut *slot });
    }
}

/// Changes the pulse of uplink `id` that `headers` belong to.
#[inline(always)]
pub fn pulse(id: u32, headers: &Headers, change: impl FnOnce(&mut Beat)) {
    if let Some(slot) = maps::PULSE.get_ptr_mut(pulse_index(id, headers.family)) {
        // SAFETY: as in `count`.
        let pulse = unsafe { &mut *slot };
        change(if is_tcp(headers) { &mut pulse.tcp } else { &mut pulse.other });
    }
}

/// The packet came in by a device; 0 is none: the router itself sends it.
#[inline(always)]
pub fn is_forwarded(ctx: &TcContext) -> bool {
    field(ctx, |skb| skb.ingress_ifindex) != 0
}

/// The packet's mark.
#[inline(always)]
pub fn mark(ctx: &TcContext) -> u32 {
    field(ctx, |skb| skb.mark)
}

/// Bytes of the packet, link-layer header included.
#[inline(always)]
pub fn length(ctx: &TcContext) -> u32 {
    field(ctx, |skb| skb.len)
}

/// Index of the device that the packet comes in or leaves by.
#[inline(always)]
pub fn ifindex(ctx: &TcContext) -> u32 {
    field(ctx, |skb| skb.ifindex)
}

/// To whom a frame is addressed, `PACKET_…` of `linux/if_packet.h`.
#[inline(always)]
pub fn kind(ctx: &TcContext) -> u32 {
    field(ctx, |skb| skb.pkt_type)
}

/// The hash that the packet carries; 0 for none.
#[inline(always)]
pub fn hash(ctx: &TcContext) -> u32 {
    field(ctx, |skb| skb.hash)
}

/// The packet's priority.
#[inline(always)]
pub fn priority(ctx: &TcContext) -> u32 {
    field(ctx, |skb| skb.priority)
}

/// Bytes of data in each packet that a super packet is made of; 0 for an ordinary one.
#[inline(always)]
pub fn segment(ctx: &TcContext) -> u32 {
    field(ctx, |skb| skb.gso_size)
}

/// Packets in a super packet, at least 1.
#[inline(always)]
pub fn segments(ctx: &TcContext) -> u64 {
    match field(ctx, |skb| skb.gso_segs) {
        0 => 1,
        segments => segments as u64,
    }
}

/// A VLAN tag was taken out of the frame by the device.
#[inline(always)]
pub fn is_tagged(ctx: &TcContext) -> bool {
    field(ctx, |skb| skb.vlan_present) != 0
}

/// The network protocol in host order.
#[inline(always)]
pub fn ether_type(ctx: &TcContext) -> u16 {
    u16::from_be(field(ctx, |skb| skb.protocol) as u16)
}

/// Writes `value` into the bits `mask` of the packet's mark.
#[inline(always)]
pub fn set_mark(ctx: &TcContext, mask: u32, value: u32) {
    set_whole_mark(ctx, mark(ctx) & !mask | value & mask);
}

/// Replaces the packet's mark.
#[inline(always)]
pub fn set_whole_mark(ctx: &TcContext, mark: u32) {
    // SAFETY: the field is writable for tc programs. Volatile, or the compiler narrows the store to the bytes that
    // change, which the verifier refuses.
    unsafe { (&raw mut (*ctx.skb.skb).mark).write_volatile(mark) };
}

/// Replaces the packet's priority.
#[inline(always)]
pub fn set_priority(ctx: &TcContext, priority: u32) {
    // SAFETY: as for the mark.
    unsafe { (&raw mut (*ctx.skb.skb).priority).write_volatile(priority) };
}

/// The coarse monotonic clock in seconds; it wraps after 136 years of uptime.
#[inline(always)]
pub fn now() -> u32 {
    // SAFETY: a helper without arguments, Linux 5.11.
    (unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32
}

#[inline(always)]
fn field<T>(ctx: &TcContext, read: impl FnOnce(&__sk_buff) -> T) -> T {
    // SAFETY: the context is valid for the whole program; the verifier checks each field's access.
    read(unsafe { &*ctx.skb.skb })
}
