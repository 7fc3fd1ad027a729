//! Another configuration for an instance that runs.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{Cause, Instance, weights};
use crate::config::Config;
use crate::host::{Change, Family};
use crate::problem::Problem;
use crate::survey::{self, Known, Survey};
use crate::{ruleset, start};

impl Instance {
    /// Changes to `config` by the same steps as a start, with the programs and maps that are there: connections stay where
    /// they are, but for those of uplinks that `config` does not have. Returns what the operator should know.
    ///
    /// # Errors
    /// Nothing has changed then, or what had been changed was changed back.
    pub fn reload(&mut self, config: Config) -> Result<Vec<String>> {
        self.refuse_other_frame(&config)?;
        let known = self.knowledge();
        let survey = survey::survey(&config, &self.paths, self.host.as_mut(), &known, &self.circumstances)?;
        let before = std::mem::replace(&mut self.config, config);
        let outcome = self.follow(survey);
        if outcome.is_err() {
            self.config = before;
            let back = survey::survey(&self.config, &self.paths, self.host.as_mut(), &known, &self.circumstances);
            if let Err(error) = back.and_then(|survey| self.follow(survey)) {
                tracing::error!("going back to the configuration before: {error:#}");
            }
        }
        outcome
    }

    /// What is known of the uplinks now.
    fn knowledge(&self) -> Known {
        let takes = |id| Family::BOTH.map(|family| self.standing.taking.has(family, id));
        Known(self.topology.uplinks.iter().map(|uplink| (uplink.id, takes(uplink.id))).collect())
    }

    /// Performs the steps of `survey`, which is one of the configuration that is in force from now on.
    fn follow(&mut self, survey: Survey) -> Result<Vec<String>> {
        let Survey { observed, topology, choice, standing, journal, steps, warnings, .. } = survey;
        // A weight that was changed by hand stays unless the file says another one than before.
        let (old, new) = (weights(&self.topology), weights(&topology));
        let weights = new.into_iter().map(|(id, weight)| {
            let by_hand = self.weights.get(&id).filter(|_| old.get(&id) == Some(&weight));
            (id, by_hand.copied().unwrap_or(weight))
        });
        let weights = weights.collect();
        self.journal = journal;
        self.journal.store(&self.paths.run)?;
        // New ways first, so that what is given to a new uplink finds them.
        start::apply_changes(&steps, &observed, &self.paths, self.host.as_mut(), &mut self.journal)?;
        start::fill(&mut self.plane, &self.config, self.host.as_ref(), &topology, &standing, &weights)?;
        start::attach_all(&steps, &mut self.plane, &mut self.journal, &self.paths)?;
        (self.topology, self.standing, self.observed, self.weights) = (topology, standing, observed, weights);
        self.listing = self.host.table(&ruleset::table_name(&self.config.instance))?;
        (self.settled, self.known, self.choice) = (true, Known::default(), choice);
        self.forget_strangers()?;
        self.outdate(Cause::Reload);
        // Without a fast path there is none.
        self.set_lease(self.circumstances.lease.clone());
        Ok(warnings)
    }

    /// Forgets the connections of ids that no uplink has.
    pub(super) fn forget_strangers(&mut self) -> Result<()> {
        let (ours, mask) = self.counted_marks();
        let marks = self.host.count_by_mark(ours, mask)?.into_keys();
        let is_known = |id: &u32| self.topology.uplinks.iter().any(|uplink| uplink.id == *id);
        let strangers: BTreeSet<u32> =
            marks.filter_map(|mark| self.config.marks.uplink(mark)).filter(|id| !is_known(id)).collect();
        for id in strangers {
            let mut uplink = self.plane.uplink(id)?;
            uplink.generation = uplink.generation.wrapping_add(1);
            self.plane.set_uplink(id, uplink)?;
            self.outdate_uplinks(Cause::Ended, &[id]);
            let marks = self.config.marks;
            self.host.try_apply(&Change::DeleteConnections { family: None, mark: marks.of(id), mask: marks.id_mask() });
        }
        Ok(())
    }

    /// What connections, maps and pins rest on stays until the instance ends.
    fn refuse_other_frame(&self, config: &Config) -> Result<()> {
        let now = &self.config;
        let differs = [
            ("instance", now.instance != config.instance),
            ("mark_mask", now.marks != config.marks),
            ("flow_entries", now.flow_entries != config.flow_entries),
            ("shortcut_entries", now.shortcut_entries != config.shortcut_entries),
            ("table_base", now.table_base != config.table_base),
            ("rule_priority", now.priority_base != config.priority_base),
        ];
        match differs.iter().find(|(_, differs)| *differs) {
            None => Ok(()),
            Some((key, _)) => Err(Problem::new(
                format!("`{key}` cannot change while the instance runs"),
                "stop it, `pcc down`, and start it again",
            )
            .into()),
        }
    }
}
