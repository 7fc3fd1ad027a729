//! Connections that stay in use.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::conversation::{Conversation, Moved};
use super::server::{Protocol, lock, runtime};

/// Conversations that exchange data in the background, each by itself, until [`Busy::stop`].
#[derive(Debug)]
pub struct Busy {
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<Report>>,
    tasks: JoinSet<Option<Conversation>>,
}

/// What happened to busy conversations.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Questions that got their echo.
    pub exchanges: u64,
    /// The longest time that an answered question took.
    pub slowest: Duration,
    /// One for each conversation that failed; it exchanges nothing from then on.
    pub faults: Vec<Fault>,
}

/// The end of one busy conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its protocol.
    pub protocol: Protocol,
    /// Our end.
    pub local: SocketAddr,
    /// The ISP that it was on.
    pub isp: u32,
    /// Time since the conversations became busy.
    pub after: Duration,
    /// What it was.
    pub kind: FaultKind,
    /// The message.
    pub text: String,
}

/// What can end a busy conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Another ISP answered, or the ISP saw another address of ours.
    Moved,
    /// A reset.
    Reset,
    /// No answer in time.
    Silence,
    /// Anything else.
    Other,
}

impl Busy {
    /// Lets each of `conversations` exchange a few bytes every `interval`, spread evenly over it. A question that is
    /// not answered within `patience` is a fault.
    pub fn start(conversations: Vec<Conversation>, interval: Duration, patience: Duration) -> Self {
        let count = u32::try_from(conversations.len()).unwrap_or(u32::MAX).max(1);
        let (stop, report) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Report::default())));
        let mut tasks = JoinSet::new();
        let began = Instant::now();
        for (index, mut conversation) in (0..count).zip(conversations) {
            let (stop, report) = (Arc::clone(&stop), Arc::clone(&report));
            conversation.patience = patience;
            let drive = async move {
                sleep(interval / count * index).await;
                converse(conversation, interval, began, &stop, &report).await
            };
            tasks.spawn_on(drive, runtime().handle());
        }
        Self { stop, report, tasks }
    }

    /// What happened so far.
    pub fn report(&self) -> Report {
        lock(&self.report).clone()
    }

    /// Ends after the questions under way, and returns the conversations that still work.
    pub fn stop(self) -> (Report, Vec<Conversation>) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = runtime().block_on(self.tasks.join_all());
        let report = lock(&self.report).clone();
        (report, ended.into_iter().flatten().collect())
    }
}

impl Report {
    /// How many conversations failed in the way `kind`.
    pub fn count(&self, kind: FaultKind) -> usize {
        self.faults.iter().filter(|fault| fault.kind == kind).count()
    }

    fn answered(&mut self, after: Duration) {
        self.exchanges += 1;
        self.slowest = self.slowest.max(after);
    }
}

impl Fault {
    pub(super) fn new(conversation: &Conversation, error: &io::Error, after: Duration) -> Self {
        let kind = match error.kind() {
            _ if matches!(error.get_ref(), Some(inner) if inner.is::<Moved>()) => FaultKind::Moved,
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => FaultKind::Reset,
            ErrorKind::TimedOut => FaultKind::Silence,
            _ => FaultKind::Other,
        };
        let Conversation { protocol, local, isp, .. } = *conversation;
        Self { protocol, local, isp, after, kind, text: error.to_string() }
    }
}

async fn converse(
    mut conversation: Conversation,
    interval: Duration,
    began: Instant,
    stop: &AtomicBool,
    report: &Mutex<Report>,
) -> Option<Conversation> {
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let outcome = conversation.talk(format!("{number:016}").as_bytes()).await;
        if let Err(error) = outcome {
            lock(report).faults.push(Fault::new(&conversation, &error, began.elapsed()));
            return None;
        }
        lock(report).answered(asked.elapsed());
        number += 1;
        // Short steps, so that stopping does not wait for a long interval.
        while !stop.load(Ordering::Relaxed) && asked.elapsed() < interval {
            let step = (interval - asked.elapsed().min(interval)).min(Duration::from_millis(50));
            sleep(step).await;
        }
    }
    Some(conversation)
}
