//! Numbers for what RouterOS knows by name: connection marks, routing marks, packet marks, interfaces.

use std::collections::{BTreeMap, BTreeSet};

use pcc_ebpf::abi::MarkFields;
use serde::{Deserialize, Serialize};

use crate::routeros::model::Model;
use crate::routeros::model::matcher::Test;
use crate::routeros::model::route::MAIN;
use crate::routeros::model::rule::{Action, Rule};

/// The marks of a configuration. Numbers run from 1; 0 is "no mark".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Connection marks.
    pub connection: Numbers,
    /// Routing tables other than main; a routing mark names its table.
    pub routing: Numbers,
    /// Packet marks.
    pub packet: Numbers,
}

/// Names and their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers(BTreeMap<String, u32>);

/// The interfaces of a configuration that have a Linux device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices(Vec<Device>);

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// RouterOS's name.
    pub interface: String,
    /// The Linux device.
    pub linux: String,
    /// What steps call it, from 1.
    pub number: u32,
}

impl Names {
    /// Every mark that an active rule sets or asks for, and every table that has a route. `previous` keeps its numbers,
    /// because conntrack marks of an earlier run may still hold them.
    pub fn of(model: &Model, previous: &Self) -> Self {
        let (mut connection, mut routing, mut packet) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        routing.extend(model.tables.iter().filter(|table| !table.item.disabled()).map(|table| table.name.clone()));
        routing.extend(model.routes.iter().filter(|route| route.active()).map(|route| route.table.clone()));
        routing.extend(model.rules.iter().filter(|rule| !rule.item.disabled()).filter_map(|rule| rule.mark.clone()));
        routing.extend(model.rules.iter().filter(|rule| !rule.item.disabled()).filter_map(|rule| rule.table.clone()));
        let clients = model.clients.iter().filter(|client| !client.item.disabled());
        routing.extend(clients.flat_map(|client| client.tables.iter().map(|(table, _)| table.clone())));
        for rule in rules(model) {
            match &rule.action {
                Action::MarkConnection(mark) => _ = connection.insert(mark.clone()),
                Action::MarkRouting(mark) => _ = routing.insert(mark.clone()),
                Action::MarkPacket(mark) => _ = packet.insert(mark.clone()),
                _ => {}
            }
            for matcher in &rule.matchers {
                match &matcher.test {
                    Test::ConnectionMark(Some(mark)) => _ = connection.insert(mark.clone()),
                    Test::RoutingMark(Some(mark)) => _ = routing.insert(mark.clone()),
                    Test::PacketMark(Some(mark)) => _ = packet.insert(mark.clone()),
                    _ => {}
                }
            }
        }
        routing.remove(MAIN);
        for marks in [&mut connection, &mut routing, &mut packet] {
            marks.remove("no-mark");
        }
        Self {
            connection: Numbers::assign(connection, &previous.connection.0),
            routing: Numbers::assign(routing, &previous.routing.0),
            packet: Numbers::assign(packet, &previous.packet.0),
        }
    }

    /// These, and those of `previous` that are gone: their numbers stay theirs as long as connections may hold them.
    #[must_use]
    pub fn remembering(&self, previous: &Self) -> Self {
        Self {
            connection: self.connection.remembering(&previous.connection),
            routing: self.routing.remembering(&previous.routing),
            packet: self.packet.remembering(&previous.packet),
        }
    }

    /// How they fit into the bits `mask` of both marks; without a mask into the lowest bits. Where the mask allows it there
    /// is room for some more names, so that a script may grow under its live connections. The error is the number of bits
    /// that it takes.
    pub fn fields(&self, mask: Option<u32>) -> Result<MarkFields, u32> {
        const ROOM: u32 = 7;
        let (connections, routings, packets) = (self.connection.most(), self.routing.most(), self.packet.most());
        MarkFields::fit(mask, connections.max(ROOM), routings.max(ROOM), packets)
            .or_else(|_| MarkFields::fit(mask, connections, routings, packets))
    }
}

impl Numbers {
    /// The number of `name`.
    pub fn get(&self, name: &str) -> Option<u32> {
        self.0.get(name).copied()
    }

    /// Names with their numbers, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().map(|(name, number)| (name.as_str(), *number))
    }

    /// The name of `number`.
    pub fn name(&self, number: u32) -> Option<&str> {
        self.iter().find(|(_, known)| *known == number).map(|(name, _)| name)
    }

    /// Each name gets the number that it had, or else the lowest one that none had.
    pub fn assign(names: impl IntoIterator<Item = String>, previous: &BTreeMap<String, u32>) -> Self {
        let names: BTreeSet<String> = names.into_iter().collect();
        let mut numbers: BTreeMap<_, _> = previous
            .iter()
            .filter(|(name, _)| names.contains(*name))
            .map(|(name, number)| (name.clone(), *number))
            .collect();
        let mut taken: BTreeSet<u32> = previous.values().copied().collect();
        let mut free = 1;
        for name in names {
            numbers.entry(name).or_insert_with(|| {
                while !taken.insert(free) {
                    free += 1;
                }
                free
            });
        }
        Self(numbers)
    }

    fn remembering(&self, previous: &Self) -> Self {
        Self(previous.0.iter().chain(&self.0).map(|(name, number)| (name.clone(), *number)).collect())
    }

    /// Names with their numbers.
    pub const fn map(&self) -> &BTreeMap<String, u32> {
        &self.0
    }

    fn most(&self) -> u32 {
        self.0.values().copied().max().unwrap_or(0)
    }
}

impl From<BTreeMap<String, u32>> for Numbers {
    fn from(numbers: BTreeMap<String, u32>) -> Self {
        Self(numbers)
    }
}

impl Devices {
    /// The interfaces that `map` gives a Linux device. A port may be named by its present or by its default name.
    /// `previous` keeps its numbers.
    pub fn of(model: &Model, map: &BTreeMap<String, String>, previous: &BTreeMap<String, u32>) -> Self {
        let present = |name: &String| {
            let renamed = model.interfaces.iter().find(|interface| interface.default_name.as_ref() == Some(name));
            renamed.map_or_else(|| name.clone(), |interface| interface.name.clone())
        };
        let by_name: BTreeMap<String, &String> = map.iter().map(|(name, linux)| (present(name), linux)).collect();
        let numbers = Numbers::assign(by_name.keys().cloned(), previous);
        let device = |(interface, linux): (&String, &&String)| Device {
            interface: interface.clone(),
            linux: (*linux).clone(),
            number: numbers.get(interface).unwrap_or(0),
        };
        Self(by_name.iter().map(device).collect())
    }

    /// The device of the interface `name`.
    pub fn get(&self, name: &str) -> Option<&Device> {
        self.0.iter().find(|device| device.interface == name)
    }

    /// All of them, by interface.
    pub fn iter(&self) -> impl Iterator<Item = &Device> {
        self.0.iter()
    }
}

/// The interfaces in list `list`: those of the lists that it includes, without those that it excludes, and its own members.
/// `None` for a list that does not exist, or whose members only a running router knows (`dynamic`, `static`).
pub fn members(model: &Model, list: &str) -> Option<BTreeSet<String>> {
    collect(model, list, 0)
}

fn collect(model: &Model, list: &str, depth: usize) -> Option<BTreeSet<String>> {
    // RouterOS refuses lists that include themselves.
    const DEEPEST: usize = 16;
    let own = model.members.iter().filter(|member| member.group == list && !member.item.disabled());
    let own = own.map(|member| member.interface.clone());
    match list {
        "all" => return Some(model.interfaces.iter().map(|interface| interface.name.clone()).collect()),
        "none" => return Some(BTreeSet::new()),
        _ => {}
    }
    let known = model.lists.iter().find(|known| known.name == list)?;
    if depth > DEEPEST {
        return None;
    }
    let mut interfaces = BTreeSet::new();
    for included in &known.include {
        interfaces.extend(collect(model, included, depth + 1)?);
    }
    for excluded in &known.exclude {
        let excluded = collect(model, excluded, depth + 1)?;
        interfaces.retain(|interface| !excluded.contains(interface));
    }
    interfaces.extend(own);
    Some(interfaces)
}

/// `interface` is in list `list`, all of whose parts are known: as [`members`], but also for interfaces that only the
/// mapping to devices names.
pub fn is_member(model: &Model, list: &str, interface: &str) -> bool {
    holds(model, list, interface, 0)
}

fn holds(model: &Model, list: &str, interface: &str, depth: usize) -> bool {
    const DEEPEST: usize = 16;
    let mut own = model.members.iter().filter(|member| member.group == list && !member.item.disabled());
    if list == "all" || own.any(|member| member.interface == interface) {
        return true;
    }
    let Some(known) = model.lists.iter().find(|known| known.name == list).filter(|_| depth <= DEEPEST) else {
        return false;
    };
    let within = |lists: &[String]| lists.iter().any(|list| holds(model, list, interface, depth + 1));
    within(&known.include) && !within(&known.exclude)
}

fn rules(model: &Model) -> impl Iterator<Item = &Rule> {
    model.mangle.iter().chain(&model.nat).filter(|rule| rule.active())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(marks: &str, previous: &Names) -> Names {
        let rules: String = marks
            .split(' ')
            .map(|mark| format!("add chain=prerouting action=mark-connection new-connection-mark={mark}\n"))
            .collect();
        let script = crate::routeros::read(format!("/ip firewall mangle\n{rules}").as_bytes());
        Names::of(&Model::build(&script).model, previous)
    }

    #[test]
    fn a_number_that_connections_may_hold_is_given_to_no_other_name() {
        let first = names("a b", &Names::default());
        let second = names("b c", &first);
        assert_eq!(second.connection.map(), &[("b".to_owned(), 2), ("c".to_owned(), 3)].into());
        let known = second.remembering(&first);
        let third = names("a c d", &known);
        assert_eq!(third.connection.map(), &[("a".to_owned(), 1), ("c".to_owned(), 3), ("d".to_owned(), 4)].into());
        assert_eq!(third.remembering(&known).connection.get("b"), Some(2));
    }
}
