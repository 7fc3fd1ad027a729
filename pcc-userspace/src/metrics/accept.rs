//! Which format a scraper asks for. Pure.

use super::Format;

/// The format for these values of `Accept`: OpenMetrics if it is named and nothing older is liked more, else the older one.
pub fn negotiate<'a>(accept: impl IntoIterator<Item = &'a str>) -> Format {
    let (mut open, mut old) = (0.0, None::<f64>);
    for range in accept.into_iter().flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(|part| part.trim().to_ascii_lowercase());
        let kind = parts.next().unwrap_or_default();
        let (mut quality, mut known) = (1.0_f64, true);
        for part in parts {
            match part.split_once('=') {
                Some(("q", value)) => quality = value.parse().unwrap_or(0.0),
                Some(("version", value)) if kind.starts_with("application/") => {
                    known = ["1.0.0", "0.0.1"].contains(&value.trim_matches('"'));
                }
                _ => {}
            }
        }
        match kind.as_str() {
            "application/openmetrics-text" if known => open = quality.max(open),
            "text/plain" | "text/*" => old = Some(old.map_or(quality, |old| old.max(quality))),
            _ => {}
        }
    }
    if open > 0.0 && old.is_none_or(|old| open >= old) { Format::OpenMetrics } else { Format::Prometheus }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_liked_format_is_written() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, wanted) in [
            (prometheus, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; version=\"1.0.0\"; charset=utf-8", Format::OpenMetrics),
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/plain, application/openmetrics-text;q=0.5", Format::Prometheus),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;version=7.0.0", Format::Prometheus),
            ("application/openmetrics-text;q=x;;=,,;", Format::Prometheus),
        ] {
            assert_eq!(negotiate([accept]), wanted, "{accept}");
        }
        assert_eq!(negotiate(["text/plain;q=0.5", "application/openmetrics-text"]), Format::OpenMetrics);
        assert_eq!(negotiate([]), Format::Prometheus);
    }
}
