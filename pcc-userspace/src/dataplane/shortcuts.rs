//! Shortcuts: what makes them stale, how long they last, and how one is forgotten.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use aya::Pod;
use aya::maps::{HashMap, MapError};
use pcc_ebpf::abi::{Epoch, MAX_UPLINK, Shortcut4, Shortcut6, ShortcutKey, ShortcutKey4, ShortcutKey6, TICK, map};
use pcc_ebpf::flow;

use super::DataPlane;
use crate::host::netlink::Ended;

impl DataPlane {
    /// What the shortcuts of uplink `id` hang on.
    pub fn epoch(&self, id: u32) -> Result<Epoch> {
        Ok(self.array(map::EPOCHS)?.get(&id, 0)?)
    }

    /// Replaces it.
    pub fn set_epoch(&mut self, id: u32, epoch: Epoch) -> Result<()> {
        Ok(self.array_mut::<Epoch>(map::EPOCHS)?.set(id, epoch, 0)?)
    }

    /// Makes all shortcuts of the uplinks `ids` stale, and what is being learned.
    pub fn raise_epochs(&mut self, ids: impl IntoIterator<Item = u32>) -> Result<()> {
        let mut epochs = self.array_mut::<Epoch>(map::EPOCHS)?;
        for id in std::iter::once(0).chain(ids) {
            let epoch = epochs.get(&id, 0)?;
            epochs.set(id, Epoch { generation: epoch.generation.wrapping_add(1), ..epoch }, 0)?;
        }
        Ok(())
    }

    /// Makes all shortcuts stale.
    pub fn raise_all_epochs(&mut self) -> Result<()> {
        self.raise_epochs(1..=MAX_UPLINK)
    }

    /// From now on shortcuts of all uplinks last for `seconds`; 0: there are none.
    pub fn set_lease(&mut self, seconds: u32) -> Result<()> {
        let mut epochs = self.array_mut::<Epoch>(map::EPOCHS)?;
        for id in 1..=MAX_UPLINK {
            let epoch = epochs.get(&id, 0)?;
            epochs.set(id, Epoch { lease: ticks(seconds), ..epoch }, 0)?;
        }
        Ok(())
    }

    /// Forgets both shortcuts of each of the connections that ended.
    pub fn forget_connections(&mut self, ended: &[Ended]) -> Result<()> {
        self.forget::<_, Shortcut4>(map::SHORT4, ended, key4)?;
        self.forget::<_, Shortcut6>(map::SHORT6, ended, key6)
    }

    /// Removes the keys that `key` makes from the map called `name`.
    fn forget<K: Pod, V: Pod>(
        &mut self,
        name: &str,
        ended: &[Ended],
        key: impl Fn((SocketAddr, SocketAddr)) -> Option<K>,
    ) -> Result<()> {
        let map = self.ebpf.map_mut(name).with_context(|| format!("map `{name}`"))?;
        let mut map = HashMap::<_, K, V>::try_from(map)?;
        for key in ended.iter().flat_map(|ended| [key(ended.original), key(ended.reply)]).flatten() {
            match map.remove(&key) {
                // Most were never learned.
                Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => {}
                outcome => outcome.with_context(|| format!("forgetting a shortcut in `{name}`"))?,
            }
        }
        Ok(())
    }
}

/// Whole [`TICK`]s in `seconds`.
const fn ticks(seconds: u32) -> u32 {
    ((seconds as u64 * 1_000_000_000) >> TICK) as u32
}

/// The clock of leases.
pub(super) fn tick() -> u32 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    let nanoseconds = time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs();
    (nanoseconds >> TICK) as u32
}

/// The key of packets from one end to the other; `None` if they are not IPv4.
pub(super) fn key4((from, to): (SocketAddr, SocketAddr)) -> Option<ShortcutKey4> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (from.ip(), to.ip()) else { return None };
    let [source, destination] = [source, destination].map(|address| u32::from_ne_bytes(address.octets()));
    let [source_port, destination_port] = [from, to].map(|end| end.port().to_be());
    Some(ShortcutKey { source, destination, source_port, destination_port })
}

/// Likewise of IPv6.
pub(super) fn key6((from, to): (SocketAddr, SocketAddr)) -> Option<ShortcutKey6> {
    if from.is_ipv4() || to.is_ipv4() {
        return None;
    }
    let [source, destination] = [from, to].map(|end| flow::words(end.ip()));
    let [source_port, destination_port] = [from, to].map(|end| end.port().to_be());
    Some(ShortcutKey { source, destination, source_port, destination_port })
}
