use proptest::prelude::*;

use super::*;
use crate::candidate::ipv4;
use crate::candidate::tests::{finish, tcp4, udp4};

const LAN: u32 = 4;
const WAN: u32 = 9;
const OURS: u32 = u32::from_ne_bytes([203, 0, 113, 5]);

fn read(frame: &[u8]) -> Candidate<u32> {
    ipv4(frame, 14, frame.len() as u32).unwrap()
}

/// `frame` as a router that masquerades with [`OURS`] sends it on.
fn masqueraded(frame: &[u8], port: u16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[22] -= 1;
    frame[26..30].copy_from_slice(&OURS.to_ne_bytes());
    frame[34..36].copy_from_slice(&port.to_be_bytes());
    finish(&mut frame);
    frame
}

fn arrival(packet: &Candidate<u32>, ifindex: u32) -> Arrival<u32> {
    let Candidate { seal, length, tos, ttl, .. } = *packet;
    let passage = Passage::of(packet, ifindex);
    Arrival { passage, hash: 1, generation: 1, seal, length, tos, ttl, inbound_begin: 1, inbound_end: 2 }
}

fn departure(out: u32, packet: &Candidate<u32>) -> Departure {
    let (traits, size) = (trait_of::ETHERNET, size(packet, 0));
    Departure {
        out,
        mark: 0x1200,
        priority: 6,
        outbound: [1, 2, 3],
        size,
        traits,
        uplink: 2,
        generation: 0x1_0007,
        now: 100,
    }
}

fn learned(before: &[u8], after: &[u8]) -> Option<Shortcut<u32>> {
    let (before, after) = (read(before), read(after));
    learn(&arrival(&before, LAN), &after, &departure(WAN, &after))
}

#[test]
fn a_shortcut_does_what_the_stack_did() {
    for frame in [udp4(), tcp4(0x10)] {
        let after = masqueraded(&frame, 1024);
        let shortcut = learned(&frame, &after).unwrap();
        let passage = Passage::of(&read(&frame), LAN);
        assert_eq!(passage.translated(&shortcut), Passage::of(&read(&after), WAN));
        let change = Change::of(&shortcut, &passage.key);
        let field = 34 + if frame[23] == 17 { 6 } else { 16 };
        let checksum = |frame: &[u8], at: usize| u16::from_ne_bytes([frame[at], frame[at + 1]]);
        assert_eq!(adjusted(checksum(&frame, field), change.address + change.port), checksum(&after, field));
        assert_eq!(adjusted(checksum(&frame, 24), change.address + lower_ttl()), checksum(&after, 24));
        assert_eq!((shortcut.size, shortcut.generation, shortcut.uplink), (read(&frame).length as u16, 7, 2));
    }
}

#[test]
fn nothing_is_learned_from_what_a_shortcut_cannot_do() {
    let frame = udp4();
    let after = masqueraded(&frame, 1024);
    let changed = |at: usize, value: u8| {
        let mut after = after.clone();
        after[at] = value;
        finish(&mut after);
        learned(&frame, &after)
    };
    assert!(changed(14, 0x45).is_some());
    assert_eq!(changed(15, 0), None, "another type of service");
    assert_eq!(changed(22, 64), None, "the TTL of before");
    assert_eq!(changed(33, 8), None, "both sides are translated");
    assert_eq!(changed(37, 54), None, "both sides are translated, one in its port alone");
    let mut another = tcp4(0x10);
    another[38] ^= 1;
    finish(&mut another);
    assert_eq!(learned(&tcp4(0x10), &masqueraded(&another, 1024)), None, "another segment");
}

#[test]
fn answers_must_undo_it() {
    let frame = udp4();
    let after = masqueraded(&frame, 1024);
    let shortcut = learned(&frame, &after).unwrap();
    let passage = Passage::of(&read(&frame), LAN);
    let answers = passage.translated(&shortcut).reversed();
    assert_eq!(answers.way, way(WAN, 17));
    let ShortcutKey { source: address, source_port: port, .. } = passage.key;
    let good = Shortcut { check: answers.check(), out: LAN, traits: 0, address, port, ..shortcut };
    assert!(is_undone(&passage, &shortcut, &good));
    for bad in [
        Shortcut { out: WAN, ..good },
        Shortcut { address: OURS, ..good },
        Shortcut { port: 1, ..good },
        Shortcut { traits: trait_of::SOURCE, ..good },
        Shortcut { uplink: 1, ..good },
        Shortcut { check: Passage { way: way(WAN, 6), ..answers }.check(), ..good },
    ] {
        assert!(!is_undone(&passage, &shortcut, &bad), "{bad:?}");
    }
}

#[test]
fn it_holds_while_its_lease_and_its_generation_do() {
    let frame = udp4();
    let shortcut = learned(&frame, &masqueraded(&frame, 1024)).unwrap();
    let epoch = Epoch { generation: 7, lease: 10 };
    assert!(!holds(&shortcut, &epoch, 100), "the other direction is not known");
    let active = Shortcut { traits: shortcut.traits | trait_of::ACTIVE, ..shortcut };
    assert!(leads_alike(&active, &shortcut));
    for (now, generation, lease, expected) in [
        (100, 7, 10, true),
        (109, 7, 10, true),
        (110, 7, 10, false),
        (99, 7, 10, false),
        (100, 8, 10, false),
        (100, 7, 0, false),
    ] {
        assert_eq!(holds(&active, &Epoch { generation, lease }, now), expected, "{now} {generation} {lease}");
    }
}

#[test]
fn only_what_the_stack_sent_on_alike_takes_it() {
    let frame = udp4();
    let shortcut = learned(&frame, &masqueraded(&frame, 1024)).unwrap();
    let packet = read(&frame);
    assert!(suits(&shortcut, &packet, 32));
    assert!(!suits(&shortcut, &packet, 33), "larger than what went through");
    assert!(!suits(&shortcut, &Candidate { ttl: 1, ..packet }, 32));
    assert!(!suits(&shortcut, &Candidate { tos: 0, ..packet }, 32));
    assert!(!suits(&shortcut, &Candidate { stage: Stage::Turns, ..packet }, 32));
    assert_eq!(size(&packet, 1400), 1428);
}

proptest! {
    /// An adjusted checksum is the one that is computed anew.
    #[test]
    fn adjusting_is_computing(words in prop::collection::vec(1_u16.., 4..30), at in 0_usize..4, new: u16) {
        let sum = |words: &[u16]| words.iter().fold(0_u64, |sum, word| sum + u64::from(*word));
        let checksum = !(fold(sum(&words)) as u16);
        let mut changed = words.clone();
        changed[at] = new;
        let change = u64::from(!words[at]) + u64::from(new);
        prop_assert_eq!(adjusted(checksum, change), !(fold(sum(&changed)) as u16));
    }

    #[test]
    fn checks_tell_keys_apart(source: u32, destination: u32, source_port: u16, destination_port: u16, bit in 0_u32..32) {
        let key = ShortcutKey { source, destination, source_port, destination_port };
        let passage = Passage { key, way: 0x406 };
        let others = [
            ShortcutKey { source: source ^ 1 << bit, ..key },
            ShortcutKey { destination: destination ^ 1 << bit, ..key },
            ShortcutKey { source_port: source_port ^ 1 << (bit % 16), ..key },
        ];
        for other in others.map(|key| Passage { key, ..passage }) {
            prop_assert_ne!(passage.check(), other.check());
        }
        prop_assert_ne!(passage.check(), Passage { way: passage.way ^ 1 << bit, ..passage }.check());
    }
}
