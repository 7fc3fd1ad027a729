//! The health of every uplink in every family that it has: checks, their outcomes, and what follows for the uplinks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::config::{self, FailBack};
use crate::dataplane::DataPlane;
use crate::events::{Kind, Teller};
use crate::health::passive;
use crate::health::probe::{Outcome, Path, Prober};
use crate::health::standing::{self, Member};
use crate::health::uplink::{self, Event, State, Statistics};
use crate::host::Family;
use crate::instance::Instance;
use crate::overrides::Admin;
use crate::plan::Standing;
use crate::topology::Uplink;

/// The counters of the data path are looked at this often.
const SAMPLE: Duration = Duration::from_millis(200);

/// One uplink (by id) in one family.
type Part = (u32, Family);

/// What became of a probe.
pub struct Heard {
    part: Part,
    target: usize,
    sequence: u16,
    outcome: Outcome,
}

/// What is known of one uplink in one family.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// Its state.
    pub state: String,
    /// New connections are withheld, because those of late were not answered.
    pub suspended: bool,
    /// Drained by hand.
    pub draining: bool,
    /// Of its best target.
    pub statistics: Option<Statistics>,
    /// How often it went down since the controller started.
    pub fail_overs: u64,
}

/// All checks.
pub struct Health {
    checks: BTreeMap<Part, Check>,
    admin: BTreeMap<u32, Admin>,
    /// By name of the uplink: a check that is replaced, or an uplink that is away for a reload, does not begin anew.
    fail_overs: BTreeMap<(String, Family), u64>,
    outcomes: mpsc::Sender<Heard>,
    teller: Teller,
    /// When the counters of the data path were last looked at.
    sampled: Instant,
}

struct Check {
    name: String,
    device: String,
    uplink: uplink::Uplink,
    passive: passive::Watch,
    /// Other ones are another check.
    path: Path,
    rules: (config::Check, config::Degraded),
    /// `None` where a target cannot be asked at all: its probes are lost.
    probers: Vec<Option<Prober>>,
}

impl Health {
    /// Without checks. Outcomes of probes go to `outcomes`, changes to `teller`.
    pub fn new(outcomes: mpsc::Sender<Heard>, teller: Teller) -> Self {
        Self {
            checks: BTreeMap::new(),
            admin: BTreeMap::new(),
            fail_overs: BTreeMap::new(),
            outcomes,
            teller,
            sampled: Instant::now(),
        }
    }

    /// Starts, keeps and ends checks, so that they are those of the topology, and reports carriers.
    pub fn sync(&mut self, instance: &Instance, now: Instant) {
        let uplinks = &instance.topology.uplinks;
        self.checks.retain(|(id, _), _| uplinks.iter().any(|it| it.id == *id));
        self.admin.retain(|id, _| uplinks.iter().any(|it| it.id == *id));
        for uplink in uplinks {
            for family in Family::BOTH {
                let part = (uplink.id, family);
                let Some(path) = path(instance, uplink, family) else {
                    // Its device, address or next hop is gone; what is held against it stays.
                    self.handle(part, Event::Carrier(false), now);
                    continue;
                };
                let rules = (uplink.config.check.clone(), uplink.config.degraded);
                if self.checks.get(&part).is_none_or(|check| check.path != path || check.rules != rules) {
                    let mut check = Check::start(uplink, part, path, rules, &self.outcomes, now);
                    let targets = check.probers.len();
                    match self.checks.get(&part).map(|before| &before.uplink) {
                        Some(before) => {
                            let rules = (&uplink.config).into();
                            check.uplink = before.successor(rules, targets, uplink.has_carrier(), now);
                        }
                        // It has to answer before it counts as usable.
                        None if instance.known.is_down(family, uplink.id) => {
                            check.uplink.handle(Event::Carrier(false), now);
                        }
                        None => {}
                    }
                    self.checks.insert(part, check);
                }
                if let Some(check) = self.checks.get_mut(&part) {
                    check.name.clone_from(&uplink.config.name);
                }
                let enabled = self.admin.get(&uplink.id) != Some(&Admin::Disabled);
                self.handle(part, Event::Admin(enabled), now);
                self.handle(part, Event::Carrier(uplink.has_carrier()), now);
            }
        }
    }

    /// Gives an uplink another part in all this.
    pub fn set_admin(&mut self, id: u32, admin: Admin) {
        self.admin.insert(id, admin);
        for family in Family::BOTH {
            self.handle((id, family), Event::Admin(admin != Admin::Disabled), Instant::now());
        }
    }

    /// Takes in an outcome. True if what the uplinks are good for may have changed.
    pub fn hear(&mut self, heard: Heard) -> bool {
        let Heard { part, target, sequence, outcome } = heard;
        let event = match outcome {
            Outcome::Answered(round_trip) => Event::Answered(target, sequence, round_trip),
            Outcome::Failed(why) => {
                if let Some(check) = self.checks.get(&part) {
                    tracing::debug!("probing by {} {}: {why}", check.name, part.1);
                }
                Event::Failed(target, sequence)
            }
        };
        self.handle(part, event, Instant::now())
    }

    /// Takes in that time has passed.
    pub fn tick(&mut self, now: Instant) {
        let parts: Vec<Part> = self.checks.keys().copied().collect();
        for part in parts {
            self.handle(part, Event::Tick, now);
        }
    }

    /// Looks at what the data path counted. True if it is time to look at standings: an uplink is suspected.
    pub fn sample(&mut self, plane: &DataPlane, now: Instant) -> bool {
        if now < self.sampled + SAMPLE {
            return false;
        }
        self.sampled = now;
        let mut suspected = false;
        for ((id, family), check) in &mut self.checks {
            let Ok(pulse) = plane.pulse(*id, *family as u32) else { continue };
            if let Some(latency) = best(&check.uplink).and_then(|statistics| statistics.latency) {
                check.passive.set_round_trip(latency);
            }
            if check.passive.sample(pulse, now) && check.uplink.state().is_usable() && !check.uplink.is_suspended(now) {
                tracing::warn!("uplink {} {family}: new connections are not answered", check.name);
                check.uplink.handle(Event::Suspect, now);
                suspected = true;
            }
        }
        suspected
    }

    /// Sends every probe that is due.
    pub fn send_due(&mut self, now: Instant) {
        for check in self.checks.values_mut() {
            while let Some((target, sequence)) = check.uplink.next_probe(now) {
                if let Some(Some(prober)) = check.probers.get(target) {
                    prober.send(sequence);
                }
                check.uplink.handle(Event::Sent(target, sequence), now);
            }
        }
    }

    /// When something is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let checks = self.checks.values().filter_map(|check| check.uplink.next_deadline());
        checks.chain((!self.checks.is_empty()).then_some(self.sampled + SAMPLE)).min()
    }

    /// What the uplinks are good for.
    pub fn standing(&self, instance: &Instance, now: Instant) -> Standing {
        let health = |uplink: &Uplink, family| {
            uplink.way(family)?;
            let check = self.checks.get(&(uplink.id, family))?;
            Some(standing::Health { state: check.uplink.state(), suspended: check.uplink.is_suspended(now) })
        };
        let members = instance.topology.uplinks.iter().map(|uplink| Member {
            id: uplink.id,
            weight: instance.weights.get(&uplink.id).copied().unwrap_or(0),
            tier: uplink.config.tier,
            on_down: uplink.config.on_down,
            draining: self.is_draining(uplink.id),
            health: Family::BOTH.map(|family| health(uplink, family)),
        });
        standing::standing(&members.collect::<Vec<_>>())
    }

    /// Uplinks whose connections are to end, with the time that they have: those that are drained, and those that are not
    /// needed while an earlier tier takes connections.
    pub fn retired(&self, instance: &Instance) -> BTreeMap<Part, Duration> {
        let Standing { taking, carrying, .. } = &instance.standing;
        let mut retired = BTreeMap::new();
        for family in Family::BOTH {
            let weighs = |uplink: &&Uplink| instance.weights.get(&uplink.id).is_some_and(|weight| *weight > 0);
            let takers = instance.topology.uplinks.iter().filter(|it| taking.has(family, it.id)).filter(weighs);
            let first = takers.map(|uplink| uplink.config.tier).min();
            for uplink in instance.topology.uplinks.iter().filter(|it| carrying.has(family, it.id)) {
                let idle = match uplink.config.fail_back {
                    FailBack::Keep => None,
                    FailBack::Drain(time) => Some(time),
                    FailBack::Move => Some(Duration::ZERO),
                };
                let idle = idle.filter(|_| first.is_some_and(|first| uplink.config.tier > first));
                let drained = match self.admin.get(&uplink.id) {
                    Some(Admin::Draining(time)) => *time,
                    _ => None,
                };
                if let Some(time) = drained.or(idle) {
                    retired.insert((uplink.id, family), time);
                }
            }
        }
        retired
    }

    /// Tells that others take new connections than before.
    pub fn tell_taking(&self, instance: &Instance, standing: &Standing) {
        for family in Family::BOTH {
            let (before, now) = (instance.standing.taking.of(family), standing.taking.of(family));
            if before == now {
                continue;
            }
            if now.is_empty() {
                tracing::warn!("no uplink is up for {family}: main decides");
            }
            let uplinks = instance.topology.uplinks.iter().filter(|uplink| now.contains(&uplink.id));
            let uplinks = uplinks.map(|uplink| uplink.config.name.clone()).collect();
            self.teller.tell(Kind::Taking { family: family.to_string(), uplinks });
        }
    }

    /// What is known of an uplink in a family that it has.
    pub fn of(&self, part: Part) -> Option<Diagnosis> {
        let check = self.checks.get(&part)?;
        Some(Diagnosis {
            state: check.uplink.state().to_string(),
            suspended: check.uplink.is_suspended(Instant::now()),
            draining: self.is_draining(part.0),
            statistics: best(&check.uplink),
            fail_overs: self.fail_overs.get(&(check.name.clone(), part.1)).copied().unwrap_or(0),
        })
    }

    fn is_draining(&self, id: u32) -> bool {
        matches!(self.admin.get(&id), Some(Admin::Draining(_)))
    }

    fn handle(&mut self, part: Part, event: Event, now: Instant) -> bool {
        let Some(check) = self.checks.get_mut(&part) else { return false };
        let Some(change) = check.uplink.handle(event, now) else { return false };
        let Check { name, device, .. } = check;
        if change.from.is_usable() && matches!(change.to, State::Down(_)) {
            *self.fail_overs.entry((name.clone(), part.1)).or_default() += 1;
        }
        let (family, detail) = (part.1.to_string(), change.to.to_string());
        match change.to {
            State::Down(_) | State::Degraded(_) => tracing::warn!("uplink {name} {family}: {detail}"),
            State::Up | State::Unknown | State::AdminDown => tracing::info!("uplink {name} {family}: {detail}"),
        }
        self.teller.tell(Kind::health(name.clone(), device.clone(), family, &change.from, &change.to));
        true
    }
}

impl Check {
    fn start(
        uplink: &Uplink,
        part: Part,
        path: Path,
        rules: (config::Check, config::Degraded),
        outcomes: &mpsc::Sender<Heard>,
        now: Instant,
    ) -> Self {
        let name = uplink.config.name.clone();
        let mut probers = Vec::new();
        for target in &rules.0.targets {
            let (outcomes, number) = (outcomes.clone(), probers.len());
            let report = move |sequence, outcome| {
                // A loop that does not keep up loses an answer.
                let _ = outcomes.try_send(Heard { part, target: number, sequence, outcome });
            };
            match Prober::start(target, part.1, &path, rules.0.timeout, report) {
                Ok(Some(prober)) => probers.push(Some(prober)),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!("uplink {name} {}: a target cannot be probed: {error}", part.1);
                    probers.push(None);
                }
            }
        }
        let machine = uplink::Uplink::new((&uplink.config).into(), probers.len(), uplink.has_carrier(), now);
        Self {
            name,
            device: uplink.config.device.clone(),
            uplink: machine,
            passive: passive::Watch::new(),
            path,
            rules,
            probers,
        }
    }
}

/// Of the target with the least loss.
fn best(uplink: &uplink::Uplink) -> Option<Statistics> {
    uplink.statistics().into_iter().min_by_key(|statistics| statistics.loss)
}

/// How probes of an uplink leave; `None` if it has no way in the family.
fn path(instance: &Instance, uplink: &Uplink, family: Family) -> Option<Path> {
    let (way, link) = (uplink.way(family)?, uplink.link.as_ref()?);
    // Confirmed, so that a probe is not counted as a balanced connection.
    let mark = instance.config.marks.of(uplink.id) | instance.config.marks.confirmed();
    Some(Path { device: uplink.config.device.clone(), ifindex: link.index, mark, gateway: way.gateway })
}
