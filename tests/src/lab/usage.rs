//! What a process takes.

use std::fs;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;

/// What a process has taken so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Time of a processor, in user mode and in the kernel.
    pub busy: Duration,
    /// Memory that is resident, in bytes.
    pub resident: u64,
    /// Open file descriptors.
    pub files: usize,
}

impl Usage {
    /// Reads `/proc/<pid>`.
    ///
    /// # Panics
    /// When there is no such process.
    pub fn of(pid: u32) -> Self {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
        };
        let stat = read("stat");
        // The name in parentheses may contain anything; utime and stime are fields 14 and 15, the first behind it is 3.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        let status = read("status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
        Self {
            busy: Duration::from_millis(ticks * 1000 / clock_ticks_per_second()),
            resident: resident.and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) * 1024,
            files: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count),
        }
    }
}
