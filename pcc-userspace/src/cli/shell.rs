//! What shells and manuals are told of the command line.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::{CompleteEnv, Shells};

use super::command;
use crate::config::{Config, Paths};
use crate::control::{self, Answer, Request};
use crate::journal::Journal;

/// The variable by which the script of a shell asks the program for completions.
const VARIABLE: &str = "COMPLETE";

/// Answers a shell that asks for completions, and ends the program. Anybody else is left alone.
pub fn complete() {
    CompleteEnv::with_factory(command).var(VARIABLE).complete();
}

/// Prints the script that makes `shell` ask for completions.
pub(super) fn completions(shell: &str) -> Result<()> {
    let shells = Shells::builtins();
    let shell = shells.completer(shell).with_context(|| format!("no script for `{shell}`"))?;
    let mut out = std::io::stdout().lock();
    shell.write_registration(VARIABLE, "pcc", "pcc", "pcc", &mut out)?;
    if shell.name() == "zsh" {
        // As a file of its function path the shell reads it when it completes for the first time, and calls it at once.
        writeln!(out, "if [ \"$funcstack[1]\" = _pcc ]; then _clap_dynamic_completer_pcc \"$@\"; fi")?;
    }
    Ok(())
}

/// Writes a manual page for `pcc` and for each of its commands to `directory`.
pub(super) fn manual(directory: &Path) -> Result<()> {
    clap_mangen::generate_to(command(), directory).with_context(|| format!("writing to {}", directory.display()))
}

/// The uplinks of the instance that the line being completed names.
pub(super) fn uplinks() -> Vec<CompletionCandidate> {
    let paths = Paths::of(&instance(std::env::args_os()));
    let journal = Journal::load(&paths.run).ok().flatten().filter(|journal| !journal.mirror);
    let names = journal.map(|journal| journal.ids.into_keys().collect()).unwrap_or_else(|| asked(&paths.run));
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// For those who may ask the controller, but not read what it noted.
fn asked(run: &Path) -> Vec<String> {
    match control::ask(run, &Request::Status) {
        Ok(Answer::Status(status)) => status.uplinks.into_iter().map(|uplink| uplink.name).collect(),
        _ => Vec::new(),
    }
}

/// What follows `--instance` in `words`.
fn instance(words: impl IntoIterator<Item = OsString>) -> String {
    let words: Vec<String> = words.into_iter().filter_map(|word| word.into_string().ok()).collect();
    let joined = words.iter().filter_map(|word| word.strip_prefix("--instance="));
    let split = words.windows(2).filter(|pair| pair[0] == "--instance").map(|pair| pair[1].as_str());
    joined.chain(split).last().unwrap_or(Config::INSTANCE).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instance_is_found_in_what_is_typed() {
        let of = |line: &str| instance(line.split(' ').map(OsString::from));
        assert_eq!(of("pcc -- pcc uplink "), Config::INSTANCE);
        assert_eq!(of("pcc -- pcc uplink --instance lab "), "lab");
        assert_eq!(of("pcc -- pcc uplink --instance=lab "), "lab");
        assert_eq!(of("pcc -- pcc uplink --instance"), Config::INSTANCE);
    }
}
