//! What stays among the LAN, the router and its modems is as it was before: no ISP sees any of it.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic where the tests would")]

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

use socket2::{Domain, Protocol as IpProtocol, Socket, Type};
use tests::lab::address::{
    CLIENT2_4, CLIENT2_6, CLIENT4, CLIENT6, FORWARDED_PORT, INNER4, INNER6, PORT, ROUTER2_4, ROUTER2_6, ROUTER4,
    ROUTER6, SERVER6, server4, server6,
};
use tests::lab::settings::READY;
use tests::lab::{Client, Conversation, Defaults, Entry, Isp, Lab, Ledger, PATIENCE, Pcc, Protocol, eventually};

const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];
/// How often a case is repeated, each time with other ports: a wrong choice of uplink must not be luck.
const OFTEN: u16 = 6;
/// The smaller one of the MTUs that a packet to an ISP meets.
const UPLINK_MTU: u32 = 1400;

/// The user's own rules: the router answers DNS itself, and two ports are rejected on the way in and through.
const USERS_OWN: &str = "table inet own {
  chain pre { type nat hook prerouting priority dstnat;
   iifname \"lan\" meta l4proto { tcp, udp } th dport 53 redirect to :7
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
const REDIRECTED: u16 = 53;
const CLOSED: u16 = 9003;
const REJECTED: u16 = 9005;
const FORWARDED_REJECTED: u16 = 9006;

#[test]
fn the_lan_side_is_as_before_when_main_prefers_the_first_uplink() {
    check_everything(Defaults::First);
}

#[test]
fn the_lan_side_is_as_before_when_main_has_no_default() {
    check_everything(Defaults::None);
}

fn check_everything(defaults: Defaults) {
    let site = Site::new(defaults);
    for v6 in [false, true] {
        site.quiet("LAN to LAN", || site.lan_to_lan(v6));
        site.quiet("LAN to router", || site.lan_to_router(v6));
        site.quiet("network behind another router", || site.static_route(v6));
        site.quiet("DNS redirected to the router", || site.redirect(v6));
        site.quiet("refusals", || site.refusals(v6));
        site.quiet("time exceeded", || site.time_exceeded(v6));
        site.lan_to_modem(v6);
        site.errors_of_live_connections(v6);
        site.bypass(v6);
    }
    site.quiet("multicast and broadcast", || site.multicast());
}

#[test]
fn a_packet_too_big_for_the_router_moves_no_connection_of_the_lan() {
    for defaults in [Defaults::First, Defaults::None] {
        let site = Site::new(defaults);
        let open = || {
            let flows: Vec<_> = (0..40).map(|_| (0, SocketAddr::new(SERVER6.into(), PORT))).collect();
            let opened = site.lab.client().open_many(Protocol::Tcp, &flows, 4, PATIENCE);
            let opened: Vec<Conversation> = opened.into_iter().map(Result::unwrap).collect();
            let first = opened.iter().filter(|it| it.isp == 1).count();
            assert!((5..=35).contains(&first), "{first} of {} by uplink 1", opened.len());
            opened
        };
        let mut live = open();
        for source in [Ipv6Addr::UNSPECIFIED, ROUTER6] {
            site.pretend_too_big(source);
        }
        let exceptions = site.lab.router().ip("-6 route show cache table all");
        assert!(exceptions.contains(&SERVER6.to_string()), "the router has learned no path MTU:\n{exceptions}");
        live.extend(open());
        for conversation in &mut live {
            conversation.exchange(&[7; 4000]).unwrap_or_else(|error| panic!("{conversation:?}: {error}"));
        }
    }
}

/// A router that runs `pcc` with two LANs, and what every ISP received.
struct Site {
    lab: Lab,
    ledgers: Vec<Ledger>,
    _pcc: Pcc,
}

impl Site {
    fn new(defaults: Defaults) -> Self {
        let lab = Lab::builder()
            .defaults(defaults)
            .second_lan()
            .inner_network()
            .mtu(1, UPLINK_MTU)
            .mtu(2, UPLINK_MTU)
            .build();
        lab.router().nft(USERS_OWN);
        let (wans, gateways) = (lab.wans(), lab.gateways());
        let mut args = vec!["run", "--wan", &wans, "--lan", lab.lans(), "--hash", "both-addresses-and-ports"];
        args.extend(["--bypass", "203.0.113.32/27,2001:db8:9::20/123"]);
        args.extend(gateways.iter().map(String::as_str));
        let pcc = lab.pcc(&args);
        pcc.wait_for("ready", READY);
        let ledgers = lab.isps().iter().map(Isp::ledger).collect();
        Self { lab, ledgers, _pcc: pcc }
    }

    /// Does something that no ISP may see.
    fn quiet(&self, what: &str, does: impl FnOnce()) {
        self.clear();
        does();
        for (ledger, isp) in self.ledgers.iter().zip(self.lab.isps()) {
            assert_eq!(ledger.entries(), BTreeSet::new(), "{what}: seen by isp{}", isp.number);
        }
    }

    fn clear(&self) {
        self.ledgers.iter().for_each(Ledger::clear);
    }

    fn lan_to_lan(&self, v6: bool) {
        let (first, second) = (pick(v6, CLIENT4, CLIENT6), pick(v6, CLIENT2_4, CLIENT2_6));
        for _ in 0..OFTEN {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let conversation = talk(self.lab.second_client(), protocol, first, FORWARDED_PORT, "client");
                assert_eq!(conversation.identity.seen_as.ip(), second, "not translated");
            }
            assert!(self.lab.client().ping(second) && self.lab.second_client().ping(first));
        }
    }

    fn lan_to_router(&self, v6: bool) {
        let own = [pick(v6, ROUTER4, ROUTER6), pick(v6, ROUTER2_4, ROUTER2_6)];
        let uplinks: Vec<_> = self.lab.isps().iter().map(|isp| isp.link.router(own[0])).collect();
        for ((client, address), nearest) in self.clients(v6).into_iter().zip(own) {
            for router in own.iter().chain(&uplinks) {
                for protocol in ALL {
                    // Elsewhere a wildcard socket never answers from the address that was asked.
                    if protocol == Protocol::Udp && *router != nearest {
                        continue;
                    }
                    for _ in 0..OFTEN {
                        let conversation = talk(client, protocol, *router, PORT, "router");
                        assert_eq!(conversation.identity.seen_as.ip(), address, "not translated");
                    }
                }
                let mut session = talk(client, Protocol::Tcp, *router, PORT, "router");
                session.exchange(&[7; 200_000]).unwrap();
            }
        }
    }

    fn static_route(&self, v6: bool) {
        for (client, address) in self.clients(v6) {
            for _ in 0..OFTEN {
                for protocol in [Protocol::Tcp, Protocol::Icmp] {
                    let conversation = talk(client, protocol, pick(v6, INNER4, INNER6), PORT, "inner");
                    assert_eq!(conversation.identity.seen_as.ip(), address, "not translated");
                }
            }
        }
    }

    fn redirect(&self, v6: bool) {
        for host in 1..=8 {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let server = pick(v6, server4(host), server6(host));
                talk(self.lab.client(), protocol, server, REDIRECTED, "router");
            }
        }
    }

    fn refusals(&self, v6: bool) {
        let router = pick(v6, ROUTER4, ROUTER6);
        for host in 1..=8 {
            let server = pick(v6, server4(host), server6(host));
            for (to, port) in [(router, CLOSED), (router, REJECTED), (server, FORWARDED_REJECTED)] {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    let opened = self.lab.client().open(protocol, None, SocketAddr::new(to, port), PATIENCE);
                    let error = opened.map_err(|error| error.kind()).err();
                    assert_eq!(error, Some(ErrorKind::ConnectionRefused), "{protocol:?} {to} {port}");
                }
            }
        }
    }

    fn time_exceeded(&self, v6: bool) {
        let errors = Errors::listen(self.lab.client(), v6);
        for host in 1..=8 {
            let server = pick(v6, server4(host), server6(host));
            let socket = self.udp(v6);
            set_hops(&socket, v6, 1);
            socket.send_to(b"near", &SocketAddr::new(server, PORT).into()).unwrap();
            let kind = if v6 { 3 } else { 11 };
            assert_eq!(errors.next(), Some((pick(v6, ROUTER4, ROUTER6), kind, 0)), "{server}");
        }
    }

    /// The router itself may be the source of what its modems see, and nobody else is seen anywhere.
    fn lan_to_modem(&self, v6: bool) {
        self.clear();
        for isp in self.lab.isps() {
            let modem = pick(v6, isp.link.gateway4, isp.link.gateway6);
            for (client, _) in self.clients(v6) {
                for _ in 0..OFTEN {
                    let conversation = talk(client, Protocol::Tcp, modem, PORT, &format!("isp{}", isp.number));
                    assert_eq!(conversation.identity.seen_as.ip(), isp.link.router(modem));
                    assert!(client.ping(modem));
                }
            }
        }
        for (ledger, isp) in self.ledgers.iter().zip(self.lab.isps()) {
            let destination = pick(v6, isp.link.gateway4, isp.link.gateway6);
            let expected = Entry { source: isp.link.router(destination), destination, protocol: 6 };
            assert_eq!(ledger.entries(), BTreeSet::from([expected]), "seen by isp{}", isp.number);
        }
    }

    /// What the router says about a connection that lives, and therefore has a mark, goes to the LAN as well.
    fn errors_of_live_connections(&self, v6: bool) {
        let errors = Errors::listen(self.lab.client(), v6);
        let router = pick(v6, ROUTER4, ROUTER6);
        self.clear();
        for host in 1..=24 {
            let server = pick(v6, server4(host), server6(host));
            let socket = self.udp(v6);
            socket.connect(&SocketAddr::new(server, PORT).into()).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send(b"small").unwrap();
            socket.recv(&mut [MaybeUninit::uninit(); 100]).unwrap();
            socket.send(&[7; 1430]).unwrap();
            let (kind, code) = if v6 { (2, 0) } else { (3, 4) };
            assert_eq!(errors.next(), Some((router, kind, code)), "{server}");
            let path = self.lab.client().namespace().ip(&format!("route get {server}"));
            assert!(path.contains(&format!("mtu {UPLINK_MTU}")), "{path}");
            set_hops(&socket, v6, 1);
            while socket.send(b"near").is_err() {}
            assert_eq!(errors.next(), Some((router, if v6 { 3 } else { 11 }, 0)), "{server}");
        }
        for (ledger, isp) in self.ledgers.iter().zip(self.lab.isps()) {
            let asks = |entry: &Entry| entry.protocol == 17 && entry.source == isp.link.router(router);
            let entries = ledger.entries();
            assert!(!entries.is_empty() && entries.iter().all(asks), "seen by isp{}: {entries:?}", isp.number);
        }
    }

    fn bypass(&self, v6: bool) {
        let by = |hosts: std::ops::Range<u8>| {
            let servers = hosts.map(|host| (0, SocketAddr::new(pick(v6, server4(host), server6(host)), PORT)));
            let flows: Vec<_> = servers.collect();
            let trials = ALL.map(|protocol| self.lab.client().try_many(protocol, &flows, 4, PATIENCE));
            trials.concat().into_iter().map(|trial| trial.isp.unwrap()).collect::<BTreeSet<_>>()
        };
        assert_eq!(by(32..64), BTreeSet::from([1]), "follows main, or the first live uplink");
        assert_eq!(by(1..32), BTreeSet::from([1, 2]), "is balanced");
        // The end of a connection may come once more after the 200 ms that TCP waits at least, and belongs to none of what follows.
        sleep(Duration::from_millis(400));
    }

    fn multicast(&self) {
        for to in
            ["255.255.255.255", "192.0.2.255", "198.51.100.127", "224.0.0.251", "239.1.1.1", "ff02::fb", "ff05::1:3"]
        {
            let to: IpAddr = to.parse().unwrap();
            for _ in 0..OFTEN {
                let socket = self.udp(to.is_ipv6());
                socket.set_broadcast(true).unwrap();
                set_hops(&socket, to.is_ipv6(), 9);
                let _ = socket.send_to(b"to many", &SocketAddr::new(to, 9).into());
            }
        }
        sleep(Duration::from_millis(50));
    }

    /// Has the router ask the server that all ISPs share, and ISP 1 say that this was too big.
    fn pretend_too_big(&self, source: Ipv6Addr) {
        let isp = self.lab.isp(1);
        let asking = self.lab.router().run(|| UdpSocket::bind((source, 0))).unwrap();
        asking.connect((SERVER6, PORT)).unwrap();
        asking.set_read_timeout(Some(PATIENCE)).unwrap();
        asking.send(b"hello").unwrap();
        let mut answer = [0; 100];
        let length = asking.recv(&mut answer).unwrap();
        assert!(answer[..length].starts_with(b"isp1 "), "main's default, or the first live uplink");
        let port = asking.local_addr().unwrap().port();
        let mut message = vec![2, 0, 0, 0];
        message.extend(1300u32.to_be_bytes());
        message.extend([0x60, 0, 0, 0, 0x05, 0x00, 17, 64]);
        message.extend(isp.link.router6.octets());
        message.extend(SERVER6.octets());
        message.extend([port, PORT, 1280, 0].iter().flat_map(|field: &u16| field.to_be_bytes()));
        message.resize(message.len() + 1000, 7);
        isp.namespace().run(|| {
            let raw = Socket::new(Domain::IPV6, Type::RAW, Some(IpProtocol::ICMPV6)).unwrap();
            raw.bind(&SocketAddr::new(isp.link.gateway6.into(), 0).into()).unwrap();
            raw.send_to(&message, &SocketAddr::new(isp.link.router6.into(), 0).into()).unwrap();
        });
        let refused = || asking.send(&[7; 1400]).is_err();
        assert!(eventually(PATIENCE, refused) || source.is_unspecified(), "the socket has learned nothing");
    }

    fn clients(&self, v6: bool) -> [(&Client, IpAddr); 2] {
        [(self.lab.client(), pick(v6, CLIENT4, CLIENT6)), (self.lab.second_client(), pick(v6, CLIENT2_4, CLIENT2_6))]
    }

    fn udp(&self, v6: bool) -> Socket {
        let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
        self.lab.client().namespace().run(|| Socket::new(domain, Type::DGRAM, None)).unwrap()
    }
}

/// ICMP errors that arrive at a client.
struct Errors {
    socket: Socket,
    v6: bool,
}

impl Errors {
    fn listen(client: &Client, v6: bool) -> Self {
        let (domain, protocol) =
            if v6 { (Domain::IPV6, IpProtocol::ICMPV6) } else { (Domain::IPV4, IpProtocol::ICMPV4) };
        let socket = client.namespace().run(|| Socket::new(domain, Type::RAW, Some(protocol))).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, v6 }
    }

    /// Sender, type and code of the next one.
    fn next(&self) -> Option<(IpAddr, u8, u8)> {
        loop {
            let mut packet = [MaybeUninit::uninit(); 2048];
            let received: io::Result<_> = self.socket.recv_from(&mut packet);
            let (length, from) = received.ok()?;
            // SAFETY: the kernel has written that much.
            let bytes: Vec<u8> = packet[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
            // A raw IPv4 socket delivers the IP header too.
            let message = if self.v6 { &bytes[..] } else { &bytes[usize::from(bytes[0] & 0xf) * 4..] };
            let is_error = if self.v6 { message[0] < 128 } else { [3, 11, 12].contains(&message[0]) };
            if is_error {
                return Some((from.as_socket()?.ip(), message[0], message[1]));
            }
        }
    }
}

fn pick(v6: bool, ipv4: Ipv4Addr, ipv6: Ipv6Addr) -> IpAddr {
    if v6 { ipv6.into() } else { ipv4.into() }
}

fn set_hops(socket: &Socket, v6: bool, hops: u32) {
    let set = if v6 {
        socket.set_unicast_hops_v6(hops).and_then(|()| socket.set_multicast_hops_v6(hops))
    } else {
        socket.set_ttl_v4(hops).and_then(|()| socket.set_multicast_ttl_v4(hops))
    };
    set.unwrap();
}

/// A conversation with the server called `server`, which answers twice.
fn talk(client: &Client, protocol: Protocol, to: IpAddr, port: u16, server: &str) -> Conversation {
    let opened = client.open(protocol, None, SocketAddr::new(to, port), PATIENCE);
    let mut conversation = opened.unwrap_or_else(|error| panic!("{protocol:?} to {to} {port}: {error}"));
    assert_eq!(conversation.identity.server, server, "{protocol:?} to {to} {port}");
    conversation.exchange(b"once more").unwrap_or_else(|error| panic!("{protocol:?} to {to} {port}, again: {error}"));
    conversation
}
