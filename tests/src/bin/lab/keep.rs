//! A lab that stays: a process in the background holds it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, setsid, test_kill_process};
use tests::lab::{Defaults, Lab, eventually, process};

/// Prefix of the namespaces and name of the instance.
const NAME: &str = "pcclab";
const PID: &str = "/run/pcclab.pid";
const LOG: &str = "/run/pcclab.log";
const PATIENCE: Duration = Duration::from_secs(10);

pub fn up() -> ExitCode {
    if let Some(pid) = holder() {
        println!("the lab is up already, pid {}; `cargo xtask lab down` removes it", pid.as_raw_nonzero());
        return ExitCode::FAILURE;
    }
    let log = File::create(LOG).expect("writing below /run");
    let own = std::env::current_exe().expect("the path of this program");
    #[expect(clippy::zombie_processes, reason = "it outlives this program")]
    Command::new(own)
        .arg("serve")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle of the log"))
        .stderr(log)
        .spawn()
        .expect("starting the lab");
    let ready = || fs::read_to_string(LOG).is_ok_and(|log| log.contains("ready: "));
    if !eventually(PATIENCE, ready) {
        println!("the lab did not start; {LOG} says why:\n{}", fs::read_to_string(LOG).unwrap_or_default());
        return ExitCode::FAILURE;
    }
    let pcc = process::binary();
    println!(
        "the lab is up: pcc balances `lan` over `wan1` and `wan2` in namespace {NAME}-router.

  cargo xtask lab shell            a shell in the router; others: client, isp1, isp2
  {pcc} status --instance {NAME}
  {pcc} uplink wan2 weight 3 --instance {NAME}
  ip netns exec {NAME}-client bash -c 'for i in 1 2 3 4 5 6; do head -1 </dev/tcp/203.0.113.$i/7; done'
  ip -n {NAME}-isp1 link set eth0 down      cuts uplink 1; pcc's log is {LOG}
  cargo xtask lab down             removes it",
        pcc = pcc.display(),
    );
    ExitCode::SUCCESS
}

pub fn shell(namespace: &str) -> ExitCode {
    let path = format!("/run/netns/{NAME}-{namespace}");
    if !Path::new(&path).exists() {
        println!("no namespace `{namespace}` is up; `cargo xtask lab up` makes router, client, isp1 and isp2");
        return ExitCode::FAILURE;
    }
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    // The network namespace only: `/sys/fs/bpf` stays what it is.
    let error = Command::new("nsenter").arg(format!("--net={path}")).arg(shell).exec();
    println!("starting a shell: {error}");
    ExitCode::FAILURE
}

pub fn down() -> ExitCode {
    let Some(pid) = holder() else {
        println!("no lab is up");
        return ExitCode::SUCCESS;
    };
    let _ = kill_process(pid, Signal::TERM);
    if eventually(PATIENCE, || holder().is_none()) {
        return ExitCode::SUCCESS;
    }
    println!("the lab, pid {}, does not end; {LOG} may say why", pid.as_raw_nonzero());
    ExitCode::FAILURE
}

pub fn serve() -> ExitCode {
    let _ = setsid();
    fs::write(PID, std::process::id().to_string()).expect("writing below /run");
    let stop = stop_signal();
    let lab = Lab::builder().prefix(NAME).defaults(Defaults::All).build();
    let pcc = lab.pcc(&["run", "--wan", &lab.wans(), "--lan", lab.lans(), "--hash", "both-addresses-and-ports"]);
    let mut shown = String::new();
    while !stop() {
        sleep(Duration::from_millis(50));
        let log = pcc.stderr();
        print!("{}", &log[shown.len()..]);
        shown = log;
    }
    drop(pcc);
    drop(lab);
    let _ = fs::remove_file(PID);
    ExitCode::SUCCESS
}

/// The process that holds the lab.
fn holder() -> Option<Pid> {
    let pid = Pid::from_raw(fs::read_to_string(PID).ok()?.trim().parse().ok()?)?;
    test_kill_process(pid).is_ok().then_some(pid)
}

/// Whether SIGTERM or SIGINT has arrived.
fn stop_signal() -> impl Fn() -> bool {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::signal::unix::{SignalKind, signal};

    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate()).expect("watching signals");
            let mut interrupt = signal(SignalKind::interrupt()).expect("watching signals");
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        });
        seen.store(true, Ordering::Relaxed);
    });
    move || stop.load(Ordering::Relaxed)
}
