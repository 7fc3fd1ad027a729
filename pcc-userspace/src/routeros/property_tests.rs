//! What must hold for all texts.

use proptest::prelude::*;

use super::language_tests::check;
use super::lexer::source::Source;
use super::notes::Notes;
use super::*;

/// A value as RouterOS exports it.
fn quoted(value: &str) -> String {
    let escaped: String = value
        .bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'$' => format!("\\{}", char::from(byte)),
            b' '..=b'~' => char::from(byte).to_string(),
            _ => format!("\\{byte:02X}"),
        })
        .collect();
    format!("\"{escaped}\"")
}

const FIXTURES: [&str; 3] = [
    include_str!("fixtures/language-export.rsc"),
    include_str!("fixtures/language-article.txt"),
    include_str!("fixtures/language-script.rsc"),
];

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        check(&bytes);
    }

    #[test]
    fn no_tokens_panic(tokens in proptest::collection::vec(proptest::sample::select(TOKENS), 0..60)) {
        check(tokens.concat().as_bytes());
    }

    #[test]
    fn no_damage_panics(
        text in proptest::sample::select(&FIXTURES[..]),
        cut in any::<proptest::sample::Index>(),
        end in any::<proptest::sample::Index>(),
        with in "\\PC{0,3}",
    ) {
        let mut bytes = text.as_bytes().to_vec();
        let at = cut.index(bytes.len());
        bytes.splice(at..(at + 1 + end.index(8)).min(text.len()), with.bytes());
        check(&bytes[..at]);
        let notes = check(&bytes).notes;
        prop_assert_eq!(notes.is_empty(), render::render("x", &bytes, &notes).is_empty());
    }

    #[test]
    fn every_place_is_found_again(lines in proptest::collection::vec("[a-z \t&é\u{200b}]{0,40}", 0..20), seed in any::<usize>()) {
        let text = lines.join("\n");
        let source = Source::read(text.as_bytes(), &mut Notes::default());
        // What stays of each line, with its columns.
        let places: Vec<_> = (1_u32..).zip(text.split('\n')).flat_map(|(line, text)| {
            let columns = (1_u32..).zip(text.chars()).filter(|(_, character)| *character != '\u{200b}');
            let kept: Vec<_> = columns.map(|(column, character)| (line, column, character)).collect();
            kept.into_iter().chain([(line, 0, '\n')])
        }).collect();
        let mut places: Vec<_> = source.text.char_indices().zip(places).collect();
        let length = places.len().max(1);
        places.rotate_left(seed % length);
        for ((at, character), (line, column, expected)) in places {
            prop_assert_eq!(character, expected);
            let span = source.span(at, at + 1);
            prop_assert!(character == '\n' || (span.line, span.column) == (line, column), "{} {:?}", at, span);
        }
    }

    #[test]
    fn every_command_is_counted_and_has_a_statement_or_a_note(lines in proptest::collection::vec(proptest::sample::select(LINES), 0..12)) {
        let (mut text, mut number, mut commands, mut total) = (String::from("/ip route\n"), 2, Vec::new(), 0);
        for (line, count) in &lines {
            text.push_str(&format!("{line}\n"));
            if *count > 0 {
                commands.push(number);
            }
            total += count;
            number += 1 + u32::try_from(line.matches('\n').count()).unwrap();
        }
        let script = check(text.as_bytes());
        prop_assert_eq!(script.total, total);
        let places: Vec<_> = script.statements.iter().map(|statement| statement.span.line)
            .chain(script.notes.iter().map(|note| note.span.line)).collect();
        prop_assert!(commands.iter().all(|line| places.contains(line)), "{text} {:?} {:?}", commands, script.notes);
    }

    #[test]
    fn exported_values_come_back(values in proptest::collection::vec("\\PC{0,12}", 1..5), comments in any::<bool>()) {
        let mut text = String::from("/ip firewall address-list\n");
        for value in &values {
            text.push_str(if comments { "# not ready\n" } else { "" });
            text.push_str(&format!("add comment={} \\\n    list=x\n", quoted(value)));
        }
        let script = check(text.as_bytes());
        prop_assert_eq!(&script.notes, &Vec::new());
        let read: Vec<_> = script.statements.iter().filter_map(|statement| statement.text("comment")).collect();
        prop_assert_eq!(read, values);
    }
}

/// Lines and how many commands they hold.
const LINES: &[(&str, usize)] = &[
    ("add gateway=192.0.2.1", 1),
    ("add comment=\"a b\" \\\n    distance=1", 1),
    ("set [find comment=x] distance=2; remove 0", 2),
    ("/ip address add address=192.0.2.1/24", 1),
    ("/routing { table add fib name=x; rule add table=x }", 2),
    ("sett distance=1", 1),
    ("add gateway=", 1),
    ("add distance=$nowhere", 1),
    (":if (1 = 2) do={ add distance=1; add distance=2 }", 2),
    (":if ([print count-only] > 1) do={ add distance=1 }", 1),
    (":for i from=1 to=3 do={ add distance=$i }", 1),
    (":foreach i in=[find] do={ remove $i }", 1),
    (":do { add distance=1 } on-error={ remove 0 }", 2),
    (":global f do={ add distance=$1 }", 1),
    (":local x [add distance=1]", 1),
    ("Some words to read.", 0),
    ("# a comment", 0),
    ("", 0),
];

const TOKENS: &[&str] = &[
    "/ip route",
    "/ip firewall mangle",
    "add ",
    "set ",
    "remove ",
    "[find ",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    "\"",
    "\u{201d}",
    "\u{2033}",
    "\\",
    "\\\n",
    "\n",
    "\n\n",
    "\r\n",
    " ",
    ";",
    "=",
    "!",
    "$",
    "$x",
    "$\"",
    "$[",
    "$(",
    "do={",
    "else={",
    ":if ",
    ":local x ",
    ":set x ",
    ":for i from=1 to=3 ",
    ":foreach k,v in=",
    ":while ",
    ":do ",
    "on-error={",
    ":global f do={",
    "gateway=",
    "comment=",
    "1",
    "192.0.2.1",
    "-",
    ".",
    "+",
    "->",
    "||",
    "and ",
    "~",
    ",",
    "x",
    "true",
    "Some prose here. ",
    "&quot;",
    "&amp;",
    "\u{a0}",
    "\u{2013}",
    "```",
    "12. ",
    "#",
    "[:len ",
    "[:pick ",
    "/ip route get ",
    "X.X.X.X",
    "\u{feff}",
    "\0",
    "é",
    "%",
    "@main",
    "*1A",
];
