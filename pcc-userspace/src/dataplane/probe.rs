//! What the kernel can do, found out by trying; nothing stays of it.

use std::path::Path;

use anyhow::Result;
use aya::EbpfLoader;
use aya::programs::{SchedClassifier, TcAttachType};
use pcc_ebpf::abi::map;

use super::{OBJECT, cgroup, load_programs, refused};

/// Where the BPF file system belongs.
pub const BPFFS: &str = "/sys/fs/bpf";
/// Sized maps get so many entries.
const ENTRIES: u32 = 64;

/// A BPF file system is mounted at [`BPFFS`].
pub fn has_bpffs() -> bool {
    const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
    rustix::fs::statfs(Path::new(BPFFS)).is_ok_and(|stat| stat.f_type as u64 & 0xffff_ffff == BPF_FS_MAGIC)
}

/// Control groups of version 2 are mounted.
pub fn has_cgroup2() -> bool {
    cgroup::cgroup_root().is_ok_and(|root| root.is_some())
}

/// The kernel knows TCX. Takes the right to use BPF.
pub fn has_tcx() -> bool {
    SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok()
}

/// Has the kernel take all programs and maps, small ones, and lets go of them.
///
/// # Errors
/// It refuses one, with its reason; or there is no right to ask.
pub fn load() -> Result<()> {
    let mut loader = EbpfLoader::new();
    for name in [map::FLOWS, map::STICKY, map::SHORT4, map::SHORT6] {
        loader.map_max_entries(name, ENTRIES);
    }
    loader.override_global(aya_log::LEVEL, &0u8, false);
    let mut ebpf = loader.load(OBJECT).map_err(|error| refused(&error.into()))?;
    load_programs(&mut ebpf)
}

/// The names of what is pinned below `pins`, one for each ABI; `None` where they cannot be listed.
pub fn versions(pins: &Path) -> Option<Vec<String>> {
    match std::fs::read_dir(pins) {
        Ok(entries) => {
            let mut names: Vec<String> =
                entries.filter_map(Result::ok).map(|it| it.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            Some(names)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(Vec::new()),
        Err(_) => None,
    }
}
