//! The only code that knows aya: loads the object, pins, adopts, attaches, and gives the maps types.
//!
//! Everything is pinned below `<pins>/<abi>/`: maps by name, links as `<ifindex>-<program>`. Whoever loads next finds
//! them and goes on with the same maps; dropping a [`DataPlane`] leaves the kernel side running.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{Array, HashMap, MapData, MapInfo, PerCpuArray};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use pcc_ebpf::abi::{ABI, Beat, Counter, Flow, FlowKey, Pulse, Settings, Traffic, Uplink, map, program, pulse_index};

use crate::problem::{NEEDED_RIGHTS, Problem};
use crate::survey::Known;

/// The compiled programs.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pcc-ebpf"));

/// Most groups of connections that keep to an uplink; the flow cache bounds them too.
pub const STICKY_ENTRIES: u32 = 65_536;

pub use attach::remove;
pub use others::others;
pub use pinned::{Pinned, Taken};
pub use publish::SET_SPACE;
pub use tracer::Tracer;

mod attach;
mod cgroup;
mod devices;
mod others;
mod pinned;
pub mod probe;
mod publish;
mod question;
mod shortcuts;
mod tracer;

/// The loaded programs and their maps.
pub struct DataPlane {
    ebpf: Ebpf,
    pins: PathBuf,
    adopted: bool,
    clsact: Vec<String>,
    refusals: BTreeMap<u32, String>,
    shares: [BTreeMap<u32, u32>; 2],
}

/// Entries of the maps whose size depends on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Of the flow cache.
    pub flows: u32,
    /// Of the shortcuts of each family, one for each direction of a connection.
    pub shortcuts: u32,
}

/// Which side of the router a device is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Towards the clients.
    Lan,
    /// Towards an ISP.
    Uplink,
    /// Either, where RouterOS rules decide.
    Mirror,
}

impl Side {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Lan, Self::Uplink, Self::Mirror];

    /// Its programs, ingress first.
    pub const fn programs(self) -> [(&'static str, TcAttachType); 2] {
        match self {
            Self::Lan => [(program::LAN_INGRESS, TcAttachType::Ingress), (program::LAN_EGRESS, TcAttachType::Egress)],
            Self::Uplink => {
                [(program::UPLINK_INGRESS, TcAttachType::Ingress), (program::UPLINK_EGRESS, TcAttachType::Egress)]
            }
            Self::Mirror => {
                [(program::MIRROR_INGRESS, TcAttachType::Ingress), (program::MIRROR_EGRESS, TcAttachType::Egress)]
            }
        }
    }
}

impl DataPlane {
    /// Loads the object, with new maps or with those pinned below `pins` by an earlier run of the same ABI.
    /// `sizes` are those of new maps; `log_level` is aya-log's (0: no logging code at all).
    ///
    /// # Errors
    /// No bpffs at `pins`, no rights, or a kernel that refuses a program, with its reason.
    pub fn load(pins: &Path, sizes: Sizes, log_level: u8) -> Result<Self> {
        let pins = pins.join(ABI.to_string());
        let adopted = map::ALL.iter().all(|name| pins.join(name).exists());
        create_pin_directory(&pins)?;
        let mut loader = EbpfLoader::new();
        loader.map_max_entries(map::FLOWS, sizes.flows);
        loader.map_max_entries(map::STICKY, sizes.flows.min(STICKY_ENTRIES));
        loader.map_max_entries(map::SHORT4, sizes.shortcuts);
        loader.map_max_entries(map::SHORT6, sizes.shortcuts);
        loader.override_global(aya_log::LEVEL, &log_level, false);
        for name in map::ALL {
            loader.map_pin_path(name, pins.join(name));
        }
        let mut ebpf = loader.load(OBJECT).map_err(|error| refused(&error.into()))?;
        load_programs(&mut ebpf)?;
        Ok(Self { ebpf, pins, adopted, clsact: Vec::new(), refusals: BTreeMap::new(), shares: Default::default() })
    }

    /// The maps were there before: their contents are those of the connections that are alive.
    pub const fn adopted(&self) -> bool {
        self.adopted
    }

    /// Devices to which this run added a clsact qdisc, for want of TCX.
    pub fn clsact_devices(&self) -> &[String] {
        &self.clsact
    }

    /// The aya object, for log readers and tests.
    pub const fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// The instance's settings.
    pub fn settings(&self) -> Result<Settings> {
        Ok(self.array(map::SETTINGS)?.get(&0, 0)?)
    }

    /// Replaces the instance's settings.
    pub fn set_settings(&mut self, settings: &Settings) -> Result<()> {
        Ok(self.array_mut::<Settings>(map::SETTINGS)?.set(0, settings, 0)?)
    }

    /// The state of uplink `id`.
    pub fn uplink(&self, id: u32) -> Result<Uplink> {
        Ok(self.array(map::UPLINKS)?.get(&id, 0)?)
    }

    /// Replaces the state of uplink `id`.
    pub fn set_uplink(&mut self, id: u32, uplink: Uplink) -> Result<()> {
        Ok(self.array_mut::<Uplink>(map::UPLINKS)?.set(id, uplink, 0)?)
    }

    /// The cached decision for a flow.
    pub fn flow(&self, key: &FlowKey) -> Result<Option<Flow>> {
        let map = self.ebpf.map(map::FLOWS).context("map of flows")?;
        match HashMap::<_, FlowKey, Flow>::try_from(map)?.get(key, 0) {
            Ok(flow) => Ok(Some(flow)),
            Err(aya::maps::MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Every counter, summed over CPUs.
    pub fn counters(&self) -> Result<Vec<(Counter, u64)>> {
        let map = PerCpuArray::<_, u64>::try_from(self.ebpf.map(map::COUNTERS).context("map of counters")?)?;
        Counter::ALL.iter().map(|counter| Ok((*counter, map.get(&(*counter as u32), 0)?.iter().sum()))).collect()
    }

    /// Traffic of uplink `id`, summed over CPUs.
    pub fn traffic(&self, id: u32) -> Result<Traffic> {
        let map = PerCpuArray::<_, Traffic>::try_from(self.ebpf.map(map::TRAFFIC).context("map of traffic")?)?;
        Ok(map.get(&id, 0)?.iter().fold(Traffic::default(), |sum, cpu| Traffic {
            packets_out: sum.packets_out + cpu.packets_out,
            bytes_out: sum.bytes_out + cpu.bytes_out,
            packets_in: sum.packets_in + cpu.packets_in,
            bytes_in: sum.bytes_in + cpu.bytes_in,
            connections: sum.connections + cpu.connections,
            shortcuts_tc: sum.shortcuts_tc + cpu.shortcuts_tc,
            shortcuts_xdp: sum.shortcuts_xdp + cpu.shortcuts_xdp,
        }))
    }

    /// Questions and answers of uplink `id` in `family` ([`IPV4`](pcc_ebpf::abi::IPV4) or [`IPV6`](pcc_ebpf::abi::IPV6)),
    /// summed over CPUs.
    pub fn pulse(&self, id: u32, family: u32) -> Result<Pulse> {
        let map = PerCpuArray::<_, Pulse>::try_from(self.ebpf.map(map::PULSE).context("map of pulses")?)?;
        let beat = |sum: Beat, cpu: Beat| Beat { asked: sum.asked + cpu.asked, answered: sum.answered + cpu.answered };
        Ok(map.get(&pulse_index(id, family), 0)?.iter().fold(Pulse::default(), |sum, cpu| Pulse {
            tcp: beat(sum.tcp, cpu.tcp),
            other: beat(sum.other, cpu.other),
        }))
    }

    fn array<V: Pod>(&self, name: &str) -> Result<Array<&MapData, V>> {
        Ok(Array::try_from(self.ebpf.map(name).with_context(|| format!("map `{name}`"))?)?)
    }

    fn array_mut<V: Pod>(&mut self, name: &str) -> Result<Array<&mut MapData, V>> {
        Ok(Array::try_from(self.ebpf.map_mut(name).with_context(|| format!("map `{name}`"))?)?)
    }
}

/// Entries of the flow cache that is pinned below `pins`, if there is one.
pub fn pinned_flow_entries(pins: &Path) -> Option<u32> {
    pinned_entries(pins, map::FLOWS)
}

/// The same for shortcuts of one family.
pub fn pinned_shortcut_entries(pins: &Path) -> Option<u32> {
    pinned_entries(pins, map::SHORT4)
}

fn pinned_entries(pins: &Path, map: &str) -> Option<u32> {
    Some(MapInfo::from_pin(pins.join(ABI.to_string()).join(map)).ok()?.max_entries())
}

/// A data path is pinned below `pins`, of whatever ABI.
pub fn is_pinned(pins: &Path) -> bool {
    fs::read_dir(pins).is_ok_and(|mut entries| entries.next().is_some())
}

/// Ends the data paths of other ABIs that are pinned below `pins`, once ours is in their place.
pub fn remove_other_versions(pins: &Path) -> Result<()> {
    let ours = ABI.to_string();
    let entries = fs::read_dir(pins).with_context(|| format!("reading {}", pins.display()))?;
    for entry in entries.filter_map(Result::ok).filter(|entry| entry.file_name() != ours.as_str()) {
        fs::remove_dir_all(entry.path()).with_context(|| format!("removing {}", entry.path().display()))?;
    }
    Ok(())
}

/// What the data path that is pinned below `pins` knows of its uplinks; nothing if there is none.
pub fn known(pins: &Path) -> Known {
    let pin = pins.join(ABI.to_string()).join(map::UPLINKS);
    let array =
        MapData::from_pin(pin).ok().and_then(|data| Array::<_, Uplink>::try_from(aya::maps::Map::Array(data)).ok());
    let slots = array.iter().flat_map(|array| (1..array.len()).filter_map(|id| Some((id, array.get(&id, 0).ok()?))));
    Known(
        slots
            .filter(|(_, slot)| slot.mark != 0)
            .map(|(id, slot)| (id, [slot.live & 1 != 0, slot.live & 2 != 0]))
            .collect(),
    )
}

fn create_pin_directory(pins: &Path) -> Result<()> {
    if !probe::has_bpffs() {
        return Err(Problem::new(
            format!("no BPF file system at `{}`", probe::BPFFS),
            "mount it: `mount -t bpf bpf /sys/fs/bpf`",
        )
        .into());
    }
    fs::create_dir_all(pins)
        .map_err(|error| Problem::new(format!("creating `{}`: {error}", pins.display()), NEEDED_RIGHTS).into())
}

fn refused(error: &anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    let hint = if text.contains("ermitted") || text.contains("EPERM") {
        NEEDED_RIGHTS
    } else {
        "pcc needs Linux 6.1 or newer with CONFIG_BPF_SYSCALL; `pcc doctor` tries what else it needs"
    };
    Problem::new(format!("the kernel refused the programs: {text}"), hint).into()
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    let program = ebpf.program_mut(name).with_context(|| format!("no program `{name}` in the object"))?;
    Ok(program.try_into()?)
}

/// Gives the programs of devices to the kernel, attached to nothing.
fn load_programs(ebpf: &mut Ebpf) -> Result<()> {
    for name in Side::ALL.into_iter().flat_map(Side::programs).map(|(name, _)| name).chain([program::SHORTCUT]) {
        load_program(classifier(ebpf, name)?).map_err(|error| refused(&anyhow!(error).context(name)))?;
    }
    let xdp: &mut Xdp = ebpf.program_mut(program::SHORTCUT_XDP).context("no XDP program in the object")?.try_into()?;
    again(|| xdp.load()).map_err(|error| refused(&anyhow!(error).context(program::SHORTCUT_XDP)))
}

fn load_program(program: &mut SchedClassifier) -> Result<(), ProgramError> {
    again(|| program.load())
}

/// The verifier gives up with EAGAIN when a signal is pending for the thread; libbpf tries five times as well.
fn again(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    for _ in 0..4 {
        match load() {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
    load()
}
