//! What RouterOS does with a packet in chain prerouting of mangle, written from the description of its behaviour alone.

use std::net::IpAddr;

use crate::fields::{address_type, has_ports, icmp, in_list, in_net, pcc_key, protocol};
use crate::lookup3::lookup3;
use crate::rules::{Action, End, Kind, Matcher, Router, Rule, Test};
use crate::world::TCP_FLAGS;

/// A mark by its name.
pub type Mark = Option<&'static str>;

/// What rules can ask about a packet.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    pub interface: &'static str,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub source_port: u16,
    pub destination_port: u16,
    pub tcp_flags: u8,
    pub icmp_type: u8,
    pub icmp_code: u8,
    pub dscp: u8,
    pub ttl: u8,
    /// Bytes of the IP packet.
    pub size: u32,
}

/// What connection tracking says about the packet's connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Connection {
    pub mark: Mark,
    /// Answered, not new.
    pub established: bool,
}

/// What the router remembers between packets: how many came to each `nth` matcher.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    counts: Vec<u32>,
}

/// The marks that a packet leaves with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Marks {
    pub connection: Mark,
    pub packet: Mark,
    pub routing: Mark,
}

/// A walk through the rules.
pub struct Walk<'a> {
    router: &'a Router,
    packet: &'a Packet,
    seed: u32,
    memory: &'a mut Memory,
    established: bool,
    /// The dice that are left, one bit for each.
    dice: u32,
    /// The marks so far.
    pub marks: Marks,
    /// How many dice were thrown.
    pub thrown: u32,
    /// A rule has set the connection mark.
    pub written: bool,
    /// A rule that asks for the state, or for the connection mark before [`Self::written`], was come to.
    pub asked: bool,
    /// The rules that matched, in their order.
    pub matched: Vec<usize>,
    /// The rules that were come to, and whether they matched.
    pub reached: Vec<(usize, bool)>,
    /// The matchers that were looked at: rule, index, and whether what they test holds, negation included.
    pub looked_at: Vec<(usize, usize, bool)>,
}

/// Walks `packet` of `connection` through the rules. A `random` matcher holds if the next bit of `dice` is set.
pub fn walk<'a>(
    router: &'a Router,
    seed: u32,
    memory: &'a mut Memory,
    packet: &'a Packet,
    connection: Connection,
    dice: u32,
) -> Walk<'a> {
    memory.counts.resize(router.rules.len(), 0);
    let mut walk = Walk {
        router,
        packet,
        seed,
        memory,
        established: connection.established,
        dice,
        marks: Marks { connection: connection.mark, packet: None, routing: None },
        thrown: 0,
        written: false,
        asked: false,
        matched: Vec::new(),
        reached: Vec::new(),
        looked_at: Vec::new(),
    };
    walk.chain("prerouting");
    walk
}

impl Walk<'_> {
    /// Goes through a chain; false if the walk has ended.
    fn chain(&mut self, chain: &str) -> bool {
        let router = self.router;
        for (at, rule) in router.rules.iter().enumerate() {
            if rule.chain != chain || rule.disabled || rule.ipv6 != self.packet.source.is_ipv6() {
                continue;
            }
            let holds = self.matches(at, rule);
            self.reached.push((at, holds));
            if !holds {
                continue;
            }
            self.matched.push(at);
            match &rule.action {
                Action::Accept => return false,
                Action::Return => return true,
                Action::Passthrough | Action::Log => {}
                Action::Jump(target) => {
                    if !self.chain(target) {
                        return false;
                    }
                }
                Action::Mark(kind, mark) => {
                    match kind {
                        Kind::Connection => {
                            self.marks.connection = Some(*mark);
                            self.written = true;
                        }
                        Kind::Packet => self.marks.packet = Some(*mark),
                        Kind::Routing => self.marks.routing = Some(*mark),
                    }
                    if !rule.passthrough {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// All matchers hold, looked at in RouterOS's order up to the first that does not.
    fn matches(&mut self, at: usize, rule: &Rule) -> bool {
        self.asked |= rule.matchers.iter().any(|matcher| match matcher.test {
            Test::State(_) => true,
            Test::Mark(Kind::Connection, _) => !self.written,
            _ => false,
        });
        let mut order: Vec<(usize, &Matcher)> = rule.matchers.iter().enumerate().collect();
        order.sort_by_key(|(_, matcher)| place(&matcher.test));
        order.into_iter().all(|(index, matcher)| {
            let holds = self.holds(at, &matcher.test, matcher.negated);
            self.looked_at.push((at, index, holds));
            holds
        })
    }

    fn holds(&mut self, at: usize, test: &Test, negated: bool) -> bool {
        let packet = self.packet;
        let ipv6 = packet.source.is_ipv6();
        let own = |pair: &[&'static str; 2]| pair[usize::from(ipv6)];
        let end = |end: End| if end == End::Source { packet.source } else { packet.destination };
        let holds = match test {
            Test::InInterface(name) => packet.interface == *name,
            Test::InInterfaceList(list) => in_list(list, packet.interface),
            Test::Address(which, net) => in_net(own(net), end(*which)),
            Test::AddressList(which, list) => self.router.entries.iter().any(|entry| {
                entry.list == *list && entry.ipv6 == ipv6 && !entry.disabled && in_net(own(&entry.net), end(*which))
            }),
            Test::AddressType(which, types) => types.contains(&address_type(end(*which))),
            Test::Mark(Kind::Connection, mark) => self.marks.connection == *mark,
            Test::Mark(Kind::Packet, mark) => self.marks.packet == *mark,
            Test::Mark(Kind::Routing, mark) => self.marks.routing == *mark,
            Test::State(states) => states.contains(&if self.established { "established" } else { "new" }),
            Test::Protocol(name) => packet.protocol == protocol(own(name)),
            Test::Port(which, ranges) => {
                let is_in = |port: u16| ranges.iter().any(|(first, last)| (*first..=*last).contains(&port));
                // Negated or not: what has no ports does not match.
                return has_ports(packet.protocol)
                    && negated
                        != match which {
                            End::Source => is_in(packet.source_port),
                            End::Destination => is_in(packet.destination_port),
                            End::Either => is_in(packet.source_port) || is_in(packet.destination_port),
                        };
            }
            Test::TcpFlags(flags) => {
                let is_set = |flag: &str| {
                    TCP_FLAGS.iter().position(|name| *name == flag).is_some_and(|bit| packet.tcp_flags >> bit & 1 == 1)
                };
                packet.protocol == 6 && flags.iter().all(|(flag, wanted)| is_set(flag) == *wanted)
            }
            Test::PacketSize(first, last) => (*first..=*last).contains(&packet.size),
            Test::Icmp(options) => {
                let is_icmp = packet.protocol == protocol(own(&["icmp", "icmpv6"]));
                return is_icmp && negated != icmp(own(options), packet.icmp_type, packet.icmp_code);
            }
            Test::Pcc { fields, denominator, remainder } => {
                lookup3(&pcc_key(packet, fields), self.seed) % denominator == *remainder
            }
            Test::Nth { every, packet } => {
                let before = self.memory.counts[at];
                self.memory.counts[at] += 1;
                before % every + 1 == *packet
            }
            Test::Random(_) => {
                let holds = self.dice & 1 == 1;
                self.dice >>= 1;
                self.thrown += 1;
                holds
            }
            Test::Dscp(dscp) => packet.dscp == *dscp,
            Test::Ttl("equal", ttl) => packet.ttl == *ttl,
            Test::Ttl("not-equal", ttl) => packet.ttl != *ttl,
            Test::Ttl("less-than", ttl) => packet.ttl < *ttl,
            Test::Ttl(_, ttl) => packet.ttl > *ttl,
        };
        holds != negated
    }
}

/// Only the last ones have effects: a packet that does not come to `nth` is not counted there.
const fn place(test: &Test) -> u32 {
    match test {
        Test::Random(_) => 1,
        Test::Nth { .. } => 2,
        Test::Pcc { .. } => 3,
        _ => 0,
    }
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;
