//! What is known: the newest snapshot, and the history that the snapshots before it make.

use std::collections::VecDeque;

use super::history::{Growth, Rate, Series};
use super::record::{Record, What};
use super::traffic::Connections;
use crate::events::Kind;
use crate::mirror;
use crate::status::{FamilyStatus, Status, UplinkStatus};

/// Events that are remembered.
const EVENTS: usize = 500;

/// Everything that the view shows of the controller.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// The time of the newest record, in milliseconds since 1970.
    pub now: u64,
    /// The time of the first one.
    pub began: Option<u64>,
    /// The time of the newest snapshot.
    pub answered: u64,
    /// Whether the controller answers.
    pub link: Link,
    /// The newest snapshot.
    pub snapshot: Option<Snapshot>,
    /// Uplinks in the order of the configuration.
    pub uplinks: Vec<Uplink>,
    /// Interfaces of a RouterOS configuration.
    pub interfaces: Vec<Interface>,
    /// Connections and clients.
    pub connections: Connections,
    /// What happened, oldest first.
    pub events: VecDeque<Happened>,
}

/// Whether the controller answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Nobody knows yet.
    #[default]
    Waiting,
    /// It does.
    Live,
    /// It does not.
    Silent {
        /// Since when, in milliseconds since 1970.
        since: u64,
        /// Why.
        reason: String,
    },
}

/// A snapshot of either kind of configuration, without what is told of each uplink.
#[derive(Clone, Debug, PartialEq)]
pub enum Snapshot {
    /// Uplinks and weights.
    Balanced(Box<Status>),
    /// A RouterOS script.
    Mirror(Box<mirror::status::Status>),
}

/// One uplink with its history.
#[derive(Clone, Debug, PartialEq)]
pub struct Uplink {
    /// The newest snapshot.
    pub status: UplinkStatus,
    /// Round-trip times of the family that is asked, in milliseconds.
    pub rtt: Series,
    /// Jitter, likewise.
    pub jitter: Series,
    /// Bytes a second.
    pub traffic: Traffic,
    /// Connections that began, a second.
    pub begun: Rate,
    /// Connections that began in the last minute.
    pub minute: Growth,
    packets: Rate,
    shortcuts: Rate,
}

/// One interface of a RouterOS configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Interface {
    /// RouterOS's name.
    pub name: String,
    /// The device.
    pub device: String,
    /// Bytes a second.
    pub traffic: Traffic,
    /// Bytes so far, in and out.
    pub bytes: (u64, u64),
}

/// Bytes a second in both directions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Those that come in.
    pub into: Rate,
    /// Those that leave.
    pub out: Rate,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// Hour, minute and second in UTC.
    pub time: String,
    /// What.
    pub text: String,
    /// How it is to be taken.
    pub mood: Mood,
}

/// How something is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As it shall be.
    Good,
    /// Look at it.
    Odd,
    /// It hurts.
    Bad,
    /// Neither.
    Plain,
    /// It takes no part.
    Idle,
}

/// Figures of all uplinks together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total {
    /// Connections.
    pub connections: u64,
    /// Connections that begin, a second.
    pub begun: Option<f64>,
    /// Bytes a second that come in.
    pub into: Option<f64>,
    /// Bytes a second that leave.
    pub out: Option<f64>,
    /// Share of the packets that take shortcuts, 0 to 1.
    pub short: Option<f64>,
}

impl Model {
    /// Takes note of `record`.
    pub fn absorb(&mut self, record: Record) {
        let Record { at, what } = record;
        self.now = at;
        self.began.get_or_insert(at);
        match what {
            What::Status(status) => {
                self.answers(at, status.pid);
                self.uplinks(at, &status.uplinks);
                self.snapshot = Some(Snapshot::Balanced(status));
            }
            What::Mirror(status) => {
                self.answers(at, status.pid);
                self.interfaces(at, &status.interfaces);
                self.snapshot = Some(Snapshot::Mirror(status));
            }
            What::Flows(listing) => self.connections.read(at, *listing),
            What::NoFlows(reason) => self.connections.gap(reason),
            What::Event(event) => {
                let time = event.time.get(11..19).unwrap_or_default().to_owned();
                self.happened(Happened { time, text: event.kind.to_string(), mood: mood(&event.kind) });
            }
            What::Silent(reason) => self.silent(at, reason),
        }
    }

    /// All uplinks together.
    pub fn total(&self) -> Total {
        let sum =
            |figure: fn(&Uplink) -> Option<f64>| self.uplinks.iter().filter_map(figure).reduce(|sum, it| sum + it);
        let traffic = |figure: fn(&Traffic) -> Option<f64>| {
            let interfaces = self.interfaces.iter().map(|interface| &interface.traffic);
            let all = self.uplinks.iter().map(|uplink| &uplink.traffic).chain(interfaces);
            all.filter_map(figure).reduce(|sum, it| sum + it)
        };
        let marked = match &self.snapshot {
            Some(Snapshot::Mirror(status)) => status.connections.values().sum(),
            _ => 0,
        };
        Total {
            connections: marked + self.uplinks.iter().map(|uplink| uplink.status.connections).sum::<u64>(),
            begun: sum(|uplink| uplink.begun.now()),
            into: traffic(|traffic| traffic.into.now()),
            out: traffic(|traffic| traffic.out.now()),
            short: share(sum(|uplink| uplink.shortcuts.now()), sum(|uplink| uplink.packets.now())),
        }
    }

    /// Share of the connections that began on `uplink` in the last minute, 0 to 1; `None` when none began at all.
    pub fn seen(&self, uplink: &Uplink) -> Option<f64> {
        let all: u64 = self.uplinks.iter().map(|uplink| uplink.minute.sum()).sum();
        (all > 0).then(|| uplink.minute.sum() as f64 / all as f64)
    }

    fn answers(&mut self, at: u64, pid: u32) {
        if let Link::Silent { .. } = self.link {
            let anew = self.pid().is_some_and(|before| before != pid);
            let text = if anew { "a new controller answers" } else { "the controller answers" };
            self.happened(Happened { time: clock(at), text: text.to_owned(), mood: Mood::Good });
        }
        self.link = Link::Live;
        self.answered = at;
    }

    fn silent(&mut self, at: u64, reason: String) {
        for uplink in &mut self.uplinks {
            uplink.gap();
        }
        for interface in &mut self.interfaces {
            interface.traffic.gap();
        }
        if let Link::Silent { .. } = self.link {
            return;
        }
        self.happened(Happened { time: clock(at), text: reason.clone(), mood: Mood::Bad });
        self.link = Link::Silent { since: at, reason };
    }

    fn pid(&self) -> Option<u32> {
        match self.snapshot.as_ref()? {
            Snapshot::Balanced(status) => Some(status.pid),
            Snapshot::Mirror(status) => Some(status.pid),
        }
    }

    fn uplinks(&mut self, at: u64, now: &[UplinkStatus]) {
        let mut before = std::mem::take(&mut self.uplinks);
        self.interfaces.clear();
        for status in now {
            let known = before.iter().position(|uplink| uplink.status.name == status.name);
            let mut uplink = known.map_or_else(|| Uplink::new(status.clone()), |index| before.swap_remove(index));
            uplink.read(at, status.clone());
            self.uplinks.push(uplink);
        }
    }

    fn interfaces(&mut self, at: u64, now: &[mirror::status::InterfaceStatus]) {
        let mut before = std::mem::take(&mut self.interfaces);
        self.uplinks.clear();
        for status in now {
            let known = before.iter().position(|interface| interface.name == status.interface);
            let mut traffic = known.map(|index| before.swap_remove(index).traffic).unwrap_or_default();
            traffic.read(at, (status.bytes_in, status.bytes_out));
            let (name, device) = (status.interface.clone(), status.device.clone());
            self.interfaces.push(Interface { name, device, traffic, bytes: (status.bytes_in, status.bytes_out) });
        }
    }

    fn happened(&mut self, what: Happened) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(what);
    }
}

impl Uplink {
    fn new(status: UplinkStatus) -> Self {
        Self {
            status,
            rtt: Series::default(),
            jitter: Series::default(),
            traffic: Traffic::default(),
            begun: Rate::default(),
            minute: Growth::default(),
            packets: Rate::default(),
            shortcuts: Rate::default(),
        }
    }

    /// Its families, those that it has.
    pub fn families(&self) -> impl Iterator<Item = (&'static str, &FamilyStatus)> {
        let UplinkStatus { ipv4, ipv6, .. } = &self.status;
        [("IPv4", ipv4), ("IPv6", ipv6)].into_iter().filter_map(|(name, family)| Some((name, family.as_ref()?)))
    }

    /// Share of its packets that take shortcuts, 0 to 1.
    pub fn short(&self) -> Option<f64> {
        share(self.shortcuts.now(), self.packets.now())
    }

    fn read(&mut self, at: u64, status: UplinkStatus) {
        let first = |figure: fn(&FamilyStatus) -> Option<f64>| {
            [&status.ipv4, &status.ipv6].into_iter().flatten().find_map(figure)
        };
        self.rtt.push(first(|family| family.latency_ms));
        self.jitter.push(first(|family| family.jitter_ms));
        self.traffic.read(at, (status.bytes_in, status.bytes_out));
        self.begun.read(at, status.connections_begun);
        self.minute.read(at, status.connections_begun);
        self.packets.read(at, status.packets_in.saturating_add(status.packets_out));
        self.shortcuts.read(at, status.shortcuts_tc.saturating_add(status.shortcuts_xdp));
        self.status = status;
    }

    fn gap(&mut self) {
        self.rtt.push(None);
        self.jitter.push(None);
        self.traffic.gap();
        self.begun.gap();
        self.packets.gap();
        self.shortcuts.gap();
    }
}

impl Traffic {
    pub(super) fn read(&mut self, at: u64, (into, out): (u64, u64)) {
        self.into.read(at, into);
        self.out.read(at, out);
    }

    fn gap(&mut self) {
        self.into.gap();
        self.out.gap();
    }
}

fn share(part: Option<f64>, whole: Option<f64>) -> Option<f64> {
    let whole = whole.filter(|whole| *whole > 0.0)?;
    Some((part? / whole).min(1.0))
}

/// Hour, minute and second in UTC of a time in milliseconds since 1970.
pub fn clock(at: u64) -> String {
    let seconds = at / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn mood(kind: &Kind) -> Mood {
    match kind {
        Kind::Health { to, .. } => match to.as_str() {
            "up" => Mood::Good,
            "degraded" => Mood::Odd,
            "down" => Mood::Bad,
            _ => Mood::Plain,
        },
        Kind::Taking { uplinks, .. } if uplinks.is_empty() => Mood::Bad,
        Kind::Started => Mood::Good,
        Kind::Stopped | Kind::RolledBack | Kind::Repaired | Kind::Lost { .. } => Mood::Odd,
        Kind::Taking { .. } | Kind::Ended { .. } | Kind::Changed { .. } | Kind::Reloaded => Mood::Plain,
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
