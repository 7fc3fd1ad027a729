//! Who comes in by an uplink is answered by that uplink, from the address that was asked.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use tests::lab::address::{CLIENT4, CLIENT6, FORWARDED_PORT, INNER_GATEWAY4, INNER_GATEWAY6, PORT};
use tests::lab::settings::READY;
use tests::lab::{Builder, Client, Defaults, Isp, Lab, Ledger, PATIENCE, Pcc, Protocol};

/// Enough to fill every buffer and to need the path's MTU many times over.
const MUCH: usize = 3 << 20;
const MUCH_TAKES: Duration = Duration::from_secs(5);

/// UDP ports of the router besides [`PORT`], where a socket for each family listens on all addresses.
const DUAL_STACK: u16 = 9001;
const BOUND: u16 = 9002;
/// Ports without anybody behind them: of the router, of the LAN host that they are forwarded to, rejected by the
/// user's own rules on the way in and on the way through.
const CLOSED: u16 = 9003;
const FORWARDED_CLOSED: u16 = 9004;
const REJECTED: u16 = 9005;
const FORWARDED_REJECTED: u16 = 9006;
/// Forwarded to a host by a device that is neither an uplink nor a LAN of `pcc`.
const FORWARDED_INNER: u16 = 9007;

const USERS_OWN: &str = "table inet own {
  chain pre { type nat hook prerouting priority dstnat;
   iifname \"wan*\" meta nfproto ipv4 meta l4proto { tcp, udp } th dport { 9004, 9006 } dnat ip to CLIENT4
   iifname \"wan*\" meta nfproto ipv6 meta l4proto { tcp, udp } th dport { 9004, 9006 } dnat ip6 to CLIENT6
   iifname \"wan*\" meta nfproto ipv4 meta l4proto { tcp, udp } th dport 9007 dnat ip to INNER4 : 7
   iifname \"wan*\" meta nfproto ipv6 meta l4proto { tcp, udp } th dport 9007 dnat ip6 to [INNER6] : 7
  }
  chain input { type filter hook input priority filter;
   tcp dport 9005 reject with tcp reset
   udp dport 9005 reject with icmpx port-unreachable
  }
  chain forward { type filter hook forward priority filter;
   tcp dport 9006 reject with tcp reset
   udp dport 9006 reject with icmpx port-unreachable
  }
 }";

#[test]
fn every_uplink_answers_for_itself_when_main_prefers_the_first() {
    answers_where_it_was_asked(Defaults::First);
}

#[test]
fn every_uplink_answers_for_itself_when_main_has_no_default() {
    answers_where_it_was_asked(Defaults::None);
}

#[test]
fn every_uplink_answers_for_itself_when_main_has_all_defaults() {
    answers_where_it_was_asked(Defaults::All);
}

/// The matrix: uplinks of different MTU × both families × rp_filter × everything that can be asked.
fn answers_where_it_was_asked(defaults: Defaults) {
    let asked = Asked::new(Lab::builder().defaults(defaults));
    for rp_filter in ["0", "2", "1"] {
        asked.set_rp_filter(rp_filter);
        for isp in asked.lab.isps() {
            for router in [IpAddr::from(isp.link.router4), isp.link.router6.into()] {
                if router.is_ipv4() || rp_filter == "0" {
                    asked.by(isp, router, &format!("{router} with rp_filter {rp_filter}"));
                }
            }
        }
    }
}

#[test]
fn neighbours_on_the_uplink_are_answered_too() {
    for defaults in [Defaults::First, Defaults::None] {
        let asked = Asked::new(Lab::builder().defaults(defaults));
        for isp in asked.lab.isps() {
            let neighbour = isp.client().from([isp.link.gateway4.into(), isp.link.gateway6.into()]);
            for router in [IpAddr::from(isp.link.router4), isp.link.router6.into()] {
                answers(&neighbour, router);
            }
        }
    }
}

#[test]
fn every_address_of_an_uplink_answers() {
    for defaults in [Defaults::First, Defaults::None] {
        let asked = Asked::new(Lab::builder().defaults(defaults));
        asked.lab.router().ip("addr add 198.18.1.99/24 dev wan1");
        asked.lab.router().ip("addr add 198.18.2.99/24 dev wan2");
        // Not on uplink 1: among several IPv6 addresses of its own the kernel answers from which it likes.
        asked.lab.router().ip("addr add 2001:db8:2::99/64 dev wan2 nodad");
        asked.settle();
        for (number, router) in [(1, "198.18.1.99"), (2, "198.18.2.99"), (2, "2001:db8:2::99")] {
            answers(asked.lab.isp(number).client(), router.parse().unwrap());
        }
        for isp in asked.lab.isps() {
            answers(isp.client(), isp.link.router4.into());
            answers(isp.client(), isp.link.router6.into());
        }
    }
}

#[test]
fn uplinks_answer_where_main_prefers_a_device_that_is_none() {
    let asked = Asked::new(Lab::builder().defaults(Defaults::None));
    asked.lab.router().ip(&format!("-4 route add default via {INNER_GATEWAY4} dev site"));
    asked.lab.router().ip(&format!("-6 route add default via {INNER_GATEWAY6} dev site"));
    asked.settle();
    for isp in asked.lab.isps() {
        answers(isp.client(), isp.link.router4.into());
        answers(isp.client(), isp.link.router6.into());
    }
}

#[test]
fn an_uplink_without_share_answers() {
    let lab = Lab::builder().port_forward().build();
    let (wans, gateways) = (lab.wans(), lab.gateways());
    let mut args = vec!["run", "--wan", &wans, "--lan", lab.lans(), "--weights", "1,0"];
    args.extend(gateways.iter().map(String::as_str));
    let pcc = lab.pcc(&args);
    pcc.wait_for("ready", READY);
    for router in [IpAddr::from(lab.isp(2).link.router4), lab.isp(2).link.router6.into()] {
        for (protocol, port) in [(Protocol::Tcp, PORT), (Protocol::Udp, PORT), (Protocol::Tcp, FORWARDED_PORT)] {
            let to = SocketAddr::new(router, port);
            let mut conversation = lab.isp(2).client().open(protocol, None, to, PATIENCE).unwrap();
            conversation.exchange(b"again").unwrap();
        }
    }
}

/// A router that runs `pcc`, and everything that its neighbours may ask it.
struct Asked {
    lab: Lab,
    ledgers: Vec<Ledger>,
    _pcc: Pcc,
}

impl Asked {
    fn new(builder: Builder) -> Self {
        let lab = builder.mtu(2, 1400).port_forward().inner_network().build();
        let names: [(&str, IpAddr); 4] = [
            ("CLIENT4", CLIENT4.into()),
            ("CLIENT6", CLIENT6.into()),
            ("INNER4", INNER_GATEWAY4.into()),
            ("INNER6", INNER_GATEWAY6.into()),
        ];
        let text = names.iter().fold(USERS_OWN.to_owned(), |text, (name, it)| text.replace(name, &it.to_string()));
        lab.router().nft(&text);
        lab.client().namespace().set_sysctls(&[("net/ipv4/icmp_ratelimit", "0"), ("net/ipv6/icmp/ratelimit", "0")]);
        for isp in lab.isps() {
            // The peer is one hop further on, behind an MTU of 1,500: it does not help to find the uplink's.
            let link = isp.link;
            let own = |address: IpAddr| match address {
                IpAddr::V4(it) => it.octets()[..3].iter().map(u8::to_string).collect::<Vec<_>>().join(".") + ".0/24",
                IpAddr::V6(it) => format!("{}/64", Ipv6Addr::from_bits(it.to_bits() >> 64 << 64)),
            };
            isp.namespace().ip(&format!(
                "route change {} dev eth0 proto kernel scope link src {} advmss 1460",
                own(link.gateway4.into()),
                link.gateway4
            ));
            isp.namespace().ip(&format!("-6 route append {}/128 dev eth0 advmss 1440", link.router6));
        }
        serve(&lab, SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), DUAL_STACK));
        for isp in lab.isps() {
            serve(&lab, SocketAddr::new(isp.link.router4.into(), BOUND));
            serve(&lab, SocketAddr::new(isp.link.router6.into(), BOUND));
        }
        let (wans, gateways) = (lab.wans(), lab.gateways());
        let mut args = vec!["run", "--wan", &wans, "--lan", lab.lans()];
        args.extend(gateways.iter().map(String::as_str));
        let pcc = lab.pcc(&args);
        pcc.wait_for("ready", READY);
        let ledgers = lab.isps().iter().map(Isp::ledger).collect();
        Self { lab, ledgers, _pcc: pcc }
    }

    fn set_rp_filter(&self, value: &str) {
        let devices = ["all", "default", "lan", "wan1", "wan2"];
        let keys = devices.map(|device| format!("net/ipv4/conf/{device}/rp_filter"));
        self.lab.router().set_sysctls(&keys.each_ref().map(|key| (key.as_str(), value)));
    }

    /// Until `pcc` has seen what changed: it is to be quick, but need not be quicker than the next question.
    fn settle(&self) {
        std::thread::sleep(Duration::from_millis(200));
    }

    /// Asks `router`, an address of the uplink to `isp`, for everything; panics tell the `case`.
    fn by(&self, isp: &Isp, router: IpAddr, case: &str) {
        for ledger in &self.ledgers {
            ledger.clear();
        }
        let open = |protocol, port| {
            let opened = isp.client().open(protocol, None, SocketAddr::new(router, port), PATIENCE);
            opened.unwrap_or_else(|error| panic!("{case}: {protocol:?} {port}: {error}"))
        };
        for (protocol, port, server) in [
            (Protocol::Tcp, PORT, "router"),
            (Protocol::Udp, PORT, "router"),
            (Protocol::Udp, DUAL_STACK, "router"),
            (Protocol::Udp, BOUND, "router"),
            (Protocol::Icmp, 0, "router"),
            (Protocol::Tcp, FORWARDED_PORT, "client"),
            (Protocol::Udp, FORWARDED_PORT, "client"),
            (Protocol::Tcp, FORWARDED_INNER, "inner"),
            (Protocol::Udp, FORWARDED_INNER, "inner"),
        ] {
            let mut conversation = open(protocol, port);
            assert_eq!(
                (conversation.identity.server.as_str(), conversation.isp),
                (server, 0),
                "{case}: {protocol:?} {port}"
            );
            assert_eq!(conversation.identity.seen_as, conversation.local, "{case}: {protocol:?} {port}");
            let result = conversation.exchange(b"once more");
            result.unwrap_or_else(|error| panic!("{case}: {protocol:?} {port}, second: {error}"));
        }
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for port in [CLOSED, FORWARDED_CLOSED, REJECTED, FORWARDED_REJECTED] {
                let opened = isp.client().open(protocol, None, SocketAddr::new(router, port), PATIENCE);
                assert_eq!(
                    opened.map_err(|error| error.kind()).err(),
                    Some(ErrorKind::ConnectionRefused),
                    "{case}: {protocol:?} {port}"
                );
            }
        }
        for port in [PORT, FORWARDED_PORT] {
            let mut conversation = open(Protocol::Tcp, port);
            conversation.patience = 2 * MUCH_TAKES;
            let began = Instant::now();
            conversation.exchange(&vec![7; MUCH]).unwrap_or_else(|error| panic!("{case}: much of {port}: {error}"));
            assert!(began.elapsed() < MUCH_TAKES, "{case}: much of {port} took {:?}", began.elapsed());
        }
        for (ledger, other) in self.ledgers.iter().zip(self.lab.isps()) {
            let entries = ledger.entries();
            let sources: BTreeSet<_> = entries.iter().map(|entry| entry.source).collect();
            let expected = if other.number == isp.number { BTreeSet::from([router]) } else { BTreeSet::new() };
            assert_eq!(sources, expected, "{case}: isp{} saw {entries:?}", other.number);
        }
    }
}

/// Asserts that `router` answers `client` from the address that was asked.
fn answers(client: &Client, router: IpAddr) {
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
        let opened = client.open(protocol, None, SocketAddr::new(router, PORT), PATIENCE);
        let result = opened.and_then(|mut conversation| conversation.exchange(b"again"));
        result.unwrap_or_else(|error| panic!("{router} asked by {protocol:?}: {error}"));
    }
}

/// A UDP identity server in the router, on a socket that is bound to `local`. It ends with the test.
fn serve(lab: &Lab, local: SocketAddr) {
    let socket = lab.router().run(|| UdpSocket::bind(local)).unwrap_or_else(|error| panic!("{local}: {error}"));
    std::thread::spawn(move || {
        let mut question = [0; 2048];
        while let Ok((length, peer)) = socket.recv_from(&mut question) {
            let mut answer = format!("router {} {}\n", peer.ip().to_canonical(), peer.port()).into_bytes();
            answer.extend_from_slice(&question[..length]);
            let _ = socket.send_to(&answer, peer);
        }
    });
}
