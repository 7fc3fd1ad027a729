//! What a RouterOS configuration has: interfaces, what is watched, marks and routes.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::table::{self, Column};
use super::{gauge, panel, put, split, text, title};
use crate::mirror::status::Status;
use crate::top::model::{Model, Mood, Snapshot};
use crate::top::theme::{Role, Theme};

/// Routes and watches beyond these are not waited for: connections want room, too.
const MOST: usize = 8;

/// Lines that everything takes.
pub fn height(model: &Model) -> u16 {
    let more = match &model.snapshot {
        Some(Snapshot::Mirror(status)) => 1 + status.watches.len().min(MOST) + status.routes.len().min(MOST),
        _ => 0,
    };
    1 + (model.interfaces.len() + more) as u16
}

/// Draws them.
pub fn draw(buffer: &mut Buffer, area: Rect, model: &Model, status: &Status, theme: &Theme) {
    let inner = panel(buffer, area, theme, title(theme, "interfaces", "", true));
    let interfaces = &model.interfaces;
    let (above, below) = split(inner, (interfaces.len() as u16).saturating_add(1));
    let columns = [
        Column::text("name", 12, 0).up_to(20),
        Column::text("device", 8, 2).up_to(15),
        Column::figure("in", 4, 0),
        Column::text("in ", 10, 3).up_to(40),
        Column::figure("out", 4, 0),
        Column::text("out ", 10, 3).up_to(40),
        Column::figure("bytes in", 8, 1),
        Column::figure("bytes out", 9, 1),
    ];
    table::draw(buffer, above, theme, &columns, interfaces.len(), |row, column, width| {
        let interface = &interfaces[row];
        let plain =
            |text: String| Line::from(Span::styled(text::cut(theme, &text, width.into()), theme.style(Role::Text)));
        let spark = |samples: Vec<Option<f64>>, role| {
            gauge::spark(theme, &samples, gauge::highest(&samples), theme.style(role))
        };
        match columns[column].title {
            "name" => plain(interface.name.clone()),
            "device" => plain(interface.device.clone()),
            "in" => plain(text::bits(theme, interface.traffic.into.now())),
            "in " => spark(interface.traffic.into.series.tail(width.into()), Role::Into),
            "out" => plain(text::bits(theme, interface.traffic.out.now())),
            "out " => spark(interface.traffic.out.series.tail(width.into()), Role::Out),
            "bytes in" => plain(text::bytes(theme, Some(interface.bytes.0))),
            _ => plain(text::bytes(theme, Some(interface.bytes.1))),
        }
    });
    for (y, line) in (0..below.height).zip(lines(status, theme)) {
        put(buffer, below, 0, y, &line, below.width);
    }
}

/// Marks with their connections, then what is watched, then routes.
fn lines(status: &Status, theme: &Theme) -> Vec<Line<'static>> {
    let label = |text: &str| Span::styled(format!("{text:<10}"), theme.style(Role::Label));
    let plain = |text: String| Span::styled(text, theme.style(Role::Text));
    let mark = |(mark, count): (&String, &u64)| {
        format!("{} {}", if mark.is_empty() { "no-mark" } else { mark }, text::count(*count))
    };
    let marks: Vec<String> = status.connections.iter().map(mark).collect();
    let mut lines = vec![Line::from(vec![label("marks"), plain(marks.join(", "))])];
    for watch in status.watches.iter().take(MOST) {
        let mood = match watch.state.as_str() {
            "up" => Mood::Good,
            "unknown" => Mood::Idle,
            _ => Mood::Bad,
        };
        let state = Span::styled(watch.state.clone(), theme.style(Role::Mood(mood)));
        lines.push(Line::from(vec![label("watch"), plain(format!("{} ", watch.target)), state]));
    }
    for route in status.routes.iter().take(MOST) {
        lines.push(Line::from(vec![label("route"), plain(format!("{}: {}", route.table, route.route))]));
    }
    lines
}
