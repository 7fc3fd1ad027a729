//! What shortcuts hang on: leases and generations.

use anyhow::Result;
use pcc_ebpf::abi::{Epoch, TICK, UPLINK_SLOTS, map};

use super::DataPlane;

impl DataPlane {
    /// The epoch of uplink `id`.
    pub fn epoch(&self, id: u32) -> Result<Epoch> {
        Ok(self.array(map::EPOCHS)?.get(&id, 0)?)
    }

    /// Makes all shortcuts of these uplinks stale, and what is being learned.
    pub fn raise_epochs(&mut self, ids: impl IntoIterator<Item = u32>) -> Result<()> {
        for id in std::iter::once(0).chain(ids) {
            let epoch = self.epoch(id)?;
            let generation = epoch.generation.wrapping_add(1);
            self.array_mut(map::EPOCHS)?.set(id, Epoch { generation, ..epoch }, 0)?;
        }
        Ok(())
    }

    /// Gives all shortcuts leases of `seconds`; 0: there are none.
    pub fn set_lease(&mut self, seconds: u32) -> Result<()> {
        for id in 0..UPLINK_SLOTS {
            let epoch = Epoch { lease: ticks(seconds), ..self.epoch(id)? };
            self.array_mut(map::EPOCHS)?.set(id, epoch, 0)?;
        }
        Ok(())
    }
}

/// Whole [`TICK`]s in `seconds`.
const fn ticks(seconds: u32) -> u32 {
    ((seconds as u64 * 1_000_000_000) >> TICK) as u32
}
