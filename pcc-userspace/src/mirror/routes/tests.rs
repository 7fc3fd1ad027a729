//! Small scripts over a made-up host with two uplinks.

use std::net::IpAddr;

use super::*;
use crate::host::{Address, Link, NextHop, Route, TABLE_MAIN};
use crate::routeros::{Note, Severity, read};

mod health;
mod property;
mod recursive;
mod refused;
mod script;

pub(super) const BASE: u32 = 20_500;

pub(super) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A script laid over a host.
pub(super) struct Lab {
    pub(super) routing: Routing,
    pub(super) notes: Vec<Note>,
    pub(super) host: Observed,
    names: Vec<String>,
}

/// LAN, two Ethernet uplinks and two PPPoE devices; the second uplink has learned its gateway from DHCP.
pub(super) fn host() -> Observed {
    let link = |index: u32, name: &str| Link {
        index,
        name: name.into(),
        ethernet: !name.starts_with("ppp"),
        point_to_point: name.starts_with("ppp"),
        up: true,
        carrier: true,
        mtu: 1500,
        kind: None,
    };
    let address = |ifindex, network: &str| Address { ifindex, network: net(network), peer: None, usable_source: true };
    let peer = |ifindex, network: &str, peer: &str| Address { peer: Some(ip(peer)), ..address(ifindex, network) };
    Observed {
        links: vec![link(1, "lo"), link(2, "lan"), link(3, "wan1"), link(4, "wan2"), link(5, "ppp1"), link(6, "ppp2")],
        addresses: vec![
            address(2, "192.168.88.1/24"),
            address(3, "198.18.1.2/24"),
            address(3, "2001:db8:1::2/64"),
            address(4, "198.18.2.2/24"),
            address(4, "2001:db8:2::2/64"),
            peer(5, "203.0.113.5/32", "203.0.113.1"),
            peer(6, "203.0.113.6/32", "203.0.113.2"),
        ],
        routes: vec![learned("198.18.2.1", 4)],
        rules: Vec::new(),
    }
}

fn learned(gateway: &str, ifindex: u32) -> Route {
    Route {
        destination: net("0.0.0.0/0"),
        next_hops: vec![NextHop {
            gateway: Some(ip(gateway)),
            ifindex,
            device: String::new(),
            onlink: false,
            weight: 1,
        }],
        table: TABLE_MAIN,
        metric: Some(100),
        protocol: 16,
        kind: RouteKind::Unicast,
        preferred_source: None,
        scope: 0,
    }
}

impl Lab {
    pub(super) fn new(dialect: Dialect, text: &str) -> Self {
        let model = Model::build(&read(text.as_bytes())).model;
        let pairs =
            [("bridge", "lan"), ("ether1", "wan1"), ("ether2", "wan2"), ("pppoe-out1", "ppp1"), ("pppoe-out2", "ppp2")];
        let devices = pairs.map(|(from, to)| (from.to_owned(), to.to_owned())).into();
        let mut names: Vec<String> = model.tables.iter().map(|table| table.name.clone()).collect();
        for route in &model.routes {
            if route.table != model::route::MAIN && !names.contains(&route.table) {
                names.push(route.table.clone());
            }
        }
        let tables = names.iter().cloned().zip(1..).collect();
        let host = host();
        let inputs = Inputs {
            model: &model,
            dialect,
            devices: &devices,
            tables: &tables,
            table_base: BASE,
            check_interval: None,
            observed: &host,
        };
        let (routing, notes) = compile(&inputs);
        Self { routing, notes, host, names }
    }

    pub(super) fn v6(text: &str) -> Self {
        Self::new(Dialect::V6, text)
    }

    pub(super) fn v7(text: &str) -> Self {
        Self::new(Dialect::V7, text)
    }

    /// Ids of the notes of at least this severity.
    pub(super) fn ids(&self, severity: Severity) -> Vec<&'static str> {
        self.notes.iter().filter(|note| note.severity >= severity).map(|note| note.id).collect()
    }

    pub(super) fn watch(&self, name: &str) -> Watch {
        let watches = watched(&self.routing, &self.host, &|_| false);
        let names: Vec<_> = watches.iter().map(|watch| watch.key.to_string()).collect();
        watches.into_iter().find(|watch| watch.key.to_string() == name).unwrap_or_else(|| panic!("{name}: {names:?}"))
    }

    /// The active routes, the tables by name, with the watches called `down` down.
    pub(super) fn active(&self, down: &[&str]) -> Vec<String> {
        let routes = active(&self.routing, &self.host, &|key| down.contains(&key.to_string().as_str()));
        routes.iter().map(|route| self.show(route)).collect()
    }

    /// The default route of table `name`.
    pub(super) fn default(&self, name: &str, down: &[&str]) -> String {
        let start = format!("{name}: default ");
        let start2 = format!("{name}: ");
        let found = self.active(down);
        let found = found.iter().find(|text| text.starts_with(&start2) && text.contains("default"));
        found.map_or_else(String::new, |text| text.replace(&start, "").replace(&start2, ""))
    }

    fn show(&self, route: &Route) -> String {
        let name = match route.table - BASE {
            MAIN => "main".to_owned(),
            id => self.names.get(id as usize - 1).cloned().unwrap_or_else(|| id.to_string()),
        };
        let text = route.to_string().replace(" onlink", "").replace(" proto 205", "").replace(" metric ", " ");
        format!("{name}: {}", text.replace(&format!(" table {}", route.table), ""))
    }

    pub(super) fn cut(&mut self, device: &str) {
        for link in self.host.links.iter_mut().filter(|link| link.name == device) {
            link.carrier = false;
        }
    }
}
