//! `pcc import` and `pcc explain`, as somebody types them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Output};

use pcc_ebpf::classify::HashFields;
use serde_json::Value;
use tests::lab::address::{CLIENT4, PORT, SERVER4};
use tests::lab::{Defaults, Lab, PATIENCE, Protocol, Trial, process};

use crate::scripts::{READY, SEED, Script, inbound, interfaces, nat, pcc, remainder, routing, tables};

const MAP: &str = "bridge=lan,isp1=wan1,isp2=wan2";

fn lab() -> Lab {
    Lab::builder().without_ipv6().defaults(Defaults::None).build()
}

fn script() -> Script {
    let lists = "# Networks that stay here.\n/ip firewall address-list\nadd list=local address=192.0.2.0/24\n\
                 add list=local address=10.0.0.1-10.0.0.77\n";
    let bypass =
        "/ip firewall mangle add chain=prerouting dst-address-list=local action=accept comment=\"not balanced\"\n";
    let rules = inbound(2) + &pcc("both-addresses-and-ports", &[1, 2, 1], "connection-mark=no-mark") + &routing(2);
    Script::new(&(interfaces(2) + &tables(2) + lists + bypass + &rules + &nat(2)))
}

fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What the maps of rules hold: an entry a line, without empty ones.
fn maps(lab: &Lab) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for map in ["pcc_steps", "pcc_sets4", "pcc_devices"] {
        let pin = format!("/sys/fs/bpf/pcc/{}/{}/{map}", lab.instance(), pcc_ebpf::abi::ABI);
        let text = lab.router().exec("bpftool", ["-j", "map", "dump", "pinned", &pin]);
        let entries: Vec<Value> = serde_json::from_str(&text).unwrap();
        let entries = entries.iter().map(|entry| &entry["formatted"]).filter(|entry| entry["value"]["op"] != 0);
        lines.extend(entries.map(|entry| format!("{map} {entry}")));
    }
    lines
}

#[test]
fn a_script_and_its_import_make_the_same_plan_and_the_same_maps() {
    let lab = lab();
    let script = script();
    let path = script.path();
    let toml = path.with_extension("toml");
    let import = Command::new(process::binary()).args(["import", "--map", MAP]).arg(&path).output().unwrap();
    let imported = stdout(import);
    for part in ["# Networks that stay here.", "bridge = \"lan\"", "comment = \"not balanced\""] {
        assert!(imported.contains(part), "{part}: {imported}");
    }
    std::fs::write(&toml, imported).unwrap();
    let forms = [
        vec!["--config".to_owned(), path.display().to_string(), "--map".to_owned(), MAP.to_owned()],
        vec!["--config".to_owned(), toml.display().to_string()],
    ];
    let mut seen = Vec::new();
    for form in &forms {
        let form: Vec<&str> = form.iter().map(String::as_str).collect();
        let plan = stdout(lab.pcc_output(&[&["plan"], &form[..]].concat()));
        let seed = SEED.to_string();
        let mut running = lab.pcc(&[&["run", "--seed", &seed], &form[..]].concat());
        running.wait_for("ready", READY);
        let table = lab.router().exec("nft", ["-s", "list", "ruleset"]);
        seen.push((plan, maps(&lab), table));
        running.signal(rustix::process::Signal::INT);
        assert!(running.wait(READY).success(), "{}", running.stderr());
    }
    let [(plan, maps, table), (plan2, maps2, table2)] = &seen[..] else { panic!("two forms") };
    assert_eq!(plan, plan2);
    assert!(maps.len() > 30, "{maps:?}");
    assert_eq!(maps.symmetric_difference(maps2).collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(table == table2, "{table}\n{table2}");
    let checked = Command::new(process::binary()).arg("check").arg(&toml).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn explain_names_the_rule_the_kernel_agrees_and_the_packet_goes_there() {
    let lab = lab();
    let script = script();
    let path = script.path().display().to_string();
    let seed = SEED.to_string();
    let _pcc = script.run(&lab);
    for from in 20_000..20_008 {
        let source = format!("{CLIENT4}:{from}");
        let destination = format!("{SERVER4}:{PORT}");
        let words = ["--src", &source, "--dst", &destination, "--proto", "tcp"];
        let fixed = ["explain", "--json", "--config", &path, "--map", MAP, "--seed", &seed, "--in", "bridge"];
        let explained: Value = serde_json::from_str(&stdout(lab.pcc_output(&[&fixed[..], &words].concat()))).unwrap();
        assert_eq!(explained["confirmed"], explained["mark"], "{explained:#}");
        let to = SocketAddr::new(IpAddr::V4(SERVER4), PORT);
        let isp = lab.client().tcp_connect(Some(from), to, PATIENCE).unwrap().isp;
        assert_eq!(explained["uplink"], format!("isp{isp}"), "{explained:#}");
        let source = SocketAddr::new(IpAddr::V4(CLIENT4), from);
        let trial = Trial { source, destination: to, isp: Ok(isp), took: PATIENCE };
        let remainder = remainder(HashFields::ALL_FIELDS, Protocol::Tcp, &trial, 3);
        let tried = explained["rules"].as_array().unwrap();
        let classified =
            |rule: &&Value| rule["matched"] == true && rule["action"].as_str().unwrap().contains("mark-connection");
        let by = tried.iter().find(classified).unwrap();
        // The rule of that remainder, on its line.
        let text = std::fs::read_to_string(script.path()).unwrap();
        let line = text.lines().nth(by["line"].as_u64().unwrap() as usize - 1).unwrap();
        assert!(line.contains(&format!(":3/{remainder} ")), "{line}");
    }
    let words = ["--in", "lan", "--src", "192.0.2.2:1", "--dst", "192.0.2.1:53", "--proto", "udp"];
    let text = stdout(lab.pcc_output(&[&["explain", "--config", &path, "--map", MAP], &words[..]].concat()));
    assert!(text.contains("# not balanced") && text.contains("matches"), "{text}");
    assert!(text.contains("table            `local`") && text.contains("kernel agrees"), "{text}");
    let words = ["--in", "bridge", "--src", "192.0.2.2:1", "--dst", "203.0.113.9:53", "--connection-mark", "isp2"];
    let text = stdout(lab.pcc_output(&[&["explain", "--config", &path, "--map", MAP], &words[..]].concat()));
    assert!(text.contains("routing mark     `to_isp2`") && text.contains("not connection-mark=isp1"), "{text}");
    for (words, part) in [
        (["--in", "ether9", "--src", "192.0.2.2:1", "--dst", "203.0.113.9:53"], "no interface `ether9`"),
        (["--in", "bridge", "--src", "192.0.2.2:1", "--dst", "2001:db8::1"], "two families"),
    ] {
        let output = lab.pcc_output(&[&["explain", "--config", &path, "--map", MAP], &words[..]].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && stderr.contains(part) && stderr.contains("hint: "), "{stderr}");
    }
}
