//! `pcc top`: a live view in the terminal.
//!
//! Records (snapshots, connections, events) make a model; keys and the model make a screen. Only [`feed`] and [`terminal`]
//! touch the world.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use self::app::{Action, App};
use self::feed::{Feed, Input};
use self::model::Link;
use self::record::{Record, What};
use self::terminal::Terminal;
use self::theme::Theme;

mod app;
mod feed;
mod history;
mod model;
pub mod record;
#[cfg(test)]
mod sample;
mod screen;
mod terminal;
mod theme;
mod traffic;

/// The clock goes on although nothing happens.
const TICK: Duration = Duration::from_millis(500);
/// Who has not answered for so long is silent, and for three intervals.
const OVERDUE: Duration = Duration::from_secs(3);

/// What can be typed behind `pcc top`.
#[derive(Args, Debug)]
pub struct Options {
    /// Time between two snapshots, 200ms to 60s.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Use no colours; the variable NO_COLOR does the same.
    #[arg(long)]
    no_color: bool,
    /// Print one frame as text, and end.
    #[arg(long)]
    once: bool,
    /// Columns and lines of that frame.
    #[arg(long, value_name = "100x30", default_value = "80x24", value_parser = size, requires = "once")]
    size: (u16, u16),
    /// Also write down what is shown, for `--replay`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["once", "replay"])]
    record: Option<PathBuf>,
    /// Show the end of a recording in the place of a controller.
    #[arg(long, value_name = "FILE", hide = true)]
    replay: Option<PathBuf>,
}

/// Shows the instance that runs in `run`, until the user quits.
///
/// # Errors
/// There is no terminal to show it in; a recording that cannot be read or written; with `--once`, no controller.
pub fn run(run: &Path, options: &Options) -> Result<()> {
    let theme = Theme::of(|name| std::env::var(name).ok(), options.no_color);
    let mut app = App::new(options.interval, options.replay.is_some());
    if let Some(path) = &options.replay {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let records = record::read(BufReader::new(file)).with_context(|| format!("reading {}", path.display()))?;
        records.into_iter().for_each(|record| app.absorb(record));
    }
    if options.once {
        return once(run, &mut app, &theme, options.size);
    }
    let record =
        options.record.as_ref().map(|path| File::create(path).with_context(|| format!("making {}", path.display())));
    let record = record.transpose()?;
    watch(run, &mut app, &theme, record)
}

/// Prints one frame: of two snapshots, since rates need two.
fn once(run: &Path, app: &mut App, theme: &Theme, size: (u16, u16)) -> Result<()> {
    for round in 0..2 {
        if app.replay {
            break;
        }
        if round > 0 {
            std::thread::sleep(app.interval);
        }
        let what = feed::snapshot(run)?;
        app.absorb(Record { at: feed::now(), what });
        app.absorb(Record { at: feed::now(), what: feed::listing(run, &traffic::query("", &[])) });
    }
    std::io::stdout().write_all(screen::text(app, theme, app.model.now, size).as_bytes())?;
    Ok(())
}

fn watch(run: &Path, app: &mut App, theme: &Theme, mut record: Option<File>) -> Result<()> {
    let mut terminal = Terminal::take()?;
    let (sender, inputs) = mpsc::channel();
    feed::signals(sender.clone())?;
    feed::keys(sender.clone());
    let feed = (!app.replay).then(|| Feed::start(run.to_owned(), app.interval, sender));
    loop {
        terminal.show(app, theme, if app.replay { app.model.now } else { feed::now() })?;
        let first = match inputs.recv_timeout(TICK) {
            Ok(input) => Some(input),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        // Whatever has come meanwhile is shown by one frame.
        for input in first.into_iter().chain(inputs.try_iter()) {
            let action = match input {
                Input::Told(told) => {
                    if let Some(file) = &mut record {
                        writeln!(file, "{}", serde_json::to_string(&told)?).context("writing the recording")?;
                    }
                    app.absorb(told);
                    None
                }
                Input::Answered(answer) => {
                    app.answered(answer);
                    None
                }
                Input::Key(key) => app.key(key),
                Input::Resized => None,
                Input::Suspend => Some(Action::Suspend),
                Input::End => Some(Action::Quit),
            };
            match action {
                Some(Action::Quit) => return Ok(()),
                Some(Action::Suspend) => terminal.suspend()?,
                Some(action) => feed.iter().for_each(|feed| perform(feed, app, &action)),
                None => {}
            }
        }
        if !app.replay {
            miss(app, feed::now());
        }
    }
}

/// Asks the controller for what a key asked for.
fn perform(feed: &Feed, app: &App, action: &Action) {
    match action {
        Action::Change(uplink, change) => feed.change(uplink.clone(), *change),
        Action::Interval(interval) => feed.pace(*interval),
        Action::Look => {
            let names: Vec<&str> = app.model.uplinks.iter().map(|uplink| uplink.status.name.as_str()).collect();
            feed.look(traffic::query(&app.filter, &names));
        }
        Action::Quit | Action::Suspend => {}
    }
}

/// Notes that a controller which is there, but hangs, does not answer.
fn miss(app: &mut App, now: u64) {
    let patience = OVERDUE.max(app.interval * 3).as_millis() as u64;
    if app.model.link == Link::Live && app.model.answered + patience < now {
        let what = What::Silent("the controller does not answer".to_owned());
        app.absorb(Record { at: now, what });
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).ok();
    let range = Duration::from_millis(200)..=Duration::from_secs(60);
    time.filter(|time| range.contains(time)).ok_or_else(|| "a time from 200ms to 60s".to_owned())
}

fn size(text: &str) -> Result<(u16, u16), String> {
    let sides = text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    let range = 1..=1000;
    sides
        .filter(|(width, height)| range.contains(width) && range.contains(height))
        .ok_or_else(|| "columns and lines such as 100x30, each 1 to 1000".to_owned())
}
