//! The router on which the documentation is tried: its devices are called as there, and whatever a command writes to the
//! host stays in mounts of its own.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tests::lab::process::binary;
use tests::lab::settings::READY;
use tests::lab::{Defaults, Lab, eventually};

/// Covers what may be written to, and stays, as the process whose mounts commands enter. `$1` is an empty folder.
const MOUNTS: &str = r#"
    set -e
    mount -t tmpfs tmpfs "$1"
    cover() {
        mkdir -p "$2/below$1"
        mount --bind "$1" "$2/below$1"
        mount -t tmpfs tmpfs "$1"
        ln -s "$2/below$1"/* "$1"
    }
    cover /usr/local/bin "$1"
    cover /var/lib "$1"
    rm -f /usr/local/bin/pcc /var/lib/pcc
    cp -a /etc "$1/etc"
    mount --bind "$1/etc" /etc
    mount -t tmpfs tmpfs /run
    mount -t bpf bpf /sys/fs/bpf
    mkdir -p /etc/pcc /etc/systemd/system "$1/bin" "$1/work/target/release"
    echo ready
    exec sleep infinity
"#;

/// Dropping it removes everything.
#[derive(Debug)]
pub struct Router {
    holder: Child,
    folder: TempDir,
    /// What `pcc run` says.
    log: TempDir,
    // Last: it has the network of the others.
    _lab: Lab,
}

/// `pcc run` in the router, until it is dropped.
#[derive(Debug)]
pub struct Running(Child);

impl Router {
    /// Uplinks `eth0`, `eth1` and `ppp0`, LAN devices `eth2` and `br-guest`, no pcc.
    pub fn new() -> Self {
        let lab = Lab::builder().uplinks(3).tun(3).second_lan().defaults(Defaults::All).build();
        lab.router().set_sysctls(&[
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/netfilter/nf_conntrack_acct", "1"),
        ]);
        for (device, name) in
            [("wan1", "eth0"), ("wan2", "eth1"), ("wan3", "ppp0"), ("lan", "eth2"), ("lan2", "br-guest")]
        {
            lab.router().ip(&format!("link set {device} name {name}"));
        }
        let temporary = || TempDir::new().unwrap_or_else(|error| panic!("a folder: {error}"));
        let folder = temporary();
        let mut command =
            lab.router().command("unshare", ["--mount", "sh", "-c", MOUNTS, "sh", &folder.path().to_string_lossy()]);
        let mut holder = command.stdout(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut said = String::new();
        let _ = holder.stdout.take().map(|pipe| BufReader::new(pipe).read_line(&mut said));
        assert_eq!(said, "ready\n", "the mounts");
        let router = Self { holder, folder, log: temporary(), _lab: lab };
        router.furnish();
        router
    }

    /// What the pages take for granted: the program, the sources, and a RouterOS script.
    fn furnish(&self) {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let script = fs::read_to_string(workspace.join("pcc-userspace/examples/dual-wan.rsc"))
            .unwrap_or_else(|error| panic!("the example: {error}"));
        let names =
            [("fibre", "ether1"), ("cable", "ether2"), ("name=lan", "name=bridge"), ("face=lan", "face=bridge")];
        let script = names.iter().fold(script, |script, (from, to)| script.replace(from, to));
        self.write("router.rsc", &script);
        let links = format!(
            "ln -s {pcc} ../bin/pcc; ln -s {pcc} target/release/pcc; ln -s {sources} pcc-userspace",
            pcc = binary().canonicalize().unwrap_or_default().display(),
            sources = workspace.join("pcc-userspace").canonicalize().unwrap_or_default().display(),
        );
        self.succeed("links", &links);
    }

    /// Writes a file, by its path in the folder where commands run.
    pub fn write(&self, path: &str, text: &str) {
        let mut command = self.command(&format!("cat > {path}"));
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let fed = child.stdin.take().map(|mut pipe| std::io::Write::write_all(&mut pipe, text.as_bytes()));
        let status = child.wait();
        assert!(fed.is_some_and(|fed| fed.is_ok()) && status.is_ok_and(|status| status.success()), "writing {path}");
    }

    /// Runs a script to its end.
    fn run(&self, script: &str) -> Output {
        let mut command = self.command(script);
        command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// [`Self::run`] for what `place` says, which must succeed.
    pub fn succeed(&self, place: &str, script: &str) {
        let output = self.run(script);
        let [stdout, stderr] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it).into_owned());
        assert!(output.status.success(), "{place}:\n{script}\n{}\n{stdout}{stderr}", output.status);
    }

    /// Starts a command that balances, and waits until it does.
    pub fn start(&self, command: &str) -> Running {
        let path: PathBuf = self.log.path().join("log");
        let log = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut process = self.command(&format!("exec {command}"));
        process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut running = Running(process.spawn().unwrap_or_else(|error| panic!("{command}: {error}")));
        let said = || fs::read_to_string(&path).unwrap_or_default();
        let ready = || said().contains("ready");
        eventually(READY, || ready() || running.0.try_wait().is_ok_and(|status| status.is_some()));
        assert!(ready(), "{command}: is not ready:\n{}", said());
        running
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        let target = format!("--target={}", self.holder.id());
        let folder = self.folder.path().display();
        let script = format!("cd {folder}/work; {script}");
        command.args([target.as_str(), "--mount", "--net", "--", "sh", "-e", "-c", &script]);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{folder}/bin:{path}")).env_remove("PCC_LOG");
        command
    }
}

impl Running {
    /// Interrupts it, as Ctrl-C does; it must end with success.
    pub fn stop(mut self) {
        let signalled = kill_process(Pid::from_child(&self.0), Signal::INT);
        assert!(eventually(READY, || self.0.try_wait().is_ok_and(|status| status.is_some())), "it does not stop");
        let status = self.0.wait();
        assert!(signalled.is_ok() && status.as_ref().is_ok_and(ExitStatus::success), "{signalled:?} {status:?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
