//! The control socket: one JSON request a line, one JSON answer a line.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use crate::config::Paths;
use crate::events::{Event, Listener, Teller};
use crate::flows::{self, Listing, Query};
use crate::mirror;
use crate::overrides::Change;
use crate::problem::Problem;
use crate::status::Status;
use crate::verify::Report;

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
    /// Every event from now on, one a line, until the reader leaves.
    Events,
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

const LONGEST_REQUEST: u64 = 4096;
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
    Ok(lines.map(|line| serde_json::from_str(&line?).context("reading the controller's events")))
}

fn connect(run: &Path, request: &Request) -> Result<UnixStream> {
    let path = socket(run);
    let stream = UnixStream::connect(&path).map_err(|error| {
        Problem::new(
            format!("no controller answers at `{}`: {error}", path.display()),
            "start it with `pcc run`, or name its `--instance`; root is needed to ask",
        )
    })?;
    stream.set_write_timeout(Some(PATIENCE))?;
    (&stream).write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes())?;
    Ok(stream)
}

/// Listens where `paths` say, hands what is asked to `asked`, passes on what `teller` tells, and looks through connections by
/// itself. Only root may connect.
pub fn listen(paths: &Paths, asked: mpsc::Sender<Asked>, teller: &Teller) -> Result<()> {
    let path = socket(&paths.run);
    // The lock says that no other controller uses it.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| format!("listening at {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let teller = teller.clone();
    let flows = Arc::new(flows::Server::new(paths.clone()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, asked.clone(), teller.clone(), flows.clone()));
        }
    });
    Ok(())
}

async fn serve(
    mut stream: tokio::net::UnixStream,
    asked: mpsc::Sender<Asked>,
    teller: Teller,
    flows: Arc<flows::Server>,
) {
    let (read, mut write) = stream.split();
    let mut lines = tokio::io::BufReader::new(read.take(LONGEST_REQUEST)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match serde_json::from_str(&line) {
            Ok(Request::Events) => return pass_on(teller.listen(), lines.into_inner(), write).await,
            Ok(Request::Flows(query)) => flows.answer(query).await,
            Ok(request) => {
                let (sender, receiver) = oneshot::channel();
                if asked.send((request, sender)).await.is_err() {
                    return;
                }
                let Ok(answer) = receiver.await else { return };
                answer
            }
            Err(error) => Answer::Problem {
                message: format!("not a request: {error}"),
                hint: "one JSON object a line, such as {\"request\":\"status\"}".into(),
            },
        };
        let Ok(mut text) = serde_json::to_string(&answer) else { return };
        text.push('\n');
        if write.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Until the reader leaves: what it says besides is not asked.
async fn pass_on(mut listener: Listener, mut read: impl AsyncRead + Unpin, mut write: impl AsyncWrite + Unpin) {
    let pass = async {
        while let Some(event) = listener.next().await {
            let Ok(mut text) = serde_json::to_string(&event) else { return };
            text.push('\n');
            if write.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    let left = async {
        let mut bytes = [0; 64];
        while read.read(&mut bytes).await.is_ok_and(|length| length > 0) {}
    };
    tokio::select! {
        () = pass => {}
        () = left => {}
    }
}
