//! `pcc doctor` on a healthy router, and on one with defects that are really there.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use pcc_ebpf::abi::ABI;
use rustix::process::Signal;
use serde_json::Value;
use tests::lab::process::binary;
use tests::lab::settings::READY;
use tests::lab::tracked::track;
use tests::lab::{Builder, Defaults, Lab, PATIENCE, eventually};

const FLAGS: [&str; 4] = ["--wan", "wan1,wan2", "--lan", "lan"];

/// A router as its administrator should have prepared it.
fn healthy(builder: Builder) -> Lab {
    let lab = builder.build();
    lab.router().set_sysctls(&[
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/netfilter/nf_conntrack_acct", "1"),
    ]);
    lab
}

fn lab() -> Lab {
    healthy(Lab::builder().defaults(Defaults::All))
}

/// What `pcc doctor --json` said.
#[derive(Debug)]
struct Report {
    success: bool,
    document: Value,
}

impl Report {
    fn of(output: &Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout);
        let document = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error}: {text}\n{}", String::from_utf8_lossy(&output.stderr)));
        Self { success: output.status.success(), document }
    }

    fn findings(&self) -> &[Value] {
        self.document["findings"].as_array().map_or(&[], Vec::as_slice)
    }

    /// `id subject` of each finding.
    fn found(&self) -> BTreeSet<String> {
        let name = |it: &Value| format!("{} {}", text(it, "id"), text(it, "subject"));
        self.findings().iter().map(name).collect()
    }

    /// The commands that it advises, in order, each once.
    fn commands(&self) -> Vec<String> {
        let mut commands: Vec<String> =
            self.findings().iter().filter_map(|it| it["command"].as_str()).map(str::to_owned).collect();
        commands.dedup();
        commands
    }

    fn assert_found(&self, expected: &[&str]) {
        let expected: BTreeSet<String> = expected.iter().map(|it| (*it).to_owned()).collect();
        assert_eq!(self.found(), expected, "{:#}", self.document);
        let problems = self.findings().iter().any(|it| it["severity"] == "problem");
        assert_eq!(self.success, !problems, "the exit status tells of problems, not of advice");
        assert_eq!(self.document["skipped"].as_array().map(Vec::len), Some(0), "{:#}", self.document);
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn doctor(lab: &Lab, flags: &[&str]) -> Report {
    Report::of(&lab.pcc_output(&[&["doctor", "--json"], flags].concat()))
}

/// Runs what a finding advises, in the router.
fn obey(lab: &Lab, command: &str) {
    let output = shell(lab, command).output().unwrap_or_else(|error| panic!("{command}: {error}"));
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A shell in the router that finds `pcc`.
fn shell(lab: &Lab, script: &str) -> Command {
    let mut command = lab.router().command("sh", ["-c", script]);
    let path = std::env::var("PATH").unwrap_or_default();
    let folder = binary().parent().map(|it| it.display().to_string()).unwrap_or_default();
    command.env("PATH", format!("{folder}:{path}"));
    command
}

/// Plants a defect, expects these findings and no other, obeys, and expects a healthy router again.
fn assert_cured(lab: &Lab, plant: &str, expected: &[&str]) {
    assert_cured_with(lab, &FLAGS, plant, expected);
}

fn assert_cured_with(lab: &Lab, flags: &[&str], plant: &str, expected: &[&str]) {
    obey(lab, plant);
    let report = doctor(lab, flags);
    report.assert_found(expected);
    assert!(!report.commands().is_empty(), "no command: {:#}", report.document);
    for command in report.commands() {
        obey(lab, &command);
    }
    doctor(lab, flags).assert_found(&[]);
}

/// Plants a defect that no command removes: expects these findings and this part of the advice, and lets `undo` remove it.
fn assert_told(lab: &Lab, flags: &[&str], plant: &str, expected: &[&str], advice: &str, undo: &str) {
    obey(lab, plant);
    let report = doctor(lab, flags);
    report.assert_found(expected);
    let told = report.findings().iter().any(|it| text(it, "advice").contains(advice));
    assert!(told, "`{advice}` is not in {:#}", report.document);
    obey(lab, undo);
    doctor(lab, &FLAGS).assert_found(&[]);
}

#[test]
fn nothing_is_found_on_a_healthy_router_before_and_while_pcc_runs() {
    let lab = lab();
    let report = doctor(&lab, &FLAGS);
    report.assert_found(&[]);
    assert_eq!(report.document["devices"].as_array().map(Vec::len), Some(3));
    assert_eq!(report.document["fast_path"].as_array().map(Vec::len), Some(4), "{:#}", report.document);
    let mut pcc = lab.pcc(&[&["run"][..], &FLAGS].concat());
    pcc.wait_for("ready", READY);
    doctor(&lab, &FLAGS).assert_found(&[]);
    doctor(&lab, &[]).assert_found(&[]);
    pcc.signal(Signal::TERM);
    assert!(pcc.wait(READY).success(), "{}", pcc.stderr());
    doctor(&lab, &FLAGS).assert_found(&[]);
}

#[test]
fn text_says_what_to_do_and_the_status_whether_something_is_wrong() {
    let lab = lab();
    let run = |flags: &[&str]| {
        let output = lab.pcc_output(&[&["doctor"], flags].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, text) = run(&FLAGS);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("0 problems, 0 advice"), "{text}");
    assert!(text.contains("fast path: lan → wan1"), "{text}");
    lab.router().set_sysctls(&[("net/netfilter/nf_conntrack_acct", "0")]);
    let (code, text) = run(&FLAGS);
    assert_eq!(code, Some(0), "advice alone is no failure: {text}");
    assert!(
        text.contains("advice[conntrack-acct-off]") && text.contains("$ sysctl -w net.netfilter.nf_conntrack_acct=1"),
        "{text}"
    );
    lab.router().ip("link set wan2 down");
    let (code, text) = run(&FLAGS);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.starts_with("problem[device-down] wan2:"), "the worst first: {text}");
    assert_eq!(run(&["--wan", "wan1"]).0, Some(1), "a configuration without LAN");
    assert_eq!(run(&["--wan"]).0, Some(2), "wrong usage");
}

#[test]
fn kernel_parameters() {
    let lab = lab();
    let cured = |plant: &str, expected: &[&str]| assert_cured(&lab, plant, expected);
    cured("sysctl -w net.ipv4.ip_forward=0", &["forwarding-off IPv4"]);
    cured("sysctl -w net.ipv6.conf.all.forwarding=0", &["forwarding-off IPv6"]);
    cured("sysctl -w net.ipv4.conf.lan.forwarding=0", &["forwarding-off lan"]);
    cured("sysctl -w net.ipv4.conf.wan2.rp_filter=1", &["rp-filter-strict wan2"]);
    cured(
        "sysctl -w net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.wan2.rp_filter=0",
        &["rp-filter-strict wan1", "rp-filter-strict wan2"],
    );
    cured(
        "sysctl -w net.ipv4.conf.all.accept_redirects=1 net.ipv4.conf.wan1.accept_redirects=1 \
         net.ipv4.conf.wan2.accept_redirects=0",
        &["redirects-accepted wan1"],
    );
    cured("sysctl -w net.netfilter.nf_conntrack_acct=0", &["conntrack-acct-off conntrack"]);
    cured("sysctl -w net.netfilter.nf_conntrack_tcp_loose=0", &["conntrack-loose-off conntrack"]);
}

#[test]
fn marks_of_others() {
    let lab = lab();
    for (plant, expected, undo) in [
        ("ip rule add pref 900 fwmark 0x40/0xf0 lookup main", "mark-rule ip rule", "ip rule del pref 900"),
        (
            "nft 'add table inet fw; add chain inet fw pre { type filter hook prerouting priority -150; }; \
             add rule inet fw pre meta mark set meta mark | 0x10'",
            "mark-nft nftables table inet fw",
            "nft delete table inet fw",
        ),
        (
            "iptables-legacy -t mangle -A PREROUTING -p icmp -j MARK --set-xmark 0x20/0x20",
            "mark-iptables iptables table mangle",
            "iptables-legacy -t mangle -F",
        ),
    ] {
        obey(&lab, plant);
        let report = doctor(&lab, &FLAGS);
        report.assert_found(&[expected]);
        let advice = text(&report.findings()[0], "advice");
        let mask = advice.split("--mark-mask ").nth(1).map(|rest| rest.trim_end_matches('`')).unwrap_or_default();
        let other = [&FLAGS[..], &["--mark-mask", mask]].concat();
        doctor(&lab, &other).assert_found(&[]);
        obey(&lab, undo);
        doctor(&lab, &FLAGS).assert_found(&[]);
    }
    let whole = "ip rule add pref 900 not fwmark 0xca6c lookup 51820";
    assert_told(&lab, &FLAGS, whole, &["mark-whole ip rule"], "under a mask", "ip rule del pref 900");
}

#[test]
fn firewalls() {
    let lab = lab();
    let cured = |plant: &str, expected: &[&str]| assert_cured(&lab, plant, expected);
    cured(
        "nft 'add table inet fw; add chain inet fw f { type filter hook forward priority 0; policy drop; }'",
        &["forward-drops nftables table inet fw"],
    );
    obey(&lab, "nft delete table inet fw");
    cured(
        "iptables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -N DOCKER; iptables -A FORWARD -j DOCKER-USER; \
         iptables -A FORWARD -o docker0 -j DOCKER",
        &["docker-drops lan"],
    );
    obey(&lab, "iptables -P FORWARD ACCEPT; iptables -F; iptables -X");
    assert_told(
        &lab,
        &FLAGS,
        "nft 'add table inet fw; add chain inet fw f { type filter hook forward priority 0; }; add rule inet fw f limit rate over 900 mbytes/second drop'",
        &["no-shortcuts fast path"],
        "--fast-path off",
        "nft delete table inet fw",
    );
}

#[test]
fn routes_and_next_hops() {
    let lab = healthy(Lab::builder().defaults(Defaults::First));
    let gateways = lab.gateways();
    let flags: Vec<&str> = FLAGS.into_iter().chain(gateways.iter().map(String::as_str)).collect();
    let report = doctor(&lab, &FLAGS);
    report.assert_found(&["gateway-missing wan2", "ra-ignored wan2"]);
    assert!(report.findings().iter().any(|it| text(it, "advice").contains("`--gateway wan2=ADDRESS`")), "{report:?}");
    doctor(&lab, &flags).assert_found(&[]);
    let [first, second] = [1, 2].map(|number| lab.isp(number).link);

    let stray = [&flags[..], &["--gateway", "wan2=203.0.113.1"]].concat();
    let stray: Vec<&str> = stray.into_iter().filter(|it| !it.ends_with(&second.gateway4.to_string())).collect();
    let report = doctor(&lab, &stray);
    report.assert_found(&["gateway-off-link wan2"]);
    assert!(text(&report.findings()[0], "advice").contains(&second.router4.to_string()), "{report:?}");

    let cured = |plant: &str, expected: &[&str]| assert_cured_with(&lab, &flags, plant, expected);
    cured("ip route add default via 192.0.2.2 dev lan metric 5", &["default-elsewhere lan"]);
    let hops = format!("nexthop via {} dev wan1 nexthop via {} dev wan2", first.gateway4, second.gateway4);
    cured(&format!("ip route add default metric 300 {hops}"), &["default-multipath table main"]);
    cured(
        &format!(
            "ip route add default via {} table 77; ip rule add pref 800 from 192.0.2.0/24 lookup 77",
            second.gateway4
        ),
        &["rule-before ip rule"],
    );
    let taken = "ip rule add pref 32501 lookup 20501 protocol 205";
    obey(&lab, taken);
    let report = doctor(&lab, &flags);
    report.assert_found(&["tables-taken ip -4 rule del pref 32501 lookup 20501 protocol 205"]);
    assert!(text(&report.findings()[0], "advice").contains("table_base"), "{report:?}");
    obey(&lab, "ip rule del pref 32501");

    let same = |number: u32, gateway| {
        format!("ip neigh replace {gateway} lladdr 02:00:00:00:00:77 nud permanent dev wan{number}; ")
    };
    obey(&lab, &(same(1, first.gateway4) + &same(2, second.gateway4)));
    let report = doctor(&lab, &flags);
    report.assert_found(&["gateway-shared wan1, wan2"]);
    assert!(text(&report.findings()[0], "what").contains("02:00:00:00:00:77"), "{report:?}");
}

#[test]
fn two_modems_with_the_same_addresses() {
    let lab = healthy(Lab::builder().defaults(Defaults::All).same_gateway());
    let report = doctor(&lab, &FLAGS);
    report.assert_found(&["gateway-shared wan1, wan2", "networks-overlap wan1, wan2"]);
    assert!(report.findings().iter().all(|it| it["severity"] == "advice"), "pcc balances over them: {report:?}");
    lab.router().set_sysctls(&[("net/ipv4/conf/wan2/rp_filter", "1")]);
    let report = doctor(&lab, &FLAGS);
    report.assert_found(&["gateway-shared wan1, wan2", "networks-overlap wan1, wan2", "rp-filter-strict wan2"]);
    assert_eq!(report.findings()[0]["severity"], "problem", "what comes in by wan2 is dropped");
}

#[test]
fn devices() {
    let lab = lab();
    let isp = lab.isp(2).link;
    let cured = |plant: &str, expected: &[&str]| assert_cured(&lab, plant, expected);
    cured("ip link add br0 type bridge; ip link set br0 up; ip link set wan2 master br0", &["device-enslaved wan2"]);
    obey(&lab, "ip link del br0");
    cured(&format!("ip address add {}/32 dev wan1", isp.router4), &["address-shared wan1, wan2"]);
    assert_told(
        &lab,
        &FLAGS,
        "ip address add 198.18.0.1/15 dev lan",
        &["networks-overlap wan1, lan", "networks-overlap wan2, lan"],
        "renumber the LAN",
        "ip address del 198.18.0.1/15 dev lan",
    );
    assert_told(&lab, &["--wan", "wan1,wan2,wan9", "--lan", "lan"], "true", &["device-missing wan9"], "wan1", "true");
    let bridge = "ip link add br1 type bridge; ip link set br1 up; ip address add 198.51.100.1/25 dev br1; \
                  ip link add port1 up master br1 type veth peer name end1; ip link set end1 up; \
                  sysctl -w net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1; sleep 1";
    let flags = ["--wan", "wan1,wan2", "--lan", "br1"];
    assert_cured_with(&lab, &flags, bridge, &["bridge-netfilter br1"]);
    obey(&lab, "ip link del br1; ip link del port1");

    // What follows spoils more than a command brings back.
    lab.router().ip("link set wan1 mtu 1400");
    let report = doctor(&lab, &FLAGS);
    report.assert_found(&["mtu-unclamped wan1"]);
    assert!(text(&report.findings()[0], "advice").contains("`--mss wan1=clamp`"), "{report:?}");
    doctor(&lab, &[&FLAGS[..], &["--mss", "wan1=clamp"]].concat()).assert_found(&[]);
    lab.router().ip("link set wan1 mtu 1500");

    lab.router().ip("link set wan2 mtu 1200");
    let report = doctor(&lab, &FLAGS);
    report.assert_found(&["mtu-too-small wan2", "mtu-unclamped wan2"]);
    report.commands().iter().for_each(|command| obey(&lab, command));
    let report = doctor(&lab, &FLAGS);
    assert!(!report.found().iter().any(|it| it.starts_with("mtu")), "{report:?}");
}

#[test]
fn devices_that_are_bare_or_down() {
    let lab = lab();
    lab.router().ip("address flush dev lan");
    doctor(&lab, &FLAGS).assert_found(&["lan-without-address lan"]);
    lab.router().ip("address add 192.0.2.1/24 dev lan");
    doctor(&lab, &FLAGS).assert_found(&[]);
    lab.carrier(2, false);
    assert!(eventually(PATIENCE, || doctor(&lab, &FLAGS).found().contains("device-down wan2")));
    lab.carrier(2, true);
    assert!(eventually(PATIENCE, || !doctor(&lab, &FLAGS).found().contains("device-down wan2")));
    lab.router().ip("address flush dev wan2");
    let report = doctor(&lab, &FLAGS);
    assert!(report.found().contains("uplink-without-address wan2"), "{report:?}");
    assert!(!report.success);
    lab.router().ip("link set wan2 down");
    let report = doctor(&lab, &FLAGS);
    assert!(report.commands().contains(&"ip link set wan2 up".to_owned()), "{report:?}");
}

/// `pcc doctor` behind `plant`, in a mount namespace of its own.
fn elsewhere(lab: &Lab, plant: &str) -> Report {
    let script = format!("({plant}) >&2; pcc doctor --json --instance {} {}", lab.instance(), FLAGS.join(" "));
    let mut command = shell(lab, "exec unshare -m sh -c \"$SCRIPT\"");
    Report::of(&command.env("SCRIPT", script).output().expect("unshare"))
}

#[test]
fn what_the_kernel_and_the_host_lack() {
    let lab = lab();
    for (plant, expected) in [
        ("mount -t tmpfs none /sys/fs/bpf", "bpffs-missing /sys/fs/bpf"),
        ("mount -t tmpfs none /sys/kernel/btf", "btf-missing /sys/kernel/btf/vmlinux"),
        (
            "for it in $(awk '$3 == \"cgroup2\" {print $2}' /proc/self/mounts); do umount -l $it; done",
            "cgroup2-missing cgroup2",
        ),
    ] {
        let report = elsewhere(&lab, plant);
        report.assert_found(&[expected]);
        match report.commands().first() {
            Some(command) => elsewhere(&lab, &format!("{plant}; {command}")).assert_found(&[]),
            None => assert!(text(&report.findings()[0], "advice").contains("CONFIG_DEBUG_INFO_BTF"), "{report:?}"),
        }
    }
    // The command made it for its mount.
    let _ = fs::remove_dir("/run/cgroup2");
    let pcc = binary().display().to_string();
    let args = ["PATH=/nonexistent", &pcc, "doctor", "--json", "--instance", lab.instance()];
    let report = Report::of(&lab.router().command("env", args.into_iter().chain(FLAGS)).output().expect("env"));
    assert_eq!(report.found(), ["tool-missing nft".to_owned()].into(), "{report:?}");
    assert_eq!(report.commands(), ["apt install nftables"]);
    assert!(!report.success && report.document["skipped"].to_string().contains("mark-nft"), "{report:?}");
}

#[test]
fn remains_of_other_runs() {
    let lab = lab();
    let pins = PathBuf::from("/sys/fs/bpf/pcc").join(lab.instance());
    let stale = pins.join((ABI + 1).to_string());
    let plant = format!(
        "mkdir -p {0}; bpftool map create {0}/pcc_flows type array key 4 value 4 entries 1 name pcc_flows",
        stale.display()
    );
    assert_cured(&lab, &plant, &[&format!("stale-pins {}", stale.display())]);
    assert!(!pins.exists());

    let mut pcc = lab.pcc(&[&["run"][..], &FLAGS].concat());
    pcc.wait_for("ready", READY);
    pcc.signal(Signal::KILL);
    pcc.wait(READY);
    let gone = format!("controller-gone {}", lab.instance());
    let report = doctor(&lab, &FLAGS);
    report.assert_found(&[&gone]);
    drop(pcc);
    let journal = format!("/run/pcc/{}/journal.json", lab.instance());
    let whole = fs::read(&journal).expect("a journal");
    fs::write(&journal, "{").expect("a damaged journal");
    let report_damaged = doctor(&lab, &FLAGS);
    report_damaged.assert_found(&[&format!("journal-damaged {journal}")]);
    fs::write(&journal, whole).expect("the journal");
    report.commands().iter().for_each(|command| obey(&lab, command));
    doctor(&lab, &FLAGS).assert_found(&[]);
}

/// A program of this name in the router.
struct StandIn {
    child: Child,
    _folder: tempfile::TempDir,
}

impl StandIn {
    fn start(lab: &Lab, name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join(name);
        fs::copy("/bin/sleep", &program).expect("a copy of sleep");
        let child = lab.router().command(program, ["600"]).stdin(Stdio::null()).spawn().expect("a program");
        // nsenter becomes the program.
        let comm = format!("/proc/{}/comm", child.id());
        assert!(eventually(PATIENCE, || fs::read_to_string(&comm).is_ok_and(|it| name.starts_with(it.trim_end()))));
        Self { child, _folder: folder }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn programs_that_manage_routes_as_well() {
    let lab = lab();
    for (name, expected, severity) in
        [("keepalived", "keepalived keepalived", "advice"), ("mwan3track", "mwan3 mwan3track", "problem")]
    {
        let program = StandIn::start(&lab, name);
        let report = doctor(&lab, &FLAGS);
        report.assert_found(&[expected]);
        assert_eq!(report.findings()[0]["severity"], severity);
        drop(program);
        doctor(&lab, &FLAGS).assert_found(&[]);
    }
    let _networkd = StandIn::start(&lab, "systemd-networkd");
    // As if this machine had no settings of its own.
    let bare = "mkdir -p /etc/systemd && mount -t tmpfs none /etc/systemd";
    let report = elsewhere(&lab, bare);
    report.assert_found(&["networkd systemd-networkd"]);
    let commands = report.commands();
    let told = |more: &str| elsewhere(&lab, &format!("{bare} && {} && {more}", commands[0]));
    told("true").assert_found(&[]);
    told("printf '[Network]\\nManageForeignRoutes=yes\\n' > /etc/systemd/networkd.conf.d/zz.conf")
        .assert_found(&["networkd systemd-networkd"]);
}

#[test]
fn a_conntrack_table_that_is_nearly_full() {
    let lab = lab();
    let most: usize =
        lab.router().sysctl("net/netfilter/nf_conntrack_max").expect("conntrack").parse().expect("a number");
    let fill = |numbers| track(lab.router(), numbers, 0);
    fill(0..most * 70 / 100);
    doctor(&lab, &FLAGS).assert_found(&[]);
    fill(most * 70 / 100..most * 85 / 100);
    let report = doctor(&lab, &FLAGS);
    report.assert_found(&["conntrack-full conntrack"]);
    // The limit is that of the whole machine, so it stays.
    assert_eq!(report.commands(), [format!("sysctl -w net.netfilter.nf_conntrack_max={}", 2 * most)]);
    lab.router().exec("conntrack", ["-F"]);
    doctor(&lab, &FLAGS).assert_found(&[]);
}

#[test]
fn without_rights_it_says_what_it_could_not_see() {
    let lab = lab();
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("a folder for all");
    let program = folder.path().join("pcc");
    fs::copy(binary(), &program).expect("a copy of pcc");
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"].map(str::to_owned);
    let run = |more: &[&str]| {
        let own = [program.display().to_string(), "doctor".into(), "--instance".into(), lab.instance().into()];
        let args = nobody.iter().cloned().chain(own).chain(more.iter().chain(&FLAGS).map(|it| (*it).to_owned()));
        lab.router().command("setpriv", args).output().expect("setpriv")
    };
    let report = Report::of(&run(&["--json"]));
    assert_eq!(report.found(), BTreeSet::new(), "{:#}", report.document);
    assert!(report.success);
    let unseen = report.document["unseen"].as_array().map_or(0, Vec::len);
    assert!(unseen >= 3, "{:#}", report.document);
    assert!(report.document["skipped"].to_string().contains("mark-nft"), "{:#}", report.document);
    lab.router().set_sysctls(&[("net/ipv4/conf/lan/forwarding", "0")]);
    let text = String::from_utf8_lossy(&run(&[]).stdout).into_owned();
    assert!(text.contains("problem[forwarding-off] lan") && text.contains("not seen: "), "{text}");
}

#[test]
fn a_routeros_script_has_its_devices_and_tables_looked_at() {
    let lab = healthy(Lab::builder().without_ipv6().defaults(Defaults::All));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../pcc-userspace/examples/dual-wan.rsc");
    let flags = |map| ["--config", script, "--map", map];
    let here = flags("ether1=wan1,cable=wan2,lan=lan");
    doctor(&lab, &here).assert_found(&[]);
    doctor(&lab, &flags("ether1=wan1,cable=wan9,lan=lan")).assert_found(&["device-missing wan9"]);
    let output = lab.pcc_output(&[&["doctor"], &flags("ether1=wan1,lan=lan")[..]].concat());
    assert!(String::from_utf8_lossy(&output.stderr).contains("hint: "), "{output:?}");
    assert_eq!(output.status.code(), Some(1), "an interface has no device: {output:?}");
}
