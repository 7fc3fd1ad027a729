//! The first two lines: who, whether it answers, and everything together.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{put, text};
use crate::config::FastPath;
use crate::top::app::App;
use crate::top::model::{Link, Mood, Snapshot, clock};
use crate::top::theme::{Role, Theme};

/// Draws them.
pub fn draw(buffer: &mut Buffer, area: Rect, app: &App, theme: &Theme, now: u64) {
    let state = state(app, theme, now);
    let room = area.width.saturating_sub(2);
    let right = (state.width() as u16).min(room);
    put(buffer, area, 1 + room - right, 0, &state, right);
    let left = room.saturating_sub(right + 1);
    put(buffer, area, 1, 0, &joined(who(app, theme), left), left);
    put(buffer, area, 1, 1, &joined(figures(app, theme), room), room);
}

/// Part by part, as far as they fit.
fn joined(parts: Vec<Vec<Span<'static>>>, room: u16) -> Line<'static> {
    let mut line = Line::default();
    for mut part in parts {
        if !line.spans.is_empty() {
            part.insert(0, Span::raw("  "));
        }
        let width: usize = part.iter().map(Span::width).sum();
        if !line.spans.is_empty() && line.width() + width > room.into() {
            break;
        }
        line.spans.extend(part);
    }
    line
}

fn who(app: &App, theme: &Theme) -> Vec<Vec<Span<'static>>> {
    let accent = |text: String| Span::styled(text, theme.style(Role::Accent));
    let label = |text: String| vec![Span::styled(text, theme.style(Role::Label))];
    let named = |version: &str, instance: &str| {
        let instance = Span::styled(instance.to_owned(), theme.style(Role::Text));
        vec![vec![accent(format!("pcc {version}"))], vec![instance]]
    };
    match &app.shown().snapshot {
        None => vec![vec![accent("pcc".to_owned())]],
        Some(Snapshot::Balanced(status)) => {
            let mut parts = named(&status.version, &status.instance);
            parts.push(label(status.hash.clone()));
            parts
        }
        Some(Snapshot::Mirror(status)) => {
            let mut parts = named(&status.version, &status.instance);
            parts.push(label(format!("{} {}", status.script, status.dialect)));
            parts
        }
    }
}

/// Whether the controller answers, and the time.
fn state(app: &App, theme: &Theme, now: u64) -> Line<'static> {
    let model = app.shown();
    let (mood, text) = match &model.link {
        _ if app.frozen.is_some() => (Mood::Odd, format!("{} frozen {}", theme.glyph("■", "#"), clock(model.now))),
        Link::Waiting => (Mood::Idle, format!("{} waiting", theme.glyph("○", "o"))),
        Link::Live => (Mood::Good, theme.glyph("● live", "* live").to_owned()),
        Link::Silent { since, .. } => {
            let time = text::span(now.saturating_sub(*since));
            (Mood::Bad, format!("{} silent for {time}, since {}", theme.glyph("○", "o"), clock(*since)))
        }
    };
    let since = model.began.map(|began| text::span(now.saturating_sub(began))).unwrap_or_default();
    let pace = format!("each {}", humantime::format_duration(app.interval));
    let mut spans = vec![Span::styled(text, theme.style(Role::Mood(mood)))];
    if model.link == Link::Live && app.frozen.is_none() {
        spans.push(Span::styled(format!(" {since} {pace}"), theme.style(Role::Label)));
    }
    spans.push(Span::styled(format!("  {} UTC", clock(now)), theme.style(Role::Time)));
    Line::from(spans)
}

fn figures(app: &App, theme: &Theme) -> Vec<Vec<Span<'static>>> {
    let total = app.shown().total();
    let figure = |text: String| Span::styled(text, theme.style(Role::Text));
    let label = |text: &str| Span::styled(text.to_owned(), theme.style(Role::Label));
    // Figures with their unit, as people write them: `412 Mbit/s`.
    let speed = |bytes| {
        let text = text::bits(theme, bytes);
        let digits = text.trim_end_matches(char::is_alphabetic).len();
        let (number, prefix) = text.split_at(digits);
        [figure(number.to_owned()), label(&format!(" {prefix}bit/s"))]
    };
    let into = Span::styled(theme.glyph("↓ ", "in "), theme.style(Role::Into));
    let out = Span::styled(theme.glyph("↑ ", "out "), theme.style(Role::Out));
    let mut parts = vec![
        std::iter::once(into).chain(speed(total.into)).collect(),
        std::iter::once(out).chain(speed(total.out)).collect(),
        vec![figure(text::count(total.connections)), label(" connections")],
    ];
    if let Some(Snapshot::Balanced(status)) = &app.shown().snapshot {
        parts.push(vec![figure(text::pace(theme, total.begun)), label(" new/s")]);
        let mode = &status.fast_path.mode;
        parts.push(match mode == FastPath::Off.word() {
            true => vec![label("fast path off")],
            false => vec![label("shortcuts "), figure(text::percent(theme, total.short)), label(&format!(" ({mode})"))],
        });
    }
    parts
}
