//! Which interfaces are uplinks, which networks are local: read from routes, NAT, clients and rules.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use super::facts::{Facts, Lan, Uplink};
use crate::routeros::model::Family;
use crate::routeros::model::interface::Interface;
use crate::routeros::model::matcher::Test;
use crate::routeros::model::route::MAIN;
use crate::routeros::model::rule::{Action, Rule};
use crate::routeros::model::values::AddressRange;

/// Stands for the local interface when the text names none; no interface is called so.
const UNNAMED: &str = " ";

/// No router has more; the rest would only cost time.
const MOST_UPLINKS: usize = 64;

impl<'a> Facts<'a> {
    pub(super) fn find_lists(&mut self) {
        for rule in &self.mangle {
            for matcher in rule.matchers.iter().filter(|_| rule.chain == "prerouting") {
                match &matcher.test {
                    Test::SourceAddressList(list) if !matcher.negated => _ = self.local_lists.insert(list),
                    Test::DestinationAddressList(list) if matcher.negated => _ = self.local_lists.insert(list),
                    _ => {}
                }
            }
        }
        for rule in self.model.nat.iter().filter(|rule| translates_uplink(rule)) {
            for matcher in rule.matchers.iter().filter(|matcher| !matcher.negated) {
                if let Test::OutInterfaceList(list) = &matcher.test {
                    self.uplink_lists.insert(list);
                }
            }
        }
    }

    pub(super) fn find_uplinks(&mut self) {
        let mut names: Vec<String> = Vec::new();
        let defaults = self.model.routes.iter().filter(|route| route.active() && route.is_default());
        for gateway in defaults.flat_map(|route| route.gateways.iter().map(move |gateway| (route, gateway))) {
            names.extend(self.way(gateway.1, gateway.0.target_scope).interface);
        }
        for client in self.model.clients.iter().filter(|client| !client.item.disabled()) {
            names.push(client.interface.clone());
        }
        for rule in self.model.nat.iter().filter(|rule| translates_uplink(rule)) {
            names.extend(rule.matchers.iter().filter(|matcher| !matcher.negated).flat_map(
                |matcher| match &matcher.test {
                    Test::OutInterface(name) => vec![name.clone()],
                    Test::OutInterfaceList(list) => self.members(list).map(str::to_owned).collect(),
                    _ => Vec::new(),
                },
            ));
        }
        for rule in self.mangle.iter().filter(|rule| rule.chain == "input") {
            let marks = matches!(rule.action, Action::MarkConnection(_));
            names.extend(rule.matchers.iter().filter(|matcher| marks && !matcher.negated).filter_map(|matcher| {
                match &matcher.test {
                    Test::InInterface(name) => Some(name.clone()),
                    _ => None,
                }
            }));
        }
        let carriers: BTreeSet<_> =
            self.model.interfaces.iter().filter(|i| names.contains(&i.name)).filter_map(|i| i.parent.clone()).collect();
        // A dead end that keeps a default route alive is no uplink, and a carrier of PPPoE is none either.
        let is_dead_end = |interface: &Interface| {
            interface.kind == "bridge"
                && !self.model.bridge_ports.iter().any(|port| port.group == interface.name)
                && !self.model.addresses.iter().any(|address| address.interface == interface.name)
        };
        names.retain(|name| {
            !carriers.contains(name) && name != "all-ppp" && !self.model.interface(name).is_some_and(is_dead_end)
        });
        for interface in names {
            if !self.is_uplink(&interface) && self.uplinks.len() < MOST_UPLINKS {
                let known = self
                    .model
                    .addresses
                    .iter()
                    .find(|known| known.interface == interface && known.family == Family::V4);
                let number = u8::try_from(self.uplinks.len()).unwrap_or(u8::MAX);
                let address = known.map_or(IpAddr::V4(Ipv4Addr::new(198, 18, number, 2)), |known| known.address.addr());
                self.uplinks.push(Uplink { interface, address, network: known.map(|known| known.network) });
            }
        }
    }

    /// By which interface each table leads out.
    pub(super) fn find_exits(&mut self) {
        let clients = self.model.clients.iter().flat_map(|client| &client.tables).map(|(table, _)| table.as_str());
        let tables: BTreeSet<_> = self.marked_tables().chain(clients).chain([MAIN]).collect();
        self.routing.exits = tables.into_iter().map(|table| (table, self.exit(table))).collect();
    }

    pub(super) fn find_lans(&mut self) {
        let parents: BTreeSet<_> = self
            .model
            .interfaces
            .iter()
            .filter(|i| self.is_uplink(&i.name))
            .filter_map(|i| i.parent.as_deref())
            .collect();
        for known in &self.model.addresses {
            if self.is_uplink(&known.interface) || parents.contains(known.interface.as_str()) || known.item.disabled() {
                continue;
            }
            self.lans.extend(lan(&known.interface, known.network, Some(known.address.addr())));
        }
        let mut interfaces: Vec<&str> = Vec::new();
        let mut networks: Vec<IpNet> = Vec::new();
        for matcher in self.pcc_rules().flat_map(|rule| rule.matchers.iter().filter(|matcher| !matcher.negated)) {
            match &matcher.test {
                Test::InInterface(name) => interfaces.push(name),
                Test::InInterfaceList(list) => interfaces.extend(self.members(list)),
                Test::SourceAddress(range) => networks.extend(within(range)),
                Test::SourceAddressList(list) => {
                    let ranges = self.ranges.get(list.as_str()).into_iter().flatten();
                    networks.extend(ranges.filter_map(within).min_by_key(IpNet::prefix_len));
                }
                _ => {}
            }
        }
        let network =
            networks.first().copied().unwrap_or(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 88, 0), 24)));
        interfaces.retain(|name| !self.is_uplink(name));
        // The text may show the addresses of other interfaces only, or none.
        if !interfaces.iter().any(|name| self.lans.iter().any(|lan| lan.interface == *name)) {
            let interface = interfaces.first().copied().or(self.lans.is_empty().then_some(UNNAMED));
            self.lans.extend(interface.and_then(|interface| lan(interface, network, None)));
        }
        self.lans.truncate(8);
    }

    pub(super) fn find_internet(&mut self) {
        const CANDIDATES: [[u8; 4]; 4] = [[198, 51, 100, 77], [203, 0, 113, 99], [192, 0, 2, 201], [45, 67, 89, 10]];
        let listed = |address: IpAddr| {
            self.model.addresses.iter().any(|known| known.network.contains(&address))
                || self.ranges.keys().any(|list| self.in_address_list(address, list))
                || self.mangle.iter().any(|rule| {
                    rule.tests(|test| match test {
                        Test::DestinationAddress(range) => range.contains(address),
                        _ => false,
                    })
                })
        };
        let free = CANDIDATES.into_iter().map(IpAddr::from).find(|address| !listed(*address));
        self.internet = free.unwrap_or(self.internet);
    }
}

/// Source NAT towards an uplink, not towards a modem or for a hairpin.
fn translates_uplink(rule: &Rule) -> bool {
    rule.active()
        && rule.chain == "srcnat"
        && matches!(rule.action, Action::Masquerade | Action::SourceNat(_))
        && !rule.tests(|test| matches!(test, Test::DestinationAddress(_) | Test::DestinationAddressList(_)))
}

fn lan(interface: &str, network: IpNet, router: Option<IpAddr>) -> Option<Lan> {
    let IpNet::V4(net) = network else { return None };
    let certain = router.is_some();
    let router = match router {
        Some(router) => router,
        None => net.hosts().next()?.into(),
    };
    let host = net.hosts().take(16).filter(|host| IpAddr::V4(*host) != router).last()?.into();
    Some(Lan { interface: interface.to_owned(), router, host, certain })
}

/// A small network inside `range`, if it has room for two hosts.
fn within(range: &AddressRange) -> Option<IpNet> {
    let IpAddr::V4(first) = range.first else { return None };
    (24..=30).find_map(|length| {
        let net = IpNet::V4(Ipv4Net::new(first, length).ok()?);
        range.covers(&net.into()).then_some(net.trunc())
    })
}
