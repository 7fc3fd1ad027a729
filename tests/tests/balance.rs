//! Connections are spread exactly as the hash says, and stay where they are.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pcc_ebpf::classify::HashFields;
use serde_json::Value;
use tests::lab::address::{PORT, SERVER4, server4, server6};
use tests::lab::settings::READY;
use tests::lab::{Busy, Conversation, Defaults, Lab, PATIENCE, Protocol, eventually};
use tests::predict::Prediction;

const SEED: &str = "305419896";

/// `count` connections to 50 servers with source ports from 10,000 on.
fn flows(count: u16, server: impl Fn(u8) -> IpAddr) -> Vec<(u16, SocketAddr)> {
    (0..count).map(|i| (10_000 + i, SocketAddr::new(server((i % 50 + 1) as u8), PORT))).collect()
}

fn lab(uplinks: u32) -> Lab {
    Lab::builder().uplinks(uplinks).defaults(Defaults::All).build()
}

/// How many of them are on each of the first two uplinks; a test of connections that stay needs some on both.
fn assert_on_both(open: &[Conversation]) {
    let on = |isp| open.iter().filter(|conversation| conversation.isp == isp).count();
    assert!(on(1) > open.len() / 5 && on(2) > open.len() / 5, "{} on isp1, {} on isp2", on(1), on(2));
}

fn assert_exact(lab: &Lab, weights: &[u32], protocol: Protocol, flows: &[(u16, SocketAddr)]) {
    let prediction = Prediction::new(weights, HashFields::ALL_FIELDS, SEED.parse().unwrap());
    for isp in lab.isps() {
        isp.clear();
    }
    let mut per_isp = vec![0; weights.len()];
    for trial in lab.client().try_many(protocol, flows, 16, PATIENCE) {
        let isp = trial.isp.clone().unwrap_or_else(|error| panic!("{trial:?}: {error}"));
        assert_eq!(isp, prediction.uplink(protocol, trial.source, trial.destination), "{trial:?}");
        per_isp[isp as usize - 1] += 1;
    }
    for (isp, count) in lab.isps().iter().zip(per_isp) {
        let seen = isp.seen().into_iter().filter(|seen| seen.protocol == protocol).count();
        assert_eq!(seen, count, "what isp{} saw", isp.number);
    }
}

fn run(lab: &Lab, weights: &str) -> tests::lab::Pcc {
    let pcc = lab.pcc(&[
        "run",
        "--wan",
        &lab.wans(),
        "--lan",
        lab.lans(),
        "--weights",
        weights,
        "--hash",
        "both-addresses-and-ports",
        "--seed",
        SEED,
    ]);
    pcc.wait_for("ready", READY);
    pcc
}

#[test]
fn four_thousand_connections_over_two_uplinks_take_exactly_the_predicted_one() {
    let lab = lab(2);
    let _pcc = run(&lab, "3,1");
    assert_exact(&lab, &[3, 1], Protocol::Tcp, &flows(4000, |host| server4(host).into()));
    assert_exact(&lab, &[3, 1], Protocol::Tcp, &flows(4000, |host| server6(host).into()));
    assert_exact(&lab, &[3, 1], Protocol::Udp, &flows(500, |host| server4(host).into()));
    assert_exact(&lab, &[3, 1], Protocol::Udp, &flows(500, |host| server6(host).into()));
}

#[test]
fn three_uplinks_take_exactly_the_predicted_connections() {
    let lab = lab(3);
    let _pcc = run(&lab, "5,3,2");
    assert_exact(&lab, &[5, 3, 2], Protocol::Tcp, &flows(4000, |host| server4(host).into()));
    assert_exact(&lab, &[5, 3, 2], Protocol::Tcp, &flows(4000, |host| server6(host).into()));
}

#[test]
fn bpftool_shows_the_mark_and_the_uplink_of_a_known_connection() {
    let lab = lab(2);
    let _pcc = run(&lab, "1,1");
    let conversation = lab.client().tcp_connect(Some(23_456), SocketAddr::new(SERVER4.into(), PORT), PATIENCE).unwrap();
    let pin = format!("/sys/fs/bpf/pcc/{}/{}/pcc_flows", lab.instance(), pcc_ebpf::abi::ABI);
    let dump = lab.router().exec("bpftool", ["-j", "map", "dump", "pinned", &pin]);
    let entries: Vec<Value> = serde_json::from_str(&dump).unwrap();
    let entry = entries
        .iter()
        .map(|entry| &entry["formatted"])
        .find(|entry| entry["key"]["source_port"] == 23_456)
        .unwrap_or_else(|| panic!("no entry of the connection in {dump}"));
    assert_eq!(entry["key"]["destination_port"], u32::from(PORT));
    assert_eq!(entry["value"]["uplink"], conversation.isp);
    assert_eq!(entry["value"]["mark"], 0x80 | conversation.isp);
    assert_eq!(entry["value"]["confirmed"], 1);
}

#[test]
fn two_hundred_connections_stay_while_weights_change_and_another_uplink_flaps() {
    let lab = lab(3);
    let _pcc = run(&lab, "1,1,0");
    let client = lab.client();
    let flows = flows(200, |host| server4(host).into());
    let open =
        client.open_many(Protocol::Tcp, &flows, 16, PATIENCE).into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    assert_on_both(&open);
    let busy = Busy::start(open, Duration::from_millis(100), PATIENCE);
    for round in 0..20 {
        std::thread::sleep(Duration::from_secs(1));
        lab.carrier(3, round % 2 == 1);
        if let Some(weights) = [(5, ["9", "1"]), (12, ["1", "9"])].iter().find(|(when, _)| *when == round) {
            for (uplink, weight) in ["wan1", "wan2"].iter().zip(weights.1) {
                let output = lab.pcc_output(&["uplink", uplink, "weight", weight]);
                assert!(output.status.success(), "{output:?}");
            }
        }
    }
    let (report, left) = busy.stop();
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    assert_eq!(left.len(), 200);
    assert!(report.exchanges > 200 * 50, "{} exchanges", report.exchanges);
}

#[test]
fn a_thousand_changes_of_weight_under_fifty_thousand_exchanges_move_nothing() {
    let lab = lab(2);
    let _pcc = run(&lab, "1,1");
    let client = lab.client();
    let mut open = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        open.extend(client.open_many(protocol, &flows(100, |host| server4(host).into()), 16, PATIENCE));
    }
    let open = open.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    assert_on_both(&open);
    let busy = Busy::start(open, Duration::from_millis(20), PATIENCE);
    let socket = format!("/run/pcc/{}", lab.instance());
    for round in 0..1000_u32 {
        let weight = pcc_userspace::control::Request::Uplink {
            uplink: format!("wan{}", round % 2 + 1),
            change: pcc_userspace::overrides::Change::Weight(round * 7919 % 100 + 1),
            persist: false,
        };
        pcc_userspace::control::ask(socket.as_ref(), &weight).unwrap();
    }
    assert!(
        eventually(Duration::from_secs(60), || busy.report().exchanges >= 50_000 || !busy.report().faults.is_empty()),
        "{} exchanges",
        busy.report().exchanges
    );
    let (report, left) = busy.stop();
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    assert_eq!(left.len(), 200);
}

#[test]
fn a_small_cache_loses_decisions_but_moves_no_connection() {
    let lab = lab(2);
    let pcc = lab.pcc(&[
        "run",
        "--wan",
        &lab.wans(),
        "--lan",
        lab.lans(),
        "--hash",
        "both-addresses-and-ports",
        "--seed",
        SEED,
        "--flow-entries",
        "1024",
    ]);
    pcc.wait_for("ready", READY);
    let client = lab.client();
    let many: Vec<_> =
        (0..2000).map(|i| (10_000 + i, SocketAddr::new(server4((i % 50 + 1) as u8).into(), PORT))).collect();
    let open = client.open_many(Protocol::Tcp, &many, 16, PATIENCE).into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    assert_on_both(&open);
    let busy = Busy::start(open, Duration::from_secs(1), PATIENCE);
    // Other weights, so that a decision made anew would often be another one.
    assert!(lab.pcc_output(&["uplink", "wan1", "weight", "9"]).status.success());
    let new: Vec<_> =
        (0..18_000).map(|i| (12_500 + i, SocketAddr::new(server4((i % 50 + 101) as u8).into(), PORT))).collect();
    let failed: Vec<_> =
        client.try_many(Protocol::Tcp, &new, 32, PATIENCE).into_iter().filter(|trial| trial.isp.is_err()).collect();
    assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed.first());
    let (report, left) = busy.stop();
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    assert_eq!(left.len(), 2000);
    let status = lab.pcc_output(&["status", "--json"]);
    let status: pcc_userspace::status::Status = serde_json::from_slice(&status.stdout).unwrap();
    let relearned = status.counters.iter().find(|(name, _)| name == "relearned").unwrap().1;
    assert!(relearned > 1000, "only {relearned} decisions were lost: the cache is not small enough for this test");
}
