//! Watched hosts and stored scripts: those that only switch routes become health rules.

use std::time::Duration;

use super::compile::Compiler;
use super::{Timing, WatchKey};
use crate::routeros::dialect::Dialect;
use crate::routeros::model::item::Expressions;
use crate::routeros::model::route::MAIN;
use crate::routeros::model::service::{Actions, Change, Netwatch, RouteChange};
use crate::routeros::{Severity, Span, read};

/// What a watched host does to routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthRule {
    /// The entry of `/tool netwatch`.
    pub span: Span,
    /// The host.
    pub watch: WatchKey,
    /// When it is asked.
    pub timing: Timing,
    /// What holds while it answers: number in [`super::Routing::routes`] and effect.
    pub up: Vec<(usize, Effect)>,
    /// What holds while it does not. Where rules contradict each other, this wins.
    pub down: Vec<(usize, Effect)>,
}

/// What becomes of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is switched on.
    Enable,
    /// It is switched off.
    Disable,
    /// It gets this distance.
    Distance(u8),
}

impl HealthRule {
    /// The routes that it changes.
    pub fn routes(&self) -> impl Iterator<Item = usize> {
        self.up.iter().chain(&self.down).map(|(index, _)| *index)
    }

    pub(super) fn touches(&self, route: usize) -> bool {
        self.routes().any(|index| index == route)
    }

    pub(super) fn renumber(&mut self, places: &[usize]) {
        for (index, _) in self.up.iter_mut().chain(&mut self.down) {
            *index = places.get(*index).copied().unwrap_or(usize::MAX);
        }
    }
}

impl Compiler<'_> {
    /// The watched hosts whose scripts switch routes. Notes about everything else that scripts do.
    pub(super) fn health(&mut self) -> Vec<HealthRule> {
        let model = self.inputs.model;
        let mut rules = Vec::new();
        let mut unmirrored = Vec::new();
        for host in model.netwatch.iter().filter(|host| !host.item.disabled()) {
            let [up, down] = [("up-script", &host.up), ("down-script", &host.down)]
                .map(|(name, actions)| self.with_called(host.item.text(name).unwrap_or_default(), actions));
            if up.routes.is_empty() && down.routes.is_empty() && !up.other && !down.other {
                continue;
            }
            let Some((watch, timing)) = self.watched_host(host) else {
                unmirrored
                    .extend([up, down].map(|actions| (host.item.span, actions, "what its script does is left out")));
                continue;
            };
            let ((up_effects, up_known), (down_effects, down_known)) = (self.effects(&up), self.effects(&down));
            let aims = !up.routes.is_empty() || !down.routes.is_empty();
            if aims && up_known && down_known && up_effects.is_empty() && down_effects.is_empty() {
                let message = "its script switches routes that are not there";
                self.note(Severity::Warning, "netwatch-route", host.item.span, message);
            }
            for (actions, known) in [(up, up_known), (down, down_known)] {
                if actions.other || !known {
                    let message = "what its script does besides switching routes is left out";
                    unmirrored.push((host.item.span, actions, message));
                }
            }
            let mut rule = HealthRule { span: host.item.span, watch, timing, up: up_effects, down: down_effects };
            self.keep_probe_route(&mut rule);
            if rule.routes().next().is_some() {
                rules.push(rule);
            }
        }
        for (span, actions, message) in unmirrored {
            self.unmirrored("netwatch-script", span, &actions, &rules, message);
        }
        self.stored_scripts(&rules);
        rules
    }

    /// Host and timing of a netwatch entry.
    fn watched_host(&mut self, host: &Netwatch) -> Option<(WatchKey, Timing)> {
        let place = host.item.place("host");
        match host.item.text("type") {
            None | Some("simple" | "icmp") => {}
            Some(kind) => {
                let message = format!("`type={kind}` of a watched host cannot be mirrored: only pings are");
                self.note(Severity::Warning, "netwatch-type", host.item.place("type"), message);
                self.fix("type=simple");
                return None;
            }
        }
        let Ok(address) = host.host.parse() else {
            let message = format!("`{}` is no address: only addresses are watched", host.host);
            self.note(Severity::Warning, "netwatch-host", place, message);
            return None;
        };
        let thresholds = host.item.properties.iter().find(|property| property.name.starts_with("thr-"));
        if let Some(property) = thresholds {
            let message = format!("`{}` is left out: one lost ping makes the host down", property.name);
            self.note(Severity::Warning, "netwatch-threshold", property.span, message);
        }
        if host.item.text("src-address").is_some() {
            let message = "the probe leaves by the route to the host, whatever `src-address` says";
            self.note(Severity::Warning, "netwatch-source", host.item.place("src-address"), message);
        }
        let (interval, timeout) = match self.inputs.dialect {
            Dialect::V6 => (Duration::from_secs(60), Duration::from_secs(1)),
            Dialect::V7 => (Duration::from_secs(10), Duration::from_secs(3)),
        };
        let least = Duration::from_millis(10);
        let interval = host.interval.unwrap_or(interval).max(least);
        let timeout = host.timeout.unwrap_or(timeout).max(least);
        let main = self.inputs.table_base + super::MAIN;
        let pinned = self
            .routes
            .iter()
            .any(|route| route.table == main && !route.is_default() && route.destination.contains(&address));
        if !pinned && !self.is_on_link(address) {
            let message =
                format!("no route of `{MAIN}` leads to `{address}` alone: its probe may leave by another uplink");
            self.note(Severity::Warning, "netwatch-leak", place, message);
            self.fix(format!("/ip route add dst-address={address}/32 gateway=GATEWAY"));
        }
        Some((WatchKey::Host { address, interval, timeout }, Timing { interval, timeout, count: 1 }))
    }

    /// `actions` of the script `text`, with those of the stored scripts that it runs or that it names.
    fn with_called(&mut self, text: &str, actions: &Actions) -> Actions {
        let model = self.inputs.model;
        let mut all = actions.clone();
        let called = |name: &str| model.scripts.iter().find(|script| script.name.as_deref() == Some(name));
        if let Some(script) = called(text.trim()) {
            self.handled.insert(script.span);
            return script.actions.clone();
        }
        for statement in read(text.as_bytes()).statements {
            if *statement.menu != ["system", "script"] || statement.verb != "run" {
                continue;
            }
            for selector in &statement.items {
                let script = match selector {
                    crate::routeros::Selector::Name(name) => called(name),
                    _ => None,
                };
                match script {
                    Some(script) => {
                        self.handled.insert(script.span);
                        all.routes.extend(script.actions.routes.iter().cloned());
                        all.other |= script.actions.other;
                    }
                    None => all.other = true,
                }
            }
        }
        all
    }

    /// What `actions` do to the routes, and whether that is all that they do to them.
    fn effects(&self, actions: &Actions) -> (Vec<(usize, Effect)>, bool) {
        let mut expressions = Expressions::default();
        let (mut effects, mut known) = (Vec::new(), true);
        for RouteChange { condition, change } in &actions.routes {
            let effect = match change {
                Change::Enable => Effect::Enable,
                Change::Disable => Effect::Disable,
                Change::Distance(distance) => Effect::Distance(*distance),
                Change::Gateway => {
                    known = false;
                    continue;
                }
            };
            for (index, origin) in self.origins.iter().enumerate() {
                let Some(route) = origin.and_then(|origin| self.inputs.model.routes.get(origin)) else { continue };
                let meant = condition.as_ref().map(|condition| route.item.satisfies(condition, &mut expressions));
                match meant.unwrap_or(Some(true)) {
                    Some(true) => effects.push((index, effect)),
                    Some(false) => {}
                    None => known = false,
                }
            }
        }
        (effects, known)
    }

    /// A script that switches off the route of its own probe would never see the host again.
    fn keep_probe_route(&mut self, rule: &mut HealthRule) {
        let WatchKey::Host { address, .. } = rule.watch else { return };
        let main = self.inputs.table_base + super::MAIN;
        let routes = &self.routes;
        let is_own = |index: &usize| {
            routes
                .get(*index)
                .is_some_and(|route| route.table == main && !route.is_default() && route.destination.contains(&address))
        };
        let before = rule.down.len();
        rule.down.retain(|(index, effect)| *effect != Effect::Disable || !is_own(index));
        if rule.down.len() < before {
            let message = format!("its script switches off the route to `{address}` itself; that route stays on");
            self.note(Severity::Warning, "netwatch-own-route", rule.span, message);
        }
    }
}
