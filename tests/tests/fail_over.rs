//! Uplinks that die and come back. Durations are asserted at five times what is promised; the lab prints exact ones.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tests::lab::address::{PORT, SERVER4, SERVER6, server4, server6};
use tests::lab::{Busy, Defaults, FaultKind, Lab, PATIENCE, Pcc, Protocol, Trial, eventually, marked_connections};

const READY: Duration = Duration::from_secs(10);
/// A carrier that is lost takes new connections away within 200 ms.
const CARRIER: Duration = Duration::from_millis(5 * 200);
/// A gateway that falls silent does within 2 s.
const SILENCE: Duration = Duration::from_secs(5 * 2);
/// Less than the first retransmission of a SYN.
const FIRST_SYN: Duration = Duration::from_millis(900);

fn run(lab: &Lab) -> Pcc {
    let wans = lab.wans();
    let pcc = lab.pcc(&["run", "--wan", &wans, "--lan", lab.lans(), "--hash", "both-addresses-and-ports"]);
    pcc.wait_for("ready", READY);
    for uplink in lab.isps() {
        pcc.wait_for(&format!("uplink {} IPv4: up", uplink.device), READY);
        pcc.wait_for(&format!("uplink {} IPv6: up", uplink.device), READY);
    }
    pcc
}

/// Forty new connections of each family, one after the other.
fn try_new(lab: &Lab, from: u16) -> Vec<Trial> {
    let flow = |i: u16, to| (from + i, SocketAddr::new(to, PORT));
    let flows: Vec<_> = (0..40)
        .flat_map(|i| {
            let host = (i % 20 + 1) as u8;
            [flow(i, server4(host).into()), flow(i, server6(host).into())]
        })
        .collect();
    lab.client().try_many(Protocol::Tcp, &flows, 1, Duration::from_secs(3))
}

fn assert_all_on_first_syn(trials: &[Trial], isps: &[u32]) {
    for trial in trials {
        let isp = trial.isp.clone().unwrap_or_else(|error| panic!("{trial:?}: {error}"));
        assert!(isps.contains(&isp), "{trial:?}");
        assert!(trial.took < FIRST_SYN, "not on the first SYN: {trial:?}");
    }
    for isp in isps {
        assert!(trials.iter().any(|trial| trial.isp == Ok(*isp)), "none on isp{isp}");
    }
}

fn busy(lab: &Lab) -> Busy {
    let flows: Vec<_> = (0..100)
        .map(|i| (40_000 + i, SocketAddr::new(if i % 2 == 0 { SERVER4.into() } else { SERVER6.into() }, PORT)))
        .collect();
    let open = lab.client().open_many(Protocol::Tcp, &flows, 8, PATIENCE).into_iter().collect::<Result<Vec<_>, _>>();
    Busy::start(open.unwrap(), Duration::from_millis(100), PATIENCE)
}

/// Takes uplink `number` away by `cut`, and checks everybody's view until after it is back.
fn assert_fail_over(number: u32, within: Duration, cut: fn(&Lab, u32, bool)) {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let pcc = run(&lab);
    let other = 3 - number;
    assert_all_on_first_syn(&try_new(&lab, 10_000), &[1, 2]);
    let busy = busy(&lab);
    cut(&lab, number, false);
    sleep(within);
    pcc.wait_for(&format!("uplink wan{number} IPv4: down"), Duration::ZERO);
    assert_all_on_first_syn(&try_new(&lab, 11_000), &[other]);
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
    assert!(
        eventually(SILENCE, || try_new(&lab, 12_000).iter().any(|trial| trial.isp == Ok(number))),
        "new connections return"
    );
    assert_all_on_first_syn(&try_new(&lab, 13_000), &[1, 2]);
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
    let _ = try_new(&lab, 10_000);
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
    assert!(eventually(SILENCE, || {
        let trials = try_new(&lab, 12_000);
        [1, 2].iter().all(|isp| trials.iter().any(|trial| trial.isp == Ok(*isp)))
    }));
    assert!(began.elapsed() < SILENCE);
    assert!(pcc.ended().is_none(), "{}", pcc.stderr());
}

#[test]
fn one_family_of_an_uplink_may_die_alone() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let pcc = run(&lab);
    let busy = busy(&lab);
    lab.isp(2).namespace().nft(
        "table ip6 silent {
            chain in { type filter hook prerouting priority raw; policy drop; }
            chain out { type filter hook output priority raw; policy drop; }
        }",
    );
    pcc.wait_for("uplink wan2 IPv6: down", SILENCE);
    // The line is the decision; acting on it takes some milliseconds.
    sleep(CARRIER);
    let trials = try_new(&lab, 11_000);
    let (six, four): (Vec<_>, Vec<_>) = trials.into_iter().partition(|trial| trial.destination.is_ipv6());
    assert_all_on_first_syn(&six, &[1]);
    assert_all_on_first_syn(&four, &[1, 2]);
    let (report, _) = busy.stop();
    assert!(report.faults.iter().all(|fault| fault.isp == 2 && fault.local.is_ipv6()), "{:?}", report.faults);
}
