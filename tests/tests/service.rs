//! As a service: what systemd is told, what a stop and a restart leave, which rights are left, and the unit.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;
use tests::lab::address::{PORT, SERVER4};
use tests::lab::settings::READY;
use tests::lab::settings::wait_until_up;
use tests::lab::{BpfObjects, Defaults, HostState, Lab, PATIENCE, Pcc, Settings, eventually};

/// The kernel frees BPF objects a little late.
const FREED: Duration = Duration::from_secs(5);
const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../pcc-userspace/dist/pcc.service");

fn lab() -> Lab {
    Lab::builder().defaults(Defaults::All).build()
}

/// What a service manager is.
struct Manager {
    folder: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        Self { folder, socket }
    }

    fn address(&self) -> String {
        self.folder.path().join("notify").display().to_string()
    }

    /// Waits for a message that contains `part`, and returns it with those before it.
    fn hear(&self, part: &str, patience: Duration) -> Vec<String> {
        let (end, mut heard) = (Instant::now() + patience, Vec::new());
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.socket.set_read_timeout(Some(left)).unwrap();
            let mut bytes = [0; 4096];
            let Ok(length) = self.socket.recv(&mut bytes) else { break };
            heard.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
            if heard.last().is_some_and(|message| message.contains(part)) {
                return heard;
            }
        }
        panic!("no `{part}` within {patience:?}, only {heard:?}");
    }

    /// Puts a `systemctl` into a folder, which says `jobs`, or fails.
    fn systemctl(&self, jobs: Option<&str>) -> PathBuf {
        let folder = self.folder.path().join("bin");
        let _ = fs::create_dir(&folder);
        let script = match jobs {
            Some(jobs) => format!("#!/bin/sh\necho '{jobs}'\n"),
            None => "#!/bin/sh\necho 'Failed to connect to bus' >&2\nexit 1\n".to_owned(),
        };
        fs::write(folder.join("systemctl"), script).unwrap();
        fs::set_permissions(folder.join("systemctl"), Permissions::from_mode(0o755)).unwrap();
        folder
    }
}

#[test]
fn the_service_manager_is_told_what_happens() {
    let (lab, manager) = (lab(), Manager::new());
    let settings = Settings::new(&[(1, ""), (2, "")]);
    let environment = [("NOTIFY_SOCKET", manager.address()), ("WATCHDOG_USEC", "400000".to_owned())];
    let environment = environment.each_ref().map(|(key, value)| (*key, value.as_str()));
    let mut pcc = lab.pcc_with(&["run", "--config", settings.path()], &environment);
    let ready = manager.hear("READY=1", READY);
    assert!(ready.last().unwrap().contains("STATUS=new connections by wan1, wan2\n"), "{ready:?}");
    lab.client().tcp_connect(None, SocketAddr::new(SERVER4.into(), PORT), PATIENCE).expect("the data path is in force");
    // Twice as often as it is wanted, by the loop, which has nothing else to do.
    let began = Instant::now();
    for _ in 0..5 {
        manager.hear("WATCHDOG=1", PATIENCE);
    }
    assert!((Duration::from_millis(700)..Duration::from_secs(3)).contains(&began.elapsed()), "{:?}", began.elapsed());
    wait_until_up(&pcc, 0, &[1, 2]);
    lab.carrier(2, false);
    manager.hear("STATUS=new connections by wan1\n", PATIENCE);
    lab.carrier(2, true);
    manager.hear("STATUS=new connections by wan1, wan2\n", READY);
    settings.change(&[(1, "")]);
    pcc.signal(Signal::HUP);
    let reloading = manager.hear("RELOADING=1", PATIENCE);
    assert!(reloading.last().unwrap().contains("MONOTONIC_USEC="), "{reloading:?}");
    let ready = manager.hear("READY=1", PATIENCE);
    assert!(ready.last().unwrap().contains("STATUS=new connections by wan1\n"), "{ready:?}");
    // A faulty file: it runs on, and is ready.
    settings.write("lan = 3\n");
    assert_eq!(lab.pcc_output(&["reload"]).status.code(), Some(1));
    manager.hear("RELOADING=1", PATIENCE);
    manager.hear("READY=1", PATIENCE);
    pcc.signal(Signal::TERM);
    manager.hear("STOPPING=1", PATIENCE);
    assert!(pcc.wait(PATIENCE).success(), "{}", pcc.stderr());
}

#[test]
fn a_mirror_tells_the_same() {
    let (lab, manager) = (lab(), Manager::new());
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("router.rsc");
    fs::write(&script, "/ip route add dst-address=0.0.0.0/0 gateway=198.18.1.1 check-gateway=ping\n").unwrap();
    let environment = [("NOTIFY_SOCKET", manager.address()), ("WATCHDOG_USEC", "400000".to_owned())];
    let environment = environment.each_ref().map(|(key, value)| (*key, value.as_str()));
    let args = ["run", "--config", script.to_str().unwrap(), "--map", "ether1=wan1,ether2=wan2,bridge=lan"];
    let mut pcc = lab.pcc_with(&args, &environment);
    let ready = manager.hear("READY=1", READY);
    assert!(ready.last().unwrap().contains("STATUS=1 of 1 watched hosts answer\n"), "{ready:?}");
    for _ in 0..3 {
        manager.hear("WATCHDOG=1", PATIENCE);
    }
    assert!(lab.pcc_output(&["reload"]).status.success(), "{}", pcc.stderr());
    manager.hear("RELOADING=1", PATIENCE);
    manager.hear("READY=1", PATIENCE);
    pcc.signal(Signal::TERM);
    manager.hear("STOPPING=1", PATIENCE);
    assert!(pcc.wait(PATIENCE).success(), "{}", pcc.stderr());
}

/// Starts it as the unit does, and stops it while systemd has `jobs`.
fn stop(lab: &Lab, manager: &Manager, jobs: Option<&str>) -> String {
    let path = format!("{}:{}", manager.systemctl(jobs).display(), std::env::var("PATH").unwrap());
    let (wans, lan) = (lab.wans(), lab.lans());
    let mut pcc = lab.pcc_with(&["run", "--wan", &wans, "--lan", lan, "--keep=pcc.service"], &[("PATH", &path)]);
    pcc.wait_for("ready", READY);
    pcc.signal(Signal::TERM);
    assert!(pcc.wait(READY).success(), "{}", pcc.stderr());
    pcc.stderr()
}

#[test]
fn a_restart_keeps_the_data_path_and_a_stop_leaves_the_host_as_it_was() {
    let (lab, manager) = (lab(), Manager::new());
    let before = lab.host_state();
    stop(&lab, &manager, Some("7 pcc.service restart running"));
    let objects = BpfObjects::attached(lab.router());
    assert!(!objects.programs.is_empty(), "a restart keeps it");
    lab.client().tcp_connect(None, SocketAddr::new(SERVER4.into(), PORT), PATIENCE).expect("without a controller");
    // Nobody knows: traffic comes first.
    let text = stop(&lab, &manager, None);
    assert!(text.contains("adopted") && text.contains("Failed to connect to bus"), "{text}");
    assert!(!BpfObjects::attached(lab.router()).programs.is_empty(), "what is not known keeps it");
    stop(&lab, &manager, Some("8 pcc.service stop running"));
    assert_eq!(objects.remaining(FREED), BpfObjects::default(), "still loaded");
    assert_eq!(HostState::diff(&before, &lab.host_state()), "");
}

/// A line of `/proc/<pid>/task/<tid>/status`.
fn line(status: &Path, key: &str) -> String {
    let text = fs::read_to_string(status).unwrap();
    text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim_start_matches(':').trim().to_owned()
}

/// Every thread has exactly the rights that are needed, and its children can get no others.
fn assert_rights(pcc: &Pcc) {
    let needed = format!("{:016x}", pcc_userspace::rights::NEEDED.bits());
    let tasks: Vec<_> = fs::read_dir(format!("/proc/{}/task", pcc.id())).unwrap().flatten().collect();
    assert!(tasks.len() > 1, "the socket has a thread of its own");
    for task in tasks {
        let status = task.path().join("status");
        let sets = ["CapEff", "CapPrm", "CapBnd"].map(|key| line(&status, key));
        assert_eq!(sets, [&needed, &needed, &needed].map(String::clone), "{}", status.display());
        assert_eq!(["CapInh", "CapAmb"].map(|key| line(&status, key)), ["0000000000000000"; 2].map(str::to_owned));
        assert_eq!(line(&status, "NoNewPrivs"), "1");
    }
}

#[test]
fn few_rights_are_left_after_the_start_and_all_works_by_them() {
    let lab = Lab::builder().uplinks(3).defaults(Defaults::All).build();
    let before = lab.host_state();
    let folder = tempfile::tempdir().unwrap();
    let hooked = folder.path().join("rights");
    let settings = Settings::new(&[]);
    let write = |uplinks: &[u32]| {
        let mut text =
            format!("lan = [\"lan\"]\nhook = [\"sh\", \"-c\", \"cat /proc/self/status > {}\"]\n", hooked.display());
        for uplink in uplinks {
            text += &format!("[[uplink]]\ndevice = \"wan{uplink}\"\nreset_clients = true\n");
        }
        settings.write(&text);
    };
    write(&[1, 2]);
    let mut pcc = settings.run(&lab, &[1, 2]);
    assert_rights(&pcc);
    // Fail-over with reset clients.
    let seen = pcc.lines();
    lab.carrier(2, false);
    pcc.wait_for_after(seen, "uplink wan2 IPv4: down", PATIENCE);
    lab.carrier(2, true);
    wait_until_up(&pcc, seen, &[2]);
    // A new uplink: programs on a device, routes, rules, chains.
    let seen = pcc.lines();
    write(&[1, 2, 3]);
    let reload = lab.pcc_output(&["reload"]);
    assert!(reload.status.success(), "{}", String::from_utf8_lossy(&reload.stderr));
    wait_until_up(&pcc, seen, &[3]);
    // The table comes back.
    let seen = pcc.lines();
    lab.router().nft("flush ruleset");
    pcc.wait_for_after(seen, "putting it back", PATIENCE);
    let table = format!("table inet {}", pcc_userspace::ruleset::table_name(lab.instance()));
    assert!(eventually(PATIENCE, || lab.router().exec("nft", ["list", "tables"]).contains(&table)));
    let needed = format!("{:016x}", pcc_userspace::rights::NEEDED.bits());
    let hook = || hooked.exists() && line(&hooked, "CapEff") == needed;
    assert!(eventually(PATIENCE, hook), "the hook has {}: {}", line(&hooked, "CapEff"), pcc.stderr());
    assert!(lab.settles(PATIENCE, &[1, 2, 3]));
    assert_rights(&pcc);
    let objects = BpfObjects::attached(lab.router());
    pcc.signal(Signal::TERM);
    assert!(pcc.wait(READY).success(), "{}", pcc.stderr());
    assert!(!pcc.stderr().contains("ermitted"), "{}", pcc.stderr());
    assert_eq!(objects.remaining(FREED), BpfObjects::default(), "still loaded");
    assert_eq!(HostState::diff(&before, &lab.host_state()), "");
}

/// What `systemd-analyze` says with `args` about the unit.
fn analyze(args: &[&str], unit: &Path) -> String {
    let output = Command::new("systemd-analyze").args(args).arg(unit).output().expect("systemd-analyze");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn the_unit_is_valid_and_little_exposed() {
    let text = analyze(&["--no-pager", "security", "--offline=true"], Path::new(UNIT));
    let score = text.lines().find_map(|line| line.split("exposure level for pcc.service:").nth(1));
    let score: f32 = score.and_then(|text| text.split_whitespace().next()).expect(&text).parse().unwrap();
    assert!(score <= 2.5, "{text}");
    // With the program where a package puts it.
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("pcc.service");
    let program = tests::lab::process::binary();
    fs::write(&unit, fs::read_to_string(UNIT).unwrap().replace("=pcc ", &format!("={} ", program.display()))).unwrap();
    assert_eq!(analyze(&["verify", "--man=no"], &unit), "");
}

/// The rights that the unit gives.
fn given() -> Vec<String> {
    let unit = fs::read_to_string(UNIT).unwrap();
    let words =
        unit.lines().filter_map(|line| line.strip_prefix("CapabilityBoundingSet=")).flat_map(str::split_whitespace);
    words.map(str::to_owned).collect()
}

#[test]
fn the_rights_that_the_unit_gives_suffice() {
    let rights: Vec<_> = given().iter().map(|right| right.to_lowercase().replace("cap_", "+")).collect();
    let needed = pcc_userspace::rights::NEEDED;
    assert!(needed.iter_names().all(|(name, _)| given().contains(&format!("CAP_{name}"))), "{rights:?}");
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("pcc");
    let pcc = tests::lab::process::binary();
    let bounding = format!("--bounding-set=-all,{}", rights.join(","));
    fs::write(&program, format!("#!/bin/sh\nexec setpriv {bounding} --no-new-privs -- {} \"$@\"\n", pcc.display()))
        .unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let lab = Lab::builder().defaults(Defaults::All).program(program).build();
    let mut pcc = lab.pcc(&["run", "--wan", &lab.wans(), "--lan", lab.lans()]);
    wait_until_up(&pcc, 0, &[1, 2]);
    lab.client().tcp_connect(None, SocketAddr::new(SERVER4.into(), PORT), PATIENCE).expect("balanced");
    assert!(!pcc.stderr().contains("WARN"), "{}", pcc.stderr());
    pcc.signal(Signal::TERM);
    assert!(pcc.wait(READY).success(), "{}", pcc.stderr());
    assert!(!pcc.stderr().contains("ERROR"), "{}", pcc.stderr());
}

#[test]
fn journald_is_told_priorities_and_the_log_is_no_flood() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("pcc");
    let pcc = tests::lab::process::binary();
    let stream = "JOURNAL_STREAM=$(stat --dereference --format=%d:%i /proc/self/fd/2)";
    fs::write(&program, format!("#!/bin/sh\n{stream} exec {} \"$@\"\n", pcc.display())).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let lab = Lab::builder().defaults(Defaults::All).program(program).build();
    let pcc = lab.pcc(&["run", "--wan", &lab.wans(), "--lan", lab.lans()]);
    pcc.wait_for("<6>ready: lan over wan1, wan2", READY);
    for _ in 0..30 {
        assert!(lab.pcc_output(&["uplink", "wan1", "weight", "3"]).status.success());
    }
    let text = pcc.stderr();
    assert_eq!(text.lines().filter(|line| *line == "<6>uplink `wan1`: weight 3").count(), 20, "{text}");
    assert!(text.lines().all(|line| line.starts_with('<')), "{text}");
}
