//! Anything at any time: after each calm second the router is as it should be, and the untouched uplink noticed nothing.
//! `PCC_CHAOS_SECONDS` for another time than a minute, `PCC_CHAOS_SEED` for a run that was printed.
#![expect(clippy::print_stdout, reason = "a run that fails can be repeated")]

use std::collections::BTreeMap;
use std::env;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tests::lab::address::Link;
use tests::lab::fresh::assert_first_syn;
use tests::lab::{
    BpfObjects, Busy, Defaults, HostState, Lab, PATIENCE, Settings, Usage, eventually, marked_connections,
};

use dice::Dice;
use event::{Deed, Outage, World};

mod dice;
mod event;

const UPLINKS: [u32; 3] = [1, 2, 3];
/// Nothing happens to it.
const UNTOUCHED: u32 = 3;
const CALM: Duration = Duration::from_secs(1);
/// Five times the goal, for what the calm second has to be enough for.
const SETTLED: Duration = Duration::from_secs(5);
/// What a controller may take more than at its first calm.
const MORE_FILES: usize = 10;
const MORE_MEMORY: u64 = 20 << 20;

/// The state with what chance decides replaced: addresses of uplinks, ids of programs, numbers of devices.
fn plain(lab: &Lab, original: &[Link]) -> HostState {
    let renames: Vec<_> = UPLINKS
        .iter()
        .zip(original)
        .flat_map(|(number, original)| lab.isp(*number).link.prefixes().into_iter().zip(original.prefixes()))
        .filter(|(now, then)| now != then)
        .collect();
    let shown = lab.router().ip("-o link");
    let devices: BTreeMap<_, _> = shown
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(index, rest)| (index, rest.split(['@', ':']).next().unwrap_or_default()))
        .collect();
    // Pins of links are called `<index of the device>-<program>`.
    let pin = |path: &str| {
        let (folder, name) = path.rsplit_once('/')?;
        let (index, program) = name.split_once('-')?;
        Some(format!("{folder}/{}-{program}", devices.get(index).copied().unwrap_or(index)))
    };
    lab.host_state().rewritten(|line| {
        if line.starts_with("/sys/fs/bpf/") {
            return pin(line).unwrap_or_else(|| line.to_owned());
        }
        let line = renames.iter().fold(line.to_owned(), |line, (now, then)| line.replace(now, then));
        // Weights are looked at by the status.
        if line.contains(": goto begin") {
            return "the shares of the router's own connections".to_owned();
        }
        match line.split_once(" id ") {
            Some((place, _)) if line.starts_with("tcx ") => place.to_owned(),
            _ if line.starts_with("xdp ") => line.split(": ").take(1).collect(),
            _ => line,
        }
    })
}

/// What is wrong with the uplinks in force.
fn wrong_uplinks(world: &World) -> Option<String> {
    let output = world.lab.pcc_output(&["status", "--json"]);
    let Ok(status) = serde_json::from_slice::<Value>(&output.stdout) else {
        return Some(format!("no status: {}", String::from_utf8_lossy(&output.stderr)));
    };
    let total: u32 = world.weights.iter().sum();
    for (index, weight) in world.weights.into_iter().enumerate() {
        let uplink = &status["uplinks"][index];
        for family in ["ipv4", "ipv6"] {
            let (live, share) = (uplink[family]["live"].as_bool(), uplink[family]["share_wanted"].as_f64());
            let wanted = f64::from(weight) / f64::from(total);
            if live != Some(true) || share.is_none_or(|share| (share - wanted).abs() > 0.01) {
                return Some(format!("wan{} {family}, {wanted:.2} wanted: {}", index + 1, uplink[family]));
            }
        }
    }
    None
}

/// Waits until everything is as wanted.
fn assert_calm(world: &World, wanted: &HostState, original: &[Link]) {
    let began = Instant::now();
    let difference = || HostState::diff(wanted, &plain(&world.lab, original));
    let calm = eventually(SETTLED, || wrong_uplinks(world).is_none() && difference().is_empty());
    if !calm {
        let difference = difference();
        let some: Vec<String> = difference.lines().take(12).map(|line| line.chars().take(300).collect()).collect();
        let uplinks = wrong_uplinks(world).unwrap_or_default();
        panic!("not as wanted {:?} after calm: {uplinks}\n{}", CALM + began.elapsed(), some.join("\n"));
    }
    assert_first_syn(&world.lab.try_new(40), &UPLINKS);
}

fn assert_untouched(busy: &Busy) {
    let report = busy.report();
    assert!(report.faults.is_empty(), "{} of the untouched uplink ended: {:?}", report.faults.len(), report.faults[0]);
}

/// Three uplinks that weigh the same, and the state before.
fn start() -> (World, HostState) {
    let lab = Lab::builder().uplinks(3).defaults(Defaults::All).build();
    let before = lab.host_state();
    let settings = Settings::new(&[]);
    let weights = [1; 3];
    event::write(&settings, weights);
    let pcc = settings.run(&lab, &UPLINKS);
    (World { pcc, settings, lab, weights }, before)
}

#[test]
fn whatever_happens_the_wanted_state_comes_back() {
    let seconds = env::var("PCC_CHAOS_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(60);
    let mut dice = Dice::new();
    let (mut world, before) = start();
    let original: Vec<_> = world.lab.isps().iter().map(|isp| isp.link).collect();
    sleep(CALM);
    let wanted = plain(&world.lab, &original);
    let fresh = Usage::of(world.pcc.id());
    let long: Vec<_> = world.lab.open_new(150).into_iter().filter(|it| it.isp == UNTOUCHED).collect();
    assert!(long.len() > 50, "{} on the untouched uplink", long.len());
    let lasting = long.len();
    let busy = Busy::start(long, Duration::from_millis(100), PATIENCE);

    let began = Instant::now();
    let mut rounds = 0;
    while began.elapsed() < Duration::from_secs(seconds) {
        rounds += 1;
        let outages = [(1, dice.pick(&Outage::ALL)), (2, dice.pick(&Outage::ALL))];
        let deed = dice.pick(&Deed::ALL);
        println!("{:.1} s: {outages:?}, {deed:?}", began.elapsed().as_secs_f32());
        for (number, outage) in outages {
            outage.begin(&mut world, number);
            sleep(Duration::from_millis(dice.below(300)));
        }
        deed.begin(&mut world, &mut dice);
        sleep(Duration::from_millis(dice.below(2000)));
        for (number, outage) in outages {
            outage.end(&world, number);
            sleep(Duration::from_millis(dice.below(100)));
        }
        deed.end(&world);
        sleep(CALM);
        assert_calm(&world, &wanted, &original);
        assert_untouched(&busy);
        let usage = Usage::of(world.pcc.id());
        assert!(usage.files <= fresh.files + MORE_FILES, "{} files, {} at first", usage.files, fresh.files);
        assert!(usage.resident <= fresh.resident + MORE_MEMORY, "{usage:?}, at first {fresh:?}");
    }
    println!("{rounds} rounds");
    let (report, left) = busy.stop();
    assert!(report.faults.is_empty(), "{:?}", report.faults.first());
    assert_eq!(left.len(), lasting);
    drop(left);
    assert_leaves_nothing(world, &before, &original);
}

fn assert_leaves_nothing(mut world: World, before: &HostState, original: &[Link]) {
    let objects = BpfObjects::attached(world.lab.router());
    world.pcc.signal(Signal::TERM);
    assert!(world.pcc.wait(PATIENCE).success(), "{}", world.pcc.stderr());
    assert_eq!(objects.remaining(PATIENCE), BpfObjects::default(), "still loaded");
    assert_eq!(marked_connections(world.lab.router(), 0xff).len(), 0, "connections still marked");
    let difference = || HostState::diff(before, &plain(&world.lab, original));
    assert!(eventually(PATIENCE, || difference().is_empty()), "left behind:\n{}", difference());
}
