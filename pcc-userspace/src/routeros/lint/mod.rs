//! The classic mistakes of multi-WAN configurations. Ids are stable: `lint-7.N`.
//!
//! Where the outcome depends on rules together, packets are walked through them ([`walk`]) rather than patterns matched.

use super::dialect::Detected;
use super::model::Model;
use super::model::route::Route;
use super::model::rule::Rule;
use super::{Note, Script, Severity, Span};
use facts::Facts;

mod bypass;
mod discover;
mod dns;
mod facts;
mod failover;
mod inbound;
mod links;
mod marks;
#[cfg(test)]
mod mistakes;
mod nat;
mod order;
mod partition;
mod probes;
mod services;
mod tables;
#[cfg(test)]
mod tests;
mod walk;
mod ways;

/// Longer menus are checked up to here.
const MOST_ITEMS: usize = 5_000;

/// All findings about `model`, which `script` made, as a router of the detected dialect would run it.
pub fn lint(script: &Script, model: &Model, detected: &Detected) -> Vec<Note> {
    let mut findings = Findings::default();
    let start = shortened(model, &mut findings);
    let model = start.as_ref().unwrap_or(model);
    let facts = Facts::new(model, detected);
    let checks: [fn(&Facts<'_>, &mut Findings); 12] = [
        bypass::check,
        dns::check,
        failover::check,
        inbound::check,
        links::check,
        marks::check,
        nat::check,
        order::check,
        partition::check,
        services::check,
        tables::check,
        probes::check,
    ];
    for check in checks {
        check(&facts, &mut findings);
    }
    services::untrusted(script, &mut findings);
    findings.0
}

/// The beginning of a model that is too long for checks that compare everything with everything; `None` if it is not.
fn shortened(model: &Model, findings: &mut Findings) -> Option<Model> {
    fn first<T: Clone>(items: &[T]) -> Vec<T> {
        items.iter().take(MOST_ITEMS).cloned().collect()
    }
    let rules = [&model.mangle, &model.nat, &model.filter, &model.raw].into_iter();
    let long = rules.filter_map(|rules| rules.get(MOST_ITEMS).map(Rule::span)).next();
    let long = long.or_else(|| model.routes.get(MOST_ITEMS).map(Route::span));
    let others =
        [model.addresses.len(), model.members.len(), model.netwatch.len(), model.interfaces.len(), model.scripts.len()];
    let span = long.or_else(|| others.iter().any(|length| *length > MOST_ITEMS).then(Span::default))?;
    findings.warning(
        "lint-limit",
        span,
        format!("a menu has more than {MOST_ITEMS} items; mistakes are looked for in the first ones"),
    );
    Some(Model {
        interfaces: first(&model.interfaces),
        members: first(&model.members),
        addresses: first(&model.addresses),
        routes: first(&model.routes),
        mangle: first(&model.mangle),
        nat: first(&model.nat),
        filter: first(&model.filter),
        raw: first(&model.raw),
        netwatch: first(&model.netwatch),
        scripts: first(&model.scripts),
        bridge_ports: model.bridge_ports.clone(),
        lists: model.lists.clone(),
        tables: model.tables.clone(),
        rules: model.rules.clone(),
        vrfs: model.vrfs.clone(),
        address_lists: model.address_lists.clone(),
        clients: model.clients.clone(),
        profiles: model.profiles.clone(),
        settings: model.settings.clone(),
        read: model.read.clone(),
    })
}

/// Collects notes.
#[derive(Debug, Default)]
struct Findings(Vec<Note>);

impl Findings {
    fn error(&mut self, id: &'static str, span: Span, message: impl Into<String>) {
        self.add(Severity::Error, id, span, message);
    }

    fn warning(&mut self, id: &'static str, span: Span, message: impl Into<String>) {
        self.add(Severity::Warning, id, span, message);
    }

    fn info(&mut self, id: &'static str, span: Span, message: impl Into<String>) {
        self.add(Severity::Info, id, span, message);
    }

    /// The last finding gets a fix.
    fn fix(&mut self, fix: impl Into<String>) {
        if let Some(note) = self.0.last_mut() {
            note.fix = Some(fix.into());
        }
    }

    fn add(&mut self, severity: Severity, id: &'static str, span: Span, message: impl Into<String>) {
        self.0.push(Note { severity, id, span, message: message.into(), fix: None });
    }
}

/// ` (also lines 3, 4)` for all places but the first.
fn also(spans: &[Span]) -> String {
    let mut lines: Vec<_> = spans.iter().skip(1).map(|span| span.line).collect();
    lines.sort_unstable();
    lines.dedup();
    lines.retain(|line| Some(*line) != spans.first().map(|first| first.line));
    let lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
    match lines.as_slice() {
        [] => String::new(),
        [line] => format!(" (also line {line})"),
        lines => format!(" (also lines {})", lines.join(", ")),
    }
}

/// `` `a`, `b` `` for names in the order given, each once.
fn quoted<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let mut quoted: Vec<String> = Vec::new();
    for name in names {
        let name = format!("`{}`", name.as_ref());
        if !quoted.contains(&name) {
            quoted.push(name);
        }
    }
    quoted.join(", ")
}
