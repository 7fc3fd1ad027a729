//! Pure: a walk through chain prerouting, rule by rule, with what each of them said.

use std::net::SocketAddr;

use ipnet::IpNet;
use pcc_ebpf::abi::{FlowKey, IPV4, IPV6, Settings, Step};
use pcc_ebpf::mangle::{self, Facts, Rules, Walk};
use pcc_ebpf::packet::{Details, Headers};

use super::compile::{Part, Place, Program};

/// The packet that is asked about: the first of a connection, or one whose connection has a mark.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The number of the device that it comes in by.
    pub device: u32,
    /// Source.
    pub source: SocketAddr,
    /// Destination, of the same family.
    pub destination: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// The connection's mark, if it has one already.
    pub connection: Option<u32>,
    /// What may differ between the packets of a flow.
    pub details: Details,
    /// Bytes of the IP packet.
    pub size: u32,
}

/// What one rule said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Index in [`crate::routeros::model::Model::mangle`].
    pub rule: usize,
    /// The matcher that failed, by index in the rule; `None`: all hold.
    pub failed: Option<usize>,
    /// The walk before the rule.
    pub before: Walk,
    /// The walk behind it.
    pub after: Walk,
}

/// A whole walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The rules that were tried, in order.
    pub visits: Vec<Visit>,
    /// The walk at its end.
    pub end: Walk,
    /// Our bits of the packet's mark.
    pub mark: u32,
}

/// The program with the members of its sets, as plain values.
pub struct Compiled<'a> {
    /// Steps and where they come from.
    pub program: &'a Program,
    /// The members of its sets.
    pub sets: &'a [(u32, Vec<IpNet>)],
}

impl Question {
    /// What the programs read from such a packet.
    pub fn headers(&self) -> Headers {
        let family = if self.source.is_ipv4() { IPV4 } else { IPV6 };
        let opens = self.protocol == pcc_ebpf::packet::protocol::TCP && self.connection.is_none();
        let mut key = FlowKey::new(self.source, self.destination, self.protocol);
        if !pcc_ebpf::flow::has_ports(key.protocol) {
            (key.source_port, key.destination_port) = (0, 0);
        }
        Headers { key, family, opens, cacheable: true, details: self.details }
    }
}

impl Compiled<'_> {
    /// Walks the rules for `question`. `nth` matchers count from their first packet, `random` ones hold.
    pub fn trace(&self, settings: &Settings, question: &Question) -> Trace {
        let headers = question.headers();
        let facts = Facts { headers, device: question.device, size: question.size, seed: settings.seed };
        let mut walk = Walk::new(settings, headers.family);
        if let Some(connection) = question.connection {
            (walk.connection, walk.began, walk.known) = (connection, connection, 1);
            walk.state = pcc_ebpf::abi::state::ESTABLISHED;
        }
        let mut visits: Vec<Visit> = Vec::new();
        loop {
            let place = self.place(walk.next);
            let before = walk;
            let more = mangle::advance(self, &facts, &mut walk);
            if let Some(Place { rule, part }) = place {
                let failed = match part {
                    Part::Matcher(matcher) => Some(matcher),
                    Part::Action => None,
                };
                // The last step of a rule that is reached is the one that says how it ended.
                match visits.last_mut().filter(|visit| visit.rule == rule && visit.failed.is_some()) {
                    Some(visit) => (visit.failed, visit.after) = (failed, walk),
                    None => visits.push(Visit { rule, failed, before, after: walk }),
                }
            }
            if !more {
                let mark = mangle::conclude(settings, &headers, question.device, &walk, 0).mark;
                return Trace { visits, end: walk, mark };
            }
        }
    }

    fn place(&self, step: u32) -> Option<Place> {
        *self.program.places.get(usize::try_from(step).ok()?)?
    }
}

impl Rules for Compiled<'_> {
    fn step(&self, index: u32) -> Option<Step> {
        self.program.steps.get(usize::try_from(index).ok()?).copied()
    }

    fn is_member(&self, set: u32, _: u32, address: &[u32; 4]) -> bool {
        let address = pcc_ebpf::flow::address(*address);
        let members = self.sets.iter().filter(|(number, _)| *number == set).flat_map(|(_, members)| members);
        members.into_iter().any(|prefix| prefix.contains(&address))
    }

    fn random(&self) -> u32 {
        0
    }

    fn count(&self, _: u32) -> u32 {
        0
    }
}
