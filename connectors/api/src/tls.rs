//! TLS of connections to devices and brokers: rustls with aws-lc, the same for every protocol.
//!
//! The other side is known by its authority (`ca`) or by its very certificate (`pin`), never by nothing. Files are read at
//! every connect: a renewed certificate needs no restart.

use crate::LinkFault;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tally_model::Tls;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// Why a TLS connection cannot even be tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// Neither `ca` nor `pin`.
    #[error("nothing says which server to trust: write `security: {{ca: FILE}}` or `security: {{pin: SHA-256}}`")]
    NoTrust,
    /// One of certificate and key alone.
    #[error("a client certificate needs both `certificate` and `key`")]
    HalfIdentity,
    /// A pin that is no fingerprint.
    #[error("`pin` is the SHA-256 of the server's certificate in 64 hexadecimal digits")]
    Pin,
    /// A file that does not hold what it should.
    #[error("{what} {file}: {reason}", file = file.display())]
    File {
        /// What the file is for.
        what: &'static str,
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificates do not fit together.
    #[error("certificates that cannot be used: {0}")]
    Unusable(String),
}

/// Makes a connection secure.
///
/// # Errors
/// [`LinkFault::Untrusted`] when we do not trust the other side or our own files cannot be used,
/// [`LinkFault::NotTrusted`] when it does not trust us, [`LinkFault::Line`] for everything else.
pub async fn handshake(stream: TcpStream, host: &str, port: u16, tls: &Tls) -> Result<TlsStream<TcpStream>, LinkFault> {
    let config = client_config(tls).map_err(|fault| LinkFault::Untrusted(fault.to_string()))?;
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|_| LinkFault::Untrusted(format!("`{host}` is no name a certificate can carry")))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.map_err(|fault| refusal(host, port, &fault))
}

/// Whose "no" it was: ours, theirs, or the line's.
fn refusal(host: &str, port: u16, fault: &std::io::Error) -> LinkFault {
    if let Some(Error::InvalidCertificate(reason)) = cause(fault) {
        return LinkFault::Untrusted(format!("{host}:{port}: {}", in_words(reason)));
    }
    match denied(fault) {
        Some(reason) => LinkFault::NotTrusted(format!("{host}:{port}: {reason}")),
        None => LinkFault::Line(format!("TLS with {host}:{port} failed: {fault}")),
    }
}

/// Whether the fault is the other side's "no" to our certificate. In TLS 1.3 it comes only after the handshake, instead of
/// the first answer (RFC 8446 §4.4.2.4).
#[must_use]
pub fn denied(fault: &std::io::Error) -> Option<String> {
    match cause(fault) {
        Some(Error::AlertReceived(AlertDescription::CertificateRequired)) => {
            Some("it wants a certificate of ours: write `certificate` and `key`".to_owned())
        }
        Some(Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::UnknownCA),
        )) => Some(format!("it does not accept our certificate ({alert:?})")),
        _ => None,
    }
}

fn cause(fault: &std::io::Error) -> Option<&Error> {
    fault.get_ref().and_then(|inner| inner.downcast_ref::<Error>())
}

fn in_words(reason: &CertificateError) -> String {
    match reason {
        CertificateError::ApplicationVerificationFailure => {
            "its certificate is not the pinned one; if it was renewed on purpose, change `pin`".to_owned()
        }
        CertificateError::UnknownIssuer => "its certificate comes from no authority in `ca`".to_owned(),
        other => other.to_string(),
    }
}

/// What the settings say, as the library wants it.
fn client_config(tls: &Tls) -> Result<ClientConfig, TlsFault> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let unusable = |fault: &dyn std::fmt::Display| TlsFault::Unusable(fault.to_string());
    let verifier: Arc<dyn ServerCertVerifier> = match (&tls.pin, &tls.ca) {
        (Some(pin), _) => Arc::new(Pinned { fingerprint: fingerprint(pin)?, provider: provider.clone() }),
        (None, Some(ca)) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("the authorities in", ca)? {
                roots.add(certificate).map_err(|fault| unusable(&fault))?;
            }
            WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
                .build()
                .map_err(|fault| unusable(&fault))?
        }
        (None, None) => return Err(TlsFault::NoTrust),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|fault| unusable(&fault))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates("our certificate", certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|fault| file_fault("our key", key, &fault))?;
            builder.with_client_auth_cert(chain, key).map_err(|fault| unusable(&fault))
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err(TlsFault::HalfIdentity),
    }
}

/// What can be said about `tls` without connecting.
///
/// # Errors
/// [`TlsFault`].
pub fn check(tls: &Tls) -> Result<(), TlsFault> {
    client_config(tls).map(|_| ())
}

fn certificates(what: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let read = CertificateDer::pem_file_iter(file).map_err(|fault| file_fault(what, file, &fault))?;
    let certificates = read.collect::<Result<Vec<_>, _>>().map_err(|fault| file_fault(what, file, &fault))?;
    if certificates.is_empty() {
        return Err(file_fault(what, file, &"holds no certificate in PEM form"));
    }
    Ok(certificates)
}

fn file_fault(what: &'static str, file: &Path, reason: &dyn std::fmt::Display) -> TlsFault {
    TlsFault::File { what, file: file.to_owned(), reason: reason.to_string() }
}

fn fingerprint(pin: &str) -> Result<[u8; 32], TlsFault> {
    // `openssl x509 -fingerprint -sha256` writes colons.
    let digits: String = pin.chars().filter(|character| *character != ':').collect();
    hex::decode(digits).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(TlsFault::Pin)
}

/// Accepts exactly one certificate, whoever signed it and whatever names and dates it carries: devices often make their
/// own and never renew it. That the server holds the key of it is checked as always.
#[derive(Debug)]
struct Pinned {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if sha256(certificate) == self.fingerprint {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_said_before_connecting() {
        let tls = |ca: Option<&str>, pin: Option<&str>, certificate: Option<&str>| Tls {
            ca: ca.map(PathBuf::from),
            pin: pin.map(str::to_owned),
            certificate: certificate.map(PathBuf::from),
            key: None,
        };
        let pin = "aB:".repeat(31) + "ff";
        assert_eq!(check(&tls(None, None, None)), Err(TlsFault::NoTrust));
        assert_eq!(check(&tls(None, Some("ab:cd"), None)), Err(TlsFault::Pin));
        assert_eq!(check(&tls(None, Some(&pin), None)), Ok(()));
        assert_eq!(check(&tls(None, Some(&pin), Some("x.pem"))), Err(TlsFault::HalfIdentity));
        assert!(matches!(check(&tls(Some("/nowhere/ca.pem"), None, None)), Err(TlsFault::File { .. })));
    }
}
