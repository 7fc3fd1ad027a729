//! The small world that rules and packets share: few of everything, so that they meet.

use std::net::IpAddr;

/// The same thing for IPv4 and for IPv6, as RouterOS writes it.
pub type Pair = [&'static str; 2];

/// Interfaces, with the numbers from 1 that the mapping to devices gives them in this order.
pub const INTERFACES: [&str; 4] = ["bridge1", "ether1", "ether2", "ether3"];

/// An interface list.
pub struct List {
    pub name: &'static str,
    pub include: &'static [&'static str],
    pub exclude: &'static [&'static str],
    pub members: &'static [&'static str],
}

/// Interface lists of the script.
pub const LISTS: [List; 5] = [
    List { name: "WAN", include: &[], exclude: &[], members: &["ether1", "ether2"] },
    List { name: "LAN", include: &[], exclude: &[], members: &["ether3", "bridge1"] },
    List { name: "one", include: &[], exclude: &[], members: &["ether2"] },
    List { name: "most", include: &["WAN", "LAN"], exclude: &["one"], members: &[] },
    List { name: "own members stay", include: &["LAN"], exclude: &["LAN"], members: &["ether1"] },
];

/// Interface lists that rules name.
pub const LIST_NAMES: [&str; 7] = ["WAN", "LAN", "one", "most", "own members stay", "all", "none"];

/// Addresses of packets: hosts, the router's own, a broadcast address, multicast, and what lies at the edges of [`NETS`].
pub const ADDRESSES: [Pair; 10] = [
    ["10.0.0.2", "2001:db8:0:1::2"],
    ["203.0.113.9", "2001:db8:9::9"],
    ["10.0.0.1", "2001:db8:0:1::1"],
    ["10.0.0.255", "2001:db8:0:1:ffff:ffff:ffff:ffff"],
    ["10.0.1.0", "2001:db8:0:2::"],
    ["192.0.2.1", "2001:db8:0:ff::1"],
    ["224.0.0.5", "ff02::5"],
    ["203.0.113.128", "2001:db8:9::8000:0"],
    ["11.255.255.255", "2001:db9::"],
    ["223.255.255.255", "fdff:ffff::1"],
];

/// Addresses of rules and address lists.
pub const NETS: [Pair; 12] = [
    ["10.0.0.0/24", "2001:db8:0:1::/64"],
    ["203.0.113.9", "2001:db8:9::9"],
    ["10.0.0.2", "2001:db8:0:1::2/128"],
    ["10.0.0.0/8", "2001:db8::/32"],
    ["10.0.0.1-10.0.0.2", "2001:db8:0:1::1-2001:db8:0:1::2"],
    ["10.0.0.2-10.0.1.0", "2001:db8:0:1::2-2001:db8:0:2::"],
    ["203.0.113.0-203.0.113.127", "2001:db8:9::-2001:db8:9::7fff:ffff"],
    ["203.0.113.128/25", "2001:db8:9::8000:0/97"],
    ["192.0.2.1/31", "2001:db8:0:ff::1/127"],
    ["0.0.0.0/0", "::/0"],
    ["0.0.0.0-10.255.255.255", "::-2001:db8:0:1::1"],
    ["203.0.113.129-255.255.255.255", "2001:db8:9::8000:1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
];

/// The router's own addresses.
pub const LOCAL: [Pair; 2] = [["10.0.0.1", "2001:db8:0:1::1"], ["192.0.2.1", "2001:db8:0:ff::1"]];
/// The broadcast address of its network.
pub const BROADCAST: &str = "10.0.0.255";

/// Address lists.
pub const ADDRESS_LISTS: [&str; 3] = ["servers", "Servers", "no pcc"];

/// Marks. Some differ by case alone, and all kinds share one name.
pub const CONNECTION_MARKS: [&str; 3] = ["wan1", "Wan1", "via \"2\""];
/// See [`CONNECTION_MARKS`].
pub const PACKET_MARKS: [&str; 2] = ["bulk", "wan1"];
/// See [`CONNECTION_MARKS`].
pub const ROUTING_MARKS: [&str; 2] = ["wan1", "to wan2"];

/// Chains that packets enter only by jumps. The last one has no rules.
pub const CHAINS: [&str; 5] = ["prerouting", "inbound", "classify", "last one", "empty"];

/// Protocols.
pub const PROTOCOLS: [Pair; 8] = [
    ["tcp", "tcp"],
    ["udp", "udp"],
    ["icmp", "icmpv6"],
    ["gre", "47"],
    ["sctp", "sctp"],
    ["udp-lite", "136"],
    ["dccp", "33"],
    ["6", "6"],
];
/// Types and codes of ICMP and ICMPv6.
pub const ICMP_OPTIONS: [Pair; 4] = [["8:0", "128:0"], ["3:1-3", "1:1-3"], ["3", "1"], ["0:0-255", "129"]];
/// TCP flags by bit.
pub const TCP_FLAGS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
/// Fields of `per-connection-classifier`.
pub const PCC_FIELDS: [&str; 9] = [
    "both-addresses",
    "src-address",
    "dst-address",
    "src-port",
    "dst-port",
    "both-ports",
    "src-address-and-port",
    "dst-address-and-port",
    "both-addresses-and-ports",
];
/// Ports of packets, and ranges of rules around them.
pub const PORTS: [u16; 5] = [53, 443, 444, 40_000, 65_535];
/// See [`PORTS`].
pub const PORT_RANGES: [(u16, u16); 6] =
    [(443, 443), (53, 443), (444, 40_000), (40_001, 65_535), (0, 52), (65_535, 65_535)];

/// An address of this world.
pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("address `{text}`: {error}"))
}
