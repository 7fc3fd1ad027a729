//! Classic BPF for raw sockets: each is offered every ICMP packet of its device, and need not wake for those of others.

use network_types::icmp::{Icmpv4Type, Icmpv6Type};
use socket2::SockFilter;

const LOAD_BYTE: u16 = 0x50;
const LOAD_HALF: u16 = 0x48;
/// X becomes the constant.
const OFFSET: u16 = 0x01;
/// X becomes the length of the IPv4 header that starts there.
const OFFSET_BEHIND_HEADER: u16 = 0xb1;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const ALL: u32 = u32::MAX;

/// Takes answers to pings with this echo identifier, and the errors of which [`super::icmp`] knows the meaning. A raw IPv4
/// socket sees the IP header, a raw IPv6 socket does not.
pub(super) fn echo(ipv4: bool, identifier: u16) -> [SockFilter; 10] {
    let (start, reply, errors) = if ipv4 {
        (OFFSET_BEHIND_HEADER, Icmpv4Type::EchoReply as u32, [3, 11])
    } else {
        (OFFSET, Icmpv6Type::EchoReply as u32, [1, 3])
    };
    [
        SockFilter::new(start, 0, 0, 0),
        SockFilter::new(LOAD_BYTE, 0, 0, 0),
        SockFilter::new(JUMP_IF_EQUAL, 3, 0, reply),
        SockFilter::new(JUMP_IF_EQUAL, 4, 0, errors[0]),
        SockFilter::new(JUMP_IF_EQUAL, 3, 0, errors[1]),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(LOAD_HALF, 0, 0, 4),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, u32::from(identifier)),
        SockFilter::new(RETURN, 0, 0, ALL),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// Takes ICMPv6 messages of this type.
pub(super) fn kind(kind: u8) -> [SockFilter; 5] {
    [
        SockFilter::new(OFFSET, 0, 0, 0),
        SockFilter::new(LOAD_BYTE, 0, 0, 0),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, u32::from(kind)),
        SockFilter::new(RETURN, 0, 0, ALL),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
