//! What the user asked for. Flags ([`flags`]) and TOML ([`file`]) become one [`Config`], checked by [`check`].
//!
//! Checks that need the host (does the device exist, is the gateway on-link) are in [`crate::plan`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use pcc_ebpf::abi::MarkLayout;
use pcc_ebpf::classify::HashFields;

use crate::host::Family;
use crate::mirror;
use crate::problem::{Problem, Problems};

pub use listen::Listen;

pub mod check;
#[cfg(test)]
mod documented;
pub mod file;
pub mod flags;
pub mod listen;
pub mod rule;
#[cfg(test)]
mod tests;

/// A checked configuration. Every rule that does not need the host holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Separates lock, socket, pins and nftables table of several instances: 1 to 32 of `[a-z0-9_-]`.
    pub instance: String,
    /// At least one; names and devices are unique.
    pub uplinks: Vec<Uplink>,
    /// At least one LAN device, unique, none of them an uplink.
    pub lans: Vec<String>,
    /// The fields that PCC hashes.
    pub hash: HashFields,
    /// Seed of the hash; `None` derives it from the boot id, so that a restart keeps the mapping.
    pub seed: Option<u32>,
    /// Which mark bits are ours.
    pub marks: MarkLayout,
    /// Destinations that are never balanced: sorted, nested prefixes merged.
    pub bypass: Vec<IpNet>,
    /// Entries of the flow cache; `None` derives it from `nf_conntrack_max`.
    pub flow_entries: Option<u32>,
    /// First of the 100 routing tables that the instance may use.
    pub table_base: u32,
    /// First of the 100 routing rule priorities that it may use before main; below 32,666.
    pub priority_base: u32,
    /// Who takes which uplink; the first that matches decides. They fit the maps, and each of them can match.
    pub rules: Vec<rule::Rule>,
    /// The router's own new connections are balanced as well; without it they follow main, and the uplinks that are up.
    pub balance_router: bool,
    /// Program and arguments that are run for events, with the event as JSON on stdin.
    pub hook: Vec<String>,
    /// Which kind of shortcut packets of established connections may take.
    pub fast_path: FastPath,
    /// Shortcuts that are remembered in each family; `None` for as many as the flow cache has entries.
    pub shortcut_entries: Option<u32>,
    /// Where metrics are served besides the control socket.
    pub metrics: Option<Listen>,
}

/// What every kind of configuration has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// [`Config::instance`].
    pub instance: String,
    /// [`Config::seed`].
    pub seed: Option<u32>,
    /// [`Config::flow_entries`].
    pub flow_entries: Option<u32>,
    /// [`Config::table_base`].
    pub table_base: u32,
    /// [`Config::priority_base`].
    pub priority_base: u32,
    /// [`Config::metrics`].
    pub metrics: Option<Listen>,
}

impl Default for Base {
    fn default() -> Self {
        Self {
            instance: Config::INSTANCE.to_owned(),
            seed: None,
            flow_entries: None,
            table_base: Config::TABLE_BASE,
            priority_base: Config::PRIORITY_BASE,
            metrics: None,
        }
    }
}

/// Both kinds of configuration.
#[derive(Clone, Debug)]
pub enum Configuration {
    /// Uplinks and weights.
    Native(Box<Config>),
    /// A RouterOS configuration.
    Mirror(Box<mirror::Config>),
}

impl Configuration {
    /// The configuration that the flags and the file named by them describe.
    ///
    /// # Errors
    /// [`Problems`], or a file that cannot be read.
    pub fn load(flags: &flags::ConfigFlags) -> anyhow::Result<Self> {
        let Some(path) = &flags.config else {
            return Ok(Self::Native(Box::new(Config::build(flags, file::Source::default())?)));
        };
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|error| {
            Problem::new(format!("cannot read `{name}`: {error}"), "`--config` names a TOML file or a RouterOS script")
        })?;
        if flags.names_script(path) {
            return Ok(Self::Mirror(Box::new(mirror::Config::build(flags, &name, &bytes)?)));
        }
        if let Some((script, settings)) = crate::check::document(path, &bytes)? {
            return Ok(Self::Mirror(Box::new(mirror::Config::of(flags, &name, &bytes, &script, settings)?)));
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| Problem::new(format!("`{name}` is no UTF-8 text"), "TOML files are UTF-8"))?;
        Ok(Self::Native(Box::new(Config::build(flags, file::Source { name: &name, text: &text })?)))
    }
}

impl Config {
    /// Default of [`Self::instance`].
    pub const INSTANCE: &str = "default";
    /// Default of [`Self::hash`].
    pub const HASH: HashFields = HashFields::BOTH_ADDRESSES;
    /// Default of [`Self::table_base`].
    pub const TABLE_BASE: u32 = 20_500;
    /// Default of [`Self::priority_base`].
    pub const PRIORITY_BASE: u32 = 32_500;

    /// The configuration that `flags`, laid over `source`, the file (empty if there is none), describe.
    pub fn build(flags: &flags::ConfigFlags, source: file::Source<'_>) -> Result<Self, Problems> {
        let mut draft = file::parse(source).map_err(|problem| Problems(vec![problem]))?;
        let mut problems = flags.apply(&mut draft);
        problems.extend(flags.script_only("needs a RouterOS script"));
        match check::check(&draft, source) {
            Ok(config) if problems.is_empty() => return Ok(config),
            Ok(_) => {}
            Err(more) => problems.extend(more),
        }
        Err(Problems(problems))
    }
}

/// One uplink as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Uplink {
    /// What people call it; the device's name unless given. 1 to 32 of `[A-Za-z0-9._-]`.
    pub name: String,
    /// Linux device.
    pub device: String,
    /// Share of new connections in proportion to the other weights: 0 (none, but answers inbound) to 1,000.
    pub weight: u32,
    /// Fixed id in the marks; `None` lets the controller choose one and remember it.
    pub id: Option<u32>,
    /// IPv4 next hop; `None` takes the one of the default route that is there.
    pub gateway4: Option<Ipv4Addr>,
    /// IPv6 next hop; `None` takes the one of the default route that is there.
    pub gateway6: Option<Ipv6Addr>,
    /// Address translation of what leaves by it.
    pub nat: Nat,
    /// Largest TCP segment of the connections that are forwarded by it, in both directions; `None` leaves it alone.
    pub mss: Option<Mss>,
    /// Uplinks of a tier take new connections while none of an earlier tier can, as with the distance of RouterOS's routes:
    /// 1 to 255.
    pub tier: u32,
    /// What becomes of its connections when it goes down.
    pub on_down: OnDown,
    /// Clients of TCP connections that end because it goes down, is drained or disabled are told by a reset.
    pub reset_clients: bool,
    /// What becomes of its connections when an earlier tier is back.
    pub fail_back: FailBack,
    /// When it counts as degraded.
    pub degraded: Degraded,
    /// How its health is told.
    pub check: Check,
}

/// Which kind of shortcut packets of established connections may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FastPath {
    /// For each pair of devices the kind that is faster there.
    #[default]
    Auto,
    /// By XDP wherever the drivers can, by tc elsewhere.
    Xdp,
    /// By tc.
    Tc,
    /// None: all packets go through the stack.
    Off,
}

impl FastPath {
    /// All of them with their words.
    pub const WORDS: [(&str, Self); 4] =
        [("auto", Self::Auto), ("xdp", Self::Xdp), ("tc", Self::Tc), ("off", Self::Off)];

    /// Its word in files and flags.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Xdp => "xdp",
            Self::Tc => "tc",
            Self::Off => "off",
        }
    }
}

/// What becomes of the connections of an uplink that goes down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDown {
    /// They are forgotten, so that clients reconnect by another uplink.
    #[default]
    Release,
    /// They wait for its return.
    Keep,
}

/// What becomes of the connections of an uplink that is not needed any more because an earlier tier is back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailBack {
    /// They stay until they end.
    #[default]
    Keep,
    /// They are ended after this time.
    Drain(Duration),
    /// They are ended at once.
    Move,
}

/// When an uplink that works counts as degraded, each measured over the last [`Self::WINDOW`] probes of its best target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// Lost probes in percent, 1 to 100.
    pub loss: u32,
    /// Mean round-trip time above this.
    pub latency: Option<Duration>,
    /// Mean difference of one round-trip time to the next above this.
    pub jitter: Option<Duration>,
    /// What is left of its weight meanwhile, in percent: 0 to 100.
    pub weight: u32,
}

impl Degraded {
    /// Probes that are looked at.
    pub const WINDOW: usize = 50;
}

impl Default for Degraded {
    fn default() -> Self {
        Self { loss: 20, latency: None, jitter: None, weight: 50 }
    }
}

impl Uplink {
    /// An uplink of which only the device is known, with every default.
    pub fn new(device: &str) -> Self {
        Self {
            name: device.to_owned(),
            device: device.to_owned(),
            weight: Self::WEIGHT,
            id: None,
            gateway4: None,
            gateway6: None,
            nat: Nat::default(),
            mss: None,
            tier: Self::TIER,
            on_down: OnDown::default(),
            reset_clients: false,
            fail_back: FailBack::default(),
            degraded: Degraded::default(),
            check: Check::default(),
        }
    }

    /// Default of [`Self::tier`].
    pub const TIER: u32 = 1;
    /// Default of [`Self::weight`].
    pub const WEIGHT: u32 = 1;
    /// The largest weight.
    pub const MAX_WEIGHT: u32 = 1000;
}

/// Source address translation of an uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nat {
    /// The uplink's own address replaces the source.
    #[default]
    Masquerade,
    /// The source is left alone.
    None,
}

/// How far the segment size that TCP connections announce is lowered. It is never raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mss {
    /// To what the device's MTU has room for.
    Clamp,
    /// To so many bytes in IPv4, and 20 less in IPv6: 536 to 65,495.
    Bytes(u32),
}

/// Health check of one uplink. Carrier loss always counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What is asked, each by the uplink itself; empty: carrier alone is its health.
    pub targets: Vec<Target>,
    /// So many targets of a family must answer for the uplink to be up in it, at least 1. In a family with fewer targets all
    /// of them.
    pub quorum: u32,
    /// Time between two probes of a target.
    pub interval: Duration,
    /// Time until an unanswered probe is lost.
    pub timeout: Duration,
    /// Lost probes in a row after which a target is silent.
    pub losses: u32,
    /// Answered probes in a row after which it answers again.
    pub answers: u32,
    /// The longest that an uplink which goes down again and again has to answer before it is up.
    pub hold_down: Duration,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Ping the next hop of each family; an uplink without one is not probed by it.
    Gateway,
    /// Ask for the link-layer address of the next hop of each family: ARP, neighbour discovery.
    Neighbour,
    /// Ping this address.
    Ping(IpAddr),
    /// Open a TCP connection.
    Tcp(SocketAddr),
    /// Fetch a page.
    Http(Page),
    /// Ask a DNS server, by UDP, for the addresses of a name; any answer but a server failure counts.
    Dns(SocketAddr, String),
}

/// A page of a web server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// `https`; the certificate must be valid for [`Self::host`].
    pub tls: bool,
    /// Server name or address without brackets, for the `Host` header and for TLS.
    pub host: String,
    /// Where the server is: probes do not depend on DNS.
    pub address: SocketAddr,
    /// Path and query, from `/` on.
    pub path: String,
    /// The status that counts as an answer; `None`: any from 200 to 399.
    pub status: Option<u16>,
    /// What the body must contain.
    pub body: Option<String>,
}

impl Target {
    /// The only family that it is asked in; `None` for both.
    pub fn family(&self) -> Option<Family> {
        match self {
            Self::Gateway | Self::Neighbour => None,
            Self::Ping(address) => Some(Family::of(*address)),
            Self::Tcp(address) | Self::Dns(address, _) | Self::Http(Page { address, .. }) => {
                Some(Family::of(address.ip()))
            }
        }
    }
}

impl Default for Check {
    fn default() -> Self {
        Self {
            targets: vec![Target::Gateway],
            quorum: 1,
            interval: Duration::from_millis(300),
            timeout: Duration::from_millis(400),
            losses: 4,
            answers: 3,
            hold_down: Duration::from_secs(60),
        }
    }
}

/// Where an instance keeps its things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// `/run/pcc/<instance>`: lock, control socket, journal of what to restore.
    pub run: PathBuf,
    /// `/sys/fs/bpf/pcc/<instance>`: pins, in a directory per ABI number.
    pub pins: PathBuf,
    /// `/var/lib/pcc/<instance>`: what was changed by hand and outlives a restart.
    pub state: PathBuf,
}

impl Paths {
    /// The paths of `instance`.
    pub fn of(instance: &str) -> Self {
        let below = |folder: &str| PathBuf::from(folder).join(instance);
        Self { run: below("/run/pcc"), pins: below("/sys/fs/bpf/pcc"), state: below("/var/lib/pcc") }
    }
}
