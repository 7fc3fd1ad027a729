//! `pcc explain` of a configuration with uplinks: it says where a connection will go, and the connection goes there.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use tests::lab::address::{CLIENT4, CLIENT6, PORT, ROUTER4, SERVER4, SERVER6};
use tests::lab::settings::READY;
use tests::lab::{Defaults, Lab, PATIENCE, Protocol};

const CONFIG: &str = "\
lan = [\"lan\"]
seed = 7
hash = \"both-addresses-and-ports\"
bypass = [\"203.0.113.200/32\"]
[[uplink]]
device = \"wan1\"
[[uplink]]
device = \"wan2\"
weight = 2
[[rule]]
name = \"mail\"
destination_port = 25
use = \"wan1\"
[[rule]]
source = \"192.0.2.77\"
use = \"main\"
";

/// The answer to a question about a packet from `source` to `destination`.
fn explain(lab: &Lab, file: &str, words: &[&str]) -> Value {
    let fixed = ["explain", "--json", "--config", file, "--in", "lan"];
    let output = lab.pcc_output(&[&fixed[..], words].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn what_is_explained_happens_with_and_without_a_running_instance() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pcc.toml");
    std::fs::write(&path, CONFIG).unwrap();
    let file = path.to_str().unwrap();
    let ask = |from: u16, protocol: Protocol, server: IpAddr| {
        let client: IpAddr = if server.is_ipv4() { CLIENT4.into() } else { CLIENT6.into() };
        let (source, destination) = (SocketAddr::new(client, from), SocketAddr::new(server, PORT));
        let name = if protocol == Protocol::Tcp { "tcp" } else { "udp" };
        let words = ["--src", &source.to_string(), "--dst", &destination.to_string(), "--proto", name];
        let answer = explain(&lab, file, &words);
        assert_eq!(answer["mark"], answer["confirmed"], "{answer:#}");
        assert_eq!(answer["hash_fields"], "both-addresses-and-ports");
        answer["uplink"].as_str().unwrap().to_owned()
    };
    let questions: Vec<_> = (0..6_u16)
        .map(|i| {
            let server: IpAddr = if i % 2 == 0 { SERVER4.into() } else { SERVER6.into() };
            (20_000 + i, if i < 4 { Protocol::Tcp } else { Protocol::Udp }, server)
        })
        .collect();
    let before: Vec<_> = questions.iter().map(|(from, protocol, server)| ask(*from, *protocol, *server)).collect();
    let pcc = lab.pcc(&["run", "--config", file]);
    pcc.wait_for("ready", READY);
    for ((from, protocol, server), before) in questions.iter().zip(&before) {
        assert_eq!(&ask(*from, *protocol, *server), before, "the running data path has the same tables");
        let to = SocketAddr::new(*server, PORT);
        let isp = lab.client().open(*protocol, Some(*from), to, PATIENCE).unwrap().isp;
        assert_eq!(before, &format!("wan{isp}"));
    }
    assert!(lab.pcc_output(&["uplink", "wan1", "weight", "0"]).status.success());
    for (from, protocol, server) in questions {
        assert_eq!(ask(from, protocol, server), "wan2", "the weight of the running instance counts");
    }
}

#[test]
fn every_reason_not_to_balance_is_named() {
    let lab = Lab::builder().without_ipv6().defaults(Defaults::All).build();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pcc.toml");
    std::fs::write(&path, CONFIG).unwrap();
    let file = path.to_str().unwrap();
    let left = |source: &str, destination: &str| {
        let answer = explain(&lab, file, &["--src", source, "--dst", destination]);
        answer["left"].as_str().unwrap().to_owned()
    };
    assert!(left("192.0.2.2:1", &ROUTER4.to_string()).contains("an address of this host"));
    assert!(left("192.0.2.2:1", "198.18.1.1:80").contains("main has a route: 198.18.1.0/24"));
    assert!(left("192.0.2.2:1", "203.0.113.200:80").contains("`203.0.113.200/32` is in the bypass list"));
    assert!(left("192.0.2.77:1", "203.0.113.9:80").contains("rule 2 says so"));
    let mail = explain(&lab, file, &["--src", "192.0.2.2:1", "--dst", "203.0.113.9:25"]);
    assert_eq!((&mail["uplink"], &mail["group"]), (&Value::from("wan1"), &Value::from("wan1:1")), "{mail:#}");
    assert_eq!((&mail["rules"][0]["name"], &mail["rules"][0]["matched"]), (&Value::from("mail"), &Value::from(true)));
    let known = explain(&lab, file, &["--src", "192.0.2.2:1", "--dst", "203.0.113.9:80", "--connection-mark", "wan2"]);
    assert_eq!(known["uplink"], "wan2");
    let fixed = ["explain", "--config", file, "--src", "192.0.2.2:1", "--dst", "203.0.113.9:80"];
    for (words, part) in [(["--in", "eth9"], "`eth9` is no LAN device"), (["--in", "wan1"], "there are: lan")] {
        let output = lab.pcc_output(&[&fixed[..], &words].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && stderr.contains(part), "{stderr}");
    }
    let text = String::from_utf8(lab.pcc_output(&[&fixed[..], &["--in", "lan"]].concat()).stdout).unwrap();
    assert!(text.contains("rule 1 `mail`: not its `destination_port`") && text.contains("kernel agrees"), "{text}");
}
