//! What the RouterOS versions have of their own: routing marks of v6, IPv6 of v7, netwatch of both.

use std::net::SocketAddr;
use std::time::Duration;

use tests::lab::address::{FORWARDED_PORT, PORT, server6};
use tests::lab::{Defaults, Lab, PATIENCE, Protocol, eventually};

use crate::scripts::{READY, SEED, Script, flows, inbound, interfaces, isps, nat, pcc, routing, tables};

/// Five times what three lost pings at 300 ms take.
const NOTICED: Duration = Duration::from_secs(6);

/// In v6 the mark makes the table, and a check anywhere counts for every route by the same gateway.
#[test]
fn a_v6_script_fails_over_by_the_check_on_main_alone() {
    let lab = Lab::builder().without_ipv6().defaults(Defaults::None).build();
    let addresses =
        interfaces(2).lines().filter(|line| !line.contains("routing settings")).collect::<Vec<_>>().join("\n");
    let routes = "\n/ip route\n\
        add gateway=198.18.1.1 routing-mark=to_isp1\n\
        add gateway=198.18.2.1 routing-mark=to_isp2\n\
        add gateway=198.18.1.1 distance=1 check-gateway=ping\n\
        add gateway=198.18.2.1 distance=2 check-gateway=ping\n";
    let rules = inbound(2) + &pcc("both-addresses", &[1, 2], "connection-mark=no-mark") + &routing(2);
    let script = Script::new(&(addresses + routes + &rules + &nat(2)));
    let (path, seed) = (script.path().display().to_string(), SEED.to_string());
    let map = "bridge=lan,isp1=wan1,isp2=wan2";
    let running = lab.pcc(&[
        "run",
        "--config",
        &path,
        "--map",
        map,
        "--seed",
        &seed,
        "--dialect",
        "v6",
        "--check-interval",
        "300ms",
    ]);
    running.wait_for("ready", READY);
    let seen = |from| {
        let mut seen: Vec<u32> = isps(&lab, Protocol::Tcp, &flows(from, 60)).into_iter().map(|(_, isp)| isp).collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    };
    assert_eq!(seen(10_000), [1, 2]);
    lab.silence(1, true);
    // The marked table is empty now, so its packets take main.
    let table = || lab.router().ip("route show table all").lines().filter(|line| line.contains("198.18.1.1")).count();
    assert!(eventually(NOTICED, || table() == 0), "{}", running.stderr());
    assert_eq!(seen(11_000), [2]);
    lab.silence(1, false);
    assert!(eventually(NOTICED, || table() == 2), "{}", running.stderr());
    assert_eq!(seen(12_000), [1, 2]);
}

#[test]
fn ipv6_is_balanced_and_answered_like_ipv4() {
    let lab = Lab::builder().defaults(Defaults::None).build();
    let v6 = |text: String| text.replace("/ip firewall", "/ipv6 firewall");
    let mut script = interfaces(2) + &tables(2);
    script += "/ipv6 route\n";
    for n in 1..=2 {
        script += &format!(
            "add gateway=2001:db8:{n}::1 routing-table=to_isp{n} check-gateway=ping\n\
             add gateway=2001:db8:{n}::1 distance={n} check-gateway=ping\n"
        );
    }
    let rules = inbound(2) + &pcc("both-addresses-and-ports", &[1, 2], "connection-mark=no-mark") + &routing(2);
    let nat6 = nat(2).replace("192.0.2.2", "2001:db8:a::2");
    script += &(rules.clone() + &nat(2) + &v6(rules) + &v6(nat6));
    let script = Script::new(&script);
    let running = script.run(&lab);
    let flows: Vec<_> =
        (0..100_u16).map(|i| (10_000 + i, SocketAddr::new(server6((i % 50 + 1) as u8).into(), PORT))).collect();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let mut seen = [0, 0];
        for (_, isp) in isps(&lab, protocol, &flows) {
            seen[isp as usize - 1] += 1;
        }
        assert!(seen.iter().all(|count| *count > 20), "{protocol:?}: {seen:?}");
    }
    for isp in lab.isps() {
        for (port, protocol) in
            [(FORWARDED_PORT, Protocol::Tcp), (FORWARDED_PORT, Protocol::Udp), (PORT, Protocol::Tcp)]
        {
            for from in 30_000..30_010 {
                let to = SocketAddr::new(isp.link.router6.into(), port);
                let opened = isp.client().open(protocol, Some(from), to, PATIENCE);
                let held = opened.and_then(|mut conversation| conversation.exchange(b"once more"));
                held.unwrap_or_else(|error| {
                    panic!("isp{} {protocol:?} {port}: {error}\n{}", isp.number, running.stderr())
                });
            }
        }
    }
}

#[test]
fn netwatch_that_switches_a_route_is_a_health_rule() {
    let lab = Lab::builder().without_ipv6().defaults(Defaults::None).build();
    let routes = "/ip route\n\
        add dst-address=203.0.113.201/32 gateway=198.18.1.1\n\
        add gateway=198.18.1.1 distance=1 comment=first\n\
        add gateway=198.18.2.1 distance=2\n\
        /tool netwatch add host=203.0.113.201 interval=300ms timeout=300ms \
        down-script=\"/ip route disable [find comment=first]\" up-script=\"/ip route enable [find comment=first]\"\n";
    let script = Script::new(&(interfaces(2) + routes + &nat(2)));
    let running = script.run(&lab);
    let main = |gateway: &str| lab.router().ip("route show table 20597 default").contains(gateway);
    assert!(main("198.18.1.1"));
    lab.silence(1, true);
    assert!(eventually(NOTICED, || main("198.18.2.1")), "{}", running.stderr());
    lab.silence(1, false);
    assert!(eventually(NOTICED, || main("198.18.1.1")), "{}", running.stderr());
}
