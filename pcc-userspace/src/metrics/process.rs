//! What the controller itself takes, and what the kernel says of conntrack. Everything here costs microseconds.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::host::sysctl;

/// What a process takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Time of a processor so far.
    pub busy: Duration,
    /// Resident memory in bytes.
    pub resident: u64,
    /// Open file descriptors.
    pub files: u64,
}

impl Process {
    /// Reads that of this process; what cannot be read is 0.
    pub fn read() -> Self {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let part = |number: i64| u64::try_from(number).unwrap_or(0);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            busy: Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec)),
            resident: resident(&status).unwrap_or(0),
            files: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
        }
    }
}

/// Bytes of the line `VmRSS`, which counts kilobytes.
fn resident(status: &str) -> Option<u64> {
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(kilobytes.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Release of the running kernel.
pub fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Connections that conntrack holds, and those that it may hold; `None` where it is not there.
pub fn conntrack() -> Option<(u64, u64)> {
    let number = |name: &str| sysctl::read(&format!("net/netfilter/nf_conntrack_{name}")).ok()??.parse().ok();
    Some((number("count")?, number("max")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_something() {
        let Process { busy, resident, files } = Process::read();
        assert!(busy > Duration::ZERO && resident > 100_000 && files > 0);
        assert_eq!(super::resident("VmPeak:\t 9 kB\nVmRSS:\t   12 kB\n"), Some(12 * 1024));
        assert_eq!(super::resident("VmRSS:"), None);
    }
}
