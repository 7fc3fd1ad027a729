//! Connections and clients: how fast each is, what is looked for, and which come first.

use std::collections::HashMap;
use std::net::IpAddr;

use super::history;
use crate::flows::{Client, Flow, Listing, Query};

/// Connections that are asked for.
const LIMIT: usize = 200;

/// What was listed last, with rates since the listing before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Connections {
    /// So many connections there are that were asked for.
    pub total: u64,
    /// Conntrack counts bytes.
    pub accounting: bool,
    /// The first of them.
    pub flows: Vec<Paced<Flow>>,
    /// The first clients.
    pub clients: Vec<Paced<Client>>,
    /// Why there is no newer listing.
    pub problem: Option<String>,
    /// Somebody has listed something.
    pub known: bool,
    at: u64,
}

/// Something with its bytes a second, where they are known.
#[derive(Clone, Debug, PartialEq)]
pub struct Paced<T> {
    /// It.
    pub it: T,
    /// Bytes a second out.
    pub out: Option<f64>,
    /// Bytes a second in.
    pub into: Option<f64>,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// The fastest, or the one with most connections where no speed is known.
    #[default]
    Rate,
    /// The one with most bytes.
    Bytes,
    /// By address.
    Address,
}

impl Sort {
    /// The one after this.
    pub fn next(self) -> Self {
        match self {
            Self::Rate => Self::Bytes,
            Self::Bytes => Self::Address,
            Self::Address => Self::Rate,
        }
    }

    /// What it is called.
    pub fn word(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Bytes => "bytes",
            Self::Address => "address",
        }
    }
}

impl<T> Paced<T> {
    /// Bytes a second in both directions, 0 where unknown.
    pub fn rate(&self) -> f64 {
        self.out.unwrap_or(0.0) + self.into.unwrap_or(0.0)
    }
}

impl Connections {
    /// `listing` was made at the time `at`, in milliseconds.
    pub fn read(&mut self, at: u64, listing: Listing) {
        let pace = |now: (Option<u64>, Option<u64>), before: Option<(Option<u64>, Option<u64>)>| {
            let rate = |now: Option<u64>, before: Option<u64>| history::rate((self.at, before?), (at, now?));
            let before = before.unwrap_or_default();
            (rate(now.0, before.0), rate(now.1, before.1))
        };
        let flows: HashMap<_, _> = self.flows.iter().map(|flow| (key(&flow.it), bytes(&flow.it))).collect();
        let clients: HashMap<_, _> = self.clients.iter().map(|it| (it.it.address, sums(&it.it))).collect();
        let flows = listing.flows.into_iter().map(|flow| {
            let (out, into) = pace(bytes(&flow), flows.get(&key(&flow)).copied());
            Paced { it: flow, out, into }
        });
        let clients = listing.clients.into_iter().map(|client| {
            let (out, into) = pace(sums(&client), clients.get(&client.address).copied());
            Paced { it: client, out, into }
        });
        let (flows, clients) = (flows.collect(), clients.collect());
        let Listing { total, accounting, .. } = listing;
        *self = Self { total, accounting, flows, clients, problem: None, known: true, at };
    }

    /// They could not be listed.
    pub fn gap(&mut self, reason: String) {
        self.problem = Some(reason);
    }

    /// Those whose client, server, ports or uplink contain `filter`, in order.
    pub fn flows(&self, sort: Sort, filter: &str) -> Vec<&Paced<Flow>> {
        let mut flows: Vec<_> = self.flows.iter().filter(|flow| matches(&flow.it, filter)).collect();
        let total = |flow: &Flow| flow.bytes_out.unwrap_or(0).saturating_add(flow.bytes_in.unwrap_or(0));
        // Stable: what the controller put first stays first among equals.
        match sort {
            Sort::Rate => flows.sort_by(|a, b| b.rate().total_cmp(&a.rate())),
            Sort::Bytes => flows.sort_by_key(|flow| std::cmp::Reverse(total(&flow.it))),
            Sort::Address => flows.sort_by_key(|flow| (flow.it.client, flow.it.source, flow.it.destination)),
        }
        flows
    }

    /// Those whose address contains `filter`, or who own a listed connection that does, in order.
    pub fn clients(&self, sort: Sort, filter: &str) -> Vec<&Paced<Client>> {
        let owners: Vec<IpAddr> =
            self.flows.iter().filter(|flow| matches(&flow.it, filter)).map(|flow| flow.it.client).collect();
        let wanted = |client: &Client| {
            filter.is_empty() || client.address.to_string().contains(filter) || owners.contains(&client.address)
        };
        let mut clients: Vec<_> = self.clients.iter().filter(|client| wanted(&client.it)).collect();
        clients.sort_by_key(|client| std::cmp::Reverse(client.it.connections));
        let total = |client: &Client| client.bytes_out.saturating_add(client.bytes_in);
        match sort {
            Sort::Rate => clients.sort_by(|a, b| b.rate().total_cmp(&a.rate())),
            Sort::Bytes => clients.sort_by_key(|client| std::cmp::Reverse(total(&client.it))),
            Sort::Address => clients.sort_by_key(|client| client.it.address),
        }
        clients
    }
}

/// What is asked for where `filter` was typed: what the controller can look for, it looks for among all connections.
pub fn query(filter: &str, uplinks: &[&str]) -> Query {
    let all = Query { limit: LIMIT, ..Query::default() };
    let address = filter.parse::<IpAddr>().map(ipnet::IpNet::from);
    if let Ok(client) = filter.parse::<ipnet::IpNet>().or(address) {
        return Query { client: Some(client), ..all };
    }
    if let Ok(port) = filter.parse::<u16>() {
        return Query { port: Some(port), ..all };
    }
    if uplinks.contains(&filter) {
        return Query { uplink: Some(filter.to_owned()), ..all };
    }
    all
}

type Key = (String, std::net::SocketAddr, std::net::SocketAddr);

fn key(flow: &Flow) -> Key {
    (flow.protocol.clone(), flow.source, flow.destination)
}

fn bytes(flow: &Flow) -> (Option<u64>, Option<u64>) {
    (flow.bytes_out, flow.bytes_in)
}

fn sums(client: &Client) -> (Option<u64>, Option<u64>) {
    (Some(client.bytes_out), Some(client.bytes_in))
}

fn matches(flow: &Flow, filter: &str) -> bool {
    if filter.is_empty() {
        return true;
    }
    if let Ok(network) = filter.parse::<ipnet::IpNet>() {
        return network.contains(&flow.client);
    }
    let mut words = vec![flow.client.to_string(), flow.source.to_string(), flow.destination.to_string()];
    words.push(flow.protocol.clone());
    words.extend([&flow.uplink, &flow.state, &flow.connection_mark].into_iter().flatten().cloned());
    words.iter().any(|word| word.contains(filter))
}

#[cfg(test)]
#[path = "traffic_tests.rs"]
mod tests;
