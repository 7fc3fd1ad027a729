//! Next hops behind check hosts, in the forms that people write.

use super::*;

const V7: &str = "/routing table
add name=one fib
add name=two fib
/ip route
add dst-address=192.0.2.1/32 gateway=198.18.1.1 scope=10
add dst-address=192.0.2.2/32 gateway=ether2 scope=10 distance=1
add dst-address=192.0.2.1/32 blackhole distance=20
add dst-address=192.0.2.2/32 blackhole distance=20
add gateway=192.0.2.1 target-scope=11 check-gateway=ping distance=1
add gateway=192.0.2.2 target-scope=11 check-gateway=ping distance=2
add gateway=192.0.2.1 target-scope=11 check-gateway=ping routing-table=one distance=1
add gateway=192.0.2.2 target-scope=11 check-gateway=ping routing-table=one distance=2
add gateway=192.0.2.2 target-scope=11 check-gateway=ping routing-table=two distance=1
";

#[test]
fn a_default_route_follows_its_check_host() {
    let mut lab = Lab::v7(V7);
    assert_eq!(lab.ids(Severity::Warning), ["gateway-interface"]);
    assert_eq!(lab.default("main", &[]), "via 198.18.1.1 dev wan1 1");
    assert_eq!(lab.default("one", &[]), "via 198.18.1.1 dev wan1 1");
    assert_eq!(lab.default("two", &[]), "via 192.0.2.2 dev wan2 1", "the check host itself is the neighbour");
    assert_eq!(lab.default("one", &["gateway 192.0.2.1"]), "via 192.0.2.2 dev wan2 2");
    assert_eq!(lab.default("two", &["gateway 192.0.2.2"]), "", "marked packets go on to main");
    assert!(lab.active(&[]).contains(&"main: 192.0.2.1 via 198.18.1.1 dev wan1 1".replace(".1 via", ".1/32 via")));
    lab.cut("wan1");
    assert_eq!(lab.default("one", &[]), "via 192.0.2.2 dev wan2 2");
    assert!(lab.active(&[]).contains(&"main: blackhole 192.0.2.1/32 20".to_owned()), "the guard");
    assert_eq!(lab.watch("gateway 192.0.2.1").egress, Egress::Nowhere);
}

#[test]
fn a_probe_is_bound_to_the_device_behind_the_check_host() {
    let lab = Lab::v7(V7);
    let watch = lab.watch("gateway 192.0.2.1");
    assert_eq!((watch.target, watch.egress), (Some(ip("192.0.2.1")), Egress::Device("wan1".into())));
    assert_eq!(watch.routes.iter().map(|span| span.line).collect::<Vec<_>>(), [9, 11]);
    assert_eq!(watch.timing.timeout, Duration::from_secs(1));
    assert_eq!(lab.watch("gateway 192.0.2.2").egress, Egress::Device("wan2".into()));
}

#[test]
fn the_official_target_scope_is_needed_in_v7_alone() {
    let text = "/ip route add dst-address=192.0.2.1/32 gateway=198.18.1.1 scope=10
        /ip route add gateway=192.0.2.1 check-gateway=ping";
    let lab = Lab::v7(text);
    assert_eq!(lab.default("main", &[]), "");
    let note = lab.notes.iter().find(|note| note.severity == Severity::Error).unwrap();
    assert_eq!((note.id, note.fix.as_deref()), ("gateway-unresolved", Some("target-scope=11")));
    assert_eq!(Lab::v6(text).default("main", &[]), "via 198.18.1.1 dev wan1 1");
    let wide = Lab::v6(
        "/ip route add dst-address=192.0.2.1/32 gateway=198.18.1.1
        /ip route add gateway=192.0.2.1 check-gateway=ping target-scope=30",
    );
    assert_eq!(wide.default("main", &[]), "via 198.18.1.1 dev wan1 1");
}

#[test]
fn two_check_hosts_of_one_uplink_are_up_while_one_answers() {
    let lab = Lab::v7(
        "/ip route
        add dst-address=192.0.2.1/32 gateway=198.18.1.1 scope=10
        add dst-address=192.0.2.2/32 gateway=198.18.1.1 scope=10
        add dst-address=192.0.2.3/32 gateway=198.18.2.1 scope=10
        add gateway=192.0.2.1,192.0.2.2 target-scope=11 check-gateway=ping
        add gateway=192.0.2.3 target-scope=11 check-gateway=ping distance=5",
    );
    let (one, two) = ("gateway 192.0.2.1", "gateway 192.0.2.2");
    let up = "via 198.18.1.1 dev wan1 1";
    assert_eq!([lab.default("main", &[]), lab.default("main", &[one]), lab.default("main", &[two])], [up; 3]);
    assert_eq!(lab.default("main", &[one, two]), "via 198.18.2.1 dev wan2 5");
}

#[test]
fn members_of_ecmp_fail_singly_and_mentions_are_weights() {
    let lab = Lab::v7(
        "/ip route add gateway=198.18.1.1,198.18.1.1,198.18.2.1 check-gateway=ping
        /ip route add gateway=pppoe-out1 distance=9",
    );
    let shown = "1 nexthop via 198.18.1.1 dev wan1 weight 2 nexthop via 198.18.2.1 dev wan2 weight 1";
    assert_eq!(lab.default("main", &[]), shown);
    assert_eq!(lab.default("main", &["gateway 198.18.2.1"]), "via 198.18.1.1 dev wan1 1");
    assert_eq!(lab.default("main", &["gateway 198.18.1.1"]), "via 198.18.2.1 dev wan2 1");
    assert_eq!(lab.default("main", &["gateway 198.18.1.1", "gateway 198.18.2.1"]), "dev ppp1 9");
    let rows = Lab::v7("/ip route add gateway=198.18.1.1 distance=3\n/ip route add gateway=198.18.2.1 distance=3");
    let shown = "3 nexthop via 198.18.1.1 dev wan1 weight 1 nexthop via 198.18.2.1 dev wan2 weight 1";
    assert_eq!(rows.default("main", &[]), shown);
}

#[test]
fn a_virtual_hop_stands_on_several_check_hosts() {
    let mut lab = Lab::v6(
        "/ip route
        add dst-address=192.0.2.1/32 gateway=198.18.1.1 scope=10
        add dst-address=192.0.2.2/32 gateway=198.18.1.1 scope=10
        add dst-address=10.1.1.1/32 gateway=192.0.2.1 scope=10 check-gateway=ping
        add dst-address=10.1.1.1/32 gateway=192.0.2.2 scope=10 check-gateway=ping
        add gateway=10.1.1.1 routing-mark=one
        add gateway=198.18.2.1 routing-mark=one distance=2",
    );
    assert_eq!(lab.default("one", &["gateway 192.0.2.1"]), "via 198.18.1.1 dev wan1 1");
    assert_eq!(lab.default("one", &["gateway 192.0.2.1", "gateway 192.0.2.2"]), "via 198.18.2.1 dev wan2 2");
    assert_eq!(lab.watch("gateway 192.0.2.2").egress, Egress::Device("wan1".into()));
    lab.cut("wan1");
    assert_eq!(lab.default("one", &[]), "via 198.18.2.1 dev wan2 2");
}

#[test]
fn no_next_hop_is_resolved_through_a_default_route() {
    let mut lab = Lab::v6(
        "/ip route
        add dst-address=192.0.2.1/32 gateway=198.18.1.1
        add dst-address=192.0.2.2/32 gateway=198.18.2.1
        add gateway=192.0.2.1 target-scope=30 distance=1
        add gateway=192.0.2.2 target-scope=30 distance=2
        add gateway=192.0.2.1 target-scope=30 routing-mark=one",
    );
    lab.cut("wan1");
    assert_eq!(lab.default("main", &[]), "via 198.18.2.1 dev wan2 2");
    assert_eq!(lab.default("one", &[]), "", "it would leave by the other uplink");
}

#[test]
fn circles_lead_nowhere() {
    let lab = Lab::v7(
        "/ip route
        add dst-address=192.0.2.1/32 gateway=192.0.2.2 target-scope=40
        add dst-address=192.0.2.2/32 gateway=192.0.2.1 target-scope=40
        add dst-address=192.0.2.3/32 gateway=192.0.2.3 target-scope=40
        add gateway=192.0.2.1 target-scope=50
        add gateway=198.18.2.1 distance=7",
    );
    assert_eq!(lab.active(&[]), ["main: default via 198.18.2.1 dev wan2 7"]);
}

#[test]
fn a_gateway_of_another_table_is_looked_up_there() {
    let lab = Lab::v7(
        "/routing table add name=one fib
        /ip route
        add dst-address=192.0.2.1/32 gateway=198.18.1.1 scope=10 routing-table=one
        add gateway=192.0.2.1@one target-scope=11 routing-table=one
        add gateway=198.18.2.1@main routing-table=one distance=2
        add gateway=192.0.2.1 target-scope=11 distance=3",
    );
    assert_eq!(lab.default("one", &[]), "via 198.18.1.1 dev wan1 1");
    assert_eq!(lab.default("main", &[]), "");
}
