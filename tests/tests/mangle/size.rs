//! Large configurations: what they cost to put in force, and what a packet costs then.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use aya::programs::SchedClassifier;
use ipnet::IpNet;
use pcc_ebpf::abi::Counter;
use pcc_userspace::dataplane::Side;
use rustix::time::{ClockId, clock_gettime};
use tests::packet::{Packet, Transport, flag};

use crate::bench::{load, with_bench};
use crate::rules::Router;
use crate::script::script;

const RULES: u32 = 200;
const ENTRIES: u32 = 100_000;
/// A second is the aim; builds without optimization are slow.
const PATIENCE: Duration = Duration::from_secs(5);

/// Rules that all look at the packet and do not match, but the last.
fn many_rules(count: u32) -> String {
    let mut text = script(&Router { rules: Vec::new(), entries: Vec::new() });
    text.push_str("/ip firewall mangle\n");
    for rule in 0..count - 1 {
        let (third, fourth) = (rule / 250, rule % 250 + 1);
        let _ = writeln!(
            text,
            "add chain=prerouting in-interface-list=LAN src-address=10.0.0.0/24 dst-address=198.51.{third}.{fourth} \
             protocol=tcp dst-port=80,443 action=mark-connection new-connection-mark=wan1"
        );
    }
    text.push_str("add chain=prerouting connection-mark=no-mark action=mark-connection new-connection-mark=Wan1\n");
    text
}

/// Prints how long it takes. Only the time of the processor counts: others may be at work, too.
fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let busy = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let (start, before) = (Instant::now(), busy());
    let result = work();
    let (took, worked) = (start.elapsed(), busy() - before);
    println!("{what}: {:.1} ms, {:.1} ms of them at work", took.as_secs_f64() * 1e3, worked.as_secs_f64() * 1e3);
    assert!(worked < PATIENCE, "{what}: {worked:?}");
    result
}

/// The verifier gives up at a million; others than the one of this machine take other ways.
#[test]
fn the_verifier_has_far_to_go_to_its_limit() {
    const HALF: u32 = 500_000;
    with_bench(|bench| {
        for (name, _) in Side::ALL.into_iter().flat_map(Side::programs) {
            let program: &SchedClassifier = bench.plane.ebpf().program(name).unwrap().try_into().unwrap();
            let steps = program.info().unwrap().verified_instruction_count();
            println!("{name}: {steps:?} instructions verified");
            assert!(steps.is_none_or(|steps| steps < HALF), "{name}");
        }
    });
}

#[test]
fn two_hundred_rules_are_walked_once_a_flow() {
    with_bench(|bench| {
        let loaded = timed("reading and compiling 200 rules", || load(&many_rules(RULES), 0)).unwrap();
        println!("{} steps", loaded.program.steps.len());
        timed("putting 200 rules in force", || bench.publish(&loaded, 0));

        let tcp = |flags| Packet::new("10.0.0.2:40000", "203.0.113.9:443").transport(Transport::Tcp(flags));
        let walked = bench.count(Counter::Walked);
        let (_, walk) = bench.repeat("bridge1", &tcp(flag::SYN).build(), 0, 1000);
        assert_eq!(bench.count(Counter::Walked) - walked, 1000, "what begins a connection is walked");

        let ack = tcp(flag::ACK);
        let first = bench.run(&loaded, "bridge1", &ack.build(), 0).unwrap();
        assert_eq!((first.marks.connection, first.tentative), (Some("Wan1"), true));
        bench.leave(&loaded, "bridge1", &ack.clone().reversed().build(), Some("Wan1"));
        let again = bench.run(&loaded, "bridge1", &ack.build(), 0).unwrap();
        assert_eq!((again.marks.connection, again.tentative), (None, false), "no rule sets it: it is conntrack's");
        let (walked, hits) = (bench.count(Counter::Walked), bench.count(Counter::CacheHit));
        let (_, hit) = bench.repeat("bridge1", &ack.build(), 0, 1000);
        assert_eq!(bench.count(Counter::Walked), walked, "a flow is walked until its mark is settled");
        assert_eq!(bench.count(Counter::CacheHit) - hits, 1000);
        bench.publish(&load(&many_rules(1), 0).unwrap(), 0);
        bench.run(&loaded, "bridge1", &ack.build(), 0).unwrap();
        bench.leave(&loaded, "bridge1", &ack.clone().reversed().build(), Some("Wan1"));
        bench.run(&loaded, "bridge1", &ack.build(), 0).unwrap();
        let walked = bench.count(Counter::Walked);
        let (_, few) = bench.repeat("bridge1", &ack.build(), 0, 1000);
        assert_eq!(bench.count(Counter::Walked), walked);
        println!("{walk} ns a walk of 200 rules, {hit} ns from the cache, {few} ns with a single rule");
    });
}

#[test]
fn large_address_lists_are_put_in_force_at_once() {
    let addresses = |count: u32, shift: u32| -> Vec<IpNet> {
        let four = (0..count).map(|at| IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + at * 2 + shift)).into());
        let six = (0..count).map(|at| {
            let address = Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(at * 2 + shift) << 64);
            IpNet::new(address.into(), 64).unwrap()
        });
        four.chain(six).collect()
    };
    with_bench(|bench| {
        let half = ENTRIES / 2;
        timed("100,000 entries of both families", || bench.plane.set_sets(&[(3, addresses(half, 0))])).unwrap();
        timed("the same once more", || bench.plane.set_sets(&[(3, addresses(half, 0))])).unwrap();
        let mut one_more = addresses(half, 0);
        one_more.push("192.0.2.0/24".parse().unwrap());
        timed("one entry more", || bench.plane.set_sets(&[(3, one_more)])).unwrap();
        timed("all others", || bench.plane.set_sets(&[(3, addresses(half, 1))])).unwrap();
        timed("none", || bench.plane.set_sets(&[])).unwrap();
    });
}
