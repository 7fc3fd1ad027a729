//! `pcc flows` lists the connections that the lab has, with what the ISPs saw of them.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Output;
use std::thread;

use pcc_userspace::flows::{Flow, Listing};
use rustix::process::Signal;
use tests::lab::address::{CLIENT4, CLIENT6, FORWARDED_PORT, PORT, SERVER4, SERVER6, server4, server6};
use tests::lab::settings::READY;
use tests::lab::{Conversation, Defaults, Isp, Lab, PATIENCE, Pcc, Protocol, eventually};

const ECHO: u16 = 5002;

fn run(lab: &Lab, more: &[&str]) -> Pcc {
    lab.router().set_sysctls(&[("net/netfilter/nf_conntrack_acct", "1")]);
    let wans = lab.wans();
    let flags = ["run", "--wan", &wans, "--lan", lab.lans(), "--hash", "both-addresses-and-ports"];
    let pcc = lab.pcc(&[&flags[..], more].concat());
    pcc.wait_for("ready", READY);
    pcc
}

fn ask(lab: &Lab, words: &[&str]) -> Output {
    lab.pcc_output(&[&["flows"], words].concat())
}

fn list(lab: &Lab, words: &[&str]) -> Listing {
    let output = ask(lab, &[&["--json", "--limit", "10000"], words].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn open(lab: &Lab, protocol: Protocol, flows: &[(u16, SocketAddr)]) -> Vec<Conversation> {
    lab.client().open_many(protocol, flows, 8, PATIENCE).into_iter().collect::<Result<_, _>>().unwrap()
}

/// The entry of a connection.
fn of<'a>(listing: &'a Listing, conversation: &Conversation) -> &'a Flow {
    let protocol = if conversation.protocol == Protocol::Tcp { "tcp" } else { "udp" };
    let is_it = |flow: &&Flow| flow.source == conversation.local && flow.protocol == protocol;
    listing.flows.iter().find(is_it).unwrap_or_else(|| panic!("{conversation:?} is not among {listing:#?}"))
}

#[test]
fn connections_are_listed_with_the_uplink_that_the_server_saw() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let _pcc = run(&lab, &[]);
    let to = |i: u16| {
        SocketAddr::new(
            if i.is_multiple_of(2) { server4(i as u8 + 1).into() } else { server6(i as u8 + 1).into() },
            PORT,
        )
    };
    let flows: Vec<_> = (0..40).map(|i| (20_000 + i, to(i))).collect();
    let mut all = open(&lab, Protocol::Tcp, &flows);
    all.extend(open(&lab, Protocol::Udp, &flows[..12]));
    let on_first = all.iter().filter(|conversation| conversation.isp == 1).count();
    assert!(on_first > 5 && on_first < 45, "a test of both uplinks needs connections on both: {on_first}");

    let listing = list(&lab, &[]);
    assert!(listing.accounting);
    for conversation in &all {
        let flow = of(&listing, conversation);
        assert_eq!(flow.uplink.as_deref(), Some(format!("wan{}", conversation.isp).as_str()));
        assert_eq!(
            (flow.destination, flow.client, flow.inbound),
            (conversation.remote, conversation.local.ip(), false)
        );
        assert_eq!(flow.translated_source, conversation.identity.seen_as, "the source that the server saw");
        assert!(flow.cached && flow.cache_used.is_some_and(|seconds| seconds < 60), "{flow:?}");
        assert!(flow.bytes_out.unwrap() > 28 && flow.packets_in.unwrap() > 0 && flow.timeout > 0, "{flow:?}");
        if conversation.protocol == Protocol::Tcp {
            assert_eq!(flow.state.as_deref(), Some("established"));
        }
    }
    let ours =
        |listing: &Listing| all.iter().filter(|it| listing.flows.iter().any(|flow| flow.source == it.local)).count();
    let counted = |words: &[&str], expected: &dyn Fn(&Conversation) -> bool| {
        let listing = list(&lab, words);
        assert_eq!(listing.total as usize, listing.flows.len(), "{words:?}");
        for conversation in all.iter().filter(|it| expected(it)) {
            of(&listing, conversation);
        }
        assert_eq!(
            ours(&listing),
            all.iter().filter(|it| expected(it) || same_source(it, &all, expected)).count(),
            "{words:?}"
        );
    };
    counted(&["--uplink", "wan1"], &|it| it.isp == 1);
    counted(&["--client", "192.0.2.2"], &|it| it.local.is_ipv4());
    counted(&["--client", "2001:db8:a::/64", "--port", "7"], &|it| it.local.is_ipv6());
    counted(&["--port", "20003"], &|it| it.local.port() == 20_003);
    counted(&["--protocol", "udp", "--uplink", "wan2"], &|it| it.protocol == Protocol::Udp && it.isp == 2);
    counted(&["--state", "established"], &|it| it.protocol == Protocol::Tcp);
    assert_eq!(list(&lab, &["--client", "198.51.100.77"]), Listing { accounting: true, ..Listing::default() });

    let clients = list(&lab, &["--port", "7"]).clients;
    let of_client = |address: IpAddr| clients.iter().find(|client| client.address == address).unwrap();
    assert_eq!(of_client(CLIENT4.into()).connections + of_client(CLIENT6.into()).connections, 52);
    assert!(of_client(CLIENT4.into()).bytes_out > 0);
    for_people(&lab);
}

/// Its source port is also that of one that is expected: TCP and UDP have the same ones here.
fn same_source(it: &Conversation, all: &[Conversation], expected: &dyn Fn(&Conversation) -> bool) -> bool {
    all.iter().any(|other| other.local == it.local && expected(other))
}

/// The table, and what is said about misspelt names.
fn for_people(lab: &Lab) {
    let output = ask(lab, &["--limit", "5", "--sort", "client", "--port", "7"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("protocol") && text.contains("established") && text.contains("wan"), "{text}");
    assert!(text.ends_with("\n5 of 52 connections\n"), "{text}");
    assert_eq!(text.lines().count(), 8, "{text}");
    for (words, message, hint) in [
        (["--uplink", "wam1"], "no uplink `wam1`", "did you mean `wan1`? there are: wan1, wan2"),
        (["--state", "establishd"], "no state `establishd`", "did you mean `established`?"),
    ] {
        let output = ask(lab, &words);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(message) && stderr(&output).contains(hint), "{output:?}");
    }
    assert_eq!(ask(lab, &["--client", "router"]).status.code(), Some(2));
    let output = lab.pcc_output(&["uplink", "wna2", "weight", "3"]);
    assert!(stderr(&output).contains("did you mean `wan2`?"), "{output:?}");
    let output = lab.pcc_output(&["uplink", "wan2", "weight", "3", "--json"]);
    let changed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&changed["uplink"], &changed["weight"], &changed["persist"]),
        (&"wan2".into(), &3.into(), &false.into())
    );
    let output = lab.pcc_output(&["uplink", "wan2", "weight", "1"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "uplink wan2: weight 1\n");
}

#[test]
fn bytes_and_packets_through_the_stack_are_those_that_were_sent() {
    exact("off");
}

#[test]
fn bytes_and_packets_by_shortcuts_in_tc_are_those_that_were_sent() {
    exact("tc");
}

#[test]
fn bytes_and_packets_by_shortcuts_in_xdp_are_those_that_were_sent() {
    exact("xdp");
}

/// Sends datagrams of a known size and number there and back.
fn exact(mode: &str) {
    const COUNT: u64 = 300;
    const SIZE: u64 = 200;
    let builder = Lab::builder().defaults(Defaults::All);
    let lab = if mode == "xdp" { builder.whole_frames() } else { builder }.build();
    let pcc = run(&lab, &["--fast-path", mode]);
    if mode != "off" {
        // Before, there is no lease; and an uplink that comes up makes its shortcuts stale.
        pcc.wait_for("shortcuts last", READY);
        for (isp, family) in lab.isps().iter().flat_map(|isp| ["IPv4", "IPv6"].map(|family| (isp, family))) {
            pcc.wait_for(&format!("uplink {} {family}: up", isp.device), READY);
        }
    }
    for server in [IpAddr::from(SERVER4), SERVER6.into()] {
        lab.isps().iter().for_each(|isp| echo(isp, server));
        let socket = lab.client().namespace().run(|| {
            let any: IpAddr = if server.is_ipv4() { CLIENT4.into() } else { CLIENT6.into() };
            let socket = UdpSocket::bind((any, 0)).unwrap();
            socket.connect((server, ECHO)).unwrap();
            socket
        });
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        for _ in 0..COUNT {
            socket.send(&[7; SIZE as usize]).unwrap();
            assert_eq!(socket.recv(&mut [0; 2048]).unwrap() as u64, SIZE);
        }
        let from = socket.local_addr().unwrap();
        let listing = list(&lab, &["--protocol", "udp", "--port", &from.port().to_string()]);
        let flow = listing.flows.iter().find(|flow| flow.source == from).unwrap();
        let bytes = COUNT * (SIZE + 8 + if server.is_ipv4() { 20 } else { 40 });
        assert_eq!((flow.packets_out, flow.packets_in), (Some(COUNT), Some(COUNT)), "{flow:#?}");
        assert_eq!((flow.bytes_out, flow.bytes_in), (Some(bytes), Some(bytes)), "{flow:#?}");
        assert!(!flow.at_least);
        if mode == "off" {
            assert!(!flow.shortcut && flow.shortcut_bytes_out == 0 && flow.shortcut_bytes_in == 0, "{flow:#?}");
        } else {
            assert!(
                flow.shortcut && flow.shortcut_bytes_out > bytes / 2 && flow.shortcut_bytes_in > bytes / 2,
                "{flow:#?}"
            );
        }
    }
}

/// Sends datagrams back, until the test program ends.
fn echo(isp: &Isp, server: IpAddr) {
    let socket = isp.namespace().run(|| UdpSocket::bind((server, ECHO)).unwrap());
    thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(&bytes[..length], from);
        }
    });
}

#[test]
fn what_began_outside_belongs_to_the_host_inside() {
    let lab = Lab::builder().defaults(Defaults::All).port_forward().build();
    let _pcc = run(&lab, &[]);
    for isp in lab.isps() {
        for like in [IpAddr::from(SERVER4), SERVER6.into()] {
            let remote = SocketAddr::new(isp.link.router(like), FORWARDED_PORT);
            let mut conversation = isp.client().open(Protocol::Tcp, None, remote, PATIENCE).unwrap();
            conversation.exchange(&[7; 1000]).unwrap();
            let listing = list(&lab, &["--uplink", &isp.device, "--port", &conversation.local.port().to_string()]);
            let flow = of(&listing, &conversation);
            let client: IpAddr = if like.is_ipv4() { CLIENT4.into() } else { CLIENT6.into() };
            assert!(flow.inbound && flow.client == client && flow.translated_destination.ip() == client, "{flow:#?}");
            assert!(flow.bytes_in.unwrap() > 1000 && flow.bytes_out.unwrap() > 1000, "{flow:#?}");
        }
    }
}

#[test]
fn a_data_path_without_controller_is_listed_and_without_either_nothing_is() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let mut pcc = run(&lab, &["--keep"]);
    let conversation = lab.client().tcp_connect(None, SocketAddr::new(SERVER4.into(), PORT), PATIENCE).unwrap();
    let uplink = Some(format!("wan{}", conversation.isp));
    assert_eq!(of(&list(&lab, &[]), &conversation).uplink, uplink);
    pcc.signal(Signal::KILL);
    pcc.wait(PATIENCE);
    assert_eq!(of(&list(&lab, &["--uplink", uplink.as_deref().unwrap()]), &conversation).uplink, uplink);
    assert!(stderr(&ask(&lab, &[])).contains("no controller runs"), "it is said");
    assert!(lab.pcc_output(&["down"]).status.success());
    let output = ask(&lab, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("there is no data path") && stderr(&output).contains("hint: "), "{output:?}");
}

#[test]
fn without_accounting_bytes_are_unknown_and_that_is_said_once() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let _pcc = run(&lab, &[]);
    lab.router().set_sysctls(&[("net/netfilter/nf_conntrack_acct", "0")]);
    let conversation = lab.client().tcp_connect(None, SocketAddr::new(SERVER4.into(), PORT), PATIENCE).unwrap();
    let listing = list(&lab, &[]);
    let flow = of(&listing, &conversation);
    assert!(!listing.accounting && flow.bytes_out.is_none() && flow.packets_in.is_none(), "{flow:#?}");
    let output = ask(&lab, &[]);
    assert_eq!(stderr(&output).matches("nf_conntrack_acct").count(), 1, "{output:?}");
}

#[test]
fn a_script_has_its_marks() {
    let lab = Lab::builder().without_ipv6().defaults(Defaults::None).build();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../pcc-userspace/examples/dual-wan.rsc");
    let pcc = lab.pcc(&["run", "--config", script, "--map", "ether1=wan1,cable=wan2,lan=lan", "--addresses"]);
    pcc.wait_for("ready", READY);
    let mut marks = Vec::new();
    assert!(eventually(READY, || lab
        .client()
        .tcp_connect(None, SocketAddr::new(SERVER4.into(), PORT), PATIENCE)
        .is_ok()));
    for host in 1..20 {
        let to = SocketAddr::new(server4(host).into(), PORT);
        let conversation = lab.client().tcp_connect(None, to, PATIENCE).unwrap();
        let listing = list(&lab, &["--port", &conversation.local.port().to_string()]);
        let flow = of(&listing, &conversation);
        assert_eq!(flow.uplink, None);
        let mark = flow.connection_mark.clone().unwrap_or_else(|| panic!("no connection mark: {flow:#?}"));
        assert!(flow.routing_mark.is_some(), "{flow:#?}");
        of(&list(&lab, &["--uplink", &mark]), &conversation);
        marks.push((conversation.isp, mark));
    }
    marks.sort_unstable();
    marks.dedup();
    assert_eq!(marks.len(), 2, "one mark for each uplink: {marks:?}");
}
