//! The pinned maps, read by somebody else than the one who changes them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use pcc_ebpf::abi::{
    ABI, Device, Epoch, Flow, FlowKey, Settings, Shortcut, Shortcut4, Shortcut6, ShortcutKey, ShortcutKey4,
    ShortcutKey6, Uplink, map, way,
};
use pcc_ebpf::shortcut::{self, Address, Passage};

use super::shortcuts::{key4, key6, tick};

/// The maps of a data path, for reading. Reading does not count as use: it keeps nothing in a cache.
pub struct Pinned {
    /// What holds for the instance.
    pub settings: Settings,
    /// What the programs know of devices, by interface index.
    pub devices: BTreeMap<u32, Device>,
    epochs: Array<MapData, Epoch>,
    uplinks: Array<MapData, Uplink>,
    flows: HashMap<MapData, FlowKey, Flow>,
    short4: HashMap<MapData, ShortcutKey4, Shortcut4>,
    short6: HashMap<MapData, ShortcutKey6, Shortcut6>,
}

/// What one shortcut counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Packets; wraps after 2³².
    pub packets: u32,
    /// Bytes of IP packets.
    pub bytes: u64,
    /// The next packet takes it, too.
    pub holds: bool,
}

impl Pinned {
    /// Those below `pins`; `None` if there is no data path.
    ///
    /// # Errors
    /// No right to read them.
    pub fn open(pins: &Path) -> Result<Option<Self>> {
        let pins = pins.join(ABI.to_string());
        if !pins.try_exists().with_context(|| format!("looking for {}", pins.display()))? {
            return Ok(None);
        }
        let data = |name: &str| {
            MapData::from_pin(pins.join(name)).with_context(|| format!("opening {}", pins.join(name).display()))
        };
        let devices = HashMap::<_, u32, Device>::try_from(Map::HashMap(data(map::DEVICES)?))?;
        Ok(Some(Self {
            settings: Array::try_from(Map::Array(data(map::SETTINGS)?))?.get(&0, 0)?,
            devices: devices.iter().collect::<Result<_, _>>()?,
            epochs: Array::try_from(Map::Array(data(map::EPOCHS)?))?,
            uplinks: Array::try_from(Map::Array(data(map::UPLINKS)?))?,
            flows: HashMap::try_from(Map::LruHashMap(data(map::FLOWS)?))?,
            short4: HashMap::try_from(Map::LruHashMap(data(map::SHORT4)?))?,
            short6: HashMap::try_from(Map::LruHashMap(data(map::SHORT6)?))?,
        }))
    }

    /// The cached decision for packets from one end to the other, if it is not stale.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub fn flow(&self, from: SocketAddr, to: SocketAddr, protocol: u8) -> Result<Option<Flow>> {
        let Some(flow) = found(self.flows.get(&FlowKey::new(from, to, protocol), 0))? else { return Ok(None) };
        let generation = match flow.uplink {
            0 => self.settings.rules_generation,
            id => self.uplinks.get(&id, 0)?.generation,
        };
        Ok((flow.generation == generation).then_some(flow))
    }

    /// What the shortcut of packets from one end to the other counted, which come in by one of `devices`.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub fn shortcut(&self, ends: (SocketAddr, SocketAddr), protocol: u8, devices: &[u32]) -> Result<Option<Taken>> {
        match (key4(ends), key6(ends)) {
            (Some(key), _) => self.taken(&self.short4, key, protocol, devices),
            (_, Some(key)) => self.taken(&self.short6, key, protocol, devices),
            (None, None) => Ok(None),
        }
    }

    /// Shortcuts are learned and taken.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub fn has_shortcuts(&self) -> Result<bool> {
        let is_any = self.short4.keys().next().is_some() || self.short6.keys().next().is_some();
        Ok(is_any || self.lease(1)? > 0)
    }

    fn lease(&self, uplink: u32) -> Result<u32> {
        Ok(self.epochs.get(&uplink, 0)?.lease)
    }

    fn taken<A: Address>(
        &self,
        map: &HashMap<MapData, ShortcutKey<A>, Shortcut<A::Stored>>,
        key: ShortcutKey<A>,
        protocol: u8,
        devices: &[u32],
    ) -> Result<Option<Taken>>
    where
        ShortcutKey<A>: Pod,
        Shortcut<A::Stored>: Pod,
    {
        let Some(shortcut) = found(map.get(&key, 0))? else { return Ok(None) };
        let by = |ifindex: &u32| Passage { key, way: way(*ifindex, protocol.into()) };
        if !devices.iter().any(|ifindex| by(ifindex).check() == shortcut.check) {
            return Ok(None);
        }
        let epoch = self.epochs.get(&shortcut.uplink.into(), 0)?;
        let holds = shortcut::holds(&shortcut, &epoch, tick());
        Ok(Some(Taken { packets: shortcut.packets, bytes: shortcut.bytes, holds }))
    }
}

fn found<V>(value: Result<V, MapError>) -> Result<Option<V>> {
    match value {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
