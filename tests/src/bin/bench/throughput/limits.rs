//! Limits of the whole machine that a million connections need raised, and that are put back.

use std::fs;
use std::path::Path;
use std::process::exit;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

/// Keys below `/proc/sys/net/netfilter`, in the order in which they are set.
const KEYS: [(&str, u64); 2] = [("nf_conntrack_buckets", 1 << 20), ("nf_conntrack_max", 1 << 21)];

/// Keys and the values that they had.
type Changed = Vec<(&'static str, String)>;

/// Raised limits. They are put back when this is dropped, and when the process is told to end.
pub struct Limits {
    before: Arc<Mutex<Changed>>,
}

impl Limits {
    /// Raises what is lower than a million connections need.
    pub fn raise() -> Result<Self> {
        let limits = Self { before: Arc::default() };
        limits.watch_signals()?;
        for (key, wanted) in KEYS {
            let path = path(key);
            let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
            let value = text.trim().to_owned();
            if value.parse::<u64>().is_ok_and(|value| value < wanted) {
                lock(&limits.before).push((key, value));
                fs::write(&path, wanted.to_string()).with_context(|| format!("writing {path}"))?;
            }
        }
        Ok(limits)
    }

    /// A process that a signal ends drops nothing.
    fn watch_signals(&self) -> Result<()> {
        let before = Arc::clone(&self.before);
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            });
            restore(&before);
            exit(130);
        });
        Ok(())
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        restore(&self.before);
    }
}

fn restore(before: &Mutex<Changed>) {
    for (key, value) in lock(before).drain(..).rev() {
        let path = path(key);
        if let Err(error) = fs::write(Path::new(&path), &value) {
            eprintln!("error: writing `{value}` to {path}: {error}");
        }
    }
}

fn lock(before: &Mutex<Changed>) -> MutexGuard<'_, Changed> {
    before.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path(key: &str) -> String {
    format!("/proc/sys/net/netfilter/{key}")
}
