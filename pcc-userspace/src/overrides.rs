//! What was changed by hand: weights, drained and disabled uplinks. Kept in a file where the user asks for that.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// Whether an uplink takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admin {
    /// As far as its health allows.
    #[default]
    Enabled,
    /// It takes no new connections; those that are there are ended after this time, if there is one.
    Draining(Option<Duration>),
    /// It takes none, and has none.
    Disabled,
}

/// A change of one uplink by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Another weight, 0 to 1,000.
    Weight(u32),
    /// Another part in all this.
    Admin(Admin),
}

/// Changes that outlive a restart, by name of the uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    #[serde(flatten)]
    uplinks: BTreeMap<String, Override>,
}

/// Those of one uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// In the place of the configured weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Whether it takes part.
    #[serde(default)]
    pub admin: Admin,
}

impl Overrides {
    const FILE: &str = "uplinks.json";

    /// Those below `state`; none if there is no file.
    ///
    /// # Errors
    /// A file that cannot be read or understood.
    pub fn load(state: &Path) -> Result<Self> {
        let path = state.join(Self::FILE);
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .with_context(|| format!("`{}` is damaged: remove it, and change the uplinks again", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Replaces the file below `state` in one step; there is none where there is nothing to keep.
    pub fn store(&self, state: &Path) -> Result<()> {
        let path = state.join(Self::FILE);
        let write = || {
            if self.uplinks.is_empty() {
                return remove(state);
            }
            fs::create_dir_all(state)?;
            let new = path.with_extension("new");
            fs::write(&new, serde_json::to_vec_pretty(self)?)?;
            fs::rename(&new, &path)
        };
        write().with_context(|| format!("writing {}", path.display()))
    }

    /// Those of the uplink called `name`.
    pub fn of(&self, name: &str) -> Override {
        self.uplinks.get(name).copied().unwrap_or_default()
    }

    /// Notes a change.
    pub fn note(&mut self, name: &str, change: Change) {
        let uplink = self.uplinks.entry(name.to_owned()).or_default();
        match change {
            Change::Weight(weight) => uplink.weight = Some(weight),
            Change::Admin(admin) => uplink.admin = admin,
        }
        self.uplinks.retain(|_, it| *it != Override::default());
    }
}

/// Removes what is kept below `state`.
pub fn remove(state: &Path) -> io::Result<()> {
    match fs::remove_dir_all(state) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weight(weight) => write!(out, "weight {weight}"),
            Self::Admin(Admin::Enabled) => out.write_str("enabled"),
            Self::Admin(Admin::Disabled) => out.write_str("disabled"),
            Self::Admin(Admin::Draining(None)) => out.write_str("draining"),
            Self::Admin(Admin::Draining(Some(time))) => {
                write!(out, "draining, connections end in {}", humantime::format_duration(*time))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_loaded_until_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("x");
        assert_eq!(Overrides::load(&state).unwrap(), Overrides::default());
        let mut overrides = Overrides::default();
        overrides.note("fibre", Change::Weight(3));
        overrides.note("lte", Change::Admin(Admin::Draining(Some(Duration::from_secs(600)))));
        overrides.store(&state).unwrap();
        assert_eq!(Overrides::load(&state).unwrap(), overrides);
        assert_eq!(overrides.of("fibre"), Override { weight: Some(3), admin: Admin::Enabled });
        let mut one = Overrides::default();
        one.note("lte", Change::Admin(Admin::Disabled));
        one.note("lte", Change::Admin(Admin::Enabled));
        assert_eq!(one, Overrides::default());
        one.store(&state).unwrap();
        assert!(!state.exists());
        fs::create_dir(&state).unwrap();
        fs::write(state.join(Overrides::FILE), "{").unwrap();
        assert!(Overrides::load(&state).unwrap_err().to_string().contains("damaged"));
    }
}
