//! The costs of one case as a picture.

use std::fmt::Write as _;

use super::candidate::Candidate;
use super::case::Case;
use super::report::Report;
use super::stats::Spread;

const LEFT: f64 = 190.0;
const WIDTH: f64 = 720.0;
const BARS: f64 = 430.0;
const ROW: f64 = 30.0;
const TOP: f64 = 56.0;

/// Bars of what a packet costs the router in `case`, with the least and the most as a line.
pub fn draw(report: &Report, case: Case) -> String {
    let bar = |candidate: Candidate| Some((candidate, Spread::of(&report.net(case, candidate)?)?));
    let bars: Vec<_> = Candidate::ALL.into_iter().filter_map(bar).collect();
    let most = bars.iter().map(|(_, spread)| spread.max).fold(1.0, f64::max);
    let x = |value: f64| LEFT + value.max(0.0) / most * BARS;
    let height = TOP + ROW * bars.len() as f64 + 34.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"15\" font-weight=\"bold\" fill=\"#1f2328\">What a packet costs the router, in \
         nanoseconds</text>\n\
         <text x=\"16\" y=\"43\" fill=\"#59636e\">{}; shorter is better</text>\n",
        escape(&case.to_string())
    );
    for (row, (candidate, spread)) in bars.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let middle = y + ROW / 2.0;
        let fill = if candidate.fast_path().is_some() { "#1a7f37" } else { "#8c959f" };
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#1f2328\">{}</text>\n\
             <rect x=\"{LEFT}\" y=\"{}\" width=\"{:.1}\" height=\"{}\" fill=\"{fill}\"/>\n\
             <line x1=\"{:.1}\" y1=\"{middle}\" x2=\"{:.1}\" y2=\"{middle}\" stroke=\"#1f2328\"/>\n\
             <text x=\"{:.1}\" y=\"{}\" fill=\"#1f2328\">{:.0}</text>",
            LEFT - 8.0,
            middle + 4.0,
            escape(&candidate.to_string()),
            y + 5.0,
            x(spread.median) - LEFT,
            ROW - 10.0,
            x(spread.min),
            x(spread.max),
            x(spread.max) + 8.0,
            middle + 4.0,
            spread.median,
        );
    }
    let _ = writeln!(
        text,
        "<text x=\"16\" y=\"{}\" font-size=\"11\" fill=\"#59636e\">one core; {}</text>\n</svg>",
        height - 12.0,
        escape(&report.machine.to_string())
    );
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::case::Family;
    use super::super::machine::Machine;
    use super::*;

    #[test]
    fn bars_are_as_long_as_the_costs() {
        let mut report = Report::new(Machine { processor: "<CPU>".into(), cores: 2, kernel: "6.18".into() });
        let small = Case::small(Family::V4);
        for (candidate, figure) in
            [(Candidate::Generator, 300.0), (Candidate::Nftables, 2300.0), (Candidate::PccXdp, 400.0)]
        {
            report.add(small, candidate, figure);
        }
        let text = draw(&report, small);
        assert!(text.contains("width=\"430.0\" height=\"20\" fill=\"#8c959f\""), "{text}");
        assert!(text.contains("width=\"21.5\" height=\"20\" fill=\"#1a7f37\""), "{text}");
        assert!(text.contains("&lt;CPU&gt;") && !text.contains("generator"), "{text}");
    }
}
