//! The programs of `pcc trace`: on the devices for as long as the [`Tracer`] lives, or its process.

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{Array, HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use pcc_ebpf::trace::{Filter, PROGRAMS, Report, map};

use super::attach::lacks_tcx;
use super::{classifier, load_program, refused};
use crate::host::Link;
use crate::problem::Problem;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pcc-trace"));

/// Reports packets.
pub struct Tracer {
    // Its links end with it; the kernel ends them with the process, however that ends.
    ebpf: Ebpf,
    reports: RingBuf<MapData>,
}

impl Tracer {
    /// Begins to report packets of `devices` that `filter` wants.
    ///
    /// # Errors
    /// No rights, or a kernel without TCX.
    pub fn attach(devices: &[&Link], filter: Filter) -> Result<Self> {
        let mut ebpf = EbpfLoader::new().load(OBJECT).map_err(|error| refused(&error.into()))?;
        let map = ebpf.map_mut(map::FILTER).context("map of the filter")?;
        Array::<_, Filter>::try_from(map)?.set(0, filter, 0)?;
        let map = ebpf.map_mut(map::DEVICES).context("map of devices")?;
        let mut lengths = HashMap::<_, u32, u32>::try_from(map)?;
        for device in devices {
            lengths.insert(device.index, device.header_length(), 0)?;
        }
        // Before all others at both: what comes in is seen before a shortcut takes it.
        for (name, direction) in PROGRAMS.into_iter().zip([TcAttachType::Ingress, TcAttachType::Egress]) {
            let program = classifier(&mut ebpf, name)?;
            load_program(program).map_err(|error| refused(&anyhow!(error).context(name)))?;
            for device in devices {
                let order = TcAttachOptions::TcxOrder(LinkOrder::first());
                match program.attach_with_options(&device.name, direction, order) {
                    Err(error) if lacks_tcx(&error) => return Err(without_tcx().into()),
                    outcome => outcome.with_context(|| format!("attaching `{name}` to `{}`", device.name))?,
                };
            }
        }
        let reports = ebpf.take_map(map::REPORTS).context("map of reports")?;
        Ok(Self { reports: RingBuf::try_from(reports)?, ebpf })
    }

    /// What came since the last time.
    pub fn take(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        while let Some(bytes) = self.reports.next() {
            reports.extend(Report::read(&bytes));
        }
        reports
    }

    /// Packets that came faster than they were taken.
    pub fn lost(&self) -> Result<u64> {
        let map = PerCpuArray::<_, u64>::try_from(self.ebpf.map(map::LOST).context("map of what is lost")?)?;
        Ok(map.get(&0, 0)?.iter().sum())
    }
}

fn without_tcx() -> Problem {
    Problem::new("this kernel runs no programs that end with their owner", "`pcc trace` needs Linux 6.6 or newer")
}
