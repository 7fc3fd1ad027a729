//! `pcc` as a process inside the router.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::builder;
use super::namespace::{Namespace, abandoned, eventually};
use super::server::lock;

/// A running `pcc`. Dropping it kills it; while a test fails it prints what `pcc` wrote to stderr.
#[derive(Debug)]
pub struct Pcc {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    // Last: the instance is torn down when its last process has gone.
    _instance: Arc<Instance>,
}

/// The name of the lab's own instance of `pcc`. When the lab and its last process have gone, `pcc down` clears it.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) name: String,
    program: Option<PathBuf>,
    router: Arc<Namespace>,
    used: AtomicBool,
}

impl Pcc {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has written to stderr.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// All that it has written to stdout.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Waits for a line of stderr that contains `part`, and returns it.
    ///
    /// # Panics
    /// With all of stderr, when `patience` is over or `pcc` ended without such a line.
    pub fn wait_for(&self, part: &str, patience: Duration) -> String {
        self.stderr
            .find(0, part, patience)
            .unwrap_or_else(|| panic!("no line with `{part}` within {patience:?}; stderr:\n{}", self.stderr()))
    }

    /// How many lines it has written to stderr.
    pub fn lines(&self) -> usize {
        lock(&self.stderr.shared.state).0.len()
    }

    /// [`Self::wait_for`], but the first `seen` lines do not count: those that [`Self::lines`] told before.
    ///
    /// # Panics
    /// As [`Self::wait_for`].
    pub fn wait_for_after(&self, seen: usize, part: &str, patience: Duration) -> String {
        self.find_after(seen, part, patience).unwrap_or_else(|| {
            panic!("no line with `{part}` after the first {seen} within {patience:?}; stderr:\n{}", self.stderr())
        })
    }

    /// [`Self::wait_for_after`], `None` where there is no such line.
    pub fn find_after(&self, seen: usize, part: &str, patience: Duration) -> Option<String> {
        self.stderr.find(seen, part, patience)
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When it has ended already.
    pub fn signal(&mut self, signal: Signal) {
        assert!(self.ended().is_none(), "`pcc` has ended already; stderr:\n{}", self.stderr());
        kill_process(Pid::from_child(&self.child), signal).unwrap_or_else(|error| panic!("signalling `pcc`: {error}"));
    }

    /// Its status if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or(None)
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// With all of stderr, when `patience` is over.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        eventually(patience, || self.ended().is_some());
        let status = self.ended();
        self.stderr.join();
        self.stdout.join();
        status.unwrap_or_else(|| panic!("`pcc` still runs after {patience:?}; stderr:\n{}", self.stderr()))
    }
}

impl Drop for Pcc {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        self.stderr.join();
        if thread::panicking() {
            // Not `eprintln!`: that would go to the captured output of another thread's test.
            let _ = writeln!(io::stderr(), "--- stderr of `pcc`\n{}---", self.stderr());
        }
    }
}

/// Where an instance keeps its things, in a folder of its name.
const PLACES: [&str; 2] = ["/run/pcc", "/sys/fs/bpf/pcc"];

impl Instance {
    /// Removes what the instances of killed runs left behind.
    pub(super) fn sweep() {
        for path in PLACES.iter().flat_map(|place| abandoned(Path::new(place))) {
            let _ = remove_tree(&path);
        }
    }

    pub(super) fn new(name: &str, program: Option<PathBuf>, router: &Arc<Namespace>) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), program, router: Arc::clone(router), used: AtomicBool::new(false) })
    }

    /// Starts `pcc <args> --instance <name>` inside the router.
    pub(super) fn start(self: &Arc<Self>, args: &[&str], environment: &[(&str, &str)]) -> Pcc {
        let mut command = self.command(args);
        command.envs(environment.iter().copied());
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (stdout, stderr) = (Lines::of(child.stdout.take()), Lines::of(child.stderr.take()));
        Pcc { child, stdout, stderr, _instance: Arc::clone(self) }
    }

    /// Runs `pcc <args> --instance <name>` inside the router to its end.
    pub(super) fn output(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    fn command(&self, args: &[&str]) -> Command {
        let program = self.program.clone().unwrap_or_else(binary);
        self.used.store(true, Ordering::Relaxed);
        let mode = builder::fast_path().filter(|_| chooses_fast_path(args)).map(|mode| format!("--fast-path={mode}"));
        let more = ["--instance", &self.name].into_iter().chain(mode.as_deref());
        self.router.command(program, args.iter().copied().chain(more))
    }
}

/// The command takes `--fast-path` and does not have it. RouterOS configurations have no fast path.
fn chooses_fast_path(args: &[&str]) -> bool {
    let is_script = args.iter().any(|arg| arg.ends_with(".rsc") || arg.starts_with("--map"));
    let takes_it = args.first().is_some_and(|command| ["run", "plan", "check"].contains(command));
    takes_it && !is_script && !args.iter().any(|arg| arg.starts_with("--fast-path"))
}

impl Drop for Instance {
    fn drop(&mut self) {
        if !self.used.load(Ordering::Relaxed) {
            return;
        }
        let _ = self.command(&["down"]).stdin(Stdio::null()).output();
        for place in PLACES {
            let _ = remove_tree(&Path::new(place).join(&self.name));
        }
    }
}

/// The program under test: `PCC_BIN`, or `pcc` beside the running executable or one folder up.
///
/// # Panics
/// When there is none.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("PCC_BIN") {
        return path.into();
    }
    let own = env::current_exe().unwrap_or_default();
    let mut candidates = own.ancestors().skip(1).take(2).map(|folder| folder.join("pcc"));
    candidates.find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("no `pcc` beside {}; `cargo build -p pcc-userspace` makes it, or set `PCC_BIN`", own.display())
    })
}

/// Like `fs::remove_dir_all`, which bpffs does not support everywhere.
fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type()?.is_dir() { remove_tree(&entry.path())? } else { fs::remove_file(entry.path())? }
    }
    fs::remove_dir(path)
}

/// Lines of a pipe, collected by a thread.
#[derive(Debug)]
struct Lines {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Lines {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let shared = Arc::new(Shared::default());
        let thread = pipe.map(|pipe| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                    lock(&shared.state).0.push(String::from_utf8_lossy(&line).into_owned());
                    shared.changed.notify_all();
                }
                lock(&shared.state).1 = true;
                shared.changed.notify_all();
            })
        });
        Self { shared, thread }
    }

    fn text(&self) -> String {
        lock(&self.shared.state).0.iter().map(|line| format!("{line}\n")).collect()
    }

    fn find(&self, seen: usize, part: &str, patience: Duration) -> Option<String> {
        let end = Instant::now() + patience;
        let mut state = lock(&self.shared.state);
        loop {
            if let Some(line) = state.0.iter().skip(seen).find(|line| line.contains(part)) {
                return Some(line.clone());
            }
            let left = end.checked_duration_since(Instant::now()).filter(|_| !state.1)?;
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the pipe is drained, but not for a grandchild that keeps it open.
    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            eventually(Duration::from_millis(500), || thread.is_finished());
        }
    }
}
