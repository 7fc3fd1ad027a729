//! Bars and sparklines, one letter high.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::top::theme::{Palette, Role, Theme};

/// Two bars in one line of `width` letters, above what is wanted and below what is seen, parts of `full`. What both reach is
/// full; what is missing or too much, is half.
pub fn pair(theme: &Theme, wanted: f64, seen: Option<f64>, full: f64, width: u16) -> Line<'static> {
    let cells = |share: f64| if full > 0.0 { (share / full * f64::from(width)).round() as usize } else { 0 };
    let (wanted, seen) = (cells(wanted).min(width.into()), cells(seen.unwrap_or(0.0)).min(width.into()));
    let both = wanted.min(seen);
    let coloured = theme.palette != Palette::Plain && theme.unicode && !theme.stale;
    let (above, below) = (theme.style(Role::Wanted), theme.style(Role::Seen));
    let common = if coloured {
        Span::styled("▀".repeat(both), above.bg(theme.colour(Role::Seen)))
    } else {
        Span::styled(theme.glyph("█", "#").repeat(both), above)
    };
    let rest = if wanted > seen {
        Span::styled(theme.glyph("▀", "-").repeat(wanted - both), above)
    } else {
        Span::styled(theme.glyph("▄", "+").repeat(seen - both), below)
    };
    Line::from(vec![common, rest])
}

/// A line of `samples`, the newest at the right, from 0 to `full`. Unknown ones are blank.
pub fn spark(theme: &Theme, samples: &[Option<f64>], full: f64, style: Style) -> Line<'static> {
    const UNICODE: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
    const ASCII: [&str; 8] = ["_", ".", ":", "-", "=", "+", "*", "#"];
    let levels = if theme.unicode { UNICODE } else { ASCII };
    let level = |sample: f64| {
        let part = if full > 0.0 { sample / full } else { 0.0 };
        levels[((part * 8.0).ceil() as usize).clamp(1, 8) - 1]
    };
    let text: String = samples.iter().map(|sample| sample.map_or(" ", level)).collect();
    Line::from(Span::styled(text, style))
}

/// The top of a scale for rates: the highest.
pub fn highest(samples: &[Option<f64>]) -> f64 {
    samples.iter().flatten().fold(0.0, |highest, sample| f64::max(highest, *sample))
}

/// The top of a scale for times: what is usual stands in the middle, so that a steady line looks steady.
pub fn twice_usual(samples: &[Option<f64>]) -> f64 {
    let mut known: Vec<f64> = samples.iter().copied().flatten().collect();
    known.sort_by(f64::total_cmp);
    let usual = known.get(known.len() / 2).copied().unwrap_or(0.0);
    f64::max(usual * 2.0, highest(samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Theme = Theme { palette: Palette::Plain, unicode: true, stale: false };
    const ASCII: Theme = Theme { unicode: false, ..PLAIN };

    fn bar(theme: &Theme, wanted: f64, seen: Option<f64>) -> String {
        pair(theme, wanted, seen, 1.0, 10).to_string()
    }

    #[test]
    fn bars_show_what_is_missing_and_what_is_too_much() {
        assert_eq!(bar(&PLAIN, 0.5, Some(0.3)), "███▀▀");
        assert_eq!(bar(&PLAIN, 0.3, Some(0.5)), "███▄▄");
        assert_eq!(bar(&PLAIN, 0.5, Some(0.5)), "█████");
        assert_eq!(bar(&PLAIN, 0.2, None), "▀▀");
        assert_eq!(bar(&ASCII, 0.5, Some(0.3)), "###--");
        assert_eq!(bar(&ASCII, 0.3, Some(0.5)), "###++");
        assert_eq!(pair(&PLAIN, 5.0, Some(f64::NAN), 0.0, 10).to_string(), "");
        assert_eq!(pair(&PLAIN, 5.0, Some(f64::INFINITY), 1.0, 4).to_string(), "████");
    }

    #[test]
    fn with_colours_both_bars_are_whole() {
        let line = pair(&Theme { palette: Palette::Rich, ..PLAIN }, 0.5, Some(0.3), 1.0, 10);
        assert_eq!(line.to_string(), "▀▀▀▀▀");
        assert_eq!(line.spans[0].style.bg, Some(Theme { palette: Palette::Rich, ..PLAIN }.colour(Role::Seen)));
    }

    #[test]
    fn sparklines_rise_with_their_samples() {
        let samples = [None, Some(0.0), Some(1.0), Some(4.0), Some(8.0), Some(9.0)];
        assert_eq!(spark(&PLAIN, &samples, 8.0, Style::new()).to_string(), " ▁▁▄██");
        assert_eq!(spark(&ASCII, &samples, 8.0, Style::new()).to_string(), " __-##");
        assert_eq!(spark(&PLAIN, &[Some(0.0)], 0.0, Style::new()).to_string(), "▁");
    }

    #[test]
    fn a_steady_time_stands_in_the_middle() {
        assert_eq!(twice_usual(&[Some(5.0), None, Some(5.0), Some(6.0)]), 10.0);
        assert_eq!(twice_usual(&[Some(1.0), Some(1.0), Some(9.0)]), 9.0);
        assert_eq!(twice_usual(&[]), 0.0);
    }
}
