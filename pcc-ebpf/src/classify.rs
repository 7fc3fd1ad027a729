//! The decision: PCC's hash, bucket selection, and what the classifier says about a packet.

use crate::abi::FlowKey;

/// The header fields that PCC hashes, as RouterOS's bit mask: 1 source address, 2 destination address,
/// 4 source port, 8 destination port. Only RouterOS's nine combinations exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HashFields(u32);

impl HashFields {
    /// The nine field sets with the words that RouterOS uses.
    pub const ALL: [(&'static str, Self); 9] = [
        ("src-address", Self(1)),
        ("dst-address", Self(2)),
        ("both-addresses", Self(3)),
        ("src-port", Self(4)),
        ("src-address-and-port", Self(5)),
        ("dst-port", Self(8)),
        ("dst-address-and-port", Self(10)),
        ("both-ports", Self(12)),
        ("both-addresses-and-ports", Self(15)),
    ];

    /// Source and destination address: all connections of a client to a server share an uplink.
    pub const BOTH_ADDRESSES: Self = Self(3);
    /// All four fields.
    pub const ALL_FIELDS: Self = Self(15);

    /// The field set that RouterOS calls `word`.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| *name == word).map(|(_, fields)| *fields)
    }

    /// RouterOS's word.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, fields)| *fields == self).map_or("", |(name, _)| name)
    }

    /// The bit mask, as the settings map holds it.
    pub const fn bits(self) -> u32 {
        self.0
    }
}
