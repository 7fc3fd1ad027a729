//! Which uplinks take connections when not all can, and what becomes of the others' connections.

use std::thread::sleep;
use std::time::Duration;

use tests::lab::fresh::{assert_first_syn, share};
use tests::lab::settings::wait_until_up;
use tests::lab::{Conversation, Defaults, FaultKind, Idle, Lab, Settings, eventually};

/// Fail-over by carrier takes 100 ms, and is asserted at ten times that.
const MOVED: Duration = Duration::from_secs(1);
/// Coming back takes three answers.
const BACK: Duration = Duration::from_secs(10);

fn lab() -> Lab {
    Lab::builder().defaults(Defaults::All).build()
}

/// Opens connections on the backup, uplink 2, while uplink 1 is down, and brings that back.
fn connections_of_the_backup(lab: &Lab, keys: &str) -> (tests::lab::Pcc, Vec<Conversation>) {
    let settings = Settings::new(&[(1, ""), (2, keys)]);
    let pcc = settings.run(lab, &[1, 2]);
    assert_first_syn(&lab.try_new(20), &[1]);
    lab.carrier(1, false);
    assert!(lab.settles(MOVED * 5, &[2]), "tier 2 takes over");
    let open = lab.open_new(25);
    assert!(open.iter().all(|it| it.isp == 2));
    let seen = pcc.lines();
    lab.carrier(1, true);
    wait_until_up(&pcc, seen, &[1]);
    assert!(lab.settles(BACK, &[1]), "new connections go back to tier 1");
    (pcc, open)
}

#[test]
fn a_later_tier_serves_only_while_no_earlier_one_can() {
    let lab = Lab::builder().uplinks(3).defaults(Defaults::All).build();
    let settings = Settings::new(&[(1, ""), (2, ""), (3, "tier = 2")]);
    let _pcc = settings.run(&lab, &[1, 2, 3]);
    assert_first_syn(&lab.try_new(30), &[1, 2]);
    lab.carrier(1, false);
    sleep(MOVED);
    assert_first_syn(&lab.try_new(20), &[2]);
    lab.carrier(2, false);
    sleep(MOVED);
    assert_first_syn(&lab.try_new(20), &[3]);
    lab.carrier(1, true);
    assert!(lab.settles(BACK, &[1]));
}

#[test]
fn by_default_connections_stay_on_the_backup() {
    let lab = lab();
    let (_pcc, open) = connections_of_the_backup(&lab, "tier = 2");
    let idle = Idle::start(open);
    sleep(Duration::from_secs(4));
    assert!(idle.ended().is_empty(), "{:?}", idle.ended().first());
}

#[test]
fn connections_are_drained_from_the_backup_after_its_time() {
    let lab = lab();
    let (_pcc, open) = connections_of_the_backup(&lab, "tier = 2\nfail_back = \"4s\"\nreset_clients = true");
    let idle = Idle::start(open);
    sleep(Duration::from_millis(500));
    assert!(idle.ended().is_empty(), "not before the time: {:?}", idle.ended().first());
    assert!(eventually(Duration::from_secs(4 + 5), || idle.ended().len() == 50), "{} of 50", idle.ended().len());
    assert!(idle.ended().iter().all(|fault| fault.kind == FaultKind::Reset));
}

#[test]
fn connections_are_moved_from_the_backup_at_once() {
    let lab = lab();
    let (_pcc, open) = connections_of_the_backup(&lab, "tier = 2\nfail_back = \"move\"\nreset_clients = true");
    let idle = Idle::start(open);
    assert!(eventually(Duration::from_secs(5), || idle.ended().len() == 50), "{} of 50", idle.ended().len());
    assert!(idle.ended().iter().all(|fault| fault.kind == FaultKind::Reset));
}

#[test]
fn kept_connections_survive_an_outage() {
    let lab = lab();
    let settings = Settings::new(&[(1, "on_down = \"keep\""), (2, "on_down = \"keep\"")]);
    let pcc = settings.run(&lab, &[1, 2]);
    let mut open = lab.open_new(50);
    let on_2 = open.iter().filter(|it| it.isp == 2).count();
    assert!(on_2 > 10, "{on_2} on isp2");
    let seen = pcc.lines();
    lab.carrier(2, false);
    sleep(Duration::from_secs(5));
    pcc.wait_for_after(seen, "uplink wan2 IPv4: down", Duration::ZERO);
    assert_first_syn(&lab.try_new(20), &[1]);
    lab.carrier(2, true);
    wait_until_up(&pcc, seen, &[2]);
    for conversation in &mut open {
        conversation.patience = Duration::from_secs(10);
        conversation
            .exchange(b"still there")
            .unwrap_or_else(|error| panic!("on isp{}, from {}: {error}", conversation.isp, conversation.local));
    }
}

#[test]
fn released_connections_do_not() {
    let lab = lab();
    let settings = Settings::new(&[(1, "on_down = \"release\""), (2, "on_down = \"release\"")]);
    let pcc = settings.run(&lab, &[1, 2]);
    let mut open = lab.open_new(50);
    let seen = pcc.lines();
    lab.carrier(2, false);
    pcc.wait_for_after(seen, "uplink wan2 IPv4: down", MOVED);
    pcc.wait_for_after(seen, "uplink wan2 IPv6: down", MOVED);
    sleep(MOVED);
    for conversation in &mut open {
        conversation.patience = Duration::from_secs(2);
        let answered = conversation.exchange(b"still there").is_ok();
        assert_eq!(answered, conversation.isp == 1, "{}", conversation.local);
    }
}

#[test]
fn a_degraded_uplink_gets_less() {
    let lab = lab();
    // So many losses in a row do not come by chance: it does not go down.
    let keys = "degraded = { loss = 15, weight = 20 }\ncheck = { target = \"gateway\", losses = 20 }";
    let settings = Settings::new(&[(1, ""), (2, keys)]);
    let pcc = settings.run(&lab, &[1, 2]);
    let before = share(&lab.try_new(200), 2);
    assert!((0.4..0.6).contains(&before), "{before}");
    lab.loss(2, 30);
    // Ten seconds are the goal.
    pcc.wait_for("uplink wan2 IPv4: degraded", Duration::from_secs(50));
    pcc.wait_for("uplink wan2 IPv6: degraded", Duration::from_secs(50));
    lab.loss(2, 0);
    // Before it is well again. A fifth of its weight beside a whole one: a sixth.
    let after = share(&lab.try_new(200), 2);
    assert!((0.08..0.27).contains(&after), "{after} of new connections");
    assert!(eventually(BACK * 6, || share(&lab.try_new(100), 2) > 0.4), "its weight is back");
}
