//! The namespace lab: a client, the router, and ISPs whose servers have the same address.
//!
//! ```text
//!  client ── lan ┐        ┌ wan1 ── isp1: 203.0.113.0/24, 2001:db8:9::/64
//! client2 ─ lan2 ┤ router ┼ wan2 ── isp2: the same
//!   inner ─ site ┘        └ wanN ── ispN: the same
//! ```
//!
//! An ISP routes only to the router's uplink address, so whatever leaves with another source gets no answer. The lab
//! neither forwards nor translates: that is what `pcc` is for. Needs root; names all its namespaces with a prefix of
//! its own and removes them when the value is dropped. Its methods block; call them from plain threads.

use std::net::IpAddr;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use pcc_ebpf::abi;
use serde_json::Value;

pub mod address;
mod builder;
pub mod client;
pub mod conversation;
mod ends;
pub mod fresh;
pub mod idle;
pub mod ledger;
pub mod load;
pub mod namespace;
pub mod outage;
mod pppoe;
pub mod process;
pub mod server;
pub mod settings;
pub mod signs;
pub mod snapshot;
pub mod terminal;
mod topology;
pub mod tracked;
mod trouble;
mod tun;
pub mod usage;
mod wire;

pub use builder::{Builder, Defaults};
pub use client::{Client, Trial};
pub use conversation::{Conversation, Identity, Moved};
pub use idle::Idle;
pub use ledger::{Entry, Ledger};
pub use load::{Busy, Fault, FaultKind, Report};
pub use namespace::{Namespace, eventually};
pub use process::Pcc;
pub use server::{Protocol, Seen, Server};
pub use settings::Settings;
pub use snapshot::{BpfObjects, HostState, marked_connections};
pub use terminal::Terminal;
pub use usage::Usage;

use self::address::Link;
use self::process::Instance;
use self::wire::Wire;

/// A lab. Dropping it ends its servers and processes and deletes its namespaces.
#[derive(Debug)]
pub struct Lab {
    builder: Builder,
    // In the order in which things must go.
    instance: Arc<Instance>,
    servers: Servers,
    isps: Vec<Isp>,
    client: Client,
    second_client: Option<Client>,
    inner: Option<Arc<Namespace>>,
    router: Arc<Namespace>,
}

/// One ISP and its uplink.
#[derive(Debug)]
pub struct Isp {
    /// From 1.
    pub number: u32,
    /// The router's device: `wan<number>`.
    pub device: String,
    /// Addresses of both ends.
    pub link: Link,
    server: Server,
    wire: Wire,
    /// How often it got other addresses.
    readdressed: u32,
    client: Client,
}

#[derive(Debug)]
struct Servers {
    router: Server,
    client: Server,
    inner: Option<Server>,
}

impl Lab {
    /// A lab with two uplinks, both families, and main's default routes by uplink 1.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The router's namespace.
    pub fn router(&self) -> &Arc<Namespace> {
        &self.router
    }

    /// Connections of the router itself.
    pub fn router_client(&self) -> Client {
        self.client.at(&self.router)
    }

    /// Connections from `lan`.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Connections from `lan2`.
    ///
    /// # Panics
    /// When the lab was built without [`Builder::second_lan`].
    pub fn second_client(&self) -> &Client {
        self.second_client.as_ref().unwrap_or_else(|| panic!("the lab has no second LAN"))
    }

    /// The namespace behind the router's device `site`.
    ///
    /// # Panics
    /// When the lab was built without [`Builder::inner_network`].
    pub fn inner(&self) -> &Arc<Namespace> {
        self.inner.as_ref().unwrap_or_else(|| panic!("the lab has no inner network"))
    }

    /// ISP `number`, from 1.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn isp(&self, number: u32) -> &Isp {
        self.isps.iter().find(|isp| isp.number == number).unwrap_or_else(|| panic!("the lab has no isp {number}"))
    }

    /// All ISPs.
    pub fn isps(&self) -> &[Isp] {
        &self.isps
    }

    /// The uplink devices as `--wan` takes them: `wan1,wan2`.
    pub fn wans(&self) -> String {
        self.isps.iter().map(|isp| isp.device.as_str()).collect::<Vec<_>>().join(",")
    }

    /// The LAN devices as `--lan` takes them: `lan` or `lan,lan2`.
    pub fn lans(&self) -> &'static str {
        if self.second_client.is_some() { "lan,lan2" } else { "lan" }
    }

    /// `--gateway` flags for every uplink that has a gateway, as `pcc` needs them where main has no default route by it.
    pub fn gateways(&self) -> Vec<String> {
        let ipv6 = self.router.sysctl("net/ipv6/conf/all/disable_ipv6").is_ok_and(|value| value == "0");
        let flags = |isp: &Isp| {
            let Link { gateway4, gateway6, .. } = isp.link;
            let v6 = ipv6.then(|| format!("--gateway={}={gateway6}", isp.device));
            [format!("--gateway={}={gateway4}", isp.device)].into_iter().chain(v6)
        };
        self.isps.iter().filter(|isp| !isp.wire.is_point_to_point()).flat_map(flags).collect()
    }

    /// The server in the router: TCP and UDP [`address::PORT`], UDP on wildcard sockets.
    pub fn router_server(&self) -> &Server {
        &self.servers.router
    }

    /// The server on the client: TCP and UDP [`address::FORWARDED_PORT`].
    pub fn client_server(&self) -> &Server {
        &self.servers.client
    }

    /// The server behind the inner router, where there is one.
    pub fn inner_server(&self) -> Option<&Server> {
        self.servers.inner.as_ref()
    }

    /// Gives uplink `number` carrier or takes it, as a cable would; a PPPoE session is dialled or hung up.
    pub fn carrier(&self, number: u32, on: bool) {
        let isp = self.isp(number);
        isp.wire.carrier(isp.namespace(), on);
    }

    /// Makes ISP `number` a black hole in both directions, ARP and neighbour discovery included, with carrier up; or
    /// lets it live again.
    pub fn silence(&self, number: u32, on: bool) {
        let isp = self.isp(number);
        isp.wire.silence(isp.namespace(), on);
    }

    /// The name of the lab's own instance of `pcc`.
    pub fn instance(&self) -> &str {
        &self.instance.name
    }

    /// Starts `pcc <args> --instance <the lab's own>` inside the router. When the lab and all its `Pcc` have been
    /// dropped, `pcc down` is run for the instance.
    ///
    /// # Panics
    /// When there is no `pcc` ([`process::binary`]).
    pub fn pcc(&self, args: &[&str]) -> Pcc {
        self.instance.start(args, &[])
    }

    /// [`Self::pcc`] with variables of the environment.
    pub fn pcc_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Pcc {
        self.instance.start(args, environment)
    }

    /// Runs `pcc <args> --instance <the lab's own>` inside the router to its end.
    ///
    /// # Panics
    /// When there is no `pcc` ([`process::binary`]).
    pub fn pcc_output(&self, args: &[&str]) -> Output {
        self.instance.output(args)
    }

    /// Packets that took a shortcut since the data path was loaded, in tc and in XDP.
    ///
    /// # Panics
    /// Where nothing is pinned.
    pub fn shortcuts_taken(&self) -> (u64, u64) {
        let pin = format!("/sys/fs/bpf/pcc/{}/{}/{}", self.instance(), abi::ABI, abi::map::TRAFFIC);
        let dump = self.router.exec("bpftool", ["-j", "map", "dump", "pinned", &pin]);
        let entries: Vec<Value> =
            serde_json::from_str(&dump).unwrap_or_else(|error| panic!("what bpftool says: {error}"));
        let values = || entries.iter().filter_map(|entry| entry["formatted"]["values"].as_array()).flatten();
        let sum = |field: &str| values().filter_map(|value| value["value"][field].as_u64()).sum();
        (sum("shortcuts_tc"), sum("shortcuts_xdp"))
    }

    /// The router as it is, with the pins of the lab's instance.
    pub fn host_state(&self) -> HostState {
        HostState::capture(&self.router, &self.instance.name)
    }
}

impl Isp {
    /// Its namespace; the device towards the router is `eth0`.
    pub fn namespace(&self) -> &Arc<Namespace> {
        self.client.namespace()
    }

    /// Connections into the uplink. They come from the address of the server, which all ISPs share: an answer by
    /// another uplink does not arrive.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What its server saw.
    pub fn seen(&self) -> Vec<Seen> {
        self.server.seen()
    }

    /// Forgets what its server saw.
    pub fn clear(&self) {
        self.server.clear();
    }

    /// Writes down what arrives from the router, but for health checks.
    pub fn ledger(&self) -> Ledger {
        let Link { gateway4, gateway6, .. } = self.link;
        let v4 = format!("ip daddr {gateway4} icmp type echo-request");
        let v6 = format!("ip6 daddr {{ {gateway6}, fe80::/10 }} icmpv6 type echo-request");
        Ledger::open(self.namespace(), &[v4, v6])
    }

    /// Whether the router's address of the family of `like` answers a ping from beyond the uplink.
    pub fn reaches_router(&self, like: IpAddr) -> bool {
        self.client.ping(self.link.router(like))
    }
}

/// How long the lab waits for something that takes milliseconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(5);
