//! `pcc check` of a RouterOS script: everything that can be said about a text without a router.

use super::dialect::{self, Detected, Dialect};
use super::lint::lint;
use super::model::{Built, Model};
use super::{Note, Script, Severity, notes, read};

/// What [`check`] found.
#[derive(Clone, Debug)]
pub struct Report {
    /// What became of the statements.
    pub counts: Counts,
    /// The dialect and why.
    pub detected: Detected,
    /// Sorted by place.
    pub notes: Vec<Note>,
    /// The worst of the notes; `None` if there are none.
    pub worst: Option<Severity>,
}

/// Statements of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub total: usize,
    /// Those that are in the model.
    pub understood: usize,
    /// The others; a note says why.
    pub noted: usize,
}

/// Reads a script, builds its model and looks for mistakes. `dialect` overrides what the text says about itself.
pub fn check(text: &[u8], dialect: Option<Dialect>) -> Report {
    judge(read(text), text, dialect)
}

/// [`check`] of a script that was read already, from `text`.
pub fn judge(script: Script, text: &[u8], dialect: Option<Dialect>) -> Report {
    let Built { model, notes: built, applied } = Model::build(&script);
    let detected = dialect::detect(&script, text, dialect);
    let mut all = lint(&script, &model, &detected);
    if !detected.is_certain() && !script.statements.is_empty() {
        let span = script.statements[0].span;
        let message = format!("nothing tells the RouterOS version; read as {}", detected.dialect);
        all.push(Note::new(Severity::Info, "dialect", span, message).with_fix("--dialect v6"));
    }
    let understood = applied.len().min(script.total);
    let counts = Counts { total: script.total, understood, noted: script.total - understood };
    all.extend(script.notes);
    all.extend(built);
    all.sort_by(|a, b| (a.span, b.severity, a.id, &a.message).cmp(&(b.span, a.severity, b.id, &b.message)));
    all.dedup();
    notes::limit(&mut all);
    let worst = all.iter().map(|note| note.severity).max();
    Report { counts, detected, notes: all, worst }
}

#[cfg(test)]
mod tests {
    use super::{Severity, check};

    #[test]
    fn notes_of_one_kind_are_limited() {
        let report = check("/ip firewall mangle add action=drop\n".repeat(3_000).as_bytes(), None);
        let of_kind = report.notes.iter().filter(|note| note.id == "value-bad");
        let last = of_kind.clone().next_back().map(|note| note.message.as_str());
        assert_eq!(
            (of_kind.count(), last),
            (1001, Some("more than 1000 notes `value-bad`: from here on they are left out"))
        );
        assert_eq!((report.counts.understood, report.worst), (3_000, Some(Severity::Error)));
    }
}
