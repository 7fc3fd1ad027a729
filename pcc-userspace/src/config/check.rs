//! [`Draft`] → [`Config`]: the rules that need no host. All problems are collected, so that one run shows them all.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use pcc_ebpf::abi::MarkLayout;

use super::file::{At, Draft, Place, Source};
use super::{Base, Config, FastPath, Listen};
use crate::problem::Problem;

mod rule;
mod target;
mod uplink;

/// Routing tables and rule priorities of one instance are this many in a row.
pub const RANGE: u32 = 100;
/// The kernel's priority of the rule that looks up main.
const PRIORITY_MAIN: u32 = 32_766;
/// `IFNAMSIZ` without the terminating zero.
const DEVICE_LENGTH: usize = 15;
const NAME_LENGTH: usize = 32;

/// Checks `draft`; `source` is the file that it came from and names lines in messages.
pub fn check(draft: &Draft, source: Source<'_>) -> Result<Config, Vec<Problem>> {
    let mut checker = Checker { source, problems: Vec::new() };
    let marks = checker.marks(draft.mark_mask.as_ref());
    let Base { instance, seed, flow_entries, table_base, priority_base, metrics } = checker.base(draft);
    let uplinks = checker.uplinks(&draft.uplink, marks);
    let lans = checker.lans(draft);
    let hash = checker.hash(draft.hash.as_ref());
    let bypass = checker.bypass(draft);
    let rules = checker.rules(draft, &uplinks, hash);
    let hook = checker.hook(draft);
    let fast_path = checker.word(draft.fast_path.as_ref(), "fast_path", &FastPath::WORDS);
    let shortcut_entries = checker.entries(draft.shortcut_entries.as_ref(), "shortcut_entries");
    let config = Config {
        instance,
        uplinks,
        lans,
        hash,
        seed,
        marks: marks.unwrap_or(MarkLayout::DEFAULT),
        bypass,
        flow_entries,
        table_base,
        priority_base,
        rules,
        balance_router: draft.balance_router.as_ref().is_some_and(|at| at.value),
        hook,
        fast_path,
        shortcut_entries,
        metrics,
    };
    if checker.problems.is_empty() { Ok(config) } else { Err(checker.problems) }
}

/// Checks what every kind of configuration has, as [`check`] does.
pub fn base(draft: &Draft, source: Source<'_>) -> Result<Base, Vec<Problem>> {
    let mut checker = Checker { source, problems: Vec::new() };
    let base = checker.base(draft);
    if checker.problems.is_empty() { Ok(base) } else { Err(checker.problems) }
}

struct Checker<'a> {
    source: Source<'a>,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn refuse(&mut self, place: Place, key: &str, what: impl fmt::Display, hint: impl Into<String>) {
        let message = format!("{}: {what}", self.source.locate(place, key));
        // What was written may hold anything, and a message is one line.
        let message = message.replace(|character: char| character.is_control(), "\u{fffd}");
        self.problems.push(Problem::new(message, hint));
    }

    fn base(&mut self, draft: &Draft) -> Base {
        Base {
            instance: self.instance(draft.instance.as_ref()),
            seed: self.number(draft.seed.as_ref(), "seed", 0..=u32::MAX),
            flow_entries: self.entries(draft.flow_entries.as_ref(), "flow_entries"),
            table_base: self.table_base(draft.table_base.as_ref()),
            priority_base: self
                .number(draft.rule_priority.as_ref(), "rule_priority", 1..=PRIORITY_MAIN - RANGE)
                .unwrap_or(Config::PRIORITY_BASE),
            metrics: self.metrics(draft.metrics.as_ref()),
        }
    }

    /// Entries of a map.
    fn entries(&mut self, at: Option<&At<i64>>, key: &str) -> Option<u32> {
        self.number(at, key, 64..=1 << 24)
    }

    fn number(&mut self, at: Option<&At<i64>>, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let At { value, place } = at?;
        let number = u32::try_from(*value).ok().filter(|number| range.contains(number));
        if number.is_none() {
            let (first, last) = range.into_inner();
            self.refuse(*place, key, format_args!("`{value}` is out of range"), format!("{first} to {last}"));
        }
        number
    }

    fn hook(&mut self, draft: &Draft) -> Vec<String> {
        let Some(At { value, place }) = &draft.hook else { return Vec::new() };
        let command = value.as_slice();
        if command.first().is_none_or(String::is_empty) {
            self.refuse(*place, "hook", "no program", "a program with its arguments: `[\"/etc/pcc/notify\"]`");
        }
        command.to_vec()
    }

    fn metrics(&mut self, at: Option<&At<String>>) -> Option<Listen> {
        let At { value, place } = at?;
        let listen = value.parse().ok();
        if listen.is_none() {
            self.refuse(*place, "metrics", format_args!("nobody can listen at `{value}`"), Listen::HINT);
        }
        listen
    }

    fn instance(&mut self, at: Option<&At<String>>) -> String {
        let Some(At { value, place }) = at else { return Config::INSTANCE.to_owned() };
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        if !(1..=NAME_LENGTH).contains(&value.len()) || !value.bytes().all(good) {
            let hint = format!("1 to {NAME_LENGTH} of a-z, 0-9, `_` and `-`");
            self.refuse(*place, "instance", format_args!("`{value}` cannot name an instance"), hint);
        }
        value.clone()
    }

    fn marks(&mut self, at: Option<&At<i64>>) -> Option<MarkLayout> {
        let Some(At { value, place }) = at else { return Some(MarkLayout::DEFAULT) };
        let layout = u32::try_from(*value).ok().and_then(MarkLayout::new);
        if layout.is_none() {
            let hint = "4 to 9 adjacent bits, such as `0xff` or `0xff0000`; 5 bits make room for 3 uplinks, 8 for 31";
            self.refuse(*place, "mark_mask", format_args!("`{value:#x}` cannot hold the marks"), hint);
        }
        layout
    }

    fn table_base(&mut self, at: Option<&At<i64>>) -> u32 {
        let Some(base) = self.number(at, "table_base", 1..=u32::MAX - RANGE) else { return Config::TABLE_BASE };
        if let Some(At { place, .. }) = at
            && (253..=255).any(|reserved| (base..base + RANGE).contains(&reserved))
        {
            let what = format!("the {RANGE} tables from `{base}` include the kernel's 253 to 255");
            self.refuse(*place, "table_base", what, "choose 256 or more");
        }
        base
    }

    fn lans(&mut self, draft: &Draft) -> Vec<String> {
        if draft.lan.is_empty() {
            self.problems
                .push(Problem::new("no LAN device", "name one: `--lan eth2`, or `lan = [\"eth2\"]` in the file"));
        }
        let mut seen = HashSet::new();
        for at in &draft.lan {
            let device = at.value.as_str();
            self.device(at, "lan");
            if !seen.insert(device) {
                self.refuse(at.place, "lan", format_args!("`{device}` is there twice"), "name each device once");
            }
            if draft.uplink.iter().any(|uplink| uplink.device.value == device) {
                let what = format!("`{device}` is an uplink too");
                self.refuse(at.place, "lan", what, "a device leads either to the LAN or to an ISP");
            }
        }
        draft.lan.iter().map(|at| at.value.clone()).collect()
    }

    fn device(&mut self, at: &At<String>, key: &str) {
        let device = at.value.as_str();
        let what = if device.is_empty() {
            "a device name is empty".to_owned()
        } else if device.len() > DEVICE_LENGTH {
            format!("`{device}` is longer than the {DEVICE_LENGTH} bytes of a device name")
        } else if !device.bytes().all(is_plain) || [".", "..", "all", "default", "lo"].contains(&device) {
            format!("`{device}` cannot be a device here")
        } else {
            return;
        };
        self.refuse(
            at.place,
            key,
            what,
            "`ip -brief link` lists the devices; letters, digits, `.`, `_` and `-` are allowed",
        );
    }

    fn bypass(&mut self, draft: &Draft) -> Vec<IpNet> {
        let prefixes: Vec<_> = draft
            .bypass
            .iter()
            .filter_map(|at| Some((self.prefix(&at.value, at.place, "bypass")?, at.place)))
            .collect();
        for at in draft.uplink.iter().flat_map(|uplink| [&uplink.gateway, &uplink.gateway6]).flatten() {
            let Ok(gateway) = at.value.parse::<IpAddr>() else { continue };
            if let Some((prefix, place)) = prefixes.iter().find(|(prefix, _)| prefix.contains(&gateway)) {
                let what = format!("`{prefix}` covers the gateway `{gateway}`");
                self.refuse(*place, "bypass", what, "networks that are directly connected are never balanced anyway");
            }
        }
        let merged = IpNet::aggregate(&prefixes.iter().map(|(prefix, _)| *prefix).collect());
        for whole in merged.iter().filter(|prefix| prefix.prefix_len() == 0) {
            if let Some((_, place)) = prefixes.iter().find(|(prefix, _)| whole.contains(prefix)) {
                let what = format!("the prefixes cover all of `{whole}`, so nothing would be balanced");
                self.refuse(*place, "bypass", what, "name the destinations that must not be balanced, no more");
            }
        }
        merged
    }

    /// A prefix, or an address as a prefix of its whole length.
    fn prefix(&mut self, text: &str, place: Place, key: &str) -> Option<IpNet> {
        let Some(prefix) = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)) else {
            let what = format!("`{text}` is no prefix");
            self.refuse(place, key, what, "such as `10.0.0.0/8`, `2001:db8::/32` or `192.0.2.7`");
            return None;
        };
        let network = prefix.trunc();
        if network != prefix {
            let hint = format!("`{network}` is the network, `{}` the single address", IpNet::from(prefix.addr()));
            self.refuse(place, key, format_args!("`{prefix}` has bits behind its prefix length"), hint);
        }
        Some(network)
    }
}

/// Bytes that mean nothing to nft, sysctl paths, file names and shells.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}
