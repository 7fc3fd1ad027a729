//! Constant scripting, and what needs a router.

use super::super::language_tests::{reading, statements};

/// The text that `expression` has after `script` has run.
fn value(script: &str, expression: &str) -> String {
    let read = statements(format!("{script}\n/ip route add comment={expression}"));
    read[0].split_once(" comment=").unwrap().1.to_owned()
}

#[test]
fn expressions_have_values() {
    let table = [
        ("", "(1 + 2 * 3)", "7"),
        ("", "((1 + 2) * 3 - 10 / 3 % 2)", "8"),
        ("", "(0x10 | 3)", "19"),
        ("", "(1 << 4 >> 2)", "4"),
        ("", "(192.0.2.1 + 5)", "192.0.2.6"),
        ("", "(192.0.2.9 - 192.0.2.1)", "8"),
        ("", "(192.0.2.9 & 255.255.255.0)", "192.0.2.0"),
        ("", "(192.0.2.9 in 192.0.2.0/24)", "true"),
        ("", "(198.51.100.0/24 in 192.0.2.0/24)", "false"),
        ("", "(\"a\" . 1 . \"b\")", "a1b"),
        ("", "(1 < 2 && !(2 <= 1) || false)", "true"),
        ("", "(\"a\" < \"b\" and not (10 > 9 and 1 != 1))", "true"),
        ("", "(\"\" = [:nothing])", "true"),
        ("", "[:len \"caf\\C3\\A9\"]", "5"),
        ("", "[:pick \"abcdef\" 2]", "c"),
        ("", "[:pick \"abcdef\" 2 4]", "cd"),
        ("", "[:find \"abcabc\" \"c\" 3]", "5"),
        ("", "[:tostr {1;2}]", "1;2"),
        ("", "[:len [:toarray \"a,b,c\"]]", "3"),
        ("", "([:tonum \"12\"] + 1)", "13"),
        ("", "[:toip \"192.0.2.1\"]", "192.0.2.1"),
        ("", "[:typeof {1;2}]", "array"),
        (":local x 5", "$x", "5"),
        (":local x 5", "\"a$x-b\"", "a5-b"),
        (":local x 5", "\"$($x + 1)\"", "6"),
        (":local \"x-y\" 5", "$\"x-y\"", "5"),
        (":local x 192.0.2.0; :local y 24", "$x/$y", "192.0.2.0/24"),
        (":local x {\"a\"=1; \"b\"=2}", "($x->\"b\")", "2"),
        (":local x {5;6;7}", "($x->1)", "6"),
        (":local x {5;6}; :set ($x->0) 9", "$x", "9,6"),
        (":local x {5}; :set x ($x, 6)", "$x", "5,6"),
        (":local x; :if (1 = 1) do={ :set x yes } else={ :set x no }", "$x", "yes"),
        (":local x 0; :for i from=3 to=1 do={ :set x ($x . $i) }", "$x", "0321"),
        (":local x 0; :for i from=0 to=10 step=5 do={ :set x ($x . $i) }", "$x", "00510"),
        (":local x \"\"; :foreach k,v in={a=1;b=2} do={ :set x ($x . $k . $v) }", "$x", "a1b2"),
        (":local x 0; :while ($x < 4) do={ :set x ($x + 1) }", "$x", "4"),
        (":local x 0; :do { :set x ($x + 1) } while=($x < 3)", "$x", "3"),
        (":local x 0; :do { :error \"no\" } on-error={ :set x 1 }", "$x", "1"),
        (":global f do={ :return ($1 + $b) }", "[$f 1 b=2]", "3"),
        (":local x 1; { :local x 2 }", "$x", "1"),
        ("local x \"y\"; if ($x = \"y\") do={ :set x \"z\" }", "$x", "z"),
    ];
    for (script, expression, expected) in table {
        assert_eq!(value(script, expression), expected, "{script} {expression}");
    }
}

#[test]
fn what_needs_a_router_is_unknown_and_noted() {
    let table = [
        ("/ip route add gateway=[/ip dhcp-client get 0 gateway]", "1:15 warning needs-router", true),
        ("/ip route add gateway=[:resolve x]", "1:15 warning needs-router", true),
        ("/ip route set [:pick [find] 0] distance=1", "1:15 warning needs-router", true),
        (":if ([:len [/ip route find]] = 0) do={ /ip route add }", "1:1 warning needs-router", false),
        (":while ([/ip route print count-only] > 0) do={ /ip route add }", "1:1 warning needs-router", false),
    ];
    for (text, note, stated) in table {
        let (statements, notes) = reading(text);
        assert_eq!(notes, [note], "{text}");
        assert_eq!(statements.len(), usize::from(stated), "{text}");
        assert!(!stated || statements[0].contains("?("), "{text}");
    }
    assert_eq!(statements(":put [/system identity get name]"), Vec::<String>::new());
}

#[test]
fn what_a_skipped_branch_sets_is_unknown() {
    let text = ":local x 1\n:if ([/ip route print count-only] > 0) do={ :set x 2 }\n/ip route add distance=$x";
    let (statements, notes) = reading(text);
    assert_eq!(notes, ["2:1 info needs-router", "3:15 warning needs-router"]);
    assert!(statements[0].contains("distance=?("), "{}", statements[0]);
}

#[test]
fn items_travel_in_variables() {
    let text = ":local old [/ip route find comment=x]\n/ip route set $old distance=2";
    let expected = r#"2:1 /ip route set [/ip route find Some(Equal("comment", "x"))] distance=2"#;
    assert_eq!(statements(text), [expected]);
}

#[test]
fn a_loop_over_items_changes_all_of_them() {
    let found = r#"[/ip route find Some(Equal("comment", "x"))]"#;
    let table = [
        ("/ip route set $i disabled=yes", format!("set {found} disabled=yes")),
        ("/ip route set disabled=yes numbers=$i", format!("set {found} disabled=yes")),
        ("/ip route remove $i", format!("remove {found}")),
        ("/ip route enable $i; :delay 1s; :log info \"$i\"", format!("enable {found}")),
        ("/ip route move $i", format!("move {found}")),
        (":local d (1 + 1); :if ($d = 2) do={ /ip route set $i distance=$d }", format!("set {found} distance=2")),
        (":do { /ip route disable $i } on-error={ :put \"no\" }", format!("disable {found}")),
    ];
    for (body, expected) in table {
        let text = format!(":foreach i in=[/ip route find comment=x] do={{ {body} }}");
        let read = statements(&text);
        assert_eq!(read.len(), 1, "{text}");
        assert_eq!(read[0].split_once(" /ip route ").unwrap().1, expected, "{text}");
    }
    let function = ":global f do={ /ip route disable $1 }\n/ip route\n:foreach k,v in=[find] do={ $f $v }";
    assert_eq!(statements(function), ["1:16 /ip route disable [/ip route find None]"]);
}

#[test]
fn what_differs_from_item_to_item_is_unknown() {
    let table = [
        ("set $i comment=[get $i gateway]", "3:22 warning needs-router", true),
        ("set $i comment=$i", "3:22 warning needs-router", true),
        ("set $i distance=$n; :set n ($n + 1)", "3:22 warning needs-router", true),
        ("set $i distance=$n; $f", "3:22 warning needs-router", true),
        ("add gateway=192.0.2.1", "3:15 warning needs-router", false),
        ("set 0 distance=2", "3:15 warning needs-router", false),
        ("move $i 0", "3:15 warning needs-router", false),
        (":if ([get $i disabled]) do={ remove $i }", "3:15 warning needs-router", false),
        (":foreach j in=[find] do={ remove $i }", "3:15 warning needs-router", false),
        ("remove $i; :error \"enough\"", "2:1 warning needs-router", false),
    ];
    for (body, note, stated) in table {
        let text = format!(
            "/ip route; :global n 1; :global f do={{ :global n; :set n ($n + 1) }}\n:foreach i in=[find] do={{\n{:14}{body}\n}}",
            ""
        );
        let (statements, notes) = reading(&text);
        assert_eq!(notes, [note], "{text}");
        assert_eq!(statements.len(), usize::from(stated), "{text}");
        assert!(!stated || statements[0].contains("?("), "{text}");
    }
    let after = "/ip route; :local n 1\n:foreach i in=[find] do={ :set n 2 }\nadd distance=$n";
    assert_eq!(reading(after).1, ["3:5 warning needs-router"]);
}

#[test]
fn items_that_changed_since_they_were_found_are_unknown() {
    let table = [
        ("set [find] distance=2", false),
        ("remove [find distance=1]; /ip address add address=192.0.2.1/24", false),
        ("disable [find]", true),
        ("set [find] comment=y", false),
        ("set [find] disabled=no", true),
        ("add gateway=192.0.2.1", true),
        ("/interface set ether1 name=wan", true),
        ("/interface set ether1 mtu=1400", false),
    ];
    for (between, stale) in table {
        let text =
            format!("/ip route\n:local a [find disabled=yes gateway=ether1]\n{between}\n/ip route set $a scope=9");
        let (statements, notes) = reading(&text);
        assert_eq!(statements.last().unwrap().contains("?("), stale, "{text}");
        assert_eq!(notes.len(), usize::from(stale), "{text} {notes:?}");
    }
}

#[test]
fn commands_that_do_not_run_are_noted() {
    let table = [
        (":if (1 = 2) do={ /ip route add; /ip route add }", "1:18 info not-run"),
        (":global f do={ /ip route add }", "1:16 info not-run"),
        (":do { /ip route add } on-error={ /ip address add }", "1:34 info not-run"),
    ];
    for (text, note) in table {
        assert_eq!(reading(text).1, [note], "{text}");
    }
    let later = ":global f do={ /ip route add; :if ($1 = 2) do={ /ip route remove 0 } }\n$f 1\n";
    assert_eq!(reading(later), (vec!["1:16 /ip route add".into()], vec!["1:49 info not-run".into()]));
    assert_eq!(statements(format!("{later}$f 2")).len(), 3);
    let (statements, notes) = reading("/ip route add\n:error \"enough\"\n/ip route add");
    assert_eq!(statements.len(), 1);
    assert_eq!(notes, ["2:1 warning stopped", "3:1 info not-run"]);
}

#[test]
fn a_command_in_brackets_runs() {
    let text = ":local id [/ip route add gateway=192.0.2.1]\n/ip route set $id distance=2";
    let (statements, notes) = reading(text);
    assert_eq!(statements[0], "1:12 /ip route add gateway=192.0.2.1");
    assert_eq!(notes, ["2:15 warning needs-router"]);
}

#[test]
fn endless_loops_end() {
    let table = [
        ":while (true) do={ :put 1 }",
        ":local x 1; :while ($x > 0) do={ :set x ($x + 1) }",
        ":for i from=1 to=9223372036854775807 do={ :put $i }",
        ":local x 1; :do { :put 1 } while=($x = 1)",
    ];
    for text in table {
        let notes = reading(text).1;
        assert!(notes.len() == 1 && notes[0].ends_with("error step-limit"), "{text} {notes:?}");
    }
}
