//! The matchers of a firewall rule as values.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use super::item::Property;
use super::values::{AddressRange, Pcc, ports, protocol, range};
use crate::routeros::{Span, Value};

/// One matcher of a rule. All matchers of a rule must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// Where it is written.
    pub span: Span,
    /// The whole test is inverted.
    pub negated: bool,
    /// What is tested.
    pub test: Test,
}

/// What a [`Matcher`] tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// The packet came in by this interface.
    InInterface(String),
    /// The packet leaves by this interface.
    OutInterface(String),
    /// The packet came in by a member of this list.
    InInterfaceList(String),
    /// The packet leaves by a member of this list.
    OutInterfaceList(String),
    /// Source address.
    SourceAddress(AddressRange),
    /// Destination address.
    DestinationAddress(AddressRange),
    /// The source is in this address list.
    SourceAddressList(String),
    /// The destination is in this address list.
    DestinationAddressList(String),
    /// The source is of one of these types.
    SourceAddressType(Vec<AddressType>),
    /// The destination is of one of these types.
    DestinationAddressType(Vec<AddressType>),
    /// The connection's mark; `None` is `no-mark`.
    ConnectionMark(Option<String>),
    /// The packet's mark; `None` is `no-mark`.
    PacketMark(Option<String>),
    /// The packet's routing mark; `None` is `no-mark`.
    RoutingMark(Option<String>),
    /// The connection is in one of these states.
    ConnectionState(Vec<ConnectionState>),
    /// The connection's source (`srcnat`) or destination (`dstnat`) is translated.
    ConnectionNatState {
        /// `srcnat` is among the words.
        source: bool,
        /// `dstnat` is among the words.
        destination: bool,
    },
    /// Number of the protocol.
    Protocol(u8),
    /// Source port.
    SourcePort(Vec<RangeInclusive<u16>>),
    /// Destination port.
    DestinationPort(Vec<RangeInclusive<u16>>),
    /// Either port.
    AnyPort(Vec<RangeInclusive<u16>>),
    /// These TCP flags are set, those are not.
    TcpFlags {
        /// Names of flags.
        set: Vec<String>,
        /// Names of flags written with `!`.
        unset: Vec<String>,
    },
    /// The MSS option of a SYN.
    TcpMss(RangeInclusive<u16>),
    /// Length of the IP packet in bytes.
    PacketSize(RangeInclusive<u32>),
    /// ICMP type and codes.
    Icmp {
        /// The type.
        kind: u8,
        /// The codes; `None` for all.
        codes: Option<RangeInclusive<u8>>,
    },
    /// The packet came (`incoming`) or will go through IPsec, or (`ipsec` false) will not.
    IpsecPolicy {
        /// `in`, not `out`.
        incoming: bool,
        /// `ipsec`, not `none`.
        ipsec: bool,
    },
    /// `per-connection-classifier`.
    Pcc(Pcc),
    /// Every `every`-th packet, at position `packet` of the cycle.
    Nth {
        /// Length of the cycle.
        every: u32,
        /// Position in it, from 1.
        packet: u32,
    },
    /// In this many cases out of 100.
    Random(u8),
    /// Differentiated services code point.
    Dscp(u8),
    /// Time to live, or hop limit, as written: `N`, `equal:N`, `not-equal:N`, `less-than:N` or `greater-than:N`, with `N` up
    /// to 255.
    Ttl(String),
    /// A matcher that is kept as text.
    Other {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
}

/// Type of an address from the router's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressType {
    /// An address elsewhere.
    Unicast,
    /// An address of the router.
    Local,
    /// A broadcast address.
    Broadcast,
    /// A multicast address.
    Multicast,
    /// An address that a blackhole route covers.
    Blackhole,
}

/// State of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Fits no connection.
    Invalid,
    /// Seen in both directions.
    Established,
    /// Begun by another connection.
    Related,
    /// The first packet.
    New,
    /// Not tracked.
    Untracked,
}

/// Whether a property of a rule is a matcher, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A matcher.
    Matcher(Matcher),
    /// A matcher's name with a value that cannot be read; the reason.
    Bad(String),
    /// Set, but empty or without its value.
    Absent,
    /// No matcher's name.
    NotAMatcher,
}

/// Reads one property of a rule.
pub fn read(property: &Property) -> Reading {
    const KEPT: [&str; 23] = [
        "connection-rate",
        "connection-bytes",
        "connection-limit",
        "connection-type",
        "layer7-protocol",
        "content",
        "tls-host",
        "time",
        "limit",
        "dst-limit",
        "src-mac-address",
        "fragment",
        "psd",
        "hotspot",
        "ingress-priority",
        "priority",
        "realm",
        "routing-table",
        "in-bridge-port",
        "out-bridge-port",
        "in-bridge-port-list",
        "out-bridge-port-list",
        "ipv4-options",
    ];
    let name = property.name.as_str();
    let text = match &property.value {
        Value::Text(text) if text.is_empty() => return Reading::Absent,
        Value::Text(text) => text.as_str(),
        Value::Missing | Value::Unknown(_) | Value::Unset => return Reading::Absent,
    };
    // Of these the `!` belongs to one word.
    let each = property.negated && matches!(name, "tcp-flags" | "hotspot");
    let text = &*if each { Cow::Owned(format!("!{text}")) } else { Cow::Borrowed(text) };
    let (text, negated) = match text.strip_prefix('!') {
        Some(rest) if !property.negated && name != "tcp-flags" && name != "hotspot" => (rest, true),
        _ => (text, property.negated && !each),
    };
    let owned = text.to_owned();
    let mark = || (text != "no-mark").then(|| owned.clone());
    let test = match name {
        "in-interface" => Some(Test::InInterface(owned)),
        "out-interface" => Some(Test::OutInterface(owned)),
        "in-interface-list" => Some(Test::InInterfaceList(owned)),
        "out-interface-list" => Some(Test::OutInterfaceList(owned)),
        "src-address" => AddressRange::parse(text).map(Test::SourceAddress),
        "dst-address" => AddressRange::parse(text).map(Test::DestinationAddress),
        "src-address-list" => Some(Test::SourceAddressList(owned)),
        "dst-address-list" => Some(Test::DestinationAddressList(owned)),
        "src-address-type" => words(text, address_type).map(Test::SourceAddressType),
        "dst-address-type" => words(text, address_type).map(Test::DestinationAddressType),
        "connection-mark" => Some(Test::ConnectionMark(mark())),
        "packet-mark" => Some(Test::PacketMark(mark())),
        "routing-mark" => Some(Test::RoutingMark(mark())),
        "connection-state" => words(text, connection_state).map(Test::ConnectionState),
        "connection-nat-state" => {
            words(text, |word| matches!(word, "srcnat" | "dstnat").then_some(word == "srcnat")).map(|words| {
                Test::ConnectionNatState { source: words.contains(&true), destination: words.contains(&false) }
            })
        }
        "protocol" => protocol(text).map(Test::Protocol),
        "src-port" => ports(text).map(Test::SourcePort),
        "dst-port" => ports(text).map(Test::DestinationPort),
        "port" => ports(text).map(Test::AnyPort),
        "tcp-flags" => {
            let (unset, set): (Vec<_>, Vec<_>) = text.split(',').partition(|flag| flag.starts_with('!'));
            let set = set.into_iter().map(str::to_owned).collect();
            let unset = unset.into_iter().map(|flag| flag[1..].to_owned()).collect();
            Some(Test::TcpFlags { set, unset })
        }
        "tcp-mss" => range(text).map(Test::TcpMss),
        "packet-size" => range(text).map(Test::PacketSize),
        "icmp-options" => icmp(text),
        "ipsec-policy" => match text {
            "in,ipsec" => Some(Test::IpsecPolicy { incoming: true, ipsec: true }),
            "in,none" => Some(Test::IpsecPolicy { incoming: true, ipsec: false }),
            "out,ipsec" => Some(Test::IpsecPolicy { incoming: false, ipsec: true }),
            "out,none" => Some(Test::IpsecPolicy { incoming: false, ipsec: false }),
            _ => None,
        },
        "per-connection-classifier" => match Pcc::parse(text) {
            Ok(pcc) => Some(Test::Pcc(pcc)),
            Err(reason) => return Reading::Bad(reason),
        },
        "nth" => nth(text),
        "random" => text.parse().ok().filter(|percent| (1..=99).contains(percent)).map(Test::Random),
        "dscp" => text.parse().ok().filter(|dscp| *dscp < 64).map(Test::Dscp),
        "ttl" | "hop-limit" => is_ttl(text).then_some(Test::Ttl(owned)),
        _ if KEPT.contains(&name) => Some(Test::Other { name: name.to_owned(), value: owned }),
        _ => return Reading::NotAMatcher,
    };
    match test {
        Some(test) => Reading::Matcher(Matcher { span: property.span, negated, test }),
        None => Reading::Bad(format!("`{text}` is no value for `{name}`")),
    }
}

fn words<T>(text: &str, word: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    text.split(',').map(word).collect()
}

fn address_type(word: &str) -> Option<AddressType> {
    Some(match word {
        "unicast" => AddressType::Unicast,
        "local" => AddressType::Local,
        "broadcast" => AddressType::Broadcast,
        "multicast" => AddressType::Multicast,
        "blackhole" => AddressType::Blackhole,
        _ => return None,
    })
}

fn connection_state(word: &str) -> Option<ConnectionState> {
    Some(match word {
        "invalid" => ConnectionState::Invalid,
        "established" => ConnectionState::Established,
        "related" => ConnectionState::Related,
        "new" => ConnectionState::New,
        "untracked" => ConnectionState::Untracked,
        _ => return None,
    })
}

fn is_ttl(text: &str) -> bool {
    let (relation, value) = text.split_once(':').unwrap_or(("equal", text));
    ["equal", "not-equal", "less-than", "greater-than"].contains(&relation) && value.parse::<u8>().is_ok()
}

fn icmp(text: &str) -> Option<Test> {
    let (kind, codes) = text.split_once(':').map_or((text, None), |(kind, codes)| (kind, Some(codes)));
    let codes = match codes {
        None => None,
        Some(codes) => Some(range(codes)?),
    };
    Some(Test::Icmp { kind: kind.parse().ok()?, codes })
}

fn nth(text: &str) -> Option<Test> {
    let (every, packet) = text.split_once(',')?;
    let (every, packet) = (every.parse().ok()?, packet.parse().ok()?);
    (every > 0 && packet > 0 && packet <= every).then_some(Test::Nth { every, packet })
}
