//! The compiled walk beside a plain reading of the rules.

use std::net::{IpAddr, SocketAddr};

use pcc_ebpf::abi::{FlowKey, IPV4, IPV6, Settings};
use pcc_ebpf::flow;
use pcc_ebpf::mangle::{Facts, Rules, Walk, advance};
use pcc_ebpf::packet::{Details, Headers};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::config::rule::Members;

const HASH: HashFields = HashFields::BOTH_ADDRESSES;

/// A packet as a rule sees it.
#[derive(Clone, Copy, Debug)]
struct Packet {
    source: SocketAddr,
    destination: SocketAddr,
    protocol: u8,
    lan: usize,
}

impl Rules for Program {
    fn step(&self, index: u32) -> Option<Step> {
        self.steps.get(index as usize).copied()
    }
    fn is_member(&self, set: u32, _: u32, address: &[u32; 4]) -> bool {
        let address = flow::address(*address);
        self.sets.iter().any(|(number, nets)| *number == set && nets.iter().any(|net| net.contains(&address)))
    }
    fn random(&self) -> u32 {
        0
    }
    fn count(&self, _: u32) -> u32 {
        0
    }
}

/// The policy that the walk ends with, as the program in the kernel runs it.
fn walked(program: &Program, packet: Packet) -> u32 {
    let key = FlowKey::new(packet.source, packet.destination, packet.protocol);
    let family = if key.is_ipv4() { IPV4 } else { IPV6 };
    let headers = Headers { key, family, opens: true, cacheable: true, details: Details::default() };
    let [first_step4, first_step6] = program.first;
    let settings = Settings { first_step4, first_step6, ..Settings::default() };
    let facts = Facts { headers, device: device_number(packet.lan), size: 0, seed: 0 };
    let mut walk = Walk::new(&settings, family);
    while advance(program, &facts, &mut walk) {}
    walk.policy
}

/// The same, by reading the rules.
fn read(rules: &[Rule], packet: Packet) -> u32 {
    let Packet { source, destination, protocol, lan } = packet;
    let has_ports = flow::has_ports(u32::from(protocol));
    let matches = |rule: &&Rule| {
        rule.source.holds(|net| net.contains(&source.ip()))
            && rule.destination.holds(|net| net.contains(&destination.ip()))
            && rule.source_ports.holds(|range| has_ports && range.contains(&source.port()))
            && rule.destination_ports.holds(|range| has_ports && range.contains(&destination.port()))
            && rule.protocols.holds(|number| *number == protocol)
            && rule.interfaces.holds(|index| *index == lan)
    };
    let decision = rules.iter().find(matches).map(|rule| &rule.decision);
    match decision {
        None => POLICY_DEFAULT,
        Some(Decision::Main) => POLICY_MAIN,
        Some(Decision::Policy(policy)) => {
            let known = policies(rules, HASH);
            u32::try_from(known.iter().position(|known| known == policy).unwrap()).unwrap()
        }
    }
}

const PORTS: [u16; 5] = [0, 80, 443, 444, 65535];

/// Addresses are few, so that rules match often.
fn address() -> impl Strategy<Value = IpAddr> {
    (any::<bool>(), 0_u8..4, 0_u8..8).prop_map(|(v6, high, low)| {
        let text = if v6 { format!("2001:db8:{high}::{low}") } else { format!("10.{high}.0.{low}") };
        text.parse().unwrap()
    })
}

fn net() -> impl Strategy<Value = IpNet> {
    let v4 = prop_oneof![8 => 14_u8..=32, 1 => Just(0)];
    let v6 = prop_oneof![8 => 30_u8..=128, 1 => Just(0)];
    (address(), v4, v6)
        .prop_map(|(address, v4, v6)| IpNet::new(address, if address.is_ipv4() { v4 } else { v6 }).unwrap().trunc())
}

fn condition<T: Clone + std::fmt::Debug>(
    one: impl Strategy<Value = T> + Clone,
    most: usize,
) -> impl Strategy<Value = Condition<T>> {
    let sure = (vec(one.clone(), 0..most), vec(one, 0..2)).prop_map(|(any, none)| Condition { any, none });
    prop_oneof![2 => Just(Condition::ANYTHING), 1 => sure]
}

fn rule() -> impl Strategy<Value = Rule> {
    let nets = || {
        condition(net().boxed(), 8).prop_map(|Condition { any, none }| Condition {
            any: IpNet::aggregate(&any),
            none: IpNet::aggregate(&none),
        })
    };
    let ports = || {
        let range = (select(&PORTS[..]), select(&PORTS[..])).prop_map(|(a, b)| a.min(b)..=a.max(b));
        condition(range.boxed(), 3)
    };
    let decision = prop_oneof![
        1 => Just(Decision::Main),
        1 => Just(Decision::Policy(Policy::default_of(HASH))),
        4 => (1_u32..8).prop_map(|weight| Decision::Policy(Policy {
            members: Members::Group(vec![(0, weight), (1, 1)]),
            ..Policy::default_of(HASH)
        })),
    ];
    let numbers = (condition(select(vec![1, 6, 17, 47]), 3), condition(0_usize..3, 3));
    (nets(), nets(), ports(), ports(), numbers, decision).prop_map(
        |(source, destination, source_ports, destination_ports, (protocols, interfaces), decision)| Rule {
            name: None,
            source,
            destination,
            source_ports,
            destination_ports,
            protocols,
            interfaces,
            decision,
        },
    )
}

fn packet() -> impl Strategy<Value = Packet> {
    let ports = (select(&PORTS[..]), select(&PORTS[..]));
    let addresses = (address(), address()).prop_filter("one family", |(one, other)| one.is_ipv4() == other.is_ipv4());
    (addresses, ports, select(vec![1, 6, 17, 47]), 0_usize..3).prop_map(
        |((source, destination), (from, to), protocol, lan)| Packet {
            source: (source, from).into(),
            destination: (destination, to).into(),
            protocol,
            lan,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn the_walk_decides_as_the_rules_read(rules in vec(rule(), 0..12), packets in vec(packet(), 100)) {
        let (program, faults) = compile(&rules, HASH);
        for packet in packets {
            let wanted = read(&rules, packet);
            prop_assert_eq!(walked(&program, packet), wanted, "{:?}\n{:?}\n{:?}", packet, rules, program);
            let index = rules.iter().position(|rule| read(std::slice::from_ref(rule), packet) != POLICY_DEFAULT);
            if let Some(index) = index {
                prop_assert!(!faults.contains(&Fault::Never(index)), "rule {} matches {:?}", index, packet);
            }
        }
        for (at, step) in program.steps.iter().enumerate() {
            for target in [step.then as usize, step.otherwise as usize] {
                prop_assert!(target == 0 || target > at && target < program.steps.len());
            }
        }
    }
}

fn only(rule: Rule) -> Program {
    let (program, faults) = compile(&[rule], HASH);
    assert_eq!(faults, []);
    program
}

const ANY: Rule = Rule {
    name: None,
    source: Condition::ANYTHING,
    destination: Condition::ANYTHING,
    source_ports: Condition::ANYTHING,
    destination_ports: Condition::ANYTHING,
    protocols: Condition::ANYTHING,
    interfaces: Condition::ANYTHING,
    decision: Decision::Main,
};

#[test]
fn without_rules_there_is_no_walk() {
    assert_eq!(compile(&[], HASH).0.first, [0, 0]);
    let v4 = Condition { any: vec!["10.0.0.0/8".parse().unwrap()], none: vec![] };
    let [first4, first6] = only(Rule { source: v4, ..ANY }).first;
    assert!(first4 != 0 && first6 == 0, "a rule of one family leaves the other alone");
}

#[test]
fn many_prefixes_are_one_step_and_equal_ones_one_set() {
    let nets: Vec<IpNet> = (0..200).map(|i| format!("10.{i}.1.0/24").parse().unwrap()).collect();
    let condition = Condition { any: nets.clone(), none: vec![] };
    let program = only(Rule { source: condition.clone(), destination: condition, ..ANY });
    assert_eq!(program.sets, [(1, nets)]);
    assert_eq!(program.steps.len(), 1 + 3, "source, destination, decision");
}

#[test]
fn a_rule_that_everything_matches_is_one_step_a_family() {
    assert_eq!(only(ANY).steps.len(), 1 + 2);
    let (_, faults) = compile(&[ANY, ANY], HASH);
    assert_eq!(faults, [Fault::Shadowed(1)]);
}
