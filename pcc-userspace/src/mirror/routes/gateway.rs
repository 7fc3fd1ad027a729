//! Gateways of routes as next hops on this host.

use std::net::IpAddr;

use super::compile::{Compiler, Found};
use super::{Hop, Method, Via, WatchKey};
use crate::host::Family;
use crate::routeros::model::interface::Interface;
use crate::routeros::model::route::{Check, Gateway, MAIN, Route};
use crate::routeros::{Severity, Span};

impl Compiler<'_> {
    /// The next hop that `gateway` of `route` is.
    pub(super) fn hop(&mut self, route: &Route, gateway: &Gateway) -> Found {
        let place = route.item.place("gateway");
        let family = Family::from(route.family);
        if gateway.address.is_some_and(|address| Family::of(address) != family) {
            let message = format!("the gateway of an {family} route is an {family} address");
            self.note(Severity::Error, "gateway-family", place, message);
            return Found::Nothing;
        }
        let via = match (gateway.address, &gateway.interface) {
            (None, Some(name)) if gateway.table.is_some() => {
                let message = format!("interface `{name}` in another table cannot be mirrored");
                self.note(Severity::Error, "gateway-table", place, message);
                return Found::Nothing;
            }
            (None, Some(name)) if self.is_dead_end(name) => {
                let message = format!("`{name}` leads nowhere: packets are answered with \"host unreachable\" at once");
                self.note(Severity::Info, "gateway-dead-end", place, message);
                return Found::DeadEnd;
            }
            (None, Some(name)) => match self.device(name, place, "gateway") {
                Some(device) => {
                    self.interface_gateway(route, name, &device);
                    Via::Device(device)
                }
                None => return Found::Nothing,
            },
            (Some(address), Some(name)) => match self.device(name, place, "gateway") {
                Some(device) => Via::OnLink { address, device },
                None => return Found::Nothing,
            },
            (Some(address), None) => match self.resolved(address, gateway, place) {
                Some(via) => via,
                None => return Found::Nothing,
            },
            (None, None) => return Found::Nothing,
        };
        let watches = self.check(route, &via).into_iter().collect();
        Found::Hop(Hop { via, watches })
    }

    /// What `check-gateway` of `route` watches at the next hop `via`.
    pub(super) fn check(&self, route: &Route, via: &Via) -> Option<WatchKey> {
        let method = match route.check? {
            Check::Ping => Method::Ping,
            Check::Arp => Method::Arp,
            Check::Bfd => return None,
        };
        if matches!(via, Via::Device(_)) {
            return None;
        }
        let (via, family) = (via.clone(), Family::from(route.family));
        Some(WatchKey::Gateway { via, family, method, target_scope: self.own_scope(route.target_scope) })
    }

    fn resolved(&mut self, address: IpAddr, gateway: &Gateway, place: Span) -> Option<Via> {
        if matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()) {
            self.note(Severity::Error, "gateway-link-local", place, format!("`{address}` is on every link"));
            self.fix(format!("gateway={address}%INTERFACE"));
            return None;
        }
        let table = self.table(gateway.table.as_deref().unwrap_or(MAIN), place)?;
        Some(Via::Resolved { address, table })
    }

    /// A bridge without ports and without a device of its own here.
    fn is_dead_end(&self, name: &str) -> bool {
        let model = self.inputs.model;
        model.interface(name).is_some_and(|interface| interface.kind == "bridge")
            && !model.bridge_ports.iter().any(|port| port.group == name)
            && !self.inputs.devices.contains_key(name)
    }

    /// `device` is known to lead to one neighbour; `None` if nothing tells.
    pub(super) fn is_point_to_point(&self, interface: &str, device: &str) -> Option<bool> {
        let link = self.inputs.observed.link(device).map(|link| link.point_to_point || !link.ethernet);
        link.or_else(|| self.inputs.model.interface(interface).map(Interface::is_point_to_point))
    }

    fn interface_gateway(&mut self, route: &Route, name: &str, device: &str) {
        let point_to_point = self.is_point_to_point(name, device);
        if point_to_point == Some(false) {
            let message = format!(
                "`{name}` is a broadcast link: as on the router, the host asks by ARP for every destination itself"
            );
            self.note(Severity::Warning, "gateway-interface", route.item.place("gateway"), message);
            self.fix(format!("gateway=ADDRESS%{name}"));
        }
        if matches!(route.check, Some(Check::Ping | Check::Arp)) {
            let severity = if point_to_point == Some(true) { Severity::Info } else { Severity::Warning };
            let message = format!("gateway `{name}` has no address to check: the state of the link decides");
            self.note(severity, "check-interface", route.item.place("check-gateway"), message);
        }
    }
}
