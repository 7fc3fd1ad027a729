//! The values of matchers, as RouterOS writes them, and the parts of a packet that they are about.

use std::net::IpAddr;

use crate::reference::Packet;
use crate::world::{BROADCAST, LISTS, LOCAL, address};

/// The members of the lists that it includes, without those of the lists that it excludes, and its own.
pub fn in_list(name: &str, interface: &str) -> bool {
    match LISTS.iter().find(|list| list.name == name) {
        None => name == "all",
        Some(list) => {
            let within = |lists: &[&str]| lists.iter().any(|list| in_list(list, interface));
            within(list.include) && !within(list.exclude) || list.members.contains(&interface)
        }
    }
}

/// `net` is an address, a prefix or a range.
pub fn in_net(net: &str, wanted: IpAddr) -> bool {
    let (bits, all) = if wanted.is_ipv4() { (32, u128::from(u32::MAX)) } else { (128, u128::MAX) };
    let (first, last) = match (net.split_once('/'), net.split_once('-')) {
        (Some((net, length)), _) => {
            let length: u32 = length.parse().unwrap();
            let hosts = all.checked_shr(length).unwrap_or(0);
            debug_assert!(length <= bits);
            (number(address(net)) & !hosts, number(address(net)) | hosts)
        }
        (None, Some((first, last))) => (number(address(first)), number(address(last))),
        (None, None) => (number(address(net)), number(address(net))),
    };
    (first..=last).contains(&number(wanted))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

pub fn address_type(wanted: IpAddr) -> &'static str {
    if LOCAL.iter().flatten().any(|local| address(local) == wanted) {
        "local"
    } else if wanted == address(BROADCAST) {
        "broadcast"
    } else if wanted.is_multicast() {
        "multicast"
    } else {
        "unicast"
    }
}

pub fn protocol(name: &str) -> u8 {
    match name {
        "icmp" => 1,
        "tcp" => 6,
        "udp" => 17,
        "gre" => 47,
        "icmpv6" => 58,
        "sctp" => 132,
        "udp-lite" => 136,
        "dccp" => 33,
        number => number.parse().unwrap(),
    }
}

/// TCP, UDP, DCCP, SCTP, UDP-Lite.
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 33 | 132 | 136)
}

/// `options` is `type`, `type:code` or `type:code-code`.
pub fn icmp(options: &str, kind: u8, code: u8) -> bool {
    let (wanted, codes) = options.split_once(':').unwrap_or((options, "0-255"));
    let (first, last) = codes.split_once('-').unwrap_or((codes, codes));
    let number = |text: &str| -> u8 { text.parse().unwrap() };
    kind == number(wanted) && (number(first)..=number(last)).contains(&code)
}

/// The selected fields as they are on the wire: source address, destination address, source port, destination port.
pub fn pcc_key(packet: &Packet, fields: &str) -> Vec<u8> {
    let both = fields.starts_with("both-");
    let (source, destination) = (both || fields.starts_with("src-"), both || fields.starts_with("dst-"));
    let addresses = fields.contains("address");
    let ports = fields.contains("port") && has_ports(packet.protocol);
    let mut key = Vec::new();
    for (wanted, address) in [(source && addresses, packet.source), (destination && addresses, packet.destination)] {
        match address {
            _ if !wanted => {}
            IpAddr::V4(address) => key.extend(address.octets()),
            IpAddr::V6(address) => key.extend(address.octets()),
        }
    }
    for (wanted, port) in [(source && ports, packet.source_port), (destination && ports, packet.destination_port)] {
        if wanted {
            key.extend(port.to_be_bytes());
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lookup3::lookup3;

    fn packet(source: &str, destination: &str, protocol: u8) -> Packet {
        Packet {
            interface: "bridge1",
            source: address(source),
            destination: address(destination),
            protocol,
            source_port: 40_000,
            destination_port: 443,
            tcp_flags: 0,
            icmp_type: 0,
            icmp_code: 0,
            dscp: 0,
            ttl: 64,
            size: 100,
        }
    }

    #[test]
    fn pcc_hashes_the_fields_in_their_order() {
        let there = packet("192.168.1.10", "8.8.8.8", 6);
        let back = Packet {
            source: there.destination,
            destination: there.source,
            source_port: 443,
            destination_port: 40_000,
            ..there.clone()
        };
        for (fields, key, hash, reply, seeded) in [
            ("src-address", 4, 0xc269_12e2, 0xab44_8d99, 0x9938_cf0c_u32),
            ("dst-address", 4, 0xab44_8d99, 0xc269_12e2, 0x7e0c_fcd5),
            ("both-addresses", 8, 0xd3e4_645c, 0xc69c_26b8, 0x757c_dca3),
            ("src-port", 2, 0xe897_85ab, 0xbb0f_74c0, 0xaf05_124f),
            ("dst-port", 2, 0xbb0f_74c0, 0xe897_85ab, 0x22b0_6945),
            ("src-address-and-port", 6, 0x0cef_866c, 0x10ed_d0fe, 0x4a80_2543),
            ("dst-address-and-port", 6, 0x10ed_d0fe, 0x0cef_866c, 0xd64f_48fa),
            ("both-ports", 4, 0x1a81_72cb, 0x0d86_42dd, 0x6e67_2e6b),
            ("both-addresses-and-ports", 12, 0xa27e_e935, 0x1199_34a6, 0x7a41_04c9),
        ] {
            let bytes = pcc_key(&there, fields);
            assert_eq!((bytes.len(), lookup3(&bytes, 0)), (key, hash), "{fields}");
            assert_eq!(lookup3(&pcc_key(&back, fields), 0), reply, "{fields}, answer");
            assert_eq!(lookup3(&bytes, 0x1234_5678), seeded, "{fields}, seeded");
        }
    }

    #[test]
    fn pcc_leaves_out_ports_that_a_protocol_does_not_have() {
        let ping = packet("192.168.1.10", "8.8.8.8", 1);
        assert_eq!(lookup3(&pcc_key(&ping, "both-addresses-and-ports"), 0), 0xd3e4_645c);
        assert_eq!(lookup3(&pcc_key(&ping, "both-ports"), 0), 0xdead_beef);
        let six = packet("2001:db8::10", "2001:4860:4860::8888", 17);
        assert_eq!(lookup3(&pcc_key(&six, "both-addresses-and-ports"), 0), 0x3aa1_6ff7);
    }

    #[test]
    fn lists_include_then_exclude_then_add() {
        let members =
            |list| crate::world::INTERFACES.into_iter().filter(|name| in_list(list, name)).collect::<Vec<_>>();
        assert_eq!(members("most"), ["bridge1", "ether1", "ether3"]);
        assert_eq!(members("own members stay"), ["ether1"]);
        assert_eq!((members("all").len(), members("none").len()), (4, 0));
    }

    #[test]
    fn nets_are_addresses_prefixes_and_ranges() {
        for (net, inside, outside) in [
            ("10.0.0.0/24", "10.0.0.255", "10.0.1.0"),
            ("192.0.2.1/31", "192.0.2.0", "192.0.2.2"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("10.0.0.2-10.0.1.0", "10.0.1.0", "10.0.0.1"),
            ("2001:db8::/32", "2001:db8:ffff::", "2001:db9::"),
            ("::/0", "ffff::", "0.0.0.0"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
        ] {
            assert!(in_net(net, address(inside)), "{inside} in {net}");
            assert!(address(inside).is_ipv4() != address(outside).is_ipv4() || !in_net(net, address(outside)), "{net}");
        }
    }
}
