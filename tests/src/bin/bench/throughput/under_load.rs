//! An uplink that dies while the processor has nothing but packets to do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use pcc_ebpf::traffic::Place;
use tests::lab::PATIENCE;
use tests::lab::settings::wait_until_up;

use super::case::{Family, Packets};
use super::stand::{Stand, measured, pin};

const LOAD: Packets = Packets { family: Family::V4, size: 64, flows: 1_000 };
/// Frames between two looks whether it is over.
const PIECE: u32 = 50_000;
/// Percent of the packets that must arrive by the other uplink.
const ALL: u64 = 98;

/// Milliseconds from the loss of carrier of uplink 1 until all packets arrive at ISP 2.
pub fn fail_over(stand: &mut Stand) -> Result<f64> {
    stand.warm_up(&LOAD, 0, LOAD.flows)?;
    stand.traffic.order(&LOAD, 0, LOAD.flows, false)?;
    let stand = &*stand;
    let over = AtomicBool::new(false);
    let time = scope(|threads| {
        let sender = threads.spawn(|| -> Result<()> {
            let processor = measured()?;
            stand.lab.client().namespace().run(|| {
                pin(processor)?;
                while !over.load(Ordering::Relaxed) {
                    stand.traffic.send(PIECE)?;
                }
                Ok(())
            })
        });
        sleep(Duration::from_millis(500));
        let time = lose(stand);
        over.store(true, Ordering::Relaxed);
        sender.join().ok().context("the sender panicked")??;
        time
    })?;
    let pcc = stand.pcc.as_ref().context("there is no pcc")?;
    let seen = pcc.lines();
    stand.lab.carrier(1, true);
    wait_until_up(pcc, seen, &[1]);
    Ok(time.as_secs_f64() * 1e3)
}

fn lose(stand: &Stand) -> Result<Duration> {
    let start = Instant::now();
    stand.lab.carrier(1, false);
    let mut before = stand.traffic.counts()?;
    while start.elapsed() < PATIENCE {
        sleep(Duration::from_millis(2));
        let counts = stand.traffic.counts()?;
        let since = counts.since(&before);
        if since.sent > 500 && since.at(Place::Isp2) * 100 >= since.sent * ALL {
            return Ok(start.elapsed());
        }
        before = counts;
    }
    ensure!(false, "{}: packets are still lost {PATIENCE:?} after the uplink", stand.candidate);
    Ok(PATIENCE)
}
