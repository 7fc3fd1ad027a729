//! `cargo xtask bench`: builds `pcc` and the bench of the crate `tests`, then becomes the bench as root.

use std::convert::Infallible;
use std::ffi::OsString;

use anyhow::Result;

use crate::build::{self, Profile};
use crate::{setup, shell};

/// The command.
pub fn bench(arguments: &[OsString]) -> Result<Infallible> {
    setup::ensure(setup::Scope::Test)?;
    let pcc = build::pcc(Profile::Release)?;
    let bench = build::program_of_tests("bench", Profile::Release)?;
    shell::become_as_root(&bench, arguments, &[("PCC_BIN", pcc.as_os_str())])
}
