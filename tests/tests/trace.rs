//! `pcc trace`: packets of a client on their whole way, and nothing left behind.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::Value;
use tests::lab::address::{CLIENT4, PORT, server4, server6};
use tests::lab::settings::READY;
use tests::lab::{BpfObjects, Defaults, Lab, PATIENCE, Protocol, eventually};

/// Device and direction of each packet with a port `port`, and the uplink that it was given to.
fn seen(text: &str, port: u64) -> Vec<(String, String, Option<String>)> {
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let word = |value: &Value| value.as_str().map(str::to_owned);
    let of_port = |line: &Value| {
        let ends = ["source", "destination"].map(|end| word(&line[end]).unwrap_or_default());
        ends.iter().any(|end| end.ends_with(&format!(":{port}")))
    };
    let place =
        |line: Value| (word(&line["device"]).unwrap(), word(&line["direction"]).unwrap(), word(&line["uplink"]));
    lines.filter(of_port).map(place).collect()
}

#[test]
fn a_client_is_seen_on_its_whole_way_and_others_are_not() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let args = ["run", "--wan", &lab.wans(), "--lan", lab.lans(), "--hash", "both-addresses-and-ports"];
    let pcc = lab.pcc(&args);
    pcc.wait_for("ready", READY);
    let before = BpfObjects::attached(lab.router());
    let client = CLIENT4.to_string();
    let mut trace = lab.pcc(&["trace", "--client", &client, "--proto", "tcp", "--json"]);
    trace.wait_for("tracing on", READY);
    let ports = 30_000..30_010;
    for port in ports.clone() {
        let to = |host: std::net::IpAddr| SocketAddr::new(host, PORT);
        let isp = lab.client().tcp_connect(Some(port), to(server4(1).into()), PATIENCE).unwrap().isp;
        // Another protocol, and the other family.
        lab.client().try_many(Protocol::Udp, &[(port, to(server4(1).into()))], 1, PATIENCE);
        lab.client().tcp_connect(Some(port), to(server6(1).into()), PATIENCE).unwrap();
        let uplink = format!("wan{isp}");
        let has = |seen: &[(String, String, Option<String>)], device: &str, direction: &str| {
            seen.iter().any(|(at, way, _)| at == device && way == direction)
        };
        let all = || {
            let seen = seen(&trace.stdout(), port.into());
            let ways = [("lan", "in"), (uplink.as_str(), "out"), (uplink.as_str(), "in"), ("lan", "out")];
            ways.iter().all(|(device, direction)| has(&seen, device, direction))
        };
        assert!(eventually(PATIENCE, all), "port {port} by {uplink}:\n{}", trace.stdout());
        let seen = seen(&trace.stdout(), port.into());
        let given = seen.iter().find(|(device, direction, _)| *device == uplink && direction == "out").unwrap();
        assert_eq!(given.2.as_ref(), Some(&uplink), "{seen:?}");
        let other = if isp == 1 { "wan2" } else { "wan1" };
        assert!(!has(&seen, other, "out"), "{seen:?}");
    }
    let text = trace.stdout();
    assert!(!text.contains("udp") && !text.contains("2001:db8"), "{text}");
    // However it ends, nothing is left.
    trace.signal(Signal::KILL);
    trace.wait(PATIENCE);
    assert!(
        eventually(PATIENCE, || BpfObjects::attached(lab.router()) == before),
        "{:?}",
        BpfObjects::attached(lab.router())
    );
}

#[test]
fn it_ends_by_itself_and_wants_to_know_what_for() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let none = lab.pcc_output(&["trace", "--port", "443"]);
    let text = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(none.status.code() == Some(1) && text.contains("does not run") && text.contains("hint: "), "{text}");
    assert_eq!(lab.pcc_output(&["trace"]).status.code(), Some(2));
    let pcc = lab.pcc(&["run", "--wan", &lab.wans(), "--lan", lab.lans()]);
    pcc.wait_for("ready", READY);
    let mut trace = lab.pcc(&["trace", "--port", &PORT.to_string(), "--seconds", "2"]);
    trace.wait_for("tracing on lan, wan1, wan2", READY);
    lab.client().tcp_connect(None, SocketAddr::new(server4(1).into(), PORT), PATIENCE).unwrap();
    assert!(trace.wait(READY).success());
    let text = trace.stdout();
    assert!(text.contains(" lan        in  tcp ") && text.contains(", SYN") && text.contains("mark 0x8"), "{text}");
}
