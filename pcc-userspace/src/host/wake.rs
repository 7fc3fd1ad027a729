//! Makes clients speak whose connections are at their end, so that a reset can answer them.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use etherparse::PacketBuilder;
use socket2::{Domain, Protocol, Socket, Type};

/// A TCP connection of a client, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// Its own end.
    pub client: SocketAddr,
    /// The other one.
    pub peer: SocketAddr,
}

/// `IPPROTO_RAW`: packets with their IP header.
const RAW: i32 = 255;
const TTL: u8 = 64;
/// Any number does: a segment outside the window is answered by an ACK that says what was expected (RFC 9293, 3.10.7.4).
const SEQUENCE: u32 = 1;

/// Sends each client one bare ACK in the name of its peer. It carries `mark`, by which our rules keep it from conntrack. Clients
/// that cannot be reached are left out.
pub fn wake(clients: &[Wake], mark: u32) -> Result<()> {
    for (domain, is_ipv4) in [(Domain::IPV4, true), (Domain::IPV6, false)] {
        let mut clients = clients.iter().filter(|it| it.client.is_ipv4() == is_ipv4).peekable();
        if clients.peek().is_none() {
            continue;
        }
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(RAW))).context("waking clients")?;
        socket.set_mark(mark).context("waking clients")?;
        for wake in clients {
            let Some(packet) = segment(wake) else { continue };
            // The port of a raw socket's destination must be 0 in IPv6.
            if let Err(error) = socket.send_to(&packet, &SocketAddr::new(wake.client.ip(), 0).into()) {
                tracing::debug!("waking {}: {error}", wake.client);
            }
        }
    }
    Ok(())
}

fn segment(wake: &Wake) -> Option<Vec<u8>> {
    let builder = match (wake.peer.ip(), wake.client.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), TTL),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), TTL),
        _ => return None,
    };
    let builder = builder.tcp(wake.peer.port(), wake.client.port(), SEQUENCE, u16::MAX).ack(SEQUENCE);
    let mut packet = Vec::with_capacity(builder.size(0));
    builder.write(&mut packet, &[]).ok()?;
    Some(packet)
}
