//! What a script says, in RouterOS's own terms: the state of the menus after it has run, each item with its place.
//!
//! [`Model::build`] runs `add`, `set`, `remove`, `enable`, `disable`, `move` and `find` over the script's own items. What
//! the text alone cannot answer is a note, and so is every menu that is left out, once.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use super::{Note, Script, Severity, Span};
pub(super) use change::is_reference;
use interface::{Address, Interface, InterfaceList, Member};
use item::Item;
use route::{Route, RoutingRule, Table};
use rule::Rule;
use service::{Client, Netwatch, StoredScript};
use store::Store;
use values::{AddressRange, duration};

mod change;
pub mod interface;
pub mod item;
pub mod matcher;
pub mod route;
pub mod rule;
pub mod scope;
mod select;
pub mod service;
mod store;
#[cfg(test)]
mod tests;
pub mod values;

/// Which of the two menu trees an item stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// `/ip`.
    V4,
    /// `/ipv6`.
    V6,
}

/// The state of the menus after a script has run. Disabled items are included.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// All interfaces that the text makes, renames or sets.
    pub interfaces: Vec<Interface>,
    /// Ports of bridges.
    pub bridge_ports: Vec<Member>,
    /// Interface lists; the built-in ones are not among them.
    pub lists: Vec<InterfaceList>,
    /// Members of interface lists.
    pub members: Vec<Member>,
    /// Addresses of the router.
    pub addresses: Vec<Address>,
    /// Static routes.
    pub routes: Vec<Route>,
    /// Routing tables of v7.
    pub tables: Vec<Table>,
    /// Routing rules.
    pub rules: Vec<RoutingRule>,
    /// VRFs: their name or, in v6, routing mark.
    pub vrfs: Vec<Item>,
    /// Address lists of both families.
    pub address_lists: BTreeMap<String, Vec<ListEntry>>,
    /// Mangle rules.
    pub mangle: Vec<Rule>,
    /// NAT rules.
    pub nat: Vec<Rule>,
    /// Filter rules.
    pub filter: Vec<Rule>,
    /// Raw rules.
    pub raw: Vec<Rule>,
    /// DHCP and PPPoE clients.
    pub clients: Vec<Client>,
    /// Watched hosts.
    pub netwatch: Vec<Netwatch>,
    /// Stored scripts.
    pub scripts: Vec<StoredScript>,
    /// PPP profiles.
    pub profiles: Vec<Item>,
    /// `/ip dns`, `/ip settings`, `/ipv6 settings`, `/routing settings`, by menu without the slash.
    pub settings: BTreeMap<&'static str, Item>,
    /// Items of the menus that only the linter reads, by menu.
    pub read: BTreeMap<&'static str, Vec<Item>>,
}

/// One entry of an address list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// The `add` that made it.
    pub span: Span,
    /// Of `/ip` or of `/ipv6`.
    pub family: Family,
    /// Its addresses; `None` for a host name.
    pub addresses: Option<AddressRange>,
    /// As written.
    pub text: String,
    /// How long it stays in the list; `None` for ever.
    pub timeout: Option<Duration>,
    /// Switched off.
    pub disabled: bool,
}

/// A model, and what became of the statements.
#[derive(Debug)]
pub struct Built {
    /// The model.
    pub model: Model,
    /// About statements that were not, or not fully, applied.
    pub notes: Vec<Note>,
    /// Where the statements stand that were applied, in the order of the text, each once.
    pub applied: Vec<Span>,
}

impl Family {
    /// `address` is of this family.
    pub fn holds(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }

    /// The menu tree: `ip` or `ipv6`.
    pub fn menu(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ipv6",
        }
    }
}

impl Model {
    /// Runs `script` over an empty configuration.
    pub fn build(script: &Script) -> Built {
        let mut store = Store::run(script);
        let mut notes = std::mem::take(&mut store.notes);
        let mut model = Self::default();
        for family in [Family::V4, Family::V6] {
            let mut take = |menu: &str| store.take(&format!("{} {menu}", family.menu()));
            let addresses = take("address").into_iter();
            model.addresses.extend(addresses.filter_map(|item| Address::read(item, family, &mut notes)));
            model.routes.extend(take("route").into_iter().map(|item| Route::read(item, family, &mut notes)));
            model.rules.extend(take("route rule").into_iter().map(|item| RoutingRule::read(item, &mut notes)));
            for item in take("firewall address-list") {
                model.add_list_entry(&item, family, &mut notes);
            }
            let mut rules = |menu: &str| -> Vec<_> {
                take(menu).into_iter().map(|item| Rule::read(item, family, &mut notes)).collect()
            };
            model.mangle.extend(rules("firewall mangle"));
            model.nat.extend(rules("firewall nat"));
            model.filter.extend(rules("firewall filter"));
            model.raw.extend(rules("firewall raw"));
            model.clients.extend(take("dhcp-client").into_iter().filter_map(|item| Client::dhcp(item, family)));
        }
        model.lists.extend(store.take("interface list").into_iter().filter_map(InterfaceList::read));
        let bridge_ports = store.take("interface bridge port").into_iter();
        model.bridge_ports.extend(bridge_ports.filter_map(|item| Member::read(item, "bridge")));
        let members = store.take("interface list member").into_iter();
        model.members.extend(members.filter_map(|item| Member::read(item, "list")));
        for (kind, item) in store.take_interfaces() {
            if kind == "pppoe-client" {
                model.clients.extend(Client::pppoe(&item));
            }
            model.interfaces.extend(Interface::read(kind, item));
        }
        model.tables.extend(store.take("routing table").into_iter().filter_map(Table::read));
        let rules = store.take("routing rule").into_iter();
        model.rules.extend(rules.map(|item| RoutingRule::read(item, &mut notes)));
        model.vrfs = [store.take("ip vrf"), store.take("ip route vrf")].concat();
        model.profiles = store.take("ppp profile");
        model.netwatch.extend(store.take("tool netwatch").into_iter().filter_map(Netwatch::read));
        model.read_scripts(&mut store);
        for menu in scope::SETTINGS {
            model.settings.extend(store.take(menu).into_iter().next().map(|item| (menu, item)));
        }
        model.read.extend(scope::READ.map(|menu| (menu, store.take(menu))));
        // The reader knows most menus' properties, too.
        let key = |note: &Note| (note.id, note.span.line, note.span.column);
        let said: HashSet<_> = script.notes.iter().map(key).collect();
        notes.retain(|note| !said.contains(&key(note)));
        Built { model, notes, applied: store.applied }
    }

    /// The items of every menu that the model is made of, by menu, as they are after `script` has run.
    pub fn items(script: &Script) -> BTreeMap<String, Vec<Item>> {
        Store::run(script).menus
    }

    /// The interface called `name`.
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }

    /// The setting `name` of `/ip settings` and its like.
    pub fn setting(&self, menu: &str, name: &str) -> Option<&str> {
        self.settings.get(menu)?.text(name)
    }

    fn add_list_entry(&mut self, item: &Item, family: Family, notes: &mut Vec<Note>) {
        let (Some(list), Some(text)) = (item.text("list"), item.text("address")) else { return };
        let entry = ListEntry {
            span: item.span,
            family,
            addresses: AddressRange::parse(text),
            text: text.to_owned(),
            timeout: item.text("timeout").and_then(duration).filter(|time| !time.is_zero()),
            disabled: item.disabled(),
        };
        if entry.timeout.is_some() {
            let message = format!("`{text}` is in list `{list}` only until this time is over, or the router restarts");
            notes.push(Note::new(Severity::Info, "list-timeout", item.place("timeout"), message));
        }
        self.address_lists.entry(list.to_owned()).or_default().push(entry);
    }

    fn read_scripts(&mut self, store: &mut Store) {
        for item in store.take("system script") {
            self.scripts.extend(StoredScript::read(&item, "source"));
        }
        for item in store.take("system scheduler") {
            self.scripts.extend(StoredScript::read(&item, "on-event"));
        }
        for client in &self.clients {
            self.scripts.extend(StoredScript::read(&client.item, "script"));
        }
        for profile in &self.profiles {
            self.scripts.extend(StoredScript::read(profile, "on-up"));
            self.scripts.extend(StoredScript::read(profile, "on-down"));
        }
    }
}
