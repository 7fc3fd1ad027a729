//! The controller with nothing to do.

use std::thread::sleep;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tests::lab::{Defaults, Lab, Settings, Usage};

#[derive(Args)]
pub struct Options {
    /// How long it is watched.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
}

const UPLINKS: u32 = 8;
/// Three targets, and three in each family.
const TARGETS: [(&str, &str); 2] = [
    ("3 targets", r#"check = { target = ["203.0.113.201", "203.0.113.202", "2001:db8:9::201"] }"#),
    (
        "3 targets in each family",
        r#"check = { target = ["gateway", "203.0.113.201", "203.0.113.202", "2001:db8:9::201", "2001:db8:9::202"] }"#,
    ),
];
/// Percent of one core, with three targets.
const BUSY: f64 = 1.0;
const MEMORY: u64 = 40_000_000;

/// Veth answers a probe within the system call that sends it: the time of the other end is in the figure, too.
pub fn run(options: &Options) -> bool {
    let figures = TARGETS.map(|(what, targets)| (what, measure(targets, options.seconds)));
    let [(_, (busy, memory)), ..] = figures;
    if options.json {
        let value = figures.map(|(what, (busy, memory))| {
            json!({ "uplinks": UPLINKS, "targets": what, "busy_percent": busy, "resident_bytes": memory })
        });
        println!("{:#}", json!(value));
    } else {
        println!("| {UPLINKS} uplinks, nothing to do | one core | memory |\n| --- | --- | --- |");
        for (what, (busy, memory)) in figures {
            println!("| {what} | {busy:.2} % | {:.1} MB |", memory as f64 / 1e6);
        }
        println!("\ngoals with 3 targets: < {BUSY} %, < {} MB", MEMORY / 1_000_000);
    }
    busy < BUSY && memory < MEMORY
}

/// Percent of one core, and bytes.
fn measure(targets: &str, seconds: u64) -> (f64, u64) {
    let lab = Lab::builder().uplinks(UPLINKS).defaults(Defaults::All).build();
    let uplinks: Vec<u32> = (1..=UPLINKS).collect();
    let settings = Settings::new(&uplinks.iter().map(|number| (*number, targets)).collect::<Vec<_>>());
    let pcc = settings.run(&lab, &uplinks);
    sleep(Duration::from_secs(3));
    let before = Usage::of(pcc.id());
    let watch = Duration::from_secs(seconds);
    sleep(watch);
    let after = Usage::of(pcc.id());
    (100.0 * (after.busy - before.busy).as_secs_f64() / watch.as_secs_f64(), after.resident)
}
