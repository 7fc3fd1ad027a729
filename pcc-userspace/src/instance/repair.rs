//! The host changed: what differs from what must be is repaired, and nothing else is touched.

use std::net::IpAddr;

use anyhow::Result;

use super::{Cause, Instance};
use crate::fast_path::Choice;
use crate::host::{Change, Observed, TABLE_MAIN};
use crate::plan::{self, Live};
use crate::sources::UsualSources;
use crate::survey::{self, Step};
use crate::topology::{self, Topology};
use crate::{ruleset, start};

impl Instance {
    /// Looks at the host again and repairs what differs: settings, routes, rules, elements, attachments. Returns the uplinks
    /// that could take connections now.
    ///
    /// # Errors
    /// What could not be repaired is tried again the next time.
    pub fn reconcile(&mut self) -> Result<Live> {
        let observed = self.host.observe()?;
        let topology = topology::resolve(&self.config, &self.journal.ids, &observed);
        let taking = &self.standing.taking;
        let sources = UsualSources::of(&topology, taking, &observed);
        let elements_differ = sources != UsualSources::of(&self.topology, taking, &self.observed)
            || ruleset::segment_sizes(&topology) != ruleset::segment_sizes(&self.topology)
            || topology.indices() != self.topology.indices();
        self.write_sysctls(&topology, &observed)?;
        for change in plan::routing(&self.config, &topology, &self.standing.taking, &observed) {
            self.host.try_apply(&change);
        }
        let choice = self.choose(&topology);
        let known: Vec<Step> =
            if self.settled { survey::attachments(&self.topology, &self.choice).collect() } else { Vec::new() };
        (self.topology, self.observed, self.choice) = (topology, observed, choice);
        if elements_differ {
            self.update_elements();
        }
        if self.follow_choice(&known)? {
            // What the kernel refused, or what a driver can only now.
            let known: Vec<Step> = survey::attachments(&self.topology, &self.choice).collect();
            self.choice = self.choose(&self.topology.clone());
            self.follow_choice(&known)?;
        }
        Ok(survey::possible(&self.topology))
    }

    /// Which devices use which shortcuts; those of before where nobody can tell.
    fn choose(&mut self, topology: &Topology) -> Choice {
        let choice = survey::choose(&self.config, topology, self.host.as_mut(), &self.circumstances);
        choice.unwrap_or_else(|error| {
            tracing::error!("choosing shortcuts: {error:#}");
            self.choice.clone()
        })
    }

    /// Attaches what differs from the steps `known`; true if something did.
    fn follow_choice(&mut self, known: &[Step]) -> Result<bool> {
        let wanted: Vec<Step> = survey::attachments(&self.topology, &self.choice).collect();
        if wanted.iter().map(Step::told).eq(known.iter().map(Step::told)) {
            return Ok(false);
        }
        self.settled = false;
        for step in wanted.iter().filter(|step| !known.iter().any(|known| known.told() == step.told())) {
            if let Step::Attach { link, side, device } = step {
                start::attach(&mut self.plane, &mut self.journal, &self.paths, link, *side, *device)?;
            }
        }
        self.plane.detach_others(&wanted.iter().filter_map(Step::attachment).collect::<Vec<_>>())?;
        self.write_uplinks()?;
        // What is learned from a device holds for what it was.
        self.outdate(Cause::Choice);
        self.circumstances.refused = self.plane.refusals().clone();
        self.settled = true;
        Ok(true)
    }

    /// Puts our table back if somebody changed or removed it, and forgets the connections that began without it: they would
    /// stay untranslated for life. True if that was needed.
    pub fn repair_table(&mut self) -> Result<bool> {
        let name = ruleset::table_name(&self.config.instance);
        let listing = self.host.table(&name)?;
        if listing == self.listing && listing.is_some() {
            return Ok(false);
        }
        tracing::warn!(
            "table inet {name} was {}: putting it back",
            if listing.is_some() { "changed" } else { "removed" }
        );
        let script = self.with_state(ruleset::create);
        self.host.apply(&Change::Nft { summary: format!("table inet {name}"), script })?;
        self.listing = self.host.table(&name)?;
        self.outdate(Cause::Repair);
        self.host.try_apply(&untranslated(&self.observed));
        Ok(true)
    }

    /// What an uplink needs that got its first address of a family after the start.
    fn write_sysctls(&mut self, topology: &Topology, observed: &Observed) -> Result<()> {
        for (key, value) in plan::sysctls(topology, self.config.fast_path, |key| self.host.sysctl(key).ok().flatten()) {
            let change = Change::Sysctl { key, value };
            start::write_down(&change, observed, &self.paths, self.host.as_ref(), &mut self.journal)?;
            self.host.try_apply(&change);
        }
        Ok(())
    }
}

/// Forgets the connections that left by an uplink without translation: not to or from the host, nor to a network that main
/// has a route to.
pub fn untranslated(observed: &Observed) -> Change {
    let local: Vec<IpAddr> = observed.addresses.iter().map(|address| address.network.addr()).collect();
    let routes = observed.routes.iter().filter(|route| route.table == TABLE_MAIN);
    let inside = routes.map(|route| route.destination).filter(|destination| destination.prefix_len() > 0);
    Change::SweepUntranslated { local, inside: inside.collect() }
}
