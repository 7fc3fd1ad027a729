//! What only `pcc doctor` wants to know of devices and neighbours.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};

use super::Linux;

/// More about a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Interface index of the bridge, bond or VRF that it belongs to.
    pub controller: Option<u32>,
    /// Link-layer address.
    pub hardware: Vec<u8>,
}

impl Linux {
    /// More about all devices, by interface index.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn details(&mut self) -> Result<BTreeMap<u32, Details>> {
        let mut query = LinkMessage::default();
        query.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let messages = self.netlink.dump(&Message::GetLink(query)).context("listing devices")?;
        let links = messages.iter().filter_map(|answer| match answer {
            Message::NewLink(found) => Some((found.header.index, details(found))),
            _ => None,
        });
        Ok(links.collect())
    }

    /// Link-layer addresses of neighbours, by interface index and address.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn neighbours(&mut self) -> Result<BTreeMap<(u32, IpAddr), Vec<u8>>> {
        let query = Message::GetNeighbour(NeighbourMessage::default());
        let messages = self.netlink.dump(&query).context("listing neighbours")?;
        let neighbours = messages.iter().filter_map(|answer| match answer {
            Message::NewNeighbour(found) => neighbour(found),
            _ => None,
        });
        Ok(neighbours.collect())
    }
}

fn details(message: &LinkMessage) -> Details {
    let mut details = Details::default();
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Controller(index) => details.controller = (*index != 0).then_some(*index),
            LinkAttribute::Address(address) => details.hardware.clone_from(address),
            _ => {}
        }
    }
    details
}

fn neighbour(message: &NeighbourMessage) -> Option<((u32, IpAddr), Vec<u8>)> {
    let (mut address, mut hardware) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(it)) => address = Some(IpAddr::V4(*it)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(it)) => address = Some(IpAddr::V6(*it)),
            NeighbourAttribute::LinkLayerAddress(it) => hardware = Some(it.clone()),
            _ => {}
        }
    }
    Some(((message.header.ifindex, address?), hardware?))
}
