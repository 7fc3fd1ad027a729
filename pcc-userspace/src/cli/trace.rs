//! `pcc trace`.

use std::io::Write as _;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use clap::Args;
use ipnet::IpNet;
use pcc_ebpf::abi::MarkLayout;

use super::{InstanceFlag, protocol};
use crate::config::Paths;
use crate::dataplane::Tracer;
use crate::host::linux::Linux;
use crate::host::{Host as _, Link};
use crate::journal::Journal;
use crate::problem::Problem;
use crate::trace::{Names, filter};

/// Reports are fetched this often.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Args, Debug)]
pub(super) struct Trace {
    /// Packets from and to this address or prefix of the LAN, also where they are translated.
    #[arg(long, value_name = "ADDRESS", value_parser = network, required_unless_present = "port")]
    client: Option<IpNet>,
    /// Packets from and to this port.
    #[arg(long)]
    port: Option<u16>,
    /// Packets of this protocol, by name or number.
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol)]
    proto: Option<u8>,
    /// End after so many seconds.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: InstanceFlag,
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| address()).map_err(|_| "such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/64".to_owned())
}

/// Prints packets as they pass. Without the process the programs are gone, so there is nothing to clean up.
pub(super) fn trace(flags: &Trace) -> Result<()> {
    let instance = &flags.instance.instance;
    let journal = Journal::load(&Paths::of(instance).run)?
        .ok_or_else(|| Problem::new(format!("instance `{instance}` does not run"), "`pcc run` starts it"))?;
    let observed = Linux::open()?.observe()?;
    let devices: Vec<&Link> = observed.links.iter().filter(|link| journal.devices.contains(&link.name)).collect();
    let names = Names {
        devices: devices.iter().map(|link| (link.index, link.name.clone())).collect(),
        uplinks: journal.ids.iter().map(|(name, id)| (*id, name.clone())).collect(),
        marks: if journal.mirror { None } else { MarkLayout::new(journal.mark_mask) },
        began: began(),
    };
    let mut tracer = Tracer::attach(&devices, filter(flags.client, flags.port, flags.proto))?;
    tracing::info!("tracing on {}", devices.iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(", "));
    let end = flags.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut out = std::io::stdout().lock();
    let mut lost = 0;
    while end.is_none_or(|end| Instant::now() < end) {
        sleep(PAUSE);
        for report in tracer.take() {
            let line = names.line(&report);
            if flags.json {
                writeln!(out, "{}", serde_json::to_string(&line)?)?;
            } else {
                writeln!(out, "{line}")?;
            }
        }
        out.flush()?;
        let all = tracer.lost()?;
        if all != lost {
            tracing::warn!("{} packets came too fast to be shown", all - lost);
            lost = all;
        }
    }
    Ok(())
}

/// When the monotonic clock began.
fn began() -> SystemTime {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let up = Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0));
    SystemTime::now() - up
}
