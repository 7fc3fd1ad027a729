//! A little loss for a long time.

use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use tests::lab::{Defaults, Lab, Settings};

#[derive(Args)]
pub struct Options {
    /// How long.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// Packets in a hundred that are lost.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99))]
    loss: u32,
}

pub fn run(options: &Options) -> bool {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let settings = Settings::new(&[(1, ""), (2, "")]);
    let pcc = settings.run(&lab, &[1, 2]);
    let seen = pcc.lines();
    for isp in lab.isps() {
        lab.loss(isp.number, options.loss);
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60 * options.minutes) {
        sleep(Duration::from_secs(1));
    }
    let log = pcc.stderr();
    let changes: Vec<_> = log.lines().skip(seen).filter(|line| line.contains("uplink ")).collect();
    for change in &changes {
        eprintln!("{change}");
    }
    println!("{} changes of state in {} minutes with {} % loss", changes.len(), options.minutes, options.loss);
    changes.is_empty()
}
