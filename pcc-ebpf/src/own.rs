//! The router's own sockets: which mark one gets when it is connected.
//!
//! A mark on the socket goes before its first route lookup, so that source address and MTU are those of the uplink.
//! netfilter's output chain sees to what is not connected, and to sockets whose uplink has died since.

use crate::abi::{FlowKey, IPV4, IPV6, POLICY_DEFAULT, Settings};
use crate::classify::Tables;
use crate::flow::is_mapped;
use crate::packet::{Details, Headers, protocol};
use crate::policy::select;

/// A socket that is about to be connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Where to: network order, IPv4 mapped.
    pub destination: [u32; 4],
    /// Host order.
    pub destination_port: u16,
    /// Its own port, or a random one where it has none yet.
    pub source_port: u16,
    /// IP protocol number.
    pub protocol: u32,
    /// It has a source address or a device already.
    pub bound: bool,
    /// Its mark.
    pub mark: u32,
}

/// The mark that the socket gets; `None`: it keeps what it has.
///
/// Bound sockets stay where they are: they get the bit *ours* alone, which no routing rule matches. Others get the uplink
/// that the buckets say, if the router's traffic is balanced; also those that were connected before. What has a mark of
/// somebody else, or one that says *confirmed*, is left alone.
#[inline(always)]
pub fn mark<T: Tables>(tables: &T, settings: &Settings, socket: &Socket) -> Option<u32> {
    let family = if is_mapped(&socket.destination) { IPV4 } else { IPV6 };
    let key = FlowKey {
        // Not known yet, and the same for all of them.
        source: if family == IPV4 { crate::flow::mapped(0) } else { [0; 4] },
        destination: socket.destination,
        source_port: socket.source_port,
        destination_port: socket.destination_port,
        protocol: socket.protocol,
    };
    let opens = socket.protocol == protocol::TCP as u32;
    let headers = Headers { key, family, opens, cacheable: true, details: Details::default() };
    if socket.mark & !settings.mark_mask != 0 || socket.mark & settings.mark_confirmed != 0 || !key.is_routable() {
        return None;
    }
    if socket.bound {
        return if socket.mark == 0 { Some(settings.mark_ours) } else { None };
    }
    if settings.balance_router == 0 || tables.bypassed(&headers) {
        return if socket.mark == 0 { None } else { Some(0) };
    }
    let choice = select(tables, settings, &headers, POLICY_DEFAULT, 0);
    let mark = choice.mark & !settings.mark_missed;
    if mark == socket.mark { None } else { Some(mark) }
}
