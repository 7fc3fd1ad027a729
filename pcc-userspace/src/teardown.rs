//! The end of an instance: the host as it was before, also after a crash.

use anyhow::Result;

use crate::config::Paths;
use crate::host::{Change, Host};
use crate::journal::Journal;
use crate::{dataplane, plan, ruleset};

/// Removes everything that an instance put on the host, as far as it can: every step is tried, all errors are returned.
pub fn teardown(host: &mut dyn Host, paths: &Paths, journal: &Journal) -> Result<(), Vec<anyhow::Error>> {
    let mut errors = Vec::new();
    let mut note = |what: Result<()>| {
        if let Err(error) = what {
            errors.push(error);
        }
    };
    note(dataplane::remove(&paths.pins, &journal.devices, &journal.clsact));
    let instance = paths.run.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let script = ruleset::remove(&instance);
    note(host.apply(&Change::Nft { summary: "remove our table".into(), script }));
    match host.observe() {
        Ok(observed) => {
            for change in plan::clear_routing(journal.table_base, journal.priority_base, &observed) {
                note(host.apply(&change));
            }
        }
        Err(error) => note(Err(error)),
    }
    for (device, address) in &journal.addresses {
        note(host.apply(&Change::RemoveAddress { device: device.clone(), address: *address }));
    }
    for saved in journal.sysctls.iter().rev() {
        let now = host.sysctl(&saved.key).ok().flatten();
        let ours = saved.written.is_none() || saved.written == now;
        if now.as_ref().is_some_and(|now| *now != saved.before) && ours {
            note(host.apply(&Change::Sysctl { key: saved.key.clone(), value: saved.before.clone() }));
        }
    }
    if let Some(top) = journal.mark_mask.checked_ilog2() {
        // Of either layout the highest bit is the one that says "ours".
        note(host.apply(&Change::ReleaseConnections { ours: 1 << top, mask: journal.mark_mask }));
    }
    if errors.is_empty() {
        match std::fs::remove_dir_all(&paths.run) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => errors.push(error.into()),
            _ => return Ok(()),
        }
    }
    Err(errors)
}

/// [`teardown`] after a start that failed half-way; what cannot be undone is reported.
pub fn undo_start(host: &mut dyn Host, paths: &Paths, journal: &Journal) {
    for error in teardown(host, paths, journal).err().into_iter().flatten() {
        tracing::error!("undoing a failed start: {error:#}");
    }
}
