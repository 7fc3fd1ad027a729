//! How long new connections suffer when something happens.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::address::{PORT, server4, server6};
use super::server::runtime;
use super::{Client, Lab, Protocol};

/// Less than the first retransmission of a SYN.
pub const FIRST_SYN: Duration = Duration::from_millis(900);
/// Connections that are begun before it happens.
const BEFORE: Duration = Duration::from_millis(200);

/// What happened to the connections of a family that were begun after something had happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outage {
    /// From the moment that it was told to happen to the begin of the last connection that did not succeed on its first
    /// SYN, and the time until the next was begun; zero if all succeeded.
    pub gap: Duration,
    /// How many did not.
    pub failed: usize,
    /// How many were begun.
    pub tried: usize,
}

/// Begins a connection of each family every `every` from source port `from` up, calls `cut` after a while, and goes on
/// for `watch`. What comes back is about IPv4 and IPv6.
pub fn measure(lab: &Lab, watch: Duration, every: Duration, from: u16, cut: impl FnOnce()) -> [Outage; 2] {
    let trials = runtime().spawn(trickle(lab.client().clone(), BEFORE + watch, every, from));
    std::thread::sleep(BEFORE);
    let moment = Instant::now();
    cut();
    judge(&block_on(trials), moment, every)
}

/// The same about something that happened at `moment` already.
pub fn measure_since(lab: &Lab, moment: Instant, watch: Duration, every: Duration, from: u16) -> [Outage; 2] {
    judge(&block_on(runtime().spawn(trickle(lab.client().clone(), watch, every, from))), moment, every)
}

struct Trial {
    at: Instant,
    ipv6: bool,
    good: bool,
}

async fn trickle(client: Client, watch: Duration, every: Duration, from: u16) -> Vec<Trial> {
    let mut trials = JoinSet::new();
    let begun = Instant::now();
    let mut next = begun;
    let mut number = 0u16;
    while begun.elapsed() < watch {
        let host = (number % 200 + 1) as u8;
        for to in [IpAddr::from(server4(host)), server6(host).into()] {
            let client = client.clone();
            trials.spawn(async move {
                let at = Instant::now();
                let opened = client.begin(Protocol::Tcp, from + number, SocketAddr::new(to, PORT), FIRST_SYN).await;
                Trial { at, ipv6: to.is_ipv6(), good: opened.is_ok_and(|it| it.took < FIRST_SYN) }
            });
        }
        number += 1;
        next += every;
        sleep(next.saturating_duration_since(Instant::now())).await;
    }
    trials.join_all().await
}

fn block_on(trials: JoinHandle<Vec<Trial>>) -> Vec<Trial> {
    runtime().block_on(trials).unwrap_or_else(|error| panic!("the connections: {error}"))
}

fn judge(trials: &[Trial], moment: Instant, every: Duration) -> [Outage; 2] {
    [false, true].map(|ipv6| {
        let after: Vec<_> = trials.iter().filter(|trial| trial.ipv6 == ipv6 && trial.at >= moment).collect();
        let failed: Vec<_> = after.iter().filter(|trial| !trial.good).map(|trial| trial.at - moment).collect();
        Outage {
            gap: failed.iter().max().map_or(Duration::ZERO, |last| *last + every),
            failed: failed.len(),
            tried: after.len(),
        }
    })
}
