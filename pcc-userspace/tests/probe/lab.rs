//! A router with two uplinks, each ISP in a network namespace of its own.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pcc_userspace::config::Target;
use pcc_userspace::health::probe::{Outcome, Path, Prober};
use pcc_userspace::host::Family;
use tokio::sync::mpsc;

pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
pub const GATEWAY6: &str = "fe80::1";
/// A server behind both ISPs.
pub const SERVER: [&str; 2] = ["203.0.113.9", "2001:db8:9::9"];
/// What both ISPs say is unreachable.
pub const UNREACHABLE: [&str; 2] = ["203.0.113.66", "2001:db8:9::66"];
/// What both ISPs drop without a word.
pub const SILENT: [&str; 2] = ["203.0.113.77", "2001:db8:9::77"];
pub const SOON: Duration = Duration::from_secs(2);
pub const NEVER: Duration = Duration::from_millis(300);

/// A network namespace that goes away with the value.
pub struct Namespace(String);

impl Namespace {
    pub fn new(role: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pccprobe{}-{number}{role}", std::process::id());
        run(&format!("ip netns add {name}"));
        let namespace = Self(name);
        namespace.run("ip link set lo up");
        namespace.run("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0");
        namespace.run("sysctl -qw net.ipv6.conf.default.accept_dad=0");
        namespace
    }

    pub fn run(&self, command: &str) {
        self.output(command);
    }

    /// What `command` prints.
    pub fn output(&self, command: &str) -> String {
        run(&format!("nsenter --net=/run/netns/{} {command}", self.0))
    }

    /// Runs `task` on a thread inside the namespace; sockets that it opens stay there.
    pub fn within<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        let runtime = tokio::runtime::Handle::try_current().ok();
        let file = std::fs::File::open(format!("/run/netns/{}", self.0)).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
                let _inside = runtime.as_ref().map(tokio::runtime::Handle::enter);
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network)).unwrap();
                task()
            });
            thread.join().unwrap()
        })
    }

    pub fn index(&self, device: &str) -> u32 {
        let text = self.output(&format!("ip -oneline link show dev {device}"));
        text.split(':').next().unwrap().parse().unwrap()
    }

    /// Runs `task` on a thread and a runtime inside the namespace.
    pub fn block_on(&self, task: impl AsyncFnOnce() + Send) {
        // Not that of the caller: a runtime cannot wait within another.
        assert!(tokio::runtime::Handle::try_current().is_err());
        self.within(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(task());
        });
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A router with the uplinks `wan1` and `wan2`. Both gateways have the same addresses; main has no default route and knows
/// the gateways' network by `wan1` alone, so only mark and device together lead to the gateway of `wan2`.
pub struct Lab {
    pub router: Namespace,
    pub isps: [Namespace; 2],
}

impl Lab {
    pub fn new() -> Self {
        let lab = Self { router: Namespace::new("r"), isps: [Namespace::new("a"), Namespace::new("b")] };
        for (number, isp) in (1..).zip(&lab.isps) {
            lab.router.run(&format!("ip link add wan{number} type veth peer name lan netns {}", isp.0));
            lab.router.run(&format!("ip link set wan{number} up"));
            isp.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
            isp.run("sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0");
            // An ISP does not answer ARP for what lies behind it; Linux would.
            isp.run("sysctl -qw net.ipv4.conf.all.arp_ignore=1");
            isp.run("ip link set lan up");
            isp.run(&format!("ip addr add {GATEWAY}/24 dev lan"));
            isp.run(&format!("ip addr add {GATEWAY6}/64 dev lan nodad"));
            isp.run(&format!("ip addr add 2001:db8:{number}::1/64 dev lan nodad"));
            for family in [0, 1] {
                isp.run(&format!("ip addr add {} dev lo", SERVER[family]));
                isp.run(&format!("ip addr add {} dev lo", UNREACHABLE[family]));
                isp.run(&format!("ip route add blackhole {}", SILENT[family]));
            }
            // Unlike an unreachable route this knows no rate limit.
            isp.run("nft add table inet isp");
            isp.run("nft add chain inet isp input { type filter hook input priority 0 ; }");
            let [four, six] = UNREACHABLE;
            isp.run(&format!("nft add rule inet isp input ip daddr {four} reject with icmp type host-unreachable"));
            isp.run(&format!("nft add rule inet isp input ip6 daddr {six} reject with icmpv6 type addr-unreachable"));
            lab.router.run(&format!("ip addr add 198.18.0.{}/32 dev wan{number}", number + 1));
            lab.router.run(&format!("ip addr add 2001:db8:{number}::2/64 dev wan{number} nodad"));
            for family in ["-4", "-6"] {
                lab.router.run(&format!("ip {family} rule add pref 100 fwmark {} table {number}", mark(number)));
            }
            lab.router.run(&format!("ip route add default via {GATEWAY} dev wan{number} onlink table {number}"));
            lab.router.run(&format!("ip -6 route add default via {GATEWAY6} dev wan{number} table {number}"));
        }
        lab.router.run("ip route add 198.18.0.0/24 dev wan1");
        lab
    }

    /// The path by uplink `number`.
    pub fn path(&self, number: u32, family: Family) -> Path {
        let device = format!("wan{number}");
        let gateway = if family == Family::V4 { GATEWAY.into() } else { GATEWAY6.parse().unwrap() };
        Path { ifindex: self.router.index(&device), device, mark: mark(number), gateway: Some(gateway) }
    }

    /// Asks `target` by uplink `number`, on a runtime inside the router.
    pub fn start(&self, number: u32, target: &Target, family: Family, timeout: Duration) -> Probing {
        Probing::start(target, family, &self.path(number, family), timeout).expect("there is something to ask")
    }

    /// Waits until neighbours are known and addresses have settled.
    pub async fn settle(&self) {
        for (number, family) in [(1, Family::V4), (1, Family::V6), (2, Family::V4), (2, Family::V6)] {
            let mut probing = self.start(number, &Target::Gateway, family, SOON);
            for sequence in 0.. {
                assert!(sequence < 100, "{family} by wan{number} does not settle");
                if let Some(Outcome::Answered(_)) = probing.ask_for(sequence, Duration::from_millis(100)).await {
                    break;
                }
            }
        }
    }
}

/// A prober with what it reports.
pub struct Probing {
    prober: Prober,
    outcomes: mpsc::UnboundedReceiver<(u16, Outcome)>,
}

impl Probing {
    pub fn start(target: &Target, family: Family, path: &Path, timeout: Duration) -> Option<Self> {
        let (sender, outcomes) = mpsc::unbounded_channel();
        let report = move |sequence, outcome| sender.send((sequence, outcome)).unwrap();
        let prober = Prober::start(target, family, path, timeout, report).unwrap()?;
        Some(Self { prober, outcomes })
    }

    pub fn send(&self, sequence: u16) {
        self.prober.send(sequence);
    }

    /// What is reported next within `wait`.
    pub async fn hear(&mut self, wait: Duration) -> Option<(u16, Outcome)> {
        tokio::time::timeout(wait, self.outcomes.recv()).await.ok().flatten()
    }

    /// Sends probe `sequence` and tells what is reported of it within `wait`.
    pub async fn ask_for(&mut self, sequence: u16, wait: Duration) -> Option<Outcome> {
        self.send(sequence);
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let (heard, outcome) = tokio::time::timeout_at(deadline, self.outcomes.recv()).await.ok()??;
            if heard == sequence {
                return Some(outcome);
            }
        }
    }

    /// Ends the prober; true if everything that could report ended too.
    pub async fn stop(self) -> bool {
        let Self { prober, mut outcomes } = self;
        drop(prober);
        let end = async { while outcomes.recv().await.is_some() {} };
        tokio::time::timeout(SOON, end).await.is_ok()
    }
}

pub fn mark(number: u32) -> u32 {
    0x80 | number
}
