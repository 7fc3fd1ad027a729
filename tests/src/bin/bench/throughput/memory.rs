//! What pcc takes for its connections.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use aya::maps::loaded_maps;
use pcc_ebpf::abi::map;
use serde::{Deserialize, Serialize};
use tests::lab::Usage;

/// Memory of the controller and of its maps, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub resident: u64,
    pub maps: Vec<MapSize>,
}

/// One map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapSize {
    pub name: String,
    pub entries: u64,
    pub bytes: u64,
}

impl Memory {
    /// That of process `pid`.
    pub fn of(pid: u32) -> Result<Self> {
        let names: BTreeMap<u32, String> = loaded_maps()
            .filter_map(Result::ok)
            .map(|map| (map.id(), map.name_as_str().unwrap_or_default().to_owned()))
            .collect();
        let mut maps = BTreeMap::new();
        for text in files(pid)? {
            let Some(id) = field(&text, "map_id").and_then(|id| u32::try_from(id).ok()) else { continue };
            let name = names.get(&id).cloned().unwrap_or_else(|| id.to_string());
            let size = |key| field(&text, key).unwrap_or(0);
            maps.insert(id, MapSize { name, entries: size("max_entries"), bytes: size("memlock") });
        }
        let mut maps: Vec<_> = maps.into_values().collect();
        maps.sort_by_key(|map| std::cmp::Reverse(map.bytes));
        Ok(Self { resident: Usage::of(pid).resident, maps })
    }

    /// Bytes of all maps.
    pub fn bytes(&self) -> u64 {
        self.maps.iter().map(|map| map.bytes).sum()
    }

    /// Bytes that a million IPv4 shortcuts take.
    pub fn of_a_million(&self) -> Option<f64> {
        let map = self.maps.iter().find(|it| it.name == map::SHORT4)?;
        Some(map.bytes as f64 / map.entries as f64 * 1e6)
    }
}

/// What the kernel says of each file that process `pid` has open.
pub fn files(pid: u32) -> Result<Vec<String>> {
    let folder = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&folder).with_context(|| format!("reading {folder}"))?;
    Ok(entries.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok()).collect())
}

/// The number behind `key:` in such a text.
pub fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse().ok())
}
