//! Whole texts.

use super::*;

/// `line:column /menu verb items arguments`, as RouterOS would write it.
pub fn shown(statement: &Statement) -> String {
    let mut text = format!("{}:{} {} {}", statement.span.line, statement.span.column, statement.path(), statement.verb);
    for item in &statement.items {
        text.push_str(&match item {
            Selector::Name(name) => format!(" {name}"),
            Selector::Id(id) => format!(" *{id}"),
            Selector::Find { menu, condition } => format!(" [/{} find {condition:?}]", menu.join(" ")),
            Selector::Unknown(reason) => format!(" ?({reason})"),
        });
    }
    for Argument { name, value, negated, .. } in &statement.arguments {
        let not = if *negated { "!" } else { "" };
        text.push_str(&match value {
            Value::Text(text) => format!(" {name}={not}{text}"),
            Value::Unset => format!(" !{name}"),
            Value::Missing => format!(" {name}={not}(missing)"),
            Value::Unknown(reason) => format!(" {name}={not}?({reason})"),
        });
    }
    text
}

/// The statements and notes of `text`.
pub fn reading(text: impl AsRef<[u8]>) -> (Vec<String>, Vec<String>) {
    let script = read(text.as_ref());
    let note = |Note { severity, id, span, .. }: &Note| format!("{}:{} {severity} {id}", span.line, span.column);
    (script.statements.iter().map(shown).collect(), script.notes.iter().map(note).collect())
}

/// The statements of `text`, which must be read without notes.
pub fn statements(text: impl AsRef<[u8]>) -> Vec<String> {
    let (statements, notes) = reading(text);
    assert_eq!(notes, Vec::<String>::new());
    statements
}

#[test]
fn an_export_is_read_in_full() {
    let text = include_bytes!("fixtures/language-export.rsc");
    let expected = [
        r#"5:1 /interface ethernet set [/interface ethernet find Some(Equal("default-name", "ether1"))] comment=Uplink north name=north"#,
        "8:1 /interface pppoe-client add disabled=no interface=ether2 name=south !keepalive-timeout user=someone",
        "11:1 /routing table add disabled=no fib=yes name=via-north",
        "13:1 /ip firewall mangle add action=mark-connection chain=prerouting comment=from the LAN, \"first\" half, 100% of it; \
         café connection-mark=no-mark dst-address-type=!local in-interface=lan new-connection-mark=north \
         per-connection-classifier=both-addresses:2/0",
        "18:1 /ip route add check-gateway=ping dst-address=0.0.0.0/0 gateway=192.0.2.1%north pref-src= routing-table=via-north",
        "21:1 /tool netwatch add down-script=/ip route disable [find comment=\"north\"]\r\n:log warning \"$host is down\" \
         host=198.51.100.7",
    ];
    assert_eq!(statements(text), expected);
    let script = read(text);
    assert_eq!((script.version.as_deref(), script.total), (Some("7.9"), expected.len()));
}

#[test]
fn an_article_is_told_apart_from_its_commands() {
    let text = include_bytes!("fixtures/language-article.txt");
    let (statements, notes) = reading(text);
    let expected = [
        "8:1 /ip address add address=(missing) network=(missing) interface=wan-a",
        "10:1 /ip address add address=192.0.2.10/24 interface=wan-b",
        "16:1 /ip route add dst-address=0.0.0.0/0 check-gateway=ping gateway=(missing)",
        "20:1 /ip firewall mangle add action=mark-connection chain=prerouting comment=half 0 in-interface=lan \
         new-connection-mark=via_a passthrough=yes per-connection-classifier=(missing)",
        "27:1 /ip firewall mangle add action=mark-connection chain=prerouting comment=half 1 in-interface=lan \
         new-connection-mark=via_b per-connection-classifier=both-addresses:2/1",
        "29:1 /ip route add gateway=192.0.2.1 routing-mark=via_a",
        "29:54 /ip route add gateway=<GATEWAY-B> routing-mark=via_b",
    ];
    assert_eq!(statements, expected);
    let expected = [
        "1:1 info prose",
        "8:5 error value-missing",
        "8:14 error value-missing",
        "12:1 info prose",
        "14:2 warning wrong-case",
        "16:46 error value-missing",
        "20:53 warning typographic-quotes",
        "20:62 warning blank-line-in-command",
        "24:25 error value-missing",
        "27:137 warning dash",
        "29:54 warning line-break-lost",
        "29:58 error placeholder",
        "31:1 info prose",
    ];
    assert_eq!(notes, expected);
    assert_eq!(read(text).total, statements.len());
}

#[test]
fn a_script_is_unrolled() {
    let text = include_bytes!("fixtures/language-script.rsc");
    let (statements, notes) = reading(text);
    let rule = |share, uplink| {
        format!(
            "15:9 /ip firewall mangle add chain=prerouting in-interface=lan0 connection-mark=no-mark \
             per-connection-classifier=both-addresses:4/{share} action=mark-connection new-connection-mark=uplink{uplink}"
        )
    };
    let table = |uplink| format!("13:5 /routing table add fib=yes name=to-{uplink}");
    let route = |uplink| format!("20:5 /ip route add gateway=192.0.2.{uplink} routing-table=to-{uplink}");
    let mut expected = vec![table(1), rule(0, 1), route(1), table(2), rule(1, 2), rule(2, 2), route(2)];
    expected.extend([table(3), rule(3, 3), route(3), "23:5 /ip dns set servers=192.0.2.53".into()]);
    expected.push("30:37 /ip dns set allow-remote-requests=yes".into());
    assert_eq!(statements, expected);
    assert_eq!(notes, ["25:5 info not-run", "27:1 warning needs-router"]);
    assert_eq!(read(text).total, 7);
}

#[test]
fn what_print_shows_is_no_configuration() {
    let text = "/ip firewall nat print\nFlags: X - disabled, I - invalid; D - dynamic\n 0    ;;; to the net\n      \
                chain=srcnat action=masquerade out-interface=wan\n\n 1 X  chain=srcnat action=accept\n";
    let (statements, notes) = reading(text);
    assert_eq!(statements, ["1:1 /ip firewall nat print"]);
    assert_eq!(notes, ["2:1 error print-format"]);
    assert_eq!(read(text.as_bytes()).total, 3);
    let table =
        "Columns: DST-ADDRESS, GATEWAY\n#   DST-ADDRESS  GATEWAY\n0 As 0.0.0.0/0 192.0.2.1\n1 DAc 192.0.2.0/24 wan\n";
    assert_eq!(reading(table), (Vec::new(), vec!["1:1 error print-format".to_owned()]));
}

#[test]
fn garbage_is_read_quickly_and_accounted_for() {
    let long = |text: &str| text.repeat((256 << 10) / text.len());
    let texts = [
        long("a"),
        long("add a=b "),
        long("/ip route add gateway=192.0.2.1;"),
        long("["),
        long("{\n"),
        long("(") + "1",
        format!(":put ({}1)", long("!")),
        format!(":put (1{})", long("+1")),
        long("\u{201d}a\u{2033} "),
        long("\"a\n\"b "),
        long("\\\n"),
        long("\\ "),
        long("add source={ \n"),
        format!(":put \"{}", long("$[")),
        format!("/ip route set [find {}]", long("a=b ")),
        ":while (true) do={ /ip route add comment=\"again\" }\n".repeat(50),
        ":local x \"ab\"\n:while (true) do={ :set x ($x . $x); /ip route add comment=$x }\n".into(),
        "/ip route add !\u{2013} distance=1".into(),
        "/ip route add comment=\"$[add comment=1\" distance=1\nadd".into(),
        ":local x {1;2}\n:while (true) do={ :set x {$x;$x} }\n/ip route add comment=$x\n".into(),
        ":global f do={ :global f; $f; $f }\n$f\n".into(),
        ":global f do={ :global f; :if (((((1 = 1))))) do={ :foreach i in={1} do={ :put [$f] } } }\n$f\n".into(),
        ":if (true) do={ ".repeat(70) + "/ip route add" + &" }".repeat(70),
        format!("/ip route add distance={}1{}", "(1 + ".repeat(60), ")".repeat(60)),
        format!("/ip route add distance={}1{}", "[:tostr ".repeat(60), "]".repeat(60)),
        ":for i from=1 to=999999999999 do={ /ip route add distance=$i }\n".into(),
        format!("/ip route add {}", (0..30_000).map(|number| format!("a{number}=1 ")).collect::<String>()),
        format!("/ip route set [find] {}", long("!a ")),
        (0..30_000).map(|number| format!("/a{number} b=1\n")).collect(),
        (0..30_000).map(|number| format!("/ip route add gatewa{number}=1\n")).collect(),
        format!(":local a [/ip route find]\n{}", "/ip route set $a distance=1\n".repeat(5_000)),
        format!(
            "/ip route\n{}",
            ":foreach i in=[find] do={ :foreach j in=[find] do={ set $i distance=2 } }\n".repeat(2_000)
        ),
        long("#a\n"),
        long("\r"),
        long("/ip/route/"),
    ];
    for text in texts {
        check(text.as_bytes());
    }
}

#[test]
fn a_text_that_is_too_long_is_cut_with_a_note() {
    let text = vec![b'#'; lexer::source::MOST_BYTES + 1];
    let notes = read(&text).notes;
    assert_eq!(notes.iter().map(|note| note.id).collect::<Vec<_>>(), ["too-long"]);
}

#[test]
fn a_command_with_too_many_arguments_is_cut_with_a_note() {
    let arguments: String = (0..1_000).map(|number| format!("distance={number} ")).collect();
    let (statements, notes) = reading(format!("/ip route add {arguments}\n/ip route add"));
    assert_eq!(statements.len(), 2);
    assert!(statements[0].ends_with(" distance=255"), "{}", statements[0]);
    assert_eq!(notes, ["1:3233 error too-long"]);
}

/// What holds for every text.
pub fn check(text: &[u8]) -> Script {
    let script = read(text);
    let mut places: Vec<_> = script.statements.iter().map(|statement| statement.span).collect();
    places.sort_unstable();
    places.dedup();
    assert!(places.len() <= script.total);
    assert!(places.len() == script.total || !script.notes.is_empty(), "{} of {}", places.len(), script.total);
    assert!(script.notes.iter().all(|note| note.span.line > 0 && note.span.column > 0 && note.span.length > 0));
    assert!(script.notes.is_sorted_by_key(|note| (note.span.line, note.span.column)));
    assert!(script.notes.iter().all(|note| !note.message.contains('\n')));
    script
}
