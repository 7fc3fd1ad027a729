//! Measures how long new connections suffer when an uplink goes.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use tests::lab::address::{PORT, server4, server6};
use tests::lab::{Lab, Protocol};

/// Less than the first retransmission of a SYN.
const FIRST_SYN: Duration = Duration::from_millis(900);
const EVERY: Duration = Duration::from_millis(10);

/// What happened to the connections that were begun around an outage.
#[derive(Debug)]
pub struct Outage {
    /// From the cut to the begin of the last connection that did not succeed on its first SYN; zero if all did.
    pub gap: Duration,
    /// How many did not.
    pub failed: usize,
    /// How many were begun.
    pub tried: usize,
}

/// Begins a connection every 10 ms for `watch`, both families in turn, and calls `cut` at the beginning.
pub fn measure(lab: &Lab, watch: Duration, from: u16, cut: impl FnOnce()) -> Outage {
    let (sender, receiver) = mpsc::channel();
    cut();
    let began = Instant::now();
    let tried = scope(|threads| {
        let mut tried = 0;
        while began.elapsed() < watch {
            let sender = sender.clone();
            let host = (tried % 200 + 1) as u8;
            let to = if tried % 2 == 0 { server4(host).into() } else { server6(host).into() };
            let at = began.elapsed();
            let port = from + tried;
            threads.spawn(move || {
                let opened = lab.client().open(Protocol::Tcp, Some(port), SocketAddr::new(to, PORT), FIRST_SYN);
                let _ = sender.send((at, opened.is_ok_and(|it| it.took < FIRST_SYN)));
            });
            tried += 1;
            sleep(EVERY);
        }
        tried
    });
    drop(sender);
    let failed: Vec<Duration> = receiver.iter().filter(|(_, good)| !good).map(|(at, _)| at).collect();
    Outage {
        gap: failed.iter().max().map_or(Duration::ZERO, |last| *last + EVERY),
        failed: failed.len(),
        tried: tried.into(),
    }
}
