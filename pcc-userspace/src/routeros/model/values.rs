//! Values of properties: address ranges, ports, PCC, times.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use pcc_ebpf::classify::HashFields;

use super::Family;

/// Addresses of one family from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// Not after [`Self::last`], and of its family.
    pub first: IpAddr,
    /// The last address.
    pub last: IpAddr,
}

impl AddressRange {
    /// `192.0.2.1`, `192.0.2.0/24` or `192.0.2.1-192.0.2.9`. Host bits of a prefix are ignored.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(net) = text.parse::<IpNet>() {
            return Some(net.into());
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = Self { first: first.parse().ok()?, last: last.parse().ok()? };
        (range.first.is_ipv4() == range.last.is_ipv4() && range.first <= range.last).then_some(range)
    }

    /// Every address of `other` is one of these.
    pub fn covers(&self, other: &Self) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4() && self.first <= other.first && other.last <= self.last
    }

    /// `address` is one of these.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.covers(&Self { first: address, last: address })
    }
}

impl From<IpNet> for AddressRange {
    fn from(net: IpNet) -> Self {
        Self { first: net.network(), last: net.broadcast() }
    }
}

/// The matcher `per-connection-classifier`: the hash of `fields`, modulo `denominator`, is `remainder`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pcc {
    /// What is hashed.
    pub fields: HashFields,
    /// At least 1.
    pub denominator: u32,
    /// Matches nothing if it is not below [`Self::denominator`].
    pub remainder: u32,
}

impl Pcc {
    /// `both-addresses:2/0`, without the leading `!`; otherwise what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (fields, parts) = text.split_once(':').ok_or("it has the form `both-addresses:2/0`")?;
        let fields = HashFields::parse(fields).ok_or_else(|| {
            let near = fields.to_ascii_lowercase().replace('_', "-");
            match HashFields::parse(&near) {
                Some(meant) => format!("`{fields}` is written `{}`", meant.name()),
                None => format!("`{fields}` is none of RouterOS's nine field sets"),
            }
        })?;
        let (denominator, remainder) =
            parts.split_once('/').ok_or("it ends in denominator/remainder, such as `2/0`")?;
        let denominator = denominator.parse().map_err(|_| format!("`{denominator}` is not a number"))?;
        let remainder = remainder.parse().map_err(|_| format!("`{remainder}` is not a number"))?;
        if denominator == 0 {
            return Err("the denominator is at least 1".into());
        }
        Ok(Self { fields, denominator, remainder })
    }
}

/// `80,443,1000-2000`.
pub fn ports(text: &str) -> Option<Vec<RangeInclusive<u16>>> {
    text.split(',').map(range).collect()
}

/// `N` or `N-M`.
pub fn range<N: std::str::FromStr + PartialOrd>(text: &str) -> Option<RangeInclusive<N>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.parse().ok()?..=last.parse().ok()?;
    (range.start() <= range.end()).then_some(range)
}

/// A protocol by its number or by RouterOS's name.
pub fn protocol(text: &str) -> Option<u8> {
    const NAMES: [(&str, u8); 30] = [
        ("icmp", 1),
        ("igmp", 2),
        ("ggp", 3),
        ("ip-encap", 4),
        ("ipencap", 4),
        ("st", 5),
        ("tcp", 6),
        ("egp", 8),
        ("pup", 12),
        ("udp", 17),
        ("hmp", 20),
        ("xns-idp", 22),
        ("rdp", 27),
        ("iso-tp4", 29),
        ("dccp", 33),
        ("xtp", 36),
        ("ddp", 37),
        ("ipv6-encap", 41),
        ("rsvp", 46),
        ("gre", 47),
        ("ipsec-esp", 50),
        ("ipsec-ah", 51),
        ("icmpv6", 58),
        ("ospf", 89),
        ("ipip", 94),
        ("pim", 103),
        ("vrrp", 112),
        ("l2tp", 115),
        ("sctp", 132),
        ("udp-lite", 136),
    ];
    NAMES.iter().find(|(name, _)| *name == text).map(|(_, number)| *number).or_else(|| text.parse().ok())
}

/// `10s`, `1w2d`, `1d03:00:00`, `00:00:10`, `100ms`, or a bare number of seconds.
pub fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut digits = String::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        if letter == ':' {
            let clock = format!("{digits}{rest}");
            let parts: Vec<u64> = clock.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
            let seconds = parts.iter().try_fold(0_u64, |sum, part| sum.checked_mul(60)?.checked_add(*part))?;
            return (parts.len() <= 3).then(|| total.checked_add(Duration::from_secs(seconds)))?;
        }
        if letter.is_ascii_digit() {
            digits.push(letter);
            rest = &rest[1..];
            continue;
        }
        let (unit, length) = match letter {
            'w' => (604_800_000, 1),
            'd' => (86_400_000, 1),
            'h' => (3_600_000, 1),
            'm' if rest.starts_with("ms") => (1, 2),
            'm' => (60_000, 1),
            's' => (1_000, 1),
            _ => return None,
        };
        let milliseconds = digits.parse::<u64>().ok()?.checked_mul(unit)?;
        total = total.checked_add(Duration::from_millis(milliseconds))?;
        digits.clear();
        rest = &rest[length..];
    }
    if digits.is_empty() {
        return (!text.is_empty()).then_some(total);
    }
    total.checked_add(Duration::from_secs(digits.parse().ok()?))
}

/// The whole address space of a family.
pub fn everything(family: Family) -> IpNet {
    match family {
        Family::V4 => IpNet::V4(Ipv4Net::default()),
        Family::V6 => IpNet::V6(Ipv6Net::default()),
    }
}
