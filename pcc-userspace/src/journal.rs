//! What an instance must remember outside its memory: what to restore, and which id each uplink has.
//!
//! It is written before the host is changed, so that `pcc down` can restore after any crash.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::mirror::names::Names;
use crate::problem::{NEEDED_RIGHTS, Problem};

/// The journal of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The bits of both marks that are ours, 0 if nothing was begun yet.
    pub mark_mask: u32,
    /// [`crate::config::Config::table_base`].
    pub table_base: u32,
    /// [`crate::config::Config::priority_base`].
    pub priority_base: u32,
    /// Uplink ids by name; of a RouterOS configuration the numbers of its interfaces.
    pub ids: BTreeMap<String, u32>,
    /// The instance runs a RouterOS configuration.
    #[serde(default)]
    pub mirror: bool,
    /// Numbers of the marks of a RouterOS configuration.
    #[serde(default)]
    pub names: Names,
    /// The layout of its marks: [`crate::mirror::blueprint::Blueprint::layout`].
    #[serde(default)]
    pub layout: Option<[u32; 4]>,
    /// Addresses that we added, with their devices.
    #[serde(default)]
    pub addresses: Vec<(String, IpNet)>,
    /// Devices that carry our programs.
    pub devices: Vec<String>,
    /// Devices to which we added a clsact qdisc.
    pub clsact: Vec<String>,
    /// Kernel settings as they were, in the order in which they were changed.
    pub sysctls: Vec<Saved>,
}

/// A kernel setting to restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Path below `/proc/sys`.
    pub key: String,
    /// Its value before.
    pub before: String,
    /// What we wrote; `None` for a setting that changes along with another one. A value that is neither is the
    /// administrator's, and stays.
    pub written: Option<String>,
}

impl Journal {
    const FILE: &str = "journal.json";

    /// The journal below `run`; `None` if there is none.
    ///
    /// # Errors
    /// A file that cannot be read or understood.
    pub fn load(run: &Path) -> Result<Option<Self>> {
        let path = run.join(Self::FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let journal = serde_json::from_str(&text).map_err(|error| {
            Problem::new(
                format!("`{}` is damaged: {error}", path.display()),
                "compare the kernel settings in it with `sysctl`, then remove it",
            )
        })?;
        Ok(Some(journal))
    }

    /// Replaces the journal below `run` in one step.
    pub fn store(&self, run: &Path) -> Result<()> {
        let path = run.join(Self::FILE);
        let write = || {
            let mut file = tempfile(run)?;
            file.1.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.1.sync_data()?;
            fs::rename(file.0, &path)
        };
        write().with_context(|| format!("writing {}", path.display()))
    }

    /// Nothing is there yet, or a configuration of the same kind.
    pub fn is_free_for(&self, mirror: bool) -> bool {
        self.mark_mask == 0 || self.mirror == mirror
    }

    /// The other kind of configuration still runs: its marks mean something else.
    pub fn refuse_other_kind(instance: &str) -> Problem {
        Problem::new(
            format!("the data path of instance `{instance}` runs another kind of configuration"),
            format!("`pcc down --instance {instance}` ends it"),
        )
    }

    /// Remembers devices to which we added a clsact qdisc; true if one of them is new.
    pub fn add_clsact(&mut self, devices: &[String]) -> bool {
        let new: Vec<String> = devices.iter().filter(|device| !self.clsact.contains(device)).cloned().collect();
        self.clsact.extend_from_slice(&new);
        !new.is_empty()
    }

    /// Remembers addresses that we add, each once.
    pub fn add_addresses(&mut self, addresses: &[(String, IpNet)]) {
        let new = addresses.iter().filter(|it| !self.addresses.contains(it));
        let new: Vec<_> = new.cloned().collect();
        self.addresses.extend(new);
    }

    /// Remembers a setting as it was. Only the first value counts: a restart must not save what we wrote.
    pub fn save(&mut self, key: &str, before: String, written: Option<&str>) {
        match self.sysctls.iter_mut().find(|saved| saved.key == key) {
            Some(saved) => {
                if let Some(written) = written {
                    saved.written = Some(written.to_owned());
                }
            }
            None => {
                self.sysctls.push(Saved { key: key.to_owned(), before, written: written.map(str::to_owned) });
            }
        }
    }
}

/// The settings that the kernel changes by itself when `key` is written, for the devices `names`
/// (`inet_forward_change` and `addrconf_forward_change` of Linux).
pub fn side_effects<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let family = match key {
        "net/ipv4/ip_forward" => "ipv4",
        "net/ipv6/conf/all/forwarding" => "ipv6",
        _ => return Vec::new(),
    };
    let mut keys: Vec<String> =
        ["default"].into_iter().chain(names).map(|name| format!("net/{family}/conf/{name}/forwarding")).collect();
    if family == "ipv4" {
        keys.push("net/ipv4/conf/all/forwarding".to_owned());
        keys.push("net/ipv4/conf/all/accept_redirects".to_owned());
    }
    keys
}

/// The right to be the only controller of an instance; given up when dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock below `run`, creating the folder.
    ///
    /// # Errors
    /// No right to create it, or another controller holds it: the message has its pid.
    pub fn take(run: &Path, instance: &str) -> Result<Self> {
        let root = |error: io::Error| Problem::new(format!("creating `{}`: {error}", run.display()), NEEDED_RIGHTS);
        fs::create_dir_all(run).map_err(root)?;
        let path = run.join("lock");
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(root)?;
        if file.try_lock().is_err() {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            return Err(Problem::new(
                format!("instance `{instance}` is running already, pid {}", pid.trim()),
                "stop that one first, or give this one a name of its own with `--instance`",
            )
            .into());
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { _file: file })
    }
}

fn tempfile(run: &Path) -> io::Result<(PathBuf, File)> {
    let path = run.join(format!("{}.new", Journal::FILE));
    let file = File::create(&path)?;
    Ok((path, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_is_the_one_to_restore() {
        let mut journal = Journal::default();
        journal.save("net/a", "0".into(), None);
        journal.save("net/a", "1".into(), Some("1"));
        assert_eq!(journal.sysctls, [Saved { key: "net/a".into(), before: "0".into(), written: Some("1".into()) }]);
    }

    #[test]
    fn a_stored_journal_is_loaded_and_a_damaged_one_is_named() {
        let run = ::tempfile::tempdir().unwrap();
        assert_eq!(Journal::load(run.path()).unwrap(), None);
        let journal = Journal { mark_mask: 0xff, ids: [("a".into(), 3)].into(), ..Journal::default() };
        journal.store(run.path()).unwrap();
        assert_eq!(Journal::load(run.path()).unwrap(), Some(journal));
        fs::write(run.path().join(Journal::FILE), "{").unwrap();
        assert!(Journal::load(run.path()).unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn a_second_controller_is_refused_with_the_pid_of_the_first() {
        let run = ::tempfile::tempdir().unwrap();
        let first = Lock::take(run.path(), "x").unwrap();
        let refused = Lock::take(run.path(), "x").unwrap_err().to_string();
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        drop(first);
        Lock::take(run.path(), "x").unwrap();
    }
}
