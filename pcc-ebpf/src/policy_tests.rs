//! Which uplink a policy gives, and who keeps to it.

use std::collections::HashMap;

use super::*;
use crate::abi::{FlowKey, IPV6, MarkLayout};
use crate::packet::Details;

const LAYOUT: MarkLayout = MarkLayout::DEFAULT;
/// A policy without sticky connections, and one that is sticky by source for ten seconds.
const PLAIN: u32 = 1;
const STICKY: u32 = 2;

/// The default policy has uplink 1, the others have `uplink`.
struct Fake {
    uplink: u32,
    members: [u32; 2],
    uplinks: HashMap<u32, Uplink>,
    sticky: HashMap<StickyKey, Sticky>,
}

impl Fake {
    fn new() -> Self {
        let uplink = |id| Uplink { generation: 5, ifindex: id, mark: LAYOUT.of(id), live: 3 };
        Self {
            uplink: 2,
            members: [0b1100, 0],
            uplinks: (1..4).map(|id| (id, uplink(id))).collect(),
            sticky: HashMap::new(),
        }
    }

    /// The uplink that is chosen, and why; what connections must keep to is noted.
    fn choose(&mut self, headers: &Headers, policy: u32, now: u32) -> Result<(u32, Counter), Counter> {
        let settings = Settings { mark_missed: LAYOUT.missed(), ..Settings::default() };
        let choice = choose(self, &settings, headers, policy, now);
        if choice.mark == 0 {
            return Err(choice.counter);
        }
        let key = self.policy(policy).map(|policy| sticky_key(&policy, headers));
        self.sticky.extend(key.zip(choice.is_news.then(|| choice.sticky())));
        let flow = choice.flow(&settings);
        assert_eq!((Some(flow.uplink), flow.mark), (LAYOUT.uplink(choice.mark), LAYOUT.of(flow.uplink)));
        let is_lost = headers.key.protocol == u32::from(protocol::TCP) && !headers.opens;
        assert_eq!(choice.mark & LAYOUT.missed() != 0, is_lost);
        Ok((LAYOUT.uplink(choice.mark).unwrap(), choice.counter))
    }
}

impl Tables for Fake {
    fn flow(&self, _: &FlowKey) -> Option<Flow> {
        None
    }
    fn uplink(&self, id: u32) -> Option<Uplink> {
        self.uplinks.get(&id).copied()
    }
    fn bucket(&self, index: u32) -> u32 {
        if index < bucket_index(0, PLAIN, 0, 0) { 1 } else { self.uplink }
    }
    fn bypassed(&self, _: &Headers) -> bool {
        false
    }
    fn policy(&self, index: u32) -> Option<Policy> {
        let plain = Policy { hash_fields: 15, identity: index + 100, members: self.members, ..Policy::default() };
        Some(if index == STICKY { Policy { sticky_fields: 1, lifetime: 10, ..plain } } else { plain })
    }
    fn sticky(&self, key: &StickyKey) -> Option<Sticky> {
        self.sticky.get(key).copied()
    }
}

fn packet(source: &str, protocol: u8, opens: bool) -> Headers {
    let destination = if source.starts_with('[') { "[2001:db8:9::1]:7" } else { "203.0.113.9:7" };
    let key = FlowKey::new(source.parse().unwrap(), destination.parse().unwrap(), protocol);
    let family = if key.is_ipv4() { IPV4 } else { IPV6 };
    Headers { key, family, opens, cacheable: true, details: Details::default() }
}

fn syn(source: &str) -> Headers {
    packet(source, protocol::TCP, true)
}

const A: &str = "192.0.2.2:1";
const B: &str = "192.0.2.3:1";

#[test]
fn each_policy_has_its_own_buckets() {
    let mut fake = Fake::new();
    assert_eq!(fake.choose(&syn(A), POLICY_DEFAULT, 0), Ok((1, Counter::CacheMiss)));
    assert_eq!(fake.choose(&syn(A), PLAIN, 0), Ok((2, Counter::CacheMiss)));
    assert_eq!(fake.choose(&syn(A), POLICY_MAIN, 0), Err(Counter::NotBalanced));
    assert!(fake.sticky.is_empty());
}

#[test]
fn a_policy_without_uplinks_falls_back_and_nobody_keeps_to_that() {
    let mut fake = Fake::new();
    fake.uplink = 0;
    for policy in [PLAIN, STICKY] {
        assert_eq!(fake.choose(&syn(A), policy, 0), Ok((1, Counter::FellBack)));
    }
    assert!(fake.sticky.is_empty());
}

#[test]
fn connections_keep_to_their_uplink_until_they_pause() {
    let mut fake = Fake::new();
    assert_eq!(fake.choose(&syn(A), STICKY, 100), Ok((2, Counter::CacheMiss)));
    fake.uplink = 3;
    assert_eq!(fake.choose(&syn("192.0.2.2:9"), STICKY, 110), Ok((2, Counter::Sticky)));
    assert_eq!(fake.choose(&syn(A), STICKY, 109), Ok((2, Counter::Sticky)), "another processor's clock is behind");
    assert_eq!(fake.choose(&syn(B), STICKY, 110), Ok((3, Counter::CacheMiss)), "another source");
    assert_eq!(fake.choose(&syn(A), STICKY, 120), Ok((2, Counter::Sticky)), "counted from the last new connection");
    let times = |fake: &Fake| fake.sticky.values().map(|it| (it.first_seen, it.last_seen)).min();
    assert_eq!(times(&fake), Some((100, 120)));
    assert_eq!(fake.choose(&packet(A, protocol::TCP, false), STICKY, 125), Ok((2, Counter::Sticky)));
    assert_eq!(times(&fake), Some((100, 120)), "no new connection");
    assert_eq!(fake.choose(&syn(A), STICKY, 131), Ok((3, Counter::CacheMiss)));
    assert_eq!(fake.choose(&packet("192.0.2.9:1", protocol::TCP, false), STICKY, 131), Ok((3, Counter::CacheMiss)));
    assert_eq!(fake.sticky.len(), 2, "an old connection leaves no note");
    assert_eq!(fake.choose(&packet("192.0.2.9:1", protocol::UDP, false), STICKY, 131), Ok((3, Counter::CacheMiss)));
    assert_eq!(fake.sticky.len(), 3);
}

#[test]
fn nobody_keeps_to_an_uplink_that_left() {
    let mut fake = Fake::new();
    let v6 = syn("[2001:db8::1]:1");
    for packet in [&syn(A), &v6] {
        fake.choose(packet, STICKY, 0).unwrap();
    }
    fake.uplink = 3;
    fake.uplinks.get_mut(&2).unwrap().live = 2;
    assert_eq!(fake.choose(&syn(A), STICKY, 0), Ok((3, Counter::CacheMiss)), "IPv4 died");
    assert_eq!(fake.choose(&v6, STICKY, 0), Ok((2, Counter::Sticky)));
    fake.members = [0b1000, 0b0100];
    assert_eq!(fake.choose(&v6, STICKY, 0), Ok((3, Counter::CacheMiss)), "it lost its weight");
    fake.members = [0b1100, 0];
    fake.uplinks.get_mut(&2).unwrap().generation = 6;
    fake.sticky.values_mut().for_each(|sticky| sticky.uplink = 2);
    assert_eq!(fake.choose(&v6, STICKY, 0), Ok((3, Counter::CacheMiss)));
}

#[test]
fn what_may_begin_is_remembered_at_once_only_with_rules() {
    let of = |protocol, opens| packet("192.0.2.2:3", protocol, opens);
    for (headers, expected) in [
        (of(protocol::TCP, true), false),
        (of(protocol::UDP, false), false),
        (of(protocol::ICMP, false), false),
        (of(protocol::TCP, false), true),
    ] {
        assert_eq!(is_remembered_at_once(&headers, false), expected, "{headers:?}");
        assert!(is_remembered_at_once(&headers, true), "{headers:?}");
    }
}

#[test]
fn only_what_is_asked_for_is_in_the_key() {
    let policy = |sticky_fields| Policy { sticky_fields, identity: 7, ..Policy::default() };
    let headers = packet("192.0.2.2:3", protocol::UDP, false);
    let all = sticky_key(&policy(15), &headers);
    assert_eq!((all.source, all.destination, all.ports), (headers.key.source, headers.key.destination, 7 << 16 | 3));
    let ports = sticky_key(&policy(12), &headers);
    assert_eq!((ports.source, ports.destination, ports.ports, ports.policy), ([0; 4], [0; 4], 7 << 16 | 3, 7));
    let echo = sticky_key(&policy(15), &packet("192.0.2.2:3", protocol::ICMP, false));
    assert_eq!(echo.ports, 0, "an identifier is no port");
}
