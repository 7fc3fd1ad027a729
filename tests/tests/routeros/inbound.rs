//! Who answers connections that come in from outside: right and wrong, as on RouterOS.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use tests::lab::address::{FORWARDED_PORT, PORT, SERVER4};
use tests::lab::{Conversation, Defaults, Lab, PATIENCE, Protocol, process};

use crate::scripts::{Script, inbound, interfaces, nat, pcc, routing, tables};

fn lab() -> Lab {
    Lab::builder().without_ipv6().defaults(Defaults::None).build()
}

/// Opens `count` connections to the router's address of uplink `isp`; how many were answered.
fn answered(lab: &Lab, isp: u32, protocol: Protocol, port: u16, count: u16) -> usize {
    let to = SocketAddr::new(IpAddr::V4(lab.isp(isp).link.router4), port);
    let patience = if count == 1 { PATIENCE } else { PATIENCE / 10 };
    let open = |from| lab.isp(isp).client().open(protocol, Some(from), to, patience);
    let held = |conversation: std::io::Result<Conversation>| {
        conversation.is_ok_and(|mut conversation| conversation.exchange(b"once more").is_ok())
    };
    (0..count).filter(|i| held(open(30_000 + i))).count()
}

#[test]
fn what_comes_in_is_answered_by_the_uplink_that_it_came_in_on() {
    let lab = lab();
    let rules = inbound(2) + &pcc("both-addresses-and-ports", &[1, 2], "connection-mark=no-mark") + &routing(2);
    let script = Script::new(&(interfaces(2) + &tables(2) + &rules + &nat(2)));
    let _pcc = script.run(&lab);
    for isp in [1, 2] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            assert_eq!(answered(&lab, isp, protocol, FORWARDED_PORT, 20), 20, "{protocol:?} forwarded by isp{isp}");
        }
        assert_eq!(answered(&lab, isp, Protocol::Tcp, PORT, 10), 10, "the router itself by isp{isp}");
        assert!(lab.isp(isp).reaches_router(lab.isp(isp).link.router4.into()), "ping by isp{isp}");
    }
}

#[test]
fn without_no_mark_answers_go_wrong_as_on_routeros_and_lint_says_so() {
    let lab = lab();
    let rules = inbound(2) + &pcc("both-addresses-and-ports", &[1, 2], "") + &routing(2);
    let script = Script::new(&(interfaces(2) + &tables(2) + &rules + &nat(2)));
    let _pcc = script.run(&lab);
    for isp in [1, 2] {
        // The answer of the forwarded host is classified anew: about half of them leave by the other uplink.
        let right = answered(&lab, isp, Protocol::Tcp, FORWARDED_PORT, 20);
        assert!((1..20).contains(&right), "{right} of 20 were answered by isp{isp}");
        assert_eq!(answered(&lab, isp, Protocol::Tcp, PORT, 10), 10, "the router's own answers see no PCC rule");
    }
    assert!(lint(&script).contains("lint-7.6"), "{}", lint(&script));
}

#[test]
fn inbound_marks_in_chain_input_do_not_cover_port_forwards() {
    let lab = lab();
    let input = inbound(2).replace("chain=prerouting", "chain=input");
    let rules =
        input + &pcc("both-addresses-and-ports", &[1, 2], "connection-mark=no-mark connection-state=new") + &routing(2);
    let script = Script::new(&(interfaces(2) + &tables(2) + &rules + &nat(2)));
    let _pcc = script.run(&lab);
    assert_eq!(answered(&lab, 2, Protocol::Tcp, PORT, 10), 10, "the router itself");
    // Unmarked answers follow main, which prefers isp1.
    assert_eq!(answered(&lab, 1, Protocol::Tcp, FORWARDED_PORT, 5), 5);
    assert_eq!(answered(&lab, 2, Protocol::Tcp, FORWARDED_PORT, 5), 0);
    assert!(lint(&script).contains("lint-7.6"), "{}", lint(&script));
}

#[test]
fn a_mark_that_another_chain_changes_stays_changed() {
    let lab = lab();
    let heavy = "/ip firewall mangle add chain=forward protocol=udp packet-size=400-1500 action=mark-connection \
                 new-connection-mark=heavy\n";
    let rules = inbound(2) + &pcc("both-addresses", &[1, 2], "connection-mark=no-mark") + &routing(2) + heavy;
    let script = Script::new(&(interfaces(2) + &tables(2) + &rules + &nat(2)));
    let _pcc = script.run(&lab);
    let to = SocketAddr::new(IpAddr::V4(SERVER4), PORT);
    let mut conversation = lab.client().open(Protocol::Udp, Some(40_000), to, PATIENCE).unwrap();
    let marked = |name: &str| {
        let status = lab.pcc_output(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        status["connections"][name].as_u64().unwrap_or(0)
    };
    for bytes in [1, 1, 500, 1, 1] {
        conversation.exchange(&vec![7; bytes]).unwrap();
    }
    assert_eq!(marked("heavy"), 1, "what the walk remembers is older");
}

fn lint(script: &Script) -> String {
    let output = Command::new(process::binary()).arg("check").arg(script.path()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
