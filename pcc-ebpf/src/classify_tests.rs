//! Test vectors of PCC's hash and the cases of the classifier.
use std::collections::HashMap;
use std::net::SocketAddr;

use super::*;
use crate::abi::{BUCKET_SLOTS, IPV4, MarkLayout, POLICY_DEFAULT};
use crate::policy::{Choice, choose};

fn key(source: &str, destination: &str, protocol: u8) -> FlowKey {
    let (source, destination): (SocketAddr, SocketAddr) = (source.parse().unwrap(), destination.parse().unwrap());
    FlowKey::new(source, destination, protocol)
}

/// lookup3 itself against its author's published values, over more bytes than a flow key has.
#[test]
fn lookup3_gives_the_published_values() {
    let text = b"Four score and seven years ago";
    let word = |i: usize| {
        let mut bytes = [0; 4];
        let rest = &text[(i * 4).min(text.len())..];
        let n = rest.len().min(4);
        bytes[..n].copy_from_slice(&rest[..n]);
        u32::from_le_bytes(bytes)
    };
    for (seed, expected) in [(0, 0x1777_0551), (1, 0xcd62_8161)] {
        let mut state = start(text.len() as u32, seed);
        state = lookup3_mix([word(0), word(1), word(2)], state);
        state = lookup3_mix([word(3), word(4), word(5)], state);
        assert_eq!(lookup3_tail([word(6), word(7), 0], state, text.len() as u32), expected);
    }
}

#[test]
fn all_nine_field_sets_hash_as_specified() {
    let flow = key("192.168.1.10:40000", "8.8.8.8:443", protocol::TCP);
    for (fields, forward, reply, seeded) in [
        ("src-address", 0xc269_12e2, 0xab44_8d99, 0x9938_cf0c),
        ("dst-address", 0xab44_8d99, 0xc269_12e2, 0x7e0c_fcd5),
        ("both-addresses", 0xd3e4_645c, 0xc69c_26b8, 0x757c_dca3),
        ("src-port", 0xe897_85ab, 0xbb0f_74c0, 0xaf05_124f),
        ("dst-port", 0xbb0f_74c0, 0xe897_85ab, 0x22b0_6945),
        ("src-address-and-port", 0x0cef_866c, 0x10ed_d0fe, 0x4a80_2543),
        ("dst-address-and-port", 0x10ed_d0fe, 0x0cef_866c, 0xd64f_48fa),
        ("both-ports", 0x1a81_72cb, 0x0d86_42dd, 0x6e67_2e6b),
        ("both-addresses-and-ports", 0xa27e_e935, 0x1199_34a6, 0x7a41_04c9_u32),
    ] {
        let fields = HashFields::parse(fields).unwrap();
        assert_eq!(hash(&flow, fields, 0), forward, "{}", fields.name());
        assert_eq!(hash(&flow.reversed(), fields, 0), reply, "{} reply", fields.name());
        assert_eq!(hash(&flow, fields, 0x1234_5678), seeded, "{} seeded", fields.name());
    }
}

#[test]
fn ports_count_only_where_there_are_ports() {
    let ping = key("192.168.1.10:7", "8.8.8.8:7", protocol::ICMP);
    assert_eq!(hash(&ping, HashFields::ALL_FIELDS, 0), 0xd3e4_645c);
    assert_eq!(hash(&ping, HashFields::parse("both-ports").unwrap(), 0), 0xdead_beef);
    let flow = key("[2001:db8::10]:40000", "[2001:4860:4860::8888]:443", protocol::TCP);
    if cfg!(target_endian = "little") {
        assert_eq!(hash(&flow, HashFields::ALL_FIELDS, 0), 0x3aa1_6ff7);
    }
}

#[derive(Default)]
struct Fake {
    flows: HashMap<FlowKey, Flow>,
    uplinks: HashMap<u32, Uplink>,
    bucket: u32,
    bypassed: bool,
}

impl Tables for Fake {
    fn flow(&self, key: &FlowKey) -> Option<Flow> {
        self.flows.get(key).copied()
    }
    fn uplink(&self, id: u32) -> Option<Uplink> {
        self.uplinks.get(&id).copied()
    }
    fn bucket(&self, index: u32) -> u32 {
        assert!(index < BUCKET_SLOTS);
        self.bucket
    }
    fn bypassed(&self, _: &Headers) -> bool {
        self.bypassed
    }
    fn policy(&self, _: u32) -> Option<Policy> {
        None
    }
    fn sticky(&self, _: &StickyKey) -> Option<Sticky> {
        None
    }
}

const LAYOUT: MarkLayout = MarkLayout::DEFAULT;

fn settings() -> Settings {
    Settings {
        mark_mask: LAYOUT.mask(),
        mark_confirmed: LAYOUT.confirmed(),
        mark_missed: LAYOUT.missed(),
        mark_shift: LAYOUT.shift(),
        mark_id_mask: LAYOUT.max_id(),
        seed: 1,
        hash_fields: HashFields::ALL_FIELDS.bits(),
        active_table: 0,
        idle_seconds: 30,
        ..Settings::default()
    }
}

fn fake() -> Fake {
    let uplink = |id| Uplink { generation: 5, ifindex: 10 + id, mark: LAYOUT.of(id), live: 3 };
    Fake { uplinks: [(1, uplink(1)), (2, uplink(2))].into(), bucket: 2, ..Fake::default() }
}

/// What becomes of a packet without rules.
#[derive(Debug, PartialEq)]
enum Verdict {
    Cached { mark: u32, refresh: bool },
    Chosen(Choice),
    Leave(Counter),
}

fn classify(tables: &Fake, settings: &Settings, headers: &Headers, now: u32) -> Verdict {
    match recall(tables, settings, headers, now) {
        Recall::Cached { mark, refresh } => Verdict::Cached { mark, refresh },
        Recall::Leave(reason) => Verdict::Leave(reason),
        Recall::Unknown { .. } => {
            let choice = choose(tables, settings, headers, POLICY_DEFAULT, now);
            if choice.mark == 0 { Verdict::Leave(choice.counter) } else { Verdict::Chosen(choice) }
        }
    }
}

fn headers(protocol: u8) -> Headers {
    let key = key("192.0.2.2:4000", "203.0.113.9:7", protocol);
    Headers { key, family: IPV4, opens: false, cacheable: true, details: crate::packet::Details::default() }
}

fn entry(uplink: u32, confirmed: u32) -> Flow {
    Flow { mark: LAYOUT.of(uplink), uplink, generation: 5, confirmed, last_seen: 100 }
}

#[test]
fn a_miss_is_hashed_and_remembered_and_a_hit_is_not() {
    let mut tables = fake();
    let packet = headers(protocol::UDP);
    let Verdict::Chosen(choice) = classify(&tables, &settings(), &packet, 100) else {
        panic!("expected a hash");
    };
    let (mark, flow) = (choice.mark, choice.flow(&settings()));
    assert_eq!((mark, flow), (LAYOUT.of(2), entry(2, 0)));
    tables.flows.insert(packet.key, entry(1, 0));
    let cached = |refresh| Verdict::Cached { mark: LAYOUT.of(1), refresh };
    assert_eq!(classify(&tables, &settings(), &packet, 100), cached(false));
    assert_eq!(classify(&tables, &settings(), &packet, 130), cached(true));
    assert!(matches!(classify(&tables, &settings(), &packet, 131), Verdict::Chosen(_)), "idle");
    tables.uplinks.get_mut(&1).unwrap().generation = 6;
    assert!(matches!(classify(&tables, &settings(), &packet, 100), Verdict::Chosen(_)), "stale");
}

#[test]
fn a_syn_never_uses_the_cache_and_tcp_never_idles() {
    let mut tables = fake();
    let mut packet = headers(protocol::TCP);
    tables.flows.insert(packet.key, entry(1, 1));
    assert!(matches!(classify(&tables, &settings(), &packet, 1_000_000), Verdict::Cached { .. }));
    packet.opens = true;
    let Verdict::Chosen(Choice { mark, .. }) = classify(&tables, &settings(), &packet, 100) else { panic!("hit") };
    assert_eq!(mark, LAYOUT.of(2), "a SYN is no lost decision");
}

#[test]
fn what_is_not_balanced_is_left_alone() {
    let mut tables = fake();
    let packet = headers(protocol::UDP);
    tables.bucket = 0;
    assert_eq!(classify(&tables, &settings(), &packet, 0), Verdict::Leave(Counter::NoUplink));
    tables.bucket = 9;
    assert_eq!(classify(&tables, &settings(), &packet, 0), Verdict::Leave(Counter::NoUplink));
    tables.bypassed = true;
    assert_eq!(classify(&tables, &settings(), &packet, 0), Verdict::Leave(Counter::Bypassed));
    let multicast = Headers { key: key("192.0.2.2:1", "224.0.0.5:1", protocol::UDP), ..packet };
    assert_eq!(classify(&tables, &settings(), &multicast, 0), Verdict::Leave(Counter::NotRoutable));
}

#[test]
fn only_confirmed_marks_teach() {
    let mut tables = fake();
    let key = headers(protocol::TCP).key;
    let learned = |tables: &Fake, mark| learn(tables, &settings(), mark, &key, 100);
    let confirmed = LAYOUT.of(1) | LAYOUT.confirmed();
    assert_eq!(learned(&tables, LAYOUT.of(1)), Lesson::Nothing);
    assert_eq!(learned(&tables, LAYOUT.of(7) | LAYOUT.confirmed()), Lesson::Nothing, "unknown uplink");
    assert_eq!(learned(&tables, confirmed & !LAYOUT.ours()), Lesson::Nothing, "not the whole mark");
    assert_eq!(learned(&tables, confirmed), Lesson::Remember(entry(1, 1), Counter::Confirmed));
    tables.flows.insert(key, entry(2, 1));
    assert_eq!(learned(&tables, confirmed), Lesson::Remember(entry(1, 1), Counter::Corrected));
    tables.flows.insert(key, entry(1, 1));
    assert_eq!(learned(&tables, confirmed), Lesson::Known);
}
