//! The link-layer addresses of neighbours, as far as the kernel told them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

/// Who is where, on all devices.
#[derive(Debug, Default)]
pub struct Neighbours {
    known: BTreeMap<(u32, IpAddr), Vec<u8>>,
    /// Indices of the devices whose neighbours matter.
    devices: BTreeSet<u32>,
}

impl Neighbours {
    /// From now on exactly those behind `devices` (interface indices) matter.
    pub fn watch(&mut self, devices: BTreeSet<u32>) {
        self.devices = devices;
    }

    /// Takes in what the kernel tells. True if a neighbour that matters has another address than before, or none any more:
    /// not if one is new, nor if only its state is another one.
    pub fn hear(&mut self, message: &Message) -> bool {
        let (neighbour, is_gone) = match message {
            Message::NewNeighbour(neighbour) => (neighbour, is_lost(neighbour.header.state)),
            Message::DelNeighbour(neighbour) => (neighbour, true),
            _ => return false,
        };
        let Some((address, link_address)) = read(neighbour) else { return false };
        let key = (neighbour.header.ifindex, address);
        let before = match link_address.filter(|_| !is_gone) {
            Some(now) => self.known.insert(key, now.clone()).filter(|before| before != now),
            None if is_gone => self.known.remove(&key),
            None => None,
        };
        before.is_some() && self.devices.contains(&key.0)
    }

    /// Forgets everybody, for want of notices.
    pub fn clear(&mut self) {
        self.known.clear();
    }
}

/// Its address is not known any more.
fn is_lost(state: NeighbourState) -> bool {
    matches!(state, NeighbourState::Failed | NeighbourState::Incomplete)
}

/// Address and link-layer address; `None` for what is no neighbour of ours: a proxied address, an entry of a bridge.
fn read(neighbour: &NeighbourMessage) -> Option<(IpAddr, Option<&Vec<u8>>)> {
    if neighbour.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let (mut address, mut link_address) = (None, None);
    for attribute in &neighbour.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(it)) => address = Some(IpAddr::V4(*it)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(it)) => address = Some(IpAddr::V6(*it)),
            NeighbourAttribute::LinkLayerAddress(it) => link_address = Some(it),
            _ => {}
        }
    }
    Some((address?, link_address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ifindex: u32, last: u8, state: NeighbourState) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = ifindex;
        message.header.state = state;
        message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet([192, 0, 2, 1].into())));
        if last != 0 {
            message.attributes.push(NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, last]));
        }
        message
    }

    fn new(ifindex: u32, last: u8, state: NeighbourState) -> Message {
        Message::NewNeighbour(entry(ifindex, last, state))
    }

    #[test]
    fn only_another_address_of_a_known_neighbour_matters() {
        use NeighbourState::{Delay, Failed, Incomplete, Probe, Reachable, Stale};
        let mut neighbours = Neighbours::default();
        neighbours.watch([7].into());
        for (message, matters) in [
            (new(7, 0, Incomplete), false),
            (new(7, 1, Reachable), false),
            (new(7, 1, Stale), false),
            (new(7, 1, Delay), false),
            (new(7, 1, Probe), false),
            (new(7, 2, Stale), true),
            (new(7, 2, Reachable), false),
            (new(7, 0, Failed), true),
            (new(7, 0, Failed), false),
            (new(7, 2, Reachable), false),
            (new(7, 2, Failed), true),
            (new(7, 3, Reachable), false),
            (Message::DelNeighbour(entry(7, 3, Stale)), true),
            (Message::DelNeighbour(entry(7, 3, Stale)), false),
            (new(8, 1, Reachable), false),
            (new(8, 2, Reachable), false),
        ] {
            assert_eq!(neighbours.hear(&message), matters, "{message:?}");
        }
        neighbours.watch([8].into());
        assert!(neighbours.hear(&new(8, 3, Reachable)), "what was heard of others is not forgotten");
        let mut proxied = entry(8, 4, Reachable);
        proxied.header.flags = NeighbourFlags::Proxy;
        assert!(!neighbours.hear(&Message::NewNeighbour(proxied)));
    }
}
