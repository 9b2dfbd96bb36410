//! Certificates of a simulated Modbus/TCP Security device (*MODBUS/TCP Security Protocol Specification V36* §8: both sides
//! have one). A little authority of its own signs the server's and one for its client.
//!
//! | file | what |
//! |---|---|
//! | `ca.pem`, `ca.key` | the authority |
//! | `server.pem`, `server.key` | the device, for the host it is served at |
//! | `client.pem`, `client.key` | for whoever reads it: `security: {ca: ca.pem, certificate: client.pem, key: client.key}` |
//!
//! They are made when authority, server's certificate or its key is missing, and used as they are otherwise.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tally_connector_api::tls::private_key;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// A folder of certificates.
pub(crate) struct Pki {
    folder: PathBuf,
    /// Removed with us.
    _temporary: Option<TempDir>,
}

impl Pki {
    /// Uses `given`, or a temporary folder, and makes what is missing; the server's certificate is for `host`.
    pub(super) fn prepare(given: Option<&Path>, host: &str) -> Result<Self, String> {
        let pki = match given {
            Some(folder) => Self { folder: folder.to_owned(), _temporary: None },
            None => {
                let folder = tempfile::Builder::new().prefix("tallystick-sim-").tempdir();
                let folder = folder.map_err(|fault| format!("no temporary folder for certificates: {fault}"))?;
                Self { folder: folder.path().to_owned(), _temporary: Some(folder) }
            }
        };
        fs::create_dir_all(&pki.folder).map_err(|fault| format!("{}: {fault}", pki.folder.display()))?;
        if !["ca.pem", "server.pem", "server.key"].iter().all(|name| pki.folder.join(name).exists()) {
            pki.make(host.trim_matches(['[', ']']))?;
        }
        Ok(pki)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn make(&self, host: &str) -> Result<(), String> {
        let failed = |fault: rcgen::Error| format!("certificates cannot be made: {fault}");
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "Tallystick simulator");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = authority.self_signed(&key).map_err(failed)?;
        self.write("ca", &certificate.pem(), &key)?;
        let issuer = Issuer::new(authority, key);
        for (name, subject) in [("server", host), ("client", "tallystick-agent")] {
            let key = KeyPair::generate().map_err(failed)?;
            let mut params = CertificateParams::new(vec![subject.to_owned()]).map_err(failed)?;
            params.distinguished_name.push(DnType::CommonName, subject);
            let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
            self.write(name, &certificate.pem(), &key)?;
        }
        Ok(())
    }

    fn write(&self, name: &str, certificate: &str, key: &KeyPair) -> Result<(), String> {
        let fault = |file: &Path, fault: std::io::Error| format!("{} cannot be written: {fault}", file.display());
        let file = self.folder.join(format!("{name}.pem"));
        fs::write(&file, certificate).map_err(|reason| fault(&file, reason))?;
        let file = self.folder.join(format!("{name}.key"));
        tally_secrets::write(&file, key.serialize_pem().as_bytes()).map_err(|reason| fault(&file, reason))
    }

    /// What greets clients: only those whose certificate the authority signed are let in.
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor, String> {
        let file = |name: &str| self.folder.join(name);
        let unusable = |what: &str, fault: &dyn std::fmt::Display| format!("{}: {fault}", file(what).display());
        let certificate =
            |name: &str| CertificateDer::from_pem_file(file(name)).map_err(|fault| unusable(name, &fault));
        let key = private_key(&file("server.key")).map_err(|fault| fault.to_string())?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate("ca.pem")?).map_err(|fault| unusable("ca.pem", &fault))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .build()
            .map_err(|fault| unusable("ca.pem", &fault))?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|fault| unusable("server.pem", &fault))?
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate("server.pem")?], key.clone_key())
            .map_err(|fault| unusable("server.pem", &fault))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn certificates_are_made_once_and_keys_are_secret() {
        let folder = tempfile::tempdir().unwrap();
        let given = folder.path().join("certificates");
        let read = |name: &str| fs::read(given.join(name)).unwrap();
        Pki::prepare(Some(&given), "127.0.0.1").unwrap().acceptor().unwrap();
        let before = (read("ca.pem"), read("server.pem"), read("client.key"));
        Pki::prepare(Some(&given), "127.0.0.1").unwrap().acceptor().unwrap();
        assert_eq!((read("ca.pem"), read("server.pem"), read("client.key")), before);
        for key in ["ca.key", "server.key", "client.key"] {
            assert_eq!(fs::metadata(given.join(key)).unwrap().permissions().mode() & 0o777, 0o600, "{key}");
        }
        fs::set_permissions(given.join("server.key"), fs::Permissions::from_mode(0o644)).unwrap();
        let fault = Pki::prepare(Some(&given), "127.0.0.1").unwrap().acceptor().err().unwrap();
        assert!(fault.contains("mode 0644") && fault.contains("chmod 600"), "{fault}");
        fs::set_permissions(given.join("server.key"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(given.join("server.key"), "no key").unwrap();
        let fault = Pki::prepare(Some(&given), "127.0.0.1").unwrap().acceptor().err().unwrap();
        assert!(fault.contains("server.key"), "{fault}");
        let temporary = Pki::prepare(None, "[::1]").unwrap();
        let place = temporary.folder().to_owned();
        assert!(place.join("ca.pem").exists());
        drop(temporary);
        assert!(!place.exists(), "temporary certificates go with their device");
    }
}
