//! Everything that the kernel programs and the controller must agree on: map names, keys, values, mark layout, counters.
//!
//! All values are made of `u16`, `u32` and `u64` fields without padding: padding would be random bytes in a map key
//! and a call of `memset` per packet. Addresses are in network order, everything else in host order.

/// Version of this file. It is part of the pin path, so a controller never adopts maps of another layout.
/// Raise it whenever a map's name, key, value, size rule or meaning changes.
pub const ABI: u32 = 6;

/// Buckets per family. A power of two, so that a hash selects one with a mask instead of a division; 1,024 give
/// weights a resolution of 0.1 %.
pub const BUCKETS: u32 = 1024;

/// Slots of the uplink table; ids run from 1 to [`MAX_UPLINK`], slot 0 means "no uplink".
pub const UPLINK_SLOTS: u32 = 64;

/// The largest uplink id that fits the widest mark layout.
pub const MAX_UPLINK: u32 = UPLINK_SLOTS - 1;

pub use marks::{Field, MarkFields, MarkLayout};
pub use peers::{Beat, PULSE_SLOTS, Peer, PeerKey, Pulse, pulse_index};
pub use policies::{
    BUCKET_SLOTS, POLICIES, POLICY_DEFAULT, POLICY_MAIN, POLICY_SLOTS, Policy, Sticky, StickyKey, bucket_index,
    policy_index,
};
pub use shortcuts::{
    Address6, Epoch, Shortcut, Shortcut4, Shortcut6, ShortcutKey, ShortcutKey4, ShortcutKey6, TICK, device, trait_of,
    way,
};
pub use steps::{Member4, Member6, NTH_COUNTERS, Op, STEPS, Step, state};

mod marks;
mod peers;
mod policies;
mod shortcuts;
mod steps;

/// Names of the maps as `bpftool map` shows them (the kernel keeps 15 bytes).
pub mod map {
    /// LRU: [`super::FlowKey`] → [`super::Flow`].
    pub const FLOWS: &str = "pcc_flows";
    /// Array: [`super::bucket_index`] → uplink id.
    pub const BUCKETS: &str = "pcc_buckets";
    /// Array: uplink id → [`super::Uplink`].
    pub const UPLINKS: &str = "pcc_uplinks";
    /// Array of one [`super::Settings`].
    pub const SETTINGS: &str = "pcc_settings";
    /// Hash: interface index → [`super::Device`].
    pub const DEVICES: &str = "pcc_devices";
    /// Per-CPU array: [`super::Counter`] → `u64`.
    pub const COUNTERS: &str = "pcc_counters";
    /// Per-CPU array: uplink id → [`super::Traffic`].
    pub const TRAFFIC: &str = "pcc_traffic";
    /// LPM trie of IPv4 destinations that are never balanced.
    pub const BYPASS4: &str = "pcc_bypass4";
    /// LPM trie of IPv6 destinations that are never balanced.
    pub const BYPASS6: &str = "pcc_bypass6";
    /// Array: two programs of [`super::Step`]s, [`super::STEPS`] each.
    pub const STEPS: &str = "pcc_steps";
    /// LPM trie: set number and IPv4 address ([`super::Member4`]) → 1.
    pub const SETS4: &str = "pcc_sets4";
    /// LPM trie: set number and IPv6 address ([`super::Member6`]) → 1.
    pub const SETS6: &str = "pcc_sets6";
    /// Array: counter of an `nth` matcher → packets so far.
    pub const NTH: &str = "pcc_nth";
    /// Array: [`super::policy_index`] → [`super::Policy`].
    pub const POLICIES: &str = "pcc_policies";
    /// LRU: [`super::StickyKey`] → [`super::Sticky`].
    pub const STICKY: &str = "pcc_sticky";
    /// LRU: [`super::PeerKey`] → [`super::Peer`].
    pub const PEERS: &str = "pcc_peers";
    /// Per-CPU array: [`super::pulse_index`] → [`super::Pulse`].
    pub const PULSE: &str = "pcc_pulse";
    /// Array: [`super::netns`] → `u64`.
    pub const NETNS: &str = "pcc_netns";
    /// LRU: [`super::ShortcutKey4`] → [`super::Shortcut4`].
    pub const SHORT4: &str = "pcc_short4";
    /// LRU: [`super::ShortcutKey6`] → [`super::Shortcut6`].
    pub const SHORT6: &str = "pcc_short6";
    /// Array: uplink id → [`super::Epoch`].
    pub const EPOCHS: &str = "pcc_epochs";
    /// Map of devices: interface index → the device, if XDP may redirect frames to it.
    pub const FRAMES: &str = "pcc_frames";
    /// All of them, in the order in which they are pinned.
    pub const ALL: [&str; 22] = [
        FLOWS, BUCKETS, UPLINKS, SETTINGS, DEVICES, COUNTERS, TRAFFIC, BYPASS4, BYPASS6, STEPS, SETS4, SETS6, NTH,
        POLICIES, STICKY, PEERS, PULSE, NETNS, SHORT4, SHORT6, EPOCHS, FRAMES,
    ];
}

/// Slots of the map that tells the programs of sockets, which run for the whole machine, which ones are the router's.
pub mod netns {
    /// Cookie of a socket of the controller. When it is connected, the program writes down where it is.
    pub const ASKER: u32 = 0;
    /// Cookie of the router's network namespace; 0: not known, so that the programs do nothing.
    pub const COOKIE: u32 = 1;
    /// So many there are.
    pub const SLOTS: u32 = 2;
}

/// Names of the programs as `bpftool prog` shows them.
pub mod program {
    /// Ingress of a LAN device: classifies.
    pub const LAN_INGRESS: &str = "pcc_lan_in";
    /// Egress of a LAN device: confirms the flow cache from answers.
    pub const LAN_EGRESS: &str = "pcc_lan_out";
    /// Ingress of an uplink: marks with that uplink.
    pub const UPLINK_INGRESS: &str = "pcc_wan_in";
    /// Egress of an uplink: counts.
    pub const UPLINK_EGRESS: &str = "pcc_wan_out";
    /// Ingress of a device of a RouterOS configuration: walks its rules.
    pub const MIRROR_INGRESS: &str = "pcc_mirror_in";
    /// Egress of such a device: learns connection marks.
    pub const MIRROR_EGRESS: &str = "pcc_mirror_out";
    /// tc ingress of every device, before the others: takes shortcuts.
    pub const SHORTCUT: &str = "pcc_shortcut";
    /// The same in XDP.
    pub const SHORTCUT_XDP: &str = "pcc_xdp";
    /// A socket is connected to an IPv4 address.
    pub const CONNECT4: &str = "pcc_connect4";
    /// A socket is connected to an IPv6 address.
    pub const CONNECT6: &str = "pcc_connect6";
}

/// One direction of a connection as the LAN side sees it. IPv4 addresses are stored as IPv4-mapped IPv6 addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Source address, network order.
    pub source: [u32; 4],
    /// Destination address, network order.
    pub destination: [u32; 4],
    /// Source port, or the identifier of an ICMP echo, host order; 0 where there is none.
    pub source_port: u16,
    /// Destination port, host order; 0 where there is none.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u32,
}

/// A cached decision. Conntrack's mark always overrules it, so losing or mistaking one never moves a connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Our bits of the packet mark: the value that routing rules match.
    pub mark: u32,
    /// Uplink id, 1 to [`MAX_UPLINK`]; 0 where RouterOS rules decide.
    pub uplink: u32,
    /// [`Uplink::generation`] at the time of the decision, or [`Settings::rules_generation`]; another value makes the entry
    /// stale.
    pub generation: u32,
    /// 0: tentative, chosen by the hash. 1: confirmed by a packet whose connection carried our mark. 2: likewise, and the
    /// connection is being closed, so that conntrack must see the rest of it. Where RouterOS rules decide, bits of [`knowledge`], and above them the number of the device.
    pub confirmed: u32,
    /// Seconds of the coarse monotonic clock when a packet last used the entry.
    pub last_seen: u32,
}

/// What a [`Flow`] that RouterOS rules decided rests on, in [`Flow::confirmed`].
pub mod knowledge {
    /// The connection mark is the one that conntrack has, and the connection was seen in both directions.
    pub const CONFIRMED: u32 = 1;
    /// Another walk of a packet that comes in by the same device would have the same result.
    pub const SETTLED: u32 = 2;
    /// No rule set the connection mark: the packet has conntrack's, which may have changed meanwhile.
    pub const UNWRITTEN: u32 = 4;
    /// Position of [`Device::number`](super::Device::number).
    pub const DEVICE: u32 = 8;
}

/// Run-time state of one uplink.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uplink {
    /// Raised whenever cached decisions for this uplink must be forgotten.
    pub generation: u32,
    /// Interface index, 0 for an unused slot.
    pub ifindex: u32,
    /// Our bits of a packet that leaves by this uplink.
    pub mark: u32,
    /// Bit 0: takes new IPv4 connections. Bit 1: takes new IPv6 connections.
    pub live: u32,
}

/// What a tc program has to know about the device that it runs on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Uplink id, 0 for a LAN device.
    pub uplink: u32,
    /// Bytes before the IP header: 14 for Ethernet, 0 for tun, ppp and wg.
    pub header_length: u32,
    /// What rules call the device ([`Op::Device`]), from 1; it stays when the device is made anew. 0: no rule does.
    pub number: u32,
    /// Bits of [`device`].
    pub shortcuts: u32,
    /// Interface index, which tells whose entry this is; 0 for a free slot. The last field: it is written last.
    pub ifindex: u32,
}

/// Slots of the map of devices. An array by interface index: a packet asks it three times, and a hash map takes ten times as long.
pub const DEVICE_SLOTS: u32 = 512;

/// A device is in one of so many slots from its own on: indices that differ by a multiple of [`DEVICE_SLOTS`] share one.
pub const DEVICE_PROBES: u32 = 4;

/// The slot that is asked as number `probe` for the device with this index.
#[inline(always)]
pub const fn device_slot(ifindex: u32, probe: u32) -> u32 {
    ifindex.wrapping_add(probe) % DEVICE_SLOTS
}

/// What holds for the whole instance. One value, replaced as a whole, except for [`Settings::active_table`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The packet-mark bits that are ours; every other bit is left alone.
    pub mark_mask: u32,
    /// [`MarkLayout::confirmed`].
    pub mark_confirmed: u32,
    /// [`MarkLayout::missed`].
    pub mark_missed: u32,
    /// [`MarkLayout::shift`].
    pub mark_shift: u32,
    /// Largest id that the layout can hold; also the mask of the id after shifting.
    pub mark_id_mask: u32,
    /// Seed of the hash.
    pub seed: u32,
    /// [`crate::classify::HashFields`] as bits.
    pub hash_fields: u32,
    /// Which of the two bucket tables is in force: 0 or 1.
    pub active_table: u32,
    /// Seconds after which an unused entry that is not TCP is decided anew.
    pub idle_seconds: u32,
    /// Which of the two programs of steps is in force: 0 or 1.
    pub active_steps: u32,
    /// First step of the IPv4 rules; 0: there are none.
    pub first_step4: u32,
    /// First step of the IPv6 rules; 0: there are none.
    pub first_step6: u32,
    /// Raised whenever decisions that rules made must be forgotten.
    pub rules_generation: u32,
    /// [`MarkLayout::ours`] or [`MarkFields::ours`].
    pub mark_ours: u32,
    /// Position and width of the connection mark in the packet mark.
    pub connection: Field,
    /// Position and width of the routing mark in the packet mark.
    pub routing: Field,
    /// Position and width of RouterOS's packet mark in the packet mark.
    pub packet: Field,
    /// Not 0: the router's own connections are balanced.
    pub balance_router: u32,
}

/// Traffic of one uplink.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets that left by this uplink.
    pub packets_out: u64,
    /// Bytes that left by this uplink, link-layer header included.
    pub bytes_out: u64,
    /// Packets that came in.
    pub packets_in: u64,
    /// Bytes that came in, link-layer header included.
    pub bytes_in: u64,
    /// Balanced connections that began on this uplink.
    pub connections: u64,
    /// Packets, in either direction, that took a shortcut in tc.
    pub shortcuts_tc: u64,
    /// Packets, in either direction, that took a shortcut in XDP.
    pub shortcuts_xdp: u64,
}

/// Family index of the bucket table: IPv4.
pub const IPV4: u32 = 0;
/// Family index of the bucket table: IPv6.
pub const IPV6: u32 = 1;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Slots of the per-CPU counter map, one for each reason.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Counter {
            /// Every counter, in the order of its slot.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name that `pcc status` and the metrics use.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

counters! {
    /// A packet used a cached decision.
    CacheHit = "cache_hit",
    /// A packet was hashed because the cache had no usable entry.
    CacheMiss = "cache_miss",
    /// A packet of TCP missed the cache although its connection already had an uplink: a cached decision was lost.
    Relearned = "relearned",
    /// A decision was confirmed by the first answer, and is remembered.
    Confirmed = "confirmed",
    /// A cached decision differed from the connection's uplink and was corrected.
    Corrected = "corrected",
    /// The flow cache refused an entry.
    CacheFull = "cache_full",
    /// The destination is in the bypass list.
    Bypassed = "bypassed",
    /// The destination is multicast, broadcast, link-local or unspecified.
    NotRoutable = "not_routable",
    /// No uplink takes new connections of this family; main decides.
    NoUplink = "no_uplink",
    /// Neither IPv4 nor IPv6.
    NotIp = "not_ip",
    /// A VLAN tag on a device that was not declared for it.
    Vlan = "vlan",
    /// A fragment other than the first; conntrack reassembles it.
    Fragment = "fragment",
    /// The headers are cut short or inconsistent.
    Malformed = "malformed",
    /// A packet on a device that is not in the device map.
    UnknownDevice = "unknown_device",
    /// A packet was walked through the rules.
    Walked = "walked",
    /// A rule looked at what changes from packet to packet, so that the decision could not be remembered.
    Uncacheable = "uncacheable",
    /// A rule leaves the packet to main.
    NotBalanced = "not_balanced",
    /// A packet without usable cache entry went where an earlier connection went that it must keep to.
    Sticky = "sticky",
    /// A packet was hashed by the default policy because no uplink of its rule takes connections.
    FellBack = "fell_back",
    /// The way of a connection's packets through the stack was learned, in one direction.
    Learned = "learned",
    /// A packet through the stack renewed a shortcut.
    Renewed = "renewed",
    /// The stack did to a packet what no shortcut can do.
    NoShortcut = "no_shortcut",
}

const _: () = {
    assert!(size_of::<FlowKey>() == 40);
    assert!(size_of::<Flow>() == 20);
    assert!(size_of::<Uplink>() == 16);
    assert!(size_of::<Device>() == 20);
    assert!(size_of::<Settings>() == 84);
    assert!(size_of::<Step>() == 36);
    assert!(size_of::<Member4>() == 8);
    assert!(size_of::<Member6>() == 20);
    assert!(size_of::<Traffic>() == 56);
    assert!(MarkLayout::DEFAULT.max_id() == 31);
    assert!(size_of::<Policy>() == 24);
    assert!(size_of::<StickyKey>() == 44);
    assert!(size_of::<Sticky>() == 16);
    assert!(size_of::<PeerKey>() == 20);
    assert!(size_of::<Peer>() == 8);
    assert!(size_of::<Pulse>() == 32);
    assert!(size_of::<ShortcutKey4>() == 12);
    assert!(size_of::<ShortcutKey6>() == 36);
    assert!(size_of::<Shortcut4>() == 64);
    assert!(size_of::<Shortcut6>() == 80);
    assert!(BUCKETS.is_power_of_two());
    assert!(POLICIES.is_power_of_two());
};

#[cfg(feature = "user")]
mod pod {
    //! `aya::Pod` for the values that cross the system call.
    macro_rules! pod {
        ($($type:ty),+) => {$(
            // SAFETY: `repr(C)`, made of integers only, and the size asserts above exclude padding.
            unsafe impl aya::Pod for $type {}
        )+};
    }
    pod!(super::FlowKey, super::Flow, super::Uplink, super::Device, super::Settings, super::Traffic);
    pod!(super::Step, super::Member4, super::Member6, super::Policy, super::StickyKey, super::Sticky);
    pod!(super::ShortcutKey4, super::ShortcutKey6, super::Shortcut4, super::Shortcut6, super::Epoch);
    pod!(super::PeerKey, super::Peer, super::Pulse);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_layout_is_the_documented_one() {
        let layout = MarkLayout::DEFAULT;
        assert_eq!((layout.ours(), layout.confirmed(), layout.missed()), (0x80, 0x40, 0x20));
        assert_eq!((layout.of(1), layout.of(31), layout.id_mask()), (0x81, 0x9f, 0x9f));
        assert_eq!(layout.uplink(0xffff_ffe2), Some(2));
        assert_eq!(layout.uplink(0x02), None, "a small whole mark of a script is not ours");
        assert_eq!(layout.uplink(0x80), None);
    }

    #[test]
    fn masks_must_be_four_to_nine_adjacent_bits() {
        for good in [0x00ff_0000, 0x0000_0ff0, 0xf000_0000, 0x0000_01ff] {
            let layout = MarkLayout::new(good).expect("valid");
            assert_eq!(layout.of(layout.max_id()) | layout.confirmed() | layout.missed(), good);
        }
        for bad in [0, 7, 0x3ff, 0xf0f0, u32::MAX] {
            assert_eq!(MarkLayout::new(bad), None, "{bad:#x}");
        }
    }

    #[test]
    fn counters_fill_their_slots_without_a_gap() {
        for (slot, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, slot, "{}", counter.name());
        }
    }
}
