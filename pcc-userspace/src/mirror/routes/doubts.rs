//! Routes that will probably never, or not as meant, be active.

use std::net::IpAddr;

use ipnet::IpNet;

use super::compile::Compiler;
use super::resolve::connected;
use super::{Candidate, HealthRule, Via};
use crate::host::RouteKind;
use crate::routeros::{Severity, Span};

impl Compiler<'_> {
    /// Looks at the routes that take part.
    pub(super) fn doubts(&mut self, kept: &[bool], health: &[HealthRule]) {
        let routes: Vec<Candidate> =
            self.routes.iter().zip(kept).filter(|(_, kept)| **kept).map(|(route, _)| route.clone()).collect();
        let mut seen = Vec::new();
        for route in &routes {
            for hop in &route.hops {
                let Via::Resolved { address, table } = hop.via else { continue };
                // One word for all routes through the same next hop.
                let key = (address, table, route.target_scope);
                if !seen.contains(&key) {
                    seen.push(key);
                    self.unresolved(&routes, key, route.span);
                }
            }
        }
        for route in routes.iter().filter(|route| !route.is_default()) {
            self.hidden(route);
        }
        self.families(&routes);
        debug_assert!(health.iter().all(|rule| rule.routes().all(|index| index < kept.len())));
    }

    fn unresolved(&mut self, routes: &[Candidate], (address, table, target_scope): (IpAddr, u32, u8), place: Span) {
        let main = self.inputs.table_base + super::MAIN;
        if table == main && self.links(address, place) {
            return;
        }
        let leading = |route: &&Candidate| {
            route.table == table
                && route.kind == RouteKind::Unicast
                && !route.is_default()
                && route.destination.contains(&address)
        };
        let scopes: Vec<u8> = routes.iter().filter(leading).map(|route| route.scope).collect();
        match scopes.iter().min() {
            Some(scope) if *scope <= target_scope => {}
            Some(scope) => {
                let message = format!(
                    "gateway `{address}` cannot be resolved: the route to it has scope {scope}, above target scope {target_scope}"
                );
                self.note(Severity::Error, "gateway-unresolved", place, message);
                self.fix(format!("target-scope={scope}"));
            }
            None => {
                let message = format!(
                    "nothing leads to gateway `{address}` but default routes, which resolve no gateway: the route waits until \
                     a device has an address beside it"
                );
                self.note(Severity::Warning, "gateway-unresolved", place, message);
                self.fix(format!(
                    "gateway={address}%INTERFACE, or /ip route add dst-address={address}/32 gateway=GATEWAY scope=10"
                ));
            }
        }
    }

    /// `address` is on a link, of the script or of the host.
    fn links(&mut self, address: IpAddr, place: Span) -> bool {
        let observed = self.inputs.observed;
        let mut names: Vec<&str> = connected(observed)
            .iter()
            .filter(|(net, _)| net.contains(&address))
            .map(|(_, link)| observed.links[*link].name.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        if let [first, second, ..] = names.as_slice() {
            let message =
                format!("gateway `{address}` is on the links of `{first}` and `{second}`: the first one is taken");
            self.note(Severity::Warning, "gateway-ambiguous", place, message);
            self.fix(format!("gateway={address}%INTERFACE"));
        }
        self.is_on_link(address)
    }

    /// `address` is in a connected network.
    pub(super) fn is_on_link(&self, address: IpAddr) -> bool {
        self.connected().any(|net| net.contains(&address))
    }

    /// Connected networks, of the script and of the host.
    fn connected(&self) -> impl Iterator<Item = IpNet> {
        let written = self.inputs.model.addresses.iter().filter(|own| !own.item.disabled()).map(|own| own.network);
        written.chain(connected(self.inputs.observed).into_iter().map(|(net, _)| net))
    }

    /// Connected networks come before every route of the script.
    fn hidden(&mut self, route: &Candidate) {
        let Some(net) = self.connected().find(|net| net.contains(&route.destination)) else { return };
        let message =
            format!("`{}` is inside the connected network `{net}`, which comes first here", route.destination);
        self.note(Severity::Warning, "route-hidden", route.span, message);
    }

    fn families(&mut self, routes: &[Candidate]) {
        let shared = routes.iter().find(|route| {
            let direct = route.hops.iter().any(|hop| matches!(hop.via, Via::Device(_)));
            route.destination.addr().is_ipv6() && route.hops.len() > 1 && direct
        });
        if let Some(route) = shared {
            let message =
                "IPv6 shares traffic among gateways with addresses alone: interfaces wait until those are gone";
            self.note(Severity::Warning, "gateway-shared", route.span, message);
        }
    }
}
