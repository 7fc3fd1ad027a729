//! A walk over the connections that conntrack holds. None of them is kept: there may be a million.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use netlink_packet_core::{
    DecodeError, NetlinkDeserializable, NetlinkHeader, NlasIterator, parse_u8, parse_u32_be, parse_u64_be,
};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::conntrack::{ConntrackMessage, Status};

use super::Family;
use super::conntrack::{CTA_MARK, CTA_STATUS, CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, Tuple, header, marked};
use super::netlink::Netlink;

const CTA_PROTOINFO: u16 = 4;
const CTA_TIMEOUT: u16 = 7;
const CTA_COUNTERS_ORIG: u16 = 9;
const CTA_COUNTERS_REPLY: u16 = 10;
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;

/// One connection at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// IP protocol number.
    pub protocol: u8,
    /// Source and destination of packets of the side that began, as they come in.
    pub original: (SocketAddr, SocketAddr),
    /// Source and destination of answers, as they come in.
    pub reply: (SocketAddr, SocketAddr),
    /// The whole mark.
    pub mark: u32,
    /// It was answered.
    pub answered: bool,
    /// It was seen in both directions often enough to be kept when the table is full.
    pub assured: bool,
    /// Its destination was translated.
    pub translated_destination: bool,
    /// `enum tcp_conntrack`, of TCP.
    pub tcp_state: Option<u8>,
    /// Seconds until it is forgotten.
    pub timeout: u32,
    /// Of the original direction and of the answers; `None` if conntrack does not count.
    pub counters: Option<[Count; 2]>,
}

/// What went one way through the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes of IP packets.
    pub bytes: u64,
}

/// Which connections the kernel hands out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of one family; `None`: both.
    pub family: Option<Family>,
    /// Bits of the mark, and the bits that are compared; without the latter all.
    pub mark: (u32, u32),
}

/// Hands each connection that passes `filter` to `each`. Those that begin or end meanwhile may be missing.
///
/// # Errors
/// The kernel refuses to tell.
pub fn walk(filter: Filter, mut each: impl FnMut(Connection)) -> Result<()> {
    let (mark, mask) = filter.mark;
    let attributes = if mask == 0 { Vec::new() } else { marked(mark, mask).to_vec() };
    let query = NetfilterMessage::new(header(filter.family), ConntrackMessage::Get(attributes));
    Netlink::netfilter()?
        .visit(&query, |Entry(connection)| {
            if let Some(connection) = connection {
                each(connection);
            }
        })
        .context("listing connections")?;
    Ok(())
}

/// `None` where the protocol is not one of IP.
struct Entry(Option<Connection>);

impl NetlinkDeserializable for Entry {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let (mut original, mut reply) = (Tuple::default(), Tuple::default());
        let (mut mark, mut status, mut tcp_state, mut timeout) = (0, Status::empty(), None, 0);
        let mut counters = [None; 2];
        for attribute in NlasIterator::new(payload.get(4..).unwrap_or_default()) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                CTA_TUPLE_ORIG => original = Tuple::parse(value)?,
                CTA_TUPLE_REPLY => reply = Tuple::parse(value)?,
                CTA_MARK => mark = parse_u32_be(value)?,
                CTA_STATUS => status = Status::from_bits_retain(parse_u32_be(value)?),
                CTA_TIMEOUT => timeout = parse_u32_be(value)?,
                CTA_PROTOINFO => tcp_state = state(value)?,
                CTA_COUNTERS_ORIG => counters[0] = Some(count(value)?),
                CTA_COUNTERS_REPLY => counters[1] = Some(count(value)?),
                _ => {}
            }
        }
        let ends = original.ends().zip(reply.ends());
        Ok(Self(ends.map(|(ends, answers)| Connection {
            protocol: original.protocol,
            original: ends,
            reply: answers,
            mark,
            answered: status.contains(Status::SeenReply),
            assured: status.contains(Status::Assured),
            translated_destination: status.contains(Status::DstNat),
            tcp_state,
            timeout,
            counters: counters[0].zip(counters[1]).map(<[Count; 2]>::from),
        })))
    }
}

fn state(value: &[u8]) -> Result<Option<u8>, DecodeError> {
    for protocol in NlasIterator::new(value) {
        let protocol = protocol?;
        if protocol.kind() != CTA_PROTOINFO_TCP {
            continue;
        }
        for attribute in NlasIterator::new(protocol.value()) {
            let attribute = attribute?;
            if attribute.kind() == CTA_PROTOINFO_TCP_STATE {
                return Ok(Some(parse_u8(attribute.value())?));
            }
        }
    }
    Ok(None)
}

fn count(value: &[u8]) -> Result<Count, DecodeError> {
    const PACKETS: u16 = 1;
    const BYTES: u16 = 2;
    let mut count = Count::default();
    for attribute in NlasIterator::new(value) {
        let attribute = attribute?;
        match attribute.kind() {
            PACKETS => count.packets = parse_u64_be(attribute.value())?,
            BYTES => count.bytes = parse_u64_be(attribute.value())?,
            _ => {}
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attribute, padded as the kernel does.
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn tuple(kind: u16, source: [u8; 4], destination: [u8; 4], ports: [u16; 2]) -> Vec<u8> {
        const NESTED: u16 = 1 << 15;
        let ip = [attribute(1, &source), attribute(2, &destination)].concat();
        let [from, to] = ports.map(u16::to_be_bytes);
        let proto = [attribute(1, &[6]), attribute(2, &from), attribute(3, &to)].concat();
        attribute(kind | NESTED, &[attribute(1 | NESTED, &ip), attribute(2 | NESTED, &proto)].concat())
    }

    fn whole() -> Vec<u8> {
        let count = |packets: u64, bytes: u64| {
            [attribute(1, &packets.to_be_bytes()), attribute(2, &bytes.to_be_bytes())].concat()
        };
        let state = attribute(CTA_PROTOINFO_TCP, &attribute(CTA_PROTOINFO_TCP_STATE, &[3]));
        [
            vec![2, 0, 0, 0],
            tuple(CTA_TUPLE_ORIG, [10, 0, 0, 2], [192, 0, 2, 9], [40_000, 443]),
            tuple(CTA_TUPLE_REPLY, [192, 0, 2, 9], [198, 51, 100, 1], [443, 40_001]),
            attribute(CTA_STATUS, &0x0000_000e_u32.to_be_bytes()),
            attribute(CTA_MARK, &0x81_u32.to_be_bytes()),
            attribute(CTA_TIMEOUT, &431_999_u32.to_be_bytes()),
            attribute(CTA_COUNTERS_ORIG, &count(3, 180)),
            attribute(CTA_COUNTERS_REPLY, &count(2, 4_000_000_000_000)),
            attribute(CTA_PROTOINFO, &state),
        ]
        .concat()
    }

    fn read(payload: &[u8]) -> Result<Option<Connection>, DecodeError> {
        Entry::deserialize(&NetlinkHeader::default(), payload).map(|Entry(connection)| connection)
    }

    #[test]
    fn an_entry_is_read() {
        let connection = read(&whole()).unwrap().expect("a connection");
        assert_eq!(connection.protocol, 6);
        assert_eq!(connection.original, ("10.0.0.2:40000".parse().unwrap(), "192.0.2.9:443".parse().unwrap()));
        assert_eq!(connection.reply.1, "198.51.100.1:40001".parse().unwrap());
        assert_eq!((connection.mark, connection.timeout, connection.tcp_state), (0x81, 431_999, Some(3)));
        assert!(connection.answered && connection.assured && !connection.translated_destination);
        let counts = connection.counters.expect("counted");
        assert_eq!(counts[1], Count { packets: 2, bytes: 4_000_000_000_000 });
    }

    #[test]
    fn a_damaged_entry_is_refused_or_incomplete_but_harms_nobody() {
        let whole = whole();
        for length in 0..whole.len() {
            let _ = read(&whole[..length]);
        }
        assert_eq!(read(&[]).unwrap(), None);
    }
}
