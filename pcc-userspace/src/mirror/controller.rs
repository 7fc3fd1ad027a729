//! The loop around a running RouterOS configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::instance::Instance;
use super::routes::{self, Egress, Method, Watch, WatchKey};
use super::status::Status;
use crate::control::{self, Answer, Request};
use crate::controller::{Event, RESYNC, Sources, next, refusal};
use crate::health::machine::{self, Machine, State, Timing};
use crate::health::probe::arp::Requester;
use crate::health::probe::icmp::Pinger;
use crate::host::netlink::Monitor;
use crate::problem::Problem;

/// Runs until a signal says stop. The instance is given back, still running.
///
/// # Errors
/// The means of watching the host fail; probes that fail are losses, not errors.
pub async fn run(mut instance: Instance, signals: [Signal; 2]) -> Result<Instance> {
    let (answers, answered) = mpsc::channel(64);
    let (asked_sender, asked) = mpsc::channel(16);
    control::listen(&instance.paths.run, asked_sender)?;
    let mut sources = Sources { signals, monitor: Monitor::new()?, answered, asked };
    let mut watching = Watching { checks: BTreeMap::new(), answers };
    // Something may have changed between the survey and the start of the watch.
    watching.look(&mut instance);
    let mut looked = Instant::now();
    loop {
        let now = Instant::now();
        watching.send_due(now);
        let deadline = watching.next_deadline().unwrap_or(now + RESYNC).min(now + RESYNC);
        match next(&mut sources, deadline).await? {
            Event::Stop => return Ok(instance),
            Event::Host => {
                watching.look(&mut instance);
                looked = Instant::now();
            }
            Event::Answered(key, sequence) => {
                if watching.handle(&key, machine::Event::Answered(sequence)) {
                    watching.publish(&mut instance);
                }
            }
            Event::Due => {
                let keys: Vec<WatchKey> = watching.checks.keys().cloned().collect();
                let changed = keys.iter().map(|key| watching.handle(key, machine::Event::Tick));
                if changed.fold(false, |any, changed| any | changed) {
                    watching.publish(&mut instance);
                }
                if looked.elapsed() >= RESYNC {
                    watching.look(&mut instance);
                    looked = Instant::now();
                }
            }
            Event::Asked(request, reply) => {
                let answer = answer(&mut instance, &watching, &request).unwrap_or_else(|error| refusal(&error));
                let _ = reply.send(answer);
            }
        }
    }
}

fn answer(instance: &mut Instance, watching: &Watching, request: &Request) -> Result<Answer> {
    match request {
        Request::Status => {
            let state = |key: &WatchKey| watching.checks.get(key).map(|check| check.machine.state().to_string());
            Ok(Answer::Mirror(Box::new(Status::read(instance, state)?)))
        }
        Request::Weight { .. } => {
            let hint = "its PCC rules are its weights: change them, and start again";
            Err(Problem::new("a RouterOS configuration has no weights", hint).into())
        }
    }
}

/// Everything that is probed.
struct Watching {
    checks: BTreeMap<WatchKey, Check>,
    answers: mpsc::Sender<(WatchKey, u16)>,
}

struct Check {
    watch: Watch,
    /// Index of the device that probes leave by.
    ifindex: Option<u32>,
    machine: Machine,
    prober: Option<Arc<Asking>>,
    receiver: Option<JoinHandle<()>>,
}

/// How a watch asks.
enum Asking {
    Ping(Pinger),
    Arp(Requester),
}

impl Asking {
    fn send(&self, sequence: u16) -> std::io::Result<()> {
        match self {
            Self::Ping(prober) => prober.send(sequence),
            Self::Arp(prober) => prober.send(sequence),
        }
    }

    async fn receive(&self) -> u16 {
        match self {
            Self::Ping(prober) => prober.receive().await.sequence,
            Self::Arp(prober) => prober.receive().await.sequence,
        }
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        if let Some(receiver) = &self.receiver {
            receiver.abort();
        }
    }
}

impl Watching {
    /// Brings the instance in line with the host, and the probes with the routes.
    fn look(&mut self, instance: &mut Instance) {
        if let Err(error) = instance.reconcile() {
            tracing::error!("looking at the host: {error:#}");
        }
        self.sync(instance);
        self.publish(instance);
    }

    /// Starts, keeps and ends probes, so that they are those of the configuration.
    fn sync(&mut self, instance: &Instance) {
        let watches = instance.watched();
        self.checks.retain(|key, _| watches.iter().any(|watch| watch.key == *key));
        for watch in watches {
            let ifindex = match &watch.egress {
                Egress::Device(device) => instance.observed.link(device).map(|link| link.index),
                Egress::Routing | Egress::Nowhere => None,
            };
            let same = |check: &Check| {
                check.ifindex == ifindex && check.watch.egress == watch.egress && check.watch.target == watch.target
            };
            match self.checks.get_mut(&watch.key) {
                Some(check) if same(check) => check.watch = watch,
                // A probe that leaves otherwise is another one, but what is known stays known until it says more.
                Some(check) => check.move_to(instance, watch, ifindex, &self.answers),
                None => {
                    let key = watch.key.clone();
                    self.checks.insert(key, Check::start(instance, watch, ifindex, &self.answers));
                }
            }
        }
    }

    fn publish(&mut self, instance: &mut Instance) {
        let down: BTreeSet<WatchKey> = self
            .checks
            .iter()
            .filter(|(_, check)| !check.machine.state().is_usable())
            .map(|(key, _)| key.clone())
            .collect();
        match instance.set_down(down) {
            // Another way to a check host may have become the active one.
            Ok(true) => self.sync(instance),
            Ok(false) => {}
            Err(error) => tracing::error!("changing routes: {error:#}"),
        }
    }

    /// True if what is usable changed.
    fn handle(&mut self, key: &WatchKey, event: machine::Event) -> bool {
        self.checks.get_mut(key).is_some_and(|check| check.handle(event, Instant::now()))
    }

    fn send_due(&mut self, now: Instant) {
        for check in self.checks.values_mut() {
            if let Some(sequence) = check.machine.next_probe(now) {
                if let Some(Err(error)) = check.prober.as_ref().map(|prober| prober.send(sequence)) {
                    tracing::debug!("probing {}: {error}", check.watch.key);
                }
                check.handle(machine::Event::Sent(sequence), now);
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.checks.values().filter_map(|check| check.machine.next_deadline()).min()
    }
}

impl Check {
    fn start(instance: &Instance, watch: Watch, ifindex: Option<u32>, answers: &mpsc::Sender<(WatchKey, u16)>) -> Self {
        let routes::Timing { interval, timeout, count } = watch.timing;
        let timing = Timing { interval, timeout, losses: count, answers: 1 };
        let machine = Machine::new(timing, watch.target.is_some(), true, Instant::now());
        let mut check = Self { watch, ifindex, machine, prober: None, receiver: None };
        check.open(instance, answers);
        check
    }

    fn move_to(
        &mut self,
        instance: &Instance,
        watch: Watch,
        ifindex: Option<u32>,
        answers: &mpsc::Sender<(WatchKey, u16)>,
    ) {
        (self.watch, self.ifindex) = (watch, ifindex);
        self.open(instance, answers);
    }

    /// Opens a prober; without one every probe is lost.
    fn open(&mut self, instance: &Instance, answers: &mpsc::Sender<(WatchKey, u16)>) {
        if let Some(receiver) = self.receiver.take() {
            receiver.abort();
        }
        self.prober = match prober(instance, &self.watch, self.ifindex) {
            Ok(prober) => prober.map(Arc::new),
            Err(error) => {
                tracing::error!("no probes of {}: {error}", self.watch.key);
                None
            }
        };
        self.receiver = self.prober.clone().map(|prober| {
            let (answers, key) = (answers.clone(), self.watch.key.clone());
            tokio::spawn(async move {
                loop {
                    let sequence = prober.receive().await;
                    if answers.send((key.clone(), sequence)).await.is_err() {
                        return;
                    }
                }
            })
        });
    }

    fn handle(&mut self, event: machine::Event, now: Instant) -> bool {
        let Some(change) = self.machine.handle(event, now) else { return false };
        match change.to {
            State::Down(_) => tracing::warn!("{}: {}", self.watch.key, change.to),
            State::Up | State::Unknown => tracing::info!("{}: {}", self.watch.key, change.to),
        }
        change.from.is_usable() != change.to.is_usable()
    }
}

/// The prober of a watch; `None` where nothing can be asked.
fn prober(instance: &Instance, watch: &Watch, ifindex: Option<u32>) -> std::io::Result<Option<Asking>> {
    let Some(target) = watch.target else { return Ok(None) };
    // No rule leads such a packet anywhere but by its device or by main, and the output rules leave it alone.
    let mark = instance.blueprint.fields.ours() | instance.blueprint.fields.tentative();
    match (&watch.egress, watch.method, ifindex) {
        (Egress::Device(device), Method::Ping, Some(ifindex)) => {
            Pinger::new(Some(device), ifindex, mark, target).map(|prober| Some(Asking::Ping(prober)))
        }
        (Egress::Device(_), Method::Arp, Some(ifindex)) => match target {
            IpAddr::V4(target) => Requester::new(ifindex, target).map(|prober| Some(Asking::Arp(prober))),
            IpAddr::V6(_) => Ok(None),
        },
        (Egress::Routing, ..) => Pinger::new(None, 0, mark, target).map(|prober| Some(Asking::Ping(prober))),
        (Egress::Device(_) | Egress::Nowhere, ..) => Ok(None),
    }
}
