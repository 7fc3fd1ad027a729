//! What brings uplinks up, watches them, and changes routes by script.

use std::time::Duration;

use super::Family;
use super::item::{Expressions, Item};
use super::route::Route;
use super::values::duration;
use crate::routeros::{self, Condition, Script, Selector, Span};

/// A client that gets the interface's address, and perhaps a default route, from the ISP: DHCP or PPPoE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its properties as written.
    pub item: Item,
    /// It is a DHCP client.
    pub dhcp: bool,
    /// Of its addresses.
    pub family: Family,
    /// The interface that carries the traffic: the DHCP client's, or the PPPoE client itself.
    pub interface: String,
    /// A default route comes with it, of this distance.
    pub default_route: Option<u8>,
    /// Tables that get the default route, with their distances, besides or instead of main.
    pub tables: Vec<(String, Option<u8>)>,
    /// The ISP's resolvers are used.
    pub peer_dns: bool,
    /// The gateway of the lease is watched.
    pub checked: bool,
}

/// A host that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netwatch {
    /// Its properties as written.
    pub item: Item,
    /// Address or name.
    pub host: String,
    /// Between two probes, if written.
    pub interval: Option<Duration>,
    /// For an answer, if written.
    pub timeout: Option<Duration>,
    /// What its scripts do.
    pub up: Actions,
    /// What its scripts do.
    pub down: Actions,
}

/// What a script does, as far as routes are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// Changes of routes.
    pub routes: Vec<RouteChange>,
    /// It does something else to the configuration too, or cannot be read to its end.
    pub other: bool,
}

/// A script's change of the routes that `condition` selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteChange {
    /// Which routes; `None` for all.
    pub condition: Option<Condition>,
    /// What becomes of them.
    pub change: Change,
}

/// What a script does to a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Switches it on.
    Enable,
    /// Switches it off.
    Disable,
    /// Sets its distance.
    Distance(u8),
    /// Sets its gateway.
    Gateway,
}

/// A stored script: of `/system script`, a scheduler, a DHCP client or a PPP profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredScript {
    /// Where its text is written.
    pub span: Span,
    /// Its name in `/system script`, by which others run it; `None` for one that a schedule, lease or connection runs.
    pub name: Option<String>,
    /// Its text.
    pub text: String,
    /// What it does.
    pub actions: Actions,
}

impl Client {
    pub(super) fn dhcp(item: Item, family: Family) -> Option<Self> {
        let adds = match item.text("add-default-route") {
            // For IPv6 router advertisements bring it.
            None => family == Family::V4,
            Some(word) => word != "no" && word != "false",
        };
        let tables = item.text("default-route-tables").unwrap_or_default();
        let tables = tables.split(',').filter(|table| !table.is_empty()).map(|table| match table.split_once(':') {
            Some((table, distance)) => (table.to_owned(), distance.parse().ok()),
            None => (table.to_owned(), None),
        });
        Some(Self {
            dhcp: true,
            family,
            interface: item.text("interface")?.to_owned(),
            default_route: adds.then(|| distance(&item)),
            tables: tables.collect(),
            peer_dns: item.text("use-peer-dns").is_none_or(|word| word != "no" && word != "false"),
            checked: item.text("check-gateway").is_some_and(|word| word != "none"),
            item,
        })
    }

    pub(super) fn pppoe(item: &Item) -> Option<Self> {
        Some(Self {
            dhcp: false,
            family: Family::V4,
            interface: item.text("name")?.to_owned(),
            default_route: item.flag("add-default-route").then(|| distance(item)),
            tables: Vec::new(),
            peer_dns: item.flag("use-peer-dns"),
            checked: true,
            item: item.clone(),
        })
    }
}

fn distance(item: &Item) -> u8 {
    item.text("default-route-distance").and_then(|text| text.parse().ok()).unwrap_or(1)
}

impl Netwatch {
    pub(super) fn read(item: Item) -> Option<Self> {
        let script = |name| item.text(name).map(Actions::read).unwrap_or_default();
        let (up, down) = (script("up-script"), script("down-script"));
        let time = |name| item.text(name).and_then(duration);
        let (interval, timeout) = (time("interval"), time("timeout"));
        Some(Self { host: item.text("host")?.to_owned(), interval, timeout, up, down, item })
    }
}

impl Actions {
    /// What a script text does.
    pub fn read(text: &str) -> Self {
        let Script { statements, notes, .. } = routeros::read(text.as_bytes());
        let mut actions =
            Self { routes: Vec::new(), other: notes.iter().any(|note| note.severity > routeros::Severity::Info) };
        for statement in &statements {
            let menu = statement.menu.join(" ");
            if menu != "ip route" && menu != "ipv6 route" {
                actions.other |= matches!(statement.verb.as_str(), "add" | "set" | "remove" | "enable" | "disable");
                continue;
            }
            let change = match statement.verb.as_str() {
                "enable" => Change::Enable,
                "disable" => Change::Disable,
                "set" => match (statement.text("disabled"), statement.text("distance").map(str::parse)) {
                    (Some("yes" | "true"), _) => Change::Disable,
                    (Some("no" | "false"), _) => Change::Enable,
                    (None, Some(Ok(distance))) => Change::Distance(distance),
                    _ if statement.argument("gateway").is_some() => Change::Gateway,
                    _ => {
                        actions.other = true;
                        continue;
                    }
                },
                _ => {
                    actions.other = true;
                    continue;
                }
            };
            for selector in &statement.items {
                match selector {
                    Selector::Find { condition, .. } => {
                        actions.routes.push(RouteChange { condition: condition.clone(), change: change.clone() });
                    }
                    Selector::Name(_) | Selector::Id(_) | Selector::Unknown(_) => actions.other = true,
                }
            }
        }
        actions
    }

    /// It may change `route`.
    pub fn concern(&self, route: &Route) -> bool {
        let mut expressions = Expressions::default();
        self.routes.iter().any(|change| {
            change
                .condition
                .as_ref()
                .is_none_or(|condition| route.item.satisfies(condition, &mut expressions).unwrap_or(true))
        })
    }
}

impl StoredScript {
    /// The script in property `name` of `item`.
    pub(super) fn read(item: &Item, name: &str) -> Option<Self> {
        let text = item.text(name)?;
        Some(Self {
            span: item.place(name),
            name: (name == "source").then(|| item.text("name").map(str::to_owned)).flatten(),
            text: text.to_owned(),
            actions: Actions::read(text),
        })
    }
}
