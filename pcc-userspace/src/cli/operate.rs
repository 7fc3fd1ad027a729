//! The commands that talk to a running instance, or clean up after one.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::inspect::warn;
use crate::config::Paths;
use crate::control::{self, Answer, Request};
use crate::controller;
use crate::flows::{self, Query};
use crate::host::linux::Linux;
use crate::journal::{Journal, Lock};
use crate::metrics::Format;
use crate::overrides::{self, Change};
use crate::problem::Problem;
use crate::teardown;
use crate::verify::Verdict;

pub(super) fn status(instance: &str, json: bool) -> Result<()> {
    let (document, table) = match control::ask(&Paths::of(instance).run, &Request::Status)? {
        Answer::Status(status) => (serde_json::to_string_pretty(&status)?, status.table()),
        Answer::Mirror(status) => (serde_json::to_string_pretty(&status)?, status.table()),
        _ => return Err(something_else()),
    };
    print(json, &document, &table)
}

/// Lists connections, also where a data path runs without a controller.
pub(super) fn flows(instance: &str, query: Query, json: bool) -> Result<()> {
    let paths = Paths::of(instance);
    let listing = if control::is_running(&paths.run) {
        match control::ask(&paths.run, &Request::Flows(query))? {
            Answer::Flows(listing) => *listing,
            _ => return Err(something_else()),
        }
    } else {
        let listing = flows::list(&paths, &query)?;
        tracing::info!("no controller runs: this is what its data path does without it");
        listing
    };
    if !listing.accounting {
        tracing::warn!(
            "conntrack does not count bytes and packets: `sysctl -w net.netfilter.nf_conntrack_acct=1` makes it count those of \
             connections that begin from then on"
        );
    }
    print(json, &serde_json::to_string_pretty(&listing)?, &listing.table())
}

/// Says how new connections are spread; an error where that is not as wanted.
pub(super) fn verify(instance: &str, since: Option<Duration>, json: bool) -> Result<()> {
    let request = Request::Verify { since_seconds: since.map(|time| time.as_secs()) };
    let Answer::Verified(report) = control::ask(&Paths::of(instance).run, &request)? else {
        return Err(something_else());
    };
    print(json, &serde_json::to_string_pretty(&report)?, &report.text())?;
    if report.verdict == Verdict::Skewed {
        return Err(Problem::new("new connections are not spread as wanted", "what is behind `because` above").into());
    }
    Ok(())
}

fn print(json: bool, document: &str, table: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{document}")?;
    } else {
        write!(out, "{table}")?;
    }
    Ok(())
}

fn something_else() -> anyhow::Error {
    Problem::new("the controller answered something else", "it may be of another version: restart it").into()
}

pub(super) fn metrics(instance: &str, format: Format) -> Result<()> {
    let Answer::Metrics { text } = control::ask(&Paths::of(instance).run, &Request::Metrics { format })? else {
        return Err(something_else());
    };
    Ok(write!(std::io::stdout().lock(), "{text}")?)
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

pub(super) fn change(instance: &str, uplink: String, change: Change, persist: bool, json: bool) -> Result<()> {
    match control::ask(&Paths::of(instance).run, &Request::Uplink { uplink, change, persist })? {
        Answer::Changed(changed) => print(json, &serde_json::to_string_pretty(&changed)?, &changed.line()),
        _ => Err(something_else()),
    }
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
