//! How a lab is built: namespaces, cables, addresses, routes, servers.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::address::{self, Link};
use super::client::ANY;
use super::pppoe::{Session, Side};
use super::server::Echoes;
use super::tun::Tun;
use super::wire::{self, Kind, Wire};
use super::{Builder, Client, Instance, Isp, Lab, Namespace, PATIENCE, Server, Servers, ends, eventually};

impl Builder {
    /// Builds it. It is ready when this returns: addresses usable, servers listening.
    ///
    /// # Panics
    /// Where the machine does not allow it, with the command that failed.
    #[must_use]
    pub fn build(self) -> Lab {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        Namespace::sweep();
        Instance::sweep();
        raise_file_limit();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = self.prefix.clone().unwrap_or_else(|| format!("pcc{}-{count}", process::id()));
        let echoes = Echoes::default();
        let namespace = |role: &str| Arc::new(self.namespace(&format!("{prefix}-{role}")));

        let router = namespace("router");
        router.set_sysctls(&[("net/ipv4/icmp_ratelimit", "0"), ("net/ipv6/icmp/ratelimit", "0")]);
        let client = namespace("client");
        let second = self.second_lan.then(|| namespace("client2"));
        let inner = self.inner_network.then(|| namespace("inner"));
        let isps: Vec<_> = (1..=self.uplinks).map(|number| (number, namespace(&format!("isp{number}")))).collect();

        let (mut script, mut wires) = (String::new(), Vec::new());
        let lans = [("lan", Some(&client)), ("lan2", second.as_ref()), ("site", inner.as_ref())];
        for (device, peer) in lans.into_iter().filter_map(|(device, peer)| Some((device, peer?))) {
            script.push_str(&ends::cable(device, ends::LAN + script.lines().count() as u32, "eth0", peer));
        }
        for (number, isp) in &isps {
            script.push_str(&self.cable(*number, isp));
        }
        router.ip_batch(&script);
        for (number, isp) in &isps {
            self.prepare_isp(isp);
            wires.push(self.wire(*number, &router, isp));
        }
        self.set_up_client(&client);
        if let Some(second) = &second {
            let gateways = (address::ROUTER2_4, address::ROUTER2_6);
            self.set_up_host(second, (address::CLIENT2_4, 25), address::CLIENT2_6, gateways.0, gateways.1);
        }
        if let Some(inner) = &inner {
            let own = (address::INNER_GATEWAY4, 25);
            self.set_up_host(inner, own, address::INNER_GATEWAY6, address::SITE4, address::SITE6);
            let mut script = format!("addr add {}/32 dev lo\n", address::INNER4);
            self.v6(&mut script, &format!("addr add {}/128 dev lo", address::INNER6));
            inner.ip_batch(&script);
        }
        for namespace in [&client].into_iter().chain(&second).chain(&inner).chain(isps.iter().map(|it| &it.1)) {
            self.finish_frames(namespace);
        }
        self.set_up_router(&router);
        for namespace in [&router, &client].into_iter().chain(&second).chain(&inner).chain(isps.iter().map(|it| &it.1))
        {
            self.wait_until_ready(namespace);
        }

        let start = |place: &Arc<Namespace>, name: &str, port| Server::start(place, name, port, &ANY, &echoes);
        let servers = Servers {
            router: start(&router, "router", address::PORT),
            client: start(&client, "client", address::FORWARDED_PORT),
            inner: inner.as_ref().map(|inner| start(inner, "inner", address::PORT)),
        };
        let isps: Vec<_> = isps
            .into_iter()
            .zip(wires)
            .map(|((number, namespace), wire)| Isp {
                number,
                device: format!("wan{number}"),
                link: Link::new(number, self.same_gateway),
                server: Server::start(&namespace, &format!("isp{number}"), address::PORT, &self.udp_servers(), &echoes),
                wire,
                readdressed: 0,
                client: Client::new(&namespace, [address::SERVER4.into(), address::SERVER6.into()], &echoes),
            })
            .collect();
        Lab {
            instance: Instance::new(&prefix, self.program.clone(), &router),
            builder: self,
            isps,
            servers,
            client: Client::new(&client, ANY, &echoes),
            second_client: second.map(|second| Client::new(&second, ANY, &echoes)),
            inner,
            router,
        }
    }

    fn namespace(&self, name: &str) -> Namespace {
        let namespace = Namespace::new(name);
        let disable = if self.ipv6 { "0" } else { "1" };
        namespace.set_sysctls(&[
            // Addresses are usable at once.
            ("net/ipv6/conf/all/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/all/disable_ipv6", disable),
            ("net/ipv6/conf/default/disable_ipv6", disable),
            // Echo sockets without rights.
            ("net/ipv4/ping_group_range", "0 2147483647"),
        ]);
        namespace
    }

    /// The cable of an uplink, both its ends up, with addresses and routes.
    fn wire(&self, number: u32, router: &Arc<Namespace>, isp: &Arc<Namespace>) -> Wire {
        let device = format!("wan{number}");
        let link = Link::new(number, self.same_gateway);
        let (near, far) = (self.router_end(number, &link), self.isp_end(number, &link));
        let wire = match self.kind(number) {
            Kind::Veth => Wire::Veth,
            Kind::Vlan => {
                wire::add_vlan(number, router, isp);
                Wire::Vlan
            }
            Kind::Tun => Wire::Tun(Tun::new((router, &device), (isp, "eth0"))),
            Kind::Pppoe => {
                let side = |namespace: &Arc<Namespace>, device: &str, port: String, script| Side {
                    namespace: Arc::clone(namespace),
                    device: device.to_owned(),
                    port,
                    script,
                };
                let near = side(router, &device, format!("{}{number}", wire::PORT), near);
                let far = side(isp, "eth0", wire::PORT.to_owned(), far);
                return Wire::Pppoe(Box::new(Session::new(near, far, link, self.ipv6)));
            }
        };
        router.ip_batch(&near);
        isp.ip_batch(&far);
        wire
    }

    fn prepare_isp(&self, isp: &Namespace) {
        isp.set_sysctls(&[
            ("net/ipv4/conf/all/arp_ignore", "1"),
            ("net/ipv4/conf/all/arp_announce", "2"),
            // UDP servers on addresses that only a local route gives.
            ("net/ipv6/ip_nonlocal_bind", "1"),
            // They survive a cut of the carrier.
            ("net/ipv6/conf/all/keep_addr_on_down", "1"),
        ]);
        let mut script =
            format!("addr add {}/32 dev lo\nroute add local {}/24 dev lo\n", address::SERVER4, address::server4(0),);
        self.v6(&mut script, &format!("addr add {}/128 dev lo", address::SERVER6));
        self.v6(&mut script, &format!("route add local {}/64 dev lo", address::server6(0)));
        isp.ip_batch(&script);
    }

    /// The client's end of `lan`.
    pub(super) fn set_up_client(&self, client: &Namespace) {
        self.set_up_host(client, (address::CLIENT4, 24), address::CLIENT6, address::ROUTER4, address::ROUTER6);
    }

    /// The router's end of `lan`.
    pub(super) fn set_up_lan(&self, router: &Namespace) {
        let mut script = String::from("link set lan up\n");
        self.address(&mut script, "lan", (address::ROUTER4, 24), address::ROUTER6);
        router.ip_batch(&script);
    }

    fn set_up_host(
        &self,
        host: &Namespace,
        (own4, length): (Ipv4Addr, u8),
        own6: Ipv6Addr,
        gateway4: Ipv4Addr,
        gateway6: Ipv6Addr,
    ) {
        let mut script = String::from("link set eth0 up\n");
        self.address(&mut script, "eth0", (own4, length), own6);
        let _ = writeln!(script, "route add default via {gateway4}");
        self.v6(&mut script, &format!("route add default via {gateway6}"));
        host.ip_batch(&script);
    }

    fn set_up_router(&self, router: &Namespace) {
        self.set_up_lan(router);
        let mut script = String::new();
        if self.second_lan {
            script.push_str("link set lan2 up\n");
            self.address(&mut script, "lan2", (address::ROUTER2_4, 25), address::ROUTER2_6);
        }
        if self.inner_network {
            script.push_str("link set site up\n");
            self.address(&mut script, "site", (address::SITE4, 25), address::SITE6);
            let _ = writeln!(script, "route add 198.19.0.0/24 via {} dev site", address::INNER_GATEWAY4);
            self.v6(&mut script, &format!("route add 2001:db8:f::/64 via {} dev site", address::INNER_GATEWAY6));
        }
        router.ip_batch(&script);
        if self.port_forward {
            let (port, v4, v6) = (address::FORWARDED_PORT, address::CLIENT4, address::CLIENT6);
            router.nft(&format!(
                "table inet forwards {{ chain pre {{ type nat hook prerouting priority dstnat;
                    iifname \"wan*\" meta nfproto ipv4 meta l4proto {{ tcp, udp }} th dport {port} dnat ip to {v4}
                    iifname \"wan*\" meta nfproto ipv6 meta l4proto {{ tcp, udp }} th dport {port} dnat ip6 to {v6}
                }}; }}"
            ));
        }
    }

    fn udp_servers(&self) -> Vec<IpAddr> {
        let v4 = (1..=address::UDP_SERVERS).map(|host| address::server4(host).into());
        let v6 = (1..=address::UDP_SERVERS).filter(|_| self.ipv6).map(|host| address::server6(host).into());
        v4.chain(v6).collect()
    }

    /// Waits until every device has carrier and its IPv6 networks are routed: both come a little after `up`.
    pub(super) fn wait_until_ready(&self, namespace: &Namespace) {
        let ready = eventually(PATIENCE, || {
            let links = namespace.ip("-o link show up");
            let routed = |device: &str| {
                namespace.ip(&format!("-6 route show dev {device}")).lines().any(|line| line.starts_with("2001:"))
            };
            links.lines().all(|line| {
                let device = line.split([':', '@']).nth(1).unwrap_or_default().trim();
                let bare = device == "lo" || device.starts_with(wire::PORT);
                line.contains("LOWER_UP") && (!self.ipv6 || bare || routed(device))
            })
        });
        assert!(ready, "the devices of `{}` are not ready:\n{}", namespace.name(), namespace.ip("addr"));
    }
}

/// A few thousand connections have both their ends in this process.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map(|maximum| maximum.max(200_000));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum: wanted });
    if raised.is_err() {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}
