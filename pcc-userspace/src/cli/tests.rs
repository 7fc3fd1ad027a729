use clap::Command;

use super::command;

/// The command and all below it that people are shown, with what they are called.
fn commands() -> Vec<(String, Command)> {
    fn below(path: &str, command: &Command, all: &mut Vec<(String, Command)>) {
        for command in command.get_subcommands() {
            let path = format!("{path} {}", command.get_name());
            below(&path, command, all);
            all.push((path, command.clone()));
        }
    }
    let mut root = command();
    root.build();
    let mut all = Vec::new();
    below("pcc", &root, &mut all);
    all
}

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
}

#[test]
fn help_fits_a_screen() {
    let help = command().term_width(80).render_help().to_string();
    assert!(help.lines().count() <= 24, "{} lines:\n{help}", help.lines().count());
    for line in help.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let wrapped = help.lines().filter(|line| line.starts_with("        ") && !line.trim().is_empty());
    assert_eq!(wrapped.collect::<Vec<_>>(), [""; 0], "each command is said in one line");
}

#[test]
fn every_command_shows_an_example_that_can_be_typed() {
    let commands = commands();
    assert!(commands.len() > 15, "{commands:?}");
    for (path, command) in commands {
        let mut command = command;
        let help = command.render_long_help().to_string();
        let example = help.lines().find_map(|line| line.strip_prefix("Example: "));
        let example = example.unwrap_or_else(|| panic!("`{path} --help` has no example:\n{help}"));
        let typed = example.split(['|', '>']).next().unwrap_or_default();
        let words: Vec<&str> = typed.split_whitespace().collect();
        assert_eq!(words.first(), Some(&"pcc"), "{example}");
        super::command().try_get_matches_from(&words).unwrap_or_else(|error| panic!("{example}: {error}"));
        let last = path.split(' ').next_back().unwrap_or_default();
        assert!(words.contains(&last), "`{example}` shows another command than `{path}`");
    }
}

#[test]
fn a_misspelt_command_gets_a_suggestion() {
    let error = command().try_get_matches_from(["pcc", "statsu"]).expect_err("no such command").to_string();
    assert!(error.contains("status"), "{error}");
    let error = command().try_get_matches_from(["pcc", "status", "--jsn"]).expect_err("no such flag").to_string();
    assert!(error.contains("--json"), "{error}");
}
