//! Collects notes: one for each kind of damage, and a bounded number of any other kind.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Note, Severity, Span};

/// Notes of one id; more are only counted.
const MOST: usize = 1000;

/// The notes of one text in the making.
#[derive(Debug, Default)]
pub struct Notes {
    list: Vec<Note>,
    seen: HashSet<(&'static str, Span)>,
    counts: BTreeMap<&'static str, usize>,
    damage: BTreeMap<&'static str, Damage>,
}

#[derive(Debug)]
struct Damage {
    first: Span,
    last: usize,
    places: usize,
}

impl Notes {
    /// Adds `note` unless the same place has one of this id, as in loops.
    pub fn add(&mut self, mut note: Note) {
        // What was written may hold anything, and a message is one line.
        note.message = note.message.replace(|character: char| character.is_control(), "\u{fffd}");
        let count = self.counts.entry(note.id).or_default();
        if *count < MOST {
            if self.seen.insert((note.id, note.span)) {
                *count += 1;
                self.list.push(note);
            }
        } else if *count == MOST {
            *count += 1;
            self.list.push(Note { message: left_out(note.id), fix: None, ..note });
        }
    }

    /// Whether another note of this id would be left out.
    pub fn is_full(&self, id: &str) -> bool {
        self.counts.get(id).is_some_and(|count| *count > MOST)
    }

    /// Counts one place of the damage `id`, at the byte `at` of the source. A place that is read again counts once.
    pub fn damage(&mut self, id: &'static str, at: usize, span: impl FnOnce() -> Span) {
        let damage = self.damage.entry(id).or_insert_with(|| Damage { first: span(), last: at, places: 1 });
        if at > damage.last {
            damage.last = at;
            damage.places += 1;
        }
    }

    /// All notes in the order of the text.
    pub fn finish(self) -> Vec<Note> {
        let mut notes = self.list;
        for (id, Damage { first, places, .. }) in self.damage {
            let (severity, text, fix) = describe(id);
            let count = if places > 1 { format!(" ({places} places, the first one here)") } else { String::new() };
            notes.push(Note::new(severity, id, first, format!("{text}{count}")).with_fix(fix));
        }
        notes.sort_by_key(|note| (note.span.line, note.span.column));
        notes
    }
}

/// Keeps the first notes of each id and severity of `notes`, and says so.
pub fn limit(notes: &mut Vec<Note>) {
    let mut counts: HashMap<_, usize> = HashMap::new();
    notes.retain_mut(|note| {
        let count = counts.entry((note.id, note.severity)).or_default();
        *count += 1;
        if *count == MOST + 1 {
            note.message = left_out(note.id);
            note.fix = None;
        }
        *count <= MOST + 1
    });
}

fn left_out(id: &str) -> String {
    format!("more than {MOST} notes `{id}`: from here on they are left out")
}

/// What is wrong and what to do, for each kind of damage.
fn describe(id: &str) -> (Severity, &'static str, &'static str) {
    use Severity::{Info, Warning};
    match id {
        "typographic-quotes" => (Warning, "typographic quotes, read as `\"`", "write `\"`"),
        "non-breaking-blank" => (Warning, "a blank that RouterOS does not take for one", "write an ordinary blank"),
        "dash" => (Warning, "a dash that is no `-`, read as `-`", "write `-`"),
        "html-entity" => {
            (Warning, "an HTML entity, read as its character", "copy the text instead of the page's source")
        }
        "encoding" => (Warning, "bytes that are no UTF-8, read as Windows-1252", "save the text as UTF-8"),
        "utf-16" => (Info, "the text is UTF-16", "save the text as UTF-8"),
        "byte-order-mark" => (Info, "a byte order mark", "save the text without it"),
        "control-character" => (Warning, "a control character, read as a blank", "remove it"),
        "invisible-character" => (Warning, "an invisible character, ignored", "remove it"),
        "markdown-fence" => (Info, "a Markdown fence, ignored", "remove it"),
        "line-number" => (Warning, "line numbers, ignored", "copy the raw text"),
        "line-prefix" => (Warning, "a list or quotation prefix, ignored", "copy the raw text"),
        "prompt" => (Info, "a console prompt, ignored", "copy what follows the prompt"),
        "blank-before-equals" => (Warning, "blanks before `=`, ignored", "write `name=value` without blanks"),
        "blank-line-in-command" => (
            Warning,
            "a blank line after `\\`, where RouterOS ends the command; read as continued",
            "remove the blank line",
        ),
        "blank-after-backslash" => (Warning, "blanks between `\\` and the end of the line", "remove them"),
        "stray-backslash" => (Warning, "a `\\` that continues no line, ignored", "remove it"),
        "line-break-lost" => {
            (Warning, "a second command on the same line, read as a command", "put it on its own line")
        }
        "backslash-lost" => {
            (Warning, "a line that continues the command before it without a `\\`", "end the line before it with ` \\`")
        }
        "unknown-escape" => {
            (Warning, "an escape that RouterOS does not know, kept as it is", "write `\\\\` for a `\\`")
        }
        "wrong-case" => (Warning, "wrong case; RouterOS knows lower case only", "write it in lower case"),
        "slash-lost" => (Warning, "a path that does not fit this menu, read from the root", "put a `/` before it"),
        _ => (Warning, "damaged text", "compare with the original"),
    }
}
