//! Authorities: servers trusted because somebody in `pki/issuers` signed their certificate (X.509 paths by webpki, RFC 5280).
//!
//! ```text
//! issuers/*.der|pem     authorities, put there by the operator
//! issuers/*.crl         their revocation lists, DER or PEM; an old list still revokes what it names
//! issuers/.issued/      servers taken on an authority's word: when it goes, they go
//! issuers/.withdrawn/   such servers that the operator does not want all the same (`tally trust reject`)
//! ```
//!
//! An authority's word is weaker than the operator's own (a certificate put into `trusted`): the certificate must be valid
//! today, made for servers and not for authorities, and on no revocation list.

use crate::pki::certificate_of;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use webpki::{
    CertRevocationList, EndEntityCert, Error, ExpirationPolicy, KeyUsage, OwnedCertRevocationList, RevocationOptions,
    RevocationOptionsBuilder, UnknownStatusPolicy, anchor_from_trusted_cert,
};

/// Authorities and lists that are read; a directory with more was filled by somebody else.
const FILES_MAX: usize = 100;
/// Largest revocation list in bytes.
const LIST_BYTES_MAX: u64 = 4 << 20;

/// Why no authority vouches for a certificate.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotVouched {
    #[error("there is no authority in `issuers`")]
    Nobody,
    #[error("no authority in `issuers` signed it")]
    Unknown,
    #[error("you took it back (`tally trust approve` takes it in again)")]
    Withdrawn,
    #[error("its authority's word does not count: {0}")]
    Invalid(String),
}

/// Where the word of authorities about single servers is remembered, by the file name that the library gives a certificate.
pub(crate) struct Register(PathBuf);

impl Register {
    pub(crate) fn of(pki: &Path) -> Self {
        Self(pki.join("issuers"))
    }

    /// Whether it was taken on an authority's word.
    pub(crate) fn is_issued(&self, name: &str) -> bool {
        self.0.join(".issued").join(name).exists()
    }

    /// It is taken now.
    pub(crate) fn take(&self, name: &str, der: &[u8]) -> io::Result<()> {
        put(&self.0.join(".issued"), name, der)
    }

    /// It is not any more.
    pub(crate) fn drop(&self, name: &str) -> io::Result<()> {
        remove(&self.0.join(".issued").join(name))
    }

    /// The operator does not want it, whoever vouches for it; of no effect on one that was not taken on somebody's word.
    pub(crate) fn withdraw(&self, name: &str) -> io::Result<()> {
        if !self.is_issued(name) {
            return Ok(());
        }
        put(&self.0.join(".withdrawn"), name, &[])?;
        self.drop(name)
    }

    /// The operator wants it himself.
    pub(crate) fn restore(&self, name: &str) -> io::Result<()> {
        remove(&self.0.join(".withdrawn").join(name))
    }

    /// Whether an authority vouches for the certificate at `now` (since 1970).
    pub(crate) fn vouch(&self, name: &str, der: &[u8], now: Duration) -> Result<(), NotVouched> {
        let authorities = self.authorities();
        if authorities.is_empty() {
            return Err(NotVouched::Nobody);
        }
        if self.0.join(".withdrawn").join(name).exists() {
            return Err(NotVouched::Withdrawn);
        }
        verify(der, &authorities, &self.revocation_lists(), now).map_err(|fault| match fault {
            Error::UnknownIssuer => NotVouched::Unknown,
            other => NotVouched::Invalid(format!("{other:?}")),
        })
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        files.sort();
        files.truncate(FILES_MAX);
        files
    }

    fn authorities(&self) -> Vec<CertificateDer<'static>> {
        let certificates = self.files().into_iter().filter(|file| !is_list(file));
        certificates.filter_map(|file| certificate_of(&file)?.to_der().ok()).map(CertificateDer::from).collect()
    }

    fn revocation_lists(&self) -> Vec<CertRevocationList<'static>> {
        self.files().iter().filter(|file| is_list(file)).filter_map(|file| read_list(file)).collect()
    }
}

fn is_list(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("crl"))
}

fn read_list(file: &Path) -> Option<CertRevocationList<'static>> {
    let read = || {
        if fs::metadata(file).ok()?.len() > LIST_BYTES_MAX {
            return None;
        }
        let bytes = fs::read(file).ok()?;
        let der = CertificateRevocationListDer::from_pem_slice(&bytes).map_or(bytes, |list| list.as_ref().to_vec());
        OwnedCertRevocationList::from_der(&der).ok()
    };
    let list = read();
    if list.is_none() {
        tracing::warn!(file = %file.display(), "no revocation list in DER or PEM form, or too large; it revokes nothing");
    }
    list.map(CertRevocationList::from)
}

fn verify(
    der: &[u8],
    authorities: &[CertificateDer<'_>],
    lists: &[CertRevocationList<'_>],
    now: Duration,
) -> Result<(), Error> {
    let certificate = CertificateDer::from(der);
    let certificate = EndEntityCert::try_from(&certificate)?;
    let anchors: Vec<_> = authorities.iter().filter_map(|der| anchor_from_trusted_cert(der).ok()).collect();
    let lists: Vec<_> = lists.iter().collect();
    let (algorithms, usage) = (webpki::ALL_VERIFICATION_ALGS, KeyUsage::server_auth());
    let time = UnixTime::since_unix_epoch(now);
    certificate.verify_for_usage(algorithms, &anchors, &[], time, usage, revocation(&lists), None).map(drop)
}

/// Lists are brought to a plant by hand: one that is out of date is better than none, and an authority without one counts.
fn revocation<'a>(lists: &'a [&'a CertRevocationList<'a>]) -> Option<RevocationOptions<'a>> {
    let options = RevocationOptionsBuilder::new(lists).ok()?;
    let options =
        options.with_status_policy(UnknownStatusPolicy::Allow).with_expiration_policy(ExpirationPolicy::Ignore);
    Some(options.build())
}

fn put(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join(name), bytes)
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => Err(fault),
        _ => Ok(()),
    }
}
