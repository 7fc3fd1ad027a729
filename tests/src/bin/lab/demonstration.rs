//! Everything that pcc promises, shown once with real packets.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use pcc_ebpf::abi::map;
use pcc_ebpf::classify::HashFields;
use pcc_userspace::status::Status;
use rustix::process::Signal;
use tests::lab::address::{FORWARDED_PORT, PORT, SERVER4, SERVER6, server4, server6};
use tests::lab::outage::{self, Outage};
use tests::lab::{
    BpfObjects, Busy, Conversation, Defaults, HostState, Lab, PATIENCE, Pcc, Protocol, Trial, eventually,
    marked_connections,
};
use tests::predict::Prediction;

const SEED: u32 = 42;
/// An emulated kernel verifies programs for seconds, and longer beside busy connections.
const SLOW_START: Duration = Duration::from_secs(60);
/// Round trips of each connection that shall take shortcuts.
const EXCHANGES: u64 = 60;

/// What the demonstration shall be like.
#[derive(Args)]
pub struct Options {
    /// Weights of the two uplinks in the demonstration.
    #[arg(long, value_delimiter = ',', default_values_t = [3, 1])]
    weights: Vec<u32>,
    /// Connections of each protocol and family in the demonstration, 100 to 10000.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u16).range(100..=10_000))]
    connections: u16,
    /// What uplink 2 is in the demonstration. Not every kernel has VLAN and PPPoE: `cargo xtask vm` boots one.
    #[arg(long, value_enum, default_value_t = Uplink2::Veth)]
    uplink2: Uplink2,
    /// For slow and emulated machines: everything may take longer, and durations are printed but not judged.
    #[arg(long)]
    slow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Uplink2 {
    /// A cable.
    Veth,
    /// A VLAN on a cable.
    Vlan,
    /// A PPPoE session, with `pppd` and `pppoe-server`.
    Pppoe,
}

/// Prints one line for each promise and remembers whether all were kept.
struct Demonstration {
    options: Options,
    lab: Lab,
    patience: Duration,
    all_kept: bool,
}

pub fn run(options: Options) -> ExitCode {
    let builder = match options.uplink2 {
        Uplink2::Veth => Lab::builder(),
        Uplink2::Vlan => Lab::builder().vlan(2),
        Uplink2::Pppoe => Lab::builder().pppoe(2),
    };
    let patience = if options.slow { PATIENCE * 3 } else { PATIENCE };
    let lab = builder.defaults(Defaults::All).port_forward().build();
    let mut show = Demonstration { options, lab, patience, all_kept: true };
    show.run();
    if show.all_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Demonstration {
    fn run(&mut self) {
        let before = self.lab.host_state();
        let uplink2 = match self.options.uplink2 {
            Uplink2::Veth => "",
            Uplink2::Vlan => ", uplink 2 a VLAN",
            Uplink2::Pppoe => ", uplink 2 a PPPoE session",
        };
        println!("start: two ISPs, weights {}, all four fields hashed, IPv4 and IPv6{uplink2}", self.weights());
        let began = Instant::now();
        let pcc = self.start();
        let to = SocketAddr::new(SERVER4.into(), PORT);
        let first = self.lab.client().tcp_connect(Some(9_999), to, self.patience);
        let took = began.elapsed();
        let kept = first.is_ok() && self.is_within(took, Duration::from_secs(1));
        self.check(kept, &format!("first balanced connection after {took:.0?}"));
        self.shares();
        self.inbound();
        self.shortcuts();
        let mut pcc = self.crash(pcc);
        // The uplink that is not a plain cable shows both.
        let cable = if self.options.uplink2 == Uplink2::Veth { 1 } else { 2 };
        self.fail_over(&pcc, cable, "carrier", "cut", Duration::from_millis(200), Lab::carrier);
        let silence: fn(&Lab, u32, bool) = |lab, number, live| lab.silence(number, !live);
        self.fail_over(&pcc, 2, "gateway", "silent", Duration::from_secs(2), silence);
        println!("end");
        let objects = BpfObjects::attached(self.lab.router());
        pcc.signal(Signal::INT);
        self.check(pcc.wait(self.patience).success(), "Ctrl-C ends it");
        let difference = HostState::diff(&before, &self.lab.host_state());
        self.check(
            difference.is_empty(),
            "rules, routes, nftables, kernel settings, attachments and pins are as they were before",
        );
        if !difference.is_empty() {
            println!("{difference}");
        }
        let unloaded = objects.remaining(self.patience) == BpfObjects::default();
        self.check(unloaded, "its programs, maps and links are unloaded");
        let marked = marked_connections(self.lab.router(), 0xff);
        self.check(marked.is_empty(), "no connection keeps a mark of ours");
    }

    fn check(&mut self, kept: bool, text: &str) {
        println!("  {} {text}", if kept { "ok    " } else { "BROKEN" });
        self.all_kept &= kept;
    }

    fn is_within(&self, took: Duration, promised: Duration) -> bool {
        self.options.slow || took <= promised
    }

    fn weights(&self) -> String {
        self.options.weights.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
    }

    /// Starts pcc and waits until it is ready.
    fn start(&self) -> Pcc {
        let (wans, weights, seed) = (self.lab.wans(), self.weights(), SEED.to_string());
        let mut arguments = vec!["run", "--wan", &wans, "--lan", self.lab.lans(), "--weights", &weights];
        arguments.extend(["--hash", "both-addresses-and-ports", "--seed", &seed]);
        let link = self.lab.isp(2).link;
        let other_end = format!("--check=wan2={},{}", link.gateway4, link.gateway6);
        if self.options.uplink2 == Uplink2::Pppoe {
            // A session has no gateway to ping.
            arguments.push(&other_end);
        }
        if self.options.slow {
            arguments.extend(["--check-interval", "1s", "--check-timeout", "3s"]);
        }
        let pcc = self.lab.pcc(&arguments);
        pcc.wait_for("ready", if self.options.slow { SLOW_START } else { self.patience });
        pcc
    }

    fn shares(&mut self) {
        let Options { ref weights, connections, .. } = self.options;
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
                let trials = self.lab.client().try_many(protocol, &flows, 16, self.patience);
                let predicted = |it: &&Trial| it.isp == Ok(prediction.uplink(protocol, it.source, it.destination));
                let right = trials.iter().filter(predicted).count();
                let on = |isp| trials.iter().filter(|trial| trial.isp == Ok(isp)).count();
                let cell = |isp| format!("{} {:>8}", on(isp), percent(on(isp), trials.len()));
                let name = format!("{} {family}", format!("{protocol:?}").to_uppercase());
                println!("  {name:<14} {:>16} {:>16} {:>12}", cell(1), cell(2), percent(right, trials.len()));
                exact &= right == trials.len();
            }
        }
        let output = self.lab.pcc_output(&["status", "--json"]);
        if let Ok(status) = serde_json::from_slice::<Status>(&output.stdout) {
            let bytes = |uplink: usize| {
                format!("{} kB", (status.uplinks[uplink].bytes_out + status.uplinks[uplink].bytes_in) / 1000)
            };
            println!("  {:<14} {:>16} {:>16}\n", "bytes", bytes(0), bytes(1));
        }
        self.check(exact, "every connection took the uplink that its hash says");
    }

    fn inbound(&mut self) {
        println!("inbound: connections to the router by each uplink");
        for number in [1, 2] {
            let isp = self.lab.isp(number);
            let mut good = true;
            for address in [IpAddr::from(isp.link.router4), isp.link.router6.into()] {
                let to = SocketAddr::new(address, PORT);
                good &= isp.client().tcp_connect(None, to, self.patience).is_ok();
                good &= isp.client().udp_ask(None, to, self.patience).is_ok();
                good &= isp.client().ping(address);
            }
            self.check(good, &format!("isp{number}: TCP, UDP and echo are answered by the uplink they came in on"));
        }
    }

    /// Each exchange is a packet there and one back, so that most of them means both ways.
    fn shortcuts(&mut self) {
        println!("shortcuts: connections that live, from the LAN by uplink 2 and to its server");
        let remote = |server: IpAddr| SocketAddr::new(server, PORT);
        for server in [IpAddr::from(SERVER4), SERVER6.into()] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let flows: Vec<_> = (0..40).map(|i| (26_000 + i, remote(server))).collect();
                let opened = self.lab.client().open_many(protocol, &flows, 8, self.patience);
                let chosen = opened.into_iter().flatten().find(|it| it.isp == 2);
                self.shortcut(chosen, protocol, server, "");
                let inbound = SocketAddr::new(self.lab.isp(2).link.router(server), FORWARDED_PORT);
                let opened = self.lab.isp(2).client().open(protocol, None, inbound, self.patience);
                self.shortcut(opened.ok(), protocol, server, " inbound");
            }
            let echo = self.lab.client().open(Protocol::Icmp, None, remote(server), self.patience);
            let before = self.lab.shortcuts_taken();
            let answered = echo.is_ok_and(|mut echo| (0..EXCHANGES).all(|_| echo.exchange(&[7; 100]).is_ok()));
            let none = self.lab.shortcuts_taken() == before;
            self.check(answered && none, &format!("{server} ICMP: none of {} packets", 2 * EXCHANGES));
        }
    }

    fn shortcut(&mut self, conversation: Option<Conversation>, protocol: Protocol, server: IpAddr, how: &str) {
        let Some(mut conversation) = conversation else {
            return self.check(false, &format!("{server} {protocol:?}{how}: no connection"));
        };
        let before = self.lab.shortcuts_taken();
        let outcome = (0..EXCHANGES).try_for_each(|_| conversation.exchange(&[7; 500]));
        let after = self.lab.shortcuts_taken();
        let (taken, all) = (after.0 + after.1 - before.0 - before.1, 2 * EXCHANGES);
        let fault = outcome.as_ref().err().map_or_else(|| "it stayed".to_owned(), ToString::to_string);
        // A lease may end meanwhile; what TCP sends twice is more.
        let kept = outcome.is_ok() && taken >= all * 3 / 4;
        self.check(kept, &format!("{server} {protocol:?}{how}: {taken} packets of {all}, {fault}"));
    }

    /// Kills the controller and starts it again.
    fn crash(&mut self, mut pcc: Pcc) -> Pcc {
        println!("crash: the controller is killed and started again");
        let busy = self.busy(20_000);
        let before = BpfObjects::attached(self.lab.router());
        pcc.signal(Signal::KILL);
        pcc.wait(self.patience);
        let flows: Vec<_> = (0..100).map(|i| (21_000 + i, SocketAddr::new(server6(1).into(), PORT))).collect();
        let between = self.lab.client().try_many(Protocol::Tcp, &flows, 16, self.patience);
        let prediction = Prediction::new(&self.options.weights, HashFields::ALL_FIELDS, SEED);
        let predicted = |it: &Trial| it.isp == Ok(prediction.uplink(Protocol::Tcp, it.source, it.destination));
        let pcc = self.start();
        let (report, _) = busy.stop();
        let after = BpfObjects::attached(self.lab.router());
        self.check(report.faults.is_empty(), &format!("no connection noticed ({} exchanges)", report.exchanges));
        self.check(between.iter().all(predicted), "meanwhile new ones were balanced as before");
        let ours = |objects: &BpfObjects| {
            // What is pinned; a scratchpad is each program's own.
            objects.maps.clone().into_iter().filter(|(_, name)| map::ALL.contains(&name.as_str())).collect::<Vec<_>>()
        };
        self.check(ours(&before) == ours(&after), "the next start adopted the same maps");
        let replaced = after.programs.len() == before.programs.len()
            && after.places.keys().eq(before.places.keys())
            && after.programs.keys().all(|id| !before.programs.contains_key(id));
        self.check(replaced, "and put its programs in the places of the old ones");
        pcc
    }

    /// 200 TCP connections in use, from the source port `from` up.
    fn busy(&self, from: u16) -> Busy {
        let flows: Vec<_> = (0..200).map(|i| (from + i, SocketAddr::new(SERVER4.into(), PORT))).collect();
        let opened = self.lab.client().open_many(Protocol::Tcp, &flows, 16, self.patience);
        Busy::start(opened.into_iter().flatten().collect(), Duration::from_millis(100), self.patience)
    }

    /// 40 short TCP connections, from the source port `from` up.
    fn trials(&self, from: u16) -> Vec<Trial> {
        let flows: Vec<_> = (0..40).map(|i| (from + i, SocketAddr::new(SERVER4.into(), PORT))).collect();
        self.lab.client().try_many(Protocol::Tcp, &flows, 8, self.patience)
    }

    fn fail_over(&mut self, pcc: &Pcc, number: u32, what: &str, how: &str, within: Duration, set: fn(&Lab, u32, bool)) {
        println!("fail-over: {what} of uplink {number} {how}");
        let port = if how == "cut" { 30_000 } else { 40_000 };
        pcc.wait_for(&format!("uplink wan{number} IPv6: up"), self.patience);
        let busy = self.busy(port);
        let watch = if self.options.slow { within * 4 } else { within } + Duration::from_millis(500);
        let outages =
            outage::measure(&self.lab, watch, Duration::from_millis(20), port + 1000, || set(&self.lab, number, false));
        let gap = outages[0].gap.max(outages[1].gap);
        let [failed, tried] =
            [|it: &Outage| it.failed, |it: &Outage| it.tried].map(|of| outages.iter().map(of).sum::<usize>());
        let kept = self.is_within(gap, within);
        self.check(kept, &format!("new connections were affected for {gap:.0?} ({failed} of {tried})"));
        let other = 3 - number;
        let grace = if self.options.slow { self.patience } else { Duration::ZERO };
        let mut tries = 0;
        let moved = eventually(grace, || {
            tries += 1;
            self.trials(port + 2200 + tries % 20 * 40).iter().all(|trial| trial.isp == Ok(other))
        });
        self.check(moved, &format!("then all of them took uplink {other}"));
        let (report, _) = busy.stop();
        let others = report.faults.iter().filter(|fault| fault.isp != number).count();
        let exchanges = report.exchanges;
        self.check(others == 0, &format!("no connection of the other uplink noticed ({exchanges} exchanges)"));
        let began = Instant::now();
        set(&self.lab, number, true);
        let mut tries = 0;
        let back = eventually(self.patience * 2, || {
            tries += 1;
            self.trials(port + 3000 + tries % 20 * 40).iter().any(|trial| trial.isp == Ok(number))
        });
        let took = began.elapsed();
        self.check(back, &format!("uplink {number} took new connections again {took:.1?} after it was back"));
    }
}

fn server4_at(host: u8) -> IpAddr {
    server4(host).into()
}

fn server6_at(host: u8) -> IpAddr {
    server6(host).into()
}

fn percent(part: usize, whole: usize) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}
