//! The alert rules, by `promtool`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::{promtool, shipped};

const CASES: &str = include_str!("alerts.test.yml");

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let alerts = shipped("alerts.yml");
    promtool(&["check", "rules", alerts.to_str().unwrap()], "");
    let cases = tempfile::NamedTempFile::with_suffix(".yml").unwrap();
    fs::write(cases.path(), CASES.replace("@ALERTS@", &alerts.canonicalize().unwrap().display().to_string())).unwrap();
    promtool(&["test", "rules", cases.path().to_str().unwrap()], "");
}

#[test]
fn each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() {
    let rules = fs::read_to_string(shipped("alerts.yml")).unwrap();
    let named = |line: &str, key: &str| line.trim_start().strip_prefix(key).map(|name| name.trim().to_owned());
    let alerts: BTreeSet<String> = rules.lines().filter_map(|line| named(line, "- alert:")).collect();
    let mut cases = BTreeMap::<String, [bool; 2]>::new();
    let mut name = String::new();
    for line in CASES.lines() {
        if let Some(next) = named(line, "- alertname:") {
            name = next;
        }
        if let Some(expected) = line.trim().strip_prefix("exp_alerts:") {
            cases.entry(name.clone()).or_default()[usize::from(expected.trim() == "[]")] = true;
        }
    }
    assert_eq!(cases.keys().cloned().collect::<BTreeSet<_>>(), alerts);
    assert!(cases.values().all(|case| *case == [true; 2]), "{cases:?}");
    // What an operator reads at night.
    assert_eq!(rules.matches("summary: ").count(), alerts.len());
    assert_eq!(rules.matches("description: ").count(), alerts.len());
}
