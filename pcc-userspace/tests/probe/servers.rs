//! Servers behind an ISP: threads that serve until the test ends.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;

use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::lab::Namespace;

/// Serves the pages of [`page`] on port 80 of `address`.
pub fn http(namespace: &Namespace, address: &str) {
    serve(namespace, address, 80, |stream| answer(stream, page));
}

/// Answers every request with `status`.
pub fn http_status(namespace: &Namespace, address: &str, status: u16) {
    serve(namespace, address, 80, move |stream| answer(stream, |_| Some(response(status, ""))));
}

/// [`http`] by TLS on port 443.
pub fn https(namespace: &Namespace, address: &str, config: Arc<ServerConfig>) {
    serve(namespace, address, 443, move |stream| {
        let connection = ServerConnection::new(config.clone()).unwrap();
        answer(StreamOwned::new(connection, stream), page);
    });
}

fn serve(namespace: &Namespace, address: &str, port: u16, serve: impl Fn(TcpStream) + Send + Sync + 'static) {
    let address: IpAddr = address.parse().unwrap();
    let listener = namespace.within(|| TcpListener::bind((address, port)).unwrap());
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream.unwrap()));
        }
    });
}

/// Reads one request and writes what `page` says; with `None` it says nothing until the client goes.
fn answer(mut stream: impl Read + Write, page: impl Fn(&str) -> Option<Vec<u8>>) {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(length @ 1..) => request.extend_from_slice(&buffer[..length]),
            _ => return,
        }
    }
    match page(&String::from_utf8(request).unwrap()) {
        Some(response) => drop(stream.write_all(&response).and_then(|()| stream.flush())),
        None => drop(stream.read(&mut buffer)),
    }
}

fn page(request: &str) -> Option<Vec<u8>> {
    let path = request.split(' ').nth(1).unwrap();
    Some(match path {
        "/204" => response(204, ""),
        "/down" => response(503, "all is well"),
        "/moved" => response(302, ""),
        "/well" => response(200, "all is well"),
        "/host" => response(200, request),
        "/long" => response(200, &format!("{}late", "x".repeat(64 * 1024))),
        "/garbage" => b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        "/cut" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nall is".to_vec(),
        "/slow" => return None,
        _ => response(404, ""),
    })
}

fn response(status: u16, body: &str) -> Vec<u8> {
    // 204 has no body, nor a length of it.
    let length = if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("HTTP/1.1 {status} Word\r\n{length}\r\n{body}").into_bytes()
}

/// Answers DNS questions as the first label says.
pub fn dns(namespace: &Namespace, address: &str) {
    let address: IpAddr = address.parse().unwrap();
    let socket = namespace.within(|| UdpSocket::bind((address, 53)).unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let mut message = buffer[..length].to_vec();
            let label = String::from_utf8_lossy(&message[13..13 + usize::from(message[12])]).into_owned();
            // It is an answer, and recursion is available.
            message[2] |= 0x80;
            message[3] = 0x80;
            match label.as_str() {
                "fail" => message[3] |= 2,
                "none" => message[3] |= 3,
                "silent" => continue,
                "stray" => message[0] ^= 1,
                _ => {}
            }
            let _ = socket.send_to(&message, client);
        }
    });
}
