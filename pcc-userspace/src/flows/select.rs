//! Pure: which connections are asked for, and the first of many, without holding the others.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::join::Joined;
use super::{Client, Order, Query};

/// Whose sums are kept at most; further clients are counted in the total alone.
const CLIENTS: usize = 65_536;

impl Query {
    /// So many are listed.
    pub fn most(&self) -> usize {
        if self.limit == 0 { Self::LIMIT } else { self.limit.min(Self::MOST) }
    }

    /// `joined` is asked for, as far as the kernel does not say it.
    pub fn admits(&self, joined: &Joined) -> bool {
        let (from, to) = (joined.connection.original.0.port(), joined.connection.original.1.port());
        self.client.is_none_or(|network| network.contains(&joined.ends.client.ip()))
            && self.port.is_none_or(|port| from == port || to == port)
            && self.protocol.is_none_or(|protocol| joined.connection.protocol == protocol)
            && self.state.as_deref().is_none_or(|state| joined.state() == Some(state))
    }
}

/// Takes connections one by one, and keeps the first ones.
pub struct Selection {
    order: Order,
    most: usize,
    /// Up to twice as many.
    kept: Vec<Joined>,
    clients: BTreeMap<IpAddr, Client>,
    total: u64,
}

impl Selection {
    /// For the first of `query`.
    pub fn new(query: &Query) -> Self {
        Self { order: query.sort, most: query.most(), kept: Vec::new(), clients: BTreeMap::new(), total: 0 }
    }

    /// One more.
    pub fn take(&mut self, joined: Joined) {
        self.total += 1;
        let address = joined.ends.client.ip();
        let [out, back] = joined.bytes();
        if self.clients.len() < CLIENTS || self.clients.contains_key(&address) {
            let client = self.clients.entry(address).or_insert_with(|| Client {
                address,
                connections: 0,
                bytes_out: 0,
                bytes_in: 0,
            });
            client.connections += 1;
            client.bytes_out = client.bytes_out.saturating_add(out);
            client.bytes_in = client.bytes_in.saturating_add(back);
        }
        self.kept.push(joined);
        if self.kept.len() >= 2 * self.most {
            let order = self.order;
            self.kept.select_nth_unstable_by_key(self.most, |joined| rank(order, joined));
            self.kept.truncate(self.most);
        }
    }

    /// How many there were, the first of them, and the first clients.
    pub fn finish(mut self) -> (u64, Vec<Joined>, Vec<Client>) {
        self.kept.sort_unstable_by_key(|joined| rank(self.order, joined));
        self.kept.truncate(self.most);
        let mut clients: Vec<Client> = self.clients.into_values().collect();
        match self.order {
            Order::Client | Order::Server => {}
            Order::Out => clients.sort_by_key(|client| Reverse(client.bytes_out)),
            Order::In => clients.sort_by_key(|client| Reverse(client.bytes_in)),
            Order::Packets => clients.sort_by_key(|client| Reverse(client.connections)),
            Order::Bytes => {
                clients.sort_by_key(|client| {
                    Reverse((client.bytes_out.saturating_add(client.bytes_in), client.connections))
                });
            }
        }
        clients.truncate(self.most);
        (self.total, self.kept, clients)
    }
}

/// The lowest comes first. What is equal otherwise is in order of its ends, so that a list stands still.
fn rank(order: Order, joined: &Joined) -> (Reverse<u64>, impl Ord + use<>) {
    let [out, back] = joined.bytes();
    let amount = match order {
        Order::Bytes => out.saturating_add(back),
        Order::Out => out,
        Order::In => back,
        Order::Packets => joined.packets().iter().sum(),
        Order::Client | Order::Server => 0,
    };
    let (client, server) = (joined.ends.client, joined.ends.server);
    let ends = if order == Order::Server { (server, client) } else { (client, server) };
    (Reverse(amount), (ends, joined.connection.protocol))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::flows::scene::Ends;
    use crate::host::connections::{Connection, Count};

    fn joined(client: u8, port: u16, bytes: u64) -> Joined {
        let client: SocketAddr = ([10, 0, 0, client], port).into();
        let server: SocketAddr = ([192, 0, 2, 9], 443).into();
        let count = |bytes| Count { packets: bytes / 100, bytes };
        let connection = Connection {
            protocol: 6,
            original: (client, server),
            reply: (server, client),
            mark: 0x81,
            answered: true,
            assured: true,
            translated_destination: false,
            tcp_state: Some(3),
            timeout: 1,
            counters: Some([count(bytes), count(0)]),
        };
        let ends = Ends { client, server, inbound: false };
        Joined { connection, ends, shortcut_out: None, shortcut_in: None }
    }

    #[test]
    fn every_filter_counts() {
        let one = joined(5, 4000, 1);
        let all = Query {
            client: Some("10.0.0.0/29".parse().unwrap()),
            port: Some(443),
            protocol: Some(6),
            state: Some("established".into()),
            ..Query::default()
        };
        assert!(all.admits(&one) && Query::default().admits(&one));
        assert!(Query { port: Some(4000), ..all.clone() }.admits(&one));
        assert!(!Query { port: Some(80), ..all.clone() }.admits(&one));
        assert!(!Query { protocol: Some(17), ..all.clone() }.admits(&one));
        assert!(!Query { state: Some("time_wait".into()), ..all.clone() }.admits(&one));
        assert!(!Query { client: Some("10.0.0.9/32".parse().unwrap()), ..all }.admits(&one));
    }

    #[test]
    fn nobody_gets_more_than_the_most() {
        let most = |limit| Query { limit, ..Query::default() }.most();
        assert_eq!((most(0), most(7), most(usize::MAX)), (Query::LIMIT, 7, Query::MOST));
    }

    proptest! {
        #[test]
        fn the_first_of_many_are_those_of_a_whole_sort(
            many in prop::collection::vec((0_u8..20, 1_u16.., 0_u64..1000), 0..300),
            limit in 1_usize..40,
            order in prop::sample::select(&[Order::Bytes, Order::Out, Order::In, Order::Packets, Order::Client, Order::Server][..]),
        ) {
            let query = Query { limit, sort: order, ..Query::default() };
            let many: Vec<Joined> = many.into_iter().map(|(client, port, bytes)| joined(client, port, bytes)).collect();
            let mut selection = Selection::new(&query);
            many.iter().for_each(|joined| selection.take(*joined));
            let (total, first, clients) = selection.finish();
            let mut sorted = many.clone();
            sorted.sort_by_key(|joined| rank(order, joined));
            sorted.truncate(limit);
            let keys = |joined: &[Joined]| joined.iter().map(|joined| rank(order, joined)).collect::<Vec<_>>();
            prop_assert_eq!(total, many.len() as u64);
            prop_assert!(keys(&first) == keys(&sorted));
            let everything = Query { limit: 1000, ..query };
            let mut selection = Selection::new(&everything);
            many.iter().for_each(|joined| selection.take(*joined));
            let (_, _, all) = selection.finish();
            prop_assert!(clients.len() <= limit);
            prop_assert_eq!(all.iter().map(|client| client.connections).sum::<u64>(), many.len() as u64);
            let bytes: u64 = many.iter().map(|joined| joined.bytes()[0]).sum();
            prop_assert_eq!(all.iter().map(|client| client.bytes_out).sum::<u64>(), bytes);
        }
    }
}
