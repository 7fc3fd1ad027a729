use super::*;
use crate::top::sample;

fn press(app: &mut App, keys: &str) -> Option<Action> {
    let code = |key| match key {
        '\n' => KeyCode::Enter,
        '\x1b' => KeyCode::Esc,
        '\x08' => KeyCode::Backspace,
        '\t' => KeyCode::Tab,
        key => KeyCode::Char(key),
    };
    keys.chars().fold(None, |_, key| app.key(KeyEvent::from(code(key))))
}

fn change(uplink: &str, change: Change) -> Option<Action> {
    Some(Action::Change(uplink.to_owned(), change))
}

#[test]
fn an_uplink_is_drained_after_a_yes() {
    let mut app = sample::app();
    assert_eq!(press(&mut app, "jd"), None);
    assert!(matches!(&app.mode, Mode::Confirm { uplink, .. } if uplink == "cable"));
    assert_eq!(press(&mut app, "y"), change("cable", Change::Admin(Admin::Draining(None))));
    assert_eq!(press(&mut app, "dn"), None);
    assert_eq!(app.note, Some((true, "nothing was changed".into())));
    app.model.uplinks[1].status.ipv6.as_mut().unwrap().draining = true;
    assert_eq!(press(&mut app, "dy"), change("cable", Change::Admin(Admin::Enabled)));
}

#[test]
fn an_uplink_is_disabled_and_enabled() {
    let mut app = sample::app();
    assert_eq!(press(&mut app, "ey"), change("fibre", Change::Admin(Admin::Disabled)));
    app.model.uplinks[0].status.ipv4.as_mut().unwrap().state = "admin-down".into();
    assert_eq!(press(&mut app, "ey"), change("fibre", Change::Admin(Admin::Enabled)));
}

#[test]
fn a_weight_is_typed() {
    let mut app = sample::app();
    assert_eq!(press(&mut app, "jjw12\x083\n"), change("lte", Change::Weight(13)));
    assert_eq!(press(&mut app, "w1001\n"), None);
    assert_eq!(app.note, Some((true, "a weight is 0 to 1000".into())));
    assert_eq!(press(&mut app, "w\n"), None);
    assert_eq!(press(&mut app, "w5\x1b"), None);
    assert_eq!(app.mode, Mode::Watch);
}

#[test]
fn nothing_is_changed_where_that_cannot_be() {
    let mut app = sample::app();
    app.key(KeyEvent::from(KeyCode::Char('f')));
    assert_eq!(press(&mut app, "dy"), None);
    assert!(app.note.is_none() && app.mode == Mode::Watch);
    type Prepare = fn(&mut App);
    let cases: [(Prepare, &str); 3] = [
        (|app| app.replay = true, "a recording changes nothing"),
        (|app| app.model.link = Link::Waiting, "the controller does not answer"),
        (|app| app.absorb(sample::mirror(1, 1)), "a RouterOS configuration is changed in its script"),
    ];
    for (prepare, said) in cases {
        let mut app = sample::app();
        prepare(&mut app);
        assert_eq!(press(&mut app, "w"), None);
        assert_eq!(app.note, Some((true, said.into())));
    }
}

#[test]
fn a_filter_is_typed_applied_and_left() {
    let mut app = sample::app();
    assert_eq!(press(&mut app, "/fib"), None);
    assert_eq!(app.filter, "fib");
    assert_eq!(press(&mut app, "re\n"), Some(Action::Look));
    assert_eq!(press(&mut app, "/x\x1b"), None);
    assert_eq!(app.filter, "fibre");
    assert_eq!(press(&mut app, "\x1b"), Some(Action::Look));
    assert_eq!(app.filter, "");
    // In a filter, letters are letters.
    assert_eq!(press(&mut app, "/q"), None);
    assert_eq!(app.filter, "q");
}

#[test]
fn what_is_frozen_stays_while_the_world_goes_on() {
    let mut app = sample::app();
    press(&mut app, "f");
    app.absorb(Record { at: 1, what: crate::top::record::What::Silent("gone".into()) });
    assert_eq!(app.shown().link, Link::Live);
    press(&mut app, "f");
    assert!(matches!(app.shown().link, Link::Silent { .. }));
}

#[test]
fn the_selection_stays_with_its_uplink() {
    let mut app = sample::app();
    press(&mut app, "kjjjjj");
    assert_eq!(app.cursor(), 2);
    app.model.uplinks.swap(0, 2);
    assert_eq!(app.cursor(), 0);
    app.model.uplinks.remove(0);
    assert_eq!(app.cursor(), 0);
}

#[test]
fn the_rest_of_the_keys() {
    let mut app = sample::app();
    assert_eq!(press(&mut app, "+"), Some(Action::Interval(Duration::from_secs(2))));
    assert_eq!(press(&mut app, "-"), Some(Action::Interval(Duration::from_secs(1))));
    for _ in 0..20 {
        press(&mut app, "-");
    }
    assert_eq!(app.interval, Duration::from_millis(200));
    assert_eq!(press(&mut app, "-"), None);
    press(&mut app, "\t");
    assert_eq!(app.panel, Panel::Clients);
    app.key(KeyEvent::from(KeyCode::BackTab));
    assert_eq!(app.panel, Panel::Connections);
    press(&mut app, "s");
    assert_eq!(app.sort, Sort::Bytes);
    press(&mut app, "?");
    assert_eq!(app.mode, Mode::Help);
    assert_eq!(press(&mut app, "q"), None);
    assert_eq!(press(&mut app, "q"), Some(Action::Quit));
    let control = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
    press(&mut app, "w");
    assert_eq!(app.key(control('c')), Some(Action::Quit));
    assert_eq!(app.key(control('z')), Some(Action::Suspend));
}
