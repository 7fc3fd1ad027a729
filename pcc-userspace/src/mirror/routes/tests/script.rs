//! Clients, leases, and the rules of the kernel.

use super::*;
use crate::host::{Change, RuleAction};
use crate::plan;

#[test]
fn clients_bring_default_routes() {
    let mut lab = Lab::v7(
        "/routing table add name=one fib
        /ip dhcp-client add interface=ether2 default-route-distance=3 default-route-tables=one:5 check-gateway=ping
        /interface pppoe-client add name=pppoe-out1 interface=ether1 add-default-route=yes disabled=no",
    );
    assert_eq!(lab.ids(Severity::Warning), Vec::<&str>::new());
    assert_eq!(lab.default("main", &[]), "dev ppp1 1");
    assert_eq!(lab.default("one", &[]), "via 198.18.2.1 dev wan2 5");
    assert_eq!(lab.default("one", &["gateway learned on wan2"]), "");
    let watch = lab.watch("gateway learned on wan2");
    assert_eq!((watch.target, watch.egress), (Some(ip("198.18.2.1")), Egress::Device("wan2".into())));
    lab.host.links.retain(|link| link.name != "ppp1");
    assert_eq!(lab.default("main", &[]), "via 198.18.2.1 dev wan2 3");
    lab.host.routes.clear();
    assert_eq!(lab.active(&[]), Vec::<String>::new(), "the lease is gone");
}

#[test]
fn a_script_of_a_lease_moves_the_gateway() {
    let script = r#":if (\$bound = 1) do={ :local gw [:toip \$\"gateway-address\"]; /ip route set [find comment=probe] gateway=\$gw; :log info bound }"#;
    let lab = Lab::v7(&format!(
        "/ip route add dst-address=192.0.2.1/32 gateway=192.168.1.1 scope=10 comment=probe
        /ip route add gateway=192.0.2.1 target-scope=11 check-gateway=ping
        /ip dhcp-client add interface=ether2 add-default-route=no script=\"{script}\""
    ));
    assert_eq!(lab.ids(Severity::Warning), Vec::<&str>::new());
    assert!(lab.ids(Severity::Info).contains(&"lease-gateway"));
    assert_eq!(lab.default("main", &[]), "via 198.18.2.1 dev wan2 1");
    assert_eq!(lab.watch("gateway 192.0.2.1").egress, Egress::Device("wan2".into()));
    let added = Lab::v7(
        r#"/routing table add name=one fib
        /ip dhcp-client add interface=ether2 add-default-route=no script=":if (\$bound=1) do={ /ip route add gateway=\$\"gateway-address\" routing-table=one distance=4 } else={ /ip route remove [find routing-table=one] }""#,
    );
    assert_eq!(added.default("one", &[]), "via 198.18.2.1 dev wan2 4");
    let more = Lab::v7(
        r#"/ip route add gateway=198.18.9.1 comment=a disabled=yes
        /ip dhcp-client add interface=ether2 add-default-route=no script=":if (\$bound=1) do={ /ip route set [find comment=a] gateway=\$\"gateway-address\" disabled=no; /ip firewall nat set 0 disabled=no }""#,
    );
    assert_eq!(more.ids(Severity::Warning), ["lease-script"]);
    assert_eq!(more.default("main", &[]), "via 198.18.2.1 dev wan2 1");
}

#[test]
fn gateways_on_an_interface_and_point_to_point_links() {
    let mut lab = Lab::v7(
        "/ip route add gateway=100.64.0.1%ether1 check-gateway=ping
        /ip route add gateway=100.64.0.1%ether2 check-gateway=ping distance=2
        /ip route add dst-address=192.0.2.0/24 gateway=203.0.113.1
        /ipv6 route add dst-address=2001:db8:9::/48 gateway=fe80::1%ether1
        /ipv6 route add gateway=2001:db8:2::1 pref-src=2001:db8:2::2",
    );
    assert_eq!(lab.default("main", &[]), "via 100.64.0.1 dev wan1 1");
    assert_eq!(lab.default("main", &["gateway 100.64.0.1%wan1"]), "via 100.64.0.1 dev wan2 2");
    assert_eq!(lab.watch("gateway 100.64.0.1%wan2").egress, Egress::Device("wan2".into()));
    let active = lab.active(&[]);
    assert!(active.contains(&"main: 192.0.2.0/24 via 203.0.113.1 dev ppp1 1".to_owned()), "{active:?}");
    assert!(active.contains(&"main: 2001:db8:9::/48 via fe80::1 dev wan1 1".to_owned()), "{active:?}");
    assert!(active.contains(&"main: default via 2001:db8:2::1 dev wan2 1 src 2001:db8:2::2".to_owned()), "{active:?}");
    lab.host.addresses.retain(|address| address.ifindex != 3);
    assert_eq!(lab.default("main", &[]), "via 100.64.0.1 dev wan2 2", "no address, no way");
}

fn mark(id: u32) -> (u32, u32) {
    (0x8000_0000 | id << 8, 0x8000_ff00)
}

#[test]
fn rules_stand_in_the_order_of_the_decision() {
    let lab = Lab::v7(
        "/routing table add name=one fib
        /routing table add name=two fib
        /ip route add gateway=198.18.1.1 routing-table=one
        /routing rule
        add src-address=192.168.88.0/24 dst-address=198.51.100.0/24 interface=bridge action=lookup table=two
        add routing-mark=one action=lookup-only-in-table table=one
        add dst-address=198.51.100.9 action=unreachable
        add dst-address=198.51.100.8/32 action=drop
        add src-address=192.168.88.9 table=main min-prefix=0 disabled=yes
        add src-address=192.168.88.9 table=main min-prefix=0",
    );
    let shown: Vec<_> = rules(&lab.routing, 32_500, &mark).iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "pref 32500 lookup main suppress_prefixlength 0 protocol 205",
            "pref 32501 fwmark 0x80000100/0x8000ff00 lookup 20501 protocol 205",
            "pref 32501 fwmark 0x80000200/0x8000ff00 lookup 20502 protocol 205",
            "pref 32502 from 192.168.88.0/24 to 198.51.100.0/24 iif lan lookup 20502 protocol 205",
            "pref 32503 fwmark 0x80000100/0x8000ff00 lookup 20501 protocol 205",
            "pref 32504 fwmark 0x80000100/0x8000ff00 unreachable protocol 205",
            "pref 32505 to 198.51.100.9/32 unreachable protocol 205",
            "pref 32506 to 198.51.100.8/32 blackhole protocol 205",
            "pref 32507 from 192.168.88.9/32 lookup 20597 suppress_prefixlength 0 protocol 205",
            "pref 32599 lookup 20597 protocol 205",
        ]
    );
}

#[test]
fn ipv6_has_rules_and_a_mirror_of_main_where_it_is_routed() {
    let lab = Lab::v7(
        "/routing table add name=one fib
        /ipv6 route add gateway=2001:db8:1::1 routing-table=one
        /routing rule add dst-address=198.51.100.9/32 action=unreachable
        /routing rule add routing-mark=one action=drop",
    );
    let all = rules(&lab.routing, 32_500, &mark);
    let ipv6: Vec<_> = all.iter().filter(|rule| rule.family == Family::V6).collect();
    let seen: Vec<_> = ipv6.iter().map(|rule| (rule.priority, rule.table, rule.action)).collect();
    assert_eq!(
        seen,
        [
            (32_500, BASE + 98, RuleAction::Lookup),
            (32_501, BASE + 1, RuleAction::Lookup),
            (32_503, 0, RuleAction::Blackhole),
            (32_599, BASE + 97, RuleAction::Lookup),
        ]
    );
    let v6 =
        Lab::v6("/ip route rule add routing-mark=one action=drop\n/ip route add gateway=198.18.1.1 routing-mark=one");
    assert!(rules(&v6.routing, 32_500, &mark).iter().all(|rule| rule.family == Family::V4));
}

#[test]
fn the_shared_plan_settles_in_one_pass() {
    let lab = Lab::v7(
        "/routing table add name=one fib
        /ip route add gateway=198.18.1.1,198.18.2.1 routing-table=one check-gateway=ping
        /ip route add gateway=198.18.2.1",
    );
    let mut host = lab.host.clone();
    let rules = rules(&lab.routing, 32_500, &mark);
    for down in [&[][..], &["gateway 198.18.2.1"], &[]] {
        let routes = active(&lab.routing, &host, &|key| down.contains(&key.to_string().as_str()));
        for change in plan::reconcile(&routes, &rules, BASE, 32_500, &host) {
            let slot = |route: &Route| (route.destination, route.table, route.metric);
            match change {
                Change::AddRoute(route) => host.routes.push(route),
                Change::ReplaceRoute(route) => {
                    host.routes.retain(|present| slot(present) != slot(&route));
                    host.routes.push(route);
                }
                Change::AddRule(rule) => host.rules.push(rule),
                other => panic!("nothing is removed: {other}"),
            }
        }
        assert_eq!(plan::reconcile(&routes, &rules, BASE, 32_500, &host), Vec::new());
    }
    assert_eq!(plan::clear_routing(BASE, 32_500, &host).len(), 2 + rules.len());
}
