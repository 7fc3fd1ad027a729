//! Pure: which pairs of devices use which kind of shortcut, and why.

use std::collections::BTreeMap;
use std::fmt;

use pcc_ebpf::abi::device::{FRAMES, GIVES, TAKES, XDP};
use serde::{Deserialize, Serialize};

use crate::config::FastPath;
use crate::host::Link;
use crate::host::device::{Facts, xdp};
use crate::lease::{self, Lease};

/// How packets of established connections go from one device to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// By the driver of the device that they come in by.
    Xdp,
    /// Before the stack, through the queues of the device that they leave by.
    Tc,
    /// Through the stack.
    Stack,
}

/// Two devices in the direction in which packets go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Packets come in by this device,
    pub from: String,
    /// and leave by this one.
    pub to: String,
    /// How.
    pub way: Way,
    /// Why, in words.
    pub reason: String,
}

/// What holds for an instance as long as nothing changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Bits of [`pcc_ebpf::abi::device`] by interface index; devices that are not there have none.
    pub bits: BTreeMap<u32, u32>,
    /// From each LAN device to each uplink, and back.
    pub pairs: Vec<Pair>,
}

impl Choice {
    /// The bits of a device.
    pub fn of(&self, ifindex: u32) -> u32 {
        self.bits.get(&ifindex).copied().unwrap_or(0)
    }
}

/// What is known apart from the devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// What the host's firewall allows.
    pub lease: Lease,
    /// Devices, by interface index, where the kernel refused to run XDP, with its words.
    pub refused: BTreeMap<u32, String>,
}

impl Default for Circumstances {
    /// Of a host that nothing is known of yet.
    fn default() -> Self {
        let lease = Lease { seconds: lease::LONG, reason: "all of the firewall tells of its changes".to_owned() };
        Self { lease, refused: BTreeMap::new() }
    }
}

/// Chooses for the devices of both sides. A device without `facts` is one that nothing is known of.
pub fn choose(
    mode: FastPath,
    lans: &[&Link],
    uplinks: &[&Link],
    facts: &BTreeMap<u32, Facts>,
    circumstances: &Circumstances,
) -> Choice {
    let chooser = Chooser { mode, facts, circumstances };
    let mut choice = Choice::default();
    for (side, others) in [(lans, uplinks), (uplinks, lans)] {
        for from in side {
            if let Some(bits) = chooser.bits(from, others) {
                choice.bits.insert(from.index, bits);
            }
            choice.pairs.extend(others.iter().map(|to| chooser.pair(from, to)));
        }
    }
    choice
}

struct Chooser<'a> {
    mode: FastPath,
    facts: &'a BTreeMap<u32, Facts>,
    circumstances: &'a Circumstances,
}

impl Chooser<'_> {
    /// `None` where there are no shortcuts at all.
    fn bits(&self, link: &Link, others: &[&Link]) -> Option<u32> {
        if self.veto().is_some() {
            return None;
        }
        let takes = self.takes(link).is_none();
        // Some drivers send redirected frames only while a program runs on them.
        let may_send = |other: &&Link| match self.sends_frames(other) {
            None => true,
            Some(Obstacle::NoTransmit(_)) => self.runs(other).is_none(),
            Some(_) => false,
        };
        let runs = takes && self.runs(link).is_none() && others.iter().any(may_send);
        let bits = [(TAKES, takes), (GIVES, true), (FRAMES, self.sends_frames(link).is_none()), (XDP, runs)];
        Some(bits.into_iter().filter(|(_, has)| *has).map(|(bit, _)| bit).sum())
    }

    fn pair(&self, from: &Link, to: &Link) -> Pair {
        let (way, reason) = match self.veto().or_else(|| self.takes(from)) {
            Some(obstacle) => (Way::Stack, obstacle.to_string()),
            None => match self.forbids(to).or_else(|| self.runs(from)).or_else(|| self.sends_frames(to)) {
                Some(obstacle) => (Way::Tc, obstacle.to_string()),
                None if self.mode == FastPath::Xdp => (Way::Xdp, "--fast-path xdp".to_owned()),
                None => {
                    let (from, to) = (&from.name, &to.name);
                    (Way::Xdp, format!("the drivers of {from} and {to} can, and nothing shapes {to}"))
                }
            },
        };
        Pair { from: from.name.clone(), to: to.name.clone(), way, reason }
    }

    /// What keeps all packets in the stack.
    fn veto(&self) -> Option<Obstacle<'_>> {
        if self.mode == FastPath::Off {
            return Some(Obstacle::Mode(self.mode));
        }
        let Lease { seconds, reason } = &self.circumstances.lease;
        (*seconds == 0).then_some(Obstacle::Veto(reason))
    }

    /// What keeps the packets that come in by `link` in the stack.
    fn takes<'a>(&'a self, link: &'a Link) -> Option<Obstacle<'a>> {
        let kind = self.facts.get(&link.index)?.ingress.as_deref()?;
        Some(Obstacle::Ingress(&link.name, kind))
    }

    /// What keeps the XDP program from `link`.
    fn runs<'a>(&'a self, link: &'a Link) -> Option<Obstacle<'a>> {
        const NEEDED: u64 = xdp::BASIC | xdp::REDIRECT;
        let name = link.name.as_str();
        self.excluded(link).or_else(|| match self.features(link) {
            None => Some(Obstacle::Silent(name, "runs XDP programs")),
            Some(features) if features & NEEDED != NEEDED => Some(Obstacle::NotNative(name)),
            Some(_) => {
                let refusal = self.circumstances.refused.get(&link.index);
                refusal.map(|words| Obstacle::Refused(name, words))
            }
        })
    }

    /// What the administrator put on `link` that XDP would go around.
    fn forbids<'a>(&'a self, link: &'a Link) -> Option<Obstacle<'a>> {
        let (name, facts) = (link.name.as_str(), self.facts.get(&link.index)?);
        if self.mode == FastPath::Tc {
            return None;
        }
        let shaper = facts.shaper.as_deref().map(|kind| Obstacle::Shaper(name, kind));
        shaper.or_else(|| facts.egress.as_deref().map(|kind| Obstacle::Egress(name, kind)))
    }

    /// What keeps XDP from redirecting frames to `link`.
    fn sends_frames<'a>(&'a self, link: &'a Link) -> Option<Obstacle<'a>> {
        let name = link.name.as_str();
        self.forbids(link).or_else(|| self.excluded(link)).or_else(|| match self.features(link) {
            None => Some(Obstacle::Silent(name, "can send redirected frames")),
            Some(features) if features & xdp::TRANSMIT == 0 => Some(Obstacle::NoTransmit(name)),
            Some(_) => None,
        })
    }

    /// What excludes `link` from XDP in either direction.
    fn excluded<'a>(&self, link: &'a Link) -> Option<Obstacle<'a>> {
        match (&link.kind, self.mode) {
            (_, FastPath::Tc | FastPath::Off) => Some(Obstacle::Mode(self.mode)),
            _ if !link.ethernet => Some(Obstacle::NoEthernet(&link.name)),
            (Some(kind), FastPath::Auto) => Some(Obstacle::Virtual(&link.name, kind)),
            _ => None,
        }
    }

    fn features(&self, link: &Link) -> Option<u64> {
        self.facts.get(&link.index)?.xdp
    }
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Obstacle<'a> {
    Mode(FastPath),
    Veto(&'a str),
    Ingress(&'a str, &'a str),
    NoEthernet(&'a str),
    Virtual(&'a str, &'a str),
    Silent(&'a str, &'a str),
    NotNative(&'a str),
    Refused(&'a str, &'a str),
    Shaper(&'a str, &'a str),
    Egress(&'a str, &'a str),
    NoTransmit(&'a str),
}

impl fmt::Display for Obstacle<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mode(mode) => write!(out, "--fast-path {}", mode.word()),
            Self::Veto(reason) => out.write_str(reason),
            Self::Ingress(device, kind) => {
                write!(out, "{device} has filters at ingress ({kind}), which shape or inspect each packet")
            }
            Self::NoEthernet(device) => write!(out, "{device} has no Ethernet header"),
            Self::Virtual(device, kind) => {
                write!(out, "{device} is {} {kind}, which is faster without XDP", article(kind))
            }
            Self::Silent(device, what) => {
                write!(out, "the kernel does not tell whether {device} {what} (Linux 6.3 does)")
            }
            Self::NotNative(device) => write!(out, "the driver of {device} does not run XDP programs that redirect"),
            Self::Refused(device, words) => write!(out, "the kernel refused XDP on {device}: {words}"),
            Self::Shaper(device, kind) => write!(out, "{kind} shapes {device}, and XDP would go around it"),
            Self::Egress(device, kind) => {
                write!(out, "{device} has filters at egress ({kind}), and XDP would go around them")
            }
            Self::NoTransmit(device) => write!(out, "the driver of {device} does not send redirected frames"),
        }
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" }
}

#[cfg(test)]
#[path = "fast_path_tests.rs"]
mod tests;
