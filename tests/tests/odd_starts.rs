//! Starts and stops at the wrong moment.

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;
use tests::lab::fresh::assert_first_syn;
use tests::lab::{BpfObjects, Defaults, HostState, Lab, PATIENCE, Settings, eventually, marked_connections};

/// So long after `ready` no connection may hang on an uplink that was dead before.
const KNOWN: Duration = Duration::from_secs(1);
/// An uplink that comes has to answer before it takes connections.
const BACK: Duration = Duration::from_secs(15);
const FREED: Duration = Duration::from_secs(5);

fn lab() -> Lab {
    Lab::builder().defaults(Defaults::All).build()
}

/// Starts while uplink `number` is dead, and lets it come back.
fn assert_start_with_a_dead(number: u32, keys: &str, set: fn(&Lab, u32, bool)) {
    let lab = lab();
    set(&lab, number, true);
    let settings = Settings::new(&[(1, keys), (2, keys)]);
    let _pcc = settings.start(&lab, &[]);
    sleep(KNOWN);
    assert_first_syn(&lab.try_new(30), &[3 - number]);
    set(&lab, number, false);
    assert!(lab.settles(BACK, &[1, 2]), "uplink {number} comes back");
}

#[test]
fn a_start_while_an_uplink_has_no_carrier() {
    for number in [1, 2] {
        assert_start_with_a_dead(number, "", |lab, number, dead| lab.carrier(number, !dead));
    }
}

#[test]
fn a_start_while_a_gateway_is_silent() {
    for number in [1, 2] {
        assert_start_with_a_dead(number, "", Lab::silence);
    }
}

#[test]
fn a_start_while_there_is_a_black_hole() {
    let keys = "check = { target = [\"203.0.113.201\", \"2001:db8:9::201\"] }";
    for number in [1, 2] {
        assert_start_with_a_dead(number, keys, Lab::black_hole);
    }
}

#[test]
fn a_start_while_all_uplinks_are_dead() {
    let lab = lab();
    for number in [1, 2] {
        lab.silence(number, true);
    }
    let settings = Settings::new(&[(1, ""), (2, "")]);
    let _pcc = settings.start(&lab, &[]);
    sleep(Duration::from_secs(3));
    for number in [1, 2] {
        lab.silence(number, false);
    }
    assert!(lab.settles(BACK, &[1, 2]));
}

#[test]
fn a_start_before_an_uplink_exists() {
    for number in [1, 2] {
        let lab = lab();
        lab.unplug(number);
        let settings = Settings::new(&[(1, ""), (2, "")]);
        let _pcc = settings.start(&lab, &[]);
        assert_first_syn(&lab.try_new(20), &[3 - number]);
        lab.plug(number);
        assert!(lab.settles(BACK, &[1, 2]), "uplink {number} is taken when it appears");
    }
}

#[test]
fn a_start_before_anything_exists() {
    let lab = lab();
    let before = lab.host_state();
    lab.unplug_lan();
    lab.unplug(1);
    lab.unplug(2);
    let settings = Settings::new(&[(1, ""), (2, "")]);
    let mut pcc = settings.start(&lab, &[]);
    sleep(Duration::from_secs(1));
    lab.plug(2);
    lab.plug_lan();
    assert!(lab.settles(BACK, &[2]));
    lab.plug(1);
    assert!(lab.settles(BACK, &[1, 2]));
    let objects = BpfObjects::attached(lab.router());
    pcc.signal(Signal::TERM);
    assert!(pcc.wait(PATIENCE).success(), "{}", pcc.stderr());
    assert_as_before(&lab, &before, &objects);
}

fn assert_as_before(lab: &Lab, before: &HostState, objects: &BpfObjects) {
    assert_eq!(objects.remaining(FREED), BpfObjects::default(), "still loaded");
    let difference = || HostState::diff(before, &lab.host_state());
    assert!(eventually(PATIENCE, || difference().is_empty()), "{}", difference());
    assert_eq!(marked_connections(lab.router(), 0xff).len(), 0);
}

/// Stops so long after the cut.
fn assert_stop_during_fail_over(after: Duration, set: fn(&Lab, u32, bool)) {
    let lab = lab();
    let before = lab.host_state();
    let settings = Settings::new(&[(1, "reset_clients = true"), (2, "reset_clients = true")]);
    let mut pcc = settings.run(&lab, &[1, 2]);
    let busy = lab.busy_new(100);
    let objects = BpfObjects::attached(lab.router());
    set(&lab, 2, true);
    sleep(after);
    pcc.signal(Signal::TERM);
    assert!(pcc.wait(PATIENCE).success(), "{}", pcc.stderr());
    drop(busy.stop());
    set(&lab, 2, false);
    assert_as_before(&lab, &before, &objects);
}

#[test]
fn a_stop_while_a_carrier_is_lost_leaves_the_host_as_it_was() {
    for milliseconds in [0, 5, 20, 50] {
        let cut = |lab: &Lab, number, dead: bool| lab.carrier(number, !dead);
        assert_stop_during_fail_over(Duration::from_millis(milliseconds), cut);
    }
}

#[test]
fn a_stop_while_a_gateway_falls_silent_leaves_the_host_as_it_was() {
    for milliseconds in [300, 900, 2000] {
        assert_stop_during_fail_over(Duration::from_millis(milliseconds), Lab::silence);
    }
}

#[test]
fn a_stop_while_a_device_is_missing_leaves_the_rest_as_it_was() {
    let lab = lab();
    let before = lab.host_state();
    let settings = Settings::new(&[(1, ""), (2, "")]);
    let mut pcc = settings.run(&lab, &[1, 2]);
    lab.unplug(2);
    pcc.signal(Signal::TERM);
    assert!(pcc.wait(PATIENCE).success(), "{}", pcc.stderr());
    lab.plug(2);
    assert_as_before(&lab, &before, &BpfObjects::default());
}

/// An older or newer `pcc` left its data path, which this one cannot adopt: its pins are in a folder of another number.
#[test]
fn a_data_path_of_another_version_is_replaced_and_connections_live_on() {
    let lab = lab();
    let before = lab.host_state();
    let settings = Settings::new(&[(1, ""), (2, "")]);
    let mut pcc = settings.start(&lab, &["--keep"]);
    assert!(lab.settles(BACK, &[1, 2]));
    let busy = lab.busy_new(100);
    pcc.signal(Signal::TERM);
    assert!(pcc.wait(PATIENCE).success(), "{}", pcc.stderr());
    let old = BpfObjects::attached(lab.router());
    assert!(!old.programs.is_empty(), "`--keep` keeps");

    let pins = PathBuf::from("/sys/fs/bpf/pcc").join(lab.instance());
    let versions = || fs::read_dir(&pins).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    let [version] = &versions()[..] else { panic!("{:?} are pinned", versions()) };
    let foreign = pins.join("9999");
    fs::rename(pins.join(version), &foreign).unwrap();

    let mut pcc = settings.start(&lab, &[]);
    assert_first_syn(&lab.try_new(30), &[1, 2]);
    let (report, left) = busy.stop();
    assert!(report.faults.is_empty(), "{} faults, such as {:?}", report.faults.len(), report.faults[0]);
    assert_eq!(left.len(), 200);
    let places = |objects: &BpfObjects| objects.places.keys().cloned().collect::<Vec<_>>();
    let new = BpfObjects::attached(lab.router());
    assert_eq!(places(&new), places(&old), "one program in each place");
    assert_eq!(old.remaining(FREED), BpfObjects::default(), "of the other version still loaded");
    assert_eq!(versions(), std::slice::from_ref(version), "its pins have gone");
    pcc.signal(Signal::TERM);
    assert!(pcc.wait(PATIENCE).success(), "{}", pcc.stderr());
    assert_as_before(&lab, &before, &new);
}
