//! What of a packet must be the same.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::frame::Mac;
use crate::world::Output;

const ICMP: u8 = 1;
const FRAGMENT: u8 = 44;

/// A frame from `router` to `host` without padding and without the numbers that the router itself gives to its reports and to
/// the fragments that it makes; `None` for any other frame.
pub fn normal(frame: &[u8], router: Mac, (v4, v6): (Ipv4Addr, Ipv6Addr)) -> Option<Vec<u8>> {
    if frame.get(6..12)? != router {
        return None;
    }
    let mut packet = frame.to_vec();
    let ip = packet.get_mut(14..)?;
    let length = match frame[12..14] {
        [0x08, 0x00] if ip.get(16..20)? == v4.octets() => {
            if ip[9] == ICMP {
                ip[4..6].fill(0);
                ip[10..12].fill(0);
            }
            usize::from(u16::from_be_bytes([ip[2], ip[3]]))
        }
        [0x86, 0xdd] if ip.get(24..40)? == v6.octets() => {
            if ip[6] == FRAGMENT && ip.len() >= 48 {
                ip[44..48].fill(0);
            }
            40 + usize::from(u16::from_be_bytes([ip[4], ip[5]]))
        }
        _ => return None,
    };
    packet.truncate(14 + length);
    Some(packet)
}

/// How two outputs differ, in words; empty where they do not.
pub fn difference(reference: &Output, other: &Output) -> String {
    let mut text = String::new();
    for (place, reference, other) in
        [("client", &reference.client, &other.client), ("server", &reference.server, &other.server)]
    {
        for (sign, one, two) in [('-', reference, other), ('+', other, reference)] {
            let mut rest = two.clone();
            for frame in one {
                match rest.iter().position(|it| it == frame) {
                    Some(at) => drop(rest.swap_remove(at)),
                    None => {
                        let _ = writeln!(text, "{sign} at the {place}: {}", hex(frame));
                    }
                }
            }
        }
    }
    text
}

/// The first bytes of a frame, in groups: Ethernet, IP header, the rest.
fn hex(frame: &[u8]) -> String {
    let ip = if frame[14] >> 4 == 4 { 34 } else { 54 };
    let bytes = frame.iter().take(ip + 60).enumerate().map(|(at, byte)| {
        let gap = if at == 14 || at == ip { " | " } else { "" };
        format!("{gap}{byte:02x}")
    });
    format!("{} ({} bytes)", bytes.collect::<String>(), frame.len())
}
