//! Random numbers that a seed repeats.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64.
pub struct Dice(u64);

impl Dice {
    /// From `PCC_CHAOS_SEED`, else from the clock. The seed is printed.
    pub fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
        let seed = env::var("PCC_CHAOS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(now);
        println!("the same again: PCC_CHAOS_SEED={seed}");
        Self(seed)
    }

    /// 0 to `end` - 1.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % end
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}
