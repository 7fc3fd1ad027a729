//! `cargo xtask test --corpus DIR`: `pcc check` over a folder of RouterOS scripts that are not part of the project.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::build::{self, Profile};
use crate::setup;

/// Checks each `.rsc` and `.txt` in `folder`. A script may be full of mistakes; what fails is a script of which
/// statements are lost, or that `pcc` cannot check.
pub fn corpus(folder: &Path) -> Result<()> {
    setup::ensure(setup::Scope::Build)?;
    let pcc = build::pcc(Profile::Development)?;
    let entries = fs::read_dir(folder).with_context(|| format!("reading the corpus `{}`", folder.display()))?;
    let mut files: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rsc" || extension == "txt"));
    files.sort();
    if files.is_empty() {
        bail!("no `.rsc` or `.txt` in the corpus `{}`", folder.display());
    }
    let mut failed = 0;
    for file in &files {
        match check(&pcc, file) {
            Ok(line) => println!("ok      {line}"),
            Err(error) => {
                failed += 1;
                println!("FAILED  {}: {error:#}", file.display());
            }
        }
    }
    println!("{} passed, {failed} failed", files.len() - failed);
    if failed > 0 { bail!("{failed} scripts of the corpus") } else { Ok(()) }
}

fn check(pcc: &Path, file: &Path) -> Result<String> {
    let output = Command::new(pcc)
        .args(["check", "--json", "--script"])
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", pcc.display()))?;
    if !matches!(output.status.code(), Some(0 | 1)) {
        bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).context("its report is no JSON")?;
    let number = |value: &serde_json::Value| value.as_u64().context("a number is missing in the report");
    let statements = &report["statements"];
    let (total, understood, noted) =
        (number(&statements["total"])?, number(&statements["understood"])?, number(&statements["noted"])?);
    if total == 0 || total != understood + noted {
        bail!("{total} statements, but {understood} understood and {noted} noted");
    }
    let (errors, warnings) = (number(&report["errors"])?, number(&report["warnings"])?);
    Ok(format!(
        "{}: {understood} of {total} statements understood, {errors} errors, {warnings} warnings",
        file.display()
    ))
}
