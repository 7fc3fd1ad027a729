//! The prober against real kernels: a router with two uplinks, each in a network namespace of its own. Needs root.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pcc_userspace::health::arp;
use pcc_userspace::health::probe::{Answer, Prober};
use socket2::{Domain, Protocol, Socket, Type};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const GATEWAY6: &str = "fe80::1";
const SOON: Duration = Duration::from_secs(2);
const NEVER: Duration = Duration::from_millis(300);

/// A network namespace that goes away with the value.
struct Namespace(String);

impl Namespace {
    fn new(role: &str) -> Self {
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

    fn run(&self, command: &str) {
        run(&format!("nsenter --net=/run/netns/{} {command}", self.0));
    }

    /// Runs `task` on a thread inside the namespace; sockets that it opens stay there.
    fn within<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        let runtime = tokio::runtime::Handle::current();
        let file = std::fs::File::open(format!("/run/netns/{}", self.0)).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
                let _inside = runtime.enter();
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network)).unwrap();
                task()
            });
            thread.join().unwrap()
        })
    }

    fn index(&self, device: &str) -> u32 {
        let text = run(&format!("nsenter --net=/run/netns/{} ip -oneline link show dev {device}", self.0));
        text.split(':').next().unwrap().parse().unwrap()
    }

    fn raw_icmp(&self, device: Option<&'static str>) -> Socket {
        self.within(move || {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap();
            socket.bind_device(device.map(str::as_bytes)).unwrap();
            socket.set_read_timeout(Some(SOON)).unwrap();
            socket
        })
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
struct Lab {
    router: Namespace,
    isps: [Namespace; 2],
}

impl Lab {
    fn new() -> Self {
        let lab = Self { router: Namespace::new("r"), isps: [Namespace::new("a"), Namespace::new("b")] };
        for (number, isp) in (1..).zip(&lab.isps) {
            lab.router.run(&format!("ip link add wan{number} type veth peer name lan netns {}", isp.0));
            lab.router.run(&format!("ip link set wan{number} up"));
            // An ISP does not answer ARP for what lies behind it; Linux would.
            isp.run("sysctl -qw net.ipv4.conf.all.arp_ignore=1");
            isp.run("ip link set lan up");
            isp.run(&format!("ip addr add {GATEWAY}/24 dev lan"));
            isp.run(&format!("ip addr add {GATEWAY6}/64 dev lan nodad"));
            lab.router.run(&format!("ip addr add 198.18.0.{}/32 dev wan{number}", number + 1));
            lab.router.run(&format!("ip rule add pref 100 fwmark {} table {number}", mark(number)));
            lab.router.run(&format!("ip route add default via {GATEWAY} dev wan{number} onlink table {number}"));
        }
        lab.router.run("ip route add 198.18.0.0/24 dev wan1");
        lab
    }

    fn prober(&self, number: u32, target: IpAddr) -> Prober {
        let device = format!("wan{number}");
        let index = self.router.index(&device);
        self.router.within(|| Prober::new(Some(&device), index, mark(number), target).unwrap())
    }
}

fn mark(number: u32) -> u32 {
    0x80 | number
}

async fn answer(prober: &Prober, wait: Duration) -> Option<Answer> {
    tokio::time::timeout(wait, prober.receive()).await.ok()
}

/// The link-local address may still be settling, and neighbours unresolved: the first pings may be lost.
async fn first_answer(prober: &Prober) -> Answer {
    for sequence in 0..40 {
        let _ = prober.send(sequence);
        if let Some(answer) = answer(prober, Duration::from_millis(100)).await {
            return answer;
        }
    }
    panic!("no answer")
}

#[tokio::test]
async fn each_gateway_answers_on_its_own_uplink_only() {
    let lab = Lab::new();
    for gateway in [IpAddr::V4(GATEWAY), GATEWAY6.parse().unwrap()] {
        let [one, two] = [1, 2].map(|number| lab.prober(number, gateway));
        assert!(first_answer(&one).await.round_trip < SOON);
        first_answer(&two).await;

        let family = if gateway.is_ipv4() { "net.ipv4.icmp_echo_ignore_all" } else { "net.ipv6.icmp.echo_ignore_all" };
        lab.isps[1].run(&format!("sysctl -qw {family}=1"));
        while answer(&two, NEVER).await.is_some() {}
        for prober in [&one, &two] {
            prober.send(1000).unwrap();
        }
        assert_eq!(answer(&two, NEVER).await, None, "{gateway} by wan2 is silent");
        loop {
            let answer = answer(&one, SOON).await.expect("the other uplink works");
            if answer.sequence == 1000 {
                break;
            }
        }
        lab.isps[1].run(&format!("sysctl -qw {family}=0"));
        two.send(1001).unwrap();
        assert_eq!(answer(&two, SOON).await.map(|answer| answer.sequence), Some(1001), "{gateway} is back");
    }
}

#[tokio::test]
async fn an_address_behind_the_gateway_is_reached_without_a_default_route_in_main() {
    let lab = Lab::new();
    let target = Ipv4Addr::new(203, 0, 113, 9);
    lab.isps[1].run(&format!("ip addr add {target}/32 dev lo"));
    first_answer(&lab.prober(2, target.into())).await;
    let one = lab.prober(1, target.into());
    let _ = one.send(1);
    assert_eq!(answer(&one, NEVER).await, None);
}

#[tokio::test]
async fn an_answer_by_another_device_or_from_another_host_is_not_taken() {
    let lab = Lab::new();
    lab.isps[0].run("sysctl -qw net.ipv4.icmp_echo_ignore_all=1");
    let prober = lab.prober(1, GATEWAY.into());
    let at_wan2 = lab.router.raw_icmp(Some("wan2"));
    let [first, second] = [0, 1].map(|index| lab.isps[index].raw_icmp(None));

    prober.send(7).unwrap();
    let mut reply = receive(&first)[20..].to_vec();
    // Type 8 becomes 0; the checksum of 16-bit words grows by as much as the first word shrinks.
    reply[0] = 0;
    let checksum = u32::from(u16::from_be_bytes([reply[2], reply[3]])) + 0x0800;
    reply[2..4].copy_from_slice(&((checksum & 0xffff) as u16 + (checksum >> 16) as u16).to_be_bytes());
    let to_router = SocketAddr::from((Ipv4Addr::new(198, 18, 0, 2), 0)).into();

    second.send_to(&reply, &to_router).unwrap();
    assert_eq!(receive(&at_wan2)[20..], reply, "it did arrive by wan2");
    assert_eq!(answer(&prober, NEVER).await, None);

    lab.isps[0].run("ip addr add 198.18.0.77/24 dev lan");
    let other = lab.isps[0].raw_icmp(None);
    other.bind(&SocketAddr::from((Ipv4Addr::new(198, 18, 0, 77), 0)).into()).unwrap();
    other.send_to(&reply, &to_router).unwrap();
    assert_eq!(answer(&prober, NEVER).await, None);

    first.send_to(&reply, &to_router).unwrap();
    assert_eq!(answer(&prober, SOON).await.map(|answer| answer.sequence), Some(7));
}

fn receive(mut socket: &Socket) -> Vec<u8> {
    let mut buffer = [0; 256];
    let length = std::io::Read::read(&mut socket, &mut buffer).unwrap();
    buffer[..length].to_vec()
}

#[tokio::test]
async fn a_vanished_device_loses_probes_and_nothing_else() {
    let lab = Lab::new();
    let four = lab.prober(2, GATEWAY.into());
    let six = lab.prober(2, GATEWAY6.parse().unwrap());
    first_answer(&four).await;
    lab.router.run("ip link set wan2 down");
    for prober in [&four, &six] {
        let _ = prober.send(1);
    }
    while answer(&four, NEVER).await.is_some() {}
    lab.router.run("ip link del wan2");
    for prober in [&four, &six] {
        assert!(prober.send(2).is_err());
        while answer(prober, NEVER).await.is_some() {}
    }
    let gone = lab.router.within(|| Prober::new(Some("wan2"), 1, mark(2), GATEWAY.into()));
    assert!(gone.is_err());
}

#[tokio::test]
async fn a_neighbour_is_asked_by_arp_on_its_own_link_alone() {
    let lab = Lab::new();
    let prober = |number: u32| {
        let index = lab.router.index(&format!("wan{number}"));
        lab.router.within(|| arp::Prober::new(index, GATEWAY).unwrap())
    };
    let (one, two) = (prober(1), prober(2));
    let heard = async |prober: &arp::Prober, wait| tokio::time::timeout(wait, prober.receive()).await.ok();
    one.send(7).unwrap();
    assert_eq!(heard(&one, SOON).await.unwrap().sequence, 7);
    assert_eq!(heard(&two, NEVER).await, None, "it asked nothing, though the gateways have the same address");
    lab.isps[1].run("ip addr flush dev lan");
    two.send(1).unwrap();
    one.send(8).unwrap();
    assert_eq!(heard(&one, SOON).await.unwrap().sequence, 8);
    assert_eq!(heard(&two, NEVER).await, None, "nobody has that address any more");
    lab.router.run("ip link set wan1 down");
    assert!(one.send(9).is_err());
    assert_eq!(heard(&one, NEVER).await, None);
    lab.router.run("ip link set wan1 up");
    one.send(10).unwrap();
    assert_eq!(heard(&one, SOON).await.unwrap().sequence, 10);
    lab.router.within(|| assert!(arp::Prober::new(9_999, GATEWAY).is_err()));
}
