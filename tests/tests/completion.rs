//! Shells complete commands, flags and names of uplinks; manual pages are made.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use tests::lab::settings::READY;
use tests::lab::{Defaults, Lab, process};

const CONFIG: &str = "lan = [\"lan\"]
[[uplink]]
device = \"wan1\"
name = \"fibre\"
[[uplink]]
device = \"wan2\"
name = \"cable\"
";

/// What `shell` says to `script`, which finds `pcc` in its path.
fn say(lab: &Lab, shell: &str, flags: &[&str], script: &str) -> Vec<String> {
    let binary = process::binary();
    let folder = binary.parent().unwrap().to_str().unwrap();
    let mut command = lab.router().command(shell, flags.iter().copied().chain(["-c", script]));
    command.env("PATH", format!("{folder}:{}", std::env::var("PATH").unwrap())).env("HOME", "/nonexistent");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && !text.trim().is_empty(), "{shell}: {output:?}");
    let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    lines.sort_unstable();
    lines
}

fn run(lab: &Lab) -> tests::lab::Pcc {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pcc.toml");
    std::fs::write(&file, CONFIG).unwrap();
    let pcc = lab.pcc(&["run", "--config", file.to_str().unwrap()]);
    pcc.wait_for("ready", READY);
    pcc
}

/// Completes the line of `words` by each of `shells`; the last word is what is there of it.
fn completes(lab: &Lab, words: &[&str], expected: &[&str]) {
    let (last, index) = (words[words.len() - 1], words.len() - 1);
    let quoted = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let bash = format!(
        "source <(pcc completions bash)
        COMP_WORDS=({quoted}); COMP_CWORD={index}
        _clap_complete_pcc pcc '{last}' '{}'
        printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words[index - 1]
    );
    assert_eq!(say(lab, "bash", &["--norc"], &bash), expected, "bash, {words:?}");
    let zsh = format!(
        "compdef() {{ : }}
        _describe() {{ eval \"print -l \\\"\\${{${{3}}[@]%%:*}}\\\"\" }}
        source <(pcc completions zsh)
        words=({quoted}); CURRENT={}
        _clap_dynamic_completer_pcc",
        words.len()
    );
    assert_eq!(say(lab, "zsh", &["-f"], &zsh), expected, "zsh, {words:?}");
    let line = words.join(" ");
    let fish = format!("pcc completions fish | source; complete -C '{line}' | cut -f 1");
    assert_eq!(say(lab, "fish", &["--no-config"], &fish), expected, "fish, {words:?}");
}

#[test]
fn three_shells_complete_commands_and_names_of_uplinks() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let _pcc = run(&lab);
    let instance = lab.instance();
    completes(&lab, &["pcc", "stat"], &["status"]);
    completes(&lab, &["pcc", "uplink", "--instance", instance, "f"], &["fibre"]);
    completes(&lab, &["pcc", "flows", "--instance", instance, "--uplink", ""], &["cable", "fibre"]);
    completes(&lab, &["pcc", "flows", "--sort", "p"], &["packets"]);
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(process::binary()).arg("man").arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    for page in ["pcc.1", "pcc-status.1", "pcc-flows.1", "pcc-verify.1", "pcc-uplink.1", "pcc-uplink-drain.1"] {
        let text = std::fs::read_to_string(folder.path().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.contains(".TH") && (page == "pcc.1" || text.contains("Example")), "{page}: {text}");
    }
}
