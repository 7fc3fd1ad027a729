//! Tables that show as many columns as there is room for.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::put;
use crate::top::theme::{Role, Theme};

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// What it is called. It stands above, unless it ends with a space.
    pub title: &'static str,
    /// Letters that it needs.
    pub width: u16,
    /// Letters that it can use.
    pub most: u16,
    /// Figures stand at the right.
    pub right: bool,
    /// The lowest ranks are shown first, those of 0 always.
    pub rank: u8,
}

impl Column {
    /// A column of texts.
    pub const fn text(title: &'static str, width: u16, rank: u8) -> Self {
        Self { title, width, most: width, right: false, rank }
    }

    /// A column of figures.
    pub const fn figure(title: &'static str, width: u16, rank: u8) -> Self {
        Self { title, width, most: width, right: true, rank }
    }

    /// A column that takes more room where there is some.
    pub const fn up_to(self, most: u16) -> Self {
        Self { most, ..self }
    }
}

/// A column in its place: its index, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    index: usize,
    x: u16,
    width: u16,
}

/// Draws titles and `rows` rows into `area`; `cell` makes each, from row, column and width.
pub fn draw(
    buffer: &mut Buffer,
    area: Rect,
    theme: &Theme,
    columns: &[Column],
    rows: usize,
    cell: impl Fn(usize, usize, u16) -> Line<'static>,
) {
    for Place { index, x, width } in places(columns, area.width) {
        let Column { title, right, .. } = columns[index];
        let title = if title.ends_with(' ') { "" } else { title };
        let title = Line::from(Span::styled(title, theme.style(Role::Label)));
        let lines = std::iter::once(title).chain((0..rows).map(|row| cell(row, index, width)));
        for (y, line) in (0..area.height).zip(lines) {
            let length = (line.width() as u16).min(width);
            let indent = if right { width - length } else { 0 };
            put(buffer, area, x + indent, y, &line, width - indent);
        }
    }
}

/// Which columns are shown in `room` letters, and where.
pub fn places(columns: &[Column], room: u16) -> Vec<Place> {
    let mut ranks: Vec<u8> = columns.iter().map(|column| column.rank).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let needs = |rank: u8| {
        let shown = columns.iter().filter(|column| column.rank <= rank);
        shown.map(|column| column.width + 1).sum::<u16>().saturating_sub(1)
    };
    let rank = ranks.iter().copied().take_while(|rank| *rank == 0 || needs(*rank) <= room).last().unwrap_or(0);
    let shown: Vec<usize> = (0..columns.len()).filter(|index| columns[*index].rank <= rank).collect();
    let mut widths: Vec<u16> = shown.iter().map(|index| columns[*index].width).collect();
    let mut left = room.saturating_sub(needs(rank));
    let gaps = (shown.len() as u16).saturating_sub(1);
    let gap = if gaps > 0 && left >= gaps { 2 } else { 1 };
    left = left.saturating_sub((gap - 1) * gaps);
    // One letter to each that can use it, until there is none.
    loop {
        let before = left;
        for (width, index) in widths.iter_mut().zip(&shown) {
            if left > 0 && *width < columns[*index].most {
                *width += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    let mut x = 0;
    let mut places = Vec::with_capacity(shown.len());
    for (index, width) in shown.into_iter().zip(widths) {
        if x < room {
            places.push(Place { index, x, width: width.min(room - x) });
        }
        x = x.saturating_add(width + gap);
    }
    places
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::text("name", 4, 0),
        Column::figure("a", 3, 2),
        Column::text("bar", 2, 1).up_to(6),
        Column::figure("b", 3, 3),
    ];

    fn shown(room: u16) -> Vec<(usize, u16, u16)> {
        places(&COLUMNS, room).into_iter().map(|place| (place.index, place.x, place.width)).collect()
    }

    #[test]
    fn columns_come_by_rank_and_stand_in_order() {
        assert_eq!(shown(4), [(0, 0, 4)]);
        assert_eq!(shown(7), [(0, 0, 4), (2, 5, 2)]);
        assert_eq!(shown(11), [(0, 0, 4), (1, 5, 3), (2, 9, 2)]);
        assert_eq!(shown(30), [(0, 0, 4), (1, 6, 3), (2, 11, 6), (3, 19, 3)]);
        assert_eq!(shown(2), [(0, 0, 2)]);
        assert_eq!(shown(0), []);
    }

    proptest! {
        #[test]
        fn columns_never_overlap_nor_leave(room: u16, ranks in proptest::collection::vec((0u8..5, 0u16..20, 0u16..20), 0..9)) {
            let columns: Vec<Column> = ranks
                .into_iter()
                .map(|(rank, width, more)| Column::text("", width, rank).up_to(width + more))
                .collect();
            let mut end = 0;
            for place in places(&columns, room) {
                prop_assert!(place.x >= end && place.x + place.width <= room);
                end = place.x + place.width;
            }
        }
    }
}
