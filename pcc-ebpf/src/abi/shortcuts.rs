//! Shortcuts: what the stack did to the packets of a connection, so that later ones need not go through it.

/// Key of a shortcut: the ends of a packet as it comes in, in network order. The device that it comes in by and its protocol are
/// in [`Shortcut::check`] alone, as a shorter key is cheaper to hash: connections that differ in nothing else share an entry, and
/// the first of them has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShortcutKey<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
}

/// Key of an IPv4 shortcut.
pub type ShortcutKey4 = ShortcutKey<u32>;
/// Key of an IPv6 shortcut.
pub type ShortcutKey6 = ShortcutKey<[u32; 4]>;

/// The device that a packet comes in by (interface index below 2²⁴) and its protocol, in one word.
#[inline(always)]
pub const fn way(ifindex: u32, protocol: u32) -> u32 {
    ifindex << 8 | protocol & 0xff
}

/// A shortcut, but for the address. With an IPv4 key and what the kernel adds it fills exactly two cache lines.
///
/// It holds while its uplink's [`Epoch`] has its generation and its lease is not over; and once [`trait_of::ACTIVE`] is set, which takes
/// the shortcut of the other direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortcut<A> {
    /// Hash of the key, and the [`way`] in. Readers compare it after all other fields: the kernel gives a forgotten entry's memory
    /// away at once, and writes this word first.
    pub check: u32,
    /// [`TICK`] when a packet last made the whole way through the stack.
    pub leased: u32,
    /// Bytes of IP packets that took the shortcut.
    pub bytes: u64,
    /// Packets that took it; wraps.
    pub packets: u32,
    /// Lower bits of [`Epoch::generation`] before that packet came in.
    pub generation: u16,
    /// Length of the largest IP packet (or segment of a super packet) that made the whole way under this lease. Larger ones
    /// go through the stack, which knows the MTU.
    pub size: u16,
    /// Interface index of the device that packets leave by.
    pub out: u32,
    /// The packet's mark as it left, without our bits.
    pub mark: u32,
    /// `skb->priority` as it left, which classful queueing disciplines select by.
    pub priority: u32,
    /// Bits of [`trait_of`].
    pub traits: u8,
    /// Type of service or traffic class that packets must have: priority and rules may depend on it.
    pub tos: u8,
    /// Whose [`Epoch`] and traffic counters count.
    pub uplink: u16,
    /// New port of the side that is translated, network order.
    pub port: u16,
    /// Link-layer destination that packets come in with, its first bytes; zero where there is no Ethernet header.
    pub inbound_begin: u16,
    /// Its last bytes.
    pub inbound_end: u32,
    /// Link-layer destination and source that they leave with.
    pub outbound: [u32; 3],
    /// New address of the side that is translated, network order.
    pub address: A,
}

/// Bits of [`Shortcut::traits`].
pub mod trait_of {
    /// The other direction is known as well.
    pub const ACTIVE: u8 = 1;
    /// The source is what is translated; else the destination is.
    pub const SOURCE: u8 = 2;
    /// XDP may redirect to the device that packets leave by.
    pub const FRAMES: u8 = 4;
    /// Packets leave with an Ethernet header.
    pub const ETHERNET: u8 = 8;
    /// Packets leave to the LAN; else by the uplink.
    pub const INWARD: u8 = 16;
}

/// An IPv6 address that fills whole eight bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Address6 {
    /// The address in network order.
    pub words: [u32; 4],
    /// 0.
    pub spare: u32,
}

/// A shortcut of IPv4.
pub type Shortcut4 = Shortcut<u32>;
/// A shortcut of IPv6.
pub type Shortcut6 = Shortcut<Address6>;

/// The clock of leases is the coarse monotonic one in units of 2 to the power of this nanoseconds, 0.27 s: a shift is cheaper than
/// a division. It wraps after 36 years of uptime.
pub const TICK: u32 = 28;

/// What all shortcuts of an uplink hang on; slot of its id. In slot 0 is a generation that is raised with each of the others.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch {
    /// Raised whenever what the stack would do to the uplink's packets may have changed.
    pub generation: u32,
    /// [`TICK`]s after which a packet goes through the stack again; 0: no shortcut is learned or taken.
    pub lease: u32,
}

/// Bits of [`super::Device::shortcuts`].
pub mod device {
    /// Packets that come in by it may take shortcuts.
    pub const TAKES: u32 = 1;
    /// Packets that leave by it may.
    pub const GIVES: u32 = 2;
    /// XDP may redirect frames to it.
    pub const FRAMES: u32 = 4;
    /// The XDP program runs on it.
    pub const XDP: u32 = 8;
}
