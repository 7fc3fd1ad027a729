//! The control socket: who may ask what, and what a crowd or a bad guest does to the controller, which is nothing.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tests::lab::settings::READY;
use tests::lab::signs::Signs;
use tests::lab::{Builder, Defaults, Lab, Pcc, Settings, Usage, process};

/// Of the group `pcc`, where there is one.
const GROUP: u32 = 64_321;
const NOBODY: u32 = 65_534;
/// Those who ask at the same time.
const CROWD: u64 = 1000;
/// The loop is never late by more than this of its own fault: the kernel tells for how long it waited for a processor, which is not
/// its own. Half of the time it is not late by more at all, also on a machine that has other things to do, and 19 times of 20 by no
/// more than [`SELDOM`].
const LATE: Duration = Duration::from_millis(100);
const SELDOM: Duration = Duration::from_millis(500);
/// Of memory, for whatever comes.
const MOST_MEMORY: u64 = 64 << 20;
const STATUS: &str = "{\"request\":\"status\"}\n";

/// Programs that see a database of groups of their own.
struct Groups {
    folder: TempDir,
    pcc: PathBuf,
}

impl Groups {
    /// With a group `pcc`, or without one.
    fn new(exists: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name| folder.path().join(name);
        let group = if exists { format!("root:x:0:\npcc:x:{GROUP}:\n") } else { "root:x:0:\n".to_owned() };
        fs::write(at("group"), group).unwrap();
        // A copy that everybody may run, whatever folder the program under test is in.
        let pcc = at("pcc");
        fs::copy(process::binary(), &pcc).unwrap();
        let inside = format!("mount --bind {} /etc/group && exec \"$@\"", at("group").display());
        let wrapper = format!("#!/bin/sh\nexec unshare --mount sh -c '{inside}' sh \"$@\"\n");
        fs::write(at("with"), wrapper).unwrap();
        fs::write(at("run"), format!("#!/bin/sh\nexec {} {} \"$@\"\n", at("with").display(), pcc.display())).unwrap();
        for path in [folder.path(), &at("with"), &at("run"), &pcc] {
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        fs::set_permissions(at("group"), Permissions::from_mode(0o644)).unwrap();
        Self { folder, pcc }
    }

    fn lab(&self) -> Lab {
        builder().program(self.folder.path().join("run")).build()
    }

    /// Runs `pcc` as nobody, with `rights` of `setpriv` besides.
    fn ask(&self, lab: &Lab, rights: &[&str], args: &[&str]) -> Output {
        let setpriv = [&["setpriv", "--reuid", "65534"], rights, &["--"]].concat();
        let pcc = [&[self.pcc.to_str().unwrap()], args, &["--instance", lab.instance()]].concat();
        lab.router().command(self.folder.path().join("with"), setpriv.iter().chain(&pcc)).output().unwrap()
    }
}

fn builder() -> Builder {
    Lab::builder().defaults(Defaults::All)
}

fn run(lab: &Lab) -> Pcc {
    let pcc = lab.pcc(&["run", "--wan", &lab.wans(), "--lan", lab.lans()]);
    pcc.wait_for("ready", READY);
    // The socket is there a moment later.
    assert!(tests::lab::eventually(READY, || UnixStream::connect(socket(lab)).is_ok()));
    pcc
}

fn socket(lab: &Lab) -> PathBuf {
    Path::new("/run/pcc").join(lab.instance()).join("control.sock")
}

fn connect(lab: &Lab) -> UnixStream {
    let stream = UnixStream::connect(socket(lab)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// What is answered to `text`, to the end.
fn ask(lab: &Lab, text: &[u8]) -> String {
    let mut stream = connect(lab);
    let _ = stream.write_all(text);
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn assert_status(lab: &Lab) {
    let answer = ask(lab, STATUS.as_bytes());
    assert!(answer.starts_with("{\"answer\":\"status\"") && answer.ends_with("}\n"), "{answer}");
}

fn assert_refused(output: &Output, expected: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in expected {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
}

#[test]
fn members_of_the_group_read_and_change_nothing() {
    let groups = Groups::new(true);
    let lab = groups.lab();
    let pcc = run(&lab);
    let file = fs::metadata(socket(&lab)).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (0, GROUP, 0o660));
    let group = GROUP.to_string();
    let primary = ["--regid", &group, "--clear-groups"];
    let supplementary = ["--regid", "65534", "--groups", &group];
    let status =
        || ask(&lab, STATUS.as_bytes()).split("\"weight\":").skip(1).map(|it| it[..1].to_owned()).collect::<Vec<_>>();
    let before = status();
    for rights in [&primary[..], &supplementary] {
        let read = groups.ask(&lab, rights, &["status", "--json"]);
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        let read: pcc_userspace::status::Status = serde_json::from_slice(&read.stdout).unwrap();
        assert_eq!(read.pid, pcc.id());
        let changes: [&[&str]; 4] =
            [&["uplink", "wan1", "weight", "3"], &["uplink", "wan1", "disable"], &["reload"], &["reload", "--confirm"]];
        for change in changes {
            assert_refused(&groups.ask(&lab, rights, change), &["only root may change", "hint: use root"]);
        }
    }
    let outside = groups.ask(&lab, &["--regid", "65534", "--clear-groups"], &["status"]);
    assert_refused(&outside, &["permission denied", "hint: join the group `pcc`", "usermod"]);
    assert_eq!(status(), before);
    assert!(lab.pcc_output(&["uplink", "wan1", "weight", "3"]).status.success(), "root may");
    assert_ne!(status(), before);
    pcc.wait_for(&format!("refused uid={NOBODY} request=Confirm"), Duration::ZERO);
}

#[test]
fn the_socket_of_metrics_is_the_groups_also_after_a_reload() {
    let groups = Groups::new(true);
    let lab = groups.lab();
    let settings = Settings::new(&[]);
    let sockets = ["first", "second"].map(|name| groups.folder.path().join(name));
    let write = |socket: &Path| {
        let uplinks = "[[uplink]]\ndevice = \"wan1\"\n[[uplink]]\ndevice = \"wan2\"\n";
        settings.write(&format!("lan = [\"lan\"]\nmetrics = \"unix:{}\"\n{uplinks}", socket.display()));
    };
    let assert_groups = |socket: &Path| {
        let file = fs::metadata(socket).unwrap();
        assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (0, GROUP, 0o660));
    };
    write(&sockets[0]);
    let pcc = settings.start(&lab, &[]);
    pcc.wait_for("ready", READY);
    assert_groups(&sockets[0]);
    write(&sockets[1]);
    let output = lab.pcc_output(&["reload"]);
    assert!(output.status.success(), "{output:?}");
    assert_groups(&sockets[1]);
    assert!(!sockets[0].exists());
}

#[test]
fn without_the_group_only_root_reads() {
    let groups = Groups::new(false);
    let lab = groups.lab();
    let _pcc = run(&lab);
    let file = fs::metadata(socket(&lab)).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (0, 0, 0o600));
    let group = GROUP.to_string();
    let refused = groups.ask(&lab, &["--regid", &group, "--clear-groups"], &["status"]);
    assert_refused(&refused, &["permission denied", "hint: use root", "groupadd"]);
    assert_status(&lab);
}

#[test]
fn bad_guests_do_no_harm() {
    let lab = builder().build();
    let pcc = run(&lab);
    assert_status(&lab);
    let before = Usage::of(pcc.id());
    thread::scope(|scope| {
        let slow = scope.spawn(|| {
            let mut stream = connect(&lab);
            let mut writer = stream.try_clone().unwrap();
            scope.spawn(move || {
                for byte in STATUS.bytes() {
                    if writer.write_all(&[byte]).is_err() {
                        return;
                    }
                    thread::sleep(Duration::from_secs(1));
                }
            });
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            answer
        });
        // These hold their places and do nothing; those listen to events and never read.
        let idle: Vec<_> = (0..100).map(|_| connect(&lab)).collect();
        let deaf: Vec<_> = (0..100).map(|_| connect(&lab)).collect();
        for mut stream in &deaf {
            stream.write_all(b"{\"request\":\"events\"}\n").unwrap();
        }
        for bad in
            [&b"\n"[..], b"{\n", b"\0\0\0\n", b"\xff\xfe{\"request\":\"status\"}\n", b"{\"request\":\"format\"}\n"]
        {
            let answer = ask(&lab, &[bad, STATUS.as_bytes()].concat());
            assert!(answer.contains("not a request"), "{answer}");
            assert_eq!(answer.lines().count(), 2, "the next request counts: {answer}");
        }
        // 100 MB without a line end.
        let mut huge = connect(&lab);
        let block = vec![b'x'; 1 << 20];
        let written = (0..100).take_while(|_| huge.write_all(&block).is_ok()).count();
        let mut answer = String::new();
        let _ = huge.read_to_string(&mut answer);
        assert!(written < 100 && answer.contains("4096 bytes at most"), "{written} MiB were taken: {answer}");
        // Half-closed behind the request, and gone before the answer.
        assert_status(&lab);
        for _ in 0..100 {
            connect(&lab).write_all(STATUS.as_bytes()).unwrap();
        }
        for weight in 1..=20 {
            let request = format!(
                "{{\"request\":\"uplink\",\"uplink\":\"wan1\",\"change\":{{\"weight\":{weight}}},\"persist\":false}}\n"
            );
            assert!(ask(&lab, request.as_bytes()).contains("\"changed\""));
        }
        let answer = slow.join().unwrap();
        assert!(answer.contains("no request came within 10 s"), "{answer}");
        drop((idle, deaf));
    });
    let files = || Usage::of(pcc.id()).files <= before.files + 1;
    assert!(
        tests::lab::eventually(READY, files),
        "descriptors: {} before, {} now",
        before.files,
        Usage::of(pcc.id()).files
    );
    let grown = Usage::of(pcc.id()).resident.saturating_sub(before.resident);
    assert!(grown < MOST_MEMORY, "grown by {grown} bytes");
    assert!(!pcc.stderr().contains(": down"), "{}", pcc.stderr());
    assert_status(&lab);
}

#[test]
fn a_thousand_at_once_do_not_delay_the_loop() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Some(4 * CROWD).min(limit.maximum.or(Some(u64::MAX)));
    setrlimit(Resource::Nofile, Rlimit { current: wanted, ..limit }).unwrap();
    let (lab, signs) = (builder().build(), Signs::new());
    let [socket, watchdog] = signs.environment();
    let environment = [(socket.0, socket.1.as_str()), (watchdog.0, watchdog.1.as_str())];
    let pcc = lab.pcc_with(&["run", "--wan", &lab.wans(), "--lan", lab.lans()], &environment);
    pcc.wait_for("ready", READY);
    let quiet = signs.lateness(pcc.id(), || false);
    let over = AtomicBool::new(false);
    let (rounds, busy) = thread::scope(|scope| {
        let crowd = scope.spawn(|| {
            let end = Instant::now() + Duration::from_secs(3);
            let mut rounds = 0;
            while Instant::now() < end {
                crowd(&lab);
                rounds += 1;
            }
            over.store(true, Ordering::Relaxed);
            rounds
        });
        let busy = signs.lateness(pcc.id(), || !over.load(Ordering::Relaxed) && !crowd.is_finished());
        (crowd.join().unwrap(), busy)
    });
    println!("the loop alone: {quiet}\nin the crowd: {busy}");
    println!("{rounds} rounds of {CROWD}");
    assert!(rounds >= 1 && busy.count() >= 20);
    assert!(busy.own(100) < LATE && busy.at(50) < LATE && busy.at(95) < SELDOM);
    assert!(!pcc.stderr().contains(": down"), "{}", pcc.stderr());
}

/// All ask before one of them reads.
fn crowd(lab: &Lab) {
    let mut guests: Vec<_> = (0..CROWD).map(|_| connect(lab)).collect();
    for guest in &mut guests {
        guest.write_all(STATUS.as_bytes()).unwrap();
    }
    for guest in guests {
        let mut answer = String::new();
        BufReader::new(guest).read_line(&mut answer).unwrap();
        assert!(answer.starts_with("{\"answer\":\"status\"") && answer.ends_with("}\n"), "{answer}");
    }
}
