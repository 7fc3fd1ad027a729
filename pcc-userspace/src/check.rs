//! `pcc check` of a RouterOS script.

use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use crate::mirror::document::{self, Settings};
use crate::problem::Problem;
use crate::routeros::dialect::Dialect;
use crate::routeros::{Script, Severity, check, render};

/// What a script is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Judgement {
    /// RouterOS version, where the script does not tell it.
    pub dialect: Option<Dialect>,
    /// Warnings fail too.
    pub strict: bool,
    /// Print JSON instead of text.
    pub json: bool,
}

/// The script in `text` if it is a RouterOS configuration in TOML.
///
/// # Errors
/// It is one, but no TOML.
pub fn document(path: &Path, text: &[u8]) -> Result<Option<(Script, Settings)>, Problem> {
    match std::str::from_utf8(text) {
        Ok(text) if document::is_routeros_document(text) => {
            let locate =
                |problem: Problem| Problem { message: format!("{}: {}", path.display(), problem.message), ..problem };
            document::read_toml(text).map(Some).map_err(locate)
        }
        _ => Ok(None),
    }
}

/// Checks the script at `path` and prints what there is to say about it.
///
/// # Errors
/// The file cannot be read, or the script has errors (with `strict`: warnings).
pub fn script(path: &Path, judgement: Judgement) -> Result<()> {
    let text = std::fs::read(path)
        .map_err(|error| Problem::new(format!("cannot read `{}`: {error}", path.display()), "`pcc check FILE.rsc`"))?;
    let report = match document(path, &text)? {
        Some((script, settings)) => check::judge(script, &text, judgement.dialect.or(settings.dialect)),
        None => check::check(&text, judgement.dialect),
    };
    let count = |severity| report.notes.iter().filter(|note| note.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let mut out = std::io::stdout().lock();
    if judgement.json {
        let document = json!({
            "file": path,
            "dialect": report.detected.dialect.to_string(),
            "statements": {
                "total": report.counts.total, "understood": report.counts.understood, "noted": report.counts.noted,
            },
            "errors": errors,
            "warnings": warnings,
            "notes": report.notes,
        });
        writeln!(out, "{document:#}")?;
    } else {
        write!(out, "{}", render::render(&path.display().to_string(), &text, &report.notes))?;
        writeln!(
            out,
            "{}: {} statements of RouterOS {}, {} understood, {} noted; {errors} errors, {warnings} warnings",
            path.display(),
            report.counts.total,
            report.detected.dialect,
            report.counts.understood,
            report.counts.noted,
        )?;
    }
    if errors > 0 || (judgement.strict && warnings > 0) {
        let message = format!("`{}` has {errors} errors and {warnings} warnings", path.display());
        return Err(Problem::new(message, "each note above names its line, and a fix where there is one").into());
    }
    Ok(())
}
