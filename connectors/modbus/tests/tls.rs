//! Modbus/TCP Security against a TLS server that demands certificates: who is trusted, who is not, and how it is said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::slave::registers;
use common::{Running, device_at, point};
use rcgen::{CertificateParams, Issuer, KeyPair};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tally_connector_api::{LinkFault, LinkState};
use tally_connector_modbus::PlanFault;
use tally_model::{DeviceSpec, NoValue, Quality, Tls, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, version};

/// Files of a little authority.
struct Pki {
    folder: tempfile::TempDir,
}

impl Pki {
    fn new() -> Self {
        let pki = Self { folder: tempfile::tempdir().unwrap() };
        for authority in ["ca", "other-ca"] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, authority);
            pki.write(authority, &params.self_signed(&key).unwrap().pem(), "");
            let issuer = Issuer::new(params, key);
            for (name, host) in [("server", "127.0.0.1"), ("elsewhere", "10.9.9.9"), ("client", "agent")] {
                let key = KeyPair::generate().unwrap();
                let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
                let name = if authority == "ca" { name.to_owned() } else { format!("other-{name}") };
                pki.write(&name, &params.signed_by(&key, &issuer).unwrap().pem(), &key.serialize_pem());
            }
        }
        pki
    }

    fn write(&self, name: &str, certificate: &str, key: &str) {
        std::fs::write(self.certificate(name), certificate).unwrap();
        tally_secrets::write(&self.key(name), key.as_bytes()).unwrap();
    }

    fn certificate(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.pem"))
    }

    fn key(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.key"))
    }

    fn pin(&self, name: &str) -> String {
        let certificate = der(&self.certificate(name));
        let digest = aws_lc_digest(&certificate);
        digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }

    fn tls(&self, ca: Option<&str>, client: Option<&str>) -> Tls {
        Tls {
            ca: ca.map(|name| self.certificate(name)),
            pin: None,
            certificate: client.map(|name| self.certificate(name)),
            key: client.map(|name| self.key(name)),
        }
    }
}

fn der(file: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file).unwrap()
}

fn aws_lc_digest(bytes: &[u8]) -> Vec<u8> {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).to_vec()
}

/// A device that answers every read with 7, over TLS, to clients of our authority only. Gives its URL.
async fn serve(pki: &Pki, name: &str, tls_13: bool) -> String {
    serve_some(pki, name, tls_13, usize::MAX).await
}

/// The same, but the connection is dropped without a farewell instead of one answer more than `answers`.
async fn serve_some(pki: &Pki, name: &str, tls_13: bool, answers: usize) -> String {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(der(&pki.certificate("ca"))).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
    let versions: &[_] = if tls_13 { &[&version::TLS13] } else { &[&version::TLS12] };
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![der(&pki.certificate(name))], PrivateKeyDer::from_pem_file(pki.key(name)).unwrap())
        .unwrap();
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let url = format!("modbus+tls://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            tokio::spawn(async move {
                let (mut question, mut answered) = ([0; 12], 0);
                while stream.read_exact(&mut question).await.is_ok() && answered < answers {
                    answered += 1;
                    let pdu = registers(question[7], &[7]);
                    let length = u16::try_from(pdu.len() + 1).unwrap().to_be_bytes();
                    let head = [question[0], question[1], 0, 0, length[0], length[1], question[6]];
                    stream.write_all(&[&head, pdu.as_slice()].concat()).await.unwrap();
                    stream.flush().await.unwrap();
                }
            });
        }
    });
    url
}

fn device(url: &str, tls: Tls) -> DeviceSpec {
    let mut device = device_at("press", url, 1, vec![point("a holding:0 u16")]);
    device.timeout = std::time::Duration::from_secs(2);
    device.security.tls = tls;
    device
}

/// The first outcome, and what is wrong with the link when there is none.
async fn first(url: &str, tls: Tls) -> Result<Value, LinkFault> {
    let mut link = Running::start(vec![device(url, tls)]);
    let outcome = link.next().await.samples.remove(0).outcome;
    let state = link.status.borrow().state.clone();
    link.stop().await;
    match (outcome, state) {
        (Ok(value), LinkState::Up { .. }) => Ok(value),
        (Err(NoValue::LinkDown), LinkState::Down { fault, .. }) => Err(fault),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_right_certificates_are_trusted_on_both_sides() {
    let pki = Pki::new();
    for tls_13 in [true, false] {
        let url = serve(&pki, "server", tls_13).await;
        assert_eq!(first(&url, pki.tls(Some("ca"), Some("client"))).await, Ok(Value::Integer(7)));
        // A pinned certificate may come from anywhere and be made for any name.
        let url = serve(&pki, "other-elsewhere", tls_13).await;
        let pinned = Tls { pin: Some(pki.pin("other-elsewhere")), ..pki.tls(None, Some("client")) };
        assert_eq!(first(&url, pinned).await, Ok(Value::Integer(7)));
    }
}

#[tokio::test]
async fn a_device_that_is_not_trusted_is_never_asked() {
    let pki = Pki::new();
    for (server, tls, reason) in [
        ("other-server", pki.tls(Some("ca"), Some("client")), "comes from no authority in `ca`"),
        ("elsewhere", pki.tls(Some("ca"), Some("client")), "not valid for name"),
        ("server", Tls { pin: Some(pki.pin("elsewhere")), ..pki.tls(None, Some("client")) }, "is not the pinned one"),
    ] {
        let url = serve(&pki, server, true).await;
        match first(&url, tls).await {
            Err(LinkFault::Untrusted(text)) => assert!(text.contains(reason), "{server}: {text}"),
            other => panic!("{server}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_device_that_does_not_trust_us_says_so() {
    let pki = Pki::new();
    for tls_13 in [true, false] {
        let url = serve(&pki, "server", tls_13).await;
        for client in [None, Some("other-client")] {
            let fault = first(&url, pki.tls(Some("ca"), client)).await.unwrap_err();
            assert!(matches!(fault, LinkFault::NotTrusted(_)), "{client:?}: {fault}");
        }
    }
}

#[test]
fn certificates_that_cannot_work_are_said_before_connecting() {
    let pki = Pki::new();
    let fault = |tls| tally_connector_modbus::link(vec![device("modbus+tls://127.0.0.1:1", tls)]).err();
    assert!(fault(pki.tls(Some("ca"), Some("client"))).is_none());
    let mut swapped = pki.tls(Some("ca"), Some("client"));
    swapped.key = Some(pki.key("server"));
    for tls in [Tls::default(), pki.tls(Some("nowhere"), None), swapped] {
        assert!(matches!(fault(tls.clone()), Some(PlanFault::Tls { .. })), "{tls:?}");
    }
}

/// A device that is switched off says no farewell. That is a broken line, not nonsense, so the question is asked once more on
/// a fresh connection, and nobody notices.
#[tokio::test]
async fn a_connection_that_ends_without_a_farewell_is_a_broken_line() {
    let pki = Pki::new();
    for tls_13 in [true, false] {
        let url = serve_some(&pki, "server", tls_13, 2).await;
        let mut link = Running::start(vec![device(&url, pki.tls(Some("ca"), Some("client")))]);
        for number in 0..5 {
            let sample = link.next().await.samples.remove(0);
            assert_eq!((sample.outcome, sample.quality), (Ok(Value::Integer(7)), Quality::Good), "question {number}");
        }
        link.stop().await;
    }
}
