//! `cargo xtask test`: format, lints, the kernel object, then every test; `cargo test` does only the last, and
//! only where the machine is ready and we are root. The tests end to end run again without the fast path, and some of them
//! with it in XDP. At the end the lab runs once more on an older kernel.

use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::AddAssign;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::build::{self, Profile};
use crate::{setup, shell, vm};

/// Tests of whole connections, which any mode of the fast path must pass.
const END_TO_END: &[&str] = &[
    "balance",
    "bad_input",
    "chaos",
    "control",
    "crowd",
    "events",
    "explain",
    "fail_over",
    "flows",
    "inbound",
    "lan_side",
    "life_cycle",
    "metrics",
    "odd_starts",
    "odd_uplinks",
    "own_traffic",
    "passive",
    "reload",
    "rules",
    "scan",
    "service",
    "tiers",
    "trace",
    "verify",
    "world",
];
/// Those of them that always run with the fast path in XDP too.
const IN_XDP: [&str; 6] = ["balance", "fail_over", "inbound", "lan_side", "reload", "world"];

/// The command. Its last line on stdout is `N passed, N failed`.
pub fn test(filter: Option<&str>) -> Result<()> {
    demand_root()?;
    // The emulated machine runs programs of this one.
    let boots_older_kernel = filter.is_none() && cfg!(target_arch = "x86_64");
    let scope = if boots_older_kernel { setup::Scope::Vm } else { setup::Scope::Test };
    part("setup", || setup::ensure(scope))?;
    if filter.is_none() {
        part("format", || shell::run(shell::cargo().args(["fmt", "--all", "--check"])))?;
        part("lints", || {
            shell::run(shell::cargo().args(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))
        })?;
    }
    let pcc = part("pcc and its kernel object", || build::pcc(Profile::Development))?;
    // On the cables of the lab `auto` takes shortcuts in tc.
    let mut count = part("tests", || cargo_test(&pcc, &["--workspace"], "", filter))?;
    if filter.is_none() {
        count += part("tests without the fast path", || end_to_end(&pcc, END_TO_END, "off"))?;
        count += part("tests with the fast path in XDP", || end_to_end(&pcc, &IN_XDP, "xdp"))?;
    }
    if boots_older_kernel {
        count.add_one(part("Debian's kernel", vm::smoke));
    }
    count.conclude(filter)
}

/// The tests end to end, in every mode of the fast path.
pub fn every_mode() -> Result<()> {
    demand_root()?;
    part("setup", || setup::ensure(setup::Scope::Test))?;
    let pcc = part("pcc and its kernel object", || build::pcc(Profile::Development))?;
    let mut count = Count { success: true, ..Count::default() };
    for mode in ["off", "tc", "xdp"] {
        count += part(mode, || end_to_end(&pcc, END_TO_END, mode))?;
    }
    count.conclude(None)
}

fn demand_root() -> Result<()> {
    if !shell::is_root() {
        bail!(
            "the tests make network namespaces and load programs into the kernel, which needs root\n\
             hint: `sudo -E env \"PATH=$PATH\" cargo xtask test`; `cargo test -p pcc-ebpf` needs no root"
        );
    }
    Ok(())
}

fn end_to_end(pcc: &Path, tests: &[&str], mode: &str) -> Result<Count> {
    // All of it, so that nothing is built anew with other features.
    let targets: Vec<&str> =
        ["--workspace"].into_iter().chain(tests.iter().flat_map(|test| ["--test", test])).collect();
    cargo_test(pcc, &targets, mode, None)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u32,
    failed: u32,
    ignored: u32,
    success: bool,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.success &= other.success;
    }
}

impl Count {
    /// Prints it; an error unless everything passed.
    fn conclude(&self, filter: Option<&str>) -> Result<()> {
        println!("{} passed, {} failed", self.passed, self.failed);
        match (filter, self) {
            (_, Self { failed: 1.., .. }) => bail!("{} tests failed", self.failed),
            (Some(filter), Self { passed: 0, .. }) => bail!("no test's name contains `{filter}`"),
            (None, Self { ignored: 1.., .. }) => bail!("{} tests are ignored, which hides them", self.ignored),
            _ if !self.success => bail!("`cargo test` failed"),
            _ => Ok(()),
        }
    }

    /// Adds what is one test.
    fn add_one(&mut self, result: Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                eprintln!("error: {error:#}");
                self.failed += 1;
            }
        }
    }

    /// Adds one `test result: ok. 3 passed; 0 failed; 0 ignored; …` line; other lines say nothing.
    fn add(&mut self, line: &str) {
        let Some((_, result)) = line.strip_prefix("test result: ").and_then(|result| result.split_once(". ")) else {
            return;
        };
        for part in result.split("; ") {
            match part.split_once(' ').map(|(number, word)| (number.parse::<u32>(), word)) {
                Some((Ok(number), "passed")) => self.passed += number,
                Some((Ok(number), "failed")) => self.failed += number,
                Some((Ok(number), "ignored")) => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// Runs tests with the fast path in `mode`, empty for the default.
fn cargo_test(pcc: &Path, targets: &[&str], mode: &str, filter: Option<&str>) -> Result<Count> {
    let mut command = shell::cargo();
    command.args(["test", "--no-fail-fast"]).args(targets).args(filter);
    // The kernel tests measure time and share one machine.
    command.env("RUST_TEST_THREADS", "2").env("PCC_BIN", pcc).env("PCC_FAST_PATH", mode);
    let mut child = command.stdout(Stdio::piped()).spawn().context("starting `cargo test`")?;
    let stdout = child.stdout.take().context("`cargo test` has no output")?;
    let mut count = Count::default();
    // Bytes: a test may print anything.
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        std::io::stdout().write_all(&[&line[..], b"\n"].concat())?;
        count.add(&String::from_utf8_lossy(&line));
    }
    count.success = child.wait()?.success();
    Ok(count)
}

/// Performs one part and prints how long it took.
fn part<T>(name: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let result = body();
    eprintln!("{name}: {:.1} s", start.elapsed().as_secs_f32());
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_add_up() {
        let mut count = Count::default();
        for line in [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9.10s",
        ] {
            count.add(line);
        }
        assert_eq!(count, Count { passed: 4, failed: 2, ignored: 1, success: false });
    }
}
