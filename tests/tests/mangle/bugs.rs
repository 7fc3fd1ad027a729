//! Bugs planted in every kind of step: the comparison finds each of them.

use pcc_ebpf::abi::{Op, Step};
use proptest::strategy::{Strategy as _, ValueTree as _};

use crate::bench::{Bench, Loaded, load, with_bench};
use crate::compare::{Coverage, compare};
use crate::generate::{Case, case};
use crate::rules::{Action, Kind, Matcher, Router, Rule, Test};
use crate::run::runner;
use crate::script::script;
use crate::world::CONNECTION_MARKS;

/// Rule sets in which a bug must show.
const CASES: usize = 1500;

/// A mistake in every step of one kind.
#[derive(Clone, Copy, Debug)]
enum Bug {
    /// The test holds if it should not, and the other way round.
    Inverted,
    /// The test always holds; the action does nothing.
    Left,
    /// The test never holds.
    Never,
    /// The first operand is one more.
    Low,
    /// The second operand is one less.
    High,
    /// A further operand is another one.
    Word(usize),
    /// The walk ends here.
    Ends,
    /// The walk goes on with the next step.
    GoesOn,
}

const TEST: [Bug; 3] = [Bug::Inverted, Bug::Left, Bug::Never];
const ACTION: [Bug; 4] = [Bug::Left, Bug::Low, Bug::Ends, Bug::GoesOn];

/// Every kind of step but [`Op::Random`], and the mistakes besides [`TEST`] that it may have.
const TESTS: [(Op, &[Bug]); 19] = [
    (Op::Device, &[Bug::Low]),
    (Op::SourcePrefix, &[Bug::Low, Bug::Word(3)]),
    (Op::DestinationPrefix, &[Bug::Low, Bug::Word(3)]),
    (Op::SourceSet, &[Bug::Low]),
    (Op::DestinationSet, &[Bug::Low]),
    (Op::Protocol, &[Bug::Low]),
    (Op::SourcePort, &[Bug::Low, Bug::High]),
    (Op::DestinationPort, &[Bug::Low, Bug::High]),
    (Op::ConnectionMark, &[Bug::Low]),
    (Op::PacketMark, &[Bug::Low]),
    (Op::RoutingMark, &[Bug::Low]),
    (Op::State, &[Bug::Low]),
    (Op::Pcc, &[Bug::Low, Bug::Word(0), Bug::Word(1)]),
    (Op::TcpFlags, &[Bug::Low, Bug::High]),
    (Op::Size, &[Bug::Low, Bug::High]),
    (Op::Icmp, &[Bug::Low, Bug::Word(0), Bug::Word(1)]),
    (Op::Dscp, &[Bug::Low]),
    (Op::Ttl, &[Bug::Low, Bug::High]),
    (Op::Nth, &[Bug::Word(0), Bug::Word(1)]),
];
const ACTIONS: [(Op, &[Bug]); 4] = [
    (Op::MarkConnection, &ACTION),
    (Op::MarkPacket, &ACTION),
    (Op::MarkRouting, &ACTION),
    (Op::Pass, &[Bug::Ends, Bug::GoesOn]),
];

impl Bug {
    /// Plants it in a step. A step that is last keeps its way to the end.
    fn plant(self, step: &mut Step, next: u32, op: Op) {
        match self {
            Self::Inverted => std::mem::swap(&mut step.then, &mut step.otherwise),
            Self::Left => step.op = Op::Pass as u32,
            Self::Never => (step.op, step.then) = (Op::Pass as u32, step.otherwise),
            Self::Low => step.low += 1,
            Self::High => step.high = step.high.wrapping_sub(1),
            Self::Word(word) => {
                let last = if matches!(op, Op::SourcePrefix | Op::DestinationPrefix) { 1_u32.to_be() } else { 1 };
                step.words[word] ^= last;
            }
            Self::Ends => step.then = 0,
            Self::GoesOn => step.then = next,
        }
    }
}

fn plant(loaded: &mut Loaded, op: Op, bug: Bug) -> bool {
    let count = loaded.program.steps.len() as u32;
    let mut planted = false;
    for (next, step) in (1..).zip(&mut loaded.program.steps) {
        if step.op == op as u32 {
            bug.plant(step, if next < count { next } else { step.then }, op);
            planted = true;
        }
    }
    planted
}

fn cases() -> Vec<Case> {
    let (mut runner, strategy) = (runner(0, 1_000_000), case(10));
    (0..CASES).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// How many of the cases that have such a step it takes to see the bug.
fn cases_until_caught(bench: &mut Bench, cases: &[Case], plant: impl Fn(&mut Loaded) -> bool) -> Option<usize> {
    let mut tried = 0;
    for case in cases {
        let mut loaded = load(&script(&case.router), case.seed).unwrap();
        if plant(&mut loaded) {
            tried += 1;
            if compare(bench, &loaded, case, &mut Coverage::default()).is_err() {
                return Some(tried);
            }
        }
    }
    None
}

#[test]
fn a_bug_in_any_step_is_caught() {
    let cases = cases();
    let mut missed = Vec::new();
    with_bench(|bench| {
        let tests = TESTS.iter().flat_map(|(op, more)| TEST.iter().chain(*more).map(move |bug| (*op, *bug)));
        let actions = ACTIONS.iter().flat_map(|(op, bugs)| bugs.iter().map(move |bug| (*op, *bug)));
        for (op, bug) in tests.chain(actions) {
            let caught = cases_until_caught(bench, &cases, |loaded| plant(loaded, op, bug));
            println!("{op:?} {bug:?}: {caught:?}");
            missed.extend(caught.is_none().then_some((op, bug)));
        }
        let caught = cases_until_caught(bench, &cases, |loaded| {
            let sets = loaded.sets.iter_mut().filter(|(_, members)| !members.is_empty());
            sets.map(|(_, members)| members.pop()).count() > 0
        });
        println!("a member less in every set: {caught:?}");
        assert!(caught.is_some());
        assert!(cases_until_caught(bench, &cases[..100], |_| true).is_none(), "no bug, and yet caught");
    });
    assert!(missed.is_empty(), "{missed:?}");
}

/// How many of 20,000 packets a rule with `random` matches.
fn share(bench: &mut Bench, percent: u32, bug: Option<Bug>) -> u32 {
    let rule = Rule {
        ipv6: false,
        chain: "prerouting",
        matchers: vec![Matcher { negated: false, test: Test::Random(percent) }],
        action: Action::Mark(Kind::Connection, CONNECTION_MARKS[0]),
        passthrough: true,
        disabled: false,
    };
    let mut loaded = load(&script(&Router { rules: vec![rule], entries: Vec::new() }), 0).unwrap();
    if let Some(bug) = bug {
        assert!(plant(&mut loaded, Op::Random, bug));
    }
    bench.publish(&loaded, 0);
    let packet = tests::packet::Packet::new("10.0.0.2:40000", "203.0.113.9:443").build();
    let mut matched = 0;
    for _ in 0..20_000 {
        bench.forget();
        matched += u32::from(bench.run(&loaded, "ether1", &packet, 0).unwrap().marks.connection.is_some());
    }
    matched
}

/// Whether the share is what a fair coin gives in all but one of a million runs.
fn is_fair(matched: u32, percent: u32) -> bool {
    let (count, chance) = (20_000.0, f64::from(percent) / 100.0);
    (f64::from(matched) - count * chance).abs() < 5.0 * (count * chance * (1.0 - chance)).sqrt()
}

#[test]
fn random_holds_as_often_as_it_says_and_a_bug_in_it_is_caught() {
    with_bench(|bench| {
        for percent in [1, 30, 99] {
            let matched = share(bench, percent, None);
            assert!(is_fair(matched, percent), "{percent} %: {matched}");
        }
        for bug in [Bug::Inverted, Bug::Left, Bug::Never, Bug::Low] {
            let matched = share(bench, 1, Some(bug));
            assert!(!is_fair(matched, 1), "{bug:?}: {matched}");
        }
    });
}
