//! Notices that something changed.

use std::collections::BTreeSet;
use std::io;

use anyhow::{Context, Result};
use netlink_packet_core::{NetlinkBuffer, NlasIterator};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use rustix::io::Errno;

use super::neighbours::Neighbours;
use super::{Netlink, QUEUE_BYTES, RECEIVE_BYTES, enlarge_queue, messages, read};
use crate::ruleset;

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
    /// Something in an nftables table of somebody else. Only with [`Monitor::watch_closely`].
    Firewall,
    /// A neighbour has another link-layer address, or none any more. Only with [`Monitor::watch_closely`].
    Neighbours,
    /// Notices were lost: all of it may have changed.
    Everything,
}

/// Says that something changed, not how: the reader observes again. Our own changes are reported as well.
pub struct Monitor {
    routes: Watch,
    ruleset: Watch,
    /// Name of our nftables table.
    table: String,
    /// What only shortcuts depend on.
    closely: Option<(Watch, Neighbours)>,
    /// What was heard at the same time and is not told yet.
    pending: BTreeSet<Changed>,
}

/// A socket that is a member of multicast groups.
pub(super) struct Watch {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

/// `RTNLGRP_LINK`, `…_IPV4_IFADDR`, `…_IPV4_ROUTE`, `…_IPV4_RULE`, and IPv6's.
const ROUTE_GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];
/// `RTNLGRP_NEIGH`.
const NEIGHBOUR_GROUPS: [u32; 1] = [3];
/// `NFNLGRP_NFTABLES`.
const RULESET_GROUPS: [u32; 1] = [7];

impl Monitor {
    /// Starts watching the host, and the nftables table `inet <table>`. To be called inside a tokio runtime.
    pub fn new(table: &str) -> Result<Self> {
        Ok(Self {
            routes: Watch::new(NETLINK_ROUTE, &ROUTE_GROUPS)?,
            ruleset: Watch::new(NETLINK_NETFILTER, &RULESET_GROUPS)?,
            table: table.to_owned(),
            closely: None,
            pending: BTreeSet::new(),
        })
    }

    /// Watches also the nftables tables of others, and the neighbours behind `devices` (interface indices); with `None` no more.
    /// To be called again whenever the devices are other ones.
    pub fn watch_closely(&mut self, devices: Option<BTreeSet<u32>>) -> Result<()> {
        let Some(devices) = devices else {
            self.closely = None;
            return Ok(());
        };
        if self.closely.is_none() {
            let watch = Watch::new(NETLINK_ROUTE, &NEIGHBOUR_GROUPS)?;
            let mut neighbours = Neighbours::default();
            learn(&mut neighbours)?;
            self.closely = Some((watch, neighbours));
        }
        if let Some((_, neighbours)) = &mut self.closely {
            neighbours.watch(devices);
        }
        Ok(())
    }

    /// The next change. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Changed> {
        loop {
            if let Some(changed) = self.pending.pop_first() {
                return Ok(changed);
            }
            let Self { routes, ruleset, table, closely, pending } = self;
            let watches_others = closely.is_some();
            let mut told = |message: &NetlinkBuffer<&[u8]>, pending: &mut BTreeSet<Changed>| {
                pending.extend(of_ruleset(message, table, watches_others));
            };
            tokio::select! {
                heard = routes.hear() => each(heard?, pending, |message, pending| {
                    pending.extend(Changed::of(message.message_type()));
                }),
                heard = ruleset.hear() => each(heard?, pending, &mut told),
                heard = neighbours(closely) => {
                    let (heard, neighbours) = heard?;
                    let is_lost = heard.is_none();
                    each(heard, pending, |message, pending| {
                        if read::<RouteNetlinkMessage>(message).is_ok_and(|message| neighbours.hear(&message)) {
                            pending.insert(Changed::Neighbours);
                        }
                    });
                    if is_lost {
                        learn(neighbours)?;
                    }
                }
            }
        }
    }
}

/// What the kernel tells of neighbours next; nothing ever where nobody listens.
async fn neighbours(closely: &mut Option<(Watch, Neighbours)>) -> Result<(Option<&[u8]>, &mut Neighbours)> {
    match closely {
        Some((watch, neighbours)) => Ok((watch.hear().await?, neighbours)),
        None => std::future::pending().await,
    }
}

/// Shows `see` the messages that were `heard`; if some were lost, everything may have changed.
fn each(
    heard: Option<&[u8]>,
    pending: &mut BTreeSet<Changed>,
    mut see: impl FnMut(&NetlinkBuffer<&[u8]>, &mut BTreeSet<Changed>),
) {
    match heard {
        Some(bytes) => messages(bytes).for_each(|message| see(&message, pending)),
        None => drop(pending.insert(Changed::Everything)),
    }
}

/// Fills `neighbours` with those that the kernel has.
fn learn(neighbours: &mut Neighbours) -> Result<()> {
    let query = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    let known: Vec<RouteNetlinkMessage> = Netlink::route()?.dump(&query).context("listing neighbours")?;
    neighbours.clear();
    for neighbour in &known {
        neighbours.hear(neighbour);
    }
    Ok(())
}

impl Watch {
    pub(super) fn new(protocol: isize, groups: &[u32]) -> Result<Self> {
        let prepare = || {
            let mut socket = TokioSocket::new(protocol)?;
            socket.socket_mut().bind_auto()?;
            for group in groups {
                socket.socket_mut().add_membership(*group)?;
            }
            Ok::<_, io::Error>(socket)
        };
        let socket = prepare().context("watching the host by netlink")?;
        enlarge_queue(socket.socket_ref(), QUEUE_BYTES);
        Ok(Self { socket, buffer: Vec::with_capacity(RECEIVE_BYTES) })
    }

    /// The next messages; `None` if some were lost. Dropping the future loses nothing.
    pub(super) async fn hear(&mut self) -> Result<Option<&[u8]>> {
        self.buffer.clear();
        match self.socket.recv(&mut self.buffer).await {
            Ok(()) => Ok(Some(&self.buffer)),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => Ok(None),
            Err(error) => Err(error).context("receiving from netlink"),
        }
    }
}

/// What a message about nftables means: our table lost a table, chain, rule or set (elements come and go by ourselves), or
/// another table changed.
fn of_ruleset(message: &NetlinkBuffer<&[u8]>, own: &str, watches_others: bool) -> Option<Changed> {
    const NFTABLES: u16 = 10;
    const DELETED: [u16; 4] = [2, 5, 8, 11];
    /// `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, … The marker at the end of a transaction has none that is text.
    const TABLE_NAME: u16 = 1;
    const NEW_GENERATION: u16 = 15;
    /// `struct nfgenmsg`, which begins with the family.
    const HEADER: usize = 4;
    const INET: u8 = 1;
    let [kind, subsystem] = [message.message_type() & 0xff, message.message_type() >> 8];
    if subsystem != NFTABLES || kind == NEW_GENERATION {
        return None;
    }
    let payload = message.payload();
    let family = if payload.first() == Some(&INET) { "inet" } else { "" };
    let attributes = payload.get(HEADER..).unwrap_or_default();
    let name = NlasIterator::new(attributes).filter_map(Result::ok).find(|it| it.kind() == TABLE_NAME)?;
    let name = name.value().split(|byte| *byte == 0).next()?;
    if family == "inet" && name == own.as_bytes() {
        return DELETED.contains(&kind).then_some(Changed::Ruleset);
    }
    let is_own = std::str::from_utf8(name).is_ok_and(|name| ruleset::is_own(own, family, name));
    (watches_others && !is_own).then_some(Changed::Firewall)
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
