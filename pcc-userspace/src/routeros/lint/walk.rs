//! A packet's walk through mangle, for the checks that ask what would happen.

use std::net::IpAddr;

use super::facts::Facts;
use crate::routeros::model::matcher::{AddressType, ConnectionState, Matcher, Test};
use crate::routeros::model::rule::{Action, Rule};

/// A port that a rule is unlikely to name.
const PORT: u16 = 47_113;
/// More hash values than this are not tried.
const MOST_BUCKETS: usize = 240;
/// Rules that one check may try altogether, over all hash values and networks.
const MOST_TRIALS: usize = 4_000_000;
/// Rules that one walk may try: chains that jump to each other could be endless.
const MOST_STEPS: usize = 20_000;

/// A TCP packet to be walked through a chain.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Empty in `output`.
    pub in_interface: String,
    /// Empty in `prerouting` and `input`.
    pub out_interface: String,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// The source is the router.
    pub from_router: bool,
    /// The destination is the router.
    pub to_router: bool,
    /// First packet of its connection.
    pub new: bool,
    /// The mark of its connection.
    pub connection_mark: Option<String>,
    /// What PCC's hash gives for it.
    pub hash: u32,
}

/// What a walk did.
#[derive(Clone, Debug, Default)]
pub struct Outcome<'a> {
    /// The connection's mark after it.
    pub connection_mark: Option<String>,
    /// The routing mark after it.
    pub routing_mark: Option<String>,
    /// The rule that set the connection mark.
    pub connection_rule: Option<&'a Rule>,
    /// The rule that set the routing mark.
    pub routing_rule: Option<&'a Rule>,
    /// The rule that ended it early.
    pub ended_by: Option<&'a Rule>,
}

impl Packet {
    /// The first packet of a connection from `source` to `destination`, not of the router on either side.
    pub fn new(in_interface: &str, source: IpAddr, destination: IpAddr) -> Self {
        Self {
            in_interface: in_interface.to_owned(),
            out_interface: String::new(),
            source,
            destination,
            from_router: false,
            to_router: false,
            new: true,
            connection_mark: None,
            hash: 0,
        }
    }

    /// The same to the router itself.
    #[must_use]
    pub fn into_router(self) -> Self {
        Self { to_router: true, ..self }
    }

    /// An answer or later packet of a connection with this mark.
    #[must_use]
    pub fn established(self, connection_mark: Option<String>) -> Self {
        Self { new: false, connection_mark, ..self }
    }

    /// The same with another hash.
    #[must_use]
    pub fn hashed(&self, hash: u32) -> Self {
        Self { hash, ..self.clone() }
    }
}

impl<'a> Facts<'a> {
    /// Walks `packet` through `chain` of IPv4 mangle. A matcher that depends on more than the packet says does not match.
    pub fn walk(&self, chain: &str, packet: &Packet) -> Outcome<'a> {
        let mut outcome = Outcome { connection_mark: packet.connection_mark.clone(), ..Outcome::default() };
        self.run(chain, packet, &mut outcome, &mut 0, 8);
        outcome
    }

    /// Hash values that tell all PCC rules of the configuration apart.
    pub fn hashes(&self) -> std::ops::Range<u32> {
        let common = self.pcc_rules().filter_map(Rule::pcc).fold(1_u32, |common, (pcc, _)| {
            let (mut a, mut b) = (common, pcc.denominator);
            while b != 0 {
                (a, b) = (b, a % b);
            }
            (common / a).saturating_mul(pcc.denominator)
        });
        let places = (self.lans.len() + self.uplinks.len()).max(1);
        let most = (MOST_TRIALS / (self.mangle.len().max(1) * places * places)).clamp(1, MOST_BUCKETS);
        0..common.min(u32::try_from(most).unwrap_or(u32::MAX))
    }

    /// `rule` matches `packet`, whose marks are those of `outcome`.
    pub fn matches(&self, rule: &Rule, packet: &Packet, outcome: &Outcome<'_>) -> bool {
        rule.matchers.iter().all(|matcher| self.holds(matcher, packet, outcome))
    }

    /// Returns whether the walk goes on behind the chain.
    fn run(&self, chain: &str, packet: &Packet, outcome: &mut Outcome<'a>, steps: &mut usize, depth: u32) -> bool {
        for rule in self.chains.get(chain).into_iter().flatten().copied() {
            *steps += 1;
            if *steps > MOST_STEPS {
                return false;
            }
            if !self.matches(rule, packet, outcome) {
                continue;
            }
            match &rule.action {
                Action::MarkConnection(mark) => {
                    outcome.connection_mark = (mark != "no-mark").then(|| mark.clone());
                    outcome.connection_rule = Some(rule);
                }
                Action::MarkRouting(mark) => {
                    outcome.routing_mark = Some(mark.clone());
                    outcome.routing_rule = Some(rule);
                }
                Action::Jump(target) => {
                    let goes_on = depth == 0 || self.run(target, packet, outcome, steps, depth - 1);
                    if !goes_on {
                        return false;
                    }
                }
                Action::Return => return true,
                _ => {}
            }
            if rule.ends() {
                outcome.ended_by = Some(rule);
                return false;
            }
        }
        true
    }

    fn holds(&self, matcher: &Matcher, packet: &Packet, outcome: &Outcome<'_>) -> bool {
        let test = match &matcher.test {
            Test::InInterface(name) => packet.in_interface == *name,
            Test::OutInterface(name) => packet.out_interface == *name,
            Test::InInterfaceList(list) => {
                !packet.in_interface.is_empty() && self.in_interface_list(&packet.in_interface, list)
            }
            Test::OutInterfaceList(list) => {
                !packet.out_interface.is_empty() && self.in_interface_list(&packet.out_interface, list)
            }
            Test::SourceAddress(range) => range.contains(packet.source),
            Test::DestinationAddress(range) => range.contains(packet.destination),
            Test::SourceAddressList(list) => self.in_address_list(packet.source, list),
            Test::DestinationAddressList(list) => self.in_address_list(packet.destination, list),
            Test::SourceAddressType(types) => types.contains(&address_type(packet.from_router)),
            Test::DestinationAddressType(types) => types.contains(&address_type(packet.to_router)),
            Test::ConnectionMark(mark) => outcome.connection_mark == *mark,
            Test::RoutingMark(mark) => outcome.routing_mark == *mark,
            Test::PacketMark(mark) => mark.is_none(),
            Test::ConnectionState(states) => {
                states.contains(if packet.new { &ConnectionState::New } else { &ConnectionState::Established })
            }
            Test::Protocol(number) => *number == 6,
            Test::SourcePort(ports) | Test::DestinationPort(ports) | Test::AnyPort(ports) => {
                ports.iter().any(|range| range.contains(&PORT))
            }
            Test::IpsecPolicy { ipsec, .. } => !ipsec,
            Test::Pcc(pcc) => packet.hash % pcc.denominator == pcc.remainder,
            // These may or may not hold; the walk is that of an ordinary packet.
            Test::ConnectionNatState { .. }
            | Test::TcpFlags { .. }
            | Test::TcpMss(_)
            | Test::PacketSize(_)
            | Test::Icmp { .. }
            | Test::Nth { .. }
            | Test::Random(_)
            | Test::Dscp(_)
            | Test::Ttl(_)
            | Test::Other { .. } => return false,
        };
        test != matcher.negated
    }
}

fn address_type(router: bool) -> AddressType {
    if router { AddressType::Local } else { AddressType::Unicast }
}
