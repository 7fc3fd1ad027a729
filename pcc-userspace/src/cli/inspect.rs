//! The commands that look and change nothing.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;

use anyhow::Result;

use super::{Check, Explain};
use crate::check::{self, Judgement};
use crate::config::flags::{Assignment, ConfigFlags};
use crate::config::{Configuration, Paths};
use crate::dataplane;
use crate::explain::{self, Asked};
use crate::fast_path::Circumstances;
use crate::host::Host as _;
use crate::host::linux::Linux;
use crate::journal::Journal;
use crate::mirror::{self, blueprint::Blueprint};
use crate::problem::{Problem, Problems};
use crate::routeros::dialect::{Dialect, detect};
use crate::routeros::{self, Severity};
use crate::survey::{self, Step};
use crate::topology;

/// What a start would do, what the operator should know, and the devices that it would wait for.
fn surveyed(flags: &ConfigFlags) -> Result<(Vec<Step>, Vec<String>, Vec<Problem>)> {
    let host = &mut Linux::open()?;
    Ok(match Configuration::load(flags)? {
        Configuration::Native(config) => {
            let paths = Paths::of(&config.instance);
            let survey =
                survey::survey(&config, &paths, host, &dataplane::known(&paths.pins), &Circumstances::default())?;
            (survey.steps, survey.warnings, survey.missing)
        }
        Configuration::Mirror(config) => {
            let survey = mirror::survey::survey(&config, &Paths::of(&config.base.instance), host, &BTreeSet::new())?;
            (survey.steps, survey.warnings, survey.missing)
        }
    })
}

pub(super) fn plan(flags: &ConfigFlags) -> Result<()> {
    let (steps, warnings, _) = surveyed(flags)?;
    warn(&warnings);
    let mut out = std::io::stdout().lock();
    for step in &steps {
        writeln!(out, "{step}")?;
    }
    Ok(())
}

pub(super) fn check(flags: Check) -> Result<()> {
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
    let (_, warnings, missing) = surveyed(&flags)?;
    if !missing.is_empty() {
        return Err(Problems(missing).into());
    }
    warn(&warnings);
    tracing::info!("the configuration is valid and this host can run it");
    Ok(())
}

/// The file is a RouterOS configuration in TOML.
fn is_document(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| mirror::document::is_routeros_document(&text))
}

pub(super) fn import(path: &Path, dialect: Option<Dialect>, map: &[Assignment]) -> Result<()> {
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

pub(super) fn explain_packet(flags: &Explain) -> Result<()> {
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

/// Logs what the operator should know.
pub(super) fn warn(warnings: &[String]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}
