//! The panels of connections, clients and events.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::table::{self, Column};
use super::{panel, put, text, title};
use crate::flows::Flow;
use crate::top::app::{App, Panel};
use crate::top::model::{Mood, Snapshot};
use crate::top::theme::{Role, Theme};
use crate::top::traffic::Paced;

/// Draws the connections that were asked for.
pub fn connections(buffer: &mut Buffer, area: Rect, app: &App, theme: &Theme) {
    let connections = &app.shown().connections;
    let flows = connections.flows(app.sort, &app.filter);
    let mut more = connections.total.to_string() + &about(app);
    if connections.known && !connections.accounting {
        more += ", bytes are not counted";
    }
    let more = if connections.known { more.as_str() } else { "" };
    let inner = panel(buffer, area, theme, title(theme, "connections", more, app.panel == Panel::Connections));
    if excuse(buffer, inner, app, theme, flows.is_empty()) {
        return;
    }
    let flows = scrolled(app, Panel::Connections, inner, flows);
    let mirrored = matches!(app.shown().snapshot, Some(Snapshot::Mirror(_)));
    let mark = |flow: &Flow| if mirrored { flow.connection_mark.clone() } else { flow.uplink.clone() };
    let widest = |text: &dyn Fn(&Flow) -> String| {
        flows.iter().map(|flow| text(&flow.it).chars().count()).max().unwrap_or(0).max(6) as u16
    };
    // Two addresses of IPv4 fit into 80 letters.
    let address = |title, text: fn(&Flow) -> String| {
        let most = widest(&text);
        Column::text(title, most.min(inner.width / 4 + 2), 0).up_to(most)
    };
    let columns = [
        Column::text("proto", 5, 3),
        address("client", client_of),
        Column::text(" ", 1, 0),
        address("server", server_of),
        Column::text(
            if mirrored { "mark" } else { "uplink" },
            widest(&|flow| mark(flow).unwrap_or_default()).min(12),
            0,
        ),
        Column::figure("in", 4, 1),
        Column::figure("out", 4, 1),
        Column::figure("bytes", 5, 2),
        Column::text("path", 5, 4),
        Column::text("state", 11, 5),
    ];
    table::draw(buffer, inner, theme, &columns, flows.len(), |row, column, width| {
        let Paced { it: flow, into, out } = flows[row];
        let plain = |text: String| Line::from(Span::styled(text, theme.style(Role::Text)));
        let label =
            |text: &str| Line::from(Span::styled(text::cut(theme, text, width.into()), theme.style(Role::Label)));
        match columns[column].title {
            "proto" => label(&flow.protocol),
            "client" => plain(text::squeezed(theme, &client_of(flow), width.into())),
            " " => label(if flow.inbound { theme.glyph("←", "<") } else { theme.glyph("→", ">") }),
            "server" => plain(text::squeezed(theme, &server_of(flow), width.into())),
            "uplink" | "mark" => {
                plain(text::cut(theme, &mark(flow).unwrap_or_else(|| text::unknown(theme)), width.into()))
            }
            "in" => plain(text::bits(theme, *into)),
            "out" => plain(text::bits(theme, *out)),
            "bytes" => {
                let all = flow.bytes_out.zip(flow.bytes_in).map(|(out, into)| out.saturating_add(into));
                plain(text::bytes(theme, all))
            }
            "path" => label(path(flow)),
            _ => label(flow.state.as_deref().unwrap_or_default()),
        }
    });
}

/// Draws the clients.
pub fn clients(buffer: &mut Buffer, area: Rect, app: &App, theme: &Theme) {
    let clients = app.shown().connections.clients(app.sort, &app.filter);
    let more = if app.shown().connections.known { about(app) } else { String::new() };
    let inner = panel(buffer, area, theme, title(theme, "clients", more.trim_start(), app.panel == Panel::Clients));
    if excuse(buffer, inner, app, theme, clients.is_empty()) {
        return;
    }
    let clients = scrolled(app, Panel::Clients, inner, clients);
    let widest = clients.iter().map(|client| client.it.address.to_string().len()).max().unwrap_or(0) as u16;
    let columns = [
        Column::text("client", widest.clamp(12, 39), 0),
        Column::figure("conns", 5, 0),
        Column::figure("in", 4, 1),
        Column::figure("out", 4, 1),
        Column::figure("bytes", 5, 2),
    ];
    table::draw(buffer, inner, theme, &columns, clients.len(), |row, column, width| {
        let Paced { it: client, into, out } = clients[row];
        let text = match columns[column].title {
            "client" => text::squeezed(theme, &client.address.to_string(), width.into()),
            "conns" => text::count(client.connections),
            "in" => text::bits(theme, *into),
            "out" => text::bits(theme, *out),
            _ => text::bytes(theme, Some(client.bytes_out.saturating_add(client.bytes_in))),
        };
        Line::from(Span::styled(text, theme.style(Role::Text)))
    });
}

/// Draws what happened, the newest first.
pub fn events(buffer: &mut Buffer, area: Rect, app: &App, theme: &Theme) {
    let events: Vec<_> = app.shown().events.iter().rev().collect();
    let inner = panel(buffer, area, theme, title(theme, "events", "", app.panel == Panel::Events));
    if events.is_empty() {
        let line = Line::styled("nothing happened yet", theme.style(Role::Label));
        put(buffer, inner, 0, 0, &line, inner.width);
    }
    for (y, event) in (0..inner.height).zip(scrolled(app, Panel::Events, inner, events)) {
        let sign = match event.mood {
            Mood::Good => theme.glyph("●", "+"),
            Mood::Odd => theme.glyph("●", "!"),
            Mood::Bad => theme.glyph("●", "X"),
            Mood::Plain | Mood::Idle => theme.glyph("·", " "),
        };
        let line = Line::from(vec![
            Span::styled(format!("{} ", event.time), theme.style(Role::Time)),
            Span::styled(format!("{sign} "), theme.style(Role::Mood(event.mood))),
            Span::styled(event.text.clone(), theme.style(Role::Text)),
        ]);
        put(buffer, inner, 0, y, &line, inner.width);
    }
}

/// What is left of `rows` behind those that are scrolled past.
fn scrolled<T>(app: &App, panel: Panel, area: Rect, mut rows: Vec<T>) -> Vec<T> {
    let room = usize::from(area.height.saturating_sub(1)).max(1);
    let past = if app.panel == panel { app.scroll.min(rows.len().saturating_sub(room)) } else { 0 };
    rows.drain(..past);
    rows.truncate(area.height.into());
    rows
}

/// Says why nothing is listed.
fn excuse(buffer: &mut Buffer, area: Rect, app: &App, theme: &Theme, empty: bool) -> bool {
    let connections = &app.shown().connections;
    let text = match (&connections.problem, connections.known) {
        (Some(problem), _) if empty => problem.as_str(),
        (None, false) => "not listed yet",
        (_, true) if empty && !app.filter.is_empty() => "none like this",
        (_, true) if empty => "none",
        _ => return false,
    };
    put(buffer, area, 0, 0, &Line::styled(text.to_owned(), theme.style(Role::Label)), area.width);
    true
}

/// How they are chosen and sorted.
fn about(app: &App) -> String {
    let filter = if app.filter.is_empty() { String::new() } else { format!(" with {}", app.filter) };
    format!("{filter} by {}", app.sort.word())
}

fn client_of(flow: &Flow) -> String {
    if flow.inbound { flow.translated_destination } else { flow.source }.to_string()
}

fn server_of(flow: &Flow) -> String {
    if flow.inbound { flow.source } else { flow.destination }.to_string()
}

fn path(flow: &Flow) -> &'static str {
    match (flow.shortcut, flow.cached) {
        (true, _) => "short",
        (false, true) => "cache",
        (false, false) => "stack",
    }
}
