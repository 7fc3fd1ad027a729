//! Signs of life, which the controller's loop gives when they are due: they show how late the loop is.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Signs are due this often.
const SIGN: Duration = Duration::from_millis(20);
/// Fewer than these tell nothing.
const FEWEST: usize = 50;

/// Plays the service manager of one controller.
#[derive(Debug)]
pub struct Signs {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Signs {
    /// Listens.
    ///
    /// # Panics
    /// When there is no room for a socket.
    #[expect(clippy::new_without_default, reason = "it makes a socket")]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("a folder: {error}"));
        let socket = UnixDatagram::bind(address(&folder)).unwrap_or_else(|error| panic!("a socket: {error}"));
        Self { socket, folder }
    }

    /// What a controller has to be started with: for [`super::Lab::pcc_with`].
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let address = address(&self.folder).display().to_string();
        [("NOTIFY_SOCKET", address), ("WATCHDOG_USEC", (2 * SIGN).as_micros().to_string())]
    }

    /// How late signs of the controller with process id `pid` come from now on: 50, and more of them while `more`.
    ///
    /// # Panics
    /// When none comes for half a minute.
    pub fn lateness(&self, pid: u32, more: impl Fn() -> bool) -> Lateness {
        let result = (|| {
            // Those that waited.
            self.socket.set_nonblocking(true)?;
            while self.socket.recv(&mut [0; 256]).is_ok() {}
            self.socket.set_nonblocking(false)?;
            self.socket.set_read_timeout(Some(Duration::from_secs(30)))?;
            let mut signs = Vec::new();
            let (mut last, mut waited) = (Instant::now(), waited(pid));
            while signs.len() < FEWEST || more() {
                if self.is_sign()? {
                    let (now, waits) = (Instant::now(), self::waited(pid));
                    let late = (now - last).saturating_sub(SIGN);
                    signs.push((late, late.saturating_sub(waits.saturating_sub(waited))));
                    (last, waited) = (now, waits);
                }
            }
            Ok::<_, std::io::Error>(Lateness::new(signs))
        })();
        result.unwrap_or_else(|error| panic!("waiting for a sign of life: {error}"))
    }

    fn is_sign(&self) -> std::io::Result<bool> {
        let mut bytes = [0; 256];
        let length = match self.socket.recv(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            received => received?,
        };
        Ok(&bytes[..length] == b"WATCHDOG=1\n")
    }
}

fn address(folder: &TempDir) -> PathBuf {
    folder.path().join("notify")
}

/// For how long the threads that a sign goes through were ready to run, and had no processor: the controller's loop, its thread that
/// speaks, and who listens here.
fn waited(pid: u32) -> Duration {
    let of = |folder: &str| {
        let text = fs::read_to_string(format!("{folder}/schedstat")).unwrap_or_default();
        Duration::from_nanos(text.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0))
    };
    let tasks = format!("/proc/{pid}/task");
    let speaks = |task: &String| fs::read_to_string(format!("{task}/comm")).is_ok_and(|name| name.trim() == "notify");
    let threads = fs::read_dir(&tasks).into_iter().flatten().flatten();
    let speaker: Duration =
        threads.map(|task| task.path().display().to_string()).filter(speaks).map(|task| of(&task)).sum();
    of(&format!("{tasks}/{pid}")) + speaker + of("/proc/thread-self")
}

/// How late signs of life came.
#[derive(Clone, Debug)]
pub struct Lateness {
    /// Sorted.
    all: Vec<Duration>,
    /// Without the time for which the machine had no processor for them, sorted.
    own: Vec<Duration>,
}

impl Lateness {
    fn new(signs: Vec<(Duration, Duration)>) -> Self {
        let (mut all, mut own): (Vec<_>, Vec<_>) = signs.into_iter().unzip();
        all.sort_unstable();
        own.sort_unstable();
        Self { all, own }
    }

    /// So many signs came.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// So many percent of them were no later than this.
    pub fn at(&self, percent: usize) -> Duration {
        at(&self.all, percent)
    }

    /// The same, but for the time in which other threads had the processors of the machine.
    pub fn own(&self, percent: usize) -> Duration {
        at(&self.own, percent)
    }
}

impl fmt::Display for Lateness {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, most, worst] = [50, 95, 100].map(|percent| self.at(percent));
        let own = self.own(100);
        write!(out, "median {median:?}, 95 % {most:?}, worst {worst:?} of {}; ", self.count())?;
        write!(out, "but for waiting for a processor {own:?}")
    }
}

fn at(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
}
