//! The same packets through all routers.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::compare::difference;
use crate::frame::{Flow, Shot};
use crate::generate::{Case, case};
use crate::world::{Mode, World};

/// Connections of a run, unless `PCC_IDENTITY_CASES` says how many.
const CASES: u64 = 1000;
/// Packets of a connection before the odd ones, each way.
const ROUNDS: u32 = 5;
/// How long an output may take to become the same.
const DEADLINE: Duration = Duration::from_millis(300);
/// The ports of connections: read as IP options, they are none that the router knows.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// All routers, and the connections so far.
struct Worlds {
    worlds: Vec<World>,
    connections: u32,
    shots: u32,
    packets: usize,
}

/// `PCC_IDENTITY_CASES` is the number of connections, `PCC_SEED` where they begin.
#[test]
fn packets_come_out_the_same_whether_they_take_a_shortcut_or_not() {
    // Packets of one CPU stay in order.
    let all = sched_getaffinity(None).unwrap();
    let mut one = CpuSet::new();
    one.set((0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).unwrap());
    sched_setaffinity(None, &one).unwrap();
    let worlds = [Mode::Off, Mode::Tc, Mode::Xdp].map(World::new);
    let state = RefCell::new(Worlds { worlds: worlds.into(), connections: 0, shots: 1, packets: 0 });
    let cases = number("PCC_IDENTITY_CASES", CASES);
    let begin = Instant::now();
    let result = runner(cases as u32, number("PCC_SEED", 0)).run(&case(), |case| state.borrow_mut().agree(&case));
    let Worlds { worlds, connections, shots, packets } = state.into_inner();
    result.unwrap_or_else(|failure| panic!("{failure}"));
    let [off, tc, xdp] = [0, 1, 2].map(|at: usize| worlds[at].taken());
    println!(
        "{connections} connections, {shots} packets, {packets} came out, {:.1} s; shortcuts in tc and XDP: {off:?}, {tc:?}, {xdp:?}",
        begin.elapsed().as_secs_f32()
    );
    // The first packets of each way are learned from. The others take it, the two markers, and a quarter of the odd ones.
    let least = u64::from(connections * (2 * ROUNDS - 5 + 2) + shots / 4);
    assert_eq!(off, (0, 0));
    assert!(tc.0 >= least && tc.1 == 0, "{tc:?}, but at least {least} in tc");
    assert!(xdp.1 >= least, "{xdp:?}, but at least {least} in XDP");
    assert!(packets as u64 >= cases * 3, "{packets} came out");
}

impl Worlds {
    fn agree(&mut self, case: &Case) -> Result<(), TestCaseError> {
        let port = PORTS.start + (2 * self.connections % (PORTS.end - PORTS.start) as u32) as u16;
        self.connections += 1;
        let flow = Flow { ipv6: case.ipv6, tcp: case.tcp, port };
        let first = Shot { tos: case.tos, ..Shot::plain(case.payload) };
        for world in &mut self.worlds {
            world.open(&flow, &first, ROUNDS);
            for (number, shot) in (self.shots..).zip(&case.shots) {
                world.send(&flow, &Shot { number, ..shot.clone() });
            }
        }
        self.shots += case.shots.len() as u32;
        let mut outputs = self.worlds.iter_mut().map(World::output).collect::<Vec<_>>().into_iter();
        let mut reference = outputs.next().unwrap();
        let end = Instant::now() + DEADLINE;
        let mut result = Ok(());
        let (off, others) = self.worlds.split_first_mut().unwrap();
        for (world, mut output) in others.iter_mut().zip(outputs) {
            while reference != output && Instant::now() < end {
                off.more(&mut reference);
                world.more(&mut output);
            }
            let difference = difference(&reference, &output);
            if !difference.is_empty() && result.is_ok() {
                result = Err(TestCaseError::fail(format!("{:?}, {flow:?}:\n{difference}", world.mode)));
            }
        }
        self.packets += reference.client.len() + reference.server.len();
        result
    }
}

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")),
        Err(_) => default,
    }
}

/// A runner whose cases follow from `seed`.
fn runner(cases: u32, seed: u64) -> TestRunner {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 600, ..Config::default() };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&seed.wrapping_add(1).to_le_bytes());
    bytes[8..].copy_from_slice(&(!seed).to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::XorShift, &bytes))
}
