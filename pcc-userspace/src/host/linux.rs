//! The running kernel as a [`Host`], in the network namespace of the thread that opened it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleMessage;
use rustix::io::Errno;

use super::conntrack::Conntrack;
use super::device::{self, Facts, Features};
use super::netlink::Netlink;
use super::{Change, Family, Host, Link, MarkUse, Observed, PROTOCOL, Route, Rule, clash, message, nft, sysctl, wake};

pub use details::Details;

mod details;
mod offloads;

/// A removal that meets these has nothing left to remove: no such route or rule, no such device, no such family.
const GONE: [Errno; 5] = [Errno::SRCH, Errno::NOENT, Errno::NODEV, Errno::AFNOSUPPORT, Errno::OPNOTSUPP];

/// The kernel.
pub struct Linux {
    netlink: Netlink,
    conntrack: Conntrack,
    features: Features,
}

impl Linux {
    /// The host of the calling thread's network namespace. Sysctls, nftables and conntrack follow the thread, so it
    /// has to stay there.
    pub fn open() -> Result<Self> {
        Ok(Self { netlink: Netlink::route()?, conntrack: Conntrack::open()?, features: Features::default() })
    }

    /// [`Host::observe`] without routes and rules, which may be many.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub fn addressed(&mut self) -> Result<Observed> {
        let links = self.links()?;
        let query = Message::GetAddress(AddressMessage::default());
        let messages = self.netlink.dump(&query).context("listing addresses")?;
        let addresses = messages.iter().filter_map(|answer| match answer {
            Message::NewAddress(found) => message::address(found),
            _ => None,
        });
        Ok(Observed { links, addresses: addresses.collect(), ..Observed::default() })
    }

    fn links(&mut self) -> Result<Vec<Link>> {
        let mut query = LinkMessage::default();
        query.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let messages = self.netlink.dump(&Message::GetLink(query)).context("listing devices")?;
        Ok(messages
            .iter()
            .filter_map(|answer| match answer {
                Message::NewLink(found) => message::link(found),
                _ => None,
            })
            .collect())
    }

    fn ifindex(&mut self, device: &str) -> Result<u32> {
        let link = self.links()?.into_iter().find(|link| link.name == device);
        Ok(link.with_context(|| format!("no interface `{device}`"))?.index)
    }

    fn routes(&mut self, family: Family, devices: &BTreeMap<u32, String>) -> Result<Vec<Route>> {
        let mut query = RouteMessage::default();
        query.header.address_family = message::address_family(family);
        let messages = self.netlink.dump(&Message::GetRoute(query)).context("listing routes")?;
        // A kernel without IPv6 answers with the routes of the other families.
        let routes = messages.iter().filter_map(|answer| match answer {
            Message::NewRoute(found) => message::route(found, devices),
            _ => None,
        });
        Ok(routes.filter(|route| route.family() == family).collect())
    }

    fn rules(&mut self, family: Family) -> Result<Vec<Rule>> {
        let mut query = RuleMessage::default();
        query.header.family = message::address_family(family);
        let messages = self.netlink.dump(&Message::GetRule(query)).context("listing routing rules")?;
        let rules = messages.iter().filter_map(|answer| match answer {
            Message::NewRule(found) => message::rule(found),
            _ => None,
        });
        Ok(rules.filter(|rule| rule.family == family).collect())
    }
}

impl Host for Linux {
    fn observe(&mut self) -> Result<Observed> {
        let mut observed = self.addressed()?;
        let devices = observed.links.iter().map(|link| (link.index, link.name.clone())).collect();
        for family in Family::BOTH {
            observed.routes.extend(self.routes(family, &devices)?);
            observed.rules.extend(self.rules(family)?);
        }
        Ok(observed)
    }

    fn device_facts(&mut self, links: &[&Link]) -> Result<BTreeMap<u32, Facts>> {
        device::facts(&mut self.netlink, &mut self.features, links)
    }

    fn apply(&mut self, change: &Change) -> Result<()> {
        self.perform(change).with_context(|| format!("`{change}`"))
    }

    fn sysctl(&self, key: &str) -> Result<Option<String>> {
        sysctl::read(key)
    }

    fn mark_uses(&mut self, own_table: &str, observed: &Observed) -> Result<Vec<MarkUse>> {
        clash::observe_marks(own_table, &observed.rules, |rule| rule.protocol == PROTOCOL)
    }

    fn table(&mut self, table: &str) -> Result<Option<String>> {
        nft::table(table)
    }

    fn conntrack_port(&self) -> Result<u32> {
        self.conntrack.port()
    }

    fn count_by_mark(&mut self, ours: u32, mask: u32) -> Result<BTreeMap<u32, u64>> {
        self.conntrack.count_by_mark(ours, mask)
    }
}

impl Linux {
    fn perform(&mut self, change: &Change) -> Result<()> {
        match change {
            Change::Sysctl { key, value } => sysctl::write(key, value),
            Change::AddAddress { device, address } => {
                let message = message::address_message(self.ifindex(device)?, *address);
                self.netlink.request(Message::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL, &[Errno::EXIST])
            }
            Change::RemoveAddress { device, address } => {
                let Ok(ifindex) = self.ifindex(device) else { return Ok(()) };
                let gone = [&GONE[..], &[Errno::ADDRNOTAVAIL]].concat();
                self.netlink.request(Message::DelAddress(message::address_message(ifindex, *address)), 0, &gone)
            }
            // Without `append` the kernel would refuse a second device for a destination.
            Change::AddRoute(route) => {
                let request = Message::NewRoute(message::route_message(route));
                self.netlink.request(request, NLM_F_CREATE | NLM_F_APPEND, &[Errno::EXIST])
            }
            Change::ReplaceRoute(route) => {
                let request = Message::NewRoute(message::route_message(route));
                self.netlink.request(request, NLM_F_CREATE | NLM_F_REPLACE, &[])
            }
            Change::RemoveRoute(route) => {
                self.netlink.request(Message::DelRoute(message::route_message(route)), 0, &GONE)
            }
            // Without `exclusive` the kernel would add it a second time.
            Change::AddRule(rule) => {
                let request = Message::NewRule(message::rule_message(rule));
                self.netlink.request(request, NLM_F_CREATE | NLM_F_EXCL, &[Errno::EXIST])
            }
            Change::RemoveRule(rule) => self.netlink.request(Message::DelRule(message::rule_message(rule)), 0, &GONE),
            Change::Nft { script, .. } => nft::apply(script),
            Change::DeleteConnections { family, mark, mask } => self.conntrack.delete(*family, *mark, *mask),
            Change::EndConnections { family, mark, mask, wake } => {
                let clients = self.conntrack.end(*family, *mark, *mask)?;
                wake::wake(&clients, *wake)
            }
            Change::SweepUntranslated { local, inside } => self.conntrack.sweep(local, inside),
            Change::ReleaseConnections { ours, mask } => self.conntrack.release(*ours, *mask),
        }
    }
}
