//! What pcc promises about time and cost, measured in the lab: `cargo xtask bench`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the report is what the program is for")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod fail_over;
mod idle;
mod soak;
mod throughput;

/// Measures pcc in a lab of network namespaces. Progress goes to stderr, the result to stdout.
///
/// Exit status: 0 if no goal was missed, 1 if one was, 2 wrong usage.
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    throughput: throughput::Options,
}

#[derive(Subcommand)]
enum Command {
    /// What a packet costs, beside other ways to do it; the default.
    Throughput(throughput::Options),
    /// How long new connections suffer when an uplink fails, in several ways, and how soon loss is noticed.
    FailOver(fail_over::Options),
    /// What the controller takes with eight uplinks and nothing to do but to probe three targets of each.
    Idle(idle::Options),
    /// Whether an uplink that loses one packet in a hundred is left in peace.
    Soak(soak::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let kept = match arguments.command.unwrap_or(Command::Throughput(arguments.throughput)) {
        Command::Throughput(options) => throughput::run(&options),
        Command::FailOver(options) => fail_over::run(&options),
        Command::Idle(options) => idle::run(&options),
        Command::Soak(options) => soak::run(&options),
    };
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
