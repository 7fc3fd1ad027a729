use proptest::prelude::*;

use super::*;

/// An Ethernet frame with a UDP datagram of 4 bytes, all of it right.
pub(crate) fn udp4() -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00];
    frame.extend([0x45, 0xb8, 0, 32, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7]);
    frame.extend([0x9c, 0x40, 0, 53, 0, 12, 0, 0, b'p', b'c', b'c', b'!']);
    finish(&mut frame);
    frame
}

/// The same with a TCP header and `flags`.
pub(crate) fn tcp4(flags: u8) -> Vec<u8> {
    let mut frame = udp4();
    frame.truncate(34);
    frame[14 + 9] = 6;
    frame[14 + 3] = 44;
    frame.extend([0x9c, 0x40, 1, 187, 1, 2, 3, 4, 5, 6, 7, 8, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0, 1, 2, 3, 4]);
    finish(&mut frame);
    frame
}

pub(crate) fn udp6() -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x86, 0xdd];
    frame.extend([0x6b, 0x80, 0, 0, 0, 12, 17, 64]);
    frame.extend([0x20, 0x01, 0x0d, 0xb8, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    frame.extend([0x20, 0x01, 0x0d, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    frame.extend([0x9c, 0x40, 0, 53, 0, 12, 0, 0, b'p', b'c', b'c', b'!']);
    finish(&mut frame);
    frame
}

/// Writes all checksums.
pub(crate) fn finish(frame: &mut [u8]) {
    let sum = |bytes: &[u8]| {
        bytes.chunks(2).fold(0_u64, |sum, two| sum + u64::from(two[0]) * 256 + u64::from(*two.get(1).unwrap_or(&0)))
    };
    let (header, addresses, protocol) = if frame[14] >> 4 == 4 {
        frame[24..26].fill(0);
        let checksum = !(fold(sum(&frame[14..34])) as u16);
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
        (34, 26..34, frame[23])
    } else {
        (54, 22..54, frame[20])
    };
    let field = header + if protocol == protocol::UDP { 6 } else { 16 };
    if frame.len() < field + 2 {
        return;
    }
    frame[field..field + 2].fill(0);
    let pseudo = sum(&frame[addresses]) + u64::from(protocol) + (frame.len() - header) as u64;
    let checksum = !(fold(pseudo + sum(&frame[header..])) as u16);
    frame[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
}

fn read4(frame: &[u8]) -> Option<Candidate<u32>> {
    ipv4(frame, 14, frame.len() as u32)
}

#[test]
fn plain_packets_are_read() {
    let packet = read4(&udp4()).unwrap();
    assert_eq!(packet.source.to_ne_bytes(), [192, 0, 2, 1]);
    assert_eq!(packet.destination.to_ne_bytes(), [198, 51, 100, 7]);
    assert_eq!((u16::from_be(packet.source_port), u16::from_be(packet.destination_port)), (40_000, 53));
    assert_eq!((packet.protocol, packet.tos, packet.ttl), (17, 0xb8, 64));
    assert_eq!((packet.stage, packet.length, packet.headers, packet.seal), (Stage::Goes, 32, 28, 12));
    let frame = udp6();
    let packet = ipv6(frame.as_slice(), 14, frame.len() as u32).unwrap();
    assert_eq!(packet.source.map(u32::to_ne_bytes).concat()[15], 2);
    assert_eq!(packet.destination.map(u32::to_ne_bytes).concat()[15], 9);
    assert_eq!((packet.protocol, packet.tos, packet.ttl, packet.length, packet.headers), (17, 0xb8, 64, 52, 48));
    let packet = read4(&tcp4(0x18)).unwrap();
    assert_eq!((packet.stage, packet.headers, packet.seal), (Stage::Goes, 40, u32::from_ne_bytes([1, 2, 3, 4])));
}

#[test]
fn flags_tell_what_a_segment_does() {
    for (flags, stage) in [
        (0x10, Stage::Goes),
        (0x18, Stage::Goes),
        (0xf8, Stage::Goes),
        (0x02, Stage::Turns),
        (0x12, Stage::Turns),
        (0x04, Stage::Turns),
        (0x14, Stage::Turns),
        (0x07, Stage::Turns),
        (0x11, Stage::Turns),
        (0x01, Stage::Turns),
        (0x00, Stage::Odd),
        (0x08, Stage::Odd),
    ] {
        assert_eq!(read4(&tcp4(flags)).unwrap().stage, stage, "{flags:#x}");
    }
}

#[test]
fn what_is_odd_is_left_to_the_stack() {
    let odd = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = udp4();
        change(&mut frame);
        finish(&mut frame);
        read4(&frame)
    };
    assert!(odd(&|_| {}).is_some());
    assert_eq!(odd(&|frame| frame[14] = 0x46), None, "options");
    assert_eq!(odd(&|frame| frame[14] = 0x65), None, "another version");
    assert_eq!(odd(&|frame| frame[20] = 0x20), None, "a first fragment");
    assert_eq!(odd(&|frame| frame[21] = 1), None, "another fragment");
    assert_eq!(odd(&|frame| frame[23] = 1), None, "ICMP");
    assert_eq!(odd(&|frame| frame[17] = 33), None, "longer than the frame");
    assert_eq!(odd(&|frame| frame[17] = 27), None, "no room for a UDP header");
    assert_eq!(odd(&|frame| frame[39] = 11), None, "a datagram shorter than the packet");
    assert!(odd(&|frame| frame.resize(60, 0)).is_some(), "padding of a short frame");
    assert_eq!(odd(&|frame| frame.resize(61, 0)), None, "more than padding");
    let mut frame = udp4();
    frame[24] ^= 1;
    assert_eq!(read4(&frame), None, "a wrong checksum of the header");
    let mut frame = tcp4(0x10);
    frame[17] = 19;
    finish(&mut frame);
    assert_eq!(read4(&frame[..54]), None, "shorter than its own header");
    for header in [0x40, 0xf0] {
        let mut frame = tcp4(0x10);
        frame[46] = header;
        assert_eq!(read4(&frame), None, "a TCP header of {header:#x}");
    }
    let mut frame = udp6();
    frame[20] = 0;
    assert_eq!(ipv6(frame.as_slice(), 14, frame.len() as u32), None, "an extension header");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), frame in 0_u32..2000) {
        let _ = ipv4(bytes.as_slice(), 14, frame);
        let _ = ipv6(bytes.as_slice(), 0, frame);
    }

    #[test]
    fn folding_keeps_the_sum(words in prop::collection::vec(any::<u32>(), 1..20)) {
        let halves = words.iter().flat_map(|word| [word >> 16, word & 0xffff]).fold(0_u64, |sum, half| sum + u64::from(half));
        let folded = fold(words.iter().map(|word| u64::from(*word)).sum());
        prop_assert!(folded <= 0xffff);
        prop_assert_eq!(u64::from(folded) % 0xffff, halves % 0xffff);
        prop_assert_eq!(folded == 0, halves == 0);
    }
}
