//! What a running instance tells monitoring systems: [OpenMetrics], or the text format of Prometheus, by HTTP and on the
//! control socket.
//!
//! A scrape neither walks a map of connections nor conntrack: counters are read where the programs keep them, and connections are
//! [counted beside the loop](counting).
//!
//! [OpenMetrics]: https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::events::Teller;
use counting::{Counted, Counting};
use process::Process;

pub use endpoint::Endpoint;

mod accept;
mod common;
pub mod counting;
mod endpoint;
mod http;
pub mod mirror;
pub mod native;
pub mod process;
mod text;

/// How metrics are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
pub enum Format {
    /// OpenMetrics 1.0.0.
    #[default]
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus.
    Prometheus,
}

impl Format {
    /// What a `Content-Type` says.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// What every kind of instance tells besides its status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// Release of the kernel.
    pub kernel: String,
    /// What the controller takes.
    pub process: Process,
    /// When it started.
    pub started: Option<SystemTime>,
    /// Events that listeners were too slow for.
    pub events_lost: u64,
    /// Connections of all kinds that conntrack holds, and may hold at most.
    pub conntrack: Option<(u64, u64)>,
    /// Entries that the flow cache has room for.
    pub flow_entries: u32,
    /// Connections by our bits of the mark, once they were counted.
    pub counted: Option<Counted>,
}

/// What a controller keeps for its metrics.
#[derive(Debug)]
pub struct Metrics {
    /// Where they are served.
    pub endpoint: Endpoint,
    /// What `status` says of connections comes from it, too.
    pub counting: Counting,
    started: SystemTime,
}

impl Metrics {
    /// Of a controller that starts now.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, counting: Counting::default(), started: SystemTime::now() }
    }

    /// Looks around, and has connections counted by `marks`, see [`Counting::latest`], if it is time to.
    pub fn look(&self, teller: &Teller, flow_entries: Option<u32>, marks: (u32, u32)) -> Surroundings {
        Surroundings {
            kernel: process::kernel(),
            process: Process::read(),
            started: Some(self.started),
            events_lost: teller.lost(),
            conntrack: process::conntrack(),
            flow_entries: flow_entries.unwrap_or(0),
            counted: self.counting.latest(marks),
        }
    }
}
