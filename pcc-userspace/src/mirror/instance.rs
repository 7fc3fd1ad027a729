//! One running RouterOS configuration: start, reconcile, stop. Synchronous; [`super::controller`] says when.

use std::collections::BTreeSet;

use anyhow::Result;

use super::Config;
use super::blueprint::Blueprint;
use super::routes::{Watch, WatchKey};
use super::survey::{self, Survey};
use crate::config::Paths;
use crate::dataplane::{self, DataPlane};
use crate::host::{Change, Host, Observed};
use crate::instance::untranslated;
use crate::journal::{Journal, Lock};
use crate::problem::Problem;
use crate::ruleset;
use crate::start;
use crate::survey::Step;
use crate::teardown;

/// A started instance.
pub struct Instance {
    /// What the user asked for.
    pub config: Config,
    /// Where things are kept.
    pub paths: Paths,
    /// The configuration, compiled.
    pub blueprint: Blueprint,
    /// The kernel programs.
    pub plane: DataPlane,
    /// The host when it was last looked at.
    pub observed: Observed,
    /// What is watched and does not answer.
    pub down: BTreeSet<WatchKey>,
    /// The programs hold what `observed` asks for.
    settled: bool,
    host: Box<dyn Host>,
    journal: Journal,
    /// Our table as nft prints it without elements.
    listing: Option<String>,
    _lock: Lock,
}

impl Instance {
    /// Takes the lock, surveys the host and performs the steps, as [`crate::instance::Instance::start`] does.
    ///
    /// # Errors
    /// Everything is undone then, unless a data path of an earlier run was adopted: that one keeps running.
    pub fn start(
        config: Config,
        paths: Paths,
        mut host: Box<dyn Host>,
        log_level: u8,
        before: &mut dyn FnMut(&Step) -> Result<()>,
    ) -> Result<(Self, Vec<String>)> {
        let survey = survey::survey(&config, &paths, host.as_mut(), &BTreeSet::new())?;
        let lock = Lock::take(&paths.run, &config.base.instance)?;
        let adopting = dataplane::is_pinned(&paths.pins);
        let mut journal = survey.journal.clone();
        let mut load = |host: &dyn Host| load(&config, &paths, host, &survey, log_level);
        match start::perform(&survey.steps, &survey.observed, &paths, host.as_mut(), &mut journal, &mut load, before) {
            Ok(plane) => {
                let Survey { observed, blueprint, warnings, .. } = survey;
                let down = BTreeSet::new();
                let settled = true;
                let listing = host.table(&ruleset::table_name(&config.base.instance))?;
                let instance = Self {
                    config,
                    paths,
                    blueprint,
                    plane,
                    observed,
                    down,
                    settled,
                    host,
                    journal,
                    listing,
                    _lock: lock,
                };
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

    /// Looks at the host again and repairs what differs: settings, addresses, routes, rules, sets of addresses, attachments.
    ///
    /// # Errors
    /// What could not be repaired is tried again the next time.
    pub fn reconcile(&mut self) -> Result<()> {
        let observed = self.host.observe()?;
        for (key, value) in survey::sysctls(&self.blueprint, &observed, |key| self.host.sysctl(key).ok().flatten()) {
            let change = Change::Sysctl { key, value };
            start::write_down(&change, &observed, &self.paths, self.host.as_ref(), &mut self.journal)?;
            self.host.try_apply(&change);
        }
        // What a device lost on its way: with it go all addresses, with its link those of IPv6.
        if self.config.addresses {
            let missing = survey::missing_addresses(&self.config, &self.blueprint, &observed);
            let known = self.journal.addresses.len();
            self.journal.add_addresses(&missing);
            if self.journal.addresses.len() != known {
                self.journal.store(&self.paths.run)?;
            }
            for (device, address) in missing {
                self.host.try_apply(&Change::AddAddress { device, address });
            }
        }
        self.route(&observed);
        let before = std::mem::replace(&mut self.observed, observed);
        let settled = std::mem::replace(&mut self.settled, false);
        // Lists may be long, and nothing else in the sets depends on the host.
        if !settled || before.addresses != self.observed.addresses {
            self.plane.set_sets(&self.blueprint.sets(&self.config, &self.observed))?;
        }
        let known = if settled { survey::attachments(&self.blueprint, &before) } else { Vec::new() };
        let wanted = survey::attachments(&self.blueprint, &self.observed);
        if wanted.iter().map(Step::attachment).ne(known.iter().map(Step::attachment)) {
            for step in &wanted {
                if let Step::Attach { link, side, device } = step
                    && !known.iter().any(|known| known.attachment() == step.attachment())
                {
                    start::attach(&mut self.plane, &mut self.journal, &self.paths, link, *side, *device)?;
                }
            }
            self.plane.detach_others(&wanted.iter().filter_map(Step::attachment).collect::<Vec<_>>())?;
        }
        self.settled = true;
        Ok(())
    }

    /// Makes `down` what does not answer, and changes routes accordingly. True if something changed.
    pub fn set_down(&mut self, down: BTreeSet<WatchKey>) -> Result<bool> {
        if down == self.down {
            return Ok(false);
        }
        self.down = down;
        // What else changed on the host is left to `reconcile`.
        let observed = self.host.observe()?;
        self.route(&observed);
        Ok(true)
    }

    /// Puts our table back if somebody changed or removed it, as [`crate::instance::Instance::repair_table`] does.
    pub fn repair_table(&mut self) -> Result<bool> {
        let name = ruleset::table_name(&self.config.base.instance);
        let listing = self.host.table(&name)?;
        if listing == self.listing && listing.is_some() {
            return Ok(false);
        }
        tracing::warn!("table inet {name} was changed or removed: putting it back");
        let script = self.blueprint.table.clone();
        self.host.apply(&Change::Nft { summary: format!("table inet {name}"), script })?;
        self.listing = self.host.table(&name)?;
        self.host.try_apply(&untranslated(&self.observed));
        Ok(true)
    }

    /// Changes to `config`, as [`crate::instance::Instance::reload`] does.
    ///
    /// # Errors
    /// Nothing has changed then, or what had been changed was changed back.
    pub fn reload(&mut self, config: Config) -> Result<Vec<String>> {
        if config.base.instance != self.config.base.instance
            || config.base.table_base != self.config.base.table_base
            || config.base.priority_base != self.config.base.priority_base
        {
            let what = "`instance`, `table_base` and `rule_priority` cannot change while the instance runs";
            return Err(Problem::new(what, "stop it, `pcc down`, and start it again").into());
        }
        let survey = survey::survey(&config, &self.paths, self.host.as_mut(), &self.down)?;
        let before = std::mem::replace(&mut self.config, config);
        let outcome = self.follow(survey);
        if outcome.is_err() {
            self.config = before;
            let back = survey::survey(&self.config, &self.paths, self.host.as_mut(), &self.down);
            if let Err(error) = back.and_then(|survey| self.follow(survey)) {
                tracing::error!("going back to the configuration before: {error:#}");
            }
        }
        outcome
    }

    fn follow(&mut self, survey: Survey) -> Result<Vec<String>> {
        let Survey { observed, blueprint, journal, steps, warnings, .. } = survey;
        self.journal = journal;
        self.journal.store(&self.paths.run)?;
        start::apply_changes(&steps, &observed, &self.paths, self.host.as_mut(), &mut self.journal)?;
        fill(&mut self.plane, &self.config, self.host.as_ref(), &blueprint, &observed)?;
        start::attach_all(&steps, &mut self.plane, &mut self.journal, &self.paths)?;
        (self.blueprint, self.observed, self.settled) = (blueprint, observed, true);
        self.listing = self.host.table(&ruleset::table_name(&self.config.base.instance))?;
        Ok(warnings)
    }

    /// What must be probed now.
    pub fn watched(&self) -> Vec<Watch> {
        self.blueprint.watched(&self.observed, &self.down)
    }

    /// The bit of our connections' marks, and the bits that tell them apart.
    pub fn counted_marks(&self) -> (u32, u32) {
        (self.blueprint.fields.ours(), self.blueprint.fields.connection.mask())
    }

    /// Stops and leaves the host as it was.
    pub fn stop(mut self) -> Result<(), Vec<anyhow::Error>> {
        drop(self.plane);
        teardown::teardown(self.host.as_mut(), &self.paths, &self.journal)
    }

    fn route(&mut self, observed: &Observed) {
        for change in self.blueprint.reconcile(&self.config, observed, &self.down) {
            self.host.try_apply(&change);
        }
    }
}

/// The programs that walk rules take none.
const NO_SHORTCUTS: u32 = 64;

fn load(config: &Config, paths: &Paths, host: &dyn Host, survey: &Survey, log_level: u8) -> Result<DataPlane> {
    let mut plane =
        DataPlane::load(&paths.pins, start::sizes(config.base.flow_entries, Some(NO_SHORTCUTS), host)?, log_level)?;
    fill(&mut plane, config, host, &survey.blueprint, &survey.observed)?;
    Ok(plane)
}

fn fill(
    plane: &mut DataPlane,
    config: &Config,
    host: &dyn Host,
    blueprint: &Blueprint,
    observed: &Observed,
) -> Result<()> {
    let seed = config.base.seed.map_or_else(|| start::boot_seed(host), Ok)?;
    let settings = blueprint.settings(seed, plane.settings()?);
    plane.set_settings(&settings)?;
    let program = &blueprint.program;
    plane.publish_rules(&program.steps, [program.first4, program.first6], &blueprint.sets(config, observed))
}
