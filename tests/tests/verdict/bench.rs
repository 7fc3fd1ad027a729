//! The kernel's programs and the pure functions side by side: every packet is given to both, and they must agree.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aya::maps::HashMap as BpfHashMap;
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use pcc_ebpf::abi::{
    BUCKETS, Counter, Device, Flow, FlowKey, MarkLayout, Settings, Sticky, StickyKey, Traffic, UPLINK_SLOTS, Uplink,
    bucket_index, device, map, policy_index, program,
};
use pcc_ebpf::packet::{Headers, ether};
use pcc_userspace::config::Paths;
use pcc_userspace::dataplane::{self, DataPlane, Sizes};
use pcc_userspace::policies::Table;
use pcc_userspace::rules::Program;
use rustix::time::{ClockId, clock_gettime};
use tests::lab::Namespace;

use crate::model::Model;

/// A LAN device with Ethernet headers.
pub const LAN: u32 = 10;
/// A LAN device without.
pub const BARE: u32 = 11;
/// The device of uplink 1, with Ethernet headers.
pub const WAN1: u32 = 12;
/// The device of uplink 2, without.
pub const WAN2: u32 = 13;
/// A device that nobody declared.
pub const STRANGER: u32 = 14;
/// The address of the devices with Ethernet headers, which is that of the packets' destination.
const MAC: &str = "02:00:00:00:00:01";

const TC_ACT_UNSPEC: u32 = u32::MAX;

/// The programs in the kernel, and what they must have in their maps.
pub struct Bench {
    pub plane: DataPlane,
    pub model: Model,
    pins: PathBuf,
}

/// What became of a packet from the LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub mark: u32,
    pub counter: Counter,
    pub flow: Option<Flow>,
}

/// The protocol that a test run gives to a packet: it reads the place where Ethernet has it, whatever the device. Below
/// 0x600 it is a length.
fn tested_as(packet: &[u8]) -> u16 {
    match u16::from_be_bytes([packet[12], packet[13]]) {
        0..0x600 => 4,
        ether_type => ether_type,
    }
}

/// Bytes of the shortest packet that a test run takes in place of this one: with the IP header that the two bytes at the
/// place of the EtherType speak of. Shorter ones come by real devices alone.
pub fn shortest(packet: &[u8]) -> usize {
    match tested_as(packet) {
        ether::IPV4 => 14 + 20,
        ether::IPV6 => 14 + 40,
        _ => 14,
    }
}

/// Runs `work` with a bench in a namespace of its own: uplinks 1 and 2 live, each with every other bucket.
pub fn with_bench(work: impl FnOnce(&mut Bench) + Send) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("pcc{}-verdict{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let namespace = Namespace::new(&name);
    namespace.ip_batch(&format!(
        "link add lan index {LAN} address {MAC} type veth peer name bare index {BARE}
         link add wan1 index {WAN1} address {MAC} type veth peer name wan2 index {WAN2}
         link add stranger index {STRANGER} type veth peer name other\n"
    ));
    namespace.run(|| work(&mut Bench::new(&name)));
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = dataplane::remove(&self.pins, &[], &[]);
    }
}

impl Bench {
    fn new(name: &str) -> Self {
        let pins = Paths::of(name).pins;
        let plane = DataPlane::load(&pins, Sizes { flows: 65_536, shortcuts: 4096 }, 0)
            .unwrap_or_else(|error| panic!("loading: {error:#}"));
        let layout = MarkLayout::DEFAULT;
        let mut bench = Self { plane, model: Model::new(layout), pins };
        bench.set_layout(layout);
        let alternate: Vec<u32> = (0..BUCKETS).map(|bucket| bucket % 2 + 1).collect();
        bench.publish_buckets(&alternate, &alternate);
        for (ifindex, uplink, header_length) in [(LAN, 0, 14), (BARE, 0, 0), (WAN1, 1, 14), (WAN2, 2, 0)] {
            let shortcuts = if ifindex == WAN1 { device::FRAMES } else { 0 };
            bench.set_device(ifindex, Device { uplink, header_length, number: 0, shortcuts, ..Device::default() });
        }
        bench
    }

    /// Removes all pins, as the end of an instance does.
    pub fn detach(&self) {
        dataplane::remove(&self.pins, &[], &[]).unwrap();
    }

    /// Makes the bits of `layout` ours, and gives marks to all uplinks that it has room for.
    pub fn set_layout(&mut self, layout: MarkLayout) {
        self.model.layout = layout;
        self.set_settings(|settings| {
            settings.mark_mask = layout.mask();
            settings.mark_confirmed = layout.confirmed();
            settings.mark_missed = layout.missed();
            settings.mark_shift = layout.shift();
            settings.mark_id_mask = layout.max_id();
        });
        for id in 1..UPLINK_SLOTS {
            self.set_uplink(id, |uplink| uplink.mark = if id <= layout.max_id() { layout.of(id) } else { 0 });
        }
    }

    pub fn set_settings(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.model.settings);
        self.plane.set_settings(&self.model.settings).unwrap();
    }

    pub fn set_uplink(&mut self, id: u32, change: impl FnOnce(&mut Uplink)) {
        let uplink = &mut self.model.uplinks[id as usize];
        change(uplink);
        self.plane.set_uplink(id, *uplink).unwrap();
    }

    pub fn publish_buckets(&mut self, ipv4: &[u32], ipv6: &[u32]) {
        let policies = [Table { buckets: [ipv4, ipv6].map(<[u32]>::to_vec), ..Table::default() }];
        self.plane.publish_policies(&policies).unwrap();
        self.model_policies(&policies);
        assert_eq!(self.plane.settings().unwrap(), self.model.settings);
    }

    /// Puts rules and all policies, the default one first, in force.
    pub fn publish_rules(&mut self, rules: &Program, policies: &[Table]) {
        self.plane.publish(&self.model.settings, policies, rules).unwrap();
        self.model_policies(policies);
        self.model.program = rules.clone();
        let settings = &mut self.model.settings;
        settings.active_steps ^= 1;
        settings.rules_generation += 1;
        [settings.first_step4, settings.first_step6] = rules.first;
        assert_eq!(self.plane.settings().unwrap(), self.model.settings);
    }

    fn model_policies(&mut self, policies: &[Table]) {
        let table = self.model.settings.active_table ^ 1;
        self.model.settings.active_table = table;
        for (number, policy) in (0..).zip(policies) {
            self.model.policies[policy_index(table, number) as usize] = policy.policy;
            for (family, ids) in (0..).zip(&policy.buckets) {
                let start = bucket_index(table, number, family, 0) as usize;
                self.model.buckets[start..start + ids.len()].copy_from_slice(ids);
            }
        }
    }

    pub fn set_bypass(&mut self, prefixes: &[&str]) {
        self.model.bypass = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
        self.plane.set_bypass(&self.model.bypass).unwrap();
    }

    pub fn set_device(&mut self, ifindex: u32, device: Device) {
        self.model.devices.insert(ifindex, device);
        self.plane.set_device(ifindex, device).unwrap();
    }

    /// Puts an entry into the flow cache.
    pub fn set_flow(&mut self, key: FlowKey, flow: Flow) {
        self.model.flows.insert(key, flow);
        let map = self.plane.ebpf().map_mut(map::FLOWS).unwrap();
        BpfHashMap::<_, FlowKey, Flow>::try_from(map).unwrap().insert(key, flow, 0).unwrap();
    }

    /// Empties the flow cache.
    pub fn forget_flows(&mut self) {
        let map = self.plane.ebpf().map_mut(map::FLOWS).unwrap();
        let mut flows = BpfHashMap::<_, FlowKey, Flow>::try_from(map).unwrap();
        for key in self.model.flows.drain().map(|(key, _)| key) {
            flows.remove(&key).unwrap();
        }
    }

    /// Gives a packet with `mark` to the LAN's ingress and checks mark, counter and flow cache against the model.
    pub fn lan_in(&mut self, ifindex: u32, packet: &[u8], mark: u32) -> Outcome {
        let headers = self.model.headers(ifindex, packet, tested_as(packet));
        self.ingress(headers, ifindex, mark, |bench| Some(bench.run(program::LAN_INGRESS, ifindex, packet, mark)))
    }

    /// Lets a packet come in by a real device and checks counter and flow cache. `seen` are the bytes that the program
    /// gets to see, `ether_type` is what the device says of them.
    pub fn arrives(&mut self, ifindex: u32, seen: &[u8], ether_type: u16, send: impl FnOnce()) -> Outcome {
        let headers = self.model.headers(ifindex, seen, ether_type);
        self.ingress(headers, ifindex, 0, |_| {
            send();
            None
        })
    }

    /// `run` returns the mark afterwards, if it can tell.
    fn ingress(
        &mut self,
        headers: Result<Headers, Counter>,
        ifindex: u32,
        mark: u32,
        run: impl FnOnce(&mut Self) -> Option<u32>,
    ) -> Outcome {
        let before = self.counters();
        let begin = now();
        let marked = run(self);
        let (expected, reason) = self.model.lan_in(headers, ifindex, mark, begin);
        let marked = marked.unwrap_or(expected);
        assert_eq!((marked, self.grown(&before)), (expected, vec![reason]), "{headers:?}");
        if let Ok(headers) = headers {
            let policy = self.model.policy_of(&headers, ifindex);
            self.agree_on_sticky(&self.model.sticky_key(policy, &headers), begin);
        }
        let flow = headers.ok().and_then(|headers| self.agreed_flow(&headers.key, begin));
        Outcome { mark: marked, counter: reason, flow }
    }

    /// Gives an answer with `mark` to the LAN's egress; returns the counter that grew and the flow that it answers.
    pub fn lan_out(&mut self, ifindex: u32, packet: &[u8], mark: u32) -> (Option<Counter>, Option<Flow>) {
        let headers = self.model.headers(ifindex, packet, tested_as(packet));
        let before = self.counters();
        let begin = now();
        let marked = self.run(program::LAN_EGRESS, ifindex, packet, mark);
        let reason = self.model.lan_out(headers, mark, begin);
        assert_eq!((marked, self.grown(&before)), (mark, reason.into_iter().collect()), "{headers:?}");
        (reason, headers.ok().and_then(|headers| self.agreed_flow(&headers.key.reversed(), begin)))
    }

    /// Gives a packet to a program of an uplink; returns its mark, the traffic that it added to `uplink`, and the
    /// counters that grew.
    pub fn uplink(&mut self, name: &str, run: &Skb, packet: &[u8], uplink: u32) -> (u32, Traffic, Vec<Counter>) {
        let (counters, before) = (self.counters(), self.plane.traffic(uplink).unwrap());
        let mark = self.run_skb(name, run, packet, 1).0;
        let after = self.plane.traffic(uplink).unwrap();
        let added = Traffic {
            packets_out: after.packets_out - before.packets_out,
            bytes_out: after.bytes_out - before.bytes_out,
            packets_in: after.packets_in - before.packets_in,
            bytes_in: after.bytes_in - before.bytes_in,
            connections: after.connections - before.connections,
            shortcuts_tc: after.shortcuts_tc - before.shortcuts_tc,
            shortcuts_xdp: after.shortcuts_xdp - before.shortcuts_xdp,
        };
        (mark, added, self.grown(&counters))
    }

    /// Time of one run of a program, over a million of them.
    pub fn time(&mut self, name: &str, ifindex: u32, packet: &[u8], mark: u32) -> Duration {
        self.run_skb(name, &Skb { ifindex, ingress: LAN, mark, ..Skb::default() }, packet, 1_000_000).1
    }

    fn counters(&self) -> Vec<(Counter, u64)> {
        self.plane.counters().unwrap()
    }

    /// The counters that are greater than `before`, once for each step.
    fn grown(&self, before: &[(Counter, u64)]) -> Vec<Counter> {
        let steps = |((counter, now), (_, before)): ((Counter, u64), &(Counter, u64))| {
            std::iter::repeat_n(counter, (now - before) as usize)
        };
        self.counters().into_iter().zip(before).flat_map(steps).collect()
    }

    fn run(&mut self, name: &str, ifindex: u32, packet: &[u8], mark: u32) -> u32 {
        self.run_skb(name, &Skb { ifindex, mark, ..Skb::default() }, packet, 1).0
    }

    /// The mark afterwards and the time of one run. The packet must come out as it went in, and go on to the kernel.
    fn run_skb(&mut self, name: &str, skb: &Skb, packet: &[u8], repeat: u32) -> (u32, Duration) {
        let program: &SchedClassifier = self.plane.ebpf().program(name).unwrap().try_into().unwrap();
        let mut data = vec![0; packet.len()];
        let context = skb.bytes();
        let mut context_out = [0; Skb::LEN];
        let run = TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut data),
            ctx_in: Some(&context),
            ctx_out: Some(&mut context_out),
            repeat,
            ..TestRunOptions::new()
        };
        let result = program.test_run(run).unwrap_or_else(|error| panic!("`{name}` with {packet:02x?}: {error:?}"));
        assert_eq!(result.return_value, TC_ACT_UNSPEC, "{packet:02x?}");
        assert_eq!((result.data_size_out as usize, &data[..]), (packet.len(), packet), "the packet has changed");
        (Skb::mark_in(&context_out), result.duration)
    }

    /// The cached decision that kernel and model have for `key`; only the time of use may be that of the next second.
    fn agreed_flow(&mut self, key: &FlowKey, begin: u32) -> Option<Flow> {
        let kernel = self.plane.flow(key).unwrap();
        if let (Some(kernel), Some(model)) = (kernel, self.model.flows.get_mut(key))
            && model.last_seen == begin
            && (begin..=now()).contains(&kernel.last_seen)
        {
            model.last_seen = kernel.last_seen;
        }
        assert_eq!(kernel, self.model.flows.get(key).copied(), "{key:?}");
        kernel
    }
}

impl Bench {
    /// Gives the connections with `key` an uplink, or forgets it.
    pub fn set_sticky(&mut self, key: StickyKey, sticky: Option<Sticky>) {
        let map = self.plane.ebpf().map_mut(map::STICKY).unwrap();
        let mut map = BpfHashMap::<_, StickyKey, Sticky>::try_from(map).unwrap();
        match sticky {
            Some(sticky) => {
                self.model.sticky.insert(key, sticky);
                map.insert(key, sticky, 0).unwrap();
            }
            None => {
                self.model.sticky.remove(&key);
                map.remove(&key).unwrap();
            }
        }
    }

    /// Kernel and model have the same entry for `key`; only times may be those of the next second.
    fn agree_on_sticky(&mut self, key: &StickyKey, begin: u32) {
        let map = BpfHashMap::<_, StickyKey, Sticky>::try_from(self.plane.ebpf().map_mut(map::STICKY).unwrap());
        let kernel = map.unwrap().get(key, 0).ok();
        if let (Some(kernel), Some(model)) = (kernel, self.model.sticky.get_mut(key)) {
            for (kernel, model) in
                [(kernel.first_seen, &mut model.first_seen), (kernel.last_seen, &mut model.last_seen)]
            {
                if *model == begin && (begin..=now()).contains(&kernel) {
                    *model = kernel;
                }
            }
        }
        assert_eq!(kernel, self.model.sticky.get(key).copied(), "{key:?}");
    }
}

/// The fields of the kernel's packet structure that a test run sets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Skb {
    pub ifindex: u32,
    /// Where it came in; 0: from the host itself.
    pub ingress: u32,
    pub mark: u32,
    pub priority: u32,
    pub segments: u32,
    /// Bytes of data in each of the segments.
    pub segment: u32,
}

impl Skb {
    /// `sizeof(struct __sk_buff)`.
    pub const LEN: usize = 192;

    pub fn bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        for (offset, value) in [
            (8, self.mark),
            (32, self.priority),
            (36, self.ingress),
            (40, self.ifindex),
            (164, self.segments),
            (176, self.segment),
        ] {
            bytes[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        }
        bytes
    }

    pub fn mark_in(bytes: &[u8; Self::LEN]) -> u32 {
        Self::word_in(bytes, 8)
    }

    pub fn priority_in(bytes: &[u8; Self::LEN]) -> u32 {
        Self::word_in(bytes, 32)
    }

    fn word_in(bytes: &[u8; Self::LEN], at: usize) -> u32 {
        u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    }
}

/// The clock that the programs read.
pub fn now() -> u32 {
    clock_gettime(ClockId::MonotonicCoarse).tv_sec as u32
}
