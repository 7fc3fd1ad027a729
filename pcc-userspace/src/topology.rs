//! The configuration laid over the host: which uplink has which device, next hop and addresses right now.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{self, Config};
use crate::host::{Family, Link, NextHop, Observed, Route, RouteKind, TABLE_MAIN};
use crate::names;
use crate::problem::Problem;

/// The uplinks and LAN devices as they are at one moment. Devices may be missing: they come back.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    /// In the order of the configuration.
    pub uplinks: Vec<Uplink>,
    /// LAN devices that exist, with their indices in the configuration.
    pub lans: Vec<(usize, Link)>,
}

/// One uplink as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Uplink {
    /// Its id in marks, maps and tables.
    pub id: u32,
    /// What the user wrote.
    pub config: config::Uplink,
    /// Its device, if it exists.
    pub link: Option<Link>,
    /// How IPv4 packets leave by it, if they can.
    pub ipv4: Option<Way>,
    /// How IPv6 packets leave by it, if they can.
    pub ipv6: Option<Way>,
}

/// How packets of one family leave by an uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Next hop; `None` where the device leads to one peer only.
    pub gateway: Option<IpAddr>,
    /// Addresses of the device that a connection may be answered from.
    pub addresses: Vec<IpAddr>,
}

impl Uplink {
    /// How packets of `family` leave by it.
    pub const fn way(&self, family: Family) -> Option<&Way> {
        match family {
            Family::V4 => self.ipv4.as_ref(),
            Family::V6 => self.ipv6.as_ref(),
        }
    }

    /// The device is up and has a carrier.
    pub fn has_carrier(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.up && link.carrier)
    }
}

impl Topology {
    /// The uplink called `name`, by name or by device.
    pub fn uplink(&self, name: &str) -> Option<&Uplink> {
        self.uplinks.iter().find(|uplink| uplink.config.name == name || uplink.config.device == name)
    }

    /// Interface indices of the uplinks whose devices exist.
    pub fn indices(&self) -> Vec<u32> {
        self.uplinks.iter().filter_map(|uplink| Some(uplink.link.as_ref()?.index)).collect()
    }

    /// There is no uplink called `name`.
    pub fn no_uplink(&self, name: &str) -> Problem {
        let known: Vec<&str> = self.uplinks.iter().map(|uplink| uplink.config.name.as_str()).collect();
        names::unknown("uplink", name, &known)
    }

    /// The uplinks by tier, within one in the order of the configuration.
    pub fn by_preference(&self) -> Vec<&Uplink> {
        let mut uplinks: Vec<&Uplink> = self.uplinks.iter().collect();
        uplinks.sort_by_key(|uplink| uplink.config.tier);
        uplinks
    }
}

/// Gives every uplink its id: the configured one, else the one it had (`previous`, by name), else the lowest free one.
/// Marks that conntrack still holds mean the same uplink after a restart because of this.
pub fn assign_ids(config: &Config, previous: &BTreeMap<String, u32>) -> BTreeMap<String, u32> {
    let mut ids: BTreeMap<String, u32> =
        config.uplinks.iter().filter_map(|uplink| Some((uplink.name.clone(), uplink.id?))).collect();
    for (name, id) in previous {
        let known = config.uplinks.iter().any(|uplink| uplink.name == *name);
        if known && !ids.contains_key(name) && !ids.values().any(|taken| taken == id) && *id <= config.marks.max_id() {
            ids.insert(name.clone(), *id);
        }
    }
    for uplink in &config.uplinks {
        if !ids.contains_key(&uplink.name) {
            let free = (1..=config.marks.max_id()).find(|id| !ids.values().any(|taken| taken == id));
            ids.insert(uplink.name.clone(), free.unwrap_or(0));
        }
    }
    ids
}

/// Lays `config` over `observed`.
pub fn resolve(config: &Config, ids: &BTreeMap<String, u32>, observed: &Observed) -> Topology {
    let uplinks = config.uplinks.iter().map(|uplink| {
        let link = observed.link(&uplink.device).cloned();
        let way = |family| link.as_ref().and_then(|link| way(uplink, link, family, observed));
        Uplink {
            id: ids.get(&uplink.name).copied().unwrap_or(0),
            config: uplink.clone(),
            ipv4: way(Family::V4),
            ipv6: way(Family::V6),
            link,
        }
    });
    Topology {
        uplinks: uplinks.collect(),
        lans: (0..).zip(&config.lans).filter_map(|(at, name)| Some((at, observed.link(name)?.clone()))).collect(),
    }
}

/// Devices of the configuration that do not exist. A start waits for them: PPP is dialled later, USB plugged in.
pub fn missing(config: &Config, observed: &Observed) -> Vec<Problem> {
    let devices = config.uplinks.iter().map(|uplink| &uplink.device).chain(&config.lans);
    let missing = devices.filter(|device| observed.link(device).is_none());
    missing.map(|device| no_device(device, observed)).collect()
}

/// There is no device called `name`.
pub fn no_device(name: &str, observed: &Observed) -> Problem {
    let known: Vec<&str> = observed.links.iter().map(|link| link.name.as_str()).collect();
    let hint = names::hint(name, &known, &format!("this host has: {}", observed.device_names()));
    Problem::new(format!("no interface `{name}`"), hint)
}

/// What a start refuses: [`off_link`] and [`bypassed`].
pub fn problems(config: &Config, topology: &Topology, observed: &Observed) -> Vec<Problem> {
    let found = off_link(topology, observed).into_iter().chain(bypassed(config, topology));
    found.map(|(_, problem)| problem).collect()
}

/// Next hops that no neighbour can have, with the devices of their uplinks.
pub fn off_link(topology: &Topology, observed: &Observed) -> Vec<(String, Problem)> {
    let mut problems = Vec::new();
    for uplink in &topology.uplinks {
        let Some(link) = &uplink.link else { continue };
        // A device without address is yet to be dialled, or its DHCP server to answer.
        let has_addresses = |gateway: IpAddr| {
            addresses(link, observed)
                .any(|address| address.usable_source && Family::of(address.network.addr()) == Family::of(gateway))
        };
        let is_off_link = |gateway: &IpAddr| has_addresses(*gateway) && !is_on_link(*gateway, link, observed);
        for gateway in given_gateways(&uplink.config).filter(is_off_link) {
            let networks: Vec<String> = addresses(link, observed).map(|address| address.network.to_string()).collect();
            let problem = Problem::new(
                format!("gateway `{gateway}` is not on-link on `{}`", link.name),
                format!(
                    "`{}` has: {}",
                    link.name,
                    if networks.is_empty() { "no address".to_owned() } else { networks.join(", ") }
                ),
            );
            problems.push((link.name.clone(), problem));
        }
    }
    problems
}

/// A bypass list that covers next hops, with the devices of their uplinks.
pub fn bypassed(config: &Config, topology: &Topology) -> Vec<(String, Problem)> {
    let mut problems = Vec::new();
    for uplink in &topology.uplinks {
        for gateway in Family::BOTH.into_iter().filter_map(|family| uplink.way(family)?.gateway) {
            if let Some(prefix) = config.bypass.iter().find(|prefix| prefix.contains(&gateway)) {
                let problem = Problem::new(
                    format!("bypass `{prefix}` covers `{gateway}`, the gateway of `{}`", uplink.config.name),
                    "connected networks are never balanced anyway: list narrower prefixes",
                );
                problems.push((uplink.config.device.clone(), problem));
            }
        }
    }
    problems
}

fn given_gateways(uplink: &config::Uplink) -> impl Iterator<Item = IpAddr> {
    uplink.gateway4.map(IpAddr::V4).into_iter().chain(uplink.gateway6.map(IpAddr::V6))
}

fn addresses<'a>(link: &Link, observed: &'a Observed) -> impl Iterator<Item = &'a crate::host::Address> {
    let index = link.index;
    observed.addresses.iter().filter(move |address| address.ifindex == index)
}

fn way(uplink: &config::Uplink, link: &Link, family: Family, observed: &Observed) -> Option<Way> {
    let addresses: Vec<IpAddr> = addresses(link, observed)
        .filter(|address| address.usable_source && Family::of(address.network.addr()) == family)
        .map(|address| address.network.addr())
        .collect();
    if !link.up || addresses.is_empty() {
        return None;
    }
    let given = given_gateways(uplink).find(|gateway| Family::of(*gateway) == family);
    if let Some(gateway) = given {
        return Some(Way { gateway: Some(gateway), addresses });
    }
    let discovered = default_hops(family, observed).find(|(_, hop)| hop.ifindex == link.index);
    match discovered {
        Some((_, hop)) => Some(Way { gateway: hop.gateway, addresses }),
        None if link.point_to_point || !link.ethernet => Some(Way { gateway: None, addresses }),
        None => None,
    }
}

/// The next hops of main's default routes, the preferred one first.
pub fn default_hops(family: Family, observed: &Observed) -> impl Iterator<Item = (&Route, &NextHop)> {
    let mut routes: Vec<&Route> = observed
        .routes
        .iter()
        .filter(|route| is_default(route, family) && route.table == TABLE_MAIN && route.kind == RouteKind::Unicast)
        .collect();
    routes.sort_by_key(|route| route.metric.unwrap_or(0));
    routes.into_iter().flat_map(|route| route.next_hops.iter().map(move |hop| (route, hop)))
}

/// `route` is a default route of `family`.
pub fn is_default(route: &Route, family: Family) -> bool {
    route.destination.prefix_len() == 0 && Family::of(route.destination.addr()) == family
}

/// A neighbour on `link` can have the address `gateway`: it is link-local, in a connected network, the peer, or the
/// host already has a route to it by that device.
fn is_on_link(gateway: IpAddr, link: &Link, observed: &Observed) -> bool {
    let link_local = matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local());
    let connected = addresses(link, observed)
        .any(|address| address.network.trunc().contains(&gateway) || address.peer == Some(gateway));
    let routed = observed.routes.iter().any(|route| {
        let through = route.next_hops.iter().any(|hop| {
            hop.ifindex == link.index && (hop.gateway == Some(gateway) || route.destination == IpNet::from(gateway))
        });
        through && route.kind == RouteKind::Unicast
    });
    link_local || connected || routed || (link.point_to_point && !link.ethernet)
}
