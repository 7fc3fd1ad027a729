//! Connections that know which server answered them, and from which address that server sees them.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket2::Socket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

use super::server::{ECHO_MAGIC, Echoes, Protocol, lock, runtime};

/// Who answered, and whom it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name of the server: `isp1`, `router`, `client`, `inner`, …
    pub server: String,
    /// Our address as the server sees it; for ICMP the port is the identifier.
    pub seen_as: SocketAddr,
}

/// A connection. Dropping it closes it.
#[derive(Debug)]
pub struct Conversation {
    /// The other end.
    pub identity: Identity,
    /// The number of the ISP whose server answered; 0 for a server that is not an ISP's.
    pub isp: u32,
    /// Its protocol.
    pub protocol: Protocol,
    /// Our end as we see it; for ICMP the port is the identifier.
    pub local: SocketAddr,
    /// The address that was asked.
    pub remote: SocketAddr,
    /// Time until the connection stood: the handshake for TCP, the first answer for the others. A lost SYN costs 1 s.
    pub took: Duration,
    /// How long [`Self::exchange`] waits.
    pub patience: Duration,
    stream: Stream,
    echoes: Echoes,
}

/// The answer came from another server, or the server saw another address of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// At first.
    pub from: Identity,
    /// Now.
    pub to: Identity,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Udp(UdpSocket),
    Icmp(UdpSocket),
}

impl Conversation {
    /// Opens one with `socket`, which is bound already.
    pub(super) async fn begin(
        protocol: Protocol,
        socket: Socket,
        to: SocketAddr,
        patience: Duration,
        echoes: &Echoes,
    ) -> io::Result<Self> {
        let began = Instant::now();
        let opening = async {
            let mut stream = Stream::connect(protocol, socket, to).await?;
            let (local, connected) = (stream.local()?, began.elapsed());
            let identity = stream.introduce(echoes).await?;
            let took = if protocol == Protocol::Tcp { connected } else { began.elapsed() };
            let isp = identity.server.strip_prefix("isp").and_then(|number| number.parse().ok()).unwrap_or(0);
            let echoes = Arc::clone(echoes);
            Ok(Self { identity, isp, protocol, local, remote: to, took, patience, stream, echoes })
        };
        timeout(patience, opening).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
    }

    /// Sends `bytes` (at most 1,000 for UDP and ICMP) and waits for their echo.
    ///
    /// # Errors
    /// What the socket reports, no answer within [`Self::patience`], or [`Moved`] inside an [`ErrorKind::Other`].
    pub fn exchange(&mut self, bytes: &[u8]) -> io::Result<()> {
        runtime().block_on(self.talk(bytes))
    }

    /// Waits, sends nothing, and returns what ends the connection; datagrams have no end.
    pub(super) async fn listen(&mut self) -> io::Error {
        let Stream::Tcp(stream) = &mut self.stream else { return std::future::pending().await };
        match stream.read_u8().await {
            Ok(_) => io::Error::new(ErrorKind::InvalidData, "nobody asked"),
            Err(error) => error,
        }
    }

    pub(super) async fn talk(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(self.patience, self.ask(bytes)).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
    }

    async fn ask(&mut self, bytes: &[u8]) -> io::Result<()> {
        let now = match &mut self.stream {
            Stream::Tcp(stream) => return echo_stream(stream, bytes).await,
            Stream::Udp(socket) => ask_udp(socket, bytes).await?,
            Stream::Icmp(socket) => ask_icmp(socket, bytes, &self.echoes).await?,
        };
        if now == self.identity {
            return Ok(());
        }
        Err(io::Error::other(Moved { from: self.identity.clone(), to: now }))
    }
}

impl Stream {
    async fn connect(protocol: Protocol, socket: Socket, to: SocketAddr) -> io::Result<Self> {
        if protocol == Protocol::Tcp {
            let stream = TcpSocket::from_std_stream(socket.into()).connect(to).await?;
            stream.set_nodelay(true)?;
            return Ok(Self::Tcp(stream));
        }
        let socket = UdpSocket::from_std(socket.into())?;
        socket.connect(to).await?;
        Ok(if protocol == Protocol::Udp { Self::Udp(socket) } else { Self::Icmp(socket) })
    }

    fn local(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr(),
            Self::Udp(socket) | Self::Icmp(socket) => socket.local_addr(),
        }
    }

    async fn introduce(&mut self, echoes: &Echoes) -> io::Result<Identity> {
        match self {
            Self::Tcp(stream) => {
                let mut line = Vec::new();
                while line.last() != Some(&b'\n') && line.len() < 200 {
                    line.push(stream.read_u8().await?);
                }
                Identity::parse(&line).map(|(identity, _)| identity)
            }
            Self::Udp(socket) => ask_udp(socket, b"hello").await,
            Self::Icmp(socket) => ask_icmp(socket, b"hello", echoes).await,
        }
    }
}

impl Identity {
    /// Parses the line of a server, and returns what follows it.
    fn parse(answer: &[u8]) -> io::Result<(Self, &[u8])> {
        let end = answer.iter().position(|byte| *byte == b'\n').unwrap_or(answer.len());
        let (line, rest) = answer.split_at(end);
        let parsed = str::from_utf8(line).ok().and_then(|line| {
            let mut words = line.split(' ');
            let (server, address, port) = (words.next()?, words.next()?, words.next()?);
            let seen_as = SocketAddr::new(address.parse().ok()?, port.parse().ok()?);
            Some(Self { server: server.to_owned(), seen_as })
        });
        let identity = parsed.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "not an identity server"))?;
        Ok((identity, rest.get(1..).unwrap_or_default()))
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(out, "moved from {} as {} to {} as {}", from.server, from.seen_as, to.server, to.seen_as)
    }
}

impl std::error::Error for Moved {}

/// Whether `to` answers an echo request within a second.
pub(super) async fn ping(socket: Socket, to: SocketAddr) -> bool {
    let asked = async {
        let socket = UdpSocket::from_std(socket.into())?;
        socket.connect(to).await?;
        echo(&socket, next_token(), &[]).await
    };
    matches!(timeout(Duration::from_secs(1), asked).await, Ok(Ok(())))
}

async fn echo_stream(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    // Small pieces: neither side may wait with full buffers for the other to read.
    for piece in bytes.chunks(16_384) {
        stream.write_all(piece).await?;
        let mut back = vec![0; piece.len()];
        stream.read_exact(&mut back).await?;
        if back != piece {
            return Err(io::Error::new(ErrorKind::InvalidData, "the echo differs"));
        }
    }
    Ok(())
}

async fn ask_udp(socket: &UdpSocket, bytes: &[u8]) -> io::Result<Identity> {
    socket.send(bytes).await?;
    let mut answer = [0; 2048];
    loop {
        let length = socket.recv(&mut answer).await?;
        let (identity, rest) = Identity::parse(&answer[..length])?;
        // Anything else is a late answer to an earlier question.
        if rest == bytes {
            return Ok(identity);
        }
    }
}

async fn ask_icmp(socket: &UdpSocket, bytes: &[u8], echoes: &Echoes) -> io::Result<Identity> {
    let token = next_token();
    echo(socket, token, bytes).await?;
    loop {
        // The kernel's answer may overtake the note of the server.
        if let Some((server, seen_as)) = lock(echoes).remove(&token) {
            return Ok(Identity { server, seen_as });
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// One echo request; the kernel fills in checksum and identifier.
async fn echo(socket: &UdpSocket, token: u64, bytes: &[u8]) -> io::Result<()> {
    let kind = if socket.local_addr()?.is_ipv6() { 128 } else { 8 };
    let sequence = (token as u16).to_be_bytes();
    let mut request = vec![kind, 0, 0, 0, 0, 0, sequence[0], sequence[1]];
    request.extend_from_slice(ECHO_MAGIC);
    request.extend_from_slice(&token.to_be_bytes());
    request.extend_from_slice(bytes);
    socket.send(&request).await?;
    let mut answer = [0; 2048];
    loop {
        let length = socket.recv(&mut answer).await?;
        if answer[8..length.max(8)] == request[8..] {
            return Ok(());
        }
    }
}

fn next_token() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
