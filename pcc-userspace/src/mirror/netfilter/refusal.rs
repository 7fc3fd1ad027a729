//! Why something is not possible in nftables.

use crate::routeros::{Note, Severity, Span};

/// What is not possible, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    id: &'static str,
    message: String,
    fix: String,
}

impl Refusal {
    /// Of an action.
    pub fn action(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { id: "mirror-action", message: message.into(), fix: fix.into() }
    }

    /// Of a matcher.
    pub fn matcher(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { id: "mirror-matcher", message: message.into(), fix: fix.into() }
    }

    /// Of a jump.
    pub fn chain(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { id: "mirror-chain", message: message.into(), fix: fix.into() }
    }

    /// Of an interface or interface list.
    pub fn interface(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { id: "mirror-interface", message: message.into(), fix: fix.into() }
    }

    /// Of an address list.
    pub fn list(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { id: "mirror-list", message: message.into(), fix: fix.into() }
    }

    /// As an error at `span`.
    pub fn at(self, span: Span) -> Note {
        self.note(Severity::Error, span)
    }

    /// As a note of another severity.
    pub fn note(self, severity: Severity, span: Span) -> Note {
        Note::new(severity, self.id, span, self.message).with_fix(self.fix)
    }
}
