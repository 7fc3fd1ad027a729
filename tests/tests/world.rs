//! Changes of the world: the wanted state comes back by itself, and other uplinks do not notice.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use tests::lab::address::{CLIENT4, CLIENT6, PORT, server4, server6};
use tests::lab::fresh::assert_first_syn;
use tests::lab::settings::wait_until_up;
use tests::lab::{BpfObjects, Busy, Defaults, HostState, Lab, PATIENCE, Pcc, Protocol, Settings, eventually};

/// A second is the goal.
const HEALED: Duration = Duration::from_secs(5);
/// An uplink that comes back has to answer before it takes connections.
const BACK: Duration = Duration::from_secs(15);

struct Scene {
    pcc: Pcc,
    busy: Busy,
    _settings: Settings,
}

/// Two uplinks, and connections in use on both.
fn scene(lab: &Lab) -> Scene {
    let settings = Settings::new(&[(1, ""), (2, "")]);
    let pcc = settings.run(lab, &[1, 2]);
    let busy = lab.busy_new(50);
    sleep(Duration::from_millis(300));
    Scene { pcc, busy, _settings: settings }
}

impl Scene {
    /// All connections of the uplinks `but` live.
    fn assert_untouched(self, touched: &[u32]) {
        let (report, left) = self.busy.stop();
        let fault = report.faults.iter().find(|fault| !touched.contains(&fault.isp));
        assert_eq!(fault, None, "of {} faults", report.faults.len());
        for isp in [1, 2].into_iter().filter(|isp| !touched.contains(isp)) {
            assert!(left.iter().any(|it| it.isp == isp), "none was on isp{isp}");
        }
    }
}

fn lab() -> Lab {
    Lab::builder().defaults(Defaults::All).build()
}

/// Waits until the router is again as in `wanted`.
fn assert_heals(lab: &Lab, wanted: &HostState) {
    let difference = || HostState::diff(wanted, &lab.host_state());
    let healed = eventually(HEALED, || difference().is_empty());
    let difference = difference();
    let some = difference.lines().take(12).collect::<Vec<_>>().join("\n");
    assert!(healed, "not as wanted after {HEALED:?}, {} lines differ:\n{some}", difference.lines().count());
}

#[test]
fn a_device_that_is_made_anew_is_taken_back() {
    for number in [1, 2] {
        let lab = lab();
        let scene = scene(&lab);
        let places: Vec<_> = BpfObjects::attached(lab.router()).places.into_keys().collect();
        lab.remake(number);
        let attached = || BpfObjects::attached(lab.router()).places.into_keys().collect::<Vec<_>>();
        assert!(eventually(HEALED, || attached() == places), "{:?} instead of {places:?}", attached());
        assert!(lab.settles(BACK, &[1, 2]), "uplink {number} takes connections again");
        scene.assert_untouched(&[number]);
    }
}

#[test]
fn a_device_that_goes_and_comes_later_is_taken_back() {
    let lab = lab();
    let scene = scene(&lab);
    lab.unplug(2);
    assert!(lab.settles(HEALED, &[1]));
    scene.pcc.wait_for("uplink wan2 IPv4: down", Duration::ZERO);
    let seen = scene.pcc.lines();
    sleep(Duration::from_secs(2));
    lab.plug(2);
    wait_until_up(&scene.pcc, seen, &[2]);
    assert!(lab.settles(HEALED, &[1, 2]));
    scene.assert_untouched(&[2]);
}

#[test]
fn other_addresses_and_another_gateway_are_followed() {
    for number in [1, 2] {
        let mut lab = lab();
        let scene = scene(&lab);
        let old = lab.isp(number).link;
        lab.readdress(number);
        let new = lab.isp(number).link;
        let routes = || {
            lab.router().ip("-4 route show table all proto 205") + &lab.router().ip("-6 route show table all proto 205")
        };
        let followed = |text: &str| {
            text.contains(&format!("via {} ", new.gateway4))
                && text.contains(&format!("via {} ", new.gateway6))
                && !text.contains(&format!("via {} ", old.gateway4))
                && !text.contains(&format!("via {} ", old.gateway6))
        };
        assert!(eventually(HEALED, || followed(&routes())), "{}", routes());
        assert!(lab.settles(BACK, &[1, 2]), "uplink {number} takes connections by its new addresses");
        let inbound = SocketAddr::new(new.router6.into(), PORT);
        lab.isp(number).client().tcp_connect(None, inbound, PATIENCE).expect("inbound to the new address");
        scene.assert_untouched(&[number]);
    }
}

/// Another prefix, the same gateway: the old address is deprecated and then goes, as providers do at night.
#[test]
fn another_ipv6_prefix_ends_only_connections_of_the_old_one() {
    let lab = lab();
    let scene = scene(&lab);
    let old = lab.isp(2).link;
    lab.isp(2).namespace().ip("-6 addr add 2001:db8:102::1/64 dev eth0 nodad");
    lab.router().ip("-6 addr add 2001:db8:102::2/64 dev wan2 nodad");
    lab.router().ip(&format!("-6 addr change {}/64 dev wan2 preferred_lft 0", old.router6));
    sleep(Duration::from_millis(200));
    lab.router().ip("-6 route replace default via 2001:db8:102::1 dev wan2 metric 200 proto ra");
    lab.router().ip(&format!("-6 addr del {}/64 dev wan2", old.router6));
    let seen = || lab.isp(2).seen().into_iter().filter(|seen| seen.peer.is_ipv6()).collect::<Vec<_>>();
    let takes = || {
        lab.isp(2).clear();
        lab.try_new(20).iter().all(|trial| trial.isp.is_ok()) && !seen().is_empty()
    };
    assert!(eventually(BACK, takes), "the uplink takes connections from its new address");
    let seen = seen();
    let prefix = |seen: &tests::lab::Seen| seen.peer.ip().to_string().starts_with("2001:db8:102:");
    assert!(!seen.is_empty() && seen.iter().all(prefix), "{:?}", seen.first());
    let (report, left) = scene.busy.stop();
    let fault = report.faults.iter().find(|fault| fault.isp == 1 || fault.local.is_ipv4());
    assert_eq!(fault, None);
    assert!(left.iter().any(|it| it.isp == 2), "IPv4 of the uplink lives");
}

#[test]
fn a_flushed_ruleset_comes_back_and_what_began_meanwhile_is_swept() {
    let lab = lab();
    let scene = scene(&lab);
    let wanted = lab.host_state();
    lab.flush_ruleset();
    // Flows of all kinds begin in the window, without translation.
    let client = lab.client().clone();
    let asking = std::thread::spawn(move || {
        let flows: Vec<_> = (0..20)
            .map(|i| {
                let host = (i / 2 + 1) as u8;
                (
                    62_000 + i,
                    SocketAddr::new(if i % 2 == 0 { server4(host).into() } else { server6(host).into() }, PORT),
                )
            })
            .collect();
        // The SYN of a swept flow is sent again after one second, and after three.
        client.try_many(Protocol::Tcp, &flows, 20, HEALED + Duration::from_secs(3))
    });
    let udp: Vec<_> = (0..20)
        .map(|i| {
            let host = (i / 2 + 1) as u8;
            (61_000 + i, SocketAddr::new(if i % 2 == 0 { server4(host).into() } else { server6(host).into() }, PORT))
        })
        .collect();
    let _ = lab.client().try_many(Protocol::Udp, &udp, 20, Duration::from_millis(50));
    assert_heals(&lab, &wanted);
    let late: Vec<_> = asking.join().expect("the client").into_iter().filter(|trial| trial.isp.is_err()).collect();
    assert!(late.is_empty(), "{} SYNs of the window hang, such as {:?}", late.len(), late[0]);
    // The same UDP flows again: their entries without translation have gone.
    let trials = lab.client().try_many(Protocol::Udp, &udp, 20, PATIENCE);
    let dead: Vec<_> = trials.iter().filter(|trial| trial.isp.is_err()).collect();
    assert!(dead.is_empty(), "{} UDP flows of the window are dead, such as {:?}", dead.len(), dead[0]);
    assert_first_syn(&lab.try_new(20), &[1, 2]);
    scene.assert_untouched(&[]);
}

#[test]
fn rules_and_routes_that_somebody_removes_come_back() {
    let lab = lab();
    let scene = scene(&lab);
    let wanted = lab.host_state();
    for command in
        ["rule flush protocol 205", "route flush table 20501", "route flush table 20502", "route flush table 20599"]
    {
        lab.router().ip(&format!("-4 {command}"));
        lab.router().ip(&format!("-6 {command}"));
        assert_heals(&lab, &wanted);
    }
    scene.assert_untouched(&[]);
}

#[test]
fn a_default_route_of_somebody_else_changes_nothing() {
    let lab = lab();
    let scene = scene(&lab);
    for (family, gateway) in [("-4", CLIENT4.to_string()), ("-6", CLIENT6.to_string())] {
        lab.router().ip(&format!("{family} route add default via {gateway} dev lan metric 1"));
        lab.router().ip(&format!("{family} route add default via {gateway} dev lan table 77"));
    }
    sleep(Duration::from_secs(1));
    assert_first_syn(&lab.try_new(20), &[1, 2]);
    for number in [1, 2] {
        let to = SocketAddr::new(lab.isp(number).link.router4.into(), PORT);
        lab.isp(number).client().tcp_connect(None, to, PATIENCE).expect("inbound");
    }
    scene.assert_untouched(&[]);
}

#[test]
fn links_that_are_set_down_and_up_come_back() {
    let lab = lab();
    let scene = scene(&lab);
    let link = lab.isp(2).link;
    // The kernel takes the routes, and the IPv6 addresses, with it.
    lab.router().ip("link set wan2 down");
    assert!(lab.settles(HEALED, &[1]));
    lab.router().ip("link set wan2 up");
    lab.router().ip_batch(&format!(
        "addr add {}/64 dev wan2 nodad
         route add 0.0.0.0/0 via {} dev wan2 metric 200 proto dhcp
         route add ::/0 via {} dev wan2 metric 200 proto ra",
        link.router6, link.gateway4, link.gateway6
    ));
    assert!(lab.settles(BACK, &[1, 2]));
    scene.assert_untouched(&[2]);
}
