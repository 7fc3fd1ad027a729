//! Menus, abbreviations, arguments, and what is no command.

use super::super::language_tests::{reading, statements};

#[test]
fn paths_are_absolute_relative_abbreviated_and_nested() {
    let table = [
        ("/ip firewall mangle\nadd", "2:1 /ip firewall mangle add"),
        ("/ip/firewall/mangle\nadd", "2:1 /ip firewall mangle add"),
        ("/ip/firewall/mangle/add", "1:1 /ip firewall mangle add"),
        ("/ip firewall/mangle add", "1:1 /ip firewall mangle add"),
        ("/ ip fi man\n\tadd", "2:2 /ip firewall mangle add"),
        ("/ip fire nat a", "1:1 /ip firewall nat add"),
        ("/interface\nlist add", "2:1 /interface list add"),
        ("/interface\nlist member add", "2:1 /interface list member add"),
        ("/ip firewall nat\n.. mangle add", "2:1 /ip firewall mangle add"),
        ("/ip firewall nat\n..\nmangle add", "3:1 /ip firewall mangle add"),
        ("/ip route\n/\nip address add", "3:1 /ip address add"),
        ("ip route add", "1:1 /ip route add"),
        ("/ip route rule add", "1:1 /ip route rule add"),
        ("/ip route { rule { add } }", "1:20 /ip route rule add"),
        ("/ip route {\n  add;\n}", "2:3 /ip route add"),
        ("/ip route; add", "1:12 /ip route add"),
        ("/sys scr run x", "1:1 /system script run x"),
        ("/ip route rem 0", "1:1 /ip route remove 0"),
        ("/sys sched dis x", "1:1 /system scheduler disable x"),
        ("/int eth\nset ether1 l2=1600", "2:1 /interface ethernet set ether1 l2mtu=1600"),
        ("/int list mem ad int=a list=b", "1:1 /interface list member add interface=a list=b"),
        ("/ip/fi/addr/ad l=a addr=192.0.2.1", "1:1 /ip firewall address-list add list=a address=192.0.2.1"),
        ("/ip dhcp-c add int=wan disable=no", "1:1 /ip dhcp-client add interface=wan disabled=no"),
        ("/rou ta add fib n=a", "1:1 /routing table add fib=yes name=a"),
        ("/rout ru add act=lookup tab=a", "1:1 /routing rule add action=lookup table=a"),
        ("/ip dns set allow=yes serv=192.0.2.53", "1:1 /ip dns set allow-remote-requests=yes servers=192.0.2.53"),
        (
            "/ipv fi ma\nad ch=prerouting act=mark-routing new-r=a pass=no dst-address-t=!local",
            "2:1 /ipv6 firewall mangle add chain=prerouting action=mark-routing new-routing-mark=a passthrough=no \
             dst-address-type=!local",
        ),
        (
            "/ip ro ad dst=0.0.0.0/0 gate=192.0.2.1 dist=2 black",
            "1:1 /ip route add dst-address=0.0.0.0/0 gateway=192.0.2.1 distance=2 blackhole=yes",
        ),
        ("/ip ro\ndis [fi comm=x]", r#"2:1 /ip route disable [/ip route find Some(Equal("comment", "x"))]"#),
    ];
    for (text, expected) in table {
        assert_eq!(statements(text), [expected], "{text}");
    }
}

#[test]
fn capital_letters_are_read_with_a_warning() {
    let table = [
        ("/IP ROUTE ADD GATEWAY=192.0.2.1 Distance=2", "1:1 /ip route add gateway=192.0.2.1 distance=2"),
        ("/ip route\nAdd gateway=192.0.2.1", "2:1 /ip route add gateway=192.0.2.1"),
        ("/ip route\nSet 0 distance=2", "2:1 /ip route set 0 distance=2"),
        ("/ip route\nRemove 0", "2:1 /ip route remove 0"),
        ("/ip route\nDis [ Find comment=X ]", r#"2:1 /ip route disable [/ip route find Some(Equal("comment", "X"))]"#),
        ("/interface ethernet\nSET ether1 name=wan", "2:1 /interface ethernet set ether1 name=wan"),
    ];
    for (text, expected) in table {
        let (statements, notes) = reading(text);
        assert_eq!(statements, [expected], "{text}");
        assert!(notes.len() == 1 && notes[0].ends_with("warning wrong-case"), "{text} {notes:?}");
    }
}

#[test]
fn a_full_command_keeps_the_context() {
    let text = "/ip route\n/ip address add\nadd\n/ip firewall {\n  nat add\n}\nadd";
    let expected = ["2:1 /ip address add", "3:1 /ip route add", "5:3 /ip firewall nat add", "7:1 /ip route add"];
    assert_eq!(statements(text), expected);
}

#[test]
fn a_menu_that_a_closed_block_chose_is_noted() {
    let (statements, notes) = reading("{\n/ip route\nadd\n}\nadd\nadd");
    assert_eq!(statements, ["3:1 /ip route add", "5:1 /ip route add", "6:1 /ip route add"]);
    assert_eq!(notes, ["5:1 warning menu-from-block"]);
}

#[test]
fn arguments_have_many_forms() {
    let table = [
        ("add fib name=x", "add fib=yes name=x"),
        ("add disable=no name=x", "add disabled=no name=x"),
        ("set x !comment", "set x !comment"),
        ("set 0,2 name=y", "set 0 2 name=y"),
        ("set *1A name=y", "set *1A name=y"),
        ("set numbers=3 name=y", "set 3 name=y"),
        ("add name= \"x\"", "add name=x"),
        ("add name=\\\n    x", "add name=x"),
        ("add name=\"\"", "add name="),
        ("move 3 1", "move 3 destination=1"),
        ("remove [find]", "remove [/routing table find None]"),
    ];
    for (text, expected) in table {
        let text = format!("/routing table {text}");
        assert_eq!(statements(&text), [format!("1:1 /routing table {expected}")], "{text}");
    }
    let negated = "/ip firewall mangle add dst-address-type=!local tcp-flags=syn,!ack tcp-mss=\\\n!0-1300";
    let expected = "1:1 /ip firewall mangle add dst-address-type=!local tcp-flags=syn,!ack tcp-mss=!0-1300";
    assert_eq!(statements(negated), [expected]);
}

#[test]
fn finds_have_conditions() {
    let table = [
        ("comment=x", r#"Equal("comment", "x")"#),
        ("where comment~\"^a\"", r#"Matches("comment", "^a")"#),
        ("disabled", r#"Flag("disabled")"#),
        ("!disabled", r#"Not(Flag("disabled"))"#),
        ("distance>1 and !(active)", r#"And([Greater("distance", "1"), Not(Flag("active"))])"#),
        ("a=1 b=2 || c!=3", r#"Or([And([Equal("a", "1"), Equal("b", "2")]), NotEqual("c", "3")])"#),
        ("comment = \"x y\"", r#"Equal("comment", "x y")"#),
        ("routing-t=x", r#"Equal("routing-table", "x")"#),
    ];
    for (condition, expected) in table {
        let expected = format!("1:1 /ip route remove [/ip route find Some({expected})]");
        assert_eq!(statements(format!("/ip route remove [find {condition}]")), [expected], "{condition}");
    }
    let other = "/ip route remove [/ip address find interface=x]";
    let expected = r#"1:1 /ip route remove [/ip address find Some(Equal("interface", "x"))]"#;
    assert_eq!(statements(other), [expected]);
}

#[test]
fn missing_values_are_named() {
    let table = [
        ("add gateway= distance=1", "add gateway=(missing) distance=1", "1:15 error value-missing"),
        ("add gateway=", "add gateway=(missing)", "1:15 error value-missing"),
        ("add gateway=,", "add gateway=(missing)", "1:15 error value-missing"),
        ("add gateway=; #", "add gateway=(missing)", "1:15 error value-missing"),
        ("add gateway=\\\n\n\nadd", "add gateway=(missing)", "1:15 error value-missing"),
        ("add comment= distance=1", "add comment=(missing) distance=1", "1:15 warning value-missing"),
    ];
    for (text, expected, note) in table {
        let (statements, notes) = reading(format!("/ip route {text}"));
        assert_eq!(statements[0], format!("1:1 /ip route {expected}"), "{text}");
        assert_eq!(notes[0], note, "{text}");
    }
}

#[test]
fn mistakes_are_errors_with_their_place() {
    let table = [
        ("/ip route add gateway=X.X.X.X", "1:15 error placeholder"),
        ("/ip route add gateway=<PUBLIC_IP>", "1:15 error placeholder"),
        ("/ip route add gateway=192.0.2.x", "1:15 error placeholder"),
        ("/ip route add gateway=[your gateway]", "1:23 error placeholder"),
        ("/ip route add gatway=192.0.2.1", "1:15 warning unknown-property"),
        ("/ip route add s=1", "1:15 error ambiguous"),
        ("/ip firewall mangel\n", "1:14 error unknown-menu"),
        ("/ip firewall mangel\nadd", "1:14 error unknown-menu"),
        ("/ip d\nadd", "1:5 error ambiguous"),
        ("add gateway=192.0.2.1", "1:1 error unknown-command"),
        ("/ip route\nsett 0 distance=1", "2:1 info prose"),
        ("/ip route\nsett distance=1", "2:1 error unknown-command"),
        ("/ip route gateway=192.0.2.1", "1:1 error unknown-command"),
        ("/ip route add nonsense", "1:15 error unknown-word"),
        ("/ip route\nadd }", "2:5 error unopened"),
        ("/ip route {\nadd", "1:11 error unclosed"),
        ("/ip route remove [find", "1:18 error unclosed"),
        (":put (1 +)", "1:10 error syntax"),
        (":wibble x", "1:1 error unknown-command"),
        (":set x 1", "1:1 error undeclared-variable"),
        (":put $x", "1:6 error undeclared-variable"),
    ];
    for (text, expected) in table {
        assert_eq!(reading(text).1, [expected], "{text}");
    }
}

#[test]
fn typing_errors_get_a_proposal() {
    let fix = |text: &str| super::super::read(text.as_bytes()).notes[0].fix.clone().unwrap();
    assert_eq!(fix("/ip route add gatway=192.0.2.1"), "perhaps `gateway`");
    assert_eq!(fix("/ip firewall mangel"), "perhaps `mangle`");
}

#[test]
fn dynamic_names_and_credentials_are_no_placeholders() {
    let text = "/ip route add gateway=<pppoe-me>\n/interface pppoe-client add user=xxxx password=xxxx";
    assert_eq!(statements(text).len(), 2);
}

#[test]
fn commands_that_lost_their_line_break_are_found() {
    let text = "/ip route add gateway=192.0.2.1 add gateway=192.0.2.2 /ip address add address=192.0.2.9/24 :put 1\nadd";
    let (statements, notes) = reading(text);
    let expected = [
        "1:1 /ip route add gateway=192.0.2.1",
        "1:33 /ip route add gateway=192.0.2.2",
        "1:55 /ip address add address=192.0.2.9/24",
        "2:1 /ip route add",
    ];
    assert_eq!(
        (&statements[..], &notes[..]),
        (&expected.map(str::to_owned)[..], &["1:33 warning line-break-lost".to_owned()][..])
    );
}

#[test]
fn prose_is_told_apart_from_commands() {
    let prose = [
        "Set default gateways for unmarked connections",
        "set the gateways as follows",
        "Set passthrough as in check-gateway=ping",
        "Remove 2 of the rules",
        "Add the following: distance=2",
        "add the following rules:",
        "/ip firewall mangle is where the rules go.",
        "/24 networks are small",
        "interface names differ from router to router",
        "“Quoted” words",
        "2 ISPs",
        "* a list",
        "if you have two lines, go on",
        "[erased]",
    ];
    for text in prose {
        let (statements, notes) = reading(format!("/ip route\n{text}\nadd"));
        assert_eq!(
            (&statements[..], &notes[..]),
            (&["3:1 /ip route add".to_owned()][..], &["2:1 info prose".to_owned()][..]),
            "{text}"
        );
    }
    let commands = [
        "print detail where dynamic",
        "export",
        "/ip dns export file=x",
        "enable 0",
        "/system reboot",
        "/ping 192.0.2.1",
    ];
    for text in commands {
        assert_eq!(statements(format!("/ip route\n{text}")).len(), 1, "{text}");
    }
}

#[test]
fn scripts_in_values_are_data() {
    let text = "/system script add name=x source={\n  :local a 1\n  /ip route add gateway=$a\n}\n/ip route add";
    let expected =
        ["1:1 /system script add name=x source=\n  :local a 1\n  /ip route add gateway=$a\n", "5:1 /ip route add"];
    assert_eq!(statements(text), expected);
}
