//! Our side when we connect.

use crate::files::{TlsFault, certificates, identity, read_key, unusable};
use crate::pinned::Pinned;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use tally_model::Tls;

/// What the settings say, as the library wants it. Reads their files.
///
/// # Errors
/// [`TlsFault`].
pub fn client_config(tls: &Tls) -> Result<ClientConfig, TlsFault> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match (&tls.pin, &tls.ca) {
        (Some(pin), _) => Arc::new(Pinned::try_new(pin, provider.clone())?),
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
            let identity = identity(chain, &*read_key(key)?).map_err(|fault| unusable(&fault))?;
            Ok(builder.with_client_cert_resolver(identity))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

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
