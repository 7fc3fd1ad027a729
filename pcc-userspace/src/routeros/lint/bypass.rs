//! Packets that must not get a routing mark: to the router (7.9), to local networks (7.10), from an uplink and in the wrong
//! chain (7.11), to a published address (7.18).

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::facts::{Facts, Lan};
use super::walk::Packet;
use super::{Findings, also, quoted};
use crate::routeros::Span;
use crate::routeros::model::route::MAIN;
use crate::routeros::model::rule::{Action, Rule};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    wrong_chain(facts, findings);
    from_uplink(facts, findings);
    to_router(facts, findings);
    to_networks(facts, findings);
    to_published(facts, findings);
}

fn wrong_chain(facts: &Facts<'_>, findings: &mut Findings) {
    for rule in facts.mangle.iter().filter(|rule| matches!(rule.action, Action::MarkRouting(_))) {
        if matches!(rule.chain.as_str(), "input" | "forward" | "postrouting") {
            let message = format!("`mark-routing` in chain {} comes after the routing decision", rule.chain);
            findings.error("lint-7.11", rule.span(), message);
            findings.fix("chain=prerouting");
        }
    }
}

/// Answers that come in on an uplink and would be routed by their connection's mark, back out.
fn from_uplink(facts: &Facts<'_>, findings: &mut Findings) {
    let marks: BTreeSet<Option<String>> = facts
        .mangle
        .iter()
        .filter_map(|rule| match &rule.action {
            Action::MarkConnection(mark) => Some(Some(mark.clone())),
            _ => None,
        })
        .chain([None])
        .collect();
    let mut rules: Vec<&Rule> = Vec::new();
    for uplink in &facts.uplinks {
        for mark in &marks {
            let mut packet = Packet::new(&uplink.interface, facts.internet, uplink.address).into_router();
            if mark.is_some() {
                packet = packet.established(mark.clone());
            }
            let walk = facts.walk("prerouting", &packet);
            let bounced =
                walk.routing_mark.as_deref().is_some_and(|table| !is_vrf(facts, table) && facts.leads_out(table));
            if let (true, Some(rule)) = (bounced, walk.routing_rule)
                && !rules.iter().any(|known| known.span() == rule.span())
            {
                rules.push(rule);
            }
        }
    }
    rules.sort_by_key(|rule| rule.span());
    let spans: Vec<_> = rules.iter().map(|rule| rule.span()).collect();
    if let Some(first) = spans.first() {
        let message =
            format!("also marks packets that come in on an uplink, which are then sent back out{}", also(&spans));
        findings.error("lint-7.11", *first, message);
        findings.fix(match facts.lans.first() {
            Some(lan) if !lan.interface.trim().is_empty() => format!("in-interface={}", lan.interface),
            _ => "in-interface-list=LAN".to_owned(),
        });
    }
}

fn to_router(facts: &Facts<'_>, findings: &mut Findings) {
    let mut spans = Vec::new();
    for lan in &facts.lans {
        for rule in routed(facts, lan, lan.router, true) {
            push(&mut spans, rule.span());
        }
    }
    if let Some(first) = spans.first() {
        let what = if facts.is_v7() {
            "packets to the router itself are sent to an ISP, so that it cannot be reached from the LAN"
        } else {
            "connections to the router itself are marked too, so that its answers to the LAN are sent to an ISP"
        };
        findings.error("lint-7.9", *first, format!("{what}{}", also(&spans)));
        findings.fix("dst-address-type=!local");
    }
}

fn to_networks(facts: &Facts<'_>, findings: &mut Findings) {
    let mut local = (Vec::new(), Vec::new());
    let mut modems = (Vec::new(), Vec::new());
    for lan in &facts.lans {
        let others = facts.lans.iter().filter(|other| {
            other.certain && lan.certain && other.interface != lan.interface && !ruled(facts, other.host)
        });
        for other in others {
            for rule in routed(facts, lan, other.host, false) {
                push(&mut local.0, rule.span());
                local.1.push(other.host);
            }
        }
        for uplink in &facts.uplinks {
            let private = uplink.network.filter(|net| is_private(net.addr()));
            let host = private.and_then(|net| net.hosts().take(8).find(|host| *host != uplink.address));
            let Some(host) = host else { continue };
            for rule in routed(facts, lan, host, false) {
                push(&mut modems.0, rule.span());
                modems.1.push(host);
            }
        }
    }
    if let Some(first) = local.0.first() {
        let message = format!(
            "packets from one local network to another are sent to an ISP: the networks of {} are not bypassed{}",
            hosts(&local.1),
            also(&local.0)
        );
        findings.error("lint-7.10", *first, message);
        findings.fix(BYPASS);
    }
    if let Some(first) = modems.0.first() {
        let message = format!(
            "hosts on the uplinks' own networks ({}) are reached by an ISP's table, so that a modem may be unreachable{}",
            hosts(&modems.1),
            also(&modems.0)
        );
        findings.warning("lint-7.10", *first, message);
        findings.fix(BYPASS);
    }
}

const BYPASS: &str = "/ip firewall address-list add list=local address=NETWORK\n\
     /ip firewall mangle add chain=prerouting dst-address-list=local action=accept place-before=0";

/// A modem or another router answers there, not only an ISP's gateway.
fn is_private(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.is_private() || address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64)
}

/// A routing rule looks `host` up in main. Whether v6 asks it before the mark is not documented.
fn ruled(facts: &Facts<'_>, host: IpAddr) -> bool {
    let rules = facts.model.rules.iter().filter(|rule| !rule.item.disabled() && rule.table.as_deref() == Some(MAIN));
    !facts.is_v7() && rules.filter_map(|rule| rule.destination).any(|net| net.contains(&host))
}

/// A local client that uses the public address of a published server.
fn to_published(facts: &Facts<'_>, findings: &mut Findings) {
    let published =
        facts.model.nat.iter().any(|rule| rule.active() && matches!(rule.action, Action::DestinationNat(_)));
    if !published {
        return;
    }
    for lan in &facts.lans {
        for uplink in &facts.uplinks {
            // Reported as 7.9 where the router's other addresses are not spared either.
            if !routed(facts, lan, lan.router, true).is_empty() {
                continue;
            }
            if let Some(rule) = routed(facts, lan, uplink.address, true).first() {
                let message = format!(
                    "packets from the LAN to the router's address on `{}` are sent to an ISP",
                    uplink.interface
                );
                findings.warning("lint-7.18", rule.span(), message);
                findings.fix("dst-address-type=!local");
            }
        }
    }
}

/// The rules, each once, that set a mark by which packets from `lan` to `destination` are routed astray.
fn routed<'a>(facts: &Facts<'a>, lan: &Lan, destination: IpAddr, to_router: bool) -> Vec<&'a Rule> {
    let mut rules: Vec<&Rule> = Vec::new();
    for hash in facts.hashes() {
        let mut packet = Packet::new(&lan.interface, lan.host, destination).hashed(hash);
        packet.to_router = to_router;
        let walk = facts.walk("prerouting", &packet);
        let mut table = walk.routing_mark.clone();
        if to_router && !facts.is_v7() {
            let mut answer = Packet::new("", destination, lan.host).established(walk.connection_mark.clone());
            answer.from_router = true;
            answer.out_interface.clone_from(&lan.interface);
            table = facts.walk("output", &answer).routing_mark;
        }
        let astray = table.is_some_and(|table| !is_vrf(facts, &table) && facts.leads_out(&table));
        if let (true, Some(rule)) = (astray, walk.connection_rule.or(walk.routing_rule))
            && !rules.iter().any(|known| known.span() == rule.span())
        {
            rules.push(rule);
        }
    }
    rules
}

fn is_vrf(facts: &Facts<'_>, table: &str) -> bool {
    facts.model.vrfs.iter().any(|vrf| vrf.text("name") == Some(table) || vrf.text("routing-mark") == Some(table))
}

fn push(spans: &mut Vec<Span>, span: Span) {
    if !spans.contains(&span) {
        spans.push(span);
    }
}

fn hosts(hosts: &[IpAddr]) -> String {
    quoted(hosts.iter().take(8).map(ToString::to_string))
}
