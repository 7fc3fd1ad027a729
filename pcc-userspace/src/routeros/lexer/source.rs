//! Bytes → text with `\n` line ends, and the way back from a place in it to line and column of the original.

use std::borrow::Cow;
use std::cell::Cell;

use super::damage::{self, Trim};
use crate::routeros::notes::Notes;
use crate::routeros::{Comment, Note, Severity, Span};

/// Bytes that are read: more than 200,000 address-list entries.
pub const MOST_BYTES: usize = 16 << 20;
/// Bytes between two marks, so that a place is found in constant time however long its line is.
const STRIDE: usize = 16;
/// Marks that are tried one by one before all are searched.
const NEAR: usize = 32;
/// A span's length is counted up to here.
const MOST_LENGTH: usize = 4096;

/// The text without what encodings and web pages put around it.
#[derive(Debug, Default)]
pub struct Source {
    /// With `\n` line ends.
    pub text: String,
    marks: Vec<Mark>,
    /// The mark that was found last: places are asked for nearly in their order.
    near: Cell<usize>,
}

/// Where a byte of the text was in the original.
#[derive(Clone, Copy, Debug)]
struct Mark {
    offset: u32,
    line: u32,
    column: u32,
}

impl Source {
    /// Decodes `bytes` and undoes the damage that is visible without knowing the language.
    pub fn read(bytes: &[u8], notes: &mut Notes) -> Self {
        let mut source = Self::default();
        let (kept, rest) = bytes.split_at(bytes.len().min(MOST_BYTES));
        let text = decode(kept, notes);
        let numbered = damage::numbered(lines(&text));
        for (index, line) in lines(&text).enumerate() {
            let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
            let (trims, parts) = damage::trim(line, numbered);
            for Trim { id, at } in trims.into_iter().flatten() {
                let span = || Span { line: number, column: count(&line[..at]) + 1, length: 1 };
                notes.damage(id, source.text.len(), span);
            }
            for part in parts {
                let column = count(&line[..part.start]) + 1;
                source.push(&line[part], number, column, notes);
            }
            source.text.push('\n');
        }
        if !rest.is_empty() {
            let span = source.span(source.text.len(), source.text.len());
            let message = format!("the text is longer than {MOST_BYTES} bytes: the other {} are not read", rest.len());
            notes.add(Note::new(Severity::Error, "too-long", span, message));
        }
        source
    }

    fn push(&mut self, part: &str, line: u32, first_column: u32, notes: &mut Notes) {
        if part.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t') && byte != b'&') {
            return self.push_plain(part, line, first_column);
        }
        let mut column = first_column;
        let mut moved = column != 1;
        let mut at = 0;
        while let Some(character) = part[at..].chars().next() {
            if moved || self.text.len() >= self.next_mark() {
                self.mark(self.text.len(), line, column);
                moved = false;
            }
            let (mut kept, mut length, mut columns) = (Some(character), character.len_utf8(), 1);
            let mut found = None;
            match character {
                '&' => {
                    if let Some((meant, bytes)) = damage::entity(&part[at..]) {
                        (kept, length, columns) = (Some(meant), bytes, count(&part[at..at + bytes]));
                        found = Some("html-entity");
                    }
                }
                '\t' => {}
                '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' | '\u{ad}' => {
                    kept = None;
                    found = Some("invisible-character");
                }
                _ if character.is_control() => {
                    kept = Some(' ');
                    found = Some("control-character");
                }
                _ => {}
            }
            if let Some(id) = found {
                notes.damage(id, self.text.len(), || Span { line, column, length: columns });
                moved = columns != 1 || kept.is_none();
            }
            self.text.extend(kept);
            at += length;
            column += columns;
        }
    }

    /// [`Self::push`] of a part in which each byte is a character that stays.
    fn push_plain(&mut self, part: &str, line: u32, first_column: u32) {
        let first = self.text.len();
        let mut at = if first_column == 1 { self.next_mark().max(first) } else { first };
        while at < first + part.len() {
            self.mark(at, line, first_column + u32::try_from(at - first).unwrap_or(0));
            at = self.next_mark();
        }
        self.text.push_str(part);
    }

    fn mark(&mut self, offset: usize, line: u32, column: u32) {
        self.marks.push(Mark { offset: u32::try_from(offset).unwrap_or(u32::MAX), line, column });
    }

    /// Where the next mark is due.
    fn next_mark(&self) -> usize {
        self.marks.last().map_or(0, |mark| usize::try_from(mark.offset).unwrap_or(usize::MAX) + STRIDE)
    }

    /// The place of the bytes `start..end`; its length ends with the first line.
    pub fn span(&self, start: usize, end: usize) -> Span {
        let start = start.min(self.text.len());
        let mark = self.mark_before(start);
        let (mut line, mut column) = (mark.line, mark.column);
        let offset = usize::try_from(mark.offset).unwrap_or(usize::MAX);
        for character in self.text.get(offset..start).unwrap_or_default().chars() {
            (line, column) = if character == '\n' { (line + 1, 1) } else { (line, column + 1) };
        }
        let rest = self.text.get(start..end.max(start)).unwrap_or_default();
        let seen = &rest[..rest.floor_char_boundary(4 * MOST_LENGTH)];
        let length = seen.split('\n').next().unwrap_or_default().chars().count().clamp(1, MOST_LENGTH);
        Span { line, column, length: u32::try_from(length).unwrap_or(1) }
    }

    /// The last mark that is not behind `start`.
    fn mark_before(&self, start: usize) -> Mark {
        let holds = |mark: &Mark| usize::try_from(mark.offset).is_ok_and(|offset| offset <= start);
        let near = self.marks.get(self.near.get()..).unwrap_or_default();
        let index = match near.iter().take(NEAR).position(|mark| !holds(mark)) {
            Some(behind @ 1..) => self.near.get() + behind,
            _ => self.marks.partition_point(holds),
        };
        let Some(index) = index.checked_sub(1) else { return Mark { offset: 0, line: 1, column: 1 } };
        self.near.set(index);
        self.marks.get(index).copied().unwrap_or(Mark { offset: 0, line: 1, column: 1 })
    }

    /// The comment whose `#` is the byte `at`.
    pub fn comment(&self, at: usize) -> Comment {
        let line = self.text.get(at..).and_then(|rest| rest.lines().next()).unwrap_or_default().trim_end();
        let text = line.strip_prefix('#').unwrap_or(line).to_owned();
        Comment { span: self.span(at, at + line.len()), text }
    }

    /// The version that the header of an export names.
    pub fn version(&self) -> Option<String> {
        const HEADER_LINES: usize = 20;
        let comments = self.text.lines().take(HEADER_LINES).filter_map(|line| line.trim_start().strip_prefix('#'));
        let version = comments.filter_map(|line| line.split_once("by RouterOS ")).map(|(_, version)| version).next()?;
        version.split_whitespace().next().map(str::to_owned)
    }
}

/// The lines of `text` without their ends, which are LF, CR LF or CR.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.bytes().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            rest = None;
            return (!text.is_empty()).then_some(text);
        };
        let next = if text[end..].starts_with("\r\n") { end + 2 } else { end + 1 };
        rest = Some(&text[next..]);
        Some(&text[..end])
    })
}

/// The text of `bytes`: UTF-16 with a byte order mark, else UTF-8, and what is no UTF-8 as Windows-1252.
pub fn decode<'a>(bytes: &'a [u8], notes: &mut Notes) -> Cow<'a, str> {
    let first = || Span { line: 1, column: 1, length: 1 };
    let wide: Option<fn([u8; 2]) -> u16> = match bytes {
        [0xff, 0xfe, ..] => Some(u16::from_le_bytes),
        [0xfe, 0xff, ..] => Some(u16::from_be_bytes),
        _ => None,
    };
    if let Some(unit) = wide {
        notes.damage("utf-16", 0, first);
        let units = bytes[2..].as_chunks().0.iter().map(|pair| unit(*pair));
        let characters = char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER));
        return Cow::Owned(characters.collect());
    }
    let bytes =
        bytes.strip_prefix(b"\xef\xbb\xbf").inspect(|_| notes.damage("byte-order-mark", 0, first)).unwrap_or(bytes);
    let (text, wrong) = latin(bytes);
    if let Some(at) = wrong {
        let (line, column) = text[..at].chars().fold((1, 1), |(line, column), character| match character {
            '\n' => (line + 1, 1),
            _ => (line, column + 1),
        });
        notes.damage("encoding", at, || Span { line, column, length: 1 });
    }
    text
}

/// UTF-8 as it is, every other byte as Windows-1252; and where the first of those is in the result.
pub fn latin(bytes: &[u8]) -> (Cow<'_, str>, Option<usize>) {
    const UPPER: &str = "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ";
    if let Ok(text) = std::str::from_utf8(bytes) {
        return (Cow::Borrowed(text), None);
    }
    let (mut text, mut first) = (String::with_capacity(bytes.len()), None);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            first = first.or(Some(text.len()));
            let upper = byte.checked_sub(0x80).and_then(|index| UPPER.chars().nth(index.into()));
            text.push(upper.unwrap_or(char::from(*byte)));
        }
    }
    (Cow::Owned(text), first)
}

fn count(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}
