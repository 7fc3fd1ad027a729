//! Routing: tables, next hops, and by which interface a mark leads out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::facts::Facts;
use crate::routeros::model::route::{Gateway, MAIN, Route};
use crate::routeros::model::{Family, Model};

/// Where a next hop leads.
#[derive(Clone, Debug, Default)]
pub struct Way<'a> {
    /// The interface by which packets leave, if the text tells.
    pub interface: Option<String>,
    /// The routes that resolve the next hop, nearest first; empty if it is on a link.
    pub through: Vec<&'a Route>,
}

/// Routes by what is asked about them.
pub struct Routing<'a> {
    /// Active IPv4 default routes by table, the preferred first.
    defaults: BTreeMap<&'a str, Vec<&'a Route>>,
    /// Active routes of main that may resolve next hops.
    resolvers: Vec<&'a Route>,
    /// Next hops of active routes with `check-gateway`.
    checked: BTreeSet<IpAddr>,
    /// The interface by which a table leads out, if the text tells.
    pub(super) exits: BTreeMap<&'a str, Option<String>>,
}

impl<'a> Routing<'a> {
    pub fn new(model: &'a Model) -> Self {
        let active = || model.routes.iter().filter(|route| route.active());
        let mut defaults: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for route in active().filter(|route| route.is_default() && route.family == Family::V4) {
            if !route.gateways.is_empty() {
                defaults.entry(route.table.as_str()).or_default().push(route);
            }
        }
        defaults.values_mut().for_each(|routes| routes.sort_by_key(|route| route.distance));
        let specific =
            active().filter(|route| route.table == MAIN && !route.is_default() && !route.gateways.is_empty());
        let checked = active().filter(|route| route.check.is_some()).flat_map(|route| &route.gateways);
        Self {
            defaults,
            resolvers: specific.collect(),
            checked: checked.filter_map(|gateway| gateway.address).collect(),
            exits: BTreeMap::new(),
        }
    }
}

impl<'a> Facts<'a> {
    /// Active default routes of an IPv4 table, the preferred first.
    pub fn defaults(&self, table: &str) -> &[&'a Route] {
        self.routing.defaults.get(table).map_or(&[], Vec::as_slice)
    }

    /// Tables, apart from main, that have active IPv4 default routes.
    pub fn marked_tables(&self) -> impl Iterator<Item = &'a str> {
        self.routing.defaults.keys().copied().filter(|table| *table != MAIN)
    }

    /// Some route that watches its next hop leads through `address`.
    pub fn is_checked(&self, address: IpAddr) -> bool {
        self.routing.checked.contains(&address)
    }

    /// `table` has an active IPv4 default route, static or of a client.
    pub fn leads_out(&self, table: &str) -> bool {
        !self.defaults(table).is_empty() || !self.leased(table).is_empty()
    }

    /// The interface by which packets with `mark` leave; `None` if the text does not tell.
    pub fn egress(&self, mark: Option<&str>) -> Option<String> {
        self.routing.exits.get(mark.unwrap_or(MAIN)).cloned().flatten()
    }

    pub(super) fn exit(&self, table: &str) -> Option<String> {
        let mut ways = self.leased(table);
        for route in self.defaults(table) {
            let interface = match route.gateways.as_slice() {
                [gateway] => self.way(gateway, route.target_scope).interface,
                _ => None,
            };
            ways.push((route.distance, interface));
        }
        let best = ways.iter().map(|(distance, _)| *distance).min()?;
        let mut ways = ways.into_iter().filter(|(distance, _)| *distance == best).map(|(_, interface)| interface);
        let first = ways.next()??;
        ways.all(|other| other.as_ref() == Some(&first)).then_some(first)
    }

    /// Distance and interface of the default routes that clients bring into `table`.
    fn leased(&self, table: &str) -> Vec<(u8, Option<String>)> {
        let clients = self.model.clients.iter().filter(|client| !client.item.disabled());
        clients
            .flat_map(|client| {
                let main = client.default_route.filter(|_| table == MAIN);
                let others = client.tables.iter().filter(|(name, _)| name == table);
                let others = others.map(|(_, distance)| distance.or(client.default_route).unwrap_or(1));
                let distances: Vec<_> = main.into_iter().chain(others).collect();
                distances.into_iter().map(|distance| (distance, Some(client.interface.clone())))
            })
            .collect()
    }

    /// Where `gateway` of a route with `target_scope` leads.
    pub fn way(&self, gateway: &Gateway, target_scope: u8) -> Way<'a> {
        let mut way = Way::default();
        let mut gateway = gateway;
        while way.through.len() < 8 {
            if gateway.interface.is_some() {
                way.interface = gateway.interface.clone();
                break;
            }
            let Some(address) = gateway.address else { break };
            if let Some(interface) = self.connected(address) {
                way.interface = Some(interface);
                break;
            }
            let Some(next) = self.resolver(address, target_scope) else { break };
            way.through.push(next);
            match next.gateways.first() {
                Some(first) => gateway = first,
                None => break,
            }
        }
        way
    }

    /// The interface on whose link `address` is; `None` if there is none, or more than one.
    pub fn connected(&self, address: IpAddr) -> Option<String> {
        let mut found =
            self.model.addresses.iter().filter(|known| known.network.contains(&address) && !known.item.disabled());
        let first = found.next()?;
        found.all(|other| other.interface == first.interface).then(|| first.interface.clone())
    }

    /// The route of main that resolves next hop `address`: the most specific one, not a default.
    fn resolver(&self, address: IpAddr, target_scope: u8) -> Option<&'a Route> {
        let routes = self
            .routing
            .resolvers
            .iter()
            .copied()
            .filter(|route| route.destination.contains(&address) && self.effective_scope(route) <= target_scope);
        routes.max_by_key(|route| (route.destination.prefix_len(), u8::MAX - route.distance))
    }

    /// v7 raises a scope that is not greater than the route's own target scope.
    fn effective_scope(&self, route: &Route) -> u8 {
        if self.is_v7() && route.scope <= route.target_scope {
            return route.target_scope.saturating_add(1);
        }
        route.scope
    }

    /// `name` is point-to-point; `None` if the text does not tell.
    pub fn is_point_to_point(&self, name: &str) -> Option<bool> {
        const PREFIXES: [&str; 14] = [
            "pppoe",
            "ppp",
            "l2tp",
            "pptp",
            "sstp",
            "ovpn",
            "lte",
            "gre",
            "ipip",
            "wireguard",
            "wg",
            "6to4",
            "sit",
            "zerotier",
        ];
        const BROADCAST: [&str; 7] = ["ether", "sfp", "bridge", "vlan", "wlan", "wifi", "combo"];
        if let Some(interface) = self.model.interface(name) {
            return Some(interface.is_point_to_point());
        }
        let on_link = self.model.addresses.iter().find(|address| address.interface == name);
        if let Some(address) = on_link {
            return Some(address.address.prefix_len() == address.address.max_prefix_len());
        }
        if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            return Some(true);
        }
        BROADCAST.iter().any(|prefix| name.starts_with(prefix)).then_some(false)
    }
}
