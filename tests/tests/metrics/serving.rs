//! Where metrics are served.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use tests::exposition::Exposition;
use tests::lab::address::ROUTER4;
use tests::lab::{Defaults, HostState, Lab, Settings, eventually};

use crate::promtool;
use crate::scrape::{OPEN, exchange, get, printed, scrape};

const LOCAL: &str = "127.0.0.1:9199";
const SOON: Duration = Duration::from_secs(30);

fn local() -> SocketAddr {
    LOCAL.parse().unwrap()
}

/// From the LAN.
fn outside() -> SocketAddr {
    (ROUTER4, 9199).into()
}

fn lab() -> Lab {
    Lab::builder().defaults(Defaults::All).build()
}

fn write(settings: &Settings, line: &str) {
    let uplinks = "[[uplink]]\ndevice = \"wan1\"\nname = \"fibre\"\nweight = 3\n[[uplink]]\ndevice = \"wan2\"\n";
    settings.write(&format!("lan = [\"lan\"]\nhash = \"both-addresses-and-ports\"\n{line}\n{uplinks}"));
}

/// Puts `metrics = "<listen>"` in force; what was said if it was refused.
fn reload(lab: &Lab, settings: &Settings, listen: &str) -> Result<(), String> {
    write(settings, &format!("metrics = \"{listen}\""));
    let output = lab.pcc_output(&["reload"]);
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn metrics_are_served_where_the_configuration_says_and_nowhere_else() {
    let lab = lab();
    let settings = Settings::new(&[]);
    write(&settings, "");
    let pcc = settings.start(&lab, &[]);
    pcc.wait_for("uplink fibre IPv6: up", SOON);
    assert!(!lab.router().exec("ss", ["-Hltn"]).contains(":9199"), "off by default");
    assert!(printed(&lab).sum("pcc_uplink_up", &[("uplink", "fibre")]) >= 2.0, "the control socket always tells");

    reload(&lab, &settings, LOCAL).unwrap();
    let client = lab.client().namespace();
    assert!(get(client, outside(), "GET", "/metrics", "").is_err(), "not reachable from outside");
    let labels = [("uplink", "fibre"), ("device", "wan1"), ("family", "IPv6")];
    let read = scrape(&lab, local());
    assert_eq!(read.value("pcc_uplink_up", &labels), Some(1.0));
    let state = |state| [&labels[..], &[("pcc_uplink_state", state)]].concat();
    assert_eq!(read.value("pcc_uplink_state", &state("up")), Some(1.0));
    assert_eq!(read.value("pcc_uplink_share_wanted_ratio", &labels), Some(0.75));
    assert_eq!(read.value("pcc_uplink_weight", &[("uplink", "fibre")]), Some(3.0));

    // The same port of more addresses, then one that somebody has.
    reload(&lab, &settings, "0.0.0.0:9199").unwrap();
    assert_eq!(get(client, outside(), "GET", "/metrics", "").unwrap().status, 200);
    let taken = lab.router().run(|| TcpListener::bind("127.0.0.1:9200")).unwrap();
    let said = reload(&lab, &settings, "127.0.0.1:9200").unwrap_err();
    assert!(said.contains("metrics cannot be served at `127.0.0.1:9200`") && said.contains("ss -ltnp"), "{said}");
    assert_eq!(get(client, outside(), "GET", "/metrics", "").unwrap().status, 200, "what ran goes on");
    drop(taken);
    // The right to that is gone since the start.
    let said = reload(&lab, &settings, "127.0.0.1:443").unwrap_err();
    assert!(said.contains("metrics cannot be served at `127.0.0.1:443`"), "{said}");
    assert!(said.contains("hint: a port below 1024 is for a start"), "{said}");
    assert_eq!(get(client, outside(), "GET", "/metrics", "").unwrap().status, 200, "what ran goes on");

    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("metrics.sock");
    reload(&lab, &settings, &format!("unix:{}", socket.display())).unwrap();
    assert!(TcpStream::connect(local()).is_err() && get(lab.router(), local(), "GET", "/metrics", "").is_err());
    let answer = exchange(UnixStream::connect(&socket).unwrap(), "GET", "/metrics", OPEN).unwrap();
    Exposition::parse(&answer.body).unwrap();
    write(&settings, "");
    assert!(lab.pcc_output(&["reload"]).status.success());
    assert!(!socket.exists());
}

#[test]
fn a_start_where_the_address_is_taken_is_refused_and_leaves_the_host_alone() {
    let lab = lab();
    let _taken = lab.router().run(|| TcpListener::bind(LOCAL)).unwrap();
    let before = lab.host_state();
    let mut pcc = lab.pcc(&["run", "--wan", "wan1,wan2", "--lan", "lan", "--metrics", LOCAL]);
    assert_eq!(pcc.wait(SOON).code(), Some(1));
    let said = pcc.stderr();
    assert!(
        said.contains("metrics cannot be served at `127.0.0.1:9199`") && said.contains("hint: `ss -ltnp"),
        "{said}"
    );
    assert_eq!(HostState::diff(&before, &lab.host_state()), "");
    let output = lab.pcc_output(&["check", "--wan", "wan1,wan2", "--lan", "lan", "--metrics", "localhost:9199"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("`--metrics`: nobody can listen at `localhost:9199`") && said.contains("unix:"), "{said}");
}

#[test]
fn a_second_controller_hears_of_the_first_and_not_of_its_address() {
    let lab = lab();
    let pcc = lab.pcc(&["run", "--wan", "wan1,wan2", "--lan", "lan", "--metrics", LOCAL]);
    pcc.wait_for("ready", SOON);
    let mut second = lab.pcc(&["run", "--wan", "wan1,wan2", "--lan", "lan", "--metrics", LOCAL]);
    assert_eq!(second.wait(SOON).code(), Some(1));
    assert!(second.stderr().contains("is running already"), "{}", second.stderr());
}

#[test]
fn promtool_has_no_advice_for_a_real_scrape() {
    let lab = lab();
    let pcc = lab.pcc(&["run", "--wan", "wan1,wan2", "--lan", "lan", "--metrics", LOCAL]);
    pcc.wait_for("ready", SOON);
    let _ = lab.try_new(20);
    assert!(eventually(SOON, || scrape(&lab, local()).families.contains_key("pcc_uplink_connections")));
    let answer = get(lab.router(), local(), "GET", "/metrics", "").unwrap();
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{answer:?}");
    promtool(&["check", "metrics"], &answer.body);
    let output = lab.pcc_output(&["metrics", "--format", "prometheus"]);
    promtool(&["check", "metrics"], &String::from_utf8_lossy(&output.stdout));
}

#[test]
fn strange_and_slow_requests_do_no_harm() {
    let lab = lab();
    let pcc = lab.pcc(&["run", "--wan", "wan1,wan2", "--lan", "lan", "--metrics", LOCAL]);
    pcc.wait_for("ready", SOON);
    for (method, path, status) in [("GET", "/", 404), ("GET", "/status", 404), ("POST", "/metrics", 405)] {
        assert_eq!(get(lab.router(), local(), method, path, "").unwrap().status, status, "{method} {path}");
    }
    // More than are served at a time, of which nobody says anything.
    let silent: Vec<_> =
        (0..40).map(|_| lab.router().run(|| TcpStream::connect_timeout(&local(), SOON)).unwrap()).collect();
    let begun = Instant::now();
    assert!(lab.pcc_output(&["status"]).status.success());
    assert!(begun.elapsed() < SOON, "the loop goes on");
    // Three rounds of 5 s at most, before those that wait are heard.
    assert_eq!(get(lab.router(), local(), "GET", "/metrics", "").unwrap().status, 200);
    assert!(begun.elapsed() > Duration::from_secs(1), "the silent ones were in the way");
    drop(silent);
    assert_eq!(get(lab.router(), local(), "GET", "/metrics", "").unwrap().status, 200);
}
