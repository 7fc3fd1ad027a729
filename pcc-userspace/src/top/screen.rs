//! The screen: a function of what is known, how it is looked at, the theme, the time and the size.

use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Widget as _};

use super::app::{App, Mode, Panel};
use super::model::{Link, Mood, Snapshot};
use super::theme::{Role, Theme};

mod gauge;
mod header;
mod help;
mod lists;
mod mirror;
mod table;
pub mod text;
mod uplinks;

/// Below this width panels take turns.
const ABREAST: u16 = 100;
/// Below this height too.
const STACKED: u16 = 14;

/// Draws `app` at the time `now`, in milliseconds since 1970, over the whole of `buffer`.
pub fn draw(app: &App, theme: &Theme, now: u64, buffer: &mut Buffer) {
    let area = buffer.area;
    let live = *theme;
    let theme = &Theme { stale: matches!(app.shown().link, Link::Silent { .. }), ..live };
    let (top, rest) = split(area, 2);
    let (middle, bottom) = split(rest, rest.height.saturating_sub(1));
    header::draw(buffer, top, app, theme, now);
    let wanted = match app.shown().snapshot {
        Some(Snapshot::Mirror(_)) => mirror::height(app.shown()),
        _ => uplinks::height(app.shown()),
    } + 2;
    let height = if middle.height < 12 { middle.height } else { wanted.min(middle.height - 7) };
    let (above, below) = split(middle, height);
    match &app.shown().snapshot {
        Some(Snapshot::Mirror(status)) => mirror::draw(buffer, above, app.shown(), status, theme),
        _ => uplinks::draw(buffer, above, app, theme),
    }
    panels(buffer, below, app, theme);
    footer(buffer, bottom, app, &live);
    if app.mode == Mode::Help {
        help::draw(buffer, area, &live);
    }
    if !theme.unicode {
        ascii(buffer);
    }
}

/// The frame of `app` as lines of text, without colours.
pub fn text(app: &App, theme: &Theme, now: u64, (width, height): (u16, u16)) -> String {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    draw(app, theme, now, &mut buffer);
    lines(&buffer).map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn lines(buffer: &Buffer) -> impl Iterator<Item = String> {
    let Rect { width, height, .. } = buffer.area;
    (0..height).map(move |y| (0..width).filter_map(|x| buffer.cell((x, y))).map(Cell::symbol).collect())
}

/// The panels below the uplinks: one, or all where there is room.
fn panels(buffer: &mut Buffer, area: Rect, app: &App, theme: &Theme) {
    if area.width < ABREAST || area.height < STACKED {
        match app.panel {
            Panel::Connections => lists::connections(buffer, area, app, theme),
            Panel::Clients => lists::clients(buffer, area, app, theme),
            Panel::Events => lists::events(buffer, area, app, theme),
        }
        return;
    }
    let (above, below) = split(area, area.height - (area.height / 3).clamp(5, 12));
    let left = if area.width >= 140 { area.width * 2 / 3 } else { area.width * 3 / 5 + 6 };
    lists::connections(buffer, Rect { width: left, ..above }, app, theme);
    lists::clients(buffer, Rect { x: above.x + left, width: above.width - left, ..above }, app, theme);
    lists::events(buffer, below, app, theme);
}

/// What the last key led to, what is asked, or the keys.
fn footer(buffer: &mut Buffer, area: Rect, app: &App, theme: &Theme) {
    let line = match (&app.mode, &app.note, &app.shown().link) {
        (Mode::Confirm { uplink, question, .. }, ..) => asking(theme, &format!("{uplink}: {question}?"), "y/n"),
        (Mode::Weight { uplink, digits }, ..) => asking(theme, &format!("weight of {uplink}:"), &format!("{digits}_")),
        (Mode::Filter { .. }, ..) => asking(theme, "filter by client, port or uplink:", &format!("{}_", app.filter)),
        (_, Some((bad, text)), _) => {
            let mood = if *bad { Mood::Odd } else { Mood::Good };
            Line::from(Span::styled(text.clone(), theme.style(Role::Mood(mood))))
        }
        (_, None, Link::Silent { reason, .. }) => {
            Line::from(Span::styled(reason.clone(), theme.style(Role::Mood(Mood::Bad))))
        }
        (_, None, _) => help::keys(theme, app, area.width.saturating_sub(2)),
    };
    put(buffer, area, 1, 0, &line, area.width.saturating_sub(2));
}

fn asking(theme: &Theme, question: &str, answer: &str) -> Line<'static> {
    let answer = Span::styled(answer.to_owned(), theme.style(Role::Accent));
    Line::from(vec![Span::styled(format!("{question} "), theme.style(Role::Mood(Mood::Odd))), answer])
}

/// Draws a frame with a title and returns what is inside.
fn panel(buffer: &mut Buffer, area: Rect, theme: &Theme, title: Line<'static>) -> Rect {
    if area.width < 4 || area.height < 3 {
        return area;
    }
    let block = Block::bordered().border_set(theme.border()).border_style(theme.style(Role::Frame)).title(title);
    let inner = block.inner(area);
    block.render(area, buffer);
    Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner }
}

/// A title of a panel: its name, and what is to be said of it.
fn title(theme: &Theme, name: &str, more: &str, active: bool) -> Line<'static> {
    let name = Span::styled(format!(" {name} "), theme.style(if active { Role::Accent } else { Role::Text }));
    let more = if more.is_empty() { String::new() } else { format!("{more} ") };
    Line::from(vec![name, Span::styled(more, theme.style(Role::Label))])
}

/// Writes `line` at a place inside `area`, at most `width` letters, as far as there is room.
fn put(buffer: &mut Buffer, area: Rect, x: u16, y: u16, line: &Line<'_>, width: u16) {
    if x < area.width && y < area.height && area.intersection(buffer.area) == area {
        buffer.set_line(area.x + x, area.y + y, line, width.min(area.width - x));
    }
}

/// The first `height` lines of `area`, and the others.
fn split(area: Rect, height: u16) -> (Rect, Rect) {
    let height = height.min(area.height);
    let below = Rect { y: area.y + height, height: area.height - height, ..area };
    (Rect { height, ..area }, below)
}

/// Names may have any letters; this terminal has those of ASCII.
fn ascii(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        if !cell.symbol().is_ascii() {
            cell.set_symbol("?");
        }
    }
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
