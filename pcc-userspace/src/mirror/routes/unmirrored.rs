//! Scripts that cannot be mirrored: a warning, or an error if nothing else notices that a gateway is dead.

use super::compile::Compiler;
use super::{Candidate, HealthRule, Hop, Via};
use crate::host::RouteKind;
use crate::routeros::model::service::Actions;
use crate::routeros::{Severity, Span};

impl Compiler<'_> {
    /// Says that what the script at `span` does is left out.
    pub(super) fn unmirrored(
        &mut self,
        id: &'static str,
        span: Span,
        actions: &Actions,
        health: &[HealthRule],
        message: &str,
    ) {
        if !actions.other && actions.routes.is_empty() {
            return;
        }
        let defaults = || {
            let all = self.routes.iter().enumerate();
            all.filter(|(_, route)| route.enabled && route.is_default() && route.kind == RouteKind::Unicast)
        };
        let concerned = |index: usize| {
            let origin = self.origins[index].and_then(|origin| self.inputs.model.routes.get(origin));
            origin.is_some_and(|route| actions.concern(route))
        };
        let watched = |(index, route): (usize, &Candidate)| self.is_watched(index, route, health);
        let alone = match actions.routes.is_empty() {
            false => defaults().any(|(index, route)| concerned(index) && !watched((index, route))),
            true => defaults().next().is_some() && !defaults().any(watched),
        };
        if alone {
            let message = format!("{message}; nothing else notices that a gateway is dead");
            self.note(Severity::Error, id, span, message);
            self.fix("check-gateway=ping on the routes");
        } else {
            self.note(Severity::Warning, id, span, message);
        }
    }

    /// Scripts that no watched host and no lease explains.
    pub(super) fn stored_scripts(&mut self, health: &[HealthRule]) {
        let model = self.inputs.model;
        for script in model.scripts.iter().filter(|script| !self.handled.contains(&script.span)).collect::<Vec<_>>() {
            let is_run = match &script.name {
                None => true,
                Some(name) => model.scripts.iter().any(|other| other.span != script.span && other.text.contains(name)),
            };
            let changes_routes = !script.actions.routes.is_empty() || script.text.contains("route");
            if is_run && changes_routes {
                let message = "stored scripts are not run, and this one is about routes";
                self.unmirrored("script-not-run", script.span, &script.actions, health, message);
            } else {
                self.note(Severity::Info, "script-not-run", script.span, "stored scripts are not run");
            }
        }
    }

    /// Something notices that every next hop of the route is dead: a check, the link, or a watched host.
    fn is_watched(&self, index: usize, route: &Candidate, health: &[HealthRule]) -> bool {
        let touched = |index: usize| health.iter().any(|rule| rule.touches(index));
        let by_resolver = |hop: &Hop| match hop.via {
            Via::Resolved { address, table } => self.routes.iter().enumerate().any(|(index, other)| {
                let resolves = other.table == table && !other.is_default() && other.destination.contains(&address);
                resolves && (touched(index) || other.hops.iter().any(|hop| self.is_hop_watched(hop)))
            }),
            _ => false,
        };
        touched(index) || route.hops.iter().all(|hop| self.is_hop_watched(hop) || by_resolver(hop))
    }

    fn is_hop_watched(&self, hop: &Hop) -> bool {
        let single = match &hop.via {
            Via::Device(device) | Via::Learned { device } => {
                let interface = self.inputs.devices.iter().find(|(_, name)| *name == device);
                interface.is_some_and(|(interface, _)| self.is_point_to_point(interface, device) == Some(true))
            }
            Via::OnLink { .. } | Via::Resolved { .. } => false,
        };
        single || !hop.watches.is_empty()
    }
}
