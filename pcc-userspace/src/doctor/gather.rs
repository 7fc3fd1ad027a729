//! Reads the host. Changes nothing: programs are loaded into the kernel for a moment, attached to nothing.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::Result;

use super::facts::{Facts, Native, Place, Remains, Role, Setup, Unseen};
use crate::config::flags::ConfigFlags;
use crate::config::{Config, Configuration, Paths};
use crate::dataplane::probe;
use crate::fast_path::Circumstances;
use crate::host::linux::Linux;
use crate::host::{Host as _, Link, Observed, clash, firewall, nft, sysctl};
use crate::journal::Journal;
use crate::lease::Lease;
use crate::mirror::{self, blueprint::Blueprint};
use crate::{control, ruleset, survey, topology};

pub use others::{FOREIGN, KEEPALIVED, MWAN3, NETWORKD};

mod kernel;
mod others;

/// Where a configuration is looked for if none is named.
const USUAL: &str = "/etc/pcc/pcc.toml";

/// The flags with [`USUAL`] where they name no configuration at all and that file is there.
pub fn with_usual_file(flags: ConfigFlags) -> ConfigFlags {
    let usual = Path::new(USUAL);
    let config = flags.config.clone().or_else(|| (!names_devices(&flags) && usual.exists()).then(|| usual.into()));
    ConfigFlags { config, ..flags }
}

fn names_devices(flags: &ConfigFlags) -> bool {
    flags.config.is_some() || !flags.wan.is_empty() || !flags.lan.is_empty()
}

/// Everything that the checks look at. Without a configuration only what concerns every host.
///
/// # Errors
/// The configuration has faults, or the kernel does not list its devices.
pub fn gather(flags: &ConfigFlags) -> Result<Facts> {
    let configuration = if names_devices(flags) { Some(Configuration::load(flags)?) } else { None };
    let instance = match &configuration {
        Some(Configuration::Native(config)) => config.instance.clone(),
        Some(Configuration::Mirror(config)) => config.base.instance.clone(),
        None => flags.instance.clone().unwrap_or_else(|| Config::INSTANCE.to_owned()),
    };
    let paths = Paths::of(&instance);
    let mut host = Linux::open()?;
    let observed = host.observe()?;
    let mut facts = Facts {
        details: host.details()?,
        neighbours: host.neighbours()?,
        sysctls: sysctls(&observed),
        pppoe: others::below_pppoe(),
        networkd: others::networkd(),
        remains: Remains::read(&paths, is_running(&paths.run), probe::versions(&paths.pins)),
        observed,
        instance,
        ..Facts::default()
    };
    if facts.remains.pins.is_none() {
        facts.miss(&format!("pins below {}", paths.pins.display()), "run as root");
    }
    let journal = facts.remains.journal.clone().unwrap_or_default();
    (facts.mark_mask, facts.bases) = match journal.mark_mask {
        0 => (
            u32::try_from(flags.mark_mask.unwrap_or(0xff)).unwrap_or(0xff),
            (Config::TABLE_BASE, Config::PRIORITY_BASE),
        ),
        mask => (mask, (journal.table_base, journal.priority_base)),
    };
    let mut script = None;
    if let Some(configuration) = &configuration {
        script = lay(&mut facts, flags, configuration, &journal, &mut host)?;
    }
    let table = ruleset::table_name(&facts.instance);
    kernel::probe(&mut facts, script);
    read_rules(&mut facts, &mut host, &table);
    judge_fast_path(&mut facts, &mut host, &table);
    others::look(&mut facts);
    Ok(facts)
}

/// A controller listens; that it does not want to talk to us makes no difference.
fn is_running(run: &Path) -> bool {
    match UnixStream::connect(control::socket(run)) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
    }
}

/// Lays the configuration over the host; the table that it would make, where that does not follow from [`Native`].
fn lay(
    facts: &mut Facts,
    flags: &ConfigFlags,
    configuration: &Configuration,
    journal: &Journal,
    host: &mut Linux,
) -> Result<Option<String>> {
    let name = flags.config.as_ref().map_or_else(|| "flags".to_owned(), |path| path.display().to_string());
    let place = |device: &str, role| Place { device: device.to_owned(), role };
    let mut script = None;
    let (places, native) = match configuration {
        Configuration::Native(config) => {
            facts.mark_mask = config.marks.mask();
            facts.bases = (config.table_base, config.priority_base);
            let ids = topology::assign_ids(config, &journal.ids);
            let topology = topology::resolve(config, &ids, &facts.observed);
            let uplinks = config.uplinks.iter().map(|uplink| place(&uplink.device, Role::Uplink));
            let places: Vec<Place> = uplinks.chain(config.lans.iter().map(|lan| place(lan, Role::Lan))).collect();
            (places, Some(Native { config: (**config).clone(), topology, lease: None, choice: None }))
        }
        Configuration::Mirror(config) => {
            let blueprint = draw(config, journal, &facts.observed)?;
            facts.mark_mask = blueprint.fields.mask();
            facts.bases = (config.base.table_base, config.base.priority_base);
            let places = blueprint.devices.iter().map(|device| place(&device.linux, Role::Interface)).collect();
            script = Some(blueprint.table);
            (places, None)
        }
    };
    let links: Vec<&Link> = places.iter().filter_map(|place| facts.observed.link(&place.device)).collect();
    let devices = host.device_facts(&links).unwrap_or_else(|error| {
        tracing::debug!("what drivers can do: {error:#}");
        BTreeMap::new()
    });
    facts.setup = Some(Setup { name, places, devices, native });
    Ok(script)
}

fn draw(config: &mirror::Config, journal: &Journal, observed: &Observed) -> Result<Blueprint> {
    Ok(Blueprint::draw(config, &journal.names, &journal.ids, observed)?)
}

/// The kernel parameters that checks ask for, those that are there.
fn sysctls(observed: &Observed) -> BTreeMap<String, String> {
    const HOST: [&str; 8] = [
        "net/ipv4/ip_forward",
        "net/ipv6/conf/all/forwarding",
        "net/bridge/bridge-nf-call-iptables",
        "net/bridge/bridge-nf-call-ip6tables",
        "net/netfilter/nf_conntrack_acct",
        "net/netfilter/nf_conntrack_count",
        "net/netfilter/nf_conntrack_max",
        "net/netfilter/nf_conntrack_tcp_loose",
    ];
    const DEVICE: [&str; 6] = [
        "ipv4/conf/*/accept_redirects",
        "ipv4/conf/*/forwarding",
        "ipv4/conf/*/rp_filter",
        "ipv4/conf/*/src_valid_mark",
        "ipv6/conf/*/accept_ra",
        "ipv6/conf/*/disable_ipv6",
    ];
    let names = ["all"].into_iter().chain(observed.links.iter().map(|link| link.name.as_str()));
    let of_devices = names.flat_map(|name| DEVICE.map(|key| format!("net/{}", key.replace('*', name))));
    let keys = HOST.map(str::to_owned).into_iter().chain(of_devices);
    keys.filter_map(|key| Some((key.clone(), sysctl::read(&key).ok().flatten()?))).collect()
}

/// The rules of others.
fn read_rules(facts: &mut Facts, host: &mut Linux, table: &str) {
    if facts.kernel.lacking.contains("nft") {
        return facts.miss("rules of nftables", "`nft` is not installed");
    }
    match host.mark_uses(table, &facts.observed) {
        Ok(uses) => facts.marks = Some(uses),
        Err(error) => facts.miss("who else uses marks", &words(&error)),
    }
    match nft::ruleset(|family, name| ruleset::is_own(table, family, name)) {
        Ok(ruleset) => facts.ruleset = Some(ruleset),
        Err(error) => facts.miss("rules of nftables", &words(&error)),
    }
    facts.iptables = clash::saved();
}

/// Which shortcuts the firewall and the devices allow.
fn judge_fast_path(facts: &mut Facts, host: &mut Linux, table: &str) {
    let Some(Setup { native: Some(native), .. }) = &mut facts.setup else { return };
    if facts.ruleset.is_some() {
        native.lease = Some(Lease::of(&firewall::read(table), table));
    }
    let circumstances = native
        .lease
        .clone()
        .map_or_else(Circumstances::default, |lease| Circumstances { lease, ..Circumstances::default() });
    native.choice = survey::choose(&native.config, &native.topology, host, &circumstances).ok();
}

/// An error with what would help.
fn words(error: &anyhow::Error) -> String {
    match error.downcast_ref::<crate::problem::Problem>() {
        Some(problem) => format!("{error:#}; {}", problem.hint),
        None => format!("{error:#}"),
    }
}

impl Facts {
    fn miss(&mut self, what: &str, why: &str) {
        self.unseen.push(Unseen { what: what.to_owned(), why: why.to_owned() });
    }
}
