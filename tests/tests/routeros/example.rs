//! The example of the project, in the lab from start to end.

use std::path::Path;
use std::time::Duration;

use pcc_ebpf::classify::HashFields;
use tests::exposition::Exposition;
use tests::lab::{BpfObjects, Defaults, HostState, Lab, Pcc, Protocol, Trial, eventually};

use crate::scripts::{READY, flows, isps, remainder, start};

/// Five times the two seconds that the example promises.
const FAIL_OVER: Duration = Duration::from_secs(10);
const MAP: &str = "ether1=wan1,cable=wan2,lan=lan";

fn run(lab: &Lab) -> Pcc {
    start(lab, &Path::new(env!("CARGO_MANIFEST_DIR")).join("../pcc-userspace/examples/dual-wan.rsc"), MAP)
}

/// Where new connections of the LAN and of the router go, each with its ISPs in order.
fn by(lab: &Lab, from: u16) -> (Vec<u32>, Vec<u32>) {
    let mut lan: Vec<u32> = isps(lab, Protocol::Tcp, &flows(from, 60)).into_iter().map(|(_, isp)| isp).collect();
    lan.sort_unstable();
    lan.dedup();
    let own = lab.router_client().try_many(Protocol::Tcp, &flows(from, 10), 1, tests::lab::PATIENCE);
    let mut own: Vec<u32> = own.into_iter().map(|trial| trial.isp.unwrap_or(0)).collect();
    own.sort_unstable();
    own.dedup();
    (lan, own)
}

fn assert_metrics(lab: &Lab) {
    let read = || {
        let output = lab.pcc_output(&["metrics"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Exposition::parse(&text).unwrap_or_else(|problem| panic!("{problem}\n{text}"))
    };
    let counted = |read: &Exposition| read.families.contains_key("pcc_connections");
    // Connections are counted beside the answer.
    assert!(eventually(READY, || counted(&read())));
    let read = read();
    assert!(read.sum("pcc_interface_packets", &[("interface", "fibre"), ("direction", "out")]) > 100.0);
    assert!(read.sum("pcc_connections", &[]) > 100.0);
    assert!(read.sum("pcc_packets", &[("reason", "walked")]) > 100.0);
    assert!(read.sum("pcc_watch_up", &[]) >= 2.0 && read.sum("pcc_routes", &[("table", "main")]) >= 1.0);
    assert_eq!(read.families["pcc"].samples.len(), 1);
}

#[test]
fn the_example_spreads_fails_over_and_comes_back() {
    let lab = Lab::builder().without_ipv6().defaults(Defaults::None).build();
    let before = lab.host_state();
    let mut pcc = run(&lab);
    let objects = BpfObjects::attached(lab.router());
    let half = |trial: &Trial| remainder(HashFields::BOTH_ADDRESSES, Protocol::Tcp, trial, 2) + 1;
    for (trial, isp) in isps(&lab, Protocol::Tcp, &flows(10_000, 200)) {
        assert_eq!(isp, half(&trial), "{trial:?}");
    }
    assert_eq!(by(&lab, 11_000), (vec![1, 2], vec![1]), "unmarked traffic prefers isp1");
    assert_metrics(&lab);
    lab.silence(1, true);
    assert!(
        eventually(FAIL_OVER, || lab.router().ip("route show table 20597").contains("198.18.2.1")),
        "main follows: {}\n{}",
        lab.router().ip("route show table all"),
        pcc.stderr()
    );
    assert_eq!(by(&lab, 12_000), (vec![2], vec![2]), "everything by isp2");
    lab.silence(1, false);
    assert!(eventually(FAIL_OVER, || lab.router().ip("route show table 20597").contains("198.18.1.1")));
    assert_eq!(by(&lab, 13_000), (vec![1, 2], vec![1]));
    pcc.signal(rustix::process::Signal::INT);
    assert!(pcc.wait(READY).success(), "{}", pcc.stderr());
    assert_eq!(objects.remaining(Duration::from_secs(5)), BpfObjects::default());
    assert_eq!(HostState::diff(&before, &lab.host_state()), "");
}
