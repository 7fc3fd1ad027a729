//! Which RouterOS generation a script is written for.

use std::fmt;
use std::sync::Arc;

use super::{Script, Span};

/// RouterOS generation. They differ in menus and in what a mark means; see [`crate::routeros::lint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// RouterOS 6: tables exist by their mark, local delivery comes first, gateways are watched by address.
    V6,
    /// RouterOS 7: tables are declared, the mark comes first, next hops are watched one by one.
    V7,
}

/// The dialect of a script and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// The dialect.
    pub dialect: Dialect,
    /// What speaks for either; empty if nothing does.
    pub evidence: Vec<Evidence>,
    /// The caller chose it.
    pub given: bool,
}

/// One sign of a dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What it speaks for.
    pub dialect: Dialect,
    /// Where it is.
    pub span: Span,
    /// What it is, literals in backticks.
    pub reason: String,
}

impl Detected {
    /// Something speaks for the dialect.
    pub fn is_certain(&self) -> bool {
        self.given || self.evidence.iter().any(|evidence| evidence.dialect == self.dialect)
    }

    /// The first sign of the other dialect, if there is one.
    pub fn contradiction(&self) -> Option<&Evidence> {
        self.evidence.iter().find(|evidence| evidence.dialect != self.dialect)
    }
}

/// The dialect of `script`, whose text is `text`: `given` if the caller knows it, else what the export header says, else what
/// most signs say. Without any sign it is v7.
pub fn detect(script: &Script, text: &[u8], given: Option<Dialect>) -> Detected {
    let header = script.version.as_deref().and_then(from_version);
    let mut evidence = Vec::new();
    if let (Some(dialect), Some(version)) = (header, &script.version) {
        let span = Span { line: 1, column: 1, length: 1 };
        evidence.push(Evidence { dialect, span, reason: format!("the export names version `{version}`") });
    }
    let mut note = |dialect, span, reason: String| {
        // One sign of a kind is enough.
        if !evidence.iter().any(|known: &Evidence| known.reason == reason) {
            evidence.push(Evidence { dialect, span, reason });
        }
    };
    let (mut menu, mut before) = (String::new(), None);
    for statement in &script.statements {
        if before.is_none_or(|before| !Arc::ptr_eq(before, &statement.menu)) {
            menu = statement.menu.join(" ");
            before = Some(&statement.menu);
        }
        match menu.as_str() {
            "routing table" | "routing rule" | "ip vrf" | "routing settings" => {
                note(Dialect::V7, statement.span, format!("menu `/{menu}`"));
            }
            "ip route rule" | "ip route vrf" => note(Dialect::V6, statement.span, format!("menu `/{menu}`")),
            _ => {}
        }
        if menu == "ip route" && statement.verb == "add" {
            for argument in &statement.arguments {
                let dialect = match argument.name.as_str() {
                    "routing-table" | "blackhole" | "suppress-hw-offload" | "vrf-interface" => Dialect::V7,
                    "routing-mark" | "type" => Dialect::V6,
                    _ => continue,
                };
                note(dialect, argument.span, format!("`{}=` on a route", argument.name));
            }
        }
    }
    if let Some(line) = slash_path(text) {
        let span = Span { line, column: 1, length: 1 };
        note(Dialect::V7, span, "a path written with slashes".into());
    }
    let votes = |dialect| evidence.iter().filter(|evidence| evidence.dialect == dialect).count();
    let counted = if votes(Dialect::V6) > votes(Dialect::V7) { Dialect::V6 } else { Dialect::V7 };
    Detected { dialect: given.or(header).unwrap_or(counted), evidence, given: given.is_some() }
}

fn from_version(version: &str) -> Option<Dialect> {
    match version.split('.').next()?.parse::<u32>().ok()? {
        0..=6 => Some(Dialect::V6),
        _ => Some(Dialect::V7),
    }
}

/// The first line that begins with a path such as `/ip/route`.
fn slash_path(text: &[u8]) -> Option<u32> {
    let is_path = |line: &[u8]| {
        let path = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        let words: Vec<_> = path.split(|byte| *byte == b'/').collect();
        path.starts_with(b"/")
            && words.len() > 2
            && words[1..]
                .iter()
                .all(|word| !word.is_empty() && word.iter().all(|b| b.is_ascii_lowercase() || *b == b'-'))
    };
    text.split(|byte| *byte == b'\n')
        .position(|line| line.len() < 4096 && is_path(line.trim_ascii()))
        .and_then(|at| u32::try_from(at + 1).ok())
}

impl fmt::Display for Dialect {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::V6 => "v6",
            Self::V7 => "v7",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Detected, Dialect, detect};
    use crate::routeros::read;

    fn of(text: &str, given: Option<Dialect>) -> Detected {
        detect(&read(text.as_bytes()), text.as_bytes(), given)
    }

    #[test]
    fn headers_menus_properties_and_paths_tell_the_dialect() {
        for (text, dialect, certain) in [
            (
                "# nov/16/2021 20:55:23 by RouterOS 6.48.5\n/ip address add address=192.0.2.1/24 interface=a",
                Dialect::V6,
                true,
            ),
            (
                "# 2025-03-01 10:00:00 by RouterOS 7.18.2\n/ip address add address=192.0.2.1/24 interface=a",
                Dialect::V7,
                true,
            ),
            ("/ip route add gateway=192.0.2.1 routing-mark=a", Dialect::V6, true),
            ("/ip route add gateway=192.0.2.1 routing-table=a", Dialect::V7, true),
            ("/routing table add name=a fib", Dialect::V7, true),
            ("/ip route rule add table=a", Dialect::V6, true),
            ("/ip/address\nadd address=192.0.2.1/24 interface=a", Dialect::V7, true),
            ("/ip address add address=192.0.2.1/24 interface=a", Dialect::V7, false),
        ] {
            let detected = of(text, None);
            assert_eq!((detected.dialect, detected.is_certain()), (dialect, certain), "{text}");
        }
    }

    #[test]
    fn the_caller_overrides_and_mixtures_show() {
        let mixed = "/routing table add name=a fib\n/ip route add gateway=192.0.2.1 routing-table=a\n\
                     /ip route add gateway=192.0.2.1 routing-mark=a";
        let detected = of(mixed, None);
        assert_eq!(detected.dialect, Dialect::V7);
        assert_eq!(detected.contradiction().map(|evidence| evidence.span.line), Some(3));
        assert_eq!(of(mixed, Some(Dialect::V6)).dialect, Dialect::V6);
    }
}
