//! A report as text.

use std::fmt;

use super::{DeviceReport, Finding, Report, Severity};

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(out, "{finding}\n")?;
        }
        for device in &self.devices {
            writeln!(out, "{device}")?;
        }
        for pair in &self.fast_path {
            let way = format!("{:?}", pair.way).to_lowercase();
            writeln!(out, "fast path: {} → {} {way} ({})", pair.from, pair.to, pair.reason)?;
        }
        for unseen in &self.unseen {
            writeln!(out, "not seen: {}: {}", unseen.what, unseen.why)?;
        }
        if !self.skipped.is_empty() {
            writeln!(out, "not checked: {}", self.skipped.join(", "))?;
        }
        let [problems, advice] = [Severity::Problem, Severity::Advice].map(|severity| self.count(severity));
        let what = match &self.configuration {
            Some(name) => format!("the host and {name}"),
            None => {
                "the host alone; with a configuration (`--config`, or `--wan` and `--lan`) its devices too".to_owned()
            }
        };
        let s = if problems == 1 { "" } else { "s" };
        writeln!(out, "{problems} problem{s}, {advice} advice, {} checks ok: {what}", self.passed.len())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, severity, subject, what, advice, command } = self;
        write!(out, "{}[{id}] {subject}: {what}\n    {advice}", severity.word())?;
        match command {
            Some(command) => write!(out, "\n    $ {command}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for DeviceReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let xdp = match self.native_xdp {
            Some(true) => "native XDP",
            Some(false) => "no native XDP",
            None => "the kernel does not tell whether it has native XDP",
        };
        write!(out, "{} {}: {xdp}", self.role.word(), self.device)?;
        match &self.shaper {
            Some(shaper) => write!(out, ", {shaper} shapes it"),
            None => Ok(()),
        }
    }
}
