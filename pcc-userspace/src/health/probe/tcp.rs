//! TCP connections.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::Path;

/// Connects to `address`. A refused connection is an error: the service is what is asked, not the host. ICMP errors end the
/// attempt at once. When the connection is dropped it is reset, so that neither side remembers it.
pub(super) async fn connect(path: &Path, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    path.bind(&socket)?;
    socket.set_linger(Some(Duration::ZERO))?;
    TcpSocket::from_std_stream(socket.into()).connect(path.scoped(address)).await
}
