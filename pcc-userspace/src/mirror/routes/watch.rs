//! What has to be probed, and where the probes leave.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::compile::Compiler;
use super::resolve::State;
use super::{Routing, Via};
use crate::host::{Family, Observed};
use crate::routeros::dialect::Dialect;
use crate::routeros::{Severity, Span};

/// Names a [`Watch`]. Two of the same text and the same host are equal, so that a probe outlives a reload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WatchKey {
    /// A gateway with `check-gateway`.
    Gateway {
        /// The next hop.
        via: Via,
        /// Family of its address.
        family: Family,
        /// How it is asked.
        method: Method,
        /// v7 watches next hops of each target scope by themselves; `None` in v6.
        target_scope: Option<u8>,
    },
    /// A host of `/tool netwatch`.
    Host {
        /// Its address.
        address: IpAddr,
        /// Between two probes.
        interval: Duration,
        /// For an answer.
        timeout: Duration,
    },
}

/// How a watch asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// ICMP echo.
    Ping,
    /// ARP request.
    Arp,
}

/// When a watch asks and what it makes of silence. One answer makes it up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two probes.
    pub interval: Duration,
    /// For an answer.
    pub timeout: Duration,
    /// Losses in a row that make it down, at least 1.
    pub count: u32,
}

/// Something to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Its name.
    pub key: WatchKey,
    /// Address to ask. Without one nothing is asked and the watch counts as up: the link decides.
    pub target: Option<IpAddr>,
    /// Where its probes leave.
    pub egress: Egress,
    /// How it asks.
    pub method: Method,
    /// When.
    pub timing: Timing,
    /// The routes that hang on it.
    pub routes: Vec<Span>,
}

/// Where a probe leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Egress {
    /// By this Linux device alone: an answer through another uplink says nothing.
    Device(String),
    /// As the router's own packets do.
    Routing,
    /// Nowhere now: no link or route leads to the target, and every probe counts as lost.
    Nowhere,
}

/// Everything to probe on the host as `observed` and with the health that `down` tells: through which device a check host
/// is asked depends on the routes to it.
pub fn watched(routing: &Routing, observed: &Observed, down: &dyn Fn(&WatchKey) -> bool) -> Vec<Watch> {
    let state = State::settle(routing, observed, down);
    let mut watches: Vec<Watch> = Vec::new();
    for route in &routing.routes {
        for hop in &route.hops {
            for key in &hop.watches {
                match watches.iter_mut().find(|watch| watch.key == *key) {
                    Some(watch) => {
                        watch.routes.push(route.span);
                        // In v6 a route with a higher target scope may resolve what another cannot.
                        if watch.egress == Egress::Nowhere
                            && let Some(again) = state.gateway(key, &hop.via, route.target_scope, route.span)
                        {
                            watch.egress = again.egress;
                        }
                    }
                    None => watches.extend(state.gateway(key, &hop.via, route.target_scope, route.span)),
                }
            }
        }
    }
    for rule in &routing.health {
        let spans = rule.routes().filter_map(|index| routing.routes.get(index)).map(|route| route.span);
        match watches.iter_mut().find(|watch| watch.key == rule.watch) {
            Some(watch) => watch.routes.extend(spans),
            None => watches.extend(state.host(&rule.watch, rule.timing, spans.collect())),
        }
    }
    for watch in &mut watches {
        watch.routes.sort_unstable();
        watch.routes.dedup();
    }
    watches
}

impl State<'_> {
    fn gateway(&self, key: &WatchKey, via: &Via, target_scope: u8, span: Span) -> Option<Watch> {
        let WatchKey::Gateway { family, method, .. } = *key else { return None };
        let (target, egress) = match via {
            Via::Device(device) => (None, Egress::Device(device.clone())),
            Via::OnLink { address, device } => (Some(*address), Egress::Device(device.clone())),
            Via::Resolved { address, table } => (Some(*address), self.egress(*table, *address, target_scope)),
            Via::Learned { device } => {
                (self.learned(device, family).and_then(|way| way.gateway), Egress::Device(device.clone()))
            }
        };
        Some(Watch { key: key.clone(), target, egress, method, timing: self.routing.timing, routes: vec![span] })
    }

    fn host(&self, key: &WatchKey, timing: Timing, routes: Vec<Span>) -> Option<Watch> {
        let WatchKey::Host { address, .. } = *key else { return None };
        let main = self.routing.main();
        let pinned = self.is_connected(address)
            || self
                .routing
                .routes
                .iter()
                .any(|route| route.table == main && !route.is_default() && route.destination.contains(&address));
        let egress = if pinned { self.egress(main, address, u8::MAX) } else { Egress::Routing };
        Some(Watch { key: key.clone(), target: Some(address), egress, method: Method::Ping, timing, routes })
    }

    fn egress(&self, table: u32, address: IpAddr, target_scope: u8) -> Egress {
        match self.resolve(table, address, target_scope).first() {
            Some(way) => Egress::Device(self.name(*way).to_owned()),
            None => Egress::Nowhere,
        }
    }
}

impl Compiler<'_> {
    /// How gateways are checked.
    pub(super) fn timing(&mut self) -> Timing {
        let seconds = Duration::from_secs;
        let checked = self.routes.iter().find(|route| route.hops.iter().any(|hop| !hop.watches.is_empty()));
        let place = checked.map(|route| route.span);
        if self.inputs.dialect == Dialect::V6 {
            if let (Some(place), None) = (place, self.inputs.check_interval) {
                let message =
                    "as in RouterOS 6 gateways are checked every 10 s, and a dead one is noticed after 20 s to 30 s";
                self.note(Severity::Info, "check-timing", place, message);
                self.fix("--check-interval 300ms notices it within one second");
            }
            let interval = self.inputs.check_interval.unwrap_or(seconds(10));
            return Timing { interval, timeout: interval.min(seconds(10)), count: 2 };
        }
        let minute = seconds(60);
        let interval = self.setting("check-gateway-ping-interval", Duration::from_millis(100), 10 * minute);
        let timeout = self.setting("check-gateway-ping-timeout", Duration::from_millis(1), seconds(1));
        let count = self.inputs.model.setting("routing settings", "check-gateway-ping-count").map(str::parse::<u16>);
        if let Some(Err(_)) = count {
            self.bad_setting("check-gateway-ping-count", "it goes from 0 to 65535");
        }
        if let (Some(place), None) = (place, interval) {
            let message =
                "as in RouterOS 7 gateways are checked every 10 s, and a dead one is noticed after 11 s to 21 s";
            self.note(Severity::Info, "check-timing", place, message);
            self.fix("/routing settings set check-gateway-ping-interval=300ms check-gateway-ping-timeout=300ms");
        }
        Timing {
            interval: interval.unwrap_or(seconds(10)),
            timeout: timeout.unwrap_or(seconds(1)),
            count: count.and_then(Result::ok).map_or(2, |count| u32::from(count).max(1)),
        }
    }

    fn setting(&mut self, name: &str, least: Duration, most: Duration) -> Option<Duration> {
        let text = self.inputs.model.setting("routing settings", name)?;
        let value = crate::routeros::model::values::duration(text).filter(|value| (least..=most).contains(value));
        if value.is_none() {
            self.bad_setting(name, &format!("it goes from {least:?} to {}", humantime::format_duration(most)));
        }
        value
    }

    fn bad_setting(&mut self, name: &str, range: &str) {
        let Some(settings) = self.inputs.model.settings.get("routing settings") else { return };
        let message = format!("`{}` is no value for `{name}`: {range}", settings.text(name).unwrap_or_default());
        self.note(Severity::Error, "check-setting", settings.place(name), message);
    }
}

impl fmt::Display for WatchKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway { via, method, .. } => {
                match via {
                    Via::Device(device) => write!(out, "gateway {device}")?,
                    Via::OnLink { address, device } => write!(out, "gateway {address}%{device}")?,
                    Via::Resolved { address, .. } => write!(out, "gateway {address}")?,
                    Via::Learned { device } => write!(out, "gateway learned on {device}")?,
                }
                out.write_str(if *method == Method::Arp { " (arp)" } else { "" })
            }
            Self::Host { address, .. } => write!(out, "host {address}"),
        }
    }
}
