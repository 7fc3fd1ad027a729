//! What each kind of probe reports, in both families.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use pcc_userspace::config::{Page, Target};
use pcc_userspace::health::probe::Outcome;
use pcc_userspace::host::Family;
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{GATEWAY, Lab, NEVER, Probing, SERVER, SILENT, SOON, UNREACHABLE};
use crate::servers;

/// Longer than a test lasts: what is reported is not a timeout.
const LONG: Duration = Duration::from_secs(30);

pub fn address(text: &str, port: u16) -> SocketAddr {
    (text.parse::<IpAddr>().unwrap(), port).into()
}

pub fn page(server: &str, path: &str) -> Page {
    let address = address(server, 80);
    Page { tls: false, host: "www.example".to_owned(), address, path: path.to_owned(), status: None, body: None }
}

pub fn dns(server: &str, name: &str) -> Target {
    Target::Dns(address(server, 53), name.to_owned())
}

/// A target of each kind that has an address of its own.
pub fn kinds(server: &str) -> [Target; 4] {
    [
        Target::Ping(server.parse().unwrap()),
        Target::Tcp(address(server, 80)),
        Target::Http(page(server, "/204")),
        dns(server, "www.example.org"),
    ]
}

fn serve(lab: &Lab) {
    for isp in &lab.isps {
        for server in SERVER {
            servers::http(isp, server);
            servers::dns(isp, server);
        }
    }
}

fn is_answer(outcome: Option<&Outcome>) -> bool {
    outcome.is_some_and(|outcome| matches!(outcome, Outcome::Answered(round_trip) if *round_trip < SOON))
}

#[test]
fn every_kind_is_answered() {
    let lab = Lab::new();
    serve(&lab);
    lab.router.block_on(async || {
        lab.settle().await;
        for (family, server) in Family::BOTH.into_iter().zip(SERVER) {
            for target in [Target::Gateway, Target::Neighbour].into_iter().chain(kinds(server)) {
                let mut probing = lab.start(2, &target, family, LONG);
                for sequence in [7, 65_535, 0] {
                    let outcome = probing.ask_for(sequence, SOON).await;
                    assert!(is_answer(outcome.as_ref()), "{target:?}: {outcome:?}");
                }
                assert!(probing.stop().await, "{target:?} goes on");
            }
        }
    });
}

#[test]
fn silence_is_not_reported() {
    let lab = Lab::new();
    serve(&lab);
    lab.router.block_on(async || {
        lab.settle().await;
        lab.isps[0].run("sysctl -qw net.ipv4.icmp_echo_ignore_all=1 net.ipv6.icmp.echo_ignore_all=1");
        for (family, (silent, server)) in Family::BOTH.into_iter().zip(SILENT.into_iter().zip(SERVER)) {
            let slow = [Target::Gateway, dns(server, "silent.example.org"), Target::Http(page(server, "/slow"))];
            let probings: Vec<_> = kinds(silent)
                .into_iter()
                .chain(slow)
                .map(|target| (lab.start(1, &target, family, NEVER / 3), target))
                .collect();
            for (probing, _) in &probings {
                probing.send(1);
            }
            for (mut probing, target) in probings {
                assert_eq!(probing.hear(NEVER).await, None, "{target:?}");
            }
            let mut path = lab.path(1, family);
            path.gateway =
                Some(if family == Family::V4 { [198, 18, 0, 99].into() } else { "fe80::99".parse().unwrap() });
            let mut probing = Probing::start(&Target::Neighbour, family, &path, LONG).unwrap();
            assert_eq!(probing.ask_for(1, NEVER).await, None, "nobody has {path:?}");
        }
    });
}

#[test]
fn what_cannot_be_reached_fails_at_once() {
    let lab = Lab::new();
    lab.router.block_on(async || {
        lab.settle().await;
        for (family, (unreachable, server)) in Family::BOTH.into_iter().zip(UNREACHABLE.into_iter().zip(SERVER)) {
            // Of the server nothing but the host is there.
            let closed = kinds(server).into_iter().filter(|target| !matches!(target, Target::Ping(_)));
            for target in kinds(unreachable).into_iter().chain(closed) {
                let mut probing = lab.start(1, &target, family, LONG);
                for sequence in [1, 2] {
                    let outcome = probing.ask_for(sequence, SOON).await;
                    let Some(Outcome::Failed(why)) = &outcome else { panic!("{target:?}: {outcome:?}") };
                    let refused = target.family().is_some() && format!("{target:?}").contains(server);
                    let wanted = if refused { "refused" } else { "unreachable" };
                    assert!(why.contains(wanted), "{target:?}: {why}");
                }
            }
        }
        lab.router.run("ip link set wan1 down");
        for (family, server) in Family::BOTH.into_iter().zip(SERVER) {
            for target in kinds(server).into_iter().chain([Target::Neighbour]) {
                let outcome = lab.start(1, &target, family, LONG).ask_for(1, SOON).await;
                assert!(matches!(outcome, Some(Outcome::Failed(_))), "{target:?}: {outcome:?}");
            }
        }
    });
}

#[test]
fn a_page_must_have_the_right_status_and_body() {
    let lab = Lab::new();
    serve(&lab);
    lab.router.block_on(async || {
        lab.settle().await;
        for (family, server) in Family::BOTH.into_iter().zip(SERVER) {
            for (path, status, body, wanted) in [
                ("/well", None, None, Ok(())),
                ("/well", Some(200), Some("is well"), Ok(())),
                ("/host", None, Some("host: www.example\r\n"), Ok(())),
                ("/moved", None, None, Ok(())),
                ("/down", Some(503), Some("all is well"), Ok(())),
                ("/down", None, None, Err("status 503")),
                ("/well", Some(204), None, Err("status 200")),
                ("/gone", None, Some("is well"), Err("status 404")),
                ("/well", None, Some("is ill"), Err("another body than wanted")),
                ("/long", None, Some("late"), Err("another body than wanted")),
                ("/long", None, Some("xxx"), Ok(())),
                ("/cut", None, Some("all is well"), Err("")),
                ("/garbage", None, None, Err("")),
            ] {
                let target = Target::Http(Page { status, body: body.map(str::to_owned), ..page(server, path) });
                let outcome = lab.start(1, &target, family, LONG).ask_for(1, SOON).await;
                match (&outcome, wanted) {
                    (Some(Outcome::Answered(_)), Ok(())) => {}
                    (Some(Outcome::Failed(why)), Err(text)) if why.contains(text) => {}
                    _ => panic!("{target:?}: {outcome:?}"),
                }
            }
        }
    });
}

#[test]
fn a_dns_server_must_not_fail() {
    let lab = Lab::new();
    serve(&lab);
    lab.router.block_on(async || {
        lab.settle().await;
        for (family, server) in Family::BOTH.into_iter().zip(SERVER) {
            let fails = lab.start(1, &dns(server, "fail.example.org"), family, LONG).ask_for(1, SOON).await;
            assert_eq!(fails, Some(Outcome::Failed("the DNS server failed".to_owned())));
            let none = lab.start(1, &dns(server, "none.example.org"), family, LONG).ask_for(1, SOON).await;
            assert!(is_answer(none.as_ref()), "NXDOMAIN: {none:?}");
            let stray = lab.start(1, &dns(server, "stray.example.org"), family, LONG).ask_for(1, NEVER).await;
            assert_eq!(stray, None, "an answer to another question");
        }
    });
}

#[test]
fn a_late_answer_to_a_ping_is_reported() {
    let lab = Lab::new();
    lab.router.block_on(async || {
        lab.settle().await;
        lab.isps[0].run("sysctl -qw net.ipv4.icmp_echo_ignore_all=1");
        let socket = lab.isps[0].within(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap());
        thread::spawn(move || {
            let mut buffer = [0; 256];
            while let Ok(length) = std::io::Read::read(&mut &socket, &mut buffer) {
                let mut reply = buffer[20..length].to_vec();
                if reply[0] != 8 {
                    continue;
                }
                thread::sleep(NEVER);
                // Type 8 becomes 0; the checksum of 16-bit words grows by as much as the first word shrinks.
                reply[0] = 0;
                let checksum = u32::from(u16::from_be_bytes([reply[2], reply[3]])) + 0x0800;
                reply[2..4].copy_from_slice(&((checksum & 0xffff) as u16 + (checksum >> 16) as u16).to_be_bytes());
                let router = SocketAddr::from(([198, 18, 0, 2], 0)).into();
                socket.send_to(&reply, &router).unwrap();
            }
        });
        let mut patient = lab.start(1, &Target::Gateway, Family::V4, NEVER / 2);
        let outcome = patient.ask_for(1, SOON).await;
        assert!(matches!(outcome, Some(Outcome::Answered(round_trip)) if round_trip >= NEVER), "{outcome:?}");
        let mut hasty = lab.start(1, &Target::Ping(GATEWAY.into()), Family::V4, NEVER / 10);
        assert_eq!(hasty.ask_for(1, 2 * NEVER).await, None, "more than four timeouts late");
    });
}

#[test]
fn where_there_is_nothing_to_ask_there_is_no_prober() {
    let lab = Lab::new();
    lab.router.block_on(async || {
        let mut path = lab.path(1, Family::V4);
        let started = |target, family, path: &_| Probing::start(&target, family, path, SOON).is_some();
        for target in [Target::Gateway, Target::Neighbour] {
            assert!(started(target.clone(), Family::V4, &path));
            assert!(!started(target, Family::V6, &path), "the gateway is of the other family");
        }
        for target in kinds(SERVER[0]) {
            assert!(!started(target, Family::V6, &path));
        }
        path.gateway = None;
        assert!(!started(Target::Gateway, Family::V4, &path) && !started(Target::Neighbour, Family::V4, &path));
        assert!(kinds(SERVER[0]).into_iter().all(|target| started(target, Family::V4, &path)));
        (path.device, path.ifindex, path.gateway) = ("lo".to_owned(), 1, Some(GATEWAY.into()));
        assert!(!started(Target::Neighbour, Family::V4, &path), "no link-layer addresses");
    });
}
