//! Metrics: where they are served, what a real Prometheus makes of them, what a scrape costs.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod cost;
mod dashboard;
mod rendering;
mod rules;
mod scrape;
mod serving;

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file that ships.
fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../pcc-userspace/dist").join(name)
}

/// Runs `promtool` with `input` on stdin and asserts that it is content.
fn promtool(args: &[&str], input: &str) {
    use std::io::Write as _;
    use std::process::Stdio;
    let mut command = Command::new("promtool");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("promtool: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {args:?}: {said}");
    // `check metrics` succeeds with advice too.
    assert!(args != ["check", "metrics"] || said.trim().is_empty(), "{said}\n{input}");
}
