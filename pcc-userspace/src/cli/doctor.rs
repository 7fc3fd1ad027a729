//! `pcc doctor`.

use std::io::Write as _;

use anyhow::Result;

use crate::config::flags::ConfigFlags;
use crate::doctor::{self, Severity, gather};
use crate::problem::Problem;

pub(super) fn doctor(flags: ConfigFlags, json: bool) -> Result<()> {
    let report = doctor::diagnose(&gather::gather(&gather::with_usual_file(flags))?);
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{report}")?;
    }
    match report.count(Severity::Problem) {
        0 => Ok(()),
        count => {
            let message = format!("{count} {} found", if count == 1 { "problem" } else { "problems" });
            Err(Problem::new(message, "each of them says what to do").into())
        }
    }
}
