//! Flow keys and what can be told from one alone.

use crate::abi::FlowKey;
use crate::packet::protocol;

/// Third word of an IPv4-mapped address (RFC 4291 §2.5.5.2), in network order.
const MAPPED: u32 = 0x0000_ffff_u32.to_be();

/// An IPv4 address (network order) as IPv4-mapped IPv6 address.
#[inline(always)]
pub const fn mapped(address: u32) -> [u32; 4] {
    [0, 0, MAPPED, address]
}

/// What [`mapped`] made. One branch: the verifier follows each of them.
#[inline(always)]
pub const fn is_mapped(address: &[u32; 4]) -> bool {
    address[0] | address[1] | address[2] ^ MAPPED == 0
}

/// Seconds from `then` to `now`. None if that is later: another processor may have read its clock after a packet came here.
#[inline(always)]
pub const fn age(now: u32, then: u32) -> u32 {
    let seconds = now.wrapping_sub(then);
    if seconds > i32::MAX as u32 { 0 } else { seconds }
}

/// The protocols whose first four bytes are two ports, as PCC sees it: TCP, UDP, UDP-Lite, SCTP, DCCP.
#[inline(always)]
pub const fn has_ports(protocol: u32) -> bool {
    matches!(protocol as u8, protocol::TCP | protocol::UDP | protocol::UDP_LITE | protocol::SCTP | protocol::DCCP)
}

/// ICMP echo request or reply, of either family.
#[inline(always)]
pub const fn is_echo(protocol: u8, kind: u8) -> bool {
    matches!((protocol, kind), (protocol::ICMP, 0 | 8) | (protocol::ICMPV6, 128 | 129))
}

impl FlowKey {
    /// The addresses are IPv4.
    #[inline(always)]
    pub const fn is_ipv4(&self) -> bool {
        is_mapped(&self.source)
    }

    /// The flow of the answers.
    #[inline(always)]
    pub const fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }

    /// Destinations that no router forwards to an ISP: unspecified, loopback, link-local, multicast, broadcast.
    #[inline(always)]
    pub const fn is_routable(&self) -> bool {
        if self.is_ipv4() {
            let address = u32::from_be(self.destination[3]);
            let first = address >> 24;
            !(first == 0 || first == 127 || first >= 224 || address >> 16 == 0xa9fe)
        } else {
            let first = u32::from_be(self.destination[0]);
            let low = self.destination[0] == 0 && self.destination[1] == 0 && self.destination[2] == 0;
            let unspecified_or_loopback = low && u32::from_be(self.destination[3]) <= 1;
            !(first >> 24 == 0xff || first >> 22 == 0xfe80 >> 6 || unspecified_or_loopback)
        }
    }
}

#[cfg(not(target_arch = "bpf"))]
impl FlowKey {
    /// The key of a flow between two addresses of one family.
    pub fn new(source: std::net::SocketAddr, destination: std::net::SocketAddr, protocol: u8) -> Self {
        Self {
            source: words(source.ip()),
            destination: words(destination.ip()),
            source_port: source.port(),
            destination_port: destination.port(),
            protocol: u32::from(protocol),
        }
    }
}

/// An address as four words in network order, IPv4 mapped.
#[cfg(not(target_arch = "bpf"))]
pub fn words(address: std::net::IpAddr) -> [u32; 4] {
    let octets = match address {
        std::net::IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(address) => address.octets(),
    };
    std::array::from_fn(|i| u32::from_ne_bytes(std::array::from_fn(|j| octets[i * 4 + j])))
}

/// The address that [`words`] made.
#[cfg(not(target_arch = "bpf"))]
pub fn address(words: [u32; 4]) -> std::net::IpAddr {
    let mut octets = [0; 16];
    for (chunk, word) in octets.chunks_exact_mut(4).zip(words) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    std::net::Ipv6Addr::from(octets).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn to(destination: &str) -> FlowKey {
        let destination: IpAddr = destination.parse().unwrap();
        let source: IpAddr = if destination.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" }.parse().unwrap();
        FlowKey::new((source, 1).into(), (destination, 2).into(), protocol::UDP)
    }

    #[test]
    fn what_routers_do_not_forward_is_not_routable() {
        for no in [
            "0.0.0.0",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.1",
            "239.1.2.3",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "ff02::1",
        ] {
            assert!(!to(no).is_routable(), "{no}");
        }
        for yes in ["1.1.1.1", "10.0.0.1", "169.253.0.1", "223.255.255.255", "2001:db8::2", "fc00::1", "fec0::1"] {
            assert!(to(yes).is_routable(), "{yes}");
        }
    }

    #[test]
    fn addresses_survive_the_map_form() {
        for text in ["192.0.2.1", "2001:db8::8888"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(address(words(ip)), ip);
        }
        assert!(to("192.0.2.9").is_ipv4() && !to("2001:db8::9").is_ipv4());
    }

    #[test]
    fn reversing_twice_is_the_identity() {
        let key = to("192.0.2.9");
        assert_ne!(key.reversed(), key);
        assert_eq!(key.reversed().reversed(), key);
    }
}
