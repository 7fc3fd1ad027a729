//! What the user wrote, before anybody asked whether it makes sense: a [`Draft`]. Here it is read from TOML;
//! [`super::flags`] writes into the same type, and [`super::check`] makes a configuration of it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::problem::Problem;

pub use rule::{RuleDraft, Several, StickyDraft, Word};
pub use target::{PageDraft, TargetDraft, Targets};

mod rule;
mod target;

/// Everything that can be configured, as written. Numbers and words are not checked yet.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Draft {
    /// Name of the instance.
    pub instance: Option<At<String>>,
    /// LAN devices.
    pub lan: Vec<At<String>>,
    /// RouterOS's word for the hashed fields.
    pub hash: Option<At<String>>,
    /// Seed of the hash.
    pub seed: Option<At<i64>>,
    /// Our bits of the marks.
    pub mark_mask: Option<At<i64>>,
    /// Prefixes or addresses that are never balanced.
    pub bypass: Vec<At<String>>,
    /// Entries of the flow cache.
    pub flow_entries: Option<At<i64>>,
    /// First of our routing tables.
    pub table_base: Option<At<i64>>,
    /// First of our rule priorities.
    pub rule_priority: Option<At<i64>>,
    /// The `[[uplink]]` tables.
    pub uplink: Vec<UplinkDraft>,
    /// Addresses and prefixes that rules name as `@list`.
    pub lists: BTreeMap<String, Several>,
    /// The `[[rule]]` tables.
    pub rule: Vec<RuleDraft>,
    /// The router's own connections are balanced too.
    pub balance_router: Option<At<bool>>,
    /// Program and arguments that are run for events.
    pub hook: Option<At<Words>>,
    /// `auto`, `xdp`, `tc` or `off`.
    pub fast_path: Option<At<String>>,
    /// Shortcuts that are remembered.
    pub shortcut_entries: Option<At<i64>>,
    /// Where metrics are served.
    pub metrics: Option<At<String>>,
}

/// One `[[uplink]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UplinkDraft {
    /// Device.
    pub device: At<String>,
    /// What people call it.
    pub name: Option<At<String>>,
    /// Share of new connections.
    pub weight: Option<At<i64>>,
    /// Fixed id in the marks.
    pub id: Option<At<i64>>,
    /// IPv4 next hop.
    pub gateway: Option<At<String>>,
    /// IPv6 next hop.
    pub gateway6: Option<At<String>>,
    /// `masquerade` or `none`.
    pub nat: Option<At<String>>,
    /// `clamp` or bytes.
    pub mss: Option<At<Word>>,
    /// Uplinks of an earlier tier go first.
    pub tier: Option<At<i64>>,
    /// `release` or `keep`.
    pub on_down: Option<At<String>>,
    /// Resets for clients whose connections end with the uplink.
    pub reset_clients: Option<At<bool>>,
    /// `keep`, `move`, or a time.
    pub fail_back: Option<At<String>>,
    /// When it counts as degraded.
    #[serde(default)]
    pub degraded: DegradedDraft,
    /// Health check.
    #[serde(default)]
    pub check: CheckDraft,
}

impl UplinkDraft {
    /// An uplink of which only the device is known.
    pub fn new(device: At<String>) -> Self {
        Self {
            device,
            name: None,
            weight: None,
            id: None,
            gateway: None,
            gateway6: None,
            nat: None,
            mss: None,
            tier: None,
            on_down: None,
            reset_clients: None,
            fail_back: None,
            degraded: DegradedDraft::default(),
            check: CheckDraft::default(),
        }
    }
}

/// The `check` of an uplink.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckDraft {
    /// What is asked.
    pub target: Option<At<Targets>>,
    /// Time between two pings, such as `400ms`.
    pub interval: Option<At<String>>,
    /// Time until an unanswered ping is lost.
    pub timeout: Option<At<String>>,
    /// Targets that must answer.
    pub quorum: Option<At<i64>>,
    /// Lost probes in a row that silence a target.
    pub losses: Option<At<i64>>,
    /// Answered probes in a row that bring it back.
    pub answers: Option<At<i64>>,
    /// The longest time of probation.
    pub hold_down: Option<At<String>>,
}

/// The `degraded` of an uplink.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DegradedDraft {
    /// Percent of lost probes.
    pub loss: Option<At<i64>>,
    /// Round-trip time, such as `300ms`.
    pub latency: Option<At<String>>,
    /// Variation of the round-trip time.
    pub jitter: Option<At<String>>,
    /// Percent of the weight that is left.
    pub weight: Option<At<i64>>,
}

/// One word or a list of them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub enum Words {
    /// `"a"`
    One(String),
    /// `["a", "b"]`
    Many(Vec<String>),
}

impl Words {
    /// The words in the order in which they were written.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(word) => std::slice::from_ref(word),
            Self::Many(words) => words,
        }
    }
}

/// A value with the place where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    /// What was written.
    pub value: T,
    /// Where.
    pub place: Place,
}

impl<T> At<T> {
    /// A value that came by the flag `flag`.
    pub fn flag(flag: &'static str, value: T) -> Self {
        Self { value, place: Place::Flag(flag) }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<T>::deserialize(deserializer)?;
        Ok(Self { place: Place::File { offset: spanned.span().start }, value: spanned.into_inner() })
    }
}

/// Where a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The flag with its dashes.
    Flag(&'static str),
    /// Byte offset into the file.
    File {
        /// Bytes from the start.
        offset: usize,
    },
}

/// A configuration file in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Source<'a> {
    /// Name for messages; empty when there is no file.
    pub name: &'a str,
    /// Contents.
    pub text: &'a str,
}

impl Source<'_> {
    /// `place` as the start of a message: `` `--weights` `` or `` pcc.toml:4: `weight` ``.
    pub fn locate(&self, place: Place, key: &str) -> impl fmt::Display {
        match place {
            Place::Flag(flag) => format!("`{flag}`"),
            Place::File { offset } => format!("{}:{}: `{key}`", self.name, self.line(offset)),
        }
    }

    /// The number of the line, from 1, that holds the byte at `offset`.
    fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }
}

/// Reads TOML. An error names the file, the line and its text.
pub fn parse(source: Source<'_>) -> Result<Draft, Problem> {
    toml::from_str(source.text).map_err(|error| {
        let place = error.span().map_or_else(
            || source.name.to_owned(),
            |span| {
                let line = source.line(span.start);
                let text = source.text.lines().nth(line - 1).unwrap_or_default().trim();
                if text.is_empty() {
                    format!("{}:{line}", source.name)
                } else {
                    format!("{}:{line}: `{text}`", source.name)
                }
            },
        );
        Problem::new(
            format!("{place}: {}", error.message().trim().replace('\n', "; ")),
            "the file is TOML: `key = value`, strings in double quotes, one `[[uplink]]` heading for each uplink",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_file_is_read() {
        let text = r#"
lan = ["eth2"]
hash = "both-addresses"
bypass = ["10.8.0.0/16"]
seed = 1
mark_mask = 0xff
[[uplink]]
device = "eth0"
gateway = "192.0.2.1"
check = { target = "gateway", interval = "400ms", losses = 3 }
[[uplink]]
device = "eth1"
[uplink.check]
target = ["1.1.1.1",
  { url = "https://example.org/204", address = "203.0.113.9", status = 204 }]
"#;
        let source = Source { name: "pcc.toml", text };
        let draft = parse(source).unwrap();
        assert_eq!(draft.mark_mask.unwrap().value, 0xff);
        assert_eq!(draft.uplink.len(), 2);
        let target = draft.uplink[1].check.target.clone().unwrap();
        let places =
            target.value.each(target.place).into_iter().map(|(_, place)| source.locate(place, "target").to_string());
        assert_eq!(places.collect::<Vec<_>>(), ["pcc.toml:14: `target`", "pcc.toml:15: `target`"]);
        assert_eq!(source.locate(Place::Flag("--wan"), "device").to_string(), "`--wan`");
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let message = |text| parse(Source { name: "pcc.toml", text }).unwrap_err().message;
        for (text, wanted) in [
            ("lan = [\"eth2\"]\nlams = 1\n", "pcc.toml:2: `lams = 1`: unknown field `lams`"),
            ("\nseed = \"x\"", "pcc.toml:2: `seed = \"x\"`: invalid type: string \"x\", expected i64"),
            ("[[uplink]]\nname = \"a\"\n", "pcc.toml:1: `[[uplink]]`: missing field `device`"),
            ("lan = [\"eth2\"\nhash = 1", "pcc.toml:2: `hash = 1`: "),
            ("seed = 1\nseed = 2", "pcc.toml:2: `seed = 2`: duplicate key"),
            ("[[uplink]]\ndevice = \"a\"\ncheck = { target = 1 }", "pcc.toml:3: "),
            (
                "[[uplink]]\ndevice = \"a\"\ncheck = { target = [\n{ uri = 1 }] }",
                "pcc.toml:4: `{ uri = 1 }] }`: unknown field `uri`",
            ),
            (
                "[[uplink]]\ndevice = \"a\"\ncheck = { target = {} }",
                "pcc.toml:3: `check = { target = {} }`: missing field `url`",
            ),
        ] {
            assert!(message(text).starts_with(wanted), "{}", message(text));
        }
    }
}
