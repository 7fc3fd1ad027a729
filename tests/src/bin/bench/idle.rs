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
/// Three in each family.
const TARGETS: &str =
    r#"check = { target = ["gateway", "203.0.113.201", "203.0.113.202", "2001:db8:9::201", "2001:db8:9::202"] }"#;
/// Percent of one core.
const BUSY: f64 = 1.0;
const MEMORY: u64 = 40_000_000;

/// Veth answers a probe within the system call that sends it: the time of the other end is in the figure, too.
pub fn run(options: &Options) -> bool {
    let lab = Lab::builder().uplinks(UPLINKS).defaults(Defaults::All).build();
    let uplinks: Vec<u32> = (1..=UPLINKS).collect();
    let settings = Settings::new(&uplinks.iter().map(|number| (*number, TARGETS)).collect::<Vec<_>>());
    let pcc = settings.run(&lab, &uplinks);
    sleep(Duration::from_secs(3));
    let before = Usage::of(pcc.id());
    let watch = Duration::from_secs(options.seconds);
    sleep(watch);
    let after = Usage::of(pcc.id());
    let busy = 100.0 * (after.busy - before.busy).as_secs_f64() / watch.as_secs_f64();
    let kept = busy < BUSY && after.resident < MEMORY;
    if options.json {
        let value = json!({
            "uplinks": UPLINKS, "targets": 3, "seconds": options.seconds,
            "busy_percent": busy, "resident_bytes": after.resident, "files": after.files,
        });
        println!("{value:#}");
    } else {
        println!("| what | goal | measured |\n| --- | --- | --- |");
        println!("| one core, {UPLINKS} uplinks with 3 targets in each family | < {BUSY} % | {busy:.2} % |");
        let resident = after.resident as f64 / 1e6;
        println!("| memory | < {} MB | {resident:.1} MB |", MEMORY / 1_000_000);
    }
    kept
}
