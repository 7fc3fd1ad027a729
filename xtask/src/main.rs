//! `cargo xtask`: what plain cargo cannot do for this project. One file a command.
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a command-line tool")]

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod build;
mod corpus;
mod initramfs;
mod lab;
mod object;
mod package;
mod picture;
mod run;
mod setup;
mod shell;
mod test;
mod vm;

/// Builds, runs and tests pcc. Each command installs what it misses, as `setup` does.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Installs what building and testing need (Debian, as root), or prints the commands to type
    Setup,
    /// Builds `pcc` and checks the kernel object in it
    Build {
        /// Optimises `pcc` (the kernel programs always are)
        #[arg(long)]
        release: bool,
    },
    /// Builds `pcc` and runs `pcc run ARGS…` with the needed rights
    #[command(disable_help_flag = true)]
    Run {
        /// Arguments of `pcc run`; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Checks format, lints and the kernel object, then runs all tests, then `vm`
    Test {
        /// Runs only the tests whose name contains TEXT, without the checks before them
        #[arg(long, value_name = "TEXT")]
        filter: Option<String>,
        /// Runs every end-to-end test in each mode of the fast path, also those that run in one mode only otherwise
        #[arg(long, conflicts_with_all = ["filter", "corpus"])]
        every_mode: bool,
        /// Only runs `pcc check` over the RouterOS scripts in a folder, and fails where a statement is lost
        #[arg(long, value_name = "DIR", conflicts_with = "filter")]
        corpus: Option<PathBuf>,
    },
    /// Builds the namespace lab and drives real connections through it; needs no hardware
    #[command(disable_help_flag = true)]
    Lab {
        /// Arguments of the lab: nothing for the whole demonstration, or `up`, `shell`, `down`; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Measures what a packet costs beside other ways to balance, fail-over, the idle controller, and a line that loses a little
    #[command(disable_help_flag = true)]
    Bench {
        /// Arguments of the bench: nothing or `throughput`, `fail-over`, `idle` or `soak`; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Makes the Debian packages and the static tarballs, for x86-64 and arm64, in `target/package`
    Package {
        /// Also installs, upgrades and removes the package in an emulated Debian, under live connections
        #[arg(long)]
        test: bool,
    },
    /// Draws `pcc top` in a lab with real traffic, for README: `pcc-userspace/docs/top.svg`
    Picture,
    /// Boots Debian's stock 6.1 kernel in an emulated machine and runs the lab there
    Vm(vm::Arguments),
}

fn main() -> ExitCode {
    match perform(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup => setup::ensure(setup::Scope::Everything)?,
        Command::Build { release } => build::build(build::Profile::new(release))?,
        Command::Run { args } => match run::run(&args)? {},
        Command::Test { corpus: Some(folder), .. } => corpus::corpus(&folder)?,
        Command::Test { every_mode: true, .. } => test::every_mode()?,
        Command::Test { filter, corpus: None, .. } => test::test(filter.as_deref())?,
        Command::Lab { args } => match lab::lab(&args)? {},
        Command::Bench { args } => match bench::bench(&args)? {},
        Command::Package { test } => package::package(test)?,
        Command::Picture => match picture::picture()? {},
        Command::Vm(arguments) => return vm::vm(&arguments),
    }
    Ok(ExitCode::SUCCESS)
}
