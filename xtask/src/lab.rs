//! `cargo xtask lab`: builds `pcc` and the lab of the crate `tests`, then becomes the lab as root.

use std::convert::Infallible;
use std::ffi::OsString;

use anyhow::Result;

use crate::build::{self, Profile};
use crate::{setup, shell};

/// The command.
pub fn lab(arguments: &[OsString]) -> Result<Infallible> {
    setup::ensure(setup::Scope::Test)?;
    let pcc = build::pcc(Profile::Release)?;
    let lab = build::program_of_tests("lab", Profile::Release)?;
    shell::become_as_root(&lab, arguments, &[("PCC_BIN", pcc.as_os_str())])
}
