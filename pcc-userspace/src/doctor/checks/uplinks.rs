//! Addresses and next hops.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::doctor::facts::Role;
use crate::doctor::{Case, Facts, Severity};
use crate::host::{Family, Link};
use crate::problem::Problem;
use crate::topology::{self, Uplink};

pub(super) fn address(facts: &Facts) -> Option<Vec<Case>> {
    let bare =
        facts.uplinks().filter(|(_, link)| link.up && !Family::BOTH.iter().any(|it| facts.has_address(link, *it)));
    let cases = bare.map(|(_, link)| {
        let what = format!("uplink `{0}` has no address, so that nothing leaves by it", link.name);
        Case::new(
            &link.name,
            what,
            "look at its DHCP client or PPP session, or add the address that your provider gave you",
        )
    });
    Some(cases.collect())
}

pub(super) fn gateway(facts: &Facts) -> Option<Vec<Case>> {
    let mut cases = Vec::new();
    for (uplink, link) in facts.uplinks().filter(|(_, link)| link.up) {
        let lacking: Vec<Family> =
            Family::BOTH.into_iter().filter(|it| uplink.way(*it).is_none() && facts.has_address(link, *it)).collect();
        if lacking.is_empty() {
            continue;
        }
        let none = uplink.ipv4.is_none() && uplink.ipv6.is_none();
        let families = lacking.iter().map(Family::to_string).collect::<Vec<_>>().join(" and ");
        let what = format!("uplink `{}` has no default route and no gateway for {families}", link.name);
        let advice = format!(
            "have its DHCP client add a default route with a metric of its own, or name the next hop: `--gateway {}=ADDRESS`",
            link.name
        );
        let severity = if none { Severity::Problem } else { Severity::Advice };
        cases.push(Case::new(&link.name, what, advice).severity(severity));
    }
    Some(cases)
}

pub(super) fn off_link(facts: &Facts) -> Option<Vec<Case>> {
    told(facts, |native| topology::off_link(&native.topology, &facts.observed))
}

pub(super) fn bypassed(facts: &Facts) -> Option<Vec<Case>> {
    told(facts, |native| topology::bypassed(&native.config, &native.topology))
}

/// What a start refuses, with the device of each.
fn told(
    facts: &Facts,
    problems: impl Fn(&crate::doctor::facts::Native) -> Vec<(String, Problem)>,
) -> Option<Vec<Case>> {
    let found = facts.native().map(problems).unwrap_or_default();
    Some(found.into_iter().map(|(device, Problem { message, hint })| Case::new(device, message, hint)).collect())
}

pub(super) fn shared_gateway(facts: &Facts) -> Option<Vec<Case>> {
    let mut cases = Vec::new();
    for ((one, first), (other, second)) in pairs(&facts.uplinks().collect::<Vec<_>>()) {
        let same = Family::BOTH.into_iter().find_map(|family| {
            let (a, b) = (next_hop(one, family)?, next_hop(other, family)?);
            let hardware = facts.neighbours.get(&(first.index, a));
            if let Some(hardware) = hardware.filter(|it| facts.neighbours.get(&(second.index, b)) == Some(*it)) {
                return Some(format!("the same router ({})", colons(hardware)));
            }
            // Every other router is fe80::1.
            let link_local = matches!(a, IpAddr::V6(address) if address.is_unicast_link_local());
            (a == b && !link_local).then(|| format!("next hops with the same address ({a})"))
        });
        if let Some(same) = same {
            let what = format!("uplinks `{}` and `{}` lead to {same}", first.name, second.name);
            let advice = "if that is one line, it is one uplink; with two modems, let them have networks of their own";
            cases.push(Case::new(format!("{}, {}", first.name, second.name), what, advice));
        }
    }
    Some(cases)
}

fn next_hop(uplink: &Uplink, family: Family) -> Option<IpAddr> {
    uplink.way(family)?.gateway
}

fn colons(address: &[u8]) -> String {
    address.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

pub(super) fn shared_address(facts: &Facts) -> Option<Vec<Case>> {
    let mut cases = Vec::new();
    for ((one, a), (other, b)) in pairs(&networks(facts)) {
        if one.index != other.index && a.addr() == b.addr() {
            let what = format!("`{}` and `{}` have the same address {}", one.name, other.name, a.addr());
            let case = Case::new(format!("{}, {}", one.name, other.name), what, "remove it where it does not belong");
            // The one that stands for a network stays.
            let (extra, device) = if a.prefix_len() > b.prefix_len() { (a, one) } else { (b, other) };
            cases.push(case.command(format!("ip address del {extra} dev {}", device.name)));
        }
    }
    Some(cases)
}

pub(super) fn overlap(facts: &Facts) -> Option<Vec<Case>> {
    let is_lan = |link: &Link| facts.places().iter().any(|it| it.device == link.name && it.role == Role::Lan);
    let cases = overlapping(facts).map(|(one, other, a, b)| {
        let subject = format!("{}, {}", one.name, other.name);
        let what = format!("`{}` ({a}) and `{}` ({b}) have the same network", one.name, other.name);
        if is_lan(one) || is_lan(other) {
            Case::new(subject, what, "renumber the LAN: what is in both is reached by one device alone")
        } else {
            let advice = "pcc balances over them all the same; hosts in that network itself are reached by the first alone. Give \
                          the modems networks of their own if you can";
            Case::new(subject, what, advice).severity(Severity::Advice)
        }
    });
    Some(cases.collect())
}

/// Pairs of devices with networks that contain one another; each pair once for a family.
pub(super) fn overlapping(facts: &Facts) -> impl Iterator<Item = (&Link, &Link, IpNet, IpNet)> {
    let mut found: Vec<(&Link, &Link, IpNet, IpNet)> = Vec::new();
    for ((one, a), (other, b)) in pairs(&networks(facts)) {
        let shared = one.index != other.index && (a.contains(&b.network()) || b.contains(&a.network()));
        let seen = found.iter().any(|(x, y, net, _)| {
            (x.index, y.index) == (one.index, other.index) && Family::of(net.addr()) == Family::of(a.addr())
        });
        // A host address is no network: PPP sessions of one provider may have the same peer.
        if shared && !seen && a.prefix_len() < a.max_prefix_len() && b.prefix_len() < b.max_prefix_len() {
            found.push((one, other, a, b));
        }
    }
    found.into_iter()
}

/// Usable addresses of the configuration's devices.
fn networks(facts: &Facts) -> Vec<(&Link, IpNet)> {
    facts
        .existing()
        .flat_map(|(_, link)| {
            let own = facts.observed.addresses.iter().filter(|it| it.ifindex == link.index && it.usable_source);
            own.map(move |address| (link, address.network))
        })
        .collect()
}

fn pairs<T: Copy>(all: &[T]) -> impl Iterator<Item = (T, T)> {
    (0..all.len()).flat_map(move |at| all[at + 1..].iter().map(move |other| (all[at], *other)))
}
