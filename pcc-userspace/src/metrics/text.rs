//! The two text formats. Written here because `prometheus-client` knows neither state sets nor the format 0.0.4, and keeps values
//! that we read anew at each scrape. Pure.

use std::fmt::{self, Write as _};

use super::Format;

/// Metrics that are being written.
#[derive(Debug)]
pub struct Exposition {
    format: Format,
    text: String,
}

/// What a family of metrics is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Its labels say all; the value is 1.
    Info,
    /// One sample for each state, 1 for that which is, the state under a label with the name of the family.
    StateSet,
}

/// A family without its samples.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// What it is.
    pub kind: Kind,
    /// Without `_total` and `_info`, but with the unit.
    pub name: &'static str,
    /// The unit, empty if there is none.
    pub unit: &'static str,
    /// One sentence.
    pub help: &'static str,
}

/// Labels and value of a sample.
pub type Sample<'a> = (Vec<(&'static str, &'a str)>, Value);

/// The value of a label, and the count of a `T` under it.
pub type Column<T> = (&'static str, fn(&T) -> u64);

/// A number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A count, written exactly.
    Whole(u64),
    /// Anything else.
    Real(f64),
}

impl Exposition {
    /// Nothing yet.
    pub const fn new(format: Format) -> Self {
        Self { format, text: String::new() }
    }

    /// Writes `family`, which comes once; one without `samples` is left out.
    pub fn write<'a>(&mut self, family: Family, samples: impl IntoIterator<Item = Sample<'a>>) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let Family { kind, name, unit, help } = family;
        let suffix = match kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::StateSet => "",
        };
        let out = &mut self.text;
        // Writing to a string never fails.
        let _ = match self.format {
            Format::OpenMetrics => head(out, name, kind.word(), unit, &escaped(help, true)),
            Format::Prometheus => head(out, &format!("{name}{suffix}"), kind.old_word(), "", &escaped(help, false)),
        };
        for (labels, value) in samples {
            let _ = write!(out, "{name}{suffix}");
            for (index, (label, value)) in labels.iter().enumerate() {
                let _ = write!(out, "{}{label}=\"{}\"", if index == 0 { '{' } else { ',' }, escaped(value, true));
            }
            let _ = writeln!(out, "{}{value}", if labels.is_empty() { " " } else { "} " });
        }
    }

    /// All that was written.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

fn head(out: &mut String, name: &str, kind: &str, unit: &str, help: &str) -> fmt::Result {
    writeln!(out, "# TYPE {name} {kind}")?;
    if !unit.is_empty() {
        writeln!(out, "# UNIT {name} {unit}")?;
    }
    writeln!(out, "# HELP {name} {help}")
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }

    /// The older format knows fewer kinds.
    const fn old_word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge | Self::Info | Self::StateSet => "gauge",
        }
    }
}

fn escaped(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => value.fmt(out),
            // As the formats spell what Rust spells `inf`.
            Self::Real(value) if value.is_infinite() => out.write_str(if *value > 0.0 { "+Inf" } else { "-Inf" }),
            Self::Real(value) => write!(out, "{value:?}"),
        }
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Whole(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAMILIES: [(Family, u64); 3] = [
        (Family { kind: Kind::Counter, name: "a_bytes", unit: "bytes", help: "Says \"a\\b\"." }, u64::MAX),
        (Family { kind: Kind::Info, name: "a", unit: "", help: "B." }, 1),
        (Family { kind: Kind::StateSet, name: "a_state", unit: "", help: "C." }, 0),
    ];

    fn written(format: Format) -> String {
        let mut out = Exposition::new(format);
        for (family, value) in FAMILIES {
            out.write(family, [(vec![("x", "q\"\n\\"), ("y", "ü")], value.into()), (Vec::new(), Value::Real(0.5))]);
        }
        out.write(Family { kind: Kind::Gauge, name: "none", unit: "", help: "D." }, []);
        out.finish()
    }

    #[test]
    fn open_metrics_has_units_kinds_and_an_end() {
        let wanted = r#"# TYPE a_bytes counter
# UNIT a_bytes bytes
# HELP a_bytes Says \"a\\b\".
a_bytes_total{x="q\"\n\\",y="ü"} 18446744073709551615
a_bytes_total 0.5
# TYPE a info
# HELP a B.
a_info{x="q\"\n\\",y="ü"} 1
a_info 0.5
# TYPE a_state stateset
# HELP a_state C.
a_state{x="q\"\n\\",y="ü"} 0
a_state 0.5
# EOF
"#;
        assert_eq!(written(Format::OpenMetrics), wanted);
    }

    #[test]
    fn the_older_format_names_families_as_their_samples() {
        let wanted = r#"# TYPE a_bytes_total counter
# HELP a_bytes_total Says "a\\b".
a_bytes_total{x="q\"\n\\",y="ü"} 18446744073709551615
a_bytes_total 0.5
# TYPE a_info gauge
# HELP a_info B.
a_info{x="q\"\n\\",y="ü"} 1
a_info 0.5
# TYPE a_state gauge
# HELP a_state C.
a_state{x="q\"\n\\",y="ü"} 0
a_state 0.5
"#;
        assert_eq!(written(Format::Prometheus), wanted);
    }

    #[test]
    fn numbers_are_spelt_as_the_formats_do() {
        let text = |value: f64| Value::Real(value).to_string();
        assert_eq!([text(1.0), text(f64::NAN), text(f64::INFINITY), text(1e-7)], ["1.0", "NaN", "+Inf", "1e-7"]);
    }
}
