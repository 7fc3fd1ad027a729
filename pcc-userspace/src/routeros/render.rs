//! Notes as people read them, with the line and a caret below it, and as data.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::lexer::source::{decode, lines};
use super::notes::Notes;
use super::{Note, Severity, Span};

/// Columns of the output.
const WIDTH: usize = 140;
/// Characters of a line that are shown before and behind a place, and of the place itself; the renderer cuts them to
/// the width.
const MARGIN: usize = 1000;
const MOST_MARKED: usize = 200;

/// `notes` about `text`, which `name` calls, each with its line and a blank line behind it; without colours.
pub fn render(name: &str, text: &[u8], notes: &[Note]) -> String {
    let text = decode(text, &mut Notes::default());
    let (mut rest, mut line, mut next) = (lines(&text), "", 1);
    let renderer = Renderer::plain().term_width(WIDTH);
    let mut out = String::new();
    for note in notes {
        let number = usize::try_from(note.span.line).unwrap_or(usize::MAX);
        if number.saturating_add(1) != next {
            if number < next {
                (rest, next) = (lines(&text), 1);
            }
            line = rest.nth(number.saturating_sub(next)).unwrap_or_default();
            next = number.saturating_add(1);
        }
        out.push_str(&renderer.render(&[report(name, note, number, line)]));
        out.push_str("\n\n");
    }
    out
}

fn report<'a>(name: &'a str, note: &'a Note, number: usize, line: &str) -> Group<'a> {
    let level = match note.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Info => Level::INFO,
    };
    let fix = note.fix.as_ref().map(|fix| Level::HELP.message(fix.as_str()));
    let (shown, marked) = excerpt(line, note.span);
    let snippet = Snippet::source(shown).line_start(number).annotation(AnnotationKind::Primary.span(marked));
    let group = level.primary_title(note.message.as_str()).id(note.id);
    // The renderer counts columns in what it is given; where that does not begin the line, they are said apart.
    let group = match usize::try_from(note.span.column) {
        Ok(column) if column > MARGIN => {
            group.element(Origin::path(name).line(number).char_column(column)).element(snippet)
        }
        _ => group.element(snippet.path(name)),
    };
    group.elements(fix)
}

/// The part of `line` around `span`, and the bytes of the place in it.
fn excerpt(line: &str, span: Span) -> (String, std::ops::Range<usize>) {
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let start = count(span.column).saturating_sub(1);
    let first = start.saturating_sub(MARGIN);
    let shown = |from: usize, characters: usize| {
        let part = line.chars().skip(from).take(characters);
        part.map(|character| if character.is_control() { ' ' } else { character }).collect::<String>()
    };
    let (before, place) = (shown(first, start - first), shown(start, count(span.length).min(MOST_MARKED)));
    let behind = shown(start.saturating_add(count(span.length).min(MOST_MARKED)), MARGIN);
    let before = if first > 0 { format!("…{before}") } else { before };
    let marked = before.len()..before.len() + place.len();
    (format!("{before}{place}{behind}"), marked)
}

impl Serialize for Note {
    /// `severity`, `id`, `line`, `column` and `length` as in [`Span`], `message`, and `fix` or null.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut note = serializer.serialize_struct("Note", 7)?;
        note.serialize_field("severity", &self.severity.to_string())?;
        note.serialize_field("id", self.id)?;
        note.serialize_field("line", &self.span.line)?;
        note.serialize_field("column", &self.span.column)?;
        note.serialize_field("length", &self.span.length)?;
        note.serialize_field("message", &self.message)?;
        note.serialize_field("fix", &self.fix)?;
        note.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routeros::read;

    #[test]
    fn a_note_shows_its_line_with_a_caret() {
        let text = b"/ip route\r\nadd gatway=192.0.2.1\r\n";
        let expected = "\
warning[unknown-property]: `gatway` is no property of `/ip route`
 --> my.rsc:2:5
  |
2 | add gatway=192.0.2.1
  |     ^^^^^^
  |
  = help: perhaps `gateway`

";
        assert_eq!(render("my.rsc", text, &read(text).notes), expected);
    }

    #[test]
    fn a_place_far_into_a_line_is_shown_with_its_column() {
        let text = format!("/ip route add comment={} gatway=192.0.2.1", "x".repeat(5000));
        let shown = render("my.rsc", text.as_bytes(), &read(text.as_bytes()).notes);
        assert!(shown.contains("my.rsc:1:5024") && shown.contains("gatway=192.0.2.1"), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() < 2 * WIDTH), "{shown}");
    }

    #[test]
    fn notes_in_any_order_show_their_lines() {
        let text = b"/ip route\nadd gatway=192.0.2.1 gatewai=192.0.2.2\n\nadd distence=1";
        let mut notes = read(text).notes;
        let shown = |notes: &[Note]| {
            let shown = render("x", text, notes);
            let mut shown: Vec<_> = shown.split("\n\n").map(str::to_owned).collect();
            shown.sort();
            shown
        };
        let expected = shown(&notes);
        assert!(expected.iter().any(|note| note.contains("4 | add distence=1")), "{expected:?}");
        notes.reverse();
        assert_eq!(shown(&notes), expected);
    }

    #[test]
    fn a_note_has_a_form_for_programs() {
        let notes = read(b"/ip route\nadd gateway=").notes;
        let expected = serde_json::json!([{
            "severity": "error", "id": "value-missing", "line": 2, "column": 5, "length": 8,
            "message": "`gateway` of `/ip route add` has no value",
            "fix": "write the value behind `gateway=`",
        }]);
        assert_eq!(serde_json::to_value(notes).unwrap(), expected);
    }
}
