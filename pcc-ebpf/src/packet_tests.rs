//! Parsing of bytes that nobody vouches for; well-formed packets of all kinds are compared with the kernel elsewhere.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const UDP4: [u8; 28] =
    [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2, 0x9c, 0x40, 0x01, 0xbb, 0, 8, 0, 0];

fn bare(bytes: &[u8]) -> Result<Headers, Unread> {
    parse(bytes, 0, if bytes[0] >> 4 == 4 { ether::IPV4 } else { ether::IPV6 })
}

#[test]
fn a_datagram_is_read() {
    let key = FlowKey::new(([192, 0, 2, 1], 40_000).into(), ([198, 51, 100, 2], 443).into(), protocol::UDP);
    let details = Details { ttl: 64, ..Details::default() };
    assert_eq!(bare(&UDP4), Ok(Headers { key, family: IPV4, opens: false, cacheable: true, details }));
    let framed: Vec<u8> = [0; 12].into_iter().chain([0x08, 0x00]).chain(UDP4).collect();
    assert_eq!(parse(&framed[..], 14, 0), bare(&UDP4));
}

#[test]
fn a_vlan_tag_is_named_and_not_looked_behind() {
    let frame: Vec<u8> = [0; 12].into_iter().chain([0x81, 0x00, 0xa0, 0x2a, 0x08, 0x00]).chain(UDP4).collect();
    assert_eq!(vlan_id(&frame[..]), Some(42));
    assert_eq!(parse(&frame[..], 14, 0), Err(Unread::Skip(Counter::Vlan)));
    assert_eq!(vlan_id(&frame[4..]), None);
}

/// An IPv6 packet must not pass for one of an IPv4 flow.
#[test]
fn mapped_addresses_are_malformed() {
    let packet = |source: &str, destination: &str| -> Vec<u8> {
        let octets = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
        let header = [0x60, 0, 0, 0, 0, 8, protocol::UDP, 64];
        header.into_iter().chain(octets(source)).chain(octets(destination)).chain(UDP4[20..].iter().copied()).collect()
    };
    assert!(bare(&packet("2001:db8::1", "2001:db8::2")).is_ok());
    for (source, destination) in [("::ffff:192.0.2.1", "::ffff:198.51.100.2"), ("2001:db8::1", "::ffff:198.51.100.2")] {
        assert_eq!(bare(&packet(source, destination)), Err(Unread::Skip(Counter::Malformed)));
    }
}

/// The kernel program cannot read the last byte of a packet alone; whoever compares with it must not either.
#[test]
fn the_last_byte_is_not_read_alone() {
    let mut tcp = UDP4.to_vec();
    tcp[9] = protocol::TCP;
    tcp.resize(20 + 14, 0);
    assert_eq!(bare(&tcp), Err(Unread::Short), "the flags are the last byte");
    tcp.push(0);
    assert!(bare(&tcp).is_ok());
}

/// Bytes that get past the first checks more often than noise does.
fn bytes() -> impl Strategy<Value = (Vec<u8>, u32)> {
    let first = prop_oneof![Just(0x45), Just(0x60), 0x40_u8..0x50, any::<u8>()];
    let next = prop_oneof![Just(0), Just(6), Just(43), Just(44), Just(51), Just(58), Just(60), any::<u8>()];
    let ether_type = prop_oneof![Just(ether::IPV4), Just(ether::IPV6), any::<u16>()];
    (vec(any::<u8>(), 0..160), first, next, ether_type, any::<bool>()).prop_map(
        |(mut bytes, first, next, ether_type, ethernet)| {
            let start = if ethernet { 14 } else { 0 };
            let place = if first >> 4 == 4 { 9 } else { 6 };
            for (place, value) in [(start, first), (start + place, next)] {
                bytes.get_mut(place).into_iter().for_each(|byte| *byte = value);
            }
            if let Some(field) = bytes.get_mut(12..14).filter(|_| ethernet) {
                field.copy_from_slice(&ether_type.to_be_bytes());
            }
            (bytes, start as u32)
        },
    )
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic((bytes, start) in bytes(), ether_type: u16) {
        let _ = vlan_id(&bytes[..]);
        for ether_type in [ether::IPV4, ether::IPV6, ether_type] {
            let _ = parse(&bytes[..], start, ether_type);
        }
    }

    /// Whoever has only the beginning of a packet is told so, and never anything wrong.
    #[test]
    fn the_beginning_of_a_packet_is_too_short_or_enough((bytes, start) in bytes(), end in 0_usize..160) {
        let cut = &bytes[..end.min(bytes.len())];
        for ether_type in [ether::IPV4, ether::IPV6] {
            let result = parse(cut, start, ether_type);
            prop_assert!(result == Err(Unread::Short) || result == parse(&bytes[..], start, ether_type));
        }
    }
}
