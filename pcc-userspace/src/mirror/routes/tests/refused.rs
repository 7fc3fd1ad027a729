//! What is refused or noted.

use super::*;

#[test]
fn faults_are_noted_where_they_stand() {
    for (text, ids) in [
        ("/ip route add gateway=ether9", &["interface-unmapped"][..]),
        ("/ip route add gateway=198.18.1.1%ether9", &["interface-unmapped"]),
        ("/ip route add gateway=198.18.1.1 check-gateway=bfd", &["check-bfd"]),
        ("/ip route add gateway=198.18.1.1 routing-table=none", &["table-unknown"]),
        ("/routing table add name=one\n/ip route add gateway=198.18.1.1 routing-table=one", &["table-fib"]),
        ("/ip vrf add name=v interfaces=ether1\n/ip route add gateway=198.18.1.1@v", &["table-vrf"]),
        ("/ip route add gateway=ether1@main", &["gateway-table"]),
        ("/ip route add gateway=ether1 check-gateway=ping", &["gateway-interface", "check-interface"]),
        ("/ip route add gateway=2001:db8:1::1", &["gateway-family"]),
        ("/ipv6 route add gateway=fe80::1", &["gateway-link-local"]),
        ("/ip route add gateway=", &["route-broken"]),
        ("/ip route add gateway=192.0.2.77", &["gateway-unresolved"]),
        ("/ip route add dst-address=198.18.1.64/26 gateway=198.18.2.1", &["route-hidden"]),
        ("/ip route add gateway=ether9 disabled=yes", &[]),
        ("/ip route add gateway=pppoe-out1 check-gateway=ping", &[]),
        ("/routing rule add action=mangle", &["rule-action"]),
        ("/routing rule add chain=x table=main", &["rule-chain"]),
        ("/routing rule add interface=ether9 table=main", &["interface-unmapped"]),
        ("/routing rule add routing-mark=none table=main", &["rule-mark"]),
        ("/routing rule add src-address=192.0.2.1 dst-address=2001:db8::1 table=main", &["rule-family"]),
        ("/routing rule add table=none", &["table-unknown"]),
        ("/ip dhcp-client add interface=ether9", &["interface-unmapped"]),
        ("/ip dhcp-client add interface=ether2 check-gateway=bfd", &["check-bfd"]),
    ] {
        assert_eq!(Lab::v7(text).ids(Severity::Warning), ids, "{text}");
    }
}

#[test]
fn a_table_is_named_once() {
    let lab =
        Lab::v7("/ip route\nadd gateway=198.18.1.1 routing-table=x\nadd gateway=198.18.2.1 routing-table=x distance=2");
    assert_eq!(lab.ids(Severity::Warning), ["table-unknown"]);
    assert_eq!(lab.notes[0].fix.as_deref(), Some("/routing table add name=x fib"));
}

#[test]
fn more_rules_than_fit_are_refused() {
    let lab = Lab::v7(&"/routing rule add dst-address=192.0.2.1 action=lookup-only-in-table table=main\n".repeat(60));
    assert_eq!(lab.ids(Severity::Error), ["rule-limit"]);
    assert!(rules(&lab.routing, 100, &|id| (id, id)).iter().all(|rule| rule.priority < 200));
}

#[test]
fn a_dead_end_keeps_packets_from_the_hosts_own_default() {
    let lab = Lab::v7(
        "/interface bridge add name=loop\n/ip route add gateway=pppoe-out1\n/ip route add gateway=loop distance=254",
    );
    assert_eq!(lab.ids(Severity::Info), ["gateway-dead-end"]);
    assert_eq!(lab.default("main", &[]), "dev ppp1 1");
    let mut dead = lab;
    dead.cut("ppp1");
    assert_eq!(dead.default("main", &[]), "unreachable default 254");
    let kinds = Lab::v6(
        "/ip route add type=prohibit dst-address=192.0.2.0/25\n/ip route add type=unreachable dst-address=192.0.2.128/25
        /ip route add type=blackhole distance=250 routing-mark=one",
    );
    let shown = ["one: blackhole default 250", "main: prohibit 192.0.2.0/25 1", "main: unreachable 192.0.2.128/25 1"];
    assert_eq!(kinds.active(&[]), shown);
}

const SCRIPTED: &str = "/system scheduler add name=look interval=10s on-event=\":if ([/ping 192.0.2.1 count=3] = 0) do={ \
                        /ip route disable [find comment=first] }\"\n/ip route\nadd gateway=198.18.2.1 distance=2\n";

#[test]
fn a_script_that_is_the_only_fail_over_is_an_error() {
    let alone = Lab::v6(&format!("{SCRIPTED}add gateway=198.18.1.1 comment=first"));
    assert_eq!(alone.ids(Severity::Warning), ["script-not-run"]);
    assert_eq!(alone.ids(Severity::Error), ["script-not-run"]);
    let watched = Lab::v6(&format!("{SCRIPTED}add gateway=198.18.1.1 comment=first check-gateway=ping"));
    assert_eq!(watched.ids(Severity::Warning), ["script-not-run"]);
    assert_eq!(watched.ids(Severity::Error), Vec::<&str>::new());
    let other = Lab::v6("/ip route add gateway=198.18.1.1\n/system script add name=backup source=\"/export\"");
    assert_eq!(other.ids(Severity::Warning), Vec::<&str>::new());
}

#[test]
fn a_watched_host_that_cannot_be_mirrored() {
    let watch = |entry: &str| {
        let text = "/ip route add gateway=198.18.1.1 comment=first\n/tool netwatch add ";
        Lab::v7(&format!("{text}{entry} down-script=\"/ip route disable [find comment=first]\""))
    };
    assert_eq!(watch("host=192.0.2.1 type=tcp-conn").ids(Severity::Warning), ["netwatch-type", "netwatch-script"]);
    assert_eq!(watch("host=www.example.com").ids(Severity::Error), ["netwatch-script"]);
    let flush = Lab::v7(
        "/ip route add gateway=198.18.1.1 comment=first
        /tool netwatch add host=198.18.1.1 down-script=\"/ip firewall connection remove [find]; /ip route disable [find]\"",
    );
    assert_eq!((flush.ids(Severity::Warning), flush.ids(Severity::Error)), (vec!["netwatch-script"], vec![]));
    assert_eq!(flush.default("main", &["host 198.18.1.1"]), "");
    let logs =
        Lab::v7("/ip route add gateway=198.18.1.1\n/tool netwatch add host=192.0.2.1 down-script=\":log info x\"");
    assert!(logs.notes.is_empty() && logs.routing.health.is_empty());
}
