//! The loop around a running instance: one closed set of events, one place that acts on them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};

use crate::config::{Config, Configuration};
use crate::control::{self, Answer, Asked, Door, Request};
use crate::dataplane;
use crate::events::{Kind, Teller};
use crate::hook;
use crate::host::netlink::{Changed, Monitor};
use crate::host::{Family, firewall};
use crate::instance::{Cause, Instance};
use crate::metrics::{self, Endpoint, Format, Metrics};
use crate::overrides::{self, Admin, Overrides};
use crate::problem::{self, Problem};
use crate::ruleset;
use crate::service::{self, Service};
use crate::status::Status;
use accounts::Accounts;
use common::{Trial, answer_counted, guard, other_kind, tell_reloaded, tell_repaired, tell_rolled_back};
use health::Health;
use retire::Retiring;
use shortcuts::{Heard, Shortcuts, Watching};

pub use health::Diagnosis;

mod accounts;
pub mod common;
mod health;
mod pacing;
mod retire;
mod shortcuts;

/// The host is looked at this often even if netlink says nothing.
pub const RESYNC: Duration = Duration::from_secs(30);
/// Netlink notices that come together are one event.
const SETTLE: Duration = Duration::from_millis(5);
/// While they keep coming, they are one event for so long.
const SETTLED: Duration = Duration::from_millis(50);
/// Probes that are answered at the same moment wait in a row of this length.
const ANSWERS: usize = 256;

/// Everything that can happen. `A` is what probes say.
pub enum Event<A> {
    /// SIGINT or SIGTERM.
    Stop,
    /// SIGHUP.
    Reload,
    /// The host changed; [`settle`] waits for what belongs to it.
    Host(Changed),
    /// A probe has an outcome.
    Answered(A),
    /// It is time for something.
    Due,
    /// The control socket was asked.
    Asked(Request, oneshot::Sender<Answer>),
}

/// Signals that a controller listens to.
pub struct Signals {
    /// SIGINT.
    pub interrupt: Signal,
    /// SIGTERM.
    pub terminate: Signal,
    /// SIGHUP.
    pub hangup: Signal,
}

/// Reads the configuration anew.
pub type Reread<'a> = &'a dyn Fn() -> Result<Configuration>;

/// Runs until a signal says stop, and answers at `door`. The instance is given back, still running. `reread` reads the
/// configuration for a reload; metrics are served at `endpoint`.
///
/// # Errors
/// The means of watching the host fail; health checks that fail are losses, not errors.
pub async fn run(
    instance: Instance,
    door: Door,
    signals: Signals,
    reread: Reread<'_>,
    mut endpoint: Endpoint,
) -> Result<Instance> {
    let (outcomes, answered) = mpsc::channel(ANSWERS);
    let (asked_sender, asked) = mpsc::channel(16);
    let teller = Teller::new(&instance.config.instance);
    endpoint.serve(asked_sender.clone());
    let _server = door.serve(&instance.paths, asked_sender, teller.clone())?;
    let table = ruleset::table_name(&instance.config.instance);
    let monitor = Monitor::new(&table)?;
    let _guard = guard(&table);
    let mut sources = Sources { signals, monitor, answered, asked };
    let mut watching = Watching::default();
    let overrides = Overrides::load(&instance.paths.state)?;
    let hook = Hook::start(&instance.config, &teller);
    let health = Health::new(outcomes, teller.clone());
    let mut controller = Controller {
        instance,
        health,
        retiring: Retiring::default(),
        overrides,
        trial: Trial::none(),
        hook,
        teller,
        looked: Instant::now(),
        shortcuts: Shortcuts::new(Instant::now()),
        accounts: Accounts::default(),
        service: Service::new(Instant::now()),
        metrics: Metrics::new(endpoint),
    };
    controller.teller.tell(Kind::Started);
    controller.apply_overrides();
    // Something may have changed between the survey and the start of the watch.
    controller.look();
    controller.service.ready(controller.summary());
    loop {
        controller.service.beat(Instant::now());
        if watching.follow(&controller.instance, &mut sources.monitor)? {
            controller.shortcuts.choose(&mut controller.instance, &watching, firewall::read(&table));
        }
        controller.health.send_due(Instant::now());
        let event = tokio::select! {
            event = next(&mut sources, controller.next_deadline()) => event?,
            heard = watching.next() => {
                controller.hear(heard?, &watching);
                continue;
            }
        };
        match event {
            Event::Stop => break,
            Event::Reload => {
                if let Err(error) = controller.reload(reread, None) {
                    tracing::error!("reloading: {}", problem::report(&error));
                }
            }
            Event::Host(changed) => {
                controller.notice(changed);
                // Nothing but shortcuts depends on these.
                if matches!(changed, Changed::Firewall | Changed::Neighbours) {
                    continue;
                }
                let changes = settle(&mut sources.monitor, changed).await?;
                changes.iter().for_each(|changed| controller.notice(*changed));
                if is_ruleset(&changes) {
                    controller.repair_table();
                }
                controller.look();
            }
            Event::Answered(heard) => {
                let mut changed = controller.health.hear(heard);
                // Those that came meanwhile cost no further round.
                while let Ok(heard) = sources.answered.try_recv() {
                    changed |= controller.health.hear(heard);
                }
                if changed {
                    controller.publish();
                }
            }
            Event::Due => controller.tick(&mut watching),
            Event::Asked(Request::Status, reply) => controller.status(reply),
            Event::Asked(Request::Verify { since_seconds }, reply) => controller.verify(since_seconds, reply),
            Event::Asked(request, reply) => {
                let answer = controller.answer(request, reread).unwrap_or_else(|error| refusal(&error));
                let _ = reply.send(answer);
            }
        }
    }
    controller.service.stopping();
    controller.teller.tell(Kind::Stopped);
    controller.hook.finish().await;
    Ok(controller.instance)
}

struct Controller {
    instance: Instance,
    health: Health,
    retiring: Retiring,
    overrides: Overrides,
    trial: Trial<Config>,
    hook: Hook,
    teller: Teller,
    looked: Instant,
    shortcuts: Shortcuts,
    accounts: Accounts,
    service: Service,
    metrics: Metrics,
}

impl Controller {
    fn next_deadline(&self) -> Instant {
        let deadlines = [
            self.health.next_deadline(),
            self.retiring.next_deadline(),
            self.trial.deadline(),
            self.shortcuts.deadline(&self.instance),
            self.service.deadline(),
        ];
        deadlines.into_iter().flatten().chain([self.looked + RESYNC]).min().unwrap_or(self.looked)
    }

    /// Brings the instance in line with the host, and its uplinks with their health.
    fn look(&mut self) {
        self.looked = Instant::now();
        if let Err(error) = self.instance.reconcile() {
            tracing::error!("looking at the host: {error:#}");
        }
        self.health.sync(&self.instance, Instant::now());
        self.publish();
    }

    fn repair_table(&mut self) {
        tell_repaired(self.instance.repair_table(), &self.teller);
    }

    /// The host changed: shortcuts may lead astray.
    fn notice(&mut self, changed: Changed) {
        self.shortcuts.notice(&mut self.instance, changed, Instant::now());
    }

    fn hear(&mut self, heard: Heard, watching: &Watching) {
        match heard {
            Heard::Ended(ended) => self.instance.forget_shortcuts(&ended),
            Heard::Lost => self.instance.outdate(Cause::Lost),
            Heard::Firewall(firewall) => self.shortcuts.choose(&mut self.instance, watching, firewall),
        }
    }

    fn tick(&mut self, watching: &mut Watching) {
        let now = Instant::now();
        self.shortcuts.tick(&mut self.instance, watching, now);
        self.health.tick(now);
        self.health.sample(&self.instance.plane, now);
        self.publish();
        if let Some(before) = self.trial.overdue(now) {
            // Where metrics are served is no reason to stay.
            if let Err(problem) = self.metrics.endpoint.replace(before.metrics.as_ref()) {
                tracing::error!("{problem}");
            }
            tell_rolled_back(self.put_in_force(before), &self.teller);
        }
        if self.looked.elapsed() >= RESYNC {
            self.repair_table();
            self.instance.update_elements();
            self.shortcuts.resync(now);
            self.look();
        }
    }

    /// Gives new connections to exactly those uplinks that can and that are healthy.
    fn publish(&mut self) {
        let now = Instant::now();
        let standing = self.health.standing(&self.instance, now);
        self.accounts.keep(&self.instance, now);
        if standing != self.instance.standing {
            self.health.tell_taking(&self.instance, &standing);
            match self.instance.publish(standing) {
                Ok(told) => self.retiring.told(&told, now),
                Err(error) => tracing::error!("publishing the change: {error:#}"),
            }
            self.accounts.keep(&self.instance, now);
            self.service.show(self.summary());
        }
        self.retiring.sync(&self.health.retired(&self.instance), now);
        self.retire(now);
    }

    /// One line about who takes new connections, in families that an uplink has.
    fn summary(&self) -> String {
        let uplinks = &self.instance.topology.uplinks;
        let has = |family: &Family| uplinks.iter().any(|uplink| uplink.way(*family).is_some());
        let taking = |family: Family| {
            let taking = &self.instance.standing.taking;
            let names = uplinks.iter().filter(|uplink| taking.has(family, uplink.id));
            (family.to_string(), names.map(|uplink| uplink.config.name.clone()).collect())
        };
        service::summary(&Family::BOTH.into_iter().filter(has).map(taking).collect::<Vec<_>>())
    }

    /// Does what is due for connections that end.
    fn retire(&mut self, now: Instant) {
        let due = self.retiring.due(now);
        for part in due.finish {
            self.instance.finish(part);
        }
        if !due.end.is_empty() {
            self.end(&due.end, now);
        }
    }

    fn end(&mut self, parts: &[(u32, Family)], now: Instant) {
        match self.instance.end(parts) {
            Ok(told) => self.retiring.told(&told, now),
            Err(error) => tracing::error!("ending connections: {error:#}"),
        }
        for (id, family) in parts {
            let Some(uplink) = self.instance.topology.uplinks.iter().find(|uplink| uplink.id == *id) else { continue };
            let (uplink, family) = (uplink.config.name.clone(), family.to_string());
            tracing::info!("uplink {uplink} {family}: connections ended");
            self.teller.tell(Kind::Ended { uplink, family });
        }
    }

    fn status(&self, reply: oneshot::Sender<Answer>) {
        let Self { instance, health, metrics, .. } = self;
        let (layout, status) = (instance.config.marks, Status::read(instance, |id, family| health.of((id, family))));
        answer_counted(&metrics.counting, instance.counted_marks(), status, reply, move |status, counted| {
            Answer::Status(Box::new(status.with_connections(counted, layout)))
        });
    }

    fn verify(&self, since_seconds: Option<u64>, reply: oneshot::Sender<Answer>) {
        self.accounts.verify(&self.instance, since_seconds.map(Duration::from_secs), reply);
    }

    fn answer(&mut self, request: Request, reread: Reread<'_>) -> Result<Answer> {
        let done = |warnings| Answer::Done { warnings };
        Ok(match request {
            Request::Uplink { uplink, change, persist } => Answer::Changed(self.change(&uplink, change, persist)?),
            Request::Metrics { format } => Answer::Metrics { text: self.metrics(format)? },
            Request::Reload { try_seconds } => done(self.reload(reread, try_seconds.map(Duration::from_secs))?),
            Request::Confirm => {
                self.trial.confirm()?;
                done(Vec::new())
            }
            // They are answered beside the loop.
            Request::Status | Request::Events | Request::Flows(_) | Request::Verify { .. } => done(Vec::new()),
        })
    }

    fn metrics(&self, format: Format) -> Result<String> {
        let Self { instance, health, metrics, .. } = self;
        let entries = dataplane::pinned_flow_entries(&instance.paths.pins);
        let around = metrics.look(&self.teller, entries, instance.counted_marks());
        let known = |id, family| health.of((id, family));
        let mut status = Status::brief(instance, known)?.with_lost(known);
        if let Some(counted) = &around.counted {
            status = status.with_connections(counted, instance.config.marks);
        }
        let outdated: Vec<_> = instance.raises.iter().map(|(cause, count)| (cause.to_string(), count)).collect();
        Ok(metrics::native::render(format, &status, &around, &outdated))
    }

    fn reload(&mut self, reread: Reread<'_>, trial: Option<Duration>) -> Result<Vec<String>> {
        self.service.reloading();
        let outcome = self.read_and_follow(reread, trial);
        self.service.ready(self.summary());
        outcome
    }

    fn read_and_follow(&mut self, reread: Reread<'_>, trial: Option<Duration>) -> Result<Vec<String>> {
        let Configuration::Native(config) = reread()? else {
            return Err(other_kind("a RouterOS configuration").into());
        };
        let before = self.instance.config.clone();
        self.metrics.endpoint.replace(config.metrics.as_ref())?;
        let outcome = self.put_in_force(*config);
        if outcome.is_err() {
            self.metrics.endpoint.replace(before.metrics.as_ref())?;
        }
        let warnings = outcome?;
        tell_reloaded(&warnings, &self.teller);
        self.trial.begin(before, trial, Instant::now());
        Ok(warnings)
    }

    fn put_in_force(&mut self, config: Config) -> Result<Vec<String>> {
        let outcome = self.instance.reload(config);
        if outcome.is_ok() {
            self.hook.replace(&self.instance.config, &self.teller);
        }
        self.apply_overrides();
        self.look();
        outcome
    }

    fn change(&mut self, name: &str, change: overrides::Change, persist: bool) -> Result<control::Changed> {
        let (id, name) = self.instance.uplink(name)?;
        if let overrides::Change::Weight(weight) = change {
            self.instance.set_weight(id, weight)?;
        }
        if persist {
            self.overrides.note(&name, change);
            self.overrides.store(&self.instance.paths.state)?;
        }
        if let overrides::Change::Admin(admin) = change {
            self.health.set_admin(id, admin);
        }
        tracing::info!("uplink `{name}`: {change}");
        let change = change.to_string();
        self.teller.tell(Kind::Changed { uplink: name.clone(), change: change.clone() });
        self.publish();
        let device =
            self.instance.topology.uplink(&name).map(|uplink| uplink.config.device.clone()).unwrap_or_default();
        let weight = self.instance.weights.get(&id).copied().unwrap_or(0);
        Ok(control::Changed { uplink: name, device, change, weight, persist })
    }

    /// What was changed by hand, to be kept.
    fn apply_overrides(&mut self) {
        let uplinks: Vec<(u32, String)> =
            self.instance.topology.uplinks.iter().map(|uplink| (uplink.id, uplink.config.name.clone())).collect();
        for (id, name) in uplinks {
            let kept = self.overrides.of(&name);
            if let Some(weight) = kept.weight
                && let Err(error) = self.instance.set_weight(id, weight)
            {
                tracing::error!("the kept weight of uplink `{name}`: {error:#}");
            }
            if kept.admin != Admin::Enabled {
                self.health.set_admin(id, kept.admin);
            }
        }
    }
}

/// The program that is run for events.
struct Hook {
    command: Vec<String>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Hook {
    fn start(config: &Config, teller: &Teller) -> Self {
        let command = config.hook.clone();
        let task = (!command.is_empty()).then(|| tokio::spawn(hook::run(command.clone(), teller.listen())));
        Self { command, task }
    }

    fn replace(&mut self, config: &Config, teller: &Teller) {
        if self.command != config.hook {
            if let Some(task) = &self.task {
                task.abort();
            }
            *self = Self::start(config, teller);
        }
    }

    /// Waits until it has run for everything that was told, for as long as one run may take.
    async fn finish(self) {
        if let Some(task) = self.task {
            let abort = task.abort_handle();
            if tokio::time::timeout(hook::LIMIT, task).await.is_err() {
                abort.abort();
            }
        }
    }
}

/// Where events come from.
pub struct Sources<A> {
    /// What the controller is told from outside.
    pub signals: Signals,
    /// Notices of the host.
    pub monitor: Monitor,
    /// Outcomes of probes.
    pub answered: mpsc::Receiver<A>,
    /// Questions on the control socket.
    pub asked: mpsc::Receiver<Asked>,
}

/// Waits for the next event, until `deadline` at most.
pub async fn next<A>(sources: &mut Sources<A>, deadline: Instant) -> Result<Event<A>> {
    let Sources { signals: Signals { interrupt, terminate, hangup }, monitor, answered, asked } = sources;
    tokio::select! {
        biased;
        _ = interrupt.recv() => Ok(Event::Stop),
        _ = terminate.recv() => Ok(Event::Stop),
        // What has come is heard before it is judged as missing, and no storm of notices keeps either from its turn, nor those
        // who ask: each of them waits for his answer before he asks again.
        Some(answer) = answered.recv() => Ok(Event::Answered(answer)),
        Some((request, reply)) = asked.recv() => Ok(Event::Asked(request, reply)),
        () = tokio::time::sleep_until(deadline.into()) => Ok(Event::Due),
        changed = monitor.next() => Ok(Event::Host(changed?)),
        _ = hangup.recv() => Ok(Event::Reload),
    }
}

/// Everything that changed together with `first`.
pub async fn settle(monitor: &mut Monitor, first: Changed) -> Result<BTreeSet<Changed>> {
    let mut changes = BTreeSet::from([first]);
    let end = Instant::now() + SETTLED;
    while let Ok(changed) = tokio::time::timeout(SETTLE, monitor.next()).await {
        changes.insert(changed?);
        if Instant::now() >= end {
            break;
        }
    }
    Ok(changes)
}

/// Our nftables table may be among `changes`.
pub fn is_ruleset(changes: &BTreeSet<Changed>) -> bool {
    changes.contains(&Changed::Ruleset) || changes.contains(&Changed::Everything)
}

/// An error as an answer.
pub fn refusal(error: &anyhow::Error) -> Answer {
    let hint =
        error.chain().rev().find_map(|cause| cause.downcast_ref::<Problem>()).map(|problem| problem.hint.clone());
    Answer::Problem { message: format!("{error:#}"), hint: hint.unwrap_or_else(|| "see the controller's log".into()) }
}

/// Prints errors of a teardown, each with its hint.
pub fn log_errors(what: &str, errors: &[anyhow::Error]) {
    for error in errors {
        tracing::error!("{what}: {}", problem::report(error));
    }
}
