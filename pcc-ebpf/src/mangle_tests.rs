//! The life of a connection in the cache; the tests of the steps themselves are compared with a reference elsewhere.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::*;
use crate::abi::{IPV4, MarkFields, Policy, Sticky, StickyKey, Uplink};
use crate::packet::Details;

const FIELDS: MarkFields = match MarkFields::fit(None, 2, 2, 0) {
    Ok(fields) => fields,
    Err(_) => panic!(),
};

#[derive(Default)]
struct Fake {
    steps: Vec<Step>,
    flows: HashMap<FlowKey, Flow>,
}

impl Tables for Fake {
    fn flow(&self, key: &FlowKey) -> Option<Flow> {
        self.flows.get(key).copied()
    }
    fn uplink(&self, _: u32) -> Option<Uplink> {
        None
    }
    fn bucket(&self, _: u32) -> u32 {
        0
    }
    fn bypassed(&self, _: &Headers) -> bool {
        false
    }
    fn policy(&self, _: u32) -> Option<Policy> {
        None
    }
    fn sticky(&self, _: &StickyKey) -> Option<Sticky> {
        None
    }
}

impl Rules for Fake {
    fn step(&self, index: u32) -> Option<Step> {
        self.steps.get(index as usize).copied()
    }
    fn is_member(&self, _: u32, _: u32, _: &[u32; 4]) -> bool {
        false
    }
    fn random(&self) -> u32 {
        0
    }
    fn count(&self, _: u32) -> u32 {
        0
    }
}

fn settings() -> Settings {
    Settings {
        mark_mask: FIELDS.mask(),
        mark_ours: FIELDS.ours(),
        mark_missed: FIELDS.tentative(),
        connection: FIELDS.connection,
        routing: FIELDS.routing,
        packet: FIELDS.packet,
        first_step4: 1,
        idle_seconds: 30,
        ..Settings::default()
    }
}

fn packet(opens: bool) -> Headers {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let key = FlowKey::new(address("192.0.2.2:4000"), address("203.0.113.9:7"), protocol::TCP);
    Headers { key, family: IPV4, opens, cacheable: true, details: Details::default() }
}

fn step(op: Op, low: u32, then: u32, otherwise: u32) -> Step {
    Step { op: op as u32, low, then, otherwise, ..Step::default() }
}

/// Gives the packet to the rules as the program at ingress does. The mark, and whether the rules were walked.
fn enter(fake: &mut Fake, headers: &Headers) -> (u32, bool) {
    enter_by(fake, headers, 1)
}

fn enter_by(fake: &mut Fake, headers: &Headers, device: u32) -> (u32, bool) {
    match recall(fake, &settings(), headers, device, 0) {
        Recall::Cached { mark, .. } => (mark, false),
        Recall::Walk(mut walk) => {
            let facts = Facts { headers: *headers, device, size: 100, seed: 0 };
            while advance(fake, &facts, &mut walk) {}
            let conclusion = conclude(&settings(), headers, device, &walk, 0);
            fake.flows.extend(conclusion.remember.map(|flow| (headers.key, flow)));
            (conclusion.mark, true)
        }
    }
}

fn leave(fake: &mut Fake, mark: u32, headers: &Headers) -> Option<Counter> {
    let answered = headers.key.reversed();
    match learn(fake, &settings(), mark, &answered, 0) {
        Lesson::Nothing | Lesson::Known => None,
        Lesson::Remember(flow, counter) => {
            fake.flows.insert(answered, flow);
            Some(counter)
        }
    }
}

/// `connection-mark=no-mark → connection mark 1`, then `connection-mark=1 → routing mark 2`.
fn usual() -> Fake {
    let steps = vec![
        Step::default(),
        step(Op::ConnectionMark, 0, 2, 3),
        step(Op::MarkConnection, 1, 3, 3),
        step(Op::ConnectionMark, 1, 4, 0),
        step(Op::MarkRouting, 2, 0, 0),
    ];
    Fake { steps, ..Fake::default() }
}

#[test]
fn a_connection_is_walked_until_nothing_is_guessed_and_then_not_again() {
    let mut fake = usual();
    let wanted = FIELDS.ours() | FIELDS.connection.of(1) | FIELDS.routing.of(2);
    let (syn, answer, more) = (packet(true), packet(false), packet(false));
    assert_eq!(enter(&mut fake, &syn), (wanted | FIELDS.tentative(), true));
    // The answer on its way to the LAN says what conntrack knows.
    let answer = Headers { key: answer.key.reversed(), ..answer };
    assert_eq!(leave(&mut fake, wanted, &answer), Some(Counter::Confirmed));
    assert_eq!(leave(&mut fake, wanted, &answer), None);
    // No rule sets the mark of this one: it gets conntrack's.
    let recalled = wanted & !FIELDS.connection.mask();
    assert_eq!(enter(&mut fake, &more), (recalled, true), "the first packet that conntrack vouches for");
    assert_eq!(enter(&mut fake, &more), (recalled, false));
    assert_eq!(enter(&mut fake, &syn), (wanted | FIELDS.tentative(), true), "a SYN begins anew");
}

#[test]
fn what_conntrack_knows_corrects_the_cache() {
    let mut fake = usual();
    let more = packet(false);
    enter(&mut fake, &more);
    let answer = Headers { key: more.key.reversed(), ..more };
    let other = FIELDS.ours() | FIELDS.connection.of(2);
    assert_eq!(leave(&mut fake, other, &answer), Some(Counter::Corrected));
    assert_eq!(enter(&mut fake, &more), (FIELDS.ours(), true), "no rule gives mark 2 a route, or another mark");
    assert_eq!(leave(&mut fake, other, &answer), None, "the cache knows mark 2");
}

#[test]
fn a_walk_that_asks_nothing_of_conntrack_is_final() {
    let steps = vec![Step::default(), step(Op::Protocol, 6, 2, 0), step(Op::MarkRouting, 1, 0, 0)];
    let mut fake = Fake { steps, ..Fake::default() };
    assert_eq!(enter(&mut fake, &packet(false)), (FIELDS.ours() | FIELDS.routing.of(1), true));
    assert_eq!(enter(&mut fake, &packet(false)), (FIELDS.ours() | FIELDS.routing.of(1), false));
}

#[test]
fn a_test_of_what_changes_is_made_for_every_packet() {
    let steps = vec![Step::default(), step(Op::Dscp, 0, 2, 0), step(Op::MarkPacket, 0, 0, 0)];
    let mut fake = Fake { steps, ..Fake::default() };
    assert!(enter(&mut fake, &packet(false)).1 && enter(&mut fake, &packet(false)).1);
}

#[test]
fn what_is_remembered_holds_for_the_device_alone() {
    let steps = vec![Step::default(), step(Op::Device, 1, 2, 0), step(Op::MarkRouting, 1, 0, 0)];
    let mut fake = Fake { steps, ..Fake::default() };
    let marked = FIELDS.ours() | FIELDS.routing.of(1);
    assert_eq!(enter_by(&mut fake, &packet(false), 1), (marked, true));
    assert_eq!(enter_by(&mut fake, &packet(false), 1), (marked, false));
    assert_eq!(enter_by(&mut fake, &packet(false), 2), (FIELDS.ours(), true));
    assert_eq!(enter_by(&mut fake, &packet(false), 1), (marked, true));
}

#[test]
fn a_step_that_is_not_there_ends_the_walk() {
    let mut fake = Fake { steps: vec![Step::default(), step(Op::Pass, 0, 70, 70)], ..Fake::default() };
    assert_eq!(enter(&mut fake, &packet(false)), (FIELDS.ours(), true));
}

#[test]
fn fields_take_as_few_bits_as_they_can() {
    assert_eq!((FIELDS.mask(), FIELDS.ours(), FIELDS.tentative()), (0x7f, 0x40, 0x20));
    assert_eq!((FIELDS.routing.mask(), FIELDS.connection.mask(), FIELDS.reply.mask()), (0x03, 0x0c, 0x30));
    assert_eq!(MarkFields::fit(Some(0x3f), 2, 2, 0), Err(7));
    assert_eq!(MarkFields::fit(Some(0xff00), 2, 2, 0).unwrap().routing.mask(), 0x0300);
    for (connections, routings, packets) in [(0, 0, 0), (31, 31, 31), (1, 250, 3), (8, 1, 0)] {
        let fields = MarkFields::fit(None, connections, routings, packets).unwrap();
        let upper = fields.packet.mask() | fields.tentative() | fields.reply.mask();
        let all = [fields.ours(), upper, fields.connection.mask(), fields.routing.mask()];
        assert_eq!(all.iter().fold(0, |sum, bits| sum | bits), fields.mask());
        assert_eq!(all.iter().map(|bits| bits.count_ones()).sum::<u32>(), fields.mask().count_ones(), "{fields:?}");
        assert_eq!(fields.packet.mask() & fields.tentative(), 0);
    }
}
