//! The lab itself, without `pcc`: the router forwards and masquerades by hand.

use std::fs::{self, Permissions};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::lab::address::{
    self, CLIENT2_4, CLIENT4, CLIENT6, FORWARDED_PORT, INNER_GATEWAY4, INNER4, INNER6, PORT, ROUTER4, SERVER4, SERVER6,
    server4, server6,
};
use tests::lab::{Builder, Busy, Defaults, FaultKind, HostState, Lab, Moved, PATIENCE, Protocol, eventually};

const QUICK: Duration = Duration::from_millis(300);

fn server(address: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(address.into(), PORT)
}

/// A lab whose router does by hand what a router of one uplink needs.
fn plain(builder: Builder) -> Lab {
    let lab = builder.build();
    lab.router().set_sysctls(&[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")]);
    lab.router().nft(
        "table inet byhand { chain post { type nat hook postrouting priority srcnat; oifname \"wan*\" masquerade; }; }",
    );
    lab
}

#[test]
fn every_protocol_arrives_at_the_isp_of_the_default_route() {
    let lab = plain(Lab::builder());
    for (to, router) in [
        (server(SERVER4), IpAddr::from(lab.isp(1).link.router4)),
        (server(SERVER6), IpAddr::from(lab.isp(1).link.router6)),
        (server(server4(60)), IpAddr::from(lab.isp(1).link.router4)),
        (server(server6(60)), IpAddr::from(lab.isp(1).link.router6)),
    ] {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
            lab.isp(1).clear();
            let mut conversation = lab.client().open(protocol, Some(33_000), to, PATIENCE).unwrap();
            assert_eq!((conversation.isp, conversation.local.port()), (1, 33_000), "{protocol:?} {to}");
            assert_eq!(conversation.identity.seen_as.ip(), router);
            conversation.exchange(b"once more").unwrap();
            let seen = lab.isp(1).seen();
            assert!(seen.iter().any(|it| it.protocol == protocol && it.peer == conversation.identity.seen_as));
        }
        assert!(lab.client().ping(to.ip()));
    }
    assert_eq!(lab.isp(2).seen(), []);
    let mut big = lab.client().tcp_connect(None, server(SERVER4), PATIENCE).unwrap();
    big.exchange(&vec![7; 1 << 20]).unwrap();
}

#[test]
fn nothing_arrives_without_translation() {
    let lab = plain(Lab::builder());
    lab.router().nft("delete table inet byhand");
    assert!(lab.client().tcp_connect(None, server(SERVER4), QUICK).is_err());
    assert!(lab.client().udp_ask(None, server(SERVER6), QUICK).is_err());
    assert!(!lab.client().ping(SERVER4.into()));
}

#[test]
fn many_connections_keep_their_order() {
    let lab = plain(Lab::builder());
    let flows: Vec<_> = (0..1000u16).map(|n| (20_000 + n, server(server4((n % 200) as u8 + 1)))).collect();
    let trials = lab.client().try_many(Protocol::Tcp, &flows, 8, PATIENCE);
    for (trial, flow) in trials.iter().zip(&flows) {
        assert_eq!((trial.source.port(), trial.destination, &trial.isp), (flow.0, flow.1, &Ok(1)));
    }
    assert_eq!((trials.len(), lab.isp(1).seen().len()), (1000, 1000));
    let echoes: Vec<_> = (1..=200u16).map(|id| (id, server(server6((id % 200) as u8 + 1)))).collect();
    let trials = lab.client().try_many(Protocol::Icmp, &echoes, 8, PATIENCE);
    assert!(trials.iter().all(|trial| trial.isp == Ok(1)), "{trials:?}");
}

#[test]
fn cut_carrier_and_silence_are_noticed_and_undone() {
    for builder in [Lab::builder(), Lab::builder().tun(1)] {
        let lab = plain(builder);
        let arrives = |to: IpAddr| lab.client().udp_ask(None, server(to), QUICK).is_ok();
        let carrier = || lab.router().ip("link show wan1").contains("LOWER_UP");
        for to in [IpAddr::from(SERVER4), IpAddr::from(SERVER6)] {
            assert!(arrives(to) && carrier());
            lab.carrier(1, false);
            assert!(eventually(PATIENCE, || !carrier()) && !arrives(to));
            lab.carrier(1, true);
            assert!(eventually(PATIENCE, || carrier() && arrives(to)), "{to}");
            lab.silence(1, true);
            assert!(!arrives(to) && carrier());
            lab.silence(1, false);
            assert!(eventually(PATIENCE, || arrives(to)), "{to}");
        }
        let gateway = lab.isp(1).link.gateway4.into();
        assert!(lab.router_client().ping(gateway));
        lab.silence(1, true);
        assert!(!lab.router_client().ping(gateway));
    }
}

#[test]
fn busy_conversations_report_silence_and_moves() {
    let lab = plain(Lab::builder().defaults(Defaults::All));
    let flows: Vec<_> = (0..20).map(|n| (30_000 + n, server(SERVER4))).collect();
    let open = |protocol| lab.client().open_many(protocol, &flows, 4, PATIENCE).into_iter().map(Result::unwrap);
    let busy = Busy::start(
        open(Protocol::Tcp).chain(open(Protocol::Udp)).collect(),
        Duration::from_millis(10),
        Duration::from_millis(500),
    );
    assert!(eventually(PATIENCE, || busy.report().exchanges > 400));
    assert_eq!(busy.report().faults, []);
    // The other uplink takes over: TCP cannot go on there, UDP can, after its old translation was dropped.
    lab.router().ip("route del default dev wan1");
    assert!(eventually(PATIENCE, || busy.report().faults.len() >= 40), "{:?}", busy.report());
    let (report, alive) = busy.stop();
    assert_eq!(
        (
            report.count(FaultKind::Reset) + report.count(FaultKind::Silence) + report.count(FaultKind::Moved),
            alive.len()
        ),
        (40, 0)
    );
    assert!(report.faults.iter().all(|fault| fault.isp == 1));
}

#[test]
fn a_move_to_another_isp_is_told_apart_from_silence() {
    let lab = plain(Lab::builder().defaults(Defaults::All));
    for (protocol, to) in [(Protocol::Udp, server(SERVER4)), (Protocol::Icmp, server(SERVER6))] {
        let mut conversation = lab.client().open(protocol, None, to, PATIENCE).unwrap();
        let family = if to.is_ipv4() { "-4" } else { "-6" };
        lab.router().ip(&format!("{family} route del default dev wan1"));
        lab.router().exec("conntrack", ["-F"]);
        let error = conversation.exchange(b"again").unwrap_err();
        let moved = error.get_ref().and_then(|inner| inner.downcast_ref::<Moved>()).expect("moved");
        assert_eq!((moved.from.server.as_str(), moved.to.server.as_str()), ("isp1", "isp2"));
    }
}

#[test]
fn inbound_comes_from_beyond_the_isp() {
    let lab = plain(Lab::builder().port_forward());
    for router in [IpAddr::from(lab.isp(1).link.router4), lab.isp(1).link.router6.into()] {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
            let direct = lab.isp(1).client().open(protocol, None, SocketAddr::new(router, PORT), PATIENCE).unwrap();
            assert_eq!((direct.identity.server.as_str(), direct.isp), ("router", 0));
            assert!([SERVER4.into(), SERVER6.into()].contains(&direct.identity.seen_as.ip()));
        }
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let to = SocketAddr::new(router, FORWARDED_PORT);
            let forwarded = lab.isp(1).client().open(protocol, None, to, PATIENCE).unwrap();
            assert_eq!(forwarded.identity.server, "client");
        }
        assert!(lab.isp(1).reaches_router(router));
    }
    assert_eq!(lab.client_server().seen().len(), 4);
    // Main's default leads to ISP 1: the answers to ISP 2 go astray. That is what `pcc` has to cure.
    let second = lab.isp(2).link.router4;
    assert!(lab.isp(2).client().tcp_connect(None, server(second), QUICK).is_err());
    assert!(!lab.isp(2).reaches_router(second.into()));
}

#[test]
fn other_networks_are_reached_as_the_routes_say() {
    let lab = plain(Lab::builder().second_lan().inner_network().mtu(2, 1400).uplinks(3));
    for to in [IpAddr::from(INNER4), INNER6.into()] {
        let inner = lab.client().tcp_connect(None, server(to), PATIENCE).unwrap();
        assert_eq!(inner.identity.server, "inner");
        assert!([IpAddr::from(CLIENT4), CLIENT6.into()].contains(&inner.identity.seen_as.ip()), "not translated");
    }
    assert_eq!(lab.second_client().udp_ask(None, server(SERVER6), PATIENCE).unwrap().isp, 1);
    for to in [IpAddr::from(CLIENT2_4), ROUTER4.into(), INNER_GATEWAY4.into(), lab.isp(3).link.gateway4.into()] {
        assert!(lab.client().ping(to), "{to}");
    }
    assert_eq!(lab.router_client().tcp_connect(None, server(SERVER4), PATIENCE).unwrap().isp, 1);
    assert_eq!((lab.wans(), lab.lans()), ("wan1,wan2,wan3".into(), "lan,lan2"));
    assert!(lab.router().ip("link show wan2").contains("mtu 1400"));
    assert!(lab.isp(2).namespace().ip("link show eth0").contains("mtu 1400"));
}

#[test]
fn unusual_uplinks_work_too() {
    let same = plain(Lab::builder().same_gateway().uplinks(3).defaults(Defaults::All));
    for isp in [1, 2, 3] {
        assert_eq!(same.client().udp_ask(None, server(SERVER4), PATIENCE).unwrap().isp, isp);
        assert_eq!(same.client().tcp_connect(None, server(SERVER6), PATIENCE).unwrap().isp, isp);
        same.router().ip(&format!("-4 route del default dev wan{isp}"));
        same.router().ip(&format!("-6 route del default dev wan{isp}"));
    }
    let tun = plain(Lab::builder().tun(1).mtu(1, 1400).uplinks(1));
    let mut conversation = tun.client().tcp_connect(None, server(SERVER4), PATIENCE).unwrap();
    conversation.exchange(&vec![1; 300_000]).unwrap();
    assert_eq!(conversation.identity.seen_as.ip(), IpAddr::from(tun.isp(1).link.router4));
    assert_eq!(tun.client().open(Protocol::Icmp, Some(9), server(SERVER6), PATIENCE).unwrap().isp, 1);
    assert!(!tun.router().ip("link show wan1").contains("ether"));

    let none = plain(Lab::builder().without_ipv6().defaults(Defaults::None));
    assert!(none.client().tcp_connect(None, server(SERVER4), QUICK).is_err());
    assert_eq!(none.router().ip("-6 addr"), "");
    assert_eq!(none.router().ip("route show default"), "");
}

#[test]
fn a_host_state_differs_only_where_something_changed() {
    let lab = plain(Lab::builder());
    let before = lab.host_state();
    for to in [server(SERVER4), server(SERVER6)] {
        lab.client().tcp_connect(None, to, PATIENCE).unwrap();
    }
    assert_eq!(HostState::diff(&before, &lab.host_state()), "");
    for (command, line) in [
        ("ip rule add pref 77 lookup 77", "+ 77:\tfrom all lookup 77"),
        ("ip -6 route add blackhole 2001:db8:77::/64 table 77", "+ blackhole 2001:db8:77::/64 dev lo table 77"),
        ("nft add rule inet byhand post counter", ": counter"),
        ("sysctl -q -w net.ipv4.conf.wan2.rp_filter=2", "+ /proc/sys/net/ipv4/conf/wan2/rp_filter = 2"),
        ("tc qdisc add dev wan2 clsact", "+ qdisc wan2: qdisc clsact"),
    ] {
        let before = lab.host_state();
        let mut words = command.split(' ');
        lab.router().exec(words.next().unwrap(), words);
        let diff = HostState::diff(&before, &lab.host_state());
        assert!(diff.contains(line), "{command}: {diff}");
    }
}

#[test]
fn a_pcc_is_heard_signalled_and_torn_down() {
    let folder = tempfile::tempdir().unwrap();
    let (program, downs) = (folder.path().join("pcc"), folder.path().join("downs"));
    let script = format!(
        "#!/bin/sh\n[ $1 = down ] && {{ echo \"$*\" >>{}; exit; }}\n\
         trap 'echo stopping >&2; exit 3' TERM\nip -o link show wan1; echo \"ready $2\" >&2\n\
         while :; do sleep 0.01; done\n",
        downs.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let lab = Lab::builder().program(&program).build();
    let instance = lab.instance().to_owned();
    let mut first = lab.pcc(&["run", "now"]);
    assert_eq!(first.wait_for("ready", PATIENCE), "ready now");
    first.signal(Signal::TERM);
    assert_eq!(first.wait(PATIENCE).code(), Some(3));
    assert!(first.stderr().ends_with("stopping\n") && first.stdout().contains("wan1"));
    let second = lab.pcc(&["run"]);
    second.wait_for("ready", PATIENCE);
    let id = second.id();
    drop(first);
    drop(lab);
    assert!(!downs.exists(), "the second still runs");
    drop(second);
    assert_eq!(fs::read_to_string(&downs).unwrap(), format!("down --instance {instance}\n"));
    assert!(!Path::new("/proc").join(id.to_string()).exists());
}

#[test]
fn nothing_stays_behind_when_a_test_panics() {
    let (mut name, mut process) = (String::new(), 0);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let lab = Lab::builder().tun(2).build();
        name = lab.instance().to_owned();
        process = lab.router().command("sleep", ["60"]).spawn().unwrap().id();
        let entered = || {
            let inside = fs::read_link(format!("/proc/{process}/ns/net")).ok();
            inside.is_some_and(|inside| inside != fs::read_link("/proc/self/ns/net").unwrap())
        };
        assert!(eventually(PATIENCE, entered));
        lab.router().run(|| panic!("as planned"));
    }));
    assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&"as planned"));
    let left = fs::read_dir("/run/netns").unwrap().flatten();
    assert!(!left.map(|it| it.file_name().into_string().unwrap()).any(|it| it.starts_with(&format!("{name}-"))));
    // It was ours to reap: until then a zombie keeps the number.
    let state = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
}

#[test]
fn a_lab_is_built_in_a_moment() {
    let began = Instant::now();
    let lab = Lab::builder().build();
    let took = began.elapsed();
    println!("built in {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let began = Instant::now();
    drop(lab);
    println!("gone in {:?}", began.elapsed());
    assert_eq!(address::UDP_SERVERS, 64);
}
