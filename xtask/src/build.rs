//! `cargo xtask build`: `cargo build` plus the machine's set-up before it and the checks of the kernel object after it.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{object, setup, shell};

/// How much cargo optimises.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build.
    Development,
    /// Quick to run.
    Release,
}

impl Profile {
    /// What `--release` means.
    pub fn new(release: bool) -> Self {
        if release { Self::Release } else { Self::Development }
    }

    fn options(self) -> &'static [&'static str] {
        if self == Self::Release { &["--release"] } else { &[] }
    }
}

/// The command.
pub fn build(profile: Profile) -> Result<()> {
    println!("{}", pcc(profile)?.display());
    Ok(())
}

/// Builds `pcc`, checks the object in it, and returns the path of the program.
pub fn pcc(profile: Profile) -> Result<PathBuf> {
    setup::ensure(setup::Scope::Build)?;
    checked_pcc(profile.options())
}

/// Builds the `pcc` that packages ship for the Rust target `target`, and does the same.
pub fn shipped_pcc(target: &str) -> Result<PathBuf> {
    checked_pcc(&["--profile", "dist", "--target", target])
}

fn checked_pcc(options: &[&str]) -> Result<PathBuf> {
    let built = cargo_build("pcc-userspace", Target::Program("pcc"), options)?;
    let folder = built.out_folder.context("cargo named no output folder of the build script of `pcc-userspace`")?;
    object::check(&folder.join("pcc-ebpf"))?;
    Ok(built.program)
}

/// Builds the program `name` of the crate `tests` and returns its path.
pub fn program_of_tests(name: &str, profile: Profile) -> Result<PathBuf> {
    Ok(cargo_build("tests", Target::Program(name), profile.options())?.program)
}

/// Builds the integration test `name` of the crate `tests` and returns the path of the program that runs it.
pub fn test_of_tests(name: &str, profile: Profile) -> Result<PathBuf> {
    Ok(cargo_build("tests", Target::Test(name), profile.options())?.program)
}

#[derive(Clone, Copy)]
enum Target<'a> {
    Program(&'a str),
    Test(&'a str),
}

struct Built {
    program: PathBuf,
    /// `OUT_DIR` of the package's build script.
    out_folder: Option<PathBuf>,
}

fn cargo_build(package: &str, target: Target<'_>, options: &[&str]) -> Result<Built> {
    let (selector, program) = match target {
        Target::Program(name) => ("--bin", name),
        Target::Test(name) => ("--test", name),
    };
    let mut command = shell::cargo();
    command.args(["build", "--package", package, selector, program, "--message-format=json-render-diagnostics"]);
    command.args(options);
    let mut child = command.stdout(Stdio::piped()).spawn().context("starting `cargo build`")?;
    let stdout = child.stdout.take().context("`cargo build` has no output")?;
    let (mut executable, mut out_folder) = (None, None);
    for line in BufReader::new(stdout).lines() {
        let message: Value = serde_json::from_str(&line?).context("reading a message of `cargo build`")?;
        let path = |key: &str| message[key].as_str().map(PathBuf::from);
        match message["reason"].as_str() {
            Some("compiler-artifact") if message["target"]["name"] == program => {
                executable = path("executable").or(executable);
            }
            Some("build-script-executed") if is_package(&message["package_id"], package) => {
                out_folder = path("out_dir");
            }
            _ => {}
        }
    }
    if !child.wait()?.success() {
        bail!("`cargo build --package {package}` failed");
    }
    let program = executable.with_context(|| format!("cargo named no program `{program}`"))?;
    Ok(Built { program, out_folder })
}

/// Package ids of a workspace read `path+file:///folder/NAME#VERSION`.
fn is_package(id: &Value, name: &str) -> bool {
    id.as_str().is_some_and(|id| id.split('#').next().is_some_and(|path| path.ends_with(&format!("/{name}"))))
}
