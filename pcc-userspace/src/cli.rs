//! The command line: what can be typed.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use ipnet::IpNet;

use crate::config::flags::{Assignment, ConfigFlags, dialect};
use crate::config::{Config, Paths};
use crate::flows::{Order, Query};
use crate::metrics::Format;
use crate::overrides::{Admin, Change};
use crate::routeros::dialect::Dialect;
use crate::routeros::model::values;
use crate::top;

mod doctor;
mod inspect;
mod operate;
mod run;
mod shell;
#[cfg(test)]
mod tests;
mod trace;

pub use shell::complete;

/// Multi-WAN load balancing by per-connection hash, decided in the kernel.
#[derive(Debug, Parser)]
#[command(
    name = "pcc",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    help_template = "{about}\n\n{usage-heading} {usage}\n\n{subcommands}{after-help}",
    after_help = "`pcc COMMAND --help` tells more, with an example; `pcc --version` the version.\n\
                  Exit status: 0 success, 1 failure, 2 wrong usage."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Balance connections until interrupted; leave the host as it was.
    #[command(after_help = "Example: pcc run --wan eth0,eth1 --lan eth2 --weights 3,1")]
    Run(Run),
    /// Print what `run` would do, step by step, and change nothing.
    #[command(after_help = "Example: pcc plan --config /etc/pcc/pcc.toml")]
    Plan(Configured),
    /// Check a configuration and the host, or a RouterOS script.
    ///
    /// Nothing is changed.
    #[command(after_help = "Example: pcc check router.rsc")]
    Check(Check),
    /// Look for what is wrong with this host, and what to do about it.
    ///
    /// Nothing is changed. Without a configuration, and without `/etc/pcc/pcc.toml`, only what concerns every host is looked at. It fails if there
    /// is a problem; advice alone is none.
    #[command(after_help = "Example: pcc doctor --wan eth0,eth1 --lan eth2")]
    Doctor {
        #[command(flatten)]
        config: ConfigFlags,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a RouterOS script as TOML, with its comments.
    #[command(after_help = "Example: pcc import router.rsc > router.toml")]
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
    /// Show what becomes of a packet, rule by rule.
    ///
    /// The program in the kernel is asked whether it agrees.
    #[command(
        after_help = "Example: pcc explain --config pcc.toml --in eth2 --src 10.0.0.5:40000 --dst 203.0.113.9:443"
    )]
    Explain(Explain),
    /// Show uplinks, their state, shares and connections.
    #[command(after_help = "Example: pcc status --json | jq .uplinks[].share_seen")]
    Status {
        #[command(flatten)]
        instance: InstanceFlag,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Watch uplinks, connections and events live.
    ///
    /// Keys drain, disable and weigh uplinks, filter, sort and freeze; `?` shows them all.
    #[command(after_help = "Example: pcc top --interval 2s")]
    Top {
        #[command(flatten)]
        instance: InstanceFlag,
        #[command(flatten)]
        options: top::Options,
    },
    /// List connections: whose they are, by which uplink, how much.
    #[command(after_help = "Example: pcc flows --client 10.0.0.5 --uplink eth0 --sort in --limit 10")]
    Flows(Flows),
    /// Say whether new connections are spread as wanted, and if not, why.
    ///
    /// Exit status 1 means that they are not; 0 also that there are too few of them to tell.
    #[command(after_help = "Example: pcc verify --since 10m")]
    Verify {
        /// Only those of the last time, such as `10m`; else all since the controller started.
        #[arg(long, value_name = "TIME", value_parser = time)]
        since: Option<Duration>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        instance: InstanceFlag,
    },
    /// Print what happens, one line for each event, until interrupted.
    #[command(after_help = "Example: pcc events --json | jq .event")]
    Events {
        #[command(flatten)]
        instance: InstanceFlag,
        /// Print JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
    /// Print metrics for monitoring systems.
    ///
    /// `run --metrics ADDRESS` serves the same by HTTP.
    #[command(after_help = "Example: pcc metrics --format prometheus")]
    Metrics {
        #[command(flatten)]
        instance: InstanceFlag,
        /// How they are written; `prometheus` is the older format, which the textfile collector of node_exporter reads.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Read the configuration again and put it in force, as SIGHUP does.
    ///
    /// Connections stay where they are. The controller reads the file that it was started with, under the flags of its own command line.
    #[command(after_help = "Example: pcc reload --try 30s")]
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
    #[command(after_help = "Example: pcc uplink eth1 drain 10m")]
    Uplink {
        /// Its name or device.
        #[arg(add = ArgValueCandidates::new(shell::uplinks))]
        name: String,
        #[command(subcommand)]
        change: UplinkChange,
        /// Also after the next start, until changed again or `pcc down`.
        #[arg(long, global = true)]
        persist: bool,
        /// Print what changed as JSON.
        #[arg(long, global = true)]
        json: bool,
        #[command(flatten)]
        instance: InstanceFlag,
    },
    /// Print the packets of a client or a port as they pass the devices.
    #[command(after_help = "Example: pcc trace --client 192.0.2.7 --seconds 30")]
    Trace(trace::Trace),
    /// Remove everything that an instance left on the host.
    ///
    /// Also what is left after a crash.
    #[command(after_help = "Example: pcc down --instance lab")]
    Down {
        #[command(flatten)]
        instance: InstanceFlag,
    },
    /// Print the script that makes a shell complete this command line.
    ///
    /// It completes names of uplinks, too. Put it where the shell looks for such scripts, or read it in each shell.
    #[command(after_help = "Example: pcc completions bash > /etc/bash_completion.d/pcc")]
    Completions {
        /// The shell.
        #[arg(value_parser = ["bash", "zsh", "fish"])]
        shell: String,
    },
    /// Write manual pages to a directory.
    #[command(after_help = "Example: pcc man /usr/share/man/man1")]
    #[command(hide = true)]
    Man {
        /// The directory.
        directory: PathBuf,
    },
}

#[derive(Args, Debug)]
struct Run {
    #[command(flatten)]
    config: ConfigFlags,
    /// Leave the data path running when the controller stops; the next start adopts it, `pcc down` removes it. With UNIT
    /// only when systemd stops that unit in order to start it again.
    #[arg(long, value_name = "UNIT", num_args = 0..=1, require_equals = true)]
    keep: Option<Option<String>>,
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

#[derive(Args, Debug)]
struct Flows {
    #[command(flatten)]
    query: FlowQuery,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: InstanceFlag,
}

#[derive(Args, Debug)]
struct FlowQuery {
    /// Only those of clients with this address or in this prefix: `10.0.0.5`, `10.0.0.0/24`.
    #[arg(long, value_name = "ADDRESS", value_parser = network)]
    client: Option<IpNet>,
    /// Only those of this uplink, by name or device; with a RouterOS script those with this connection or routing mark.
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(shell::uplinks))]
    uplink: Option<String>,
    /// Only those from or to this port, as the side that began sees it.
    #[arg(long, value_name = "NUMBER")]
    port: Option<u16>,
    /// Only those of this protocol, by name or number.
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol)]
    protocol: Option<u8>,
    /// Only those in this state: of TCP its own, such as established; of others unreplied, replied or assured.
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Which come first.
    #[arg(long, value_enum, value_name = "ORDER", default_value_t)]
    sort: Order,
    /// How many are shown, 1 to 10000.
    #[arg(long, value_name = "NUMBER", default_value_t = Query::LIMIT as u16, value_parser = clap::value_parser!(u16).range(1..=Query::MOST as i64))]
    limit: u16,
}

impl From<FlowQuery> for Query {
    fn from(flags: FlowQuery) -> Self {
        let FlowQuery { client, uplink, port, protocol, state, sort, limit } = flags;
        let state = state.map(|state| state.to_lowercase());
        Self { client, uplink, port, protocol, state, sort, limit: limit.into() }
    }
}

/// A prefix, or an address alone.
fn network(text: &str) -> Result<IpNet, String> {
    let alone = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| alone()).map_err(|_| "such as 10.0.0.5, 10.0.0.0/24 or 2001:db8::/64".to_owned())
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
    #[command(after_help = "Example: pcc uplink eth1 weight 3")]
    Weight {
        /// The weight.
        weight: u32,
    },
    /// Give it no new connections. Those that are there stay, or end after a time.
    #[command(after_help = "Example: pcc uplink eth1 drain 10m")]
    Drain {
        /// Time after which its connections end, such as `10m`.
        #[arg(value_parser = time)]
        time: Option<Duration>,
    },
    /// Take it out of service: its connections end as when it goes down.
    #[command(after_help = "Example: pcc uplink eth1 disable --persist")]
    Disable,
    /// Let it take part again.
    #[command(after_help = "Example: pcc uplink eth1 enable")]
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

/// The command line as clap knows it: for manual pages, completions and tests.
pub fn command() -> clap::Command {
    Cli::command()
}

impl Cli {
    /// Does what was asked.
    pub fn execute(self) -> Result<()> {
        match self.command {
            Command::Run(flags) => run::run(&flags),
            Command::Plan(flags) => inspect::plan(&flags.config),
            Command::Check(flags) => inspect::check(flags),
            Command::Doctor { config, json } => doctor::doctor(config, json),
            Command::Import { file, dialect, map } => inspect::import(&file, dialect, &map),
            Command::Explain(flags) => inspect::explain_packet(&flags),
            Command::Status { instance, json } => operate::status(&instance.instance, json),
            Command::Top { instance, options } => top::run(&Paths::of(&instance.instance).run, &options),
            Command::Events { instance, json } => operate::events(&instance.instance, json),
            Command::Metrics { instance, format } => operate::metrics(&instance.instance, format),
            Command::Reload { trial, confirm, instance } => operate::reload(&instance.instance, trial, confirm),
            Command::Flows(Flows { instance, json, query }) => operate::flows(&instance.instance, query.into(), json),
            Command::Verify { since, json, instance } => operate::verify(&instance.instance, since, json),
            Command::Uplink { name, change, persist, json, instance } => {
                operate::change(&instance.instance, name, change.into(), persist, json)
            }
            Command::Trace(flags) => trace::trace(&flags),
            Command::Down { instance } => operate::down(&instance.instance),
            Command::Completions { shell } => shell::completions(&shell),
            Command::Man { directory } => shell::manual(&directory),
        }
    }
}
