//! Who is compared.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use pcc_userspace::lease;
use serde::{Deserialize, Serialize};

/// A way for packets from the LAN to the uplinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Candidate {
    /// No way at all: the frames end at the router's LAN device.
    Generator,
    /// Forwarding without connection tracking, by one uplink.
    Plain,
    /// RouterOS's recipe in nftables.
    Nftables,
    /// What mwan3 does, by iptables.
    Iptables,
    /// One route with two next hops.
    Ecmp,
    /// pcc, every packet through the stack.
    PccOff,
    /// pcc, shortcuts at tc.
    PccTc,
    /// pcc, shortcuts at XDP.
    PccXdp,
    /// The floor: new link-layer addresses and a redirect, by XDP.
    Redirect,
}

impl Candidate {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 9] = [
        Self::Generator,
        Self::Plain,
        Self::Nftables,
        Self::Iptables,
        Self::Ecmp,
        Self::PccOff,
        Self::PccTc,
        Self::PccXdp,
        Self::Redirect,
    ];

    /// What `--fast-path` takes, where it is pcc.
    pub fn fast_path(self) -> Option<&'static str> {
        match self {
            Self::PccOff => Some("off"),
            Self::PccTc => Some("tc"),
            Self::PccXdp => Some("xdp"),
            _ => None,
        }
    }

    /// Whether it keeps track of connections, so that packets need one.
    pub fn tracks(self) -> bool {
        !matches!(self, Self::Generator | Self::Plain | Self::Redirect)
    }

    /// Rounds there and back until all of a connection's packets go the way that later ones go.
    pub fn warm_up(self) -> u32 {
        match self {
            Self::Generator | Self::Redirect => 0,
            Self::PccTc | Self::PccXdp => 6,
            _ => 2,
        }
    }

    /// How long figures of many connections are taken: so long that each of them has its packet through the stack as often as ever.
    pub fn lease(self) -> Duration {
        match self {
            Self::PccTc | Self::PccXdp => Duration::from_secs(u64::from(lease::LONG)),
            _ => Duration::ZERO,
        }
    }

    /// Whether sockets can talk by it: with checksums that the device shall fill in, or without.
    pub fn carries_sockets(self, offloads: bool) -> bool {
        match self {
            Self::Generator | Self::Redirect => false,
            // On veth, frames with a checksum that nobody has filled in would leave as they are.
            Self::PccXdp => !offloads,
            _ => true,
        }
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Generator => "generator alone",
            Self::Plain => "plain forwarding",
            Self::Nftables => "nftables PCC recipe",
            Self::Iptables => "iptables, as mwan3 does",
            Self::Ecmp => "kernel ECMP",
            Self::PccOff => "pcc, fast path off",
            Self::PccTc => "pcc, fast path tc",
            Self::PccXdp => "pcc, fast path XDP",
            Self::Redirect => "bare XDP redirect",
        })
    }
}
