//! `cargo xtask setup`: what cargo does not fetch: the source of `core` (compiled for BPF), `bpf-linker`, the tools
//! that `pcc` and its tests call, and the BPF file system.
//!
//! Looking takes milliseconds and needs neither network nor root, so every other command looks too. Nothing that is
//! there already is changed or removed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context as _, Result, bail};

use crate::{package, shell};

/// What the machine must be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Compile.
    Build,
    /// Run `pcc` besides.
    Run,
    /// Run all tests and the lab besides.
    Test,
    /// Boot another kernel besides.
    Vm,
    /// Compile, for other machines too, and make packages.
    Package,
    /// All of that, and test packages.
    Everything,
}

impl Scope {
    fn includes(self, other: Self) -> bool {
        match self {
            Self::Package => matches!(other, Self::Build | Self::Package),
            _ => other <= self,
        }
    }
}

/// Installs what `scope` needs and the machine lacks; where we may not, the error holds the commands to type.
pub fn ensure(scope: Scope) -> Result<()> {
    let due = steps(&probe(scope)?);
    if due.is_empty() {
        return Ok(());
    }
    if !may_perform(&due) {
        bail!("{}", instructions(&due, shell::find("apt-get").is_some()));
    }
    due.iter().try_for_each(perform)?;
    let still: Vec<String> = steps(&probe(scope)?).into_iter().map(|step| step.line).collect();
    if !still.is_empty() {
        bail!("`{}` did not help\nhint: is `{}` in PATH?", still.join("`, `"), cargo_bin().display());
    }
    Ok(())
}

const LINKER_VERSION: &str = "0.13.0";

/// Programs and the Debian packages that have them.
const PROGRAMS: &[(Scope, &str, &str)] = &[
    (Scope::Run, "ip", "iproute2"),
    (Scope::Run, "nft", "nftables"),
    (Scope::Test, "bpftool", "bpftool"),
    (Scope::Test, "conntrack", "conntrack"),
    (Scope::Test, "ethtool", "ethtool"),
    (Scope::Test, "fish", "fish"),
    (Scope::Test, "iperf3", "iperf3"),
    (Scope::Test, "iptables-legacy", "iptables"),
    (Scope::Test, "ping", "iputils-ping"),
    (Scope::Test, "prometheus", "prometheus"),
    (Scope::Test, "setpriv", "util-linux"),
    (Scope::Test, "systemd-analyze", "systemd"),
    (Scope::Test, "tc", "iproute2"),
    (Scope::Test, "tmux", "tmux"),
    (Scope::Test, "zsh", "zsh"),
    (Scope::Vm, "busybox", "busybox"),
    (Scope::Vm, "kmod", "kmod"),
    (Scope::Vm, "pppd", "ppp"),
    (Scope::Vm, "pppoe-server", "pppoe"),
    (Scope::Vm, "qemu-system-x86_64", "qemu-system-x86"),
    (Scope::Package, "clang", "clang"),
    (Scope::Package, "dpkg-deb", "dpkg"),
    (Scope::Package, "musl-gcc", "musl-tools"),
    (Scope::Package, "qemu-aarch64-static", "qemu-user-static"),
    (Scope::Everything, "lintian", "lintian"),
    (Scope::Everything, "mke2fs", "e2fsprogs"),
    (Scope::Everything, "mmdebstrap", "mmdebstrap"),
];

#[derive(Default)]
struct Missing {
    /// Debian packages.
    packages: Vec<&'static str>,
    /// Components of the toolchain in use.
    components: Vec<&'static str>,
    /// What else it compiles for.
    targets: Vec<&'static str>,
    /// `bpf-linker`.
    linker: Option<Linker>,
    /// The BPF file system at `/sys/fs/bpf`.
    bpffs: bool,
}

struct Linker {
    /// Major version of the LLVM that it has to be built with.
    llvm: u32,
    /// That LLVM is missing as well.
    llvm_missing: bool,
}

/// One command line of a POSIX shell.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    as_root: bool,
    needs_debian: bool,
    line: String,
    /// Performed where `line` fails.
    otherwise: Option<String>,
}

fn probe(scope: Scope) -> Result<Missing> {
    let mut missing = Missing::default();
    for &(needed_by, program, package) in PROGRAMS {
        if scope.includes(needed_by) && shell::find(program).is_none() && !missing.packages.contains(&package) {
            missing.packages.push(package);
        }
    }
    let sysroot = sysroot()?;
    let source = [sysroot.as_path(), Path::new("/usr")]
        .into_iter()
        .find(|sysroot| sysroot.join("lib/rustlib/src/rust/library/core").is_dir());
    if source.is_none() {
        missing.components.push("rust-src");
    }
    if scope.includes(Scope::Test) {
        let tools = [("bin/cargo-clippy", "clippy"), ("bin/cargo-fmt", "rustfmt")];
        missing.components.extend(tools.iter().filter(|(file, _)| !sysroot.join(file).is_file()).map(|(_, name)| name));
    }
    if scope.includes(Scope::Package) {
        let missing_target = |target: &&str| !sysroot.join("lib/rustlib").join(target).join("lib").is_dir();
        missing.targets.extend(package::TARGETS.into_iter().filter(missing_target));
    }
    missing.linker = probe_linker(source.unwrap_or(&sysroot))?;
    missing.bpffs = scope.includes(Scope::Run) && !is_mounted("/sys/fs/bpf");
    Ok(missing)
}

/// The folder of the toolchain that cargo runs for the workspace.
fn sysroot() -> Result<PathBuf> {
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let sysroot = shell::output(rustc.current_dir(shell::workspace()).args(["--print", "sysroot"]));
    Ok(sysroot.context("asking `rustc` for its sysroot")?.trim_end().into())
}

/// The LLVM of `bpf-linker` reads what the LLVM of rustc wrote, so it must not be older.
fn probe_linker(sysroot: &Path) -> Result<Option<Linker>> {
    let rustc = shell::output(Command::new(sysroot.join("bin/rustc")).arg("-vV"));
    let needed = rustc
        .as_deref()
        .and_then(|text| major_after(text, "LLVM version: "))
        .context("asking `rustc` for the version of its LLVM")?;
    let Some(linker) = env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .map(|folder| folder.join("bpf-linker"))
        .find(|file| file.is_file())
    else {
        let llvm_missing = !llvm_prefix(needed).join("lib/libLLVM.so").exists();
        return Ok(Some(Linker { llvm: needed, llvm_missing }));
    };
    // LLVM answers and ends the process before the input is looked at.
    let text = shell::output(
        Command::new(&linker).args(["--llvm-args=--version", "--output=/dev/null", "/dev/null"]).stderr(Stdio::null()),
    );
    let has = text.as_deref().and_then(|text| major_after(text, "LLVM version "));
    if has.is_some_and(|has| has >= needed) {
        return Ok(None);
    }
    bail!(
        "`{}` uses {}, but rustc writes bitcode of LLVM {needed}\nhint: {} --force",
        linker.display(),
        has.map_or("an unknown LLVM".to_owned(), |has| format!("LLVM {has}")),
        install_linker(needed),
    );
}

fn major_after(text: &str, key: &str) -> Option<u32> {
    let (_, version) = text.split_once(key)?;
    version.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

/// Where an LLVM to link with is: the user's, or Debian's.
fn llvm_prefix(major: u32) -> PathBuf {
    env::var_os("LLVM_PREFIX").map_or_else(|| format!("/usr/lib/llvm-{major}").into(), PathBuf::from)
}

fn install_linker(llvm: u32) -> String {
    format!(
        "LLVM_PREFIX={} cargo install --quiet bpf-linker --version {LINKER_VERSION} --locked \
         --no-default-features --features llvm-{llvm}",
        llvm_prefix(llvm).display()
    )
}

fn is_mounted(folder: &str) -> bool {
    fs::read_to_string("/proc/self/mounts")
        .is_ok_and(|mounts| mounts.lines().any(|line| line.split(' ').nth(1) == Some(folder)))
}

fn cargo_bin() -> PathBuf {
    let home = env::var_os("HOME").unwrap_or_default();
    env::var_os("CARGO_HOME").map_or_else(|| Path::new(&home).join(".cargo"), PathBuf::from).join("bin")
}

/// What makes up for `missing`, in order.
fn steps(missing: &Missing) -> Vec<Step> {
    let mut packages: Vec<String> = missing.packages.iter().map(ToString::to_string).collect();
    packages
        .extend(missing.linker.iter().filter(|linker| linker.llvm_missing).map(|it| format!("llvm-{}-dev", it.llvm)));
    let step = |line: String| Step { as_root: false, needs_debian: false, line, otherwise: None };
    let mut steps = Vec::new();
    if !packages.is_empty() {
        steps.push(Step { as_root: true, needs_debian: true, ..step(install_packages(&packages.join(" "))) });
    }
    steps.extend(missing.components.iter().map(|component| Step {
        // A toolchain without components (Debian's, one built from source) is helped out by Debian's newer one.
        otherwise: (*component == "rust-src").then(|| install_packages("rustc-web rust-web-src")),
        ..step(format!("rustup component add {component}"))
    }));
    steps.extend(missing.targets.iter().map(|target| step(format!("rustup target add {target}"))));
    if let Some(linker) = &missing.linker {
        steps.push(step(install_linker(linker.llvm)));
    }
    if missing.bpffs {
        steps.push(Step { as_root: true, ..step("mount -t bpf bpf /sys/fs/bpf".to_owned()) });
    }
    steps
}

fn install_packages(packages: &str) -> String {
    format!("apt-get install --yes --no-install-recommends {packages}")
}

fn may_perform(steps: &[Step]) -> bool {
    let root = shell::is_root();
    let debian = shell::find("apt-get").is_some();
    steps.iter().all(|step| (root || !step.as_root) && (debian || !step.needs_debian))
}

fn instructions(steps: &[Step], debian: bool) -> String {
    let mut text = String::from("this machine lacks what pcc needs\nhint: type");
    for Step { as_root, needs_debian, line, otherwise } in steps {
        // Writing to a `String` cannot fail.
        _ = match (needs_debian, debian) {
            (true, true) => write!(text, "\n  sudo apt-get update\n  sudo {line}"),
            (true, false) => write!(text, "\n  your package manager's equivalent of: {line}"),
            (false, _) if *as_root => write!(text, "\n  sudo {line}"),
            (false, _) => write!(text, "\n  {line}"),
        };
        if let (Some(otherwise), true) = (otherwise, debian) {
            _ = write!(text, "\n  or, where that fails: sudo {otherwise}");
        }
    }
    text
}

fn perform(step: &Step) -> Result<()> {
    let line = &step.line;
    let shell_run = |line: &str| {
        let is_apt = line.starts_with("apt-get ");
        if is_apt {
            refresh_package_lists();
        }
        eprintln!("+ {line}");
        let mut command = Command::new("sh");
        command.args(["-c", line]).env("DEBIAN_FRONTEND", "noninteractive").current_dir(shell::workspace());
        // apt has no way to be quiet about what goes well.
        if is_apt { shell::run_quietly(&mut command) } else { shell::run(command.stdout(Stdio::null())) }
    };
    match (shell_run(line), &step.otherwise) {
        (Err(_), Some(otherwise)) if shell::is_root() && shell::find("apt-get").is_some() => shell_run(otherwise),
        (Err(error), Some(otherwise)) => Err(error).context(format!("on Debian, `sudo {otherwise}` helps")),
        (result, _) => result,
    }
}

/// Updates apt's lists when they are absent or older than a day: then they name packages that the mirror has no more.
pub fn refresh_package_lists() {
    let folder = Path::new("/var/lib/apt/lists");
    let has_lists = fs::read_dir(folder).is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().contains("_Packages")))
    });
    let age = fs::metadata(folder).and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
    if has_lists && age.is_some_and(|age| age < Duration::from_hours(24)) {
        return;
    }
    eprintln!("+ apt-get update");
    // One unreachable mirror of several is no reason to stop: what is missing then, `install` says.
    _ = Command::new("apt-get").arg("--quiet=2").arg("update").stdout(Stdio::null()).status();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare_machine() -> Missing {
        Missing {
            packages: vec!["nftables", "iproute2"],
            components: vec!["rust-src"],
            targets: vec!["aarch64-unknown-linux-musl"],
            linker: Some(Linker { llvm: 22, llvm_missing: true }),
            bpffs: true,
        }
    }

    #[test]
    fn nothing_missing_is_nothing_to_do() {
        assert_eq!(steps(&Missing::default()), []);
    }

    #[test]
    fn a_bare_machine_is_told_every_command_in_order() {
        let text = instructions(&steps(&bare_machine()), true);
        let expected = "\
this machine lacks what pcc needs
hint: type
  sudo apt-get update
  sudo apt-get install --yes --no-install-recommends nftables iproute2 llvm-22-dev
  rustup component add rust-src
  or, where that fails: sudo apt-get install --yes --no-install-recommends rustc-web rust-web-src
  rustup target add aarch64-unknown-linux-musl
  LLVM_PREFIX=/usr/lib/llvm-22 cargo install --quiet bpf-linker --version 0.13.0 --locked --no-default-features --features llvm-22
  sudo mount -t bpf bpf /sys/fs/bpf";
        assert_eq!(text, expected);
    }

    #[test]
    fn without_apt_the_packages_are_a_pointer() {
        let text = instructions(&steps(&bare_machine()), false);
        assert!(!text.contains("sudo apt-get"), "{text}");
        assert!(text.contains("equivalent of: apt-get install --yes --no-install-recommends nftables"), "{text}");
    }

    #[test]
    fn llvm_versions_are_read() {
        assert_eq!(major_after("Debian LLVM version 22.1.8\n  Optimized build.", "LLVM version "), Some(22));
        assert_eq!(major_after("release: 1.95.0\nLLVM version: 22.1.2", "LLVM version: "), Some(22));
        assert_eq!(major_after("no such", "LLVM version "), None);
    }
}
