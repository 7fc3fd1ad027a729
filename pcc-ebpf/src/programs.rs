//! One program for each side and direction of the router.

use aya_ebpf::bindings::TC_ACT_UNSPEC;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use aya_log_ebpf::info;
use pcc_ebpf::abi::device::GIVES;
use pcc_ebpf::abi::{Counter, Device, FlowKey, Settings};
use pcc_ebpf::classify::{Lesson, Recall, Tables, closes, learn, recall};
use pcc_ebpf::mangle::{self, Walk};
use pcc_ebpf::packet::{Headers, Unread, parse};
use pcc_ebpf::peer::{answer, ask};
use pcc_ebpf::policy::{is_remembered_at_once, keep, select};

use crate::access::{self, Linear, Maps};
use crate::maps::Scratch;
use crate::short::learn_way;

/// Enough for Ethernet, IPv6 with extension headers, and the first bytes of TCP.
const HEADERS: u32 = 192;

/// LAN ingress: classifies what the LAN sends.
#[classifier]
pub fn pcc_lan_in(ctx: TcContext) -> i32 {
    if let Some((settings, device)) = context(&ctx) {
        match headers(&ctx, &device) {
            Ok(headers) => mark_by_flow(&ctx, settings, &device, &headers),
            Err(reason) => access::count(reason),
        }
    }
    TC_ACT_UNSPEC
}

/// LAN egress: learns from answers, which conntrack has marked and whose translation is undone. Multicast is no answer,
/// and the kernel's own reports have a random mark.
#[classifier]
pub fn pcc_lan_out(ctx: TcContext) -> i32 {
    if let Some((settings, device)) = context(&ctx)
        && access::mark(&ctx) & settings.mark_confirmed != 0
        && learn_answer(&ctx, settings, &device)
        && device.shortcuts & GIVES != 0
    {
        learn_way(&ctx, settings, &device);
    }
    TC_ACT_UNSPEC
}

/// Uplink ingress: the packet belongs to the uplink that it came in on. Reverse-path filters look at the mark before
/// conntrack can restore it.
#[classifier]
pub fn pcc_wan_in(ctx: TcContext) -> i32 {
    if let Some((settings, device)) = context(&ctx) {
        if let Some(uplink) = Maps.uplink(device.uplink) {
            access::set_mark(&ctx, settings.mark_mask, uplink.mark);
        }
        access::traffic(device.uplink, |traffic| {
            traffic.packets_in += access::segments(&ctx);
            traffic.bytes_in += ctx.len() as u64;
        });
    }
    TC_ACT_UNSPEC
}

/// Uplink egress: counts. A packet with our mark that conntrack did not confirm begins a connection. Only the whole mark
/// of this uplink counts: `skb->mark` of the kernel's own multicast reports is noise, the room behind their data.
#[classifier]
pub fn pcc_wan_out(ctx: TcContext) -> i32 {
    if let Some((settings, device)) = context(&ctx) {
        match leaving(&ctx, settings, &device) {
            Leaving::Confirmed if device.shortcuts & GIVES != 0 => learn_way(&ctx, settings, &device),
            // Answers to the router itself are seen nowhere.
            Leaving::Begins if access::is_forwarded(&ctx) => note_question(&ctx, &device),
            _ => {}
        }
    }
    TC_ACT_UNSPEC
}

/// What a packet that leaves by an uplink is.
#[repr(u32)]
enum Leaving {
    /// None of ours.
    Other,
    /// The first of its connection.
    Begins,
    /// One that conntrack confirmed.
    Confirmed,
}

/// Counts a packet that leaves by an uplink. Not a part of its caller, whose stack must leave room for [`learn_way`]: Linux 6.1
/// rounds both up to 32 bytes, and they may have 512 together.
#[inline(never)]
fn leaving(ctx: &TcContext, settings: &Settings, device: &Device) -> Leaving {
    let mark = access::mark(ctx) & settings.mark_mask;
    let confirmed = mark & settings.mark_confirmed != 0;
    let missed = mark & settings.mark_missed != 0;
    let plain = mark & !(settings.mark_confirmed | settings.mark_missed);
    let ours = mark != 0 && Maps.uplink(device.uplink).is_some_and(|uplink| uplink.mark == plain);
    access::traffic(device.uplink, |traffic| {
        traffic.packets_out += access::segments(ctx);
        traffic.bytes_out += ctx.len() as u64;
        if ours && !confirmed {
            traffic.connections += 1;
        }
    });
    if ours && confirmed && missed {
        access::count(Counter::Relearned);
    }
    match (ours, confirmed) {
        (false, _) => Leaving::Other,
        (true, false) => Leaving::Begins,
        (true, true) => Leaving::Confirmed,
    }
}

/// Ingress of a device of a RouterOS configuration: walks chain prerouting.
#[classifier]
pub fn pcc_mirror_in(ctx: TcContext) -> i32 {
    if let Some((settings, device)) = context(&ctx) {
        access::traffic(device.uplink, |traffic| {
            traffic.packets_in += access::segments(&ctx);
            traffic.bytes_in += ctx.len() as u64;
        });
        match headers(&ctx, &device) {
            Ok(headers) => mark_by_rules(&ctx, settings, &device, headers),
            Err(reason) => access::count(reason),
        }
    }
    TC_ACT_UNSPEC
}

/// Egress of such a device: learns the connection's mark for the answers. Multicast is no question, and the kernel's own
/// reports have a random mark.
#[classifier]
pub fn pcc_mirror_out(ctx: TcContext) -> i32 {
    if let Some((settings, device)) = context(&ctx) {
        let mark = access::mark(&ctx) & settings.mark_mask;
        access::traffic(device.uplink, |traffic| {
            traffic.packets_out += access::segments(&ctx);
            traffic.bytes_out += ctx.len() as u64;
        });
        if mark & settings.mark_ours != 0
            && let Ok(headers) = headers(&ctx, &device)
            && headers.cacheable
            && headers.key.is_routable()
        {
            let answered = headers.key.reversed();
            if let Lesson::Remember(flow, counter) = mangle::learn(&Maps, settings, mark, &answered, access::now()) {
                access::correct(&answered, &flow);
                access::count(counter);
            }
        }
    }
    TC_ACT_UNSPEC
}

/// Learns the uplink of a flow from an answer. True for an answer that is not the first one.
#[inline(never)]
fn learn_answer(ctx: &TcContext, settings: &Settings, device: &Device) -> bool {
    let Ok(headers) = headers(ctx, device) else { return false };
    if !headers.cacheable || !headers.key.is_routable() {
        return false;
    }
    let answered = headers.key.reversed();
    let is_known = match learn(&Maps, settings, access::mark(ctx), &answered, access::now()) {
        Lesson::Remember(flow, counter) => {
            access::correct(&answered, &flow);
            access::count(counter);
            note_answer(&headers, flow.uplink);
            false
        }
        lesson => lesson == Lesson::Known,
    };
    if closes(&headers) {
        access::end(&answered);
        return false;
    }
    is_known
}

/// Notes that an address was asked.
#[inline(never)]
fn note_question(ctx: &TcContext, device: &Device) {
    if let Ok(headers) = headers(ctx, device)
        && ask(&mut Maps, &headers, device.uplink, access::now())
    {
        access::pulse(device.uplink, &headers, |beat| beat.asked += 1);
    }
}

/// Notes that an address answered.
#[inline(never)]
fn note_answer(headers: &Headers, uplink: u32) {
    if answer(&mut Maps, headers, uplink, access::now()) {
        access::pulse(uplink, headers, |beat| beat.answered += 1);
    }
}

#[inline(always)]
fn context(ctx: &TcContext) -> Option<(&'static Settings, Device)> {
    let Some(device) = access::device(ctx) else {
        access::count(Counter::UnknownDevice);
        return None;
    };
    Some((access::settings()?, device))
}

/// Parses the linear part, and once more after pulling the headers into it.
#[inline(always)]
fn headers(ctx: &TcContext, device: &Device) -> Result<Headers, Counter> {
    if access::is_tagged(ctx) {
        return Err(Counter::Vlan);
    }
    let mut result = parse(&Linear::of(ctx), device.header_length, access::ether_type(ctx));
    if result == Err(Unread::Short) {
        let _ = ctx.pull_data(ctx.len().min(HEADERS));
        result = parse(&Linear::of(ctx), device.header_length, access::ether_type(ctx));
    }
    match result {
        Ok(headers) => Ok(headers),
        Err(Unread::Short) => Err(Counter::Malformed),
        Err(Unread::Skip(counter)) => Err(counter),
    }
}

#[inline(always)]
fn mark_by_flow(ctx: &TcContext, settings: &Settings, device: &Device, headers: &Headers) {
    let now = access::now();
    match recall(&Maps, settings, headers, now) {
        Recall::Cached { mark, refresh } => {
            access::set_mark(ctx, settings.mark_mask, mark);
            access::count(Counter::CacheHit);
            if refresh {
                access::refresh(&headers.key, now);
            }
            if closes(headers) {
                access::end(&headers.key);
            }
        }
        Recall::Unknown { is_cached } => {
            let walk = Walk::new(settings, headers.family);
            if let Some(scratch) = access::set_aside(settings, headers, device.number, 0, walk) {
                mark_by_policy(ctx, settings, scratch, is_cached, now);
            }
        }
        Recall::Leave(counter) => access::count(counter),
    }
}

/// Chooses for a flow that the cache does not know. The functions that it calls are together too large for one stack.
#[inline(always)]
fn mark_by_policy(ctx: &TcContext, settings: &Settings, scratch: &mut Scratch, is_cached: bool, now: u32) {
    let ruled = scratch.walking.walk.next != 0;
    if ruled {
        walk(scratch);
    }
    let policy = scratch.walking.walk.policy;
    // Once more where another packet was first to say which uplink both must keep to.
    for _ in 0..2 {
        if !keep_to(settings, scratch, policy, now) {
            decide(settings, scratch, policy, now);
        }
        if access::stick(settings, scratch, policy) {
            break;
        }
    }
    let Scratch { walking, choice } = scratch;
    let headers = &walking.facts.headers;
    access::count(choice.counter);
    if choice.mark == 0 {
        return;
    }
    access::set_mark(ctx, settings.mark_mask, choice.mark);
    if headers.cacheable {
        let flow = choice.flow(settings);
        let is_replaced = is_cached && access::replace(&headers.key, &flow);
        if !is_replaced && is_remembered_at_once(headers, ruled) {
            access::remember(&headers.key, &flow);
        }
    }
    let FlowKey { source_port, destination_port, protocol, .. } = headers.key;
    info!(ctx, "new flow: protocol {} ports {} -> {}: mark {:x}", protocol, source_port, destination_port, choice.mark);
}

/// Walks the rules.
#[inline(never)]
fn walk(scratch: &mut Scratch) {
    scratch.walking.run();
}

/// Chooses what the connection must keep to; false if that is nothing.
#[inline(never)]
fn keep_to(settings: &Settings, scratch: &mut Scratch, policy: u32, now: u32) -> bool {
    scratch.choice = keep(&Maps, settings, &scratch.walking.facts.headers, policy, now);
    scratch.choice.mark != 0
}

/// Chooses by the hash.
#[inline(never)]
fn decide(settings: &Settings, scratch: &mut Scratch, policy: u32, now: u32) {
    scratch.choice = select(&Maps, settings, &scratch.walking.facts.headers, policy, now);
}

#[inline(always)]
fn mark_by_rules(ctx: &TcContext, settings: &Settings, device: &Device, headers: Headers) {
    let now = access::now();
    match mangle::recall(&Maps, settings, &headers, device.number, now) {
        mangle::Recall::Cached { mark, refresh } => {
            access::set_mark(ctx, settings.mark_mask, mark);
            access::count(Counter::CacheHit);
            if refresh {
                access::refresh(&headers.key, now);
            }
        }
        mangle::Recall::Walk(walk) => {
            let size = access::length(ctx) - device.header_length;
            let Some(scratch) = access::set_aside(settings, &headers, device.number, size, walk) else { return };
            scratch.walking.run();
            let walk = scratch.walking.walk;
            let conclusion = mangle::conclude(settings, &headers, device.number, &walk, now);
            access::set_mark(ctx, settings.mark_mask, conclusion.mark);
            access::count(Counter::Walked);
            if walk.varies != 0 {
                access::count(Counter::Uncacheable);
            }
            if let Some(flow) = conclusion.remember {
                access::remember(&headers.key, &flow);
            }
            let FlowKey { source_port, destination_port, protocol, .. } = headers.key;
            info!(
                ctx,
                "walked the rules: protocol {} ports {} -> {}: mark {:x}",
                protocol,
                source_port,
                destination_port,
                conclusion.mark
            );
        }
    }
}

pcc_ebpf::kernel_object!();
