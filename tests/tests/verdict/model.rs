//! What the programs must do, computed by the pure functions with plain values in place of maps.

use std::collections::HashMap;

use ipnet::IpNet;
use pcc_ebpf::abi::{BUCKET_SLOTS, Counter, Device, Flow, FlowKey, IPV4, MarkLayout, Settings, UPLINK_SLOTS, Uplink};
use pcc_ebpf::classify::{HashFields, Lesson, Tables, Verdict, classify, learn};
use pcc_ebpf::flow;
use pcc_ebpf::packet::{Headers, Unread, parse};

/// What the maps hold, as plain values.
pub struct Model {
    pub layout: MarkLayout,
    pub settings: Settings,
    pub flows: HashMap<FlowKey, Flow>,
    pub uplinks: [Uplink; UPLINK_SLOTS as usize],
    pub buckets: Vec<u32>,
    pub bypass: Vec<IpNet>,
    pub devices: HashMap<u32, Device>,
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

    /// The mark and the counter that must come of it.
    pub fn lan_in(&mut self, headers: Result<Headers, Counter>, mark: u32, now: u32) -> (u32, Counter) {
        let headers = match headers {
            Ok(headers) => headers,
            Err(reason) => return (mark, reason),
        };
        let foreign = mark & !self.settings.mark_mask;
        match classify(self, &self.settings, &headers, now) {
            Verdict::Leave(reason) => (mark, reason),
            Verdict::Cached { mark, refresh } => {
                if let Some(flow) = self.flows.get_mut(&headers.key).filter(|_| refresh) {
                    flow.last_seen = now;
                }
                (foreign | mark, Counter::CacheHit)
            }
            Verdict::Hashed { mark, remember } => {
                self.flows.extend(remember.map(|flow| (headers.key, flow)));
                (foreign | mark, Counter::CacheMiss)
            }
        }
    }

    pub fn lan_out(&mut self, headers: Result<Headers, Counter>, mark: u32, now: u32) -> Option<Counter> {
        let headers = match headers {
            Err(Counter::UnknownDevice) => return Some(Counter::UnknownDevice),
            headers => headers.ok().filter(|headers| headers.cacheable && headers.key.is_routable())?,
        };
        let answered = headers.key.reversed();
        match learn(self, &self.settings, mark, &answered, now) {
            Lesson::Nothing => None,
            Lesson::Remember(flow, reason) => {
                self.flows.insert(answered, flow);
                Some(reason)
            }
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
        let octets: Vec<u8> = headers.key.destination.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let octets: [u8; 16] = octets.try_into().unwrap();
        let address = match headers.family {
            IPV4 => flow::address(headers.key.destination),
            _ => octets.into(),
        };
        self.bypass.iter().any(|prefix| prefix.contains(&address))
    }
}
