//! Checks, watched hosts, and what they do.

use super::*;

const CHECKED_ONCE: &str = "add gateway=198.18.1.1 routing-TABLE=one check-gateway=ping
add gateway=198.18.1.1
add gateway=198.18.2.1 distance=2";

#[test]
fn v6_watches_an_address_for_all_routes_and_v7_each_next_hop() {
    let v6 = Lab::v6(&format!("/ip route\n{}", CHECKED_ONCE.replace("TABLE", "mark")));
    assert_eq!(v6.default("main", &[]), "via 198.18.1.1 dev wan1 1");
    assert_eq!(v6.default("main", &["gateway 198.18.1.1"]), "via 198.18.2.1 dev wan2 2");
    assert_eq!(v6.watch("gateway 198.18.1.1").routes.len(), 2);
    let text = CHECKED_ONCE.replace("TABLE", "table");
    let v7 = Lab::v7(&format!("/routing table add name=one fib\n/ip route\n{text}"));
    assert_eq!(v7.default("one", &["gateway 198.18.1.1"]), "");
    assert_eq!(v7.default("main", &["gateway 198.18.1.1"]), "via 198.18.1.1 dev wan1 1", "it carries no check");
    let scopes = Lab::v7(
        "/routing table add name=one fib
        /ip route add gateway=198.18.1.1 check-gateway=ping
        /ip route add gateway=198.18.1.1 check-gateway=ping routing-table=one target-scope=20
        /ip route add dst-address=192.0.2.0/24 gateway=198.18.1.1 check-gateway=arp",
    );
    assert_eq!(watched(&scopes.routing, &scopes.host, &|_| false).len(), 3);
}

#[test]
fn timings_are_those_of_the_version() {
    let text = "/ip route add gateway=198.18.1.1 check-gateway=ping";
    let timing = |lab: &Lab| lab.watch("gateway 198.18.1.1").timing;
    let seconds = Duration::from_secs;
    let v6 = Lab::v6(text);
    assert_eq!(timing(&v6), Timing { interval: seconds(10), timeout: seconds(10), count: 2 });
    let v7 = Lab::v7(text);
    assert_eq!(timing(&v7), Timing { interval: seconds(10), timeout: seconds(1), count: 2 });
    for (lab, words) in [(v6, "--check-interval"), (v7, "check-gateway-ping-interval=")] {
        let note = lab.notes.iter().find(|note| note.id == "check-timing").unwrap();
        assert!(note.severity == Severity::Info && note.fix.as_deref().unwrap().contains(words));
    }
    let set = "/routing settings set check-gateway-ping-interval=300ms check-gateway-ping-timeout=200ms \
               check-gateway-ping-count=3\n";
    let quick = Lab::v7(&format!("{set}{text}"));
    let milliseconds = Duration::from_millis;
    assert_eq!(timing(&quick), Timing { interval: milliseconds(300), timeout: milliseconds(200), count: 3 });
    assert!(quick.notes.is_empty(), "{:?}", quick.notes);
    let wrong = Lab::v7(&format!("{}{text}", set.replace("200ms", "2s")));
    assert_eq!((timing(&wrong).timeout, wrong.ids(Severity::Error)), (seconds(1), vec!["check-setting"]));
}

const WATCHED: &str = r#"/ip route
add dst-address=192.0.2.1/32 gateway=pppoe-out1 comment=probe
add gateway=pppoe-out1 comment=first
add gateway=pppoe-out2 comment=second distance=2
add gateway=198.18.2.1 comment=reserve distance=1 disabled=yes
/tool netwatch
"#;

#[test]
fn a_watched_host_switches_routes() {
    let lab = Lab::v7(&format!(
        "{WATCHED}{}",
        r#"add host=192.0.2.1 interval=5s timeout=800ms up-script="/ip route enable [find comment=first]" down-script="/ip route disable [find comment=\"first\"]\r\n:log warning \"down\"""#
    ));
    assert!(lab.notes.is_empty(), "{:?}", lab.notes);
    assert_eq!(lab.default("main", &[]), "dev ppp1 1");
    assert_eq!(lab.default("main", &["host 192.0.2.1"]), "dev ppp2 2");
    let watch = lab.watch("host 192.0.2.1");
    assert_eq!(watch.egress, Egress::Device("ppp1".into()));
    let timing = Timing { interval: Duration::from_secs(5), timeout: Duration::from_millis(800), count: 1 };
    assert_eq!(watch.timing, timing);
}

#[test]
fn a_watched_host_moves_and_replaces_routes() {
    let lab = Lab::v6(&format!(
        "{WATCHED}{}",
        r#"add host=192.0.2.1 up-script="/ip route set [find comment=first] distance=1; /ip route set [find comment=reserve] disabled=yes" down-script="/ip route set [find comment=first] distance=9; /ip route set [find comment=reserve] disabled=no""#
    ));
    assert_eq!(lab.default("main", &["host 192.0.2.1"]), "via 198.18.2.1 dev wan2 1");
    assert_eq!(lab.default("main", &[]), "dev ppp1 1");
    let watch = lab.watch("host 192.0.2.1");
    assert_eq!((watch.timing.interval, watch.timing.timeout), (Duration::from_secs(60), Duration::from_secs(1)));
}

#[test]
fn the_route_of_the_probe_stays_on() {
    let lab = Lab::v7(&format!(
        "{WATCHED}{}",
        r#"add host=192.0.2.1 down-script="/ip route disable [find gateway=pppoe-out1]""#
    ));
    assert_eq!(lab.ids(Severity::Warning), ["netwatch-own-route"]);
    let active = lab.active(&["host 192.0.2.1"]);
    assert_eq!(active, ["main: default dev ppp2 2", "main: 192.0.2.1/32 dev ppp1 1"]);
}

#[test]
fn a_watched_host_may_run_a_stored_script() {
    let stored = "/system script add name=off source=\"/ip route disable [find comment=first]\"\n";
    for call in ["off", "/system script run off"] {
        let lab = Lab::v7(&format!("{stored}{WATCHED}add host=192.0.2.1 down-script=\"{call}\""));
        assert!(lab.notes.is_empty(), "{:?}", lab.notes);
        assert_eq!(lab.default("main", &["host 192.0.2.1"]), "dev ppp2 2");
    }
}

#[test]
fn a_host_without_a_route_of_its_own_is_probed_as_the_router_sends() {
    let lab = Lab::v7(
        "/ip route add gateway=198.18.1.1 comment=first\n/ip route add gateway=198.18.2.1 distance=2
        /tool netwatch add host=192.0.2.9 down-script=\"/ip route disable [find comment=first]\"",
    );
    assert_eq!(lab.ids(Severity::Warning), ["netwatch-leak"]);
    assert_eq!(lab.watch("host 192.0.2.9").egress, Egress::Routing);
}
