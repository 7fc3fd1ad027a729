//! What happened, for people and programs that watch: `pcc events`, the hook.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// Events that a slow reader may lag behind before it loses some.
const BACKLOG: usize = 1024;

/// One event. This is what `pcc events --json` prints, one a line, and what the hook gets on stdin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in UTC by RFC 3339.
    pub time: String,
    /// Name of the instance.
    pub instance: String,
    /// What.
    #[serde(flatten)]
    pub kind: Kind,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Kind {
    /// The controller runs.
    Started,
    /// The controller ends.
    Stopped,
    /// The health of an uplink in a family changed.
    Health {
        /// Name of the uplink.
        uplink: String,
        /// Its device.
        device: String,
        /// `IPv4` or `IPv6`.
        family: String,
        /// The state before: `up`, `degraded`, `down`, `unknown`, `admin-down`.
        from: String,
        /// The state now, one of the same words.
        to: String,
        /// The state now with its reason.
        detail: String,
    },
    /// Other uplinks take new connections of a family than before.
    Taking {
        /// `IPv4` or `IPv6`.
        family: String,
        /// Names of those that do now.
        uplinks: Vec<String>,
    },
    /// The connections of an uplink in a family were ended because it is not needed, or drained.
    Ended {
        /// Name of the uplink.
        uplink: String,
        /// `IPv4` or `IPv6`.
        family: String,
    },
    /// An uplink was changed by hand.
    Changed {
        /// Name of the uplink.
        uplink: String,
        /// `weight 3`, `drain`, `disable`, `enable`.
        change: String,
    },
    /// Another configuration is in force.
    Reloaded,
    /// It was not confirmed in time: the one before is in force again.
    RolledBack,
    /// Our nftables table was changed by somebody, and put back.
    Repaired,
    /// A reader was too slow: so many events are missing here.
    Lost {
        /// How many.
        count: u64,
    },
}

impl Kind {
    /// The health of `uplink` went `from` one state `to` another.
    pub fn health(
        uplink: String,
        device: String,
        family: String,
        from: &impl fmt::Display,
        to: &impl fmt::Display,
    ) -> Self {
        let detail = to.to_string();
        let word = |state: &str| state.split(':').next().unwrap_or_default().to_owned();
        Self::Health { uplink, device, family, from: word(&from.to_string()), to: word(&detail), detail }
    }
}

/// Tells events to all who listen. Telling never waits.
#[derive(Clone, Debug)]
pub struct Teller {
    instance: String,
    sender: broadcast::Sender<Event>,
    lost: Arc<AtomicU64>,
}

impl Teller {
    /// For `instance`.
    pub fn new(instance: &str) -> Self {
        Self { instance: instance.to_owned(), sender: broadcast::Sender::new(BACKLOG), lost: Arc::default() }
    }

    /// Tells what happened just now.
    pub fn tell(&self, kind: Kind) {
        // Without listeners nobody misses it.
        let _ = self.sender.send(self.event(kind));
    }

    /// Listens from now on.
    pub fn listen(&self) -> Listener {
        Listener { teller: self.clone(), receiver: self.sender.subscribe() }
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }

    /// Events that listeners were too slow for, each counted for each of them.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn event(&self, kind: Kind) -> Event {
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        Event { time, instance: self.instance.clone(), kind }
    }
}

/// Hears events.
#[derive(Debug)]
pub struct Listener {
    teller: Teller,
    receiver: broadcast::Receiver<Event>,
}

impl Listener {
    /// The next event; [`Kind::Lost`] in the place of those that were missed. Safe to cancel.
    pub async fn next(&mut self) -> Option<Event> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(count)) => {
                self.teller.lost.fetch_add(count, Ordering::Relaxed);
                Some(self.teller.event(Kind::Lost { count }))
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.time, self.kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => out.write_str("started"),
            Self::Stopped => out.write_str("stopped"),
            Self::Health { uplink, family, detail, .. } => write!(out, "uplink {uplink} {family}: {detail}"),
            Self::Taking { family, uplinks } if uplinks.is_empty() => write!(out, "{family}: no uplink, main decides"),
            Self::Taking { family, uplinks } => write!(out, "{family}: new connections by {}", uplinks.join(", ")),
            Self::Ended { uplink, family } => write!(out, "uplink {uplink} {family}: connections ended"),
            Self::Changed { uplink, change } => write!(out, "uplink {uplink}: {change}"),
            Self::Reloaded => out.write_str("reloaded"),
            Self::RolledBack => out.write_str("not confirmed: rolled back"),
            Self::Repaired => out.write_str("nftables table put back"),
            Self::Lost { count } => write!(out, "{count} events lost"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_slow_listener_is_told_what_it_lost() {
        let teller = Teller::new("x");
        let mut listener = teller.listen();
        for _ in 0..BACKLOG + 3 {
            teller.tell(Kind::Reloaded);
        }
        assert_eq!(teller.lost(), 0);
        assert_eq!(listener.next().await.unwrap().kind, Kind::Lost { count: 3 });
        assert_eq!((teller.lost(), listener.next().await.unwrap().kind), (3, Kind::Reloaded));
    }
}
