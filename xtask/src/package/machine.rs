//! An emulated Debian with systemd, in which a package goes through its life.
//!
//! The system is made once below `target/vm` by `mmdebstrap`, as a disk, from where apt of this machine takes its
//! packages; each run writes to a copy that is thrown away. The kernel is that of `cargo xtask vm`.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::sh;
use crate::initramfs::Initramfs;
use crate::vm::{self, Kernel};
use crate::{setup, shell};

const SCRIPT: &str = include_str!("life.bash");

/// What the machine has besides what every Debian with apt has.
const PACKAGES: [&str; 8] =
    ["iproute2", "iputils-ping", "kmod", "nftables", "procps", "socat", "systemd", "systemd-sysv"];

/// Modules that the root file system is on.
const DISK_MODULES: [&str; 3] = ["virtio_pci", "virtio_blk", "ext4"];

/// Seconds.
const TIMEOUT: u32 = 1500;

/// What would make the boot longer and is not looked at.
const UNWANTED: [&str; 8] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "systemd-timesyncd.service",
];

/// Lets `packages`, which are for the machine, go through their life.
pub fn live(packages: &[PathBuf]) -> Result<()> {
    let cache = shell::workspace().join("target/vm");
    fs::create_dir_all(&cache).with_context(|| format!("creating {}", cache.display()))?;
    let kernel = vm::kernel(&cache)?;
    let disk = disk(&cache, &kernel)?;
    let initramfs = cache.join("package.cpio");
    write_initramfs(&initramfs, &kernel, packages)?;
    // What takes a second elsewhere may take a minute where each instruction is translated.
    let mut options = String::from(" systemd.default_timeout_start_sec=600");
    options.extend(UNWANTED.iter().map(|unit| format!(" systemd.mask={unit}")));
    match vm::boot(&kernel, &initramfs, Some(&disk), &options, TIMEOUT)? {
        0 => Ok(()),
        _ => bail!("not everything was as promised in Debian"),
    }
}

/// The disk with the system; made where it is missing.
fn disk(cache: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let version = kernel.version()?;
    let disk = cache.join(format!("debian-{:016x}-{version}.ext4", digest(&PACKAGES)));
    if disk.is_file() {
        return Ok(disk);
    }
    let root = cache.join("root");
    _ = fs::remove_dir_all(&root);
    setup::refresh_package_lists();
    let (sources, release) = sources()?;
    fs::write(cache.join("sources.list"), sources)?;
    // What it mounts for installing vanishes with it, and is never below a folder that is removed here.
    let script = format!(
        "unshare --mount mmdebstrap --quiet --mode=root --variant=apt --include={} \
             --dpkgopt=path-exclude=/usr/share/locale/* {release} root.tar sources.list
        mkdir root
        tar -xf root.tar -C root
        rm root.tar",
        PACKAGES.join(",")
    );
    sh(cache, &script)?;
    kernel.modules_into(&root)?;
    // A system that has been booted before: nothing is preset.
    fs::write(root.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n")?;
    let partial = cache.join("partial.ext4");
    let mut make = Command::new(shell::find("mke2fs").context("`mke2fs` is not in PATH")?);
    make.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d"]).arg(&root).arg(&partial).arg("1G");
    shell::run_quietly(&mut make)?;
    fs::remove_dir_all(&root)?;
    fs::rename(&partial, &disk).with_context(|| format!("creating {}", disk.display()))?;
    Ok(disk)
}

/// Where apt of this machine takes Debian's packages from, as lines of a `sources.list`, and the release.
fn sources() -> Result<(String, String)> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(CODENAME) $(REPO_URI) $(RELEASE) $(COMPONENT)"]);
    let text = shell::output(command.args(["Created-By: Packages", "Origin: Debian"])).unwrap_or_default();
    let (mut lines, mut release) = (String::new(), None);
    for line in text.lines() {
        let Some((codename, source)) = line.split_once(' ') else { continue };
        lines.push_str(&format!("deb {source}\n"));
        if !codename.contains('-') {
            release = Some(codename.to_owned());
        }
    }
    Ok((lines, release.context("apt knows no release of Debian\nhint: `apt-get update`")?))
}

/// Another one for other packages.
fn digest(packages: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    packages.hash(&mut hasher);
    hasher.finish()
}

/// What finds the disk, hands `files` over, and leaves the rest to systemd.
fn write_initramfs(file: &Path, kernel: &Kernel, files: &[PathBuf]) -> Result<()> {
    let mut archive = Initramfs::create(file)?;
    for (name, to) in [("busybox", "busybox"), ("kmod", "insmod")] {
        let program = shell::find(name).with_context(|| format!("`{name}` is not in PATH"))?;
        archive.program(&Path::new("/usr/bin").join(to), &program)?;
    }
    let mut inserts = String::new();
    for module in kernel.with_dependencies(&DISK_MODULES)? {
        let path = Path::new("/disk").join(module.file_name().context("a module has no name")?);
        inserts.push_str(&format!("insmod {}\n", path.display()));
        archive.file(&path, &module)?;
    }
    for file in files {
        archive.file(&Path::new("/payload").join(file.file_name().context("a package has no name")?), file)?;
    }
    archive.script(Path::new("/payload/life.bash"), SCRIPT)?;
    archive.script(
        Path::new("/payload/life.service"),
        &format!(
            "[Service]\n\
             ExecStart=/bin/bash -c '/bin/bash /payload/life.bash; echo \"{}$?\"; systemctl --force --force poweroff'\n\
             StandardOutput=tty\nStandardError=tty\nTTYPath=/dev/ttyS0\n",
            vm::EXIT
        ),
    )?;
    archive.folder(Path::new("/dev"))?;
    archive.folder(Path::new("/root"))?;
    archive.script(
        Path::new("/init"),
        &format!(
            "#!/usr/bin/busybox sh
busybox mount -t devtmpfs dev /dev
{inserts}busybox mount -t ext4 /dev/vda /root
busybox cp -r /payload /root/payload
busybox cp /payload/life.service /root/etc/systemd/system/
busybox ln -s ../life.service /root/etc/systemd/system/multi-user.target.wants/
exec busybox switch_root /root /usr/lib/systemd/systemd
"
        ),
    )?;
    archive.finish()
}
