//! Which next hops lead somewhere now, and by which device.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Candidate, Effect, Routing, Via, WatchKey};
use crate::host::{Family, Link, Observed, RouteKind, TABLE_MAIN};
use crate::topology::default_hops;

/// Scope of connected networks.
const CONNECTED: u8 = 10;
/// Routes that resolve each other in a circle never settle; nobody nests next hops this deep.
const ROUNDS: usize = 16;

/// The next hops of all routes on one host at one moment.
pub(super) struct State<'a> {
    pub(super) routing: &'a Routing,
    pub(super) observed: &'a Observed,
    down: &'a dyn Fn(&WatchKey) -> bool,
    /// What watched hosts leave of `enabled` and `distance`, by route.
    settings: Vec<Setting>,
    connected: Vec<(IpNet, usize)>,
    /// Routes by table and destination.
    slots: BTreeMap<Slot, Vec<usize>>,
    /// Prefix lengths that occur, the longest first.
    lengths: BTreeMap<u32, Vec<u8>>,
    /// Ways by route.
    ways: Vec<Vec<Way>>,
    /// The active routes of each slot.
    active: BTreeMap<Slot, Vec<usize>>,
}

/// Table and destination.
pub(super) type Slot = (u32, IpNet);

/// A next hop that is reached without further ado.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// Neighbour; `None` if the device leads to one peer, or the destination itself is the neighbour.
    pub(super) gateway: Option<IpAddr>,
    /// Number of the device in [`Observed::links`].
    link: usize,
}

#[derive(Clone, Copy, Debug)]
struct Setting {
    enabled: bool,
    distance: u8,
}

impl<'a> State<'a> {
    /// Resolves round by round: what a route leads to in one round, others may use in the next.
    pub(super) fn settle(routing: &'a Routing, observed: &'a Observed, down: &'a dyn Fn(&WatchKey) -> bool) -> Self {
        let mut slots: BTreeMap<Slot, Vec<usize>> = BTreeMap::new();
        let mut lengths: BTreeMap<u32, BTreeSet<u8>> = BTreeMap::new();
        for (index, route) in routing.routes.iter().enumerate() {
            slots.entry((route.table, route.destination)).or_default().push(index);
            lengths.entry(route.table).or_default().insert(route.destination.prefix_len());
        }
        let lengths = lengths.into_iter().map(|(table, lengths)| (table, lengths.into_iter().rev().collect()));
        let mut state = Self {
            routing,
            observed,
            down,
            settings: settings(routing, down),
            connected: connected(observed),
            slots,
            lengths: lengths.collect(),
            ways: vec![Vec::new(); routing.routes.len()],
            active: BTreeMap::new(),
        };
        for _ in 0..ROUNDS {
            let ways: Vec<_> = routing.routes.iter().map(|route| state.reachable(route)).collect();
            let settled = ways == state.ways && !state.active.is_empty();
            state.ways = ways;
            state.active = state.slots.iter().map(|(slot, routes)| (*slot, state.preferred(routes))).collect();
            if settled {
                break;
            }
        }
        state
    }

    /// Each destination with its active routes, none if it has none now.
    pub(super) fn active(&self) -> impl Iterator<Item = (Slot, &[usize])> {
        self.active.iter().map(|(slot, routes)| (*slot, routes.as_slice()))
    }

    /// Where the route leads now.
    pub(super) fn ways(&self, route: usize) -> &[Way] {
        self.ways.get(route).map_or(&[], Vec::as_slice)
    }

    /// Its distance, as watched hosts leave it.
    pub(super) fn distance(&self, route: usize) -> u8 {
        self.settings.get(route).map_or(1, |setting| setting.distance)
    }

    pub(super) fn link(&self, way: Way) -> &Link {
        &self.observed.links[way.link]
    }

    /// The name of the device that `way` leaves by.
    pub(super) fn name(&self, way: Way) -> &str {
        &self.link(way).name
    }

    /// The ways to `address` through the routes of `table` up to `target_scope`, by the longest prefix. Default routes
    /// lead to everything and would hide that a check host is lost: they resolve nothing.
    pub(super) fn resolve(&self, table: u32, address: IpAddr, target_scope: u8) -> Vec<Way> {
        let connected = self.on_link(address).filter(|_| table == self.routing.main() && CONNECTED <= target_scope);
        for length in self.lengths.get(&table).into_iter().flatten() {
            if let Some((net, way)) = connected
                && net.prefix_len() >= *length
            {
                return vec![way];
            }
            let Some(slot) = IpNet::new(address, *length).ok().filter(|net| net.prefix_len() > 0) else { continue };
            let active = self.active.get(&(table, slot.trunc())).into_iter().flatten();
            let mut fit = active.copied().filter(|index| self.routing.routes[*index].scope <= target_scope).peekable();
            if fit.peek().is_some() {
                return fit.flat_map(|index| self.through(index, address)).collect();
            }
        }
        connected.map(|(_, way)| way).into_iter().collect()
    }

    /// `address` is on the link of one of the host's devices.
    pub(super) fn is_connected(&self, address: IpAddr) -> bool {
        self.on_link(address).is_some()
    }

    /// What the host itself uses as default gateway on `device`.
    pub(super) fn learned(&self, device: &str, family: Family) -> Option<Way> {
        let link = self.usable(device, family)?;
        let index = self.observed.links[link].index;
        let hop = default_hops(family, self.observed).find(|(_, hop)| hop.ifindex == index);
        match hop {
            Some((_, hop)) => Some(Way { gateway: hop.gateway, link }),
            None => is_single(&self.observed.links[link]).then_some(Way { gateway: None, link }),
        }
    }

    /// The ways of the active route `index` towards `address` behind it.
    fn through(&self, index: usize, address: IpAddr) -> impl Iterator<Item = Way> {
        self.ways(index).iter().map(move |way| match way.gateway {
            // On a broadcast link that is itself the next hop, `address` is the neighbour.
            None if !is_single(self.link(*way)) => Way { gateway: Some(address), ..*way },
            _ => *way,
        })
    }

    fn reachable(&self, route: &Candidate) -> Vec<Way> {
        let up = route.hops.iter().filter(|hop| !hop.watches.iter().any(|watch| (self.down)(watch)));
        let family = route.family();
        up.flat_map(|hop| match &hop.via {
            Via::Device(device) => {
                self.usable(device, family).map(|link| Way { gateway: None, link }).into_iter().collect()
            }
            Via::OnLink { address, device } => {
                self.usable(device, family).map(|link| Way { gateway: Some(*address), link }).into_iter().collect()
            }
            Via::Resolved { address, table } => self.resolve(*table, *address, route.target_scope),
            Via::Learned { device } => self.learned(device, family).into_iter().collect::<Vec<_>>(),
        })
        .collect()
    }

    /// Of the routes to one destination those that are active.
    fn preferred(&self, routes: &[usize]) -> Vec<usize> {
        let leads = |index: &&usize| {
            let forwards = self.routing.routes[**index].kind == RouteKind::Unicast;
            self.settings[**index].enabled && !(forwards && self.ways[**index].is_empty())
        };
        let possible: Vec<usize> = routes.iter().filter(leads).copied().collect();
        let best = possible.iter().map(|index| self.settings[*index].distance).min();
        possible.into_iter().filter(|index| Some(self.settings[*index].distance) == best).collect()
    }

    /// The link that carries packets of `family` through `device`.
    fn usable(&self, device: &str, family: Family) -> Option<usize> {
        let number = self.observed.links.iter().position(|link| link.name == device)?;
        let link = &self.observed.links[number];
        let addressed = self
            .observed
            .addresses
            .iter()
            .any(|address| address.ifindex == link.index && Family::of(address.network.addr()) == family);
        (works(link) && addressed).then_some(number)
    }

    /// The narrowest connected network with `address`, unless it is the host's own.
    fn on_link(&self, address: IpAddr) -> Option<(IpNet, Way)> {
        if self.observed.addresses.iter().any(|own| own.network.addr() == address) {
            return None;
        }
        let nets = self.connected.iter().filter(|(net, _)| net.contains(&address));
        // Of equal ones the first.
        let (net, link) = nets.rev().max_by_key(|(net, _)| net.prefix_len())?;
        Some((*net, Way { gateway: Some(address), link: *link }))
    }
}

/// The networks on the links of the host that work.
pub(super) fn connected(observed: &Observed) -> Vec<(IpNet, usize)> {
    let number =
        |ifindex| observed.links.iter().position(|link| link.index == ifindex && works(link) && link.name != "lo");
    let addresses = observed.addresses.iter().filter_map(|address| {
        let length = address.network.prefix_len();
        let other = IpNet::new(address.peer.unwrap_or(address.network.addr()), length).ok()?;
        Some((other.trunc(), number(address.ifindex)?))
    });
    let routes = observed.routes.iter().filter_map(|route| {
        let connected = route.table == TABLE_MAIN && route.kind == RouteKind::Unicast;
        match route.next_hops.as_slice() {
            [hop] if connected && hop.gateway.is_none() && route.destination.prefix_len() > 0 => {
                Some((route.destination, number(hop.ifindex)?))
            }
            _ => None,
        }
    });
    addresses.chain(routes).collect()
}

/// Up, with a carrier.
fn works(link: &Link) -> bool {
    link.up && link.carrier
}

/// Only one neighbour is behind it, which needs no address.
fn is_single(link: &Link) -> bool {
    link.point_to_point || !link.ethernet
}

/// Hosts that are up have run their up scripts; those that are down have the last word.
fn settings(routing: &Routing, down: &dyn Fn(&WatchKey) -> bool) -> Vec<Setting> {
    let written = routing.routes.iter().map(|route| Setting { enabled: route.enabled, distance: route.distance });
    let mut settings: Vec<Setting> = written.collect();
    let (lost, answering): (Vec<_>, Vec<_>) = routing.health.iter().partition(|rule| down(&rule.watch));
    let effects = answering.iter().flat_map(|rule| &rule.up).chain(lost.iter().flat_map(|rule| &rule.down));
    for (index, effect) in effects {
        if let Some(setting) = settings.get_mut(*index) {
            match effect {
                Effect::Enable => setting.enabled = true,
                Effect::Disable => setting.enabled = false,
                Effect::Distance(distance) => setting.distance = *distance,
            }
        }
    }
    settings
}
