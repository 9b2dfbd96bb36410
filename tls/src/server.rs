//! Our side when others connect.

use crate::files::{TlsFault, certificates, file_fault, identity, private_key, unusable};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use std::path::PathBuf;
use std::sync::Arc;

/// The files of a server's TLS; PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// Our certificate, with its chain.
    pub certificate: PathBuf,
    /// Its key; refused when group or others may read it.
    pub key: PathBuf,
    /// Authorities whose clients are let in; `None`: clients show no certificate and must be known otherwise.
    pub client_ca: Option<PathBuf>,
    /// Clients without a certificate are let in as well; they must be known otherwise.
    pub is_optional: bool,
    /// Revocation lists of the client authorities.
    pub crl: Option<PathBuf>,
}

impl ServerTls {
    /// Every file named, with what it is for.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let always = [("certificate", &self.certificate), ("key", &self.key)];
        let also = [("client_ca", &self.client_ca), ("crl", &self.crl)];
        always.into_iter().chain(also.into_iter().filter_map(|(what, file)| Some((what, file.as_ref()?))))
    }

    /// Those that end some day: what we show, and what we demand.
    pub fn certificates(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.certificate].into_iter().chain(&self.client_ca)
    }
}

/// What the settings say, as the library wants it: HTTP/1.1, TLS 1.2 and 1.3, no resumption. Reads the files.
///
/// A resumed session would skip the check of the client's certificate: one that expired or was revoked since would be let in.
///
/// # Errors
/// [`TlsFault`].
pub fn server_config(tls: &ServerTls) -> Result<ServerConfig, TlsFault> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = client_verifier(tls, &provider)?;
    let chain = certificates("our certificate", &tls.certificate)?;
    let identity = identity(chain, &*private_key(&tls.key)?);
    let identity = identity.map_err(|fault| file_fault("our certificate", &tls.certificate, &fault))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|fault| unusable(&fault))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client_verifier(tls: &ServerTls, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsFault> {
    let Some(ca) = &tls.client_ca else { return Ok(WebPkiClientVerifier::no_client_auth()) };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("the client authorities in", ca)? {
        roots.add(certificate).map_err(|fault| file_fault("the client authorities in", ca, &fault))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    if let Some(file) = &tls.crl {
        let fault = |fault: &dyn std::fmt::Display| file_fault("the revocation list", file, fault);
        let lists = CertificateRevocationListDer::pem_file_iter(file).map_err(|error| fault(&error))?;
        let lists = lists.collect::<Result<Vec<_>, _>>().map_err(|error| fault(&error))?;
        // An authority above ours may publish none; the leaf is what is revoked.
        builder = builder.with_crls(lists).only_check_end_entity_revocation();
    }
    if tls.is_optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|fault| unusable(&fault))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn write(file: &Path, text: &str, mode: u32) -> PathBuf {
        std::fs::write(file, text).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
        file.to_owned()
    }

    fn made(dir: &Path) -> ServerTls {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let own = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["node".to_owned()]).unwrap().signed_by(&own, &issuer).unwrap();
        ServerTls {
            certificate: write(&dir.join("node.pem"), &leaf.pem(), 0o644),
            key: write(&dir.join("node.key"), &own.serialize_pem(), 0o600),
            client_ca: Some(write(&dir.join("ca.pem"), &ca, 0o644)),
            is_optional: false,
            crl: None,
        }
    }

    #[test]
    fn good_files_make_a_configuration_that_resumes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let config = server_config(&made(dir.path())).unwrap();
        assert_eq!(config.send_tls13_tickets, 0);
        assert!(!config.session_storage.can_cache());
    }

    #[test]
    fn each_bad_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let good = made(dir.path());
        let refused = |change: &dyn Fn(&mut ServerTls)| {
            let mut tls = good.clone();
            change(&mut tls);
            server_config(&tls).unwrap_err().to_string()
        };
        let other = write(&dir.path().join("other.key"), &KeyPair::generate().unwrap().serialize_pem(), 0o600);
        let open = write(&dir.path().join("open.key"), &std::fs::read_to_string(&good.key).unwrap(), 0o640);
        let junk = write(&dir.path().join("junk.pem"), "no certificate", 0o644);
        let text = refused(&|tls| tls.key.clone_from(&other));
        assert!(text.contains("node.pem"), "a key of another certificate: {text}");
        assert!(refused(&|tls| tls.key.clone_from(&open)).contains("chmod 600"));
        assert!(refused(&|tls| tls.certificate.clone_from(&junk)).contains("holds no certificate"));
        assert!(refused(&|tls| tls.client_ca = Some(junk.clone())).contains("client authorities"));
        assert!(refused(&|tls| tls.client_ca = Some("gone.pem".into())).contains("gone.pem"));
        assert!(refused(&|tls| tls.crl = Some("gone.crl".into())).contains("gone.crl"));
        assert_eq!(good.files().count(), 3);
    }
}
