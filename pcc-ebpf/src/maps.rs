//! Every map. Sizes that depend on the host are set when the object is loaded.

use aya_ebpf::{
    btf_maps::{Array, DevMapHash, LpmTrie, LruHashMap, PerCpuArray},
    macros::btf_map,
};
use pcc_ebpf::abi::{
    BUCKET_SLOTS, DEVICE_SLOTS, Device, Epoch, Flow, FlowKey, Member4, Member6, NTH_COUNTERS, POLICY_SLOTS,
    PULSE_SLOTS, Peer, PeerKey, Policy, Pulse, STEPS, Settings, Shortcut4, Shortcut6, ShortcutKey4, ShortcutKey6, Step,
    Sticky, StickyKey, Traffic, UPLINK_SLOTS, Uplink, netns,
};
use pcc_ebpf::policy::Choice;
use pcc_ebpf::shortcut::Arrival;

use crate::access::Walking;

/// The flow cache. The controller sizes it from `nf_conntrack_max`.
#[btf_map(name = "pcc_flows")]
pub static FLOWS: LruHashMap<FlowKey, Flow, 65_536> = LruHashMap::new();

/// Two bucket tables for each policy and family, so that one is written while the other is in force.
#[btf_map(name = "pcc_buckets")]
pub static BUCKETS: Array<u32, { BUCKET_SLOTS as usize }> = Array::new();

/// Uplinks by id.
#[btf_map(name = "pcc_uplinks")]
pub static UPLINKS: Array<Uplink, { UPLINK_SLOTS as usize }> = Array::new();

/// What holds for the whole instance.
#[btf_map(name = "pcc_settings")]
pub static SETTINGS: Array<Settings, 1> = Array::new();

/// Devices, in slots by [`device_slot`](pcc_ebpf::abi::device_slot).
#[btf_map(name = "pcc_devices")]
pub static DEVICES: Array<Device, { DEVICE_SLOTS as usize }> = Array::new();

/// Why packets took the way they took.
#[btf_map(name = "pcc_counters")]
pub static COUNTERS: PerCpuArray<u64, 32> = PerCpuArray::new();

/// Traffic by uplink id.
#[btf_map(name = "pcc_traffic")]
pub static TRAFFIC: PerCpuArray<Traffic, { UPLINK_SLOTS as usize }> = PerCpuArray::new();

/// IPv4 destinations that are never balanced, in network order.
#[btf_map(name = "pcc_bypass4")]
pub static BYPASS4: LpmTrie<u32, u32, 4096> = LpmTrie::new();

/// IPv6 destinations that are never balanced, in network order.
#[btf_map(name = "pcc_bypass6")]
pub static BYPASS6: LpmTrie<[u32; 4], u32, 4096> = LpmTrie::new();

/// Two programs of steps, so that one is written while the other is in force.
#[btf_map(name = "pcc_steps")]
pub static STEPS_MAP: Array<Step, { 2 * STEPS as usize }> = Array::new();

/// IPv4 members of all sets. Entries take memory only while they are there.
#[btf_map(name = "pcc_sets4")]
pub static SETS4: LpmTrie<Member4, u32, 1_048_576> = LpmTrie::new();

/// IPv6 members of all sets.
#[btf_map(name = "pcc_sets6")]
pub static SETS6: LpmTrie<Member6, u32, 1_048_576> = LpmTrie::new();

/// Counters of `nth` matchers.
#[btf_map(name = "pcc_nth")]
pub static NTH: Array<u32, { NTH_COUNTERS as usize }> = Array::new();

/// Room for [`Scratch`].
#[btf_map(name = "pcc_scratch")]
pub static SCRATCH: PerCpuArray<[u64; size_of::<Scratch>().div_ceil(8)], 1> = PerCpuArray::new();

/// What is on its way through the rules, too large for a stack that functions share.
pub struct Scratch {
    /// The packet and its walk.
    pub walking: Walking,
    /// What is chosen for it.
    pub choice: Choice,
}

/// Two tables of policies, beside their buckets.
#[btf_map(name = "pcc_policies")]
pub static POLICIES: Array<Policy, { POLICY_SLOTS as usize }> = Array::new();

/// Which uplink connections keep to. The controller makes it no larger than the flow cache.
#[btf_map(name = "pcc_sticky")]
pub static STICKY: LruHashMap<StickyKey, Sticky, 65_536> = LruHashMap::new();

/// Remote addresses that answered.
#[btf_map(name = "pcc_peers")]
pub static PEERS: LruHashMap<PeerKey, Peer, 16_384> = LruHashMap::new();

/// Questions and answers by uplink and family.
#[btf_map(name = "pcc_pulse")]
pub static PULSE: PerCpuArray<Pulse, { PULSE_SLOTS as usize }> = PerCpuArray::new();

/// Shortcuts of IPv4. The controller sizes it.
#[btf_map(name = "pcc_short4")]
pub static SHORT4: LruHashMap<ShortcutKey4, Shortcut4, 65_536> = LruHashMap::new();

/// Shortcuts of IPv6. The controller sizes it.
#[btf_map(name = "pcc_short6")]
pub static SHORT6: LruHashMap<ShortcutKey6, Shortcut6, 65_536> = LruHashMap::new();

/// IPv4 packets on their way through the stack, by [`Arrival::hash`]: between their ingress and their egress there are seldom
/// more of them on a CPU than the kernel takes in one batch.
#[btf_map(name = "pcc_arrivals4")]
pub static ARRIVALS4: PerCpuArray<Arrival<u32>, ARRIVALS> = PerCpuArray::new();

/// IPv6 packets on their way through the stack.
#[btf_map(name = "pcc_arrivals6")]
pub static ARRIVALS6: PerCpuArray<Arrival<[u32; 4]>, ARRIVALS> = PerCpuArray::new();

/// Slots of the two, a power of two.
pub const ARRIVALS: usize = 256;

/// What the shortcuts of an uplink hang on, by its id.
#[btf_map(name = "pcc_epochs")]
pub static EPOCHS: Array<Epoch, { UPLINK_SLOTS as usize }> = Array::new();

/// Which network namespace is the router's.
#[btf_map(name = "pcc_netns")]
pub static NETNS: Array<u64, { netns::SLOTS as usize }> = Array::new();

/// The devices that XDP may redirect frames to, by interface index. The kernel need not look for them by it then.
#[btf_map(name = "pcc_frames")]
pub static FRAMES: DevMapHash<{ DEVICE_SLOTS as usize }> = DevMapHash::new();
