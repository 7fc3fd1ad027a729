//! Walks compiled steps, and rules as they are written, so that the two can be compared.

use std::net::IpAddr;

use ipnet::IpNet;
use pcc_ebpf::abi::{FlowKey, Op, Step, state};
use pcc_ebpf::{classify, flow};

use crate::mirror::compile::{Part, Program, compile};
use crate::mirror::names::{Devices, Names};
use crate::routeros::model::matcher::{AddressType, ConnectionState, Matcher, Test};
use crate::routeros::model::rule::{Action, Rule};
use crate::routeros::model::{Family, Model};
use crate::routeros::{Note, read};

pub const SEED: u32 = 7;

#[derive(Clone, Debug)]
pub struct Packet {
    pub interface: String,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub ports: (u16, u16),
    pub new: bool,
    pub flags: u32,
    pub size: u32,
    pub ttl: u32,
    pub dscp: u32,
    pub icmp: (u8, u8),
    pub marks: Marks,
}

/// Connection mark, packet mark, routing mark by name; empty for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    pub connection: String,
    pub packet: String,
    pub routing: String,
}

pub fn packet(interface: &str, source: &str, destination: &str) -> Packet {
    Packet {
        interface: interface.into(),
        source: source.parse().expect("an address"),
        destination: destination.parse().expect("an address"),
        protocol: 6,
        ports: (40_000, 443),
        new: true,
        flags: 2,
        size: 60,
        ttl: 64,
        dscp: 0,
        icmp: (8, 0),
        marks: Marks::default(),
    }
}

/// A script with everything that it becomes; every interface that it names or a packet uses is mapped.
pub struct Compiled {
    pub model: Model,
    pub names: Names,
    pub devices: Devices,
    pub program: Program,
    pub notes: Vec<Note>,
    pub members: Vec<(u32, Vec<IpNet>)>,
}

pub const INTERFACES: [&str; 4] = ["lan", "guest", "fibre", "cable"];
pub const LOCAL: [&str; 3] = ["10.0.0.1/32", "192.0.2.2/32", "2001:db8::1/128"];
pub const BROADCAST: &str = "10.0.0.255";

pub fn compiled(text: &str) -> Compiled {
    let model = Model::build(&read(text.as_bytes())).model;
    let map = INTERFACES.map(|name| (name.to_owned(), format!("{name}0"))).into();
    let (names, devices) = (Names::of(&model, &Names::default()), Devices::of(&model, &map, &Default::default()));
    let (program, notes) = compile(&model, &names, &devices);
    let local: Vec<IpNet> = LOCAL.iter().map(|net| net.parse().expect("a prefix")).collect();
    let members = program.members(&model, &local, &[BROADCAST.parse().expect("an address")]);
    Compiled { model, names, devices, program, notes, members }
}

impl Compiled {
    /// The marks behind the compiled program, and the lines of the rules that matched.
    pub fn walk(&self, packet: &Packet) -> (Marks, Vec<u32>) {
        let names = &self.names;
        let number = |numbers: &crate::mirror::names::Numbers, name: &str| numbers.get(name).unwrap_or(0);
        let mut connection = number(&names.connection, &packet.marks.connection);
        let mut mark = number(&names.packet, &packet.marks.packet);
        let mut routing = number(&names.routing, &packet.marks.routing);
        let mut matched = Vec::new();
        let v4 = packet.source.is_ipv4();
        let mut at = if v4 { self.program.first4 } else { self.program.first6 };
        while at != 0 {
            let step = &self.program.steps[at as usize];
            let place = self.program.places[at as usize].expect("a place");
            let mut holds = true;
            match op(step) {
                Op::MarkConnection => connection = step.low,
                Op::MarkPacket => mark = step.low,
                Op::MarkRouting => routing = step.low,
                Op::Pass => {}
                Op::ConnectionMark => holds = connection == step.low,
                Op::PacketMark => holds = mark == step.low,
                Op::RoutingMark => holds = routing == step.low,
                test => holds = self.holds(test, step, packet),
            }
            if place.part == Part::Action {
                matched.push(self.model.mangle[place.rule].span().line);
            }
            at = if holds { step.then } else { step.otherwise };
        }
        let name = |numbers: &crate::mirror::names::Numbers, number| numbers.name(number).unwrap_or("").to_owned();
        let marks = Marks {
            connection: name(&names.connection, connection),
            packet: name(&names.packet, mark),
            routing: name(&names.routing, routing),
        };
        (marks, matched)
    }

    fn holds(&self, test: Op, step: &Step, packet: &Packet) -> bool {
        let between = |value: u32| (step.low..=step.high).contains(&value);
        let prefix = |address: IpAddr| {
            let bits = |words| match flow::address(words) {
                IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
                IpAddr::V6(address) => u128::from(address),
            };
            (bits(flow::words(address)) ^ bits(step.words)).leading_zeros() >= step.low
        };
        let set = |address: IpAddr| {
            let (_, members) = self.members.iter().find(|(number, _)| *number == step.low).expect("a set");
            members.iter().any(|net| net.contains(&address))
        };
        let ported = flow::has_ports(u32::from(packet.protocol));
        match test {
            Op::Device => self.devices.get(&packet.interface).is_some_and(|device| device.number == step.low),
            Op::SourcePrefix => prefix(packet.source),
            Op::DestinationPrefix => prefix(packet.destination),
            Op::SourceSet => set(packet.source),
            Op::DestinationSet => set(packet.destination),
            Op::Protocol => u32::from(packet.protocol) == step.low,
            Op::SourcePort => ported && between(u32::from(packet.ports.0)),
            Op::DestinationPort => ported && between(u32::from(packet.ports.1)),
            Op::State => step.low & if packet.new { state::NEW } else { state::ESTABLISHED } != 0,
            Op::Pcc => {
                let fields = classify::HashFields::ALL.iter().find(|(_, fields)| fields.bits() == step.low);
                hash(packet, fields.expect("fields").1) % step.words[0] == step.words[1]
            }
            Op::TcpFlags => packet.protocol == 6 && packet.flags & step.low == step.high,
            Op::Size => between(packet.size),
            Op::Icmp => {
                matches!(packet.protocol, 1 | 58)
                    && u32::from(packet.icmp.0) == step.low
                    && (step.words[0]..=step.words[1]).contains(&u32::from(packet.icmp.1))
            }
            Op::Dscp => packet.dscp == step.low,
            Op::Ttl => between(packet.ttl),
            other => panic!("{other:?}"),
        }
    }

    /// The marks behind the rules as they are written.
    pub fn expected(&self, packet: &Packet) -> Marks {
        let mut marks = packet.marks.clone();
        self.chain("prerouting", packet, &mut marks);
        marks
    }

    /// Whether the walk goes on behind the chain.
    fn chain(&self, chain: &str, packet: &Packet, marks: &mut Marks) -> bool {
        let family = if packet.source.is_ipv4() { Family::V4 } else { Family::V6 };
        for rule in self.model.mangle.iter().filter(|rule| rule.family == family && rule.active()) {
            if rule.chain != chain || !rule.matchers.iter().all(|matcher| self.matches(rule, matcher, packet, marks)) {
                continue;
            }
            match &rule.action {
                Action::MarkConnection(mark) => marks.connection.clone_from(mark),
                Action::MarkPacket(mark) => marks.packet.clone_from(mark),
                Action::MarkRouting(mark) => marks.routing.clone_from(mark),
                Action::Jump(target) if !self.chain(target, packet, marks) => return false,
                Action::Return => return true,
                _ => {}
            }
            if rule.ends() {
                return false;
            }
        }
        true
    }

    fn matches(&self, rule: &Rule, matcher: &Matcher, packet: &Packet, marks: &Marks) -> bool {
        let ported = flow::has_ports(u32::from(packet.protocol));
        let listed = |list: &str, address: IpAddr| {
            let entries = self.model.address_lists.get(list).into_iter().flatten();
            entries
                .filter(|entry| !entry.disabled && entry.family == rule.family)
                .any(|entry| entry.addresses.is_some_and(|range| range.contains(address)))
        };
        let kind = |address: IpAddr| {
            let local = |net: &str| net.parse::<IpNet>().expect("a prefix").contains(&address);
            if LOCAL.iter().any(|net| local(net)) {
                AddressType::Local
            } else if address.is_multicast() {
                AddressType::Multicast
            } else if address.to_string() == BROADCAST || address.to_string() == "255.255.255.255" {
                AddressType::Broadcast
            } else {
                AddressType::Unicast
            }
        };
        let held = match &matcher.test {
            Test::InInterface(name) => packet.interface == *name,
            Test::InInterfaceList(list) => {
                crate::mirror::names::members(&self.model, list).is_some_and(|all| all.contains(&packet.interface))
            }
            Test::SourceAddress(range) => range.contains(packet.source),
            Test::DestinationAddress(range) => range.contains(packet.destination),
            Test::SourceAddressList(list) => listed(list, packet.source),
            Test::DestinationAddressList(list) => listed(list, packet.destination),
            Test::SourceAddressType(types) => types.contains(&kind(packet.source)),
            Test::DestinationAddressType(types) => types.contains(&kind(packet.destination)),
            Test::ConnectionMark(mark) => marks.connection == mark.clone().unwrap_or_default(),
            Test::PacketMark(mark) => marks.packet == mark.clone().unwrap_or_default(),
            Test::RoutingMark(mark) => marks.routing == mark.clone().unwrap_or_default(),
            Test::ConnectionState(states) => {
                states.contains(if packet.new { &ConnectionState::New } else { &ConnectionState::Established })
            }
            Test::Protocol(number) => packet.protocol == *number,
            Test::SourcePort(_) | Test::DestinationPort(_) | Test::AnyPort(_) if !ported => return false,
            Test::SourcePort(ports) => ports.iter().any(|range| range.contains(&packet.ports.0)),
            Test::DestinationPort(ports) => ports.iter().any(|range| range.contains(&packet.ports.1)),
            Test::AnyPort(ports) => {
                ports.iter().any(|range| range.contains(&packet.ports.0) || range.contains(&packet.ports.1))
            }
            Test::Pcc(pcc) => hash(packet, pcc.fields) % pcc.denominator == pcc.remainder,
            other => panic!("{other:?}"),
        };
        held != matcher.negated
    }
}

pub fn hash(packet: &Packet, fields: classify::HashFields) -> u32 {
    let key = FlowKey {
        source: flow::words(packet.source),
        destination: flow::words(packet.destination),
        source_port: packet.ports.0,
        destination_port: packet.ports.1,
        protocol: u32::from(packet.protocol),
    };
    classify::hash(&key, fields, SEED)
}

pub fn op(step: &Step) -> Op {
    const ALL: [Op; 24] = [
        Op::Device,
        Op::SourcePrefix,
        Op::DestinationPrefix,
        Op::SourceSet,
        Op::DestinationSet,
        Op::Protocol,
        Op::SourcePort,
        Op::DestinationPort,
        Op::ConnectionMark,
        Op::PacketMark,
        Op::RoutingMark,
        Op::State,
        Op::Pcc,
        Op::TcpFlags,
        Op::Size,
        Op::Icmp,
        Op::Dscp,
        Op::Ttl,
        Op::Random,
        Op::Nth,
        Op::MarkConnection,
        Op::MarkPacket,
        Op::MarkRouting,
        Op::Pass,
    ];
    *ALL.iter().find(|op| **op as u32 == step.op).expect("an op")
}
