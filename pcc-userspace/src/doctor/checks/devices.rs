//! The devices of a configuration.

use crate::doctor::facts::Role;
use crate::doctor::{Case, Facts, Severity};
use crate::host::Family;
use crate::topology;

/// IPv6 needs so many bytes.
const SMALLEST_IPV6: u32 = 1280;
/// Bytes of the header of PPPoE.
const PPPOE: u32 = 8;

pub(super) fn missing(facts: &Facts) -> Option<Vec<Case>> {
    let missing = facts.places().iter().filter(|place| facts.observed.link(&place.device).is_none());
    let cases = missing.map(|place| {
        let problem = topology::no_device(&place.device, &facts.observed);
        let advice = format!("{}; pcc waits for it if it is yet to be dialled or plugged in", problem.hint);
        Case::new(&place.device, problem.message, advice)
    });
    Some(cases.collect())
}

pub(super) fn down(facts: &Facts) -> Option<Vec<Case>> {
    let cases = facts.existing().filter(|(_, link)| !link.up || !link.carrier).map(|(place, link)| {
        let (role, name) = (place.role.word(), &link.name);
        if link.up {
            Case::new(name, format!("{role} `{name}` has no carrier"), "look at its cable, and at the other end")
        } else {
            Case::new(name, format!("{role} `{name}` is switched off"), "switch it on")
                .command(format!("ip link set {name} up"))
        }
    });
    Some(cases.collect())
}

pub(super) fn enslaved(facts: &Facts) -> Option<Vec<Case>> {
    let cases = facts.existing().filter_map(|(place, link)| {
        let controller = facts.device(facts.details.get(&link.index)?.controller?)?;
        let kind = controller.kind.as_deref().unwrap_or("device");
        let (role, name, master) = (place.role.word(), &link.name, &controller.name);
        let what = match kind {
            "vrf" => format!("{role} `{name}` belongs to the VRF `{master}`: its routes are in a table of their own"),
            _ => format!(
                "{role} `{name}` is a port of the {kind} `{master}`, which takes its packets before pcc's routes do"
            ),
        };
        let advice = format!("name `{master}` in its place, or take it out");
        Some(Case::new(name, what, advice).command(format!("ip link set {name} nomaster")))
    });
    Some(cases.collect())
}

pub(super) fn lan_address(facts: &Facts) -> Option<Vec<Case>> {
    let bare = facts.lans().filter(|link| link.up && !Family::BOTH.iter().any(|it| facts.has_address(link, *it)));
    let cases = bare.map(|link| {
        let what =
            format!("LAN device `{}` has no address: clients have no gateway, and answers no way back", link.name);
        Case::new(&link.name, what, format!("`ip address add ADDRESS/LENGTH dev {}`", link.name))
    });
    Some(cases.collect())
}

pub(super) fn small_mtu(facts: &Facts) -> Option<Vec<Case>> {
    let native = facts.native();
    let wanted = facts.has_ipv6()
        && native
            .is_some_and(|it| it.topology.uplinks.iter().any(|it| it.ipv6.is_some() || it.config.gateway6.is_some()));
    let small = facts.uplinks().filter(|(_, link)| wanted && link.mtu < SMALLEST_IPV6);
    let cases = small.map(|(_, link)| {
        let what = format!(
            "the MTU of uplink `{}` is {}: the kernel switches IPv6 off below {SMALLEST_IPV6}",
            link.name, link.mtu
        );
        let room = if link.ethernet { 1500 } else { SMALLEST_IPV6 };
        let advice = "raise it to what the line carries, and give its IPv6 address again";
        Case::new(&link.name, what, advice).command(format!("ip link set {} mtu {room}", link.name))
    });
    Some(cases.collect())
}

pub(super) fn unclamped(facts: &Facts) -> Option<Vec<Case>> {
    let largest = facts.lans().max_by_key(|lan| lan.mtu);
    let cases = facts.uplinks().filter_map(|(uplink, link)| {
        let lan = largest.filter(|lan| lan.mtu > link.mtu && uplink.config.mss.is_none())?;
        let what = format!(
            "the MTU of uplink `{}` is {}, that of `{}` {}: connections hang where ICMP is filtered on the way",
            link.name, link.mtu, lan.name, lan.mtu
        );
        let advice = format!("`--mss {}=clamp`, or `mss = \"clamp\"` in its [[uplink]]", link.name);
        Some(Case::new(&link.name, what, advice))
    });
    Some(cases.collect())
}

pub(super) fn pppoe(facts: &Facts) -> Option<Vec<Case>> {
    let below = facts.pppoe.iter().filter_map(|name| facts.observed.link(name)).min_by_key(|link| link.mtu);
    let sessions = facts.uplinks().filter(|(_, link)| link.kind.as_deref() == Some("ppp"));
    let cases = sessions.filter_map(|(_, link)| {
        let below = below.filter(|below| link.mtu + PPPOE > below.mtu)?;
        let room = below.mtu - PPPOE;
        let what = format!(
            "the MTU of `{}` is {}, but `{}` below it has {}: with the header of PPPoE {room} bytes fit",
            link.name, link.mtu, below.name, below.mtu
        );
        let advice =
            format!("`mtu {room}` in the options of pppd, or {} on `{}` (RFC 4638)", link.mtu + PPPOE, below.name);
        Some(Case::new(&link.name, what, advice).command(format!("ip link set {} mtu {room}", link.name)))
    });
    Some(cases.collect())
}

pub(super) fn lro(facts: &Facts) -> Option<Vec<Case>> {
    let merging = facts.existing().filter(|(_, link)| facts.details.get(&link.index).is_some_and(|it| it.lro));
    let cases = merging.map(|(place, link)| {
        let what = format!("large receive offload is on for {} `{}`", place.role.word(), link.name);
        let advice =
            "switch it off; the kernel does so itself when forwarding is switched on, unless it is told otherwise";
        Case::new(&link.name, what, advice).command(format!("ethtool -K {} lro off", link.name))
    });
    Some(cases.collect())
}

pub(super) fn bridge_netfilter(facts: &Facts) -> Option<Vec<Case>> {
    let bridges: Vec<_> = facts.existing().filter(|(_, link)| link.kind.as_deref() == Some("bridge")).collect();
    let Some((place, bridge)) = bridges.first() else { return Some(Vec::new()) };
    let tools = [("iptables", Family::V4), ("ip6tables", Family::V6)].into_iter();
    let cases = tools.filter(|(_, family)| *family == Family::V4 || facts.has_ipv6()).filter_map(|(tool, family)| {
        let key = format!("net/bridge/bridge-nf-call-{tool}");
        if facts.sysctl(&key) != Some("1") {
            return None;
        }
        let lan =
            if place.role == Role::Uplink { "" } else { "; nothing is learned from them, and hashes alone decide" };
        let what =
            format!("the bridge `{}` shows {family} packets to netfilter before pcc sees them{lan}", bridge.name);
        let advice = "switch it off; Docker switches it on to filter between containers of one bridge";
        Some(Case::new(&bridge.name, what, advice).severity(Severity::Advice).sysctl(&key, "0"))
    });
    Some(cases.collect())
}
