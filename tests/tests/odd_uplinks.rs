//! Uplinks as ISPs really hand them out.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tests::lab::address::{CLIENT4, CLIENT6, FORWARDED_PORT, PORT, server4, server6};
use tests::lab::settings::READY;
use tests::lab::{Client, Defaults, Entry, Isp, Lab, Ledger, PATIENCE, Pcc, Protocol, eventually};

const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];
/// Servers that are asked.
const HOSTS: std::ops::RangeInclusive<u8> = 1..=24;

#[test]
fn isps_may_share_network_and_gateway_address() {
    for defaults in [Defaults::All, Defaults::First, Defaults::None] {
        let lab = Lab::builder().same_gateway().uplinks(3).defaults(defaults).port_forward().build();
        let _pcc = run(&lab, &lab.gateways());
        balances_and_answers(&lab, &[1, 2, 3]);
    }
}

#[test]
fn a_device_without_ethernet_header_is_an_uplink() {
    for (tuns, defaults) in
        [(&[1][..], Defaults::First), (&[2], Defaults::First), (&[1, 2], Defaults::All), (&[1, 2], Defaults::None)]
    {
        let builder = tuns.iter().fold(Lab::builder(), |builder, tun| builder.tun(*tun));
        let lab = builder.defaults(defaults).port_forward().build();
        let _pcc = run(&lab, &lab.gateways());
        balances_and_answers(&lab, &[1, 2]);
        for isp in lab.isps() {
            let neighbour = isp.client().from([isp.link.gateway4.into(), isp.link.gateway6.into()]);
            for router in [IpAddr::from(isp.link.router4), isp.link.router6.into()] {
                for protocol in ALL {
                    let opened = neighbour.open(protocol, None, SocketAddr::new(router, PORT), PATIENCE);
                    assert!(opened.is_ok(), "{router} asked by its neighbour by {protocol:?}: {opened:?}");
                }
            }
        }
        lab.carrier(tuns[0], false);
        assert!(eventually(PATIENCE, || asked_isps(lab.client(), &[Protocol::Udp]) == [3 - tuns[0]].into()));
        lab.carrier(tuns[0], true);
        assert!(eventually(PATIENCE, || asked_isps(lab.client(), &[Protocol::Udp]) == [1, 2].into()));
    }
}

#[test]
fn a_route_to_the_device_alone_is_enough() {
    let lab = Lab::builder().defaults(Defaults::None).port_forward().build();
    for isp in lab.isps() {
        // The ISP answers for every address of the world.
        isp.namespace().set_sysctls(&[
            ("net/ipv4/conf/all/arp_ignore", "0"),
            ("net/ipv6/conf/all/proxy_ndp", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv6/neigh/eth0/proxy_delay", "0"),
        ]);
        let proxied = HOSTS.map(|host| format!("neigh add proxy {} dev eth0\n", server6(host)));
        isp.namespace().ip_batch(&proxied.collect::<String>());
        let (device, metric) = (&isp.device, isp.number);
        lab.router().ip(&format!("-4 route add default dev {device} metric {metric}"));
        lab.router().ip(&format!("-6 route add default dev {device} metric {metric}"));
    }
    let _pcc = run(&lab, &[]);
    balances_and_answers(&lab, &[1, 2]);
}

#[test]
fn what_leaves_by_an_uplink_without_translation_keeps_its_source() {
    for untranslated in [&[1][..], &[2], &[1, 2]] {
        let lab = Lab::builder().build();
        for isp in lab.isps() {
            isp.namespace().ip(&format!("-4 route add 192.0.2.0/24 via {}", isp.link.router4));
            isp.namespace().ip(&format!("-6 route add 2001:db8:a::/64 via {}", isp.link.router6));
        }
        let mut flags = lab.gateways();
        flags.extend(untranslated.iter().map(|number| format!("--nat=wan{number}=none")));
        let _pcc = run(&lab, &flags);
        for host in HOSTS {
            for server in [IpAddr::from(server4(host)), server6(host).into()] {
                for protocol in ALL {
                    let asked = lab.client().open(protocol, None, SocketAddr::new(server, PORT), PATIENCE).unwrap();
                    let own = if server.is_ipv4() { CLIENT4.into() } else { CLIENT6.into() };
                    let uplink = lab.isp(asked.isp).link.router(server);
                    let expected = if untranslated.contains(&asked.isp) { own } else { uplink };
                    assert_eq!(asked.identity.seen_as.ip(), expected, "{protocol:?} to {server} by isp{}", asked.isp);
                }
            }
        }
        assert_eq!(asked_isps(lab.client(), &ALL), [1, 2].into());
        for number in untranslated {
            for client in [IpAddr::from(CLIENT4), CLIENT6.into()] {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    let to = SocketAddr::new(client, FORWARDED_PORT);
                    let mut inbound = lab.isp(*number).client().open(protocol, None, to, PATIENCE).unwrap();
                    assert_eq!(inbound.identity.server, "client");
                    inbound.exchange(b"again").unwrap();
                }
            }
        }
    }
}

#[test]
fn a_host_without_ipv6_is_balanced_in_ipv4() {
    for defaults in [Defaults::All, Defaults::None] {
        let lab = Lab::builder().without_ipv6().defaults(defaults).port_forward().build();
        let pcc = run(&lab, &lab.gateways());
        balances_and_answers(&lab, &[1, 2]);
        let complaints = pcc.stderr();
        assert!(!complaints.contains("ERROR") && !complaints.contains("WARN"), "{complaints}");
        assert_eq!(lab.router().ip("-6 route show table all"), "");
    }
}

#[test]
fn an_uplink_without_address_waits_for_it() {
    for given in [true, false] {
        let lab = Lab::builder().port_forward().build();
        let link = lab.isp(2).link;
        let without = |family: &str| lab.router().ip(&format!("{family} addr flush dev wan2 scope global"));
        without("-4");
        without("-6");
        let mut flags = lab.gateways();
        if !given {
            flags.retain(|flag| !flag.contains("wan2"));
        }
        let pcc = run(&lab, &flags);
        assert!(pcc.stderr().contains("uplink `wan2` waits"), "{}", pcc.stderr());
        assert_eq!(asked_isps(lab.client(), &ALL), [1].into());

        lab.router().ip(&format!("-4 addr add {}/24 dev wan2", link.router4));
        lab.router().ip(&format!("-6 addr add {}/64 dev wan2 nodad", link.router6));
        if !given {
            lab.router().ip(&format!("-4 route add default via {} dev wan2 metric 200", link.gateway4));
            lab.router().ip(&format!("-6 route add default via {} dev wan2 metric 200", link.gateway6));
        }
        let began = Instant::now();
        let both = || asked_isps(lab.client(), &[Protocol::Udp]) == [1, 2].into();
        assert!(eventually(PATIENCE, both), "never used");
        assert!(began.elapsed() < Duration::from_secs(1), "used after {:?}", began.elapsed());
        balances_and_answers(&lab, &[1, 2]);

        without("-4");
        without("-6");
        let first = || asked_isps(lab.client(), &[Protocol::Udp]) == [1].into();
        assert!(eventually(Duration::from_secs(1), first), "still used");
    }
}

#[test]
fn an_uplink_that_gets_another_address_answers_from_it() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let _pcc = run(&lab, &lab.gateways());
    let link = lab.isp(2).link;
    let renewed = [(IpAddr::from(link.router4), "198.18.2.77/24"), (link.router6.into(), "2001:db8:2::77/64")];
    for (old, new) in renewed {
        let (length, family) = if old.is_ipv4() { (24, "-4") } else { (64, "-6") };
        lab.router().ip(&format!("{family} addr del {old}/{length} dev wan2"));
        lab.router().ip(&format!("{family} addr add {new} dev wan2"));
        let new: IpAddr = new.split('/').next().unwrap().parse().unwrap();
        let gateway = if new.is_ipv4() { IpAddr::from(link.gateway4) } else { link.gateway6.into() };
        // As a DHCP client does: the kernel has removed the default route with the address.
        lab.router().exec(
            "ip",
            [family, "route", "replace", "default", "via", &gateway.to_string(), "dev", "wan2", "metric", "200"],
        );
        for protocol in ALL {
            let mut seen = None;
            assert!(
                eventually(PATIENCE, || {
                    let opened = lab.isp(2).client().open(protocol, None, SocketAddr::new(new, PORT), PATIENCE / 10);
                    seen = opened.ok();
                    seen.is_some()
                }),
                "{protocol:?} to {new}"
            );
        }
        let used = HOSTS.filter_map(|host| {
            let server = if new.is_ipv4() { IpAddr::from(server4(host)) } else { server6(host).into() };
            let opened = lab.client().tcp_connect(None, SocketAddr::new(server, PORT), PATIENCE).unwrap();
            (opened.isp == 2).then_some(opened.identity.seen_as.ip())
        });
        assert_eq!(used.collect::<BTreeSet<_>>(), BTreeSet::from([new]));
    }
}

#[test]
fn a_device_that_is_made_anew_is_taken_up_again() {
    let lab = Lab::builder().port_forward().build();
    // Devices that are made later inherit it.
    for device in ["all", "default", "lan", "wan1", "wan2"] {
        lab.router().set_sysctls(&[(&format!("net/ipv4/conf/{device}/rp_filter"), "1")]);
    }
    let _pcc = run(&lab, &lab.gateways());
    balances_and_answers(&lab, &[1, 2]);
    let (isp, link) = (lab.isp(2).namespace(), lab.isp(2).link);
    lab.router().ip("link del wan2");
    let by = |isps: &[u32]| asked_isps(lab.client(), &[Protocol::Udp]) == isps.iter().copied().collect();
    assert!(eventually(PATIENCE, || by(&[1])), "still used");
    lab.router().ip(&format!("link add wan2 type veth peer name eth0 netns {}", isp.name()));
    for (namespace, device, v4, v6) in
        [(isp, "eth0", link.gateway4, link.gateway6), (lab.router(), "wan2", link.router4, link.router6)]
    {
        namespace.ip(&format!("addr add {v4}/24 dev {device}"));
        namespace.ip(&format!("addr add {v6}/64 dev {device} nodad"));
        namespace.ip(&format!("link set {device} up"));
    }
    assert!(eventually(PATIENCE, || by(&[1, 2])), "never used again");
    balances_and_answers(&lab, &[1, 2]);
}

#[test]
fn isps_may_share_a_link_local_gateway() {
    for defaults in [Defaults::All, Defaults::None] {
        let lab = Lab::builder().uplinks(3).defaults(defaults).port_forward().build();
        let mut flags = lab.gateways();
        flags.retain(|flag| defaults == Defaults::None && !flag.contains("2001:"));
        for isp in lab.isps() {
            isp.namespace().ip("addr add fe80::1/64 dev eth0 nodad");
            if defaults == Defaults::None {
                flags.push(format!("--gateway={}=fe80::1", isp.device));
            } else {
                let metric = 100 * isp.number;
                lab.router().ip(&format!("-6 route replace ::/0 via fe80::1 dev {} metric {metric}", isp.device));
            }
        }
        let _pcc = run(&lab, &flags);
        balances_and_answers(&lab, &[1, 2, 3]);
        lab.silence(3, true);
        let by = |isps: &[u32]| asked_isps(lab.client(), &[Protocol::Udp]) == isps.iter().copied().collect();
        assert!(eventually(PATIENCE, || by(&[1, 2])), "a silent gateway is noticed");
    }
}

fn run(lab: &Lab, flags: &[String]) -> Pcc {
    let wans = lab.wans();
    let mut args = vec!["run", "--wan", &wans, "--lan", lab.lans()];
    args.extend(flags.iter().map(String::as_str));
    let pcc = lab.pcc(&args);
    pcc.wait_for("ready", READY);
    pcc
}

fn has_ipv6(lab: &Lab) -> bool {
    !lab.client().namespace().ip("-6 addr show dev eth0").is_empty()
}

/// The ISPs that answered one connection of each of `protocols` to each server, in both families where there are two.
/// ISP 0 stands for a connection that was not answered.
fn asked_isps(client: &Client, protocols: &[Protocol]) -> BTreeSet<u32> {
    let v6 = !client.namespace().ip("-6 addr show dev eth0").is_empty();
    let servers = HOSTS.flat_map(|host| [Some(IpAddr::from(server4(host))), v6.then(|| server6(host).into())]);
    let flows: Vec<_> = servers.flatten().map(|server| (0, SocketAddr::new(server, PORT))).collect();
    let trials = protocols.iter().flat_map(|protocol| client.try_many(*protocol, &flows, 8, PATIENCE / 10));
    trials.map(|trial| trial.isp.unwrap_or(0)).collect()
}

/// Connections of the LAN go to all of `isps`; what comes in by one of them, to the router or through it, is answered
/// there; no ISP receives what has another source than its own uplink.
fn balances_and_answers(lab: &Lab, isps: &[u32]) {
    let ledgers: Vec<Ledger> = lab.isps().iter().map(Isp::ledger).collect();
    // One that has not answered yet takes nothing while others have.
    assert!(eventually(PATIENCE, || asked_isps(lab.client(), &ALL) == isps.iter().copied().collect()), "not by all");
    for number in isps {
        let isp = lab.isp(*number);
        let families = [Some(IpAddr::from(isp.link.router4)), has_ipv6(lab).then(|| isp.link.router6.into())];
        for router in families.into_iter().flatten() {
            let forwarded = [(Protocol::Tcp, FORWARDED_PORT), (Protocol::Udp, FORWARDED_PORT)];
            for (protocol, port) in ALL.map(|protocol| (protocol, PORT)).into_iter().chain(forwarded) {
                let to = SocketAddr::new(router, port);
                let opened = isp.client().open(protocol, None, to, PATIENCE);
                let mut inbound = opened.unwrap_or_else(|error| panic!("{protocol:?} to {to}: {error}"));
                inbound.exchange(b"again").unwrap_or_else(|error| panic!("{protocol:?} to {to}, again: {error}"));
            }
        }
        let own = |entry: &Entry| [isp.link.router4.into(), isp.link.router6.into()].contains(&entry.source);
        let foreign: Vec<Entry> = ledgers[*number as usize - 1].entries().into_iter().filter(|it| !own(it)).collect();
        assert_eq!(foreign, [], "seen by isp{number}");
    }
}
