//! `pcc`: see `pcc --help`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use pcc_userspace::cli::{self, Cli};
use pcc_userspace::{log, problem};

fn main() -> ExitCode {
    cli::complete();
    let cli = Cli::parse();
    log::init();
    match cli.execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{}", problem::report(&error));
            ExitCode::FAILURE
        }
    }
}
