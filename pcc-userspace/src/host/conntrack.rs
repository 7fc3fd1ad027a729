//! Connections as conntrack knows them, told apart by the bits of their mark. Both IP families at once.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use ipnet::IpNet;
use netlink_packet_core::{
    DecodeError, DefaultNla, NLA_F_NESTED, NetlinkDeserializable, NetlinkHeader, NlasIterator, parse_u8, parse_u16_be,
    parse_u32_be,
};
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage, Status};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use rustix::io::Errno;

use super::Family;
use super::netlink::Netlink;
use super::wake::Wake;

pub(super) const CTA_TUPLE_ORIG: u16 = 1;
pub(super) const CTA_TUPLE_REPLY: u16 = 2;
pub(super) const CTA_STATUS: u16 = 3;
pub(super) const CTA_MARK: u16 = 8;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_MARK_MASK: u16 = 21;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const IPPROTO_TCP: u8 = 6;

/// The connection tracking table of a network namespace.
pub struct Conntrack {
    netlink: Netlink,
}

impl Conntrack {
    /// Opens the table of the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        Ok(Self { netlink: Netlink::netfilter()? })
    }

    /// The netlink port that deletions of ours come from.
    ///
    /// # Errors
    /// Never while the socket is open.
    pub fn port(&self) -> Result<u32> {
        self.netlink.port()
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
        let query = NetfilterMessage::new(header(None), ConntrackMessage::Get(marked(ours, ours).to_vec()));
        let mut counts = BTreeMap::new();
        self.netlink
            .visit(&query, |Mark(mark)| *counts.entry(mark & mask).or_default() += 1)
            .context("listing connections")?;
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

    /// Deletes the entries of `family` whose mark has `mark` under `mask`, but for answered TCP, of which the ends inside
    /// are returned.
    pub fn end(&mut self, family: Family, mark: u32, mask: u32) -> Result<Vec<Wake>> {
        let query = NetfilterMessage::new(header(Some(family)), ConntrackMessage::Get(marked(mark, mask).to_vec()));
        let entries: Vec<Entry> = self.netlink.dump(&query).context("listing connections")?;
        let (answered, others): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.is_tcp() && entry.status.contains(Status::SeenReply));
        self.delete_each(others)?;
        Ok(answered.iter().filter_map(Entry::inside).collect())
    }

    /// Deletes the entries without source translation that lead from a host that is none of `local` to one that is neither
    /// of `local` nor in `inside`.
    pub fn sweep(&mut self, local: &[IpAddr], inside: &[IpNet]) -> Result<()> {
        let query = NetfilterMessage::new(header(None), ConntrackMessage::Get(Vec::new()));
        let entries: Vec<Entry> = self.netlink.dump(&query).context("listing connections")?;
        let leaks = |entry: &Entry| {
            let Some((source, destination)) = entry.addresses() else { return false };
            let is_inside = inside.iter().any(|network| network.contains(&destination));
            !entry.status.contains(Status::SrcNat)
                && !local.contains(&source)
                && !local.contains(&destination)
                && !is_inside
                && !destination.is_multicast()
        };
        self.delete_each(entries.into_iter().filter(leaks).collect())
    }

    fn delete_each(&mut self, entries: Vec<Entry>) -> Result<()> {
        let requests = entries
            .into_iter()
            .map(|entry| NetfilterMessage::new(entry.header, ConntrackMessage::Delete(entry.identity)));
        self.netlink.requests(requests, 0, &[Errno::NOENT]).context("deleting connections")
    }

    /// Entries whose mark has all bits of `ours`.
    fn entries(&mut self, ours: u32) -> Result<Vec<Entry>> {
        let query = NetfilterMessage::new(header(None), ConntrackMessage::Get(marked(ours, ours).to_vec()));
        self.netlink.dump(&query).context("listing connections")
    }
}

/// The mark of an entry, and nothing else: there may be millions.
struct Mark(u32);

impl NetlinkDeserializable for Mark {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let mut attributes = NlasIterator::new(payload.get(4..).unwrap_or_default()).filter_map(Result::ok);
        let mark = attributes.find(|attribute| attribute.kind() == CTA_MARK);
        Ok(Self(mark.map_or(Ok(0), |mark| parse_u32_be(mark.value()))?))
    }
}

/// `CTA_MARK` and `CTA_MARK_MASK`: in a query the bits to compare, in an update the bits to change.
pub(super) fn marked(mark: u32, mask: u32) -> [ConntrackAttribute; 2] {
    let mask_attribute = DefaultNla::new(CTA_MARK_MASK, mask.to_be_bytes().to_vec());
    [ConntrackAttribute::CtaMark(mark & mask), ConntrackAttribute::Other(mask_attribute)]
}

pub(super) fn header(family: Option<Family>) -> NetfilterHeader {
    match family {
        None => NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 0),
        // Version 0 makes the kernel ignore the family of a deletion without a tuple.
        Some(Family::V4) => NetfilterHeader::new(NetfilterProtoFamily::IPv4, 1, 0),
        Some(Family::V6) => NetfilterHeader::new(NetfilterProtoFamily::IPv6, 1, 0),
    }
}

/// One direction of a connection as the entry has it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tuple {
    pub(super) source: Option<IpAddr>,
    pub(super) destination: Option<IpAddr>,
    pub(super) ports: [u16; 2],
    pub(super) protocol: u8,
}

impl Tuple {
    /// Reads `CTA_TUPLE_ORIG` or `CTA_TUPLE_REPLY`.
    pub(super) fn parse(value: &[u8]) -> Result<Self, DecodeError> {
        let mut tuple = Self::default();
        for part in NlasIterator::new(value) {
            let part = part?;
            for attribute in NlasIterator::new(part.value()) {
                let attribute = attribute?;
                let value = attribute.value();
                match (part.kind(), attribute.kind()) {
                    (CTA_TUPLE_IP, 1 | 3) => tuple.source = address(value),
                    (CTA_TUPLE_IP, 2 | 4) => tuple.destination = address(value),
                    (CTA_TUPLE_PROTO, 1) => tuple.protocol = parse_u8(value)?,
                    (CTA_TUPLE_PROTO, kind @ (2 | 3)) => tuple.ports[usize::from(kind - 2)] = parse_u16_be(value)?,
                    // The identifier of an ICMP echo, of either family.
                    (CTA_TUPLE_PROTO, 4 | 7) => tuple.ports[0] = parse_u16_be(value)?,
                    _ => {}
                }
            }
        }
        Ok(tuple)
    }

    /// Source and destination.
    pub(super) fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        let [from, to] = self.ports;
        Some((SocketAddr::new(self.source?, from), SocketAddr::new(self.destination?, to)))
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4().or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// What is needed of an entry. Its identity stays as the kernel wrote it, so that any protocol works.
struct Entry {
    header: NetfilterHeader,
    mark: u32,
    status: Status,
    original: Tuple,
    reply: Tuple,
    /// Tuple of the original direction, zone and id.
    identity: Vec<ConntrackAttribute>,
}

impl Entry {
    const fn is_tcp(&self) -> bool {
        self.original.protocol == IPPROTO_TCP
    }

    /// Of the original direction.
    fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        Some((self.original.source?, self.original.destination?))
    }

    /// The end that is not beyond the uplink: the host that began, or the one that a translated destination led to.
    fn inside(&self) -> Option<Wake> {
        let (tuple, [source, destination]) = if self.status.contains(Status::DstNat) {
            let Tuple { source, destination, ports: [from, to], .. } = self.reply;
            ((source?, destination?), [from, to])
        } else {
            (self.addresses()?, self.original.ports)
        };
        Some(Wake { client: SocketAddr::new(tuple.0, source), peer: SocketAddr::new(tuple.1, destination) })
    }
}

impl NetlinkDeserializable for Entry {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let header = NetfilterHeader::parse(payload)?;
        let mut entry = Self {
            header,
            mark: 0,
            status: Status::empty(),
            original: Tuple::default(),
            reply: Tuple::default(),
            identity: Vec::new(),
        };
        for attribute in NlasIterator::new(payload.get(4..).unwrap_or_default()) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                CTA_TUPLE_ORIG => entry.original = Tuple::parse(value)?,
                CTA_TUPLE_REPLY => entry.reply = Tuple::parse(value)?,
                _ => {}
            }
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
