//! What a lab can have.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::wire::Kind;

/// What a lab shall have.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    pub(super) uplinks: u32,
    pub(super) ipv6: bool,
    pub(super) defaults: Defaults,
    pub(super) same_gateway: bool,
    pub(super) second_lan: bool,
    pub(super) inner_network: bool,
    pub(super) port_forward: bool,
    pub(super) kinds: BTreeMap<u32, Kind>,
    pub(super) mtus: Vec<(u32, u32)>,
    pub(super) prefix: Option<String>,
    pub(super) program: Option<PathBuf>,
    pub(super) whole_frames: bool,
}

/// The default routes that main has before `pcc` starts, for both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defaults {
    /// By uplink 1, metric 100.
    First,
    /// By every uplink, metric 100 times its number, as DHCP clients leave them.
    All,
    /// None.
    None,
}

/// The fast path of every `pcc run` that does not say which: `PCC_FAST_PATH`.
pub(super) fn fast_path() -> Option<String> {
    std::env::var("PCC_FAST_PATH").ok().filter(|mode| !mode.is_empty())
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            uplinks: 2,
            ipv6: true,
            defaults: Defaults::First,
            same_gateway: false,
            second_lan: false,
            inner_network: false,
            port_forward: false,
            kinds: BTreeMap::new(),
            mtus: Vec::new(),
            prefix: None,
            program: None,
            whole_frames: fast_path().is_some_and(|mode| mode == "xdp"),
        }
    }
}

impl Builder {
    /// Number of uplinks, 1 to 8.
    pub fn uplinks(mut self, count: u32) -> Self {
        assert!((1..=8).contains(&count), "a lab has 1 to 8 uplinks");
        self.uplinks = count;
        self
    }

    /// Without IPv6: it is disabled in every namespace.
    pub fn without_ipv6(mut self) -> Self {
        self.ipv6 = false;
        self
    }

    /// Main's default routes.
    pub fn defaults(mut self, defaults: Defaults) -> Self {
        self.defaults = defaults;
        self
    }

    /// All ISPs hand out the network of uplink 1 and the same gateway address; the router's own addresses differ.
    pub fn same_gateway(mut self) -> Self {
        self.same_gateway = true;
        self
    }

    /// A second client on `lan2`.
    pub fn second_lan(mut self) -> Self {
        self.second_lan = true;
        self
    }

    /// Another router behind the device `site`, and static routes in main to `198.19.0.0/24` and `2001:db8:f::/64`
    /// behind it.
    pub fn inner_network(mut self) -> Self {
        self.inner_network = true;
        self
    }

    /// A table of the user's own in the router that forwards TCP and UDP [`super::address::FORWARDED_PORT`] of every
    /// uplink to the client.
    pub fn port_forward(mut self) -> Self {
        self.port_forward = true;
        self
    }

    /// Uplink `number` is a tun device: point-to-point, no Ethernet header, default routes without a gateway.
    pub fn tun(mut self, number: u32) -> Self {
        self.kinds.insert(number, Kind::Tun);
        self
    }

    /// Uplink `number` is a VLAN device on the veth `port<number>`, the ISP's `eth0` one on its `port`. Not every
    /// kernel has them.
    pub fn vlan(mut self, number: u32) -> Self {
        self.kinds.insert(number, Kind::Vlan);
        self
    }

    /// Uplink `number` is a PPPoE session over the veth `port<number>`: point-to-point, no Ethernet header, default
    /// routes without a gateway. It takes `pppd`, `pppoe-server` and a kernel with PPP.
    pub fn pppoe(mut self, number: u32) -> Self {
        self.kinds.insert(number, Kind::Pppoe);
        self
    }

    /// The MTU of both ends of uplink `number`; 1,280 or more keeps IPv6 alive.
    pub fn mtu(mut self, number: u32, bytes: u32) -> Self {
        self.mtus.push((number, bytes));
        self
    }

    /// A prefix for the namespaces instead of `pcc<process id>-<count>`. It is also the name of the instance, so it
    /// has at most 32 of `[a-z0-9_-]`. Nothing sweeps such a lab when the process is killed.
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = Some(prefix.to_owned());
        self
    }

    /// The `pcc` that the lab runs, instead of the one that [`process::binary`](super::process::binary) finds.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// The other ends of the router's cables finish their checksums, as a frame from a network card has one, and take frames that
    /// XDP redirects.
    pub fn whole_frames(mut self) -> Self {
        self.whole_frames = true;
        self
    }

    pub(super) fn kind(&self, number: u32) -> Kind {
        self.kinds.get(&number).copied().unwrap_or(Kind::Veth)
    }
}
