//! Programs of others beside ours.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use aya::programs::links::{FdLink, PinnedLink};
use pcc_bpf::{Direction, tcx_programs};

use super::attach::link_ifindex;

/// Below it every instance has its pins, in folders of ABIs.
const PINS: &str = "/sys/fs/bpf/pcc";

/// The first program of somebody else that TCX runs on the device at ingress, behind ours or where there is none of ours; and
/// the first one at egress. Kernels without TCX have none.
pub fn others(ifindex: u32) -> [Option<String>; 2] {
    let programs = |direction| tcx_programs(ifindex, direction).unwrap_or_default();
    let (ingress, egress) = (programs(Direction::Ingress), programs(Direction::Egress));
    if ingress.is_empty() && egress.is_empty() {
        return [None, None];
    }
    let ours = ours(ifindex);
    let egress = egress.into_iter().find(|id| !ours.contains(id));
    // Its name is for those who may do everything, which a running controller may not.
    [behind(&ours, ingress), egress].map(|id| id.map(|id| format!("BPF program {id}")))
}

/// Programs that our pinned links, of whatever instance, have on device `ifindex`.
fn ours(ifindex: u32) -> BTreeSet<u32> {
    let entries = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let pins = entries(PINS.into()).flat_map(entries).flat_map(entries);
    let here = pins.filter(|pin| pin.file_name().and_then(link_ifindex) == Some(ifindex));
    let program = |pin| Some(FdLink::from(PinnedLink::from_pin(pin).ok()?).info().ok()?.program_id());
    here.filter_map(program).collect()
}

/// The first of `programs` that is not one of `ours` and does not run before all of them.
fn behind(ours: &BTreeSet<u32>, programs: Vec<u32>) -> Option<u32> {
    let first = programs.iter().position(|id| ours.contains(id)).unwrap_or(0);
    programs.into_iter().skip(first).find(|id| !ours.contains(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_before_ours_sees_each_packet_anyway() {
        let behind = |programs: &[u32]| behind(&[1, 2].into(), programs.to_vec());
        assert_eq!(behind(&[]), None);
        assert_eq!(behind(&[1, 2]), None);
        assert_eq!(behind(&[7, 1, 2]), None);
        assert_eq!(behind(&[7, 1, 8]), Some(8));
        assert_eq!(behind(&[7]), Some(7), "ours will come before it");
    }
}
