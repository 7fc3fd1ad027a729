//! One running instance: start, reconcile, publish, stop. Synchronous; [`crate::controller`] says when.

use std::collections::BTreeMap;

use anyhow::Result;
use pcc_ebpf::abi::{self, IPV4, IPV6, MarkLayout};

use crate::config::{Config, Paths};
use crate::dataplane::{self, DataPlane};
use crate::host::{Change, Family, Host, Observed};
use crate::journal::{Journal, Lock};
use crate::own_traffic::Taking;
use crate::plan::{self, Live};
use crate::policies;
use crate::problem::Problem;
use crate::rules;
use crate::ruleset;
use crate::sources::UsualSources;
use crate::start;
use crate::survey::{self, Step, Survey};
use crate::teardown;
use crate::topology::{self, Topology};

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
        let load = |host: &dyn Host| start::load(&config, &paths, host, &survey, log_level);
        match start::perform(&survey.steps, &survey.observed, &paths, host.as_mut(), &mut journal, &load, before) {
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
                    teardown::undo_start(host.as_mut(), &paths, &journal);
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
        let sources = UsualSources::of(&topology, &self.live, &observed);
        let elements_differ = sources != UsualSources::of(&self.topology, &self.live, &self.observed)
            || ruleset::segment_sizes(&topology) != ruleset::segment_sizes(&self.topology);
        self.write_sysctls(&topology, &observed)?;
        for change in plan::routing(&self.config, &topology, &self.live, &observed) {
            self.host.try_apply(&change);
        }
        let known: Vec<Step> = survey::attachments(&self.topology).collect();
        let wanted: Vec<Step> = survey::attachments(&topology).collect();
        self.topology = topology;
        self.observed = observed;
        if wanted.iter().map(Step::attachment).ne(known.iter().map(Step::attachment)) {
            for step in wanted.iter().filter(|step| !known.iter().any(|known| known.attachment() == step.attachment()))
            {
                if let Step::Attach { link, side, device } = step {
                    start::attach(&mut self.plane, &mut self.journal, &self.paths, link, *side, *device)?;
                }
            }
            self.plane.detach_others(&wanted.iter().filter_map(Step::attachment).collect::<Vec<_>>())?;
            self.write_uplinks()?;
        }
        if elements_differ {
            self.update_elements();
        }
        Ok(survey::possible(&self.topology))
    }

    /// Makes `live` the uplinks that take new connections. The order matters: first an uplink that comes can keep
    /// connections, then nothing new goes to one that left, then its cached decisions become stale, then its connections
    /// are forgotten.
    pub fn publish(&mut self, live: Live) -> Result<()> {
        let left = |family, id: u32, old: &Live, new: &Live| old.has(family, id) && !new.has(family, id);
        let both = self.live.union(&live);
        let old = std::mem::replace(&mut self.live, both);
        if self.live != old {
            self.update_elements();
        }
        self.live = live;
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
                instance.host.try_apply(&change);
            }
        };
        forget(self);
        for change in plan::routing(&self.config, &self.topology, &self.live, &self.observed) {
            self.host.try_apply(&change);
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
        self.write_buckets()?;
        self.update_elements();
        Ok(())
    }

    /// The bucket tables in force, per family.
    pub fn buckets(&self) -> Result<[Vec<u32>; 2]> {
        Ok([self.plane.buckets(IPV4)?, self.plane.buckets(IPV6)?])
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
        teardown::teardown(self.host.as_mut(), &self.paths, &self.journal)
    }

    fn write_buckets(&mut self) -> Result<()> {
        let tables = tables(&self.plane, &self.config, &self.topology, &self.live, &self.weights)?;
        self.plane.publish_policies(&tables)
    }

    fn write_uplinks(&mut self) -> Result<()> {
        write_uplinks(&mut self.plane, self.config.marks, &self.topology, &self.live)
    }

    fn update_elements(&mut self) {
        let sources = UsualSources::of(&self.topology, &self.live, &self.observed);
        let taking = Taking { live: &self.live, weights: &self.weights };
        let script = ruleset::update(&self.config, &self.topology, &self.live, taking, &sources);
        self.host.try_apply(&Change::Nft { summary: "new elements".into(), script });
    }

    /// What an uplink needs that got its first address of a family after the start.
    fn write_sysctls(&mut self, topology: &Topology, observed: &Observed) -> Result<()> {
        for (key, value) in plan::sysctls(topology, |key| self.host.sysctl(key).ok().flatten()) {
            start::save_setting(self.host.as_ref(), observed, &mut self.journal, &key, &value)?;
            self.journal.store(&self.paths.run)?;
            self.host.try_apply(&Change::Sysctl { key, value });
        }
        Ok(())
    }
}

pub(crate) fn weights(config: &Config, topology: &Topology) -> BTreeMap<u32, u32> {
    debug_assert_eq!(config.uplinks.len(), topology.uplinks.len());
    topology.uplinks.iter().map(|uplink| (uplink.id, uplink.config.weight)).collect()
}

/// The policies of `config` with their bucket tables: from those in force if there are any, else the canonical ones.
pub(crate) fn tables(
    plane: &DataPlane,
    config: &Config,
    topology: &Topology,
    live: &Live,
    weights: &BTreeMap<u32, u32>,
) -> Result<Vec<policies::Table>> {
    let policies = rules::policies(&config.rules, config.hash);
    let current: Vec<_> = (0..).zip(&policies).map(|(number, _)| plane.table(number)).collect::<Result<_>>()?;
    Ok(policies::tables(&policies, topology, live, weights, &|number| current.get(number as usize).cloned()))
}

pub(crate) fn write_uplinks(plane: &mut DataPlane, marks: MarkLayout, topology: &Topology, live: &Live) -> Result<()> {
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
