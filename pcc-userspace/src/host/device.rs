//! What a device can do, and what others let it do to packets.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NlasIterator, parse_string};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::tc::{TcHandle, TcHeader, TcMessage};
use rustix::io::Errno;

use super::Link;
use super::netlink::{Netlink, Refusal};
use crate::dataplane;

pub use features::{Features, xdp};

mod features;

/// What the choice of shortcuts needs to know of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Bits of [`xdp`] that its driver has; `None` where the kernel does not tell.
    pub xdp: Option<u64>,
    /// A queueing discipline that does more than to queue.
    pub shaper: Option<String>,
    /// Kind or name of a filter of somebody else that sees each packet that comes in, after our programs.
    pub ingress: Option<String>,
    /// The same for packets that leave.
    pub egress: Option<String>,
}

/// Disciplines that neither limit a rate nor give some packets precedence by what an administrator said.
const PLAIN: [&str; 9] = ["noqueue", "pfifo", "pfifo_fast", "bfifo", "fq", "fq_codel", "mq", "clsact", "ingress"];
/// Priorities of our filters, where the kernel has no TCX.
const OUR_PRIORITIES: std::ops::RangeInclusive<u32> = 0xbffe..=0xbfff;

/// The facts of `links` by interface index.
pub(super) fn facts(netlink: &mut Netlink, features: &mut Features, links: &[&Link]) -> Result<BTreeMap<u32, Facts>> {
    let disciplines = list(netlink, &Message::GetQueueDiscipline(TcMessage::default())).context("listing qdiscs")?;
    let xdp = features.read()?;
    let mut facts = BTreeMap::new();
    for link in links {
        let own: Vec<_> = disciplines.iter().filter(|it| it.ifindex == link.index).collect();
        let mut filter = |parent: TcHandle| {
            let mut query = TcMessage::default();
            (query.header.index, query.header.parent) = (link.index.cast_signed(), parent);
            let filters = list(netlink, &Message::GetTrafficFilter(query)).context("listing tc filters")?;
            Ok::<_, anyhow::Error>(others(&filters))
        };
        let (mut ingress, mut egress) = (None, None);
        for discipline in &own {
            // An `ingress` answers for both, though nothing of it sees what leaves.
            match discipline.kind.as_str() {
                "clsact" => {
                    ingress = filter(TcHandle { minor: TcHandle::MIN_INGRESS, ..TcHandle::CLSACT })?;
                    egress = egress.or(filter(TcHandle { minor: TcHandle::MIN_EGRESS, ..TcHandle::CLSACT })?);
                }
                "ingress" => ingress = filter(TcHandle::INGRESS)?,
                _ if discipline.parent == TcHandle::ROOT => egress = egress.or(filter(TcHandle::UNSPEC)?),
                _ => {}
            }
        }
        let [program_in, program_out] = dataplane::others(link.index);
        let known = Facts {
            xdp: xdp.as_ref().map(|xdp| xdp.get(&link.index).copied().unwrap_or(0)),
            shaper: shaper(own.iter().map(|it| it.kind.as_str())),
            ingress: ingress.or(program_in),
            egress: egress.or(program_out),
        };
        facts.insert(link.index, known);
    }
    Ok(facts)
}

/// The first discipline that shapes, among `kinds`.
fn shaper<'a>(mut kinds: impl Iterator<Item = &'a str>) -> Option<String> {
    kinds.find(|kind| !PLAIN.contains(kind)).map(str::to_owned)
}

/// The kind of the first filter that is not ours.
fn others(filters: &[Entry]) -> Option<String> {
    filters.iter().find(|filter| !OUR_PRIORITIES.contains(&(filter.info >> 16))).map(|filter| filter.kind.clone())
}

/// The answers to `query`; none where the kernel knows no traffic control.
fn list(netlink: &mut Netlink, query: &Message) -> Result<Vec<Entry>> {
    let unknown = |error: &anyhow::Error| {
        error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.errno == Errno::OPNOTSUPP)
    };
    match netlink.dump(query) {
        Err(error) if unknown(&error) => Ok(Vec::new()),
        entries => entries,
    }
}

/// A discipline or filter without its options: those of kinds that nobody knows cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    ifindex: u32,
    parent: TcHandle,
    /// Of a filter: priority and protocol.
    info: u32,
    kind: String,
}

impl NetlinkDeserializable for Entry {
    type Error = netlink_packet_core::DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        const TCA_KIND: u16 = 1;
        const HEADER: usize = 20;
        let header = TcHeader::parse(payload)?;
        let attributes = NlasIterator::new(payload.get(HEADER..).unwrap_or_default());
        let kind = attributes.flatten().find(|attribute| attribute.kind() == TCA_KIND);
        let kind = kind.map(|attribute| parse_string(attribute.value())).transpose()?.unwrap_or_default();
        Ok(Self { ifindex: header.index.cast_unsigned(), parent: header.parent, info: header.info, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shapes_is_found_among_what_does_not() {
        assert_eq!(shaper(["mq", "fq_codel", "fq_codel", "clsact"].into_iter()), None);
        assert_eq!(shaper(["clsact", "cake"].into_iter()), Some("cake".into()));
        assert_eq!(shaper(["htb", "fq_codel"].into_iter()), Some("htb".into()));
    }

    #[test]
    fn our_filters_do_not_count() {
        let filter = |priority: u32, kind: &str| Entry {
            ifindex: 1,
            parent: TcHandle::CLSACT,
            info: priority << 16 | 3,
            kind: kind.to_owned(),
        };
        assert_eq!(others(&[filter(0xbffe, "bpf"), filter(0xbfff, "bpf")]), None);
        assert_eq!(others(&[filter(0xbfff, "bpf"), filter(0xc000, "matchall")]), Some("matchall".into()));
    }

    #[test]
    fn an_entry_of_an_unknown_kind_is_read() {
        let mut bytes = vec![0; 20];
        bytes[4] = 7;
        bytes.extend([9, 0, 1, 0]);
        bytes.extend(b"cake\0\0\0\0");
        bytes.extend([5, 0, 2, 0, 0xff, 0, 0, 0]);
        let entry = Entry::deserialize(&NetlinkHeader::default(), &bytes).unwrap();
        assert_eq!((entry.ifindex, entry.kind.as_str()), (7, "cake"));
        assert!(Entry::deserialize(&NetlinkHeader::default(), &bytes[..10]).is_err());
    }
}
