//! New connections of both families, and what tests ask about them.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::address::{PORT, server4, server6};
use super::outage::FIRST_SYN;
use super::{Busy, Conversation, Lab, PATIENCE, Protocol, Trial, eventually};

/// Source ports of connections that are closed again.
const SHORT: (u32, u32) = (30_000, 60_000);
/// Source ports of those that stay.
const LONG: (u32, u32) = (2_000, 30_000);
/// The servers take turns.
const HOSTS: u16 = 200;

impl Lab {
    /// Opens and closes `count` TCP connections of each family, in turn, one after the other.
    pub fn try_new(&self, count: u16) -> Vec<Trial> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let flows = flows(ports(&NEXT, SHORT, count), count);
        self.client().try_many(Protocol::Tcp, &flows, 1, Duration::from_secs(3))
    }

    /// Opens `count` TCP connections of each family.
    ///
    /// # Panics
    /// Where one cannot be opened.
    pub fn open_new(&self, count: u16) -> Vec<Conversation> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let flows = flows(ports(&NEXT, LONG, count), count);
        let opened = self.client().open_many(Protocol::Tcp, &flows, 32, PATIENCE);
        opened.into_iter().map(|it| it.unwrap_or_else(|error| panic!("opening a connection: {error}"))).collect()
    }

    /// [`Self::open_new`], each in use every 100 ms.
    pub fn busy_new(&self, count: u16) -> Busy {
        Busy::start(self.open_new(count), Duration::from_millis(100), PATIENCE)
    }

    /// Whether within `patience` twenty new connections of each family succeed on their first SYN, by all of `isps` and
    /// by no other.
    pub fn settles(&self, patience: Duration, isps: &[u32]) -> bool {
        eventually(patience, || judge(&self.try_new(20), isps).is_ok())
    }
}

/// Asserts that all of `trials` succeeded on their first SYN, by all of `isps` and by no other.
///
/// # Panics
/// With the first that did not.
pub fn assert_first_syn(trials: &[Trial], isps: &[u32]) {
    if let Err(problem) = judge(trials, isps) {
        panic!("{problem}");
    }
}

/// The part of `trials` that ISP `isp` answered, 0 to 1.
pub fn share(trials: &[Trial], isp: u32) -> f64 {
    trials.iter().filter(|trial| trial.isp == Ok(isp)).count() as f64 / trials.len().max(1) as f64
}

fn judge(trials: &[Trial], isps: &[u32]) -> Result<(), String> {
    for trial in trials {
        let isp = trial.isp.as_ref().map_err(|error| format!("{error}: {trial:?}"))?;
        if !isps.contains(isp) {
            return Err(format!("not by one of {isps:?}: {trial:?}"));
        }
        if trial.took >= FIRST_SYN {
            return Err(format!("not on the first SYN: {trial:?}"));
        }
    }
    let missing = isps.iter().find(|isp| trials.iter().all(|trial| trial.isp != Ok(**isp)));
    missing.map_or(Ok(()), |isp| Err(format!("none of {} by isp{isp}", trials.len())))
}

/// The first of `count` source ports that were not used for the longest time.
fn ports(next: &AtomicU32, (first, end): (u32, u32), count: u16) -> u16 {
    let (room, count) = (end - first, u32::from(count));
    let begin = next.fetch_add(count, Ordering::Relaxed) % room;
    (first + begin.min(room - count)) as u16
}

/// A flow of each family for each of `count` ports.
fn flows(from: u16, count: u16) -> Vec<(u16, SocketAddr)> {
    let flow = |port: u16| {
        let host = (port % HOSTS + 1) as u8;
        [IpAddr::from(server4(host)), server6(host).into()].map(|to| (port, SocketAddr::new(to, PORT)))
    };
    (from..from + count).flat_map(flow).collect()
}
