//! Scripts that change while traffic flows, controllers that die, addresses that are missing.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use tests::lab::address::{PORT, SERVER4, server4};
use tests::lab::{Busy, Defaults, HostState, Lab, PATIENCE, Protocol};

use crate::scripts::{READY, SEED, Script, inbound, interfaces, nat, pcc, routing, tables};

fn lab() -> Lab {
    Lab::builder().without_ipv6().defaults(Defaults::None).build()
}

fn script(remainders: &[u32], more: &str) -> Script {
    let rules = inbound(2) + &pcc("both-addresses-and-ports", remainders, "connection-mark=no-mark") + &routing(2);
    Script::new(&(interfaces(2) + &tables(2) + more + &rules + &nat(2)))
}

#[test]
fn rules_and_lists_are_replaced_under_live_connections_and_the_data_path_outlives_the_controller() {
    let lab = lab();
    let scripts = [
        script(&[1, 2], ""),
        script(
            &[2, 1, 1],
            "/ip firewall address-list add list=x address=203.0.113.77\n/ip firewall mangle add chain=prerouting dst-address-list=x action=accept\n",
        ),
        script(&[2], ""),
    ];
    let args = |script: &Script| {
        let path = script.path().display().to_string();
        let args = ["run", "--keep", "--config", &path, "--map", "bridge=lan,isp1=wan1,isp2=wan2", "--seed", "7"];
        args.map(str::to_owned).to_vec()
    };
    let start = |script: &Script| {
        let args = args(script);
        let pcc = lab.pcc(&args.iter().map(String::as_str).collect::<Vec<_>>());
        pcc.wait_for("ready", READY);
        pcc
    };
    let mut pcc = start(&scripts[0]);
    let flows: Vec<_> =
        (0..200_u16).map(|i| (40_000 + i, SocketAddr::new(server4((i % 50 + 1) as u8).into(), PORT))).collect();
    let open = lab.client().open_many(Protocol::Tcp, &flows, 8, PATIENCE).into_iter().collect::<Result<Vec<_>, _>>();
    let open = open.unwrap();
    assert!([1, 2].iter().all(|isp| open.iter().filter(|conversation| conversation.isp == *isp).count() > 40));
    let busy = Busy::start(open, Duration::from_millis(50), PATIENCE);
    for round in 1..10 {
        std::thread::sleep(Duration::from_millis(300));
        pcc.signal(if round % 2 == 0 { Signal::KILL } else { Signal::TERM });
        pcc.wait(READY);
        pcc = start(&scripts[round % 3]);
        assert!(pcc.stderr().contains("adopted the running data path"), "{}", pcc.stderr());
    }
    let (report, _) = busy.stop();
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    pcc.signal(Signal::TERM);
    pcc.wait(READY);
    lab.client().tcp_connect(None, SocketAddr::new(SERVER4.into(), PORT), PATIENCE).expect("without a controller");
    // The other kind of configuration cannot take over what is marked otherwise.
    let refused = lab.pcc_output(&["run", "--wan", "wan1,wan2", "--lan", "lan"]);
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert!(stderr.contains("another kind of configuration") && stderr.contains("pcc down"), "{stderr}");
    assert!(lab.pcc_output(&["down"]).status.success());
}

#[test]
fn missing_addresses_are_named_or_added_and_taken_away_again() {
    let lab = lab();
    lab.router().ip("address del 198.18.2.2/24 dev wan2");
    let before = lab.host_state();
    let script = script(&[1, 2], "");
    let path = script.path().display().to_string();
    let fixed = ["run", "--config", &path, "--map", "bridge=lan,isp1=wan1,isp2=wan2", "--seed"];
    let seed = SEED.to_string();
    let args = [&fixed[..], &[&seed]].concat();
    let mut pcc = lab.pcc(&args);
    pcc.wait_for("`wan2` lacks the script's address `198.18.2.2/24`", READY);
    pcc.wait_for("ready", READY);
    pcc.signal(Signal::INT);
    pcc.wait(READY);
    let mut pcc = lab.pcc(&[&args[..], &["--addresses"]].concat());
    pcc.wait_for("ready", READY);
    assert!(lab.router().ip("address show dev wan2").contains("198.18.2.2/24"));
    let status = lab.pcc_output(&["status"]);
    let text = String::from_utf8(status.stdout).unwrap();
    assert!(text.contains("isp2") && text.contains("to_isp2") && text.contains("gateway 198.18.2.1"), "{text}");
    lab.router().ip("address del 198.18.2.2/24 dev wan2");
    let returns = std::time::Instant::now() + READY;
    while !lab.router().ip("address show dev wan2").contains("198.18.2.2/24") {
        assert!(std::time::Instant::now() < returns, "an address that went away is not added again");
        std::thread::sleep(Duration::from_millis(20));
    }
    pcc.signal(Signal::INT);
    assert!(pcc.wait(READY).success(), "{}", pcc.stderr());
    assert_eq!(HostState::diff(&before, &lab.host_state()), "");
    assert!(!lab.router().ip("address show dev wan2").contains("198.18.2.2/24"));
}

#[test]
fn the_plan_is_what_run_does_and_nothing_is_changed_by_it() {
    let lab = lab();
    let before = lab.host_state();
    let script = script(&[1, 2], "");
    let path = script.path().display().to_string();
    let output = lab.pcc_output(&["plan", "--config", &path, "--map", "bridge=lan,isp1=wan1,isp2=wan2"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["load the programs", "ip -4 rule add", "table 20597", "nft -f -", "attach pcc_mirror_in"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(HostState::diff(&before, &lab.host_state()), "");
}
