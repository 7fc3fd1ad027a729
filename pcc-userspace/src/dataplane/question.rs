//! Questions to the programs: what would become of this packet?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use aya::EbpfLoader;
use aya::maps::HashMap;
use aya::programs::{TestRun as _, TestRunOptions};
use pcc_ebpf::abi::{ABI, Flow, FlowKey, map, program};

use super::{DataPlane, OBJECT, classifier, load_program, refused};

impl DataPlane {
    /// Programs and maps of one's own, which nothing is attached to and nobody else sees: for questions.
    pub fn private() -> Result<Self> {
        Self::for_questions(EbpfLoader::new())
    }

    /// [`Self::private`], but with the configuration of the data path that is pinned below `pins`: what belongs to packets
    /// that pass, flows, counters and the like, is its own. `None` if there is no data path.
    pub fn twin(pins: &Path) -> Result<Option<Self>> {
        const OWN: [&str; 7] = [map::FLOWS, map::COUNTERS, map::TRAFFIC, map::NTH, map::STICKY, map::PEERS, map::PULSE];
        let pins = pins.join(ABI.to_string());
        if !map::ALL.iter().all(|name| pins.join(name).exists()) {
            return Ok(None);
        }
        let mut loader = EbpfLoader::new();
        for name in map::ALL.iter().filter(|name| !OWN.contains(name)) {
            loader.map_pin_path(name, pins.join(name));
        }
        Self::for_questions(loader).map(Some)
    }

    fn for_questions(mut loader: EbpfLoader<'_>) -> Result<Self> {
        const FEW: u32 = 64;
        loader.map_max_entries(map::FLOWS, FEW);
        loader.map_max_entries(map::STICKY, FEW);
        loader.map_max_entries(map::PEERS, FEW);
        loader.override_global(aya_log::LEVEL, &0_u8, false);
        let mut ebpf = loader.load(OBJECT).map_err(|error| refused(&error.into()))?;
        for name in [program::LAN_INGRESS, program::MIRROR_INGRESS] {
            load_program(classifier(&mut ebpf, name)?).map_err(|error| refused(&anyhow!(error).context(name)))?;
        }
        Ok(Self {
            ebpf,
            pins: PathBuf::new(),
            adopted: false,
            clsact: Vec::new(),
            refusals: BTreeMap::new(),
            shares: Default::default(),
        })
    }

    /// Gives `packet`, a frame as it arrives by the device with index `ifindex`, to `program`, and returns its mark.
    pub fn test(&mut self, program: &str, ifindex: u32, packet: &[u8]) -> Result<u32> {
        // `struct __sk_buff`: 192 bytes, the mark at 8, the index of the device at 40.
        let (mut context, mut after) = ([0; 192], [0; 192]);
        context[40..44].copy_from_slice(&ifindex.to_ne_bytes());
        let run = TestRunOptions {
            data_in: Some(packet),
            ctx_in: Some(&context),
            ctx_out: Some(&mut after),
            ..TestRunOptions::new()
        };
        classifier(&mut self.ebpf, program)?.test_run(run)?;
        Ok(u32::from_ne_bytes([after[8], after[9], after[10], after[11]]))
    }

    /// Puts an entry into the flow cache.
    pub fn set_flow(&mut self, key: FlowKey, flow: Flow) -> Result<()> {
        let map = self.ebpf.map_mut(map::FLOWS).context("map of flows")?;
        Ok(HashMap::<_, FlowKey, Flow>::try_from(map)?.insert(key, flow, 0)?)
    }
}
