//! The report as Markdown.

use std::fmt::Write as _;

use super::candidate::Candidate;
use super::case::Case;
use super::goals::{Bound, Goal};
use super::report::Report;
use super::stats::{Spread, ratios};

/// Bytes of a map from which on it has a line of its own.
const MENTIONED: u64 = 500_000;

/// All figures, then the goals.
pub fn render(report: &Report, goals: &[Goal]) -> String {
    let mut text = format!("{}\n", report.machine);
    for case in report.cases() {
        let _ = write!(text, "\n{case}: {}, median (least – most)\n\n", case.unit());
        text += &if case.is_cost() { costs(report, case) } else { rates(report, case) };
    }
    if !report.programs.is_empty() {
        text += "\n| program, run by itself | ns |\n| --- | --- |\n";
        for program in &report.programs {
            let _ = writeln!(text, "| `{}` | {:.0} |", program.name, program.figure);
        }
    }
    if !report.fail_over.is_empty() {
        text += "\n| an uplink lost under full load | until all packets arrive by the other |\n| --- | --- |\n";
        for timed in &report.fail_over {
            let _ = writeln!(text, "| {} | {:.0} ms |", timed.name, timed.figure);
        }
    }
    if let Some(memory) = &report.memory {
        let _ = write!(text, "\n| memory | entries | MB |\n| --- | --- | --- |\n");
        let _ = writeln!(text, "| pcc, resident | | {:.1} |", memory.resident as f64 / 1e6);
        for map in memory.maps.iter().filter(|map| map.bytes >= MENTIONED) {
            let _ = writeln!(text, "| map `{}` | {} | {:.1} |", map.name, map.entries, map.bytes as f64 / 1e6);
        }
        let _ = writeln!(text, "| all maps | | {:.1} |", memory.bytes() as f64 / 1e6);
    }
    text + "\n" + &judged(goals)
}

/// Goals with what was seen.
fn judged(goals: &[Goal]) -> String {
    let mut text = String::from("| goal | wanted | seen | |\n| --- | --- | --- | --- |\n");
    for goal in goals {
        let unit = goal.unit;
        let wanted = match goal.bound {
            Bound::AtLeast(bound) => format!("≥ {bound}{unit}"),
            Bound::AtMost(bound) => format!("≤ {bound}{unit}"),
        };
        let seen = goal.seen.map_or_else(|| "–".to_owned(), |seen| format!("{}{unit}", spread(seen)));
        let reached = match goal.is_reached() {
            None => "not measured",
            Some(true) => "reached",
            Some(false) => "not reached",
        };
        let _ = writeln!(text, "| {} | {wanted} | {seen} | {reached} |", goal.what);
    }
    text
}

/// Costs come twice: with the generator, as measured, and without it.
fn costs(report: &Report, case: Case) -> String {
    let mut text = String::from(
        "| | with generator | router alone | nftables / this, with generator | router alone |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    for candidate in measured(report, case) {
        let seen = report.spread(case, candidate).map_or_else(String::new, spread);
        let net = report.net(case, candidate);
        let alone = net.as_deref().and_then(Spread::of).map_or_else(String::new, spread);
        if candidate == Candidate::Generator {
            let _ = writeln!(text, "| {candidate} | {seen} | | | |");
            continue;
        }
        let gross = times(report.rounds(case, Candidate::Nftables), report.rounds(case, candidate));
        let times = times(report.net(case, Candidate::Nftables).as_deref(), net.as_deref());
        let _ = writeln!(text, "| {candidate} | {seen} | {alone} | {gross} | {times} |");
    }
    text
}

fn rates(report: &Report, case: Case) -> String {
    let mut text = format!("| | {} | this / nftables |\n| --- | --- | --- |\n", case.unit());
    for candidate in measured(report, case) {
        let seen = report.spread(case, candidate).map_or_else(String::new, spread);
        let times = times(report.rounds(case, candidate), report.rounds(case, Candidate::Nftables));
        let _ = writeln!(text, "| {candidate} | {seen} | {times} |");
    }
    text
}

fn measured(report: &Report, case: Case) -> impl Iterator<Item = Candidate> {
    Candidate::ALL.into_iter().filter(move |candidate| report.rounds(case, *candidate).is_some())
}

fn times(one: Option<&[f64]>, other: Option<&[f64]>) -> String {
    let seen = one.zip(other).and_then(|(one, other)| Spread::of(&ratios(one, other)));
    seen.map_or_else(String::new, spread)
}

fn spread(spread: Spread) -> String {
    format!("{} ({} – {})", number(spread.median), number(spread.min), number(spread.max))
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::Family;
    use super::super::machine::Machine;
    use super::*;

    #[test]
    fn a_report_reads_as_tables() {
        let mut report = Report::new(Machine { processor: "a CPU".into(), cores: 2, kernel: "6.18".into() });
        let small = Case::small(Family::V4);
        for (candidate, figure) in
            [(Candidate::Generator, 300.0), (Candidate::Nftables, 2300.0), (Candidate::Redirect, 400.0)]
        {
            report.add(small, candidate, figure);
        }
        report.add(Case::Connections(Family::V4), Candidate::Nftables, 250_000.0);
        let goal = Goal {
            what: "sky".into(),
            bound: Bound::AtMost(60.0),
            unit: " ns",
            seen: Some(Spread { median: 4.0, min: 3.0, max: 50.0 }),
        };
        let expected = "\
2 cores of a CPU, Linux 6.18

IPv4, 64 bytes, 1k flows: ns a packet, median (least – most)

| | with generator | router alone | nftables / this, with generator | router alone |
| --- | --- | --- | --- | --- |
| generator alone | 300 (300 – 300) | | | |
| nftables PCC recipe | 2300 (2300 – 2300) | 2000 (2000 – 2000) | 1.00 (1.00 – 1.00) | 1.00 (1.00 – 1.00) |
| bare XDP redirect | 400 (400 – 400) | 100 (100 – 100) | 5.75 (5.75 – 5.75) | 20.0 (20.0 – 20.0) |

IPv4, new connections: new connections a second, median (least – most)

| | new connections a second | this / nftables |
| --- | --- | --- |
| nftables PCC recipe | 250000 (250000 – 250000) | 1.00 (1.00 – 1.00) |

| goal | wanted | seen | |
| --- | --- | --- | --- |
| sky | ≤ 60 ns | 4.00 (3.00 – 50.0) ns | reached |
";
        assert_eq!(render(&report, &[goal]), expected);
    }
}
