//! `cargo xtask run`: builds, then becomes `pcc run` as root; `cargo run` would build as root too.

use std::convert::Infallible;
use std::ffi::OsString;

use anyhow::Result;

use crate::build::{self, Profile};
use crate::{setup, shell};

/// The command.
pub fn run(arguments: &[OsString]) -> Result<Infallible> {
    setup::ensure(setup::Scope::Run)?;
    let pcc = build::pcc(Profile::Release)?;
    let arguments: Vec<OsString> = std::iter::once("run".into()).chain(arguments.iter().cloned()).collect();
    shell::become_as_root(&pcc, &arguments, &[])
}
