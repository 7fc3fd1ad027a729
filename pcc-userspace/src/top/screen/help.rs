//! What keys do: the line at the bottom, and the page.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Widget as _};

use super::{panel, put, title};
use crate::top::app::{App, is_disabled, is_draining};
use crate::top::theme::{Role, Theme};

/// Width and height of the page.
const SIZE: (u16, u16) = (78, 22);

const PAGE: [(&str, &str); 19] = [
    ("up down k j", "select an uplink"),
    ("d", "drain it: no new connections; and back"),
    ("e", "disable it: its connections end; and enable it"),
    ("w", "give it another weight"),
    ("tab left right", "the next panel, where they take turns"),
    ("space page-down/up", "scroll it; home: back to its begin"),
    ("/", "connections with this client, port, uplink; esc: all"),
    ("s", "sort by rate, bytes or address"),
    ("f", "freeze what is shown, and go on"),
    ("+ -", "ask less or more often"),
    ("q ctrl-c", "quit; ctrl-z: suspend"),
    ("", ""),
    ("want seen", "new connections: share given, share of the last minute"),
    ("share", "both as bars: wanted above, seen below"),
    ("rtt jitter loss", "of the last probes of the best target"),
    ("in out", "bits a second of the uplink, all headers included"),
    ("short", "share of its packets that take shortcuts"),
    ("path", "by shortcut, from the flow cache, or by the stack"),
    ("backup", "up, and takes nothing while others can"),
];

/// The keys that matter most, as many as fit.
pub fn keys(theme: &Theme, app: &App, room: u16) -> Line<'static> {
    let uplink = app.shown().uplinks.get(app.cursor());
    let drain = if uplink.is_some_and(is_draining) { "undrain" } else { "drain" };
    let enable = if uplink.is_some_and(is_disabled) { "enable" } else { "disable" };
    let freeze = if app.frozen.is_some() { "go on" } else { "freeze" };
    let mut keys = vec![("?", "help"), ("q", "quit")];
    if uplink.is_some() {
        keys.extend([("d", drain), ("w", "weight"), ("e", enable)]);
    }
    keys.extend([("tab", "panel"), ("/", "filter"), ("s", "sort"), ("f", freeze)]);
    if uplink.is_some() {
        keys.push((theme.glyph("↑↓", "j k"), "uplink"));
    }
    keys.push(("+-", "interval"));
    let mut line = Line::default();
    for (key, what) in keys {
        if line.width() + key.chars().count() + what.chars().count() + 3 > usize::from(room) + 2 {
            break;
        }
        line.spans.push(Span::styled(key.to_owned(), theme.style(Role::Accent)));
        line.spans.push(Span::styled(format!(" {what}  "), theme.style(Role::Label)));
    }
    line
}

/// The page over everything else.
pub fn draw(buffer: &mut Buffer, area: Rect, theme: &Theme) {
    let (width, height) = (SIZE.0.min(area.width), SIZE.1.min(area.height));
    let x = area.x + (area.width - width) / 2;
    let page = Rect { x, y: area.y + (area.height - height) / 2, width, height };
    Clear.render(page, buffer);
    let inner = panel(buffer, page, theme, title(theme, "help", "any key closes it", true));
    for (y, (key, what)) in (0..).zip(PAGE) {
        let key = Line::from(Span::styled(key, theme.style(Role::Accent)));
        put(buffer, inner, 0, y, &key, 19);
        put(buffer, inner, 19, y, &Line::from(Span::styled(what, theme.style(Role::Text))), inner.width);
    }
}
