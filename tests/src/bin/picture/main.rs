//! Draws what `pcc top` shows of a lab with three uplinks and real traffic: `cargo xtask picture`.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use tests::lab::{Conversation, Defaults, Lab, PATIENCE, Settings, Terminal, process};

mod svg;

/// Columns and lines of the picture.
const SIZE: (u16, u16) = (110, 32);

/// Draws `pcc top` in a lab as SVG.
#[derive(Parser)]
struct Arguments {
    /// Where the picture goes.
    file: PathBuf,
    /// Seconds that the view is up before.
    #[arg(long, default_value_t = 75)]
    seconds: u64,
    /// Also record what it shows, for `pcc top --replay`.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

fn main() {
    let arguments = Arguments::parse();
    let lab = Lab::builder().uplinks(3).defaults(Defaults::All).build();
    lab.router().set_sysctls(&[("net/netfilter/nf_conntrack_acct", "1")]);
    let settings = Settings::new(&[
        (1, "name = \"fibre\"\nweight = 5"),
        (2, "name = \"cable\"\nweight = 3"),
        (3, "name = \"lte\"\nweight = 1"),
    ]);
    let pcc = settings.start(&lab, &[]);
    for uplink in ["fibre", "cable", "lte"] {
        pcc.wait_for(&format!("uplink {uplink} IPv4: up"), PATIENCE * 4);
    }
    let record = arguments.record.map(|file| format!("--record {}", file.display())).unwrap_or_default();
    let view = format!("{} top --instance {} {record}", process::binary().display(), lab.instance());
    let terminal = Terminal::open(Some(lab.router()), SIZE, &view);
    let stop = AtomicBool::new(false);
    let going = || !stop.load(Ordering::Relaxed);
    thread::scope(|scope| {
        for (place, mut conversation) in lab.open_new(60).into_iter().enumerate() {
            scope.spawn(move || talk(&mut conversation, place, going));
        }
        for _ in 0..6 {
            scope.spawn(|| {
                while going() {
                    lab.try_new(2);
                    thread::sleep(Duration::from_millis(300));
                }
            });
        }
        let third = Duration::from_secs(arguments.seconds / 3);
        thread::sleep(third);
        let seen = pcc.lines();
        lab.carrier(3, false);
        thread::sleep(Duration::from_secs(3));
        lab.carrier(3, true);
        pcc.find_after(seen, "uplink lte IPv4: up", PATIENCE * 4);
        thread::sleep(third);
        lab.loss(2, 27);
        thread::sleep(third);
        let picture = svg::draw(&terminal.coloured(), SIZE);
        stop.store(true, Ordering::Relaxed);
        fs::write(&arguments.file, picture).unwrap_or_else(|error| panic!("writing the picture: {error}"));
    });
    terminal.press(&["q"]);
    let _ = terminal.format("#{pane_dead}");
    thread::sleep(Duration::from_secs(1));
}

/// Keeps a connection in use: few much, many little.
fn talk(conversation: &mut Conversation, place: usize, going: impl Fn() -> bool) {
    let (bytes, pause) = match place {
        0..6 => (16_000, 5),
        6..20 => (4_000, 30),
        _ => (200, 400),
    };
    let bytes = vec![0; bytes];
    while going() {
        let pauses = pause + (place as u64 * 7) % 20;
        if conversation.exchange(&bytes).is_err() {
            return;
        }
        thread::sleep(Duration::from_millis(pauses));
    }
}
