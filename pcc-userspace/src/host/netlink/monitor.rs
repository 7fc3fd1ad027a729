//! Notices that something changed.

use std::io;

use anyhow::{Context, Result};
use netlink_sys::protocols::NETLINK_ROUTE;
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
    /// Notices were lost: all of it may have changed.
    Everything,
}

/// Says that something changed, not how: the reader observes again. Our own changes are reported as well.
pub struct Monitor {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

impl Monitor {
    /// `RTNLGRP_LINK`, `…_IPV4_IFADDR`, `…_IPV4_ROUTE`, `…_IPV4_RULE`, and IPv6's.
    const GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];

    /// Starts watching. To be called inside a tokio runtime.
    pub fn new() -> Result<Self> {
        let prepare = || {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            socket.socket_mut().bind_auto()?;
            for group in Self::GROUPS {
                socket.socket_mut().add_membership(group)?;
            }
            Ok::<_, io::Error>(socket)
        };
        let socket = prepare().context("watching the host by netlink")?;
        enlarge_queue(socket.socket_ref());
        Ok(Self { socket, buffer: Vec::with_capacity(RECEIVE_BYTES) })
    }

    /// The next change. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Changed> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer).await {
                Ok(()) => {}
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => return Ok(Changed::Everything),
                Err(error) => return Err(error).context("receiving from netlink"),
            }
            if let Some(changed) = messages(&self.buffer).find_map(|message| Changed::of(message.message_type())) {
                return Ok(changed);
            }
        }
    }
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
