//! `cargo xtask vm`: boots Debian's stock kernel in an emulated machine and runs the lab there, or a script. That kernel
//! has what newer or smaller ones lack (VLAN, PPPoE, CAKE) and lacks what they have (TCX).
//!
//! Nothing is installed on this machine: the kernel is unpacked below `target/vm`, the file system is made of the
//! host's own programs.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::build::{self, Profile};
use crate::initramfs::Initramfs;
use crate::{setup, shell};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Arguments {
    /// Program to put into PATH of the machine besides `pcc`, with its libraries; may be repeated
    #[arg(long, value_name = "PROGRAM")]
    add: Vec<PathBuf>,
    /// Seconds after which the machine is switched off and the command fails
    #[arg(long, default_value_t = TIMEOUT)]
    timeout: u32,
    /// Shell script to run as root in the machine; without one: the lab over cables, a VLAN and PPPoE and under CAKE,
    /// `pcc down` after a crash, and RouterOS configurations
    script: Option<PathBuf>,
    /// Arguments of the script
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Seconds.
const TIMEOUT: u32 = 900;

/// The command. Its exit code is the script's.
pub fn vm(arguments: &Arguments) -> Result<ExitCode> {
    run(arguments).map(ExitCode::from)
}

/// The command without arguments; a promise that was not kept is an error.
pub fn smoke() -> Result<()> {
    match run(&Arguments { add: Vec::new(), timeout: TIMEOUT, script: None, arguments: Vec::new() })? {
        0 => Ok(()),
        _ => bail!("not everything was as promised on Debian's kernel"),
    }
}

fn run(arguments: &Arguments) -> Result<u8> {
    if cfg!(not(target_arch = "x86_64")) {
        bail!("the emulated machine runs programs of this one, which must be an x86_64");
    }
    setup::ensure(setup::Scope::Vm)?;
    let pcc = build::pcc(PROFILE)?;
    let mut programs = vec![("pcc".to_owned(), pcc)];
    let script = match &arguments.script {
        Some(file) => fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?,
        None => {
            programs.push(("lab".to_owned(), build::program_of_tests("lab", PROFILE)?));
            for test in ["life_cycle", "routeros"] {
                programs.push((test.to_owned(), build::test_of_tests(test, PROFILE)?));
            }
            SMOKE.to_owned()
        }
    };
    for program in &arguments.add {
        let name = program.file_name().with_context(|| format!("`{}` is not a program", program.display()))?;
        programs.push((name.to_string_lossy().into_owned(), program.clone()));
    }
    let folder = shell::workspace().join("target/vm");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let kernel = kernel(&folder)?;
    let initramfs = folder.join("initramfs.cpio");
    write_initramfs(&initramfs, &kernel, &programs, &script, &arguments.arguments)?;
    boot(&kernel, &initramfs, None, "", arguments.timeout)
}

/// What `cargo xtask test` has built already.
const PROFILE: Profile = Profile::Development;

/// Nothing stops at a failure: the next part may say more.
const SMOKE: &str = "\
code=0
part() {
    start=$(cut -d. -f1 /proc/uptime)
    echo \"== $*\"
    \"$@\" || { code=1; echo \"FAILED: $*\"; }
    echo \"== $(($(cut -d. -f1 /proc/uptime) - start)) s\"
}
echo \"Linux $(uname -r), $(nft --version), $(pcc --version)\"
part lab --slow --connections 100
part lab --slow --connections 100 --uplink2 vlan
part lab --slow --connections 100 --uplink2 pppoe
part lab cake
part life_cycle --test-threads 1 down_after_a_crash
part routeros --test-threads 1 inbound::what hashing::two recursive:: versions::ipv6
exit $code
";

/// Loaded before the script; others come when the kernel asks for them.
const MODULES: &str =
    "nf_tables nft_ct nft_masq nf_conntrack_netlink veth tun 8021q pppoe ppp_async sch_ingress sch_cake cls_bpf";

/// The host's programs in the machine. Those of busybox stand behind them in PATH.
const PROGRAMS: [&str; 11] =
    ["bpftool", "busybox", "conntrack", "ip", "kmod", "nft", "ping", "pppd", "pppoe", "pppoe-server", "tc"];

/// The host's programs that are taken along where it has them.
const OPTIONAL_PROGRAMS: [&str; 2] = ["ethtool", "iperf3"];

/// Where `pppd` and `pppoe-server` have their parts: `pppd`'s plug-ins, and the programs that they start by path.
const PPP_PLUGINS: &str = "/usr/lib/pppd";
const PPP_PROGRAMS: [&str; 2] = ["pppd", "pppoe"];

/// What the script's exit code stands behind on the serial line.
pub const EXIT: &str = "pcc-vm exit code: ";

/// A kernel of Debian's, unpacked.
pub struct Kernel {
    image: PathBuf,
    /// `lib/modules/VERSION`.
    modules: PathBuf,
}

impl Kernel {
    /// As `uname -r` says it.
    pub fn version(&self) -> Result<&str> {
        self.modules.file_name().and_then(|name| name.to_str()).context("the folder of modules has no name")
    }

    /// Copies the modules that are of use in a machine to where the system below `root` looks for them.
    pub fn modules_into(&self, root: &Path) -> Result<()> {
        let to = root.join("usr/lib/modules").join(self.version()?);
        copy_tree(&to, &self.modules, &|path| is_wanted(&self.modules, path))
    }

    /// The files of `modules` and of those that they need, in the order to load them.
    pub fn with_dependencies(&self, modules: &[&str]) -> Result<Vec<PathBuf>> {
        // Above `lib/modules/VERSION`.
        let base = self.modules.ancestors().nth(3).context("the folder of modules is nowhere")?;
        let mut command = Command::new(shell::find("modprobe").context("`modprobe` is not in PATH")?);
        command
            .args(["--show-depends", "--all", "--set-version", self.version()?, "--dirname"])
            .arg(base)
            .args(modules);
        let text = shell::output(&mut command).context("`modprobe --show-depends` failed")?;
        let mut files = Vec::new();
        for file in text.lines().filter_map(|line| line.strip_prefix("insmod ")).map(|file| Path::new(file.trim())) {
            if !files.iter().any(|known| known == file) {
                files.push(file.to_owned());
            }
        }
        Ok(files)
    }
}

fn copy_tree(to: &Path, from: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if wanted(&from) {
            if entry.file_type()?.is_dir() {
                copy_tree(&to, &from, wanted)?;
            } else {
                fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
            }
        }
    }
    Ok(())
}

/// Unpacks Debian's newest kernel package below `folder`, unless it is there.
pub fn kernel(folder: &Path) -> Result<Kernel> {
    setup::refresh_package_lists();
    let depends = shell::output(Command::new("apt-cache").args(["depends", "linux-image-amd64"]));
    let package = depends
        .as_deref()
        .and_then(|text| {
            text.split_whitespace().find(|word| {
                word.starts_with("linux-image-") && word.ends_with("-amd64") && *word != "linux-image-amd64"
            })
        })
        .context("asking apt for Debian's kernel package\nhint: `apt-get update`")?;
    let version = package.trim_start_matches("linux-image-");
    let unpacked = folder.join(package);
    if !unpacked.is_dir() {
        let partial = folder.join("partial");
        _ = fs::remove_dir_all(&partial);
        fs::create_dir_all(&partial)?;
        shell::run_quietly(Command::new("apt-get").args(["download", package]).current_dir(&partial))?;
        shell::run_quietly(Command::new("sh").args(["-c", "dpkg-deb -x *.deb . && rm *.deb"]).current_dir(&partial))?;
        let depmod = shell::find("depmod").context("`depmod` is not in PATH")?;
        shell::run_quietly(Command::new(depmod).arg("--basedir").arg(&partial).arg(version))?;
        fs::rename(&partial, &unpacked).with_context(|| format!("creating {}", unpacked.display()))?;
    }
    Ok(Kernel {
        image: unpacked.join("boot").join(format!("vmlinuz-{version}")),
        modules: unpacked.join("lib/modules").join(version),
    })
}

fn write_initramfs(
    file: &Path,
    kernel: &Kernel,
    programs: &[(String, PathBuf)],
    script: &str,
    arguments: &[OsString],
) -> Result<()> {
    let mut archive = Initramfs::create(file)?;
    for name in PROGRAMS {
        let program = shell::find(name).with_context(|| format!("`{name}` is not in PATH"))?;
        archive.program(&Path::new("/usr/bin").join(name), &program)?;
    }
    for (name, program) in OPTIONAL_PROGRAMS.iter().filter_map(|name| Some((name, shell::find(name)?))) {
        archive.program(&Path::new("/usr/bin").join(name), &program)?;
    }
    for name in PPP_PROGRAMS {
        archive.link(&Path::new("/usr/sbin").join(name), &Path::new("../bin").join(name))?;
    }
    archive.tree(Path::new(PPP_PLUGINS), Path::new(PPP_PLUGINS), &|_| true)?;
    for (name, program) in programs {
        archive.program(&Path::new("/usr/local/bin").join(name), program)?;
    }
    // Where `pppd` looks for it.
    archive.link(Path::new("/usr/bin/sh"), Path::new("busybox"))?;
    // Where the kernel looks for it.
    archive.link(Path::new("/usr/sbin/modprobe"), Path::new("../bin/kmod"))?;
    let modules = kernel.modules.as_path();
    archive.tree(&Path::new("/usr/lib/modules").join(kernel.version()?), modules, &|path| is_wanted(modules, path))?;
    for folder in ["/proc", "/sys", "/dev", "/tmp", "/run", "/root", "/etc/ppp", "/var/tmp"] {
        archive.folder(Path::new(folder))?;
    }
    archive.link(Path::new("/var/run"), Path::new("../run"))?;
    archive.script(Path::new("/script"), script)?;
    let arguments: Vec<String> = arguments.iter().map(|argument| quoted(&argument.to_string_lossy())).collect();
    archive.script(Path::new("/init"), &init(&arguments.join(" ")))?;
    archive.finish()
}

/// Network, its drivers without hardware, and what they need.
fn is_wanted(modules: &Path, path: &Path) -> bool {
    let Ok(path) = path.strip_prefix(modules) else { return false };
    let Ok(path) = path.strip_prefix("kernel") else { return true };
    let wanted = ["net", "drivers/net", "lib", "crypto", "arch/x86/crypto"];
    let unwanted = ["drivers/net/ethernet", "drivers/net/wireless", "net/bluetooth", "net/mac80211", "net/wireless"];
    wanted.iter().any(|folder| path.starts_with(folder) || Path::new(folder).starts_with(path))
        && !unwanted.iter().any(|folder| path.starts_with(folder))
}

fn quoted(argument: &str) -> String {
    format!("'{}'", argument.replace('\'', r"'\''"))
}

fn init(arguments: &str) -> String {
    format!(
        "#!/usr/bin/busybox sh
export PATH=/usr/local/bin:/usr/bin:/busybox HOME=/root PCC_BIN=/usr/local/bin/pcc
/usr/bin/busybox mkdir /busybox
/usr/bin/busybox --install -s /busybox
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir /dev/pts
mount -t devpts pts /dev/pts
mount -t tmpfs run /run
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
modprobe -a {MODULES}
cd /root
sh /script {arguments}
echo \"{EXIT}$?\"
poweroff -f
"
    )
}

/// Boots, prints what the machine prints, and returns the exit code of the script. What is written to `disk` is lost at
/// the end.
pub fn boot(kernel: &Kernel, initramfs: &Path, disk: Option<&Path>, kernel_options: &str, timeout: u32) -> Result<u8> {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &timeout.to_string(), "qemu-system-x86_64"]);
    command.args(["-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "2", "-m", "2048"]);
    command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"]);
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initramfs);
    command.args(["-append", &format!("console=ttyS0 quiet panic=-1{kernel_options}")]);
    if let Some(disk) = disk {
        command.arg("-drive").arg(format!("if=virtio,format=raw,snapshot=on,file={}", disk.display()));
    }
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting `qemu-system-x86_64`")?;
    let stdout = child.stdout.take().context("`qemu-system-x86_64` has no output")?;
    let mut code = None;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        match String::from_utf8_lossy(line).split_once(EXIT) {
            Some((_, number)) => code = number.trim().parse::<u8>().ok(),
            None => std::io::stdout().write_all(&[line, b"\n"].concat())?,
        }
    }
    let status = child.wait()?;
    match code {
        Some(code) => Ok(code),
        None if status.code() == Some(124) => bail!("the machine was switched off after {timeout} s"),
        None => bail!("the machine ended without an exit code ({status})"),
    }
}
