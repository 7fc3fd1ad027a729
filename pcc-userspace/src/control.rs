//! The control socket: one JSON request a line, one JSON answer a line. Root may ask for everything, members of the group
//! [`GROUP`] for what changes nothing.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::events::Event;
use crate::flows::{Listing, Query};
use crate::metrics::Format;
use crate::mirror;
use crate::overrides::Change;
use crate::problem::Problem;
use crate::status::Status;
use crate::verify::Report;

pub use access::{GROUP, group, listen};
pub use door::{Door, Server};

mod access;
mod connection;
mod desk;
mod door;

/// What can be asked of a running controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// A snapshot.
    Status,
    /// A change of an uplink by hand.
    Uplink {
        /// Name or device.
        uplink: String,
        /// What changes.
        change: Change,
        /// Also after the next start.
        persist: bool,
    },
    /// Read the configuration again and put it in force.
    Reload {
        /// Go back to the one before unless [`Request::Confirm`] comes within so many seconds.
        try_seconds: Option<u64>,
    },
    /// Keep the configuration that is being tried.
    Confirm,
    /// Connections.
    Flows(Query),
    /// How new connections are spread.
    Verify {
        /// Only those of so many last seconds.
        since_seconds: Option<u64>,
    },
    /// What monitoring systems are told.
    Metrics {
        /// How it is written.
        #[serde(default)]
        format: Format,
    },
    /// Every event from now on, one a line, until the reader leaves.
    Events,
}

impl Request {
    /// It changes something, which is root's alone.
    pub const fn changes(&self) -> bool {
        match self {
            Self::Status | Self::Flows(_) | Self::Verify { .. } | Self::Metrics { .. } | Self::Events => false,
            Self::Uplink { .. } | Self::Reload { .. } | Self::Confirm => true,
        }
    }
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Status`], of a RouterOS configuration.
    Mirror(Box<mirror::status::Status>),
    /// To [`Request::Flows`].
    Flows(Box<Listing>),
    /// To [`Request::Verify`].
    Verified(Box<Report>),
    /// To [`Request::Uplink`].
    Changed(Changed),
    /// To [`Request::Metrics`].
    Metrics {
        /// All of it.
        text: String,
    },
    /// Done.
    Done {
        /// What the operator should know, one line each.
        warnings: Vec<String>,
    },
    /// Refused or failed; nothing changed.
    Problem {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },
}

impl From<Problem> for Answer {
    fn from(Problem { message, hint }: Problem) -> Self {
        Self::Problem { message, hint }
    }
}

/// What became of an uplink by hand. This is what `pcc uplink … --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Its name.
    pub uplink: String,
    /// Its device.
    pub device: String,
    /// What changed, as events say it.
    pub change: String,
    /// The weight in force.
    pub weight: u32,
    /// It holds after the next start, too.
    pub persist: bool,
}

impl Changed {
    /// The line that `pcc uplink` prints.
    pub fn line(&self) -> String {
        let Self { uplink, device, change, persist, .. } = self;
        let device = if uplink == device { String::new() } else { format!(" ({device})") };
        let persist = if *persist { ", also after the next start" } else { "" };
        format!("uplink {uplink}{device}: {change}{persist}\n")
    }
}

/// A request with the way back.
pub type Asked = (Request, oneshot::Sender<Answer>);

/// A reload of hundreds of rules takes a moment.
const PATIENCE: Duration = Duration::from_secs(15);
/// To look through a million connections takes seconds, and others may be before us.
const LONG_PATIENCE: Duration = Duration::from_secs(120);

/// The socket of the instance that runs in `run`.
pub fn socket(run: &Path) -> PathBuf {
    run.join("control.sock")
}

/// A controller runs in `run`, whether we may ask it or not.
pub fn is_running(run: &Path) -> bool {
    match UnixStream::connect(socket(run)) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused),
    }
}

/// Asks the controller that runs in `run`.
///
/// # Errors
/// No controller runs there, it does not answer within some seconds, or it refused.
pub fn ask(run: &Path, request: &Request) -> Result<Answer> {
    let stream = connect(run, request)?;
    let patience = if matches!(request, Request::Flows(_) | Request::Verify { .. }) { LONG_PATIENCE } else { PATIENCE };
    stream.set_read_timeout(Some(patience))?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => {
            let message = format!("the controller did not answer within {} s", patience.as_secs());
            anyhow::Error::from(Problem::new(message, "it has much to do: try again later"))
        }
        _ => anyhow::Error::from(error).context("waiting for the controller"),
    })?;
    if line.is_empty() {
        return Err(Problem::new("the controller ended before it answered", "its log says why; ask again").into());
    }
    match serde_json::from_str(&line).context("reading the controller's answer")? {
        Answer::Problem { message, hint } => Err(Problem::new(message, hint).into()),
        answer => Ok(answer),
    }
}

/// The events of the controller that runs in `run`, until it ends.
///
/// # Errors
/// As of [`ask`]; a line that cannot be read.
pub fn events(run: &Path) -> Result<impl Iterator<Item = Result<Event>>> {
    let stream = connect(run, &Request::Events)?;
    let lines = BufReader::new(stream).lines();
    Ok(lines.map(|line| event(&line?)))
}

fn event(line: &str) -> Result<Event> {
    match serde_json::from_str(line) {
        Ok(Answer::Problem { message, hint }) => Err(Problem::new(message, hint).into()),
        _ => serde_json::from_str(line).context("reading the controller's events"),
    }
}

fn connect(run: &Path, request: &Request) -> Result<UnixStream> {
    let path = socket(run);
    let stream = UnixStream::connect(&path).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => access::forbidden(&path),
        _ => Problem::new(
            format!("no controller answers at `{}`: {error}", path.display()),
            "start it with `pcc run`, or name its `--instance`",
        ),
    })?;
    stream.set_write_timeout(Some(PATIENCE))?;
    match (&stream).write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes()) {
        // It may have refused without listening; what it said is there to be read.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("asking the controller"),
        _ => Ok(stream),
    }
}
