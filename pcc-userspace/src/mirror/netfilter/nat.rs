//! Actions of the menu `firewall nat`.

use ipnet::IpNet;

use super::case::{addresses, word};
use super::chains::{Chain, Hook};
use super::header::protocol;
use super::refusal::Refusal;
use crate::routeros::model::Family;
use crate::routeros::model::rule::{Action, Rule, Translation};
use crate::routeros::model::values::{AddressRange, range};
use pcc_ebpf::flow::has_ports;

const SOURCE: [Hook; 2] = [Hook::Postrouting, Hook::Input];
const DESTINATION: [Hook; 2] = [Hook::Prerouting, Hook::Output];

/// The statement that translates, or why there is none.
pub fn statement(chain: &Chain<'_>, rule: &Rule, action: &str) -> Result<String, Refusal> {
    let (source, destination) = (chain.only(&SOURCE), chain.only(&DESTINATION));
    let wrong = || {
        let message = format!("packets come here by some chain where `{action}` is not possible");
        let fix = "sources are translated in srcnat (and input), destinations in dstnat (and output)";
        Err(Refusal::action(message, fix))
    };
    match &rule.action {
        Action::Masquerade if chain.only(&[Hook::Postrouting]) => {
            let given = Translation { addresses: None, ports: ports(rule)? };
            Ok(statement_of("masquerade", "", &to(rule, &given)?, &flags(rule, false)))
        }
        Action::SourceNat(given) if source => translate(rule, "snat", given, false),
        Action::DestinationNat(given) if destination => translate(rule, "dnat", given, false),
        Action::Redirect(Translation { addresses, ports }) if destination => {
            if addresses.is_some_and(|range| !range.first.is_unspecified()) {
                let message = "`redirect` goes to the router itself and takes no `to-addresses`";
                return Err(Refusal::action(message, "action=dst-nat"));
            }
            let given = Translation { addresses: None, ports: *ports };
            Ok(statement_of("redirect", "", &to(rule, &given)?, &flags(rule, false)))
        }
        Action::Other(_) if matches!(action, "same" | "netmap") && (source || destination) => {
            let given = Translation { addresses: to_addresses(rule)?, ports: ports(rule)? };
            let word = if source { "snat" } else { "dnat" };
            if action == "netmap" { netmap(rule, word, &given) } else { same(rule, word, &given) }
        }
        Action::Masquerade | Action::SourceNat(_) | Action::DestinationNat(_) | Action::Redirect(_) => wrong(),
        Action::Other(_) if matches!(action, "same" | "netmap") => wrong(),
        _ => Err(Refusal::action(format!("`{action}` is not possible in NAT"), "remove the rule")),
    }
}

fn same(rule: &Rule, what: &str, given: &Translation) -> Result<String, Refusal> {
    // With the destination in the choice it is what the kernel does anyway.
    translate(rule, what, given, rule.item.flag("same-not-by-dst"))
}

fn netmap(rule: &Rule, what: &str, given: &Translation) -> Result<String, Refusal> {
    let texts = addresses(given.addresses, rule.family);
    let net = texts.first().and_then(|text| match text.parse::<IpNet>() {
        Ok(net) => Some(net),
        Err(_) => text.parse().ok().map(|host: std::net::IpAddr| IpNet::from(host)),
    });
    let (Some(net), None) = (net, given.ports) else {
        let message = "`netmap` needs `to-addresses` that are one prefix, and no `to-ports`";
        return Err(Refusal::action(message, "to-addresses=192.0.2.0/24"));
    };
    Ok(format!("{what} {} prefix to {net}", word(rule.family)))
}

fn translate(rule: &Rule, what: &str, given: &Translation, persistent: bool) -> Result<String, Refusal> {
    let extra = if rule.family == Family::V6 { to_addresses(rule)? } else { None };
    let addresses = given.addresses.or(extra).filter(|range| !range.first.is_unspecified());
    let given = Translation { addresses, ports: given.ports };
    if given.addresses.is_none() && given.ports.is_none() {
        return Err(Refusal::action("it needs `to-addresses` or `to-ports`", "to-addresses=ADDRESS"));
    }
    Ok(statement_of(what, word(rule.family), &to(rule, &given)?, &flags(rule, persistent)))
}

fn statement_of(what: &str, family: &str, to: &str, flags: &str) -> String {
    let words = [what, if to.is_empty() || to.starts_with("to :") { "" } else { family }, to, flags];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// `to …`; nothing where the kernel chooses.
fn to(rule: &Rule, given: &Translation) -> Result<String, Refusal> {
    if given.ports.is_some() && !protocol(rule).is_some_and(|number| has_ports(u32::from(number))) {
        return Err(Refusal::action("`to-ports` needs a `protocol` that has ports", "protocol=tcp"));
    }
    let ports = match given.ports {
        None => String::new(),
        Some((first, last)) if first == last => format!(":{first}"),
        Some((first, last)) => format!(":{first}-{last}"),
    };
    let Some(AddressRange { first, last }) = given.addresses else {
        return Ok(if ports.is_empty() { ports } else { format!("to {ports}") });
    };
    if !rule.family.holds(first) {
        return Err(Refusal::action("`to-addresses` are of the other family", "move the rule to the other menu"));
    }
    let bracketed = |address: std::net::IpAddr| {
        if address.is_ipv6() && !ports.is_empty() { format!("[{address}]") } else { address.to_string() }
    };
    let second = if first == last { String::new() } else { format!("-{}", bracketed(last)) };
    Ok(format!("to {}{second}{ports}", bracketed(first)))
}

fn flags(rule: &Rule, persistent: bool) -> String {
    let random = rule.item.flag("randomise-ports") || rule.item.flag("randomize-ports");
    match (random, persistent) {
        (false, false) => String::new(),
        (true, false) => "random".into(),
        (false, true) => "persistent".into(),
        (true, true) => "random,persistent".into(),
    }
}

/// `to-addresses`, or `to-address` as IPv6 has it.
fn to_addresses(rule: &Rule) -> Result<Option<AddressRange>, Refusal> {
    let Some(text) = rule.item.text("to-addresses").or_else(|| rule.item.text("to-address")) else { return Ok(None) };
    AddressRange::parse(text)
        .map(Some)
        .ok_or_else(|| Refusal::action(format!("`{text}` is no address"), "to-addresses=192.0.2.1"))
}

fn ports(rule: &Rule) -> Result<Option<(u16, u16)>, Refusal> {
    let Some(text) = rule.item.text("to-ports") else { return Ok(None) };
    let ports = range::<u16>(text).ok_or_else(|| Refusal::action(format!("`{text}` is no port"), "to-ports=80"))?;
    Ok(Some(ports.into_inner()))
}
