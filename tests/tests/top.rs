//! `pcc top` in a real terminal: exact screens of a recording, a live instance, its end and return, keys, and what is left.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use pcc_userspace::status::Status;
use rustix::process::Signal;
use tests::lab::settings::wait_until_up;
use tests::lab::{Defaults, Lab, Settings, Terminal, eventually, process};

/// A loaded machine draws late.
const SHOWN: Duration = Duration::from_secs(30);
const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (200, 50);

fn screens() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("screens")
}

/// `pcc top` of the recording, as one types it.
fn replay(more: &str) -> String {
    let recording = screens().join("three-uplinks.jsonl");
    format!("{} top --replay {} {more}", process::binary().display(), recording.display())
}

/// `pcc top` of the instance of the lab.
fn live(lab: &Lab, more: &str) -> String {
    format!("{} top --instance {} --interval 500ms {more}\n", process::binary().display(), lab.instance())
}

fn status(lab: &Lab) -> Status {
    let output = lab.pcc_output(&["status", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Compares what is shown with the stored screen `name`; with `PCC_STORE_SCREENS` it is stored.
fn assert_screen(terminal: &Terminal, name: &str) {
    let path = screens().join(name).with_extension("txt");
    if std::env::var_os("PCC_STORE_SCREENS").is_some() {
        let text = terminal.wait(SHOWN, name, |text| text.contains("00:54:04 UTC"));
        fs::write(&path, text).unwrap();
        return;
    }
    let wanted = fs::read_to_string(&path).unwrap();
    let what = format!("{} is\n{wanted}", path.display());
    terminal.wait(SHOWN, &what, |text| text == wanted);
}

fn has_colours(text: &str) -> bool {
    let sequences = text.split('\u{1b}').skip(1).filter_map(|rest| rest.strip_prefix('['));
    let codes = sequences.filter_map(|rest| rest.split_once('m')).flat_map(|(codes, _)| codes.split([';', ':']));
    codes.filter_map(|code| code.parse::<u32>().ok()).any(|code| matches!(code, 30..=38 | 40..=48 | 90..=107))
}

#[test]
fn a_recording_is_shown_exactly_as_stored() {
    let colour = Terminal::open(None, SMALL, &replay(""));
    assert_screen(&colour, "80x24");
    assert!(has_colours(&colour.coloured()), "{:?}", colour.coloured());
    let large = Terminal::open(None, LARGE, &replay(""));
    assert_screen(&large, "200x50");
    let plain = Terminal::open(None, SMALL, &format!("export NO_COLOR=1; {}", replay("")));
    assert_screen(&plain, "80x24-plain");
    assert!(!has_colours(&plain.coloured()), "{:?}", plain.coloured());
    let flag = Terminal::open(None, LARGE, &replay("--no-color"));
    assert_screen(&flag, "200x50-plain");
    assert!(!has_colours(&flag.coloured()), "{:?}", flag.coloured());
    let ascii = Terminal::open(None, SMALL, &format!("export LC_ALL=C; {}", replay("")));
    assert_screen(&ascii, "80x24-ascii");
    assert!(ascii.text().is_ascii());
}

#[test]
fn keys_turn_panels_filter_and_help() {
    let terminal = Terminal::open(None, SMALL, &replay(""));
    terminal.wait(SHOWN, "connections", |text| text.contains("connections 2623"));
    terminal.press(&["?"]);
    assert_screen(&terminal, "80x24-help");
    terminal.press(&["x", "Tab"]);
    terminal.wait(SHOWN, "clients", |text| text.contains("clients by rate"));
    terminal.press(&["Tab"]);
    assert_screen(&terminal, "80x24-events");
    terminal.press(&["Tab", "/", "l", "t", "e", "Enter"]);
    terminal.wait(SHOWN, "those of lte", |text| text.contains("with lte by rate") && !text.contains("203.0.113.80"));
    terminal.press(&["j", "w"]);
    terminal.wait(SHOWN, "a refusal", |text| text.contains("a recording changes nothing") && text.contains("▌ cable"));
}

#[test]
fn a_frame_is_printed_without_a_terminal() {
    let mut command = Command::new("sh");
    let script = format!("{} --size 80x24", replay("--once"));
    let output = command.args(["-c", &script]).env("LANG", "C.UTF-8").env_remove("LC_ALL").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let stored = fs::read_to_string(screens().join("80x24-plain.txt")).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // Frames of colour have bars of two colours, plain ones of two heights.
    let same = |a: &str, b: &str| a.replace(['█', '▄'], "▀") == b.replace(['█', '▄'], "▀");
    assert!(same(&text, &stored), "{text}\nis not\n{stored}");
}

#[test]
fn without_a_terminal_there_is_a_hint() {
    let mut command = Command::new("sh");
    let output = command.args(["-c", &replay("")]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("`pcc status --json`"), "{output:?}");
    let terminal = Terminal::open(None, SMALL, &format!("export TERM=dumb; {}; echo status $?", replay("")));
    terminal.wait(SHOWN, "a hint", |text| text.contains("hint: `pcc top --once`") && text.contains("status 1"));
}

#[test]
fn the_terminal_is_left_as_it_was() {
    let script =
        format!("stty -a > $0.before; {}; echo status $?; stty -a > $0.after; echo left; exec cat", replay(""));
    for how in ["q", "C-c", "TERM"] {
        let terminal = Terminal::open(None, SMALL, &script);
        terminal.wait(SHOWN, "the view", |text| text.contains("connections 2623"));
        assert_eq!(terminal.format("#{alternate_on} #{cursor_flag}"), "1 0");
        if how == "TERM" {
            let shell = terminal.format("#{pane_pid}");
            let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
            let pcc = rustix::process::Pid::from_raw(children.trim().parse().unwrap()).unwrap();
            rustix::process::kill_process(pcc, Signal::TERM).unwrap();
        } else {
            terminal.press(&[how]);
        }
        let text = terminal.wait(SHOWN, "the end", |text| text.contains("left"));
        assert!(text.contains("status 0") && !text.contains("connections"), "{how}: {text}");
        assert_eq!(terminal.format("#{alternate_on} #{cursor_flag}"), "0 1", "{how}");
        let settings = |when: &str| fs::read_to_string(terminal.file(&format!("script.{when}"))).unwrap();
        assert_eq!(settings("before"), settings("after"), "{how}");
    }
}

#[test]
fn it_can_be_suspended() {
    let script = format!("set -m; {}; echo suspended; read line; fg; echo ended; exec cat", replay(""));
    let terminal = Terminal::open(None, SMALL, &script);
    terminal.wait(SHOWN, "the view", |text| text.contains("connections 2623"));
    terminal.press(&["C-z"]);
    terminal.wait(SHOWN, "the shell", |text| text.contains("suspended") && !text.contains("connections 2623"));
    assert_eq!(terminal.format("#{alternate_on}"), "0");
    terminal.press(&["Enter"]);
    terminal.wait(SHOWN, "the view again", |text| text.contains("connections 2623"));
    terminal.press(&["q"]);
    terminal.wait(SHOWN, "the end", |text| text.contains("ended"));
}

/// The words of the line of an uplink, without frame and cursor.
fn row(text: &str, uplink: &str) -> Vec<String> {
    let words = |line: &str| -> Vec<String> {
        line.split_whitespace().filter(|word| !["│", "▌"].contains(word)).map(str::to_owned).collect()
    };
    text.lines().map(words).find(|words| words.first().is_some_and(|word| word == uplink)).unwrap_or_default()
}

#[test]
fn a_live_view_says_what_status_says_and_outlives_the_controller() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let settings = Settings::new(&[(1, "weight = 3"), (2, "")]);
    let mut pcc = settings.run(&lab, &[1, 2]);
    let open = lab.open_new(20);
    let terminal = Terminal::open(Some(lab.router()), SMALL, &live(&lab, ""));
    // Without traffic nothing changes between the two.
    let agrees = |text: &str| {
        status(&lab).uplinks.iter().all(|uplink| {
            let row = row(text, &uplink.name);
            let family = uplink.ipv4.as_ref().unwrap();
            let wanted = format!("{:.0}%", family.share_wanted * 100.0);
            let connections = row.len().checked_sub(3).and_then(|place| row.get(place));
            row.get(1) == Some(&family.state)
                && row.get(2) == Some(&uplink.weight.to_string())
                && row.get(3) == Some(&wanted)
                && connections == Some(&uplink.connections.to_string())
        })
    };
    let text = terminal.wait(SHOWN, "the figures of `pcc status`", agrees);
    assert!(text.contains(lab.instance()) && text.contains("● live"), "{text}");
    for size in [(100, 30), (40, 10), (20, 5), LARGE] {
        terminal.resize(size);
        terminal.wait(SHOWN, &format!("{size:?}"), |text| {
            let full = text.lines().filter(|line| line.chars().count() == usize::from(size.0));
            // There is no room for frames in the least of them.
            text.contains("wan1") && (size.1 < 10 || full.count() >= 3)
        });
    }
    pcc.signal(Signal::KILL);
    pcc.wait(SHOWN);
    // Killed while it was asked, or before.
    let reasons = ["no controller answers", "the controller ended"];
    let silent = |text: &str| text.contains("silent for") && reasons.iter().any(|reason| text.contains(reason));
    let text = terminal.wait(SHOWN, "that nobody answers", silent);
    assert!(row(&text, "wan1").len() > 5, "{text}");
    let pcc = settings.start(&lab, &[]);
    wait_until_up(&pcc, 0, &[1, 2]);
    terminal.wait(SHOWN, "that a new one answers", |text| {
        text.contains("● live")
            && text.contains("a new controller answers")
            && row(text, "wan2").contains(&"up".to_owned())
    });
    drop(open);
}

#[test]
fn keys_drain_weigh_and_disable() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let _pcc = Settings::new(&[(1, ""), (2, "")]).run(&lab, &[1, 2]);
    let terminal = Terminal::open(Some(lab.router()), SMALL, &live(&lab, "--no-color"));
    let state = |text: &str| row(text, "wan2").get(1).cloned().unwrap_or_default();
    let draining = || status(&lab).uplinks[1].ipv4.as_ref().is_some_and(|family| family.draining && !family.live);
    terminal.wait(SHOWN, "the view", |text| state(text) == "up");
    terminal.press(&["j", "d"]);
    terminal.wait(SHOWN, "a question", |text| text.contains("wan2: drain, no new connections? y/n"));
    assert!(!draining());
    terminal.press(&["y"]);
    terminal
        .wait(SHOWN, "it drained", |text| state(text) == "draining" && row(text, "wan1").contains(&"100%".to_owned()));
    assert!(draining());
    let table = lab.pcc_output(&["status"]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("up, draining"), "{table:?}");
    terminal.press(&["d", "y"]);
    terminal.wait(SHOWN, "it back", |text| state(text) == "up");
    assert!(!draining());
    terminal.press(&["w", "3", "Enter"]);
    terminal.wait(SHOWN, "the weight", |text| row(text, "wan2").get(2).is_some_and(|weight| weight == "3"));
    assert_eq!(status(&lab).uplinks[1].weight, 3);
    terminal.press(&["e", "y"]);
    terminal.wait(SHOWN, "it off", |text| state(text) == "admin-down");
    terminal.press(&["e", "y"]);
    terminal.wait(SHOWN, "it on", |text| state(text) == "up");
    assert!(eventually(SHOWN, || status(&lab).uplinks[1].ipv4.as_ref().is_some_and(|family| family.state == "up")));
}
