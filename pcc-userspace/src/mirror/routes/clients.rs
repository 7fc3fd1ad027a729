//! Default routes of DHCP and PPPoE clients, and scripts that give a route the gateway of the lease.

use ipnet::IpNet;

use super::compile::Compiler;
use super::{Candidate, Hop, Method, Via, WatchKey};
use crate::host::{Family, RouteKind};
use crate::routeros::model;
use crate::routeros::model::item::{Expressions, Item};
use crate::routeros::model::route::{self, Route};
use crate::routeros::model::service::Client;
use crate::routeros::model::values::everything;
use crate::routeros::{Selector, Severity, Span, Statement, read};

/// Stands for the gateway of the lease: no host has an address of this network (RFC 6676).
const GATEWAY: &str = "233.252.0.1";
/// What RouterOS tells the script when the lease begins.
const BOUND: &str = ":local bound 1\n:local \"gateway-address\" \"233.252.0.1\"\n:local \"lease-address\" \"233.252.0.2\"\n\
                     :local \"server-address\" \"233.252.0.1\"\n";

impl Compiler<'_> {
    /// The default routes that clients bring.
    pub(super) fn clients(&mut self) {
        let model = self.inputs.model;
        for client in model.clients.iter().filter(|client| !client.item.disabled()) {
            let tables = client.tables.iter().map(|(table, distance)| {
                (table.as_str(), distance.or(client.default_route).unwrap_or(1), "default-route-tables")
            });
            let main = client.default_route.map(|distance| (route::MAIN, distance, "add-default-route"));
            let wanted: Vec<_> = main.into_iter().chain(tables).collect();
            if wanted.is_empty() {
                continue;
            }
            let Some(device) = self.device(&client.interface, client.item.span, "client") else { continue };
            let watches: Vec<_> = self.client_check(client, &device).into_iter().collect();
            for (name, distance, property) in wanted {
                let Some(table) = self.table(name, client.item.place(property)) else { continue };
                let hop = Hop { via: Via::Learned { device: device.clone() }, watches: watches.clone() };
                let route = dynamic(client.item.span, table, everything(client.family), distance, hop);
                self.routes.push(route);
                self.origins.push(None);
            }
        }
    }

    fn client_check(&mut self, client: &Client, device: &str) -> Option<WatchKey> {
        let place = client.item.place("check-gateway");
        let method = match client.item.text("check-gateway")? {
            "none" => return None,
            "ping" => Method::Ping,
            "arp" => Method::Arp,
            other => {
                let message = format!("`check-gateway={other}` cannot be mirrored");
                self.note(Severity::Error, "check-bfd", place, message);
                self.fix("check-gateway=ping");
                return None;
            }
        };
        let family = Family::from(client.family);
        let via = Via::Learned { device: device.to_owned() };
        Some(WatchKey::Gateway { via, family, method, target_scope: self.own_scope(10) })
    }

    /// Runs each client's script as for a new lease: routes whose gateway it sets follow the lease from now on.
    pub(super) fn leases(&mut self) {
        let model = self.inputs.model;
        let clients = model.clients.iter().filter(|client| client.dhcp && client.family == model::Family::V4);
        for client in clients.filter(|client| !client.item.disabled()) {
            let Some(text) = client.item.text("script") else { continue };
            let interface = client.interface.replace(['"', '\\', '$'], "");
            let script = read(format!("{BOUND}:local interface \"{interface}\"\n{text}").as_bytes());
            let is_lease = |statement: &&Statement| {
                *statement.menu == ["ip", "route"] && statement.text("gateway").is_some_and(is_lease)
            };
            for statement in script.statements.iter().filter(is_lease) {
                self.lease(client, statement);
            }
            let place = client.item.place("script");
            let changes = ["add", "set", "remove", "enable", "disable"];
            let rest = |statement: &&Statement| changes.contains(&statement.verb.as_str()) && !is_lease(statement);
            if self.handled.contains(&place) && script.statements.iter().any(|statement| rest(&statement)) {
                let message = "what this script does besides setting gateways is left out";
                self.note(Severity::Warning, "lease-script", place, message);
            }
        }
    }

    fn lease(&mut self, client: &Client, statement: &Statement) {
        let place = client.item.place("script");
        let Some(device) = self.device(&client.interface, client.item.span, "client") else { return };
        let via = Via::Learned { device };
        let model = self.inputs.model;
        if statement.verb == "add" {
            let route = Route::read(Item::new(statement), model::Family::V4, &mut Vec::new());
            let Some(table) = self.table(&route.table, place) else { return };
            let watches = self.check(&route, &via).into_iter().collect();
            let candidate = dynamic(place, table, route.destination, route.distance, Hop { via, watches });
            let (scope, target_scope) = (self.scope(&route), route.target_scope);
            self.routes.push(Candidate { scope, target_scope, ..candidate });
            self.origins.push(None);
            self.handled.insert(place);
            let message = format!("the route that it adds follows the lease of `{}`", client.interface);
            self.note(Severity::Info, "lease-route", place, message);
            return;
        }
        if statement.verb != "set" {
            return;
        }
        let mut expressions = Expressions::default();
        for index in 0..self.routes.len() {
            let Some(route) = self.origins[index].and_then(|origin| model.routes.get(origin)) else { continue };
            let meant = statement.items.iter().any(|selector| match selector {
                Selector::Find { condition: None, .. } => true,
                Selector::Find { condition: Some(condition), .. } => {
                    route.item.satisfies(condition, &mut expressions) == Some(true)
                }
                _ => false,
            });
            if !meant || route.family != model::Family::V4 {
                continue;
            }
            let watches = self.check(route, &via).into_iter().collect();
            self.handled.insert(place);
            self.routes[index].kind = RouteKind::Unicast;
            self.routes[index].enabled |= matches!(statement.text("disabled"), Some("no" | "false"));
            self.routes[index].hops = vec![Hop { via: via.clone(), watches }];
            let message = format!("the gateway of the route at line {} follows the lease", route.span().line);
            self.note(Severity::Info, "lease-gateway", place, message);
        }
    }
}

/// A route that a client brings.
fn dynamic(span: Span, table: u32, destination: IpNet, distance: u8, hop: Hop) -> Candidate {
    Candidate {
        span,
        table,
        destination,
        distance,
        enabled: true,
        scope: 30,
        target_scope: 10,
        kind: RouteKind::Unicast,
        hops: vec![hop],
        preferred_source: None,
    }
}

/// The lease's gateway, alone or with the client's interface.
fn is_lease(gateway: &str) -> bool {
    gateway.split('%').next() == Some(GATEWAY)
}
