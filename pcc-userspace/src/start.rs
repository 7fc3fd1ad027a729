//! The steps of a start, performed.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use pcc_ebpf::abi::{Device, Settings};

use crate::config::{Config, Paths};
use crate::dataplane::{self, DataPlane, Side, Sizes};
use crate::host::{Change, Host, Link, Observed};
use crate::instance::{tables, weights, write_uplinks};
use crate::journal::{Journal, side_effects};
use crate::plan::Standing;
use crate::rules;
use crate::survey::{Step, Survey};
use crate::topology::Topology;

/// Seconds after which a cached decision of an idle flow that is not TCP is made anew: conntrack's own timeout of a
/// UDP flow without answer.
pub const IDLE_SECONDS: u32 = 30;
/// Bounds of the flow cache when it is sized from `nf_conntrack_max`.
const FLOW_ENTRIES: std::ops::RangeInclusive<u32> = 16_384..=1_048_576;

/// Performs `steps` in their order on the host that `observed` describes. `load` loads the programs and fills their maps.
/// `before` is asked before each step; its error makes that step fail.
pub fn perform(
    steps: &[Step],
    observed: &Observed,
    paths: &Paths,
    host: &mut dyn Host,
    journal: &mut Journal,
    load: &mut dyn FnMut(&dyn Host) -> Result<DataPlane>,
    before: &mut dyn FnMut(&Step) -> Result<()>,
) -> Result<DataPlane> {
    journal.store(&paths.run)?;
    let mut plane = None;
    for step in steps {
        before(step).with_context(|| step.to_string())?;
        tracing::debug!("{step}");
        match step {
            Step::Load { .. } => plane = Some(load(host)?),
            Step::Change(change) => {
                write_down(change, observed, paths, host, journal)?;
                host.apply(change)?;
            }
            Step::Attach { link, side, device } => {
                let plane = plane.as_mut().context("the programs are not loaded")?;
                attach(plane, journal, paths, link, *side, *device)?;
            }
        }
    }
    let mut plane = plane.context("the programs are not loaded")?;
    plane.detach_others(&steps.iter().filter_map(Step::attachment).collect::<Vec<_>>())?;
    dataplane::remove_other_versions(&paths.pins)?;
    Ok(plane)
}

/// The changes of the host among `steps`, performed.
pub fn apply_changes(
    steps: &[Step],
    observed: &Observed,
    paths: &Paths,
    host: &mut dyn Host,
    journal: &mut Journal,
) -> Result<()> {
    for step in steps {
        let Step::Change(change) = step else { continue };
        tracing::debug!("{step}");
        write_down(change, observed, paths, host, journal)?;
        host.apply(change)?;
    }
    Ok(())
}

/// Writes down what `change` would overwrite for good: a kernel setting, and what the kernel changes along with it.
pub fn write_down(
    change: &Change,
    observed: &Observed,
    paths: &Paths,
    host: &dyn Host,
    journal: &mut Journal,
) -> Result<()> {
    let Change::Sysctl { key, value } = change else { return Ok(()) };
    save_setting(host, observed, journal, key, value)?;
    journal.store(&paths.run)
}

/// The attachments among `steps`, performed; what they do not name is detached.
pub fn attach_all(steps: &[Step], plane: &mut DataPlane, journal: &mut Journal, paths: &Paths) -> Result<()> {
    for step in steps {
        if let Step::Attach { link, side, device } = step {
            tracing::debug!("{step}");
            attach(plane, journal, paths, link, *side, *device)?;
        }
    }
    plane.detach_others(&steps.iter().filter_map(Step::attachment).collect::<Vec<_>>())
}

/// Attaches the programs of `side` to a device, and writes down a clsact qdisc that this needed, also where it failed
/// afterwards. One that an earlier run made counts too: it is removed by the run that ends, whoever made it.
pub fn attach(
    plane: &mut DataPlane,
    journal: &mut Journal,
    paths: &Paths,
    link: &Link,
    side: Side,
    device: Device,
) -> Result<()> {
    let attached = plane.attach(&link.name, link.index, side, device);
    if journal.add_clsact(plane.clsact_devices()) {
        journal.store(&paths.run)?;
    }
    attached
}

/// Entries of the flow cache: as configured, else as many as conntrack can hold connections, within bounds.
pub fn flow_entries(configured: Option<u32>, host: &dyn Host) -> Result<u32> {
    let most: u32 = host.sysctl("net/netfilter/nf_conntrack_max")?.and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(configured.unwrap_or(most.clamp(*FLOW_ENTRIES.start(), *FLOW_ENTRIES.end())))
}

/// Entries of the maps that [`flow_entries`] sizes: of shortcuts `shortcuts`, else as many.
pub fn sizes(flows: Option<u32>, shortcuts: Option<u32>, host: &dyn Host) -> Result<Sizes> {
    let flows = flow_entries(flows, host)?;
    Ok(Sizes { flows, shortcuts: shortcuts.unwrap_or(flows) })
}

/// Loads the programs of a native configuration and fills their maps.
pub fn load(config: &Config, paths: &Paths, host: &dyn Host, survey: &Survey, log_level: u8) -> Result<DataPlane> {
    let mut plane =
        DataPlane::load(&paths.pins, sizes(config.flow_entries, config.shortcut_entries, host)?, log_level)?;
    fill(&mut plane, config, host, &survey.topology, &survey.standing, &weights(&survey.topology))?;
    // Until the firewall is known there are no shortcuts.
    plane.set_lease(0)?;
    match plane.attach_router() {
        Ok(true) => {}
        Ok(false) => tracing::info!(
            "no control groups of version 2: sockets of the router that are bound are not told from others"
        ),
        Err(error) => tracing::warn!("sockets of the router that are bound are not told from others: {error:#}"),
    }
    Ok(plane)
}

/// Fills the maps of `plane` for `config` as `topology` lays it over the host, with `weights` by uplink id.
pub fn fill(
    plane: &mut DataPlane,
    config: &Config,
    host: &dyn Host,
    topology: &Topology,
    standing: &Standing,
    weights: &BTreeMap<u32, u32>,
) -> Result<()> {
    let marks = config.marks;
    plane.set_bypass(&config.bypass)?;
    let tables = tables(plane, config, topology, standing, weights)?;
    // The check of the configuration has found no fault.
    let (program, _) = rules::compile(&config.rules, config.hash);
    let settings = Settings {
        mark_mask: marks.mask(),
        mark_confirmed: marks.confirmed(),
        mark_missed: marks.missed(),
        mark_shift: marks.shift(),
        mark_id_mask: marks.max_id(),
        seed: config.seed.map_or_else(|| boot_seed(host), Ok)?,
        hash_fields: config.hash.bits(),
        idle_seconds: IDLE_SECONDS,
        mark_ours: marks.ours(),
        balance_router: config.balance_router.into(),
        ..Settings::default()
    };
    plane.publish(&settings, &tables, &program)?;
    write_uplinks(plane, marks, topology, &standing.taking)?;
    // What an earlier run left may be wrong by now.
    plane.raise_all_epochs()
}

/// The first 32 bits of the boot id: random at every boot, the same for every start until the next one.
pub fn boot_seed(host: &dyn Host) -> Result<u32> {
    let id = host.sysctl("kernel/random/boot_id")?.context("the kernel has no boot id")?;
    u32::from_str_radix(id.get(..8).unwrap_or_default(), 16).context("reading the boot id")
}

fn save_setting(host: &dyn Host, observed: &Observed, journal: &mut Journal, key: &str, value: &str) -> Result<()> {
    let names = observed.links.iter().map(|link| link.name.as_str());
    for side_effect in side_effects(key, names) {
        if let Some(before) = host.sysctl(&side_effect)? {
            journal.save(&side_effect, before, None);
        }
    }
    if let Some(before) = host.sysctl(key)? {
        journal.save(key, before, Some(value));
    }
    Ok(())
}
