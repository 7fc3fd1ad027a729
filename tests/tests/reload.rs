//! Changes by the user: only what differs changes.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::lab::fresh::{assert_first_syn, share};
use tests::lab::settings::wait_until_up;
use tests::lab::{Busy, Defaults, Idle, Lab, PATIENCE, Pcc, Report, Settings, eventually};

/// How soon a change is in force.
const IN_FORCE: Duration = Duration::from_secs(5);

fn lab() -> Lab {
    Lab::builder().uplinks(3).defaults(Defaults::All).build()
}

/// Runs `pcc` with `args` in the lab and asserts that it succeeds.
fn succeed(lab: &Lab, args: &[&str]) {
    let output = lab.pcc_output(args);
    assert!(output.status.success(), "pcc {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// No fault but of `uplink`, and no move at all.
fn assert_only_of(report: &Report, uplink: u32) {
    let others: Vec<_> = report.faults.iter().filter(|fault| fault.isp != uplink).take(3).collect();
    assert!(others.is_empty(), "connections of other uplinks ended, such as {others:?}");
}

/// 500 live connections on uplinks 1 and 2, which weigh the same.
fn crowd(lab: &Lab, settings: &Settings) -> (Pcc, Busy) {
    let pcc = settings.run(lab, &[1, 2]);
    let open = lab.open_new(250);
    (pcc, Busy::start(open, Duration::from_millis(200), PATIENCE))
}

fn assert_reload(reload: impl FnOnce(&Lab, &mut Pcc)) {
    let lab = lab();
    let settings = Settings::new(&[(1, ""), (2, "")]);
    let (mut pcc, busy) = crowd(&lab, &settings);
    settings.change(&[(1, "weight = 1"), (3, "weight = 3")]);
    let seen = pcc.lines();
    reload(&lab, &mut pcc);
    wait_until_up(&pcc, seen, &[3]);
    assert!(lab.settles(IN_FORCE, &[1, 3]), "new connections take the uplinks of the new file");
    let three = share(&lab.try_new(200), 3);
    assert!((0.65..0.85).contains(&three), "{three} of the connections take 3 of 4 parts");
    // Those of the removed uplink end, all of them and no others.
    sleep(PATIENCE + Duration::from_secs(1));
    let (report, left) = busy.stop();
    assert_only_of(&report, 2);
    let lingering = left.iter().filter(|it| it.isp == 2).count();
    assert_eq!(lingering, 0, "connections still on the removed uplink");
    assert!(left.len() > 150, "{} are left", left.len());
}

#[test]
fn a_signal_puts_the_difference_in_force() {
    assert_reload(|_, pcc| pcc.signal(Signal::HUP));
}

#[test]
fn the_command_puts_the_difference_in_force() {
    assert_reload(|lab, _| succeed(lab, &["reload"]));
}

#[test]
fn a_faulty_file_changes_nothing() {
    let lab = lab();
    let settings = Settings::new(&[(1, ""), (2, "")]);
    let (mut pcc, busy) = crowd(&lab, &settings);
    let before = lab.host_state();
    for text in ["lan = [\"lan\"\n", "lan = [\"lan\"]\n[[uplink]]\ndevice = \"wan1\"\nweight = 5000\n"] {
        settings.write(text);
        let output = lab.pcc_output(&["reload"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("error: ") && said.contains(".toml:"), "the file and the line: {said}");
        let seen = pcc.lines();
        pcc.signal(Signal::HUP);
        pcc.wait_for_after(seen, ".toml:", IN_FORCE);
    }
    assert!(pcc.ended().is_none(), "{}", pcc.stderr());
    let difference = tests::lab::HostState::diff(&before, &lab.host_state());
    assert_eq!(difference, "");
    assert_first_syn(&lab.try_new(20), &[1, 2]);
    let (report, left) = busy.stop();
    assert!(report.faults.is_empty(), "{:?}", report.faults.first());
    assert_eq!(left.len(), 500);
}

#[test]
fn a_trial_is_rolled_back_unless_confirmed() {
    let lab = lab();
    let settings = Settings::new(&[(1, ""), (2, "")]);
    let _pcc = settings.run(&lab, &[1, 2]);
    let tried = [(1, ""), (2, "weight = 0")];
    settings.change(&tried);
    succeed(&lab, &["reload", "--try", "3s"]);
    let began = Instant::now();
    assert!(lab.settles(Duration::from_secs(2), &[1]), "the trial is in force");
    assert!(lab.settles(Duration::from_secs(3) + IN_FORCE, &[1, 2]), "nobody confirmed");
    assert!(began.elapsed() > Duration::from_millis(2500), "rolled back after {:?}", began.elapsed());

    succeed(&lab, &["reload", "--try", "3s"]);
    assert!(lab.settles(Duration::from_secs(2), &[1]));
    succeed(&lab, &["reload", "--confirm"]);
    sleep(Duration::from_secs(5));
    assert_first_syn(&lab.try_new(20), &[1]);
    // With nothing to confirm it is a mistake.
    assert_eq!(lab.pcc_output(&["reload", "--confirm"]).status.code(), Some(1));
}

/// `change` takes uplink 2 out of use for new connections and keeps it so over a restart only with `--persist`; `undo`
/// brings it back.
fn assert_kept_as_asked(change: &[&str], undo: &[&str]) {
    let lab = lab();
    let settings = Settings::new(&[(1, ""), (2, "")]);
    let uplink = |words: &[&str], persist: bool| {
        let flag: &[&str] = if persist { &["--persist"] } else { &[] };
        succeed(&lab, &[&["uplink", "wan2"], words, flag].concat());
    };
    let mut pcc = settings.run(&lab, &[1, 2]);
    for persist in [false, true] {
        uplink(change, persist);
        assert!(lab.settles(IN_FORCE, &[1]), "{change:?}");
        pcc.signal(Signal::TERM);
        assert!(pcc.wait(PATIENCE).success(), "{}", pcc.stderr());
        pcc = settings.start(&lab, &[]);
        let expected: &[u32] = if persist { &[1] } else { &[1, 2] };
        assert!(lab.settles(IN_FORCE, expected), "{change:?} after a restart, persist: {persist}");
    }
    uplink(undo, true);
    assert!(lab.settles(IN_FORCE, &[1, 2]), "{undo:?}");
    pcc.signal(Signal::TERM);
    assert!(pcc.wait(PATIENCE).success(), "{}", pcc.stderr());
    let _pcc = settings.start(&lab, &[]);
    assert!(lab.settles(IN_FORCE, &[1, 2]), "{undo:?} after a restart");
}

#[test]
fn a_weight_is_kept_over_a_restart_if_asked() {
    assert_kept_as_asked(&["weight", "0"], &["weight", "1"]);
}

#[test]
fn disabling_is_kept_over_a_restart_if_asked() {
    assert_kept_as_asked(&["disable"], &["enable"]);
}

#[test]
fn draining_is_kept_over_a_restart_if_asked() {
    assert_kept_as_asked(&["drain"], &["enable"]);
}

/// While clients are told, answered connections by the mark of the uplink are reset: inbound ones may not be for ever.
#[test]
fn a_drained_uplink_answers_again_when_its_clients_are_told() {
    let lab = lab();
    let settings = Settings::new(&[(1, "reset_clients = true"), (2, "")]);
    let _pcc = settings.run(&lab, &[1, 2]);
    succeed(&lab, &["uplink", "wan1", "drain", "1s"]);
    // A second until they end, and two in which clients are told.
    sleep(Duration::from_secs(4));
    let router = std::net::SocketAddr::new(lab.isp(1).link.router4.into(), tests::lab::address::PORT);
    let answers = || {
        let inbound = lab.isp(1).client().tcp_connect(None, router, PATIENCE);
        inbound.is_ok_and(|mut inbound| (0..3).all(|_| inbound.exchange(b"again").is_ok()))
    };
    assert!(eventually(PATIENCE, answers), "inbound connections are reset");
}

#[test]
fn draining_ends_connections_after_its_time_and_disabling_at_once() {
    let lab = lab();
    let keys = "reset_clients = true";
    let settings = Settings::new(&[(1, keys), (2, keys)]);
    let _pcc = settings.run(&lab, &[1, 2]);
    for (words, not_before) in [(&["drain", "4s"][..], Duration::from_secs(3)), (&["disable"], Duration::ZERO)] {
        assert!(lab.settles(IN_FORCE, &[1, 2]));
        let open = lab.open_new(30);
        let on_2 = open.iter().filter(|it| it.isp == 2).count();
        let idle = Idle::start(open);
        succeed(&lab, &[&["uplink", "wan2"], words].concat());
        sleep(Duration::from_millis(300));
        assert_first_syn(&lab.try_new(20), &[1]);
        let first = || idle.ended().iter().map(|fault| fault.after).min();
        assert!(
            eventually(not_before + IN_FORCE * 2, || idle.ended().len() == on_2),
            "{} of {on_2}",
            idle.ended().len()
        );
        assert!(first().is_none_or(|first| first >= not_before), "{words:?}: the first after {:?}", first());
        assert!(idle.ended().iter().all(|fault| fault.isp == 2), "{words:?}");
        succeed(&lab, &["uplink", "wan2", "enable"]);
    }
}

#[test]
fn an_unknown_uplink_is_refused() {
    let lab = lab();
    let settings = Settings::new(&[(1, ""), (2, "")]);
    let _pcc = settings.run(&lab, &[1, 2]);
    for change in [&["weight", "2"][..], &["drain"], &["disable"], &["enable"]] {
        let output = lab.pcc_output(&[&["uplink", "wan9"], change].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{change:?}: {said}");
        assert!(said.contains("wan9"), "{said}");
    }
}
