//! The members of the sets, as prefixes.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Subnets};

use super::{Program, SetSource};
use crate::routeros::model::Model;
use crate::routeros::model::values::AddressRange;

impl Program {
    /// The members of every set, by number, as few prefixes as possible. `local` are the host's own addresses, such as
    /// `192.0.2.1/32` and `127.0.0.0/8`; `broadcast` the broadcast addresses of its networks.
    pub fn members(&self, model: &Model, local: &[IpNet], broadcast: &[IpAddr]) -> Vec<(u32, Vec<IpNet>)> {
        let of = |source: &SetSource| match source {
            SetSource::Local => decompose(local.iter().map(|net| AddressRange::from(*net)).collect()),
            SetSource::Broadcast => decompose(broadcasts(broadcast)),
            SetSource::List(list) => decompose(entries(model, list)),
            SetSource::Prefixes(prefixes) => prefixes.clone(),
        };
        self.sets.iter().map(|set| (set.number, of(&set.source))).collect()
    }
}

fn entries(model: &Model, list: &str) -> Vec<AddressRange> {
    let entries = model.address_lists.get(list).into_iter().flatten().filter(|entry| !entry.disabled);
    let ranges = entries.filter_map(|entry| entry.addresses.filter(|range| entry.family.holds(range.first)));
    ranges.collect()
}

/// What Linux takes for a broadcast address without looking for it in its tables, and what it finds there.
fn broadcasts(found: &[IpAddr]) -> Vec<AddressRange> {
    let this_network = Ipv4Net::new(Ipv4Addr::UNSPECIFIED, 8).map(IpNet::V4).ok();
    let everybody = IpNet::from(IpAddr::V4(Ipv4Addr::BROADCAST));
    let nets = this_network.into_iter().chain([everybody]).chain(found.iter().copied().map(IpNet::from));
    nets.map(AddressRange::from).collect()
}

/// The fewest prefixes that hold exactly the addresses of `ranges`.
pub fn decompose(mut ranges: Vec<AddressRange>) -> Vec<IpNet> {
    ranges.sort_by_key(|range| range.first);
    let mut merged: Vec<AddressRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if adjoins(last, &range) => last.last = last.last.max(range.last),
            _ => merged.push(range),
        }
    }
    merged.iter().flat_map(prefixes).collect()
}

/// `next`, which does not begin before `last`, overlaps it or follows it without a gap.
fn adjoins(last: &AddressRange, next: &AddressRange) -> bool {
    match (last.last, next.first) {
        (IpAddr::V4(end), IpAddr::V4(begin)) => u32::from(begin) <= u32::from(end).saturating_add(1),
        (IpAddr::V6(end), IpAddr::V6(begin)) => u128::from(begin) <= u128::from(end).saturating_add(1),
        _ => false,
    }
}

fn prefixes(range: &AddressRange) -> Vec<IpNet> {
    match (range.first, range.last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect(),
        (IpAddr::V6(first), IpAddr::V6(last)) => Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect(),
        // A range is of one family.
        _ => Vec::new(),
    }
}
