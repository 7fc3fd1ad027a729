//! Which remote addresses answer, and what an uplink was asked and answered.

use super::UPLINK_SLOTS;

/// A remote address as one uplink reaches it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerKey {
    /// [`Self::way_of`].
    pub way: u32,
    /// Address, network order, IPv4 mapped.
    pub address: [u32; 4],
}

impl PeerKey {
    /// Uplink, family ([`super::IPV4`] or [`super::IPV6`]) and whether the protocol is TCP, in one word.
    #[inline(always)]
    pub const fn way_of(uplink: u32, family: u32, tcp: bool) -> u32 {
        uplink << 2 | (family & 1) << 1 | tcp as u32
    }
}

/// What is known about such an address. Times are seconds of the coarse monotonic clock.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// When it last answered.
    pub answered: u32,
    /// Since when a question to it waits for an answer; 0: none does.
    pub asked: u32,
}

/// Questions and answers of one uplink in one family. Both only grow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Of TCP connections.
    pub tcp: Beat,
    /// Of UDP flows, echoes and others with ports or an identifier.
    pub other: Beat,
}

/// One kind of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// New connections to addresses that used to answer and had answered all questions before.
    pub asked: u64,
    /// First answers to new connections, from any address.
    pub answered: u64,
}

/// Slots of the map of pulses.
pub const PULSE_SLOTS: u32 = UPLINK_SLOTS * 2;

/// Index into the map of pulses. `uplink` is below [`UPLINK_SLOTS`].
#[inline(always)]
pub const fn pulse_index(uplink: u32, family: u32) -> u32 {
    uplink * 2 + (family & 1)
}
