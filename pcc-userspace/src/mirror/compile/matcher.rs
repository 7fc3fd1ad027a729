//! Matchers → expressions.

use std::ops::RangeInclusive;

use pcc_ebpf::abi::Op;
use pcc_ebpf::flow;
use pcc_ebpf::packet::protocol;

use super::SetSource;
use super::context::{Context, has_protocol};
use super::expression::Expression;
use crate::mirror::names::Numbers;
use crate::routeros::model::matcher::Test;
use crate::routeros::model::route::MAIN;
use crate::routeros::{Severity, Span};

/// Id of the notes about matchers.
const ID: &str = "mirror-matcher";

impl Context<'_> {
    /// What the matcher `at` of `rule` asks, negation included; `None`, with a note, if it is refused.
    pub fn matcher(&mut self, rule: usize, at: usize) -> Option<Expression> {
        let model = self.model;
        let (owner, matcher) = (&model.mangle[rule], &model.mangle[rule].matchers[at]);
        let (span, negated) = (matcher.span, matcher.negated);
        let test = match &matcher.test {
            Test::InInterface(name) => self.in_interface(name, span)?,
            Test::InInterfaceList(list) => self.in_interface_list(list, span)?,
            Test::OutInterface(_) | Test::OutInterfaceList(_) => {
                let message = "before the routing decision no packet has an outgoing interface";
                return self.refuse(span, message, "match `in-interface`, or move the rule to chain=postrouting");
            }
            Test::SourceAddress(range) => self.range(owner.family, Op::SourcePrefix, *range, span)?,
            Test::DestinationAddress(range) => self.range(owner.family, Op::DestinationPrefix, *range, span)?,
            Test::SourceAddressList(list) => self.address_list(owner.family, Op::SourceSet, list, span)?,
            Test::DestinationAddressList(list) => self.address_list(owner.family, Op::DestinationSet, list, span)?,
            Test::SourceAddressType(types) => self.address_type(owner.family, Op::SourceSet, types, span)?,
            Test::DestinationAddressType(types) => self.address_type(owner.family, Op::DestinationSet, types, span)?,
            Test::ConnectionMark(mark) => self.mark(Op::ConnectionMark, mark.as_deref(), span)?,
            Test::PacketMark(mark) => self.mark(Op::PacketMark, mark.as_deref(), span)?,
            Test::RoutingMark(mark) => self.mark(Op::RoutingMark, mark.as_deref(), span)?,
            Test::ConnectionState(states) => return self.connection_state(states, negated, span),
            Test::ConnectionNatState { .. } => {
                let message = "`connection-nat-state` is not known yet where these rules run";
                return self.refuse(span, message, "mark the translated connections in chain=forward");
            }
            Test::Protocol(number) => Expression::test(Op::Protocol, u32::from(*number), 0),
            Test::SourcePort(ports) => self.ports(rule, &[Op::SourcePort], ports, negated, span),
            Test::DestinationPort(ports) => self.ports(rule, &[Op::DestinationPort], ports, negated, span),
            Test::AnyPort(ports) => self.ports(rule, &[Op::SourcePort, Op::DestinationPort], ports, negated, span),
            Test::TcpFlags { set, unset } => self.tcp_flags(set, unset, span)?,
            Test::TcpMss(_) => {
                let fix = "remove the rule, or match `tcp-mss` in chain=forward";
                return self.refuse(span, "`tcp-mss` is not looked at in prerouting", fix);
            }
            Test::PacketSize(sizes) => Expression::test(Op::Size, *sizes.start(), *sizes.end()),
            Test::Icmp { kind, codes } => {
                let codes = codes.clone().unwrap_or(0..=u8::MAX);
                let codes = [u32::from(*codes.start()), u32::from(*codes.end())];
                let guard = self.guard(rule, "icmp-options", negated, span, |number| {
                    matches!(number, protocol::ICMP | protocol::ICMPV6)
                });
                let protocols = [protocol::ICMP, protocol::ICMPV6]
                    .map(|number| Expression::test(Op::Protocol, u32::from(number), 0));
                let test = Expression::wide(Op::Icmp, u32::from(*kind), codes);
                if guard {
                    return Some(Expression::all([Expression::any(protocols), test.negated()]));
                }
                test
            }
            Test::IpsecPolicy { incoming: true, ipsec } if *ipsec == negated => {
                let message = "always holds: IPsec policies are not looked at";
                self.info(ID, span, message);
                return Some(Expression::ALWAYS);
            }
            Test::IpsecPolicy { .. } => {
                let message = "IPsec policies are not looked at in prerouting";
                return self.refuse(span, message, "remove the rule; only `ipsec-policy=in,none` can be taken over");
            }
            Test::Pcc(pcc) if pcc.remainder >= pcc.denominator => Expression::NEVER,
            Test::Pcc(pcc) if pcc.denominator == 1 => Expression::ALWAYS,
            Test::Pcc(pcc) => Expression::wide(Op::Pcc, pcc.fields.bits(), [pcc.denominator, pcc.remainder]),
            Test::Nth { every: 1, .. } => Expression::ALWAYS,
            Test::Nth { every, packet } => Expression::wide(Op::Nth, self.counter(rule, span)?, [*every, *packet]),
            Test::Random(percent) => Expression::test(Op::Random, u32::from(*percent), 0),
            Test::Dscp(dscp) => Expression::test(Op::Dscp, u32::from(*dscp), 0),
            Test::Ttl(text) => self.ttl(text, span)?,
            Test::Other { name, .. } => {
                return self.refuse(span, format!("`{name}` cannot be matched in prerouting"), instead(name));
            }
        };
        Some(if negated { test.negated() } else { test })
    }

    fn refuse(&mut self, span: Span, message: impl Into<String>, fix: &str) -> Option<Expression> {
        self.note(Severity::Error, ID, span, message, fix);
        None
    }

    fn mark(&mut self, op: Op, mark: Option<&str>, span: Span) -> Option<Expression> {
        let numbers: &Numbers = match op {
            Op::ConnectionMark => &self.names.connection,
            Op::PacketMark => &self.names.packet,
            _ => &self.names.routing,
        };
        let number = match mark {
            None => Some(0),
            Some(MAIN) if op == Op::RoutingMark => Some(0),
            Some(name) => numbers.get(name),
        };
        let Some(number) = number else {
            let message = format!("mark `{}` has no number", mark.unwrap_or_default());
            return self.refuse(span, message, "use a mark that some rule sets");
        };
        Some(Expression::test(op, number, 0))
    }

    /// A port of `ops` is one of `ports`. A packet without ports has none, and does not match the negation either.
    fn ports(
        &mut self,
        rule: usize,
        ops: &[Op],
        ports: &[RangeInclusive<u16>],
        negated: bool,
        span: Span,
    ) -> Expression {
        let test = |op: Op, range: &RangeInclusive<u16>| {
            Expression::test(op, u32::from(*range.start()), u32::from(*range.end()))
        };
        let one = Expression::any(ops.iter().flat_map(|op| ports.iter().map(|range| test(*op, range))));
        if self.guard(rule, "a port", negated, span, |number| flow::has_ports(u32::from(number))) {
            // The caller negates.
            let without = test(Op::SourcePort, &(0..=u16::MAX)).negated();
            return Expression::any([without, one]);
        }
        one
    }

    /// Whether a negated test needs to be guarded, because the rule does not name a protocol that has what is tested.
    fn guard(&mut self, rule: usize, what: &str, negated: bool, span: Span, wanted: impl Fn(u8) -> bool) -> bool {
        if has_protocol(&self.model.mangle[rule], wanted) {
            return false;
        }
        let message = format!("RouterOS matches {what} only with a protocol that has it; read as any such protocol");
        let fix = if what.contains("icmp") { "protocol=icmp" } else { "protocol=tcp" };
        self.note(Severity::Warning, ID, span, message, fix);
        negated
    }

    fn tcp_flags(&mut self, set: &[String], unset: &[String], span: Span) -> Option<Expression> {
        const FLAGS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
        let (mut mask, mut value) = (0, 0);
        for (names, bits) in [(set, u32::MAX), (unset, 0)] {
            for name in names {
                let Some(at) = FLAGS.iter().position(|flag| flag == name) else {
                    let message = format!("`{name}` is no TCP flag");
                    return self.refuse(span, message, "use fin, syn, rst, psh, ack, urg, ece, cwr");
                };
                let bit = 1 << at;
                if mask & bit != 0 && (value ^ bits) & bit != 0 {
                    // Both set and not set.
                    return Some(Expression::NEVER);
                }
                mask |= bit;
                value |= bit & bits;
            }
        }
        Some(Expression::test(Op::TcpFlags, mask, value))
    }

    fn ttl(&mut self, text: &str, span: Span) -> Option<Expression> {
        let (word, number) = text.split_once(':').unwrap_or(("equal", text));
        let range = |low: u8, high: u8| Expression::test(Op::Ttl, u32::from(low), u32::from(high));
        let number: Option<u8> = number.parse().ok();
        let test = number.and_then(|number| match word {
            "equal" => Some(range(number, number)),
            "not-equal" => Some(range(number, number).negated()),
            "less-than" => Some(number.checked_sub(1).map_or(Expression::NEVER, |most| range(0, most))),
            "greater-than" => Some(number.checked_add(1).map_or(Expression::NEVER, |least| range(least, u8::MAX))),
            _ => None,
        });
        if test.is_none() {
            let fix = "`ttl=equal:N`, `not-equal:N`, `less-than:N` or `greater-than:N`";
            return self.refuse(span, format!("`{text}` is no value for `ttl`"), fix);
        }
        test
    }

    /// A test of the addresses of `prefixes`: a step for each of a few, a set for many.
    pub fn prefixes(&mut self, op: Op, prefixes: Vec<ipnet::IpNet>) -> Expression {
        const FEW: usize = 4;
        if prefixes.len() <= FEW {
            return Expression::any(prefixes.into_iter().map(|net| Expression::prefix(op, net)));
        }
        let op = if op == Op::SourcePrefix { Op::SourceSet } else { Op::DestinationSet };
        self.set(op, SetSource::Prefixes(prefixes))
    }
}

/// What to do without the matcher `name`.
fn instead(name: &str) -> &'static str {
    match name {
        "fragment" => "remove it: connection tracking reassembles packets before mangle sees them",
        "layer7-protocol" | "content" | "tls-host" => "match addresses (`dst-address-list`) or ports instead",
        "hotspot" => "remove the rule: there is no HotSpot here",
        "routing-table" => "match `routing-mark`",
        "in-bridge-port" | "in-bridge-port-list" | "out-bridge-port" | "out-bridge-port-list" => "match the bridge",
        "src-mac-address" => "match `src-address` instead",
        "limit" | "dst-limit" | "connection-limit" | "connection-rate" | "connection-bytes" | "time" => {
            "remove the rule, or limit on the host in an nftables table of your own"
        }
        _ => "remove the rule, or match something else",
    }
}
