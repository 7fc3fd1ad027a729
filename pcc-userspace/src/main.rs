//! `pcc`: see `pcc --help`.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use pcc_userspace::cli::{self, Cli};
use pcc_userspace::problem;

fn main() -> ExitCode {
    cli::complete();
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("PCC_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    match cli.execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{}", problem::report(&error));
            ExitCode::FAILURE
        }
    }
}
