//! The commands that talk to a running instance, or clean up after one.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::inspect::warn;
use crate::config::Paths;
use crate::control::{self, Answer, Request};
use crate::controller;
use crate::host::linux::Linux;
use crate::journal::{Journal, Lock};
use crate::overrides::{self, Change};
use crate::problem::Problem;
use crate::teardown;

pub(super) fn status(instance: &str, json: bool) -> Result<()> {
    let (document, table) = match control::ask(&Paths::of(instance).run, &Request::Status)? {
        Answer::Status(status) => (serde_json::to_string_pretty(&status)?, status.table()),
        Answer::Mirror(status) => (serde_json::to_string_pretty(&status)?, status.table()),
        Answer::Flows(_) | Answer::Done { .. } | Answer::Problem { .. } => {
            anyhow::bail!("the controller answered something else")
        }
    };
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{document}")?;
    } else {
        write!(out, "{table}")?;
    }
    Ok(())
}

/// Prints events as they come.
pub(super) fn events(instance: &str, json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for event in control::events(&Paths::of(instance).run)? {
        let event = event?;
        let line = if json { serde_json::to_string(&event)? } else { event.to_string() };
        writeln!(out, "{line}")?;
        out.flush()?;
    }
    Ok(())
}

pub(super) fn reload(instance: &str, trial: Option<Duration>, confirm: bool) -> Result<()> {
    let request = if confirm {
        Request::Confirm
    } else {
        // Part of a second counts as one.
        Request::Reload { try_seconds: trial.map(|time| time.as_secs() + u64::from(time.subsec_nanos() > 0)) }
    };
    done(instance, &request)
}

pub(super) fn change(instance: &str, uplink: String, change: Change, persist: bool) -> Result<()> {
    done(instance, &Request::Uplink { uplink, change, persist })
}

/// Asks for something that is done or refused.
fn done(instance: &str, request: &Request) -> Result<()> {
    if let Answer::Done { warnings } = control::ask(&Paths::of(instance).run, request)? {
        warn(&warnings);
    }
    Ok(())
}

pub(super) fn down(instance: &str) -> Result<()> {
    let paths = Paths::of(instance);
    let journal = Journal::load(&paths.run)?;
    overrides::remove(&paths.state).with_context(|| format!("removing {}", paths.state.display()))?;
    if journal.is_none() && !paths.pins.exists() {
        tracing::info!("instance `{instance}` left nothing on this host");
        return Ok(());
    }
    let _lock = Lock::take(&paths.run, instance)?;
    stopped(teardown::teardown(&mut Linux::open()?, &paths, &journal.unwrap_or_default()))
}

/// Says what of a clean-up failed.
pub(super) fn stopped(result: Result<(), Vec<anyhow::Error>>) -> Result<()> {
    let Err(errors) = result else { return Ok(()) };
    controller::log_errors("leaving the host as it was", &errors);
    Err(Problem::new(
        format!("{} steps of the clean-up failed", errors.len()),
        "the log above names them; `pcc down` tries again",
    )
    .into())
}
