//! `cargo xtask picture`: draws `pcc top` in a lab for README.

use std::convert::Infallible;

use anyhow::Result;

use crate::build::{self, Profile};
use crate::{setup, shell};

/// The command.
pub fn picture() -> Result<Infallible> {
    setup::ensure(setup::Scope::Test)?;
    let pcc = build::pcc(Profile::Release)?;
    let picture = build::program_of_tests("picture", Profile::Release)?;
    let file = shell::workspace().join("pcc-userspace/docs/top.svg");
    shell::become_as_root(&picture, &[file.into()], &[("PCC_BIN", pcc.as_os_str())])
}
