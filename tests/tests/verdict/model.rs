//! What the programs must do, computed by the pure functions with plain values in place of maps.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use pcc_ebpf::abi::{
    BUCKET_SLOTS, Counter, Device, Flow, FlowKey, IPV4, MarkLayout, POLICY_SLOTS, Policy, Settings, Step, Sticky,
    StickyKey, UPLINK_SLOTS, Uplink, policy_index,
};
use pcc_ebpf::classify::{ENDING, HashFields, Lesson, Recall, Tables, closes, learn, recall};
use pcc_ebpf::flow;
use pcc_ebpf::mangle::{Facts, Rules, Walk, advance};
use pcc_ebpf::packet::{Headers, Unread, parse};
use pcc_ebpf::policy::{choose, is_remembered_at_once, sticky_key};
use pcc_userspace::rules::Program;

/// What the maps hold, as plain values.
pub struct Model {
    pub layout: MarkLayout,
    pub settings: Settings,
    pub flows: HashMap<FlowKey, Flow>,
    pub uplinks: [Uplink; UPLINK_SLOTS as usize],
    pub buckets: Vec<u32>,
    pub bypass: Vec<IpNet>,
    pub devices: HashMap<u32, Device>,
    pub program: Program,
    pub policies: Vec<Policy>,
    pub sticky: HashMap<StickyKey, Sticky>,
}

impl Model {
    pub fn new(layout: MarkLayout) -> Self {
        Self {
            layout,
            settings: Settings { hash_fields: HashFields::ALL_FIELDS.bits(), idle_seconds: 100, ..Settings::default() },
            flows: HashMap::new(),
            uplinks: [Uplink { generation: 5, live: 3, ..Uplink::default() }; UPLINK_SLOTS as usize],
            buckets: vec![0; BUCKET_SLOTS as usize],
            bypass: Vec::new(),
            devices: HashMap::new(),
            program: Program::default(),
            policies: vec![Policy::default(); POLICY_SLOTS as usize],
            sticky: HashMap::new(),
        }
    }

    /// What the kernel must read from a packet: the pure parser on the same bytes.
    pub fn headers(&self, ifindex: u32, packet: &[u8], ether_type: u16) -> Result<Headers, Counter> {
        let device = self.devices.get(&ifindex).ok_or(Counter::UnknownDevice)?;
        parse(packet, device.header_length, ether_type).map_err(|unread| match unread {
            Unread::Short => Counter::Malformed,
            Unread::Skip(counter) => counter,
        })
    }

    /// The policy that the rules choose.
    pub fn policy_of(&self, headers: &Headers, ifindex: u32) -> u32 {
        let device = self.devices.get(&ifindex).map_or(0, |device| device.number);
        let facts = Facts { headers: *headers, device, size: 0, seed: self.settings.seed };
        let mut walk = Walk::new(&self.settings, headers.family);
        while advance(self, &facts, &mut walk) {}
        walk.policy
    }

    /// What is shared by those that keep to the uplink of `headers`, under the policy with this number.
    pub fn sticky_key(&self, number: u32, headers: &Headers) -> StickyKey {
        sticky_key(&self.policies[policy_index(self.settings.active_table, number) as usize], headers)
    }

    /// The mark and the counter that must come of a packet that came in by the device with index `ifindex`.
    pub fn lan_in(&mut self, headers: Result<Headers, Counter>, ifindex: u32, mark: u32, now: u32) -> (u32, Counter) {
        let headers = match headers {
            Ok(headers) => headers,
            Err(reason) => return (mark, reason),
        };
        let foreign = mark & !self.settings.mark_mask;
        match recall(self, &self.settings, &headers, now) {
            Recall::Leave(reason) => (mark, reason),
            Recall::Cached { mark, refresh } => {
                if let Some(flow) = self.flows.get_mut(&headers.key).filter(|_| refresh) {
                    flow.last_seen = now;
                }
                self.end_if_closed(&headers, &headers.key);
                (foreign | mark, Counter::CacheHit)
            }
            Recall::Unknown { .. } => {
                let number = self.policy_of(&headers, ifindex);
                let choice = choose(self, &self.settings, &headers, number, now);
                let ruled = Walk::new(&self.settings, headers.family).next != 0;
                let is_remembered = is_remembered_at_once(&headers, ruled) || self.flows.contains_key(&headers.key);
                if choice.mark != 0 && headers.cacheable && is_remembered {
                    self.flows.insert(headers.key, choice.flow(&self.settings));
                }
                if choice.is_news {
                    self.sticky.insert(self.sticky_key(number, &headers), choice.sticky());
                }
                (if choice.mark == 0 { mark } else { foreign | choice.mark }, choice.counter)
            }
        }
    }

    pub fn lan_out(&mut self, headers: Result<Headers, Counter>, mark: u32, now: u32) -> Option<Counter> {
        let headers = match headers {
            Err(Counter::UnknownDevice) => return Some(Counter::UnknownDevice),
            headers => headers.ok().filter(|headers| headers.cacheable && headers.key.is_routable())?,
        };
        let answered = headers.key.reversed();
        let counter = match learn(self, &self.settings, mark, &answered, now) {
            Lesson::Nothing | Lesson::Known => None,
            Lesson::Remember(flow, reason) => {
                self.flows.insert(answered, flow);
                Some(reason)
            }
        };
        if mark & self.settings.mark_confirmed != 0 {
            self.end_if_closed(&headers, &answered);
        }
        counter
    }

    fn end_if_closed(&mut self, headers: &Headers, key: &FlowKey) {
        if let Some(flow) = self.flows.get_mut(key).filter(|_| closes(headers)) {
            flow.confirmed = ENDING;
        }
    }
}

impl Tables for Model {
    fn flow(&self, key: &FlowKey) -> Option<Flow> {
        self.flows.get(key).copied()
    }
    fn uplink(&self, id: u32) -> Option<Uplink> {
        self.uplinks.get(id as usize).copied()
    }
    fn bucket(&self, index: u32) -> u32 {
        self.buckets[index as usize]
    }
    fn bypassed(&self, headers: &Headers) -> bool {
        let address = address_of(headers.family, headers.key.destination);
        self.bypass.iter().any(|prefix| prefix.contains(&address))
    }
    fn policy(&self, index: u32) -> Option<Policy> {
        self.policies.get(index as usize).copied()
    }
    fn sticky(&self, key: &StickyKey) -> Option<Sticky> {
        self.sticky.get(key).copied()
    }
}

impl Rules for Model {
    fn step(&self, index: u32) -> Option<Step> {
        self.program.steps.get(index as usize).copied()
    }
    fn is_member(&self, set: u32, family: u32, words: &[u32; 4]) -> bool {
        let address = address_of(family, *words);
        let sets = self.program.sets.iter().filter(|(number, _)| *number == set);
        sets.flat_map(|(_, prefixes)| prefixes).any(|prefix| prefix.contains(&address))
    }
    fn random(&self) -> u32 {
        0
    }
    fn count(&self, _: u32) -> u32 {
        0
    }
}

/// An address as it is on the wire: one of IPv6 may look like a mapped one.
pub fn address_of(family: u32, words: [u32; 4]) -> IpAddr {
    let octets: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let octets: [u8; 16] = octets.try_into().unwrap();
    if family == IPV4 { flow::address(words) } else { octets.into() }
}
