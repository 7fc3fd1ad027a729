//! The walk through compiled steps, and what is remembered of RouterOS's mangle rules.
//!
//! A walk runs before conntrack and cannot see its mark. Where a rule asks for the connection mark or state, the walk takes
//! the connection for a new one without a mark, unless the flow cache knows better; its result is *tentative* then, and
//! what conntrack knows overrules it. After the first packet of a connection the cache does know better: the egress
//! programs see every connection's mark and note it under the key of the opposite direction.

use crate::abi::{Counter, Flow, FlowKey, Op, POLICY_DEFAULT, STEPS, Settings, Step, knowledge, state};
use crate::classify::{Lesson, Tables, hash_bits};
use crate::flow::age;
use crate::packet::{Headers, protocol};

/// Where steps and sets come from. In the kernel these are maps.
pub trait Rules {
    /// Step `index` of the program in force.
    fn step(&self, index: u32) -> Option<Step>;
    /// `address` (IPv4 mapped) of a packet of `family` is in set `set`.
    fn is_member(&self, set: u32, family: u32, address: &[u32; 4]) -> bool;
    /// A random number.
    fn random(&self) -> u32;
    /// How many packets came to the `nth` matcher with counter `counter` before this one.
    fn count(&self, counter: u32) -> u32;
}

/// What rules can ask about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its headers.
    pub headers: Headers,
    /// The number of the device that it came in by.
    pub device: u32,
    /// Bytes of the IP packet.
    pub size: u32,
    /// [`Settings::seed`].
    pub seed: u32,
}

/// A walk: the marks so far, and where it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Index of the next step, 0 at the end.
    pub next: u32,
    /// Connection mark.
    pub connection: u32,
    /// Routing mark.
    pub routing: u32,
    /// Packet mark.
    pub packet: u32,
    /// One of [`state`].
    pub state: u32,
    /// 1: connection mark and state are conntrack's. 0: they are taken for those of a new connection.
    pub known: u32,
    /// 1: a rule has set the connection mark.
    pub written: u32,
    /// 1: a test looked at what is not known.
    pub guessed: u32,
    /// 1: a test looked at what changes from packet to packet.
    pub varies: u32,
    /// The connection mark that the walk began with.
    pub began: u32,
    /// The policy that a rule chose.
    pub policy: u32,
}

/// What the cache says about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recall {
    /// Mark it as its flow was marked before. `refresh`: note in the cache that the flow is in use.
    Cached {
        /// Our bits of the mark.
        mark: u32,
        /// The entry's time is older than a second.
        refresh: bool,
    },
    /// Walk the rules.
    Walk(Walk),
}

/// What is to be done after a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conclusion {
    /// Our bits of the mark.
    pub mark: u32,
    /// What to remember; `None` where the flow key does not tell the connection.
    pub remember: Option<Flow>,
}

impl Walk {
    /// The walk of the first packet of a connection, at the first step of its family.
    #[inline(always)]
    pub fn new(settings: &Settings, family: u32) -> Self {
        let next = if family == crate::abi::IPV4 { settings.first_step4 } else { settings.first_step6 };
        Self {
            next,
            connection: 0,
            routing: 0,
            packet: 0,
            state: state::NEW,
            known: 0,
            written: 0,
            guessed: 0,
            varies: 0,
            began: 0,
            policy: POLICY_DEFAULT,
        }
    }
}

/// Looks a packet up in the cache. A SYN never uses it: what was remembered belongs to an older connection. `device` is the
/// number of the device that it came in by: rules may ask for it, so that a result holds for that one only.
#[inline(always)]
pub fn recall<T: Tables>(tables: &T, settings: &Settings, headers: &Headers, device: u32, now: u32) -> Recall {
    let mut walk = Walk::new(settings, headers.family);
    if headers.cacheable
        && !headers.opens
        && let Some(flow) = tables.flow(&headers.key)
        && is_usable(settings, &flow, headers.key.protocol, now)
    {
        if flow.confirmed & knowledge::SETTLED != 0 && flow.confirmed >> knowledge::DEVICE == device {
            let unwritten = flow.confirmed & knowledge::UNWRITTEN != 0;
            let mark = if unwritten { flow.mark & !settings.connection.mask() } else { flow.mark };
            return Recall::Cached { mark, refresh: flow.last_seen != now };
        }
        walk.connection = settings.connection.get(flow.mark);
        walk.began = walk.connection;
        if flow.confirmed & knowledge::CONFIRMED != 0 {
            walk.known = 1;
            walk.state = state::ESTABLISHED;
        }
    }
    Recall::Walk(walk)
}

/// Takes one step. False at the end.
#[inline(always)]
pub fn advance<R: Rules>(rules: &R, facts: &Facts, walk: &mut Walk) -> bool {
    if walk.next == 0 || walk.next >= STEPS {
        return false;
    }
    let Some(step) = rules.step(walk.next) else {
        walk.next = 0;
        return false;
    };
    walk.next = if perform(rules, facts, walk, &step) { step.then } else { step.otherwise };
    walk.next != 0
}

/// The result of a finished walk of a packet that came in by the device with number `device`.
#[inline(always)]
pub fn conclude(settings: &Settings, headers: &Headers, device: u32, walk: &Walk, now: u32) -> Conclusion {
    let tentative = if walk.guessed != 0 { settings.mark_missed } else { 0 };
    let rest = settings.mark_ours | tentative | settings.routing.of(walk.routing) | settings.packet.of(walk.packet);
    let with_connection = rest | settings.connection.of(walk.connection);
    // A mark that no rule set is conntrack's, and a packet without one is given conntrack's. The same number in the packet
    // would be written over one that another chain has set since.
    let unwritten = walk.written == 0 && walk.guessed == 0;
    let mark = if unwritten { rest } else { with_connection };
    let mut confirmed = if walk.known != 0 { knowledge::CONFIRMED } else { 0 };
    if walk.varies == 0 && walk.connection == walk.began {
        let unwritten = if unwritten { knowledge::UNWRITTEN } else { 0 };
        confirmed |= knowledge::SETTLED | unwritten | device << knowledge::DEVICE;
    }
    let generation = settings.rules_generation;
    let flow = Flow { mark: with_connection, uplink: 0, generation, confirmed, last_seen: now };
    Conclusion { mark, remember: if headers.cacheable { Some(flow) } else { None } }
}

/// Learns from a packet with `mark` that leaves by any device; `answered` is its reversed key.
#[inline(always)]
pub fn learn<T: Tables>(tables: &T, settings: &Settings, mark: u32, answered: &FlowKey, now: u32) -> Lesson {
    if mark & settings.mark_ours == 0 {
        return Lesson::Nothing;
    }
    let connection = settings.connection.get(mark);
    let known = tables.flow(answered);
    if let Some(flow) = &known
        && is_usable(settings, flow, answered.protocol, now)
        && flow.confirmed & knowledge::CONFIRMED != 0
        && settings.connection.get(flow.mark) == connection
    {
        return Lesson::Nothing;
    }
    let flow = Flow {
        mark: settings.mark_ours | settings.connection.of(connection),
        uplink: 0,
        generation: settings.rules_generation,
        confirmed: knowledge::CONFIRMED,
        last_seen: now,
    };
    let corrected = known.is_some_and(|flow| settings.connection.get(flow.mark) != connection);
    Lesson::Remember(flow, if corrected { Counter::Corrected } else { Counter::Confirmed })
}

#[inline(always)]
fn is_usable(settings: &Settings, flow: &Flow, protocol: u32, now: u32) -> bool {
    let fresh = protocol == protocol::TCP as u32 || age(now, flow.last_seen) <= settings.idle_seconds;
    fresh && flow.uplink == 0 && flow.generation == settings.rules_generation
}

/// Whether the test holds; true for an action.
#[inline(always)]
fn perform<R: Rules>(rules: &R, facts: &Facts, walk: &mut Walk, step: &Step) -> bool {
    let Facts { headers, .. } = facts;
    let key = &headers.key;
    let details = &headers.details;
    let within = |value: u32| value >= step.low && value <= step.high;
    match step.op {
        op if op == Op::Device as u32 => facts.device == step.low,
        op if op == Op::SourcePrefix as u32 => has_prefix(&key.source, step),
        op if op == Op::DestinationPrefix as u32 => has_prefix(&key.destination, step),
        op if op == Op::SourceSet as u32 => rules.is_member(step.low, headers.family, &key.source),
        op if op == Op::DestinationSet as u32 => rules.is_member(step.low, headers.family, &key.destination),
        op if op == Op::Protocol as u32 => key.protocol == step.low,
        op if op == Op::SourcePort as u32 => crate::flow::has_ports(key.protocol) && within(key.source_port as u32),
        op if op == Op::DestinationPort as u32 => {
            crate::flow::has_ports(key.protocol) && within(key.destination_port as u32)
        }
        op if op == Op::ConnectionMark as u32 => {
            if walk.written == 0 && walk.known == 0 {
                walk.guessed = 1;
            }
            walk.connection == step.low
        }
        op if op == Op::PacketMark as u32 => walk.packet == step.low,
        op if op == Op::RoutingMark as u32 => walk.routing == step.low,
        op if op == Op::State as u32 => {
            if walk.known == 0 {
                walk.guessed = 1;
            }
            walk.state & step.low != 0
        }
        op if op == Op::Pcc as u32 => {
            let denominator = step.words[0];
            denominator != 0 && hash_bits(key, step.low, facts.seed) % denominator == step.words[1]
        }
        op if op == Op::MarkConnection as u32 => {
            walk.connection = step.low;
            walk.written = 1;
            true
        }
        op if op == Op::MarkPacket as u32 => {
            walk.packet = step.low;
            true
        }
        op if op == Op::MarkRouting as u32 => {
            walk.routing = step.low;
            true
        }
        op if op == Op::Pass as u32 => true,
        op if op == Op::Policy as u32 => {
            walk.policy = step.low;
            true
        }
        op => {
            walk.varies = 1;
            match op {
                op if op == Op::TcpFlags as u32 => {
                    key.protocol == protocol::TCP as u32 && details.tcp_flags & step.low == step.high
                }
                op if op == Op::Size as u32 => within(facts.size),
                op if op == Op::Icmp as u32 => {
                    (key.protocol == protocol::ICMP as u32 || key.protocol == protocol::ICMPV6 as u32)
                        && details.icmp_type == step.low
                        && details.icmp_code >= step.words[0]
                        && details.icmp_code <= step.words[1]
                }
                op if op == Op::Dscp as u32 => details.dscp == step.low,
                op if op == Op::Ttl as u32 => within(details.ttl),
                op if op == Op::Random as u32 => rules.random() % 100 < step.low,
                op if op == Op::Nth as u32 => {
                    let every = step.words[0];
                    every != 0 && rules.count(step.low) % every + 1 == step.words[1]
                }
                _ => false,
            }
        }
    }
}

/// The first `step.low` bits of `address` are those of `step.words`.
#[inline(always)]
fn has_prefix(address: &[u32; 4], step: &Step) -> bool {
    let mut rest = step.low;
    let mut differs = 0;
    for (word, wanted) in address.iter().zip(&step.words) {
        let bits = if rest > 32 { 32 } else { rest };
        rest -= bits;
        let mask = if bits == 0 { 0 } else { (u32::MAX << (32 - bits)).to_be() };
        differs |= (word ^ wanted) & mask;
    }
    differs == 0
}

#[cfg(test)]
#[path = "mangle_tests.rs"]
mod tests;
