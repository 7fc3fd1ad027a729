//! Whatever may change what the stack would do makes shortcuts stale, and the firewall says how long they last.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic where the tests would")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use aya::maps::{Array, HashMap, Map, MapData};
use pcc_ebpf::abi::{ABI, Epoch, Shortcut4, ShortcutKey4, map};
use rustix::process::Signal;
use tests::lab::address::{CLIENT4, PORT, SERVER4};
use tests::lab::settings::READY;
use tests::lab::{Defaults, Lab, PATIENCE, Pcc, Protocol, eventually};

/// Notices are followed at once; a lease is chosen a second after the last one at most, and legacy tables are looked at once a
/// second.
const FOLLOWED: Duration = Duration::from_secs(5);
const SHORT: u32 = (2_000_000_000_u64 >> pcc_ebpf::abi::TICK) as u32;

fn run(lab: &Lab) -> Pcc {
    let (wans, gateways) = (lab.wans(), lab.gateways());
    let mut args = vec!["run", "--keep", "--wan", &wans, "--lan", lab.lans()];
    args.extend(gateways.iter().map(String::as_str));
    let pcc = lab.pcc_with(&args, &[("PCC_LOG", "debug")]);
    pcc.wait_for("shortcuts last", READY);
    pcc
}

fn pinned(lab: &Lab, name: &str) -> MapData {
    MapData::from_pin(format!("/sys/fs/bpf/pcc/{}/{ABI}/{name}", lab.instance())).unwrap()
}

fn epoch(lab: &Lab, id: u32) -> Epoch {
    Array::<_, Epoch>::try_from(Map::Array(pinned(lab, map::EPOCHS))).unwrap().get(&id, 0).unwrap()
}

fn lease_becomes(lab: &Lab, holds: impl Fn(u32) -> bool) -> bool {
    eventually(FOLLOWED, || (1..=2).all(|id| holds(epoch(lab, id).lease)))
}

#[test]
fn every_change_makes_shortcuts_stale_and_the_firewall_sets_their_lease() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    lab.router().nft(
        "table inet own {
        set banned { type ipv4_addr; }
        chain forward { type filter hook forward priority 0; ip saddr @banned drop; }
        chain input { type filter hook input priority 0; limit rate 5/second accept; }
    }",
    );
    let mut pcc = run(&lab);
    assert!(lease_becomes(&lab, |lease| lease > SHORT), "{}", pcc.stderr());
    let gateway = lab.isp(1).link.gateway4;
    let shell = |script: &str| drop(lab.router().exec("sh", ["-ec", script]));
    for (script, cause) in [
        ("nft add element inet own banned { 192.0.2.77 }".to_owned(), "the firewall changed"),
        ("ip route add 198.51.100.0/24 dev wan1".to_owned(), "a route changed"),
        ("ip rule add pref 9 lookup 9".to_owned(), "a routing rule changed"),
        ("ip addr add 198.51.100.9/32 dev lan".to_owned(), "an address changed"),
        (
            format!(
                "ping -c1 -q {gateway} >/dev/null; ip neigh replace {gateway} lladdr 02:00:00:00:00:99 dev wan1 nud stale; ip neigh del {gateway} dev wan1"
            ),
            "a neighbour changed",
        ),
        ("ip link set lan mtu 1400".to_owned(), "a device changed"),
        (format!("nft delete chain inet pcc-{} commit", lab.instance()), "our nftables table was put back"),
    ] {
        let (seen, before) = (pcc.lines(), [1, 2].map(|id| epoch(&lab, id).generation));
        shell(&script);
        pcc.wait_for_after(seen, &format!("all shortcuts are stale: {cause}"), FOLLOWED);
        let risen = || [1, 2].map(|id| epoch(&lab, id).generation) != before;
        assert!(eventually(FOLLOWED, risen), "{script}");
    }
    let seen = pcc.lines();
    pcc.signal(Signal::HUP);
    pcc.wait_for_after(seen, "all shortcuts are stale: another configuration", FOLLOWED);
    // Our own elements are no news.
    std::thread::sleep(Duration::from_millis(500));
    let seen = pcc.lines();
    assert!(lab.pcc_output(&["uplink", "wan2", "weight", "3"]).status.success());
    assert_eq!(pcc.find_after(seen, "stale", Duration::from_millis(500)), None);
    shell("nft add rule inet own forward ct bytes 1-5 accept");
    assert!(lease_becomes(&lab, |lease| lease == SHORT), "{}", pcc.stderr());
    shell("nft add rule inet own forward limit rate 5/second accept");
    assert!(lease_becomes(&lab, |lease| lease == 0), "{}", pcc.stderr());
    shell("nft flush chain inet own forward");
    assert!(lease_becomes(&lab, |lease| lease > SHORT), "{}", pcc.stderr());
    // Nobody watches what is kept.
    pcc.signal(Signal::TERM);
    assert!(pcc.wait(PATIENCE).success());
    assert!(lease_becomes(&lab, |lease| lease == SHORT), "{}", pcc.stderr());
    let before = epoch(&lab, 1).generation;
    let pcc = run(&lab);
    assert_ne!(epoch(&lab, 1).generation, before, "what was kept is stale");
    assert!(lease_becomes(&lab, |lease| lease > SHORT), "{}", pcc.stderr());
}

#[test]
fn an_uplink_that_fails_has_stale_shortcuts() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let pcc = run(&lab);
    let (seen, before) = (pcc.lines(), epoch(&lab, 2).generation);
    lab.carrier(2, false);
    pcc.wait_for_after(seen, "shortcuts of uplinks [2", FOLLOWED);
    assert_ne!(epoch(&lab, 2).generation, before);
}

#[test]
fn a_deleted_connection_has_no_shortcuts() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let _pcc = run(&lab);
    let conversation = lab.client().tcp_connect(Some(41_000), SocketAddr::new(SERVER4.into(), PORT), PATIENCE).unwrap();
    let key = |(from, from_port): (Ipv4Addr, u16), (to, to_port): (Ipv4Addr, u16)| ShortcutKey4 {
        source: u32::from_ne_bytes(from.octets()),
        destination: u32::from_ne_bytes(to.octets()),
        source_port: from_port.to_be(),
        destination_port: to_port.to_be(),
    };
    let isp = conversation.isp;
    let translated = lab.isp(isp).link.router4;
    let there = key((CLIENT4, 41_000), (SERVER4, PORT));
    let back = key((SERVER4, PORT), (translated, 41_000));
    let other = key((CLIENT4, 41_001), (SERVER4, PORT));
    let mut shortcuts =
        HashMap::<_, ShortcutKey4, Shortcut4>::try_from(Map::LruHashMap(pinned(&lab, map::SHORT4))).unwrap();
    let nothing = Shortcut4 {
        check: 0,
        leased: 0,
        bytes: 0,
        packets: 0,
        generation: 0,
        size: 0,
        out: 0,
        mark: 0,
        priority: 0,
        traits: 0,
        tos: 0,
        uplink: 0,
        port: 0,
        inbound_begin: 0,
        inbound_end: 0,
        outbound: [0; 3],
        address: 0,
    };
    for key in [there, back, other] {
        shortcuts.insert(key, nothing, 0).unwrap();
    }
    lab.router().exec("conntrack", ["-D", "-p", "tcp", "--orig-port-src", "41000"]);
    let has = |key| shortcuts.get(&key, 0).is_ok();
    assert!(eventually(FOLLOWED, || !has(there) && !has(back)));
    assert!(has(other));
}

#[test]
fn nothing_is_learned_from_connections_that_a_helper_reads() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let pcc = run(&lab);
    // It looks at our bits, which is refused at a start.
    lab.router().nft(&format!(
        "table inet own {{
        ct helper ftp {{ type \"ftp\" protocol tcp; }}
        counter helped {{ }}
        counter marked {{ }}
        counter cleared {{ }}
        counter plain {{ }}
        chain pre {{ type filter hook prerouting priority filter; tcp dport {PORT} ct helper set \"ftp\"; }}
        chain post {{ type filter hook postrouting priority filter;
            oifname \"lan\" meta l4proto tcp ct status & 0x2000 != 0 counter name helped
            oifname \"lan\" meta l4proto tcp meta mark & 0xff != 0 counter name marked
            oifname \"lan\" meta l4proto tcp meta mark & 0xff == 0 counter name cleared
            oifname \"lan\" meta l4proto udp meta mark & 0xff != 0 counter name plain
        }}
    }}"
    ));
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let mut conversation =
            lab.client().open(protocol, None, SocketAddr::new(SERVER4.into(), PORT), PATIENCE).unwrap();
        conversation.exchange(&[7; 400]).unwrap();
    }
    let packets = |counter: &str| {
        let shown = lab.router().exec("nft", ["list", "counter", "inet", "own", counter]);
        let mut words = shown.split_whitespace().skip_while(|word| *word != "packets");
        words.nth(1).unwrap().parse::<u32>().unwrap()
    };
    let [helped, marked, cleared, plain] = ["helped", "marked", "cleared", "plain"].map(packets);
    assert!(helped > 0 && cleared >= helped && plain > 0, "{helped} {cleared} {plain}");
    assert_eq!(marked, 0);
    // The rule that does it is listed as it was written, so that nobody takes it for changed.
    let seen = pcc.lines();
    lab.router().nft("add table inet more");
    lab.router().ip("rule add pref 9 lookup 9");
    assert_eq!(pcc.find_after(seen, "putting it back", Duration::from_millis(500)), None);
}
