//! PCC spreads connections as its hash says.

use pcc_ebpf::classify::HashFields;
use tests::lab::{Defaults, Lab, Protocol};

use crate::scripts::{Script, flows, inbound, interfaces, isps, nat, pcc, remainder, routing, tables};

fn lab(uplinks: u32) -> Lab {
    Lab::builder().uplinks(uplinks).without_ipv6().defaults(Defaults::None).build()
}

/// A configuration that spreads by `fields` with these remainders.
fn script(uplinks: u32, fields: &str, remainders: &[u32]) -> Script {
    let rules = inbound(uplinks) + &pcc(fields, remainders, "connection-mark=no-mark") + &routing(uplinks);
    Script::new(&(interfaces(uplinks) + &tables(uplinks) + &rules + &nat(uplinks)))
}

fn assert_spread(uplinks: u32, fields: &str, remainders: &[u32], protocols: &[Protocol]) {
    let lab = lab(uplinks);
    let script = script(uplinks, fields, remainders);
    let _pcc = script.run(&lab);
    let hashed = HashFields::parse(fields).unwrap();
    let denominator = remainders.len() as u32;
    let mut seen = vec![0; remainders.len()];
    for (protocol, from) in protocols.iter().zip([10_000, 20_000]) {
        for (trial, isp) in isps(&lab, *protocol, &flows(from, 400)) {
            let remainder = remainder(hashed, *protocol, &trial, denominator) as usize;
            seen[remainder] += 1;
            assert_eq!(isp, remainders[remainder], "{fields} {remainders:?}: {trial:?}");
        }
    }
    let spread = seen.iter().filter(|count| **count > 0).count();
    assert!(spread > 1 || fields == "src-address", "{seen:?}");
}

#[test]
fn two_uplinks_take_what_their_remainder_says() {
    assert_spread(2, "both-addresses-and-ports", &[1, 2], &[Protocol::Tcp, Protocol::Udp]);
}

#[test]
fn repeated_remainders_are_weights() {
    assert_spread(2, "both-addresses-and-ports", &[1, 1, 1, 2], &[Protocol::Tcp]);
}

#[test]
fn four_uplinks_take_what_their_remainder_says() {
    assert_spread(4, "both-addresses", &[1, 2, 3, 4], &[Protocol::Tcp, Protocol::Icmp]);
}

#[test]
fn one_client_stays_on_one_uplink_by_source_address() {
    assert_spread(2, "src-address", &[1, 2], &[Protocol::Tcp, Protocol::Udp]);
}
