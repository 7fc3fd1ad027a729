//! A small netlink client: requests with their answer, whole dumps, and notices that something changed.
//!
//! A socket belongs to the network namespace of the thread that opened it.

use std::fmt;
use std::io;

use anyhow::{Context, Result, anyhow, ensure};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NetlinkBuffer, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
    NlasIterator, Parseable, parse_i32, parse_string,
};
use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;

pub use ended::{Ended, Endings};
pub use monitor::{Changed, Monitor};

mod ended;
mod generic;
mod monitor;
mod neighbours;

/// One answer of the kernel fits: it fills at most 32 KiB unless a single entry is larger.
const RECEIVE_BYTES: usize = 128 * 1024;
/// The default send buffer (208 KiB) bounds what one system call may carry.
const BATCH_BYTES: usize = 32 * 1024;
/// The default receive buffer overflows when ten thousand routes change at once.
const QUEUE_BYTES: usize = 4 << 20;
/// A table that changes during every one of these dumps is taken as it is: [`Monitor`] reports the changes too.
const DUMP_ATTEMPTS: u32 = 5;

/// A socket for requests.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// For links, addresses, routes and rules.
    pub fn route() -> Result<Self> {
        let netlink = Self::open(NETLINK_ROUTE)?;
        // Without it the kernel mixes cached routes into a dump and ignores what it does not know in a query.
        netlink.socket.set_netlink_get_strict_chk(true).context("preparing a netlink socket")?;
        Ok(netlink)
    }

    /// For conntrack.
    pub fn netfilter() -> Result<Self> {
        Self::open(NETLINK_NETFILTER)
    }

    /// For families that have no protocol of their own.
    pub fn generic() -> Result<Self> {
        Self::open(NETLINK_GENERIC)
    }

    fn open(protocol: isize) -> Result<Self> {
        let prepare = || {
            let mut socket = Socket::new(protocol)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            Ok::<_, io::Error>(socket)
        };
        let socket = prepare().context("opening a netlink socket")?;
        enlarge_queue(&socket, QUEUE_BYTES);
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(RECEIVE_BYTES) })
    }

    /// By which the kernel tells what this socket caused.
    ///
    /// # Errors
    /// Never for a socket that is open.
    pub fn port(&self) -> Result<u32> {
        let mut address = SocketAddr::new(0, 0);
        self.socket.get_address(&mut address).context("asking for a netlink port")?;
        Ok(address.port_number())
    }

    /// Sends one request and waits for its acknowledgement. A refusal with an error in `tolerated` is a success.
    pub fn request<M: NetlinkSerializable>(&mut self, message: M, flags: u16, tolerated: &[Errno]) -> Result<()> {
        self.requests([message], flags, tolerated)
    }

    /// Sends requests, many in one system call. All of them are tried; the result is the first refusal that is not
    /// in `tolerated`.
    pub fn requests<M: NetlinkSerializable>(
        &mut self,
        messages: impl IntoIterator<Item = M>,
        flags: u16,
        tolerated: &[Errno],
    ) -> Result<()> {
        let mut messages = messages.into_iter().peekable();
        let (mut outcome, mut batch, mut first) = (Ok(()), Vec::new(), None);
        while let Some(message) = messages.next() {
            // The kernel reports every refusal; an acknowledgement besides is needed only at the end.
            let last = messages.peek().is_none() || batch.len() >= BATCH_BYTES;
            let sequence = self.append(&mut batch, message, flags | if last { NLM_F_ACK } else { 0 });
            let start = *first.get_or_insert(sequence);
            if last {
                self.socket.send(&batch, 0).context("sending to netlink")?;
                outcome = outcome.and(self.acknowledged(start, sequence, tolerated)?);
                batch.clear();
                first = None;
            }
        }
        Ok(outcome?)
    }

    /// Sends `messages` between `begin` and `end` in one system call: all of them hold afterwards, or none.
    pub fn transaction<M: NetlinkSerializable>(
        &mut self,
        begin: M,
        messages: impl IntoIterator<Item = M>,
        end: M,
    ) -> Result<()> {
        let mut batch = Vec::new();
        let first = self.append(&mut batch, begin, 0);
        let mut last = first;
        for message in messages {
            last = self.append(&mut batch, message, NLM_F_CREATE | NLM_F_ACK);
        }
        self.append(&mut batch, end, 0);
        self.socket.send(&batch, 0).context("sending to netlink")?;
        Ok(self.acknowledged(first, last, &[])??)
    }

    /// All entries of a table, without those that `A` cannot read. A family that the kernel lacks has none.
    pub fn dump<Q, A>(&mut self, query: &Q) -> Result<Vec<A>>
    where
        Q: NetlinkSerializable + Clone,
        A: NetlinkDeserializable,
    {
        let mut attempt = 1;
        loop {
            let (entries, consistent) = self.dump_once(query)?;
            if consistent || attempt == DUMP_ATTEMPTS {
                return Ok(entries);
            }
            attempt += 1;
        }
    }

    /// The entries, and whether the table stood still meanwhile.
    fn dump_once<Q, A>(&mut self, query: &Q) -> Result<(Vec<A>, bool)>
    where
        Q: NetlinkSerializable + Clone,
        A: NetlinkDeserializable,
    {
        let mut entries = Vec::new();
        let consistent = self.visit(query, |entry| entries.push(entry))?;
        Ok((entries, consistent))
    }

    /// Hands each entry of a table to `each`, without those that `A` cannot read, and keeps none. True if the table stood still
    /// meanwhile. A family that the kernel lacks has none.
    pub fn visit<Q, A>(&mut self, query: &Q, mut each: impl FnMut(A)) -> Result<bool>
    where
        Q: NetlinkSerializable + Clone,
        A: NetlinkDeserializable,
    {
        let mut request = Vec::new();
        let sequence = self.append(&mut request, query.clone(), NLM_F_DUMP);
        self.socket.send(&request, 0).context("sending to netlink")?;
        let mut consistent = true;
        loop {
            self.receive()?;
            for message in messages(&self.buffer).filter(|message| message.sequence_number() == sequence) {
                consistent &= message.flags() & NLM_F_DUMP_INTR == 0;
                match verdict(&message) {
                    None => match read(&message) {
                        Ok(entry) => each(entry),
                        Err(error) => tracing::debug!("skipping a netlink message: {error}"),
                    },
                    Some(Ok(())) => return Ok(consistent),
                    Some(Err(refusal)) if refusal.errno == Errno::AFNOSUPPORT => return Ok(true),
                    Some(Err(refusal)) => return Err(refusal.into()),
                }
            }
        }
    }

    /// Waits for the answer to request `last`; the first refusal since `first` that is not tolerated.
    fn acknowledged(&mut self, first: u32, last: u32, tolerated: &[Errno]) -> Result<Result<(), Refusal>> {
        let mut outcome = Ok(());
        loop {
            self.receive()?;
            for message in messages(&self.buffer) {
                let sequence = message.sequence_number();
                if sequence.wrapping_sub(first) > last.wrapping_sub(first) {
                    continue;
                }
                let Some(verdict) = verdict(&message) else { continue };
                outcome = outcome.and(match verdict {
                    Err(refusal) if tolerated.contains(&refusal.errno) => Ok(()),
                    verdict => verdict,
                });
                if sequence == last {
                    return Ok(outcome);
                }
            }
        }
    }

    /// Appends `message` to `batch` and returns its sequence number.
    fn append<M: NetlinkSerializable>(&mut self, batch: &mut Vec<u8>, message: M, flags: u16) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let start = batch.len();
        batch.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut batch[start..]);
        self.sequence
    }

    /// Fills the buffer with the next part of an answer.
    fn receive(&mut self) -> Result<()> {
        loop {
            self.buffer.clear();
            // `MSG_TRUNC` makes the kernel return the true length.
            let flags = rustix::net::RecvFlags::TRUNC.bits().cast_signed();
            match self.socket.recv(&mut self.buffer, flags) {
                Ok(length) => {
                    ensure!(length <= self.buffer.len(), "a netlink answer of {length} bytes is too long");
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("receiving from netlink"),
            }
        }
    }
}

/// Why the kernel refused a request: its errno and, where it gives one, its reason in words.
#[derive(Debug, thiserror::Error)]
pub struct Refusal {
    /// The error number.
    pub errno: Errno,
    /// The kernel's own explanation.
    pub reason: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => write!(out, "{reason}: {}", self.errno),
            None => write!(out, "{}", self.errno),
        }
    }
}

/// An unprivileged process keeps the default size.
fn enlarge_queue(socket: &Socket, bytes: usize) {
    if let Err(error) = set_socket_recv_buffer_size_force(socket, bytes) {
        tracing::debug!("netlink receive buffer: {error}");
    }
}

/// Splits what one system call received. Stops at the first message that is cut short.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(bytes).ok()?;
        let length = (message.length() as usize).next_multiple_of(4);
        bytes = bytes.get(length..).unwrap_or_default();
        Some(message)
    })
}

/// How the request ended, if this message says so.
fn verdict(message: &NetlinkBuffer<&[u8]>) -> Option<Result<(), Refusal>> {
    let kind = message.message_type();
    if kind != NLMSG_ERROR && kind != NLMSG_DONE {
        return None;
    }
    // A `done` may be empty; both begin with a negative errno or 0.
    let code = message.payload().get(..4).and_then(|code| parse_i32(code).ok()).unwrap_or(0);
    if code >= 0 {
        return Some(Ok(()));
    }
    Some(Err(Refusal { errno: Errno::from_raw_os_error(-code), reason: reason(message) }))
}

/// The text (`NLMSGERR_ATTR_MSG`) behind the errno and, in an error, the header of the request.
fn reason(message: &NetlinkBuffer<&[u8]>) -> Option<String> {
    const MSG: u16 = 1;
    if message.flags() & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let attributes = message.payload().get(if message.message_type() == NLMSG_ERROR { 20.. } else { 4.. })?;
    let text = NlasIterator::new(attributes).flatten().find(|attribute| attribute.kind() == MSG)?;
    parse_string(text.value()).ok()
}

fn read<A: NetlinkDeserializable>(message: &NetlinkBuffer<&[u8]>) -> Result<A> {
    let header = NetlinkHeader::parse(message)?;
    A::deserialize(&header, message.payload()).map_err(|error| anyhow!(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        bytes.extend_from_slice(payload);
        let mut buffer = NetlinkBuffer::new(&mut bytes);
        buffer.set_length(16 + u32::try_from(payload.len()).unwrap());
        buffer.set_message_type(kind);
        buffer.set_flags(flags);
        bytes
    }

    #[test]
    fn a_datagram_is_split_and_a_cut_message_ends_it() {
        let mut bytes = message(16, 0, &[0; 4]);
        bytes.extend(message(24, 0, &[0; 4]));
        let whole = bytes.len();
        bytes.extend(&message(32, 0, &[0; 4])[..10]);
        let kinds: Vec<_> = messages(&bytes).map(|message| message.message_type()).collect();
        assert_eq!(kinds, [16, 24]);
        assert_eq!(messages(&bytes[..whole]).count(), 2);
    }

    #[test]
    fn refusals_carry_the_kernels_words() {
        let mut payload = (-17i32).to_ne_bytes().to_vec();
        payload.extend([0; 16]);
        assert_eq!(verdict_of(&payload, 0), "File exists (os error 17)");
        payload.extend([8, 0, 1, 0]);
        payload.extend(b"why\0");
        assert_eq!(verdict_of(&payload, NLM_F_ACK_TLVS), "why: File exists (os error 17)");
    }

    fn verdict_of(payload: &[u8], flags: u16) -> String {
        let bytes = message(NLMSG_ERROR, flags, payload);
        let message = messages(&bytes).next().unwrap();
        verdict(&message).unwrap().unwrap_err().to_string()
    }

    #[test]
    fn an_empty_done_is_the_end() {
        let bytes = message(NLMSG_DONE, 0, &[]);
        assert!(verdict(&messages(&bytes).next().unwrap()).unwrap().is_ok());
    }
}
