//! `pcc verify` tells chance from skew, and names what skews.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use pcc_userspace::verify::{Kind, Report, Verdict};
use tests::lab::address::{CLIENT6, PORT, server4, server6};
use tests::lab::settings::READY;
use tests::lab::{Client, Defaults, Lab, PATIENCE, Pcc, Protocol};

/// A second address of the client.
const OTHER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

fn lab() -> Lab {
    let lab = Lab::builder().defaults(Defaults::All).build();
    lab.client().namespace().ip(&format!("addr add {OTHER4}/24 dev eth0"));
    lab
}

fn run(lab: &Lab, hash: &str, more: &str) -> Pcc {
    let text = format!(
        "lan = [\"lan\"]\nhash = \"{hash}\"\nseed = 305419896\n[[uplink]]\ndevice = \"wan1\"\n[[uplink]]\ndevice = \"wan2\"\n{more}"
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pcc.toml");
    std::fs::write(&file, text).unwrap();
    let pcc = lab.pcc(&["run", "--config", file.to_str().unwrap()]);
    pcc.wait_for("ready", READY);
    for uplink in ["wan1", "wan2"] {
        for family in ["IPv4", "IPv6"] {
            pcc.wait_for(&format!("uplink {uplink} {family}: up"), READY);
        }
    }
    pcc
}

/// `count` connections from `client`, which all succeed, to `hosts` servers of each family.
fn connect(client: &Client, from: u16, count: u16, hosts: u16, ipv6: bool) {
    let flows: Vec<(u16, SocketAddr)> = (0..count)
        .map(|i| {
            let host = (i % hosts + 1) as u8;
            let server: IpAddr = if ipv6 && i % 2 == 1 { server6(host).into() } else { server4(host).into() };
            (from + i, SocketAddr::new(server, PORT))
        })
        .collect();
    let trials = client.try_many(Protocol::Tcp, &flows, 8, PATIENCE);
    assert!(trials.iter().all(|trial| trial.isp.is_ok()), "{:?}", trials.iter().find(|trial| trial.isp.is_err()));
}

/// The report, and the exit status that goes with it.
fn verify(lab: &Lab, words: &[&str]) -> Report {
    let output = lab.pcc_output(&[&["verify", "--json"], words].concat());
    let report: Report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let skewed = report.verdict == Verdict::Skewed;
    assert_eq!(output.status.code(), Some(i32::from(skewed)), "{output:?}");
    report
}

fn text(lab: &Lab) -> String {
    String::from_utf8(lab.pcc_output(&["verify"]).stdout).unwrap()
}

#[test]
fn a_hash_of_all_fields_spreads_as_wanted_also_when_weights_change() {
    let lab = lab();
    let _pcc = run(&lab, "both-addresses-and-ports", "");
    let nothing = verify(&lab, &[]);
    assert_eq!((nothing.verdict, nothing.connections), (Verdict::TooFew, 0));
    connect(lab.client(), 10_000, 20, 20, true);
    assert_eq!(verify(&lab, &[]).verdict, Verdict::TooFew);
    connect(lab.client(), 10_100, 580, 50, true);
    let report = verify(&lab, &[]);
    assert_eq!((report.verdict, report.connections), (Verdict::AsWanted, 600), "{report:#?}");
    assert!(report.uplinks.iter().all(|share| share.wanted == 0.5 && (share.seen - 0.5).abs() < 0.1), "{report:#?}");
    assert_eq!((report.inputs.connections, report.causes.len()), (600, 0), "{report:#?}");

    assert!(lab.pcc_output(&["uplink", "wan1", "weight", "4"]).status.success());
    connect(lab.client(), 11_000, 600, 50, true);
    let report = verify(&lab, &[]);
    assert_eq!((report.verdict, report.connections), (Verdict::AsWanted, 1200), "{report:#?}");
    let wanted: Vec<f64> = report.uplinks.iter().map(|share| (share.wanted * 1000.0).round()).collect();
    assert_eq!(wanted, [650.0, 350.0], "half of the time a half, then four fifths");
    assert!(report.notes.iter().any(|note| note.contains("wan1 50.0 %, wan2 50.0 % to wan1 80.0 %")), "{report:#?}");
    let text = text(&lab);
    assert!(
        text.starts_with("1200 new connections in ") && text.contains("\nas wanted, by chance alone in "),
        "{text}"
    );
}

#[test]
fn one_client_that_hammers_one_server_is_named() {
    let lab = lab();
    let _pcc = run(&lab, "both-addresses", "");
    connect(lab.client(), 10_000, 100, 50, false);
    let hammering = lab.client().from([OTHER4.into(), CLIENT6.into()]);
    connect(&hammering, 12_000, 400, 1, false);
    let report = verify(&lab, &[]);
    assert_eq!(report.verdict, Verdict::Skewed, "{report:#?}");
    let cause = &report.causes[0];
    assert_eq!((cause.kind, cause.name.as_str()), (Kind::Client, "192.0.2.77"), "{report:#?}");
    assert!(cause.text.contains("400 of the 500") && cause.text.contains(&server4(1).to_string()), "{}", cause.text);
    assert_eq!(report.inputs.distinct, 51, "{report:#?}");
    let text = text(&lab);
    assert!(text.contains("\nskewed") && text.contains("\nbecause client 192.0.2.77 has"), "{text}");
}

#[test]
fn a_rule_that_gives_an_uplink_more_is_named() {
    let lab = lab();
    let rule = format!("[[rule]]\nname = \"other\"\nsource = \"{OTHER4}\"\nuse = \"wan2\"\n");
    let _pcc = run(&lab, "both-addresses-and-ports", &rule);
    connect(lab.client(), 10_000, 300, 50, false);
    assert_eq!(verify(&lab, &[]).verdict, Verdict::AsWanted);
    connect(&lab.client().from([OTHER4.into(), CLIENT6.into()]), 12_000, 300, 50, false);
    let report = verify(&lab, &["--since", "1h"]);
    assert_eq!(report.verdict, Verdict::Skewed, "{report:#?}");
    let causes: Vec<_> = report.causes.iter().map(|cause| (cause.kind, cause.name.as_str())).collect();
    assert_eq!(causes, [(Kind::Rule, "other")], "{report:#?}");
    assert_eq!(report.inputs.connections, 300, "those without rule");
}
