//! Network namespaces as values.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{panic, thread};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A named network namespace with `lo` up, as `ip netns` shows it. Dropping it kills the processes in it and deletes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: File,
}

impl Namespace {
    /// Makes the namespace `name`.
    ///
    /// # Panics
    /// Where the machine does not allow it, or the name is taken.
    #[must_use]
    pub fn new(name: &str) -> Self {
        succeed(Command::new("ip").args(["netns", "add", name]), "");
        let namespace = Self::open(name).unwrap_or_else(|error| panic!("opening namespace `{name}`: {error}"));
        namespace.exec("ip", ["link", "set", "lo", "up"]);
        namespace
    }

    /// Removes the namespaces that killed runs left behind, with the processes in them.
    pub(super) fn sweep() {
        for path in abandoned(Path::new("/run/netns")) {
            drop(path.file_name().and_then(OsStr::to_str).map(Self::open));
        }
    }

    /// The name that `ip netns` shows.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that `nsenter --net=` takes.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Runs `work` on a thread inside the namespace. Only the network changes: `/sys/fs/bpf` stays, `/proc/sys/net`
    /// follows. Sockets made there belong to the namespace for good, whoever uses them. Panics of `work` go on.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(self.handle.as_fd(), Some(LinkNameSpaceType::Network))
                    .unwrap_or_else(|error| panic!("entering namespace `{}`: {error}", self.name));
                work()
            });
            inside.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
        })
    }

    /// A command that will run inside. Its process id is that of `program` itself.
    pub fn command<S: AsRef<OsStr>>(&self, program: impl AsRef<OsStr>, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program).args(args);
        command
    }

    /// Runs a command inside and returns its standard output.
    ///
    /// # Panics
    /// With the command and its stderr, when it fails.
    pub fn exec<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> String {
        succeed(&mut self.command(program, args), "")
    }

    /// Runs `ip` inside with `args` separated by spaces. Panics as [`Self::exec`].
    pub fn ip(&self, args: &str) -> String {
        self.exec("ip", args.split_whitespace())
    }

    /// Runs the lines of `script` by one `ip -batch` inside. Panics as [`Self::exec`].
    pub fn ip_batch(&self, script: &str) {
        succeed(&mut self.command("ip", ["-batch", "-"]), script);
    }

    /// Gives `script` to `nft -f -` inside. Panics as [`Self::exec`].
    pub fn nft(&self, script: &str) {
        succeed(&mut self.command("nft", ["-f", "-"]), script);
    }

    /// Runs `program` inside with `script` as its standard input. Panics as [`Self::exec`].
    pub fn feed(&self, program: &str, args: &[&str], script: &str) -> String {
        succeed(&mut self.command(program, args), script)
    }

    /// The value of `/proc/sys/<key>` inside, without its line end. `key` is written with slashes.
    ///
    /// # Errors
    /// The kernel has no such key.
    pub fn sysctl(&self, key: &str) -> io::Result<String> {
        let path = Path::new("/proc/sys").join(key);
        self.run(|| fs::read_to_string(path)).map(|value| value.trim_end().to_owned())
    }

    /// Writes sysctls inside: pairs of key, written with slashes, and value.
    ///
    /// # Panics
    /// With the key that the kernel refuses.
    pub fn set_sysctls(&self, pairs: &[(&str, &str)]) {
        self.run(|| {
            for (key, value) in pairs {
                fs::write(Path::new("/proc/sys").join(key), value)
                    .unwrap_or_else(|error| panic!("writing `{value}` to sysctl `{key}`: {error}"));
            }
        });
    }

    fn open(name: &str) -> io::Result<Self> {
        let handle = File::open(Path::new("/run/netns").join(name))?;
        Ok(Self { name: name.to_owned(), handle })
    }

    fn kill_inside(&self) -> io::Result<()> {
        let own = self.handle.metadata()?;
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let inside = fs::metadata(entry.path().join("ns/net"))
                .is_ok_and(|other| (other.dev(), other.ino()) == (own.dev(), own.ino()));
            if inside && pid.cast_unsigned() != std::process::id() {
                Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
            }
        }
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.kill_inside();
        let _ = Command::new("ip").args(["netns", "del", &self.name]).stderr(Stdio::null()).status();
    }
}

/// Asks `holds` every few milliseconds until it does; false when `patience` is over.
pub fn eventually(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(3));
    }
}

/// What is called `pcc<pid>-…` in `folder`, where no process `pid` lives.
pub(super) fn abandoned(folder: &Path) -> Vec<PathBuf> {
    let dead = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("pcc")?.split_once('-')).map(|(pid, _)| pid);
        pid.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists())
    };
    fs::read_dir(folder).into_iter().flatten().flatten().filter(dead).map(|entry| entry.path()).collect()
}

fn succeed(command: &mut Command, input: &str) -> String {
    let output = feed(command, input).unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{input}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn feed(command: &mut Command, input: &str) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that fails before it has read everything is reported by its status.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output()
}
