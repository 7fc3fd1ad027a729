//! What only `pcc doctor` wants to know of devices and neighbours.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};

use super::{Linux, offloads};

/// More about a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Interface index of the bridge, bond or VRF that it belongs to.
    pub controller: Option<u32>,
    /// Large receive offload is on: frames are merged in a way that cannot be undone when they are passed on.
    pub lro: bool,
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
        let active = offloads::active().unwrap_or_else(|error| {
            tracing::debug!("offloads: {error:#}");
            BTreeMap::new()
        });
        let lro = |index: u32| active.get(&index).is_some_and(|features| features.contains("rx-lro"));
        let links = messages.iter().filter_map(|answer| match answer {
            Message::NewLink(found) => {
                let index = found.header.index;
                Some((index, Details { controller: controller(found), lro: lro(index) }))
            }
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

/// The device that the one of `message` belongs to.
fn controller(message: &LinkMessage) -> Option<u32> {
    let indices = message.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    });
    indices.into_iter().find(|index| *index != 0)
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
