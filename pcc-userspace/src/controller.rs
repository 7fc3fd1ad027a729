//! The loop around a running instance: one closed set of events, one place that acts on them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::config::Target;
use crate::control::{self, Answer, Asked, Request};
use crate::health::machine::{self, Machine, State};
use crate::health::probe::icmp::Pinger;
use crate::host::Family;
use crate::host::netlink::Monitor;
use crate::instance::Instance;
use crate::plan::Live;
use crate::problem::{self, Problem};
use crate::status::Status;
use crate::survey;
use crate::topology::Uplink;

/// The host is looked at this often even if netlink says nothing.
pub const RESYNC: Duration = Duration::from_secs(30);
/// Netlink notices that come together are one event.
const SETTLE: Duration = Duration::from_millis(5);

/// Everything that can happen. `K` names what is probed.
pub enum Event<K> {
    /// SIGINT or SIGTERM.
    Stop,
    /// The host changed, or it is time to look.
    Host,
    /// A probe was answered: which one, and its sequence number.
    Answered(K, u16),
    /// A probe is due, or lost.
    Due,
    /// The control socket was asked.
    Asked(Request, oneshot::Sender<Answer>),
}

/// One uplink (by id) in one family.
type Probed = (u32, Family);

/// Runs until a signal says stop. The instance is given back, still running.
///
/// # Errors
/// The means of watching the host fail; health checks that fail are losses, not errors.
pub async fn run(mut instance: Instance, signals: [Signal; 2]) -> Result<Instance> {
    let (answers, answered) = mpsc::channel(64);
    let (asked_sender, asked) = mpsc::channel(16);
    control::listen(&instance.paths.run, asked_sender)?;
    let mut sources = Sources { signals, monitor: Monitor::new()?, answered, asked };
    let mut health = Health::default();
    health.sync(&instance, &answers, Instant::now());
    // Something may have changed between the survey and the start of the watch.
    look(&mut instance, &mut health, &answers);
    let mut looked = Instant::now();
    loop {
        let now = Instant::now();
        health.send_due(now);
        let deadline = health.next_deadline().unwrap_or(now + RESYNC).min(now + RESYNC);
        match next(&mut sources, deadline).await? {
            Event::Stop => return Ok(instance),
            Event::Host => {
                look(&mut instance, &mut health, &answers);
                looked = Instant::now();
            }
            Event::Answered(probed, sequence) => {
                health.handle(&mut instance, probed, machine::Event::Answered(sequence));
            }
            Event::Due => {
                health.tick(&mut instance);
                if looked.elapsed() >= RESYNC {
                    look(&mut instance, &mut health, &answers);
                    looked = Instant::now();
                }
            }
            Event::Asked(request, reply) => {
                let answer = answer(&mut instance, &health, request).unwrap_or_else(|error| refusal(&error));
                let _ = reply.send(answer);
            }
        }
    }
}

/// Where events come from.
pub struct Sources<K> {
    /// SIGINT and SIGTERM.
    pub signals: [Signal; 2],
    /// Notices of the host.
    pub monitor: Monitor,
    /// Answers to probes.
    pub answered: mpsc::Receiver<(K, u16)>,
    /// Questions on the control socket.
    pub asked: mpsc::Receiver<Asked>,
}

/// Waits for the next event, until `deadline` at most.
pub async fn next<K>(sources: &mut Sources<K>, deadline: Instant) -> Result<Event<K>> {
    let Sources { signals: [interrupt, terminate], monitor, answered, asked } = sources;
    tokio::select! {
        biased;
        _ = interrupt.recv() => Ok(Event::Stop),
        _ = terminate.recv() => Ok(Event::Stop),
        changed = monitor.next() => {
            changed?;
            while let Ok(changed) = tokio::time::timeout(SETTLE, monitor.next()).await {
                changed?;
            }
            Ok(Event::Host)
        }
        Some((probed, sequence)) = answered.recv() => Ok(Event::Answered(probed, sequence)),
        Some((request, reply)) = asked.recv() => Ok(Event::Asked(request, reply)),
        () = tokio::time::sleep_until(deadline.into()) => Ok(Event::Due),
    }
}

/// Brings the instance in line with the host, and its uplinks with their health.
fn look(instance: &mut Instance, health: &mut Health, answers: &mpsc::Sender<(Probed, u16)>) {
    if let Err(error) = instance.reconcile() {
        tracing::error!("looking at the host: {error:#}");
    }
    health.sync(instance, answers, Instant::now());
    health.publish(instance);
}

fn answer(instance: &mut Instance, health: &Health, request: Request) -> Result<Answer> {
    Ok(match request {
        Request::Status => {
            Answer::Status(Box::new(Status::read(instance, |id, family| health.describe((id, family)))?))
        }
        Request::Weight { uplink, weight } => {
            instance.set_weight(&uplink, weight)?;
            tracing::info!("uplink `{uplink}`: weight {weight}");
            Answer::Done
        }
    })
}

/// An error as an answer.
pub fn refusal(error: &anyhow::Error) -> Answer {
    let hint =
        error.chain().rev().find_map(|cause| cause.downcast_ref::<Problem>()).map(|problem| problem.hint.clone());
    Answer::Problem { message: format!("{error:#}"), hint: hint.unwrap_or_else(|| "see the controller's log".into()) }
}

/// The health of every uplink in every family that it has.
#[derive(Default)]
struct Health {
    checks: BTreeMap<(u32, u8), Check>,
}

struct Check {
    probed: Probed,
    name: String,
    machine: Machine,
    /// What is pinged by which device; another one is another check.
    path: (Option<IpAddr>, u32),
    prober: Option<Arc<Pinger>>,
    receiver: Option<JoinHandle<()>>,
}

impl Drop for Check {
    fn drop(&mut self) {
        if let Some(receiver) = &self.receiver {
            receiver.abort();
        }
    }
}

impl Health {
    /// Starts, keeps and ends checks, so that they are those of the topology, and reports carriers.
    fn sync(&mut self, instance: &Instance, answers: &mpsc::Sender<(Probed, u16)>, now: Instant) {
        let wanted = |id: u32, family: Family| {
            instance.topology.uplinks.iter().any(|uplink| uplink.id == id && uplink.way(family).is_some())
        };
        self.checks.retain(|_, check| wanted(check.probed.0, check.probed.1));
        for uplink in &instance.topology.uplinks {
            for family in Family::BOTH {
                let (Some(way), Some(link)) = (uplink.way(family), &uplink.link) else { continue };
                let target = target(uplink, family, way.gateway);
                let key = (uplink.id, family as u8);
                let path = (target, link.index);
                if self.checks.get(&key).is_none_or(|check| check.path != path) {
                    // Confirmed, so that a probe is not counted as a balanced connection.
                    let mark = instance.config.marks.of(uplink.id) | instance.config.marks.confirmed();
                    self.checks.insert(key, Check::start(uplink, family, path, mark, answers, now));
                }
                if let Some(check) = self.checks.get_mut(&key) {
                    check.handle(machine::Event::Carrier(uplink.has_carrier()), now);
                }
            }
        }
    }

    /// Gives new connections to exactly those uplinks that can and that are healthy.
    fn publish(&self, instance: &mut Instance) {
        let possible = survey::possible(&instance.topology);
        let healthy = |family: Family, ids: &[u32]| {
            let usable = |id: &&u32| {
                self.checks.get(&(**id, family as u8)).is_none_or(|check| check.machine.state().is_usable())
            };
            ids.iter().filter(usable).copied().collect()
        };
        let live = Live { ipv4: healthy(Family::V4, &possible.ipv4), ipv6: healthy(Family::V6, &possible.ipv6) };
        if live == instance.live {
            return;
        }
        for family in Family::BOTH {
            if live.of(family).is_empty() && !instance.live.of(family).is_empty() {
                tracing::warn!("no uplink is up for {family}: main decides");
            }
        }
        if let Err(error) = instance.publish(live) {
            tracing::error!("publishing the change: {error:#}");
        }
    }

    fn handle(&mut self, instance: &mut Instance, probed: Probed, event: machine::Event) {
        let changed =
            self.checks.get_mut(&(probed.0, probed.1 as u8)).is_some_and(|check| check.handle(event, Instant::now()));
        if changed {
            self.publish(instance);
        }
    }

    fn tick(&mut self, instance: &mut Instance) {
        let now = Instant::now();
        let mut changed = false;
        for check in self.checks.values_mut() {
            changed |= check.handle(machine::Event::Tick, now);
        }
        if changed {
            self.publish(instance);
        }
    }

    fn send_due(&mut self, now: Instant) {
        for check in self.checks.values_mut() {
            if let Some(sequence) = check.machine.next_probe(now) {
                if let Some(Err(error)) = check.prober.as_ref().map(|prober| prober.send(sequence)) {
                    tracing::debug!("probing by `{}`: {error}", check.name);
                }
                check.handle(machine::Event::Sent(sequence), now);
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.checks.values().filter_map(|check| check.machine.next_deadline()).min()
    }

    fn describe(&self, (id, family): Probed) -> String {
        self.checks
            .get(&(id, family as u8))
            .map_or_else(|| "no next hop".to_owned(), |check| check.machine.state().to_string())
    }
}

impl Check {
    fn start(
        uplink: &Uplink,
        family: Family,
        path: (Option<IpAddr>, u32),
        mark: u32,
        answers: &mpsc::Sender<(Probed, u16)>,
        now: Instant,
    ) -> Self {
        let probed = (uplink.id, family);
        let name = format!("{} {family}", uplink.config.name);
        let prober = path.0.and_then(|target| {
            Pinger::new(Some(&uplink.config.device), path.1, mark, target)
                .inspect_err(|error| tracing::error!("uplink {name}: no probes of {target}: {error}"))
                .ok()
                .map(Arc::new)
        });
        let receiver = prober.clone().map(|prober| {
            let answers = answers.clone();
            tokio::spawn(async move {
                loop {
                    let answer = prober.receive().await;
                    if answers.send((probed, answer.sequence)).await.is_err() {
                        return;
                    }
                }
            })
        });
        let machine = Machine::new((&uplink.config.check).into(), prober.is_some(), uplink.has_carrier(), now);
        Self { probed, name, machine, path, prober, receiver }
    }

    /// Feeds the machine; true if whether the uplink is usable changed.
    fn handle(&mut self, event: machine::Event, now: Instant) -> bool {
        let Some(change) = self.machine.handle(event, now) else { return false };
        match change.to {
            State::Down(_) => tracing::warn!("uplink {}: {}", self.name, change.to),
            State::Up | State::Unknown => tracing::info!("uplink {}: {}", self.name, change.to),
        }
        change.from.is_usable() != change.to.is_usable()
    }
}

fn target(uplink: &Uplink, family: Family, gateway: Option<IpAddr>) -> Option<IpAddr> {
    uplink.config.check.targets.iter().find_map(|target| match target {
        Target::Gateway => gateway,
        Target::Ping(address) if Family::of(*address) == family => Some(*address),
        _ => None,
    })
}

/// Prints errors of a teardown, each with its hint.
pub fn log_errors(what: &str, errors: &[anyhow::Error]) {
    for error in errors {
        tracing::error!("{what}: {}", problem::report(error));
    }
}
