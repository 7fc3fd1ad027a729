//! Pages by TLS.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use pcc_userspace::config::{Page, Target};
use pcc_userspace::health::probe::Outcome;
use pcc_userspace::host::Family;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::kinds::{address, page};
use crate::lab::{Lab, SERVER, SOON};
use crate::servers;

/// Where the inner test finds the authority's certificate and key.
const FILES: &str = "PCC_TEST_CERTIFICATES";

/// What is trusted is read from the environment, once a process: the test proper is this test in a process of its own.
#[test]
fn a_certificate_must_be_valid() {
    if let Some(files) = std::env::var_os(FILES) {
        return within_the_environment(Path::new(&files));
    }
    let files = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    std::fs::write(files.path().join("certificate"), &certificate).unwrap();
    std::fs::write(files.path().join("key"), key.serialize_pem()).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tls::a_certificate_must_be_valid", "--nocapture"])
        .env("SSL_CERT_FILE", files.path().join("certificate"))
        .env(FILES, files.path())
        .status()
        .unwrap();
    assert!(status.success());
}

fn within_the_environment(files: &Path) {
    let lab = Lab::new();
    let trusted = issuer(files);
    let stranger = Issuer::new(CertificateParams::new([]).unwrap(), KeyPair::generate().unwrap());
    for (isp, issuer) in lab.isps.iter().zip([&trusted, &stranger]) {
        let names = SERVER.into_iter().chain(["www.example"]).map(str::to_owned);
        let config = server(&CertificateParams::new(names.collect::<Vec<_>>()).unwrap(), issuer);
        for server in SERVER {
            servers::https(isp, server, config.clone());
        }
    }
    lab.router.block_on(async || {
        lab.settle().await;
        for (family, server) in Family::BOTH.into_iter().zip(SERVER) {
            for (number, host, path, wanted) in [
                (1, "www.example", "/204", Ok(())),
                (1, server, "/204", Ok(())),
                (1, "www.example", "/down", Err("status 503")),
                (1, "other.example", "/204", Err("not valid for name")),
                (2, "www.example", "/204", Err("invalid peer certificate")),
            ] {
                let address = address(server, 443);
                let target = Target::Http(Page { tls: true, host: host.to_owned(), address, ..page(server, path) });
                let mut probing = lab.start(number, &target, family, SOON);
                // The second one may resume a session.
                for sequence in [1, 2] {
                    let outcome = probing.ask_for(sequence, SOON).await;
                    match (&outcome, wanted) {
                        (Some(Outcome::Answered(_)), Ok(())) => {}
                        (Some(Outcome::Failed(why)), Err(text)) if why.contains(text) => {}
                        _ => panic!("{target:?}: {outcome:?}"),
                    }
                }
            }
        }
    });
}

fn issuer(files: &Path) -> Issuer<'static, KeyPair> {
    let read = |name: &str| std::fs::read_to_string(files.join(name)).unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Issuer::new(params, KeyPair::from_pem(&read("key")).unwrap())
}

fn server(params: &CertificateParams, issuer: &Issuer<'_, KeyPair>) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    Arc::new(config)
}
