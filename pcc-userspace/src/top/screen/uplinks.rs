//! The table of uplinks, and what is to be said of the selected one.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};

use super::table::{self, Column};
use super::{gauge, panel, put, split, text, title};
use crate::status::FamilyStatus;
use crate::top::app::App;
use crate::top::history::Series;
use crate::top::model::{Model, Mood, Uplink};
use crate::top::theme::{Role, Theme};

/// Lines for the selected uplink, one for each family.
const DETAILS: u16 = 2;
/// Names and states may be so long.
const LONGEST: usize = 14;

/// One line of the table.
struct Row<'a> {
    /// Its place among all.
    index: usize,
    uplink: &'a Uplink,
    /// What it says of families: `both`, or which one.
    family: &'static str,
    /// Of the family, or of both.
    state: Option<&'a FamilyStatus>,
    /// The uplink's own figures stand in another line.
    second: bool,
}

/// Lines that everything takes.
pub fn height(model: &Model) -> u16 {
    (rows(model).len() as u16).max(1).saturating_add(1 + DETAILS)
}

/// Draws them.
pub fn draw(buffer: &mut Buffer, area: Rect, app: &App, theme: &Theme) {
    let model = app.shown();
    let many = match model.uplinks.len() {
        0 => String::new(),
        count => count.to_string(),
    };
    let inner = panel(buffer, area, theme, title(theme, "uplinks", &many, true));
    if model.uplinks.is_empty() {
        let text = if model.snapshot.is_some() { "none" } else { "nothing is known yet" };
        put(buffer, inner, 0, 0, &Line::styled(text, theme.style(Role::Label)), inner.width);
        return;
    }
    let details = if inner.height >= 4 { DETAILS } else { 0 };
    let (above, below) = split(inner, inner.height - details);
    let rows = rows(model);
    let cursor = app.cursor();
    let place = rows.iter().rposition(|row| row.index == cursor).unwrap_or(0);
    let room = usize::from(above.height.saturating_sub(1)).max(1);
    let shown = rows.get((place + 1).saturating_sub(room)..).unwrap_or_default();
    let full = model
        .uplinks
        .iter()
        .flat_map(|uplink| uplink.families().map(|(_, family)| family.share_wanted).chain(model.seen(uplink)));
    let full = full.fold(0.0, f64::max);
    let columns = columns(&rows);
    let drawn = shown.len().min(room);
    table::draw(buffer, above, theme, &columns, drawn, |row, column, width| {
        cell(model, theme, &shown[row], cursor, full, columns[column].title, width)
    });
    if let Some(uplink) = model.uplinks.get(cursor) {
        for (y, line) in (0..below.height).zip(detail(uplink, theme)) {
            put(buffer, below, 0, y, &line, below.width);
        }
    }
}

/// The word for a family, and how it is to be taken.
pub fn word(family: &FamilyStatus) -> (Mood, String) {
    let word = family.state.split(':').next().unwrap_or_default();
    let (mood, word) = match word {
        "up" | "degraded" | "unknown" if family.draining => (Mood::Odd, "draining"),
        "up" | "degraded" if family.suspended => (Mood::Odd, "suspended"),
        "up" if !family.live => (Mood::Idle, "backup"),
        "up" => (Mood::Good, word),
        "degraded" => (Mood::Odd, word),
        "unknown" | "admin-down" => (Mood::Idle, word),
        _ => (Mood::Bad, word),
    };
    (mood, word.to_owned())
}

fn rows(model: &Model) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for (index, uplink) in model.uplinks.iter().enumerate() {
        let row = |family, state, second| Row { index, uplink, family, state, second };
        match (&uplink.status.ipv4, &uplink.status.ipv6) {
            (Some(v4), Some(v6)) if differ(v4, v6) => {
                rows.extend([row("IPv4", Some(v4), false), row("IPv6", Some(v6), true)]);
            }
            (Some(v4), Some(_)) => rows.push(row("both", Some(v4), false)),
            (Some(v4), None) => rows.push(row("IPv4", Some(v4), false)),
            (None, Some(v6)) => rows.push(row("IPv6", Some(v6), false)),
            (None, None) => rows.push(row("none", None, false)),
        }
    }
    rows
}

/// They are to be told apart.
fn differ(v4: &FamilyStatus, v6: &FamilyStatus) -> bool {
    word(v4).1 != word(v6).1 || (v4.share_wanted - v6.share_wanted).abs() > 0.01
}

fn state(row: &Row<'_>) -> (Mood, String) {
    row.state.map_or_else(|| (Mood::Idle, "waiting".to_owned()), word)
}

fn columns(rows: &[Row<'_>]) -> Vec<Column> {
    let widest = |text: &dyn Fn(&Row<'_>) -> String, least: usize| {
        let widths = rows.iter().map(|row| text(row).chars().count());
        widths.max().unwrap_or(0).clamp(least, LONGEST) as u16
    };
    vec![
        Column::text("  name", widest(&|row| row.uplink.status.name.clone(), 6) + 2, 0),
        Column::text("fam", 4, 8),
        Column::text("state", widest(&|row| state(row).1, 5), 0),
        Column::figure("wt", widest(&|row| row.uplink.status.weight.to_string(), 2), 1),
        Column::figure("want", 4, 0),
        Column::figure("seen", 4, 0),
        Column::text("share", 6, 4).up_to(20),
        Column::figure("rtt", 5, 1),
        Column::text("rtt ", 8, 6).up_to(24),
        Column::figure("jitter", 6, 5),
        Column::text("jitter ", 8, 9).up_to(16),
        Column::figure("loss", 4, 1),
        Column::figure("in", 4, 1),
        Column::text("in ", 8, 7).up_to(24),
        Column::figure("out", 4, 1),
        Column::text("out ", 8, 7).up_to(24),
        Column::figure("conns", 5, 2),
        Column::figure("new/s", 5, 3),
        Column::figure("short", 5, 3),
        Column::text("device", widest(&|row| row.uplink.status.device.clone(), 6), 10),
    ]
}

/// What stands in the column called `column`.
fn cell(
    model: &Model,
    theme: &Theme,
    row: &Row<'_>,
    cursor: usize,
    full: f64,
    column: &str,
    width: u16,
) -> Line<'static> {
    let Row { uplink, state: family, second, .. } = row;
    let status = &uplink.status;
    let plain = |text: String| Line::from(Span::styled(text, theme.style(Role::Text)));
    let line = |series: &Series, role: Role, full: fn(&[Option<f64>]) -> f64| {
        let samples = series.tail(width.into());
        gauge::spark(theme, &samples, full(&samples), theme.style(role))
    };
    match column {
        "fam" => return Line::from(Span::styled(row.family, theme.style(Role::Label))),
        "state" => {
            let (mood, word) = state(row);
            return Line::from(Span::styled(text::cut(theme, &word, width.into()), theme.style(Role::Mood(mood))));
        }
        "want" => return plain(text::percent(theme, family.map(|family| family.share_wanted))),
        "rtt" => return plain(text::milliseconds(theme, family.and_then(|family| family.latency_ms))),
        "jitter" => return plain(text::milliseconds(theme, family.and_then(|family| family.jitter_ms))),
        "loss" => {
            let loss = family.and_then(|family| family.loss);
            let role = match loss {
                None | Some(0) => Role::Text,
                Some(1..20) => Role::Mood(Mood::Odd),
                Some(_) => Role::Mood(Mood::Bad),
            };
            let text = loss.map_or_else(|| text::unknown(theme), |loss| format!("{loss}%"));
            return Line::from(Span::styled(text, theme.style(role)));
        }
        "  name" if *second => {
            return Line::from(Span::styled(theme.glyph("  └ IPv6", "  ` IPv6"), theme.style(Role::Label)));
        }
        _ if *second => return Line::default(),
        _ => {}
    }
    match column {
        "  name" => {
            let chosen = row.index == cursor;
            let sign = if chosen { theme.glyph("▌ ", "> ") } else { "  " };
            let name = text::cut(theme, &status.name, usize::from(width.saturating_sub(2)));
            let style = theme.style(Role::Text);
            let style = if chosen { style.add_modifier(Modifier::BOLD) } else { style };
            Line::from(vec![Span::styled(sign, theme.style(Role::Accent)), Span::styled(name, style)])
        }
        "wt" => plain(status.weight.to_string()),
        "seen" => plain(text::percent(theme, model.seen(uplink))),
        "share" => {
            let wanted = family.map_or(0.0, |family| family.share_wanted);
            gauge::pair(theme, wanted, model.seen(uplink), full, width)
        }
        "rtt " => line(&uplink.rtt, Role::Seen, gauge::twice_usual),
        "jitter " => line(&uplink.jitter, Role::Seen, gauge::twice_usual),
        "in" => plain(text::bits(theme, uplink.traffic.into.now())),
        "in " => line(&uplink.traffic.into.series, Role::Into, gauge::highest),
        "out" => plain(text::bits(theme, uplink.traffic.out.now())),
        "out " => line(&uplink.traffic.out.series, Role::Out, gauge::highest),
        "conns" => plain(text::count(status.connections)),
        "new/s" => plain(text::pace(theme, uplink.begun.now())),
        "short" => plain(text::percent(theme, uplink.short())),
        _ => Line::from(Span::styled(text::cut(theme, &status.device, width.into()), theme.style(Role::Label))),
    }
}

/// What is to be said of the selected uplink, a line for each family.
fn detail(uplink: &Uplink, theme: &Theme) -> Vec<Line<'static>> {
    let label = |text: String| Span::styled(text, theme.style(Role::Label));
    let name = &uplink.status.name;
    let lines = uplink.families().map(|(name, family)| {
        let (mood, word) = word(family);
        let state =
            if family.state.starts_with(&word) { family.state.clone() } else { format!("{word}, {}", family.state) };
        let mut spans = vec![label(format!("{name} ")), Span::styled(state, theme.style(Role::Mood(mood)))];
        spans.extend(family.gateway.as_ref().map(|gateway| label(format!("  via {gateway}"))));
        let times = |time| text::milliseconds(theme, time);
        if let Some(loss) = family.loss {
            let (rtt, jitter) = (times(family.latency_ms), times(family.jitter_ms));
            spans.push(label(format!("  rtt {rtt}, jitter {jitter}, {loss}% lost")));
        }
        spans
    });
    let mut lines: Vec<Vec<Span<'static>>> = lines.collect();
    if lines.is_empty() {
        lines.push(vec![label("waits for an address and a next hop".to_owned())]);
    }
    let indent = " ".repeat(name.chars().count() + 2);
    for (index, line) in lines.iter_mut().enumerate() {
        let first = Span::styled(format!("{name}: "), theme.style(Role::Text));
        line.insert(0, if index == 0 { first } else { Span::raw(indent.clone()) });
    }
    lines.into_iter().map(Line::from).collect()
}
