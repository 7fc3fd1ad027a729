use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use clap::Parser;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::file::Source;
use super::flags::ConfigFlags;
use super::*;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    flags: ConfigFlags,
}

fn flags(words: &[&str]) -> ConfigFlags {
    Command::try_parse_from(std::iter::once(&"pcc").chain(words)).unwrap().flags
}

fn from_flags(words: &[&str]) -> Result<Config, Problems> {
    Config::build(&flags(words), Source::default())
}

fn from_toml(text: &str) -> Result<Config, Problems> {
    Config::build(&ConfigFlags::default(), Source { name: "pcc.toml", text })
}

const TWO: &str = "lan = [\"eth2\"]\n[[uplink]]\ndevice = \"eth0\"\n[[uplink]]\ndevice = \"eth1\"\n";

#[test]
fn the_file_in_packages_is_refused_until_it_is_edited() {
    let packaged = include_str!("../../dist/pcc.toml");
    let problems = from_toml(packaged).unwrap_err().to_string();
    assert!(problems.contains("uplink") && problems.contains("LAN"), "{problems}");
    // What is explained has a space behind the `#`.
    let keys = packaged.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| !line.starts_with(' '));
    let edited = keys.collect::<Vec<_>>().join("\n");
    let names: Vec<String> = from_toml(&edited).unwrap().uplinks.into_iter().map(|uplink| uplink.name).collect();
    assert_eq!(names, ["fibre", "cable"]);
}

#[test]
fn the_shortest_flags_give_the_defaults() {
    let config = from_flags(&["--wan", "eth0,eth1", "--lan", "eth2"]).unwrap();
    assert_eq!(config, from_toml(TWO).unwrap());
    assert_eq!(config.uplinks.len(), 2);
    assert_eq!(config.lans, ["eth2"]);
    let Config {
        instance,
        hash,
        seed,
        marks,
        bypass,
        flow_entries,
        table_base,
        priority_base,
        uplinks,
        balance_router,
        hook,
        fast_path,
        shortcut_entries,
        ..
    } = config;
    assert_eq!(
        (instance.as_str(), hash, seed, marks),
        ("default", HashFields::BOTH_ADDRESSES, None, MarkLayout::DEFAULT)
    );
    assert_eq!((bypass, flow_entries, table_base, priority_base), (vec![], None, 20_500, 32_500));
    assert!(!balance_router && hook.is_empty());
    assert_eq!((fast_path, shortcut_entries), (FastPath::Auto, None));
    assert_eq!(uplinks[1], Uplink::new("eth1"));
}

#[test]
fn help_shows_the_defaults() {
    let help = <Command as clap::CommandFactory>::command().render_long_help().to_string();
    let check = Check::default();
    for (flag, default) in [
        ("--hash", Config::HASH.name().to_owned()),
        ("--instance", Config::INSTANCE.to_owned()),
        ("--fast-path", FastPath::default().word().to_owned()),
        ("--mark-mask", format!("{:#x}", MarkLayout::DEFAULT.mask())),
        ("--check-interval", humantime::format_duration(check.interval).to_string()),
        ("--check-timeout", humantime::format_duration(check.timeout).to_string()),
        ("--check-losses", check.losses.to_string()),
        ("--check-answers", check.answers.to_string()),
    ] {
        let (_, rest) = help.split_once(&format!("{flag} <")).unwrap();
        let text = rest.split("\n      --").next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(&format!("[default: {default}]")), "{flag}: {text}");
    }
}

#[test]
fn flags_are_laid_over_the_file() {
    let text = r#"
lan = ["eth2"]
hash = "src-address"
bypass = ["10.0.0.0/9"]
[[uplink]]
device = "eth0"
name = "fiber"
weight = 3
gateway = "192.0.2.1"
check = { target = "carrier", losses = 5 }
[[uplink]]
device = "eth1"
"#;
    let words = "--wan eth4,eth0 --weights 2,7 --hash both-ports --bypass 10.128.0.0/9 --gateway fiber=fe80::1 \
                 --check eth0=192.0.2.9 --check eth0=2001:db8::9 --nat eth4=none --check-interval 1s";
    let flags = flags(&words.split_whitespace().collect::<Vec<_>>());
    let config = Config::build(&flags, Source { name: "pcc.toml", text }).unwrap();
    let [new, fiber] = config.uplinks.as_slice() else { panic!("{config:?}") };
    assert_eq!((new.name.as_str(), new.weight, new.nat), ("eth4", 2, Nat::None));
    assert_eq!((fiber.name.as_str(), fiber.weight), ("fiber", 7));
    assert_eq!((fiber.gateway4, fiber.gateway6), ("192.0.2.1".parse().ok(), "fe80::1".parse().ok()));
    let addresses = ["192.0.2.9", "2001:db8::9"].map(|text| text.parse().unwrap());
    assert_eq!(fiber.check.targets, addresses.map(Target::Ping));
    assert_eq!((fiber.check.interval, fiber.check.losses), (Duration::from_secs(1), 5));
    assert_eq!(config.hash.name(), "both-ports");
    assert_eq!(config.bypass, ["10.0.0.0/8".parse().unwrap()], "added and merged");
}

#[test]
fn every_mistake_in_a_file_is_named_with_its_line() {
    let uplinks = "lan = [\"eth2\"]\n[[uplink]]\ndevice = \"eth0\"\n[[uplink]]\ndevice = \"eth1\"\n";
    for (before, after, wanted) in [
        ("instance = \"A\"", "", "pcc.toml:1: `instance`: `A` cannot name an instance"),
        ("hash = \"both\"", "", "pcc.toml:1: `hash`: `both` names no set of fields"),
        ("seed = -1", "", "pcc.toml:1: `seed`: `-1` is out of range"),
        ("mark_mask = 0xf0f", "", "pcc.toml:1: `mark_mask`: `0xf0f` cannot hold the marks"),
        ("flow_entries = 1", "", "pcc.toml:1: `flow_entries`: `1` is out of range"),
        ("table_base = 0", "", "pcc.toml:1: `table_base`: `0` is out of range"),
        ("table_base = 200", "", "pcc.toml:1: `table_base`: the 100 tables from `200` include the kernel's 253 to 255"),
        ("rule_priority = 32667", "", "pcc.toml:1: `rule_priority`: `32667` is out of range"),
        ("bypass = [\"10.0.0.1/8\"]", "", "pcc.toml:1: `bypass`: `10.0.0.1/8` has bits behind its prefix length"),
        ("bypass = [\"x\"]", "", "pcc.toml:1: `bypass`: `x` is no prefix"),
        ("bypass = [\"::/0\"]", "", "pcc.toml:1: `bypass`: the prefixes cover all of `::/0`"),
        (
            "bypass = [\"0.0.0.0/1\",\n\"128.0.0.0/1\"]",
            "",
            "pcc.toml:1: `bypass`: the prefixes cover all of `0.0.0.0/0`",
        ),
        (
            "bypass = [\n\"192.0.2.0/24\"]",
            "gateway = \"192.0.2.1\"",
            "pcc.toml:2: `bypass`: `192.0.2.0/24` covers the gateway",
        ),
        ("", "device = \"x\"", "pcc.toml:7: `device = \"x\"`: duplicate key"),
        ("", "name = \"eth0\"", "pcc.toml:7: `name`: `eth0` names another uplink"),
        ("", "name = \"a b\"", "pcc.toml:7: `name`: `a b` cannot name an uplink"),
        ("", "weight = 1001", "pcc.toml:7: `weight`: `1001` is out of range"),
        ("", "id = 32", "pcc.toml:7: `id`: `32` is out of range"),
        ("", "gateway = \"fe80::1\"", "pcc.toml:7: `gateway`: `fe80::1` is of the other IP family"),
        ("", "gateway6 = \"192.0.2.1\"", "pcc.toml:7: `gateway6`: `192.0.2.1` is of the other IP family"),
        ("", "gateway = \"0.0.0.0\"", "pcc.toml:7: `gateway`: `0.0.0.0` is not the address of another host"),
        ("", "gateway6 = \"ff02::1\"", "pcc.toml:7: `gateway6`: `ff02::1` is not the address of another host"),
        ("", "gateway6 = \"fe80::1%eth0\"", "pcc.toml:7: `gateway6`: `fe80::1%eth0` is no IP address"),
        ("", "nat = \"snat\"", "pcc.toml:7: `nat`: `snat` is none of its words"),
        ("hook = []", "", "pcc.toml:1: `hook`: no program"),
        ("fast_path = \"fast\"", "", "pcc.toml:1: `fast_path`: `fast` is none of its words"),
        ("shortcut_entries = 63", "", "pcc.toml:1: `shortcut_entries`: `63` is out of range"),
        ("", "tier = 0", "pcc.toml:7: `tier`: `0` is out of range"),
        ("", "on_down = \"drop\"", "pcc.toml:7: `on_down`: `drop` is none of its words"),
        ("", "fail_back = \"soon\"", "pcc.toml:7: `fail_back`: `soon` is no duration"),
        ("", "degraded = { loss = 0 }", "pcc.toml:7: `loss`: `0` is out of range"),
        ("", "check = { target = [] }", "pcc.toml:7: `target`: no target"),
        (
            "",
            "check = { target = [\n\"gateway\", 'carrier'] }",
            "pcc.toml:8: `target`: `carrier` does not go with other",
        ),
        ("", "check = { target = [\n'tcp://192.0.2.9'] }", "pcc.toml:8: `target`: `tcp://192.0.2.9` has no port"),
        (
            "",
            "check = { target = { url = 'https://a.b/' } }",
            "pcc.toml:7: `target`: `https://a.b/` needs an `address`",
        ),
        ("", "check = { target = ['192.0.2.9', '192.0.2.9'] }", "pcc.toml:7: `target`: `192.0.2.9` is there twice"),
        ("", "check = { target = \"a\\nb\" }", "pcc.toml:7: `target`: `a\u{fffd}b` is no IP address"),
        (
            "",
            "check = { target = ['gateway', '192.0.2.9', '2001:db8::9'], quorum = 3 }",
            "pcc.toml:7: `quorum`: `3` targets of a family must answer, but none has more than 2",
        ),
        ("", "check = { interval = \"49ms\" }", "pcc.toml:7: `interval`: `49ms` is out of range"),
        ("", "check = { timeout = \"soon\" }", "pcc.toml:7: `timeout`: `soon` is no duration"),
        ("", "check = { losses = 0 }", "pcc.toml:7: `losses`: `0` is out of range"),
        ("", "[[uplink]]\ndevice = \"eth0\"", "pcc.toml:8: `device`: uplink `eth0` is there twice"),
        ("", "[[uplink]]\ndevice = \"eth2\"", "pcc.toml:2: `lan`: `eth2` is an uplink too"),
        ("", "[[uplink]]\ndevice = \"a23456789b123456\"", "pcc.toml:8: `device`: `a23456789b123456` is longer than"),
        ("", "[[uplink]]\ndevice = \"all\"", "pcc.toml:8: `device`: `all` cannot be a device"),
    ] {
        let Problems(problems) = from_toml(&format!("{before}\n{uplinks}{after}\n")).expect_err(wanted);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].message.starts_with(wanted), "{} is not {wanted}", problems[0].message);
        assert!(!problems[0].hint.is_empty());
    }
}

#[test]
fn every_mistake_in_flags_is_named() {
    for (words, wanted) in [
        ("--lan eth2", "no uplink"),
        ("--wan eth0", "no LAN device"),
        ("--wan eth0,eth0 --lan eth2", "`--wan`: uplink `eth0` is there twice"),
        ("--wan eth0,eth1 --lan eth2,eth2", "`--lan`: `eth2` is there twice"),
        ("--wan eth0, --lan eth2", "`--wan`: a device name is empty"),
        ("--wan eth0,eth1 --lan eth1", "`--lan`: `eth1` is an uplink too"),
        ("--wan eth0,eth1 --lan eth2 --weights 1", "`--weights`: 1 weight given for 2 uplinks"),
        ("--wan eth0,eth1 --lan eth2 --weights 0,0", "`--weights`: all weights are 0"),
        ("--wan eth0,eth1 --lan eth2 --weights=-1,1", "`--weights`: `-1` is out of range"),
        ("--wan eth0 --lan eth2 --gateway eth9=192.0.2.1", "`--gateway`: no uplink `eth9`"),
        ("--wan eth0 --lan eth2 --fast-path ebpf", "`--fast-path`: `ebpf` is none of its words"),
        ("--wan eth0 --lan eth2 --shortcut-entries 0", "`--shortcut-entries`: `0` is out of range"),
        ("--wan eth0 --lan eth2 --mark-mask 0x3", "`--mark-mask`: `0x3` cannot hold the marks"),
        (
            "--wan eth0,eth1,eth3,eth4 --lan eth2 --mark-mask 0x1f",
            "`--wan`: 4 uplinks, but the mark mask has room for 3",
        ),
    ] {
        let Problems(problems) = from_flags(&words.split(' ').collect::<Vec<_>>()).expect_err(wanted);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].message.starts_with(wanted), "{} is not {wanted}", problems[0].message);
    }
    let text = "lan = [\"eth2\"]\n[[uplink]]\ndevice = \"eth0\"\nid = 1\n[[uplink]]\ndevice = \"eth1\"\nid = 1";
    let Problems(problems) = from_toml(text).unwrap_err();
    assert_eq!(problems[0].message, "pcc.toml:7: `id`: `1` is the id of another uplink");
}

#[test]
fn every_word_of_the_fast_path_means_what_it_says() {
    for (word, meaning) in FastPath::WORDS {
        let config = from_flags(&["--wan", "eth0", "--lan", "eth2", "--fast-path", word]).unwrap();
        assert_eq!((config.fast_path, meaning.word()), (meaning, word));
    }
}

#[test]
fn scripts_have_no_shortcuts_yet() {
    let refused = |words: &[&str]| flags(words).native_only().into_iter().map(|it| it.message).collect::<Vec<_>>();
    for word in ["auto", "off"] {
        assert_eq!(refused(&["--fast-path", word]), Vec::<String>::new());
    }
    for word in ["xdp", "tc"] {
        assert_eq!(refused(&["--fast-path", word]), ["`--fast-path` does not go with a RouterOS script"]);
    }
    assert_eq!(refused(&["--shortcut-entries", "64"]), ["`--shortcut-entries` does not go with a RouterOS script"]);
}

#[test]
fn all_problems_are_shown_at_once() {
    let error = from_flags(&["--wan", "eth0,eth0", "--lan", "eth2", "--hash", "x", "--bypass", "y"]).unwrap_err();
    assert_eq!(error.0.len(), 3);
    let report = crate::problem::report(&error.into()).to_string();
    assert_eq!(report.lines().filter(|line| line.starts_with("error: ")).count(), 3);
    assert_eq!(report.lines().filter(|line| line.starts_with("hint: ")).count(), 3);
}

#[test]
fn an_unreadable_file_is_one_clear_error() {
    let flags = flags(&["-c", "/nonexistent/pcc.toml"]);
    let report = crate::problem::report(&Configuration::load(&flags).unwrap_err()).to_string();
    assert!(report.starts_with("error: cannot read `/nonexistent/pcc.toml`: "), "{report}");
}

/// What one uplink may have beside its device, as (TOML line, flag); both empty for "nothing".
fn uplink_settings() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let settings = vec![
        ("gateway = '192.0.2.1'", "--gateway @=192.0.2.1"),
        ("gateway6 = 'fe80::1'", "--gateway @=fe80::1"),
        ("nat = 'none'", "--nat @=none"),
        (
            "check = { target = ['192.0.2.7', '2001:db8::7', 'neighbour', 'tcp://[2001:db8::7]:443', 'http://192.0.2.7/?a=b'] }",
            "--check @=192.0.2.7,2001:db8::7 --check @=neighbour,tcp://[2001:db8::7]:443,http://192.0.2.7/?a=b",
        ),
    ];
    subsequence(settings, 0..=4)
}

proptest! {
    #[test]
    fn flags_and_the_same_toml_agree(
        devices in subsequence(vec!["eth0", "eth1", "wan.7", "ppp_0"], 1..=4),
        settings in prop::collection::vec(uplink_settings(), 4),
        weights in prop::collection::vec(0_u32..=1001, 4),
        top in subsequence(vec![
            ("seed = 7", "--seed 7"),
            ("mark_mask = 0x1f0", "--mark-mask 0x1f0"),
            ("flow_entries = 4096", "--flow-entries 4096"),
            ("instance = 'lab'", "--instance lab"),
            ("fast_path = 'tc'", "--fast-path tc"),
            ("shortcut_entries = 16777216", "--shortcut-entries 16777216"),
            ("hash = 'dst-port'", "--hash dst-port"),
            ("bypass = ['10.0.0.0/8', '10.2.0.0/16', '2001:db8::/32']", "--bypass 10.0.0.0/8,10.2.0.0/16,2001:db8::/32"),
        ], 0..=8),
    ) {
        let mut toml = String::from("lan = ['eth8', 'eth9']\n");
        let mut words = format!("--lan eth8,eth9 --wan {}", devices.join(","));
        for (line, flag) in &top {
            writeln!(toml, "{line}").unwrap();
            write!(words, " {flag}").unwrap();
        }
        let weights = &weights[..devices.len()];
        write!(words, " --weights {}", weights.iter().map(u32::to_string).collect::<Vec<_>>().join(",")).unwrap();
        for ((device, weight), settings) in devices.iter().zip(weights).zip(&settings) {
            writeln!(toml, "[[uplink]]\ndevice = '{device}'\nweight = {weight}").unwrap();
            for (line, flag) in settings {
                writeln!(toml, "{line}").unwrap();
                write!(words, " {}", flag.replace('@', device)).unwrap();
            }
        }
        let by_flags = from_flags(&words.split(' ').collect::<Vec<_>>());
        match (by_flags, from_toml(&toml)) {
            (Ok(flags), Ok(toml)) => prop_assert_eq!(flags, toml),
            (Err(flags), Err(toml)) => prop_assert_eq!(flags.0.len(), toml.0.len()),
            (flags, toml) => prop_assert!(false, "{:?} but {:?}", flags, toml),
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in r#"((lan|hash|seed|uplink|device|weight|check|\[\[uplink\]\]|\[|\]|\{|\}|=|"|'|,|\.|-?[0-9]{1,22}|0x[0-9a-f]{1,9}|[a-z]|é|\\|#| |\n){0,3}[\n ]?){0,30}|\PC*"#) {
        let _ = from_toml(&text);
    }

    #[test]
    fn a_checked_configuration_keeps_every_rule(
        lines in subsequence(vec![
            "seed = 4294967296", "mark_mask = 0x1f", "table_base = 153", "table_base = 154", "rule_priority = 32666",
            "flow_entries = 64", "instance = 'a-b_9'", "hash = 'src-port'", "hash = \"a\\nb\"",
        ], 0..=3),
        bypass in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..6),
        uplinks in prop::collection::vec((
            select(vec!["eth0", "eth1", "eth2", "a2345678901234", "a/b", "wan"]),
            select(vec!["", "name = 'wan'", "name = 'eth1'", "id = 1", "id = 3", "id = 4", "weight = 0", "gateway = '10.0.0.1'",
                "gateway6 = '::ffff:10.0.0.1'", "check = { timeout = '10ms', interval = '1h', losses = 100 }",
                "check = { interval = '1s', target = '1.1.1.1' }", "check = { timeout = '61s' }"]),
        ), 0..5),
    ) {
        let bypass: Vec<_> = bypass.iter().map(|(bits, length)| {
            IpNet::new(IpAddr::V4((*bits).into()), *length).unwrap().trunc()
        }).collect();
        let mut text = lines.join("\n");
        let quoted: Vec<_> = bypass.iter().map(|prefix| format!("'{prefix}'")).collect();
        writeln!(text, "\nlan = ['lan0']\nbypass = [{}]", quoted.join(",")).unwrap();
        for (device, line) in &uplinks {
            writeln!(text, "[[uplink]]\ndevice = '{device}'\n{line}").unwrap();
        }
        match from_toml(&text) {
            Ok(config) => {
                assert_rules(&config);
                for prefix in &bypass {
                    prop_assert!(config.bypass.iter().any(|merged| merged.contains(prefix)));
                }
            }
            Err(Problems(problems)) => {
                prop_assert!(!problems.is_empty());
                for problem in problems {
                    prop_assert!(!problem.hint.is_empty() && !problem.message.contains('\n'));
                }
            }
        }
    }
}

fn assert_rules(config: &Config) {
    let unique = |values: Vec<String>| values.len() == values.iter().collect::<HashSet<_>>().len();
    let devices: Vec<_> =
        config.uplinks.iter().map(|uplink| uplink.device.clone()).chain(config.lans.clone()).collect();
    assert!(!config.lans.is_empty() && !config.uplinks.is_empty());
    assert!(devices.iter().all(|device| (1..=15).contains(&device.len())) && unique(devices));
    assert!(unique(config.uplinks.iter().map(|uplink| uplink.name.clone()).collect()));
    assert!(unique(config.uplinks.iter().filter_map(|uplink| uplink.id).map(|id| id.to_string()).collect()));
    assert!(config.uplinks.len() <= config.marks.max_id() as usize);
    assert!(config.uplinks.iter().any(|uplink| uplink.weight > 0));
    assert!((1..=32_666).contains(&config.priority_base));
    assert!(config.table_base > 255 || (1..=153).contains(&config.table_base));
    assert!(config.bypass.iter().all(|prefix| prefix.prefix_len() > 0));
    for (index, prefix) in config.bypass.iter().enumerate() {
        assert!(config.bypass[index + 1..].iter().all(|other| !prefix.contains(other) && !other.contains(prefix)));
    }
    for uplink in &config.uplinks {
        assert!(uplink.weight <= 1000);
        assert!(uplink.id.is_none_or(|id| (1..=config.marks.max_id()).contains(&id)));
        assert!((Duration::from_millis(50)..=Duration::from_secs(3600)).contains(&uplink.check.interval));
        assert!((Duration::from_millis(10)..=Duration::from_secs(60)).contains(&uplink.check.timeout));
        assert!((1..=100).contains(&uplink.check.losses) && (1..=100).contains(&uplink.check.answers));
        for gateway in uplink.gateway4.map(IpAddr::V4).into_iter().chain(uplink.gateway6.map(IpAddr::V6)) {
            assert!(config.bypass.iter().all(|prefix| !prefix.contains(&gateway)));
        }
    }
}
