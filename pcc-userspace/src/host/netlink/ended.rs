//! Connections that were deleted before their time.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netlink_packet_core::{NetlinkBuffer, NlasIterator};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use rustix::io::Errno;
use socket2::{SockFilter, SockRef};

use super::{RECEIVE_BYTES, enlarge_queue, messages};
use crate::host::conntrack::{CTA_MARK, CTA_STATUS, CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, Tuple};

/// A connection of TCP or UDP that conntrack has no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ended {
    /// IP protocol number.
    pub protocol: u8,
    /// Source and destination of packets of the side that began, as they came in.
    pub original: (SocketAddr, SocketAddr),
    /// Source and destination of answers, as they came in.
    pub reply: (SocketAddr, SocketAddr),
}

/// Tells of connections that end while packets of theirs may still take shortcuts: somebody deleted them, or a reset left them a
/// few seconds only. Those that idled away, that had no answer, that carry no mark of ours or that we deleted are left out by
/// the kernel.
///
/// Connections that began before somebody listened are not told: the kernel keeps no place for their events.
pub struct Endings {
    socket: TokioSocket,
    buffer: Vec<u8>,
    /// Heard and not told yet.
    ended: Vec<Ended>,
    /// When to tell it.
    until: Instant,
}

/// `NFNLGRP_CONNTRACK_DESTROY`.
const GROUP: u32 = 3;
/// So many are told at once at most.
const BATCH: usize = 4096;
/// Room for some 25,000 of them; the kernel takes it only while they wait.
const QUEUE_BYTES: usize = 16 << 20;
/// Those that come together are one event.
const GATHER: Duration = Duration::from_millis(2);
const TCP: u8 = 6;
const UDP: u8 = 17;

impl Endings {
    /// Starts listening for connections whose mark has the bit `ours`. Those that the netlink port `own` deletes are left out. To be
    /// called inside a tokio runtime.
    pub fn new(ours: u32, own: u32) -> Result<Self> {
        let prepare = || {
            let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
            socket.socket_mut().bind_auto()?;
            // Before the first notice can come.
            SockRef::from(socket.socket_ref()).attach_filter(&filter(ours, own))?;
            socket.socket_mut().add_membership(GROUP)?;
            Ok::<_, io::Error>(socket)
        };
        let socket = prepare().context("watching conntrack by netlink")?;
        enlarge_queue(socket.socket_ref(), QUEUE_BYTES);
        Ok(Self { socket, buffer: Vec::with_capacity(RECEIVE_BYTES), ended: Vec::new(), until: Instant::now() })
    }

    /// The next ones; `None` if some were lost. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Vec<Ended>>> {
        let Self { socket, buffer, ended, until } = self;
        while ended.is_empty() {
            buffer.clear();
            if is_lost(socket.recv(buffer).await)? {
                return Ok(None);
            }
            ended.extend(messages(buffer).filter_map(|message| read(&message)));
            *until = Instant::now() + GATHER;
        }
        tokio::time::sleep_until((*until).into()).await;
        while ended.len() < BATCH {
            buffer.clear();
            // What is there already.
            let received = poll_fn(|context| match socket.poll_recv(context, buffer) {
                Poll::Ready(received) => Poll::Ready(Some(received)),
                Poll::Pending => Poll::Ready(None),
            });
            let Some(received) = received.await else { break };
            if is_lost(received)? {
                ended.clear();
                return Ok(None);
            }
            ended.extend(messages(buffer).filter_map(|message| read(&message)));
        }
        Ok(Some(std::mem::take(ended)))
    }
}

fn is_lost(received: io::Result<()>) -> Result<bool> {
    match received {
        Ok(()) => Ok(false),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => Ok(true),
        Err(error) => Err(error).context("receiving from netlink"),
    }
}

fn read(message: &NetlinkBuffer<&[u8]>) -> Option<Ended> {
    let (mut original, mut reply) = (None, None);
    for attribute in NlasIterator::new(message.payload().get(4..)?).filter_map(Result::ok) {
        match attribute.kind() {
            CTA_TUPLE_ORIG => original = Tuple::parse(attribute.value()).ok(),
            CTA_TUPLE_REPLY => reply = Tuple::parse(attribute.value()).ok(),
            _ => {}
        }
    }
    let protocol = original?.protocol;
    matches!(protocol, TCP | UDP).then_some(Ended { protocol, original: original?.ends()?, reply: reply?.ends()? })
}

/// Classic BPF over a message: header of netlink (16 bytes), of nfnetlink (4), attributes.
fn filter(ours: u32, own: u32) -> Vec<SockFilter> {
    const LOAD_WORD: u16 = 0x20;
    const LOAD_WORD_AT_X: u16 = 0x40;
    const LOAD_BYTE_AT_X: u16 = 0x50;
    const CONSTANT: u16 = 0x00;
    const CONSTANT_X: u16 = 0x01;
    const COPY_TO_X: u16 = 0x07;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    /// Loading from here finds the attribute of kind X behind offset A; 0 if there is none.
    const FIND: u32 = 0xffff_f000 + 12;
    /// Likewise among those inside the attribute at offset A.
    const FIND_INSIDE: u32 = 0xffff_f000 + 16;
    const PORT: u32 = 12;
    const ATTRIBUTES: u32 = 20;
    /// Offset of the value in an attribute.
    const VALUE: u32 = 4;
    const SEEN_REPLY: u32 = 2;
    const CTA_PROTOINFO: u16 = 4;
    /// Left out where the time was over.
    const CTA_TIMEOUT: u16 = 7;
    const CTA_PROTOINFO_TCP: u32 = 1;
    const CTA_PROTOINFO_TCP_STATE: u32 = 1;
    /// `TCP_CONNTRACK_CLOSE`.
    const CLOSED: u32 = 8;
    type Part = Vec<SockFilter>;
    let constant = |code, value| SockFilter::new(code, 0, 0, value);
    let forget = || constant(RETURN, 0);
    let tell = || constant(RETURN, u32::MAX);
    let exists = || vec![SockFilter::new(JUMP_IF_EQUAL, 0, 1, 0), forget()];
    let find = |kind: u16| -> Part {
        vec![constant(CONSTANT, ATTRIBUTES), constant(CONSTANT_X, kind.into()), constant(LOAD_WORD, FIND)]
    };
    let inside = |kind| -> Part { vec![constant(CONSTANT_X, kind), constant(LOAD_WORD, FIND_INSIDE)] };
    let value = |load| vec![constant(COPY_TO_X, 0), constant(load, VALUE)];
    let has = |bits| vec![SockFilter::new(JUMP_IF_SET, 1, 0, bits), forget()];
    let parts = [
        // Words are loaded in network order.
        vec![constant(LOAD_WORD, PORT), SockFilter::new(JUMP_IF_EQUAL, 0, 1, own.to_be()), forget()],
        find(CTA_MARK),
        exists(),
        value(LOAD_WORD_AT_X),
        has(ours),
        find(CTA_STATUS),
        exists(),
        value(LOAD_WORD_AT_X),
        has(SEEN_REPLY),
        find(CTA_TIMEOUT),
        vec![SockFilter::new(JUMP_IF_EQUAL, 1, 0, 0), tell()],
        find(CTA_PROTOINFO),
        exists(),
        inside(CTA_PROTOINFO_TCP),
        exists(),
        inside(CTA_PROTOINFO_TCP_STATE),
        exists(),
        value(LOAD_BYTE_AT_X),
        vec![SockFilter::new(JUMP_IF_EQUAL, 0, 1, CLOSED), tell(), forget()],
    ];
    parts.into_iter().flatten().collect()
}
