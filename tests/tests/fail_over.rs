//! Uplinks that die and come back. Durations are asserted at five times what is promised; the lab prints exact ones.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tests::lab::address::{PORT, SERVER4};
use tests::lab::fresh::assert_first_syn;
use tests::lab::settings::{READY, wait_until_up};
use tests::lab::{Defaults, FaultKind, Lab, PATIENCE, Pcc, eventually, marked_connections};

/// A carrier that is lost takes new connections away within 100 ms.
const CARRIER: Duration = Duration::from_millis(5 * 100);
/// A gateway that falls silent does within 1 s.
const SILENCE: Duration = Duration::from_secs(5);
/// Until new connections take an uplink that is back.
const BACK: Duration = Duration::from_secs(10);

fn run(lab: &Lab) -> Pcc {
    let wans = lab.wans();
    let pcc = lab.pcc(&["run", "--wan", &wans, "--lan", lab.lans(), "--hash", "both-addresses-and-ports"]);
    pcc.wait_for("ready", READY);
    wait_until_up(&pcc, 0, &[1, 2]);
    pcc
}

/// Takes uplink `number` away by `cut`, and checks everybody's view until after it is back.
fn assert_fail_over(number: u32, within: Duration, cut: fn(&Lab, u32, bool)) {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let pcc = run(&lab);
    let other = 3 - number;
    assert_first_syn(&lab.try_new(40), &[1, 2]);
    let busy = lab.busy_new(50);
    cut(&lab, number, false);
    sleep(within);
    pcc.wait_for(&format!("uplink wan{number} IPv4: down"), Duration::ZERO);
    assert_first_syn(&lab.try_new(40), &[other]);
    // Only connections of the dead uplink suffered.
    let (report, _) = busy.stop();
    assert!(report.faults.iter().all(|fault| fault.isp == number), "{:?}", report.faults);
    assert!(report.faults.iter().all(|fault| fault.kind != FaultKind::Moved), "{:?}", report.faults);
    let mark = 0x80 | number;
    let left = marked_connections(lab.router(), 0x1f)
        .iter()
        .filter(|line| line.contains(&format!(" mark={mark} ")) && line.contains("ESTABLISHED"))
        .count();
    assert_eq!(left, 0, "connections of the dead uplink");
    cut(&lab, number, true);
    pcc.wait_for(&format!("uplink wan{number} IPv6: up"), READY);
    assert!(eventually(BACK, || lab.try_new(40).iter().any(|trial| trial.isp == Ok(number))), "new connections return");
    assert_first_syn(&lab.try_new(40), &[1, 2]);
}

#[test]
fn loss_of_carrier_of_the_default_uplink() {
    assert_fail_over(1, CARRIER, Lab::carrier);
}

#[test]
fn loss_of_carrier_of_the_other_uplink() {
    assert_fail_over(2, CARRIER, Lab::carrier);
}

#[test]
fn a_silent_gateway_of_the_default_uplink() {
    assert_fail_over(1, SILENCE, |lab, number, live| lab.silence(number, !live));
}

#[test]
fn a_silent_gateway_of_the_other_uplink() {
    assert_fail_over(2, SILENCE, |lab, number, live| lab.silence(number, !live));
}

#[test]
fn all_uplinks_dead_is_survived() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let mut pcc = run(&lab);
    let _ = lab.try_new(40);
    for number in [1, 2] {
        lab.silence(number, true);
    }
    pcc.wait_for("no uplink is up for IPv4", SILENCE);
    pcc.wait_for("no uplink is up for IPv6", SILENCE);
    assert!(eventually(PATIENCE, || marked_connections(lab.router(), 0x80).iter().all(|line| line.contains("icmp"))));
    assert!(lab.client().tcp_connect(None, SocketAddr::new(SERVER4.into(), PORT), Duration::from_millis(300)).is_err());
    for number in [1, 2] {
        lab.silence(number, false);
    }
    let began = Instant::now();
    assert!(eventually(BACK, || {
        let trials = lab.try_new(40);
        [1, 2].iter().all(|isp| trials.iter().any(|trial| trial.isp == Ok(*isp)))
    }));
    assert!(began.elapsed() < BACK);
    assert!(pcc.ended().is_none(), "{}", pcc.stderr());
}

#[test]
fn one_family_of_an_uplink_may_die_alone() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let pcc = run(&lab);
    let busy = lab.busy_new(50);
    lab.isp(2).namespace().nft(
        "table ip6 silent {
            chain in { type filter hook prerouting priority raw; policy drop; }
            chain out { type filter hook output priority raw; policy drop; }
        }",
    );
    pcc.wait_for("uplink wan2 IPv6: down", SILENCE);
    // The line is the decision; acting on it takes some milliseconds.
    sleep(CARRIER);
    let trials = lab.try_new(40);
    let (six, four): (Vec<_>, Vec<_>) = trials.into_iter().partition(|trial| trial.destination.is_ipv6());
    assert_first_syn(&six, &[1]);
    assert_first_syn(&four, &[1, 2]);
    let (report, _) = busy.stop();
    assert!(report.faults.iter().all(|fault| fault.isp == 2 && fault.local.is_ipv6()), "{:?}", report.faults);
}
