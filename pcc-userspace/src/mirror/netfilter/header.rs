//! Matchers of protocols and their headers.

use std::ops::RangeInclusive;

use pcc_ebpf::flow::has_ports;

use super::case::{Cases, among, within};
use super::refusal::Refusal;
use crate::routeros::model::Family;
use crate::routeros::model::matcher::{Matcher, Test};
use crate::routeros::model::rule::Rule;

/// The protocol that all packets have that match `rule`, where its matchers tell.
pub fn protocol(rule: &Rule) -> Option<u8> {
    protocols(rule).first().copied()
}

/// The protocols that all matching packets must have.
pub fn protocols(rule: &Rule) -> Vec<u8> {
    let implied = |matcher: &Matcher| match matcher.test {
        Test::Protocol(number) if !matcher.negated => Some(number),
        Test::TcpFlags { .. } | Test::TcpMss(_) => Some(6),
        Test::Icmp { .. } => Some(if rule.family == Family::V4 { 1 } else { 58 }),
        _ => None,
    };
    let mut protocols: Vec<_> = rule.matchers.iter().filter_map(implied).collect();
    protocols.sort_unstable();
    protocols.dedup();
    protocols
}

/// The protocols that have ports.
pub const PORTS: &str = "{ 6, 17, 33, 132, 136 }";

/// The port `sport` or `dport` is in one of `ranges`.
pub fn ports(side: &str, ranges: &[RangeInclusive<u16>], negated: bool) -> Cases {
    within(&format!("th {side}"), ranges.iter().map(|range| (*range.start(), *range.end())), u16::MAX, negated)
}

/// Packets without ports pass no port matcher, negated or not.
pub fn with_ports(rule: &Rule, cases: &Cases) -> Cases {
    match protocol(rule) {
        None => Cases::one(format!("meta l4proto {PORTS}")).and(cases),
        Some(number) if has_ports(u32::from(number)) => cases.clone(),
        Some(_) => Cases::never(),
    }
}

/// The flags `set` are set, and those of `unset` are not.
pub fn tcp_flags(set: &[String], unset: &[String], negated: bool) -> Result<Cases, Refusal> {
    let bit = |name: &String| match name.as_str() {
        "fin" => Ok(0x01),
        "syn" => Ok(0x02),
        "rst" => Ok(0x04),
        "psh" => Ok(0x08),
        "ack" => Ok(0x10),
        "urg" => Ok(0x20),
        "ece" => Ok(0x40),
        "cwr" => Ok(0x80),
        _ => {
            let message = format!("`{name}` is no TCP flag");
            Err(Refusal::matcher(message, "use fin, syn, rst, psh, ack, urg, ece, cwr"))
        }
    };
    let bits = |names: &[String]| names.iter().try_fold(0_u8, |bits, name| Ok(bits | bit(name)?));
    // Here a `!` belongs to its word, and one before the value is the first word's.
    let (first, others) = set.split_at(usize::from(negated).min(set.len()));
    let (set, unset) = (bits(others)?, bits(unset)? | bits(first)?);
    if set & unset != 0 {
        return Ok(Cases::never());
    }
    Ok(Cases::one(format!("tcp flags & {:#x} == {set:#x}", set | unset)))
}

/// ICMP of the family, of a type and with one of some codes.
pub fn icmp(family: Family, kind: u8, codes: Option<&RangeInclusive<u8>>, negated: bool) -> Cases {
    let protocol = if family == Family::V4 { "icmp" } else { "icmpv6" };
    let kinds = |negated| among(&format!("{protocol} type"), &[kind.to_string()], negated);
    let codes = codes.map_or((0, u8::MAX), |codes| (*codes.start(), *codes.end()));
    let with_code = kinds(false).and(&within(&format!("{protocol} code"), [codes], u8::MAX, negated));
    if !negated {
        return with_code;
    }
    Cases::of(kinds(true).iter().chain(with_code.iter()).map(str::to_owned))
}

/// `equal:64`, `not-equal:64`, `less-than:2`, `greater-than:2`.
pub fn ttl(family: Family, text: &str, negated: bool) -> Result<Cases, Refusal> {
    let key = if family == Family::V4 { "ip ttl" } else { "ip6 hoplimit" };
    let (relation, value) = text.split_once(':').unwrap_or(("equal", text));
    let refusal = || {
        let fix = "`ttl=equal:N`, `not-equal:N`, `less-than:N` or `greater-than:N`";
        Refusal::matcher(format!("`{text}` is no value for `ttl`"), fix)
    };
    let value: u8 = value.parse().map_err(|_| refusal())?;
    let last = |value: u8| value.checked_sub(1).map(|last| (0, last));
    let (range, inverted) = match relation {
        "equal" => (Some((value, value)), false),
        "not-equal" => (Some((value, value)), true),
        "less-than" => (last(value), false),
        "greater-than" => (value.checked_add(1).map(|first| (first, u8::MAX)), false),
        _ => return Err(refusal()),
    };
    Ok(within(key, range, u8::MAX, negated != inverted))
}
