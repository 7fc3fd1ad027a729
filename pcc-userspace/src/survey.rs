//! Reads the host and says what a start would do, without doing it. `pcc plan` stops here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::Result;
use pcc_ebpf::abi::device::{TAKES, XDP};
use pcc_ebpf::abi::{Device, program};

use crate::config::{Config, FastPath, OnDown, Paths};
use crate::dataplane::Side;
use crate::fast_path::{self, Choice, Circumstances};
use crate::host::{Change, Family, Host, Link, Observed, clash};
use crate::instance;
use crate::journal::Journal;
use crate::plan::{self, Live, Standing};
use crate::problem::{Problem, Problems};
use crate::rules;
use crate::ruleset;
use crate::sources::UsualSources;
use crate::topology::{self, Topology, Uplink};

/// One step of a start.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Load the programs, fill their maps, pin them.
    Load {
        /// Where.
        pins: String,
    },
    /// Change the host.
    Change(Change),
    /// Attach the programs of one side to a device.
    Attach {
        /// The device.
        link: Link,
        /// Which programs.
        side: Side,
        /// What they are told about it.
        device: Device,
    },
}

/// What was read, and what follows from it.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The host.
    pub observed: Observed,
    /// The configuration laid over it.
    pub topology: Topology,
    /// Which devices use which shortcuts.
    pub choice: Choice,
    /// Uplinks that have what it takes, without those that `known` tells to be down.
    pub standing: Standing,
    /// The journal as it will be, without the settings that the steps will save.
    pub journal: Journal,
    /// What a start does, in order.
    pub steps: Vec<Step>,
    /// What the operator should know, one line each.
    pub warnings: Vec<String>,
    /// Devices that are waited for.
    pub missing: Vec<Problem>,
}

/// Surveys the host for `config`. `known` is what is known of the uplinks that are there already, by their ids, `circumstances`
/// what shortcuts depend on.
///
/// # Errors
/// [`Problems`] for everything that makes a start pointless: impossible next hops, mark clashes.
pub fn survey(
    config: &Config,
    paths: &Paths,
    host: &mut dyn Host,
    known: &Known,
    circumstances: &Circumstances,
) -> Result<Survey> {
    let observed = host.observe()?;
    let remembered = Journal::load(&paths.run)?;
    let taken =
        remembered.is_none() && !plan::clear_routing(config.table_base, config.priority_base, &observed).is_empty();
    let mut journal = remembered.unwrap_or_default();
    if !journal.is_free_for(false) {
        return Err(Journal::refuse_other_kind(&config.instance).into());
    }
    journal.ids = topology::assign_ids(config, &journal.ids);
    journal.mark_mask = config.marks.mask();
    journal.table_base = config.table_base;
    journal.priority_base = config.priority_base;
    let topology = topology::resolve(config, &journal.ids, &observed);
    let mut problems = topology::problems(config, &topology, &observed);
    if taken {
        problems.push(plan::tables_taken(config.table_base, config.priority_base));
    }
    let table = ruleset::table_name(&config.instance);
    let clashes = clash::clashes(&host.mark_uses(&table, &observed)?, config.marks.mask());
    problems.extend(clashes.refused);
    let mut warnings = clashes.warnings;
    if !problems.is_empty() {
        return Err(Problems(problems).into());
    }
    let missing = topology::missing(config, &observed);
    warnings.extend(missing.iter().map(waits));
    warnings.extend(topology.uplinks.iter().filter_map(warning));
    let standing = known.standing(&topology);
    let choice = choose(config, &topology, host, circumstances).unwrap_or_else(|error| {
        warnings.push(format!("no shortcuts yet: {error:#}"));
        Choice::default()
    });
    let current = |key: &str| host.sysctl(key).ok().flatten();
    let mut steps = vec![Step::Load { pins: paths.pins.display().to_string() }];
    let sysctls = plan::sysctls(&topology, config.fast_path, current);
    steps.extend(sysctls.into_iter().map(|(key, value)| Step::Change(Change::Sysctl { key, value })));
    steps.extend(plan::routing(config, &topology, &standing.taking, &observed).into_iter().map(Step::Change));
    let sources = UsualSources::of(&topology, &standing.taking, &observed);
    let state = ruleset::State {
        config,
        topology: &topology,
        standing: &standing,
        ending: &BTreeSet::new(),
        weights: &instance::weights(&topology),
        sources: &sources,
    };
    let stands = host.table_comment(&table)?.is_some_and(|comment| comment == ruleset::fingerprint(config));
    steps.push(Step::Change(if stands {
        Change::Nft { summary: format!("new elements for table inet {table}"), script: ruleset::extend(&state) }
    } else {
        Change::Nft { summary: format!("table inet {table}"), script: ruleset::create(&state) }
    }));
    steps.extend(attachments(&topology, &choice));
    // Those of an earlier run stay in it until the end: they may carry filters of ours.
    journal.devices.extend(attached(&topology).map(|(link, ..)| link.name.clone()));
    journal.devices.sort();
    journal.devices.dedup();
    Ok(Survey { observed, topology, choice, standing, journal, steps, warnings, missing })
}

/// What an earlier run, or the configuration before, knew of its uplinks: by id, whether they take new connections of each
/// family. An uplink that was down stays so until it answers; one that is not there is taken to work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known(pub BTreeMap<u32, [bool; 2]>);

impl Known {
    /// `id` is known not to take new connections of `family`.
    pub fn is_down(&self, family: Family, id: u32) -> bool {
        self.0.get(&id).is_some_and(|takes| !takes[family as usize])
    }

    /// Of the uplinks that could take connections, those that are not known to be down do. Connections that wait for the return
    /// of an uplink go on waiting.
    fn standing(&self, topology: &Topology) -> Standing {
        let possible = possible(topology);
        let up = |family: Family| possible.of(family).iter().copied().filter(|id| !self.is_down(family, *id)).collect();
        let taking = Live { ipv4: up(Family::V4), ipv6: up(Family::V6) };
        let keeps = topology.uplinks.iter().filter(|uplink| uplink.config.on_down == OnDown::Keep);
        let keeping: Vec<u32> = keeps.map(|uplink| uplink.id).collect();
        let carrying = taking.union(&Live { ipv4: keeping.clone(), ipv6: keeping });
        Standing { carrying, taking, degraded: Live::default() }
    }
}

/// Which devices use which shortcuts now.
pub fn choose(
    config: &Config,
    topology: &Topology,
    host: &mut dyn Host,
    circumstances: &Circumstances,
) -> Result<Choice> {
    let lans: Vec<&Link> = topology.lans.iter().map(|(_, link)| link).collect();
    let uplinks: Vec<&Link> = topology.uplinks.iter().filter_map(|uplink| uplink.link.as_ref()).collect();
    let facts = match config.fast_path {
        FastPath::Off => BTreeMap::new(),
        _ => host.device_facts(&[lans.as_slice(), uplinks.as_slice()].concat())?,
    };
    Ok(fast_path::choose(config.fast_path, &lans, &uplinks, &facts, circumstances))
}

/// One [`Step::Attach`] for every device that exists.
pub fn attachments(topology: &Topology, choice: &Choice) -> impl Iterator<Item = Step> {
    attached(topology).map(|(link, side, uplink, number)| {
        let shortcuts = choice.of(link.index);
        let device = Device { uplink, header_length: link.header_length(), number, shortcuts, ..Device::default() };
        Step::Attach { link: link.clone(), side, device }
    })
}

/// Uplinks that could take connections as far as the host can tell.
pub fn possible(topology: &Topology) -> Live {
    let of = |family| {
        let usable = |uplink: &&Uplink| uplink.way(family).is_some() && uplink.has_carrier();
        topology.uplinks.iter().filter(usable).map(|uplink| uplink.id).collect()
    };
    Live { ipv4: of(Family::V4), ipv6: of(Family::V6) }
}

impl Step {
    /// The device of an attachment, by index, its programs, and what it does with shortcuts ([`Device::shortcuts`]).
    pub fn attachment(&self) -> Option<(u32, Side, u32)> {
        match self {
            Self::Attach { link, side, device } => Some((link.index, *side, device.shortcuts)),
            Self::Load { .. } | Self::Change(_) => None,
        }
    }

    /// The same, and what the programs are told about the device.
    pub fn told(&self) -> Option<(u32, Side, Device)> {
        match self {
            Self::Attach { link, side, device } => Some((link.index, *side, *device)),
            Self::Load { .. } | Self::Change(_) => None,
        }
    }
}

/// Devices with the uplink's id, or with the number that rules know a LAN device by.
fn attached(topology: &Topology) -> impl Iterator<Item = (&Link, Side, u32, u32)> {
    let lans = topology.lans.iter().map(|(index, link)| (link, Side::Lan, 0, rules::device_number(*index)));
    let uplinks =
        topology.uplinks.iter().filter_map(|uplink| Some((uplink.link.as_ref()?, Side::Uplink, uplink.id, 0)));
    // Uplinks first: an answer must be marked before the first request is balanced.
    uplinks.chain(lans)
}

/// A missing device as a warning.
pub fn waits(missing: &Problem) -> String {
    format!("{}: waiting for it; {}", missing.message, missing.hint)
}

fn warning(uplink: &Uplink) -> Option<String> {
    let link = uplink.link.as_ref()?;
    let name = &uplink.config.name;
    if !link.up {
        Some(format!("uplink `{name}` waits: `{}` is down; `ip link set {} up`", link.name, link.name))
    } else if uplink.ipv4.is_none() && uplink.ipv6.is_none() {
        Some(format!(
            "uplink `{name}` waits: `{}` has no address, or no default route and no gateway; `--gateway {}=ADDRESS` sets one",
            link.name, link.name
        ))
    } else {
        None
    }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load { pins } => write!(out, "load the programs, pinned below {pins}"),
            Self::Change(change) => change.fmt(out),
            Self::Attach { link, side, device } => {
                let [(ingress, _), (egress, _)] = side.programs();
                let takes = device.shortcuts & TAKES != 0;
                let shortcut = if takes { format!("{} and ", program::SHORTCUT) } else { String::new() };
                write!(out, "attach {shortcut}{ingress} to ingress and {egress} to egress of {}", link.name)?;
                if device.shortcuts & XDP != 0 {
                    write!(out, ", {} to its driver", program::SHORTCUT_XDP)?;
                }
                Ok(())
            }
        }
    }
}
