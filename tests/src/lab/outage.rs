//! How long new connections suffer when something happens.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::address::{PORT, server4, server6};
use super::server::runtime;
use super::{Lab, Protocol};

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
    let client = lab.client().clone();
    let begun = Instant::now();
    let trickle = runtime().spawn(async move {
        let mut trials = JoinSet::new();
        let mut next = begun;
        let mut number = 0u16;
        while begun.elapsed() < BEFORE + watch {
            let host = (number % 200 + 1) as u8;
            for to in [IpAddr::from(server4(host)), server6(host).into()] {
                let client = client.clone();
                trials.spawn(async move {
                    let at = Instant::now();
                    let opened = client.begin(Protocol::Tcp, from + number, SocketAddr::new(to, PORT), FIRST_SYN).await;
                    (at, to.is_ipv6(), opened.is_ok_and(|it| it.took < FIRST_SYN))
                });
            }
            number += 1;
            next += every;
            sleep(next.saturating_duration_since(Instant::now())).await;
        }
        trials.join_all().await
    });
    std::thread::sleep(BEFORE);
    let moment = Instant::now();
    cut();
    let trials = runtime().block_on(trickle).unwrap_or_else(|error| panic!("the connections: {error}"));
    [false, true].map(|ipv6| {
        let after = trials.iter().filter(|(at, six, _)| *six == ipv6 && *at >= moment);
        let failed: Vec<_> = after.clone().filter(|(_, _, good)| !good).map(|(at, ..)| *at - moment).collect();
        Outage {
            gap: failed.iter().max().map_or(Duration::ZERO, |last| *last + every),
            failed: failed.len(),
            tried: after.count(),
        }
    })
}
