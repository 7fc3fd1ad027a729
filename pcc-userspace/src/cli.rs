//! The command line: one function a command.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::Signal;

use crate::check::{self, Judgement};
use crate::config::flags::{Assignment, ConfigFlags, dialect};
use crate::config::{Config, Configuration, Paths};
use crate::control::{self, Answer, Request};
use crate::controller;
use crate::dataplane::{self, DataPlane};
use crate::explain::Asked;
use crate::host::Host as _;
use crate::host::linux::Linux;
use crate::instance::Instance;
use crate::journal::{Journal, Lock};
use crate::mirror::blueprint::Blueprint;
use crate::problem::Problem;
use crate::routeros::dialect::{Dialect, detect};
use crate::routeros::model::values;
use crate::routeros::{self, Severity};
use crate::survey::{self, Step};
use crate::{explain, mirror, teardown, topology};

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
    /// Change an uplink of a running instance.
    Uplink {
        /// Its name or device.
        name: String,
        #[command(subcommand)]
        change: UplinkChange,
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
    /// Give it another weight until the next start: 0 to 1000. Connections that are there stay.
    Weight {
        /// The weight.
        weight: u32,
    },
}

/// aya-log's number of the level `info`, which the programs use; 0 makes the verifier remove their logging code.
const LOG_INFO: u8 = 3;

impl Cli {
    /// Does what was asked.
    pub fn execute(self) -> Result<()> {
        match self.command {
            Command::Run(flags) => run(&flags),
            Command::Plan(flags) => plan(&flags.config),
            Command::Check(flags) => check(flags),
            Command::Import { file, dialect, map } => import(&file, dialect, &map),
            Command::Explain(flags) => explain_packet(&flags),
            Command::Status { instance, json } => status(&instance.instance, json),
            Command::Uplink { name, change: UplinkChange::Weight { weight }, instance } => {
                control::ask(&Paths::of(&instance.instance).run, &Request::Weight { uplink: name, weight }).map(drop)
            }
            Command::Down { instance } => down(&instance.instance),
        }
    }
}

fn run(flags: &Run) -> Result<()> {
    let configuration = Configuration::load(&flags.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        // Before anything is changed, so that an impatient Ctrl-C cannot leave half a start behind.
        let interrupted = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        let terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let signals = [interrupted, terminated];
        match configuration {
            Configuration::Native(config) => run_native(*config, flags, signals).await,
            Configuration::Mirror(config) => run_mirror(*config, flags, signals).await,
        }
    })
}

async fn run_native(config: Config, flags: &Run, signals: [Signal; 2]) -> Result<()> {
    let paths = Paths::of(&config.instance);
    let log_level = if flags.log_flows { LOG_INFO } else { 0 };
    let (mut instance, warnings) =
        Instance::start(config, paths, Box::new(Linux::open()?), log_level, &mut |_| Ok(()))?;
    warn(&warnings);
    if flags.log_flows {
        log_packets(&mut instance.plane)?;
    }
    let uplinks: Vec<&str> = instance.topology.uplinks.iter().map(|uplink| uplink.config.name.as_str()).collect();
    tracing::info!(
        "ready: {} over {}{}",
        instance.config.lans.join(", "),
        uplinks.join(", "),
        adopted(&instance.plane)
    );
    let instance = controller::run(instance, signals).await?;
    if flags.keep { kept() } else { stopped(instance.stop()) }
}

async fn run_mirror(config: mirror::Config, flags: &Run, signals: [Signal; 2]) -> Result<()> {
    let paths = Paths::of(&config.base.instance);
    let host = Box::new(Linux::open()?);
    let log_level = if flags.log_flows { LOG_INFO } else { 0 };
    let (mut instance, warnings) = mirror::instance::Instance::start(config, paths, host, log_level, &mut |_| Ok(()))?;
    warn(&warnings);
    if flags.log_flows {
        log_packets(&mut instance.plane)?;
    }
    tracing::info!("ready: {}{}", instance.config.name, adopted(&instance.plane));
    let instance = mirror::controller::run(instance, signals).await?;
    if flags.keep { kept() } else { stopped(instance.stop()) }
}

fn adopted(plane: &DataPlane) -> &'static str {
    if plane.adopted() { "; adopted the running data path" } else { "" }
}

fn kept() -> Result<()> {
    tracing::info!("stopped; the data path goes on, `pcc down` removes it");
    Ok(())
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// What a start would do, and what the operator should know.
fn surveyed(flags: &ConfigFlags) -> Result<(Vec<Step>, Vec<String>)> {
    let host = &mut Linux::open()?;
    Ok(match Configuration::load(flags)? {
        Configuration::Native(config) => {
            let paths = Paths::of(&config.instance);
            let survey = survey::survey(&config, &paths, host, &dataplane::known(&paths.pins))?;
            (survey.steps, survey.warnings)
        }
        Configuration::Mirror(config) => {
            let survey = mirror::survey::survey(&config, &Paths::of(&config.base.instance), host)?;
            (survey.steps, survey.warnings)
        }
    })
}

fn plan(flags: &ConfigFlags) -> Result<()> {
    let (steps, warnings) = surveyed(flags)?;
    warn(&warnings);
    let mut out = std::io::stdout().lock();
    for step in &steps {
        writeln!(out, "{step}")?;
    }
    Ok(())
}

fn check(flags: Check) -> Result<()> {
    let Check { file, script, strict, json, config: mut flags } = flags;
    match file {
        Some(file) if script || flags.names_script(&file) || is_document(&file) => {
            check::script(&file, Judgement { dialect: flags.dialect, strict, json })?;
            if flags.map.is_empty() {
                return Ok(());
            }
            flags.config = Some(file);
        }
        Some(file) => flags.config = Some(file),
        None => {}
    }
    let (_, warnings) = surveyed(&flags)?;
    warn(&warnings);
    tracing::info!("the configuration is valid and this host can run it");
    Ok(())
}

/// The file is a RouterOS configuration in TOML.
fn is_document(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| mirror::document::is_routeros_document(&text))
}

fn import(path: &Path, dialect: Option<Dialect>, map: &[Assignment]) -> Result<()> {
    let text = std::fs::read(path)
        .map_err(|error| Problem::new(format!("cannot read `{}`: {error}", path.display()), "`pcc import FILE.rsc`"))?;
    let script = routeros::read(&text);
    let dialect = detect(&script, &text, dialect).dialect;
    let devices = map.iter().map(|map| (map.uplink.clone(), map.value.clone())).collect();
    let lost: Vec<_> = script.notes.iter().filter(|note| note.severity == Severity::Error).collect();
    for note in &lost {
        tracing::warn!("{}:{}:{}: {}", path.display(), note.span.line, note.span.column, note.message);
    }
    write!(std::io::stdout().lock(), "{}", mirror::import::to_toml(&script, dialect, &devices))?;
    if lost.is_empty() {
        return Ok(());
    }
    let message = format!("{} places of `{}` could not be read", lost.len(), path.display());
    Err(Problem::new(message, "complete the script, or the TOML where it says so").into())
}

fn explain_packet(flags: &Explain) -> Result<()> {
    let Explain { interface, src, dst, proto, connection_mark, .. } = flags;
    let asked = Asked {
        interface: interface.clone(),
        source: *src,
        destination: *dst,
        protocol: *proto,
        connection_mark: connection_mark.clone(),
    };
    let mut host = Linux::open()?;
    let observed = host.observe()?;
    let (document, text) = match Configuration::load(&flags.config)? {
        Configuration::Native(config) => {
            let paths = Paths::of(&config.instance);
            let ids = topology::assign_ids(&config, &Journal::load(&paths.run)?.unwrap_or_default().ids);
            let explanation = explain::native::explain(&config, &paths, &ids, &host, &observed, &asked)?;
            (serde_json::to_string_pretty(&explanation)?, explanation.text())
        }
        Configuration::Mirror(config) => {
            let journal = Journal::load(&Paths::of(&config.base.instance).run)?.unwrap_or_default();
            let blueprint = Blueprint::draw(&config, &journal.names, &journal.ids, &observed)?;
            let explanation = mirror::explain::explain(&config, &blueprint, &observed, &asked)?;
            (serde_json::to_string_pretty(&explanation)?, explanation.text())
        }
    };
    let mut out = std::io::stdout().lock();
    if flags.json {
        writeln!(out, "{document}")?;
    } else {
        write!(out, "{text}")?;
    }
    Ok(())
}

fn status(instance: &str, json: bool) -> Result<()> {
    let (document, table) = match control::ask(&Paths::of(instance).run, &Request::Status)? {
        Answer::Status(status) => (serde_json::to_string_pretty(&status)?, status.table()),
        Answer::Mirror(status) => (serde_json::to_string_pretty(&status)?, status.table()),
        Answer::Done | Answer::Problem { .. } => anyhow::bail!("the controller answered something else"),
    };
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{document}")?;
    } else {
        write!(out, "{table}")?;
    }
    Ok(())
}

fn down(instance: &str) -> Result<()> {
    let paths = Paths::of(instance);
    let journal = Journal::load(&paths.run)?;
    if journal.is_none() && !paths.pins.exists() {
        tracing::info!("instance `{instance}` left nothing on this host");
        return Ok(());
    }
    let _lock = Lock::take(&paths.run, instance)?;
    stopped(teardown::teardown(&mut Linux::open()?, &paths, &journal.unwrap_or_default()))
}

fn stopped(result: Result<(), Vec<anyhow::Error>>) -> Result<()> {
    let Err(errors) = result else { return Ok(()) };
    controller::log_errors("leaving the host as it was", &errors);
    Err(Problem::new(
        format!("{} steps of the clean-up failed", errors.len()),
        "the log above names them; `pcc down` tries again",
    )
    .into())
}

/// Forwards aya-log's records to the log.
fn log_packets(plane: &mut DataPlane) -> Result<()> {
    let mut logger = aya_log::EbpfLogger::init(plane.ebpf()).context("reading packet logs")?;
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(std::time::Duration::from_millis(200));
        loop {
            interval.tick().await;
            logger.flush();
        }
    });
    Ok(())
}
