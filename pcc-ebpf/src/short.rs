//! The programs that take shortcuts, in tc and in XDP, and the learning of them.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::helpers::generated::{
    bpf_csum_update, bpf_get_hash_recalc, bpf_ktime_get_coarse_ns, bpf_l4_csum_replace, bpf_redirect,
    bpf_skb_change_head,
};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use pcc_ebpf::abi::{Address6, Counter, Device, Epoch, Settings, Shortcut, ShortcutKey, TICK, device, trait_of};
use pcc_ebpf::candidate::{self, Candidate, IPV4_HEADER, IPV6_HEADER, Stage, fold};
use pcc_ebpf::packet::{Packet as _, ether, protocol};
use pcc_ebpf::shortcut::{
    Address, Arrival, Change, Departure, Passage, adjusted, holds, is_undone, leads_alike, learn, lower_hop_limit,
    lower_ttl, size, suits,
};

use crate::access::{self, Linear};
use crate::maps;

const ETHERNET: usize = 14;
const ETHER_TYPE: usize = 12;
/// Enough for Ethernet, IPv6 and TCP.
const HEADERS: u32 = 80;

/// XDP of a device with a native driver: takes shortcuts to devices that take frames.
#[xdp]
pub fn pcc_xdp(ctx: XdpContext) -> u32 {
    let bytes = Linear::of(&ctx);
    let taken = match bytes.half(ETHER_TYPE).map(u16::from_be) {
        Some(ether::IPV4) => redirect::<u32>(&ctx, bytes),
        Some(ether::IPV6) => redirect::<[u32; 4]>(&ctx, bytes),
        _ => None,
    };
    taken.unwrap_or(xdp_action::XDP_PASS)
}

/// Ingress of every device, before the other programs: takes shortcuts, and notes what goes through the stack.
#[classifier]
pub fn pcc_shortcut(ctx: TcContext) -> i32 {
    take(&ctx).unwrap_or(TC_ACT_UNSPEC)
}

#[inline(always)]
fn take(ctx: &TcContext) -> Option<i32> {
    /// `PACKET_HOST`: to the device's own link-layer address.
    const TO_US: u32 = 0;
    if access::kind(ctx) != TO_US || access::is_tagged(ctx) {
        return None;
    }
    let device = access::device(ctx)?;
    if device.shortcuts & device::TAKES == 0 {
        return None;
    }
    match access::ether_type(ctx) {
        ether::IPV4 => go_on::<u32>(ctx, &device),
        ether::IPV6 => go_on::<[u32; 4]>(ctx, &device),
        _ => None,
    }
}

/// What the two families have of their own.
trait Family: Address {
    const HEADER: usize;
    const SOURCE: usize;
    const DESTINATION: usize;
    const TTL: usize;
    const ETHER_TYPE: u16;
    fn entry(key: &ShortcutKey<Self>) -> Option<*mut Shortcut<Self::Stored>>;
    fn store(key: &ShortcutKey<Self>, shortcut: &Shortcut<Self::Stored>);
    fn forget(key: &ShortcutKey<Self>);
    fn arrival(hash: u32) -> Option<*mut Arrival<Self>>;
    fn parse(bytes: &Linear, offset: usize, frame: u32) -> Option<Candidate<Self>>;
}

impl Family for u32 {
    const HEADER: usize = IPV4_HEADER;
    const SOURCE: usize = 12;
    const DESTINATION: usize = 16;
    const TTL: usize = 8;
    const ETHER_TYPE: u16 = ether::IPV4;
    #[inline(always)]
    fn entry(key: &ShortcutKey<Self>) -> Option<*mut Shortcut<Self>> {
        maps::SHORT4.get_ptr_mut(key)
    }
    #[inline(always)]
    fn store(key: &ShortcutKey<Self>, shortcut: &Shortcut<Self>) {
        // A full map is no error: the packets go through the stack.
        let _ = maps::SHORT4.insert(key, shortcut, 0);
    }
    #[inline(always)]
    fn forget(key: &ShortcutKey<Self>) {
        let _ = maps::SHORT4.remove(key);
    }
    #[inline(always)]
    fn arrival(hash: u32) -> Option<*mut Arrival<Self>> {
        maps::ARRIVALS4.get_ptr_mut(hash % maps::ARRIVALS as u32)
    }
    #[inline(always)]
    fn parse(bytes: &Linear, offset: usize, frame: u32) -> Option<Candidate<Self>> {
        candidate::ipv4(bytes, offset, frame)
    }
}

impl Family for [u32; 4] {
    const HEADER: usize = IPV6_HEADER;
    const SOURCE: usize = 8;
    const DESTINATION: usize = 24;
    const TTL: usize = 7;
    const ETHER_TYPE: u16 = ether::IPV6;
    #[inline(always)]
    fn entry(key: &ShortcutKey<Self>) -> Option<*mut Shortcut<Address6>> {
        maps::SHORT6.get_ptr_mut(key)
    }
    #[inline(always)]
    fn store(key: &ShortcutKey<Self>, shortcut: &Shortcut<Address6>) {
        let _ = maps::SHORT6.insert(key, shortcut, 0);
    }
    #[inline(always)]
    fn forget(key: &ShortcutKey<Self>) {
        let _ = maps::SHORT6.remove(key);
    }
    #[inline(always)]
    fn arrival(hash: u32) -> Option<*mut Arrival<Self>> {
        maps::ARRIVALS6.get_ptr_mut(hash % maps::ARRIVALS as u32)
    }
    #[inline(always)]
    fn parse(bytes: &Linear, offset: usize, frame: u32) -> Option<Candidate<Self>> {
        candidate::ipv6(bytes, offset, frame)
    }
}

/// The XDP way of a packet that has an active shortcut.
#[inline(always)]
fn redirect<A: Family>(ctx: &XdpContext, bytes: Linear) -> Option<u32> {
    let frame = bytes.length();
    let packet = &A::parse(&bytes, ETHERNET, frame)?;
    // SAFETY: the context is valid for the whole program.
    let passage = Passage::of(packet, unsafe { (*ctx.ctx).ingress_ifindex });
    let entry = A::entry(&passage.key)?;
    let inbound = (bytes.value::<u16>(0)?, bytes.value::<u32>(2)?);
    // SAFETY: the pointer comes from the map; `read` tells whether it is still the same entry.
    let terms = unsafe { &*entry };
    let holds = terms.traits & trait_of::FRAMES != 0
        && suits(terms, packet, packet.length)
        && inbound == (terms.inbound_begin, terms.inbound_end)
        && holds(terms, &epoch(terms.uplink as u32)?, now());
    if !holds {
        return None;
    }
    let shortcut = read(entry, passage.check(), false)?;
    // The packet is still as it came: the kernel only takes note of the device, if it is there.
    let action = maps::FRAMES.redirect(shortcut.out, 0).ok()?;
    let change = Change::of(&shortcut, &passage.key);
    rewrite::<A>(bytes, ETHERNET, &shortcut, &change)?;
    let checksum = ETHERNET + A::HEADER + checksum_offset(packet.protocol);
    let place: *mut u16 = bytes.place(checksum)?;
    // SAFETY: `place` is inside the packet.
    unsafe { *place = transport_checksum(packet.protocol, *place, &change) };
    bytes.set(0, shortcut.outbound)?;
    count(entry, packet.length, 1);
    access::traffic(shortcut.uplink as u32, |traffic| {
        traffic.shortcuts_xdp += 1;
        if shortcut.traits & trait_of::INWARD != 0 {
            traffic.packets_in += 1;
            traffic.bytes_in += frame as u64;
        } else {
            traffic.packets_out += 1;
            traffic.bytes_out += frame as u64;
        }
    });
    Some(action)
}

/// The tc way of a packet: by its shortcut, or through the stack.
#[inline(always)]
fn go_on<A: Family>(ctx: &TcContext, device: &Device) -> Option<i32> {
    /// The longest header that is read behind the IP header: TCP's without options.
    const TRANSPORT: usize = 20;
    let offset = network_offset(device);
    if !access::reach(ctx, offset + A::HEADER + TRANSPORT) {
        let _ = ctx.pull_data(ctx.len().min(HEADERS));
    }
    let packet = &A::parse(&Linear::of(ctx), offset, ctx.len())?;
    let passage = Passage::of(packet, access::ifindex(ctx));
    if packet.stage == Stage::Turns {
        forget(&passage);
        return None;
    }
    if let Some(entry) = A::entry(&passage.key) {
        // SAFETY: the pointer comes from the map; `read` tells whether it is still the same entry.
        let terms = unsafe { &*entry };
        if holds(terms, &epoch(terms.uplink as u32)?, now())
            && suits(terms, packet, size(packet, access::segment(ctx)))
            && let Some(shortcut) = read(entry, passage.check(), true)
        {
            return follow::<A>(ctx, device, offset, packet, &passage.key, entry, &shortcut);
        }
    }
    if packet.stage == Stage::Goes {
        note(ctx, offset, packet, &passage);
    }
    None
}

/// Sends a packet by its shortcut.
#[inline(always)]
fn follow<A: Family>(
    ctx: &TcContext,
    device: &Device,
    mut offset: usize,
    packet: &Candidate<A>,
    key: &ShortcutKey<A>,
    entry: *mut Shortcut<A::Stored>,
    shortcut: &Shortcut<A::Stored>,
) -> Option<i32> {
    let (bytes, segments) = (ctx.len(), access::segments(ctx));
    let change = Change::of(shortcut, key);
    let skb = ctx.skb.skb;
    let has_header = shortcut.traits & trait_of::ETHERNET != 0;
    if has_header && offset == 0 {
        // SAFETY: the context is valid; what was read from the packet is not used any more.
        if unsafe { bpf_skb_change_head(skb, ETHERNET as u32, 0) } != 0 {
            return None;
        }
        Linear::of(ctx).set(ETHER_TYPE, A::ETHER_TYPE.to_be());
        offset = ETHERNET;
    }
    let checksum = (offset + A::HEADER + checksum_offset(packet.protocol)) as u32;
    let mangled = if packet.protocol == protocol::UDP { BPF_F_MARK_MANGLED_0 as u64 } else { 0 };
    // The kernel's own helper, because checksums of packets inside a host may be unfinished.
    // SAFETY: a helper that checks the offset itself.
    unsafe {
        if change.address != 0 {
            bpf_l4_csum_replace(skb, checksum, 0, fold(change.address) as u64, BPF_F_PSEUDO_HDR as u64 | mangled);
        }
        if change.port != 0 {
            bpf_l4_csum_replace(skb, checksum, 0, fold(change.port) as u64, mangled);
        }
        if A::HEADER == IPV6_HEADER {
            // IPv6 has no checksum of its own that would balance what changes in its header.
            bpf_csum_update(skb, fold(lower_hop_limit() + change.address));
        }
    }
    let packet_now = Linear::of(ctx);
    rewrite::<A>(packet_now, offset, shortcut, &change);
    if has_header {
        packet_now.set(0, shortcut.outbound);
    }
    access::set_whole_mark(ctx, shortcut.mark);
    access::set_priority(ctx, shortcut.priority);
    count(entry, packet.length, segments as u32);
    access::traffic(shortcut.uplink as u32, |traffic| {
        traffic.shortcuts_tc += segments;
        // What leaves is counted at egress.
        if device.uplink != 0 {
            traffic.packets_in += segments;
            traffic.bytes_in += bytes as u64;
        }
    });
    // SAFETY: a helper that takes numbers.
    Some(unsafe { bpf_redirect(shortcut.out, 0) } as i32)
}

/// Changes the IP header, and the port: all but the checksum behind it.
#[inline(always)]
fn rewrite<A: Family>(bytes: Linear, offset: usize, shortcut: &Shortcut<A::Stored>, change: &Change) -> Option<()> {
    const CHECKSUM: usize = 10;
    let is_source = shortcut.traits & trait_of::SOURCE != 0;
    let (address, port) = if is_source { (A::SOURCE, 0) } else { (A::DESTINATION, 2) };
    let ttl: *mut [u8; 2] = bytes.place(offset + A::TTL)?;
    // SAFETY: `ttl` is inside the packet.
    unsafe { (*ttl)[0] -= 1 };
    let new = A::of(shortcut.address);
    if A::HEADER == IPV4_HEADER {
        let checksum: u16 = bytes.value(offset + CHECKSUM)?;
        bytes.set(offset + CHECKSUM, adjusted(checksum, change.address + lower_ttl()))?;
    }
    bytes.set(offset + address, new)?;
    bytes.set(offset + A::HEADER + port, shortcut.port)
}

/// Notes a packet that goes through the stack.
#[inline(always)]
fn note<A: Family>(ctx: &TcContext, offset: usize, packet: &Candidate<A>, passage: &Passage<A>) {
    let Some(Epoch { generation, .. }) = epoch(0) else { return };
    // SAFETY: a helper that takes the context.
    let hash = unsafe { bpf_get_hash_recalc(ctx.skb.skb) };
    let (inbound_begin, inbound_end) = if offset == ETHERNET {
        (Linear::of(ctx).value(0).unwrap_or_default(), Linear::of(ctx).value(2).unwrap_or_default())
    } else {
        (0, 0)
    };
    if let Some(arrival) = A::arrival(hash) {
        let Candidate { seal, length, tos, ttl, .. } = *packet;
        // SAFETY: the slot belongs to this CPU, and tc programs do not interrupt each other on one.
        unsafe {
            *arrival =
                Arrival { passage: *passage, hash, generation, seal, length, tos, ttl, inbound_begin, inbound_end }
        };
    }
}

/// Learns from a packet that leaves by `device` and that conntrack knows. What goes to the LAN teaches first; what leaves by an
/// uplink teaches once the answers are known.
#[inline(never)]
pub fn learn_way(ctx: &TcContext, settings: &Settings, device: &Device) {
    match access::ether_type(ctx) {
        ether::IPV4 => learn_from::<u32>(ctx, settings, device),
        ether::IPV6 => learn_from::<[u32; 4]>(ctx, settings, device),
        _ => {}
    }
}

#[inline(always)]
fn learn_from<A: Family>(ctx: &TcContext, settings: &Settings, device: &Device) {
    let hash = access::hash(ctx);
    let Some(arrival) = A::arrival(hash) else { return };
    // SAFETY: as in `note`; nobody else has a reference.
    let arrival = unsafe { &mut *arrival };
    if arrival.hash != hash || hash == 0 {
        return;
    }
    // Only once: what takes the shortcut has the same hash.
    arrival.hash = 0;
    let arrived = access::device_of(arrival.passage.way >> 8);
    let Some((arrived, uplink)) = arrived.and_then(|arrived| Some((arrived, between(&arrived, device)?))) else {
        return;
    };
    let (Some(epoch), Some(now_in_force)) = (epoch(uplink), epoch(0)) else { return };
    if epoch.lease == 0 || now_in_force.generation != arrival.generation {
        return;
    }
    let offset = network_offset(device);
    let Some(left) = A::parse(&Linear::of(ctx), offset, ctx.len()) else { return };
    let frames = arrived.shortcuts & device::XDP != 0 && device.shortcuts & device::FRAMES != 0;
    let departure = Departure {
        out: access::ifindex(ctx),
        mark: access::mark(ctx) & !settings.mark_mask,
        priority: access::priority(ctx),
        outbound: if offset == ETHERNET { Linear::of(ctx).value(0).unwrap_or_default() } else { [0; 3] },
        size: size(&left, access::segment(ctx)),
        traits: if frames { trait_of::FRAMES } else { 0 }
            | if offset == ETHERNET { trait_of::ETHERNET } else { 0 }
            | if device.uplink == 0 { trait_of::INWARD } else { 0 },
        uplink,
        generation: epoch.generation,
        now: now(),
    };
    match learn(arrival, &left, &departure) {
        Some(shortcut) => keep::<A>(&arrival.passage, shortcut, &epoch),
        None => access::count(Counter::NoShortcut),
    }
}

/// The uplink between two devices, if one is an uplink's and the other is the LAN's, and packets may take shortcuts there.
#[inline(always)]
fn between(arrived: &Device, leaves: &Device) -> Option<u32> {
    let may = arrived.shortcuts & device::TAKES != 0 && leaves.shortcuts & device::GIVES != 0;
    if !may || (arrived.uplink == 0) == (leaves.uplink == 0) { None } else { Some(arrived.uplink | leaves.uplink) }
}

/// Stores what was learned, or renews what is known.
#[inline(always)]
fn keep<A: Family>(passage: &Passage<A>, mut shortcut: Shortcut<A::Stored>, epoch: &Epoch) {
    if let Some(entry) = A::entry(&passage.key) {
        // SAFETY: the pointer comes from the map. If the entry is given away meanwhile, what is written is as fresh as what is
        // in it.
        let known = unsafe { &mut *entry };
        let same = known.check == shortcut.check;
        if same && known.traits & trait_of::ACTIVE != 0 && leads_alike(known, &shortcut) {
            if !holds(known, epoch, shortcut.leased) || known.size < shortcut.size {
                known.size = shortcut.size;
            }
            known.leased = shortcut.leased;
            known.generation = shortcut.generation;
            access::count(Counter::Renewed);
            return;
        }
        // Of another device or protocol: it comes first while it is in use.
        if !same && self::epoch(known.uplink as u32).is_some_and(|epoch| holds(known, &epoch, shortcut.leased)) {
            return;
        }
    }
    if let Some(entry) = A::entry(&passage.translated(&shortcut).reversed().key) {
        // SAFETY: as above; one bit of a shortcut that was found to agree.
        let answer = unsafe { &mut *entry };
        if is_undone(passage, &shortcut, answer) {
            answer.traits |= trait_of::ACTIVE;
            shortcut.traits |= trait_of::ACTIVE;
        }
    }
    if shortcut.traits & (trait_of::ACTIVE | trait_of::INWARD) != 0 {
        A::store(&passage.key, &shortcut);
        access::count(Counter::Learned);
    }
}

/// Forgets both directions.
#[inline(always)]
fn forget<A: Family>(passage: &Passage<A>) {
    if let Some(entry) = A::entry(&passage.key)
        && let Some(shortcut) = read(entry, passage.check(), false)
    {
        A::forget(&passage.translated(&shortcut).reversed().key);
        A::forget(&passage.key);
    }
}

/// Copies what a shortcut makes of packets, with what only an skb has where `whole`. `None` if its check is another one; it is
/// read last: the memory of an entry that is forgotten meanwhile is given away at once, and the check is what is written first.
#[inline(always)]
fn read<S: Copy>(entry: *mut Shortcut<S>, check: u32, whole: bool) -> Option<Shortcut<S>> {
    macro_rules! field {
        ($name:ident) => {
            // SAFETY: the pointer comes from the map; all fields are integers.
            unsafe { (&raw const (*entry).$name).read_volatile() }
        };
    }
    let shortcut = Shortcut {
        out: field!(out),
        mark: if whole { field!(mark) } else { 0 },
        priority: if whole { field!(priority) } else { 0 },
        traits: field!(traits),
        uplink: field!(uplink),
        port: field!(port),
        outbound: field!(outbound),
        address: field!(address),
        // What does not change packets.
        bytes: 0,
        packets: 0,
        leased: 0,
        generation: 0,
        size: 0,
        tos: 0,
        inbound_begin: 0,
        inbound_end: 0,
        check,
    };
    if field!(check) == check { Some(shortcut) } else { None }
}

#[inline(always)]
fn count<S>(entry: *mut Shortcut<S>, bytes: u32, packets: u32) {
    // SAFETY: the pointer comes from the map. A flow is on one CPU at a time, as its packets must stay in order.
    unsafe {
        (*entry).bytes += bytes as u64;
        (*entry).packets = (*entry).packets.wrapping_add(packets);
    }
}

/// Bytes before the IP header: one of two numbers, which the verifier can tell.
#[inline(always)]
const fn network_offset(device: &Device) -> usize {
    if device.header_length as usize == ETHERNET { ETHERNET } else { 0 }
}

#[inline(always)]
const fn checksum_offset(protocol: u8) -> usize {
    if protocol == protocol::UDP { 6 } else { 16 }
}

/// The checksum behind the IP header. Of UDP 0 is none, and is never the result.
#[inline(always)]
fn transport_checksum(protocol: u8, old: u16, change: &Change) -> u16 {
    if protocol != protocol::UDP {
        return adjusted(old, change.address + change.port);
    }
    match (old, adjusted(old, change.address + change.port)) {
        (0, _) => 0,
        (_, 0) => u16::MAX,
        (_, new) => new,
    }
}

#[inline(always)]
fn epoch(uplink: u32) -> Option<Epoch> {
    maps::EPOCHS.get(uplink).copied()
}

/// The clock of leases.
#[inline(always)]
fn now() -> u32 {
    // SAFETY: a helper without arguments, Linux 5.11.
    (unsafe { bpf_ktime_get_coarse_ns() } >> TICK) as u32
}
