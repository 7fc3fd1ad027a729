//! `[[rule]]`: who takes which uplink, who keeps to one, and how large the segments are.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pcc_ebpf::abi::{BUCKETS, FlowKey};
use pcc_ebpf::classify::{HashFields, hash};
use pcc_userspace::buckets;
use pcc_userspace::status::Status;
use tests::lab::address::{CLIENT6, PORT, SERVER4, SERVER6, server4, server6};
use tests::lab::settings::READY;
use tests::lab::{Client, Defaults, Lab, Namespace, PATIENCE, Pcc, Protocol, Trial, eventually};
use tests::predict::Prediction;

const SEED: u32 = 305_419_896;
const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];
/// A second address of the client.
const OTHER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

fn lab(uplinks: u32) -> Lab {
    let lab = Lab::builder().uplinks(uplinks).defaults(Defaults::All).build();
    lab.client().namespace().ip(&format!("addr add {OTHER4}/24 dev eth0"));
    lab
}

/// Runs the lab's uplinks with `more` behind them.
fn run(lab: &Lab, top: &str, more: &str) -> Pcc {
    run_with(lab, top, more, &[])
}

fn run_with(lab: &Lab, top: &str, more: &str, flags: &[&str]) -> Pcc {
    let lans: Vec<String> = lab.lans().split(',').map(|lan| format!("\"{lan}\"")).collect();
    let mut text = format!("lan = [{}]\nseed = {SEED}\n{top}\n", lans.join(","));
    for isp in lab.isps() {
        text += &format!("[[uplink]]\ndevice = \"{}\"\n", isp.device);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pcc.toml");
    std::fs::write(&file, text + more).unwrap();
    let pcc = lab.pcc(&[&["run", "--config", file.to_str().unwrap()], flags].concat());
    pcc.wait_for("ready", READY);
    pcc
}

fn flows(from: u16, count: u16) -> Vec<(u16, SocketAddr)> {
    (0..count).map(|i| (from + i, SocketAddr::new(server4((i % 50 + 1) as u8).into(), PORT))).collect()
}

fn flows6(from: u16, count: u16) -> Vec<(u16, SocketAddr)> {
    (0..count).map(|i| (from + i, SocketAddr::new(server6((i % 50 + 1) as u8).into(), PORT))).collect()
}

/// Tries `flows`; each with its ISP.
fn isps(client: &Client, protocol: Protocol, flows: &[(u16, SocketAddr)]) -> Vec<(Trial, u32)> {
    let isp = |trial: Trial| {
        let isp = trial.isp.clone().unwrap_or_else(|error| panic!("{trial:?}: {error}"));
        (trial, isp)
    };
    client.try_many(protocol, flows, 8, PATIENCE).into_iter().map(isp).collect()
}

/// The ISPs of `flows`.
fn taken(client: &Client, protocol: Protocol, flows: &[(u16, SocketAddr)]) -> BTreeSet<u32> {
    isps(client, protocol, flows).into_iter().map(|(_, isp)| isp).collect()
}

fn counter(lab: &Lab, name: &str) -> u64 {
    let output = lab.pcc_output(&["status", "--json"]);
    let status: Status = serde_json::from_slice(&output.stdout).unwrap();
    status.counters.iter().find(|(known, _)| known == name).unwrap().1
}

fn from_other(lab: &Lab) -> Client {
    lab.client().from([OTHER4.into(), IpAddr::from(CLIENT6)])
}

#[test]
fn rules_send_sources_ports_and_networks_to_their_uplinks() {
    let lab = Lab::builder().uplinks(3).defaults(Defaults::All).second_lan().build();
    lab.client().namespace().ip(&format!("addr add {OTHER4}/24 dev eth0"));
    let rules = format!(
        "[lists]\nguests = [\"192.0.2.64/26\", \"198.51.100.0/25\", \"2001:db8:b::/64\", \"10.0.0.0/8\", \"10.2.0.0/16\"]
         [[rule]]\nsource = \"@guests\"\nprotocol = [\"udp\", \"icmp\", \"icmpv6\"]\nuse = \"wan2\"
         [[rule]]\nsource = \"@guests\"\nuse = \"wan3\"
         [[rule]]\nprotocol = \"tcp\"\nsource_port = [\"20000-20039\", 21000]\nuse = \"wan2\"
         [[rule]]\ninterface = \"lan\"\nprotocol = \"tcp\"\ndestination = [\"203.0.113.0/25\", \"!{}\"]\nuse = \"wan3\"\n",
        server4(3)
    );
    let _pcc = run(&lab, "hash = \"both-addresses-and-ports\"", &rules);
    for client in [&from_other(&lab), lab.second_client()] {
        for protocol in ALL {
            let wanted = if protocol == Protocol::Tcp { [3] } else { [2] };
            assert_eq!(taken(client, protocol, &flows(10_000, 60)), wanted.into(), "{protocol:?}");
        }
    }
    assert_eq!(taken(lab.second_client(), Protocol::Udp, &flows6(11_000, 60)), [2].into());
    assert_eq!(taken(lab.client(), Protocol::Tcp, &flows(20_000, 40)), [2].into(), "by source port");
    assert_eq!(taken(lab.client(), Protocol::Tcp, &[(21_000, SocketAddr::new(SERVER6.into(), PORT))]), [2].into());
    let to_three: Vec<_> = (0..40).map(|i| (22_000 + i, SocketAddr::new(server4(3).into(), PORT))).collect();
    let others: Vec<_> = flows(23_000, 60).into_iter().filter(|(_, to)| to.ip() != server4(3)).collect();
    assert_eq!(taken(lab.client(), Protocol::Tcp, &others), [3].into(), "by destination");
    for (protocol, flows) in [(Protocol::Tcp, to_three), (Protocol::Udp, flows(24_000, 60))] {
        assert_eq!(taken(lab.client(), protocol, &flows), [1, 2, 3].into(), "{protocol:?} that no rule matches");
    }
    assert_eq!(taken(lab.client(), Protocol::Tcp, &flows6(25_000, 60)), [1, 2, 3].into());
}

#[test]
fn a_group_is_shared_exactly_by_its_weights_and_its_hash() {
    let lab = lab(3);
    let rules = "[[rule]]\nprotocol = \"tcp\"\nuse = [\"wan3:3\", \"wan1\"]\nhash = \"both-addresses-and-ports\"\n";
    let _pcc = run(&lab, "", rules);
    let group = Prediction::new(&[1, 0, 3], HashFields::ALL_FIELDS, SEED);
    let default = Prediction::new(&[1, 1, 1], HashFields::BOTH_ADDRESSES, SEED);
    for (protocol, prediction, flows) in [
        (Protocol::Tcp, &group, flows(10_000, 1000)),
        (Protocol::Tcp, &group, flows6(10_000, 1000)),
        (Protocol::Udp, &default, flows(10_000, 200)),
    ] {
        for (trial, isp) in isps(lab.client(), protocol, &flows) {
            assert_eq!(isp, prediction.uplink(protocol, trial.source, trial.destination), "{trial:?}");
        }
    }
}

#[test]
fn what_a_rule_leaves_to_main_is_not_balanced() {
    let lab = lab(2);
    let rules = "[[rule]]\nsource = \"192.0.2.77\"\nuse = \"main\"\n";
    let _pcc = run(&lab, "hash = \"both-addresses-and-ports\"", rules);
    for protocol in ALL {
        assert_eq!(taken(lab.client(), protocol, &flows(10_000, 60)), [1, 2].into());
    }
    assert_eq!(counter(&lab, "not_balanced"), 0);
    for protocol in ALL {
        assert_eq!(taken(&from_other(&lab), protocol, &flows(10_000, 60)), [1].into(), "main's default");
    }
    assert!(counter(&lab, "not_balanced") >= 180);
}

#[test]
fn decisions_of_rules_are_logged() {
    let lab = lab(2);
    let pcc = run_with(&lab, "", "[[rule]]\nprotocol = \"tcp\"\nuse = \"wan2\"\n", &["--log-flows"]);
    assert_eq!(taken(lab.client(), Protocol::Tcp, &[(12_345, SocketAddr::new(SERVER4.into(), PORT))]), [2].into());
    pcc.wait_for("new flow: protocol 6 ports 12345 -> 7: mark 82", READY);
}

#[test]
fn a_source_keeps_to_its_uplink_until_it_pauses() {
    let lab = lab(2);
    let rules = "[[rule]]\nprotocol = \"tcp\"\nuse = \"all\"\nhash = \"both-addresses-and-ports\"\n\
                 sticky = { by = \"src-address\", lifetime = \"3s\" }\n";
    let _pcc = run(&lab, "", rules);
    let prediction = Prediction::new(&[1, 1], HashFields::ALL_FIELDS, SEED);
    let client = lab.client();
    let to = SocketAddr::new(SERVER4.into(), PORT);
    let ports = |isp| {
        let own = SocketAddr::new("192.0.2.2".parse().unwrap(), 0);
        (10_000..)
            .filter(move |port| prediction.clone().uplink(Protocol::Tcp, SocketAddr::new(own.ip(), *port), to) == isp)
    };
    let [first, other]: [Vec<u16>; 2] = [ports.clone()(1).take(1).collect(), ports(2).take(40).collect()];
    assert_eq!(taken(client, Protocol::Tcp, &[(first[0], to)]), [1].into());
    for chunk in other[..36].chunks(4) {
        let flows: Vec<_> = chunk.iter().map(|port| (*port, to)).collect();
        assert_eq!(taken(client, Protocol::Tcp, &flows), [1].into(), "together they last longer than the lifetime");
        sleep(Duration::from_millis(500));
    }
    let kept = counter(&lab, "sticky");
    assert!(kept >= 36, "{kept}");
    assert_eq!(taken(client, Protocol::Udp, &flows(10_000, 60)), [1, 2].into(), "another rule's");
    sleep(Duration::from_secs(5));
    assert_eq!(taken(client, Protocol::Tcp, &[(other[36], to)]), [2].into(), "by the hash again");
    assert_eq!(taken(client, Protocol::Tcp, &[(first[0] + 20_000, to), (other[37], to)]), [2].into());
}

#[test]
fn connections_that_begin_at_once_keep_to_one_uplink() {
    const SOURCES: u8 = 150;
    let lab = lab(2);
    let rules = "[[rule]]\nprotocol = \"udp\"\nuse = \"all\"\nhash = \"both-addresses-and-ports\"\n\
                 sticky = { by = \"src-address\", lifetime = \"1s\" }\n";
    let _pcc = run(&lab, "", rules);
    let sources: Vec<_> = (100..100 + SOURCES).map(|last| Ipv4Addr::new(192, 0, 2, last)).collect();
    let script: String = sources.iter().map(|source| format!("addr add {source}/24 dev eth0\n")).collect();
    lab.client().namespace().ip_batch(&script);
    for from in [10_000, 20_000, 30_000] {
        for source in &sources {
            let client = lab.client().from([(*source).into(), IpAddr::from(CLIENT6)]);
            let start = Instant::now();
            let kept = taken(&client, Protocol::Udp, &flows(from, 16));
            assert_eq!(kept.len(), 1, "{source} from {from}, in {:?}", start.elapsed());
        }
        // What they kept to is forgotten, not removed: it is written anew.
        sleep(Duration::from_secs(3));
    }
}

#[test]
fn a_group_that_is_dead_leaves_its_connections_to_the_others_and_takes_them_back() {
    let lab = lab(3);
    let rules = "[[rule]]\nsource = \"192.0.2.77\"\nuse = \"wan2\"\n\
                 [[rule]]\nprotocol = \"tcp\"\nuse = [\"wan2\", \"wan3\"]\nsticky = { by = \"src-address\" }\n";
    let pcc = run(&lab, "hash = \"both-addresses-and-ports\"", rules);
    let other = from_other(&lab);
    let table = || String::from_utf8(lab.pcc_output(&["status"]).stdout).unwrap();
    let line = "2            wan2:1, wan3:1           wan2 50.0 %, wan3 50.0 %     wan2 50.0 %, wan3 50.0 %";
    assert!(eventually(READY, || table().contains(line)), "{}", table());
    assert_eq!(taken(&other, Protocol::Tcp, &flows(10_000, 40)), [2].into());
    let kept = taken(lab.client(), Protocol::Tcp, &flows(10_000, 40));
    assert_eq!(kept.len(), 1, "{kept:?}");
    lab.carrier(2, false);
    pcc.wait_for("uplink wan2 IPv4: down", READY);
    assert!(eventually(READY, || taken(&other, Protocol::Tcp, &flows(11_000, 60)) == [1, 3].into()), "the default");
    assert_eq!(taken(lab.client(), Protocol::Tcp, &flows(12_000, 40)), [3].into(), "the rest of the group");
    lab.carrier(3, false);
    pcc.wait_for("uplink wan3 IPv4: down", READY);
    assert!(eventually(READY, || taken(lab.client(), Protocol::Tcp, &flows(13_000, 40)) == [1].into()));
    assert!(counter(&lab, "fell_back") > 0);
    assert!(table().contains("no uplink: as without rule"), "{}", table());
    for number in [2, 3] {
        lab.carrier(number, true);
        pcc.wait_for(&format!("uplink wan{number} IPv4: up"), READY);
    }
    assert!(eventually(READY, || taken(&other, Protocol::Tcp, &flows(14_000, 40)) == [2].into()), "it comes back");
    let kept = taken(lab.client(), Protocol::Tcp, &flows(15_000, 40));
    assert!(kept.len() == 1 && kept != [1].into(), "nobody keeps to where he fell: {kept:?}");
}

#[test]
fn a_weight_changes_the_default_and_no_group() {
    let lab = lab(2);
    let rules = "[[rule]]\nprotocol = \"udp\"\nuse = [\"wan1\", \"wan2\"]\n";
    let _pcc = run(&lab, "hash = \"both-addresses-and-ports\"", rules);
    let even = buckets::assign(None, &[(1, 1), (2, 1)]);
    let assert_by = |protocol, number, table: &[u32], from| {
        for (trial, isp) in isps(lab.client(), protocol, &flows(from, 300)) {
            let key = FlowKey::new(trial.source, trial.destination, number);
            let bucket = hash(&key, HashFields::ALL_FIELDS, SEED) & (BUCKETS - 1);
            assert_eq!(isp, table[bucket as usize], "{trial:?}");
        }
    };
    assert_by(Protocol::Tcp, 6, &even, 10_000);
    assert_by(Protocol::Udp, 17, &even, 10_000);
    assert!(lab.pcc_output(&["uplink", "wan1", "weight", "9"]).status.success());
    assert_by(Protocol::Tcp, 6, &buckets::assign(Some(&even), &[(1, 9), (2, 1)]), 11_000);
    assert_by(Protocol::Udp, 17, &even, 11_000);
}

#[test]
fn other_rules_move_new_connections_only() {
    let lab = lab(2);
    let rule = |uplink: &str| format!("[[rule]]\nprotocol = \"tcp\"\nuse = \"{uplink}\"\n");
    let first = run(&lab, "", &rule("wan2"));
    let mut open = lab.client().tcp_connect(None, SocketAddr::new(SERVER4.into(), PORT), PATIENCE).unwrap();
    assert_eq!(open.isp, 2);
    drop(first);
    let _second = run(&lab, "", &rule("wan1"));
    for _ in 0..20 {
        open.exchange(b"still here?").unwrap();
    }
    assert_eq!(taken(lab.client(), Protocol::Tcp, &flows(10_000, 40)), [1].into());
}

/// Writes down the segment sizes that SYNs bring to the device `eth0` of a namespace.
fn note_sizes(namespace: &Namespace) {
    namespace.nft(
        "table inet sizes { set seen { typeof tcp option maxseg size; flags dynamic; }
          chain in { type filter hook prerouting priority raw;
           iifname \"eth0\" tcp flags & (syn | rst) == syn update @seen { tcp option maxseg size }; }; }",
    );
}

/// The sizes since the last call.
fn sizes(namespace: &Namespace) -> BTreeSet<u32> {
    let text = namespace.exec("nft", ["list", "set", "inet", "sizes", "seen"]);
    namespace.exec("nft", ["flush", "set", "inet", "sizes", "seen"]);
    let elements = text.split_once("elements = {").map_or("", |(_, rest)| rest.split('}').next().unwrap());
    elements.split(',').filter_map(|element| element.trim().parse().ok()).collect()
}

#[test]
fn segments_are_clamped_in_both_directions_and_never_raised() {
    let lab = Lab::builder().uplinks(2).defaults(Defaults::All).port_forward().build();
    // Only the router knows how narrow its uplink is.
    lab.router().ip("link set wan2 mtu 1400");
    let more = "mss = \"clamp\"\n[[rule]]\nuse = \"wan2\"\n";
    let pcc = run(&lab, "", more);
    let (client, isp) = (lab.client().namespace(), lab.isp(2).namespace());
    note_sizes(client);
    note_sizes(isp);
    let both = |address: IpAddr| {
        lab.client().tcp_connect(None, SocketAddr::new(address, PORT), PATIENCE).unwrap();
        (sizes(isp), sizes(client))
    };
    let of = |size: u32| (BTreeSet::from([size]), BTreeSet::from([size]));
    assert_eq!(both(SERVER4.into()), of(1360));
    assert_eq!(both(SERVER6.into()), of(1340));
    // A connection from outside.
    let inside = SocketAddr::new(lab.isp(2).link.router4.into(), tests::lab::address::FORWARDED_PORT);
    lab.isp(2).client().tcp_connect(None, inside, PATIENCE).unwrap();
    assert_eq!((sizes(isp), sizes(client)), of(1360));
    // Another MTU while it runs.
    lab.router().ip("link set wan2 mtu 1300");
    assert!(
        eventually(READY, || both(SERVER4.into()) == of(1260)),
        "{}",
        lab.router().exec("nft", ["list", "ruleset"])
    );
    assert_eq!(both(SERVER6.into()), of(1240));
    // Who asks for less gets less.
    client.ip("link set eth0 mtu 1280");
    assert_eq!(both(SERVER4.into()).0, [1240].into());
    client.ip("link set eth0 mtu 1500");
    drop(pcc);
    lab.router().ip("link set wan2 mtu 1500");
    let _pcc = run(&lab, "", "mss = 1000\n[[rule]]\nuse = \"wan2\"\n");
    assert_eq!(both(SERVER4.into()), of(1000));
    assert_eq!(both(SERVER6.into()), of(980));
}
