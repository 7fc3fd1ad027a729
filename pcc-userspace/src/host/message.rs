//! Routing messages of the kernel to and from the values of this module. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteType, RouteVia,
};
use netlink_packet_route::rule::{self, RuleAttribute, RuleFlags, RuleMessage};

use super::{Address, Family, Link, NextHop, Route, RouteKind, Rule, RuleAction};

/// The kernel's number of table local.
const TABLE_LOCAL: u32 = 255;

/// A device; `None` for a message without a name.
pub fn link(message: &LinkMessage) -> Option<Link> {
    let flags = message.header.flags;
    let (mut name, mut mtu, mut kind) = (None, 0, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(value) => name = Some(value.clone()),
            LinkAttribute::Mtu(value) => mtu = *value,
            LinkAttribute::LinkInfo(infos) => {
                kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some(Link {
        index: message.header.index,
        name: name?,
        ethernet: matches!(message.header.link_layer_type, LinkLayerType::Ether | LinkLayerType::Loopback),
        point_to_point: flags.contains(LinkFlags::Pointopoint),
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        mtu,
        kind,
    })
}

/// An address; `None` for what is neither IPv4 nor IPv6.
pub fn address(message: &AddressMessage) -> Option<Address> {
    let (mut address, mut local, mut flags) = (None, None, AddressFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(value) => address = Some(*value),
            AddressAttribute::Local(value) => local = Some(*value),
            AddressAttribute::Flags(value) => flags = *value,
            _ => {}
        }
    }
    // With both, `IFA_ADDRESS` is the other end.
    let own = local.or(address)?;
    // `IFA_F_SECONDARY` means "temporary" for IPv6 and nothing bad for IPv4.
    let unfit = if own.is_ipv6() {
        AddressFlags::Secondary | AddressFlags::Deprecated | AddressFlags::Tentative | AddressFlags::Dadfailed
    } else {
        AddressFlags::empty()
    };
    Some(Address {
        ifindex: message.header.index,
        network: IpNet::new(own, message.header.prefix_len).ok()?,
        peer: address.filter(|peer| *peer != own),
        usable_source: message.header.scope == AddressScope::Universe && !flags.intersects(unfit),
    })
}

/// The message that gives a device an address, or takes it away.
pub fn address_message(ifindex: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = address_family(Family::of(address.addr()));
    message.header.prefix_len = address.prefix_len();
    message.header.index = ifindex;
    message.attributes.push(AddressAttribute::Local(address.addr()));
    message.attributes.push(AddressAttribute::Address(address.addr()));
    if let IpNet::V4(network) = address
        && network.prefix_len() < 31
    {
        message.attributes.push(AddressAttribute::Broadcast(network.broadcast()));
    }
    message
}

/// A route; `None` for those that [`super::Observed::routes`] leaves out. `devices` names the devices by index.
pub fn route(message: &RouteMessage, devices: &BTreeMap<u32, String>) -> Option<Route> {
    let header = &message.header;
    let kind = match header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Prohibit => RouteKind::Prohibit,
        RouteType::Local | RouteType::Broadcast | RouteType::Anycast | RouteType::Multicast => return None,
        other => RouteKind::Other(other.into()),
    };
    // The rest of a route that depends on source or TOS has no meaning without them; as a default it still names a gateway.
    let conditional = header.source_prefix_length != 0 || header.tos != 0;
    if header.flags.contains(RouteFlags::Cloned) || (conditional && header.destination_prefix_length != 0) {
        return None;
    }
    let mut route = Route {
        destination: unspecified(header.address_family, header.destination_prefix_length)?,
        next_hops: Vec::new(),
        table: header.table.into(),
        metric: None,
        protocol: header.protocol.into(),
        kind,
        preferred_source: None,
        scope: header.scope.into(),
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(value) => {
                route.destination = IpNet::new(ip(value)?, header.destination_prefix_length).ok()?;
            }
            RouteAttribute::Table(value) => route.table = *value,
            RouteAttribute::Priority(value) => route.metric = Some(*value),
            RouteAttribute::PrefSource(value) => route.preferred_source = ip(value),
            RouteAttribute::MultiPath(hops) => {
                route.next_hops.extend(hops.iter().map(|message| {
                    let onlink = message.flags.contains(RouteNextHopFlags::Onlink);
                    let hop = (message.interface_index, onlink, u16::from(message.hops) + 1);
                    next_hop(hop, &message.attributes, devices)
                }));
            }
            RouteAttribute::Oif(ifindex) => {
                let onlink = header.flags.contains(RouteFlags::Onlink);
                route.next_hops.push(next_hop((*ifindex, onlink, 1), &message.attributes, devices));
            }
            _ => {}
        }
    }
    // For these the kernel names `lo`.
    if route.kind != RouteKind::Unicast {
        route.next_hops.clear();
    }
    (route.table != TABLE_LOCAL).then_some(route)
}

/// A rule; `None` for what is neither IPv4 nor IPv6.
pub fn rule(message: &RuleMessage) -> Option<Rule> {
    let header = &message.header;
    let mut rule = Rule {
        action: match header.action {
            rule::RuleAction::ToTable => RuleAction::Lookup,
            rule::RuleAction::Blackhole => RuleAction::Blackhole,
            rule::RuleAction::Unreachable => RuleAction::Unreachable,
            rule::RuleAction::Prohibit => RuleAction::Prohibit,
            other => RuleAction::Other(other.into()),
        },
        inverted: header.flags.contains(RuleFlags::Invert),
        protocol: 0,
        ..Rule::lookup(family(header.family)?, 0, header.table.into())
    };
    let (mut mark, mut mask) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(value) => rule.priority = *value,
            RuleAttribute::FwMark(value) => mark = Some(*value),
            RuleAttribute::FwMask(value) => mask = Some(*value),
            RuleAttribute::Source(value) => rule.source = IpNet::new(*value, header.src_len).ok(),
            RuleAttribute::Destination(value) => rule.destination = IpNet::new(*value, header.dst_len).ok(),
            RuleAttribute::Iifname(value) => rule.input = Some(value.clone()),
            RuleAttribute::Table(value) => rule.table = *value,
            // The kernel writes -1 for "none".
            RuleAttribute::SuppressPrefixLen(value) => {
                rule.suppress_prefix_length = (*value != u32::MAX).then_some(*value);
            }
            RuleAttribute::Protocol(value) => rule.protocol = (*value).into(),
            _ => {}
        }
    }
    if rule.action != RuleAction::Lookup {
        rule.table = 0;
    }
    if mark.is_some() || mask.is_some() {
        rule.mark = Some((mark.unwrap_or(0), mask.unwrap_or(u32::MAX)));
    }
    Some(rule)
}

/// The message that adds or removes `route`.
pub fn route_message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(route.family());
    message.header.destination_prefix_length = route.destination.prefix_len();
    message.header.protocol = route.protocol.into();
    message.header.scope = route.scope.into();
    message.header.kind = match route.kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Blackhole => RouteType::BlackHole,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Prohibit => RouteType::Prohibit,
        RouteKind::Other(kind) => kind.into(),
    };
    let attributes = &mut message.attributes;
    if route.destination.prefix_len() != 0 {
        attributes.push(RouteAttribute::Destination(route.destination.network().into()));
    }
    attributes.push(RouteAttribute::Table(route.table));
    attributes.extend(route.metric.map(RouteAttribute::Priority));
    attributes.extend(route.preferred_source.map(|source| RouteAttribute::PrefSource(source.into())));
    match route.next_hops.as_slice() {
        [hop] => {
            attributes.push(RouteAttribute::Oif(hop.ifindex));
            attributes.extend(hop.gateway.map(|gateway| gateway_attribute(gateway, route.family())));
            message.header.flags.set(RouteFlags::Onlink, hop.onlink);
        }
        [] => {}
        hops => {
            let hops = hops.iter().map(|hop| multipath_message(hop, route.family())).collect();
            attributes.push(RouteAttribute::MultiPath(hops));
        }
    }
    message
}

/// The message that adds or removes `rule`.
pub fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = address_family(rule.family);
    message.header.src_len = rule.source.map_or(0, |source| source.prefix_len());
    message.header.dst_len = rule.destination.map_or(0, |destination| destination.prefix_len());
    message.header.action = match rule.action {
        RuleAction::Lookup => rule::RuleAction::ToTable,
        RuleAction::Blackhole => rule::RuleAction::Blackhole,
        RuleAction::Unreachable => rule::RuleAction::Unreachable,
        RuleAction::Prohibit => rule::RuleAction::Prohibit,
        RuleAction::Other(action) => action.into(),
    };
    message.header.flags.set(RuleFlags::Invert, rule.inverted);
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.push(RuleAttribute::Table(rule.table));
    attributes.push(RuleAttribute::Protocol(rule.protocol.into()));
    attributes.extend(rule.source.map(|source| RuleAttribute::Source(source.network())));
    attributes.extend(rule.destination.map(|destination| RuleAttribute::Destination(destination.network())));
    attributes.extend(rule.input.clone().map(RuleAttribute::Iifname));
    if let Some((mark, mask)) = rule.mark {
        attributes.extend([RuleAttribute::FwMark(mark), RuleAttribute::FwMask(mask)]);
    }
    attributes.extend(rule.suppress_prefix_length.map(RuleAttribute::SuppressPrefixLen));
    message
}

/// How the kernel names `family`.
pub fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn family(family: AddressFamily) -> Option<Family> {
    Family::BOTH.into_iter().find(|known| address_family(*known) == family)
}

fn unspecified(of: AddressFamily, length: u8) -> Option<IpNet> {
    let address: IpAddr = match family(of)? {
        Family::V4 => [0; 4].into(),
        Family::V6 => [0; 16].into(),
    };
    IpNet::new(address, length).ok()
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// A hop from its attributes and from what its two notations keep in different places.
fn next_hop(
    (ifindex, onlink, weight): (u32, bool, u16),
    attributes: &[RouteAttribute],
    devices: &BTreeMap<u32, String>,
) -> NextHop {
    let gateway = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(gateway) => ip(gateway),
        RouteAttribute::Via(RouteVia::Inet(gateway)) => Some((*gateway).into()),
        RouteAttribute::Via(RouteVia::Inet6(gateway)) => Some((*gateway).into()),
        _ => None,
    });
    let device = devices.get(&ifindex).cloned().unwrap_or_default();
    NextHop { gateway, ifindex, device, onlink, weight }
}

fn multipath_message(hop: &NextHop, family: Family) -> RouteNextHop {
    let mut message = RouteNextHop::default();
    message.interface_index = hop.ifindex;
    message.hops = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
    message.flags.set(RouteNextHopFlags::Onlink, hop.onlink);
    message.attributes.extend(hop.gateway.map(|gateway| gateway_attribute(gateway, family)));
    message
}

fn gateway_attribute(gateway: IpAddr, family: Family) -> RouteAttribute {
    match (gateway, family) {
        (IpAddr::V6(gateway), Family::V4) => RouteAttribute::Via(RouteVia::Inet6(gateway)),
        (gateway, _) => RouteAttribute::Gateway(gateway.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(change: impl FnOnce(&mut RouteMessage)) -> Option<Route> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet6;
        message.header.kind = RouteType::Unicast;
        message.header.table = 254;
        message.attributes.push(RouteAttribute::Oif(7));
        change(&mut message);
        route(&message, &BTreeMap::from([(7, "wan1".to_owned())]))
    }

    #[test]
    fn a_default_route_has_prefix_length_zero_and_a_named_device() {
        let route = seen(|_| {}).unwrap();
        assert_eq!(route.to_string(), "default dev wan1 table main proto 0");
    }

    #[test]
    fn what_is_no_route_of_an_administrator_is_left_out() {
        assert_eq!(seen(|message| message.header.flags |= RouteFlags::Cloned), None);
        assert_eq!(seen(|message| message.attributes.push(RouteAttribute::Table(TABLE_LOCAL))), None);
        for kind in [RouteType::Local, RouteType::Broadcast, RouteType::Anycast, RouteType::Multicast] {
            assert_eq!(seen(|message| message.header.kind = kind), None);
        }
    }

    #[test]
    fn of_source_specific_routes_only_defaults_are_seen() {
        let network = RouteAttribute::Destination("2001:db8::".parse::<std::net::Ipv6Addr>().unwrap().into());
        assert!(seen(|message| message.header.source_prefix_length = 56).is_some());
        let specific = seen(|message| {
            message.header.source_prefix_length = 56;
            message.header.destination_prefix_length = 32;
            message.attributes.push(network);
        });
        assert_eq!(specific, None);
    }

    #[test]
    fn a_blackhole_leads_nowhere() {
        let route = seen(|message| message.header.kind = RouteType::BlackHole).unwrap();
        assert!(route.next_hops.is_empty());
    }
}
