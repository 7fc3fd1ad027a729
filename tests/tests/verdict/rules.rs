//! Rules in the kernel: random ones with random packets get what the pure walk and the pure choice say; and the life of those
//! who keep to an uplink.

use pcc_ebpf::abi::{BUCKETS, Counter, Device, MarkLayout, Policy, Sticky};
use pcc_ebpf::classify::HashFields;
use pcc_userspace::config::Config;
use pcc_userspace::config::file::Source;
use pcc_userspace::config::flags::ConfigFlags;
use pcc_userspace::policies::Table;
use pcc_userspace::rules::{Program, compile};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use tests::packet::{Packet, Transport, flag};

use crate::bench::{BARE, Bench, LAN, now, with_bench};
use crate::random::{bytes, runner};

const OFFICE: &str = "[lists]\nmany = ['8.0.0.0/32', '8.0.0.1', '8.0.0.3', '224.0.0.1', '9.0.0.0/8', '2001:db8:86dd::0', \
                      '2001:db8:86dd::1', '2001:db8:86dd::3', 'fe80::/10', '::ffff:0:0/112']\n";

/// Rules written in TOML, compiled.
fn program(rules: &str) -> Program {
    let text = format!("lan = ['lan', 'bare']\n{OFFICE}[[uplink]]\ndevice = 'a'\n[[uplink]]\ndevice = 'b'\n{rules}");
    let config = Config::build(&ConfigFlags::default(), Source { name: "test", text: &text });
    let config = config.unwrap_or_else(|error| panic!("{error}\n{text}"));
    compile(&config.rules, config.hash).0
}

/// A policy for each number up to the most that there can be; `uplink` says which has which bucket.
fn policies(policy: impl Fn(u32) -> Policy, uplink: impl Fn(u32, u32) -> u32) -> Vec<Table> {
    let table = |number| Table {
        policy: Policy { identity: number + 1, members: [u32::MAX; 2], ..policy(number) },
        buckets: [0, 1].map(|_| (0..BUCKETS).map(|bucket| uplink(number, bucket)).collect()),
    };
    (0..16).map(table).collect()
}

fn rule() -> impl Strategy<Value = String> {
    let conditions = vec![
        "source = ['8.0.0.0/31', '2001:db8:86dd::/127']",
        "source_port = ['1-2', 40000]",
        "destination = ['@many', '!8.0.0.1']",
        "destination_port = [1, '!3']",
        "protocol = ['tcp', 'udp', 132]",
        "interface = 'bare'",
    ];
    let negated = vec!["protocol = '!tcp'", "destination = '!@many'", "interface = '!lan'", "source_port = '!2'"];
    let decision = prop_oneof![
        1 => Just("use = 'main'".to_owned()),
        1 => Just("use = 'all'".to_owned()),
        3 => (1_u32..6).prop_map(|weight| format!("use = ['a:{weight}', 'b']")),
    ];
    let conditions = prop_oneof![3 => subsequence(conditions, 1..3), 1 => subsequence(negated, 1)];
    (conditions, decision)
        .prop_map(|(conditions, decision)| format!("[[rule]]\n{decision}\n{}\n", conditions.join("\n")))
}

#[test]
fn random_rules_get_the_pure_verdict() {
    with_bench(|bench| {
        for (ifindex, header_length, number) in [(LAN, 14, 1), (BARE, 0, 2)] {
            bench.set_device(ifindex, Device { uplink: 0, header_length, number, ..Device::default() });
        }
        let bench = std::cell::RefCell::new(bench);
        let fields = || select(HashFields::ALL.map(|(_, fields)| fields.bits()).to_vec());
        let case = (
            prop::collection::vec(rule(), 0..8),
            prop::collection::vec(bytes(), 40),
            (fields(), prop_oneof![Just(0), fields()], 0_u32..3, any::<u32>()),
        );
        let result = runner(60).run(&case, |(rules, packets, (hash_fields, sticky_fields, lifetime, seed))| {
            let mut bench = bench.borrow_mut();
            bench.set_settings(|settings| settings.seed = seed);
            bench.set_uplink(seed % 4, |uplink| uplink.generation += seed % 2);
            let policy = |_| Policy { hash_fields, sticky_fields, lifetime, ..Policy::default() };
            // Every fifth policy has no uplink, and some buckets have none.
            let uplink = |number, bucket| if number % 5 == 4 { 0 } else { (number + bucket + seed % 7) % 6 };
            bench.publish_rules(&program(&rules.concat()), &policies(policy, uplink));
            for (bare, packet) in packets {
                bench.lan_in(if bare { BARE } else { LAN }, &packet, seed);
            }
            Ok(())
        });
        result.unwrap_or_else(|failure| panic!("{failure}"));
        let bench = bench.into_inner();
        assert!(bench.model.sticky.len() > 50, "{} keep to an uplink", bench.model.sticky.len());
        for (reason, times) in bench.plane.counters().unwrap() {
            let expected = [Counter::CacheMiss, Counter::Sticky, Counter::FellBack, Counter::NotBalanced];
            assert!(!expected.contains(&reason) || times > 10, "{reason:?}: {times}");
        }
    });
}

fn syn(port: u16) -> Vec<u8> {
    Packet::new(&format!("192.0.2.1:{port}"), "198.51.100.8:443").transport(Transport::Tcp(flag::SYN)).build().to_vec()
}

/// Policy 1 gives everything to `uplink` and keeps sources together for ten seconds.
fn sticky_by_source(bench: &mut Bench, uplink: u32) {
    let policy = |_| Policy { hash_fields: 15, sticky_fields: 1, lifetime: 10, ..Policy::default() };
    let rules = program("[[rule]]\nuse = ['a', 'b']\n");
    bench.publish_rules(&rules, &policies(policy, |number, _| if number == 1 { uplink } else { 3 }));
}

#[test]
fn connections_keep_to_their_uplink_as_long_as_they_must() {
    with_bench(|bench| {
        let of = |uplink| MarkLayout::DEFAULT.of(uplink);
        let mut port = 1000;
        let mut next = |bench: &mut Bench| {
            port += 1;
            let outcome = bench.lan_in(LAN, &syn(port), 0);
            (outcome.mark, outcome.counter)
        };
        sticky_by_source(bench, 1);
        assert_eq!(next(bench), (of(1), Counter::CacheMiss));
        sticky_by_source(bench, 2);
        assert_eq!(next(bench), (of(1), Counter::Sticky));
        let (key, entry) = bench.model.sticky.iter().next().map(|(key, entry)| (*key, *entry)).unwrap();
        let seen = |seconds| Sticky { last_seen: now().wrapping_sub(seconds), first_seen: 1, ..entry };
        bench.set_sticky(key, Some(seen(9)));
        assert_eq!(next(bench), (of(1), Counter::Sticky));
        assert!(now() - bench.model.sticky[&key].last_seen <= 1, "it lives on");
        assert_eq!(bench.model.sticky[&key].first_seen, 1);
        bench.set_sticky(key, Some(seen(12)));
        assert_eq!(next(bench), (of(2), Counter::CacheMiss), "too long ago");
        assert_eq!(next(bench), (of(2), Counter::Sticky));
        bench.set_uplink(2, |uplink| uplink.generation += 1);
        sticky_by_source(bench, 1);
        bench.set_sticky(key, Some(Sticky { first_seen: 1, ..bench.model.sticky[&key] }));
        assert_eq!(next(bench), (of(1), Counter::CacheMiss), "the uplink died");
        bench.set_sticky(key, None);
        sticky_by_source(bench, 0);
        assert_eq!(next(bench), (of(3), Counter::FellBack));
        assert!(bench.model.sticky.is_empty(), "nobody keeps to where he fell");
    });
}

#[test]
fn a_cached_flow_is_not_walked() {
    with_bench(|bench| {
        let packet = |flags| Packet::new("192.0.2.1:9", "198.51.100.8:443").transport(Transport::Tcp(flags)).build();
        sticky_by_source(bench, 1);
        assert_eq!(bench.lan_in(LAN, &packet(flag::SYN), 0).counter, Counter::CacheMiss);
        let everything = |number, _| number;
        bench.publish_rules(&program("[[rule]]\nuse = 'main'\n"), &policies(|_| Policy::default(), everything));
        assert_eq!(bench.lan_in(LAN, &packet(flag::ACK), 0).counter, Counter::CacheHit, "it keeps its uplink");
        let left = bench.lan_in(LAN, &packet(flag::SYN), 0x1234_5678);
        assert_eq!((left.mark, left.counter), (0x1234_5678, Counter::NotBalanced));
    });
}
