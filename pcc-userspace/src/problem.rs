//! Errors as a network engineer reads them: what is wrong, then a `hint:` line that says what to do.

use std::fmt;

/// The hint for everything that the kernel forbids.
pub const NEEDED_RIGHTS: &str = "run as root, or with CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF";

/// A message in lower case with literals in backticks, and what to do about it.
///
/// It travels inside [`anyhow::Error`]; [`report`] finds it again, however much context was put around it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// What is wrong and where, one line.
    pub message: String,
    /// What to do, one line, an exact command where there is one.
    pub hint: String,
}

impl Problem {
    /// A problem with its hint.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// Everything that is wrong with one input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let messages: Vec<_> = self.0.iter().map(|problem| problem.message.as_str()).collect();
        out.write_str(&messages.join("; "))
    }
}

/// Renders `error` with its causes on one line and the hint of the innermost [`Problem`] on the next; [`Problems`] one
/// after the other.
pub fn report(error: &anyhow::Error) -> impl fmt::Display {
    if let Some(Problems(problems)) = error.downcast_ref() {
        let lines = problems.iter().map(|Problem { message, hint }| format!("error: {message}\nhint: {hint}"));
        return lines.collect::<Vec<_>>().join("\n");
    }
    let mut text = format!("error: {error:#}");
    if let Some(problem) = error.chain().rev().find_map(|cause| cause.downcast_ref::<Problem>()) {
        text.push_str("\nhint: ");
        text.push_str(&problem.hint);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_hint_survives_context() {
        let error = Err::<(), _>(Problem::new("no interface `eth9`", "`ip link` lists them"))
            .context("reading the uplinks")
            .unwrap_err();
        assert_eq!(
            report(&error).to_string(),
            "error: reading the uplinks: no interface `eth9`\nhint: `ip link` lists them"
        );
    }
}
