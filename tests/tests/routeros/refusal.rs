//! What cannot be mirrored is refused with its line, and nothing is changed.

use tests::lab::{Defaults, Lab};

use crate::scripts::{Script, inbound, interfaces, nat, tables};

fn refused(lab: &Lab, script: &Script, more: &[&str]) -> String {
    let before = lab.host_state();
    let path = script.path().display().to_string();
    let output = lab.pcc_output(&[&["run", "--config", &path], more].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(tests::lab::HostState::diff(&before, &lab.host_state()), "");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn an_interface_without_a_device_is_named_with_the_devices_that_there_are() {
    let lab = Lab::builder().without_ipv6().defaults(Defaults::None).build();
    let script = Script::new(&(interfaces(2) + &tables(2) + &inbound(2) + &nat(2)));
    let stderr = refused(&lab, &script, &["--map", "bridge=lan,isp1=wan1"]);
    assert!(stderr.contains("router.rsc:") && stderr.contains("`isp2`"), "{stderr}");
    assert!(stderr.contains("hint: ") && stderr.contains("wan2"), "{stderr}");
    let path = script.path().display().to_string();
    // A start waits for it.
    let output = lab.pcc_output(&["plan", "--config", &path, "--map", "bridge=lan,isp1=wan1,isp2=wan9"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("no interface `wan9` for `isp2`") && stderr.contains("wan2"), "{stderr}");
}

#[test]
fn two_interfaces_of_one_device_are_named() {
    let lab = Lab::builder().without_ipv6().defaults(Defaults::None).build();
    let script = Script::new(&(interfaces(2) + &tables(2) + &inbound(2) + &nat(2)));
    let stderr = refused(&lab, &script, &["--map", "bridge=lan,isp1=wan1,isp2=wan1"]);
    assert!(stderr.contains("device `wan1` is given to two interfaces, `isp1` and `isp2`"), "{stderr}");
}

#[test]
fn a_rule_that_cannot_be_mirrored_is_named_with_its_line() {
    let lab = Lab::builder().without_ipv6().defaults(Defaults::None).build();
    let rule = "/ip firewall mangle\nadd chain=prerouting layer7-protocol=video action=mark-packet new-packet-mark=v\n";
    let script = Script::new(&(interfaces(2) + rule));
    let stderr = refused(&lab, &script, &["--map", "bridge=lan,isp1=wan1,isp2=wan2"]);
    assert!(stderr.contains("router.rsc:7:") && stderr.contains("layer7-protocol"), "{stderr}");
}

#[test]
fn marks_that_do_not_fit_are_counted() {
    let lab = Lab::builder().without_ipv6().defaults(Defaults::None).build();
    let script = Script::new(&(interfaces(2) + &tables(2) + &inbound(2) + &nat(2)));
    let map = "bridge=lan,isp1=wan1,isp2=wan2";
    let stderr = refused(&lab, &script, &["--map", map, "--mark-mask", "0x1f"]);
    assert!(stderr.contains("2 connection marks and 2 routing marks take 7 bits"), "{stderr}");
    assert!(stderr.contains("hint: `--mark-mask 0x7f`"), "{stderr}");
}

#[test]
fn flags_and_scripts_that_do_not_go_together_are_named() {
    let lab = Lab::builder().without_ipv6().defaults(Defaults::None).build();
    let script = Script::new(&interfaces(1));
    let stderr = refused(&lab, &script, &["--wan", "wan1", "--check", "wan1=carrier"]);
    assert!(stderr.contains("`--wan` does not go with a RouterOS script"), "{stderr}");
    assert!(stderr.contains("`--check` does not go with a RouterOS script"), "{stderr}");
    let output = lab.pcc_output(&["run", "--wan", "wan1", "--lan", "lan", "--map", "a=b", "--addresses"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("`--map` needs a RouterOS script"), "{stderr}");
}
