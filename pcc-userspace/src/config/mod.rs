//! What the user asked for. Flags ([`flags`]) and TOML ([`file`]) become one [`Config`], checked by [`check`].
//!
//! Checks that need the host (does the device exist, is the gateway on-link) are in [`crate::plan`].

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use pcc_ebpf::abi::MarkLayout;
use pcc_ebpf::classify::HashFields;

use crate::mirror;
use crate::problem::{Problem, Problems};

pub mod check;
pub mod file;
pub mod flags;
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
}

impl Default for Base {
    fn default() -> Self {
        Self {
            instance: Config::INSTANCE.to_owned(),
            seed: None,
            flow_entries: None,
            table_base: Config::TABLE_BASE,
            priority_base: Config::PRIORITY_BASE,
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
    /// How its health is told.
    pub check: Check,
}

impl Uplink {
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
    /// What to ping; `Gateway` by default.
    pub target: Target,
    /// Time between two pings.
    pub interval: Duration,
    /// Time until an unanswered ping is lost.
    pub timeout: Duration,
    /// Lost pings in a row that declare the uplink down, and answered ones in a row that bring it back.
    pub count: u32,
}

/// What a health check pings.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The next hop of each family; an uplink without one is judged by its carrier alone.
    Gateway,
    /// These addresses instead, at most one of each family.
    Addresses(Vec<std::net::IpAddr>),
    /// Carrier only.
    Carrier,
}

impl Default for Check {
    /// A silent gateway is declared down 1.6 s after its last answer at the latest.
    fn default() -> Self {
        Self {
            target: Target::Gateway,
            interval: Duration::from_millis(400),
            timeout: Duration::from_millis(400),
            count: 3,
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
}

impl Paths {
    /// The paths of `instance`.
    pub fn of(instance: &str) -> Self {
        Self { run: PathBuf::from("/run/pcc").join(instance), pins: PathBuf::from("/sys/fs/bpf/pcc").join(instance) }
    }
}
