//! Clients: who opens connections, one or thousands.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::conversation::{Conversation, ping};
use super::namespace::Namespace;
use super::server::{Echoes, Protocol, bound, runtime};

/// Opens connections from a namespace. A clone is cheap. All methods block; call them from plain threads.
#[derive(Clone, Debug)]
pub struct Client {
    namespace: Arc<Namespace>,
    sources: [IpAddr; 2],
    echoes: Echoes,
}

/// What became of one connection of [`Client::try_many`].
#[derive(Clone, Debug)]
pub struct Trial {
    /// Source as the client sees it, or as it was wished where the connection failed.
    pub source: SocketAddr,
    /// Destination.
    pub destination: SocketAddr,
    /// The number of the ISP that answered, or what went wrong.
    pub isp: Result<u32, String>,
    /// [`Conversation::took`], or the time until it failed.
    pub took: Duration,
}

impl Client {
    /// A client that sends from `sources` (IPv4, IPv6); the kernel chooses where they are unspecified.
    pub(super) fn new(namespace: &Arc<Namespace>, sources: [IpAddr; 2], echoes: &Echoes) -> Self {
        Self { namespace: Arc::clone(namespace), sources, echoes: Arc::clone(echoes) }
    }

    /// The same for another namespace; the kernel chooses the sources.
    pub(super) fn at(&self, namespace: &Arc<Namespace>) -> Self {
        Self::new(namespace, ANY, &self.echoes)
    }

    /// The same with other sources (IPv4, IPv6).
    #[must_use]
    pub fn from(&self, sources: [IpAddr; 2]) -> Self {
        Self::new(&self.namespace, sources, &self.echoes)
    }

    /// The namespace that it is in.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// Opens a connection from source port (or echo identifier) `from`.
    ///
    /// # Errors
    /// No answer within `patience`, or what the socket reports.
    pub fn open(
        &self,
        protocol: Protocol,
        from: Option<u16>,
        to: SocketAddr,
        patience: Duration,
    ) -> io::Result<Conversation> {
        runtime().block_on(self.begin(protocol, from.unwrap_or(0), to, patience))
    }

    /// [`Self::open`] for TCP.
    pub fn tcp_connect(&self, from: Option<u16>, to: SocketAddr, patience: Duration) -> io::Result<Conversation> {
        self.open(Protocol::Tcp, from, to, patience)
    }

    /// [`Self::open`] for UDP: one datagram, one answer. The socket is connected: only answers from the address that
    /// was asked count.
    pub fn udp_ask(&self, from: Option<u16>, to: SocketAddr, patience: Duration) -> io::Result<Conversation> {
        self.open(Protocol::Udp, from, to, patience)
    }

    /// Whether `to` answers an echo request within a second. It may be any address, not only that of a lab's server.
    pub fn ping(&self, to: IpAddr) -> bool {
        let to = SocketAddr::new(to, 0);
        let answered = self.socket(Protocol::Icmp, 0, to).map(|socket| runtime().block_on(ping(socket, to)));
        answered.is_ok_and(|answered| answered)
    }

    /// Opens a connection for each of `flows` (source port, destination), `parallel` at a time, in the order of `flows`.
    pub fn open_many(
        &self,
        protocol: Protocol,
        flows: &[(u16, SocketAddr)],
        parallel: usize,
        patience: Duration,
    ) -> Vec<io::Result<Conversation>> {
        self.many(protocol, flows, parallel, patience, |_, opened| opened)
    }

    /// Opens and closes a connection for each of `flows` (source port, destination), `parallel` at a time, and returns
    /// which ISP answered, in the order of `flows`.
    pub fn try_many(
        &self,
        protocol: Protocol,
        flows: &[(u16, SocketAddr)],
        parallel: usize,
        patience: Duration,
    ) -> Vec<Trial> {
        let wished = self.sources;
        self.many(protocol, flows, parallel, patience, move |(port, destination, took), opened| match opened {
            Ok(it) => Trial { source: it.local, destination, isp: Ok(it.isp), took: it.took },
            Err(error) => {
                let source = SocketAddr::new(wished[usize::from(destination.is_ipv6())], port);
                Trial { source, destination, isp: Err(error.to_string()), took }
            }
        })
    }

    fn many<T: Send + 'static>(
        &self,
        protocol: Protocol,
        flows: &[(u16, SocketAddr)],
        parallel: usize,
        patience: Duration,
        finish: impl Fn((u16, SocketAddr, Duration), io::Result<Conversation>) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let mut results: Vec<(usize, T)> = runtime().block_on(async {
            let slots = Arc::new(Semaphore::new(parallel.max(1)));
            let mut tasks = JoinSet::new();
            let mut done = Vec::with_capacity(flows.len());
            for (index, &(port, to)) in flows.iter().enumerate() {
                let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
                let (client, finish) = (self.clone(), finish.clone());
                tasks.spawn(async move {
                    let began = Instant::now();
                    let opened = client.begin(protocol, port, to, patience).await;
                    let result = finish((port, to, began.elapsed()), opened);
                    drop(slot);
                    (index, result)
                });
                while let Some(Ok(result)) = tasks.try_join_next() {
                    done.push(result);
                }
            }
            done.extend(tasks.join_all().await);
            done
        });
        results.sort_by_key(|(index, _)| *index);
        results.into_iter().map(|(_, result)| result).collect()
    }

    pub(super) async fn begin(
        &self,
        protocol: Protocol,
        from: u16,
        to: SocketAddr,
        patience: Duration,
    ) -> io::Result<Conversation> {
        let socket = self.socket(protocol, from, to)?;
        Conversation::begin(protocol, socket, to, patience, &self.echoes).await
    }

    fn socket(&self, protocol: Protocol, from: u16, to: SocketAddr) -> io::Result<Socket> {
        let local = SocketAddr::new(self.sources[usize::from(to.is_ipv6())], from);
        self.namespace.run(|| bound(protocol, local))
    }
}

/// The unspecified addresses: the kernel chooses.
pub(super) const ANY: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
