//! From what a script says to a checked [`Routing`].

use std::collections::BTreeSet;

use super::{Candidate, Hop, Inputs, MAIN, Routing, UNMAPPED, Via, WatchKey};
use crate::host::RouteKind;
use crate::routeros::dialect::Dialect;
use crate::routeros::model::item::Item;
use crate::routeros::model::route::{self, Check, Route};
use crate::routeros::{Note, Severity, Span};

/// Reads the routes, rules, clients and watched hosts of a script. The notes say what is left out (errors), what probably
/// is not meant (warnings) and what works differently here (infos).
pub fn compile(inputs: &Inputs<'_>) -> (Routing, Vec<Note>) {
    let mut compiler = Compiler {
        inputs: *inputs,
        notes: Vec::new(),
        fresh: false,
        routes: Vec::new(),
        origins: Vec::new(),
        handled: BTreeSet::new(),
    };
    compiler.statics();
    compiler.clients();
    compiler.leases();
    compiler.share_checks();
    let rules = compiler.rules();
    let health = compiler.health();
    // What is switched off and stays so takes no part.
    let kept: Vec<bool> = (0..compiler.routes.len())
        .map(|index| compiler.routes[index].enabled || health.iter().any(|rule| rule.touches(index)))
        .collect();
    compiler.doubts(&kept, &health);
    let timing = compiler.timing();
    let mut routing = Routing {
        routes: compiler.routes,
        rules,
        health,
        timing,
        table_base: inputs.table_base,
        tables: inputs
            .tables
            .values()
            .copied()
            .filter(|id| (1..MAIN).contains(id))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
    };
    routing.keep(&kept);
    (routing, compiler.notes)
}

/// The work in progress.
pub(super) struct Compiler<'a> {
    pub(super) inputs: Inputs<'a>,
    pub(super) notes: Vec<Note>,
    /// The last note was a new one.
    fresh: bool,
    pub(super) routes: Vec<Candidate>,
    /// For each route the number of the model's route that it comes from.
    pub(super) origins: Vec<Option<usize>>,
    /// Where scripts stand that need no further word.
    pub(super) handled: BTreeSet<Span>,
}

impl Routing {
    /// Forgets the routes that are not `kept`.
    fn keep(&mut self, kept: &[bool]) {
        let mut place = 0;
        let places: Vec<usize> = kept
            .iter()
            .map(|kept| {
                place += usize::from(*kept);
                place.saturating_sub(1)
            })
            .collect();
        let mut marks = kept.iter();
        self.routes.retain(|_| *marks.next().unwrap_or(&true));
        for rule in &mut self.health {
            rule.renumber(&places);
        }
    }
}

impl<'a> Compiler<'a> {
    /// What is said of a table or interface is said once, everything else once a place.
    pub(super) fn note(&mut self, severity: Severity, id: &'static str, span: Span, message: impl Into<String>) {
        let note = Note::new(severity, id, span, message);
        let once = id.starts_with("table-") || id.contains("interface");
        self.fresh = !self
            .notes
            .iter()
            .any(|known| (known.id, &known.message) == (note.id, &note.message) && (once || known.span == note.span));
        if self.fresh {
            self.notes.push(note);
        }
    }

    /// The note before gets a fix.
    pub(super) fn fix(&mut self, fix: impl Into<String>) {
        if let Some(note) = self.notes.last_mut().filter(|_| self.fresh) {
            note.fix = Some(fix.into());
        }
    }

    /// The kernel table of routing table `name`.
    pub(super) fn table(&mut self, name: &str, span: Span) -> Option<u32> {
        let base = self.inputs.table_base;
        if name == route::MAIN {
            return Some(base + MAIN);
        }
        let model = self.inputs.model;
        let is_vrf = |vrf: &Item| [vrf.text("name"), vrf.text("routing-mark")].contains(&Some(name));
        if model.vrfs.iter().any(|vrf| is_vrf(vrf) && !vrf.disabled()) {
            self.note(Severity::Error, "table-vrf", span, format!("`{name}` is a VRF, which cannot be mirrored"));
            return None;
        }
        let declared = model.tables.iter().find(|table| table.name == name && !table.item.disabled());
        match (self.inputs.dialect, declared) {
            (Dialect::V7, None) => {
                self.note(Severity::Error, "table-unknown", span, format!("table `{name}` is not declared"));
                self.fix(format!("/routing table add name={name} fib"));
                return None;
            }
            (Dialect::V7, Some(table)) if !table.fib => {
                let message =
                    format!("table `{name}` has no `fib`: its routes are not installed, its packets use main");
                self.note(Severity::Warning, "table-fib", span, message);
                self.fix(format!("/routing table set [find name={name}] fib"));
                return None;
            }
            _ => {}
        }
        match self.inputs.tables.get(name) {
            Some(id) if (1..MAIN).contains(id) => Some(base + id),
            _ => {
                let message = format!("table `{name}` has no number: there are too many tables");
                self.note(Severity::Error, "table-limit", span, message);
                None
            }
        }
    }

    /// The Linux device of `interface`, which `what` needs.
    pub(super) fn device(&mut self, interface: &str, span: Span, what: &str) -> Option<String> {
        if let Some(device) = self.inputs.devices.get(interface) {
            return Some(device.clone());
        }
        self.note(Severity::Error, UNMAPPED, span, format!("no device is given for `{interface}` of this {what}"));
        self.fix(format!("--map {interface}=DEVICE"));
        None
    }

    fn statics(&mut self) {
        let model = self.inputs.model;
        for (index, route) in model.routes.iter().enumerate() {
            if let Some(candidate) = self.candidate(route) {
                self.routes.push(candidate);
                self.origins.push(Some(index));
            }
        }
    }

    /// What `route` becomes. A disabled one is silent about its faults, because it may never be used.
    pub(super) fn candidate(&mut self, route: &Route) -> Option<Candidate> {
        let known = self.notes.len();
        let candidate = self.checked(route);
        if route.item.disabled() {
            self.notes.truncate(known);
        }
        candidate
    }

    fn checked(&mut self, route: &Route) -> Option<Candidate> {
        if route.broken {
            self.note(Severity::Error, "route-broken", route.span(), "a value of this route was lost: it is left out");
            return None;
        }
        let property = if route.item.property("routing-table").is_some() { "routing-table" } else { "routing-mark" };
        let table = self.table(&route.table, route.item.place(property))?;
        if route.check == Some(Check::Bfd) {
            let message = "`check-gateway=bfd` cannot be mirrored: nothing would notice that the gateway is dead";
            self.note(Severity::Error, "check-bfd", route.item.place("check-gateway"), message);
            self.fix("check-gateway=ping");
        }
        let (mut kind, mut hops) = (kernel_kind(route.kind), Vec::new());
        if kind == RouteKind::Unicast {
            for gateway in &route.gateways {
                match self.hop(route, gateway) {
                    Found::Hop(hop) => hops.push(hop),
                    Found::DeadEnd => kind = RouteKind::Unreachable,
                    Found::Nothing => {}
                }
            }
            if !hops.is_empty() {
                kind = RouteKind::Unicast;
            } else if kind == RouteKind::Unicast {
                return None;
            }
        }
        Some(Candidate {
            span: route.span(),
            table,
            destination: route.destination,
            distance: route.distance,
            enabled: !route.item.disabled(),
            scope: self.scope(route),
            target_scope: route.target_scope,
            kind,
            hops,
            preferred_source: route.preferred_source,
        })
    }

    /// v7 raises a scope that is not above the route's own target scope.
    pub(super) fn scope(&self, route: &Route) -> u8 {
        match self.inputs.dialect {
            Dialect::V7 if route.scope <= route.target_scope => route.target_scope.saturating_add(1),
            Dialect::V7 => route.scope.min(254),
            Dialect::V6 => route.scope,
        }
    }

    /// What tells two watched next hops of one address apart: in v7 the target scope, in v6 nothing.
    pub(super) fn own_scope(&self, target_scope: u8) -> Option<u8> {
        (self.inputs.dialect == Dialect::V7).then_some(target_scope)
    }

    /// v6 watches an address for all routes through it.
    fn share_checks(&mut self) {
        if self.inputs.dialect == Dialect::V7 {
            return;
        }
        let switched_on = self.routes.iter().filter(|route| route.enabled);
        let checks: BTreeSet<(Via, WatchKey)> = switched_on
            .flat_map(|route| &route.hops)
            .flat_map(|hop| hop.watches.iter().map(move |watch| (hop.via.clone(), watch.clone())))
            .collect();
        for hop in self.routes.iter_mut().flat_map(|route| &mut route.hops) {
            for (_, watch) in checks.iter().filter(|(via, _)| *via == hop.via) {
                if !hop.watches.contains(watch) {
                    hop.watches.push(watch.clone());
                }
            }
        }
    }
}

/// What a gateway turns out to be.
pub(super) enum Found {
    /// A next hop.
    Hop(Hop),
    /// An interface that leads nowhere, made to keep a route active.
    DeadEnd,
    /// Nothing that can be mirrored; a note says so.
    Nothing,
}

fn kernel_kind(kind: route::RouteKind) -> RouteKind {
    match kind {
        route::RouteKind::Unicast => RouteKind::Unicast,
        route::RouteKind::Blackhole => RouteKind::Blackhole,
        route::RouteKind::Unreachable => RouteKind::Unreachable,
        route::RouteKind::Prohibit => RouteKind::Prohibit,
    }
}
