//! What the checks need to know about a configuration as a whole: uplinks, local networks, lists, next hops.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::walk::Packet;
use super::ways::Routing;
use crate::routeros::dialect::{Detected, Dialect};
use crate::routeros::model::interface::Member;
use crate::routeros::model::rule::Rule;
use crate::routeros::model::values::AddressRange;
use crate::routeros::model::{Family, ListEntry, Model};

/// Everything that a check looks at. Packets are simulated for IPv4.
pub struct Facts<'a> {
    /// The configuration.
    pub model: &'a Model,
    /// What it is written for.
    pub detected: &'a Detected,
    /// Interfaces that lead to an ISP.
    pub uplinks: Vec<Uplink>,
    /// Networks behind the router.
    pub lans: Vec<Lan>,
    /// Active IPv4 mangle rules, in order.
    pub mangle: Vec<&'a Rule>,
    /// The same by chain.
    pub chains: BTreeMap<&'a str, Vec<&'a Rule>>,
    /// An address somewhere in the Internet that no list of the configuration holds.
    pub internet: IpAddr,
    pub(super) ranges: BTreeMap<&'a str, Vec<AddressRange>>,
    pub(super) local_lists: BTreeSet<&'a str>,
    pub(super) uplink_lists: BTreeSet<&'a str>,
    pub(super) routing: Routing<'a>,
}

/// An interface that leads to an ISP.
#[derive(Clone, Debug)]
pub struct Uplink {
    /// Its name.
    pub interface: String,
    /// The router's address there; made up if the text does not tell.
    pub address: IpAddr,
    /// The network on the link, if the text tells.
    pub network: Option<IpNet>,
}

/// A network behind the router.
#[derive(Clone, Debug)]
pub struct Lan {
    /// Where it is connected; a blank if the text does not tell.
    pub interface: String,
    /// The router's address there.
    pub router: IpAddr,
    /// Another address there.
    pub host: IpAddr,
    /// The text gives the network as an address of the router.
    pub certain: bool,
}

impl<'a> Facts<'a> {
    /// Gathers the facts of `model`.
    pub fn new(model: &'a Model, detected: &'a Detected) -> Self {
        let mangle: Vec<_> = model.mangle.iter().filter(|rule| rule.active() && rule.family == Family::V4).collect();
        let mut chains: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for rule in &mangle {
            chains.entry(rule.chain.as_str()).or_default().push(*rule);
        }
        let mut facts = Self {
            model,
            detected,
            uplinks: Vec::new(),
            lans: Vec::new(),
            mangle,
            chains,
            internet: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 77)),
            ranges: model.address_lists.iter().map(|(list, entries)| (list.as_str(), merged(entries))).collect(),
            local_lists: BTreeSet::new(),
            uplink_lists: BTreeSet::new(),
            routing: Routing::new(model),
        };
        facts.find_lists();
        facts.find_uplinks();
        facts.find_lans();
        facts.find_internet();
        facts.find_exits();
        facts
    }

    /// The rules follow RouterOS 7.
    pub fn is_v7(&self) -> bool {
        self.detected.dialect == Dialect::V7
    }

    /// `name` is an uplink.
    pub fn is_uplink(&self, name: &str) -> bool {
        self.uplinks.iter().any(|uplink| uplink.interface == name)
    }

    /// Active IPv4 mangle rules with a PCC matcher.
    pub fn pcc_rules(&self) -> impl Iterator<Item = &'a Rule> {
        self.mangle.iter().copied().filter(|rule| rule.pcc().is_some())
    }

    /// `address` is in address list `list`. A list whose content the text does not tell holds the local networks, if rules
    /// use it so.
    pub fn in_address_list(&self, address: IpAddr, list: &str) -> bool {
        match self.ranges.get(list) {
            Some(ranges) => {
                let at = ranges.partition_point(|range| range.first <= address);
                at > 0 && ranges[at - 1].contains(address)
            }
            None => {
                self.local_lists.contains(list)
                    && self.lans.iter().any(|lan| lan.host == address || lan.router == address)
            }
        }
    }

    /// `interface` is a member of interface list `list`.
    pub fn in_interface_list(&self, interface: &str, list: &str) -> bool {
        match list {
            "all" => true,
            "none" | "dynamic" | "static" => false,
            _ if self.list_is_known(list) => self.member(interface, list, 8),
            _ if self.is_uplink(interface) => self.uplink_lists.contains(list),
            _ => !self.uplink_lists.contains(list),
        }
    }

    /// The text tells the members of interface list `list`.
    pub fn list_is_known(&self, list: &str) -> bool {
        self.model.members.iter().any(|member| member.group == list)
            || self.model.lists.iter().any(|known| known.name == list && !known.include.is_empty())
    }

    fn member(&self, interface: &str, list: &str, depth: u32) -> bool {
        let listed = |member: &Member| member.group == list && member.interface == interface && !member.item.disabled();
        if self.model.members.iter().any(listed) {
            return true;
        }
        let Some(known) = self.model.lists.iter().find(|known| known.name == list).filter(|_| depth > 0) else {
            return false;
        };
        let any = |lists: &[String]| lists.iter().any(|list| list == "all" || self.member(interface, list, depth - 1));
        any(&known.include) && !any(&known.exclude)
    }

    /// Members of interface list `list` that are written as such.
    pub fn members(&self, list: &str) -> impl Iterator<Item = &'a str> {
        let members = self.model.members.iter();
        members.filter(move |member| member.group == list && !member.item.disabled()).map(|m| m.interface.as_str())
    }

    /// The local network whose connections are balanced; else the first one.
    pub fn balanced_lan(&self) -> Option<&Lan> {
        let balanced = |lan: &&Lan| {
            let first = Packet::new(&lan.interface, lan.host, self.internet);
            self.hashes().any(|hash| {
                let walk = self.walk("prerouting", &first.hashed(hash));
                walk.connection_rule.or(walk.routing_rule).is_some_and(|rule| rule.pcc().is_some())
            })
        };
        self.lans.iter().find(balanced).or(self.lans.first())
    }

    /// Tables to which PCC sends connections.
    pub fn balanced_tables(&self) -> BTreeSet<String> {
        let packets = self.lans.iter().flat_map(|lan| {
            let first = Packet::new(&lan.interface, lan.host, self.internet);
            self.hashes().map(move |hash| first.hashed(hash))
        });
        packets.filter_map(|packet| self.walk("prerouting", &packet).routing_mark).collect()
    }
}

/// The enabled ranges of a list, sorted, without overlaps.
fn merged(entries: &[ListEntry]) -> Vec<AddressRange> {
    let mut ranges: Vec<_> =
        entries.iter().filter(|entry| !entry.disabled).filter_map(|entry| entry.addresses).collect();
    ranges.sort_by_key(|range| (range.first, range.last));
    let mut merged: Vec<AddressRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.contains(range.first) => last.last = last.last.max(range.last),
            _ => merged.push(range),
        }
    }
    merged
}
