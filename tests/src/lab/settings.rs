//! Configuration files for the lab's `pcc`.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use tempfile::NamedTempFile;

use super::{Lab, Pcc};

/// How long a start may take, until every uplink is up in both families. On a machine that has no time left each change of a
/// program waits seconds for the kernel.
pub const READY: Duration = Duration::from_secs(60);

/// A configuration file: the device `lan`, all four fields hashed, and uplinks. Dropping it removes the file.
#[derive(Debug)]
pub struct Settings {
    file: NamedTempFile,
}

impl Settings {
    /// A file with an uplink `wan<number>` for each of `uplinks`, a number and TOML lines such as `weight = 3`.
    ///
    /// # Panics
    /// Where no file can be made.
    pub fn new(uplinks: &[(u32, &str)]) -> Self {
        let file = NamedTempFile::with_suffix(".toml").unwrap_or_else(|error| panic!("making a file: {error}"));
        let settings = Self { file };
        settings.change(uplinks);
        settings
    }

    /// Writes it anew.
    pub fn change(&self, uplinks: &[(u32, &str)]) {
        let mut text = String::from("lan = [\"lan\"]\nhash = \"both-addresses-and-ports\"\n");
        for (number, lines) in uplinks {
            let _ = write!(text, "[[uplink]]\ndevice = \"wan{number}\"\n{lines}\n");
        }
        self.write(&text);
    }

    /// Replaces the whole text.
    ///
    /// # Panics
    /// Where the file cannot be written.
    pub fn write(&self, text: &str) {
        fs::write(self.file.path(), text).unwrap_or_else(|error| panic!("writing {}: {error}", self.path()));
    }

    /// What `--config` takes.
    pub fn path(&self) -> &str {
        self.file.path().to_str().unwrap_or_default()
    }

    /// Starts `pcc run` with it and waits until it is ready, whatever the state of its uplinks.
    pub fn start(&self, lab: &Lab, more: &[&str]) -> Pcc {
        let pcc = lab.pcc(&[&["run", "--config", self.path()], more].concat());
        pcc.wait_for("ready", READY);
        pcc
    }

    /// [`Self::start`], and waits until `uplinks` are up in both families.
    pub fn run(&self, lab: &Lab, uplinks: &[u32]) -> Pcc {
        let pcc = self.start(lab, &[]);
        wait_until_up(&pcc, 0, uplinks);
        pcc
    }
}

/// Waits until `pcc` has said that `uplinks` are up in both families, behind its first `seen` lines.
pub fn wait_until_up(pcc: &Pcc, seen: usize, uplinks: &[u32]) {
    for uplink in uplinks {
        for family in ["IPv4", "IPv6"] {
            pcc.wait_for_after(seen, &format!("uplink wan{uplink} {family}: up"), READY);
        }
    }
}
