//! Rules as plain values, for the reference to interpret and for the script to be written from.

use crate::world::Pair;

/// The rules of a router, and the address lists that they name.
#[derive(Clone, Debug, PartialEq)]
pub struct Router {
    pub rules: Vec<Rule>,
    pub entries: Vec<Entry>,
}

/// One entry of an address list.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub list: &'static str,
    pub ipv6: bool,
    pub net: Pair,
    pub disabled: bool,
}

/// One rule of mangle.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub ipv6: bool,
    pub chain: &'static str,
    pub matchers: Vec<Matcher>,
    pub action: Action,
    pub passthrough: bool,
    pub disabled: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Matcher {
    pub negated: bool,
    pub test: Test,
}

/// An end of a packet's way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    Source,
    Destination,
    Either,
}

/// One of the three independent marks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Connection,
    Packet,
    Routing,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    InInterface(&'static str),
    InInterfaceList(&'static str),
    Address(End, Pair),
    AddressList(End, &'static str),
    AddressType(End, Vec<&'static str>),
    Mark(Kind, Option<&'static str>),
    State(Vec<&'static str>),
    Protocol(Pair),
    Port(End, Vec<(u16, u16)>),
    /// Flags, and whether they must be set.
    TcpFlags(Vec<(&'static str, bool)>),
    PacketSize(u32, u32),
    Icmp(Pair),
    Pcc {
        fields: &'static str,
        denominator: u32,
        remainder: u32,
    },
    Nth {
        every: u32,
        packet: u32,
    },
    Random(u32),
    Dscp(u8),
    /// A relation and a number.
    Ttl(&'static str, u8),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Accept,
    Jump(&'static str),
    Return,
    Passthrough,
    Log,
    Mark(Kind, &'static str),
}

/// Every matcher, and whether it can be negated.
pub const MATCHERS: [(&str, bool); 22] = [
    ("in-interface", true),
    ("in-interface-list", true),
    ("src-address", true),
    ("dst-address", true),
    ("src-address-list", true),
    ("dst-address-list", true),
    ("src-address-type", true),
    ("dst-address-type", true),
    ("connection-mark", true),
    ("packet-mark", true),
    ("routing-mark", true),
    ("connection-state", true),
    ("protocol", true),
    ("src-port", true),
    ("dst-port", true),
    ("port", true),
    ("tcp-flags", false),
    ("packet-size", true),
    ("icmp-options", true),
    ("per-connection-classifier", true),
    ("dscp", true),
    ("ttl", true),
];

/// Matchers that count or throw dice.
pub const CHANCES: [&str; 2] = ["nth", "random"];

/// Every action, and whether `passthrough` means something to it.
pub const ACTIONS: [(&str, bool); 8] = [
    ("accept", false),
    ("jump", false),
    ("return", false),
    ("passthrough", false),
    ("log", false),
    ("mark-connection", true),
    ("mark-packet", true),
    ("mark-routing", true),
];

impl Test {
    /// The property that RouterOS has for it.
    pub const fn property(&self) -> &'static str {
        match self {
            Self::InInterface(_) => "in-interface",
            Self::InInterfaceList(_) => "in-interface-list",
            Self::Address(End::Source, _) => "src-address",
            Self::Address(..) => "dst-address",
            Self::AddressList(End::Source, _) => "src-address-list",
            Self::AddressList(..) => "dst-address-list",
            Self::AddressType(End::Source, _) => "src-address-type",
            Self::AddressType(..) => "dst-address-type",
            Self::Mark(Kind::Connection, _) => "connection-mark",
            Self::Mark(Kind::Packet, _) => "packet-mark",
            Self::Mark(Kind::Routing, _) => "routing-mark",
            Self::State(_) => "connection-state",
            Self::Protocol(_) => "protocol",
            Self::Port(End::Source, _) => "src-port",
            Self::Port(End::Destination, _) => "dst-port",
            Self::Port(End::Either, _) => "port",
            Self::TcpFlags(_) => "tcp-flags",
            Self::PacketSize(..) => "packet-size",
            Self::Icmp(_) => "icmp-options",
            Self::Pcc { .. } => "per-connection-classifier",
            Self::Nth { .. } => "nth",
            Self::Random(_) => "random",
            Self::Dscp(_) => "dscp",
            Self::Ttl(..) => "ttl",
        }
    }
}

impl Action {
    /// RouterOS's word for it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Jump(_) => "jump",
            Self::Return => "return",
            Self::Passthrough => "passthrough",
            Self::Log => "log",
            Self::Mark(Kind::Connection, _) => "mark-connection",
            Self::Mark(Kind::Packet, _) => "mark-packet",
            Self::Mark(Kind::Routing, _) => "mark-routing",
        }
    }
}
