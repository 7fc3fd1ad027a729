//! The host as it is ([`Observed`]) and the only ways to change it ([`Change`]).
//!
//! A change is a value that prints as the command that an administrator would type; `pcc plan` shows these values and
//! [`Host::apply`] performs the same ones. Every change is idempotent: adding what is there and removing what is
//! gone succeed.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

pub mod clash;
pub mod connections;
pub mod conntrack;
pub mod device;
mod display;
pub mod firewall;
pub mod guard;
pub mod linux;
mod message;
pub mod netlink;
pub mod nft;
pub mod sysctl;
mod wake;

/// Protocol number of our routes and rules (`ip route show proto 205`). Not in iproute2's `rt_protos`.
pub const PROTOCOL: u8 = 205;
/// The kernel's number of table main.
pub const TABLE_MAIN: u32 = 254;

/// An IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order in which steps are made.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of `address`.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Frames carry an Ethernet header; false for tun, ppp, wg and the like.
    pub ethernet: bool,
    /// `IFF_POINTOPOINT`.
    pub point_to_point: bool,
    /// `IFF_UP`.
    pub up: bool,
    /// `IFF_LOWER_UP`.
    pub carrier: bool,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// What the kernel calls its kind: `veth`, `bridge`, `vlan`, …; `None` for a network card.
    pub kind: Option<String>,
}

impl Link {
    /// Bytes before the IP header: 14 for Ethernet, else 0.
    pub const fn header_length(&self) -> u32 {
        if self.ethernet { 14 } else { 0 }
    }

    /// A network card that is up.
    #[cfg(test)]
    pub fn card(index: u32, name: &str) -> Self {
        Self {
            index,
            name: name.into(),
            ethernet: true,
            point_to_point: false,
            up: true,
            carrier: true,
            mtu: 1500,
            kind: None,
        }
    }
}

/// An address of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Device that has it.
    pub ifindex: u32,
    /// The address with its prefix length.
    pub network: IpNet,
    /// The other end of a point-to-point address.
    pub peer: Option<IpAddr>,
    /// Scope is global (`RT_SCOPE_UNIVERSE`), and for IPv6 it is neither tentative, deprecated nor temporary.
    pub usable_source: bool,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination; a default route has prefix length 0.
    pub destination: IpNet,
    /// Where it leads; empty for a blackhole.
    pub next_hops: Vec<NextHop>,
    /// Routing table.
    pub table: u32,
    /// Metric (`RTA_PRIORITY`), `None` for the family's default.
    pub metric: Option<u32>,
    /// Who made it (`rtm_protocol`).
    pub protocol: u8,
    /// Unicast, blackhole, …
    pub kind: RouteKind,
    /// `RTA_PREFSRC`.
    pub preferred_source: Option<IpAddr>,
    /// IPv4 `rtm_scope` (0 universe, 253 link); 0 for IPv6.
    pub scope: u8,
}

/// One way of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Router; `None` for a directly connected destination.
    pub gateway: Option<IpAddr>,
    /// Device.
    pub ifindex: u32,
    /// Its name at the time of observation, for printing.
    pub device: String,
    /// `RTNH_F_ONLINK`: the gateway need not be in a connected network.
    pub onlink: bool,
    /// Share of a multipath route, 1 to 256.
    pub weight: u16,
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// Forwards.
    Unicast,
    /// Drops without a word.
    Blackhole,
    /// Drops with "host unreachable".
    Unreachable,
    /// Drops with "administratively prohibited".
    Prohibit,
    /// Any other `rtm_type`.
    Other(u8),
}

/// A routing rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Family.
    pub family: Family,
    /// Preference: lower ones are asked first.
    pub priority: u32,
    /// `FRA_FWMARK` and `FRA_FWMASK`.
    pub mark: Option<(u32, u32)>,
    /// Source prefix.
    pub source: Option<IpNet>,
    /// Destination prefix.
    pub destination: Option<IpNet>,
    /// Name of the device that the packet came in by (`FRA_IIFNAME`).
    pub input: Option<String>,
    /// What becomes of a packet that matches.
    pub action: RuleAction,
    /// Table to look up; 0 for rules that do something else.
    pub table: u32,
    /// `suppress_prefixlength`.
    pub suppress_prefix_length: Option<u32>,
    /// `FIB_RULE_INVERT`: the rule applies to what does *not* match.
    pub inverted: bool,
    /// Who made it (`FRA_PROTOCOL`).
    pub protocol: u8,
}

/// What a routing rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// Looks up a table; without a route there the next rule is asked.
    Lookup,
    /// Drops without a word.
    Blackhole,
    /// Drops with "network unreachable".
    Unreachable,
    /// Drops with "administratively prohibited".
    Prohibit,
    /// Any other `FR_ACT_…`.
    Other(u8),
}

impl Rule {
    /// A rule of ours for every packet: look up `table`.
    pub fn lookup(family: Family, priority: u32, table: u32) -> Self {
        Self {
            family,
            priority,
            mark: None,
            source: None,
            destination: None,
            input: None,
            action: RuleAction::Lookup,
            table,
            suppress_prefix_length: None,
            inverted: false,
            protocol: PROTOCOL,
        }
    }
}

/// Which of the two marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mark {
    /// `meta mark`, fwmark.
    Packet,
    /// `ct mark`, CONNMARK.
    Connection,
}

/// A packet-mark or conntrack-mark use of somebody else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MarkUse {
    /// Where it is: `nftables table inet tailscale`, `ip rule`, …
    pub place: String,
    /// The rule as its own tool prints it.
    pub text: String,
    /// The mark that it uses.
    pub mark: Mark,
    /// It sets bits; otherwise it looks at them.
    pub sets: bool,
    /// The bits it looks at or sets, at least one; `None` for the whole mark.
    pub mask: Option<u32>,
}

/// The host at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Devices.
    pub links: Vec<Link>,
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Routes of all tables but `local`, without cloned ones, without multicast.
    pub routes: Vec<Route>,
    /// Routing rules.
    pub rules: Vec<Rule>,
}

impl Observed {
    /// The devices that a configuration may name, for hints.
    pub fn device_names(&self) -> String {
        let names: Vec<&str> = self.links.iter().map(|link| link.name.as_str()).filter(|name| *name != "lo").collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }

    /// The device called `name`.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}

/// One change of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes `/proc/sys/<key with / for .>`. Keys are written with slashes: `net/ipv4/ip_forward`.
    Sysctl {
        /// Path below `/proc/sys`.
        key: String,
        /// Value without a line end.
        value: String,
    },
    /// Gives a device an address.
    AddAddress {
        /// The device.
        device: String,
        /// The address with the length of its prefix.
        address: IpNet,
    },
    /// Takes it away.
    RemoveAddress {
        /// The device.
        device: String,
        /// The address with the length of its prefix.
        address: IpNet,
    },
    /// Adds a route beside others to the same destination (`ip route append`), or replaces nothing if it is there.
    AddRoute(Route),
    /// Puts a route in the place of the one with its destination, table and metric, without a moment with neither.
    ReplaceRoute(Route),
    /// Removes exactly this route.
    RemoveRoute(Route),
    /// Adds a routing rule.
    AddRule(Rule),
    /// Removes a routing rule.
    RemoveRule(Rule),
    /// One transaction of `nft -f`.
    Nft {
        /// What it is for, one line.
        summary: String,
        /// The commands.
        script: String,
    },
    /// Deletes the conntrack entries whose mark has `mark` under `mask`, by one netlink message.
    DeleteConnections {
        /// Only this family's; `None` for both.
        family: Option<Family>,
        /// Value.
        mark: u32,
        /// Bits that are compared.
        mask: u32,
    },
    /// Ends connections whose answered TCP is met by resets ([`crate::ruleset`]): each client of them gets one bare ACK that
    /// makes it speak, and every other entry whose mark has `mark` under `mask` is deleted.
    EndConnections {
        /// The family.
        family: Family,
        /// Value.
        mark: u32,
        /// Bits that are compared.
        mask: u32,
        /// Mark of the packets that we send.
        wake: u32,
    },
    /// Deletes the conntrack entries without source translation that lead from a host that is none of `local` to one that
    /// is neither of `local` nor in `inside`.
    SweepUntranslated {
        /// Addresses of this host.
        local: Vec<IpAddr>,
        /// Networks that are not reached by an uplink.
        inside: Vec<IpNet>,
    },
    /// Clears the bits `mask` of every conntrack mark whose `ours` bit is set; the connections themselves stay.
    ReleaseConnections {
        /// Entries with this bit are ours.
        ours: u32,
        /// Bits to clear.
        mask: u32,
    },
}

/// What can be done to a host. The kernel is never mocked: the one other body, in tests, wraps this one and makes a
/// chosen change fail.
pub trait Host {
    /// Reads the host.
    fn observe(&mut self) -> anyhow::Result<Observed>;
    /// What is known of `links` beside that, by interface index.
    fn device_facts(&mut self, links: &[&Link]) -> anyhow::Result<BTreeMap<u32, device::Facts>>;
    /// Performs one change.
    fn apply(&mut self, change: &Change) -> anyhow::Result<()>;
    /// Performs a repair: one that fails is reported and tried again at the next event, and the others go on.
    fn try_apply(&mut self, change: &Change) {
        tracing::debug!("{change}");
        if let Err(error) = self.apply(change) {
            tracing::error!("`{change}`: {error:#}");
        }
    }
    /// The value of `/proc/sys/<key>` without its line end; `None` where the kernel has no such key.
    fn sysctl(&self, key: &str) -> anyhow::Result<Option<String>>;
    /// What others do with marks: everything but the nftables table `inet <own_table>` and the rules of our protocol.
    fn mark_uses(&mut self, own_table: &str, observed: &Observed) -> anyhow::Result<Vec<MarkUse>>;
    /// The nftables table `inet <table>` as nft prints it, without the elements of its sets; `None` if there is none.
    fn table(&mut self, table: &str) -> anyhow::Result<Option<String>>;
    /// The comment of that table, empty where it has none; `None` if there is no such table.
    fn table_comment(&mut self, table: &str) -> anyhow::Result<Option<String>> {
        Ok(self.table(table)?.map(|listing| nft::comment(&listing).unwrap_or_default().to_owned()))
    }
    /// The netlink port that deletions of connections come from.
    fn conntrack_port(&self) -> anyhow::Result<u32>;
    /// Counts the connections whose mark has the bit `ours`, by their mark under `mask`.
    fn count_by_mark(&mut self, ours: u32, mask: u32) -> anyhow::Result<BTreeMap<u32, u64>>;
}

impl fmt::Display for Family {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}
