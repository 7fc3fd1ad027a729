//! Rules as written in TOML, and every mistake in them.

use ipnet::IpNet;
use pcc_ebpf::classify::HashFields;

use super::*;
use crate::config::file::Source;
use crate::config::flags::ConfigFlags;
use crate::config::{Config, Mss};
use crate::problem::Problems;

/// Nine lines; uplink 1 is called `fibre`.
const HEAD: &str = "lan = [\"lan\", \"guest\"]\n\
    [lists]\noffice = [\"10.0.0.0/9\", \"10.128.0.0/9\", \"2001:db8::/32\"]\nvoip = \"192.0.2.7\"\n\
    [[uplink]]\ndevice = \"eth0\"\nname = \"fibre\"\n[[uplink]]\ndevice = \"eth1\"\n";

fn config(more: &str) -> Result<Config, Problems> {
    Config::build(&ConfigFlags::default(), Source { name: "pcc.toml", text: &format!("{HEAD}{more}\n") })
}

fn rules(more: &str) -> Vec<Rule> {
    config(more).unwrap_or_else(|error| panic!("{error}")).rules
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn policy(rule: &Rule) -> &Policy {
    let Decision::Policy(policy) = &rule.decision else { panic!("{rule:?}") };
    policy
}

#[test]
fn everything_that_can_be_written() {
    let rules = rules(
        r#"
[[rule]]
name = "calls"
source = ["@office", "!10.1.0.0/16", "192.0.2.9"]
destination = "!@voip"
source_port = 5060
destination_port = [5060, "8000-8100", "!8080"]
protocol = ["udp", 6]
interface = "guest"
use = ["eth1", "fibre:3"]
hash = "src-address"
sticky = { by = "both-addresses", lifetime = "10m" }
[[rule]]
destination = "2001:db8:7::/48"
use = "main"
[[rule]]
protocol = "!tcp"
use = "fibre"
[[rule]]
use = "all"
sticky = { by = "src-address" }
"#,
    );
    let [calls, main, fibre, all] = rules.as_slice() else { panic!("{rules:?}") };
    assert_eq!(calls.name.as_deref(), Some("calls"));
    assert_eq!(calls.source.any, nets(&["10.0.0.0/8", "192.0.2.9/32", "2001:db8::/32"]));
    assert_eq!(calls.source.none, nets(&["10.1.0.0/16"]));
    assert_eq!(calls.destination, Condition { any: vec![], none: nets(&["192.0.2.7/32"]) });
    assert_eq!(calls.source_ports.any, [5060..=5060]);
    assert_eq!(calls.destination_ports, Condition { any: vec![5060..=5060, 8000..=8100], none: vec![8080..=8080] });
    assert_eq!((&*calls.protocols.any, &*calls.interfaces.any), (&[17, 6][..], &[1][..]));
    let sticky = Sticky { by: HashFields::BOTH_ADDRESSES, lifetime: Some(Duration::from_secs(600)) };
    let hash = HashFields::parse("src-address").unwrap();
    let members = Members::Group(vec![(0, 3), (1, 1)]);
    assert_eq!(*policy(calls), Policy { members, hash, sticky: Some(sticky) });
    assert_eq!((&main.decision, main.matches_everything()), (&Decision::Main, false));
    assert_eq!(fibre.protocols.none, [6]);
    assert_eq!(*policy(fibre), Policy { members: Members::Group(vec![(0, 1)]), hash: Config::HASH, sticky: None });
    let sticky = Some(Sticky { by: hash, lifetime: None });
    assert_eq!(*policy(all), Policy { sticky, ..Policy::default_of(Config::HASH) });
    assert!(all.matches_everything());
}

#[test]
fn the_documented_rules_are_accepted() {
    let readme = include_str!("../../../../README.md");
    let (_, rest) = readme.split_once("```toml\n[lists]").unwrap();
    let rules = rest.split("```").next().unwrap();
    let text = format!(
        "lan = [\"eth2\", \"br-guest\"]\n[[uplink]]\ndevice = \"eth0\"\nname = \"fibre\"\nmss = \"clamp\"\n\
         [[uplink]]\ndevice = \"ppp0\"\nname = \"cable\"\n[lists]{rules}"
    );
    let config = Config::build(&ConfigFlags::default(), Source { name: "README.md", text: &text });
    assert_eq!(config.unwrap_or_else(|error| panic!("{error}")).rules.len(), 3);
}

#[test]
fn segments_are_clamped_by_word_or_number() {
    for (text, wanted) in [("\"clamp\"", Mss::Clamp), ("1400", Mss::Bytes(1400)), ("\"536\"", Mss::Bytes(536))] {
        let config = config(&format!("mss = {text}")).unwrap();
        assert_eq!((config.uplinks[0].mss, config.uplinks[1].mss), (None, Some(wanted)));
    }
    let assignment = |value: &str| format!("fibre={value}").parse().unwrap();
    let flags = |value| ConfigFlags { mss: vec![assignment(value)], ..ConfigFlags::default() };
    let build = |value| Config::build(&flags(value), Source { name: "pcc.toml", text: HEAD });
    assert_eq!(build("1400").unwrap().uplinks[0].mss, Some(Mss::Bytes(1400)));
    assert_eq!(build("clamped").unwrap_err().0[0].message, "`--mss`: `clamped` is no size of a TCP segment");
}

#[test]
fn every_mistake_is_named_with_its_line() {
    for (rule, wanted) in [
        ("use = \"fiber\"", "pcc.toml:11: `use`: no uplink `fiber`"),
        ("use = []", "pcc.toml:11: `use`: no uplink"),
        ("use = [\"fibre\",\n\"eth0:2\"]", "pcc.toml:12: `use`: `eth0` is there twice"),
        ("use = [\"fibre\", \"eth1:0\"]", "pcc.toml:11: `use`: `0` is no weight"),
        ("use = [\"fibre\", \"main\"]", "pcc.toml:11: `use`: no uplink `main`"),
        ("source = 1", "pcc.toml:10: `[[rule]]`: missing field `use`"),
        ("use = \"main\"\nsource = []", "pcc.toml:12: `source`: the list is empty"),
        (
            "use = \"main\"\nsource = [\"10.0.0.0/8\",\n\"10.0.0.1/8\"]",
            "pcc.toml:13: `source`: `10.0.0.1/8` has bits behind",
        ),
        ("use = \"main\"\nsource = 10", "pcc.toml:12: `source`: `10` is no prefix"),
        ("use = \"main\"\ndestination = \"!@home\"", "pcc.toml:12: `destination`: no list `home`"),
        ("use = \"main\"\ndestination = \"office\"", "pcc.toml:12: `destination`: `office` is no prefix"),
        ("use = \"main\"\nsource_port = 65536", "pcc.toml:12: `source_port`: `65536` is no port"),
        ("use = \"main\"\ndestination_port = \"9-8\"", "pcc.toml:12: `destination_port`: `9-8` is no port"),
        (
            "use = \"main\"\ndestination_port = 1\nprotocol = \"icmp\"",
            "pcc.toml:12: `destination_port`: the rule's protocols",
        ),
        ("use = \"main\"\nprotocol = \"tpc\"", "pcc.toml:12: `protocol`: `tpc` is no protocol"),
        ("use = \"main\"\ninterface = \"eth0\"", "pcc.toml:12: `interface`: `eth0` is no LAN device"),
        ("use = \"main\"\nhash = \"src-address\"", "pcc.toml:12: `hash`: there is nothing to choose"),
        ("use = \"all\"\nhash = \"source\"", "pcc.toml:12: `hash`: `source` names no set of fields"),
        ("use = \"fibre\"\nsticky = { by = \"src-address\" }", "pcc.toml:12: `sticky`: there is nothing to choose"),
        ("use = \"all\"\nsticky = { by = \"x\" }", "pcc.toml:12: `by`: `x` names no set of fields"),
        (
            "use = \"all\"\nsticky = { by = \"src-address\", lifetime = \"9ms\" }",
            "pcc.toml:12: `lifetime`: `9ms` is out of range",
        ),
        ("use = \"all\"\nsticky = { }", "pcc.toml:12: `sticky = { }`: missing field `by`"),
        ("use = \"main\"\nlist = \"office\"", "pcc.toml:12: `list = \"office\"`: unknown field `list`"),
        (
            "use = \"main\"\nsource = { a = 1 }",
            "pcc.toml:12: `source = { a = 1 }`: invalid type: map, expected a string, a number or a list",
        ),
        (
            "use = \"main\"\nsource = \"10.0.0.1\"\ndestination = \"::1\"",
            "pcc.toml:11: `use`: this rule can never match",
        ),
        (
            "name = \"x\"\nuse = \"main\"\nsource = [\"!0.0.0.0/0\", \"10.0.0.1\"]",
            "pcc.toml:12: `use`: rule `x` can never match",
        ),
        ("use = \"all\"\n[[rule]]\nuse = \"main\"", "pcc.toml:13: `use`: this rule never decides"),
    ] {
        let Problems(problems) = config(&format!("[[rule]]\n{rule}")).expect_err(wanted);
        assert!(problems[0].message.starts_with(wanted), "{} is not {wanted}", problems[0].message);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(!problems[0].hint.is_empty());
    }
    for (more, wanted) in [
        ("mss = 535", "pcc.toml:10: `mss`: `535` is no size"),
        ("mss = [1400]", "pcc.toml:10: `mss = [1400]`: invalid type: sequence, expected a string or a number"),
        ("name = \"main\"\n[[rule]]\nuse = \"main\"", "pcc.toml:12: `use`: `main` is an uplink too"),
    ] {
        let Problems(problems) = config(more).expect_err(wanted);
        assert!(problems[0].message.starts_with(wanted), "{} is not {wanted}", problems[0].message);
    }
    for (lists, wanted) in [
        ("empty = []", "pcc.toml:2: `empty`: the list is empty"),
        ("\"a b\" = \"10.0.0.1\"", "pcc.toml:2: `lists`: `a b` cannot name a list"),
        ("a = [\"10.0.0.1\",\n\"@b\"]", "pcc.toml:3: `a`: `@b` is no prefix"),
    ] {
        let text = format!("lists = {{ {lists} }}\nlan = [\"lan\"]\n[[uplink]]\ndevice = \"eth0\"\n");
        let source = Source { name: "pcc.toml", text: &text.replacen("lists", "\nlists", 1) };
        let Problems(problems) = Config::build(&ConfigFlags::default(), source).expect_err(wanted);
        assert!(problems[0].message.starts_with(wanted), "{} is not {wanted}", problems[0].message);
    }
}

#[test]
fn what_does_not_fit_the_maps_is_refused() {
    let many = |count: u32, rule: &dyn Fn(u32) -> String| (0..count).map(|i| rule(i) + "\n").collect::<String>();
    let ways = |count| many(count, &|i| format!("[[rule]]\nprotocol = {i}\nuse = [\"fibre:{}\", \"eth1\"]", i + 1));
    assert_eq!(rules(&ways(15)).len(), 15);
    let shared = many(40, &|i| format!("[[rule]]\nprotocol = {i}\nuse = [\"fibre:{}\", \"eth1\"]", i % 15 + 1));
    assert_eq!(rules(&shared).len(), 40);
    let Problems(problems) = config(&ways(16)).unwrap_err();
    assert_eq!(
        problems[0].message, "pcc.toml:57: `use`: the rules choose among uplinks in more than 15 ways",
        "the line of the sixteenth"
    );
    let long = many(3000, &|i| format!("[[rule]]\ndestination_port = [{i}, 9999, 11111]\nuse = \"main\""));
    let Problems(problems) = config(&long).unwrap_err();
    assert!(problems[0].message.ends_with("`use`: the rules are too long"), "{problems:?}");
}
