use super::*;
use crate::top::sample;

fn connections() -> Connections {
    sample::app().model.connections
}

fn clients_of(flows: &[&Paced<Flow>]) -> Vec<String> {
    flows.iter().map(|flow| flow.it.client.to_string()).collect()
}

#[test]
fn connections_have_rates_since_the_listing_before() {
    let known = connections();
    let fastest = known.flows(Sort::Rate, "")[0];
    assert_eq!((fastest.into, fastest.out), (Some(9.1e6), Some(0.2e6)));
    let mut flows = known.flows.clone();
    flows.truncate(1);
    flows[0].it.bytes_in = None;
    let mut connections = connections();
    let listing = Listing { flows: vec![flows[0].it.clone()], ..Listing::default() };
    connections.read(connections.at + 1000, listing);
    assert_eq!((connections.flows[0].into, connections.flows[0].out), (None, Some(0.0)));
}

#[test]
fn connections_are_sorted() {
    let known = connections();
    let rates: Vec<f64> = known.flows(Sort::Rate, "").iter().map(|flow| flow.rate()).collect();
    assert!(rates.is_sorted_by(|a, b| a >= b), "{rates:?}");
    let bytes: Vec<u64> =
        known.flows(Sort::Bytes, "").iter().map(|it| it.it.bytes_in.unwrap() + it.it.bytes_out.unwrap()).collect();
    assert!(bytes.is_sorted_by(|a, b| a >= b), "{bytes:?}");
    assert!(known.flows(Sort::Address, "").is_sorted_by_key(|flow| flow.it.client));
    assert!(known.clients(Sort::Address, "").is_sorted_by_key(|client| client.it.address));
    let mut unpaced = known.clone();
    unpaced.clients.iter_mut().for_each(|client| (client.into, client.out) = (None, None));
    let counts: Vec<u64> = unpaced.clients(Sort::Rate, "").iter().map(|client| client.it.connections).collect();
    assert!(counts.is_sorted_by(|a, b| a >= b), "{counts:?}");
}

#[test]
fn a_filter_finds_clients_ports_and_uplinks() {
    let known = connections();
    assert_eq!(clients_of(&known.flows(Sort::Address, "10.0.0.0/30")), Vec::<String>::new());
    assert_eq!(clients_of(&known.flows(Sort::Address, "10.0.0.44")), ["10.0.0.44", "10.0.0.44"]);
    assert_eq!(clients_of(&known.flows(Sort::Address, "993")), ["10.0.0.33"]);
    assert_eq!(clients_of(&known.flows(Sort::Address, "lte")), ["10.0.0.17", "10.0.0.60"]);
    let clients: Vec<String> = known.clients(Sort::Address, "lte").iter().map(|it| it.it.address.to_string()).collect();
    assert_eq!(clients, ["10.0.0.17", "10.0.0.60"]);
    assert!(known.clients(Sort::Rate, "nobody").is_empty());
}

#[test]
fn the_controller_looks_for_what_it_can() {
    assert_eq!(query("", &[]), Query { limit: LIMIT, ..Query::default() });
    assert_eq!(query("10.0.0.0/8", &[]).client, Some("10.0.0.0/8".parse().unwrap()));
    assert_eq!(query("2001:db8::1", &[]).client, Some("2001:db8::1/128".parse().unwrap()));
    assert_eq!(query("443", &[]).port, Some(443));
    assert_eq!(query("lte", &["lte"]).uplink, Some("lte".into()));
    assert_eq!(query("lt", &["lte"]), query("", &[]));
}

#[test]
fn what_cannot_be_listed_leaves_the_last_listing() {
    let mut connections = connections();
    let before = connections.flows.clone();
    connections.gap("why".into());
    assert_eq!((connections.flows, connections.problem), (before, Some("why".into())));
}
