//! `pcc run`.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

use super::Run;
use super::inspect::warn;
use super::operate::stopped;
use crate::config::{Base, Config, Configuration, Listen, Paths};
use crate::control::Door;
use crate::controller::{self, Signals};
use crate::dataplane::DataPlane;
use crate::host::linux::Linux;
use crate::instance::Instance;
use crate::journal::Lock;
use crate::metrics::Endpoint;
use crate::{log, mirror, rights, service};

/// aya-log's number of the level `info`, which the programs use; 0 makes the verifier remove their logging code.
const LOG_INFO: u8 = 3;

pub(super) fn run(flags: &Run) -> Result<()> {
    let configuration = Configuration::load(&flags.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::spawn(log::tell_suppressed());
        // Before anything is changed, so that an impatient Ctrl-C cannot leave half a start behind.
        let signals = Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        };
        match configuration {
            Configuration::Native(config) => run_native(*config, flags, signals).await,
            Configuration::Mirror(config) => run_mirror(*config, flags, signals).await,
        }
    })
}

async fn run_native(config: Config, flags: &Run, signals: Signals) -> Result<()> {
    let paths = Paths::of(&config.instance);
    let endpoint = endpoint(config.metrics.as_ref(), &paths, &config.instance)?;
    let log_level = if flags.log_flows { LOG_INFO } else { 0 };
    let (mut instance, warnings) =
        Instance::start(config, paths, Box::new(Linux::open()?), log_level, &mut |_| Ok(()))?;
    warn(&warnings);
    if flags.log_flows {
        log_packets(&mut instance.plane)?;
    }
    let door = match settle(&instance.paths) {
        Ok(door) => door,
        Err(error) => return Err(stopped(instance.stop()).err().unwrap_or(error)),
    };
    let uplinks: Vec<&str> = instance.topology.uplinks.iter().map(|uplink| uplink.config.name.as_str()).collect();
    tracing::info!(
        "ready: {} over {}{}",
        instance.config.lans.join(", "),
        uplinks.join(", "),
        adopted(&instance.plane)
    );
    let mut instance =
        controller::run(instance, door, signals, &|| Configuration::load(&flags.config), endpoint).await?;
    if is_kept(flags) {
        instance.leave_alone()?;
        kept()
    } else {
        stopped(instance.stop())
    }
}

async fn run_mirror(config: mirror::Config, flags: &Run, signals: Signals) -> Result<()> {
    let paths = Paths::of(&config.base.instance);
    let Base { instance: name, metrics, .. } = &config.base;
    let endpoint = endpoint(metrics.as_ref(), &paths, name)?;
    let host = Box::new(Linux::open()?);
    let log_level = if flags.log_flows { LOG_INFO } else { 0 };
    let (mut instance, warnings) = mirror::instance::Instance::start(config, paths, host, log_level, &mut |_| Ok(()))?;
    warn(&warnings);
    if flags.log_flows {
        log_packets(&mut instance.plane)?;
    }
    let door = match settle(&instance.paths) {
        Ok(door) => door,
        Err(error) => return Err(stopped(instance.stop()).err().unwrap_or(error)),
    };
    tracing::info!("ready: {}{}", instance.config.name, adopted(&instance.plane));
    let instance =
        mirror::controller::run(instance, door, signals, &|| Configuration::load(&flags.config), endpoint).await?;
    if is_kept(flags) { kept() } else { stopped(instance.stop()) }
}

/// What needs more rights than the loop. From now on those who ask are heard, if not answered yet.
fn settle(paths: &Paths) -> Result<Door> {
    let door = Door::open(&paths.run)?;
    rights::give_up(door.group())?;
    Ok(door)
}

/// The data path goes on without us. Where that depends on what systemd does, and it does not say, traffic comes first.
fn is_kept(flags: &Run) -> bool {
    match &flags.keep {
        None => false,
        Some(None) => true,
        Some(Some(unit)) => service::restarts(unit).unwrap_or_else(|error| {
            tracing::warn!("is `{unit}` restarted? {error:#}");
            true
        }),
    }
}

/// Where metrics will be served, taken before the host is changed.
fn endpoint(listen: Option<&Listen>, paths: &Paths, instance: &str) -> Result<Endpoint> {
    Endpoint::open(listen).map_err(|problem| {
        // Another controller of the instance is the better reason.
        let lock = if paths.run.exists() { Lock::take(&paths.run, instance).map(drop) } else { Ok(()) };
        lock.err().unwrap_or_else(|| problem.into())
    })
}

fn adopted(plane: &DataPlane) -> &'static str {
    if plane.adopted() { "; adopted the running data path" } else { "" }
}

fn kept() -> Result<()> {
    tracing::info!("stopped; the data path goes on, `pcc down` removes it");
    Ok(())
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
