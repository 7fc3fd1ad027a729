//! What must be known besides a connection to say whose it is: names, marks, devices, addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use ipnet::IpNet;
use pcc_ebpf::abi::{Field, MarkLayout};

use crate::dataplane::Pinned;
use crate::host::Observed;
use crate::host::connections::Connection;
use crate::journal::Journal;
use crate::mirror::names::Names;
use crate::names;
use crate::problem::Problem;

/// An instance as far as connections are concerned.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// What marks mean.
    pub marks: Marks,
    /// Uplinks by id: name, device, interface index.
    pub uplinks: BTreeMap<u32, Uplink>,
    /// Interface indices of the LAN.
    pub lans: Vec<u32>,
    /// Connected networks of the LAN.
    pub inside: Vec<IpNet>,
    /// Addresses of the router.
    pub local: BTreeSet<IpAddr>,
}

/// An uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uplink {
    /// What it is called.
    pub name: String,
    /// Its device, if that exists.
    pub device: Option<String>,
    /// Index of that.
    pub ifindex: Option<u32>,
}

/// What our bits of a conntrack mark mean.
#[derive(Clone, Debug)]
pub enum Marks {
    /// An uplink.
    Uplinks(MarkLayout),
    /// RouterOS's marks.
    Mirror {
        /// The bit that all have.
        ours: u32,
        /// The connection mark.
        connection: Field,
        /// The routing mark of the direction that began.
        routing: Field,
        /// Their names.
        names: Names,
    },
}

impl Default for Marks {
    fn default() -> Self {
        Self::Uplinks(MarkLayout::DEFAULT)
    }
}

/// The ends of a connection, as seen from the LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The end on the side of the LAN.
    pub client: SocketAddr,
    /// The other one.
    pub server: SocketAddr,
    /// The other one began.
    pub inbound: bool,
}

impl Scene {
    /// The scene of the instance whose maps are `pinned`, on the host `observed`.
    pub fn of(pinned: &Pinned, journal: &Journal, observed: &Observed) -> Self {
        let settings = &pinned.settings;
        let marks = match MarkLayout::new(settings.mark_mask) {
            Some(layout) if !journal.mirror => Marks::Uplinks(layout),
            _ => Marks::Mirror {
                ours: settings.mark_ours,
                connection: settings.connection,
                routing: settings.routing,
                names: journal.names.clone(),
            },
        };
        let name = |ifindex: u32| observed.links.iter().find(|link| link.index == ifindex).map(|link| &link.name);
        let uplink = |(called, id): (&String, &u32)| {
            let device =
                pinned.devices.iter().find(|(ifindex, device)| device.uplink == *id && name(**ifindex).is_some());
            let ifindex = device.map(|(ifindex, _)| *ifindex);
            let device = ifindex.and_then(name).cloned();
            (*id, Uplink { name: called.clone(), device, ifindex })
        };
        let uplinks = if journal.mirror { BTreeMap::new() } else { journal.ids.iter().map(uplink).collect() };
        let lans: Vec<u32> =
            pinned.devices.iter().filter(|(_, device)| device.uplink == 0).map(|(ifindex, _)| *ifindex).collect();
        let networks = observed.addresses.iter().filter(|address| lans.contains(&address.ifindex));
        let inside = networks.map(|address| address.network.trunc()).filter(|network| network.prefix_len() > 0);
        let local = observed.addresses.iter().map(|address| address.network.addr());
        Self { marks, uplinks, inside: inside.collect(), local: local.collect(), lans }
    }

    /// The mark, and the bits of it to compare, of the connections that are called `name`: those of an uplink, by name or device, or
    /// those with a connection mark or a routing mark of RouterOS's.
    ///
    /// # Errors
    /// There is no such name.
    pub fn mark(&self, name: &str) -> Result<(u32, u32)> {
        match &self.marks {
            Marks::Uplinks(layout) => {
                let is_called = |uplink: &Uplink| uplink.name == name || uplink.device.as_deref() == Some(name);
                let found = self.uplinks.iter().find(|(_, uplink)| is_called(uplink));
                let known = || self.uplinks.values().map(|uplink| uplink.name.as_str()).collect::<Vec<_>>();
                let (id, _) = found.ok_or_else(|| names::unknown("uplink", name, &known()))?;
                Ok((layout.of(*id), layout.id_mask()))
            }
            Marks::Mirror { ours, connection, routing, names } => {
                let of = |field: &Field, number: u32| (ours | field.of(number), ours | field.mask());
                let by_connection = names.connection.get(name).map(|number| of(connection, number));
                let found = by_connection.or_else(|| names.routing.get(name).map(|number| of(routing, number)));
                let known =
                    || names.connection.iter().chain(names.routing.iter()).map(|(name, _)| name).collect::<Vec<_>>();
                Ok(found.ok_or_else(|| -> Problem { names::unknown("mark", name, &known()) })?)
            }
        }
    }

    /// Who talks to whom, and which of them began. Where nothing tells, the LAN did.
    pub fn ends(&self, connection: &Connection) -> Ends {
        let (source, destination) = connection.original;
        let target = if connection.translated_destination { connection.reply.0 } else { destination };
        let is_inside = |end: SocketAddr| self.inside.iter().any(|network| network.contains(&end.ip()));
        let is_local = |end: SocketAddr| self.local.contains(&end.ip());
        let from_here = is_inside(source) || is_local(source);
        if !from_here && (connection.translated_destination || is_inside(target) || is_local(target)) {
            Ends { client: target, server: source, inbound: true }
        } else {
            Ends { client: source, server: destination, inbound: false }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene() -> Scene {
        let uplink =
            |name: &str, device: &str| Uplink { name: name.into(), device: Some(device.into()), ifindex: Some(7) };
        Scene {
            uplinks: [(1, uplink("fibre", "eth0")), (2, uplink("cable", "eth1"))].into(),
            inside: vec!["10.0.0.0/24".parse().unwrap(), "2001:db8:a::/64".parse().unwrap()],
            local: ["192.0.2.1".parse().unwrap(), "10.0.0.1".parse().unwrap()].into(),
            ..Scene::default()
        }
    }

    fn connection(source: &str, destination: &str, answers_from: Option<&str>) -> Connection {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        Connection {
            protocol: 6,
            original: (source, destination),
            reply: (answers_from.map_or(destination, |end| end.parse().unwrap()), source),
            mark: 0,
            answered: true,
            assured: true,
            translated_destination: answers_from.is_some(),
            tcp_state: None,
            timeout: 1,
            counters: None,
        }
    }

    #[test]
    fn whoever_is_inside_is_the_client() {
        let ends = |connection| {
            let Ends { client, server, inbound } = scene().ends(&connection);
            (client.to_string(), server.to_string(), inbound)
        };
        let is = |client: &str, server: &str, inbound| (client.to_owned(), server.to_owned(), inbound);
        let out = connection("10.0.0.9:4000", "203.0.113.9:443", None);
        assert_eq!(ends(out), is("10.0.0.9:4000", "203.0.113.9:443", false));
        let redirected = connection("10.0.0.9:4000", "203.0.113.9:53", Some("10.0.0.1:53"));
        assert_eq!(ends(redirected), is("10.0.0.9:4000", "203.0.113.9:53", false));
        let forwarded = connection("203.0.113.9:4000", "192.0.2.1:80", Some("10.0.0.9:8080"));
        assert_eq!(ends(forwarded), is("10.0.0.9:8080", "203.0.113.9:4000", true));
        let routed = connection("[2001:db8:f::1]:4000", "[2001:db8:a::2]:22", None);
        assert_eq!(ends(routed), is("[2001:db8:a::2]:22", "[2001:db8:f::1]:4000", true));
        let to_router = connection("203.0.113.9:4000", "192.0.2.1:22", None);
        assert_eq!(ends(to_router), is("192.0.2.1:22", "203.0.113.9:4000", true));
        let behind_a_router = connection("10.9.9.9:4000", "203.0.113.9:443", None);
        assert_eq!(ends(behind_a_router), is("10.9.9.9:4000", "203.0.113.9:443", false));
    }

    #[test]
    fn uplinks_are_found_by_name_and_device_and_misspelt_ones_are_proposed() {
        assert_eq!(scene().mark("cable").unwrap(), (0x82, 0x9f));
        assert_eq!(scene().mark("eth0").unwrap(), (0x81, 0x9f));
        let error = scene().mark("fibr").unwrap_err();
        assert_eq!(
            error.downcast_ref::<Problem>().unwrap().hint,
            "did you mean `fibre`? there are: cable, fibre".replace("cable, fibre", "fibre, cable")
        );
    }

    #[test]
    fn marks_of_a_script_are_found_by_either_name() {
        let numbers = |name: &str| BTreeMap::from([(name.to_owned(), 2)]).into();
        let names = Names { connection: numbers("conn2"), routing: numbers("to_isp2"), ..Names::default() };
        let (routing, connection) = (Field { shift: 0, most: 7 }, Field { shift: 3, most: 7 });
        let scene = Scene { marks: Marks::Mirror { ours: 0x200, connection, routing, names }, ..Scene::default() };
        assert_eq!(scene.mark("conn2").unwrap(), (0x210, 0x238));
        assert_eq!(scene.mark("to_isp2").unwrap(), (0x202, 0x207));
        assert!(scene.mark("conn3").is_err());
    }
}
