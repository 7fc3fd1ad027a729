//! Commands and flags in the text: each must exist.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use clap::error::ErrorKind;
use pcc_userspace::cli;
use tests::lab::process::binary;

use crate::PAGES;
use crate::page::Page;

/// Subcommands that ask a running controller.
const ASKING: [&str; 9] = ["status", "flows", "verify", "uplink", "reload", "metrics", "top", "trace", "events"];

/// What stands for something else, and an example of it.
const PLACEHOLDERS: [(&str, &str); 5] =
    [("NAME", "eth0"), ("TIME", "10m"), ("N", "1"), ("A", "10.0.0.5"), ("ADDRESS", "10.0.0.5")];

/// The command needs a running controller, or looks at its maps.
pub fn asks(command: &str) -> bool {
    let word = command.strip_prefix("pcc ").and_then(|rest| rest.split(' ').next());
    word.is_some_and(|word| ASKING.contains(&word)) || command.contains("/sys/fs/bpf/pcc/")
}

/// Arguments as somebody would type them: without brackets and dots.
fn arguments(text: &str) -> Vec<String> {
    let words = text.split_whitespace().map(|word| word.trim_matches(['[', ']', '…']));
    let meant =
        |word: &str| PLACEHOLDERS.iter().find(|(name, _)| *name == word).map_or(word, |(_, value)| value).to_owned();
    words.filter(|word| !word.is_empty()).map(meant).collect()
}

/// What is wrong with a command, apart from what the text leaves out.
fn mistake(text: &str) -> Option<String> {
    let omitted = [
        ErrorKind::MissingRequiredArgument,
        ErrorKind::MissingSubcommand,
        ErrorKind::DisplayHelp,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
        ErrorKind::DisplayVersion,
    ];
    let error = cli::command().try_get_matches_from(arguments(text)).err()?;
    (!omitted.contains(&error.kind())).then(|| error.to_string())
}

/// The long flags of a command and those below it.
fn flags(command: &clap::Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|argument| argument.get_long()).map(|name| format!("--{name}"));
    own.chain(command.get_subcommands().flat_map(flags)).collect()
}

/// Prints the help of `cargo xtask`, and of the programs that it hands its arguments to.
fn help(arguments: &[&str]) -> String {
    let mut command = match arguments {
        [program @ ("lab" | "bench"), rest @ ..] => {
            let mut command = Command::new(binary().with_file_name(program));
            command.args(rest).arg("--help");
            command
        }
        _ => {
            let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            command
                .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
                .args(["xtask", "help"])
                .args(arguments);
            command
        }
    };
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_misspelt_command_is_found() {
    assert!(
        ["pcc stats", "pcc flows --clients 10.0.0.5", "pcc uplink NAME wait", "pcc verify --since yesterday"]
            .iter()
            .all(|it| mistake(it).is_some())
    );
    assert!(
        ["pcc run", "pcc uplink NAME drain [TIME]", "pcc flows [--client A] … [--json]", "pcc explain …"]
            .iter()
            .all(|it| mistake(it).is_none())
    );
}

#[test]
fn every_command_in_the_text_exists() {
    let xtask = help(&[]);
    let listed = |name: &str| xtask.lines().any(|line| line.trim_start().split(' ').next() == Some(name));
    for page in PAGES.map(Page::read) {
        let blocks = page.blocks();
        let sh = blocks.iter().filter(|block| block.language == "sh");
        let in_blocks = sh.flat_map(|block| block.commands().into_iter().map(|text| (block.place.clone(), text)));
        let in_text = page.spans().into_iter().map(|span| (span.place, span.text));
        for (place, text) in in_blocks.chain(in_text) {
            if text.starts_with("pcc ") {
                let command = text.split(['>', '|', ';', '&']).next().unwrap_or_default();
                assert_eq!(mistake(command), None, "{place}: {text}");
            } else if let Some(text) = text.strip_prefix("cargo xtask ") {
                let mut words = text.split(' ');
                let name = words.next().unwrap_or_default();
                assert!(listed(name), "{place}: no `cargo xtask {name}`");
                if name == "run" {
                    assert_eq!(mistake(&format!("pcc {text}")), None, "{place}: {text}");
                    continue;
                }
                let word = |word: &&str| word.starts_with(|it: char| it.is_ascii_lowercase());
                let below: Vec<&str> = words.clone().take_while(word).filter(|word| !word.contains('[')).collect();
                let help = help(&[&[name], below.as_slice()].concat());
                for flag in words.filter(|word| word.starts_with("--")) {
                    assert!(help.contains(flag), "{place}: `cargo xtask {name}` has no `{flag}`");
                }
            }
        }
    }
}

#[test]
fn every_flag_in_the_text_exists() {
    let mut known = flags(&cli::command());
    let others = [&["test"][..], &["build"], &["vm"], &["package"], &["lab"], &["bench"], &["bench", "throughput"]];
    for text in others.map(help) {
        let words = text.split(|it: char| it.is_whitespace() || [',', '[', '='].contains(&it));
        known.extend(words.filter(|word| word.starts_with("--")).map(str::to_owned));
    }
    for span in PAGES.map(Page::read).iter().flat_map(Page::spans) {
        let flag = span.text.split([' ', '=', '…']).next().unwrap_or_default();
        if flag.starts_with("--") {
            let begins = span.text.ends_with('…') && known.iter().any(|it| it.starts_with(flag));
            assert!(begins || known.contains(flag), "{}: no flag `{flag}`", span.place);
        }
    }
}
