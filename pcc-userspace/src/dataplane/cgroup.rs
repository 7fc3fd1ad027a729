//! The programs of the router's own sockets, on the root control group.

use std::fs::{self, File};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use aya::maps::Array;
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSockAddr};
use pcc_ebpf::abi::{map, netns, program};

use super::{DataPlane, again, refused};

impl DataPlane {
    /// Attaches the programs of the router's own sockets, in the place of those of an earlier run: for a moment both are
    /// there, and do the same. The calling thread is in the router's network namespace. False where there is no control
    /// group of version 2.
    ///
    /// # Errors
    /// The kernel refuses a program, or does not run it for this process.
    pub fn attach_router(&mut self) -> Result<bool> {
        let Some(root) = cgroup_root()? else { return Ok(false) };
        for name in [program::CONNECT4, program::CONNECT6] {
            self.attach_to_group(&root, name).with_context(|| format!("attaching `{name}` to `{}`", root.display()))?;
        }
        self.learn_namespace()?;
        Ok(true)
    }

    fn attach_to_group(&mut self, root: &Path, name: &str) -> Result<()> {
        let program = self.ebpf.program_mut(name).with_context(|| format!("no program `{name}` in the object"))?;
        let program: &mut CgroupSockAddr = program.try_into()?;
        if program.fd().is_err() {
            again(|| program.load()).map_err(|error| refused(&anyhow!(error)))?;
        }
        // Links take no flags: others may have programs there, and sub-groups keep theirs.
        let id = program.attach(File::open(root)?, CgroupAttachMode::Single)?;
        let link: FdLink = program.take_link(id)?.try_into()?;
        // aya cannot put a program in the place of another one here, but a name in bpffs can: the old link goes with it.
        let (new, pin) = (self.pins.join(format!("cgroup-{name}-new")), self.pins.join(format!("cgroup-{name}")));
        let _ = fs::remove_file(&new);
        link.pin(&new)?;
        Ok(fs::rename(&new, &pin)?)
    }

    /// Lets the programs see where this process is: they run for all network namespaces.
    fn learn_namespace(&mut self) -> Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0").or_else(|_| UdpSocket::bind("[::]:0"))?;
        let asker = rustix::net::sockopt::socket_cookie(&socket)?;
        let map = self.ebpf.map_mut(map::NETNS).context("map of namespaces")?;
        let mut slots = Array::<_, u64>::try_from(map)?;
        slots.set(netns::ASKER, asker, 0)?;
        // No packet is sent. An error of the route comes after the program has run.
        let to = if socket.local_addr()?.is_ipv4() { "127.0.0.1:9" } else { "[::1]:9" };
        let _ = socket.connect(to);
        slots.set(netns::ASKER, 0, 0)?;
        anyhow::ensure!(slots.get(&netns::COOKIE, 0)? != 0, "the programs do not run for this process");
        Ok(())
    }
}

/// Where the control groups of version 2 are mounted.
pub(super) fn cgroup_root() -> Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading the mounts")?;
    Ok(root_in(&mounts))
}

fn root_in(mounts: &str) -> Option<PathBuf> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.filter(|it| it.get(2) == Some(&"cgroup2")).find_map(|it| Some(PathBuf::from(it.get(1)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_found_alone_and_beside_version_1() {
        let unified = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
        assert_eq!(root_in(unified), Some("/sys/fs/cgroup".into()));
        let hybrid = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(root_in(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(root_in("proc /proc proc rw 0 0\ncgroup /a cgroup rw 0 0\n"), None);
    }
}
