//! The host before and after, adoption after a crash, and one controller an instance.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aya::programs::{SchedClassifier, TcAttachType};
use pcc_ebpf::abi::map;
use pcc_userspace::config::{Configuration, Paths, flags::ConfigFlags};
use pcc_userspace::host::linux::Linux;
use pcc_userspace::instance::Instance;
use pcc_userspace::survey::Step;
use rustix::process::Signal;
use tests::lab::address::{PORT, SERVER4, server4, server6};
use tests::lab::settings::READY;
use tests::lab::{BpfObjects, Busy, Defaults, HostState, Lab, PATIENCE, Pcc, Protocol, eventually, marked_connections};

/// The kernel frees BPF objects a little late.
const FREED: Duration = Duration::from_secs(5);
/// Every bit of the default layout.
const OURS: u32 = 0xff;

fn lab() -> Lab {
    let lab = Lab::builder().defaults(Defaults::All).port_forward().build();
    // Values that turning forwarding on and off again would not bring back by itself.
    lab.router().set_sysctls(&[
        ("net/ipv4/conf/all/accept_redirects", "0"),
        ("net/ipv4/conf/lan/forwarding", "1"),
        ("net/ipv6/conf/wan2/accept_ra", "0"),
    ]);
    lab
}

fn run(lab: &Lab, more: &[&str]) -> Pcc {
    let wans = lab.wans();
    let fixed = ["run", "--wan", &wans, "--lan", lab.lans(), "--hash", "both-addresses-and-ports"];
    let pcc = lab.pcc(&[&fixed[..], more].concat());
    pcc.wait_for("ready", READY);
    pcc
}

/// Connections of all kinds, so that there is something to leave behind.
fn traffic(lab: &Lab) {
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
        let flows: Vec<_> = (0..100)
            .map(|i| {
                (30_000 + i, SocketAddr::new(if i % 2 == 0 { server4(1).into() } else { server6(1).into() }, PORT))
            })
            .collect();
        for trial in lab.client().try_many(protocol, &flows, 8, PATIENCE) {
            assert!(trial.isp.is_ok(), "{trial:?}");
        }
    }
    let inbound = SocketAddr::new(lab.isp(2).link.router4.into(), 8080);
    lab.isp(2).client().tcp_connect(None, inbound, PATIENCE).expect("inbound");
}

fn assert_as_before(lab: &Lab, before: &HostState, objects: &BpfObjects) {
    let left = objects.remaining(FREED);
    assert_eq!(left, BpfObjects::default(), "still loaded");
    assert_eq!(HostState::diff(before, &lab.host_state()), "");
    assert_eq!(marked_connections(lab.router(), OURS), Vec::<String>::new());
}

/// Programs and places in tc: two programs each on the LAN device and on both uplinks, loaded once a name, and the one that takes
/// shortcuts on all of them.
fn attached() -> (usize, usize) {
    (4 + shortcuts(), 6 + 3 * shortcuts())
}

/// Programs that take shortcuts at ingress of a device.
fn shortcuts() -> usize {
    usize::from(std::env::var("PCC_FAST_PATH").as_deref() != Ok("off"))
}

fn assert_present(lab: &Lab, before: &HostState) -> BpfObjects {
    let objects = BpfObjects::attached(lab.router());
    let links = if tcx(lab).is_some() { attached().1 } else { 0 };
    let expected = (attached().0, attached().1, links);
    assert_eq!((objects.programs.len(), objects.places.len(), objects.links.len()), expected);
    // One map belongs to the programs of sockets, which are on no device, and one to that of XDP.
    assert_eq!(our_maps(&objects).len(), map::ALL.len() - 2, "{:?}", objects.maps);
    assert_ne!(HostState::diff(before, &lab.host_state()), "");
    assert!(!marked_connections(lab.router(), OURS).is_empty());
    objects
}

/// Maps that are pinned: neither the loader nor the programs make them anew for each load. But for that of XDP alone.
fn our_maps(objects: &BpfObjects) -> Vec<(u32, String)> {
    let is_ours = |name: &str| map::ALL.contains(&name) && name != map::FRAMES;
    objects.maps.clone().into_iter().filter(|(_, name)| is_ours(name)).collect()
}

/// The revision of the LAN device's TCX ingress, and how many programs are there; `None` before Linux 6.6.
fn tcx(lab: &Lab) -> Option<(u64, usize)> {
    lab.router().run(|| {
        let (revision, programs) = SchedClassifier::query_tcx("lan", TcAttachType::Ingress).ok()?;
        Some((revision, programs.len()))
    })
}

#[test]
fn an_end_by_signal_leaves_the_host_as_it_was() {
    let lab = lab();
    for signal in [Signal::INT, Signal::TERM] {
        let before = lab.host_state();
        let mut pcc = run(&lab, &[]);
        traffic(&lab);
        let objects = assert_present(&lab, &before);
        pcc.signal(signal);
        assert!(pcc.wait(PATIENCE).success(), "{}", pcc.stderr());
        assert_as_before(&lab, &before, &objects);
    }
}

#[test]
fn down_after_a_crash_leaves_the_host_as_it_was() {
    let lab = lab();
    let before = lab.host_state();
    let mut pcc = run(&lab, &[]);
    traffic(&lab);
    let objects = assert_present(&lab, &before);
    pcc.signal(Signal::KILL);
    pcc.wait(PATIENCE);
    assert_eq!(BpfObjects::attached(lab.router()), objects, "the data path outlives the controller");
    traffic(&lab);
    assert!(lab.pcc_output(&["down"]).status.success());
    assert_as_before(&lab, &before, &objects);
    let again = lab.pcc_output(&["down"]);
    assert!(again.status.success(), "{again:?}");
}

#[test]
fn a_killed_controller_stops_no_traffic_and_the_next_one_adopts_it() {
    let lab = lab();
    let before = lab.host_state();
    let mut pcc = run(&lab, &["--weights", "2,1"]);
    let flows: Vec<_> = (0..200).map(|i| (20_000 + i, SocketAddr::new(server4(1).into(), PORT))).collect();
    let open = lab.client().open_many(Protocol::Tcp, &flows, 16, PATIENCE).into_iter().collect::<Result<Vec<_>, _>>();
    let busy = Busy::start(open.unwrap(), Duration::from_millis(50), PATIENCE);
    let objects = assert_present(&lab, &before);
    let first = tcx(&lab);
    for (restart, more) in (1..).zip([&["--weights", "2,1"][..], &["--weights", "1,2", "--keep"], &["--keep"]]) {
        pcc.signal(if restart < 3 { Signal::KILL } else { Signal::TERM });
        pcc.wait(PATIENCE);
        traffic(&lab);
        pcc = run(&lab, more);
        pcc.wait_for("adopted", READY);
        let now = BpfObjects::attached(lab.router());
        assert_eq!(our_maps(&now), our_maps(&objects), "the same maps");
        assert_eq!((now.programs.len(), now.places.len()), attached(), "nothing of the last run is attached any more");
        // One step from the old program to the new one: no revision without ours.
        let programs = 1 + shortcuts();
        assert_eq!(tcx(&lab), first.map(|(revision, _)| (revision + restart * programs as u64, programs)));
    }
    let (report, left) = busy.stop();
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    assert_eq!(left.len(), 200);
    pcc.signal(Signal::INT);
    assert!(pcc.wait(PATIENCE).success());
    assert!(!BpfObjects::attached(lab.router()).programs.is_empty(), "`--keep` keeps");
    assert!(lab.pcc_output(&["down"]).status.success());
    assert_as_before(&lab, &before, &objects);
}

#[test]
fn a_second_start_is_refused_with_the_pid_of_the_first() {
    let lab = lab();
    let pcc = run(&lab, &[]);
    let state = lab.host_state();
    let second = lab.pcc_output(&["run", "--wan", "wan1,wan2", "--lan", "lan"]);
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1));
    assert!(text.contains("running already") && text.contains(&pcc.id().to_string()), "{text}");
    assert!(text.contains("hint: "), "{text}");
    let down = lab.pcc_output(&["down"]);
    assert_eq!(down.status.code(), Some(1), "{down:?}");
    assert_eq!(HostState::diff(&state, &lab.host_state()), "");
    traffic(&lab);
}

/// Every step of a start is made to fail once, in this process, on the real kernel.
#[test]
fn a_start_that_fails_at_any_step_leaves_the_host_as_it_was() {
    let lab = lab();
    let before = lab.host_state();
    let start = |fail_at: u32| {
        let step = AtomicU32::new(0);
        lab.router().run(|| {
            let flags = ConfigFlags {
                wan: vec!["wan1".into(), "wan2".into()],
                lan: vec!["lan".into()],
                instance: Some(lab.instance().into()),
                ..ConfigFlags::default()
            };
            let Configuration::Native(config) = Configuration::load(&flags).unwrap() else { panic!("no uplinks") };
            let fail = |_: &Step| match step.fetch_add(1, Ordering::Relaxed) {
                now if now == fail_at => anyhow::bail!("made to fail"),
                _ => Ok(()),
            };
            let started =
                Instance::start(*config, Paths::of(lab.instance()), Box::new(Linux::open().unwrap()), 0, &mut { fail });
            match started {
                Ok((instance, _)) => {
                    instance.stop().unwrap();
                    None
                }
                Err(error) => Some(format!("{error:#}")),
            }
        })
    };
    let mut steps = 0;
    while let Some(error) = start(steps) {
        assert!(error.contains("made to fail"), "step {steps}: {error}");
        assert_eq!(HostState::diff(&before, &lab.host_state()), "", "step {steps}: {error}");
        assert_eq!(BpfObjects::attached(lab.router()), BpfObjects::default(), "step {steps}: {error}");
        steps += 1;
    }
    assert!(steps > 30, "only {steps} steps");
    assert_eq!(HostState::diff(&before, &lab.host_state()), "", "after a start and a stop");
}

#[test]
fn connections_that_were_there_before_stay_where_they_are() {
    let lab = lab();
    // The user's own translation, by which the connections begin.
    lab.router().set_sysctls(&[("net/ipv4/ip_forward", "1")]);
    lab.router().nft(
        "table ip user { chain post { type nat hook postrouting priority srcnat; oifname \"wan*\" masquerade; }; }",
    );
    let flows: Vec<_> = (0..50).map(|i| (20_000 + i, SocketAddr::new(SERVER4.into(), PORT))).collect();
    let open = lab.client().open_many(Protocol::Tcp, &flows, 8, PATIENCE).into_iter().collect::<Result<Vec<_>, _>>();
    let busy = Busy::start(open.unwrap(), Duration::from_millis(50), PATIENCE);
    let mut pcc = run(&lab, &[]);
    std::thread::sleep(Duration::from_secs(1));
    pcc.signal(Signal::TERM);
    assert!(pcc.wait(PATIENCE).success());
    let (report, _) = busy.stop();
    // Of those on main's uplink none moves while it runs. At its end translated ones begin anew.
    assert_eq!(report.count(tests::lab::FaultKind::Moved), 0, "{:?}", report.faults);
}

#[test]
fn the_first_connection_is_balanced_within_a_second_of_the_start() {
    let lab = lab();
    let began = Instant::now();
    let _pcc = run(&lab, &[]);
    let first = lab.client().tcp_connect(None, SocketAddr::new(SERVER4.into(), PORT), PATIENCE).unwrap();
    let took = began.elapsed();
    assert!(first.isp == 1 || first.isp == 2);
    assert!(!marked_connections(lab.router(), OURS).is_empty());
    assert!(took < Duration::from_secs(5), "took {took:?}");
}

#[test]
fn plan_and_check_change_nothing_and_the_plan_is_what_run_does() {
    let lab = lab();
    let before = lab.host_state();
    let planned = lab.pcc_output(&["plan", "--wan", "wan1,wan2", "--lan", "lan"]);
    assert!(planned.status.success(), "{planned:?}");
    let check = lab.pcc_output(&["check", "--wan", "wan1,wan2", "--lan", "lan"]);
    assert!(check.status.success() && check.stdout.is_empty(), "{check:?}");
    assert_eq!(HostState::diff(&before, &lab.host_state()), "");
    assert!(!std::path::Path::new(&format!("/run/pcc/{}", lab.instance())).exists());
    let mut pcc = lab.pcc_with(&["run", "--wan", "wan1,wan2", "--lan", "lan"], &[("PCC_LOG", "debug")]);
    pcc.wait_for("ready", READY);
    let steps = String::from_utf8(planned.stdout).unwrap();
    assert!(steps.lines().count() > 30, "{steps}");
    for step in steps.lines() {
        pcc.wait_for(step, Duration::ZERO);
    }
    // Once it runs there is nothing left to do but what a restart does.
    let again = lab.pcc_output(&["plan", "--wan", "wan1,wan2", "--lan", "lan"]);
    let again = String::from_utf8(again.stdout).unwrap();
    assert!(!again.contains("sysctl") && !again.contains(" rule add ") && !again.contains(" route append "), "{again}");
    pcc.signal(Signal::INT);
    assert!(pcc.wait(PATIENCE).success());
}

#[test]
fn a_file_is_a_configuration() {
    let lab = lab();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pcc.toml");
    let text = "lan = [\"lan\"]
hash = \"both-addresses-and-ports\"
bypass = [\"203.0.113.32/27\"]
[[uplink]]
device = \"wan1\"
name = \"fiber\"
weight = 0
id = 7
[[uplink]]
device = \"wan2\"
name = \"radio\"
gateway = \"198.18.2.1\"
check = { target = \"carrier\" }
";
    std::fs::write(&file, text).unwrap();
    let pcc = lab.pcc(&["run", "--config", file.to_str().unwrap()]);
    pcc.wait_for("ready: lan over fiber, radio", READY);
    let status = lab.pcc_output(&["status", "--json"]);
    let status: pcc_userspace::status::Status = serde_json::from_slice(&status.stdout).unwrap();
    let seen: Vec<_> = status.uplinks.iter().map(|uplink| (uplink.name.as_str(), uplink.id, uplink.weight)).collect();
    assert_eq!(seen, [("fiber", 7, 0), ("radio", 1, 1)]);
    for host in 1..=63 {
        let to = SocketAddr::new(server4(host).into(), PORT);
        let isp = lab.client().tcp_connect(None, to, PATIENCE).unwrap().isp;
        assert_eq!(
            isp,
            if (32..64).contains(&host) { 1 } else { 2 },
            "{to}: the bypass follows main, the rest has one uplink"
        );
    }
}

/// Some changes of the host cause no notice; they are found when it is looked at all the same.
#[test]
fn a_setting_that_somebody_changes_is_put_back_within_half_a_minute() {
    const LOOKED_AT: Duration = Duration::from_secs(40);
    const KEY: &str = "net/ipv4/conf/wan1/src_valid_mark";
    let lab = Lab::builder().without_ipv6().defaults(Defaults::All).build();
    let _pcc = run(&lab, &[]);
    // Until the notices of the start are over.
    std::thread::sleep(Duration::from_secs(3));
    lab.router().set_sysctls(&[(KEY, "0")]);
    assert!(eventually(LOOKED_AT, || lab.router().sysctl(KEY).is_ok_and(|value| value == "1")));
}
