//! Random rules, random packets: kernel and reference agree.

use std::cell::RefCell;
use std::time::Instant;
use std::{panic, thread};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::bench::{load, with_bench};
use crate::compare::{Coverage, compare};
use crate::generate::case;
use crate::script::script;

/// Rule sets of a run, unless `PCC_RULE_SETS` says how many.
const SETS: u64 = 5000;
/// Packets of an average rule set.
const PACKETS: usize = 24;

/// A number from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")),
        Err(_) => default,
    }
}

/// A runner whose cases follow from `seed`.
pub fn runner(cases: u32, seed: u64) -> TestRunner {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 100_000, ..Config::default() };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&seed.wrapping_add(1).to_le_bytes());
    bytes[8..].copy_from_slice(&(!seed).to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::XorShift, &bytes))
}

/// `PCC_RULE_SETS` is the number of rule sets, `PCC_SEED` where they begin.
#[test]
fn random_rules_do_what_the_reference_says() {
    let sets = number("PCC_RULE_SETS", SETS);
    let seed = number("PCC_SEED", 0);
    let workers = thread::available_parallelism().map_or(1, usize::from) as u64;
    let start = Instant::now();
    let total = thread::scope(|scope| {
        let cases = sets.div_ceil(workers) as u32;
        let started: Vec<_> = (0..workers).map(|worker| scope.spawn(move || agree(cases, seed + worker))).collect();
        started.into_iter().fold(Coverage::default(), |mut total, worker| {
            total.merge(worker.join().unwrap_or_else(|cause| panic::resume_unwind(cause)));
            total
        })
    });
    println!("{total}, {sets} rule sets, {:.1} s", start.elapsed().as_secs_f32());
    let missing = total.missing(20);
    assert!(missing.is_empty() || sets < SETS, "hardly tested (not matching, matching): {missing:#?}");
    assert!(total.packets >= 20 * sets, "{} packets", total.packets);
}

fn agree(cases: u32, seed: u64) -> Coverage {
    with_bench(|bench| {
        let state = RefCell::new((bench, Coverage::default()));
        let result = runner(cases, seed).run(&case(PACKETS), |case| {
            let (bench, coverage) = &mut *state.borrow_mut();
            let loaded = load(&script(&case.router), case.seed).map_err(TestCaseError::fail)?;
            compare(bench, &loaded, &case, coverage).map_err(TestCaseError::fail)
        });
        result.unwrap_or_else(|failure| panic!("PCC_SEED={seed}: {failure}"));
        state.into_inner().1
    })
}
