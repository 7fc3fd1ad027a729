//! What a terminal shows, as SVG. Frames and blocks are drawn, so that they meet in any font; letters are stretched to their cells.

use std::fmt::Write as _;
use std::num::NonZeroU16;

use vt100::{Cell, Color, Parser, Screen};

const WIDTH: f64 = 8.0;
const HEIGHT: f64 = 17.0;
const MARGIN: f64 = 12.0;
const INK: &str = "#c9d1d9";
const PAPER: &str = "#0d1117";

/// Draws `text`, with its escape sequences, on a screen of columns and lines.
pub fn draw(text: &str, (columns, lines): (u16, u16)) -> String {
    let least = |length| NonZeroU16::new(length).unwrap_or(NonZeroU16::MIN);
    let mut parser = Parser::new(least(lines), least(columns), 0);
    parser.process(text.trim_end_matches('\n').replace('\n', "\r\n").as_bytes());
    let (width, height) = (f64::from(columns) * WIDTH + 2.0 * MARGIN, f64::from(lines) * HEIGHT + 2.0 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace\" font-size=\"13\">\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{PAPER}\"/>\n"
    );
    for line in 0..lines {
        row(&mut out, parser.screen(), line, columns);
    }
    out + "</svg>\n"
}

fn row(out: &mut String, screen: &Screen, line: u16, columns: u16) {
    let top = MARGIN + f64::from(line) * HEIGHT;
    let cells: Vec<&Cell> = (0..columns).filter_map(|column| screen.cell(line, column)).collect();
    let mut column = 0;
    while column < cells.len() {
        let first = cells[column];
        let same = |cell: &&&Cell| {
            let style = |cell: &Cell| (cell.fgcolor(), cell.bgcolor(), cell.bold());
            style(cell) == style(first) && kind(cell) == kind(first)
        };
        let length = cells[column..].iter().take_while(same).count();
        let left = MARGIN + column as f64 * WIDTH;
        run(out, &cells[column..column + length], left, top);
        column += length;
    }
}

/// How a cell is drawn: cells of one kind, one after the other, are drawn together.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Blank,
    /// Part of a cell: left, top, width, height from 0 to 1.
    Block(f64, f64, f64, f64),
    Frame(char),
    Letters,
}

fn kind(cell: &Cell) -> Kind {
    let eighths = |count: u32| Kind::Block(0.0, 1.0 - f64::from(count) / 8.0, 1.0, f64::from(count) / 8.0);
    match cell.contents().chars().next() {
        None | Some(' ') => Kind::Blank,
        Some('▀') => Kind::Block(0.0, 0.0, 1.0, 0.5),
        Some('▌') => Kind::Block(0.0, 0.0, 0.5, 1.0),
        Some(letter @ '▁'..='█') => eighths(u32::from(letter) - u32::from('▁') + 1),
        Some(letter @ ('─' | '│' | '╭' | '╮' | '╰' | '╯')) => Kind::Frame(letter),
        Some(_) => Kind::Letters,
    }
}

fn run(out: &mut String, cells: &[&Cell], left: f64, top: f64) {
    let Some(first) = cells.first() else { return };
    let width = cells.len() as f64 * WIDTH;
    let ink = colour(first.fgcolor(), INK);
    if first.bgcolor() != Color::Default {
        let paper = colour(first.bgcolor(), PAPER);
        rectangle(out, (left, top, width, HEIGHT), &paper);
    }
    match kind(first) {
        Kind::Blank => {}
        Kind::Block(x, y, part, height) => {
            let wide = if part < 1.0 { part * WIDTH } else { width };
            rectangle(out, (left + x * WIDTH, top + y * HEIGHT, wide, height * HEIGHT), &ink);
        }
        Kind::Frame(letter) => {
            let (x, y) = (left + WIDTH / 2.0, top + HEIGHT / 2.0);
            let (right, bottom) = (left + width, top + HEIGHT);
            let path = match letter {
                '─' => format!("M{left} {y}H{right}"),
                '│' => format!("M{x} {top}V{bottom}"),
                '╭' => format!("M{x} {bottom}Q{x} {y} {right} {y}"),
                '╮' => format!("M{left} {y}Q{x} {y} {x} {bottom}"),
                '╰' => format!("M{x} {top}Q{x} {y} {right} {y}"),
                _ => format!("M{left} {y}Q{x} {y} {x} {top}"),
            };
            let _ = writeln!(out, "<path d=\"{path}\" stroke=\"{ink}\" fill=\"none\"/>");
        }
        Kind::Letters => {
            let text: String = cells.iter().map(|cell| cell.contents()).collect();
            let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let weight = if first.bold() { " font-weight=\"bold\"" } else { "" };
            let base = top + HEIGHT * 0.74;
            let _ = writeln!(
                out,
                "<text x=\"{left}\" y=\"{base:.1}\" textLength=\"{width}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{ink}\"{weight}>{text}</text>"
            );
        }
    }
}

fn rectangle(out: &mut String, (x, y, width, height): (f64, f64, f64, f64), colour: &str) {
    let _ = writeln!(out, "<rect x=\"{x}\" y=\"{y:.2}\" width=\"{width}\" height=\"{height:.2}\" fill=\"{colour}\"/>");
}

/// The colours of xterm.
fn colour(colour: Color, other: &str) -> String {
    const SIXTEEN: [&str; 16] = [
        "#484f58", "#ff7b72", "#3fb950", "#d29922", "#58a6ff", "#bc8cff", "#39c5cf", "#b1bac4", "#6e7681", "#ffa198",
        "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#f0f6fc",
    ];
    let hex = |red: u8, green: u8, blue: u8| format!("#{red:02x}{green:02x}{blue:02x}");
    match colour {
        Color::Default => other.to_owned(),
        Color::Rgb(red, green, blue) => hex(red, green, blue),
        Color::Idx(index @ 0..16) => SIXTEEN[usize::from(index)].to_owned(),
        Color::Idx(index @ 232..) => {
            let grey = 8 + 10 * (index - 232);
            hex(grey, grey, grey)
        }
        Color::Idx(index) => {
            let step = |part: u8| if part == 0 { 0 } else { 55 + 40 * part };
            let cube = index - 16;
            hex(step(cube / 36), step(cube / 6 % 6), step(cube % 6))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_frames_and_blocks_stand_in_their_cells() {
        let picture = draw("\u{1b}[38;5;114ma<b\u{1b}[0m ─▄█", (8, 1));
        assert!(picture.contains("fill=\"#87d787\">a&lt;b</text>"), "{picture}");
        assert!(picture.contains("textLength=\"24\""), "{picture}");
        assert!(picture.contains("<path d=\"M44 20.5H52\""), "{picture}");
        assert!(picture.contains("height=\"8.50\"") && picture.contains("height=\"17.00\""), "{picture}");
        assert_eq!(picture.matches("<text").count(), 1);
    }

    #[test]
    fn colours_are_those_of_xterm() {
        assert_eq!(colour(Color::Idx(240), INK), "#585858");
        assert_eq!(colour(Color::Idx(203), INK), "#ff5f5f");
        assert_eq!(colour(Color::Default, INK), INK);
    }
}
