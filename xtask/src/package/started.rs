//! What is known of the programs before they are packed: they are static, and start.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _};

use super::{ARM64, Architecture, X86_64};
use crate::shell;

/// Demands that both programs are static and say the same, each on its processor: of themselves, and of a configuration
/// whose check goes through most of them.
pub fn same_answers(native: &Path, foreign: &Path) -> Result<()> {
    is_static(native)?;
    is_static(foreign)?;
    let script = shell::workspace().join("pcc-userspace/examples/dual-wan.rsc");
    let script = script.to_str().context("the path of the workspace is no text")?;
    for arguments in [&["--version"][..], &["--help"], &["check", "--json", script], &["import", script]] {
        let (native, foreign) = (answer(&X86_64, native, arguments)?, answer(&ARM64, foreign, arguments)?);
        if native != foreign {
            bail!("`pcc {}` says on x86-64\n{native}\nand on arm64\n{foreign}", arguments.join(" "));
        }
    }
    Ok(())
}

fn answer(architecture: &Architecture, program: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = match architecture.emulator {
        None => Command::new(program),
        Some(emulator) => {
            let mut command = Command::new(emulator);
            command.arg(program);
            command
        }
    };
    let text = shell::output(command.args(arguments));
    text.with_context(|| format!("`pcc {}` failed on {}", arguments.join(" "), architecture.debian))
}

fn is_static(program: &Path) -> Result<()> {
    let bytes = fs::read(program).with_context(|| format!("reading {}", program.display()))?;
    let file = object::File::parse(&*bytes).with_context(|| format!("parsing {}", program.display()))?;
    // The loader of shared libraries.
    if file.sections().any(|section| section.name() == Ok(".interp")) {
        bail!("{} is not static", program.display());
    }
    Ok(())
}
