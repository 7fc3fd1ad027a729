//! Servers that say who they are and whom they see.
//!
//! TCP: one line `<name> <peer address> <peer port>` on accept, then an echo of whatever comes. UDP: the same line and
//! the datagram. ICMP echo is answered by the kernel, which cannot say who it is; the server overhears the requests
//! and notes who saw which.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol as IpProtocol, Socket, Type};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::namespace::Namespace;

/// What connections can be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP or ICMPv6 echo; its identifier stands where others have the source port.
    Icmp,
}

/// A connection as a server saw it begin; for UDP and ICMP one of these for each datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seen {
    /// Its protocol.
    pub protocol: Protocol,
    /// The other side; for ICMP the port is the identifier.
    pub peer: SocketAddr,
    /// The local port, 0 for ICMP.
    pub port: u16,
}

/// An identity server inside a namespace. Dropping it closes its sockets.
#[derive(Debug)]
pub struct Server {
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

/// Which server saw which echo request: by the token in the request.
pub(super) type Echoes = Arc<Mutex<HashMap<u64, (String, SocketAddr)>>>;

/// Bytes before the token in the payload of our echo requests; others, such as health checks, are not noted.
pub(super) const ECHO_MAGIC: &[u8; 8] = b"pcc-lab:";

impl Server {
    /// Starts a server called `name` on TCP and UDP `port` of `namespace`. UDP is bound to the addresses `udp`, TCP to
    /// the wildcard. Works at once: the sockets listen when this returns.
    ///
    /// # Panics
    /// Where a socket cannot be made.
    pub(super) fn start(namespace: &Namespace, name: &str, port: u16, udp: &[IpAddr], echoes: &Echoes) -> Self {
        let families = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
        let sockets = namespace.run(|| {
            let tcp = |address: &IpAddr| listener(SocketAddr::new(*address, port));
            let datagram =
                |address: &IpAddr| bound(Protocol::Udp, SocketAddr::new(*address, port)).map(UdpSocket::from);
            let raw = |address: &IpAddr| echo_listener(*address);
            io::Result::Ok((
                families.iter().map(tcp).collect::<io::Result<Vec<_>>>()?,
                udp.iter().map(datagram).collect::<io::Result<Vec<_>>>()?,
                families.iter().map(raw).collect::<io::Result<Vec<_>>>()?,
            ))
        });
        let (tcp, udp, raw) = sockets.unwrap_or_else(|error| panic!("server `{name}`: {error}"));
        let seen = Arc::default();
        let desk = Desk { name: name.into(), port, seen: Arc::clone(&seen), echoes: Arc::clone(echoes) };
        let task = runtime().spawn(async move {
            let mut tasks = JoinSet::new();
            for socket in tcp {
                tasks.spawn(desk.clone().accept(socket));
            }
            for socket in udp {
                tasks.spawn(desk.clone().answer(socket));
            }
            for (socket, v6) in raw.into_iter().zip([false, true]) {
                tasks.spawn(desk.clone().overhear(socket, v6));
            }
            while let Some(ended) = tasks.join_next().await {
                ended.unwrap_or(Ok(())).unwrap_or_else(|error| panic!("server `{}`: {error}", desk.name));
            }
        });
        Self { seen, task }
    }

    /// All that it saw since it started or [`Self::clear`] was called.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    /// Forgets what it saw.
    pub fn clear(&self) {
        lock(&self.seen).clear();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        if Handle::try_current().is_err() {
            let _ = runtime().block_on(&mut self.task);
        }
    }
}

/// The lab's own runtime. Sockets are made inside the namespaces and driven here.
pub(super) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let built = Builder::new_multi_thread().worker_threads(2).thread_name("lab").enable_all().build();
        built.unwrap_or_else(|error| panic!("starting the runtime: {error}"))
    })
}

/// Takes a lock whose holder may have panicked: all values behind the lab's locks are valid at any moment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A non-blocking socket bound to `local`, in the namespace of the calling thread.
pub(super) fn bound(protocol: Protocol, local: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(local);
    let (kind, number) = match protocol {
        Protocol::Tcp => (Type::STREAM, IpProtocol::TCP),
        Protocol::Udp => (Type::DGRAM, IpProtocol::UDP),
        Protocol::Icmp => (Type::DGRAM, echo_protocol(local.is_ipv6())),
    };
    let socket = Socket::new(domain, kind, Some(number))?;
    socket.set_nonblocking(true)?;
    if domain == Domain::IPV6 && protocol != Protocol::Icmp {
        socket.set_only_v6(true)?;
    }
    if protocol == Protocol::Tcp {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&local.into())?;
    Ok(socket)
}

fn listener(local: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(Protocol::Tcp, local)?;
    socket.listen(4096)?;
    Ok(socket.into())
}

fn echo_listener(local: IpAddr) -> io::Result<UdpSocket> {
    let protocol = echo_protocol(local.is_ipv6());
    let socket = Socket::new(Domain::for_address(SocketAddr::new(local, 0)), Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(4 << 20)?;
    Ok(socket.into())
}

fn echo_protocol(v6: bool) -> IpProtocol {
    if v6 { IpProtocol::ICMPV6 } else { IpProtocol::ICMPV4 }
}

/// What each task of a server knows.
#[derive(Clone)]
struct Desk {
    name: Arc<str>,
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    echoes: Echoes,
}

impl Desk {
    async fn accept(self, socket: TcpListener) -> io::Result<()> {
        let socket = tokio::net::TcpListener::from_std(socket)?;
        let mut conversations = JoinSet::new();
        loop {
            tokio::select! {
                accepted = socket.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let greeting = self.greet(Protocol::Tcp, peer);
                        conversations.spawn(converse(stream, greeting));
                    }
                    // Out of file descriptors, or the peer has gone already.
                    Err(_) => sleep(Duration::from_millis(10)).await,
                },
                Some(_) = conversations.join_next() => {}
            }
        }
    }

    async fn answer(self, socket: UdpSocket) -> io::Result<()> {
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        let mut question = vec![0; 65_536];
        loop {
            // An error here is an ICMP message about an earlier answer.
            let Ok((length, peer)) = socket.recv_from(&mut question).await else { continue };
            let mut answer = self.greet(Protocol::Udp, peer).into_bytes();
            answer.extend_from_slice(&question[..length]);
            let _ = socket.send_to(&answer, peer).await;
        }
    }

    async fn overhear(self, socket: UdpSocket, v6: bool) -> io::Result<()> {
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        let mut packet = vec![0; 65_536];
        loop {
            let Ok((length, peer)) = socket.recv_from(&mut packet).await else { continue };
            // A raw IPv4 socket delivers the IP header too.
            let header = if v6 { 0 } else { usize::from(packet[0] & 0xf) * 4 };
            let Some((id, token)) = packet.get(header..length).and_then(|message| echo_request(message, v6)) else {
                continue;
            };
            let peer = SocketAddr::new(peer.ip(), id);
            lock(&self.seen).push(Seen { protocol: Protocol::Icmp, peer, port: 0 });
            lock(&self.echoes).insert(token, (self.name.to_string(), peer));
        }
    }

    fn greet(&self, protocol: Protocol, peer: SocketAddr) -> String {
        lock(&self.seen).push(Seen { protocol, peer, port: self.port });
        format!("{} {} {}\n", self.name, peer.ip(), peer.port())
    }
}

async fn converse(mut stream: TcpStream, greeting: String) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(greeting.as_bytes()).await?;
    let (mut from, mut to) = stream.split();
    tokio::io::copy(&mut from, &mut to).await?;
    Ok(())
}

/// Identifier and token of an echo request of the lab.
fn echo_request(message: &[u8], v6: bool) -> Option<(u16, u64)> {
    let (header, payload) = message.split_at_checked(8)?;
    let (magic, token) = payload.split_at_checked(8)?;
    let request = header[0] == if v6 { 128 } else { 8 };
    if !request || magic != ECHO_MAGIC {
        return None;
    }
    Some((u16::from_be_bytes([header[4], header[5]]), u64::from_be_bytes(*token.first_chunk()?)))
}
