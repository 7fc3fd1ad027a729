use proptest::prelude::*;

use super::{Settings, is_routeros_document, read_toml};
use crate::routeros::dialect::Dialect;
use crate::routeros::model::Model;
use crate::routeros::model::rule::Action;
use crate::routeros::{Script, Severity, Value};

fn document(text: &str) -> Script {
    read_toml(text).map_or_else(|problem| panic!("{problem}"), |(script, _)| script)
}

/// Severity, id and line of every note, with its fix.
fn notes(text: &str) -> Vec<(Severity, &'static str, u32, Option<String>)> {
    let notes = document(text).notes.into_iter();
    notes.map(|note| (note.severity, note.id, note.span.line, note.fix)).collect()
}

fn problem(text: &str) -> String {
    read_toml(text).map_or_else(|problem| problem.message, |_| panic!("no problem in {text}"))
}

#[test]
fn items_become_statements_with_their_places() {
    let text = "dialect = \"v6\"\n[interfaces]\nether1 = \"eth0\"\n\"my isp\" = \"ppp0\"\n\n\
                [[ip.firewall.mangle]] # why\nchain = \"prerouting\"\n  src-address = \"!10.0.0.0/8\"\ndisabled = true\n\n\
                [[ip.route]]\ngateway = \"192.0.2.1\"\ndistance = 2\n[[ip.route.rule]]\ntable = \"t\"\n\n\
                [ip.dns]\nservers = \"192.0.2.53\"\n";
    let (script, settings) = read_toml(text).expect("a document");
    let interfaces = [("ether1", "eth0"), ("my isp", "ppp0")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    assert_eq!(settings, Settings { dialect: Some(Dialect::V6), interfaces });
    let found: Vec<_> = script
        .statements
        .iter()
        .map(|statement| (statement.path(), statement.verb.as_str(), statement.span.line, statement.span.length))
        .collect();
    assert_eq!(
        found,
        [
            ("/ip firewall mangle".to_owned(), "add", 6, 22),
            ("/ip route rule".to_owned(), "add", 14, 17),
            ("/ip route".to_owned(), "add", 11, 12),
            ("/ip dns".to_owned(), "set", 17, 8),
        ]
    );
    let source = script.statements[0].argument("src-address").expect("an argument");
    assert_eq!((source.span.line, source.span.column, source.span.length), (8, 3, 27));
    assert_eq!((&source.value, source.negated), (&Value::Text("10.0.0.0/8".into()), true));
    assert_eq!(script.statements[0].text("disabled"), Some("yes"));
    assert_eq!(script.statements[2].text("distance"), Some("2"));
    assert_eq!((script.total, script.notes.len()), (4, 0));
    let built = Model::build(&script);
    assert_eq!((built.notes.len(), built.applied.len()), (0, 4));
    assert!(built.model.mangle[0].matchers[0].negated && built.model.mangle[0].item.disabled());
}

#[test]
fn keys_keep_their_order() {
    let script =
        document("[[ip.firewall.nat]]\nchain = \"x\"\nprotocol = \"tcp\"\naction = \"accept\"\n\"comment\" = \"!\"\n");
    let names: Vec<_> = script.statements[0].arguments.iter().map(|argument| argument.name.as_str()).collect();
    assert_eq!(names, ["chain", "protocol", "action", "comment"]);
    assert_eq!(script.statements[0].text("comment"), Some("!"));
    assert_eq!(Model::build(&script).model.nat[0].action, Action::Accept);
}

#[test]
fn mistakes_are_notes_at_their_lines() {
    use Severity::{Error, Warning};
    let fix = |text: &str| Some(text.to_owned());
    for (text, expected) in [
        ("[[ip.firewal.mangle]]\n", (Error, "unknown-menu", 1, None)),
        ("[[ip.firewall.mangel]]\n", (Error, "unknown-menu", 1, fix("perhaps `mangle`"))),
        ("[[interface.strange]]\nname = \"x\"", (Warning, "unknown-menu", 1, None)),
        ("[[ip.route]]\ngatway = \"x\"", (Warning, "unknown-property", 2, fix("perhaps `gateway`"))),
        ("[[ip.route]]\nd = \"x\"", (Error, "ambiguous", 2, fix("write the whole name"))),
        ("[ip.route]\ngateway = \"x\"", (Error, "syntax", 1, fix("[[ip.route]]"))),
        ("[ip]\nroute = \"x\"", (Error, "syntax", 1, fix("[[ip]]"))),
        ("[[ip.route]]\ngateway = [\"x\"]", (Error, "value-bad", 2, fix("write it in quotes, as RouterOS does"))),
        ("[[ip.route]]\ngateway = 1.5", (Error, "value-bad", 2, fix("write it in quotes, as RouterOS does"))),
        ("[[ip.route]]\ngateway = { missing = true }", (Error, "value-missing", 2, fix("write the value in quotes"))),
        ("[[ip.route]]\ngateway = { unknown = \"x\" }", (Warning, "needs-router", 2, fix("write the value in quotes"))),
    ] {
        let found = notes(text);
        assert_eq!(found.first(), Some(&expected), "{text}: {found:?}");
    }
    let broken = document("[[ip.firewall.mangle]]\nchain = \"prerouting\"\nsrc-address = 1.5\n");
    assert!(Model::build(&broken).model.mangle[0].broken, "a value that cannot be read is not the same as none");
}

#[test]
fn what_is_no_document_is_a_problem() {
    assert!(problem("a = ").starts_with("this is no TOML (line 1, column 5): "));
    assert_eq!(problem("dialect = \"v8\""), "`dialect` (line 1, column 11) is neither `v6` nor `v7`");
    assert_eq!(problem("\n[queue.simple]"), "`queue` (line 2, column 2) is no menu of RouterOS");
    assert_eq!(problem("[interfaces]\na = \"\""), "`interfaces` (line 2, column 5) does not give a Linux device");
    assert_eq!(problem("interfaces = 1"), "`interfaces` (line 1, column 14) does not give a Linux device");
}

#[test]
fn the_two_forms_of_configuration_differ() {
    for text in ["[[ip.route]]", "dialect = \"v7\"", "[interfaces]\na = \"b\"", "[[ip.route]]\ngateway = "] {
        assert!(is_routeros_document(text), "{text}");
    }
    for text in
        ["", "lan = [\"lan0\"]\n[[uplink]]\ndevice = \"eth0\"", "[[uplink]]\ndevice = ", "/ip route\nadd gateway=x"]
    {
        assert!(!is_routeros_document(text), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(parts in proptest::collection::vec(proptest::sample::select(PARTS), 0..12)) {
        let text = parts.concat();
        is_routeros_document(&text);
        if let Ok((script, _)) = read_toml(&text) {
            Model::build(&script);
        }
    }
}

const PARTS: &[&str] = &[
    "[[ip.route]]\n",
    "[[ip.route.rule]]\n",
    "[ip.dns]\n",
    "[ip]\n",
    "[[interface.bridge]]\n",
    "[[interface]]\n",
    "[[ip.nothing.at.all]]\n",
    "name = \"é\"\n",
    "gateway = \"!x\"\n",
    "a = { value = 1 }\n",
    "b = { missing = true, negated = true }\n",
    "c = { unknown = \"\" }\n",
    "d = {}\n",
    "e = []\n",
    "f = [{}]\n",
    "rule = [{ table = \"x\" }]\n",
    "built-in = true\n",
    "built-in = \"x\"\n",
    "distance = -1\n",
    "scope = 0x1f\n",
    "when = 2024-01-01\n",
    "text = \"\"\"\nx\ny\"\"\"\n",
    "= ",
    "\"",
    "\u{0}",
];

#[test]
fn scripts_are_no_documents_however_long() {
    let script = "/ip route\nadd gateway=192.0.2.1 comment=\"a\"\n";
    for text in [script.repeat(100_000), "\r".repeat(1 << 20), "ip\r".repeat(100_000), ".. ".repeat(1 << 20)] {
        assert!(!is_routeros_document(&text), "{}", &text[..10]);
    }
    let entry = "[[ip.firewall.address-list]]\naddress = \"192.0.2.1\"\nlist = \"a\"\n";
    assert!(is_routeros_document(&format!("# a comment\n\n{}", entry.repeat(20_000))));
    assert!(
        is_routeros_document("  [ \"ip\" . dns ]\nservers = \"192.0.2.53\"")
            && is_routeros_document("dialect = \"v7\"")
    );
}
