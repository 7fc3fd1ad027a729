//! NAT: connections after a failover (7.12), hairpins (7.18), masquerade of everything (7.25).

use super::Findings;
use super::facts::Facts;
use crate::routeros::model::Family;
use crate::routeros::model::matcher::Test;
use crate::routeros::model::rule::{Action, Rule};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let active = || facts.model.nat.iter().filter(|rule| rule.active() && rule.family == Family::V4);
    for rule in active().filter(|rule| rule.action == Action::Masquerade && !is_bounded(rule)) {
        findings.warning("lint-7.25", rule.span(), "masquerades everything, connections between local networks too");
        findings.fix(match facts.uplinks.first() {
            Some(uplink) => format!("out-interface={}", uplink.interface),
            None => "out-interface-list=WAN".to_owned(),
        });
    }
    hairpin(facts, findings);
    if facts.uplinks.len() < 2 || facts.pcc_rules().next().is_none() {
        return;
    }
    let fixed = active().find(|rule| {
        let uplink = rule.tests(|test| match test {
            Test::OutInterface(name) => facts.is_uplink(name),
            Test::OutInterfaceList(_) => true,
            _ => false,
        });
        matches!(rule.action, Action::SourceNat(_)) && uplink
    });
    let cleans = facts.model.scripts.iter().any(|script| script.text.contains("connection remove"))
        || facts
            .model
            .netwatch
            .iter()
            .any(|host| host.item.text("down-script").is_some_and(|text| text.contains("connection remove")));
    if let (Some(rule), false) = (fixed, cleans) {
        let message = "connections keep this address after a failover, and go on over an ISP that does not know it";
        findings.warning("lint-7.12", rule.span(), message);
        findings.fix("a netwatch down-script with: /ip firewall connection remove [find connection-mark=MARK]");
    } else if let Some(rule) = active().find(|rule| rule.action == Action::Masquerade).filter(|_| !cleans) {
        let message =
            "when `check-gateway` fails but the link stays up, running connections keep their address and break";
        findings.info("lint-7.12", rule.span(), message);
    }
}

/// Something limits where the packets go.
fn is_bounded(rule: &Rule) -> bool {
    rule.tests(|test| {
        matches!(
            test,
            Test::OutInterface(_)
                | Test::OutInterfaceList(_)
                | Test::DestinationAddress(_)
                | Test::DestinationAddressList(_)
                | Test::RoutingMark(_)
                | Test::ConnectionMark(Some(_))
                | Test::PacketMark(Some(_))
        ) || matches!(test, Test::Other { name, .. } if name == "routing-table" || name == "realm")
    })
}

/// A published server that local clients reach by the public address.
fn hairpin(facts: &Facts<'_>, findings: &mut Findings) {
    let rules = || facts.model.nat.iter().filter(|rule| rule.active());
    let forward = rules().find(|rule| {
        let Action::DestinationNat(to) = &rule.action else { return false };
        let from_outside = rule.tests(|test| {
            matches!(
                test,
                Test::InInterface(_) | Test::InInterfaceList(_) | Test::SourceAddress(_) | Test::SourceAddressList(_)
            )
        });
        let by_address =
            rule.tests(|test| matches!(test, Test::DestinationAddress(_) | Test::DestinationAddressType(_)));
        let local = to.addresses.is_some_and(|range| {
            facts
                .model
                .addresses
                .iter()
                .any(|known| known.network.contains(&range.first) && !facts.is_uplink(&known.interface))
        });
        !from_outside && by_address && local
    });
    let Some(rule) = forward else { return };
    let back = rules().any(|rule| {
        let source_nat = matches!(rule.action, Action::Masquerade | Action::SourceNat(_));
        let towards_lan = rule.tests(|test| match test {
            Test::DestinationAddress(_) | Test::DestinationAddressList(_) => true,
            Test::OutInterface(name) => facts.lans.iter().any(|lan| lan.interface == *name),
            Test::OutInterfaceList(list) => facts.lans.iter().any(|lan| facts.in_interface_list(&lan.interface, list)),
            _ => false,
        });
        source_nat && (towards_lan || !is_bounded(rule))
    });
    if !back {
        let message = "local clients that use the public address get no answer: the server answers them directly";
        findings.warning("lint-7.18", rule.span(), message);
        findings.fix("/ip firewall nat add chain=srcnat src-address=LAN dst-address=LAN action=masquerade");
    }
}
