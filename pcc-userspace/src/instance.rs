//! One running instance: start, [repair], [change of what uplinks are good for](fail_over), [reload], stop. Synchronous;
//! [`crate::controller`] says when.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use pcc_ebpf::abi::{self, MarkLayout};

use crate::config::{self, Config, Paths};
use crate::dataplane::{self, DataPlane};
use crate::fast_path::{Choice, Circumstances};
use crate::host::netlink::Endings;
use crate::host::{Change, Family, Host, Observed};
use crate::journal::{Journal, Lock};
use crate::plan::{Live, Standing};
use crate::policies;
use crate::problem::Problem;
use crate::rules;
use crate::ruleset;
use crate::sources::UsualSources;
use crate::start;
use crate::survey::{self, Known, Step, Survey};
use crate::teardown;
use crate::topology::Topology;

/// A started instance.
pub struct Instance {
    /// What the user asked for.
    pub config: Config,
    /// Where things are kept.
    pub paths: Paths,
    /// The configuration laid over the host.
    pub topology: Topology,
    /// What the uplinks are good for.
    pub standing: Standing,
    /// The kernel programs.
    pub plane: DataPlane,
    /// Weights in force by uplink id.
    pub weights: BTreeMap<u32, u32>,
    /// What an earlier run knew of them.
    pub known: Known,
    /// What shortcuts depend on apart from devices; [`Self::reconcile`] acts on it.
    pub circumstances: Circumstances,
    /// Which devices use which shortcuts.
    pub choice: Choice,
    host: Box<dyn Host>,
    journal: Journal,
    observed: Observed,
    /// Uplinks whose TCP connections are being reset.
    ending: BTreeSet<(u32, Family)>,
    /// Our table as nft prints it without elements.
    listing: Option<String>,
    /// The programs and elements are those that `topology` asks for.
    settled: bool,
    /// How often they became stale.
    pub raises: Raises,
    _lock: Lock,
}

pub use repair::untranslated;
pub use shortcuts::{Cause, Raises, fast_path_is_on};

mod fail_over;
mod reload;
mod repair;
mod shortcuts;

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
        let known = dataplane::known(&paths.pins);
        let circumstances = Circumstances::default();
        let survey = survey::survey(&config, &paths, host.as_mut(), &known, &circumstances)?;
        let lock = Lock::take(&paths.run, &config.instance)?;
        let adopting = dataplane::is_pinned(&paths.pins);
        let mut journal = survey.journal.clone();
        let mut load = |host: &dyn Host| start::load(&config, &paths, host, &survey, log_level);
        match start::perform(&survey.steps, &survey.observed, &paths, host.as_mut(), &mut journal, &mut load, before) {
            Ok(plane) => {
                let weights = weights(&survey.topology);
                let Survey { observed, topology, choice, standing, mut warnings, .. } = survey;
                if let Some(entries) = config.flow_entries
                    && dataplane::pinned_flow_entries(&paths.pins).is_some_and(|pinned| pinned != entries)
                {
                    warnings.push(
                        "flow_entries takes effect after `pcc down`: the flow cache of the last run goes on".into(),
                    );
                }
                if let Some(entries) = config.shortcut_entries
                    && dataplane::pinned_shortcut_entries(&paths.pins).is_some_and(|pinned| pinned != entries)
                {
                    warnings.push("shortcut_entries takes effect after `pcc down`: those of the last run go on".into());
                }
                let listing = host.table(&ruleset::table_name(&config.instance))?;
                let mut instance = Self {
                    config,
                    paths,
                    topology,
                    standing,
                    plane,
                    weights,
                    known,
                    circumstances,
                    choice,
                    host,
                    journal,
                    observed,
                    ending: BTreeSet::new(),
                    listing,
                    settled: true,
                    raises: Raises::default(),
                    _lock: lock,
                };
                instance.circumstances.refused = instance.plane.refusals().clone();
                instance.forget_strangers()?;
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

    /// Id and name of the uplink called `name`, by name or by device.
    ///
    /// # Errors
    /// There is none.
    pub fn uplink(&self, name: &str) -> Result<(u32, String)> {
        if let Some(uplink) = self.topology.uplink(name) {
            return Ok((uplink.id, uplink.config.name.clone()));
        }
        Err(self.topology.no_uplink(name).into())
    }

    /// Gives uplink `id` another weight.
    ///
    /// # Errors
    /// A weight beyond 1,000, or no uplink would have one.
    pub fn set_weight(&mut self, id: u32, weight: u32) -> Result<()> {
        const MOST: u32 = config::Uplink::MAX_WEIGHT;
        if weight > MOST {
            return Err(
                Problem::new(format!("weight {weight} is too large"), format!("weights go from 0 to {MOST}")).into()
            );
        }
        let mut weights = self.weights.clone();
        weights.insert(id, weight);
        if weights.values().all(|weight| *weight == 0) {
            return Err(Problem::new("no uplink would take connections", "give one of them a weight above 0").into());
        }
        self.weights = weights;
        self.write_buckets()?;
        self.update_elements();
        Ok(())
    }

    /// The bit of our connections' marks, and the bits that tell them apart.
    pub fn counted_marks(&self) -> (u32, u32) {
        (self.config.marks.ours(), self.config.marks.id_mask())
    }

    /// Stops and leaves the host as it was.
    pub fn stop(mut self) -> Result<(), Vec<anyhow::Error>> {
        drop(self.plane);
        teardown::teardown(self.host.as_mut(), &self.paths, &self.journal)
    }

    /// Listens for connections of ours that somebody else deletes.
    ///
    /// # Errors
    /// The kernel does not tell of them.
    pub fn endings(&self) -> Result<Endings> {
        Endings::new(self.config.marks.ours(), self.host.conntrack_port()?)
    }

    fn write_buckets(&mut self) -> Result<()> {
        let tables = tables(&self.plane, &self.config, &self.topology, &self.standing, &self.weights)?;
        self.plane.publish_policies(&tables)
    }

    fn write_uplinks(&mut self) -> Result<()> {
        write_uplinks(&mut self.plane, self.config.marks, &self.topology, &self.standing.taking)
    }

    /// Writes all elements of our sets and maps anew.
    pub fn update_elements(&mut self) {
        let script = self.with_state(ruleset::update);
        self.host.try_apply(&Change::Nft { summary: "new elements".into(), script });
    }

    fn with_state<T>(&self, f: impl FnOnce(&ruleset::State<'_>) -> T) -> T {
        f(&ruleset::State {
            config: &self.config,
            topology: &self.topology,
            standing: &self.standing,
            ending: &self.ending,
            weights: &self.weights,
            sources: &UsualSources::of(&self.topology, &self.standing.taking, &self.observed),
        })
    }
}

/// Configured weights by uplink id.
pub(crate) fn weights(topology: &Topology) -> BTreeMap<u32, u32> {
    topology.uplinks.iter().map(|uplink| (uplink.id, uplink.config.weight)).collect()
}

/// The policies of `config` with their bucket tables: from those in force if there are any, else the canonical ones.
pub(crate) fn tables(
    plane: &DataPlane,
    config: &Config,
    topology: &Topology,
    standing: &Standing,
    weights: &BTreeMap<u32, u32>,
) -> Result<Vec<policies::Table>> {
    let policies = rules::policies(&config.rules, config.hash);
    let current: Vec<_> = (0..).zip(&policies).map(|(number, _)| plane.table(number)).collect::<Result<_>>()?;
    Ok(policies::tables(&policies, topology, standing, weights, &|number| current.get(number as usize).cloned()))
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
