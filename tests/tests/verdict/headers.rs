//! Every kind of packet, whole and cut, on devices with and without Ethernet header; which bucket PCC's hash selects.

use pcc_ebpf::abi::{BUCKETS, Counter, Flow, FlowKey, MarkLayout};
use pcc_ebpf::classify::{ENDING, HashFields};
use pcc_ebpf::packet::ether;
use tests::packet::{Extension, Packet, Transport, flag};

use crate::bench::{BARE, Bench, LAN, Outcome, STRANGER, now, shortest, with_bench};

/// Bits of the mark that are not ours, with one of ours that must go.
const FOREIGN: u32 = 0xabcd_ef1f;

/// What a test expects of one packet.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// Balanced and remembered under these ports.
    Flow(u16, u16),
    /// Balanced and remembered, but never from memory.
    Opens,
    /// Balanced, not remembered.
    Guess,
    /// Left alone.
    Left(Counter),
}

type Case = (&'static str, Packet, Expect);

/// Packets that all devices may have. A test run without Ethernet header takes the protocol from two bytes of the source
/// address: `8.0.0.0/16` reads as IPv4, `2001:db8:86dd::/48` as IPv6.
fn cases() -> Vec<Case> {
    use Expect::{Flow, Guess, Left, Opens};
    const PORTS: Expect = Flow(40_000, 443);
    const NONE: Expect = Flow(0, 0);
    let v4 = || Packet::new("8.0.1.10:40000", "198.51.100.8:443");
    let v6 = || Packet::new("[2001:db8:86dd::10]:40000", "[2001:db8::8888]:443");
    let udp6 = || v6().transport(Transport::Udp);
    let to = |address: &str| {
        let packet = if address.contains('.') { v4() } else { v6() };
        let destination = (address.parse::<std::net::IpAddr>().unwrap(), 443).into();
        Packet::between(packet.source(), destination).transport(Transport::Udp)
    };
    let five = || {
        udp6()
            .extension(Extension::HopByHop(0))
            .extension(Extension::Destination(1))
            .extension(Extension::Routing(2))
            .fragment(0, true)
            .extension(Extension::Authentication(4))
    };
    let mut cases = vec![
        ("options", v4().options(4), PORTS),
        ("all options", v4().options(40).transport(Transport::Tcp(flag::SYN)), Opens),
        ("hop by hop", udp6().extension(Extension::HopByHop(0)), PORTS),
        ("routing", udp6().extension(Extension::Routing(3)), PORTS),
        ("destination options", udp6().extension(Extension::Destination(0)), PORTS),
        ("authentication", udp6().extension(Extension::Authentication(4)), PORTS),
        ("long extension", udp6().extension(Extension::Destination(255)), PORTS),
        ("extension before an echo", five().transport(Transport::Icmp(128, 9)), Flow(9, 9)),
        ("extension before a SYN", five().transport(Transport::Tcp(flag::SYN)), Opens),
        ("five extensions", five(), PORTS),
        ("six extensions", five().extension(Extension::Destination(0)), Left(Counter::Malformed)),
        ("later fragment behind others", five().fragment(1, false), Left(Counter::Fragment)),
        ("no next header", v6().transport(Transport::Other(59)), NONE),
    ];
    let families = [(v4 as fn() -> Packet, false), (v6 as fn() -> Packet, true)];
    for (packet, is_ipv6) in families {
        let echo = if is_ipv6 { [128, 129] } else { [8, 0] };
        let carrying = |transport| packet().transport(transport);
        let tcp = |flags| carrying(Transport::Tcp(flags));
        cases.extend([
            ("SYN", tcp(flag::SYN), Opens),
            ("SYN with ECN", tcp(flag::SYN | flag::ECE | flag::CWR), Opens),
            ("SYN-ACK", tcp(flag::SYN | flag::ACK), PORTS),
            ("ACK", tcp(flag::ACK), PORTS),
            ("FIN", tcp(flag::FIN | flag::ACK), PORTS),
            ("RST", tcp(flag::RST), PORTS),
            ("UDP", carrying(Transport::Udp), PORTS),
            ("empty UDP", carrying(Transport::Udp).payload(0), PORTS),
            ("UDP-Lite", carrying(Transport::UdpLite), PORTS),
            ("SCTP", carrying(Transport::Sctp), PORTS),
            ("DCCP", carrying(Transport::Dccp), PORTS),
            ("echo request", carrying(Transport::Icmp(echo[0], 7)), Flow(7, 7)),
            ("echo reply", carrying(Transport::Icmp(echo[1], 7)), Flow(7, 7)),
            ("ICMP that is no echo", carrying(Transport::Icmp(13, 7)), Guess),
            ("ICMP error", carrying(Transport::Unreachable), Guess),
            ("GRE", carrying(Transport::Other(47)), NONE),
            ("ESP", carrying(Transport::Other(50)), NONE),
            ("nothing behind the IP header", carrying(Transport::Other(253)).payload(0), NONE),
            ("first fragment", carrying(Transport::Udp).fragment(0, true), PORTS),
            ("later fragment", carrying(Transport::Udp).fragment(185, true), Left(Counter::Fragment)),
            ("last fragment", carrying(Transport::Tcp(flag::SYN)).fragment(1, false), Left(Counter::Fragment)),
        ]);
    }
    for destination in
        ["0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.251", "255.255.255.255", "::", "::1", "fe80::1", "ff02::fb"]
    {
        cases.push(("not routable", to(destination), Left(Counter::NotRoutable)));
    }
    cases
}

/// Frames that only Ethernet has.
fn ethernet_cases() -> Vec<Case> {
    use Expect::Left;
    let packet = || Packet::new("192.0.2.1:40000", "198.51.100.8:443").transport(Transport::Udp);
    vec![
        ("VLAN", packet().tag(ether::VLAN, 42), Left(Counter::Vlan)),
        ("QinQ", packet().tag(ether::SERVICE_VLAN, 7).tag(ether::VLAN, 42), Left(Counter::Vlan)),
        ("priority tag", packet().tag(ether::VLAN, 0), Left(Counter::Vlan)),
        ("ARP", packet().ether_type(0x0806), Left(Counter::NotIp)),
        ("PPPoE", packet().ether_type(0x8864), Left(Counter::NotIp)),
        ("802.3 length", packet().ether_type(64), Left(Counter::NotIp)),
        ("IPv4 said to be IPv6", packet().payload(40).ether_type(ether::IPV6), Left(Counter::Malformed)),
        ("same addresses and ports", Packet::new("192.0.2.1:7", "192.0.2.1:7"), Expect::Flow(7, 7)),
    ]
}

fn on_all_devices() -> impl Iterator<Item = (u32, Case)> {
    let bare = cases().into_iter().map(|(name, packet, expect)| (BARE, (name, packet.bare(), expect)));
    let ethernet = cases().into_iter().chain(ethernet_cases()).map(|case| (LAN, case));
    ethernet.chain(bare).filter(|(_, (_, packet, _))| {
        let bytes = packet.build();
        bytes.len() >= shortest(&bytes)
    })
}

#[test]
fn every_kind_of_packet_gets_its_verdict() {
    with_bench(|bench| {
        for (device, (name, packet, expect)) in on_all_devices() {
            // Both devices send the same flows.
            bench.set_settings(|settings| settings.seed += 1);
            bench.forget_flows();
            assert_verdict(bench, device, &packet, expect, &format!("{name} from {}", packet.source()));
        }
    });
}

/// The first packet of its kind, and the second one; and one whose flow is known.
fn assert_verdict(bench: &mut Bench, device: u32, packet: &Packet, expect: Expect, name: &str) {
    let bytes = packet.build();
    let first = bench.lan_in(device, &bytes, FOREIGN);
    let second = bench.lan_in(device, &bytes, FOREIGN);
    let layout = bench.model.layout;
    let uplink = layout.uplink(first.mark).unwrap_or_default();
    let hashed = FOREIGN & !layout.mask() | layout.of(uplink);
    let is_tcp = packet.protocol() == 6;
    // All others may begin a connection.
    let missed = if is_tcp { layout.missed() } else { 0 };
    let (counters, marks, remembered) = match expect {
        Expect::Left(reason) => ([reason; 2], [FOREIGN; 2], false),
        Expect::Flow(..) if is_tcp => ([Counter::CacheMiss, Counter::CacheHit], [hashed | missed, hashed], true),
        Expect::Opens => ([Counter::CacheMiss; 2], [hashed; 2], false),
        Expect::Flow(..) | Expect::Guess => ([Counter::CacheMiss; 2], [hashed | missed; 2], false),
    };
    assert_eq!([first.counter, second.counter], counters, "{name}");
    assert_eq!([first.mark, second.mark], marks, "{name}");
    assert_eq!([first.flow.is_some(), second.flow.is_some()], [remembered; 2], "{name}");
    let Expect::Flow(from, to) = expect else { return };
    let at = |mut address: std::net::SocketAddr, port| {
        address.set_port(port);
        address
    };
    let key = FlowKey::new(at(packet.source(), from), at(packet.destination(), to), packet.protocol());
    if !remembered {
        let other = 3 - uplink;
        let (mark, generation) = (layout.of(other), bench.plane.uplink(other).unwrap().generation);
        bench.set_flow(key, Flow { mark, uplink: other, generation, confirmed: 1, last_seen: now() });
        let third = bench.lan_in(device, &bytes, FOREIGN);
        assert_eq!((third.counter, layout.uplink(third.mark)), (Counter::CacheHit, Some(other)), "{name}");
    } else {
        let flow = bench.plane.flow(&key).unwrap();
        assert_eq!(flow, second.flow, "{name}");
        let flow = flow.unwrap();
        let ending = if ["FIN", "RST"].iter().any(|flag| name.contains(flag)) { ENDING } else { 0 };
        assert_eq!((flow.mark, flow.uplink, flow.confirmed), (layout.of(uplink), uplink, ending), "{name}");
    }
}

/// Wherever a packet ends, kernel and pure functions agree, and nothing is read past the end.
#[test]
fn a_packet_may_end_at_any_byte() {
    with_bench(|bench| {
        for (device, (_, packet, _)) in on_all_devices() {
            let bytes = packet.build();
            for end in shortest(&bytes)..bytes.len().min(14 + 250) {
                bench.forget_flows();
                bench.lan_in(device, &bytes[..end], 0);
            }
        }
        let bytes = Packet::new("192.0.2.1:1", "198.51.100.8:2").transport(Transport::Udp).payload(0).build();
        for end in shortest(&bytes)..bytes.len() {
            let outcome = bench.lan_in(LAN, &bytes[..end], FOREIGN);
            let ports_are_there = end >= 14 + 20 + 4;
            assert_eq!(outcome.counter == Counter::Malformed, !ports_are_there, "{end} bytes: {outcome:?}");
            assert_eq!(outcome.mark == FOREIGN, !ports_are_there, "{end} bytes");
        }
    });
}

#[test]
fn a_bad_ip_header_is_malformed() {
    with_bench(|bench| {
        let packet = |address: &str| Packet::new(address, address).build().to_vec();
        for (address, first_byte) in [
            ("192.0.2.1:1", 0x44),
            ("192.0.2.1:1", 0x40),
            ("192.0.2.1:1", 0x55),
            ("192.0.2.1:1", 0x05),
            ("[2001:db8::1]:1", 0x45),
            ("[2001:db8::1]:1", 0xf0),
        ] {
            let mut bytes = packet(address);
            bytes[14] = first_byte;
            let outcome = bench.lan_in(LAN, &bytes, FOREIGN);
            assert_eq!(outcome, Outcome { mark: FOREIGN, counter: Counter::Malformed, flow: None }, "{first_byte:#x}");
        }
    });
}

#[test]
fn a_device_that_nobody_declared_is_left_alone() {
    with_bench(|bench| {
        let bytes = Packet::new("192.0.2.1:1", "198.51.100.8:2").build();
        let left = Outcome { mark: FOREIGN, counter: Counter::UnknownDevice, flow: None };
        assert_eq!(bench.lan_in(STRANGER, &bytes, FOREIGN), left);
        assert_eq!(bench.lan_out(STRANGER, &bytes, u32::MAX).0, Some(Counter::UnknownDevice));
    });
}

/// RouterOS's nine field sets: hash of a flow, of its answers, and with the seed `0x12345678`.
const VECTORS: [(&str, [u32; 3]); 9] = [
    ("src-address", [0xc269_12e2, 0xab44_8d99, 0x9938_cf0c]),
    ("dst-address", [0xab44_8d99, 0xc269_12e2, 0x7e0c_fcd5]),
    ("both-addresses", [0xd3e4_645c, 0xc69c_26b8, 0x757c_dca3]),
    ("src-port", [0xe897_85ab, 0xbb0f_74c0, 0xaf05_124f]),
    ("dst-port", [0xbb0f_74c0, 0xe897_85ab, 0x22b0_6945]),
    ("src-address-and-port", [0x0cef_866c, 0x10ed_d0fe, 0x4a80_2543]),
    ("dst-address-and-port", [0x10ed_d0fe, 0x0cef_866c, 0xd64f_48fa]),
    ("both-ports", [0x1a81_72cb, 0x0d86_42dd, 0x6e67_2e6b]),
    ("both-addresses-and-ports", [0xa27e_e935, 0x1199_34a6, 0x7a41_04c9]),
];

#[test]
fn the_hash_selects_the_bucket_that_the_test_vectors_say() {
    let flow = || Packet::new("192.168.1.10:40000", "8.8.8.8:443").transport(Transport::Tcp(flag::SYN));
    let echo = flow().transport(Transport::Icmp(8, 1));
    let ipv6 = Packet::new("[2001:db8::10]:40000", "[2001:4860:4860::8888]:443");
    let mut vectors = Vec::new();
    for (fields, hashes) in VECTORS {
        vectors.extend([
            (fields, flow(), 0, hashes[0]),
            (fields, flow().reversed(), 0, hashes[1]),
            (fields, flow(), 0x1234_5678, hashes[2]),
        ]);
        for transport in [Transport::Udp, Transport::UdpLite, Transport::Sctp, Transport::Dccp] {
            vectors.push((fields, flow().transport(transport), 0, hashes[0]));
        }
    }
    vectors.extend([
        ("both-addresses-and-ports", echo.clone(), 0, 0xd3e4_645c),
        ("both-ports", echo, 0, 0xdead_beef),
        ("both-addresses-and-ports", ipv6.transport(Transport::Tcp(flag::SYN)), 0, 0x3aa1_6ff7),
    ]);
    with_bench(|bench| {
        bench.set_layout(MarkLayout::new(0x1ff0).unwrap());
        // Two tables that together tell the bucket: its low five bits, its high five bits.
        let bits = |shift: u32| (0..BUCKETS).map(|bucket| (bucket >> shift & 31) + 1).collect::<Vec<_>>();
        let mut buckets = vec![0; vectors.len()];
        for shift in [0, 5] {
            bench.publish_buckets(&bits(shift), &bits(shift));
            for (bucket, (fields, packet, seed, _)) in buckets.iter_mut().zip(&vectors) {
                bench.set_settings(|settings| {
                    settings.hash_fields = HashFields::parse(fields).unwrap().bits();
                    settings.seed = *seed;
                });
                bench.forget_flows();
                let outcome = bench.lan_in(LAN, &packet.build(), FOREIGN);
                *bucket |= (bench.model.layout.uplink(outcome.mark).unwrap() - 1) << shift;
            }
        }
        for (bucket, (fields, packet, seed, hash)) in buckets.into_iter().zip(vectors) {
            assert_eq!(bucket, hash % BUCKETS, "{fields} seed {seed:#x} {packet:?}");
        }
    });
}
