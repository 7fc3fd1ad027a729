//! Notices that something changed.

use std::io;

use anyhow::{Context, Result};
use netlink_packet_core::{NetlinkBuffer, NlasIterator};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use rustix::io::Errno;

use super::{RECEIVE_BYTES, enlarge_queue, messages};

/// What changed on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Changed {
    /// A device came, went, or changed its name, state or carrier.
    Links,
    /// An address came, went or changed its flags.
    Addresses,
    /// A route came or went.
    Routes,
    /// A routing rule came or went.
    Rules,
    /// A rule, chain, set or all of our nftables table went.
    Ruleset,
    /// Notices were lost: all of it may have changed.
    Everything,
}

/// Says that something changed, not how: the reader observes again. Our own changes are reported as well.
pub struct Monitor {
    routes: Watch,
    ruleset: Watch,
    /// Name of our nftables table.
    table: String,
}

/// A socket that is a member of multicast groups.
struct Watch {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

/// `RTNLGRP_LINK`, `…_IPV4_IFADDR`, `…_IPV4_ROUTE`, `…_IPV4_RULE`, and IPv6's.
const ROUTE_GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];
/// `NFNLGRP_NFTABLES`.
const RULESET_GROUPS: [u32; 1] = [7];

impl Monitor {
    /// Starts watching the host, and the nftables table called `table` in whatever family. To be called inside a tokio runtime.
    pub fn new(table: &str) -> Result<Self> {
        Ok(Self {
            routes: Watch::new(NETLINK_ROUTE, &ROUTE_GROUPS)?,
            ruleset: Watch::new(NETLINK_NETFILTER, &RULESET_GROUPS)?,
            table: table.to_owned(),
        })
    }

    /// The next change. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Changed> {
        let Self { routes, ruleset, table } = self;
        tokio::select! {
            changed = routes.next(|message| Changed::of(message.message_type())) => changed,
            changed = ruleset.next(|message| is_loss(message, table).then_some(Changed::Ruleset)) => changed,
        }
    }
}

impl Watch {
    fn new(protocol: isize, groups: &[u32]) -> Result<Self> {
        let prepare = || {
            let mut socket = TokioSocket::new(protocol)?;
            socket.socket_mut().bind_auto()?;
            for group in groups {
                socket.socket_mut().add_membership(*group)?;
            }
            Ok::<_, io::Error>(socket)
        };
        let socket = prepare().context("watching the host by netlink")?;
        enlarge_queue(socket.socket_ref());
        Ok(Self { socket, buffer: Vec::with_capacity(RECEIVE_BYTES) })
    }

    /// The next message that `read` makes something of.
    async fn next(&mut self, read: impl Fn(&NetlinkBuffer<&[u8]>) -> Option<Changed>) -> Result<Changed> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer).await {
                Ok(()) => {}
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => return Ok(Changed::Everything),
                Err(error) => return Err(error).context("receiving from netlink"),
            }
            if let Some(changed) = messages(&self.buffer).find_map(|message| read(&message)) {
                return Ok(changed);
            }
        }
    }
}

/// `NFT_MSG_DEL…` of a table, chain, rule or set of the table called `table`. Elements come and go by ourselves.
fn is_loss(message: &NetlinkBuffer<&[u8]>, table: &str) -> bool {
    const NFTABLES: u16 = 10;
    const DELETED: [u16; 4] = [2, 5, 8, 11];
    /// `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, …
    const TABLE_NAME: u16 = 1;
    /// `struct nfgenmsg`.
    const HEADER: usize = 4;
    let [kind, subsystem] = [message.message_type() & 0xff, message.message_type() >> 8];
    let attributes = message.payload().get(HEADER..).unwrap_or_default();
    subsystem == NFTABLES
        && DELETED.contains(&kind)
        && NlasIterator::new(attributes)
            .filter_map(Result::ok)
            .any(|it| it.kind() == TABLE_NAME && it.value().split(|byte| *byte == 0).next() == Some(table.as_bytes()))
}

impl Changed {
    /// Message types come in fours: new, delete, get, set.
    fn of(message_type: u16) -> Option<Self> {
        match message_type {
            16..20 => Some(Self::Links),
            20..24 => Some(Self::Addresses),
            24..28 => Some(Self::Routes),
            32..36 => Some(Self::Rules),
            _ => None,
        }
    }
}
