//! Random rules, and random packets that about half of their matchers hold for.

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::fields::has_ports;
use crate::reference::{Mark, Packet};
use crate::rules::{Action, End, Entry, Kind, Matcher, Router, Rule, Test};
use crate::world::{
    ADDRESS_LISTS, ADDRESSES, CHAINS, CONNECTION_MARKS, ICMP_OPTIONS, INTERFACES, LIST_NAMES, NETS, PACKET_MARKS,
    PCC_FIELDS, PORT_RANGES, PORTS, PROTOCOLS, ROUTING_MARKS, TCP_FLAGS, address,
};

/// Rules, and packets to walk through them.
#[derive(Clone)]
pub struct Case {
    pub router: Router,
    /// Seed of PCC's hash, and where in the mark our bits are.
    pub seed: u32,
    pub packets: Vec<Sent>,
}

/// A packet, and what is not for rules to see.
#[derive(Clone)]
pub struct Sent {
    pub packet: Packet,
    /// The mark that its connection has when it is known.
    pub mark: Mark,
    /// Another one of its flow, by another interface perhaps.
    pub another: Packet,
    /// With IPv4 options, or with an IPv6 extension header.
    pub extended: bool,
    /// The mark that the packet comes with.
    pub dirt: u32,
}

/// Rules of both families with about `packets` packets.
pub fn case(packets: usize) -> impl Strategy<Value = Case> {
    let routers = (vec(rule(), 1..13), vec(entry(), 0..8)).prop_map(|(rules, entries)| router(rules, entries));
    (routers, any::<u32>(), vec(sent(), 1..2 * packets)).prop_map(|(router, seed, packets)| Case {
        router,
        seed,
        packets,
    })
}

/// `nth` counts and `random` throws dice: only one of them, or the counts would be unknown.
fn router(mut rules: Vec<Rule>, entries: Vec<Entry>) -> Router {
    let is_nth = |matcher: &Matcher| matches!(matcher.test, Test::Nth { .. });
    if rules.iter().flat_map(|rule| &rule.matchers).any(is_nth) {
        for rule in &mut rules {
            rule.matchers.retain(|matcher| !matches!(matcher.test, Test::Random(_)));
        }
    }
    Router { rules, entries }
}

fn entry() -> impl Strategy<Value = Entry> {
    (select(&ADDRESS_LISTS[..]), any::<bool>(), select(&NETS[..NETS.len() - 3]), prop::bool::weighted(0.1))
        .prop_map(|(list, ipv6, net, disabled)| Entry { list, ipv6, net, disabled })
}

fn rule() -> impl Strategy<Value = Rule> {
    let chain = prop_oneof![5 => Just(0), 1 => Just(1), 1 => Just(2), 1 => Just(3)];
    let action = prop_oneof![
        1 => Just(Action::Accept),
        4 => (1_usize..CHAINS.len()).prop_map(|at| Action::Jump(CHAINS[at])),
        2 => Just(Action::Return),
        1 => Just(Action::Passthrough),
        1 => Just(Action::Log),
        5 => select(&CONNECTION_MARKS[..]).prop_map(|mark| Action::Mark(Kind::Connection, mark)),
        4 => select(&PACKET_MARKS[..]).prop_map(|mark| Action::Mark(Kind::Packet, mark)),
        4 => select(&ROUTING_MARKS[..]).prop_map(|mark| Action::Mark(Kind::Routing, mark)),
    ];
    let flags = (prop::bool::weighted(0.4), prop::bool::weighted(0.25), prop::bool::weighted(0.05));
    let flags = (flags, prop::bool::weighted(0.8));
    let matcher = (prop::bool::weighted(0.4), test()).prop_map(|(negated, test)| Matcher { negated, test });
    (flags, chain, vec(matcher, 0..5), action).prop_map(
        |(((ipv6, ends, disabled), strict), chain, matchers, action)| {
            let action = match action {
                // Chains only lead to later ones.
                Action::Jump(_) if chain + 1 == CHAINS.len() => Action::Return,
                Action::Jump(target) if !CHAINS[chain + 1..].contains(&target) => Action::Jump(CHAINS[chain + 1]),
                action => action,
            };
            Rule { ipv6, chain: CHAINS[chain], matchers: sound(matchers, strict), action, passthrough: !ends, disabled }
        },
    )
}

/// Each property once; if `strict`, ports, flags and ICMP only with their protocols, as RouterOS demands it.
fn sound(drawn: Vec<Matcher>, strict: bool) -> Vec<Matcher> {
    let mut matchers: Vec<Matcher> = Vec::new();
    for mut matcher in drawn {
        if let Test::State(words) = &mut matcher.test
            && matcher.negated
            && !words.contains(&"new")
            && !words.contains(&"established")
        {
            // Related connections cannot be told from new ones, so that this is refused.
            *words = vec!["invalid"];
        }
        matcher.negated &= !matches!(matcher.test, Test::TcpFlags(_) | Test::Nth { .. } | Test::Random(_));
        if matchers.iter().all(|known| known.test.property() != matcher.test.property()) {
            matchers.push(matcher);
        }
    }
    if !strict {
        return matchers;
    }
    let asks = |matchers: &[Matcher], wanted: fn(&Test) -> bool| matchers.iter().any(|matcher| wanted(&matcher.test));
    let set = |matchers: &mut Vec<Matcher>, pair| {
        matchers.retain(|matcher| !matches!(matcher.test, Test::Protocol(_)));
        matchers.insert(0, Matcher { negated: false, test: Test::Protocol(pair) });
    };
    if asks(&matchers, |test| matches!(test, Test::TcpFlags(_))) {
        matchers.retain(|matcher| !matches!(matcher.test, Test::Icmp(_)));
        set(&mut matchers, PROTOCOLS[0]);
    } else if asks(&matchers, |test| matches!(test, Test::Icmp(_))) {
        matchers.retain(|matcher| !matches!(matcher.test, Test::Port(..)));
        set(&mut matchers, PROTOCOLS[2]);
    } else if asks(&matchers, |test| matches!(test, Test::Port(..))) {
        let with_ports = |matcher: &Matcher| matches!(matcher.test, Test::Protocol(["tcp" | "udp" | "sctp" | "6", _]));
        if !matchers.iter().any(|matcher| !matcher.negated && with_ports(matcher)) {
            let pair = PROTOCOLS[matchers.len() % 2];
            set(&mut matchers, pair);
        }
    }
    matchers
}

fn test() -> impl Strategy<Value = Test> {
    const KINDS: [&str; 4] = ["unicast", "local", "broadcast", "multicast"];
    const STATES: [&str; 5] = ["new", "established", "invalid", "related", "untracked"];
    const SIZES: [(u32, u32); 5] = [(0, 100), (101, 576), (577, 65_535), (100, 100), (576, 1400)];
    const RELATIONS: [&str; 4] = ["equal", "not-equal", "less-than", "greater-than"];
    let end = || prop_oneof![Just(End::Source), Just(End::Destination)];
    let mark = |kind, marks: &'static [&'static str]| {
        prop_oneof![1 => Just(None), 2 => select(marks).prop_map(Some)].prop_map(move |mark| Test::Mark(kind, mark))
    };
    let flags = subsequence(&TCP_FLAGS[..], 1..3);
    let flags = (flags, any::<u8>()).prop_map(|(names, bits)| {
        Test::TcpFlags(names.into_iter().enumerate().map(|(at, name)| (name, bits >> at & 1 == 0)).collect())
    });
    prop_oneof![
        3 => select(&INTERFACES[..]).prop_map(Test::InInterface),
        3 => select(&LIST_NAMES[..]).prop_map(Test::InInterfaceList),
        4 => (end(), select(&NETS[..])).prop_map(|(end, net)| Test::Address(end, net)),
        3 => (end(), select(&ADDRESS_LISTS[..])).prop_map(|(end, list)| Test::AddressList(end, list)),
        2 => (end(), subsequence(&KINDS[..], 1..3)).prop_map(|(end, kinds)| Test::AddressType(end, kinds)),
        5 => mark(Kind::Connection, &CONNECTION_MARKS),
        4 => mark(Kind::Packet, &PACKET_MARKS),
        4 => mark(Kind::Routing, &ROUTING_MARKS),
        3 => subsequence(&STATES[..], 1..4).prop_map(Test::State),
        3 => select(&PROTOCOLS[..]).prop_map(Test::Protocol),
        4 => (prop_oneof![Just(End::Source), Just(End::Destination), Just(End::Either)],
              subsequence(&PORT_RANGES[..], 1..3)).prop_map(|(end, ranges)| Test::Port(end, ranges)),
        2 => flags,
        2 => select(&SIZES[..]).prop_map(|(first, last)| Test::PacketSize(first, last)),
        2 => select(&ICMP_OPTIONS[..]).prop_map(Test::Icmp),
        5 => (select(&PCC_FIELDS[..]), 1_u32..5, 0_u32..4)
            .prop_map(|(fields, denominator, remainder)| Test::Pcc { fields, denominator, remainder }),
        1 => (1_u32..4, 0_u32..4).prop_map(|(every, packet)| Test::Nth { every, packet: packet % every + 1 }),
        1 => (1_u32..100).prop_map(Test::Random),
        2 => select(&[0, 46, 10][..]).prop_map(Test::Dscp),
        2 => (select(&RELATIONS[..]), select(&[64, 1, 255, 0][..])).prop_map(|(relation, ttl)| Test::Ttl(relation, ttl)),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    const FLAGS: [u8; 8] = [0x10, 0x02, 0x12, 0x18, 0x11, 0x04, 0xc2, 0x39];
    // Protocol, and for ICMP the type and code of either family.
    const PROTOCOLS: [u8; 10] = [6, 6, 6, 17, 17, 1, 1, 47, 132, 136];
    const ICMP: [([u8; 2], u8); 4] = [([8, 128], 0), ([3, 1], 3), ([0, 129], 0), ([3, 1], 4)];
    let headers = (select(&PROTOCOLS[..]), select(&ICMP[..]));
    let ports = (select(&PORTS[..]), select(&PORTS[..]));
    let rest = (select(&[0, 46, 10][..]), select(&[64, 63, 1, 255][..]), select(&[100, 101, 576, 1400][..]));
    let own = (prop::option::of(select(&CONNECTION_MARKS[..])), prop::bool::weighted(0.2), any::<u32>());
    let details = || (select(&INTERFACES[..]), select(&FLAGS[..]), rest.clone());
    let ends = (prop::bool::weighted(0.4), select(&ADDRESSES[..]), select(&ADDRESSES[..]), ports);
    (ends, headers, details(), prop::option::of(details()), own).prop_map(|(ends, headers, details, other, own)| {
        let (ipv6, source, destination, ports) = ends;
        let (protocol, (types, icmp_code)) = headers;
        let family = usize::from(ipv6);
        let number = if protocol == 1 && ipv6 { 58 } else { protocol };
        let with = |held: bool, value: u16| if held { value } else { 0 };
        let (interface, tcp_flags, (dscp, ttl, size)) = details;
        let packet = Packet {
            interface,
            source: address(source[family]),
            destination: address(destination[family]),
            protocol: number,
            source_port: with(has_ports(number), ports.0),
            destination_port: with(has_ports(number), ports.1),
            tcp_flags: if protocol == 6 { tcp_flags } else { 0 },
            icmp_type: if protocol == 1 { types[family] } else { 0 },
            icmp_code: if protocol == 1 { icmp_code } else { 0 },
            dscp,
            ttl,
            size,
        };
        let mut another = packet.clone();
        if let Some((interface, tcp_flags, (dscp, ttl, size))) = other {
            let tcp_flags = if protocol == 6 { tcp_flags } else { 0 };
            another = Packet { interface, tcp_flags, dscp, ttl, size, ..another };
        }
        Sent { packet, another, mark: own.0, extended: own.1, dirt: own.2 }
    })
}

impl fmt::Debug for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "seed {}\n{}", self.seed, self.router)?;
        self.packets.iter().try_for_each(|sent| writeln!(out, "{sent:?}"))
    }
}

impl fmt::Debug for Sent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "# {}{}", self.packet, if self.extended { ", with options" } else { "" })?;
        if self.another != self.packet {
            write!(out, "\n#   another one: {}", self.another)?;
        }
        self.mark.map_or(Ok(()), |mark| write!(out, "\n#   known as {mark}"))
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, source, destination, source_port, destination_port, dscp, ttl, size, .. } = self;
        write!(out, "{interface}: {source} port {source_port} > {destination} port {destination_port}")?;
        match self.protocol {
            1 | 58 => write!(out, ", ICMP {}:{}", self.icmp_type, self.icmp_code)?,
            6 => write!(out, ", TCP flags {:#04x}", self.tcp_flags)?,
            other => write!(out, ", protocol {other}")?,
        }
        write!(out, ", DSCP {dscp}, TTL {ttl}, {size} bytes")
    }
}
