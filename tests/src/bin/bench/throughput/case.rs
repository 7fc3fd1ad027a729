//! What is measured.

use std::fmt;

use serde::{Deserialize, Serialize};

/// IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Family {
    #[serde(rename = "IPv4")]
    V4,
    #[serde(rename = "IPv6")]
    V6,
}

/// So many connections tables of the usual size have room for, and candidates need not forget.
pub const FEW: u32 = 1_000;

/// Packets of established connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Packets {
    pub family: Family,
    /// Bytes of a frame, without its check sequence.
    pub size: u32,
    /// Connections, whose packets come in turn.
    pub flows: u32,
}

/// One line of a report: something to be measured for every candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    /// Nanoseconds a packet, the generator's included.
    Packets(Packets),
    /// New connections a second.
    Connections(Family),
    /// Gbit/s of TCP in so many streams.
    Bulk { streams: u32, offloads: bool },
}

impl Case {
    /// 64 bytes, a thousand flows.
    pub const fn small(family: Family) -> Self {
        Self::Packets(Packets { family, size: 64, flows: 1_000 })
    }

    /// 64 bytes, a million flows.
    pub const fn many(family: Family) -> Self {
        Self::Packets(Packets { family, size: 64, flows: 1_000_000 })
    }

    /// Whether so many connections are known at once that pcc and the kernel need larger tables than they usually have.
    pub fn is_large(self) -> bool {
        matches!(self, Self::Packets(Packets { flows, .. }) if flows > FEW)
    }

    /// What its figures count.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Packets(_) => "ns a packet",
            Self::Connections(_) => "new connections a second",
            Self::Bulk { .. } => "Gbit/s",
        }
    }

    /// Whether a smaller figure is the better one.
    pub fn is_cost(self) -> bool {
        matches!(self, Self::Packets(_))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packets(Packets { family, size, flows }) => {
                let flows = match flows {
                    0..1_000_000 => format!("{}k", flows / 1_000),
                    _ => format!("{}M", flows / 1_000_000),
                };
                write!(out, "{family}, {size} bytes, {flows} flows")
            }
            Self::Connections(family) => write!(out, "{family}, new connections"),
            Self::Bulk { streams, offloads } => {
                let streams = if *streams == 1 { "1 TCP stream".to_owned() } else { format!("{streams} TCP streams") };
                write!(out, "{streams}, offloads {}", if *offloads { "on" } else { "off" })
            }
        }
    }
}
