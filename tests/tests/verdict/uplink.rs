//! The uplink's side: which mark arriving packets get, and what is counted. Besides, what each program costs.

use pcc_ebpf::abi::{Counter, MarkLayout, Traffic, program};
use tests::packet::{Packet, Transport, flag};

use crate::bench::{LAN, STRANGER, Skb, WAN1, WAN2, with_bench};

const LAYOUT: MarkLayout = MarkLayout::DEFAULT;
const FOREIGN: u32 = 0xabcd_ef00;

fn packet() -> Packet {
    Packet::new("203.0.113.9:443", "198.18.1.2:40000").transport(Transport::Tcp(flag::ACK))
}

#[test]
fn what_comes_in_is_marked_with_its_uplink_and_counted() {
    with_bench(|bench| {
        // Marking asks nothing of the packet: fragments, ARP and noise get the mark as well.
        for bytes in [packet().build(), packet().fragment(9, true).build(), packet().ether_type(0x806).build()] {
            for (ifindex, uplink) in [(WAN1, 1), (WAN2, 2)] {
                for (segments, packets_in) in [(0, 1), (1, 1), (17, 17)] {
                    let skb = Skb { ifindex, mark: FOREIGN | 0x5f, segments, ..Skb::default() };
                    let (mark, traffic, counters) = bench.uplink(program::UPLINK_INGRESS, &skb, &bytes, uplink);
                    assert_eq!(mark, FOREIGN | LAYOUT.of(uplink));
                    let expected = Traffic { packets_in, bytes_in: bytes.len() as u64, ..Traffic::default() };
                    assert_eq!((traffic, counters), (expected, vec![]));
                }
            }
        }
    });
}

#[test]
fn what_leaves_is_counted_and_keeps_its_mark() {
    with_bench(|bench| {
        let bytes = packet().reversed().build();
        let (confirmed, missed) = (LAYOUT.confirmed(), LAYOUT.missed());
        for (mark, connections, relearned) in [
            (0, 0, false),
            (FOREIGN, 0, false),
            (FOREIGN | LAYOUT.of(1), 1, false),
            (FOREIGN | LAYOUT.of(1) | missed, 1, false),
            (FOREIGN | LAYOUT.of(1) | confirmed, 0, false),
            (FOREIGN | LAYOUT.of(1) | confirmed | missed, 0, true),
            // Another uplink's, no uplink's, and none at all: what the kernel's multicast reports have for a mark.
            (FOREIGN | LAYOUT.of(2), 0, false),
            (FOREIGN | LAYOUT.of(2) | confirmed | missed, 0, false),
            (FOREIGN | LAYOUT.of(0), 0, false),
            (0x14, 0, false),
            (0x01 | confirmed | missed, 0, false),
        ] {
            for (segments, packets_out) in [(0, 1), (3, 3)] {
                let skb = Skb { ifindex: WAN1, mark, segments, ..Skb::default() };
                let (after, traffic, counters) = bench.uplink(program::UPLINK_EGRESS, &skb, &bytes, 1);
                let bytes_out = bytes.len() as u64;
                assert_eq!(after, mark);
                assert_eq!(traffic, Traffic { packets_out, bytes_out, connections, ..Traffic::default() }, "{mark:#x}");
                assert_eq!(counters, if relearned { vec![Counter::Relearned] } else { vec![] }, "{mark:#x}");
            }
        }
    });
}

#[test]
fn a_device_that_nobody_declared_counts_for_no_uplink() {
    with_bench(|bench| {
        for name in [program::UPLINK_INGRESS, program::UPLINK_EGRESS] {
            let skb = Skb { ifindex: STRANGER, mark: FOREIGN | 0x81, ..Skb::default() };
            let seen = bench.uplink(name, &skb, &packet().build(), 1);
            assert_eq!(seen, (FOREIGN | 0x81, Traffic::default(), vec![Counter::UnknownDevice]));
        }
    });
}

/// `cargo test … -- --nocapture` prints it.
#[test]
fn the_cost_of_each_program() {
    with_bench(|bench| {
        let known = packet().reversed().build();
        let new = packet().reversed().transport(Transport::Tcp(flag::SYN)).build();
        let answer = packet().build();
        let confirmed = LAYOUT.of(1) | LAYOUT.confirmed();
        bench.lan_in(LAN, &known, 0);
        bench.lan_out(LAN, &answer, confirmed);
        for (what, name, device, packet, mark) in [
            ("cached", program::LAN_INGRESS, LAN, &known, 0),
            ("new", program::LAN_INGRESS, LAN, &new, 0),
            ("confirmed", program::LAN_EGRESS, LAN, &answer, confirmed),
            ("foreign", program::LAN_EGRESS, LAN, &answer, 0),
            ("any", program::UPLINK_INGRESS, WAN1, &answer, 0),
            ("any", program::UPLINK_EGRESS, WAN1, &known, confirmed),
            ("new", program::UPLINK_EGRESS, WAN1, &new, LAYOUT.of(1)),
        ] {
            let time = bench.time(name, device, packet, mark);
            println!("{name:12} {what:10} {:4} ns a packet", time.as_nanos());
        }
    });
}
