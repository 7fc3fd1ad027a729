//! Resolvers and check hosts (7.5, 7.15).

use std::net::IpAddr;

use super::facts::Facts;
use super::{Findings, quoted};
use crate::routeros::Span;

/// Addresses of public resolvers, by operator.
const PUBLIC: [(&str, &[&str]); 4] = [
    ("Cloudflare", &["1.1.1.1", "1.0.0.1", "1.1.1.2", "1.0.0.2", "1.1.1.3", "1.0.0.3"]),
    ("Google", &["8.8.8.8", "8.8.4.4"]),
    ("Quad9", &["9.9.9.9", "149.112.112.112", "9.9.9.10", "149.112.112.10"]),
    ("OpenDNS", &["208.67.222.222", "208.67.220.220"]),
];

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let clients = facts.model.clients.iter().filter(|client| !client.item.disabled() && client.peer_dns);
    let clients: Vec<_> = clients.filter(|client| facts.is_uplink(&client.interface)).collect();
    if let [_, second, ..] = clients.as_slice() {
        let names = quoted(clients.iter().map(|client| &client.interface));
        let message =
            format!("the resolvers of several ISPs ({names}) are mixed; many refuse queries from another ISP");
        findings.warning("lint-7.5", second.item.place("use-peer-dns"), message);
        findings.fix("use-peer-dns=no");
    }
    if facts.uplinks.len() < 2 {
        return;
    }
    for (server, span) in servers(facts) {
        let gateway = facts.model.routes.iter().any(|route| {
            route.active() && route.is_default() && route.gateways.iter().any(|gateway| gateway.address == Some(server))
        });
        let uplink = facts.uplinks.iter().find(|uplink| uplink.network.is_some_and(|net| net.contains(&server)));
        // A check host that doubles as a gateway is a matter of 7.15.
        let (Some(uplink), false) = (uplink, gateway && is_public(server).is_some()) else { continue };
        let message = format!(
            "resolver `{server}` is on uplink `{}`: it may refuse queries that leave by another",
            uplink.interface
        );
        findings.warning("lint-7.5", span, message);
        findings.fix("a public resolver, or a rule that pins its address to that uplink");
    }
}

/// Remarks on the hosts whose answers decide about an uplink.
pub(super) fn check_hosts(facts: &Facts<'_>, hosts: &[(IpAddr, Span)], findings: &mut Findings) {
    const ID: &str = "lint-7.15";
    for (host, span) in hosts {
        if servers(facts).iter().any(|(server, _)| server == host) {
            let message =
                format!("check host `{host}` is the configured resolver too: names fail while its uplink is dead");
            findings.warning(ID, *span, message);
            findings.fix("another check host");
        } else if let Some(operator) = is_public(*host) {
            let message =
                format!("check host `{host}` is {operator}'s resolver: clients that use it are bound to its uplink");
            findings.info(ID, *span, message);
        }
    }
    let operators: Vec<_> = hosts.iter().filter_map(|(host, _)| is_public(*host)).collect();
    if let ([(_, first), .., (_, last)], [operator, others @ ..]) = (hosts, operators.as_slice())
        && operators.len() == hosts.len()
        && others.iter().all(|other| other == operator)
    {
        let message = format!(
            "all check hosts (from line {}) belong to {operator}: its outage looks like that of every uplink",
            first.line
        );
        findings.warning(ID, *last, message);
    }
}

fn is_public(address: IpAddr) -> Option<&'static str> {
    let text = address.to_string();
    PUBLIC.iter().find(|(_, addresses)| addresses.contains(&text.as_str())).map(|(operator, _)| *operator)
}

/// The resolvers that the router uses or hands out.
fn servers(facts: &Facts<'_>) -> Vec<(IpAddr, Span)> {
    let own = facts.model.settings.get("ip dns").map(|item| (item, "servers"));
    let handed_out =
        facts.model.read.get("ip dhcp-server network").into_iter().flatten().map(|item| (item, "dns-server"));
    own.into_iter()
        .chain(handed_out)
        .flat_map(|(item, name)| {
            let texts = item.text(name).unwrap_or_default().split(',');
            texts.filter_map(|text| text.parse().ok()).map(move |address| (address, item.place(name)))
        })
        .collect()
}
