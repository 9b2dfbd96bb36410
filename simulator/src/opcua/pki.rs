//! Certificate and key of a simulated server: made once per directory, removed with a temporary one.

use crate::SimError;
use opcua::crypto::{CertificateStore, X509Data};
use std::fs::Permissions;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Relative to the directory.
pub(crate) const CERTIFICATE: &str = "own/cert.der";
pub(crate) const KEY: &str = "own/private.pem";

/// The directory a server keeps its certificates in.
pub(crate) struct Pki {
    directory: PathBuf,
    temporary: bool,
}

impl Pki {
    /// Uses `given`, or makes a temporary directory; makes certificate and key when they are missing.
    pub(crate) async fn prepare(given: Option<&Path>, device: &str) -> Result<Self, SimError> {
        let pki = match given {
            Some(directory) => Self { directory: directory.to_owned(), temporary: false },
            None => Self { directory: temporary_directory(device)?, temporary: true },
        };
        let (certificate, key) = (pki.directory.join(CERTIFICATE), pki.directory.join(KEY));
        if !certificate.exists() || !key.exists() {
            let data = certificate_data(device);
            // Making an RSA key takes a good part of a second: not on a thread that serves others.
            let made = tokio::task::spawn_blocking(move || {
                CertificateStore::create_certificate_and_key(&data, true, &certificate, &key).map(drop)
            });
            made.await.map_err(|fault| SimError::OpcUa(fault.to_string()))?.map_err(SimError::OpcUa)?;
            // The library writes it readable for all, and reads it itself.
            let closed = std::fs::set_permissions(pki.directory.join(KEY), Permissions::from_mode(0o600));
            closed.map_err(|fault| SimError::OpcUa(format!("{}: {fault}", pki.directory.join(KEY).display())))?;
        }
        tally_secrets::judge(&pki.directory.join(KEY)).map_err(|open| SimError::OpcUa(open.to_string()))?;
        Ok(pki)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        if self.temporary
            && let Err(fault) = std::fs::remove_dir_all(&self.directory)
        {
            tracing::debug!(directory = %self.directory.display(), %fault, "a temporary directory stays behind");
        }
    }
}

/// The application URI of a simulated device; it stands in its certificate.
pub(crate) fn application_uri(device: &str) -> String {
    format!("urn:tallystick:simulator:{device}")
}

/// A new directory of our own; the first free number is taken.
fn temporary_directory(device: &str) -> Result<PathBuf, SimError> {
    let mut number = 0_u32;
    loop {
        let name = format!("tallystick-sim-{device}-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        match std::fs::DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => return Ok(directory),
            Err(fault) if fault.kind() == std::io::ErrorKind::AlreadyExists && number < u32::MAX => number += 1,
            Err(fault) => return Err(SimError::OpcUa(format!("{} cannot be made: {fault}", directory.display()))),
        }
    }
}

fn certificate_data(device: &str) -> X509Data {
    X509Data {
        key_size: 2_048,
        common_name: format!("Tallystick simulator {device}"),
        organization: "Tallystick".to_owned(),
        organizational_unit: String::new(),
        country: String::new(),
        state: String::new(),
        alt_host_names: X509Data::alt_host_names(&application_uri(device), None, true, true, false),
        certificate_duration_days: 3_650,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn its_key_is_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join(KEY);
        Pki::prepare(Some(folder.path()), "cnc").await.unwrap();
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
        let fault = Pki::prepare(Some(folder.path()), "cnc").await.err().unwrap().to_string();
        assert!(fault.contains("mode 0640") && fault.contains("chmod 600"), "{fault}");
    }
}
