//! Our side when we connect.

use crate::files::{TlsFault, certificates, identity, private_key, unusable};
use crate::pinned::Pinned;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use tally_model::Tls;

/// What the settings say, as the library wants it. Reads their files; a key that others may read is refused, as everywhere.
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
            let identity = identity(chain, &*private_key(key)?).map_err(|fault| unusable(&fault))?;
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
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
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

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let own = rcgen::generate_simple_self_signed(["agent".to_owned()]).unwrap();
        let (certificate, key) = (dir.path().join("agent.pem"), dir.path().join("agent.key"));
        std::fs::write(&certificate, own.cert.pem()).unwrap();
        std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
        let tls = Tls {
            pin: Some("ab".repeat(32)),
            certificate: Some(certificate),
            key: Some(key.clone()),
            ..Tls::default()
        };
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
            let fault = check(&tls).unwrap_err();
            assert_eq!(fault, TlsFault::KeyMode(tally_secrets::OpenToOthers { file: key.clone(), mode }));
            let text = fault.to_string();
            assert!(text.contains(&format!("{mode:04o}")) && text.contains("`chmod 600 "), "{text}");
        }
        std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(check(&tls), Ok(()));
    }
}
