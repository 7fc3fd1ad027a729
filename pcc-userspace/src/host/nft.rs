//! nftables through the `nft` program, which is the authority on its own language.

use std::io::{ErrorKind, Write};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};

use crate::problem::{NEEDED_RIGHTS, Problem};
use crate::ruleset;

/// What our scripts use; nft says only "No such file or directory" for what the kernel lacks.
const NEEDED_FEATURES: &str =
    "pcc needs nftables 1.0 or newer and a kernel with nf_tables (inet), ct, fib, nat, masq, socket and route chains";

/// Runs `script` as one transaction: all of it holds afterwards, or nothing changed.
pub fn apply(script: &str) -> Result<()> {
    nft(&["-f", "-"], script).map(drop)
}

/// Asks nft and the kernel whether they would take `script`, and changes nothing.
///
/// # Errors
/// They would not, with their words.
pub fn check(script: &str) -> Result<()> {
    nft(&["-c", "-f", "-"], script).map(drop)
}

/// All rules as nft's JSON, without the elements of named sets and maps, without the tables that `skip` names by family and name,
/// and without our guards.
///
/// The tables are listed one by one: nft 1.0.6 prints no JSON, or half of it, for a table that has one flag, as our guards
/// have.
pub fn ruleset(skip: impl Fn(&str, &str) -> bool) -> Result<serde_json::Value> {
    let mut objects = Vec::new();
    let tables = nft(&["list", "tables"], "")?;
    let tables = tables.lines().filter_map(|line| line.strip_prefix("table ")?.split_once(' '));
    for (family, name) in tables.filter(|(family, name)| !skip(family, name) && !ruleset::is_guard(family, name)) {
        let text = nft(&["-j", "-t", "list", "table", family, name], "")?;
        let mut listed: serde_json::Value =
            serde_json::from_str(&text).with_context(|| format!("reading table {family} {name} from `nft -j`"))?;
        if let Some(listed) = listed["nftables"].as_array_mut() {
            objects.append(listed);
        }
    }
    Ok(serde_json::json!({ "nftables": objects }))
}

/// All rules as text with their handles, without the elements of named sets and maps.
pub fn listing() -> Result<String> {
    nft(&["-a", "-t", "list", "ruleset"], "")
}

/// The table `inet <table>` as nft prints it, without the elements of its sets; `None` if there is no such table.
pub fn table(table: &str) -> Result<Option<String>> {
    let name = format!("table inet {table}");
    if !nft(&["list", "tables"], "")?.lines().any(|line| line == name) {
        return Ok(None);
    }
    nft(&["-t", "list", "table", "inet", table], "").map(Some)
}

/// The comment of the table that `listing` begins with. nft 1.0.6 leaves comments of tables out of its JSON.
pub fn comment(listing: &str) -> Option<&str> {
    listing.lines().nth(1)?.trim().strip_prefix("comment \"")?.strip_suffix('"')
}

fn nft(arguments: &[&str], input: &str) -> Result<String> {
    let output = run(arguments, input)?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let words = words.trim();
        // A crash says nothing.
        let words = if words.is_empty() { output.status.to_string() } else { words.to_owned() };
        let hint = if words.contains("not permitted") { NEEDED_RIGHTS } else { NEEDED_FEATURES };
        return Err(Problem::new(format!("nft: {words}"), hint).into());
    }
    String::from_utf8(output.stdout).context("reading the output of `nft`")
}

fn run(arguments: &[&str], input: &str) -> Result<Output> {
    let started = Command::new("nft")
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Problem::new("`nft` is not installed", "apt install nftables").into());
        }
        started => started.context("starting `nft`")?,
    };
    // nft reads all of its input before it writes. If it ends early, its own words say why.
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error).context("writing to `nft`"),
            _ => {}
        }
    }
    child.wait_with_output().context("waiting for `nft`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_comment_of_the_table_itself_counts() {
        assert_eq!(comment("table inet pcc {\n\tcomment \"a1 b2\"\n\tset s {"), Some("a1 b2"));
        assert_eq!(comment("table inet pcc {\n\tset s {\n\t\tcomment \"no\"\n"), None);
        assert_eq!(comment("table inet pcc {\n}\n"), None);
        assert_eq!(comment(""), None);
    }
}
