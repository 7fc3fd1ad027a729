//! Policies, their bucket tables, and what keeps to an uplink.

use super::{BUCKETS, UPLINK_SLOTS};

/// Policies with bucket tables of their own. A power of two.
pub const POLICIES: u32 = 16;
/// The policy of what no rule decides: all uplinks by their weights, hashed by [`Settings::hash_fields`].
pub const POLICY_DEFAULT: u32 = 0;
/// The policy without a table: main decides.
pub const POLICY_MAIN: u32 = POLICIES;

/// Slots of the policy map: two tables, as of the buckets.
pub const POLICY_SLOTS: u32 = 2 * POLICIES;

/// Index into the policy map. `table` is 0 or 1, `policy` below [`POLICIES`].
#[inline(always)]
pub const fn policy_index(table: u32, policy: u32) -> u32 {
    (table & 1) * POLICIES + (policy & (POLICIES - 1))
}

/// How the connections that a rule decides choose among its uplinks. It does not hold for [`POLICY_DEFAULT`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// [`crate::classify::HashFields`] as bits.
    pub hash_fields: u32,
    /// The fields that connections must share to keep to one uplink, likewise; 0: none do.
    pub sticky_fields: u32,
    /// Seconds from the last new connection after which they may part; 0: never.
    pub lifetime: u32,
    /// Other uplinks or other fields make another number, whatever the number of the policy; not 0.
    pub identity: u32,
    /// Uplinks that have a weight, as bits: uplink `id` is bit `id % 32` of word `id / 32`.
    pub members: [u32; 2],
}

impl Policy {
    /// New connections may go to uplink `id`.
    #[inline(always)]
    pub const fn has(&self, id: u32) -> bool {
        let word = if id < 32 { self.members[0] } else { self.members[1] };
        id < UPLINK_SLOTS && word >> (id & 31) & 1 != 0
    }
}

/// What connections share that keep to one uplink. What the policy does not ask for is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StickyKey {
    /// [`Policy::identity`].
    pub policy: u32,
    /// [`IPV4`] or [`IPV6`]; or [`crate::policy::heir_family`].
    pub family: u32,
    /// Source address, network order, IPv4 mapped.
    pub source: [u32; 4],
    /// Destination address, likewise.
    pub destination: [u32; 4],
    /// Source port in the lower half, destination port in the upper one, host order.
    pub ports: u32,
}

/// The uplink that they keep to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// Uplink id.
    pub uplink: u32,
    /// [`Uplink::generation`] when it was chosen; another value ends it.
    pub generation: u32,
    /// Seconds of the coarse monotonic clock when it was chosen.
    pub first_seen: u32,
    /// The same when the last new connection used it.
    pub last_seen: u32,
}

/// Slots of the bucket map: two tables (one in force, one being written) for each policy and family.
pub const BUCKET_SLOTS: u32 = 2 * POLICIES * 2 * BUCKETS;

/// Index into the bucket map. `table` and `family` are 0 or 1, `policy` is below [`POLICIES`].
#[inline(always)]
pub const fn bucket_index(table: u32, policy: u32, family: u32, hash: u32) -> u32 {
    (policy_index(table, policy) * 2 + (family & 1)) * BUCKETS + (hash & (BUCKETS - 1))
}
