use proptest::prelude::*;
use ratatui::crossterm::event::{KeyCode, KeyEvent};
use ratatui::style::Color;

use super::*;
use crate::top::record::{Record, What};
use crate::top::sample;
use crate::top::theme::Palette;

const PLAIN: Theme = Theme { palette: Palette::Plain, unicode: true, stale: false };

fn shown(app: &App, width: u16, height: u16) -> String {
    text(app, &PLAIN, app.model.now, (width, height))
}

#[test]
fn at_80_by_24_everything_essential_is_there() {
    let text = shown(&sample::app(), 80, 24);
    for word in ["fibre", "degraded", "want", "seen", "share", "rtt", "loss", "in", "out", "conns", "new/s", "short"] {
        assert!(text.contains(word), "no `{word}` in\n{text}");
    }
    for word in ["500 Mbit/s", "2608 connections", "shortcuts 98% (auto)", "● live", "24%", "10.0.0.21:51514", "? help"]
    {
        assert!(text.contains(word), "no `{word}` in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn room_brings_panels_and_columns() {
    let text = shown(&sample::app(), 200, 50);
    for word in ["jitter", "device", "clients", "events", "nftables table put back", "path", "state"] {
        assert!(text.contains(word), "no `{word}` in\n{text}");
    }
}

#[test]
fn panels_take_turns_where_there_is_little_room() {
    let mut app = sample::app();
    assert!(!shown(&app, 80, 24).contains("clients"));
    app.panel = Panel::Clients;
    assert!(shown(&app, 80, 24).contains("clients by rate"));
    app.panel = Panel::Events;
    assert!(shown(&app, 80, 24).contains("nftables table put back"));
}

#[test]
fn who_is_silent_is_said_to_be_and_the_last_figures_stay_faint() {
    let mut app = sample::app();
    let at = app.model.now;
    app.absorb(Record { at, what: What::Silent("no controller answers".into()) });
    let text = text(&app, &PLAIN, at + 65_000, (80, 24));
    assert!(text.contains("silent for 1m05s, since 00:54:04"), "{text}");
    assert!(text.contains("no controller answers") && text.contains("fibre"), "{text}");
    let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
    let rich = Theme { palette: Palette::Rich, ..PLAIN };
    draw(&app, &rich, at, &mut buffer);
    let place = lines(&buffer).position(|line| line.contains("cable")).unwrap() as u16;
    assert_eq!(buffer.cell((5, place)).unwrap().fg, rich.colour(Role::Label));
}

#[test]
fn a_script_is_shown_with_what_it_has() {
    let mut app = sample::app();
    app.absorb(sample::mirror(app.model.now + 1000, 100));
    app.absorb(sample::mirror(app.model.now + 1000, 1_000_100));
    let text = shown(&app, 80, 24);
    for word in ["dual-wan.rsc v7", "ether2", "160M", "ISP1_conn 120", "down: silent", "to_ISP1: default via"] {
        assert!(text.contains(word), "no `{word}` in\n{text}");
    }
}

#[test]
fn questions_and_answers_stand_below() {
    let mut app = sample::app();
    let last = |app: &App| shown(app, 80, 24).lines().last().unwrap_or_default().to_owned();
    app.key(KeyEvent::from(KeyCode::Char('d')));
    assert_eq!(last(&app), " fibre: drain, no new connections? y/n");
    app.answered(Err("refused; ask root".into()));
    app.mode = Mode::Watch;
    assert_eq!(last(&app), " refused; ask root");
    app.key(KeyEvent::from(KeyCode::Char('?')));
    assert!(shown(&app, 80, 24).contains("give it another weight"));
}

#[test]
fn many_uplinks_scroll_to_the_selected_one() {
    let mut app = sample::app();
    let pattern = app.model.uplinks[2].clone();
    for number in 0..28 {
        let mut uplink = pattern.clone();
        uplink.status.name = format!("wan{number:02}");
        app.model.uplinks.push(uplink);
    }
    app.selected = Some("wan27".into());
    let text = shown(&app, 80, 24);
    assert!(text.contains("▌ wan27") && !text.contains("▌ fibre"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_size_shows_any_moment(
        width in 1u16..240,
        height in 1u16..70,
        told in 0usize..60,
        keys in "[?hjkfswde/y12+\\-]{0,6}",
        panel in 0usize..4,
        unicode: bool,
        rich: bool,
        end in 0u8..3,
    ) {
        let mut app = App::new(std::time::Duration::from_secs(1), false);
        sample::records().into_iter().take(told).for_each(|record| app.absorb(record));
        let now = app.model.now;
        match end {
            0 => app.absorb(Record { at: now + 1, what: What::Silent("gone".into()) }),
            1 => app.absorb(sample::mirror(now + 1, u64::MAX / 40)),
            _ => {}
        }
        for _ in 0..panel {
            app.key(KeyEvent::from(KeyCode::Tab));
        }
        for key in keys.chars() {
            app.key(KeyEvent::from(KeyCode::Char(key)));
        }
        app.scroll = app.scroll.saturating_add(told);
        let palette = if rich { Palette::Rich } else { Palette::Plain };
        let theme = Theme { palette, unicode, stale: false };
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        draw(&app, &theme, now, &mut buffer);
        prop_assert_eq!(buffer.area, Rect::new(0, 0, width, height));
        prop_assert!(unicode || lines(&buffer).all(|line| line.is_ascii()));
        if !rich {
            let coloured = |cell: &Cell| (cell.fg, cell.bg) != (Color::Reset, Color::Reset);
            prop_assert!(!buffer.content.iter().any(coloured));
        }
    }
}
