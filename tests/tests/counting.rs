//! Very many connections: how many there are is counted beside the controller's loop.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pcc_userspace::status::Status;
use tests::lab::settings::READY;
use tests::lab::signs::Signs;
use tests::lab::tracked::track;
use tests::lab::{Defaults, Lab};

/// As many as fit below `nf_conntrack_max`, which is the machine's, beside those of other tests.
const CONNECTIONS: usize = 200_000;
/// The loop is late by no more than this.
const LATE: Duration = Duration::from_millis(100);
/// Of uplink 1 under the default mask.
const MARK: u32 = 0x81;

fn status(lab: &Lab) -> Status {
    let output = lab.pcc_output(&["status", "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_status_of_very_many_connections_does_not_delay_the_loop() {
    let (lab, signs) = (Lab::builder().defaults(Defaults::All).build(), Signs::new());
    let [socket, watchdog] = signs.environment();
    let environment = [(socket.0, socket.1.as_str()), (watchdog.0, watchdog.1.as_str())];
    let pcc = lab.pcc_with(&["run", "--wan", &lab.wans(), "--lan", lab.lans()], &environment);
    pcc.wait_for("ready", READY);
    let before = status(&lab);
    assert!(before.connections_age_seconds < 1.0, "{before:?}");
    track(lab.router(), 0..CONNECTIONS, MARK);
    let quiet = signs.lateness(pcc.id(), || false);

    let over = AtomicBool::new(false);
    let (asked, busy) = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let end = Instant::now() + Duration::from_secs(5);
            let mut asked = Vec::new();
            while Instant::now() < end {
                let begun = Instant::now();
                asked.push((status(&lab), begun.elapsed()));
            }
            over.store(true, Ordering::Relaxed);
            asked
        });
        let busy = signs.lateness(pcc.id(), || !over.load(Ordering::Relaxed) && !asking.is_finished());
        (asking.join().unwrap(), busy)
    });
    let slowest = asked.iter().map(|(_, took)| *took).max().unwrap();
    println!("the loop alone: {quiet}\nwhile {} ask for a status, {slowest:?} at most: {busy}", asked.len());
    // The first one already is of after they began.
    for (status, _) in &asked {
        assert!(status.uplinks[0].connections >= CONNECTIONS as u64, "{status:?}");
        assert!(status.connections_age_seconds < 60.0, "{status:?}");
    }
    assert!(busy.own(100) < LATE && busy.at(95) < LATE, "{busy}");

    // Who comes from the other end of the house gets the same.
    let scraped = String::from_utf8(lab.pcc_output(&["metrics"]).stdout).unwrap();
    let line = scraped.lines().find(|line| line.starts_with("pcc_uplink_connections{") && line.contains("wan1"));
    let count: f64 = line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap();
    assert!(count >= CONNECTIONS as f64, "{scraped}");
}
