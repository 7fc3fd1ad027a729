//! Keeps shortcuts true: notices make them stale, and what gives no notice sets how long they last.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinHandle;

use super::pacing::Pacing;
use crate::host::firewall;
use crate::host::netlink::{Changed, Ended, Endings, Monitor};
use crate::instance::{Cause, Instance, fast_path_is_on};
use crate::lease::{Firewall, Lease, Signs};
use crate::ruleset;

/// While notices keep coming, shortcuts become stale this often.
const STALE_GAP: Duration = Duration::from_millis(100);
/// Changes of the firewall often come in several steps.
const READ_DELAY: Duration = Duration::from_millis(50);
/// The firewall is read this often at most.
const READ_GAP: Duration = Duration::from_secs(1);
/// What gives no notice is looked at this often.
const SIGNS: Duration = Duration::from_secs(1);

/// When shortcuts become stale, and when their lease is chosen anew.
pub struct Shortcuts {
    stale: Pacing,
    /// What was noticed since shortcuts last became stale.
    causes: BTreeSet<Cause>,
    read: Pacing,
    signs: Signs,
    looked: Instant,
}

/// What is listened to besides.
#[derive(Default)]
pub struct Watching {
    devices: Option<BTreeSet<u32>>,
    endings: Option<Endings>,
    reading: Option<JoinHandle<Firewall>>,
}

/// What was heard.
pub enum Heard {
    /// Connections ended.
    Ended(Vec<Ended>),
    /// Notices about connections were lost.
    Lost,
    /// The firewall was read.
    Firewall(Firewall),
}

impl Shortcuts {
    /// Nothing was noticed yet.
    pub fn new(now: Instant) -> Self {
        Self {
            stale: Pacing::new(Duration::ZERO, STALE_GAP),
            causes: BTreeSet::new(),
            read: Pacing::new(READ_DELAY, READ_GAP),
            signs: Signs::default(),
            looked: now,
        }
    }

    /// The host changed: shortcuts become stale now, or soon if they just did.
    pub fn notice(&mut self, instance: &mut Instance, changed: Changed, now: Instant) {
        if !fast_path_is_on(&instance.config) {
            return;
        }
        if matches!(changed, Changed::Firewall | Changed::Everything) {
            self.read.notice(now);
        }
        self.causes.insert(Cause::Host(changed));
        self.stale.notice(now);
        self.outdate(instance, now);
    }

    fn outdate(&mut self, instance: &mut Instance, now: Instant) {
        if self.stale.due(now) {
            for cause in std::mem::take(&mut self.causes) {
                instance.outdate(cause);
            }
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, instance: &mut Instance, watching: &mut Watching, now: Instant) {
        self.outdate(instance, now);
        if !fast_path_is_on(&instance.config) {
            return;
        }
        if self.looked + SIGNS <= now {
            self.looked = now;
            if firewall::signs() != self.signs {
                self.read.notice(now);
            }
        }
        if watching.reading.is_none() && self.read.due(now) {
            // It takes as long as the rules are many.
            let own = ruleset::table_name(&instance.config.instance);
            watching.reading = Some(tokio::task::spawn_blocking(move || firewall::read(&own)));
        }
    }

    /// Everything is looked at again from time to time.
    pub fn resync(&mut self, now: Instant) {
        self.read.notice(now);
    }

    /// When to [`Self::tick`].
    pub fn deadline(&self, instance: &Instance) -> Option<Instant> {
        // What is not done is not due, or the loop would turn without end.
        if !fast_path_is_on(&instance.config) {
            return None;
        }
        [self.stale.deadline(), self.read.deadline(), Some(self.looked + SIGNS)].into_iter().flatten().min()
    }

    /// Chooses the lease by what was read of the firewall.
    pub fn choose(&mut self, instance: &mut Instance, watching: &Watching, mut firewall: Firewall) {
        firewall.events &= watching.endings.is_some();
        self.signs.clone_from(&firewall.signs);
        instance.set_lease(Lease::of(&firewall, &ruleset::table_name(&instance.config.instance)));
    }
}

impl Watching {
    /// Listens to what matters to the shortcuts of `instance`, if it has any. True if that begins.
    ///
    /// # Errors
    /// The kernel does not tell of neighbours.
    pub fn follow(&mut self, instance: &Instance, monitor: &mut Monitor) -> Result<bool> {
        let devices = fast_path_is_on(&instance.config).then(|| instance.devices().collect());
        if devices == self.devices {
            return Ok(false);
        }
        monitor.watch_closely(devices.clone())?;
        let begins = self.devices.is_none();
        self.devices = devices;
        if self.devices.is_none() {
            self.endings = None;
        } else if begins {
            self.endings =
                instance.endings().inspect_err(|error| tracing::warn!("shortcuts do not last long: {error:#}")).ok();
        }
        Ok(begins)
    }

    /// What is heard next. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The socket fails.
    pub async fn next(&mut self) -> Result<Heard> {
        let Self { endings, reading, .. } = self;
        tokio::select! {
            ended = ended(endings) => Ok(ended?.map_or(Heard::Lost, Heard::Ended)),
            firewall = read(reading) => Ok(Heard::Firewall(firewall)),
        }
    }
}

async fn ended(endings: &mut Option<Endings>) -> Result<Option<Vec<Ended>>> {
    match endings {
        Some(endings) => endings.next().await,
        None => std::future::pending().await,
    }
}

async fn read(reading: &mut Option<JoinHandle<Firewall>>) -> Firewall {
    let Some(task) = reading else { return std::future::pending().await };
    let firewall = task.await;
    *reading = None;
    // One that could not be read at all is one of which nothing is known.
    firewall.unwrap_or_default()
}
