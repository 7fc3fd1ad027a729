//! The map of devices: which slot is whose.

use std::io::ErrorKind;

use anyhow::{Context as _, Result};
use aya::maps::{MapError, xdp::DevMapHash};
use pcc_ebpf::abi::{DEVICE_PROBES, DEVICE_SLOTS, Device, device, device_slot, map};

use super::DataPlane;
use crate::problem::Problem;

impl DataPlane {
    /// Tells the programs about the device with index `ifindex`.
    ///
    /// # Errors
    /// Other devices have all slots that it may be in.
    pub fn set_device(&mut self, ifindex: u32, device: Device) -> Result<()> {
        let mut map = self.array_mut::<Device>(map::DEVICES)?;
        let mut owners = Vec::new();
        for probe in 0..DEVICE_PROBES {
            owners.push(map.get(&device_slot(ifindex, probe), 0)?.ifindex);
        }
        let Some(probe) = probe(&owners, ifindex) else {
            let message = format!("the devices with indices {owners:?} leave no room for that with index {ifindex}");
            return Err(Problem::new(message, "make one of them anew, which gives it another index").into());
        };
        map.set(device_slot(ifindex, probe), Device { ifindex, ..device }, 0)?;
        self.lead_frames_to(ifindex, device.shortcuts & device::FRAMES != 0)
    }

    /// Whether XDP may redirect frames to the device with index `ifindex`. The kernel itself forgets one that is gone.
    fn lead_frames_to(&mut self, ifindex: u32, may: bool) -> Result<()> {
        let mut map = DevMapHash::try_from(self.ebpf.map_mut(map::FRAMES).context("map of devices that take frames")?)?;
        if may {
            return Ok(map.insert(ifindex, ifindex, None, 0)?);
        }
        match map.remove(ifindex) {
            Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// Forgets all devices but those whose indices are to `keep`.
    pub(super) fn forget_other_devices(&mut self, keep: impl Fn(u32) -> bool) -> Result<()> {
        let mut map = self.array_mut::<Device>(map::DEVICES)?;
        let mut forgotten = Vec::new();
        for slot in 0..DEVICE_SLOTS {
            let device = map.get(&slot, 0)?;
            if device.ifindex != 0 && !keep(device.ifindex) {
                // First whose it is, so that no program reads half of an entry.
                map.set(slot, Device { ifindex: 0, ..device }, 0)?;
                forgotten.push(device.ifindex);
            }
        }
        forgotten.into_iter().try_for_each(|ifindex| self.lead_frames_to(ifindex, false))
    }
}

/// Which of the slots of a device, with the indices of their owners, to use: its own, or a free one (0).
fn probe(owners: &[u32], ifindex: u32) -> Option<u32> {
    let find = |wanted| (0..).zip(owners).find(|(_, owner)| **owner == wanted).map(|(probe, _)| probe);
    find(ifindex).or_else(|| find(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_keeps_its_slot_and_takes_no_other_ones() {
        assert_eq!(probe(&[0, 0, 0, 0], 7), Some(0));
        assert_eq!(probe(&[519, 0, 0, 0], 7), Some(1));
        assert_eq!(probe(&[0, 7, 0, 0], 7), Some(1), "the first was of another one that has gone");
        assert_eq!(probe(&[519, 1031, 8, 9], 7), None);
    }
}
