//! What a packet costs.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

mod candidate;
mod case;
mod recipes;
mod stand;
mod traffic;

use candidate::Candidate;
use case::{Family, Packets};
use stand::{Room, Stand};

#[derive(Args)]
pub struct Options {}

pub fn run(_options: &Options) -> bool {
    match measure() {
        Ok(()) => true,
        Err(error) => {
            eprintln!("error: {error:#}");
            false
        }
    }
}

fn measure() -> Result<()> {
    stand::keep_off()?;
    let mut stands = Vec::new();
    for candidate in Candidate::available() {
        eprintln!("{candidate}: setting up");
        stands.push(Stand::new(candidate, Room { flows: 65536, shortcuts: 65536 })?);
    }
    for round in 0..3 {
        for family in [Family::V4, Family::V6] {
            let packets = Packets { family, size: 64, flows: 1000 };
            for stand in &mut stands {
                stand.warm_up(&packets, 0, packets.flows)?;
                let cost = stand.cost(&packets, Duration::from_millis(400))?;
                eprintln!("{round} {family} {}: {cost:.0}", stand.candidate);
            }
        }
    }
    Ok(())
}
