//! The flags that `run`, `plan` and `check` share. They are laid over what the file says.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use super::file::{At, Draft, Place, TargetDraft, Targets, UplinkDraft, Word};
use crate::names;
use crate::problem::Problem;
use crate::routeros::dialect::Dialect;

/// Configuration by flags.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Configuration")]
pub struct ConfigFlags {
    /// Configuration file: TOML, or a RouterOS script or export (`.rsc`).
    ///
    /// Flags are laid over it: `--wan` and `--lan` replace the lists of the file, though an uplink that the file
    /// describes keeps its settings; `--bypass` adds to the file; every other flag overrides the file's value.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Uplink devices, in order: `eth0,eth1`. May be repeated.
    #[arg(long, value_name = "DEVICES", value_delimiter = ',')]
    pub wan: Vec<String>,

    /// LAN devices: `eth2,eth3`. May be repeated.
    #[arg(long, value_name = "DEVICES", value_delimiter = ',')]
    pub lan: Vec<String>,

    /// Weights of the uplinks, in the order of `--wan` or of the file: `3,1`. 0 to 1000 each, 1 unless given.
    ///
    /// An uplink with weight 0 takes no new connections from the LAN but answers those that come in on it.
    #[arg(long, value_name = "WEIGHTS", value_delimiter = ',')]
    pub weights: Vec<i64>,

    /// What is hashed, in RouterOS's words [default: both-addresses].
    ///
    /// One of src-address, dst-address, both-addresses, src-port, dst-port, both-ports, src-address-and-port,
    /// dst-address-and-port, both-addresses-and-ports.
    #[arg(long, value_name = "FIELDS")]
    pub hash: Option<String>,

    /// Next hop of an uplink: `eth0=192.0.2.1`, `eth0=fe80::1`. May be repeated.
    ///
    /// Without it the next hop is that of the default route that the device has.
    #[arg(long, value_name = "UPLINK=ADDRESS")]
    pub gateway: Vec<Assignment>,

    /// Address translation of an uplink: `eth0=masquerade` (the default) or `eth0=none`. May be repeated.
    #[arg(long, value_name = "UPLINK=NAT")]
    pub nat: Vec<Assignment>,

    /// Largest TCP segment by an uplink, in both directions: `eth0=clamp` (what its MTU has room for) or `eth0=1400`.
    /// May be repeated.
    ///
    /// The number is that of IPv4, 536 to 65495; of IPv6 it is 20 less. Without it segments are left alone.
    #[arg(long, value_name = "UPLINK=SIZE")]
    pub mss: Vec<Assignment>,

    /// What the health check of an uplink asks: `eth0=1.1.1.1`, `eth0=gateway` or `eth0=carrier`. May be repeated.
    ///
    /// `gateway` (the default) pings the next hop of each family, `neighbour` asks for it by ARP and neighbour discovery, an
    /// address is pinged, and `tcp://192.0.2.9:443`, `http://192.0.2.9/`, `https://192.0.2.9/` and
    /// `dns://192.0.2.9/example.org` ask servers; `carrier` asks nothing. Several are separated by commas:
    /// `eth0=gateway,tcp://1.1.1.1:443,tcp://[2606:4700:4700::1111]:443`. A comma within a URL is written `%2C`.
    #[arg(long, value_name = "UPLINK=TARGET")]
    pub check: Vec<Assignment>,

    /// Time between two probes of a target, 50ms to 1h [default: 300ms].
    #[arg(long, value_name = "TIME")]
    pub check_interval: Option<String>,

    /// Time until an unanswered probe is lost, 10ms to 1m [default: 400ms].
    #[arg(long, value_name = "TIME")]
    pub check_timeout: Option<String>,

    /// Lost probes in a row that take an uplink down, 1 to 100 [default: 4].
    #[arg(long, value_name = "NUMBER")]
    pub check_losses: Option<i64>,

    /// Answered probes in a row that bring an uplink back, 1 to 100 [default: 3].
    #[arg(long, value_name = "NUMBER")]
    pub check_answers: Option<i64>,

    /// Balance the router's own connections as well.
    #[arg(long)]
    pub balance_router: bool,

    /// Destinations that are never balanced: `10.0.0.0/8,2001:db8::/32`. May be repeated.
    #[arg(long, value_name = "PREFIXES", value_delimiter = ',')]
    pub bypass: Vec<String>,

    /// Seed of the hash, 0 to 4294967295 [default: derived from the boot id].
    ///
    /// The same seed on two routers gives the same choice of uplinks.
    #[arg(long, value_name = "NUMBER", value_parser = number)]
    pub seed: Option<i64>,

    /// The bits of packet and conntrack marks that are pcc's: 4 to 9 adjacent ones [default: 0xff].
    #[arg(long, value_name = "MASK", value_parser = number)]
    pub mark_mask: Option<i64>,

    /// Entries of the flow cache, 64 to 16777216 [default: derived from nf_conntrack_max].
    #[arg(long, value_name = "NUMBER", value_parser = number)]
    pub flow_entries: Option<i64>,

    /// Shortcuts of established connections past the stack: auto, xdp, tc or off [default: auto].
    ///
    /// `auto` chooses XDP for devices whose drivers do it natively, where no shaper is gone around, and tc for others;
    /// `xdp` chooses it for virtual devices too. `pcc status` says which pair of devices has what, and why.
    #[arg(long, value_name = "KIND")]
    pub fast_path: Option<String>,

    /// Shortcuts that are remembered, 64 to 16777216 [default: as many as the flow cache has entries].
    #[arg(long, value_name = "NUMBER", value_parser = number)]
    pub shortcut_entries: Option<i64>,

    /// Serve metrics by HTTP at an address or a socket: `127.0.0.1:9199`, `[::1]:9199`, `unix:/run/pcc/metrics.sock` [default: off].
    ///
    /// `pcc metrics` prints them without it.
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<String>,

    /// Linux devices of a RouterOS script's interfaces: `ether1=eth0,bridge=br-lan`. May be repeated.
    ///
    /// An interface that has the name of a device of this host needs no mapping.
    #[arg(long, value_name = "INTERFACE=DEVICE", value_delimiter = ',', help_heading = "RouterOS scripts")]
    pub map: Vec<Assignment>,

    /// RouterOS version of a script that does not tell it: v6 or v7.
    #[arg(long, value_name = "VERSION", value_parser = dialect, help_heading = "RouterOS scripts")]
    pub dialect: Option<Dialect>,

    /// Add the addresses of a RouterOS script that the host lacks, and remove them at the end.
    #[arg(long, help_heading = "RouterOS scripts")]
    pub addresses: bool,

    /// Name of the instance, which separates lock, socket, pins and nftables table [default: default].
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
}

/// `UPLINK=VALUE`, the uplink by device or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Device or name.
    pub uplink: String,
    /// The rest.
    pub value: String,
}

impl FromStr for Assignment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (uplink, value) = text.split_once('=').ok_or("expected `UPLINK=VALUE`")?;
        Ok(Self { uplink: uplink.to_owned(), value: value.to_owned() })
    }
}

impl ConfigFlags {
    /// The file at `path` is a RouterOS script.
    pub fn names_script(&self, path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("rsc"))
    }

    /// Linux devices by interface.
    pub fn mapping(&self) -> impl Iterator<Item = (String, String)> {
        self.map.iter().map(|map| (map.uplink.clone(), map.value.clone()))
    }

    /// Refuses the flags that only scripts have.
    pub fn script_only(&self, reason: &str) -> Vec<Problem> {
        let given =
            [("--map", !self.map.is_empty()), ("--dialect", self.dialect.is_some()), ("--addresses", self.addresses)];
        let refuse = |flag: &str| Problem::new(format!("`{flag}` {reason}"), "`--config FILE.rsc` names one");
        given.iter().filter(|(_, given)| *given).map(|(flag, _)| refuse(flag)).collect()
    }

    /// Refuses the flags that scripts answer themselves.
    pub fn native_only(&self) -> Vec<Problem> {
        let given = [
            ("--wan", !self.wan.is_empty()),
            ("--lan", !self.lan.is_empty()),
            ("--weights", !self.weights.is_empty()),
            ("--hash", self.hash.is_some()),
            ("--gateway", !self.gateway.is_empty()),
            ("--nat", !self.nat.is_empty()),
            ("--mss", !self.mss.is_empty()),
            ("--check", !self.check.is_empty()),
            ("--check-timeout", self.check_timeout.is_some()),
            ("--check-losses", self.check_losses.is_some()),
            ("--check-answers", self.check_answers.is_some()),
            ("--balance-router", self.balance_router),
            ("--bypass", !self.bypass.is_empty()),
            ("--fast-path", self.fast_path.as_deref().is_some_and(|word| !["auto", "off"].contains(&word))),
            ("--shortcut-entries", self.shortcut_entries.is_some()),
        ];
        let refuse = |flag: &str| {
            Problem::new(
                format!("`{flag}` does not go with a RouterOS script"),
                "change the script, or leave the flag out",
            )
        };
        given.iter().filter(|(_, given)| *given).map(|(flag, _)| refuse(flag)).collect()
    }

    /// Lays the flags over `draft`. The problems are those that only flags can have.
    pub fn apply(&self, draft: &mut Draft) -> Vec<Problem> {
        if !self.wan.is_empty() {
            let described = std::mem::take(&mut draft.uplink);
            draft.uplink = self.wan.iter().map(|device| wanted_uplink(device, &described)).collect();
        }
        if !self.lan.is_empty() {
            draft.lan = self.lan.iter().map(|device| At::flag("--lan", device.clone())).collect();
        }
        draft.bypass.extend(self.bypass.iter().map(|prefix| At::flag("--bypass", prefix.clone())));
        set("--hash", self.hash.as_ref(), &mut draft.hash);
        set("--seed", self.seed.as_ref(), &mut draft.seed);
        set("--mark-mask", self.mark_mask.as_ref(), &mut draft.mark_mask);
        set("--flow-entries", self.flow_entries.as_ref(), &mut draft.flow_entries);
        set("--instance", self.instance.as_ref(), &mut draft.instance);
        set("--fast-path", self.fast_path.as_ref(), &mut draft.fast_path);
        set("--shortcut-entries", self.shortcut_entries.as_ref(), &mut draft.shortcut_entries);
        set("--metrics", self.metrics.as_ref(), &mut draft.metrics);
        if self.balance_router {
            draft.balance_router = Some(At::flag("--balance-router", true));
        }
        for uplink in &mut draft.uplink {
            set("--check-interval", self.check_interval.as_ref(), &mut uplink.check.interval);
            set("--check-timeout", self.check_timeout.as_ref(), &mut uplink.check.timeout);
            set("--check-losses", self.check_losses.as_ref(), &mut uplink.check.losses);
            set("--check-answers", self.check_answers.as_ref(), &mut uplink.check.answers);
        }

        let mut problems = Vec::new();
        problems.extend(self.apply_weights(&mut draft.uplink));
        problems.extend(each("--gateway", &self.gateway, &mut draft.uplink, |uplink, at| {
            let family = if at.value.parse::<Ipv6Addr>().is_ok() { &mut uplink.gateway6 } else { &mut uplink.gateway };
            *family = Some(at);
        }));
        problems.extend(each("--nat", &self.nat, &mut draft.uplink, |uplink, at| uplink.nat = Some(at)));
        problems.extend(each("--mss", &self.mss, &mut draft.uplink, |uplink, at| {
            uplink.mss = Some(At { value: Word(at.value), place: at.place });
        }));
        problems.extend(each("--check", &self.check, &mut draft.uplink, |uplink, at| {
            let mut targets = match uplink.check.target.take() {
                Some(At { value: Targets::Many(targets), place: Place::Flag(_) }) => targets,
                _ => Vec::new(),
            };
            let words = at.value.split(',').map(|word| TargetDraft::Word(word.to_owned()));
            targets.extend(words.map(|value| At { value, place: at.place }));
            uplink.check.target = Some(At { value: Targets::Many(targets), place: at.place });
        }));
        problems
    }

    fn apply_weights(&self, uplinks: &mut [UplinkDraft]) -> Option<Problem> {
        if self.weights.is_empty() {
            return None;
        }
        for (uplink, weight) in uplinks.iter_mut().zip(&self.weights) {
            uplink.weight = Some(At::flag("--weights", *weight));
        }
        (uplinks.len() != self.weights.len()).then(|| {
            let devices: Vec<_> = uplinks.iter().map(|uplink| uplink.device.value.as_str()).collect();
            Problem::new(
                format!(
                    "`--weights`: {} given for {}",
                    count(self.weights.len(), "weight"),
                    count(uplinks.len(), "uplink")
                ),
                format!("give one for each of `{}`, in this order", devices.join(",")),
            )
        })
    }
}

/// The uplink of the file with this device, or a new one.
fn wanted_uplink(device: &str, described: &[UplinkDraft]) -> UplinkDraft {
    let found = described.iter().find(|uplink| uplink.device.value == device);
    found.cloned().unwrap_or_else(|| UplinkDraft::new(At::flag("--wan", device.to_owned())))
}

fn set<T: Clone>(flag: &'static str, given: Option<&T>, field: &mut Option<At<T>>) {
    if let Some(value) = given {
        *field = Some(At::flag(flag, value.clone()));
    }
}

/// Applies assignments to the uplinks that they name.
fn each(
    flag: &'static str,
    assignments: &[Assignment],
    uplinks: &mut [UplinkDraft],
    mut apply: impl FnMut(&mut UplinkDraft, At<String>),
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for Assignment { uplink: wanted, value } in assignments {
        let by_device = uplinks.iter().position(|uplink| uplink.device.value == *wanted);
        let by_name =
            || uplinks.iter().position(|uplink| uplink.name.as_ref().is_some_and(|name| name.value == *wanted));
        match by_device.or_else(by_name) {
            Some(index) => apply(&mut uplinks[index], At::flag(flag, value.clone())),
            None => {
                let names = uplinks.iter().filter_map(|uplink| Some(uplink.name.as_ref()?.value.as_str()));
                let known: Vec<&str> = uplinks.iter().map(|uplink| uplink.device.value.as_str()).chain(names).collect();
                let otherwise = "name a device of `--wan`, or an uplink of the configuration file";
                let hint = names::hint(wanted, &known, otherwise);
                problems.push(Problem::new(format!("`{flag}`: no uplink `{wanted}`"), hint));
            }
        }
    }
    problems
}

/// `v6` or `v7`.
pub fn dialect(text: &str) -> Result<Dialect, String> {
    match text {
        "6" | "v6" => Ok(Dialect::V6),
        "7" | "v7" => Ok(Dialect::V7),
        _ => Err("v6 or v7".to_owned()),
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A decimal number, or a hexadecimal one with `0x`. Ranges are checked later, together with those of the file.
fn number(text: &str) -> Result<i64, std::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16),
        None => text.parse(),
    }
}
