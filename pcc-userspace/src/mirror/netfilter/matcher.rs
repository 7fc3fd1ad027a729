//! Matchers of a rule as nft expressions.

use pcc_ebpf::abi::Field;

use super::Context;
use super::case::{Cases, addresses, among, within, word};
use super::chains::{Chain, Hook};
use super::header::{icmp, ports, protocol, protocols, tcp_flags, ttl, with_ports};
use super::interface::{self, Side};
use super::partition;
use super::refusal::Refusal;
use crate::routeros::Note;
use crate::routeros::model::matcher::{AddressType, ConnectionState, Matcher, Test};
use crate::routeros::model::rule::Rule;
use crate::routeros::model::values::AddressRange;
use crate::routeros::model::{Family, route::MAIN};

/// Lines that one rule may become.
const MOST_CASES: usize = 32;

/// The packets that all matchers of `rule` accept; `None` if nft cannot express one of them, which a note says. Those that
/// count come last, in RouterOS's order, because they see only what the others let through.
pub fn cases(context: &Context<'_>, chain: &Chain<'_>, rule: &Rule, notes: &mut Vec<Note>) -> Option<Cases> {
    let mut matchers: Vec<_> = rule.matchers.iter().collect();
    matchers.sort_by_key(|matcher| rank(&matcher.test));
    let protocols = protocols(rule);
    let mut all = match protocols.as_slice() {
        [] => Cases::always(),
        [number] => among("meta l4proto", &[number.to_string()], false),
        // nft refuses such a rule, which no packet matches.
        _ => Cases::never(),
    };
    let (mut complete, mut counted) = (true, false);
    for matcher in matchers {
        counted |= counts(&matcher.test);
        let refusal = match test(context, chain, rule, matcher, notes) {
            Ok(cases) if counted && all.len() * cases.len() > 1 => {
                let message = "these matchers take several nft rules, which would each count by themselves";
                Refusal::matcher(message, "split the rule: mark the packets, and count those with the mark")
            }
            Ok(cases) if all.len() * cases.len() > MOST_CASES => {
                Refusal::matcher(format!("the rule takes more than {MOST_CASES} nft rules"), "split the rule")
            }
            Ok(cases) => {
                all = all.and(&cases);
                continue;
            }
            Err(refusal) => refusal,
        };
        complete = false;
        notes.push(refusal.at(matcher.span));
    }
    complete.then_some(all)
}

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

fn test(
    context: &Context<'_>,
    chain: &Chain<'_>,
    rule: &Rule,
    matcher: &Matcher,
    notes: &mut Vec<Note>,
) -> Result<Cases, Refusal> {
    let (family, negated) = (rule.family, matcher.negated);
    let place = (negated, matcher.span);
    match &matcher.test {
        Test::InInterface(_) | Test::InInterfaceList(_) => Side::In.known(chain)?,
        Test::OutInterface(_) | Test::OutInterfaceList(_) => Side::Out.known(chain)?,
        _ => {}
    }
    let ip = word(family);
    let (names, fields) = (context.names, context.fields);
    let number = |name: &Option<String>, numbers: &crate::mirror::names::Numbers| match name {
        None => Some(0),
        Some(name) => numbers.get(name),
    };
    Ok(match &matcher.test {
        Test::InInterface(name) => interface::interface(context, Side::In, name, place, notes)?,
        Test::OutInterface(name) => interface::interface(context, Side::Out, name, place, notes)?,
        Test::InInterfaceList(name) => interface::list(context, Side::In, name, place, notes)?,
        Test::OutInterfaceList(name) => interface::list(context, Side::Out, name, place, notes)?,
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
            if !chain.only(hooks) {
                let message = "packets that come here by some chain have no IPsec policy of this direction";
                return Err(Refusal::matcher(message, "in: input, forward; out: forward, output, postrouting"));
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
fn mark(key: &str, field: Field, number: Option<u32>, negated: bool) -> Result<Cases, Refusal> {
    let number = number.ok_or_else(|| Refusal::matcher("the mark has no number", "use a mark that some rule sets"))?;
    let (mask, of) = (field.mask(), field.of(number));
    let relation = if negated { "!=" } else { "==" };
    // Without any marks every packet has none.
    Ok(if mask == 0 {
        Cases::constant(!negated)
    } else {
        Cases::one(format!("{key} mark & {mask:#x} {relation} {of:#x}"))
    })
}

fn address(side: &str, range: AddressRange, family: Family, negated: bool) -> Result<Cases, Refusal> {
    let texts = addresses([range], family);
    match texts.as_slice() {
        [] => {
            let message = format!("an address of the other family in a rule of `/{}`", family.menu());
            Err(Refusal::matcher(message, "move the rule to the other menu"))
        }
        [all] if all.ends_with("/0") => Ok(Cases::constant(!negated)),
        texts => Ok(among(&format!("{} {side}", word(family)), texts, negated)),
    }
}

fn address_type(side: &str, types: &[AddressType], negated: bool) -> Result<Cases, Refusal> {
    let word = |kind: &AddressType| match kind {
        AddressType::Unicast => Ok("unicast".to_owned()),
        AddressType::Local => Ok("local".to_owned()),
        AddressType::Broadcast => Ok("broadcast".to_owned()),
        AddressType::Multicast => Ok("multicast".to_owned()),
        AddressType::Blackhole => {
            let message = "the address type `blackhole` is not known where these rules run";
            Err(Refusal::matcher(message, "match the addresses of the blackhole routes"))
        }
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

/// Matchers that the model keeps as text.
fn other(context: &Context<'_>, chain: &Chain<'_>, name: &str, value: &str, negated: bool) -> Result<Cases, Refusal> {
    match name {
        "src-mac-address" => {
            Side::In.known(chain)?;
            let is_octet = |part: &str| part.len() == 2 && u8::from_str_radix(part, 16).is_ok();
            if value.split(':').count() != 6 || !value.split(':').all(is_octet) {
                let message = format!("`{value}` is no MAC address");
                return Err(Refusal::matcher(message, "six octets, such as 00:00:5E:00:53:01"));
            }
            Ok(among("ether saddr", &[value.to_ascii_lowercase()], negated))
        }
        "routing-table" => {
            let number = if value == MAIN { Some(0) } else { context.names.routing.get(value) };
            mark("meta", context.fields.routing, number, negated)
        }
        "limit" => limit(value, negated),
        _ => Err(Refusal::matcher(format!("`{name}` cannot be matched"), "remove the rule, or match something else")),
    }
}

/// `rate[/time],burst:packet`.
fn limit(value: &str, negated: bool) -> Result<Cases, Refusal> {
    let refusal = || {
        let message = format!("`{value}`: only limits of packets a second, minute, hour or day are possible");
        Refusal::matcher(message, "such as `limit=10/1m,5:packet`")
    };
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
