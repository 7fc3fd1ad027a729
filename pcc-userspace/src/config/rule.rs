//! `[[rule]]`: what a rule asks of a packet, and how the connections that it decides choose their uplink.

use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use pcc_ebpf::classify::HashFields;

#[cfg(test)]
mod tests;

/// One rule. The first that matches decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What people call it.
    pub name: Option<String>,
    /// Source addresses; a prefix has no bits behind its length.
    pub source: Condition<IpNet>,
    /// Destination addresses.
    pub destination: Condition<IpNet>,
    /// Source ports.
    pub source_ports: Condition<RangeInclusive<u16>>,
    /// Destination ports.
    pub destination_ports: Condition<RangeInclusive<u16>>,
    /// IP protocol numbers.
    pub protocols: Condition<u8>,
    /// LAN devices that the packet comes in by, as indices of [`super::Config::lans`].
    pub interfaces: Condition<usize>,
    /// What becomes of the connection.
    pub decision: Decision,
}

/// What a rule asks of one property.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition<T> {
    /// It is one of these; anything where there are none.
    pub any: Vec<T>,
    /// It is none of these.
    pub none: Vec<T>,
}

/// What a rule decides.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Main's routes, unbalanced.
    Main,
    /// Some uplinks.
    Policy(Policy),
}

/// How connections choose among uplinks. Rules with equal ones share their table.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Which.
    pub members: Members,
    /// The fields that are hashed.
    pub hash: HashFields,
    /// Which connections keep to one uplink.
    pub sticky: Option<Sticky>,
}

/// Uplinks that a rule names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members {
    /// All of them by the weights in force.
    All,
    /// Index of [`super::Config::uplinks`] and weight, 1 to [`super::Uplink::MAX_WEIGHT`], by index.
    Group(Vec<(usize, u32)>),
}

/// Connections that keep to the uplink of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// Those that share these fields.
    pub by: HashFields,
    /// Until there was no new one for so long, whole seconds; `None`: while the uplink lives.
    pub lifetime: Option<Duration>,
}

impl Policy {
    /// The policy of what no rule decides.
    pub const fn default_of(hash: HashFields) -> Self {
        Self { members: Members::All, hash, sticky: None }
    }
}

impl<T> Condition<T> {
    /// Nothing is asked.
    pub const ANYTHING: Self = Self { any: Vec::new(), none: Vec::new() };

    /// Nothing is asked.
    pub const fn is_anything(&self) -> bool {
        self.any.is_empty() && self.none.is_empty()
    }

    /// Whether something that is `one` of them, as told by the function, fulfils it.
    pub fn holds(&self, one: impl Fn(&T) -> bool) -> bool {
        (self.any.is_empty() || self.any.iter().any(&one)) && !self.none.iter().any(&one)
    }
}

impl Rule {
    /// Every packet matches.
    pub const fn matches_everything(&self) -> bool {
        self.source.is_anything()
            && self.destination.is_anything()
            && self.source_ports.is_anything()
            && self.destination_ports.is_anything()
            && self.protocols.is_anything()
            && self.interfaces.is_anything()
    }
}
