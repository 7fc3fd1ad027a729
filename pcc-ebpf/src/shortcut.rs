//! Shortcuts, pure: when one holds, what it makes of a packet, and how it is learned from a packet before and after the stack.

use crate::abi::{Address6, Epoch, Shortcut, ShortcutKey, trait_of, way};
use crate::candidate::{Candidate, Stage, fold};

/// An address of either family, in network order.
pub trait Address: Copy + Eq {
    /// Its form in a [`Shortcut`].
    type Stored: Copy + Eq;
    /// Into that form.
    fn stored(self) -> Self::Stored;
    /// Out of it.
    fn of(stored: Self::Stored) -> Self;
    /// Sum of its 16-bit words, in network order.
    fn sum(self) -> u64;
    /// The same of its complement.
    fn inverted_sum(self) -> u64;
    /// Its bits, mixed.
    fn mixed(self) -> u32;
}

impl Address for u32 {
    type Stored = Self;
    #[inline(always)]
    fn stored(self) -> Self {
        self
    }
    #[inline(always)]
    fn of(stored: Self) -> Self {
        stored
    }
    #[inline(always)]
    fn sum(self) -> u64 {
        self as u64
    }
    #[inline(always)]
    fn inverted_sum(self) -> u64 {
        (!self) as u64
    }
    #[inline(always)]
    fn mixed(self) -> u32 {
        self
    }
}

impl Address for [u32; 4] {
    type Stored = Address6;
    #[inline(always)]
    fn stored(self) -> Address6 {
        Address6 { words: self, spare: 0 }
    }
    #[inline(always)]
    fn of(stored: Address6) -> Self {
        stored.words
    }
    #[inline(always)]
    fn sum(self) -> u64 {
        self[0] as u64 + self[1] as u64 + self[2] as u64 + self[3] as u64
    }
    #[inline(always)]
    fn inverted_sum(self) -> u64 {
        [!self[0], !self[1], !self[2], !self[3]].sum()
    }
    #[inline(always)]
    fn mixed(self) -> u32 {
        self[0] ^ self[1].rotate_left(7) ^ self[2].rotate_left(13) ^ self[3].rotate_left(19)
    }
}

/// A packet at a device: who talks to whom, by which protocol.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage<A> {
    /// Who talks to whom.
    pub key: ShortcutKey<A>,
    /// [`way`] by that device.
    pub way: u32,
}

impl<A: Address> Passage<A> {
    /// Of a packet that comes in by device `ifindex`.
    #[inline(always)]
    pub fn of(packet: &Candidate<A>, ifindex: u32) -> Self {
        let Candidate { source, destination, source_port, destination_port, .. } = *packet;
        let key = ShortcutKey { source, destination, source_port, destination_port };
        Self { key, way: way(ifindex, packet.protocol as u32) }
    }

    /// [`Shortcut::check`].
    #[inline(always)]
    pub fn check(&self) -> u32 {
        let ShortcutKey { source, destination, source_port, destination_port } = self.key;
        let ports = (source_port as u32) << 16 | destination_port as u32;
        let mixed = source.mixed() ^ destination.mixed().rotate_left(16) ^ ports.rotate_left(5);
        mixed.wrapping_mul(0x9e37_79b1) ^ self.way
    }

    /// What the packet is after the stack, at the device that it leaves by.
    #[inline(always)]
    pub fn translated(&self, shortcut: &Shortcut<A::Stored>) -> Self {
        let (address, port) = (A::of(shortcut.address), shortcut.port);
        let key = if shortcut.traits & trait_of::SOURCE != 0 {
            ShortcutKey { source: address, source_port: port, ..self.key }
        } else {
            ShortcutKey { destination: address, destination_port: port, ..self.key }
        };
        Self { key, way: way(shortcut.out, self.way & 0xff) }
    }

    /// What comes back, if this is a packet after the stack.
    #[inline(always)]
    pub const fn reversed(&self) -> Self {
        let ShortcutKey { source, destination, source_port, destination_port } = self.key;
        let key = ShortcutKey {
            source: destination,
            destination: source,
            source_port: destination_port,
            destination_port: source_port,
        };
        Self { key, way: self.way }
    }
}

/// The lease of a shortcut is not over, and nothing has happened that could end it. `now` is in [`crate::abi::TICK`]s.
#[inline(always)]
pub const fn holds<S>(shortcut: &Shortcut<S>, epoch: &Epoch, now: u32) -> bool {
    shortcut.traits & trait_of::ACTIVE != 0
        && shortcut.generation == epoch.generation as u16
        && now.wrapping_sub(shortcut.leased) < epoch.lease
}

/// The stack would do nothing to the packet but what the shortcut does. `size` is that of its largest segment.
#[inline(always)]
pub fn suits<A, S>(shortcut: &Shortcut<S>, packet: &Candidate<A>, size: u32) -> bool {
    matches!(packet.stage, Stage::Goes) && packet.ttl > 1 && packet.tos == shortcut.tos && size <= shortcut.size as u32
}

/// Bytes of the IP packet that is made of the largest segment of a super packet; `segment` is 0 for an ordinary one.
#[inline(always)]
pub const fn size<A>(packet: &Candidate<A>, segment: u32) -> u32 {
    if segment == 0 { packet.length } else { packet.headers + segment }
}

/// How one's complement sums of 16-bit words change, in the byte order of the packet. The changes are sums of at most 16 words
/// of 32 bits: whoever uses one folds it ([`fold`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// By the address; 0 if it is not translated.
    pub address: u64,
    /// By the port, likewise.
    pub port: u64,
}

impl Change {
    /// The change that `shortcut` makes to packets with this key.
    #[inline(always)]
    pub fn of<A: Address>(shortcut: &Shortcut<A::Stored>, key: &ShortcutKey<A>) -> Self {
        let (address, port) = if shortcut.traits & trait_of::SOURCE != 0 {
            (key.source, key.source_port)
        } else {
            (key.destination, key.destination_port)
        };
        let new = A::of(shortcut.address);
        Self {
            address: if new == address { 0 } else { address.inverted_sum() + new.sum() },
            port: if shortcut.port == port { 0 } else { (!port) as u64 + shortcut.port as u64 },
        }
    }
}

/// A checksum field after its sum changed by `change` (RFC 1624, equation 3).
#[inline(always)]
pub const fn adjusted(checksum: u16, change: u64) -> u16 {
    !(fold((!checksum) as u64 + change) as u16)
}

/// The change of the sum of an IPv4 header whose TTL is lowered by one: the upper byte of a word in network order.
#[inline(always)]
pub const fn lower_ttl() -> u64 {
    (!0x0100_u16).to_be() as u64
}

/// The change of the sum of an IPv6 header whose hop limit is lowered by one: the lower byte of a word.
#[inline(always)]
pub const fn lower_hop_limit() -> u64 {
    (!1_u16).to_be() as u64
}

/// A packet as it came in, kept until it leaves.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival<A> {
    /// Where it came in.
    pub passage: Passage<A>,
    /// `skb->hash`, which goes with the packet through the stack, NAT included.
    pub hash: u32,
    /// Generation in slot 0 of the epochs when it came in.
    pub generation: u32,
    /// [`Candidate::seal`].
    pub seal: u32,
    /// Bytes of the IP packet.
    pub length: u32,
    /// Type of service or traffic class.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Link-layer destination, its first bytes.
    pub inbound_begin: u16,
    /// Its last bytes.
    pub inbound_end: u32,
}

/// Where and how a packet left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// Interface index of the device.
    pub out: u32,
    /// The mark without our bits.
    pub mark: u32,
    /// `skb->priority`.
    pub priority: u32,
    /// Link-layer destination and source.
    pub outbound: [u32; 3],
    /// [`size`].
    pub size: u32,
    /// [`trait_of::FRAMES`], [`trait_of::ETHERNET`], [`trait_of::INWARD`].
    pub traits: u8,
    /// The uplink.
    pub uplink: u32,
    /// Generation of its epoch.
    pub generation: u32,
    /// In [`crate::abi::TICK`]s.
    pub now: u32,
}

/// The shortcut that does what the stack did to a packet, not active yet; `None` where the stack did more than a shortcut can do,
/// or the packet that left is another one.
#[inline(always)]
pub fn learn<A: Address>(
    arrival: &Arrival<A>,
    left: &Candidate<A>,
    departure: &Departure,
) -> Option<Shortcut<A::Stored>> {
    let Passage { key, way } = &arrival.passage;
    let same = left.protocol as u32 == way & 0xff
        && left.seal == arrival.seal
        && left.length == arrival.length
        && left.tos == arrival.tos
        && left.ttl as u32 + 1 == arrival.ttl as u32;
    let source_stays = left.source == key.source && left.source_port == key.source_port;
    let destination_stays = left.destination == key.destination && left.destination_port == key.destination_port;
    if !same || !(source_stays || destination_stays) || departure.size > u16::MAX as u32 {
        return None;
    }
    let (side, address, port) = if destination_stays {
        (trait_of::SOURCE, left.source, left.source_port)
    } else {
        (0, left.destination, left.destination_port)
    };
    Some(Shortcut {
        check: arrival.passage.check(),
        leased: departure.now,
        bytes: 0,
        packets: 0,
        generation: departure.generation as u16,
        size: departure.size as u16,
        out: departure.out,
        mark: departure.mark,
        priority: departure.priority,
        traits: departure.traits | side,
        tos: arrival.tos,
        uplink: departure.uplink as u16,
        port,
        inbound_begin: arrival.inbound_begin,
        inbound_end: arrival.inbound_end,
        outbound: departure.outbound,
        address: address.stored(),
    })
}

/// Both lead the same packets the same way, whatever is known of the other direction.
#[inline(always)]
pub fn leads_alike<S: Copy + Eq>(one: &Shortcut<S>, other: &Shortcut<S>) -> bool {
    one.address == other.address
        && one.port == other.port
        && one.out == other.out
        && one.mark == other.mark
        && one.priority == other.priority
        && one.traits | trait_of::ACTIVE == other.traits | trait_of::ACTIVE
        && one.tos == other.tos
        && one.uplink == other.uplink
        && one.inbound_begin == other.inbound_begin
        && one.inbound_end == other.inbound_end
        && one.outbound == other.outbound
}

/// `answer` is of what comes back, and undoes what `shortcut` does to packets at this passage.
#[inline(always)]
pub fn is_undone<A: Address>(
    passage: &Passage<A>,
    shortcut: &Shortcut<A::Stored>,
    answer: &Shortcut<A::Stored>,
) -> bool {
    let there = passage.translated(shortcut).reversed();
    there.check() == answer.check && there.translated(answer).reversed() == *passage && shortcut.uplink == answer.uplink
}

#[cfg(test)]
#[path = "shortcut_tests.rs"]
mod tests;
