//! Reads the host and says what a start of a RouterOS configuration would do, without doing it.

use std::collections::BTreeSet;

use anyhow::Result;
use ipnet::IpNet;
use pcc_ebpf::abi::Device;

use super::Config;
use super::blueprint::Blueprint;
use super::routes::WatchKey;
use crate::config::Paths;
use crate::dataplane::Side;
use crate::host::{Change, Family, Host, Observed, clash};
use crate::journal::Journal;
use crate::plan;
use crate::problem::{Problem, Problems};
use crate::routeros::Severity;
use crate::ruleset;
use crate::survey::{Step, waits};
use crate::topology;

/// What was read, and what follows from it.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The host.
    pub observed: Observed,
    /// The configuration, compiled for it.
    pub blueprint: Blueprint,
    /// The journal as it will be, without the settings that the steps will save.
    pub journal: Journal,
    /// What a start does, in order.
    pub steps: Vec<Step>,
    /// What the operator should know, one line each.
    pub warnings: Vec<String>,
    /// Devices that are waited for.
    pub missing: Vec<Problem>,
}

/// Surveys the host for `config`, while what is in `down` does not answer.
///
/// # Errors
/// [`Problems`] for everything that cannot be mirrored here.
pub fn survey(config: &Config, paths: &Paths, host: &mut dyn Host, down: &BTreeSet<WatchKey>) -> Result<Survey> {
    let observed = host.observe()?;
    let known = Journal::load(&paths.run)?;
    let (table_base, priority_base) = (config.base.table_base, config.base.priority_base);
    let taken = known.is_none() && !plan::clear_routing(table_base, priority_base, &observed).is_empty();
    let mut journal = known.unwrap_or_default();
    if !journal.is_free_for(true) {
        return Err(Journal::refuse_other_kind(&config.base.instance).into());
    }
    let blueprint = Blueprint::draw(config, &journal.names, &journal.ids, &observed)?;
    let mut problems = Vec::new();
    if taken {
        problems.push(plan::tables_taken(table_base, priority_base));
    }
    if journal.layout.is_some_and(|layout| layout != blueprint.layout()) {
        problems.push(Problem::new(
            "the marks of this configuration do not fit those of the connections that the running data path has",
            format!("`pcc down --instance {}` lets go of them", config.base.instance),
        ));
    }
    let table = ruleset::table_name(&config.base.instance);
    let clashes = clash::clashes(&host.mark_uses(&table, &observed)?, blueprint.fields.mask());
    problems.extend(clashes.refused);
    if !problems.is_empty() {
        return Err(Problems(problems).into());
    }
    let mut warnings = clashes.warnings;
    let missing = blueprint.devices.iter().filter(|device| observed.link(&device.linux).is_none());
    let missing: Vec<Problem> = missing
        .map(|device| {
            let problem = topology::no_device(&device.linux, &observed);
            Problem { message: format!("{} for `{}`", problem.message, device.interface), ..problem }
        })
        .collect();
    warnings.extend(missing.iter().map(waits));
    let notes = blueprint.notes.iter().filter(|note| note.severity == Severity::Warning);
    warnings.extend(notes.map(|note| format!("{}:{}: {}", config.name, note.span.line, note.message)));
    journal.mark_mask = blueprint.fields.mask();
    (journal.table_base, journal.priority_base) = (table_base, priority_base);
    journal.mirror = true;
    journal.layout = Some(blueprint.layout());
    journal.names = blueprint.names.remembering(&journal.names);
    journal.ids = blueprint.devices.iter().map(|device| (device.interface.clone(), device.number)).collect();

    let mut steps = vec![Step::Load { pins: paths.pins.display().to_string() }];
    let lacking = missing_addresses(config, &blueprint, &observed);
    if config.addresses {
        journal.add_addresses(&lacking);
        let add = |(device, address)| Step::Change(Change::AddAddress { device, address });
        steps.extend(lacking.into_iter().map(add));
    } else {
        warnings.extend(lacking.iter().map(|(device, address)| {
            format!("`{device}` lacks the script's address `{address}`; `--addresses` adds what is missing")
        }));
    }
    let current = |key: &str| host.sysctl(key).ok().flatten();
    let sysctls = sysctls(&blueprint, &observed, current);
    steps.extend(sysctls.into_iter().map(|(key, value)| Step::Change(Change::Sysctl { key, value })));
    steps.extend(blueprint.reconcile(config, &observed, down).into_iter().map(Step::Change));
    if host.table_comment(&table)?.is_none_or(|comment| comment != blueprint.fingerprint) {
        let script = blueprint.table.clone();
        steps.push(Step::Change(Change::Nft { summary: format!("table inet {table}"), script }));
    }
    steps.extend(attachments(&blueprint, &observed));
    journal.devices.extend(blueprint.links(&observed).map(|(link, _)| link.name.clone()));
    journal.devices.sort();
    journal.devices.dedup();
    Ok(Survey { observed, blueprint, journal, steps, warnings, missing })
}

/// One [`Step::Attach`] for every device that exists.
pub fn attachments(blueprint: &Blueprint, observed: &Observed) -> Vec<Step> {
    let attach = |(link, number): (&crate::host::Link, u32)| Step::Attach {
        link: link.clone(),
        side: Side::Mirror,
        device: Device { uplink: number, header_length: link.header_length(), number, ..Device::default() },
    };
    blueprint.links(observed).map(attach).collect()
}

/// The kernel settings that mirroring needs, where `current` differs: forwarding, and reverse-path filters that are loose at
/// least, as RouterOS has none by default.
pub fn sysctls(
    blueprint: &Blueprint,
    observed: &Observed,
    current: impl Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    let mut wanted = Vec::new();
    let mut want = |key: String, value: &str| {
        if current(&key).is_some_and(|now| now != value) {
            wanted.push((key, value.to_owned()));
        }
    };
    let families = blueprint.routing.families();
    let strict = |name: &str| current(&format!("net/ipv4/conf/{name}/rp_filter")).is_some_and(|value| value == "1");
    for (link, _) in blueprint.links(observed) {
        if strict("all") || strict(&link.name) {
            want(format!("net/ipv4/conf/{}/rp_filter", link.name), "2");
        }
        let accept_ra = format!("net/ipv6/conf/{}/accept_ra", link.name);
        if families.contains(&Family::V6) && current(&accept_ra).is_some_and(|value| value == "1") {
            want(accept_ra, "2");
        }
    }
    if families.contains(&Family::V4) {
        want("net/ipv4/ip_forward".to_owned(), "1");
    }
    if families.contains(&Family::V6) {
        want("net/ipv6/conf/all/forwarding".to_owned(), "1");
    }
    wanted
}

/// The script's addresses that mapped devices of the host lack.
pub fn missing_addresses(config: &Config, blueprint: &Blueprint, observed: &Observed) -> Vec<(String, IpNet)> {
    let addresses = config.model.addresses.iter().filter(|address| !address.item.disabled());
    let missing = addresses.filter_map(|address| {
        let link = observed.link(&blueprint.devices.get(&address.interface)?.linux)?;
        let has = |known: &crate::host::Address| {
            known.ifindex == link.index && known.network.addr() == address.address.addr()
        };
        (!observed.addresses.iter().any(has)).then(|| (link.name.clone(), address.address))
    });
    missing.collect()
}
