//! Matchers of a rule as nft expressions.

use pcc_ebpf::abi::Field;
use pcc_ebpf::flow::has_ports;

use super::Context;
use super::case::{Cases, addresses, among, within, word};
use super::chains::{Chain, Hook};
use super::interface::{self, Side};
use super::partition;
use crate::routeros::model::matcher::{AddressType, ConnectionState, Matcher, Test};
use crate::routeros::model::rule::Rule;
use crate::routeros::model::values::AddressRange;
use crate::routeros::model::{Family, route::MAIN};

/// Lines that one rule may become.
const MOST_CASES: usize = 32;

/// A matcher that nft cannot express, and why.
pub type Refusal<'a> = (&'a Matcher, String);

/// The packets that all matchers of `rule` accept. Those that count come last, in RouterOS's order, because they see only
/// what the others let through.
pub fn cases<'a>(context: &Context<'_>, chain: &Chain<'_>, rule: &'a Rule) -> Result<Cases, Vec<Refusal<'a>>> {
    let mut matchers: Vec<_> = rule.matchers.iter().collect();
    matchers.sort_by_key(|matcher| rank(&matcher.test));
    let protocols = protocols(rule);
    let mut all = match protocols.as_slice() {
        [] => Cases::always(),
        [number] => among("meta l4proto", &[number.to_string()], false),
        // nft refuses such a rule, which no packet matches.
        _ => Cases::never(),
    };
    let mut refusals = Vec::new();
    for matcher in matchers {
        match test(context, chain, rule, matcher) {
            Ok(_) if counts(&matcher.test) && all.len() > 1 => {
                let reason = "next to these matchers it would take several nft rules, each with its own count";
                refusals.push((matcher, reason.to_owned()));
            }
            Ok(cases) if all.len() * cases.len() > MOST_CASES => {
                refusals.push((matcher, format!("the rule would take more than {MOST_CASES} nft rules")));
            }
            Ok(cases) => all = all.and(&cases),
            Err(reason) => refusals.push((matcher, reason)),
        }
    }
    if refusals.is_empty() { Ok(all) } else { Err(refusals) }
}

/// The protocol that all packets have that match `rule`, where its matchers tell.
pub fn protocol(rule: &Rule) -> Option<u8> {
    protocols(rule).first().copied()
}

/// The protocols that all matching packets must have.
fn protocols(rule: &Rule) -> Vec<u8> {
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

fn rank(test: &Test) -> u8 {
    match test {
        Test::Random(_) => 1,
        Test::Nth { .. } => 2,
        Test::Pcc(_) => 3,
        Test::Other { name, .. } if name == "limit" => 4,
        _ => 0,
    }
}

fn counts(test: &Test) -> bool {
    matches!(rank(test), 2 | 4)
}

fn test(context: &Context<'_>, chain: &Chain<'_>, rule: &Rule, matcher: &Matcher) -> Result<Cases, String> {
    let (family, negated) = (rule.family, matcher.negated);
    let ip = word(family);
    let (names, fields) = (context.names, context.fields);
    let number = |name: &Option<String>, numbers: &crate::mirror::names::Numbers| match name {
        None => Some(0),
        Some(name) => numbers.get(name),
    };
    Ok(match &matcher.test {
        Test::InInterface(name) => interface::interface(context, chain, Side::In, name, negated)?,
        Test::OutInterface(name) => interface::interface(context, chain, Side::Out, name, negated)?,
        Test::InInterfaceList(name) => interface::list(context, chain, Side::In, name, negated)?,
        Test::OutInterfaceList(name) => interface::list(context, chain, Side::Out, name, negated)?,
        Test::SourceAddress(range) => address("saddr", *range, family, negated)?,
        Test::DestinationAddress(range) => address("daddr", *range, family, negated)?,
        Test::SourceAddressList(name) => context.lists.test(family, name, "saddr", negated),
        Test::DestinationAddressList(name) => context.lists.test(family, name, "daddr", negated),
        Test::SourceAddressType(types) => address_type("saddr", types, negated)?,
        Test::DestinationAddressType(types) => address_type("daddr", types, negated)?,
        Test::ConnectionMark(name) => mark("ct", fields.connection, number(name, &names.connection), negated)?,
        Test::PacketMark(name) => mark("meta", fields.packet, number(name, &names.packet), negated)?,
        Test::RoutingMark(name) => {
            let name = name.clone().filter(|name| name != MAIN);
            mark("meta", fields.routing, number(&name, &names.routing), negated)?
        }
        Test::ConnectionState(states) => connection_state(states, negated),
        Test::ConnectionNatState { source, destination } => {
            // IPS_SRC_NAT and IPS_DST_NAT.
            let bits = if *source { 0x10 } else { 0 } | if *destination { 0x20 } else { 0 };
            Cases::one(format!("ct status & {bits:#x} {} 0", if negated { "==" } else { "!=" }))
        }
        Test::Protocol(_) if !negated => Cases::always(),
        Test::Protocol(number) => among("meta l4proto", &[number.to_string()], true),
        Test::SourcePort(ranges) => with_ports(rule, &ports("sport", ranges, negated)),
        Test::DestinationPort(ranges) => with_ports(rule, &ports("dport", ranges, negated)),
        Test::AnyPort(ranges) if negated => {
            with_ports(rule, &ports("sport", ranges, true).and(&ports("dport", ranges, true)))
        }
        Test::AnyPort(ranges) => {
            let source = ports("sport", ranges, false);
            let only_destination = ports("sport", ranges, true).and(&ports("dport", ranges, false));
            let either = source.iter().chain(only_destination.iter()).map(str::to_owned);
            with_ports(rule, &Cases::of(either))
        }
        Test::TcpFlags { set, unset } => tcp_flags(set, unset, negated)?,
        Test::TcpMss(range) => {
            let size = within("tcp option maxseg size", [(*range.start(), *range.end())], u16::MAX, negated);
            // A segment without the option is in no range.
            match (negated, size == Cases::always()) {
                (false, true) => Cases::one("tcp option maxseg exists"),
                (false, false) => size,
                (true, _) => {
                    let missing = "tcp option maxseg missing".to_owned();
                    Cases::of(size.iter().map(str::to_owned).chain([missing]))
                }
            }
        }
        Test::PacketSize(range) => within("meta length", [(*range.start(), *range.end())], u32::MAX, negated),
        Test::Icmp { kind, codes } => icmp(family, *kind, codes.as_ref(), negated),
        Test::IpsecPolicy { incoming, ipsec } => {
            let hooks: &[Hook] = if *incoming {
                &[Hook::Prerouting, Hook::Input, Hook::Forward]
            } else {
                &[Hook::Forward, Hook::Output, Hook::Postrouting]
            };
            if !chain.hooks.iter().all(|hook| hooks.contains(hook)) {
                return Err("this direction is not known in every chain that leads here".into());
            }
            let key = if *incoming { "meta secpath" } else { "rt ipsec" };
            Cases::one(format!("{key} {}", if *ipsec == negated { "missing" } else { "exists" }))
        }
        Test::Pcc(pcc) => partition::cases(pcc, family, protocol(rule), negated),
        Test::Nth { every, .. } if *every == 1 => Cases::constant(!negated),
        Test::Nth { every, packet } => among(&format!("numgen inc mod {every}"), &[(packet - 1).to_string()], negated),
        Test::Random(percent) => {
            Cases::one(format!("numgen random mod 100 {} {percent}", if negated { ">=" } else { "<" }))
        }
        Test::Dscp(dscp) => among(&format!("{ip} dscp"), &[dscp.to_string()], negated),
        Test::Ttl(text) => ttl(family, text, negated)?,
        Test::Other { name, value } => other(context, chain, name, value, negated)?,
    })
}

/// `field` of the mark that `key` names holds `number`.
fn mark(key: &str, field: Field, number: Option<u32>, negated: bool) -> Result<Cases, String> {
    let number = number.ok_or("no rule sets this mark")?;
    let (mask, of) = (field.mask(), field.of(number));
    let relation = if negated { "!=" } else { "==" };
    // Without any marks every packet has none.
    Ok(if mask == 0 {
        Cases::constant(!negated)
    } else {
        Cases::one(format!("{key} mark & {mask:#x} {relation} {of:#x}"))
    })
}

fn address(side: &str, range: AddressRange, family: Family, negated: bool) -> Result<Cases, String> {
    let texts = addresses([range], family);
    match texts.as_slice() {
        [] => Err("an address of the other family".into()),
        [all] if all.ends_with("/0") => Ok(Cases::constant(!negated)),
        texts => Ok(among(&format!("{} {side}", word(family)), texts, negated)),
    }
}

fn address_type(side: &str, types: &[AddressType], negated: bool) -> Result<Cases, String> {
    let word = |kind: &AddressType| match kind {
        AddressType::Unicast => Ok("unicast".to_owned()),
        AddressType::Local => Ok("local".to_owned()),
        AddressType::Broadcast => Ok("broadcast".to_owned()),
        AddressType::Multicast => Ok("multicast".to_owned()),
        AddressType::Blackhole => Err("nftables knows no address type `blackhole`".to_owned()),
    };
    let words = types.iter().map(word).collect::<Result<Vec<_>, _>>()?;
    Ok(among(&format!("fib {side} type"), &words, negated))
}

fn connection_state(states: &[ConnectionState], negated: bool) -> Cases {
    let word = |state: &ConnectionState| match state {
        ConnectionState::Invalid => "invalid",
        ConnectionState::Established => "established",
        ConnectionState::Related => "related",
        ConnectionState::New => "new",
        ConnectionState::Untracked => "untracked",
    };
    let words: Vec<String> = states.iter().map(|state| word(state).to_owned()).collect();
    among("ct state", &words, negated)
}

fn ports(side: &str, ranges: &[std::ops::RangeInclusive<u16>], negated: bool) -> Cases {
    within(&format!("th {side}"), ranges.iter().map(|range| (*range.start(), *range.end())), u16::MAX, negated)
}

/// Packets without ports pass no port matcher, negated or not.
fn with_ports(rule: &Rule, cases: &Cases) -> Cases {
    match protocol(rule) {
        None => Cases::one(format!("meta l4proto {PORTS}")).and(cases),
        Some(number) if has_ports(u32::from(number)) => cases.clone(),
        Some(_) => Cases::never(),
    }
}

fn tcp_flags(set: &[String], unset: &[String], negated: bool) -> Result<Cases, String> {
    let bit = |name: &String| match name.as_str() {
        "fin" => Ok(0x01),
        "syn" => Ok(0x02),
        "rst" => Ok(0x04),
        "psh" => Ok(0x08),
        "ack" => Ok(0x10),
        "urg" => Ok(0x20),
        "ece" => Ok(0x40),
        "cwr" => Ok(0x80),
        _ => Err(format!("`{name}` is no TCP flag")),
    };
    let bits = |names: &[String]| names.iter().try_fold(0_u8, |bits, name| Ok::<_, String>(bits | bit(name)?));
    // Here a `!` belongs to its word, and one before the value is the first word's.
    let (first, others) = set.split_at(usize::from(negated).min(set.len()));
    let (set, unset) = (bits(others)?, bits(unset)? | bits(first)?);
    if set & unset != 0 {
        return Ok(Cases::never());
    }
    Ok(Cases::one(format!("tcp flags & {:#x} == {set:#x}", set | unset)))
}

fn icmp(family: Family, kind: u8, codes: Option<&std::ops::RangeInclusive<u8>>, negated: bool) -> Cases {
    let protocol = if family == Family::V4 { "icmp" } else { "icmpv6" };
    let kinds = |negated| among(&format!("{protocol} type"), &[kind.to_string()], negated);
    let codes = codes.map_or((0, u8::MAX), |codes| (*codes.start(), *codes.end()));
    let with_code = kinds(false).and(&within(&format!("{protocol} code"), [codes], u8::MAX, negated));
    if !negated {
        return with_code;
    }
    Cases::of(kinds(true).iter().chain(with_code.iter()).map(str::to_owned))
}

fn ttl(family: Family, text: &str, negated: bool) -> Result<Cases, String> {
    let key = if family == Family::V4 { "ip ttl" } else { "ip6 hoplimit" };
    let (relation, value) = text.split_once(':').unwrap_or(("equal", text));
    let value: u8 = value.parse().map_err(|_| format!("`{text}` is no value for `ttl`"))?;
    let last = |value: u8| value.checked_sub(1).map(|last| (0, last));
    let (range, inverted) = match relation {
        "equal" => (Some((value, value)), false),
        "not-equal" => (Some((value, value)), true),
        "less-than" => (last(value), false),
        "greater-than" => (value.checked_add(1).map(|first| (first, u8::MAX)), false),
        _ => return Err(format!("`{text}` is no value for `ttl`")),
    };
    Ok(within(key, range, u8::MAX, negated != inverted))
}

/// Matchers that the model keeps as text.
fn other(context: &Context<'_>, chain: &Chain<'_>, name: &str, value: &str, negated: bool) -> Result<Cases, String> {
    match name {
        "src-mac-address" => {
            Side::In.known(chain)?;
            let is_octet = |part: &str| part.len() == 2 && u8::from_str_radix(part, 16).is_ok();
            if value.split(':').count() != 6 || !value.split(':').all(is_octet) {
                return Err(format!("`{value}` is no MAC address"));
            }
            Ok(among("ether saddr", &[value.to_ascii_lowercase()], negated))
        }
        "routing-table" => {
            let number = if value == MAIN { Some(0) } else { context.names.routing.get(value) };
            mark("meta", context.fields.routing, number, negated)
        }
        "limit" => limit(value, negated),
        _ => Err("nftables has no such matcher".into()),
    }
}

/// `rate[/time],burst:packet`.
fn limit(value: &str, negated: bool) -> Result<Cases, String> {
    let refusal = || format!("only limits of packets are possible, such as `10/1m,5:packet`, not `{value}`");
    let (rest, mode) = value.split_once(':').unwrap_or((value, "packet"));
    let (rate, burst) = rest.split_once(',').ok_or_else(refusal)?;
    let (count, time) = rate.split_once('/').unwrap_or((rate, "1s"));
    let unit = match time {
        "1s" | "1" | "sec" | "00:00:01" => "second",
        "1m" | "min" | "00:01:00" => "minute",
        "1h" | "hour" | "01:00:00" => "hour",
        "1d" | "day" => "day",
        _ => return Err(refusal()),
    };
    let (count, burst): (u32, u32) = (count.parse().map_err(|_| refusal())?, burst.parse().map_err(|_| refusal())?);
    if mode != "packet" || count == 0 || burst == 0 || count > 1_000_000 || burst > 1_000_000 {
        return Err(refusal());
    }
    let over = if negated { "over " } else { "" };
    Ok(Cases::one(format!("limit rate {over}{count}/{unit} burst {burst} packets")))
}
