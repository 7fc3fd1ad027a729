//! Every table of mirror mode is one that nft and the kernel take, in a network namespace of its own. Needs root.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use pcc_userspace::mirror::names::{Devices, Names};
use pcc_userspace::mirror::netfilter::table;
use pcc_userspace::routeros::dialect::Dialect;
use pcc_userspace::routeros::model::Model;
use pcc_userspace::routeros::{Note, Severity, read};
use proptest::prelude::*;

/// A network namespace that goes with the value.
struct Namespace(String);

impl Namespace {
    fn new(test: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "needs root");
        let name = format!("pcc-nft-{test}-{}", std::process::id());
        assert!(Command::new("ip").args(["netns", "add", &name]).status().unwrap().success());
        Self(name)
    }

    /// Gives `script` to the kernel, not only to nft's own check, and looks at what stands there then.
    fn accepts(&self, script: &str) -> Result<(), String> {
        self.nft(&["-c", "-f", "-"], script)?;
        self.nft(&["-f", "-"], script)?;
        self.nft(&["list", "ruleset"], "").map(drop)
    }

    fn nft(&self, arguments: &[&str], script: &str) -> Result<String, String> {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.0, "nft"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!("{}: {}\n{script}", output.status, String::from_utf8_lossy(&output.stderr)))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

const SETTING: &str = "
/interface pppoe-client add name=pppoe-out1 interface=ether2 disabled=no
/interface list add name=WAN
/interface list member add list=WAN interface=ether1
/interface list member add list=WAN interface=pppoe-out1
/ip firewall address-list add list=local address=10.0.0.0/8
/ip firewall address-list add list=local address=10.1.0.0/16
/ip firewall address-list add list=local address=192.0.2.1-192.0.2.3
/ip firewall address-list add list=\"all of it\" address=0.0.0.0/0
/ip firewall address-list add list=\"all of it\" address=255.255.255.255
/ipv6 firewall address-list add list=local address=2001:db8::/32
/ipv6 firewall address-list add list=local address=::/0
/ip firewall mangle add chain=prerouting action=mark-connection new-connection-mark=\"ISP 1\"
/ip firewall mangle add chain=prerouting action=mark-routing new-routing-mark=r1
/ip firewall mangle add chain=prerouting action=mark-packet new-packet-mark=p1
";

fn made(script: &str, dialect: Dialect) -> (String, Vec<Note>) {
    let model = Model::build(&read(format!("{SETTING}{script}").as_bytes())).model;
    let names = Names::of(&model, &Names::default());
    let fields = names.fields(None).unwrap();
    let map = [("ether1", "wan.100"), ("pppoe-out1", "ppp0"), ("bridge", "br@lan:1"), ("ether3", "et-h_3")];
    let map: BTreeMap<_, _> = map.into_iter().map(|(name, linux)| (name.to_owned(), linux.to_owned())).collect();
    let devices = Devices::of(&model, &map, &BTreeMap::new());
    table("pcc-test", &model, &names, &fields, &devices, dialect, "pcc 1 mirror \"x\"")
}

/// Matchers that all chains take; most can be negated.
const MATCHERS: [&str; 38] = [
    "connection-mark=\"ISP 1\"",
    "connection-mark=no-mark",
    "connection-nat-state=srcnat,dstnat",
    "connection-state=established,related,new,invalid,untracked",
    "connection-state=invalid",
    "dscp=0",
    "dst-address-list=local",
    "dst-address-list=\"all of it\"",
    "dst-address-type=local,broadcast,multicast",
    "dst-address-type=unicast",
    "limit=5,5:packet",
    "limit=100/1m,1:packet",
    "nth=4,4",
    "packet-mark=p1",
    "packet-size=0-65535",
    "packet-size=1500",
    "per-connection-classifier=both-addresses-and-ports:4294967295/3",
    "per-connection-classifier=both-addresses:2/0",
    "per-connection-classifier=both-ports:3/2",
    "per-connection-classifier=src-port:1/0",
    "port=0-65535",
    "port=53,5353,1-100,50-200",
    "dst-port=80",
    "src-port=0,65535",
    "protocol=icmp",
    "protocol=255",
    "protocol=tcp",
    "random=99",
    "routing-mark=r1",
    "routing-mark=main",
    "src-address-list=grey",
    "src-address-type=local",
    "tcp-flags=syn,!ack,!fin",
    "tcp-mss=0",
    "tcp-mss=1301-65535",
    "ttl=equal:1",
    "ttl=less-than:255",
    "icmp-options=3:4",
];

const PLACES: [&str; 8] = [
    "in-interface=bridge",
    "in-interface-list=WAN",
    "ipsec-policy=in,none",
    "src-mac-address=02:00:00:00:00:AB",
    "out-interface=all-ppp",
    "out-interface=ether3",
    "out-interface-list=WAN",
    "ipsec-policy=out,ipsec",
];

const ACTIONS: [&str; 34] = [
    "accept",
    "add-dst-to-address-list address-list=grey address-list-timeout=1w2d3h4m5s",
    "add-src-to-address-list address-list=local",
    "change-dscp new-dscp=63",
    "change-mss new-mss=1360",
    "change-mss new-mss=clamp-to-pmtu",
    "change-mss new-mss=clamp-to-pmtu passthrough=no",
    "change-ttl new-ttl=set:64",
    "change-hop-limit new-hop-limit=set:64",
    "clear-df",
    "drop",
    "dst-nat to-addresses=10.0.0.2",
    "dst-nat to-addresses=10.0.0.2-10.0.0.9 to-ports=80-90",
    "dst-nat to-addresses=fd00::1 to-ports=80",
    "dst-nat to-ports=80",
    "jump jump-target=\"a chain\"",
    "jump jump-target=deep",
    "jump jump-target=forward",
    "log log-prefix=\"it's \\\"here\\\"\"",
    "mark-connection new-connection-mark=\"ISP 1\"",
    "mark-connection new-connection-mark=no-mark passthrough=no",
    "mark-packet new-packet-mark=p1",
    "mark-packet new-packet-mark=no-mark passthrough=no",
    "mark-routing new-routing-mark=main",
    "mark-routing new-routing-mark=r1 passthrough=no",
    "masquerade",
    "masquerade to-ports=1024-65535 randomise-ports=yes",
    "netmap to-addresses=192.0.2.0/24",
    "passthrough",
    "redirect to-ports=53",
    "return",
    "same to-addresses=192.0.2.0/28 same-not-by-dst=yes",
    "src-nat to-addresses=192.0.2.1",
    "src-nat to-addresses=2001:db8::1-2001:db8::9",
];

const CHAINS: [&str; 9] =
    ["input", "forward", "output", "postrouting", "srcnat", "dstnat", "a chain", "deep", "prerouting"];

/// Every matcher and every action in every chain, one at a time, in both polarities and families.
#[test]
fn everything_is_accepted() {
    let mut script = String::new();
    for family in ["ip", "ipv6"] {
        for menu in ["mangle", "nat"] {
            script.push_str(&format!("/{family} firewall {menu}\n"));
            let protocol = if menu == "nat" { " protocol=tcp" } else { "" };
            for chain in CHAINS {
                for matcher in MATCHERS.iter().chain(&PLACES) {
                    script.push_str(&format!("add chain=\"{chain}\" {matcher} comment=\"Zürich \\\"1\\\"\"\n"));
                    script.push_str(&format!("add chain=\"{chain}\" {}\n", matcher.replacen('=', "=!", 1)));
                }
                for action in ACTIONS {
                    script.push_str(&format!("add chain=\"{chain}\" action={action}{protocol}\n"));
                    script.push_str(&format!("add chain=\"{chain}\" action={action} protocol=udp log=yes\n"));
                }
            }
        }
    }
    let namespace = Namespace::new("all");
    for dialect in [Dialect::V6, Dialect::V7] {
        let (text, notes) = made(&script, dialect);
        namespace.accepts(&text).unwrap();
        // Some of it is not possible, but most is.
        let errors = notes.iter().filter(|note| note.severity == Severity::Error).count();
        assert!(text.lines().count() > 2 * errors, "{errors} errors, {} lines", text.lines().count());
    }
}

/// Scripts as people publish them, with every interface mapped.
#[test]
fn whole_scripts_are_accepted() {
    let namespace = Namespace::new("scripts");
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/routeros/fixtures");
    let mut tables = 0;
    for file in std::fs::read_dir(fixtures).unwrap() {
        let path = file.unwrap().path();
        let model = Model::build(&read(&std::fs::read(&path).unwrap())).model;
        let names = Names::of(&model, &Names::default());
        let members = model.members.iter().map(|member| member.interface.clone());
        let interfaces = model.interfaces.iter().map(|interface| interface.name.clone()).chain(members);
        let map = interfaces.enumerate().map(|(at, name)| (name, format!("dev{at}"))).collect();
        let devices = Devices::of(&model, &map, &BTreeMap::new());
        let fields = names.fields(None).unwrap();
        let (text, _) = table("pcc-test", &model, &names, &fields, &devices, Dialect::V7, "pcc 1");
        namespace.accepts(&text).unwrap();
        tables += 1;
    }
    assert!(tables > 5);
}

fn a_rule() -> impl Strategy<Value = String> {
    let matchers =
        prop::collection::vec((prop::sample::select([&MATCHERS[..], &PLACES].concat()), any::<bool>()), 0..5);
    let place = (prop::sample::select(&["ip", "ipv6"][..]), prop::sample::select(&["mangle", "nat"][..]));
    let chain = prop_oneof![prop::sample::select(&CHAINS[..]).prop_map(str::to_owned), "[ -~äö]{1,60}"];
    (place, chain, prop::sample::select(&ACTIONS[..]), matchers, "[ -~ü]{0,140}").prop_map(
        |((family, menu), chain, action, matchers, comment)| {
            let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
            let matchers: Vec<_> = matchers
                .into_iter()
                .map(|(matcher, negated)| if negated { matcher.replacen('=', "=!", 1) } else { matcher.to_owned() })
                .collect();
            let (chain, comment, matchers) = (quoted(&chain), quoted(&comment), matchers.join(" "));
            format!(
                "/{family} firewall {menu} add chain=\"{chain}\" action={action} {matchers} comment=\"{comment}\" \
                 log-prefix=\"{comment}\"\n\
                 /{family} firewall {menu} add chain=forward action=jump jump-target=\"{chain}\"\n"
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_rules_make_a_table_that_nft_refuses(rules in prop::collection::vec(a_rule(), 1..25), v6: bool) {
        let namespace = Namespace::new("any");
        let (text, _) = made(&rules.concat(), if v6 { Dialect::V6 } else { Dialect::V7 });
        prop_assert_eq!(namespace.accepts(&text), Ok(()));
    }
}
