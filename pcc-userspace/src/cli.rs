//! The command line: what can be typed.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::config::flags::{Assignment, ConfigFlags, dialect};
use crate::config::{Config, Paths};
use crate::overrides::{Admin, Change};
use crate::routeros::dialect::Dialect;
use crate::routeros::model::values;
use crate::top;

mod inspect;
mod operate;
mod run;

/// Multi-WAN load balancing by per-connection hash, with the classifier in the kernel.
#[derive(Debug, Parser)]
#[command(
    name = "pcc",
    version,
    arg_required_else_help = true,
    after_help = "Exit status: 0 success, 1 failure, 2 wrong usage."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Balance connections until interrupted; then leave the host as it was.
    Run(Run),
    /// Print what `run` would do, step by step, and change nothing.
    Plan(Configured),
    /// Check a configuration and the host, or a RouterOS script, without changing anything.
    Check(Check),
    /// Print a RouterOS script as TOML, with its comments.
    Import {
        /// The script or export.
        file: PathBuf,
        /// RouterOS version of a script that does not tell it: v6 or v7.
        #[arg(long, value_name = "VERSION", value_parser = dialect)]
        dialect: Option<Dialect>,
        /// Linux devices of its interfaces: `ether1=eth0,bridge=br-lan`.
        #[arg(long, value_name = "INTERFACE=DEVICE", value_delimiter = ',')]
        map: Vec<Assignment>,
    },
    /// Show what becomes of a packet, rule by rule, and ask the program in the kernel whether it agrees.
    Explain(Explain),
    /// Show uplinks, their state, shares and connections.
    Status {
        #[command(flatten)]
        instance: InstanceFlag,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Watch uplinks, connections, clients and events live, and change uplinks by keys; `?` shows which.
    Top {
        #[command(flatten)]
        instance: InstanceFlag,
        #[command(flatten)]
        options: top::Options,
    },
    /// Print what happens, one line for each event, until interrupted.
    Events {
        #[command(flatten)]
        instance: InstanceFlag,
        /// Print JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
    /// Read the configuration again and put it in force; connections stay where they are. SIGHUP does the same.
    ///
    /// The controller reads the file that it was started with, under the flags of its own command line.
    Reload {
        /// Go back to the configuration before unless `pcc reload --confirm` comes within this time, such as `30s`.
        #[arg(long = "try", value_name = "TIME", value_parser = time)]
        trial: Option<Duration>,
        /// Keep the configuration that is being tried.
        #[arg(long, conflicts_with = "trial")]
        confirm: bool,
        #[command(flatten)]
        instance: InstanceFlag,
    },
    /// Change an uplink of a running instance.
    Uplink {
        /// Its name or device.
        name: String,
        #[command(subcommand)]
        change: UplinkChange,
        /// Also after the next start, until changed again or `pcc down`.
        #[arg(long, global = true)]
        persist: bool,
        #[command(flatten)]
        instance: InstanceFlag,
    },
    /// Remove everything that an instance left on the host, also after a crash.
    Down {
        #[command(flatten)]
        instance: InstanceFlag,
    },
}

#[derive(Args, Debug)]
struct Run {
    #[command(flatten)]
    config: ConfigFlags,
    /// Leave the data path running when the controller stops; the next start adopts it, `pcc down` removes it.
    #[arg(long)]
    keep: bool,
    /// Log every decision that the flow cache did not know. Costs time for each of them.
    #[arg(long)]
    log_flows: bool,
}

#[derive(Args, Debug)]
struct Configured {
    #[command(flatten)]
    config: ConfigFlags,
}

#[derive(Args, Debug)]
struct Check {
    /// A RouterOS script or export (`.rsc`), which is checked by itself; any other file is read like `--config`.
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
    /// FILE is a RouterOS script, whatever its name.
    #[arg(long, requires = "file")]
    script: bool,
    /// Warnings about a script fail too.
    #[arg(long)]
    strict: bool,
    /// Print what is said about a script as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

#[derive(Args, Debug)]
struct Explain {
    /// Interface that the packet comes in by, RouterOS's name or the device's.
    #[arg(long = "in", value_name = "INTERFACE")]
    interface: String,
    /// Source: `10.0.0.5:40000`, `[2001:db8::5]:40000`, or an address alone.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = endpoint)]
    src: SocketAddr,
    /// Destination, likewise.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = endpoint)]
    dst: SocketAddr,
    /// Protocol by name or number.
    #[arg(long, value_name = "PROTOCOL", default_value = "tcp", value_parser = protocol)]
    proto: u8,
    /// The connection's mark or `no-mark`, or without a RouterOS script its uplink. Without it the packet is the first of its
    /// connection.
    #[arg(long, value_name = "MARK")]
    connection_mark: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

/// An address with a port, or without one.
fn endpoint(text: &str) -> Result<SocketAddr, String> {
    let alone = || text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 0));
    text.parse().or_else(|_| alone()).map_err(|_| "such as 192.0.2.1:443, [2001:db8::1]:443 or 192.0.2.1".to_owned())
}

fn protocol(text: &str) -> Result<u8, String> {
    values::protocol(text).ok_or_else(|| "a name such as tcp, udp or icmp, or a number".to_owned())
}

#[derive(Args, Debug)]
struct InstanceFlag {
    /// Name of the instance.
    #[arg(long, value_name = "NAME", default_value = Config::INSTANCE, global = true)]
    instance: String,
}

#[derive(Debug, Subcommand)]
enum UplinkChange {
    /// Give it another weight, 0 to 1000. Connections that are there stay.
    Weight {
        /// The weight.
        weight: u32,
    },
    /// Give it no new connections. Those that are there stay, or end after a time.
    Drain {
        /// Time after which its connections end, such as `10m`.
        #[arg(value_parser = time)]
        time: Option<Duration>,
    },
    /// Take it out of service: its connections end as when it goes down.
    Disable,
    /// Let it take part again.
    Enable,
}

impl From<UplinkChange> for Change {
    fn from(change: UplinkChange) -> Self {
        match change {
            UplinkChange::Weight { weight } => Self::Weight(weight),
            UplinkChange::Drain { time } => Self::Admin(Admin::Draining(time)),
            UplinkChange::Disable => Self::Admin(Admin::Disabled),
            UplinkChange::Enable => Self::Admin(Admin::Enabled),
        }
    }
}

fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "a time such as 30s or 10m".to_owned())
}

impl Cli {
    /// Does what was asked.
    pub fn execute(self) -> Result<()> {
        match self.command {
            Command::Run(flags) => run::run(&flags),
            Command::Plan(flags) => inspect::plan(&flags.config),
            Command::Check(flags) => inspect::check(flags),
            Command::Import { file, dialect, map } => inspect::import(&file, dialect, &map),
            Command::Explain(flags) => inspect::explain_packet(&flags),
            Command::Status { instance, json } => operate::status(&instance.instance, json),
            Command::Top { instance, options } => top::run(&Paths::of(&instance.instance).run, &options),
            Command::Events { instance, json } => operate::events(&instance.instance, json),
            Command::Reload { trial, confirm, instance } => operate::reload(&instance.instance, trial, confirm),
            Command::Uplink { name, change, persist, instance } => {
                operate::change(&instance.instance, name, change.into(), persist)
            }
            Command::Down { instance } => operate::down(&instance.instance),
        }
    }
}
