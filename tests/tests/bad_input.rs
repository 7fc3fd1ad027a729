//! One clear error each, with a hint, and nothing changed on the host.

use std::os::unix::fs::PermissionsExt as _;

use tests::lab::{BpfObjects, Defaults, HostState, Lab};

fn lab() -> Lab {
    Lab::builder().defaults(Defaults::All).build()
}

/// Runs `pcc run` with `args` and checks its refusal: every part of `expected` is in it, and a hint.
fn assert_refused(lab: &Lab, args: &[&str], expected: &[&str]) {
    let before = lab.host_state();
    let output = lab.pcc_output(&[&["run"], args].concat());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{args:?}");
    for part in expected.iter().chain(&["error: ", "hint: "]) {
        assert!(text.contains(part), "{args:?}: no `{part}` in\n{text}");
    }
    assert!(!text.contains("panicked"), "{text}");
    assert_eq!(HostState::diff(&before, &lab.host_state()), "", "{args:?}");
    assert_eq!(BpfObjects::attached(lab.router()), BpfObjects::default());
}

#[test]
fn wrong_flags_are_refused() {
    let lab = lab();
    let good = ["--wan", "wan1,wan2", "--lan", "lan"];
    let with = |more: &[&'static str]| [&good[..], more].concat();
    for (args, expected) in [
        (vec!["--wan", "wan1,wan1", "--lan", "lan"], &["wan1"][..]),
        (vec!["--wan", "wan1,lan", "--lan", "lan"], &["lan"]),
        (vec!["--lan", "lan"], &["wan"]),
        (vec!["--wan", "wan1"], &["lan"]),
        (with(&["--weights", "1,2,3"]), &["weights"]),
        (with(&["--weights", "0,0"]), &["weight"]),
        (with(&["--weights", "1,70000"]), &["70000"]),
        (with(&["--hash", "both-addresses_and_ports"]), &["both-addresses_and_ports"]),
        (with(&["--gateway", "wan1=10.9.9.9"]), &["`10.9.9.9` is not on-link on `wan1`", "198.18.1.2/24"]),
        (with(&["--gateway", "wan1=hello"]), &["hello"]),
        (with(&["--gateway", "wan7=198.18.1.1"]), &["wan7"]),
        (with(&["--bypass", "0.0.0.0/0"]), &["0.0.0.0/0"]),
        (with(&["--bypass", "0.0.0.0/1,128.0.0.0/1"]), &["bypass"]),
        (with(&["--bypass", "198.18.0.0/15"]), &["198.18.0.0/15", "198.18.1.1"]),
        (with(&["--mark-mask", "0xf0f0"]), &["0xf0f0"]),
        (with(&["--config", "/nonexistent/pcc.toml"]), &["/nonexistent/pcc.toml"]),
    ] {
        assert_refused(&lab, &args, expected);
    }
}

#[test]
fn a_check_names_the_devices_that_a_start_would_wait_for() {
    let lab = lab();
    let output = lab.pcc_output(&["check", "--wan", "wan1,eth9", "--lan", "lan"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("no interface `eth9`") && text.contains("hint: this host has: lan, wan1, wan2"), "{text}");
}

#[test]
fn wrong_files_are_refused_with_their_line() {
    let lab = lab();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pcc.toml");
    for (text, expected) in [
        ("lan = [\"lan\"\n[[uplink]]\n", &["pcc.toml:"][..]),
        ("lan = [\"lan\"]\nspeed = 3\n[[uplink]]\ndevice = \"wan1\"\n", &["pcc.toml:2", "speed"]),
        ("lan = [\"lan\"]\n[[uplink]]\ndevice = \"wan1\"\nweight = -1\n", &["pcc.toml:4", "weight"]),
        ("lan = [\"lan\"]\n[[uplink]]\ndevice = \"wan1\"\ngateway = \"2001:db8::1\"\n", &["pcc.toml:4", "gateway"]),
    ] {
        std::fs::write(&file, text).unwrap();
        assert_refused(&lab, &["--config", file.to_str().unwrap()], expected);
    }
}

#[test]
fn a_foreign_rule_with_our_bits_is_refused_with_its_text_and_a_whole_mark_is_a_warning() {
    let lab = lab();
    let good = ["--wan", "wan1,wan2", "--lan", "lan"];
    lab.router().ip("rule add pref 1234 fwmark 0x10/0x30 lookup 77");
    assert_refused(&lab, &good, &["fwmark 0x10/0x30", "--mark-mask"]);
    lab.router().ip("rule del pref 1234");
    lab.router().nft(
        "table ip other { chain c { type filter hook prerouting priority mangle; meta mark & 0x3 == 0x1 accept; }; }",
    );
    assert_refused(&lab, &good, &["meta mark & 0x00000003 == 0x00000001", "--mark-mask"]);
    lab.router().nft("delete table ip other");
    lab.router().ip("rule add pref 1234 not fwmark 51820 lookup 51820");
    let plan = lab.pcc_output(&[&["plan"], &good[..]].concat());
    let text = String::from_utf8_lossy(&plan.stderr).into_owned();
    assert!(plan.status.success(), "{text}");
    assert!(text.contains("WARN") && text.contains("fwmark 0xca6c"), "{text}");
}

#[test]
fn the_tables_of_another_instance_are_not_touched() {
    let lab = lab();
    lab.router().ip("route add blackhole default table 20501 metric 9 proto 205");
    assert_refused(&lab, &["--wan", "wan1,wan2", "--lan", "lan"], &["another instance", "table_base"]);
}

#[test]
fn a_wrong_change_of_a_running_instance_changes_nothing() {
    let lab = lab();
    let pcc = lab.pcc(&["run", "--wan", "wan1,wan2", "--lan", "lan"]);
    pcc.wait_for("ready", std::time::Duration::from_secs(10));
    let status = || String::from_utf8_lossy(&lab.pcc_output(&["status", "--json"]).stdout).into_owned();
    let weights =
        |text: &str| text.lines().filter(|line| line.contains("\"weight\"")).map(str::to_owned).collect::<Vec<_>>();
    let before = weights(&status());
    assert_eq!(before.len(), 2);
    for (args, expected) in
        [(["uplink", "eth9", "weight", "3"], "there are: wan1, wan2"), (["uplink", "wan1", "weight", "1001"], "1001")]
    {
        let output = lab.pcc_output(&args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(expected) && text.contains("hint: "), "{text}");
    }
    let usage = lab.pcc_output(&["uplink", "wan1", "weight", "much"]);
    assert_eq!(usage.status.code(), Some(2));
    assert_eq!(weights(&status()), before);
}

/// Without rights and without a BPF file system nothing is changed either.
#[test]
fn a_host_that_cannot_run_it_is_named() {
    let lab = lab();
    let before = lab.host_state();
    // A copy that everybody may run, whatever folder the program under test is in.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("pcc");
    std::fs::copy(tests::lab::process::binary(), &copy).unwrap();
    let arguments = format!("{} run --wan wan1,wan2 --lan lan --instance {}", copy.display(), lab.instance());
    for (wrapper, expected) in [
        (format!("setpriv --reuid 65534 --clear-groups -- {arguments}"), "run as root, or with CAP_NET_ADMIN"),
        (
            format!("unshare -m -- sh -c 'mount -t tmpfs none /sys/fs/bpf && {arguments}'"),
            "mount -t bpf bpf /sys/fs/bpf",
        ),
    ] {
        let output = lab.router().command("sh", ["-c", &wrapper]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("error: ") && text.contains("hint: ") && text.contains(expected), "{text}");
        assert_eq!(HostState::diff(&before, &lab.host_state()), "", "{wrapper}");
    }
}

/// A kernel without one of the expressions of our table: nft gives its answer, and the steps before are undone.
#[test]
fn a_missing_feature_is_named_and_undone() {
    let lab = lab();
    let before = lab.host_state();
    let folder = tempfile::tempdir().unwrap();
    let nft = folder.path().join("nft");
    let real = lab.router().exec("sh", ["-c", "command -v nft"]);
    let script = format!(
        "#!/bin/sh\ninput=$(cat)\ncase \"$input\" in *'socket wildcard'*)\n\
         echo 'Error: Could not process rule: No such file or directory' >&2; exit 1;; esac\n\
         printf '%s' \"$input\" | exec {} \"$@\"\n",
        real.trim()
    );
    std::fs::write(&nft, script).unwrap();
    std::fs::set_permissions(&nft, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let mut pcc = lab.pcc_with(&["run", "--wan", "wan1,wan2", "--lan", "lan"], &[("PATH", &path)]);
    assert_eq!(pcc.wait(tests::lab::PATIENCE).code(), Some(1));
    let text = pcc.stderr();
    assert!(text.contains("Could not process rule") && text.contains("hint: pcc needs nftables"), "{text}");
    assert_eq!(HostState::diff(&before, &lab.host_state()), "");
    std::fs::remove_file(&nft).unwrap();
    // The lab itself needs one program.
    let nsenter = lab.router().exec("sh", ["-c", "command -v nsenter"]);
    std::os::unix::fs::symlink(nsenter.trim(), folder.path().join("nsenter")).unwrap();
    let nowhere = folder.path().display().to_string();
    let mut pcc = lab.pcc_with(&["run", "--wan", "wan1,wan2", "--lan", "lan"], &[("PATH", &nowhere)]);
    assert_eq!(pcc.wait(tests::lab::PATIENCE).code(), Some(1));
    assert!(pcc.stderr().contains("`nft` is not installed\nhint: apt install nftables"), "{}", pcc.stderr());
    assert_eq!(HostState::diff(&before, &lab.host_state()), "");
}
