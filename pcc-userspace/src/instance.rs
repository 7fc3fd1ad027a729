//! One running instance: start, reconcile, publish, stop. Synchronous; [`crate::controller`] says when.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use pcc_ebpf::abi::{self, IPV4, IPV6, MarkLayout, Settings};

use crate::buckets;
use crate::config::{Config, Paths};
use crate::dataplane::{self, DataPlane};
use crate::host::{Change, Family, Host, Observed};
use crate::journal::{Journal, Lock, side_effects};
use crate::plan::{self, Live};
use crate::problem::Problem;
use crate::ruleset;
use crate::survey::{self, Step, Survey};
use crate::topology::{self, Topology};

/// Seconds after which a cached decision of an idle flow that is not TCP is made anew: conntrack's own timeout of a
/// UDP flow without answer.
const IDLE_SECONDS: u32 = 30;
/// Bounds of the flow cache when it is sized from `nf_conntrack_max`.
const FLOW_ENTRIES: std::ops::RangeInclusive<u32> = 16_384..=1_048_576;

/// A started instance.
pub struct Instance {
    /// What the user asked for.
    pub config: Config,
    /// Where things are kept.
    pub paths: Paths,
    /// The configuration laid over the host.
    pub topology: Topology,
    /// Uplinks that take new connections.
    pub live: Live,
    /// The kernel programs.
    pub plane: DataPlane,
    /// Weights in force by uplink id.
    pub weights: BTreeMap<u32, u32>,
    host: Box<dyn Host>,
    journal: Journal,
    observed: Observed,
    _lock: Lock,
}

impl Instance {
    /// Takes the lock, surveys the host and performs the steps. `before` is asked before each of them; its error makes
    /// that step fail. On any error everything is undone, unless a data path of an earlier run was adopted: that one
    /// keeps running.
    pub fn start(
        config: Config,
        paths: Paths,
        mut host: Box<dyn Host>,
        log_level: u8,
        before: &mut dyn FnMut(&Step) -> Result<()>,
    ) -> Result<(Self, Vec<String>)> {
        let survey = survey::survey(&config, &paths, host.as_mut())?;
        let lock = Lock::take(&paths.run, &config.instance)?;
        let adopting = dataplane::pinned_flow_entries(&paths.pins).is_some();
        let mut journal = survey.journal.clone();
        match perform(&config, &paths, host.as_mut(), &survey, &mut journal, log_level, before) {
            Ok(plane) => {
                let weights = weights(&config, &survey.topology);
                let Survey { observed, topology, live, mut warnings, .. } = survey;
                if let Some(entries) = config.flow_entries
                    && dataplane::pinned_flow_entries(&paths.pins).is_some_and(|pinned| pinned != entries)
                {
                    warnings.push(
                        "flow_entries takes effect after `pcc down`: the flow cache of the last run goes on".into(),
                    );
                }
                let instance =
                    Self { config, paths, topology, live, plane, weights, host, journal, observed, _lock: lock };
                Ok((instance, warnings))
            }
            Err(error) => {
                if !adopting {
                    let undone = teardown(host.as_mut(), &paths, &journal);
                    for error in undone.err().into_iter().flatten() {
                        tracing::error!("undoing a failed start: {error:#}");
                    }
                }
                Err(error)
            }
        }
    }

    /// Looks at the host again and repairs what differs: routes, rules, attachments. Returns the uplinks that could take
    /// connections now.
    pub fn reconcile(&mut self) -> Result<Live> {
        let observed = self.host.observe()?;
        let topology = topology::resolve(&self.config, &self.journal.ids, &observed);
        let sources = survey::usual_sources(&topology, &self.live, &observed);
        let elements_differ = sources != survey::usual_sources(&self.topology, &self.live, &self.observed);
        self.write_sysctls(&topology, &observed)?;
        for change in plan::routing(&self.config, &topology, &self.live, &observed) {
            self.try_apply(&change);
        }
        let known: Vec<Step> = survey::attachments(&self.topology).collect();
        let wanted: Vec<Step> = survey::attachments(&topology).collect();
        self.topology = topology;
        self.observed = observed;
        if wanted.iter().map(index).ne(known.iter().map(index)) {
            for step in wanted.iter().filter(|step| !known.iter().any(|known| index(known) == index(step))) {
                if let Step::Attach { link, side, uplink } = step {
                    self.plane.attach(&link.name, link.index, *side, Step::device(link, *uplink))?;
                }
            }
            self.plane.detach_others(&wanted.iter().filter_map(index).collect::<Vec<_>>())?;
            self.write_uplinks()?;
        }
        if elements_differ {
            self.update_elements();
        }
        Ok(survey::possible(&self.topology))
    }

    /// Makes `live` the uplinks that take new connections. The order matters: first nothing new goes to an uplink that
    /// left, then its cached decisions become stale, then its connections are forgotten.
    pub fn publish(&mut self, live: Live) -> Result<()> {
        let left = |family, id: u32, old: &Live, new: &Live| old.has(family, id) && !new.has(family, id);
        let old = std::mem::replace(&mut self.live, live);
        self.write_buckets()?;
        self.update_elements();
        let mut gone = Vec::new();
        for uplink in &self.topology.uplinks {
            let families = Family::BOTH.map(|family| left(family, uplink.id, &old, &self.live));
            match families {
                [true, true] => gone.push((uplink.id, None)),
                [true, false] => gone.push((uplink.id, Some(Family::V4))),
                [false, true] => gone.push((uplink.id, Some(Family::V6))),
                [false, false] => {}
            }
        }
        for (id, _) in &gone {
            let mut uplink = self.plane.uplink(*id)?;
            uplink.generation = uplink.generation.wrapping_add(1);
            self.plane.set_uplink(*id, uplink)?;
        }
        self.write_uplinks()?;
        let forget = |instance: &mut Self| {
            for (id, family) in &gone {
                let marks = instance.config.marks;
                let change = Change::DeleteConnections { family: *family, mark: marks.of(*id), mask: marks.id_mask() };
                instance.try_apply(&change);
            }
        };
        forget(self);
        for change in plan::routing(&self.config, &self.topology, &self.live, &self.observed) {
            self.try_apply(&change);
        }
        // What a packet in flight began on the old decision meanwhile.
        forget(self);
        Ok(())
    }

    /// Gives an uplink another weight, until the next start.
    ///
    /// # Errors
    /// No such uplink, or a weight beyond 1,000.
    pub fn set_weight(&mut self, name: &str, weight: u32) -> Result<()> {
        const MOST: u32 = 1000;
        let Some(uplink) = self.topology.uplink(name) else {
            let names: Vec<&str> = self.topology.uplinks.iter().map(|uplink| uplink.config.name.as_str()).collect();
            return Err(Problem::new(format!("no uplink `{name}`"), format!("there are: {}", names.join(", "))).into());
        };
        if weight > MOST {
            return Err(
                Problem::new(format!("weight {weight} is too large"), format!("weights go from 0 to {MOST}")).into()
            );
        }
        let mut weights = self.weights.clone();
        weights.insert(uplink.id, weight);
        if weights.values().all(|weight| *weight == 0) {
            return Err(Problem::new("no uplink would take connections", "give one of them a weight above 0").into());
        }
        self.weights = weights;
        self.write_buckets()
    }

    /// Buckets of uplink `id` in the table in force, per family.
    pub fn share(&self, id: u32) -> Result<[u32; 2]> {
        let count = |family| -> Result<u32> {
            Ok(self.plane.buckets(family)?.iter().filter(|bucket| **bucket == id).count() as u32)
        };
        Ok([count(IPV4)?, count(IPV6)?])
    }

    /// Connections that conntrack holds, by uplink id.
    pub fn connections(&mut self) -> Result<BTreeMap<u32, u64>> {
        let marks = self.config.marks;
        let by_mark = self.host.count_by_mark(marks.ours(), marks.id_mask())?;
        Ok(by_mark.into_iter().filter_map(|(mark, count)| Some((marks.uplink(mark)?, count))).collect())
    }

    /// Stops and leaves the host as it was.
    pub fn stop(mut self) -> Result<(), Vec<anyhow::Error>> {
        drop(self.plane);
        teardown(self.host.as_mut(), &self.paths, &self.journal)
    }

    fn write_buckets(&mut self) -> Result<()> {
        let [ipv4, ipv6] = tables(&self.plane, &self.topology, &self.live, &self.weights)?;
        self.plane.publish_buckets(&ipv4, &ipv6)
    }

    fn write_uplinks(&mut self) -> Result<()> {
        write_uplinks(&mut self.plane, self.config.marks, &self.topology, &self.live)
    }

    fn update_elements(&mut self) {
        let sources = survey::usual_sources(&self.topology, &self.live, &self.observed);
        let script = ruleset::update(&self.config, &self.topology, &self.live, &sources);
        self.try_apply(&Change::Nft { summary: "new elements".into(), script });
    }

    /// What an uplink needs that got its first address of a family after the start.
    fn write_sysctls(&mut self, topology: &Topology, observed: &Observed) -> Result<()> {
        for (key, value) in plan::sysctls(topology, |key| self.host.sysctl(key).ok().flatten()) {
            save_setting(self.host.as_ref(), observed, &mut self.journal, &key, &value)?;
            self.journal.store(&self.paths.run)?;
            self.try_apply(&Change::Sysctl { key, value });
        }
        Ok(())
    }

    /// A repair that fails is reported and tried again at the next event; the others go on.
    fn try_apply(&mut self, change: &Change) {
        tracing::debug!("{change}");
        if let Err(error) = self.host.apply(change) {
            tracing::error!("`{change}`: {error:#}");
        }
    }
}

/// Removes everything that an instance put on the host, as far as it can: every step is tried, all errors are returned.
pub fn teardown(host: &mut dyn Host, paths: &Paths, journal: &Journal) -> Result<(), Vec<anyhow::Error>> {
    let mut errors = Vec::new();
    let mut note = |what: Result<()>| {
        if let Err(error) = what {
            errors.push(error);
        }
    };
    note(dataplane::remove(&paths.pins, &journal.devices, &journal.clsact));
    let instance = paths.run.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let script = ruleset::remove(&instance);
    note(host.apply(&Change::Nft { summary: "remove our table".into(), script }));
    match host.observe() {
        Ok(observed) => {
            for change in plan::clear_routing(journal.table_base, journal.priority_base, &observed) {
                note(host.apply(&change));
            }
        }
        Err(error) => note(Err(error)),
    }
    for saved in journal.sysctls.iter().rev() {
        let now = host.sysctl(&saved.key).ok().flatten();
        let ours = saved.written.is_none() || saved.written == now;
        if now.as_ref().is_some_and(|now| *now != saved.before) && ours {
            note(host.apply(&Change::Sysctl { key: saved.key.clone(), value: saved.before.clone() }));
        }
    }
    if let Some(marks) = MarkLayout::new(journal.mark_mask) {
        note(host.apply(&Change::ReleaseConnections { ours: marks.ours(), mask: marks.mask() }));
    }
    if errors.is_empty() {
        match std::fs::remove_dir_all(&paths.run) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => errors.push(error.into()),
            _ => return Ok(()),
        }
    }
    Err(errors)
}

fn perform(
    config: &Config,
    paths: &Paths,
    host: &mut dyn Host,
    survey: &Survey,
    journal: &mut Journal,
    log_level: u8,
    before: &mut dyn FnMut(&Step) -> Result<()>,
) -> Result<DataPlane> {
    journal.store(&paths.run)?;
    let mut plane = None;
    for step in &survey.steps {
        before(step).with_context(|| step.to_string())?;
        tracing::debug!("{step}");
        match step {
            Step::Load { .. } => plane = Some(load(config, paths, host, survey, log_level)?),
            Step::Change(change) => {
                if let Change::Sysctl { key, value } = change {
                    save_setting(host, &survey.observed, journal, key, value)?;
                    journal.store(&paths.run)?;
                }
                host.apply(change)?;
            }
            Step::Attach { link, side, uplink } => {
                let plane = plane.as_mut().context("the programs are not loaded")?;
                plane.attach(&link.name, link.index, *side, Step::device(link, *uplink))?;
                // Not those of an earlier run alone: a qdisc is removed by the run that ends, whoever made it.
                if !plane.clsact_devices().iter().all(|device| journal.clsact.contains(device)) {
                    journal.clsact.extend_from_slice(plane.clsact_devices());
                    journal.clsact.sort();
                    journal.clsact.dedup();
                    journal.store(&paths.run)?;
                }
            }
        }
    }
    let mut plane = plane.context("the programs are not loaded")?;
    plane.detach_others(&survey.steps.iter().filter_map(index).collect::<Vec<_>>())?;
    Ok(plane)
}

fn load(config: &Config, paths: &Paths, host: &dyn Host, survey: &Survey, log_level: u8) -> Result<DataPlane> {
    let most: u32 = host.sysctl("net/netfilter/nf_conntrack_max")?.and_then(|text| text.parse().ok()).unwrap_or(0);
    let entries = config.flow_entries.unwrap_or(most.clamp(*FLOW_ENTRIES.start(), *FLOW_ENTRIES.end()));
    let mut plane = DataPlane::load(&paths.pins, entries, log_level)?;
    let marks = config.marks;
    plane.set_settings(&Settings {
        mark_mask: marks.mask(),
        mark_confirmed: marks.confirmed(),
        mark_missed: marks.missed(),
        mark_shift: marks.shift(),
        mark_id_mask: marks.max_id(),
        seed: config.seed.map_or_else(|| boot_seed(host), Ok)?,
        hash_fields: config.hash.bits(),
        active_table: if plane.adopted() { plane.settings()?.active_table } else { 0 },
        idle_seconds: IDLE_SECONDS,
    })?;
    plane.set_bypass(&config.bypass)?;
    let [ipv4, ipv6] = tables(&plane, &survey.topology, &survey.live, &weights(config, &survey.topology))?;
    plane.publish_buckets(&ipv4, &ipv6)?;
    write_uplinks(&mut plane, marks, &survey.topology, &survey.live)?;
    Ok(plane)
}

/// The first 32 bits of the boot id: random at every boot, the same for every start until the next one.
fn boot_seed(host: &dyn Host) -> Result<u32> {
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

fn weights(config: &Config, topology: &Topology) -> BTreeMap<u32, u32> {
    debug_assert_eq!(config.uplinks.len(), topology.uplinks.len());
    topology.uplinks.iter().map(|uplink| (uplink.id, uplink.config.weight)).collect()
}

/// The bucket tables of both families: from those in force if there are any, else the canonical ones.
fn tables(plane: &DataPlane, topology: &Topology, live: &Live, weights: &BTreeMap<u32, u32>) -> Result<[Vec<u32>; 2]> {
    let table = |family, index| -> Result<Vec<u32>> {
        let current = plane.buckets(index)?;
        let current = current.iter().any(|bucket| *bucket != 0).then_some(current.as_slice());
        let wanted: Vec<(u32, u32)> = topology
            .uplinks
            .iter()
            .filter(|uplink| live.has(family, uplink.id))
            .map(|uplink| (uplink.id, weights.get(&uplink.id).copied().unwrap_or(0)))
            .collect();
        Ok(buckets::assign(current, &wanted))
    };
    Ok([table(Family::V4, IPV4)?, table(Family::V6, IPV6)?])
}

fn write_uplinks(plane: &mut DataPlane, marks: MarkLayout, topology: &Topology, live: &Live) -> Result<()> {
    for id in 1..=marks.max_id() {
        let generation = plane.uplink(id)?.generation;
        let slot = match topology.uplinks.iter().find(|uplink| uplink.id == id) {
            Some(uplink) => abi::Uplink {
                generation,
                ifindex: uplink.link.as_ref().map_or(0, |link| link.index),
                mark: marks.of(id),
                live: u32::from(live.has(Family::V4, id)) | u32::from(live.has(Family::V6, id)) << 1,
            },
            None => abi::Uplink { generation, ..abi::Uplink::default() },
        };
        plane.set_uplink(id, slot)?;
    }
    Ok(())
}

fn index(step: &Step) -> Option<u32> {
    match step {
        Step::Attach { link, .. } => Some(link.index),
        Step::Load { .. } | Step::Change(_) => None,
    }
}
