//! One candidate, set up in a lab of its own: idle it costs nothing, so that candidates can take turns.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::programs::xdp::XdpLink;
use pcc_ebpf::traffic::{Place, program};
use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_setaffinity};
use tests::lab::settings::wait_until_up;
use tests::lab::{Defaults, Lab, Namespace, Pcc, settings};

use super::candidate::Candidate;
use super::case::{Family, Packets};
use super::recipes;
use super::traffic::{Counts, Device, Traffic};

/// A candidate that can be measured.
pub struct Stand {
    pub candidate: Candidate,
    pub lab: Lab,
    pub pcc: Option<Pcc>,
    pub traffic: Traffic,
    sinks: Vec<XdpLink>,
    _router: Option<XdpLink>,
}

/// How large the maps of pcc are.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub flows: u32,
    pub shortcuts: u32,
}

/// Frames that are sent while the time of one is estimated.
const ESTIMATE: u32 = 20_000;
/// Frames between two looks whether the time is over.
const PIECE: u32 = 100_000;
/// Of a hundred thousand frames so many may be lost; with more, a figure would mean nothing.
const LOST: u64 = 100;

impl Stand {
    /// Sets `candidate` up. Whatever it starts runs where the calling thread may.
    pub fn new(candidate: Candidate, room: Room) -> Result<Self> {
        let lab = Lab::builder().defaults(Defaults::All).build();
        let router = lab.router();
        router.set_sysctls(&[
            ("net/netfilter/nf_conntrack_udp_timeout", "86400"),
            ("net/netfilter/nf_conntrack_udp_timeout_stream", "86400"),
        ]);
        match candidate {
            Candidate::Plain => recipes::plain(&lab),
            Candidate::Nftables => recipes::nftables(&lab),
            Candidate::Iptables => recipes::iptables(&lab),
            Candidate::Ecmp => recipes::ecmp(&lab),
            _ => {}
        }
        recipes::forwarding(router);
        let client = Device::of(lab.client().namespace(), "eth0")?;
        let lan = Device::of(router, "lan")?;
        neighbours(&lab, client)?;
        let mut traffic = Traffic::load(client, lan.hardware)?;
        // What arrives by XDP is polled; so real devices do.
        for device in ["lan", "wan1", "wan2"] {
            features(router, device, &["gro"], true);
        }
        let own = match candidate {
            Candidate::Generator => Some(program::SINKS[Place::Lan as usize]),
            Candidate::Redirect => {
                let uplink = |number: u32, device: &str| -> Result<_> {
                    let far = Device::of(lab.isp(number).namespace(), "eth0")?;
                    Ok((Device::of(router, device)?, far.hardware))
                };
                traffic.redirect_to([uplink(1, "wan1")?, uplink(2, "wan2")?]);
                Some(program::BARE)
            }
            _ => None,
        };
        let own = own.map(|name| traffic.attach(name, router, "lan")).transpose()?;
        let mut stand = Self { candidate, lab, pcc: None, traffic, sinks: Vec::new(), _router: own };
        stand.open_sinks()?;
        stand.pcc = candidate.fast_path().map(|way| stand.start_pcc(way, room));
        Ok(stand)
    }

    fn start_pcc(&self, way: &str, room: Room) -> Pcc {
        let flows = room.flows.to_string();
        let shortcuts = room.shortcuts.to_string();
        let args = [
            &["run", "--wan", "wan1,wan2", "--lan", "lan", "--fast-path", way][..],
            &["--flow-entries", &flows, "--shortcut-entries", &shortcuts],
        ]
        .concat();
        let pcc = self.lab.pcc(&args);
        pcc.wait_for("ready", settings::READY);
        wait_until_up(&pcc, 0, &[1, 2]);
        pcc
    }

    /// Lets traffic end at the ISPs and at the client.
    pub fn open_sinks(&mut self) -> Result<()> {
        let ends = [self.lab.isp(1).namespace(), self.lab.isp(2).namespace(), self.lab.client().namespace()];
        for (name, namespace) in program::SINKS.iter().zip(ends) {
            self.sinks.push(self.traffic.attach(name, namespace, "eth0")?);
        }
        Ok(())
    }

    /// Lets sockets talk instead.
    pub fn close_sinks(&mut self) {
        self.sinks.clear();
    }

    /// Makes the connections `first..end` known, and sends until their packets go the way that later ones go.
    pub fn warm_up(&mut self, packets: &Packets, first: u32, end: u32) -> Result<()> {
        if !self.candidate.tracks() {
            return Ok(());
        }
        self.traffic.order(packets, first, end, true)?;
        self.traffic.rewind()?;
        for _ in 0..self.candidate.warm_up() {
            let counts = self.send(end - first)?.0;
            let answers = counts.at(Place::Client);
            let lost = counts.sent.saturating_sub(answers);
            ensure!(
                lost * 1_000 <= LOST * counts.sent,
                "{}: of {} packets that were to open connections only {answers} were answered",
                self.candidate,
                counts.sent
            );
        }
        Ok(())
    }

    /// Frames of connections that are known which take about `time`; [`Self::cost`] sends the same.
    pub fn frames(&mut self, packets: &Packets, time: Duration) -> Result<u32> {
        self.traffic.order(packets, 0, packets.flows, false)?;
        let (counts, took) = self.send(ESTIMATE)?;
        Ok((time.as_nanos() as f64 / self.each(&counts, took)?) as u32)
    }

    /// Nanoseconds for each of `frames` packets.
    pub fn cost(&mut self, frames: u32) -> Result<f64> {
        let (counts, took) = self.send(frames)?;
        self.each(&counts, took)
    }

    /// Nanoseconds for each packet of known connections that can be sent in `time`.
    pub fn cost_over(&mut self, packets: &Packets, time: Duration) -> Result<f64> {
        self.traffic.order(packets, 0, packets.flows, false)?;
        let start = Instant::now();
        let before = self.traffic.counts()?;
        let mut took = 0.0;
        while start.elapsed() < time {
            let (counts, each) = self.send(PIECE)?;
            took += each * counts.sent as f64;
        }
        let counts = self.traffic.counts()?.since(&before);
        self.each(&counts, took / counts.sent as f64)
    }

    /// Nanoseconds for each of the packets, all of which open a connection: the flows `first..end`.
    pub fn cost_of_new(&mut self, family: Family, first: u32, end: u32) -> Result<f64> {
        let packets = Packets { family, size: 64, flows: end - first };
        self.traffic.order(&packets, first, end, false)?;
        self.traffic.rewind()?;
        let (counts, took) = self.send(end - first)?;
        self.each(&counts, took)
    }

    /// Forgets all connections.
    pub fn forget(&self) {
        if self.candidate.tracks() {
            for family in ["ipv4", "ipv6"] {
                self.lab.router().exec("conntrack", ["-F", "-f", family]);
            }
        }
    }

    /// Nanoseconds for each packet that came through, where each that was sent took `took`.
    fn each(&self, counts: &Counts, took: f64) -> Result<f64> {
        let lost = counts.sent.saturating_sub(counts.through());
        ensure!(
            counts.sent > 0 && lost * 100_000 <= LOST * counts.sent.max(10_000),
            "{}: {lost} of {} packets were lost, the figure would mean nothing",
            self.candidate,
            counts.sent
        );
        Ok(took * counts.sent as f64 / counts.through() as f64)
    }

    /// Sends on the processor that is measured, and tells what became of it and how many nanoseconds each frame took.
    fn send(&self, frames: u32) -> Result<(Counts, f64)> {
        let before = self.traffic.counts()?;
        let took = self.lab.client().namespace().run(|| {
            pin(measured()?)?;
            self.traffic.send(frames)
        })?;
        Ok((self.traffic.counts()?.since(&before), took))
    }
}

/// The processor that is measured: the last one.
pub fn measured() -> Result<usize> {
    let count = processors();
    ensure!(count >= 2, "the bench needs two processors: one to measure, one for everything else");
    Ok(count - 1)
}

/// One more than the number of the last processor.
pub fn processors() -> usize {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    online.trim().rsplit(['-', ',']).next().and_then(|last| last.parse::<usize>().ok()).map_or(1, |last| last + 1)
}

/// Keeps the calling thread, and all that it starts, off the processor that is measured.
pub fn keep_off() -> Result<()> {
    let mut set = CpuSet::new();
    (0..measured()?).for_each(|processor| set.set(processor));
    sched_setaffinity(None, &set).context("leaving a processor to the bench")
}

/// Binds the calling thread to a processor, with precedence over others.
pub fn pin(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).with_context(|| format!("binding a thread to processor {processor}"))?;
    setpriority_process(None, -20).context("raising the priority")
}

/// Turns features of a device on or off, as `ethtool -K` names them.
pub fn features(namespace: &Namespace, device: &str, names: &[&str], on: bool) {
    let state = if on { "on" } else { "off" };
    namespace.exec("ethtool", ["-K", device].into_iter().chain(names.iter().flat_map(|name| [*name, state])));
}

/// Sinks answer no ARP: the router knows the clients and both gateways for good.
fn neighbours(lab: &Lab, client: Device) -> Result<()> {
    let mut script = String::new();
    let mut add = |address: String, device: &str, peer: &Device| {
        script += &format!("neigh replace {address} lladdr {} nud permanent dev {device}\n", peer.text());
    };
    for host in 2..=65 {
        add(format!("192.0.2.{host}"), "lan", &client);
        add(format!("2001:db8:a::{host:x}"), "lan", &client);
    }
    for isp in lab.isps() {
        let far = Device::of(isp.namespace(), "eth0")?;
        add(isp.link.gateway4.to_string(), &isp.device, &far);
        add(isp.link.gateway6.to_string(), &isp.device, &far);
    }
    lab.router().ip_batch(&script);
    Ok(())
}
