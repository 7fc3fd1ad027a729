//! Bytes of a document → lines and columns.

use std::ops::Range;

use crate::routeros::Span;

/// The lines of a document.
pub struct Places {
    text: String,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl Places {
    pub fn new(text: &str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text: text.to_owned(), lines }
    }

    /// The place of some bytes; its length ends with the first line.
    pub fn span(&self, bytes: &Range<usize>) -> Span {
        let line = self.lines.partition_point(|begin| *begin <= bytes.start).max(1);
        let begin = self.lines.get(line - 1).copied().unwrap_or(0);
        let count = |range: Range<usize>| {
            let text = self.text.get(range).unwrap_or_default();
            u32::try_from(text.lines().next().unwrap_or_default().chars().count()).unwrap_or(u32::MAX)
        };
        Span {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: count(begin..bytes.start).saturating_add(1),
            length: count(bytes.clone()).max(1),
        }
    }

    /// ` (line 1, column 2)`.
    pub fn show(&self, bytes: &Range<usize>) -> String {
        let Span { line, column, .. } = self.span(bytes);
        format!(" (line {line}, column {column})")
    }
}
