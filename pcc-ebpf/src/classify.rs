//! The decision: PCC's hash, and what the classifier says about a packet.

use crate::abi::{Counter, Flow, FlowKey, Policy, Settings, Sticky, StickyKey, Uplink};
use crate::flow;
use crate::packet::{Headers, protocol};

/// The header fields that PCC hashes, as RouterOS's bit mask: 1 source address, 2 destination address,
/// 4 source port, 8 destination port. Only RouterOS's nine combinations exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HashFields(u32);

impl HashFields {
    /// The nine field sets with the words that RouterOS uses.
    pub const ALL: [(&'static str, Self); 9] = [
        ("src-address", Self(1)),
        ("dst-address", Self(2)),
        ("both-addresses", Self(3)),
        ("src-port", Self(4)),
        ("src-address-and-port", Self(5)),
        ("dst-port", Self(8)),
        ("dst-address-and-port", Self(10)),
        ("both-ports", Self(12)),
        ("both-addresses-and-ports", Self(15)),
    ];

    /// Source and destination address: all connections of a client to a server share an uplink.
    pub const BOTH_ADDRESSES: Self = Self(3);
    /// All four fields.
    pub const ALL_FIELDS: Self = Self(15);

    /// The field set that RouterOS calls `word`.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| *name == word).map(|(_, fields)| *fields)
    }

    /// RouterOS's word.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, fields)| *fields == self).map_or("", |(name, _)| name)
    }

    /// The bit mask, as the settings map holds it.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// PCC's hash of a flow: Jenkins' lookup3 (public domain; Linux `jhash`) over the selected fields in the fixed order source
/// address, destination address, source port, destination port, as raw network-order bytes. Ports count only for
/// TCP, UDP, UDP-Lite, SCTP and DCCP.
#[inline(always)]
pub fn hash(key: &FlowKey, fields: HashFields, seed: u32) -> u32 {
    hash_bits(key, fields.bits(), seed)
}

/// [`hash`] with the bit mask of the settings map.
#[inline(always)]
pub(crate) fn hash_bits(key: &FlowKey, bits: u32, seed: u32) -> u32 {
    let (ports, ports_length) = port_word(key, bits);
    let source = bits & 1 != 0;
    let destination = bits & 2 != 0;
    if key.is_ipv4() {
        let (first, second) = (key.source[3], key.destination[3]);
        return match (source, destination) {
            (true, true) => lookup3_tail([first, second, ports], start(8 + ports_length, seed), 8 + ports_length),
            (true, false) => lookup3_tail([first, ports, 0], start(4 + ports_length, seed), 4 + ports_length),
            (false, true) => lookup3_tail([second, ports, 0], start(4 + ports_length, seed), 4 + ports_length),
            (false, false) => lookup3_tail([ports, 0, 0], start(ports_length, seed), ports_length),
        };
    }
    let (s, d) = (key.source, key.destination);
    if source && destination {
        let length = 32 + ports_length;
        let mut state = start(length, seed);
        state = lookup3_mix([s[0], s[1], s[2]], state);
        state = lookup3_mix([s[3], d[0], d[1]], state);
        lookup3_tail([d[2], d[3], ports], state, length)
    } else if source || destination {
        let length = 16 + ports_length;
        let only = if source { s } else { d };
        let state = lookup3_mix([only[0], only[1], only[2]], start(length, seed));
        lookup3_tail([only[3], ports, 0], state, length)
    } else {
        lookup3_tail([ports, 0, 0], start(ports_length, seed), ports_length)
    }
}

/// The selected ports as the little-endian word that lookup3 makes of their bytes, and how many bytes they are.
#[inline(always)]
fn port_word(key: &FlowKey, bits: u32) -> (u32, u32) {
    if !flow::has_ports(key.protocol) {
        return (0, 0);
    }
    let source = key.source_port.swap_bytes() as u32;
    let destination = key.destination_port.swap_bytes() as u32;
    match bits & 12 {
        4 => (source, 2),
        8 => (destination, 2),
        12 => (source | destination << 16, 4),
        _ => (0, 0),
    }
}

#[inline(always)]
fn start(length: u32, seed: u32) -> [u32; 3] {
    [0xdead_beef_u32.wrapping_add(length).wrapping_add(seed); 3]
}

/// Twelve bytes that are not the last ones: words in native byte order, as the kernel loads them.
#[inline(always)]
fn lookup3_mix(words: [u32; 3], state: [u32; 3]) -> [u32; 3] {
    let mut a = state[0].wrapping_add(words[0]);
    let mut b = state[1].wrapping_add(words[1]);
    let mut c = state[2].wrapping_add(words[2]);
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    [a, b, c]
}

/// The last 0 to 12 bytes, which lookup3 assembles byte by byte in little-endian order.
#[inline(always)]
fn lookup3_tail(words: [u32; 3], state: [u32; 3], length: u32) -> u32 {
    if length == 0 {
        return state[2];
    }
    let mut a = state[0].wrapping_add(u32::from_le(words[0]));
    let mut b = state[1].wrapping_add(u32::from_le(words[1]));
    let mut c = state[2].wrapping_add(u32::from_le(words[2]));
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

/// What the classifier knows besides the packet. In the kernel these are maps; in tests, what the test says.
pub trait Tables {
    /// The cached decision for a flow.
    fn flow(&self, key: &FlowKey) -> Option<Flow>;
    /// The state of uplink `id`.
    fn uplink(&self, id: u32) -> Option<Uplink>;
    /// The uplink id in slot [`crate::abi::bucket_index`] of the bucket table; 0 for none.
    fn bucket(&self, index: u32) -> u32;
    /// The destination is in the bypass list.
    fn bypassed(&self, headers: &Headers) -> bool;
    /// The policy in slot [`crate::abi::policy_index`].
    fn policy(&self, index: u32) -> Option<Policy>;
    /// The uplink that connections with `key` keep to.
    fn sticky(&self, key: &StickyKey) -> Option<Sticky>;
}

/// What the cache and the destination say about a packet that came in from the LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recall {
    /// Mark it as its flow was marked before. `refresh`: note in the cache that the flow is in use.
    Cached {
        /// Our bits of the mark.
        mark: u32,
        /// The entry's time is older than a second.
        refresh: bool,
    },
    /// Nothing: [`crate::policy::choose`].
    Unknown {
        /// There may be an entry, which is of no use.
        is_cached: bool,
    },
    /// Leave it to the kernel, unmarked, for this reason.
    Leave(Counter),
}

/// Looks up a packet from the LAN. `now` is the coarse monotonic clock in seconds.
///
/// The result is tentative, as is what is chosen: conntrack's mark overrules it (netfilter prerouting), because the
/// buckets depend on weights that may have changed since the connection began.
#[inline(always)]
pub fn recall<T: Tables>(tables: &T, settings: &Settings, headers: &Headers, now: u32) -> Recall {
    if !headers.key.is_routable() {
        return Recall::Leave(Counter::NotRoutable);
    }
    let mut is_cached = headers.cacheable;
    if headers.cacheable && !headers.opens {
        let flow = tables.flow(&headers.key);
        if let Some(flow) = &flow
            && is_usable(tables, settings, flow, headers.key.protocol, now)
        {
            return Recall::Cached { mark: flow.mark, refresh: flow.last_seen != now };
        }
        is_cached = flow.is_some();
    }
    // After the cache: what is bypassed never gets into it, unless it came in by an uplink.
    if tables.bypassed(headers) {
        return Recall::Leave(Counter::Bypassed);
    }
    Recall::Unknown { is_cached }
}

/// What an answer on its way to the LAN says about the flow that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// The packet's connection is none of ours.
    Nothing,
    /// The cache is right, and this is not the first answer.
    Known,
    /// Remember this under the reversed key.
    Remember(Flow, Counter),
}

/// Learns from a packet with `mark` that leaves towards the LAN; `answered` is its reversed key. Only a mark that
/// conntrack *confirmed* teaches: any other is a guess about traffic between LANs.
#[inline(always)]
pub fn learn<T: Tables>(tables: &T, settings: &Settings, mark: u32, answered: &FlowKey, now: u32) -> Lesson {
    let id = (mark & settings.mark_mask) >> settings.mark_shift & settings.mark_id_mask;
    if mark & settings.mark_confirmed == 0 || id == 0 {
        return Lesson::Nothing;
    }
    let Some(uplink) = tables.uplink(id) else {
        return Lesson::Nothing;
    };
    // The whole mark: what merely looks like one has other bits of ours.
    if mark & settings.mark_mask & !settings.mark_missed != uplink.mark | settings.mark_confirmed {
        return Lesson::Nothing;
    }
    match tables.flow(answered) {
        Some(flow) if flow.uplink == id && flow.generation == uplink.generation => {
            if flow.confirmed == ENDING {
                return Lesson::Nothing;
            }
            if flow.confirmed == 1 {
                return Lesson::Known;
            }
            Lesson::Remember(remember(id, &uplink, true, now), Counter::Confirmed)
        }
        Some(_) => Lesson::Remember(remember(id, &uplink, true, now), Counter::Corrected),
        None => Lesson::Remember(remember(id, &uplink, true, now), Counter::Confirmed),
    }
}

/// [`Flow::confirmed`] of a connection that is being closed.
pub const ENDING: u32 = 2;

/// A TCP segment with FIN or RST.
#[inline(always)]
pub const fn closes(headers: &Headers) -> bool {
    const FIN: u32 = 1;
    const RST: u32 = 4;
    headers.details.tcp_flags & (FIN | RST) != 0
}

/// An entry holds while its uplink's generation does; one that is not TCP also needs to be in use, so that a phone or
/// a tunnel that keeps its ports for months follows a change of weights once it paused.
#[inline(always)]
fn is_usable<T: Tables>(tables: &T, settings: &Settings, flow: &Flow, protocol: u32, now: u32) -> bool {
    let Some(uplink) = tables.uplink(flow.uplink) else {
        return false;
    };
    let fresh = protocol == protocol::TCP as u32 || flow::age(now, flow.last_seen) <= settings.idle_seconds;
    fresh && uplink.generation == flow.generation && uplink.mark == flow.mark
}

#[inline(always)]
fn remember(id: u32, uplink: &Uplink, confirmed: bool, now: u32) -> Flow {
    Flow { mark: uplink.mark, uplink: id, generation: uplink.generation, confirmed: confirmed as u32, last_seen: now }
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
