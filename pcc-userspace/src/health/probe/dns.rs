//! Questions to DNS servers by UDP (RFC 1035).

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, SimpleDnsError, TYPE};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::{Path, why};

/// The largest message that a server sends to who does not ask for more.
const MESSAGE: usize = 512;

/// Asks `server` for an IPv4 address of `name` and waits for the answer. Any counts, also that there is no such name, but not
/// that the server failed. Datagrams that answer another question are not seen.
pub(super) async fn ask(path: &Path, server: SocketAddr, name: &str) -> Result<(), String> {
    let id = RandomState::new().hash_one(name) as u16;
    let query = query(id, name).map_err(|error| error.to_string())?;
    let socket = connect(path, server).await.map_err(|error| why(&error))?;
    socket.send(&query).await.map_err(|error| why(&error))?;
    let mut buffer = [0; MESSAGE];
    loop {
        let length = receive(&socket, &mut buffer).await.map_err(|error| why(&error))?;
        match code(&buffer[..length], id, name) {
            Some(RCODE::ServerFailure) => return Err("the DNS server failed".to_owned()),
            Some(_) => return Ok(()),
            None => {}
        }
    }
}

/// A connected socket hears nobody but the server, and with this option all ICMP errors about what it sent.
async fn connect(path: &Path, server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(server), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    path.bind(&socket)?;
    match server {
        SocketAddr::V4(_) => setsockopt(&socket, Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, Ipv6RecvErr, &true)?,
    }
    let socket = UdpSocket::from_std(socket.into())?;
    socket.connect(path.scoped(server)).await?;
    Ok(socket)
}

/// Waits for a datagram or an error. An error alone does not make a socket readable.
async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
        if ready.is_error() {
            return Err(socket.take_error()?.unwrap_or_else(|| io::ErrorKind::HostUnreachable.into()));
        }
        match socket.try_recv(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

fn query(id: u16, name: &str) -> Result<Vec<u8>, SimpleDnsError> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(Name::new(name)?, QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec()
}

/// How `message` answers the question for `name` with this `id`; `None` if it does not.
fn code(message: &[u8], id: u16, name: &str) -> Option<RCODE> {
    let packet = Packet::parse(message).ok()?;
    let wanted = packet.id() == id && packet.has_flags(PacketFlag::RESPONSE);
    // Servers that cannot read a question repeat none.
    let ours = packet.questions.first().is_none_or(|question| question.qname.to_string().eq_ignore_ascii_case(name));
    (wanted && ours).then(|| packet.rcode())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(id: u16, name: &str) -> Vec<u8> {
        let mut message = query(id, name).unwrap();
        message[2] |= 0x80;
        message
    }

    #[test]
    fn a_question_is_laid_out_as_rfc_1035_says() {
        let mut wanted = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        wanted.extend_from_slice(b"\x07example\x03org\0\0\x01\0\x01");
        assert_eq!(query(0x1234, "example.org").unwrap(), wanted);
    }

    #[test]
    fn only_answers_to_the_question_are_taken() {
        let message = answer(7, "example.org");
        assert_eq!(code(&message, 7, "EXAMPLE.org"), Some(RCODE::NoError));
        assert_eq!(code(&message, 8, "example.org"), None, "another id");
        assert_eq!(code(&message, 7, "example.com"), None, "another name");
        assert_eq!(code(&query(7, "example.org").unwrap(), 7, "example.org"), None, "a question");
        let mut failed = message;
        failed[3] |= 2;
        assert_eq!(code(&failed, 7, "example.org"), Some(RCODE::ServerFailure));
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(
            garbage in prop::collection::vec(any::<u8>(), 0..64), at in 0_usize..29, value: u8, cut in 0_usize..30,
        ) {
            let _ = code(&garbage, 7, "example.org");
            let mut message = answer(7, "example.org");
            message[at] = value;
            message.truncate(cut);
            let _ = code(&message, 7, "example.org");
        }
    }
}
