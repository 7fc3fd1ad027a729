//! What a packet costs: every candidate in turn, round by round, on one processor.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

mod baseline;
mod bulk;
mod candidate;
mod case;
mod goals;
mod limits;
mod machine;
mod memory;
mod plan;
mod programs;
mod recipes;
mod report;
mod stand;
mod stats;
mod svg;
mod table;
mod traffic;
mod under_load;

use candidate::Candidate;
use case::{Case, FEW, Family, Packets};
use limits::Limits;
use machine::Machine;
use memory::Memory;
use plan::{Plan, rotated};
use report::{Report, Timed};
use stand::{Room, Stand};

#[derive(Args)]
pub struct Options {
    /// At most three minutes: 64-byte frames of 1,000 flows, new connections, one TCP stream.
    ///
    /// Without it everything is measured, which takes some three quarters of an hour.
    #[arg(long)]
    quick: bool,
    /// Only what the goals are judged by, which takes about a quarter of an hour.
    #[arg(long, conflicts_with_all = ["quick", "only", "case"])]
    goals: bool,
    /// Rounds, each of which measures every candidate once; 3 with `--quick` and `--goals`, else 5.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: Option<u32>,
    /// Only these candidates, separated by commas; the generator alone is always measured.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "CANDIDATES")]
    only: Vec<Candidate>,
    /// Only the cases whose names contain TEXT: `1M flows`, `IPv6`, `TCP`.
    #[arg(long, value_name = "TEXT")]
    case: Option<String>,
    /// Writes all figures to FILE.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draws what a 64-byte frame costs as bars.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Keeps the figures for `--baseline`; the same as `--json`.
    #[arg(long, value_name = "FILE")]
    save_baseline: Option<PathBuf>,
    /// Prints what is slower than in FILE by more than rounds differ; exit status 1 if anything is.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
}

/// Runs of a figure that failed, before it is given up: others on the machine can take the processor away.
const TRIES: u32 = 3;
/// The first of the connections that are opened to be counted; no other case has it.
const NEW: u32 = 1_000_000;
/// Pieces of the time of one figure.
const PIECES: u32 = 10;
/// So many connections all candidates can have at the same time, and need not forget.
const SHARED: u32 = 100_000;
/// What a TCP transfer takes.
const TRANSFER: Duration = Duration::from_millis(1_000);

pub fn run(options: &Options) -> bool {
    perform(options).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        false
    })
}

fn perform(options: &Options) -> Result<bool> {
    let earlier = options.baseline.as_deref().map(read).transpose()?;
    let mut plan = match options {
        Options { quick: true, rounds, .. } => Plan::quick(rounds.unwrap_or(3)),
        Options { goals: true, rounds, .. } => Plan::full(rounds.unwrap_or(3)).only(&goals::CASES),
        Options { rounds, .. } => Plan::full(rounds.unwrap_or(5)),
    };
    if let Some(text) = &options.case {
        plan.cases.retain(|(case, _)| case.to_string().contains(text.as_str()));
        ensure!(!plan.cases.is_empty(), "no case has a name with `{text}`");
    }
    let only = if options.goals { &goals::CANDIDATES[..] } else { &options.only };
    let wanted = |it: &Candidate| only.is_empty() || *it == Candidate::Generator || only.contains(it);
    let candidates: Vec<_> = Candidate::ALL.into_iter().filter(wanted).collect();
    let report = measure(&plan, &candidates)?;
    let goals = goals::judge(&report);
    print!("{}", table::render(&report, &goals));
    for file in options.json.iter().chain(&options.save_baseline) {
        write(file, &serde_json::to_string_pretty(&report)?)?;
    }
    if let Some(file) = &options.svg {
        write(file, &svg::draw(&report, Case::small(Family::V4)))?;
    }
    let mut kept = goals.iter().all(|goal| goal.is_reached() != Some(false));
    if let Some(earlier) = earlier {
        kept &= compare(&earlier, &report);
    }
    Ok(kept)
}

fn measure(plan: &Plan, candidates: &[Candidate]) -> Result<Report> {
    stand::keep_off()?;
    let (large, usual): (Vec<_>, Vec<_>) = plan.cases.iter().copied().partition(|(case, _)| case.is_large());
    let mut report = Report::new(Machine::here());
    if !usual.is_empty() {
        measure_in(&mut report, plan, &usual, candidates, Room { flows: 1 << 16, shortcuts: 1 << 16 })?;
    }
    if !large.is_empty() {
        let _limits = Limits::raise()?;
        // Both directions of a million connections, and what LRU maps need to find something to forget.
        measure_in(&mut report, plan, &large, candidates, Room { flows: 1 << 21, shortcuts: 1 << 22 })?;
    }
    Ok(report)
}

/// Measures `cases` with maps of one size.
fn measure_in(
    report: &mut Report,
    plan: &Plan,
    cases: &[(Case, u32)],
    candidates: &[Candidate],
    room: Room,
) -> Result<()> {
    let mut stands = Vec::new();
    for candidate in candidates {
        eprintln!("{candidate}: setting up");
        stands.push(Stand::new(*candidate, room)?);
    }
    for round in 0..plan.rounds {
        for (case, _) in cases.iter().filter(|(_, rounds)| round < *rounds) {
            let figures = match case {
                Case::Packets(packets) if packets.flows <= SHARED => costs(&mut stands, packets, round, plan.time)?,
                Case::Connections(family) => new_connections(&mut stands, *family, round, plan.new)?,
                _ => rotated(stands.len(), round)
                    .filter_map(|place| Some((place, figure(&mut stands[place], *case, plan).transpose()?)))
                    .map(|(place, figure)| Ok((place, figure?)))
                    .collect::<Result<_>>()?,
            };
            for (place, figure) in figures {
                let candidate = stands[place].candidate;
                eprintln!("round {}, {case}, {candidate}: {figure:.2} {}", round + 1, case.unit());
                report.add(*case, candidate, figure);
            }
        }
    }
    if report.memory.is_some() {
        return Ok(());
    }
    for stand in &mut stands {
        let Some(pcc) = &stand.pcc else { continue };
        report.memory = Some(Memory::of(pcc.id())?);
        for timed in programs::measure(stand)? {
            if report.programs.iter().all(|known| known.name != timed.name) {
                report.programs.push(timed);
            }
        }
        // All the other figures have been taken.
        match again(|| under_load::fail_over(stand)) {
            Ok(figure) => report.fail_over.push(Timed { name: stand.candidate.to_string(), figure }),
            Err(error) => eprintln!("error: {error:#}"),
        }
    }
    Ok(())
}

/// What a packet costs each of `stands`, by its place: they take turns with short pieces, and the least of a stand's pieces counts.
/// Whatever else happens on the machine only adds to it, and a machine that becomes slower does so for all of them.
fn costs(stands: &mut [Stand], packets: &Packets, round: u32, time: Duration) -> Result<Vec<(usize, f64)>> {
    let mut frames = Vec::new();
    for stand in &mut *stands {
        frames.push(again(|| {
            stand.warm_up(packets, 0, packets.flows)?;
            stand.frames(packets, time / PIECES)
        })?);
    }
    let mut least = vec![f64::INFINITY; stands.len()];
    for piece in 0..PIECES {
        for place in rotated(stands.len(), round + piece) {
            let cost = again(|| stands[place].cost(frames[place]))?;
            least[place] = least[place].min(cost);
        }
    }
    if packets.flows > FEW {
        stands.iter().for_each(Stand::forget);
    }
    Ok(least.into_iter().enumerate().collect())
}

/// How many connections a second each of `stands` that keeps track of them opens, by its place: `new` of them, in pieces as in
/// [`costs`].
fn new_connections(stands: &mut [Stand], family: Family, round: u32, new: u32) -> Result<Vec<(usize, f64)>> {
    let places: Vec<_> = (0..stands.len()).filter(|place| stands[*place].candidate.tracks()).collect();
    let mut least = vec![f64::INFINITY; places.len()];
    for piece in 0..PIECES {
        let first = NEW + round * new + piece * (new / PIECES);
        for turn in rotated(places.len(), round + piece) {
            let stand = &mut stands[places[turn]];
            let cost =
                again(|| stand.cost_of_new(family, first, first + new / PIECES).inspect_err(|_| stand.forget()))?;
            least[turn] = least[turn].min(cost);
        }
    }
    stands.iter().for_each(Stand::forget);
    Ok(places.into_iter().zip(least.into_iter().map(|cost| 1e9 / cost)).collect())
}

/// Does what others on the machine can spoil.
fn again<T>(mut work: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..TRIES {
        match work() {
            Err(error) => eprintln!("{error:#}; once more"),
            done => return done,
        }
    }
    work()
}

/// The figure of one round; `None` where the case says nothing about the candidate.
fn figure(stand: &mut Stand, case: Case, plan: &Plan) -> Result<Option<f64>> {
    again(|| try_figure(stand, case, plan))
}

fn try_figure(stand: &mut Stand, case: Case, plan: &Plan) -> Result<Option<f64>> {
    Ok(Some(match case {
        Case::Packets(packets) => {
            stand.warm_up(&packets, 0, packets.flows)?;
            let cost = stand.cost_over(&packets, plan.time.max(stand.candidate.lease()));
            stand.forget();
            cost?
        }
        Case::Bulk { streams, offloads } if stand.candidate.carries_sockets(offloads) => {
            bulk::measure(stand, streams, offloads, TRANSFER)?
        }
        _ => return Ok(None),
    }))
}

fn compare(earlier: &Report, report: &Report) -> bool {
    if earlier.machine != report.machine {
        println!("\nThe baseline is of another machine: {}.", earlier.machine);
    }
    let slower = baseline::slower(earlier, report);
    if slower.is_empty() {
        println!("\nNothing is slower than in the baseline by more than rounds differ.");
    }
    for it in &slower {
        println!("slower: {it}");
    }
    slower.is_empty()
}

fn read(file: &Path) -> Result<Report> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no report of this bench", file.display()))
}

fn write(file: &Path, text: &str) -> Result<()> {
    ensure!(!file.is_dir(), "{} is a folder", file.display());
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}
