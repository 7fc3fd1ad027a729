//! The `[[uplink]]` tables.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use pcc_ebpf::abi::{MAX_UPLINK, MarkLayout};

use super::super::file::{At, CheckDraft, DegradedDraft, Place, TargetDraft, UplinkDraft, Word};
use super::super::{Check, Degraded, FailBack, Mss, Nat, OnDown, Target, Uplink};
use super::target::{self, is_host};
use super::{Checker, NAME_LENGTH, is_plain};
use crate::host::Family;
use crate::problem::Problem;

const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(3600);
/// What every IPv4 host takes, and what the largest IPv4 packet has room for.
const MSS: RangeInclusive<u32> = 536..=65_495;
const LATENCY: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
const HOLD_DOWN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);
const DRAIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
const NAT: [(&str, Nat); 2] = [("masquerade", Nat::Masquerade), ("none", Nat::None)];
const ON_DOWN: [(&str, OnDown); 2] = [("release", OnDown::Release), ("keep", OnDown::Keep)];
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);

impl Checker<'_> {
    pub(super) fn uplinks(&mut self, drafts: &[UplinkDraft], marks: Option<MarkLayout>) -> Vec<Uplink> {
        let room = marks.map_or(MAX_UPLINK, MarkLayout::max_id);
        let Some(first) = drafts.first() else {
            let hint = "name them: `--wan eth0,eth1`, or `[[uplink]]` with `device = \"eth0\"` in the file";
            self.problems.push(Problem::new("no uplink", hint));
            return Vec::new();
        };
        if drafts.len() > room as usize {
            let what = format!("{} uplinks, but the mark mask has room for {room}", drafts.len());
            self.refuse(first.device.place, "device", what, "use a wider `mark_mask`, or fewer uplinks");
        }
        let uplinks: Vec<_> = drafts.iter().map(|draft| self.uplink(draft, room)).collect();
        if uplinks.iter().all(|uplink| uplink.weight == 0) {
            let place = first.weight.as_ref().map_or(first.device.place, |at| at.place);
            self.refuse(place, "weight", "all weights are 0", "give at least one uplink a weight of 1 or more");
        }
        for (index, (draft, uplink)) in drafts.iter().zip(&uplinks).enumerate() {
            let (before, after) = (&uplinks[..index], uplinks.get(index + 1..).unwrap_or_default());
            if before.iter().any(|other| other.device == uplink.device) {
                let what = format!("uplink `{}` is there twice", uplink.device);
                self.refuse(draft.device.place, "device", what, "name each device once");
            } else if let Some(at) = &draft.name
                && (before.iter().any(|other| other.name == uplink.name)
                    || before.iter().chain(after).any(|other| other.device == uplink.name))
            {
                let what = format!("`{}` names another uplink", uplink.name);
                self.refuse(at.place, "name", what, "give each uplink a name of its own");
            }
            if let Some(at) = &draft.id
                && before.iter().any(|other| other.id.is_some() && other.id == uplink.id)
            {
                let what = format!("`{}` is the id of another uplink", at.value);
                self.refuse(at.place, "id", what, "ids are unique; without one an uplink gets a free one");
            }
        }
        uplinks
    }

    fn uplink(&mut self, draft: &UplinkDraft, room: u32) -> Uplink {
        self.device(&draft.device, "device");
        let gateway4 = draft.gateway.as_ref().and_then(|at| self.gateway(at, "gateway", ipv4));
        let gateway6 = draft.gateway6.as_ref().and_then(|at| self.gateway(at, "gateway6", ipv6));
        Uplink {
            name: self.name(draft),
            device: draft.device.value.clone(),
            weight: self.number(draft.weight.as_ref(), "weight", 0..=Uplink::MAX_WEIGHT).unwrap_or(Uplink::WEIGHT),
            id: self.number(draft.id.as_ref(), "id", 1..=room),
            gateway4,
            gateway6,
            nat: self.word(draft.nat.as_ref(), "nat", &NAT),
            mss: draft.mss.as_ref().and_then(|at| self.mss(at)),
            tier: self.number(draft.tier.as_ref(), "tier", 1..=255).unwrap_or(Uplink::TIER),
            on_down: self.word(draft.on_down.as_ref(), "on_down", &ON_DOWN),
            reset_clients: draft.reset_clients.as_ref().is_some_and(|at| at.value),
            fail_back: self.fail_back(draft.fail_back.as_ref()),
            degraded: self.degraded(&draft.degraded),
            check: self.health_check(&draft.check),
        }
    }

    /// One of the words in `words`, else the default.
    pub(super) fn word<T: Copy + Default>(&mut self, at: Option<&At<String>>, key: &str, words: &[(&str, T)]) -> T {
        let Some(At { value, place }) = at else { return T::default() };
        let found = words.iter().find(|(word, _)| word == value);
        if found.is_none() {
            let choice: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            self.refuse(*place, key, format_args!("`{value}` is none of its words"), choice.join(" or "));
        }
        found.map_or_else(T::default, |(_, meaning)| *meaning)
    }

    fn fail_back(&mut self, at: Option<&At<String>>) -> FailBack {
        match at.map(|at| at.value.as_str()) {
            None | Some("keep") => FailBack::Keep,
            Some("move") => FailBack::Move,
            Some(_) => self.duration(at, "fail_back", DRAIN).map_or_else(FailBack::default, FailBack::Drain),
        }
    }

    fn degraded(&mut self, draft: &DegradedDraft) -> Degraded {
        let default = Degraded::default();
        Degraded {
            loss: self.number(draft.loss.as_ref(), "loss", 1..=100).unwrap_or(default.loss),
            latency: self.duration(draft.latency.as_ref(), "latency", LATENCY),
            jitter: self.duration(draft.jitter.as_ref(), "jitter", LATENCY),
            weight: self.number(draft.weight.as_ref(), "weight", 0..=100).unwrap_or(default.weight),
        }
    }

    fn name(&mut self, draft: &UplinkDraft) -> String {
        let Some(At { value, place }) = &draft.name else { return draft.device.value.clone() };
        if !(1..=NAME_LENGTH).contains(&value.len()) || !value.bytes().all(is_plain) {
            let what = format!("`{value}` cannot name an uplink");
            self.refuse(*place, "name", what, format!("1 to {NAME_LENGTH} of letters, digits, `.`, `_` and `-`"));
        }
        value.clone()
    }

    fn mss(&mut self, at: &At<Word>) -> Option<Mss> {
        let At { value: Word(text), place } = at;
        if text == "clamp" {
            return Some(Mss::Clamp);
        }
        let number = text.parse().ok().filter(|number| MSS.contains(number));
        if number.is_none() {
            let (first, last) = MSS.into_inner();
            let hint = format!("`clamp` for what the MTU has room for, or {first} to {last} bytes");
            self.refuse(*place, "mss", format_args!("`{text}` is no size of a TCP segment"), hint);
        }
        number.map(Mss::Bytes)
    }

    /// A next hop; `family` takes the addresses of the right one.
    fn gateway<A>(&mut self, at: &At<String>, key: &str, family: fn(IpAddr) -> Option<A>) -> Option<A> {
        let address = self.host_address(&at.value, at.place, key)?;
        let gateway = family(address);
        if gateway.is_none() {
            let what = format!("`{address}` is of the other IP family");
            self.refuse(at.place, key, what, "`gateway` is the IPv4 next hop, `gateway6` the IPv6 one");
        }
        gateway
    }

    fn host_address(&mut self, text: &str, place: Place, key: &str) -> Option<IpAddr> {
        let Ok(address) = text.parse::<IpAddr>() else {
            let hint = "such as `192.0.2.1` or `fe80::1`, without prefix length and device";
            self.refuse(place, key, format_args!("`{text}` is no IP address"), hint);
            return None;
        };
        let good = is_host(address);
        if !good {
            let what = format!("`{address}` is not the address of another host");
            self.refuse(place, key, what, "a unicast address is needed");
        }
        good.then_some(address)
    }

    fn health_check(&mut self, draft: &CheckDraft) -> Check {
        let default = Check::default();
        let targets = self.targets(draft);
        Check {
            quorum: self.quorum(draft, &targets),
            targets,
            interval: self.duration(draft.interval.as_ref(), "interval", INTERVAL).unwrap_or(default.interval),
            timeout: self.duration(draft.timeout.as_ref(), "timeout", TIMEOUT).unwrap_or(default.timeout),
            losses: self.number(draft.losses.as_ref(), "losses", 1..=100).unwrap_or(default.losses),
            answers: self.number(draft.answers.as_ref(), "answers", 1..=100).unwrap_or(default.answers),
            hold_down: self.duration(draft.hold_down.as_ref(), "hold_down", HOLD_DOWN).unwrap_or(default.hold_down),
        }
    }

    fn targets(&mut self, draft: &CheckDraft) -> Vec<Target> {
        let Some(At { value, place }) = &draft.target else { return Check::default().targets };
        let drafts = value.each(*place);
        if drafts.is_empty() {
            self.refuse(*place, "target", "no target", "`gateway`, `carrier`, or addresses");
        }
        if matches!(drafts[..], [(TargetDraft::Word(word), _)] if word == "carrier") {
            return Vec::new();
        }
        let mut targets = Vec::new();
        for (draft, place) in drafts {
            match target::parse(draft) {
                Ok(more) => {
                    for target in more {
                        if targets.contains(&target) {
                            let what = format!("`{target}` is there twice");
                            self.refuse(place, "target", what, "ask each target once");
                        }
                        targets.push(target);
                    }
                }
                Err(Problem { message, hint }) => self.refuse(place, "target", message, hint),
            }
        }
        targets
    }

    /// As many targets as must answer have to be there in one family at least.
    fn quorum(&mut self, draft: &CheckDraft, targets: &[Target]) -> u32 {
        let quorum = self.number(draft.quorum.as_ref(), "quorum", 1..=100).unwrap_or(Check::default().quorum);
        let asked = |family| targets.iter().filter(|target| target.family().is_none_or(|only| only == family)).count();
        let most = Family::BOTH.map(asked).into_iter().max().unwrap_or_default();
        // Without targets there is another mistake, or nothing to ask.
        if let Some(At { value, place }) = &draft.quorum
            && !targets.is_empty()
            && quorum as usize > most
        {
            let what = format!("`{value}` targets of a family must answer, but none has more than {most}");
            self.refuse(*place, "quorum", what, "name more targets, or lower it");
        }
        quorum
    }

    pub(super) fn duration(
        &mut self,
        at: Option<&At<String>>,
        key: &str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let At { value, place } = at?;
        let duration = humantime::parse_duration(value).ok();
        if duration.is_some_and(|duration| range.contains(&duration)) {
            return duration;
        }
        let [first, last] = [range.start(), range.end()].map(|limit| humantime::format_duration(*limit).to_string());
        let what = if duration.is_some() { "is out of range" } else { "is no duration" };
        let what = format!("`{value}` {what}");
        self.refuse(*place, key, what, format!("{first} to {last}, written as `400ms` or `2s`"));
        None
    }
}

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    if let IpAddr::V4(address) = address { Some(address) } else { None }
}

fn ipv6(address: IpAddr) -> Option<Ipv6Addr> {
    if let IpAddr::V6(address) = address { Some(address) } else { None }
}
