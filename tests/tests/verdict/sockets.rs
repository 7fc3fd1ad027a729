//! Which mark a socket of the router has once it was connected, by the programs as they are attached.

use std::net::SocketAddr;

use pcc_ebpf::abi::{BUCKETS, MarkLayout};
use socket2::{Domain, Socket, Type};

use crate::bench::{Bench, with_bench};

const LAYOUT: MarkLayout = MarkLayout::DEFAULT;
const V4: &str = "198.51.100.8:443";
const V6: &str = "[2001:db8:9::8]:443";
const MAPPED: &str = "[::ffff:198.51.100.8]:443";

fn of(uplink: u32) -> u32 {
    LAYOUT.of(uplink)
}

fn with_sockets(work: impl FnOnce(&mut Bench) + Send) {
    with_bench(|bench| {
        assert!(bench.plane.attach_router().unwrap(), "no control group of version 2");
        bench.set_settings(|settings| {
            settings.mark_ours = LAYOUT.ours();
            settings.balance_router = 1;
        });
        all_to(bench, 1);
        work(bench);
    });
}

/// All new connections of both families go to `uplink`.
fn all_to(bench: &mut Bench, uplink: u32) {
    let buckets = vec![uplink; BUCKETS as usize];
    bench.publish_buckets(&buckets, &buckets);
}

fn new(to: &str) -> Socket {
    let to: SocketAddr = to.parse().unwrap();
    Socket::new(Domain::for_address(to), Type::DGRAM, None).unwrap()
}

/// The mark of `socket` once it was connected. There are no routes here, which the programs do not know yet.
fn connected(socket: &Socket, to: &str) -> u32 {
    let to: SocketAddr = to.parse().unwrap();
    let _ = socket.connect(&to.into());
    socket.mark().unwrap()
}

#[test]
fn unbound_sockets_get_the_uplink_of_the_buckets() {
    with_sockets(|bench| {
        for to in [V4, V6, MAPPED] {
            all_to(bench, 1);
            let socket = new(to);
            assert_eq!(connected(&socket, to), of(1), "{to}");
            all_to(bench, 2);
            assert_eq!(connected(&socket, to), of(2), "{to} again");
            all_to(bench, 0);
            assert_eq!(connected(&socket, to), 0, "{to} without uplinks");
        }
        all_to(bench, 1);
        let stream = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert_eq!(connected(&stream, V4), of(1));
    });
}

#[test]
fn each_family_has_its_buckets_and_connections_spread_over_them() {
    with_sockets(|bench| {
        bench.publish_buckets(&vec![1; BUCKETS as usize], &vec![2; BUCKETS as usize]);
        assert_eq!([V4, V6, MAPPED].map(|to| connected(&new(to), to)), [of(1), of(2), of(1)]);
        let alternate: Vec<u32> = (0..BUCKETS).map(|bucket| bucket % 2 + 1).collect();
        bench.publish_buckets(&alternate, &alternate);
        for to in [V4, V6] {
            let first = (0..200).filter(|_| connected(&new(to), to) == of(1)).count();
            assert!((50..150).contains(&first), "{to}: {first} of 200");
        }
    });
}

#[test]
fn bound_sockets_stay_where_they_are() {
    with_sockets(|bench| {
        for balance in [1, 0] {
            bench.set_settings(|settings| settings.balance_router = balance);
            for (own, to) in [("127.0.0.1:0", V4), ("[::1]:0", V6), ("[::ffff:127.0.0.1]:0", MAPPED)] {
                let socket = new(to);
                socket.bind(&own.parse::<SocketAddr>().unwrap().into()).unwrap();
                assert_eq!(connected(&socket, to), LAYOUT.ours(), "{own}");
                let by_device = new(to);
                by_device.bind_device(Some(b"wan1")).unwrap();
                assert_eq!(connected(&by_device, to), LAYOUT.ours(), "{to}");
            }
        }
        bench.set_settings(|settings| settings.balance_router = 1);
        let port = new(V4);
        port.bind(&"0.0.0.0:4000".parse::<SocketAddr>().unwrap().into()).unwrap();
        assert_eq!(connected(&port, V4), of(1), "a port alone binds to no uplink");
    });
}

#[test]
fn marks_of_others_and_of_probes_stay() {
    with_sockets(|_| {
        for mark in [0x1234, 0x100 | of(2), of(2) | LAYOUT.confirmed()] {
            let socket = new(V4);
            socket.set_mark(mark).unwrap();
            assert_eq!(connected(&socket, V4), mark, "{mark:#x}");
        }
    });
}

#[test]
fn what_no_uplink_leads_to_and_other_namespaces_are_left_alone() {
    with_sockets(|bench| {
        for to in ["127.0.0.1:1", "169.254.1.1:1", "224.0.0.1:1", "[::1]:1", "[ff02::1]:1", "[fe80::1]:1"] {
            assert_eq!(connected(&new(to), to), 0, "{to}");
        }
        bench.set_bypass(&["198.51.100.0/24"]);
        assert_eq!([V4, V6].map(|to| connected(&new(to), to)), [0, of(1)]);
        bench.set_bypass(&[]);
        bench.set_settings(|settings| settings.balance_router = 0);
        assert_eq!(connected(&new(V4), V4), 0, "not balanced");
        bench.set_settings(|settings| settings.balance_router = 1);
        let elsewhere = tests::lab::Namespace::new(&format!("pcc{}-elsewhere", std::process::id()));
        assert_eq!(elsewhere.run(|| connected(&new(V4), V4)), 0);
        assert_eq!(connected(&new(V4), V4), of(1));
    });
}

/// The next start puts its programs in the place of these; what ends removes them.
#[test]
fn programs_are_replaced_and_removed() {
    with_sockets(|bench| {
        assert!(bench.plane.attach_router().unwrap());
        assert_eq!(connected(&new(V4), V4), of(1));
        bench.detach();
        assert_eq!(connected(&new(V4), V4), 0);
    });
}
