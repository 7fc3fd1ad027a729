//! One connection: requests in, answers out, within limits.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::access;
use super::desk::{self, Desk};
use super::{Answer, Asked, Request};
use crate::events::{Kind, Listener, Teller};
use crate::flows;
use crate::problem::Problem;

/// Bytes of a request, without its line end.
const LONGEST_REQUEST: usize = 4096;
/// A request is there this long after the connection, or the answer to the one before.
const REQUEST: Duration = Duration::from_secs(10);
/// An answer is taken within this time.
const ANSWER: Duration = Duration::from_secs(10);
/// An event likewise: somebody may read them in a pager.
const EVENT: Duration = Duration::from_secs(300);

/// What a connection needs of the controller.
#[derive(Clone, Debug)]
pub struct Service {
    /// Where everything but a snapshot is asked.
    pub asked: mpsc::Sender<Asked>,
    /// Where snapshots are asked for.
    pub desk: Desk,
    /// Where connections are looked through.
    pub flows: Arc<flows::Server>,
    /// What happens.
    pub teller: Teller,
}

/// Answers the requests of user `uid` until he leaves, or breaks a limit.
pub async fn serve(mut stream: UnixStream, uid: u32, service: Service) {
    let (read, mut write) = stream.split();
    let mut read = tokio::io::BufReader::with_capacity(LONGEST_REQUEST, read);
    loop {
        let line = match timeout(REQUEST, request(&mut read)).await {
            Ok(Ok(Line::Request(line))) => line,
            Ok(Ok(Line::End) | Err(_)) => return,
            Ok(Ok(Line::TooLong)) => {
                let problem = format!("a request has {LONGEST_REQUEST} bytes at most");
                return refuse(&mut write, Problem::new(problem, EXAMPLE)).await;
            }
            Err(_) => {
                let problem = format!("no request came within {} s", REQUEST.as_secs());
                return refuse(&mut write, Problem::new(problem, EXAMPLE)).await;
            }
        };
        let request = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => request,
            Err(error) => {
                let problem = Problem::new(format!("not a request: {error}"), EXAMPLE);
                if say(&mut write, &problem.into()).await.is_none() {
                    return;
                }
                continue;
            }
        };
        if let Err(problem) = access::permit(uid, &request) {
            tracing::warn!(uid, ?request, "refused");
            if say(&mut write, &problem.into()).await.is_none() {
                return;
            }
            continue;
        }
        if request == Request::Events {
            return pass_on(service.teller.listen(), read, write).await;
        }
        let Some(answer) = answer(&service, request).await else { return };
        if send(&mut write, &answer, ANSWER).await.is_none() {
            return;
        }
    }
}

/// Says why nobody listens, and no more.
pub async fn refuse(write: &mut (impl AsyncWrite + Unpin), problem: Problem) {
    say(write, &problem.into()).await;
}

const EXAMPLE: &str = "one JSON object a line, such as {\"request\":\"status\"}";

enum Line {
    Request(Vec<u8>),
    TooLong,
    End,
}

/// The next line, or what comes before the end without one.
async fn request(read: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Line> {
    let mut line = Vec::new();
    // One more for the line end, which tells that it is all.
    let length = read.take(LONGEST_REQUEST as u64 + 1).read_until(b'\n', &mut line).await?;
    Ok(match line.pop_if(|last| *last == b'\n') {
        None if length == 0 => Line::End,
        None if length > LONGEST_REQUEST => Line::TooLong,
        _ => Line::Request(line),
    })
}

async fn answer(service: &Service, request: Request) -> Option<Arc<str>> {
    match request {
        Request::Status => service.desk.status().await,
        Request::Flows(query) => desk::line(&service.flows.answer(query).await).map(Into::into),
        request => desk::ask(&service.asked, request).await.as_ref().and_then(desk::line).map(Into::into),
    }
}

async fn say(write: &mut (impl AsyncWrite + Unpin), answer: &Answer) -> Option<()> {
    send(write, &desk::line(answer)?, ANSWER).await
}

async fn send(write: &mut (impl AsyncWrite + Unpin), text: &str, limit: Duration) -> Option<()> {
    timeout(limit, write.write_all(text.as_bytes())).await.ok()?.ok()
}

/// Until the reader leaves or the controller stops: what the reader says besides is not asked.
async fn pass_on(mut listener: Listener, mut read: impl AsyncRead + Unpin, mut write: impl AsyncWrite + Unpin) {
    let pass = async {
        while let Some(event) = listener.next().await {
            let Ok(text) = serde_json::to_string(&event) else { return };
            if send(&mut write, &(text + "\n"), EVENT).await.is_none() || event.kind == Kind::Stopped {
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

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
