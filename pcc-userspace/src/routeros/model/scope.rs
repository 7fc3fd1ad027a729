//! Which menus the model takes over, which it reads for the linter alone, and which it leaves out.

/// What becomes of a menu's commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A list of items that the model holds.
    List,
    /// Settings: a menu with one item.
    Settings,
    /// Read for the linter, never taken over.
    Read,
    /// Left out.
    Outside,
}

const LISTS: [&str; 29] = [
    "interface",
    "interface bridge port",
    "interface list member",
    "ip address",
    "ip dhcp-client",
    "ip firewall address-list",
    "ip firewall filter",
    "ip firewall mangle",
    "ip firewall nat",
    "ip firewall raw",
    "ip route",
    "ip route rule",
    "ip route vrf",
    "ip vrf",
    "ipv6 address",
    "ipv6 dhcp-client",
    "ipv6 firewall address-list",
    "ipv6 firewall filter",
    "ipv6 firewall mangle",
    "ipv6 firewall nat",
    "ipv6 firewall raw",
    "ipv6 route",
    "ipv6 route rule",
    "ppp profile",
    "routing rule",
    "routing table",
    "system scheduler",
    "system script",
    "tool netwatch",
];

/// Menus of [`Scope::Settings`].
pub(super) const SETTINGS: [&str; 4] = ["ip dns", "ip settings", "ipv6 settings", "routing settings"];

/// Menus of [`Scope::Read`].
pub(super) const READ: [&str; 7] = [
    "ip dhcp-server network",
    "ip hotspot",
    "ip ipsec identity",
    "ip ipsec peer",
    "ip ipsec policy",
    "ip proxy",
    "interface l2tp-server server",
];

/// The scope of the menu whose words are joined by blanks. Every menu straight below `/interface` holds interfaces.
pub fn scope(menu: &str) -> Scope {
    let below_interface = menu.strip_prefix("interface ").is_some_and(|rest| !rest.contains(' '));
    if READ.contains(&menu) {
        Scope::Read
    } else if LISTS.contains(&menu) || below_interface {
        Scope::List
    } else if SETTINGS.contains(&menu) {
        Scope::Settings
    } else {
        Scope::Outside
    }
}

/// The menu holds interfaces, so that its items have a name that other menus refer to.
pub fn holds_interfaces(menu: &str) -> bool {
    menu == "interface" || menu.strip_prefix("interface ").is_some_and(|rest| !rest.contains(' ') && rest != "list")
}

/// `ether1`, `sfp-sfpplus2`, `wlan1`, …: a name that the device gives a port before anybody renames it.
pub fn is_port(name: &str) -> bool {
    const PORTS: [&str; 9] = ["ether", "sfp", "sfp-sfpplus", "sfpplus", "sfp28-", "qsfpplus", "combo", "wlan", "lte"];
    let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    stem.len() < name.len() && PORTS.contains(&stem) || name.starts_with("wifi") && stem.len() < name.len()
}
