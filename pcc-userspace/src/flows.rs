//! Connections as conntrack, the flow cache and the shortcuts know them together: what `pcc flows` lists.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use serve::{Server, list};

mod join;
pub mod scene;
mod select;
mod serve;
mod table;

/// Which connections are asked for. What is not given is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// Their end on the side of the LAN is in this network.
    pub client: Option<IpNet>,
    /// They belong to this uplink, by name or device; in a RouterOS configuration they have this connection mark or routing mark.
    pub uplink: Option<String>,
    /// One of their ports, as the side that began sees them.
    pub port: Option<u16>,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// [`Flow::state`].
    pub state: Option<String>,
    /// Which come first.
    pub sort: Order,
    /// So many flows and so many clients at most, [`Query::MOST`] in any case; 0 stands for [`Query::LIMIT`].
    pub limit: usize,
}

impl Query {
    /// How many are listed where nobody says.
    pub const LIMIT: usize = 50;
    /// How many are listed at most.
    pub const MOST: usize = 10_000;
}

/// Which connections and clients come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Most bytes, both directions together.
    #[default]
    Bytes,
    /// Most bytes that left.
    Out,
    /// Most bytes that came in.
    In,
    /// Most packets, both directions together.
    Packets,
    /// By the client's address.
    Client,
    /// By the address that it talks to.
    Server,
}

/// The connections that were asked for, at one moment. This is what `pcc flows --json` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// So many there are.
    pub total: u64,
    /// Conntrack counts bytes and packets (`net.netfilter.nf_conntrack_acct`). Where it does not, those of connections are
    /// unknown.
    pub accounting: bool,
    /// The first of them.
    pub flows: Vec<Flow>,
    /// Who they belong to, all of them taken together; the first clients.
    pub clients: Vec<Client>,
}

/// One connection. *Out* is away from the LAN, *in* towards it, whoever began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Name of the IP protocol, or its number.
    pub protocol: String,
    /// Who began, as its packets come in. The port of ICMP is its identifier.
    pub source: SocketAddr,
    /// Where to, likewise.
    pub destination: SocketAddr,
    /// The source as packets leave.
    pub translated_source: SocketAddr,
    /// The destination as packets leave.
    pub translated_destination: SocketAddr,
    /// The end on the side of the LAN.
    pub client: IpAddr,
    /// It began outside.
    pub inbound: bool,
    /// The uplink that it belongs to; `None`: pcc leaves it alone.
    pub uplink: Option<String>,
    /// RouterOS's connection mark.
    pub connection_mark: Option<String>,
    /// RouterOS's routing mark of the direction that began.
    pub routing_mark: Option<String>,
    /// Of TCP its state in lower case, such as `established`; of others `unreplied`, `replied` or `assured`.
    pub state: Option<String>,
    /// Seconds until conntrack forgets it, if no packet comes.
    pub timeout: u64,
    /// Bytes of IP packets out, by shortcuts and through the stack; `None` where conntrack does not count.
    pub bytes_out: Option<u64>,
    /// Bytes in.
    pub bytes_in: Option<u64>,
    /// Packets out.
    pub packets_out: Option<u64>,
    /// Packets in.
    pub packets_in: Option<u64>,
    /// There may have been more: shortcuts are gone once a connection is being closed, and what they counted with them.
    pub at_least: bool,
    /// The flow cache knows it.
    pub cached: bool,
    /// Seconds since a packet last used that entry.
    pub cache_used: Option<u64>,
    /// It has a shortcut, in one direction or both.
    pub shortcut: bool,
    /// Bytes out that took the shortcut, part of those above.
    pub shortcut_bytes_out: u64,
    /// Bytes in that took it.
    pub shortcut_bytes_in: u64,
}

/// Everything of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// Its connections.
    pub connections: u64,
    /// Their bytes out, as far as they are known.
    pub bytes_out: u64,
    /// Their bytes in.
    pub bytes_in: u64,
}
