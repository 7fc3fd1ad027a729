//! Questions and answers: what the programs count of connections that begin.

use pcc_ebpf::abi::{Beat, Counter, IPV4, IPV6, MarkLayout, Pulse, program};
use tests::packet::{Packet, Transport, flag};

use crate::bench::{Bench, LAN, Skb, WAN1, WAN2, with_bench};

const LAYOUT: MarkLayout = MarkLayout::DEFAULT;
const V4: [&str; 2] = ["198.18.1.2:40000", "203.0.113.9:443"];
const V6: [&str; 2] = ["[2001:db8:1::2]:40000", "[2001:db8:9::9]:443"];

/// The first packet of a connection as it leaves, and that of its answer.
fn pair([local, remote]: [&str; 2], transport: Transport) -> [Packet; 2] {
    let question = Packet::new(local, remote).transport(transport);
    let answer = match transport {
        Transport::Tcp(_) => Transport::Tcp(flag::SYN | flag::ACK),
        Transport::Icmp(8, id) => Transport::Icmp(0, id),
        other => other,
    };
    [question.clone(), question.reversed().transport(answer)]
}

fn tcp(ends: [&str; 2]) -> [Packet; 2] {
    pair(ends, Transport::Tcp(flag::SYN))
}

/// Sends the first packet of a connection by uplink 1, and returns the connections that it counts as.
fn ask(bench: &mut Bench, packet: &Packet) -> u64 {
    let skb = Skb { ifindex: WAN1, ingress: LAN, mark: LAYOUT.of(1), ..Skb::default() };
    bench.uplink(program::UPLINK_EGRESS, &skb, &packet.build(), 1).1.connections
}

/// Lets an answer by `uplink` leave towards the LAN as the first of its flow.
fn answer(bench: &mut Bench, packet: &Packet, uplink: u32) {
    bench.forget_flows();
    let learned = bench.lan_out(LAN, &packet.build(), LAYOUT.of(uplink) | LAYOUT.confirmed());
    assert_eq!(learned.0, Some(Counter::Confirmed));
}

fn pulse(bench: &Bench, family: u32) -> Pulse {
    bench.plane.pulse(1, family).unwrap()
}

fn beat(asked: u64, answered: u64) -> Beat {
    Beat { asked, answered }
}

#[test]
fn who_used_to_answer_is_asked_once_until_he_answers() {
    with_bench(|bench| {
        for (family, ends) in [(IPV4, V4), (IPV6, V6)] {
            let [question, reply] = tcp(ends);
            assert_eq!(ask(bench, &question), 1);
            assert_eq!(pulse(bench, family), Pulse::default(), "it never answered");
            answer(bench, &reply, 1);
            assert_eq!(pulse(bench, family).tcp, beat(0, 1));
            for _ in 0..3 {
                ask(bench, &question);
                assert_eq!(pulse(bench, family).tcp, beat(1, 1), "repeated, or another connection");
            }
            answer(bench, &reply, 1);
            ask(bench, &question);
            assert_eq!(pulse(bench, family).tcp, beat(2, 2));
            assert_eq!(bench.plane.pulse(2, family).unwrap(), Pulse::default(), "the other uplink");
        }
        assert_eq!(pulse(bench, IPV4).other, Beat::default());
    });
}

#[test]
fn a_scan_of_dead_addresses_counts_nothing() {
    with_bench(|bench| {
        for host in 0..5000_u32 {
            let remote = format!("100.64.{}.{}:22", host / 250, host % 250 + 1);
            ask(bench, &tcp(["198.18.1.2:40000", &remote])[0]);
        }
        assert_eq!(pulse(bench, IPV4), Pulse::default());
        let [question, reply] = tcp(V4);
        answer(bench, &reply, 1);
        ask(bench, &question);
        assert_eq!(pulse(bench, IPV4).tcp, beat(1, 1), "the scan has driven nobody out");
    });
}

#[test]
fn datagrams_and_echoes_are_a_kind_of_their_own() {
    with_bench(|bench| {
        for (family, ends, echo) in [(IPV4, V4, Transport::Icmp(8, 7)), (IPV6, V6, Transport::Udp)] {
            let mut expected = Pulse::default();
            for transport in [Transport::Udp, echo, Transport::Sctp] {
                let [question, reply] = pair(ends, transport);
                answer(bench, &reply, 1);
                ask(bench, &question);
                ask(bench, &question);
                expected.other = beat(expected.other.asked + 1, expected.other.answered + 1);
                assert_eq!(pulse(bench, family), expected, "{transport:?}");
            }
            ask(bench, &tcp(ends)[0]);
            assert_eq!(pulse(bench, family), expected, "TCP never answered");
        }
    });
}

#[test]
fn only_what_begins_for_the_lan_is_a_question() {
    with_bench(|bench| {
        let [question, reply] = tcp(V4);
        answer(bench, &reply, 1);
        let before = pulse(bench, IPV4);
        let (syn, ack) = (question.build(), question.clone().transport(Transport::Tcp(flag::ACK)).build());
        let (ours, confirmed) = (LAYOUT.of(1), LAYOUT.confirmed());
        for (bytes, ingress, mark) in [
            // Answers to the router itself are not seen.
            (&syn, 0, ours),
            (&syn, LAN, ours | confirmed),
            (&syn, LAN, LAYOUT.of(2)),
            (&syn, LAN, 0),
            (&ack, LAN, ours | LAYOUT.missed()),
            (&question.clone().fragment(185, true).build(), LAN, ours),
        ] {
            let skb = Skb { ifindex: WAN1, ingress, mark, ..Skb::default() };
            bench.uplink(program::UPLINK_EGRESS, &skb, bytes, 1);
            assert_eq!(pulse(bench, IPV4), before, "{ingress} {mark:#x}");
        }
        ask(bench, &question);
        assert_eq!(pulse(bench, IPV4).tcp.asked, before.tcp.asked + 1);
    });
}

#[test]
fn only_the_first_answer_of_a_flow_counts_and_no_connection_from_outside() {
    with_bench(|bench| {
        let [question, reply] = tcp(V4);
        answer(bench, &reply, 1);
        for _ in 0..3 {
            assert_eq!(bench.lan_out(LAN, &reply.build(), LAYOUT.of(1) | LAYOUT.confirmed()).0, None);
        }
        assert_eq!(pulse(bench, IPV4).tcp, beat(0, 1));
        let inbound = question.reversed().build();
        bench.forget_flows();
        bench.lan_out(LAN, &inbound, LAYOUT.of(1) | LAYOUT.confirmed());
        assert_eq!(pulse(bench, IPV4).tcp, beat(0, 1));
    });
}

#[test]
fn headers_are_read_without_ethernet_as_well() {
    with_bench(|bench| {
        let [question, reply] = pair(["8.0.0.2:40000", "8.0.0.9:443"], Transport::Udp);
        answer(bench, &reply, 2);
        let skb = Skb { ifindex: WAN2, ingress: LAN, mark: LAYOUT.of(2), ..Skb::default() };
        bench.uplink(program::UPLINK_EGRESS, &skb, &question.bare().build(), 2);
        assert_eq!(bench.plane.pulse(2, IPV4).unwrap().other, beat(1, 1));
    });
}
