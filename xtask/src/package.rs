//! `cargo xtask package`: Debian packages and static tarballs for x86-64 and arm64, in `target/package`.
//!
//! All of them hold the same files, and the same program: static, linked with musl.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{build, setup, shell};

mod contents;
mod debian;
mod machine;
mod started;
mod tarball;

use contents::Contents;

/// The Rust targets that packages are built for.
pub const TARGETS: [&str; 2] = [X86_64.target, ARM64.target];

const X86_64: Architecture =
    Architecture { target: "x86_64-unknown-linux-musl", debian: "amd64", tarball: "x86_64-linux-musl", emulator: None };
const ARM64: Architecture = Architecture {
    target: "aarch64-unknown-linux-musl",
    debian: "arm64",
    tarball: "aarch64-linux-musl",
    emulator: Some("qemu-aarch64-static"),
};

/// One kind of processor.
struct Architecture {
    /// Rust's name of it.
    target: &'static str,
    /// Debian's.
    debian: &'static str,
    /// That in the name of a tarball.
    tarball: &'static str,
    /// Runs its programs here.
    emulator: Option<&'static str>,
}

/// The command.
pub fn package(with_test: bool) -> Result<()> {
    setup::ensure(if with_test { setup::Scope::Everything } else { setup::Scope::Package })?;
    let folder = empty("target/package")?;
    let native = build::shipped_pcc(X86_64.target)?;
    let foreign = build::shipped_pcc(ARM64.target)?;
    started::same_answers(&native, &foreign)?;
    let contents = Contents::collect(&folder, &native)?;
    let mut made = Vec::new();
    for (architecture, program) in [(&X86_64, &native), (&ARM64, &foreign)] {
        let contents = contents.with_program(program)?;
        let package = debian::package(&folder, architecture, &contents, 1)?;
        if with_test {
            debian::lint(&package)?;
        }
        made.extend([package, tarball::tarball(&folder, architecture, &contents)?]);
    }
    for file in &made {
        println!("{}", file.display());
    }
    if !with_test {
        return Ok(());
    }
    // Those for the machine, and a newer one.
    made.truncate(2);
    made.push(debian::package(&empty("target/package/newer")?, &X86_64, &contents, 2)?);
    machine::live(&made)
}

/// A folder of the workspace, without what was in it.
fn empty(path: &str) -> Result<PathBuf> {
    if cfg!(not(target_arch = "x86_64")) {
        bail!("packages are made on x86_64: their man pages are printed by the program that is in them");
    }
    let folder = shell::workspace().join(path);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("emptying {}", folder.display()));
        }
        _ => fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?,
    }
    Ok(folder)
}

/// The version of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// When the sources were last changed, in seconds since 1970: the same sources make the same packages. What
/// `SOURCE_DATE_EPOCH` says comes first.
fn source_date() -> String {
    let committed = || {
        let text =
            shell::output(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(shell::workspace()));
        text.map(|text| text.trim_end().to_owned())
    };
    env::var("SOURCE_DATE_EPOCH").ok().or_else(committed).unwrap_or_else(|| "0".to_owned())
}

/// Runs `script` in `folder`.
fn sh(folder: &Path, script: &str) -> Result<()> {
    let mut command = Command::new("sh");
    command.args(["-euc", script]).current_dir(folder).env("SOURCE_DATE_EPOCH", source_date());
    shell::run_quietly(&mut command)
}
