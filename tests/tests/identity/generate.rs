//! Random connections and packets.

use pcc_ebpf::packet::ether;
use proptest::collection::vec;
use proptest::prelude::*;
use tests::packet::Extension;

use crate::frame::{Body, Checksum, Destination, Shot};

/// A connection, what its first packets are like, and what comes afterwards.
#[derive(Clone, Debug)]
pub struct Case {
    pub ipv6: bool,
    pub tcp: bool,
    /// Type of service and payload of the packets that the shortcut is learned from.
    pub tos: u8,
    pub payload: usize,
    pub shots: Vec<Shot>,
}

pub fn case() -> impl Strategy<Value = Case> {
    let payload = prop_oneof![3 => Just(1300), 1 => 0_usize..1300];
    (any::<bool>(), any::<bool>(), tos(), payload).prop_flat_map(|(ipv6, tcp, tos, payload)| {
        vec(shot(tos), 1..14).prop_map(move |shots| Case { ipv6, tcp, tos, payload, shots })
    })
}

fn tos() -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(0), 1 => prop_oneof![Just(0x10), Just(0xb8), any::<u8>()]]
}

/// Mostly nothing is wrong, or one thing.
fn seldom<T: Clone + std::fmt::Debug>(usual: T, other: impl Strategy<Value = T>) -> impl Strategy<Value = T> {
    prop_oneof![12 => Just(usual), 1 => other]
}

fn checksum() -> impl Strategy<Value = Checksum> {
    let value = || prop_oneof![Just(0), Just(0xffff), Just(0xfeff), Just(1), Just(0xff00), any::<u16>()];
    prop_oneof![
        7 => Just(Checksum::Right),
        1 => any::<u16>().prop_map(Checksum::Plus),
        1 => value().prop_map(Checksum::Fixed),
        1 => value().prop_map(Checksum::Steered),
        1 => value().prop_map(Checksum::SteeredBehind),
    ]
}

fn flags() -> impl Strategy<Value = u8> {
    prop_oneof![20 => Just(0x10), 6 => Just(0x18), 1 => Just(0x11), 1 => Just(2), 1 => Just(0x14), 2 => any::<u8>()]
}

fn body(may_be_cut: bool) -> impl Strategy<Value = Body> {
    let fragments = (0_usize..180, any::<bool>()).prop_map(|(at, swapped)| Body::Fragments(at, swapped));
    prop_oneof![
        20 => Just(Body::Plain),
        if may_be_cut { 1 } else { 0 } => fragments,
        1 => Just(Body::Echo),
        1 => Just(Body::Error),
        1 => Just(Body::Stranger),
    ]
}

fn extension() -> impl Strategy<Value = Extension> {
    prop_oneof![
        (0_u8..2).prop_map(Extension::HopByHop),
        (0_u8..2).prop_map(Extension::Destination),
        (0_u8..2).prop_map(Extension::Routing),
        any::<bool>().prop_map(|more| Extension::Fragment(0, more)),
    ]
}

fn shot(usual_tos: u8) -> impl Strategy<Value = Shot> {
    let tag = (prop_oneof![Just(ether::VLAN), Just(ether::SERVICE_VLAN)], prop_oneof![Just(0_u16), any::<u16>()]);
    let payload = prop_oneof![3 => 0_usize..40, 2 => 0_usize..1300, 1 => 1300_usize..1440];
    let ttl = prop_oneof![8 => Just(64), 1 => 0_u8..4, 1 => any::<u8>()];
    let around = (
        seldom(Vec::new(), vec(tag, 1..3)),
        seldom(0, (1_usize..11).prop_map(|words| words * 4)),
        seldom(Vec::new(), vec(extension(), 1..3)),
    );
    let lengths = (
        seldom(None, prop_oneof![3 => Just(Some(8)), 2 => (0_u8..16).prop_map(Some)]),
        seldom(0, -20_i16..20),
        seldom(0, -40_i16..40),
    );
    let flips = seldom(Vec::new(), vec((any::<bool>(), 0_usize..40, 1_u8..=255), 1..3));
    let frame = (
        seldom(
            Destination::Router,
            prop_oneof![Just(Destination::Neighbour), Just(Destination::Broadcast), Just(Destination::Multicast)],
        ),
        prop_oneof![8 => Just(0), 1 => 0_usize..64],
        seldom(0, 0_usize..60),
    );
    let ip = (prop_oneof![8 => Just(usual_tos), 1 => tos()], ttl, any::<bool>());
    let own = (body(true), flags(), (0_u16..60_000, 0_u16..60_000), payload);
    (any::<bool>(), own, ip, around, lengths, flips, (checksum(), checksum()), frame).prop_map(
        move |(
            outward,
            (body, flags, numbers, payload),
            (tos, ttl, may_fragment),
            (tags, options, extensions),
            (data_offset, datagram, length),
            flips,
            (ip_checksum, checksum),
            (destination, padding, missing),
        )| {
            let plain = Shot::plain(payload);
            let sound = Shot { outward, body, flags, numbers, tos, ttl, may_fragment, ..plain };
            if matches!(body, Body::Fragments(..)) {
                return sound;
            }
            Shot {
                tags,
                options,
                extensions,
                data_offset,
                datagram,
                length,
                flips,
                ip_checksum,
                checksum,
                destination,
                padding,
                missing,
                ..sound
            }
        },
    )
}
