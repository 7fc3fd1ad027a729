//! `GET /metrics`, and nothing else. One request a connection; whoever is slow is hung up on.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::Format;
use super::accept::negotiate;
use super::endpoint::Socket;
use crate::control::{Answer, Asked, Request as Question};

/// Connections at a time; further ones wait in the queue of the socket.
const CONNECTIONS: usize = 16;
/// The whole of a connection, below the 10 s that scrapers wait by default.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a request that are held.
const REQUEST: usize = 8192;
const HEADERS: usize = 32;
/// After an error of the socket, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves what `asked` answers to whoever connects to `socket`.
pub(super) async fn serve(socket: Arc<Socket>, asked: mpsc::Sender<Asked>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let asked = asked.clone();
        let accepted = match &*socket {
            Socket::Tcp(listener) => listener.accept().await.map(|(stream, _)| attend(stream, asked, slot)),
            Socket::Unix(listener) => listener.accept().await.map(|(stream, _)| attend(stream, asked, slot)),
        };
        if let Err(error) = accepted {
            tracing::debug!("accepting who wants metrics: {error}");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn attend(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    asked: mpsc::Sender<Asked>,
    slot: OwnedSemaphorePermit,
) {
    tokio::spawn(async move {
        talk(stream, asked, PATIENCE).await;
        drop(slot);
    });
}

async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin, asked: mpsc::Sender<Asked>, patience: Duration) {
    let service = service_fn(|request: Request<Incoming>| {
        let asked = asked.clone();
        async move { Ok::<_, Infallible>(answer(request.method(), request.uri().path(), request.headers(), &asked).await) }
    });
    let mut server = http1::Builder::new();
    server.keep_alive(false).max_buf_size(REQUEST).max_headers(HEADERS);
    let served = tokio::time::timeout(patience, server.serve_connection(TokioIo::new(stream), service)).await;
    match served {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("serving metrics: {error}"),
        Err(_) => tracing::debug!("serving metrics: not done within {patience:?}"),
    }
}

async fn answer(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    asked: &mpsc::Sender<Asked>,
) -> Response<Full<Bytes>> {
    if path != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
    }
    if ![Method::GET, Method::HEAD].contains(method) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let format = negotiate(headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()));
    match ask(format, asked).await {
        Some(text) => with_type(StatusCode::OK, format.content_type(), text.into()),
        None => plain(StatusCode::SERVICE_UNAVAILABLE, "the controller does not answer, see its log\n"),
    }
}

async fn ask(format: Format, asked: &mpsc::Sender<Asked>) -> Option<String> {
    let (sender, receiver) = oneshot::channel();
    asked.send((Question::Metrics { format }, sender)).await.ok()?;
    match receiver.await.ok()? {
        Answer::Metrics { text } => Some(text),
        Answer::Problem { message, .. } => {
            tracing::error!("reading metrics: {message}");
            None
        }
        _ => None,
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", text.into())
}

fn with_type(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// What is answered to the bytes `request`, by a controller that writes `format`.
    async fn exchange(request: &[u8]) -> String {
        let (sender, mut questions) = mpsc::channel::<Asked>(1);
        let controller = tokio::spawn(async move {
            while let Some((Question::Metrics { format }, reply)) = questions.recv().await {
                let _ = reply.send(Answer::Metrics { text: format!("{format:?}\n") });
            }
        });
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let (_, text) = tokio::join!(talk(far, sender, PATIENCE), async {
            let _ = near.write_all(request).await;
            let mut text = String::new();
            let _ = near.read_to_string(&mut text).await;
            text
        });
        controller.await.unwrap();
        text
    }

    fn status(text: &str) -> &str {
        text.split(' ').nth(1).unwrap_or_default()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn metrics_are_got_in_the_format_that_is_asked_for() {
        let text = exchange(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(status(&text), "200");
        assert!(text.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\nPrometheus\n"), "{text}");
        let text = exchange(b"GET /metrics?x=y HTTP/1.0\r\nAccept: application/openmetrics-text\r\n\r\n").await;
        assert!(
            text.contains("\r\ncontent-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
            "{text}"
        );
        assert!(text.ends_with("\r\n\r\nOpenMetrics\n"), "{text}");
        let text = exchange(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(status(&text) == "200" && text.ends_with("\r\n\r\n"), "{text}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn nothing_else_is_served() {
        for (request, wanted) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
            ("GET /metrics/ HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
            ("GET /../metrics HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", "405"),
            ("DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "405"),
            ("nonsense\r\n\r\n", "400"),
        ] {
            assert_eq!(status(&exchange(request.as_bytes()).await), wanted, "{request}");
        }
        let huge = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 18));
        assert_eq!(status(&exchange(huge.as_bytes()).await), "431");
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(HEADERS + 1));
        assert_eq!(status(&exchange(many.as_bytes()).await), "431");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn whoever_is_slow_is_hung_up_on() {
        let (sender, _questions) = mpsc::channel::<Asked>(1);
        for request in ["", "GET /metrics HTTP/1.1\r\n", "GET /metrics HTTP/1.1\r\n\r\n"] {
            let (mut near, far) = tokio::io::duplex(1024);
            near.write_all(request.as_bytes()).await.unwrap();
            // In the last case nobody answers.
            talk(far, sender.clone(), Duration::from_millis(50)).await;
            let mut text = String::new();
            assert_eq!(near.read_to_string(&mut text).await.unwrap(), 0, "{text}");
        }
    }
}
