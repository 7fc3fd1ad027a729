//! The life of a cached decision: made, used, confirmed by answers, made anew; and what never is one.

use pcc_ebpf::abi::{BUCKETS, Counter, Flow, FlowKey, MarkLayout};
use tests::packet::{Packet, Transport, flag};

use crate::bench::{BARE, Bench, LAN, now, with_bench};

const MASK: u32 = MarkLayout::DEFAULT.mask();
const CONFIRMED: u32 = MarkLayout::DEFAULT.confirmed();
const MISSED: u32 = MarkLayout::DEFAULT.missed();

fn of(uplink: u32) -> u32 {
    MarkLayout::DEFAULT.of(uplink)
}

fn tcp(flags: u8) -> Packet {
    Packet::new("192.0.2.1:40000", "198.51.100.8:443").transport(Transport::Tcp(flags))
}

fn udp() -> Packet {
    tcp(0).transport(Transport::Udp)
}

fn key(packet: &Packet) -> FlowKey {
    FlowKey::new(packet.source(), packet.destination(), packet.protocol())
}

/// All new connections of both families go to `uplink`.
fn all_to(bench: &mut Bench, uplink: u32) {
    let buckets = vec![uplink; BUCKETS as usize];
    bench.publish_buckets(&buckets, &buckets);
}

fn cached(uplink: u32, confirmed: u32, last_seen: u32) -> Flow {
    Flow { mark: of(uplink), uplink, generation: 5, confirmed, last_seen }
}

#[test]
fn only_our_bits_of_the_mark_change() {
    with_bench(|bench| {
        all_to(bench, 1);
        for mask in [MASK, 0x00ff_0000, 0xf000_0000, 0x0000_01ff] {
            let layout = MarkLayout::new(mask).unwrap();
            bench.set_layout(layout);
            for mark in [0, u32::MAX, 0x1234_5678, 0xdead_beef] {
                bench.forget_flows();
                let foreign = mark & !mask;
                let missed = bench.lan_in(LAN, &tcp(flag::ACK).build(), mark);
                let hit = bench.lan_in(LAN, &tcp(flag::ACK).build(), mark);
                assert_eq!([missed.mark, hit.mark], [foreign | layout.of(1) | layout.missed(), foreign | layout.of(1)]);
            }
        }
    });
}

#[test]
fn a_flow_stays_while_new_ones_follow_the_buckets() {
    with_bench(|bench| {
        all_to(bench, 1);
        bench.lan_in(LAN, &tcp(flag::SYN).build(), 0);
        bench.lan_out(LAN, &tcp(flag::SYN | flag::ACK).reversed().build(), of(1) | CONFIRMED);
        all_to(bench, 2);
        assert_eq!(bench.lan_in(LAN, &tcp(flag::ACK).build(), 0).mark, of(1));
        let other = Packet::new("192.0.2.1:40001", "198.51.100.8:443").transport(Transport::Tcp(flag::SYN));
        assert_eq!(bench.lan_in(LAN, &other.build(), 0).mark, of(2));
    });
}

/// A scan, a flood and a query that nobody answers leave the cache to those that talk.
#[test]
fn what_nobody_answers_takes_no_room() {
    with_bench(|bench| {
        for packet in [tcp(flag::SYN), udp(), udp().transport(Transport::Icmp(8, 40_000))] {
            for _ in 0..2 {
                assert_eq!(bench.lan_in(LAN, &packet.build(), 0).flow, None, "{packet:?}");
            }
        }
        let answer = udp().reversed().build();
        assert_eq!(bench.lan_out(LAN, &answer, of(1) | CONFIRMED).0, Some(Counter::Confirmed));
        assert_eq!(bench.lan_in(LAN, &udp().build(), 0).counter, Counter::CacheHit);
    });
}

#[test]
fn a_syn_never_uses_the_cache() {
    with_bench(|bench| {
        all_to(bench, 2);
        bench.set_flow(key(&tcp(0)), cached(1, 1, now()));
        assert_eq!(bench.lan_in(LAN, &tcp(flag::ACK).build(), 0).mark, of(1));
        let syn = bench.lan_in(LAN, &tcp(flag::SYN).build(), 0);
        assert_eq!((syn.mark, syn.counter), (of(2), Counter::CacheMiss));
        let after = bench.lan_in(LAN, &tcp(flag::ACK).build(), 0);
        assert_eq!((after.mark, after.counter), (of(2), Counter::CacheHit));
    });
}

#[test]
fn a_raised_generation_makes_decisions_stale() {
    with_bench(|bench| {
        all_to(bench, 1);
        bench.lan_in(LAN, &tcp(flag::ACK).build(), 0);
        all_to(bench, 2);
        bench.set_uplink(2, |uplink| uplink.generation += 1);
        assert_eq!(bench.lan_in(LAN, &tcp(flag::ACK).build(), 0).counter, Counter::CacheHit, "another uplink's");
        bench.set_uplink(1, |uplink| uplink.generation += 1);
        let anew = bench.lan_in(LAN, &tcp(flag::ACK).build(), 0);
        assert_eq!((anew.mark, anew.counter), (of(2) | MISSED, Counter::CacheMiss));
        assert_eq!(anew.flow.map(|flow| flow.generation), Some(6));
    });
}

#[test]
fn what_is_not_tcp_idles_out_of_the_cache() {
    with_bench(|bench| {
        all_to(bench, 2);
        let idle = |seconds| cached(1, 1, now().wrapping_sub(seconds));
        for packet in [udp(), udp().transport(Transport::Icmp(8, 1)), udp().transport(Transport::Other(47))] {
            let bytes = packet.build();
            let key = match packet.protocol() {
                17 => key(&packet),
                protocol => {
                    let port = u16::from(protocol == 1);
                    let at = |mut address: std::net::SocketAddr| {
                        address.set_port(port);
                        address
                    };
                    FlowKey::new(at(packet.source()), at(packet.destination()), protocol)
                }
            };
            bench.set_flow(key, idle(90));
            let used = bench.lan_in(LAN, &bytes, 0);
            assert_eq!((used.mark, used.counter), (of(1), Counter::CacheHit), "{packet:?}");
            assert!(used.flow.is_some_and(|flow| now() - flow.last_seen <= 1), "use is noted: {used:?}");
            bench.set_flow(key, idle(110));
            let anew = bench.lan_in(LAN, &bytes, 0);
            assert_eq!((anew.mark, anew.counter), (of(2), Counter::CacheMiss), "{packet:?}");
            assert_eq!(anew.flow.map(|flow| flow.uplink), Some(2), "in the place of the old one");
        }
        bench.set_flow(key(&tcp(0)), idle(1_000_000));
        assert_eq!(bench.lan_in(LAN, &tcp(flag::ACK).build(), 0).mark, of(1), "TCP may be silent for days");
    });
}

#[test]
fn without_an_uplink_main_decides() {
    with_bench(|bench| {
        let v6 = Packet::new("[2001:db8::1]:1", "[2001:db8:9::1]:2").transport(Transport::Udp).build();
        let (none, first) = (vec![0; BUCKETS as usize], vec![1; BUCKETS as usize]);
        bench.publish_buckets(&first, &none);
        assert_eq!(bench.lan_in(LAN, &udp().build(), 0).counter, Counter::CacheMiss);
        let left = bench.lan_in(LAN, &v6, 0x1234_561f);
        assert_eq!((left.counter, left.mark, left.flow), (Counter::NoUplink, 0x1234_561f, None));
        bench.publish_buckets(&none, &first);
        bench.forget_flows();
        assert_eq!(bench.lan_in(LAN, &udp().build(), 0).counter, Counter::NoUplink);
        assert_eq!(bench.lan_in(LAN, &v6, 0).counter, Counter::CacheMiss);
        // Ids without a mark, and beyond the table.
        for id in [40, 63, 64, u32::MAX] {
            all_to(bench, id);
            bench.forget_flows();
            assert_eq!(bench.lan_in(LAN, &udp().build(), 0).counter, Counter::NoUplink, "{id}");
        }
    });
}

#[test]
fn bypassed_destinations_are_never_balanced() {
    fn outcome(bench: &mut Bench, destination: &str) -> Counter {
        let destination = (destination.parse::<std::net::IpAddr>().unwrap(), 80).into();
        let source = if matches!(destination, std::net::SocketAddr::V4(_)) { "192.0.2.1:1" } else { "[2001:db8::1]:1" };
        let packet = Packet::between(source.parse().unwrap(), destination).transport(Transport::Tcp(flag::SYN));
        bench.forget_flows();
        let outcome = bench.lan_in(LAN, &packet.build(), 0x1234_5600);
        assert_eq!(outcome.counter == Counter::Bypassed, outcome.mark == 0x1234_5600 && outcome.flow.is_none());
        outcome.counter
    }
    with_bench(|bench| {
        bench.set_bypass(&[
            "10.0.0.0/8",
            "10.1.0.0/16",
            "203.0.113.7/32",
            "fd00::/8",
            "fd00:1::/32",
            "2001:db8:7::7/128",
        ]);
        for inside in ["10.0.0.1", "10.1.2.3", "10.255.255.255", "203.0.113.7", "fd00::1", "fd00:1::1", "2001:db8:7::7"]
        {
            assert_eq!(outcome(bench, inside), Counter::Bypassed, "{inside}");
        }
        for outside in ["11.0.0.1", "9.255.255.255", "203.0.113.6", "203.0.113.8", "fc00::1", "2001:db8:7::8"] {
            assert_eq!(outcome(bench, outside), Counter::CacheMiss, "{outside}");
        }
        // The nested ones alone.
        bench.set_bypass(&["10.1.0.0/16", "fd00:1::/32"]);
        for (destination, expected) in [
            ("10.0.0.1", Counter::CacheMiss),
            ("10.1.2.3", Counter::Bypassed),
            ("203.0.113.7", Counter::CacheMiss),
            ("fd00::1", Counter::CacheMiss),
            ("fd00:1::1", Counter::Bypassed),
        ] {
            assert_eq!(outcome(bench, destination), expected, "{destination}");
        }
        bench.set_bypass(&["0.0.0.0/0"]);
        assert_eq!(outcome(bench, "11.0.0.1"), Counter::Bypassed);
        assert_eq!(outcome(bench, "fd00:1::1"), Counter::CacheMiss, "the other family");
        bench.set_bypass(&[]);
        assert_eq!(outcome(bench, "10.1.2.4"), Counter::CacheMiss);
    });
}

/// A connection that came in by an uplink from a bypassed network is answered by that uplink.
#[test]
fn what_was_learned_goes_before_the_bypass() {
    with_bench(|bench| {
        bench.set_bypass(&["198.51.100.0/24"]);
        bench.set_flow(key(&tcp(0)), cached(2, 1, now()));
        assert_eq!(bench.lan_in(LAN, &tcp(flag::SYN | flag::ACK).build(), 0).mark, of(2));
        assert_eq!(bench.lan_in(LAN, &tcp(flag::SYN).build(), 0).counter, Counter::Bypassed);
    });
}

#[test]
fn answers_teach_only_with_a_confirmed_mark() {
    with_bench(|bench| {
        let answer = tcp(flag::SYN | flag::ACK).reversed().build();
        for silent in [0, of(1), of(1) | MISSED, of(2), CONFIRMED, 1 | CONFIRMED, of(0) | CONFIRMED, of(0)] {
            assert_eq!(bench.lan_out(LAN, &answer, silent), (None, None), "{silent:#x}");
        }
        let learn = |bench: &mut Bench, mark| bench.lan_out(LAN, &answer, 0x1234_5600 | mark | CONFIRMED);
        let is = |flow: Option<Flow>, uplink| flow.is_some_and(|flow| (flow.uplink, flow.confirmed) == (uplink, 1));
        let (reason, flow) = learn(bench, of(2));
        assert!(reason == Some(Counter::Confirmed) && is(flow, 2), "{reason:?} {flow:?}");
        assert_eq!(learn(bench, of(2)).0, None, "known");
        let (reason, flow) = learn(bench, of(1));
        assert!(reason == Some(Counter::Corrected) && is(flow, 1), "{reason:?} {flow:?}");
        bench.set_uplink(1, |uplink| uplink.generation += 1);
        assert_eq!(learn(bench, of(1)).0, Some(Counter::Corrected), "stale");
        let packet = bench.lan_in(LAN, &tcp(flag::ACK).build(), 0);
        assert_eq!((packet.mark, packet.counter), (of(1), Counter::CacheHit), "what was learned is used");
    });
}

#[test]
fn an_answer_confirms_or_corrects_a_guess() {
    with_bench(|bench| {
        for (guess, connection, of_tcp) in [(1, 1, Counter::Confirmed), (1, 2, Counter::Corrected)] {
            all_to(bench, guess);
            for (device, packet, expected) in [
                (LAN, tcp(flag::ACK), of_tcp),
                (LAN, tcp(0).transport(Transport::Icmp(8, 40_000)), Counter::Confirmed),
                (
                    LAN,
                    Packet::new("[2001:db8::1]:1", "[2001:db8:9::1]:2").transport(Transport::Udp),
                    Counter::Confirmed,
                ),
                (BARE, Packet::new("8.0.0.1:1", "8.0.0.2:2").bare().transport(Transport::Sctp), Counter::Confirmed),
            ] {
                bench.forget_flows();
                bench.lan_in(device, &packet.build(), 0);
                let answer = packet.clone().reversed().build();
                let (reason, flow) = bench.lan_out(device, &answer, of(connection) | CONFIRMED);
                assert_eq!(reason, Some(expected), "{packet:?}");
                assert_eq!(flow.map(|flow| (flow.uplink, flow.confirmed)), Some((connection, 1)), "{packet:?}");
                assert_eq!(bench.lan_in(device, &packet.build(), 0).mark, of(connection), "{packet:?}");
            }
        }
    });
}

/// The kernel's own reports have a mark that says "confirmed" by chance: it shares its place with the room behind the data.
#[test]
fn multicast_is_no_answer() {
    with_bench(|bench| {
        for destination in ["224.0.0.22:0", "239.1.2.3:1", "255.255.255.255:67", "169.254.7.7:1"] {
            let report = Packet::new("192.0.2.254:0", destination).transport(Transport::Other(2));
            assert_eq!(bench.lan_out(LAN, &report.build(), 0xd4).0, None, "{destination}");
            assert_eq!(bench.lan_out(LAN, &report.build(), of(1) | CONFIRMED).0, None, "{destination}");
        }
        assert!(bench.model.flows.is_empty());
    });
}

/// An ICMP error belongs to another connection than its addresses say; a fragment has no ports.
#[test]
fn what_does_not_tell_its_connection_teaches_nothing() {
    with_bench(|bench| {
        let error = tcp(0).transport(Transport::Unreachable).reversed();
        for packet in [error, udp().reversed().fragment(185, false), udp().reversed().tag(0x8100, 5)] {
            assert_eq!(bench.lan_out(LAN, &packet.build(), of(1) | CONFIRMED).0, None, "{packet:?}");
        }
        assert!(bench.model.flows.is_empty());
    });
}
