//! Kernel parameters of devices.

use crate::doctor::{Case, Facts, Severity};
use crate::host::Family;

use super::uplinks::overlapping;

pub(super) fn off(facts: &Facts) -> Option<Vec<Case>> {
    let mut cases = Vec::new();
    let v4 = facts.sysctl("net/ipv4/ip_forward")?;
    // Without IPv6 there is no such key.
    let v6 = facts.sysctl("net/ipv6/conf/all/forwarding").filter(|_| facts.has_ipv6());
    let keys = [(Family::V4, Some(v4), "net/ipv4/ip_forward"), (Family::V6, v6, "net/ipv6/conf/all/forwarding")];
    for (family, _, key) in keys.into_iter().filter(|(family, value, _)| *value == Some("0") && wants(facts, *family)) {
        let (severity, what) = if facts.remains.running {
            (Severity::Problem, "is not forwarded although pcc runs: something switched it off")
        } else {
            (Severity::Advice, "is not forwarded; pcc switches it on while it runs, and off again at its end")
        };
        let advice = "switch it on for good, in /etc/sysctl.d too, and take the opposite out of there";
        let case = Case::new(family.to_string(), format!("{family} {what}"), advice);
        cases.push(case.severity(severity).sysctl(key, "1"));
    }
    if v4 == "1" {
        for (place, link) in facts.existing() {
            let key = format!("net/ipv4/conf/{}/forwarding", link.name);
            if facts.sysctl(&key) == Some("0") {
                let what = format!("what comes in by {} `{}` is not forwarded", place.role.word(), link.name);
                let advice = "switch it on; pcc does so only where forwarding is off for all devices";
                cases.push(Case::new(&link.name, what, advice).severity(Severity::Problem).sysctl(&key, "1"));
            }
        }
    }
    Some(cases)
}

/// The family is in use: by an uplink, or where none is known by an address.
fn wants(facts: &Facts, family: Family) -> bool {
    match facts.native() {
        Some(native) => native.topology.uplinks.iter().any(|uplink| uplink.way(family).is_some()),
        None => family == Family::V4 || facts.observed.links.iter().any(|link| facts.has_address(link, family)),
    }
}

pub(super) fn rp_filter(facts: &Facts) -> Option<Vec<Case>> {
    facts.number("net/ipv4/conf/all/rp_filter")?;
    let mut cases = Vec::new();
    for (_, link) in facts.uplinks() {
        if facts.strongest("ipv4", &link.name, "rp_filter") != Some(1) {
            continue;
        }
        let marked = facts.strongest("ipv4", &link.name, "src_valid_mark") == Some(1);
        let overlaps = overlapping(facts).any(|(one, other, ..)| [one.index, other.index].contains(&link.index));
        let (severity, what) = if facts.remains.running && !marked {
            (
                Severity::Problem,
                "ignores pcc's marks (src_valid_mark is 0) and drops all but the first uplink's packets",
            )
        } else if overlaps {
            (Severity::Problem, "drops packets from a network that another uplink has too")
        } else {
            (
                Severity::Advice,
                "drops packets from networks that main routes elsewhere; it follows pcc's marks otherwise",
            )
        };
        let what = format!("the strict reverse path filter of `{}` {what}", link.name);
        let case = Case::new(&link.name, what, "make it loose, which still drops addresses that nobody has a route to");
        cases.push(case.severity(severity).sysctl(&format!("net/ipv4/conf/{}/rp_filter", link.name), "2"));
    }
    Some(cases)
}

pub(super) fn advertisements(facts: &Facts) -> Option<Vec<Case>> {
    if !facts.has_ipv6() || facts.sysctl("net/ipv6/conf/all/forwarding") != Some("1") {
        return Some(Vec::new());
    }
    let mut cases = Vec::new();
    for (uplink, link) in facts.uplinks().filter(|(_, link)| link.up) {
        let key = format!("net/ipv6/conf/{}/accept_ra", link.name);
        let disabled = facts.sysctl(&format!("net/ipv6/conf/{}/disable_ipv6", link.name)) != Some("0");
        // 0 is what programs choose that listen themselves.
        if uplink.ipv6.is_none() && uplink.config.gateway6.is_none() && !disabled && facts.sysctl(&key) == Some("1") {
            let what = format!(
                "`{}` has no IPv6 next hop, and since IPv6 is forwarded the kernel ignores router advertisements there",
                link.name
            );
            cases.push(Case::new(&link.name, what, "let it listen in spite of forwarding").sysctl(&key, "2"));
        }
    }
    Some(cases)
}

pub(super) fn redirects(facts: &Facts) -> Option<Vec<Case>> {
    const ALL: &str = "net/ipv4/conf/all/accept_redirects";
    // Switching forwarding on switches it off.
    if facts.sysctl(ALL)? != "1" || facts.sysctl("net/ipv4/ip_forward")? != "1" {
        return Some(Vec::new());
    }
    let accepts = |name: &str| facts.sysctl(&format!("net/ipv4/conf/{name}/accept_redirects")) == Some("1");
    let cases = facts.uplinks().filter(|(_, link)| accepts(&link.name)).map(|(_, link)| {
        let what =
            format!("`{}` accepts ICMP redirects, which send connections past their uplink's gateway", link.name);
        Case::new(&link.name, what, "accept none; a router needs no redirects").sysctl(ALL, "0")
    });
    Some(cases.collect())
}
