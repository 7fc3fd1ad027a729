//! Blanks, words, strings and the damage that pages do to them.

use super::super::language_tests::{reading, statements};

/// The value of `comment` that is read from `written`, and the ids of the notes.
fn comment(written: &str) -> (String, Vec<String>) {
    let (statements, notes) = reading(format!("/ip route add comment={written}"));
    let ids = notes.iter().filter_map(|note| note.rsplit(' ').next().map(str::to_owned)).collect();
    (statements[0].replacen("1:1 /ip route add comment=", "", 1), ids)
}

#[test]
fn strings_resolve_their_escapes_as_bytes() {
    let table = [
        (r#""a b""#, "a b"),
        (r#""a\"b\\c\$d""#, "a\"b\\c$d"),
        (r#""\_x\ny\tz""#, " x\ny\tz"),
        (r#""\D0\94\C3\A9""#, "Дé"),
        (r#""\E9""#, "é"),
        (r#""what\?""#, "what?"),
        ("\"cut \\\n    over lines\"", "cut over lines"),
        ("\"raw\nlines\"", "raw\nlines"),
        ("\"#1; {x} [y]\"", "#1; {x} [y]"),
        (r#""""#, ""),
        ("#1", "#1"),
        ("a/b:c,d%e@f*g", "a/b:c,d%e@f*g"),
    ];
    for (written, read) in table {
        assert_eq!(comment(written), (read.to_owned(), Vec::new()), "{written}");
    }
}

#[test]
fn damaged_values_are_repaired_with_one_note_for_each_kind() {
    let table = [
        ("\u{201d}a b\u{2033}", "a b", "typographic-quotes"),
        ("\u{201c}a b\u{201d}", "a b", "typographic-quotes"),
        ("\"a b\u{2033} distance=1", "a b distance=1", "typographic-quotes"),
        ("&quot;a &amp; b&quot;", "a & b", "html-entity"),
        ("a\u{2013}b", "a-b", "dash"),
        ("x\u{a0}distance=1", "x distance=1", "non-breaking-blank"),
        ("a\u{200b}b", "ab", "invisible-character"),
        ("\"a\u{1}b\"", "a b", "control-character"),
        (r#""a\qb""#, r"a\qb", "unknown-escape"),
        ("a \\  distance=1", "a distance=1", "stray-backslash"),
        ("a \\ \n distance=1", "a distance=1", "blank-after-backslash"),
        ("a \\\n\n distance=1", "a distance=1", "blank-line-in-command"),
        ("a\n distance=1", "a distance=1", "backslash-lost"),
        ("a distance = 1", "a distance=1", "blank-before-equals"),
        ("a Distance=1", "a distance=1", "wrong-case"),
        ("\"a b", "a b", "unclosed"),
    ];
    for (written, read, id) in table {
        assert_eq!(comment(written), (read.to_owned(), vec![id.to_owned()]), "{written}");
    }
}

#[test]
fn a_lost_quote_costs_one_line() {
    let text = "/ip route\nadd comment=\"lost gateway=192.0.2.1\nadd comment=\"kept\" gateway=192.0.2.2\n";
    let (statements, notes) = reading(text);
    assert_eq!(statements[1..], ["3:1 /ip route add comment=kept gateway=192.0.2.2"]);
    assert_eq!(notes, ["2:13 error unclosed"]);
}

#[test]
fn damage_is_counted_and_placed_at_its_first() {
    let notes = super::super::read("/ip route\nadd comment=”a”\nadd comment=”b”\n".as_bytes()).notes;
    assert_eq!(notes.len(), 1);
    assert_eq!((notes[0].span.line, notes[0].span.column), (2, 13));
    assert!(notes[0].message.contains("4 places"), "{}", notes[0].message);
}

#[test]
fn line_ends_and_encodings_differ() {
    let expected = ["1:1 /ip route add gateway=192.0.2.1", "2:1 /ip route add comment=é"];
    for end in ["\n", "\r\n", "\r"] {
        let text = format!("/ip route add gateway=192.0.2.1{end}/ip route add comment=\"é\"{end}");
        assert_eq!(statements(&text), expected);
        for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            let wide: Vec<_> = format!("\u{feff}{text}").encode_utf16().flat_map(bytes).collect();
            assert_eq!(reading(wide), (expected.map(str::to_owned).to_vec(), vec!["1:1 info utf-16".to_owned()]));
        }
    }
    let (latin, notes) = reading(b"/ip route add gateway=192.0.2.1\n/ip route add comment=\"\xe9\"");
    assert_eq!((&latin[..], &notes[..]), (&expected.map(str::to_owned)[..], &["2:24 warning encoding".to_owned()][..]));
    let (marked, notes) = reading("\u{feff}/ip route\nadd");
    assert_eq!((marked[0].as_str(), notes[0].as_str()), ("2:1 /ip route add", "1:1 info byte-order-mark"));
}

#[test]
fn what_pages_put_around_lines_is_taken_off() {
    let table = [
        ("```\n/ip route\nadd\n```", "3:1 /ip route add", "1:1 info markdown-fence"),
        ("1. /ip route\n2. add\n3. # end", "2:4 /ip route add", "1:1 warning line-number"),
        ("- /ip route\n- add comment=x", "2:3 /ip route add comment=x", "1:1 warning line-prefix"),
        ("| /ip route add |", "1:3 /ip route add", "1:1 warning line-prefix"),
        ("[me@router] > /ip route add", "1:15 /ip route add", "1:1 info prompt"),
        ("[me@router] /ip route> add", "1:13 /ip route add", "1:1 info prompt"),
    ];
    for (text, statement, note) in table {
        assert_eq!(reading(text), (vec![statement.to_owned()], vec![note.to_owned()]), "{text}");
    }
}

#[test]
fn comments_stand_at_the_start_of_words() {
    let text = "# one \\\n/ip route # two\nadd comment=a#b # three\n:put \"#\"; add";
    assert_eq!(statements(text), ["3:1 /ip route add comment=a#b", "4:11 /ip route add"]);
}
