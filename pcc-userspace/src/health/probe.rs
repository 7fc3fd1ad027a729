//! Probes: questions to what a health check asks, each by one uplink whatever the routes say.
//!
//! Every socket is bound to the uplink's device and carries its mark: the device alone does not lead the kernel to the
//! uplink's gateway, nor does the mark alone keep a packet on the device.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::Socket;
use tokio::task::JoinSet;

use crate::config::{Page, Target};
use crate::host::Family;
use icmp::{Heard, Pinger};

pub mod arp;
mod dns;
mod filter;
mod http;
pub mod icmp;
mod latest;
pub mod nd;
mod tcp;

/// Answers are reported for so many timeouts.
const PATIENCE: u32 = 4;
/// Connections of one prober that are open at once; a probe beyond them is lost.
const MOST_CALLS: usize = 32;

/// How the packets of a probe leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The uplink's device.
    pub device: String,
    /// Its index: the scope of link-local addresses.
    pub ifindex: u32,
    /// Packet mark in host order that leads to the uplink's routing table.
    pub mark: u32,
    /// The next hop in the family that is probed.
    pub gateway: Option<IpAddr>,
}

/// What became of a probe. One of which nothing is heard is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered after this round trip: of TCP that of the handshake, of HTTP until all that was asked for was there.
    Answered(Duration),
    /// It cannot be answered any more, and why: unreachable, refused, not sent, the wrong answer.
    Failed(String),
}

/// An answer to a ping or to a question for a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The number that the question was sent with.
    pub sequence: u16,
    /// Time from sending to reading the answer.
    pub round_trip: Duration,
}

/// Asks one target by one uplink. Its sockets and tasks end with the value.
pub struct Prober {
    asker: Asker,
    path: Arc<Path>,
    timeout: Duration,
    report: Report,
    /// One that listens, or one for each call.
    tasks: Mutex<JoinSet<()>>,
}

type Report = Arc<dyn Fn(u16, Outcome) + Send + Sync>;

enum Asker {
    Packets(Arc<Packets>),
    Calls(Arc<Call>),
}

impl Prober {
    /// Prepares to ask `target` in `family`; `None` if there is nothing to ask: no gateway, a target of the other family,
    /// the neighbour on a link without link-layer addresses.
    ///
    /// Outcomes go to `report` in a task of the tokio runtime, with the number of the probe. A late answer to a ping or from
    /// a neighbour is reported too, for up to four timeouts; all other probes are given up after `timeout`.
    ///
    /// # Errors
    /// `CAP_NET_RAW` or `CAP_NET_ADMIN` is missing, or there is no such device. A device that was removed and made again
    /// needs a new prober.
    pub fn start(
        target: &Target,
        family: Family,
        path: &Path,
        timeout: Duration,
        report: impl Fn(u16, Outcome) + Send + Sync + 'static,
    ) -> io::Result<Option<Self>> {
        if target.family().is_some_and(|only| only != family) {
            return Ok(None);
        }
        let Some(asker) = Asker::new(target, family, path)? else { return Ok(None) };
        let report: Report = Arc::new(report);
        let mut tasks = JoinSet::new();
        if let Asker::Packets(packets) = &asker {
            tasks.spawn(listen(packets.clone(), timeout, report.clone()));
        }
        Ok(Some(Self { asker, path: Arc::new(path.clone()), timeout, report, tasks: Mutex::new(tasks) }))
    }

    /// Sends probe `sequence` and returns at once, inside a tokio runtime.
    pub fn send(&self, sequence: u16) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        let report = self.report.clone();
        match &self.asker {
            Asker::Packets(packets) => {
                if let Err(error) = packets.send(sequence) {
                    tasks.spawn(async move { report(sequence, Outcome::Failed(why(&error))) });
                }
            }
            Asker::Calls(_) if tasks.len() >= MOST_CALLS => {}
            Asker::Calls(call) => {
                let (call, path, timeout) = (call.clone(), self.path.clone(), self.timeout);
                tasks.spawn(async move {
                    let start = Instant::now();
                    match tokio::time::timeout(timeout, call.ask(&path)).await {
                        Ok(Ok(())) => report(sequence, Outcome::Answered(start.elapsed())),
                        Ok(Err(why)) => report(sequence, Outcome::Failed(why)),
                        // Lost, as whoever counts the probes knows by itself.
                        Err(_) => {}
                    }
                });
            }
        }
    }
}

impl Asker {
    fn new(target: &Target, family: Family, path: &Path) -> io::Result<Option<Self>> {
        let gateway = path.gateway.filter(|gateway| Family::of(*gateway) == family);
        let packets = match (target, gateway) {
            (Target::Gateway | Target::Neighbour, None) => None,
            (Target::Gateway, Some(address)) | (&Target::Ping(address), _) => {
                Some(Packets::Ping(Pinger::new(Some(&path.device), path.ifindex, path.mark, address)?))
            }
            (Target::Neighbour, Some(IpAddr::V4(address))) => {
                neighbour(arp::Requester::new(path.ifindex, address))?.map(Packets::Arp)
            }
            (Target::Neighbour, Some(IpAddr::V6(address))) => {
                neighbour(nd::Solicitor::new(path, address))?.map(Packets::Nd)
            }
            (&Target::Tcp(address), _) => return Ok(Some(Self::Calls(Arc::new(Call::Tcp(address))))),
            (Target::Http(page), _) => return Ok(Some(Self::Calls(Arc::new(Call::Http(page.clone()))))),
            (Target::Dns(server, name), _) => {
                return Ok(Some(Self::Calls(Arc::new(Call::Dns(*server, name.clone())))));
            }
        };
        Ok(packets.map(|packets| Self::Packets(Arc::new(packets))))
    }
}

/// A link without link-layer addresses has no neighbours to ask.
fn neighbour<T>(asker: io::Result<T>) -> io::Result<Option<T>> {
    match asker {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(None),
        other => other.map(Some),
    }
}

/// One socket for all probes.
enum Packets {
    Ping(Pinger),
    Arp(arp::Requester),
    Nd(nd::Solicitor),
}

impl Packets {
    fn send(&self, sequence: u16) -> io::Result<()> {
        match self {
            Self::Ping(pinger) => pinger.send(sequence),
            Self::Arp(requester) => requester.send(sequence),
            Self::Nd(solicitor) => solicitor.send(sequence),
        }
    }

    async fn hear(&self) -> Heard {
        match self {
            Self::Ping(pinger) => pinger.hear().await,
            Self::Arp(requester) => Heard::Answer(requester.receive().await),
            Self::Nd(solicitor) => Heard::Answer(solicitor.receive().await),
        }
    }
}

async fn listen(packets: Arc<Packets>, timeout: Duration, report: Report) {
    loop {
        match packets.hear().await {
            Heard::Answer(Answer { sequence, round_trip }) if round_trip <= timeout * PATIENCE => {
                report(sequence, Outcome::Answered(round_trip));
            }
            Heard::Answer(_) => {}
            Heard::Error(sequence, why) => report(sequence, Outcome::Failed(why)),
        }
    }
}

/// A socket for each probe, so that the source address and the route are those of the moment.
enum Call {
    Tcp(SocketAddr),
    Http(Page),
    Dns(SocketAddr, String),
}

impl Call {
    async fn ask(&self, path: &Path) -> Result<(), String> {
        match self {
            Self::Tcp(address) => tcp::connect(path, *address).await.map(drop).map_err(|error| why(&error)),
            Self::Http(page) => http::fetch(path, page).await,
            Self::Dns(server, name) => dns::ask(path, *server, name).await,
        }
    }
}

impl Path {
    /// Makes `socket` leave by this path and no other.
    fn bind(&self, socket: &Socket) -> io::Result<()> {
        socket.set_mark(self.mark)?;
        socket.bind_device(Some(self.device.as_bytes()))
    }

    /// `address`, on this link if it is link-local.
    fn scoped(&self, mut address: SocketAddr) -> SocketAddr {
        if let SocketAddr::V6(v6) = &mut address
            && v6.ip().is_unicast_link_local()
        {
            v6.set_scope_id(self.ifindex);
        }
        address
    }
}

/// An error in few words.
fn why(error: &io::Error) -> String {
    match (error.kind(), error.raw_os_error()) {
        // Named by the errno's own text, "no such device" say.
        (kind, Some(_)) if kind.to_string() != "uncategorized error" => kind.to_string(),
        _ => error.to_string(),
    }
}
