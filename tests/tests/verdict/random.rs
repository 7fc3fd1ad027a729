//! Random packets, sound and broken, in random order: the kernel says what the pure functions say.

use std::net::SocketAddr;

use pcc_ebpf::abi::{BUCKETS, MarkLayout};
use pcc_ebpf::classify::HashFields;
use pcc_ebpf::packet::ether;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tests::packet::{Extension, Packet, Transport};

use crate::bench::{BARE, LAN, shortest, with_bench};

/// Few enough for flows to meet again.
fn address(is_ipv6: bool) -> impl Strategy<Value = SocketAddr> {
    (0_u8..6, 1_u16..4).prop_map(move |(last, port)| {
        let text = match (is_ipv6, last) {
            (false, 5) => "224.0.0.1".into(),
            (false, last) => format!("8.0.0.{last}"),
            (true, 5) => "fe80::1".into(),
            // IPv4-mapped, which has no business on a wire.
            (true, 4) => "::ffff:8.0.0.1".into(),
            (true, last) => format!("2001:db8:86dd::{last}"),
        };
        SocketAddr::new(text.parse().unwrap(), port)
    })
}

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![
        3 => any::<u8>().prop_map(Transport::Tcp),
        2 => Just(Transport::Udp),
        1 => Just(Transport::UdpLite),
        1 => Just(Transport::Sctp),
        1 => Just(Transport::Dccp),
        2 => (prop_oneof![Just(0), Just(8), Just(128), Just(129), any::<u8>()], 0_u16..3)
            .prop_map(|(kind, identifier)| Transport::Icmp(kind, identifier)),
        1 => Just(Transport::Unreachable),
        1 => any::<u8>().prop_map(Transport::Other),
    ]
}

fn extension() -> impl Strategy<Value = Extension> {
    prop_oneof![
        (0_u8..4).prop_map(Extension::HopByHop),
        (0_u8..4).prop_map(Extension::Routing),
        any::<u8>().prop_map(Extension::Destination),
        (0_u8..8).prop_map(Extension::Authentication),
        (prop_oneof![4 => Just(0), 1 => 1_u16..0x2000], any::<bool>())
            .prop_map(|(offset, more)| Extension::Fragment(offset, more)),
    ]
}

/// Tags, another EtherType, IPv4 options, IPv4 fragment.
type Around = (Vec<(u16, u16)>, Option<u16>, usize, u16);

fn around() -> impl Strategy<Value = Around> {
    let tag = (prop_oneof![Just(ether::VLAN), Just(ether::SERVICE_VLAN)], any::<u16>());
    let tags = prop_oneof![9 => Just(Vec::new()), 1 => vec(tag, 1..3)];
    let ether_type = prop_oneof![19 => Just(None), 1 => any::<u16>().prop_map(Some)];
    let options = prop_oneof![3 => Just(0), 1 => (0_usize..11).prop_map(|words| words * 4)];
    let fragment = prop_oneof![9 => Just(0), 1 => 0_u16..4];
    (tags, ether_type, options, fragment)
}

fn packet() -> impl Strategy<Value = Packet> {
    let addresses = any::<bool>().prop_flat_map(|is_ipv6| (address(is_ipv6), address(is_ipv6)));
    let extensions = prop_oneof![2 => Just(Vec::new()), 1 => vec(extension(), 1..7)];
    (addresses, transport(), extensions, around(), 0_usize..40).prop_map(
        |((source, destination), transport, extensions, (tags, ether_type, options, fragment), payload)| {
            let packet = Packet::between(source, destination).transport(transport).payload(payload);
            let packet = tags.into_iter().fold(packet, |packet, (kind, id)| packet.tag(kind, id));
            let packet = extensions.into_iter().fold(packet, Packet::extension);
            let packet = ether_type.into_iter().fold(packet, Packet::ether_type);
            if source.is_ipv4() { packet.options(options).fragment(fragment, fragment & 1 == 1) } else { packet }
        },
    )
}

/// The bytes of a packet: mostly as they should be, else with a few overwritten and the end cut off.
pub fn bytes() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let damage = prop_oneof![
        3 => Just((Vec::new(), usize::MAX)),
        1 => (vec((0_usize..100, any::<u8>()), 0..4), prop_oneof![Just(usize::MAX), 14_usize..120]),
    ];
    (any::<bool>(), packet(), damage).prop_map(|(bare, packet, (changes, end))| {
        let packet = if bare { packet.bare() } else { packet };
        let mut bytes = packet.build().to_vec();
        // A test run takes what fits a page with the kernel's own things.
        bytes.truncate(end.max(shortest(&bytes)).min(3000));
        for (place, value) in changes {
            if let Some(byte) = bytes.get_mut(place) {
                *byte = value;
            }
        }
        bytes.resize(bytes.len().max(shortest(&bytes)), 0);
        (bare, bytes)
    })
}

pub fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

#[test]
fn random_packets_get_the_pure_verdict() {
    with_bench(|bench| {
        let layout = MarkLayout::DEFAULT;
        let buckets: Vec<u32> = (0..BUCKETS).map(|bucket| bucket % 7).collect();
        bench.publish_buckets(&buckets, &buckets);
        bench.set_bypass(&["8.0.0.2/32", "2001:db8:86dd::2/127"]);
        let bench = std::cell::RefCell::new(bench);
        let case = (bytes(), any::<u32>(), 0_u32..8, 0_usize..200, any::<u32>());
        let result = runner(3000).run(&case, |((bare, bytes), mark, id, now_and_then, seed)| {
            let mut bench = bench.borrow_mut();
            if now_and_then < HashFields::ALL.len() {
                bench.set_settings(|settings| {
                    settings.seed = seed;
                    settings.hash_fields = HashFields::ALL[now_and_then].1.bits();
                });
                bench.set_uplink(id, |uplink| uplink.generation += 1);
            }
            let device = if bare { BARE } else { LAN };
            bench.lan_in(device, &bytes, mark);
            bench.lan_out(device, &bytes, mark & !layout.id_mask() | layout.of(id));
            bench.lan_in(device, &bytes, mark);
            Ok(())
        });
        result.unwrap_or_else(|failure| panic!("{failure}"));
        let bench = bench.into_inner();
        assert!(bench.model.flows.len() > 100, "{} flows", bench.model.flows.len());
        for (key, flow) in &bench.model.flows {
            assert_eq!(bench.plane.flow(key).unwrap().as_ref(), Some(flow), "{key:?}");
        }
    });
}

#[test]
fn noise_gets_the_pure_verdict() {
    with_bench(|bench| {
        let bench = std::cell::RefCell::new(bench);
        let ether_type = prop_oneof![Just(ether::IPV4), Just(ether::IPV6), any::<u16>()];
        let case = (vec(any::<u8>(), 54..200), ether_type, any::<bool>(), any::<u32>());
        let result = runner(1500).run(&case, |(mut bytes, ether_type, bare, mark)| {
            bytes[12..14].copy_from_slice(&ether_type.to_be_bytes());
            let first = if bare { 0 } else { 14 };
            if let (Some(byte), 1..) = (bytes.get_mut(first), mark % 8) {
                *byte = if ether_type == ether::IPV4 { 0x40 | *byte & 0x0f } else { 0x60 };
            }
            bench.borrow_mut().lan_in(if bare { BARE } else { LAN }, &bytes, mark);
            Ok(())
        });
        result.unwrap_or_else(|failure| panic!("{failure}"));
    });
}
