//! Shortcuts: what takes one comes out as the pure functions say, and what does not comes out as it went in.

use pcc_ebpf::abi::{Shortcut, Traffic, device, program, trait_of};
use pcc_ebpf::packet::ether;
use proptest::prelude::*;
use tests::packet::{Extension, Packet, Transport, flag};

use self::scene::{Action, Family, Scene, UPLINK};
use crate::bench::{Bench, STRANGER, WAN1, WAN2, with_bench};
use crate::random::{self, runner};

#[path = "shortcuts/scene.rs"]
mod scene;

/// Index of a device that is not there.
const GONE: u32 = 4711;
const TCP: Transport = Transport::Tcp(flag::ACK);

fn v4(transport: Transport) -> Packet {
    Packet::new("192.0.2.1:40000", "198.51.100.8:443").transport(transport)
}

fn v6(transport: Transport) -> Packet {
    Packet::new("[2001:db8::10]:40000", "[2001:db8:9::8]:443").transport(transport)
}

/// `frame` with a byte changed and all checksums of plain packets right again.
fn changed(packet: &Packet, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = packet.build().to_vec();
    change(&mut frame);
    scene::finish(&mut frame);
    frame
}

/// Packets that take the shortcut of their scene: of both families and protocols, and both sides translated.
fn with_each(bench: &mut Bench, mut check: impl FnMut(&mut Bench, &Packet, u8)) {
    for side in [trait_of::SOURCE, 0] {
        for transport in [TCP, Transport::Udp] {
            check(bench, &v4(transport), side);
            check(bench, &v6(transport), side);
        }
    }
}

#[test]
fn a_packet_takes_it_in_tc_and_in_xdp() {
    with_bench(|bench| {
        with_each(bench, |bench, packet, side| {
            let frame = packet.build();
            for program in [program::SHORTCUT, program::SHORTCUT_XDP] {
                for inward in [0, trait_of::INWARD] {
                    let traits = side | inward;
                    let (action, traffic, used) = match packet.source().is_ipv4() {
                        true => Scene::<u32>::new(program, &frame, traits).unwrap().play_and_count(bench),
                        false => Scene::<[u32; 4]>::new(program, &frame, traits).unwrap().play_and_count(bench),
                    };
                    let (packets, bytes) = (1, frame.len() as u64);
                    let counted = match (program, inward) {
                        // What leaves is counted at egress, what comes in by the device's uplink, which this one has not.
                        (program::SHORTCUT, _) => Traffic { shortcuts_tc: 1, ..Traffic::default() },
                        (_, 0) => {
                            Traffic { shortcuts_xdp: 1, packets_out: packets, bytes_out: bytes, ..Traffic::default() }
                        }
                        _ => Traffic { shortcuts_xdp: 1, packets_in: packets, bytes_in: bytes, ..Traffic::default() },
                    };
                    assert_eq!((action, traffic), (Action::Redirect, counted), "{program} {packet:?}");
                    assert_eq!(used, (1, bytes - 14), "{program} {packet:?}");
                }
            }
        });
    });
}

#[test]
fn what_comes_in_by_an_uplink_is_counted_for_it() {
    with_bench(|bench| {
        let frame = v4(TCP).build();
        let mut scene = Scene::<u32>::new(program::SHORTCUT, &frame, trait_of::INWARD).unwrap().on(WAN1, UPLINK);
        scene.skb.segments = 3;
        scene.skb.segment = 2;
        let (action, traffic, used) = scene.play_and_count(bench);
        let counted = Traffic { shortcuts_tc: 3, packets_in: 3, bytes_in: frame.len() as u64, ..Traffic::default() };
        assert_eq!((action, traffic, used), (Action::Redirect, counted, (3, frame.len() as u64 - 14)));
    });
}

/// A device without Ethernet header takes packets as they are, and the kernel takes the header off.
#[test]
fn packets_to_a_bare_device_keep_their_header() {
    with_bench(|bench| {
        let frame = v4(TCP).build();
        let mut scene = Scene::<u32>::new(program::SHORTCUT, &frame, trait_of::SOURCE).unwrap();
        scene.shortcut.traits &= !trait_of::ETHERNET;
        scene.shortcut.out = WAN2;
        assert_eq!(scene.play(bench), Action::Redirect);
    });
}

/// What is wrong with the state of things, or with the packet: it goes to the stack as it came.
fn refuses<A: Family>(bench: &mut Bench, program: &'static str, packet: &Packet, traits: u8) {
    let frame = packet.build();
    let is_tc = program == program::SHORTCUT;
    let scene = || Scene::<A>::new(program, &frame, traits).unwrap();
    assert_eq!(scene().play(bench), Action::Redirect, "{packet:?}");
    let mut refuse = |reason: &str, change: &dyn Fn(&mut Scene<A>)| {
        let mut scene = scene();
        change(&mut scene);
        assert_eq!(scene.play(bench), Action::Pass, "{program}, {reason}: {packet:?}");
        assert_eq!(scene.stored(bench).map(|it| it.packets), Some(0), "{program}, {reason}: it is still known");
    };
    refuse("the lease is over", &|scene| scene.shortcut.leased = scene.shortcut.leased.wrapping_sub(1000));
    refuse("the lease begins later", &|scene| scene.shortcut.leased = scene.shortcut.leased.wrapping_add(1000));
    refuse("another generation", &|scene| scene.shortcut.generation = scene.shortcut.generation.wrapping_add(1));
    refuse("no leases", &|scene| scene.lease = 0);
    refuse("no such uplink", &|scene| scene.shortcut.uplink = 999);
    refuse("the other direction is not known", &|scene| scene.shortcut.traits &= !trait_of::ACTIVE);
    refuse("too large", &|scene| scene.shortcut.size -= 1);
    refuse("another type of service", &|scene| scene.shortcut.tos ^= 0x10);
    refuse("half written", &|scene| scene.shortcut.check ^= 1);
    if is_tc {
        refuse("the device takes none", &|scene| scene.device.as_mut().unwrap().shortcuts = device::GIVES);
        refuse("a segment too large", &|scene| {
            scene.skb.segment = 9;
            scene.skb.segments = 2;
        });
    } else {
        refuse("the other device takes no frames", &|scene| scene.shortcut.traits &= !trait_of::FRAMES);
        refuse("the other device takes none any more", &|scene| scene.shortcut.out = WAN2);
        refuse("the other device is gone", &|scene| scene.shortcut.out = GONE);
        refuse("to another address", &|scene| scene.shortcut.inbound_end ^= 1);
    }
    let ttl = if packet.source().is_ipv4() { 22 } else { 21 };
    for value in [0, 1] {
        refuse("TTL", &|scene| scene.frame = changed(packet, |frame| frame[ttl] = value));
    }
    refuse("to another host", &|scene| scene.frame[5] ^= 1);
    refuse("to all", &|scene| scene.frame[..6].fill(0xff));
    refuse("longer than its packet", &|scene| scene.frame.resize(frame.len() + 60, 0));
    refuse("cut short", &|scene| scene.frame.truncate(frame.len() - 1));
    for (kind, id) in [(ether::VLAN, 0), (ether::VLAN, 7), (ether::SERVICE_VLAN, 7)] {
        refuse("a tag", &|scene| scene.frame = packet.clone().tag(kind, id).build().to_vec());
    }
    refuse("another EtherType", &|scene| scene.frame = packet.clone().ether_type(0x0806).build().to_vec());
    if packet.source().is_ipv4() {
        refuse("options", &|scene| scene.frame = packet.clone().options(4).build().to_vec());
        refuse("a wrong checksum", &|scene| scene.frame[24] ^= 1);
        refuse("no checksum", &|scene| scene.frame[24..26].fill(0));
        refuse("shorter than its header", &|scene| scene.frame = changed(packet, |frame| frame[17] = 19));
        refuse("another version", &|scene| scene.frame = changed(packet, |frame| frame[14] = 0x55));
    } else {
        for extension in [Extension::HopByHop(0), Extension::Routing(0), Extension::Destination(0)] {
            refuse("an extension", &|scene| scene.frame = packet.clone().extension(extension).build().to_vec());
        }
        refuse("another version", &|scene| scene.frame[14] = 0x50);
    }
    for (offset, more) in [(0, true), (1, false), (185, true)] {
        refuse("a fragment", &|scene| scene.frame = packet.clone().fragment(offset, more).build().to_vec());
    }
    let transport = if packet.source().is_ipv4() { 34 } else { 54 };
    if packet.protocol() == 17 {
        for value in [7, 15, 17] {
            refuse("another length", &|scene| scene.frame[transport + 5] = value);
        }
    } else {
        for value in [0x40, 0xf0] {
            refuse("another TCP header", &|scene| scene.frame[transport + 12] = value);
        }
        for flags in [0, 8] {
            refuse("the end", &|scene| scene.frame[transport + 13] = flags);
        }
    }
    // Of another connection, which may differ by the device or the protocol alone.
    let elsewhere = |scene: &mut Scene<A>, bench: &mut Bench| {
        assert_eq!(scene.play(bench), Action::Pass, "{program}: {packet:?}");
    };
    for at in [0, 2] {
        let mut scene = scene();
        scene.frame[transport + at] ^= 1;
        elsewhere(&mut scene, bench);
    }
    for difference in [1 << 8, 1] {
        let mut scene = scene();
        scene.passage.way ^= difference;
        scene.shortcut.check = scene.passage.check();
        elsewhere(&mut scene, bench);
    }
}

#[test]
fn what_is_odd_goes_to_the_stack_as_it_came() {
    with_bench(|bench| {
        with_each(bench, |bench, packet, side| {
            for program in [program::SHORTCUT, program::SHORTCUT_XDP] {
                match packet.source().is_ipv4() {
                    true => refuses::<u32>(bench, program, packet, side),
                    false => refuses::<[u32; 4]>(bench, program, packet, side),
                }
            }
        });
    });
}

#[test]
fn an_event_at_an_uplink_makes_its_shortcuts_stale() {
    with_bench(|bench| {
        for (round, program) in (0..).zip([program::SHORTCUT, program::SHORTCUT_XDP]) {
            let mut scene = Scene::<u32>::new(program, &v4(TCP).build(), trait_of::SOURCE).unwrap();
            scene.shortcut.generation = round;
            bench.plane.raise_epochs([UPLINK + 1]).unwrap();
            assert_eq!(scene.play(bench), Action::Redirect, "another uplink's");
            bench.plane.raise_epochs([UPLINK]).unwrap();
            assert_eq!(scene.play(bench), Action::Pass);
        }
    });
}

#[test]
fn no_device_that_nobody_declared_takes_any() {
    with_bench(|bench| {
        let frame = v4(TCP).build();
        let scene = Scene::<u32>::new(program::SHORTCUT, &frame, trait_of::SOURCE).unwrap();
        let mut elsewhere = scene.on(STRANGER, 0);
        elsewhere.device = None;
        assert_eq!(elsewhere.play(bench), Action::Pass);
    });
}

/// tc forgets; what XDP leaves comes to tc next.
#[test]
fn what_breaks_a_connection_makes_both_its_ways_forgotten() {
    fn check<A: Family>(bench: &mut Bench, packet: &Packet) {
        for flags in [flag::SYN, flag::SYN | flag::ACK, flag::RST, flag::RST | flag::ACK, flag::FIN | flag::ACK] {
            for (program, forgets) in [(program::SHORTCUT_XDP, false), (program::SHORTCUT, true)] {
                let scene = Scene::<A>::new(program, &packet.build(), trait_of::SOURCE);
                let mut scene = scene.unwrap();
                scene.frame = packet.clone().transport(Transport::Tcp(flags)).build().to_vec();
                let answers = scene.passage.translated(&scene.shortcut).reversed().key;
                A::put(bench, &answers, &Shortcut { check: 0, ..scene.shortcut });
                assert_eq!(scene.play(bench), Action::Pass);
                let known = [scene.stored(bench).is_some(), A::get(bench, &answers).is_some()];
                assert_eq!(known, [!forgets; 2], "{program} {flags:#x}");
            }
        }
    }
    with_bench(|bench| {
        check::<u32>(bench, &v4(TCP));
        check::<[u32; 4]>(bench, &v6(TCP));
    });
}

/// Of a packet and its shortcut: a change of the packet, where its checksum shall be another one, traits, whether all else is
/// as it must be, new port and address.
type Draw = (Option<u16>, u8, bool, u16, [u32; 4], (u8, u8));

fn draw() -> impl Strategy<Value = Draw> {
    let checksum = prop_oneof![
        3 => Just(None),
        2 => prop_oneof![Just(0), Just(0xffff), any::<u16>()].prop_map(Some),
    ];
    let usual = trait_of::ACTIVE | trait_of::FRAMES | trait_of::ETHERNET;
    let traits = prop_oneof![
        4 => prop_oneof![Just(usual), Just(usual | trait_of::SOURCE)],
        1 => 0_u8..32,
    ];
    let ip = (prop_oneof![4 => Just(64), 1 => 0_u8..4], any::<u8>());
    (checksum, traits, prop::bool::weighted(0.8), any::<u16>(), any::<[u32; 4]>(), ip)
}

fn packet() -> impl Strategy<Value = Vec<u8>> {
    let flags = prop_oneof![4 => Just(flag::ACK), 1 => any::<u8>()];
    let transport = prop_oneof![flags.prop_map(Transport::Tcp), Just(Transport::Udp)];
    let ends = prop_oneof![
        (any::<[u8; 4]>(), any::<[u8; 4]>()).prop_map(|(a, b)| (a.into(), b.into())),
        (any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(a, b)| (a.into(), b.into())),
    ];
    let plain = (ends, any::<(u16, u16)>(), transport, 0_usize..60).prop_map(|(ends, ports, transport, payload)| {
        let (source, destination): (std::net::IpAddr, std::net::IpAddr) = ends;
        let packet = Packet::between((source, ports.0).into(), (destination, ports.1).into());
        packet.transport(transport).payload(payload).build().to_vec()
    });
    let odd = random::bytes().prop_filter("with an Ethernet header", |(bare, _)| !bare).prop_map(|(_, bytes)| bytes);
    prop_oneof![3 => plain, 1 => odd]
}

/// Plays one scene in both programs; how often the packet took its shortcut.
fn agree<A: Family>(bench: &mut Bench, frame: &[u8], draw: &Draw) -> u32 {
    let (checksum, traits, as_it_must_be, port, address, (ttl, tos)) = *draw;
    let mut frame = frame.to_vec();
    if A::is_plain(&frame) {
        frame[A::TTL] = ttl;
        A::set_tos(&mut frame, tos);
        scene::finish(&mut frame);
        if let Some(checksum) = checksum {
            scene::set_checksum(&mut frame, checksum);
        }
    }
    let mut taken = 0;
    for program in [program::SHORTCUT, program::SHORTCUT_XDP] {
        let Some(mut scene) = Scene::<A>::new(program, &frame, traits) else {
            let mut scene = Scene::<A>::of_nothing(program, &frame);
            assert_eq!(scene.play(bench), Action::Pass);
            continue;
        };
        scene.shortcut.traits = traits;
        scene.shortcut.port = port;
        scene.shortcut.address = A::of_words(address).stored();
        if !as_it_must_be {
            match port % 5 {
                0 => scene.shortcut.size = scene.shortcut.size.wrapping_sub(port % 3),
                1 => scene.shortcut.tos = tos.wrapping_add(1),
                2 => scene.shortcut.generation ^= port,
                3 => scene.shortcut.leased = scene.shortcut.leased.wrapping_sub(address[0] % 2 * 400),
                _ => scene.shortcut.inbound_begin ^= port & 1,
            }
        }
        taken += u32::from(scene.play(bench) == Action::Redirect);
    }
    taken
}

#[test]
fn random_packets_get_the_pure_treatment() {
    with_bench(|bench| {
        let state = std::cell::RefCell::new((bench, 0));
        let result = runner(3000).run(&(packet(), draw()), |(frame, draw)| {
            let (bench, taken) = &mut *state.borrow_mut();
            *taken += match frame[12..14] {
                [0x86, 0xdd] => agree::<[u32; 4]>(bench, &frame, &draw),
                _ => agree::<u32>(bench, &frame, &draw),
            };
            Ok(())
        });
        result.unwrap_or_else(|failure| panic!("{failure}"));
        let taken = state.into_inner().1;
        assert!(taken > 1000, "only {taken} of 6000 took their shortcuts");
    });
}
