//! What was observed, as plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

use super::DeviceReport;
use crate::config::{Config, Paths};
use crate::fast_path::Choice;
use crate::host::device::{self, xdp};
use crate::host::linux::Details;
use crate::host::{Family, Link, MarkUse, Observed};
use crate::journal::Journal;
use crate::lease::Lease;
use crate::topology::{Topology, Uplink};

/// All that checks look at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Name of the instance in question.
    pub instance: String,
    /// The configuration laid over the host, if there is one.
    pub setup: Option<Setup>,
    /// Devices, addresses, routes and rules.
    pub observed: Observed,
    /// More about devices, by interface index.
    pub details: BTreeMap<u32, Details>,
    /// Link-layer addresses of neighbours, by interface index and address.
    pub neighbours: BTreeMap<(u32, IpAddr), Vec<u8>>,
    /// Kernel parameters by their path below `/proc/sys`; the kernel lacks others, or does not show them.
    pub sysctls: BTreeMap<String, String>,
    /// Features of the kernel and programs that are needed.
    pub kernel: Kernel,
    /// The mark bits that are, or would be, those of the instance.
    pub mark_mask: u32,
    /// First routing table and first rule priority of the instance.
    pub bases: (u32, u32),
    /// What others do with marks.
    pub marks: Option<Vec<MarkUse>>,
    /// nftables without our tables, as `nft -j list ruleset` prints it.
    pub ruleset: Option<Value>,
    /// What `iptables-save` and `ip6tables-save` print, by tool.
    pub iptables: Vec<(String, String)>,
    /// Programs that run in this network namespace, by the names that the kernel knows (15 bytes).
    pub programs: Option<BTreeSet<String>>,
    /// What systemd-networkd does with routes and rules of others: `[ManageForeignRoutes, ManageForeignRoutingPolicyRules]`.
    pub networkd: [bool; 2],
    /// Devices that NetworkManager manages.
    pub managed: BTreeSet<String>,
    /// Devices below PPPoE sessions of the kernel.
    pub pppoe: Vec<String>,
    /// What instances leave behind.
    pub remains: Remains,
    /// What could not be looked at.
    pub unseen: Vec<Unseen>,
}

/// A configuration and how it lies over the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// Its file, or `flags`.
    pub name: String,
    /// All its devices.
    pub places: Vec<Place>,
    /// What is known of those that exist, by interface index.
    pub devices: BTreeMap<u32, device::Facts>,
    /// What only a configuration with uplinks has.
    pub native: Option<Native>,
}

/// A configuration with uplinks.
#[derive(Clone, Debug, PartialEq)]
pub struct Native {
    /// What the user wrote.
    pub config: Config,
    /// It laid over the host.
    pub topology: Topology,
    /// What the firewall leaves to shortcuts.
    pub lease: Option<Lease>,
    /// Which shortcuts would be taken.
    pub choice: Option<Choice>,
}

/// A device of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub device: String,
    /// Which side it is on.
    pub role: Role,
}

/// Which side of the router a device is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Towards the clients.
    Lan,
    /// Towards an ISP.
    Uplink,
    /// An interface of a RouterOS configuration.
    Interface,
}

impl Role {
    /// Its word in messages.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Lan => "LAN device",
            Self::Uplink => "uplink",
            Self::Interface => "interface",
        }
    }
}

/// Features, by probing. `None` where that takes more rights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// `/sys/kernel/btf/vmlinux` is there.
    pub btf: bool,
    /// A BPF file system is mounted at `/sys/fs/bpf`.
    pub bpffs: bool,
    /// Control groups of version 2 are mounted.
    pub cgroup2: bool,
    /// `/sys/kernel/security/lockdown`, the mode in force.
    pub lockdown: Option<String>,
    /// The kernel runs programs by TCX.
    pub tcx: Option<bool>,
    /// It takes our programs; otherwise why not.
    pub programs: Option<Result<(), String>>,
    /// nft and the kernel take our table; otherwise why not.
    pub table: Option<Result<(), String>>,
    /// Of `nft` and `tc` those that are not in `PATH`.
    pub lacking: BTreeSet<String>,
}

/// What is left of the instance, or belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Its journal.
    pub journal: Option<Journal>,
    /// Why it cannot be read.
    pub damaged: Option<String>,
    /// A controller answers.
    pub running: bool,
    /// Its pins, by ABI; `None` where they cannot be listed.
    pub pins: Option<Vec<String>>,
}

/// Something that could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unseen {
    /// What.
    pub what: String,
    /// Why not, and what would help.
    pub why: String,
}

impl Facts {
    /// The value of a kernel parameter.
    pub fn sysctl(&self, key: &str) -> Option<&str> {
        self.sysctls.get(key).map(String::as_str)
    }

    /// A kernel parameter that is a number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.sysctl(key)?.parse().ok()
    }

    /// The value of a parameter of `device`: the larger one of `all` and its own.
    pub fn strongest(&self, family: &str, device: &str, key: &str) -> Option<u64> {
        let of = |device: &str| self.number(&format!("net/{family}/conf/{device}/{key}"));
        Some(of("all")?.max(of(device)?))
    }

    /// The configuration with uplinks.
    pub fn native(&self) -> Option<&Native> {
        self.setup.as_ref()?.native.as_ref()
    }

    /// Devices of the configuration.
    pub fn places(&self) -> &[Place] {
        self.setup.as_ref().map_or(&[], |setup| setup.places.as_slice())
    }

    /// Those that exist.
    pub fn existing(&self) -> impl Iterator<Item = (&Place, &Link)> {
        self.places().iter().filter_map(|place| Some((place, self.observed.link(&place.device)?)))
    }

    /// LAN devices that exist.
    pub fn lans(&self) -> impl Iterator<Item = &Link> {
        self.existing().filter(|(place, _)| place.role == Role::Lan).map(|(_, link)| link)
    }

    /// Uplinks whose devices exist.
    pub fn uplinks(&self) -> impl Iterator<Item = (&Uplink, &Link)> {
        let uplinks = self.native().map_or(&[][..], |native| native.topology.uplinks.as_slice());
        uplinks.iter().filter_map(|uplink| Some((uplink, uplink.link.as_ref()?)))
    }

    /// The device has an address of `family` that connections may use.
    pub fn has_address(&self, link: &Link, family: Family) -> bool {
        let usable = |it: &&crate::host::Address| it.ifindex == link.index && it.usable_source;
        self.observed.addresses.iter().filter(usable).any(|it| Family::of(it.network.addr()) == family)
    }

    /// IPv6 is not switched off.
    pub fn has_ipv6(&self) -> bool {
        self.sysctl("net/ipv6/conf/all/disable_ipv6") == Some("0")
    }

    /// The name of the device with this index.
    pub fn device(&self, ifindex: u32) -> Option<&Link> {
        self.observed.links.iter().find(|link| link.index == ifindex)
    }

    /// What the report says about devices.
    pub(super) fn device_reports(&self) -> Vec<DeviceReport> {
        const NEEDED: u64 = xdp::BASIC | xdp::REDIRECT;
        let known = |link: &Link| self.setup.as_ref().and_then(|setup| setup.devices.get(&link.index));
        self.existing()
            .map(|(place, link)| DeviceReport {
                device: link.name.clone(),
                role: place.role,
                native_xdp: known(link).and_then(|facts| facts.xdp).map(|features| features & NEEDED == NEEDED),
                shaper: known(link).and_then(|facts| facts.shaper.clone()),
            })
            .collect()
    }
}

impl Remains {
    /// What there is below `paths`, given whether a controller answers.
    pub fn read(paths: &Paths, running: bool, pins: Option<Vec<String>>) -> Self {
        match Journal::load(&paths.run) {
            Ok(journal) => Self { journal, damaged: None, running, pins },
            Err(error) => Self { journal: None, damaged: Some(format!("{error:#}")), running, pins },
        }
    }
}
