//! Interfaces, interface lists and addresses.

use ipnet::IpNet;

use super::Family;
use super::item::Item;
use crate::routeros::{Note, Severity};

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its properties as written.
    pub item: Item,
    /// Its present name.
    pub name: String,
    /// The name that the port had before anybody renamed it.
    pub default_name: Option<String>,
    /// Last word of its menu: `ethernet`, `bridge`, `vlan`, `pppoe-client`, `vrrp`, …
    pub kind: String,
    /// The interface that it runs over: of a VLAN, PPPoE client, VRRP, …
    pub parent: Option<String>,
}

/// An interface list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceList {
    /// Its properties as written.
    pub item: Item,
    /// Its name.
    pub name: String,
    /// Lists whose members it takes.
    pub include: Vec<String>,
    /// Lists whose members it then leaves out.
    pub exclude: Vec<String>,
}

/// `interface` belongs to `group`: a member of a list, or a port of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its properties as written.
    pub item: Item,
    /// The list or bridge.
    pub group: String,
    /// The interface.
    pub interface: String,
}

/// An address of the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Its properties as written.
    pub item: Item,
    /// Of `/ip` or of `/ipv6`.
    pub family: Family,
    /// The address with the length of its prefix.
    pub address: IpNet,
    /// What is reached on the link: the prefix, or the peer of a point-to-point address.
    pub network: IpNet,
    /// Where it is.
    pub interface: String,
}

impl Interface {
    pub(super) fn read(kind: String, item: Item) -> Option<Self> {
        let default_name = item.text("default-name").map(str::to_owned);
        let name = item.text("name").map(str::to_owned).or_else(|| default_name.clone())?;
        let parent = item.text("interface").map(str::to_owned);
        Some(Self { item, name, default_name, kind, parent })
    }

    /// Frames go to one neighbour, so that the interface alone is a next hop.
    pub fn is_point_to_point(&self) -> bool {
        !matches!(
            self.kind.as_str(),
            "ethernet" | "bridge" | "vlan" | "vrrp" | "bonding" | "wireless" | "wifi" | "eoip" | "macvlan" | "vxlan"
        )
    }
}

impl InterfaceList {
    pub(super) fn read(item: Item) -> Option<Self> {
        let lists = |name| item.text(name).unwrap_or_default().split(',').filter(|list| !list.is_empty());
        let (include, exclude) =
            (lists("include").map(str::to_owned).collect(), lists("exclude").map(str::to_owned).collect());
        Some(Self { name: item.text("name")?.to_owned(), include, exclude, item })
    }
}

impl Member {
    /// `group` is the property that names the list or bridge.
    pub(super) fn read(item: Item, group: &str) -> Option<Self> {
        let interface = item.text("interface")?.to_owned();
        Some(Self { group: item.text(group)?.to_owned(), interface, item })
    }
}

impl Address {
    pub(super) fn read(item: Item, family: Family, notes: &mut Vec<Note>) -> Option<Self> {
        let text = item.text("address")?;
        let interface = item.text("interface").unwrap_or_default().to_owned();
        let whole = text.parse::<IpNet>().ok().or_else(|| with_netmask(text, item.text("netmask")));
        let Some(address) = whole.filter(|net| family.holds(net.addr())) else {
            let message = format!("`{text}` is no address with a prefix length");
            notes.push(Note::new(Severity::Error, "value-bad", item.place("address"), message));
            return None;
        };
        let peer = item.text("network").and_then(|peer| peer.parse::<std::net::IpAddr>().ok());
        let network = match peer {
            Some(peer) if address.prefix_len() == address.max_prefix_len() => IpNet::from(peer),
            _ => address.trunc(),
        };
        if peer.is_some_and(|peer| peer != network.addr()) {
            let message = format!("`network={}` does not fit `{address}`", item.text("network").unwrap_or_default());
            let fix = format!("network={}", network.addr());
            notes.push(Note::new(Severity::Warning, "network-mismatch", item.place("network"), message).with_fix(fix));
        }
        Some(Self { family, address, network, interface, item })
    }
}

fn with_netmask(address: &str, netmask: Option<&str>) -> Option<IpNet> {
    let address: std::net::IpAddr = address.parse().ok()?;
    match netmask {
        Some(mask) => IpNet::with_netmask(address, mask.parse().ok()?).ok(),
        None => Some(address.into()),
    }
}
