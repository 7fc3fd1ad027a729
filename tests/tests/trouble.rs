//! The troubles that the lab can make do what they say. The uplinks are asked directly: no `pcc` runs.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tests::lab::address::{PORT, SERVER4, SERVER6};
use tests::lab::{Defaults, Idle, Lab, PATIENCE, Protocol, Usage, eventually};

const SHORT: Duration = Duration::from_millis(300);

/// Whether the router reaches the server by main's uplink 1.
fn reaches(lab: &Lab, protocol: Protocol, to: impl Into<IpAddr>) -> bool {
    lab.router_client().open(protocol, None, SocketAddr::new(to.into(), PORT), SHORT).is_ok()
}

fn reaches_all(lab: &Lab) -> bool {
    [Protocol::Tcp, Protocol::Udp, Protocol::Icmp]
        .into_iter()
        .all(|protocol| reaches(lab, protocol, SERVER4) && reaches(lab, protocol, SERVER6))
}

#[test]
fn loss_loses_the_part_that_it_is_asked_for() {
    let lab = Lab::builder().build();
    let link = lab.isp(1).link;
    lab.loss(1, 30);
    let shown =
        lab.router().command("ping", ["-q", "-f", "-c", "1000", "-W", "1", &link.gateway4.to_string()]).output();
    let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
    let lost = shown.split(", ").find_map(|part| part.strip_suffix("% packet loss")).expect(&shown);
    let lost: f64 = lost.trim().parse().unwrap();
    assert!((20.0..40.0).contains(&lost), "{lost} % lost");
    lab.loss(1, 0);
    assert!(reaches_all(&lab));
}

#[test]
fn behind_a_black_hole_only_the_gateway_lives() {
    let lab = Lab::builder().build();
    assert!(reaches_all(&lab));
    lab.black_hole(1, true);
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
        assert!(!reaches(&lab, protocol, SERVER4) && !reaches(&lab, protocol, SERVER6), "{protocol:?}");
    }
    let link = lab.isp(1).link;
    assert!(lab.router_client().ping(link.gateway4.into()) && lab.router_client().ping(link.gateway6.into()));
    lab.black_hole(1, false);
    assert!(reaches_all(&lab));
}

#[test]
fn without_tcp_everything_else_lives() {
    let lab = Lab::builder().build();
    lab.without_tcp(1, true);
    for to in [IpAddr::from(SERVER4), SERVER6.into()] {
        assert!(!reaches(&lab, Protocol::Tcp, to));
        assert!(reaches(&lab, Protocol::Udp, to) && reaches(&lab, Protocol::Icmp, to));
    }
    lab.without_tcp(1, false);
    assert!(reaches_all(&lab));
}

#[test]
fn a_device_that_is_made_anew_works_as_before() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let state = |lab: &Lab| ["-4 route", "-6 route show type unicast"].map(|what| lab.router().ip(what));
    let before = state(&lab);
    let index = |lab: &Lab| lab.router().ip("-o link show wan1").split(':').next().map(str::to_owned);
    let first = index(&lab);
    lab.remake(1);
    assert_ne!(index(&lab), first);
    assert!(eventually(PATIENCE, || reaches_all(&lab)));
    let sorted = |text: &String| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    assert!(eventually(PATIENCE, || state(&lab).each_ref().map(sorted) == before.each_ref().map(sorted)));
    lab.unplug(1);
    assert!(!lab.router().ip("link").contains("wan1"));
    lab.plug(1);
    assert!(eventually(PATIENCE, || reaches_all(&lab)));
    lab.unplug_lan();
    lab.plug_lan();
    assert!(lab.client().ping(tests::lab::address::ROUTER6.into()));
}

#[test]
fn other_addresses_work_and_the_old_ones_have_gone() {
    let mut lab = Lab::builder().build();
    for _ in 0..17 {
        let old = lab.isp(1).link;
        lab.readdress(1);
        let new = lab.isp(1).link;
        assert!(old.router4 != new.router4 && old.gateway6 != new.gateway6);
        assert!(eventually(PATIENCE, || reaches_all(&lab)));
        let shown = lab.router().ip("addr show dev wan1");
        assert!(
            shown.contains(&format!("{}/", new.router6)) && !shown.contains(&format!("{}/", old.router4)),
            "{shown}"
        );
        let routes = lab.router().ip("-6 route") + &lab.router().ip("-4 route");
        assert_eq!(routes.matches("default").count(), 2, "{routes}");
    }
}

#[test]
fn a_reset_is_an_end_and_usage_counts() {
    let lab = Lab::builder().build();
    let before = Usage::of(std::process::id());
    let client = lab.router_client();
    let open: Vec<_> =
        (0..20).map(|_| client.tcp_connect(None, SocketAddr::new(SERVER4.into(), PORT), PATIENCE).unwrap()).collect();
    // Other tests of this process close files meanwhile, but not so many.
    let files: Vec<_> = (0..2000).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    assert!(Usage::of(std::process::id()).files >= before.files + 1500);
    drop(files);
    let idle = Idle::start(open);
    std::thread::sleep(SHORT);
    assert!(idle.ended().is_empty());
    lab.isp(1).namespace().exec("ss", ["-K", "sport", "=", ":7"]);
    assert!(eventually(PATIENCE, || idle.ended().len() == 20));
    assert!(before.resident > 1_000_000);
}
