//! One request by HTTP/1.1, as a scraper makes it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tests::exposition::Exposition;
use tests::lab::{Lab, Namespace};

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

pub const OPEN: &str = "Accept: application/openmetrics-text;version=1.0.0\r\n";

/// Sends a request with these header lines over `stream`, and reads until the end.
pub fn exchange(mut stream: impl Read + Write, method: &str, path: &str, headers: &str) -> io::Result<Answer> {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: pcc\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| io::Error::other(format!("no head: {text}")))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(Answer { status: status.unwrap_or(0), head: head.to_lowercase(), body: body.to_owned() })
}

/// [`exchange`] with `address` from inside `namespace`.
pub fn get(namespace: &Namespace, address: SocketAddr, method: &str, path: &str, headers: &str) -> io::Result<Answer> {
    let stream = namespace.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(5)))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    exchange(stream, method, path, headers)
}

/// What the lab's router tells by OpenMetrics at `address`.
pub fn scrape(lab: &Lab, address: SocketAddr) -> Exposition {
    let answer = get(lab.router(), address, "GET", "/metrics", OPEN).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        answer.head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{answer:?}"
    );
    Exposition::parse(&answer.body).unwrap_or_else(|problem| panic!("{problem}\n{}", answer.body))
}

/// What `pcc metrics` prints.
pub fn printed(lab: &Lab) -> Exposition {
    let output = lab.pcc_output(&["metrics"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    Exposition::parse(&text).unwrap_or_else(|problem| panic!("{problem}\n{text}"))
}
