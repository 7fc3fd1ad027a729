//! Everything that pcc promises, shown once with real packets.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use pcc_ebpf::classify::HashFields;
use pcc_userspace::status::Status;
use rustix::process::Signal;
use tests::lab::address::{PORT, SERVER4, server4, server6};
use tests::lab::{BpfObjects, Busy, Defaults, HostState, Lab, PATIENCE, Protocol, eventually, marked_connections};
use tests::predict::Prediction;

use crate::outage;

const SEED: u32 = 42;

/// Prints one line for each promise and remembers whether all were kept.
struct Promises {
    all_kept: bool,
}

impl Promises {
    fn check(&mut self, kept: bool, text: &str) {
        println!("  {} {text}", if kept { "ok    " } else { "BROKEN" });
        self.all_kept &= kept;
    }
}

pub fn run(weights: &[u32], connections: u16) -> ExitCode {
    let mut promises = Promises { all_kept: true };
    let lab = Lab::builder().defaults(Defaults::All).build();
    let before = lab.host_state();
    let list = weights.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    println!("start: two ISPs, weights {list}, all four fields hashed, IPv4 and IPv6");
    let began = Instant::now();
    let mut pcc = lab.pcc(&[
        "run",
        "--wan",
        &lab.wans(),
        "--lan",
        lab.lans(),
        "--weights",
        &list,
        "--hash",
        "both-addresses-and-ports",
        "--seed",
        &SEED.to_string(),
    ]);
    pcc.wait_for("ready", PATIENCE);
    let first = lab.client().tcp_connect(Some(9_999), SocketAddr::new(SERVER4.into(), PORT), PATIENCE);
    let took = began.elapsed();
    promises
        .check(first.is_ok() && took < Duration::from_secs(1), &format!("first balanced connection after {took:.0?}"));
    let objects = BpfObjects::attached(lab.router());
    shares(&lab, weights, connections, &mut promises);
    inbound(&lab, &mut promises);
    for (number, what, cut, within) in [
        (1, "carrier of uplink 1 cut", Lab::carrier as fn(&Lab, u32, bool), Duration::from_millis(200)),
        (2, "gateway of uplink 2 silent", |lab, number, live| lab.silence(number, !live), Duration::from_secs(2)),
    ] {
        fail_over(&lab, &pcc, number, what, cut, within, &mut promises);
    }
    println!("end");
    pcc.signal(Signal::INT);
    promises.check(pcc.wait(PATIENCE).success(), "Ctrl-C ends it");
    let difference = HostState::diff(&before, &lab.host_state());
    promises.check(
        difference.is_empty(),
        "rules, routes, nftables, kernel settings, attachments and pins are as they were before",
    );
    if !difference.is_empty() {
        println!("{difference}");
    }
    promises.check(objects.remaining(PATIENCE) == BpfObjects::default(), "its programs, maps and links are unloaded");
    promises.check(marked_connections(lab.router(), 0xff).is_empty(), "no connection keeps a mark of ours");
    if promises.all_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn shares(lab: &Lab, weights: &[u32], connections: u16, promises: &mut Promises) {
    let prediction = Prediction::new(weights, HashFields::ALL_FIELDS, SEED);
    let total: u32 = weights.iter().sum();
    let wanted: Vec<String> = weights.iter().map(|weight| percent(*weight as usize, total as usize)).collect();
    println!(
        "balance: connections that each ISP saw\n\n  {:<14} {:>16} {:>16} {:>12}",
        "", "isp1", "isp2", "as predicted"
    );
    println!("  {:<14} {:>16} {:>16}", "wanted", wanted[0], wanted[1]);
    let mut exact = true;
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
        for (family, server) in [("IPv4", server4_at as fn(u8) -> IpAddr), ("IPv6", server6_at)] {
            let flows: Vec<_> =
                (0..connections).map(|i| (10_000 + i, SocketAddr::new(server((i % 50 + 1) as u8), PORT))).collect();
            let trials = lab.client().try_many(protocol, &flows, 16, PATIENCE);
            let right =
                trials.iter().filter(|it| it.isp == Ok(prediction.uplink(protocol, it.source, it.destination))).count();
            let on = |isp| trials.iter().filter(|trial| trial.isp == Ok(isp)).count();
            let cell = |isp| format!("{} {:>8}", on(isp), percent(on(isp), trials.len()));
            let name = format!("{} {family}", format!("{protocol:?}").to_uppercase());
            println!("  {name:<14} {:>16} {:>16} {:>12}", cell(1), cell(2), percent(right, trials.len()));
            exact &= right == trials.len();
        }
    }
    let output = lab.pcc_output(&["status", "--json"]);
    if let Ok(status) = serde_json::from_slice::<Status>(&output.stdout) {
        let bytes = |uplink: usize| {
            format!("{} kB", (status.uplinks[uplink].bytes_out + status.uplinks[uplink].bytes_in) / 1000)
        };
        println!("  {:<14} {:>16} {:>16}\n", "bytes", bytes(0), bytes(1));
    }
    promises.check(exact, "every connection took the uplink that its hash says");
}

fn server4_at(host: u8) -> IpAddr {
    server4(host).into()
}

fn server6_at(host: u8) -> IpAddr {
    server6(host).into()
}

fn inbound(lab: &Lab, promises: &mut Promises) {
    println!("inbound: connections to the router by each uplink");
    for isp in lab.isps() {
        let mut good = true;
        for address in [IpAddr::from(isp.link.router4), isp.link.router6.into()] {
            good &= isp.client().tcp_connect(None, SocketAddr::new(address, PORT), PATIENCE).is_ok();
            good &= isp.client().udp_ask(None, SocketAddr::new(address, PORT), PATIENCE).is_ok();
            good &= isp.client().ping(address);
        }
        promises
            .check(good, &format!("isp{}: TCP, UDP and echo are answered by the uplink they came in on", isp.number));
    }
}

fn fail_over(
    lab: &Lab,
    pcc: &tests::lab::Pcc,
    number: u32,
    what: &str,
    cut: fn(&Lab, u32, bool),
    within: Duration,
    promises: &mut Promises,
) {
    println!("fail-over: {what}");
    let port = 30_000 + 3000 * number as u16;
    pcc.wait_for(&format!("uplink wan{number} IPv6: up"), PATIENCE);
    let flows: Vec<_> = (0..200).map(|i| (port + i, SocketAddr::new(SERVER4.into(), PORT))).collect();
    let open: Vec<_> = lab.client().open_many(Protocol::Tcp, &flows, 16, PATIENCE).into_iter().flatten().collect();
    let busy = Busy::start(open, Duration::from_millis(100), PATIENCE);
    let outage = outage::measure(lab, within + Duration::from_millis(500), port + 1000, || cut(lab, number, false));
    promises.check(
        outage.gap <= within,
        &format!("new connections were affected for {:.0?} ({} of {})", outage.gap, outage.failed, outage.tried),
    );
    let (report, _) = busy.stop();
    let others = report.faults.iter().filter(|fault| fault.isp != number).count();
    promises.check(others == 0, &format!("no connection of the other uplink noticed ({} exchanges)", report.exchanges));
    let began = Instant::now();
    cut(lab, number, true);
    let mut tries = 0;
    let back = eventually(Duration::from_secs(10), || {
        tries += 1;
        let flows: Vec<_> =
            (0..40).map(|i| (port + 2000 + tries % 20 * 40 + i, SocketAddr::new(SERVER4.into(), PORT))).collect();
        let trials = lab.client().try_many(Protocol::Tcp, &flows, 8, PATIENCE);
        trials.iter().any(|trial| trial.isp == Ok(number))
    });
    promises
        .check(back, &format!("uplink {number} took new connections again {:.1?} after it was back", began.elapsed()));
}

fn percent(part: usize, whole: usize) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}
