//! `pcc doctor`: what is wrong with a host, and what to do about it. Pure but for [`gather`].

use serde::Serialize;

pub use checks::CHECKS;
pub use facts::Facts;

use crate::fast_path::Pair;
use crate::host::Change;
use facts::{Role, Unseen};

mod checks;
pub mod facts;
pub mod gather;
mod render;
#[cfg(test)]
mod tests;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something does not work, or will not.
    Problem,
    /// It works, but could be better or safer.
    Advice,
}

impl Severity {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Problem => "problem",
            Self::Advice => "advice",
        }
    }
}

/// What a check needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The host alone.
    Host,
    /// A configuration besides.
    Configuration,
}

/// One thing that is looked at.
pub struct Check {
    /// Its stable name.
    pub id: &'static str,
    /// How bad it is, unless a [`Case`] says otherwise.
    pub severity: Severity,
    /// What it needs to know.
    pub scope: Scope,
    /// What it finds, one line.
    pub meaning: &'static str,
    /// The cases of it; `None` where they cannot be told for want of a fact.
    examine: fn(&Facts) -> Option<Vec<Case>>,
}

/// One place where a check found something.
struct Case {
    severity: Option<Severity>,
    subject: String,
    what: String,
    advice: String,
    command: Option<String>,
}

impl Case {
    fn new(subject: impl Into<String>, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity: None, subject: subject.into(), what: what.into(), advice: advice.into(), command: None }
    }

    fn severity(self, severity: Severity) -> Self {
        Self { severity: Some(severity), ..self }
    }

    fn command(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }

    /// The command sets the kernel parameter `key`.
    fn sysctl(self, key: &str, value: &str) -> Self {
        self.command(Change::Sysctl { key: key.to_owned(), value: value.to_owned() }.to_string())
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The [`Check::id`].
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The device, file, rule or program that it is about.
    pub subject: String,
    /// What is wrong, and what follows from it.
    pub what: String,
    /// What to do.
    pub advice: String,
    /// The command that does it, where there is one.
    pub command: Option<String>,
}

/// A device of the configuration, and what its driver can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceReport {
    /// Its name.
    pub device: String,
    /// Which side it is on.
    pub role: Role,
    /// Its driver runs XDP programs that redirect; `None` where the kernel does not tell.
    pub native_xdp: Option<bool>,
    /// A queueing discipline that shapes what leaves by it.
    pub shaper: Option<String>,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The file that was looked at besides the host, or `flags`.
    pub configuration: Option<String>,
    /// The worst first, then in the order of [`CHECKS`].
    pub findings: Vec<Finding>,
    /// Checks that found nothing.
    pub passed: Vec<&'static str>,
    /// Checks that lacked a fact; [`Self::unseen`] says why.
    pub skipped: Vec<&'static str>,
    /// What could not be looked at.
    pub unseen: Vec<Unseen>,
    /// The devices of the configuration.
    pub devices: Vec<DeviceReport>,
    /// Which shortcuts would be taken between them.
    pub fast_path: Vec<Pair>,
}

impl Report {
    /// How many findings are of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

/// Looks at `facts` by every check that has what it needs.
pub fn diagnose(facts: &Facts) -> Report {
    let mut report = Report {
        configuration: facts.setup.as_ref().map(|setup| setup.name.clone()),
        findings: Vec::new(),
        passed: Vec::new(),
        skipped: Vec::new(),
        unseen: facts.unseen.clone(),
        devices: facts.device_reports(),
        fast_path: facts.native().and_then(|native| native.choice.as_ref()).map_or(Vec::new(), |it| it.pairs.clone()),
    };
    for check in CHECKS.iter().filter(|check| check.scope == Scope::Host || facts.setup.is_some()) {
        match (check.examine)(facts) {
            None => report.skipped.push(check.id),
            Some(cases) if cases.is_empty() => report.passed.push(check.id),
            Some(cases) => report.findings.extend(cases.into_iter().map(|case| Finding {
                id: check.id,
                severity: case.severity.unwrap_or(check.severity),
                subject: case.subject,
                what: case.what,
                advice: case.advice,
                command: case.command,
            })),
        }
    }
    report.findings.sort_by_key(|finding| finding.severity);
    report
}
