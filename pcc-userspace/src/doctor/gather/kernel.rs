//! Features, by trying them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{env, fs};

use super::{Facts, words};
use crate::config::Config;
use crate::config::file::Source;
use crate::config::flags::ConfigFlags;
use crate::dataplane::probe;
use crate::doctor::facts::Kernel;
use crate::host::{Observed, nft};
use crate::plan::Standing;
use crate::problem::NEEDED_RIGHTS;
use crate::ruleset;
use crate::sources::UsualSources;
use crate::topology::{self, Topology};

/// Programs that pcc may call.
const TOOLS: [&str; 2] = ["nft", "tc"];
/// Bits of capabilities: `CAP_NET_ADMIN`, `CAP_SYS_ADMIN`, `CAP_BPF`.
const NET_ADMIN: u64 = 1 << 12;
const SYS_ADMIN: u64 = 1 << 21;
const BPF: u64 = 1 << 39;

/// Fills [`Kernel`]. `script` is the table that the configuration would make, where it is known.
pub(super) fn probe(facts: &mut Facts, script: Option<String>) {
    let rights = fs::read_to_string("/proc/thread-self/status").ok().and_then(|text| effective(&text)).unwrap_or(0);
    let mut kernel = Kernel {
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        bpffs: probe::has_bpffs(),
        cgroup2: probe::has_cgroup2(),
        lockdown: fs::read_to_string("/sys/kernel/security/lockdown").ok().and_then(|modes| in_force(&modes)),
        lacking: TOOLS
            .iter()
            .filter(|tool| !is_installed(tool))
            .map(|tool| (*tool).to_owned())
            .collect::<BTreeSet<_>>(),
        ..Kernel::default()
    };
    let may_administer = rights & NET_ADMIN != 0;
    if may_administer && rights & (SYS_ADMIN | BPF) != 0 {
        kernel.tcx = Some(probe::has_tcx());
        kernel.programs = Some(probe::load().map_err(|error| format!("{error:#}")));
    } else {
        facts.miss("whether the kernel takes the programs", NEEDED_RIGHTS);
    }
    if may_administer && !kernel.lacking.contains("nft") {
        let script = script.unwrap_or_else(|| table(facts));
        kernel.table = Some(nft::check(&script).map_err(|error| words(&error)));
    } else {
        let why = if may_administer { "`nft` is not installed" } else { NEEDED_RIGHTS };
        facts.miss("whether nft and the kernel take the table", why);
    }
    facts.kernel = kernel;
}

/// The transaction of the configuration, or one of any.
fn table(facts: &Facts) -> String {
    if let Some(native) = facts.native() {
        return create(&native.config, &native.topology, &facts.observed);
    }
    let flags = ConfigFlags {
        wan: vec!["wan".to_owned()],
        lan: vec!["lan".to_owned()],
        instance: Some(facts.instance.clone()),
        ..ConfigFlags::default()
    };
    let observed = Observed::default();
    let of = |config: &Config| {
        create(
            config,
            &topology::resolve(config, &topology::assign_ids(config, &BTreeMap::new()), &observed),
            &observed,
        )
    };
    // An odd name of an instance has no table.
    Config::build(&flags, Source::default()).map(|config| of(&config)).unwrap_or_default()
}

fn create(config: &Config, topology: &Topology, observed: &Observed) -> String {
    let standing = Standing::default();
    ruleset::create(&ruleset::State {
        config,
        topology,
        standing: &standing,
        ending: &BTreeSet::new(),
        weights: &crate::instance::weights(topology),
        sources: &UsualSources::of(topology, &standing.taking, observed),
    })
}

/// Effective capabilities, from `/proc/<pid>/status`.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The mode in brackets.
fn in_force(modes: &str) -> Option<String> {
    Some(modes.split_once('[')?.1.split_once(']')?.0.to_owned())
}

fn is_installed(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_and_modes_are_read() {
        assert_eq!(effective("Name:\tpcc\nCapInh:\t0\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(effective(""), None);
        assert_eq!(in_force("none [integrity] confidentiality\n"), Some("integrity".into()));
        assert_eq!(in_force(""), None);
    }

    #[test]
    fn without_a_configuration_there_is_a_table_to_try() {
        let facts = Facts { instance: "x".into(), ..Facts::default() };
        assert!(table(&facts).contains("table inet pcc-x {"));
    }
}
