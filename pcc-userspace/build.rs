//! Builds the kernel programs and leaves them as `$OUT_DIR/pcc-ebpf`, those of `pcc trace` as `$OUT_DIR/pcc-trace`, and those of
//! the bench as `$OUT_DIR/pcc-traffic`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain};

fn main() -> Result<()> {
    let Some(toolchain) = toolchain_with_library_source()? else {
        return refuse("the source of Rust's `core` library, which is compiled for BPF, is missing");
    };
    if !in_path("bpf-linker") {
        return refuse("`bpf-linker` is not in PATH");
    }
    // SAFETY: the build script has one thread here.
    unsafe {
        // `-Z build-std` on a stable toolchain. Only the child sees it; set for the whole build it would make other
        // build scripts probe for nightly features.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // aya-build repeats the child's progress as warnings, and cargo repeats those at every build.
        env::set_var("CARGO_TERM_QUIET", "true");
        // Instructions for 32 bits, which all kernels since 5.1 know: a shortcut in XDP takes 15 % less. aya-build sets the
        // flags of the compiler itself, and cargo adds those of the profile.
        env::set_var("CARGO_UNSTABLE_PROFILE_RUSTFLAGS", "true");
        env::set_var("CARGO_PROFILE_RELEASE_RUSTFLAGS", "-Ctarget-cpu=v3");
        env::set_var("CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_RUSTFLAGS", "");
    }
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../pcc-ebpf");
    let root = fs::canonicalize(&root).with_context(|| format!("looking for {}", root.display()))?;
    aya_build::build_ebpf(
        [Package { name: "pcc-ebpf", root_dir: &root.to_string_lossy(), ..Package::default() }],
        Toolchain::Custom(&toolchain.to_string_lossy()),
    )?;
    println!("cargo::metadata=objects={}", env::var("OUT_DIR")?);
    Ok(())
}

/// The sysroot of the toolchain that is building us, or Debian's, whichever has the library source.
///
/// `rustup run` takes the path like a name; without rustup plain `cargo` is called and the path is not used.
fn toolchain_with_library_source() -> Result<Option<PathBuf>> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output =
        Command::new(&rustc).args(["--print", "sysroot"]).output().context("asking `rustc` for its sysroot")?;
    let sysroot = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    Ok([sysroot.as_str(), "/usr"]
        .map(PathBuf::from)
        .into_iter()
        .find(|sysroot| sysroot.join("lib/rustlib/src/rust/library/core").is_dir()))
}

fn in_path(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

fn refuse(missing: &str) -> Result<()> {
    println!("cargo::error={missing}");
    println!("cargo::error=hint: `cargo xtask setup` installs it");
    Ok(())
}
