//! Routes, routing tables and routing rules.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Family;
use super::item::Item;
use super::values::everything;
use crate::routeros::{Note, Severity, Span};

/// The table of everything that carries no routing mark.
pub const MAIN: &str = "main";

/// A static route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its properties as written.
    pub item: Item,
    /// Of `/ip` or of `/ipv6`.
    pub family: Family,
    /// Where it leads to.
    pub destination: IpNet,
    /// Its next hops; several are ECMP. Empty for a blackhole.
    pub gateways: Vec<Gateway>,
    /// The lowest of the active ones wins. Default 1.
    pub distance: u8,
    /// Default 30. Resolves next hops of routes whose target scope is not lower.
    pub scope: u8,
    /// Default 10.
    pub target_scope: u8,
    /// How its next hops are watched.
    pub check: Option<Check>,
    /// `routing-table` of v7, `routing-mark` of v6; default [`MAIN`].
    pub table: String,
    /// What it does with a packet.
    pub kind: RouteKind,
    /// Source address of the router's own packets that take it.
    pub preferred_source: Option<IpAddr>,
    /// A value of it was lost or cannot be read.
    pub broken: bool,
}

/// A next hop: at least one of address and interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// The address.
    pub address: Option<IpAddr>,
    /// The interface, alone or behind `%`.
    pub interface: Option<String>,
    /// The table behind `@` that resolves the address.
    pub table: Option<String>,
}

/// `check-gateway`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// ICMP echo.
    Ping,
    /// ARP request.
    Arp,
    /// Bidirectional forwarding detection.
    Bfd,
}

/// What a [`Route`] does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// Sends it to a next hop.
    Unicast,
    /// Drops it.
    Blackhole,
    /// Drops it with an ICMP message.
    Unreachable,
    /// Drops it with another ICMP message.
    Prohibit,
}

/// A routing table of v7.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its properties as written.
    pub item: Item,
    /// Its name.
    pub name: String,
    /// Its routes are installed.
    pub fib: bool,
}

/// A routing rule of `/routing rule` (v7) or `/ip route rule` (v6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutingRule {
    /// Its properties as written.
    pub item: Item,
    /// `src-address`.
    pub source: Option<IpNet>,
    /// `dst-address`.
    pub destination: Option<IpNet>,
    /// `routing-mark`.
    pub mark: Option<String>,
    /// `interface`.
    pub interface: Option<String>,
    /// `lookup` (default), `lookup-only-in-table`, `drop`, `unreachable`, …
    pub action: String,
    /// The table to look in.
    pub table: Option<String>,
    /// A value of it was lost or cannot be read.
    pub broken: bool,
}

impl Route {
    pub(crate) fn read(item: Item, family: Family, notes: &mut Vec<Note>) -> Self {
        let known = notes.len();
        let mut number = |name: &str, default: u8| match item.text(name) {
            None => default,
            Some(text) => text.parse().unwrap_or_else(|_| {
                notes.push(bad(item.place(name), name, text));
                default
            }),
        };
        let (distance, scope, target_scope) = (number("distance", 1), number("scope", 30), number("target-scope", 10));
        let destination = match item.text("dst-address") {
            None => everything(family),
            Some(text) => prefix(text).filter(|net| family.holds(net.addr())).unwrap_or_else(|| {
                notes.push(bad(item.place("dst-address"), "dst-address", text));
                everything(family)
            }),
        };
        let kind = match item.text("type") {
            Some("blackhole") => RouteKind::Blackhole,
            Some("unreachable") => RouteKind::Unreachable,
            Some("prohibit") => RouteKind::Prohibit,
            _ if item.flag("blackhole") => RouteKind::Blackhole,
            _ => RouteKind::Unicast,
        };
        let check = match item.text("check-gateway") {
            None | Some("none") => None,
            Some("ping") => Some(Check::Ping),
            Some("arp") => Some(Check::Arp),
            Some("bfd" | "bfd-singlehop" | "bfd-multihop") => Some(Check::Bfd),
            Some(text) => {
                notes.push(bad(item.place("check-gateway"), "check-gateway", text));
                None
            }
        };
        let table = item.text("routing-table").or_else(|| item.text("routing-mark")).unwrap_or(MAIN).to_owned();
        let gateways: Vec<_> = item.text("gateway").unwrap_or_default().split(',').filter_map(Gateway::read).collect();
        if gateways.is_empty() && kind == RouteKind::Unicast && item.property("gateway").is_none() {
            let message = "a route needs a `gateway`, or `blackhole`";
            notes.push(Note::new(Severity::Error, "value-bad", item.span, message));
        }
        let lost = ["gateway", "dst-address", "routing-table", "routing-mark"].iter().any(|name| item.lost(name));
        let broken = lost || notes.len() > known || gateways.is_empty() && kind == RouteKind::Unicast;
        let preferred_source = item.text("pref-src").and_then(|text| text.parse().ok());
        Self {
            family,
            destination,
            gateways,
            distance,
            scope,
            target_scope,
            check,
            table,
            kind,
            preferred_source,
            broken,
            item,
        }
    }

    /// The `add` that made it.
    pub fn span(&self) -> Span {
        self.item.span
    }

    /// It takes part: neither disabled nor broken.
    pub fn active(&self) -> bool {
        !self.item.disabled() && !self.broken
    }

    /// It leads everywhere.
    pub fn is_default(&self) -> bool {
        self.destination.prefix_len() == 0
    }
}

impl Gateway {
    fn read(text: &str) -> Option<Self> {
        let (text, table) = match text.trim().split_once('@') {
            Some((text, table)) => (text, Some(table.to_owned())),
            None => (text.trim(), None),
        };
        let (first, interface) = match text.split_once('%') {
            Some((first, interface)) => (first, Some(interface.to_owned())),
            None => (text, None),
        };
        let address = first.parse().ok();
        let interface = if address.is_none() { Some(text.to_owned()) } else { interface };
        (!text.is_empty()).then_some(Self { address, interface, table })
    }
}

impl Table {
    pub(super) fn read(item: Item) -> Option<Self> {
        Some(Self { name: item.text("name")?.to_owned(), fib: item.flag("fib"), item })
    }
}

impl RoutingRule {
    pub(super) fn read(item: Item, notes: &mut Vec<Note>) -> Self {
        let mut broken = item.properties.iter().any(|property| item.lost(&property.name));
        let mut net = |name: &str| {
            let text = item.text(name)?;
            let net = prefix(text);
            if net.is_none() {
                notes.push(bad(item.place(name), name, text));
                broken = true;
            }
            net
        };
        let (source, destination) = (net("src-address"), net("dst-address"));
        let text = |name| item.text(name).map(str::to_owned);
        Self {
            source,
            destination,
            mark: text("routing-mark"),
            interface: text("interface"),
            action: item.text("action").unwrap_or("lookup").to_owned(),
            table: text("table"),
            broken,
            item,
        }
    }
}

fn prefix(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)).map(|net: IpNet| net.trunc())
}

fn bad(span: Span, name: &str, text: &str) -> Note {
    Note::new(Severity::Error, "value-bad", span, format!("`{text}` is no value for `{name}`"))
}
