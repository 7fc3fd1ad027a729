//! Each probe leaves by its own uplink, and leaves nothing behind.

use std::net::IpAddr;

use pcc_userspace::config::Target;
use pcc_userspace::health::probe::Outcome;
use pcc_userspace::host::Family;

use crate::kinds::{address, dns, kinds, page};
use crate::lab::{GATEWAY, GATEWAY6, Lab, NEVER, SERVER, SOON};
use crate::servers;

#[test]
fn the_same_target_on_two_uplinks_is_asked_by_each() {
    let lab = Lab::new();
    for server in SERVER {
        servers::http_status(&lab.isps[0], server, 204);
        servers::http_status(&lab.isps[1], server, 503);
        servers::dns(&lab.isps[0], server);
    }
    lab.router.block_on(async || {
        lab.settle().await;
        for (family, server) in Family::BOTH.into_iter().zip(SERVER) {
            for (target, wanted) in [
                (Target::Http(page(server, "/")), "status 503"),
                // Behind the second ISP nobody listens.
                (dns(server, "www.example.org"), "refused"),
            ] {
                let [mut one, mut two] = [1, 2].map(|number| lab.start(number, &target, family, SOON));
                for sequence in 0..5 {
                    let (one, two) = tokio::join!(one.ask_for(sequence, SOON), two.ask_for(sequence, SOON));
                    assert!(matches!(one, Some(Outcome::Answered(_))), "{target:?} by wan1: {one:?}");
                    let Some(Outcome::Failed(why)) = &two else { panic!("{target:?} by wan2: {two:?}") };
                    assert!(why.contains(wanted), "{target:?} by wan2: {why}");
                }
            }
        }
    });
}

#[test]
fn no_target_is_reached_by_another_uplink() {
    let lab = Lab::new();
    for isp in &lab.isps {
        for server in SERVER {
            servers::http(isp, server);
            servers::dns(isp, server);
        }
    }
    lab.router.run(&format!("ip route add default via {GATEWAY} dev wan1 onlink"));
    lab.router.run(&format!("ip -6 route add default via {GATEWAY6} dev wan1"));
    lab.router.block_on(async || {
        lab.settle().await;
        // The ISP is dead at first, then so is the link, then its routes are gone.
        for step in ["link set lan down", "link set wan2 down", "link set wan2 up"] {
            let namespace = if step.contains("lan") { &lab.isps[1] } else { &lab.router };
            namespace.run(&format!("ip {step}"));
            for (family, server) in Family::BOTH.into_iter().zip(SERVER) {
                for target in [Target::Gateway, Target::Neighbour].into_iter().chain(kinds(server)) {
                    let [mut one, mut two] = [1, 2].map(|number| lab.start(number, &target, family, SOON));
                    let (one, two) = tokio::join!(one.ask_for(1, SOON), two.ask_for(1, NEVER));
                    assert!(matches!(one, Some(Outcome::Answered(_))), "{target:?} by wan1 after {step}: {one:?}");
                    assert!(!matches!(two, Some(Outcome::Answered(_))), "{target:?} by wan2 after {step}: {two:?}");
                }
            }
        }
    });
}

#[test]
fn a_link_local_server_is_asked_on_the_link() {
    let lab = Lab::new();
    let gateway: IpAddr = GATEWAY6.parse().unwrap();
    lab.router.block_on(async || {
        lab.settle().await;
        for number in [1, 2] {
            let target = Target::Tcp((gateway, 80).into());
            let outcome = lab.start(number, &target, Family::V6, SOON).ask_for(1, SOON).await;
            assert_eq!(outcome, Some(Outcome::Failed("connection refused".to_owned())));
        }
    });
}

#[test]
fn connections_leave_nothing_behind() {
    let lab = Lab::new();
    for server in SERVER {
        servers::http(&lab.isps[0], server);
    }
    lab.router.block_on(async || {
        lab.settle().await;
        for (family, server) in Family::BOTH.into_iter().zip(SERVER) {
            for target in [Target::Tcp(address(server, 80)), Target::Http(page(server, "/well"))] {
                let mut probing = lab.start(1, &target, family, SOON);
                for sequence in 0..10 {
                    let outcome = probing.ask_for(sequence, SOON).await;
                    assert!(matches!(outcome, Some(Outcome::Answered(_))), "{target:?}: {outcome:?}");
                }
            }
        }
        let left = lab.router.output("ss --tcp --all --no-header");
        assert_eq!(left, "", "sockets of the router");
    });
}
