//! Uplinks leave and come back: who takes new connections, and what becomes of those that are there.

use anyhow::Result;

use super::{Cause, Instance};
use crate::host::{Change, Family};
use crate::plan::{self, Standing};
use crate::ruleset;

/// Connections of an uplink in a family.
pub type Part = (u32, Family);

impl Instance {
    /// Makes `standing` what the uplinks are good for. The order matters: first an uplink that comes can keep connections,
    /// then nothing new goes to one that left, then its cached decisions become stale, then its connections are forgotten.
    ///
    /// Returns the uplinks whose clients are being told by resets: [`Self::finish`] forgets the rest of their connections.
    pub fn publish(&mut self, standing: Standing) -> Result<Vec<Part>> {
        let old = self.standing.clone();
        self.standing.carrying = old.carrying.union(&standing.carrying);
        if self.standing.carrying != old.carrying {
            self.update_elements();
        }
        self.standing = standing;
        self.ending.retain(|(id, family)| !self.standing.carrying.has(*family, *id));
        let left = |(id, family): &Part| old.carrying.has(*family, *id) && !self.standing.carrying.has(*family, *id);
        let gone: Vec<Part> = self.parts().filter(left).collect();
        self.end(&gone)
    }

    /// Ends the connections of `parts`, whatever their uplinks are good for.
    pub fn end(&mut self, parts: &[Part]) -> Result<Vec<Part>> {
        let told: Vec<Part> = parts.iter().copied().filter(|(id, _)| self.tells(*id)).collect();
        self.ending.extend(&told);
        self.write_buckets()?;
        self.update_elements();
        for (id, _) in parts {
            let mut uplink = self.plane.uplink(*id)?;
            uplink.generation = uplink.generation.wrapping_add(1);
            self.plane.set_uplink(*id, uplink)?;
        }
        self.outdate_uplinks(Cause::Ended, &parts.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        self.write_uplinks()?;
        self.forget(parts);
        for change in plan::routing(&self.config, &self.topology, &self.standing.taking, &self.observed) {
            self.host.try_apply(&change);
        }
        // What a packet in flight began on the old decision meanwhile.
        self.forget(parts);
        Ok(told)
    }

    /// Stops resetting, and forgets what is left of the connections of `part`, unless its uplink came back meanwhile: then
    /// they go on.
    pub fn finish(&mut self, part: Part) {
        if self.ending.remove(&part) {
            self.outdate_uplinks(Cause::Ended, &[part.0]);
            let change = self.deletion(part);
            self.host.try_apply(&change);
            self.update_elements();
        }
    }

    /// Both families of every uplink.
    fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        self.topology.uplinks.iter().flat_map(|uplink| Family::BOTH.map(|family| (uplink.id, family)))
    }

    fn tells(&self, id: u32) -> bool {
        self.topology.uplinks.iter().any(|uplink| uplink.id == id && uplink.config.reset_clients)
    }

    fn forget(&mut self, parts: &[Part]) {
        let marks = self.config.marks;
        for part in parts {
            let change = if self.ending.contains(part) {
                Change::EndConnections {
                    family: part.1,
                    mark: marks.of(part.0),
                    mask: marks.id_mask(),
                    wake: ruleset::wake_mark(&self.config),
                }
            } else {
                self.deletion(*part)
            };
            self.host.try_apply(&change);
        }
    }

    fn deletion(&self, (id, family): Part) -> Change {
        let marks = self.config.marks;
        Change::DeleteConnections { family: Some(family), mark: marks.of(id), mask: marks.id_mask() }
    }
}
