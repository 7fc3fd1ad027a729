//! Threads that ask the controller, read keys and await signals, and tell the view by one channel.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use ratatui::crossterm::event::{self, KeyEvent, KeyEventKind};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::record::{Record, What};
use crate::control::{self, Answer, Request};
use crate::flows::Query;
use crate::overrides::Change;
use crate::problem::Problem;

/// Pause before somebody who does not answer is asked again for events.
const RETRY: Duration = Duration::from_secs(1);
/// `SIGTSTP`, which tokio has no name for.
const SUSPEND: i32 = rustix::process::Signal::TSTP.as_raw();

/// What comes in.
#[derive(Debug)]
pub enum Input {
    /// The controller told something, or did not answer.
    Told(Record),
    /// A change was made, or refused.
    Answered(Result<String, String>),
    /// A key.
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
    /// Somebody wants us to stop for a while.
    Suspend,
    /// The end: a signal, or the terminal is gone.
    End,
}

/// What the threads that ask are told.
#[derive(Clone, Debug)]
enum Order {
    Interval(Duration),
    Query(Query),
    Now,
}

/// Asks the controller, again and again.
#[derive(Debug)]
pub struct Feed {
    run: PathBuf,
    input: Sender<Input>,
    orders: Vec<Sender<Order>>,
}

impl Feed {
    /// Asks the controller that runs in `run` every `interval`.
    pub fn start(run: PathBuf, interval: Duration, input: Sender<Input>) -> Self {
        let (status, flows) = (mpsc::channel(), mpsc::channel());
        let ask = |orders: Receiver<Order>, once: fn(&Path, &Query) -> What| {
            let (run, input) = (run.clone(), input.clone());
            thread::spawn(move || repeat(interval, &orders, |query| told(&input, once(&run, query))));
        };
        ask(status.1, |run, _| snapshot(run).unwrap_or_else(|error| What::Silent(line(&error))));
        ask(flows.1, listing);
        let (place, listener) = (run.clone(), input.clone());
        thread::spawn(move || {
            while listen(&place, &listener) {
                thread::sleep(RETRY);
            }
        });
        Self { run, input, orders: vec![status.0, flows.0] }
    }

    /// From now on every `interval`.
    pub fn pace(&self, interval: Duration) {
        self.order(&Order::Interval(interval));
    }

    /// Lists other connections.
    pub fn look(&self, query: Query) {
        self.order(&Order::Query(query));
    }

    /// Asks for a change, and for what became of it.
    pub fn change(&self, uplink: String, change: Change) {
        let (run, input, orders) = (self.run.clone(), self.input.clone(), self.orders.clone());
        thread::spawn(move || {
            let text = format!("{uplink}: {change}");
            let answer = match control::ask(&run, &Request::Uplink { uplink, change, persist: false }) {
                Ok(Answer::Done { warnings }) if warnings.is_empty() => Ok(text),
                Ok(Answer::Done { warnings }) => Err(format!("{text}; {}", warnings.join("; "))),
                Ok(_) => Err("the controller answered something else".to_owned()),
                Err(error) => Err(line(&error)),
            };
            let _ = input.send(Input::Answered(answer));
            for order in orders {
                let _ = order.send(Order::Now);
            }
        });
    }

    fn order(&self, order: &Order) {
        for asker in &self.orders {
            // One that has ended has told why.
            let _ = asker.send(order.clone());
        }
    }
}

/// Reads keys until the terminal is gone.
pub fn keys(input: Sender<Input>) {
    thread::spawn(move || {
        loop {
            let it = match event::read() {
                Ok(event::Event::Key(key)) if key.kind == KeyEventKind::Press => Input::Key(key),
                Ok(event::Event::Resize(..)) => Input::Resized,
                Ok(_) => continue,
                Err(_) => Input::End,
            };
            let last = matches!(it, Input::End);
            if input.send(it).is_err() || last {
                return;
            }
        }
    });
}

/// Awaits signals.
///
/// # Errors
/// The kernel gives us none.
pub fn signals(input: Sender<Input>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (terminate, interrupt, hang_up, suspend) = runtime.block_on(async {
        let on = |kind| signal(kind);
        anyhow::Ok((
            on(SignalKind::terminate())?,
            on(SignalKind::interrupt())?,
            on(SignalKind::hangup())?,
            on(SignalKind::from_raw(SUSPEND))?,
        ))
    })?;
    thread::spawn(move || runtime.block_on(pass_on([terminate, interrupt, hang_up], suspend, input)));
    Ok(())
}

async fn pass_on(ends: [Signal; 3], mut suspend: Signal, input: Sender<Input>) {
    let [mut terminate, mut interrupt, mut hang_up] = ends;
    loop {
        let it = tokio::select! {
            _ = suspend.recv() => Input::Suspend,
            _ = terminate.recv() => Input::End,
            _ = interrupt.recv() => Input::End,
            _ = hang_up.recv() => Input::End,
        };
        if input.send(it).is_err() {
            return;
        }
    }
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A snapshot of the controller that runs in `run`.
///
/// # Errors
/// It does not answer.
pub fn snapshot(run: &Path) -> Result<What> {
    match control::ask(run, &Request::Status)? {
        Answer::Status(status) => Ok(What::Status(status)),
        Answer::Mirror(status) => Ok(What::Mirror(status)),
        _ => anyhow::bail!("the controller answered something else"),
    }
}

/// The connections of the controller that runs in `run`.
pub fn listing(run: &Path, query: &Query) -> What {
    match control::ask(run, &Request::Flows(query.clone())) {
        Ok(Answer::Flows(listing)) => What::Flows(listing),
        Ok(_) => What::NoFlows("this controller lists no connections".to_owned()),
        Err(error) => What::NoFlows(line(&error)),
    }
}

/// Does `once` every `interval` and when it is ordered to, until it says that nobody cares.
fn repeat(mut interval: Duration, orders: &Receiver<Order>, once: impl Fn(&Query) -> bool) {
    let mut query = super::traffic::query("", &[]);
    loop {
        let began = Instant::now();
        if !once(&query) {
            return;
        }
        match orders.recv_timeout(interval.saturating_sub(began.elapsed())) {
            Ok(Order::Interval(other)) => interval = other,
            Ok(Order::Query(other)) => query = other,
            Ok(Order::Now) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Passes events on until there are no more; whether somebody still cares.
fn listen(run: &Path, input: &Sender<Input>) -> bool {
    let Ok(events) = control::events(run) else { return true };
    events.map_while(Result::ok).all(|event| told(input, What::Event(Box::new(event))))
}

fn told(input: &Sender<Input>, what: What) -> bool {
    input.send(Input::Told(Record { at: now(), what })).is_ok()
}

/// An error with its hint in one line.
fn line(error: &anyhow::Error) -> String {
    let hint = error.chain().rev().find_map(|cause| cause.downcast_ref::<Problem>());
    let hint = hint.map(|problem| format!("; {}", problem.hint)).unwrap_or_default();
    format!("{error:#}{hint}")
}
