use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use regex_lite::Regex;

use super::to_toml;
use crate::mirror::document::{is_routeros_document, read_toml};
use crate::routeros::dialect::Dialect;
use crate::routeros::model::Model;
use crate::routeros::{Script, Severity, read};

const SCRIPTS: [&str; 11] = [
    include_str!("../../../examples/dual-wan.rsc"),
    include_str!("../../routeros/fixtures/language-export.rsc"),
    include_str!("../../routeros/fixtures/language-article.txt"),
    include_str!("../../routeros/fixtures/language-script.rsc"),
    include_str!("../../routeros/fixtures/lint-best.rsc"),
    include_str!("../../routeros/fixtures/lint-minimal.rsc"),
    include_str!("../../routeros/fixtures/lint-official.rsc"),
    include_str!("../../routeros/fixtures/lint-pppoe.rsc"),
    include_str!("../../routeros/fixtures/lint-recursive.rsc"),
    include_str!("../../routeros/fixtures/lint-terse.rsc"),
    include_str!("../../routeros/fixtures/lint-weighted.rsc"),
];

/// The model that `script` becomes, without the places, which differ.
fn bare(script: &Script) -> String {
    let spans = Regex::new(r"Span \{\s*line: \d+,\s*column: \d+,\s*length: \d+,\s*\}").expect("an expression");
    let mut model = Model::build(script).model;
    // Of a settings menu the first item counts.
    model.read.retain(|_, items| !items.is_empty());
    spans.replace_all(&format!("{model:#?}"), "_").into_owned()
}

fn import(script: &Script) -> String {
    to_toml(script, Dialect::V7, &BTreeMap::new())
}

/// Imports `text` and reads what comes out; both models must be equal.
fn there_and_back(text: &str) -> (String, Script) {
    let script = read(text.as_bytes());
    let document = import(&script);
    let (again, settings) = read_toml(&document).unwrap_or_else(|problem| panic!("{problem}\n{document}"));
    assert_eq!(settings.dialect, Some(Dialect::V7));
    let (expected, found) = (bare(&script), bare(&again));
    for (expected, found) in expected.lines().zip(found.lines()) {
        assert_eq!(expected, found, "{text}\n{document}");
    }
    assert_eq!(expected.lines().count(), found.lines().count(), "{document}");
    assert!(is_routeros_document(&document));
    (document, again)
}

#[test]
fn every_script_keeps_its_meaning() {
    for script in SCRIPTS {
        there_and_back(script);
    }
}

#[test]
fn a_correct_script_becomes_a_correct_document() {
    let (document, script) = there_and_back(SCRIPTS[0]);
    assert_eq!(script.notes, [], "{document}");
    let rule = "\
# no-mark: a connection is hashed once, and answers to inbound ones keep their mark.
[[ip.firewall.mangle]]
chain = \"prerouting\"
in-interface = \"lan\"
connection-mark = \"no-mark\"
dst-address-type = \"!local\"
per-connection-classifier = \"both-addresses:2/0\"
";
    assert!(document.contains(rule), "{document}");
    assert!(document.starts_with("# Two uplinks and one LAN on RouterOS 7"), "{document}");
    assert!(document.contains("\n# fibre = \"\"\n"), "{document}");
}

#[test]
fn comments_go_with_their_items() {
    let script = "# 2025-03-01 10:00:00 by RouterOS 7.18.2\n# software id = X\n/ip address\n\
                  # first\nadd address=192.0.2.1/24 interface=a # behind it\n\
                  # gone\nadd address=192.0.2.2/24 interface=b\n\
                  # second\n# and more\n:foreach i in=(3,4) do={ add address=\"192.0.2.$i/24\" interface=c \\\n comment=x # inside\n}\n\
                  remove [find interface=b]\n# changes\nset [find interface=a] disabled=yes\n/queue simple add name=q\n/queue simple add name=r\n# last\n";
    let (document, _) = there_and_back(script);
    assert_eq!(
        document,
        "# 2025-03-01 10:00:00 by RouterOS 7.18.2\n# software id = X\n\ndialect = \"v7\"\n\n\
         # The Linux device of each interface.\n[interfaces]\n# a = \"\"\n# c = \"\"\n\n\
         # Not taken over:\n#   /queue simple (2 commands)\n\n\
         # first\n# behind it\n# changes\n[[ip.address]]\naddress = \"192.0.2.1/24\"\ninterface = \"a\"\ndisabled = \"yes\"\n\n\
         # gone\n# second\n# and more\n# inside\n[[ip.address]]\naddress = \"192.0.2.3/24\"\ninterface = \"c\"\ncomment = \"x\"\n\n\
         [[ip.address]]\naddress = \"192.0.2.4/24\"\ninterface = \"c\"\ncomment = \"x\"\n\n\
         # last\n"
    );
}

#[test]
fn kinds_of_interfaces_need_no_device() {
    let script = read(b"/ip firewall nat add chain=srcnat out-interface=all-ppp action=masquerade\n");
    let text = import(&script);
    assert!(text.starts_with("dialect") && !text.contains("# all-ppp"), "{text}");
}

#[test]
fn devices_are_written_and_read() {
    let devices: BTreeMap<String, String> =
        [("ether1".to_owned(), "eth0".to_owned()), ("my isp".to_owned(), "ppp0".to_owned())].into();
    let script = read(b"/ip address add address=192.0.2.1/24 interface=ether1");
    let document = to_toml(&script, Dialect::V6, &devices);
    let (_, settings) = read_toml(&document).expect("a document");
    assert_eq!((settings.interfaces, settings.dialect), (devices, Some(Dialect::V6)));
}

#[test]
fn odd_values_and_menus_keep_their_meaning() {
    let (document, script) = there_and_back(
        "/ip firewall mangle\n\
         add chain=prerouting src-address=! comment=!no dst-address=\n\
         add chain=prerouting comment=\"!yes \\\"quoted\\\" \\\\ \\00 \\r\\n two\" src-address=\"!10.0.0.1\" log-prefix=!x\n\
         add chain=prerouting src-address=[/ip address get 0 address] in-interface=\"a\\\"b\"\n\
         add\n\
         /interface ethernet add default-name=x name=y\n\
         /interface set ether7 name=north comment=c\n\
         /interface bridge add name=b\n/interface bridge port add bridge=b interface=ether2\n\
         /interface strange add name=s interface=ether3\n\
         /interface list add name=L\n/interface list member add list=L interface=b\n\
         /ip route rule add table=t\n/ip route add gateway=192.0.2.1\n\
         /ip dns set servers=192.0.2.53 allow-remote-requests=yes\n/ip settings set rp-filter=loose\n\
         /ip proxy set enabled=yes\n/ip hotspot add name=h interface=b profile=p\n\
         /ppp profile set default on-up=\"/ip route\\n add gateway=1.2.3.4\"\n/ppp profile add name=default\n",
    );
    let notes: Vec<_> = script.notes.iter().map(|note| (note.severity, note.id)).collect();
    assert!(notes.contains(&(Severity::Error, "value-missing")), "{notes:?}");
    assert!(notes.contains(&(Severity::Warning, "needs-router")), "{notes:?}");
    assert!(document.contains("[ip.dns]\nservers = \"192.0.2.53\"\n"), "{document}");
    let clash = import(&read(b"/ip route add gateway=192.0.2.1 rule=x"));
    assert!(clash.ends_with("[[ip.route]]\ngateway = \"192.0.2.1\"\n# rule = \"x\"\n"), "{clash}");
    assert!(document.contains("[[interface.bridge.port]]\nbridge = \"b\"\n"), "{document}");
}

const PARTS: [&str; 22] = [
    "chain=prerouting",
    "chain=a",
    "action=accept",
    "action=jump jump-target=a",
    "action=mark-connection new-connection-mark=\"a b\"",
    "in-interface=!fibre",
    "src-address=!10.0.0.0/8",
    "src-address=",
    "dst-port=!80,443",
    "protocol=tcp",
    "tcp-flags=!syn,ack",
    "disabled=yes",
    "disabled=no",
    "passthrough=no",
    "comment=!x",
    "comment=\"!x\"",
    "!dst-address",
    "dst-address=$unset",
    "per-connection-classifier=!both-addresses:2/0",
    "hotspot=!auth,from-client",
    "address-list-timeout=none-static",
    "log",
];

const COMMANDS: [&str; 8] = [
    "set [find chain=a] comment=changed !protocol",
    "remove 0",
    "disable [find action=accept]",
    "move 1 destination=0",
    "enable [find disabled=yes]",
    "unset 0 value-name=chain",
    "# a comment",
    "/ip firewall mangle",
];

proptest! {
    #[test]
    fn rule_lists_keep_their_meaning(lines in proptest::collection::vec(
        prop_oneof![
            4 => proptest::collection::vec(select(&PARTS[..]), 0..6).prop_map(|parts| format!("add {}", parts.join(" "))),
            1 => select(&COMMANDS[..]).prop_map(str::to_owned),
        ],
        0..12,
    )) {
        there_and_back(&format!("/ip firewall mangle\n{}\n", lines.join("\n")));
    }

    #[test]
    fn texts_keep_every_character(comment in "\\PC*|[\"'\\\\\n\r\t!#]{0,6}|.{0,9}", name in any::<String>()) {
        let escape = |text: &str| -> String { text.bytes().map(|byte| format!("\\{byte:02X}")).collect() };
        let text = format!(
            "/ip address add address=192.0.2.1/24 interface=\"{}\" comment=\"{}\" network=\"{}\"\n",
            escape(&name), escape(&comment), escape(&comment),
        );
        there_and_back(&text);
    }
}

proptest! {
    // Whole scripts take their time.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_can_be_imported(text in "[a-z/=\\[\\]!\" #\n]{0,80}", script in select(&SCRIPTS[..]), cut in any::<prop::sample::Index>()) {
        let mut at = cut.index(script.len());
        while !script.is_char_boundary(at) {
            at -= 1;
        }
        there_and_back(&format!("{}{text}", &script[..at]));
    }
}
