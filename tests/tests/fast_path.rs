//! Which devices use which shortcuts, and that the host is told and left as it was.

use std::time::Duration;

use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use pcc_userspace::fast_path::Way;
use pcc_userspace::status::{FastPathStatus, Status};
use rustix::process::Signal;
use tests::lab::settings::READY;
use tests::lab::{Defaults, HostState, Lab, Pcc, Usage, eventually};

/// The host is looked at again when netlink says that something changed, at the latest after half a minute.
const SEEN: Duration = Duration::from_secs(45);

fn lab() -> Lab {
    Lab::builder().defaults(Defaults::All).build()
}

fn run(lab: &Lab, more: &[&str]) -> Pcc {
    let wans = lab.wans();
    let pcc = lab.pcc(&[&["run", "--wan", &wans, "--lan", lab.lans()], more].concat());
    pcc.wait_for("ready", READY);
    pcc
}

fn status(lab: &Lab) -> Status {
    let output = lab.pcc_output(&["status", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a status")
}

fn text(lab: &Lab, args: &[&str]) -> String {
    let output = lab.pcc_output(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Way and reason from `from` to `to`.
fn pair(status: &FastPathStatus, from: &str, to: &str) -> (Way, String) {
    let pair = status.pairs.iter().find(|pair| pair.from == from && pair.to == to);
    let pair = pair.unwrap_or_else(|| panic!("no pair {from} → {to}: {status:?}"));
    (pair.way, pair.reason.clone())
}

/// The ends of all cables outside the router take frames that are redirected to them.
fn take_frames(lab: &Lab) {
    for namespace in [lab.client().namespace(), lab.isp(1).namespace(), lab.isp(2).namespace()] {
        namespace.exec("ethtool", ["-K", "eth0", "gro", "on"]);
    }
}

#[test]
fn cables_of_the_lab_have_shortcuts_by_tc() {
    let lab = lab();
    let _pcc = run(&lab, &["--shortcut-entries", "4096"]);
    let status = status(&lab);
    assert_eq!(status.fast_path.mode, "auto");
    assert!(status.fast_path.lease_seconds > 0 && !status.fast_path.lease_reason.is_empty());
    assert_eq!(status.fast_path.pairs.len(), 4);
    for wan in ["wan1", "wan2"] {
        let (way, reason) = pair(&status.fast_path, "lan", wan);
        assert_eq!((way, reason.as_str()), (Way::Tc, "lan is a veth, which is faster without XDP"));
        assert_eq!(pair(&status.fast_path, wan, "lan").0, Way::Tc);
    }
    let text = text(&lab, &["status"]);
    assert!(text.contains("fast path: lan → wan1 tc (lan is a veth, which is faster without XDP)\n"), "{text}");
}

#[test]
fn what_is_forced_is_used_where_the_kernel_can() {
    let lab = lab();
    take_frames(&lab);
    let _pcc = run(&lab, &["--fast-path", "xdp"]);
    let fast_path = || status(&lab).fast_path;
    let forced = (Way::Xdp, "--fast-path xdp".to_owned());
    assert_eq!(pair(&fast_path(), "lan", "wan1"), forced);
    assert_eq!(pair(&fast_path(), "wan2", "lan"), forced);
    lab.router().exec("tc", "qdisc add dev wan1 root tbf rate 100mbit burst 100kb latency 50ms".split(' '));
    // That nobody tells; a change of an address is told.
    lab.router().ip("address add 192.0.2.99/32 dev lo");
    let shaped = (Way::Tc, "tbf shapes wan1, and XDP would go around it".to_owned());
    assert!(eventually(SEEN, || pair(&fast_path(), "lan", "wan1") == shaped), "{:?}", fast_path());
    assert_eq!(pair(&fast_path(), "wan1", "lan"), forced, "what comes in passes no shaper");
    assert_eq!(pair(&fast_path(), "lan", "wan2"), forced);
}

#[test]
fn without_shortcuts_everything_goes_through_the_stack_and_conntrack_stays_as_it_is() {
    let lab = lab();
    let liberal = "net/netfilter/nf_conntrack_tcp_be_liberal";
    let before = lab.router().sysctl(liberal).unwrap();
    let _pcc = run(&lab, &["--fast-path", "off"]);
    let fast_path = status(&lab).fast_path;
    assert_eq!(pair(&fast_path, "lan", "wan1"), (Way::Stack, "--fast-path off".to_owned()));
    assert_eq!(lab.router().sysctl(liberal).unwrap(), before);
    assert!(text(&lab, &["status"]).contains("fast path: off\n"));
}

#[test]
fn filters_at_ingress_see_each_packet() {
    let lab = lab();
    lab.router().exec("tc", "qdisc add dev wan1 clsact".split(' '));
    lab.router().exec("tc", "filter add dev wan1 ingress protocol all u32 match u32 0 0 flowid 1:1".split(' '));
    let _pcc = run(&lab, &[]);
    let fast_path = status(&lab).fast_path;
    let reason = "wan1 has filters at ingress (u32), which shape or inspect each packet";
    assert_eq!(pair(&fast_path, "wan1", "lan"), (Way::Stack, reason.to_owned()));
    assert_eq!(pair(&fast_path, "lan", "wan1").0, Way::Tc);
    assert_eq!(pair(&fast_path, "wan2", "lan").0, Way::Tc);
}

/// A running controller may not ask for programs by their numbers, and finds those of others all the same.
#[test]
fn a_program_of_others_behind_ours_sees_each_packet() {
    let lab = lab();
    let _pcc = run(&lab, &[]);
    assert_eq!(pair(&status(&lab).fast_path, "wan1", "lan").0, Way::Tc);
    // One that knows no device leaves each packet alone.
    let mut other = aya::EbpfLoader::new().load(pcc_userspace::dataplane::OBJECT).unwrap();
    let program: &mut SchedClassifier = other.program_mut("pcc_wan_out").unwrap().try_into().unwrap();
    program.load().unwrap();
    let place = TcAttachOptions::TcxOrder(LinkOrder::last());
    lab.router().run(|| program.attach_with_options("wan1", TcAttachType::Ingress, place)).unwrap();
    let number = program.info().unwrap().id();
    let reason = format!("wan1 has filters at ingress (BPF program {number}), which shape or inspect each packet");
    let expected = (Way::Stack, reason);
    assert!(
        eventually(SEEN, || pair(&status(&lab).fast_path, "wan1", "lan") == expected),
        "{:?}",
        status(&lab).fast_path
    );
    drop(other);
    assert!(eventually(SEEN, || pair(&status(&lab).fast_path, "wan1", "lan").0 == Way::Tc));
}

#[test]
fn conntrack_settings_are_made_and_given_back() {
    let lab = lab();
    let keys = ["tcp_be_liberal", "tcp_timeout_unacknowledged", "checksum"];
    let values = || keys.map(|key| lab.router().sysctl(&format!("net/netfilter/nf_conntrack_{key}")).unwrap());
    let before = lab.host_state();
    let (old, established) =
        (values(), lab.router().sysctl("net/netfilter/nf_conntrack_tcp_timeout_established").unwrap());
    let plan = text(&lab, &["plan", "--wan", &lab.wans(), "--lan", lab.lans()]);
    for line in [
        "sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1\n".to_owned(),
        format!("sysctl -w net.netfilter.nf_conntrack_tcp_timeout_unacknowledged={established}\n"),
        "sysctl -w net.netfilter.nf_conntrack_checksum=0\n".to_owned(),
        "attach pcc_shortcut and pcc_lan_in to ingress and pcc_lan_out to egress of lan\n".to_owned(),
    ] {
        assert!(plan.contains(&line), "no `{line}` in:\n{plan}");
    }
    let mut pcc = run(&lab, &[]);
    assert_eq!(values(), ["1".to_owned(), established, "0".to_owned()]);
    pcc.signal(Signal::TERM);
    assert!(pcc.wait(READY).success(), "{}", pcc.stderr());
    assert_eq!(values(), old);
    assert_eq!(HostState::diff(&before, &lab.host_state()), "");
}

/// The host is looked at again after half a minute, which once left something due for ever.
#[test]
fn the_controller_rests_in_every_mode() {
    const WATCHED: Duration = Duration::from_secs(3);
    let lab = lab();
    for mode in ["off", "tc"] {
        let mut pcc = run(&lab, &["--fast-path", mode]);
        std::thread::sleep(Duration::from_secs(33));
        let before = Usage::of(pcc.id()).busy;
        std::thread::sleep(WATCHED);
        let busy = Usage::of(pcc.id()).busy - before;
        assert!(busy < WATCHED / 4, "{mode}: {busy:?} of {WATCHED:?}");
        pcc.signal(Signal::INT);
        assert!(pcc.wait(READY).success());
    }
}
