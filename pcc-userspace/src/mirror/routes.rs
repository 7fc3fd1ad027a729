//! The script's routes, routing rules and watched gateways on this host.
//!
//! ```text
//! Model ─ compile ─▶ Routing ─┬─ watched ─▶ what to probe
//!                             ├─ active ──▶ kernel routes for this host and this health
//!                             └─ rules ───▶ kernel rules
//! ```
//!
//! The kernel only ever holds *active* routes: per table and destination those of the lowest distance that lead somewhere now.
//! Where this differs from RouterOS, it is on the safe side and a note says so: a default route resolves no next hop, so that
//! no probe leaks through another uplink, and connected networks come before every table.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::host::{Family, Observed, RouteKind};
use crate::routeros::Span;
use crate::routeros::dialect::Dialect;
use crate::routeros::model::{self, Model};

pub use active::active;
pub use compile::compile;
pub use rules::{Action, PolicyRule, rules};
pub use scripts::{Effect, HealthRule};
pub use watch::{Egress, Method, Timing, Watch, WatchKey, watched};

mod active;
mod clients;
mod compile;
mod doubts;
mod gateway;
mod resolve;
mod rules;
mod scripts;
mod unmirrored;
mod watch;

/// Id of the notes about an interface without a device.
pub const UNMAPPED: &str = "interface-unmapped";

/// Table of the script's main routes, relative to the table base.
pub const MAIN: u32 = 97;

/// What [`compile`] reads.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The script.
    pub model: &'a Model,
    /// What it is written for.
    pub dialect: Dialect,
    /// Linux device name by RouterOS interface name.
    pub devices: &'a BTreeMap<String, String>,
    /// Id by name of routing table or routing mark, 1 to 96; without main.
    pub tables: &'a BTreeMap<String, u32>,
    /// The kernel table of id 0.
    pub table_base: u32,
    /// Time between two gateway checks of a v6 script, which cannot say it; `None` for RouterOS's 10 s.
    pub check_interval: Option<Duration>,
    /// The host, for notes alone.
    pub observed: &'a Observed,
}

/// The checked routing of a script.
#[derive(Clone, Debug)]
pub struct Routing {
    /// Routes that may become active: those of the text in its order, then those of clients.
    pub routes: Vec<Candidate>,
    /// Routing rules, in order.
    pub rules: Vec<PolicyRule>,
    /// What watched hosts do to routes.
    pub health: Vec<HealthRule>,
    /// How gateways are checked.
    pub timing: Timing,
    /// The kernel table of id 0.
    pub table_base: u32,
    /// Ids of the marked tables.
    pub tables: Vec<u32>,
}

/// A route that may become active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What it was written as.
    pub span: Span,
    /// Kernel table.
    pub table: u32,
    /// Where it leads to.
    pub destination: IpNet,
    /// Of the reachable ones the lowest wins; equal ones are ECMP.
    pub distance: u8,
    /// Written without `disabled`. A [`HealthRule`] may change it.
    pub enabled: bool,
    /// Resolves next hops of routes whose target scope is not lower; as RouterOS corrects it.
    pub scope: u8,
    /// Its own next hops are resolved through routes up to this scope.
    pub target_scope: u8,
    /// Forwards, or drops and how.
    pub kind: RouteKind,
    /// Next hops in the order of the text; none unless it forwards.
    pub hops: Vec<Hop>,
    /// Source address of the router's own packets that take it.
    pub preferred_source: Option<IpAddr>,
}

/// One next hop of a [`Candidate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Where it is.
    pub via: Via,
    /// What must be up.
    pub watches: Vec<WatchKey>,
}

/// Where a next hop is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// At the other end of this device: the destination itself on a broadcast link.
    Device(String),
    /// This address on the link of this device.
    OnLink {
        /// The next hop.
        address: IpAddr,
        /// Linux name.
        device: String,
    },
    /// This address, wherever it is found.
    Resolved {
        /// The next hop, or the check host behind it.
        address: IpAddr,
        /// Kernel table whose routes lead to it.
        table: u32,
    },
    /// What the host itself uses as default gateway on this device, from a lease or from PPP.
    Learned {
        /// Linux name.
        device: String,
    },
}

impl Candidate {
    /// Of its destination.
    pub fn family(&self) -> Family {
        Family::of(self.destination.addr())
    }

    /// It leads everywhere.
    pub fn is_default(&self) -> bool {
        self.destination.prefix_len() == 0
    }
}

impl Routing {
    /// Kernel table of the script's main routes.
    pub fn main(&self) -> u32 {
        self.table_base + MAIN
    }

    /// Families that need kernel rules: IPv4, and IPv6 if the script routes it.
    pub fn families(&self) -> Vec<Family> {
        let uses = |family| {
            self.routes.iter().any(|route| route.family() == family)
                || self.rules.iter().any(|rule| rule.net_family() == Some(family))
        };
        Family::BOTH.into_iter().filter(|family| *family == Family::V4 || uses(*family)).collect()
    }
}

impl From<model::Family> for Family {
    fn from(family: model::Family) -> Self {
        match family {
            model::Family::V4 => Self::V4,
            model::Family::V6 => Self::V6,
        }
    }
}

#[cfg(test)]
mod tests;
