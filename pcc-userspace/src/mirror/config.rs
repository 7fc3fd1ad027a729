//! A RouterOS configuration with what is needed to run it here.

use std::collections::BTreeMap;
use std::time::Duration;

use super::document::Settings;
use crate::config::file::{Draft, Source};
use crate::config::flags::ConfigFlags;
use crate::config::{Base, check};
use crate::problem::{Problem, Problems};
use crate::routeros::dialect::{self, Dialect};
use crate::routeros::model::matcher::Test;
use crate::routeros::model::{Built, Model};
use crate::routeros::{self, Note, Script, Severity, Span};

/// A script that was understood, and where it shall run.
#[derive(Clone, Debug)]
pub struct Config {
    /// What every configuration has.
    pub base: Base,
    /// The bits of both marks that are ours; `None` for as few of the lowest ones as it takes.
    pub mark_mask: Option<u32>,
    /// The file, for messages.
    pub name: String,
    /// What it says.
    pub model: Model,
    /// How it is read.
    pub dialect: Dialect,
    /// Linux devices by interface.
    pub map: BTreeMap<String, String>,
    /// Add the addresses that the host lacks.
    pub addresses: bool,
    /// Time between two probes of a gateway; `None` as the script says.
    pub check_interval: Option<Duration>,
}

impl Config {
    /// The interfaces that active rules name, with the first place of each.
    pub fn interfaces(&self) -> BTreeMap<&str, Span> {
        let rules = self.model.mangle.iter().chain(&self.model.nat).filter(|rule| rule.active());
        let named = rules.flat_map(|rule| &rule.matchers).filter_map(|matcher| match &matcher.test {
            Test::InInterface(name) | Test::OutInterface(name) => Some((name.as_str(), matcher.span)),
            _ => None,
        });
        let mut interfaces = BTreeMap::new();
        for (name, span) in named.filter(|(name, _)| !name.starts_with("all-")) {
            interfaces.entry(name).or_insert(span);
        }
        interfaces
    }

    /// The interfaces that gateways name.
    pub fn gateways(&self) -> impl Iterator<Item = &str> {
        let gateways = self.model.routes.iter().flat_map(|route| &route.gateways);
        gateways.filter_map(|gateway| gateway.interface.as_deref())
    }

    /// The configuration that the script `text`, from the file `name`, and the flags describe.
    ///
    /// # Errors
    /// Flags that do not go with a script, and statements that cannot be understood.
    pub fn build(flags: &ConfigFlags, name: &str, text: &[u8]) -> Result<Self, Problems> {
        Self::of(flags, name, text, &routeros::read(text), Settings::default())
    }

    /// [`Self::build`] of a script that was read already, from the TOML document `text` with these settings.
    pub fn of(
        flags: &ConfigFlags,
        name: &str,
        text: &[u8],
        script: &Script,
        settings: Settings,
    ) -> Result<Self, Problems> {
        let mut draft = Draft::default();
        let mut problems = flags.native_only();
        problems.extend(flags.apply(&mut draft));
        let base = check::base(&draft, Source::default()).unwrap_or_else(|more| {
            problems.extend(more);
            Base::default()
        });
        let Built { model, notes, .. } = Model::build(script);
        let detected = dialect::detect(script, text, flags.dialect.or(settings.dialect));
        let errors = script.notes.iter().chain(&notes).filter(|note| note.severity == Severity::Error);
        problems.extend(errors.map(|note| problem(name, note)));
        let mark_mask = flags.mark_mask.and_then(|mask| u32::try_from(mask).ok());
        let check_interval = flags.check_interval.as_ref().and_then(|text| humantime::parse_duration(text).ok());
        if flags.mark_mask.is_some() != mark_mask.is_some() {
            problems.push(Problem::new("`--mark-mask` is out of range", "a mask of adjacent bits, such as `0xff00`"));
        }
        if flags.check_interval.is_some() != check_interval.is_some() {
            problems.push(Problem::new("`--check-interval` is no time", "such as `1s` or `400ms`"));
        }
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        Ok(Self {
            base,
            mark_mask,
            name: name.to_owned(),
            model,
            dialect: detected.dialect,
            map: settings.interfaces.into_iter().chain(flags.mapping()).collect(),
            addresses: flags.addresses,
            check_interval,
        })
    }
}

/// A note as a problem of the file `name`.
pub fn problem(name: &str, note: &Note) -> Problem {
    let hint = note.fix.clone().unwrap_or_else(|| format!("`pcc check {name}` shows the line"));
    Problem::new(format!("{name}:{}:{}: {}", note.span.line, note.span.column, note.message), hint)
}
