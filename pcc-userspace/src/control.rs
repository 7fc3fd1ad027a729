//! The control socket: one JSON request a line, one JSON answer a line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use crate::mirror;
use crate::problem::Problem;
use crate::status::Status;

/// What can be asked of a running controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// A snapshot.
    Status,
    /// Another weight for an uplink, until the next start.
    Weight {
        /// Name or device.
        uplink: String,
        /// 0 to 1,000.
        weight: u32,
    },
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Status`], of a RouterOS configuration.
    Mirror(Box<mirror::status::Status>),
    /// Done.
    Done,
    /// Refused or failed; nothing changed.
    Problem {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },
}

/// A request with the way back.
pub type Asked = (Request, oneshot::Sender<Answer>);

const LONGEST_REQUEST: u64 = 4096;

/// The socket of the instance that runs in `run`.
pub fn socket(run: &Path) -> PathBuf {
    run.join("control.sock")
}

/// Asks the controller that runs in `run`.
///
/// # Errors
/// No controller runs there, it does not answer within five seconds, or it refused.
pub fn ask(run: &Path, request: &Request) -> Result<Answer> {
    let path = socket(run);
    let stream = UnixStream::connect(&path).map_err(|error| {
        Problem::new(
            format!("no controller answers at `{}`: {error}", path.display()),
            "start it with `pcc run`, or name its `--instance`; root is needed to ask",
        )
    })?;
    let wait = Some(Duration::from_secs(5));
    stream.set_read_timeout(wait).and_then(|()| stream.set_write_timeout(wait))?;
    (&stream).write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes())?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).context("waiting for the controller")?;
    match serde_json::from_str(&line).context("reading the controller's answer")? {
        Answer::Problem { message, hint } => Err(Problem::new(message, hint).into()),
        answer => Ok(answer),
    }
}

/// Listens in `run` and hands what is asked to `asked`. Only root may connect.
pub fn listen(run: &Path, asked: mpsc::Sender<Asked>) -> Result<()> {
    let path = socket(run);
    // The lock says that no other controller uses it.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| format!("listening at {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, asked.clone()));
        }
    });
    Ok(())
}

async fn serve(mut stream: tokio::net::UnixStream, asked: mpsc::Sender<Asked>) {
    use tokio::io::AsyncReadExt as _;
    let (read, mut write) = stream.split();
    let mut lines = tokio::io::BufReader::new(read.take(LONGEST_REQUEST)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match serde_json::from_str(&line) {
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
