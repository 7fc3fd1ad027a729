//! Pages of web servers.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::{Path, tcp, why};
use crate::config::Page;

/// So much of a body is read at most.
const BODY: usize = 64 * 1024;

/// Fetches `page`; an error says what is wrong with the connection, the certificate, the status or the body.
pub(super) async fn fetch(path: &Path, page: &Page) -> Result<(), String> {
    let stream = tcp::connect(path, page.address).await.map_err(|error| why(&error))?;
    if !page.tls {
        return exchange(stream, page).await;
    }
    let name = ServerName::try_from(page.host.clone()).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(client().await?);
    exchange(connector.connect(name, stream).await.map_err(|error| why(&error))?, page).await
}

async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin, page: &Page) -> Result<(), String> {
    let request = Request::get(&page.path)
        .header(header::HOST, page.authority())
        .header(header::USER_AGENT, "pcc")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| cause(&error))?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(|error| cause(&error))?;
        judge(response, page).await
    };
    drive(answer, connection).await
}

/// Waits for `answer`, which `connection` must be polled for.
async fn drive<T>(answer: impl Future<Output = T>, connection: impl Future) -> T {
    let mut answer = pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}

async fn judge(response: Response<Incoming>, page: &Page) -> Result<(), String> {
    let status = response.status().as_u16();
    if page.status.map_or(!(200..400).contains(&status), |wanted| wanted != status) {
        return Err(format!("status {status}"));
    }
    let Some(wanted) = &page.body else { return Ok(()) };
    let mut body = response.into_body();
    let mut read = Vec::new();
    while read.len() < BODY {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|error| cause(&error))?;
        if let Some(data) = frame.data_ref() {
            read.extend_from_slice(&data[..data.len().min(BODY - read.len())]);
        }
        if contains(&read, wanted.as_bytes()) {
            return Ok(());
        }
    }
    Err("another body than wanted".to_owned())
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}

/// What lies under an error of hyper, which tells little itself.
fn cause(error: &hyper::Error) -> String {
    let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    io.map_or_else(|| error.to_string(), why)
}

/// What TLS trusts: the certificates of the host, or of `SSL_CERT_FILE`. They are read once, when first needed. Sessions are
/// resumed, so that most probes do without a full handshake.
async fn client() -> Result<Arc<ClientConfig>, String> {
    static CLIENT: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    match CLIENT.get() {
        Some(client) => client.clone(),
        // Hundreds of files may have to be read.
        None => {
            tokio::task::spawn_blocking(|| CLIENT.get_or_init(|| load().map_err(|error| error.to_string())).clone())
                .await
                .map_err(|error| error.to_string())?
        }
    }
}

fn load() -> Result<Arc<ClientConfig>, rustls::Error> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!("certificates for health checks: {error}");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
