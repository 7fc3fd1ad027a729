//! The lab as a program: `cargo xtask lab`.
#![expect(clippy::print_stdout, reason = "the report is what the program is for")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod cake;
mod demonstration;
mod keep;

/// Runs pcc in a lab of network namespaces. Without a command: the whole demonstration, in a minute.
///
/// Exit status: 0 if everything was as promised, 1 if not, 2 wrong usage.
#[derive(Parser)]
#[command(name = "cargo xtask lab", bin_name = "cargo xtask lab")]
struct Arguments {
    #[command(flatten)]
    demonstration: demonstration::Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Builds the lab, starts pcc in it, and keeps both for playing.
    Up,
    /// Opens a shell in a namespace of the kept lab.
    Shell {
        /// `router`, `client`, `isp1` or `isp2`.
        #[arg(default_value = "router")]
        namespace: String,
    },
    /// Removes the kept lab.
    Down,
    /// Shows that CAKE on uplink 1 shapes what takes shortcuts. Not every kernel has it: `cargo xtask vm` boots one.
    Cake,
    /// Is the kept lab, until a signal says stop.
    #[command(hide = true)]
    Serve,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        None => demonstration::run(arguments.demonstration),
        Some(Command::Up) => keep::up(),
        Some(Command::Shell { namespace }) => keep::shell(&namespace),
        Some(Command::Down) => keep::down(),
        Some(Command::Cake) => cake::run(),
        Some(Command::Serve) => keep::serve(),
    }
}
