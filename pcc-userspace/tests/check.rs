//! `pcc check` of RouterOS scripts, as somebody without a router uses it. Needs no rights.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn check(arguments: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pcc")).arg("check").args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

fn in_crate(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}

#[test]
fn a_correct_script_passes_even_strictly() {
    let example = in_crate("examples/dual-wan.rsc");
    let (output, text) = check(&["--strict", &example]);
    assert!(output.status.success(), "{text}");
    assert!(text.ends_with("0 noted; 0 errors, 0 warnings\n"), "{text}");
}

#[test]
fn a_mistake_is_shown_at_its_line_with_a_fix_and_fails() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lost.rsc");
    let script = "/ip address\nadd address=192.0.2.1/24 interface=lan\nadd address= interface=wan1\n";
    std::fs::write(&file, script).unwrap();
    let name = file.display().to_string();
    let (output, text) = check(&[&name]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("error[value-missing]") && text.contains("lost.rsc:3:5"), "{text}");
    assert!(text.contains("add address= interface=wan1"), "the source line: {text}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("error: ") && stderr.contains("hint: "), "{stderr}");
    let (output, text) = check(&["--json", "--dialect", "v6", &name]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["dialect"], "v6");
    assert_eq!(report["statements"]["total"], 2);
    let missing = report["notes"].as_array().unwrap().iter().find(|note| note["id"] == "value-missing").unwrap();
    assert_eq!((&missing["line"], &missing["severity"]), (&Value::from(3), &Value::from("error")));
}

#[test]
fn what_cannot_be_read_is_named() {
    for (arguments, code, part) in [
        (&["/nonexistent/router.rsc"][..], 1, "/nonexistent/router.rsc"),
        (&["--dialect", "v5", "router.rsc"], 2, "v6 or v7"),
    ] {
        let (output, _) = check(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    }
}
