//! The loop around a running RouterOS configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Config;
use super::instance::Instance;
use super::routes::{self, Egress, Method, Watch, WatchKey};
use super::status::Status;
use crate::config::Configuration;
use crate::control::{Answer, Door, Request};
use crate::controller::common::{
    Trial, answer_counted, guard, other_kind, tell_reloaded, tell_repaired, tell_rolled_back,
};
use crate::controller::{Event, RESYNC, Reread, Signals, Sources, is_ruleset, next, refusal, settle};
use crate::dataplane;
use crate::events::{Kind, Teller};
use crate::health::machine::{self, Machine, State, Timing};
use crate::health::probe::arp::Requester;
use crate::health::probe::icmp::Pinger;
use crate::host::Family;
use crate::host::netlink::Monitor;
use crate::metrics::{self, Endpoint, Format, Metrics};
use crate::problem::{self, Problem};
use crate::ruleset;
use crate::service::Service;

/// Runs until a signal says stop, and answers at `door`. The instance is given back, still running. Metrics are served at
/// `endpoint`.
///
/// # Errors
/// The means of watching the host fail; probes that fail are losses, not errors.
pub async fn run(
    instance: Instance,
    door: Door,
    signals: Signals,
    reread: Reread<'_>,
    mut endpoint: Endpoint,
) -> Result<Instance> {
    let (answers, answered) = mpsc::channel(64);
    let (asked_sender, asked) = mpsc::channel(16);
    let teller = Teller::new(&instance.config.base.instance);
    endpoint.serve(asked_sender.clone());
    let _server = door.serve(&instance.paths, asked_sender, teller.clone())?;
    let table = ruleset::table_name(&instance.config.base.instance);
    let monitor = Monitor::new(&table)?;
    let _guard = guard(&table);
    let mut sources = Sources { signals, monitor, answered, asked };
    let mut controller = Controller {
        instance,
        watching: Watching { checks: BTreeMap::new(), answers, teller: teller.clone() },
        trial: Trial::none(),
        teller,
        looked: Instant::now(),
        service: Service::new(Instant::now()),
        metrics: Metrics::new(endpoint),
    };
    controller.teller.tell(Kind::Started);
    // Something may have changed between the survey and the start of the watch.
    controller.look();
    controller.service.ready(controller.watching.summary());
    loop {
        controller.service.beat(Instant::now());
        controller.watching.send_due(Instant::now());
        match next(&mut sources, controller.next_deadline()).await? {
            Event::Stop => {
                controller.service.stopping();
                controller.teller.tell(Kind::Stopped);
                return Ok(controller.instance);
            }
            Event::Reload => {
                if let Err(error) = controller.reload(reread, None) {
                    tracing::error!("reloading: {}", problem::report(&error));
                }
            }
            Event::Host(changed) => {
                if is_ruleset(&settle(&mut sources.monitor, changed).await?) {
                    controller.repair_table();
                }
                controller.look();
            }
            Event::Answered((key, sequence)) => {
                if controller.watching.handle(&key, machine::Event::Answered(sequence)) {
                    controller.publish();
                }
            }
            Event::Due => controller.tick(),
            Event::Asked(Request::Status, reply) => controller.status(reply),
            Event::Asked(request, reply) => {
                let answer = controller.answer(&request, reread).unwrap_or_else(|error| refusal(&error));
                let _ = reply.send(answer);
            }
        }
    }
}

struct Controller {
    instance: Instance,
    watching: Watching,
    trial: Trial<Config>,
    teller: Teller,
    looked: Instant,
    service: Service,
    metrics: Metrics,
}

impl Controller {
    fn next_deadline(&self) -> Instant {
        let deadlines = [self.watching.next_deadline(), self.trial.deadline(), self.service.deadline()];
        deadlines.into_iter().flatten().chain([self.looked + RESYNC]).min().unwrap_or(self.looked)
    }

    /// Brings the instance in line with the host, and the probes with the routes.
    fn look(&mut self) {
        self.looked = Instant::now();
        if let Err(error) = self.instance.reconcile() {
            tracing::error!("looking at the host: {error:#}");
        }
        self.watching.sync(&self.instance);
        self.publish();
    }

    fn publish(&mut self) {
        self.watching.publish(&mut self.instance);
        self.service.show(self.watching.summary());
    }

    fn repair_table(&mut self) {
        tell_repaired(self.instance.repair_table(), &self.teller);
    }

    fn tick(&mut self) {
        if self.watching.tick() {
            self.publish();
        }
        if let Some(before) = self.trial.overdue(Instant::now()) {
            // Where metrics are served is no reason to stay.
            if let Err(problem) = self.metrics.endpoint.replace(before.base.metrics.as_ref()) {
                tracing::error!("{problem}");
            }
            tell_rolled_back(self.instance.reload(before), &self.teller);
            self.look();
        }
        if self.looked.elapsed() >= RESYNC {
            self.repair_table();
            self.look();
        }
    }

    fn status(&self, reply: oneshot::Sender<Answer>) {
        let Self { instance, watching, metrics, .. } = self;
        let status = Status::read(instance, |key| watching.state(key));
        let (field, names) = (instance.blueprint.fields.connection, instance.blueprint.names.connection.clone());
        answer_counted(&metrics.counting, instance.counted_marks(), status, reply, move |status, counted| {
            Answer::Mirror(Box::new(status.with_connections(counted, field, &names)))
        });
    }

    fn answer(&mut self, request: &Request, reread: Reread<'_>) -> Result<Answer> {
        match request {
            Request::Verify { .. } => {
                let hint = "`pcc flows` shows where its connections go";
                Err(Problem::new("a RouterOS configuration has no weights to compare with", hint).into())
            }
            Request::Metrics { format } => Ok(Answer::Metrics { text: self.metrics(*format)? }),
            Request::Uplink { .. } => {
                let hint = "its rules and routes are its uplinks: change them, and `pcc reload`";
                Err(Problem::new("a RouterOS configuration has no uplinks to change", hint).into())
            }
            Request::Reload { try_seconds } => {
                let warnings = self.reload(reread, try_seconds.map(Duration::from_secs))?;
                Ok(Answer::Done { warnings })
            }
            Request::Confirm => {
                self.trial.confirm()?;
                Ok(Answer::Done { warnings: Vec::new() })
            }
            // They are answered beside the loop.
            Request::Status | Request::Events | Request::Flows(_) => Ok(Answer::Done { warnings: Vec::new() }),
        }
    }

    fn metrics(&self, format: Format) -> Result<String> {
        let Self { instance, watching, metrics, .. } = self;
        let entries = dataplane::pinned_flow_entries(&instance.paths.pins);
        let around = metrics.look(&self.teller, entries, instance.counted_marks());
        let mut status = Status::read(instance, |key| watching.state(key))?;
        if let Some(counted) = &around.counted {
            let (fields, names) = (&instance.blueprint.fields, &instance.blueprint.names);
            status = status.with_connections(counted, fields.connection, &names.connection);
        }
        Ok(metrics::mirror::render(format, &status, &around))
    }

    fn reload(&mut self, reread: Reread<'_>, trial: Option<Duration>) -> Result<Vec<String>> {
        self.service.reloading();
        let outcome = self.read_and_follow(reread, trial);
        self.service.ready(self.watching.summary());
        outcome
    }

    fn read_and_follow(&mut self, reread: Reread<'_>, trial: Option<Duration>) -> Result<Vec<String>> {
        let Configuration::Mirror(config) = reread()? else {
            return Err(other_kind("no RouterOS configuration").into());
        };
        let before = self.instance.config.clone();
        self.metrics.endpoint.replace(config.base.metrics.as_ref())?;
        let outcome = self.instance.reload(*config);
        self.look();
        if outcome.is_err() {
            self.metrics.endpoint.replace(before.base.metrics.as_ref())?;
        }
        let warnings = outcome?;
        tell_reloaded(&warnings, &self.teller);
        self.trial.begin(before, trial, Instant::now());
        Ok(warnings)
    }
}

/// Everything that is probed.
struct Watching {
    checks: BTreeMap<WatchKey, Check>,
    answers: mpsc::Sender<(WatchKey, u16)>,
    teller: Teller,
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

    /// One line about what answers.
    fn summary(&self) -> String {
        let usable = self.checks.values().filter(|check| check.machine.state().is_usable()).count();
        format!("{usable} of {} watched hosts answer", self.checks.len())
    }

    /// What is known about a watch.
    fn state(&self, key: &WatchKey) -> Option<String> {
        self.checks.get(key).map(|check| check.machine.state().to_string())
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
        let Self { checks, teller, .. } = self;
        checks.get_mut(key).is_some_and(|check| check.handle(event, Instant::now(), teller))
    }

    /// Takes in that time has passed. True if what is usable changed.
    fn tick(&mut self) -> bool {
        let keys: Vec<WatchKey> = self.checks.keys().cloned().collect();
        let changed = keys.iter().map(|key| self.handle(key, machine::Event::Tick));
        changed.fold(false, |any, changed| any | changed)
    }

    fn send_due(&mut self, now: Instant) {
        let Self { checks, teller, .. } = self;
        for check in checks.values_mut() {
            if let Some(sequence) = check.machine.next_probe(now) {
                if let Some(Err(error)) = check.prober.as_ref().map(|prober| prober.send(sequence)) {
                    tracing::debug!("probing {}: {error}", check.watch.key);
                }
                check.handle(machine::Event::Sent(sequence), now, teller);
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

    fn handle(&mut self, event: machine::Event, now: Instant, teller: &Teller) -> bool {
        let Some(change) = self.machine.handle(event, now) else { return false };
        teller.tell(self.event(change));
        match change.to {
            State::Down(_) => tracing::warn!("{}: {}", self.watch.key, change.to),
            State::Up | State::Unknown => tracing::info!("{}: {}", self.watch.key, change.to),
        }
        change.from.is_usable() != change.to.is_usable()
    }

    fn event(&self, change: machine::Transition) -> Kind {
        let device = match &self.watch.egress {
            Egress::Device(device) => device.clone(),
            Egress::Routing | Egress::Nowhere => String::new(),
        };
        let family = self.watch.target.map(|target| Family::of(target).to_string()).unwrap_or_default();
        Kind::health(self.watch.key.to_string(), device, family, &change.from, &change.to)
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
