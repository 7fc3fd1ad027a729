//! Pure: from which address a UDP socket that is bound to none answers what came in by an uplink.
//!
//! The kernel chooses that address by its routes alone. So the ruleset translates the question's destination to the
//! address that the kernel will choose, and conntrack translates the answer's source back to the one that was asked.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::host::{Address, Family, Observed};
use crate::plan::Live;
use crate::topology::{Topology, Uplink, default_hops};

/// What the kernel will choose, and where it must be left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsualSources {
    /// The source of answers that follow the preferred default route, and the uplink that has it. At most one a family.
    pub usual: Vec<Source>,
    /// Networks that an uplink (by id) is connected to: answers to neighbours have the right source by themselves.
    pub connected: Vec<(u32, IpNet)>,
    /// The addresses of uplinks.
    pub own: Vec<IpAddr>,
}

/// An address and the uplink, by id, that has it; `None` for a device that is no uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The address.
    pub address: IpAddr,
    /// Whose it is.
    pub uplink: Option<u32>,
}

impl UsualSources {
    /// What the kernel will choose with main's default routes, or, where main has none, with those of the `live` uplinks.
    pub fn of(topology: &Topology, live: &Live, observed: &Observed) -> Self {
        let usual = Family::BOTH.iter().filter_map(|family| usual(topology, live, *family, observed));
        let connected = topology.uplinks.iter().flat_map(|uplink| {
            let networks = of_uplink(uplink, observed).filter_map(connected);
            IpNet::aggregate(&networks.collect()).into_iter().map(|network| (uplink.id, network))
        });
        let own = topology.uplinks.iter().flat_map(|uplink| of_uplink(uplink, observed)).map(|it| it.network.addr());
        let mut own: Vec<IpAddr> = own.collect();
        own.sort_unstable();
        own.dedup();
        Self { usual: usual.collect(), connected: connected.collect(), own }
    }
}

fn usual(topology: &Topology, live: &Live, family: Family, observed: &Observed) -> Option<Source> {
    if let Some((route, hop)) = default_hops(family, observed).next() {
        let address = route.preferred_source.or_else(|| chosen(family, hop.ifindex, hop.gateway, observed))?;
        let owner = topology.uplinks.iter().find(|it| it.link.as_ref().is_some_and(|link| link.index == hop.ifindex));
        return Some(Source { address, uplink: owner.map(|uplink| uplink.id) });
    }
    let first = topology.by_preference().into_iter().find(|uplink| live.has(family, uplink.id))?;
    let address = chosen(family, first.link.as_ref()?.index, first.way(family)?.gateway, observed)?;
    Some(Source { address, uplink: Some(first.id) })
}

/// IPv4: the first address in the gateway's network. IPv6: the first one, global before unique local.
fn chosen(family: Family, ifindex: u32, gateway: Option<IpAddr>, observed: &Observed) -> Option<IpAddr> {
    let usable = observed.addresses.iter().filter(|it| it.ifindex == ifindex && it.usable_source);
    let best = usable.filter(|it| Family::of(it.network.addr()) == family).min_by_key(|it| match it.network {
        IpNet::V4(network) => !gateway.is_some_and(|gateway| IpNet::V4(network).contains(&gateway)),
        IpNet::V6(network) => network.addr().is_unique_local(),
    });
    best.map(|it| it.network.addr())
}

fn of_uplink<'a>(uplink: &Uplink, observed: &'a Observed) -> impl Iterator<Item = &'a Address> {
    let index = uplink.link.as_ref().map(|link| link.index);
    observed.addresses.iter().filter(move |address| Some(address.ifindex) == index)
}

/// The network that an address makes its device a member of.
fn connected(address: &Address) -> Option<IpNet> {
    match address.peer {
        Some(peer) => Some(IpNet::from(peer)),
        None if address.network.prefix_len() == address.network.max_prefix_len() => None,
        None => Some(address.network.trunc()),
    }
}
