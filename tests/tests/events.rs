//! What happens is told: to whoever listens, and to the hook.

use std::fs;
use std::time::Duration;

use pcc_userspace::events::{Event, Kind};
use rustix::process::Signal;
use tests::lab::settings::wait_until_up;
use tests::lab::{Defaults, Lab, Settings, eventually};

/// A carrier that is lost is told within 100 ms; the hook settles for 200.
const TOLD: Duration = Duration::from_secs(5);

fn read(text: &str) -> Vec<Event> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn is_down(event: &Event) -> bool {
    matches!(&event.kind, Kind::Health { uplink, family, to, .. } if uplink == "wan2" && family == "IPv4" && to == "down")
}

fn leaves(event: &Event) -> bool {
    matches!(&event.kind, Kind::Taking { family, uplinks } if family == "IPv6" && *uplinks == ["wan1"])
}

#[test]
fn listeners_and_the_hook_are_told_what_happens() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("events");
    let settings = Settings::new(&[]);
    // The hook fails each time, which hurts neither the controller nor later events.
    settings.write(&format!(
        "lan = [\"lan\"]\nhook = [\"sh\", \"-c\", \"cat >> {}; exit 3\"]\n[[uplink]]\ndevice = \"wan1\"\n[[uplink]]\ndevice = \"wan2\"\n",
        log.display()
    ));
    let mut pcc = settings.run(&lab, &[1, 2]);
    let listener = lab.pcc(&["events", "--json"]);
    let people = lab.pcc(&["events"]);
    let hooked = || read(&fs::read_to_string(&log).unwrap_or_default());
    assert!(eventually(TOLD, || hooked().iter().any(|event| event.kind == Kind::Started)), "{}", pcc.stderr());
    std::thread::sleep(Duration::from_millis(300));
    let seen = pcc.lines();
    lab.carrier(2, false);
    assert!(eventually(TOLD, || read(&listener.stdout()).iter().any(is_down)), "{}", listener.stdout());
    assert!(eventually(TOLD, || read(&listener.stdout()).iter().any(leaves)), "{}", listener.stdout());
    assert!(eventually(TOLD, || hooked().iter().any(is_down)), "{}", pcc.stderr());
    assert!(eventually(TOLD, || people.stdout().contains("uplink wan2 IPv4: down: ")), "{}", people.stdout());
    lab.carrier(2, true);
    wait_until_up(&pcc, seen, &[2]);
    assert!(lab.pcc_output(&["uplink", "wan2", "weight", "3"]).status.success());
    assert!(lab.pcc_output(&["reload"]).status.success());
    pcc.signal(Signal::TERM);
    assert!(pcc.wait(Duration::from_secs(15)).success(), "{}", pcc.stderr());
    let kinds: Vec<Kind> = hooked().into_iter().map(|event| event.kind).collect();
    let changed = Kind::Changed { uplink: "wan2".into(), change: "weight 3".into() };
    for kind in [changed, Kind::Reloaded, Kind::Stopped] {
        assert!(kinds.contains(&kind), "the hook was not told of {kind:?}: {kinds:?}");
    }
    assert!(pcc.stderr().contains("hook: `sh` ended with exit status: 3"), "{}", pcc.stderr());
    assert!(hooked().iter().all(|event| event.instance == lab.instance()));
}
