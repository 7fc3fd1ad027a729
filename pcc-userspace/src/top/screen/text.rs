//! Figures in few letters.

use crate::top::theme::Theme;

/// Bits a second of `bytes` a second: `512`, `9.8k`, `412M`.
pub fn bits(theme: &Theme, bytes: Option<f64>) -> String {
    bytes.map_or_else(|| unknown(theme), |bytes| scaled(bytes * 8.0))
}

/// Events a second: `0`, `0.5`, `34`, `1.2k`.
pub fn pace(theme: &Theme, rate: Option<f64>) -> String {
    match rate {
        None => unknown(theme),
        Some(rate) if rate > 0.0 && rate < 9.95 => format!("{rate:.1}"),
        Some(rate) => scaled(rate),
    }
}

/// A number: `9999`, `12.3k`, `4.1M`.
pub fn count(number: u64) -> String {
    if number < 10_000 { number.to_string() } else { scaled(number as f64) }
}

/// Bytes: `512B`, `9.8kB`, `412MB`.
pub fn bytes(theme: &Theme, count: Option<u64>) -> String {
    count.map_or_else(|| unknown(theme), |count| scaled(count as f64) + "B")
}

/// A time in milliseconds: `1.2ms`, `123ms`, `1.2s`.
pub fn milliseconds(theme: &Theme, time: Option<f64>) -> String {
    match time {
        None => unknown(theme),
        Some(time) if time < 9.95 => format!("{time:.1}ms"),
        Some(time) if time < 999.5 => format!("{time:.0}ms"),
        Some(time) => format!("{}s", scaled(time / 1000.0)),
    }
}

/// A share, 0 to 1, in percent: `0%`, `<1%`, `50%`.
pub fn percent(theme: &Theme, share: Option<f64>) -> String {
    match share {
        None => unknown(theme),
        Some(share) if share > 0.0 && share < 0.005 => "<1%".to_owned(),
        Some(share) if (0.995..1.0).contains(&share) => ">99%".to_owned(),
        Some(share) => format!("{:.0}%", share * 100.0),
    }
}

/// A time in milliseconds in one or two units: `5s`, `3m20s`, `2h05m`, `3d04h`.
pub fn span(time: u64) -> String {
    let seconds = time / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days}d{:02}h", hours % 24),
        () if hours > 0 => format!("{hours}h{:02}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m{:02}s", seconds % 60),
        () => format!("{seconds}s"),
    }
}

/// `text` in `width` letters: what does not fit is taken out of its middle, since addresses differ at their ends.
pub fn squeezed(theme: &Theme, text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    if width == 0 {
        return String::new();
    }
    let tail = (width - 1) / 2;
    let head: String = text.chars().take(width - 1 - tail).collect();
    let tail: String = text.chars().skip(length - tail).collect();
    head + theme.glyph("…", "~") + &tail
}

/// The first `width` letters of `text`, with a sign where it goes on.
pub fn cut(theme: &Theme, text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let head: String = text.chars().take(width.saturating_sub(1)).collect();
    if width == 0 { head } else { head + theme.glyph("…", "~") }
}

/// What stands for a figure that nobody knows.
pub fn unknown(theme: &Theme) -> String {
    theme.glyph("–", "-").to_owned()
}

fn scaled(number: f64) -> String {
    let mut number = number.max(0.0);
    if number < 999.5 {
        return format!("{number:.0}");
    }
    for unit in ["k", "M", "G", "T", "P"] {
        number /= 1000.0;
        if number < 9.95 {
            return format!("{number:.1}{unit}");
        }
        if number < 999.5 {
            return format!("{number:.0}{unit}");
        }
    }
    format!("{:.0}E", number / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::theme::Palette;

    const THEME: Theme = Theme { palette: Palette::Plain, unicode: true, stale: false };

    #[test]
    fn figures_have_three_digits_at_most() {
        for (number, text) in [
            (0.0, "0"),
            (999.4, "999"),
            (999.6, "1.0k"),
            (9_940.0, "9.9k"),
            (9_960.0, "10k"),
            (999_400.0, "999k"),
            (999_600.0, "1.0M"),
            (1.8e19, "18E"),
        ] {
            assert_eq!(scaled(number), text);
        }
        assert_eq!(count(9999), "9999");
        assert_eq!(count(12_345), "12k");
        assert_eq!(bits(&THEME, Some(125_000.0)), "1.0M");
        assert_eq!(bits(&THEME, None), "–");
        assert_eq!(pace(&THEME, Some(0.04)), "0.0");
        assert_eq!(pace(&THEME, Some(0.5)), "0.5");
        assert_eq!(pace(&THEME, Some(9.97)), "10");
        assert_eq!(bytes(&THEME, Some(1500)), "1.5kB");
    }

    #[test]
    fn times_and_shares_are_short() {
        assert_eq!(milliseconds(&THEME, Some(0.04)), "0.0ms");
        assert_eq!(milliseconds(&THEME, Some(9.96)), "10ms");
        assert_eq!(milliseconds(&THEME, Some(1234.0)), "1s");
        assert_eq!(percent(&THEME, Some(0.004)), "<1%");
        assert_eq!(percent(&THEME, Some(0.996)), ">99%");
        assert_eq!(percent(&THEME, Some(1.0)), "100%");
        assert_eq!(span(59_999), "59s");
        assert_eq!(span(200_000), "3m20s");
        assert_eq!(span(7_500_000), "2h05m");
        assert_eq!(span(100 * 3_600_000), "4d04h");
    }

    #[test]
    fn long_texts_keep_what_matters() {
        assert_eq!(squeezed(&THEME, "[2001:db8:9::c]:443", 11), "[2001…]:443");
        assert_eq!(squeezed(&THEME, "abc", 3), "abc");
        assert_eq!(squeezed(&THEME, "abc", 0), "");
        assert_eq!(squeezed(&THEME, "abc", 1), "…");
        assert_eq!(cut(&THEME, "carrier lost", 8), "carrier…");
        assert_eq!(cut(&THEME, "abc", 0), "");
    }
}
