//! Connections as conntrack knows them, told apart by the bits of their mark. Both IP families at once.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use netlink_packet_core::{
    DecodeError, DefaultNla, NLA_F_NESTED, NetlinkDeserializable, NetlinkHeader, NlasIterator, parse_u32_be,
};
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage, Status};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use rustix::io::Errno;

use super::Family;
use super::netlink::Netlink;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_STATUS: u16 = 3;
const CTA_MARK: u16 = 8;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_MARK_MASK: u16 = 21;

/// The connection tracking table of a network namespace.
pub struct Conntrack {
    netlink: Netlink,
}

impl Conntrack {
    /// Opens the table of the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        Ok(Self { netlink: Netlink::netfilter()? })
    }

    /// Deletes the entries of `family` (`None`: both) whose mark has `mark` under `mask`, all by one message: 25,000 in
    /// some 30 ms.
    pub fn delete(&mut self, family: Option<Family>, mark: u32, mask: u32) -> Result<()> {
        let filter = ConntrackMessage::Delete(marked(mark, mask).to_vec());
        let request = NetfilterMessage::new(header(family), filter);
        self.netlink.request(request, 0, &[Errno::NOENT]).context("deleting connections")
    }

    /// Counts the entries whose mark has a bit of `ours`, by their mark under `mask`.
    pub fn count_by_mark(&mut self, ours: u32, mask: u32) -> Result<BTreeMap<u32, u64>> {
        let mut counts = BTreeMap::new();
        for entry in self.entries(ours)? {
            *counts.entry(entry.mark & mask).or_default() += 1;
        }
        Ok(counts)
    }

    /// Clears the bits `mask` in the marks that have the bit `ours`. Entries whose source was translated are deleted
    /// instead, because they would outlive the rule that translated them.
    pub fn release(&mut self, ours: u32, mask: u32) -> Result<()> {
        let requests = self.entries(ours)?.into_iter().map(|entry| {
            let mut attributes = entry.identity;
            let request = if entry.status.contains(Status::SrcNat) {
                ConntrackMessage::Delete(attributes)
            } else {
                attributes.extend(marked(0, mask));
                ConntrackMessage::New(attributes)
            };
            NetfilterMessage::new(entry.header, request)
        });
        // An entry may have ended meanwhile.
        self.netlink.requests(requests, 0, &[Errno::NOENT]).context("releasing connections")
    }

    /// Entries whose mark has all bits of `ours`.
    fn entries(&mut self, ours: u32) -> Result<Vec<Entry>> {
        let query = NetfilterMessage::new(header(None), ConntrackMessage::Get(marked(ours, ours).to_vec()));
        self.netlink.dump(&query).context("listing connections")
    }
}

/// `CTA_MARK` and `CTA_MARK_MASK`: in a query the bits to compare, in an update the bits to change.
fn marked(mark: u32, mask: u32) -> [ConntrackAttribute; 2] {
    let mask_attribute = DefaultNla::new(CTA_MARK_MASK, mask.to_be_bytes().to_vec());
    [ConntrackAttribute::CtaMark(mark & mask), ConntrackAttribute::Other(mask_attribute)]
}

fn header(family: Option<Family>) -> NetfilterHeader {
    match family {
        None => NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 0),
        // Version 0 makes the kernel ignore the family of a deletion without a tuple.
        Some(Family::V4) => NetfilterHeader::new(NetfilterProtoFamily::IPv4, 1, 0),
        Some(Family::V6) => NetfilterHeader::new(NetfilterProtoFamily::IPv6, 1, 0),
    }
}

/// What is needed of an entry. Its identity stays as the kernel wrote it, so that any protocol works.
struct Entry {
    header: NetfilterHeader,
    mark: u32,
    status: Status,
    /// Tuple of the original direction, zone and id.
    identity: Vec<ConntrackAttribute>,
}

impl NetlinkDeserializable for Entry {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let header = NetfilterHeader::parse(payload)?;
        let mut entry = Self { header, mark: 0, status: Status::empty(), identity: Vec::new() };
        for attribute in NlasIterator::new(payload.get(4..).unwrap_or_default()) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                CTA_MARK => entry.mark = parse_u32_be(value)?,
                CTA_STATUS => entry.status = Status::from_bits_retain(parse_u32_be(value)?),
                kind @ (CTA_TUPLE_ORIG | CTA_ZONE | CTA_ID) => {
                    let kind = if kind == CTA_TUPLE_ORIG { kind | NLA_F_NESTED } else { kind };
                    entry.identity.push(ConntrackAttribute::Other(DefaultNla::new(kind, value.to_vec())));
                }
                _ => {}
            }
        }
        Ok(entry)
    }
}
