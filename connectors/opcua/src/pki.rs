//! The certificates of the `pki` directory, for people: listed, approved, rejected. A running agent reads the directory
//! at every connect, so nothing needs a restart.

use crate::config::OWN_CERTIFICATE;
use crate::issuers::Register;
use opcua::crypto::{CertificateStore, X509};
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tally_model::Timestamp;

/// Certificates read from one list; a directory with more was filled by somebody else.
const FILES_MAX: usize = 1_000;

/// Largest file that is looked at: a certificate has 1 to 4 KiB.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Shortest piece of a fingerprint that names a certificate.
const PIECE_MIN: usize = 4;

/// Where a certificate lies, which says what we think of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustList {
    /// Ours.
    Own,
    /// Servers we trust, each by itself.
    Trusted,
    /// Authorities whose servers we trust.
    Issuers,
    /// Servers we met and do not trust.
    Rejected,
}

impl TrustList {
    /// All lists, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Own, Self::Trusted, Self::Issuers, Self::Rejected];

    /// The directory's name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Trusted => "trusted",
            Self::Issuers => "issuers",
            Self::Rejected => "rejected",
        }
    }
}

impl fmt::Display for TrustList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One certificate of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCertificate {
    /// What we think of it.
    pub list: TrustList,
    /// Its file.
    pub file: PathBuf,
    /// SHA-1 over its DER form, 40 lower-case hexadecimal digits: the thumbprint most servers show (OPC UA Part 6
    /// §6.2.3).
    pub sha1: String,
    /// SHA-256 over the same bytes, 64 digits.
    pub sha256: String,
    /// Whose it is, as a distinguished name.
    pub subject: String,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
}

/// What cannot be done with a trust list.
#[derive(Debug, thiserror::Error)]
pub enum PkiFault {
    /// The directory or a file in it cannot be read or changed.
    #[error("`{path}`: {source}; check owner and mode")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing in the list answers to the name.
    #[error("no certificate in `{list}` answers to `{found}`; there are: {there}")]
    Unknown {
        /// Which list was searched.
        list: TrustList,
        /// What was asked for.
        found: String,
        /// What is in the list.
        there: String,
    },
    /// More than one certificate answers to the name.
    #[error("`{found}` names {count} certificates of `{list}`; write more of the fingerprint")]
    Ambiguous {
        /// Which list was searched.
        list: TrustList,
        /// What was asked for.
        found: String,
        /// How many answer.
        count: usize,
    },
}

/// Every certificate of the directory, list by list, in file order. Files that are no certificates are passed over with
/// a log line.
///
/// # Errors
/// [`PkiFault::Io`] when the directory is there and cannot be read; a directory that is not there is empty.
pub fn list(pki: &Path) -> Result<Vec<KnownCertificate>, PkiFault> {
    let mut known = Vec::new();
    for list in TrustList::ALL {
        known.extend(read_list(pki, list)?);
    }
    Ok(known)
}

/// Moves a rejected certificate among the trusted ones. `name` is the beginning of a fingerprint (at least four digits;
/// colons and case do not matter) or the file name.
///
/// # Errors
/// [`PkiFault`] when none or several answer to `name`, or the file cannot be moved.
pub fn approve(pki: &Path, name: &str) -> Result<KnownCertificate, PkiFault> {
    transfer(pki, name, TrustList::Rejected, TrustList::Trusted)
}

/// Moves a trusted certificate among the rejected ones; its server is not connected to any more.
///
/// # Errors
/// As [`approve`].
pub fn reject(pki: &Path, name: &str) -> Result<KnownCertificate, PkiFault> {
    transfer(pki, name, TrustList::Trusted, TrustList::Rejected)
}

fn transfer(pki: &Path, name: &str, from: TrustList, to: TrustList) -> Result<KnownCertificate, PkiFault> {
    let known = read_list(pki, from)?;
    let wanted = plain_hex(name);
    let answers = |certificate: &&KnownCertificate| {
        let file = certificate.file.file_name().and_then(|file| file.to_str());
        let by_print = wanted.len() >= PIECE_MIN
            && (certificate.sha1.starts_with(&wanted) || certificate.sha256.starts_with(&wanted));
        by_print || file == Some(name)
    };
    let found: Vec<_> = known.iter().filter(answers).collect();
    let mut certificate = match found.as_slice() {
        [one] => (*one).clone(),
        [] => return Err(unknown(from, name, &known)),
        // The same certificate under two file names is one certificate.
        [first, rest @ ..] if rest.iter().all(|other| other.sha256 == first.sha256) => (*first).clone(),
        many => return Err(PkiFault::Ambiguous { list: from, found: name.to_owned(), count: many.len() }),
    };
    let directory = pki.join(to.word());
    let io_fault = |path: &Path| {
        let path = path.to_owned();
        move |source| PkiFault::Io { path, source }
    };
    fs::create_dir_all(&directory).map_err(io_fault(&directory))?;
    let target = directory.join(certificate.file.file_name().unwrap_or_default());
    fs::rename(&certificate.file, &target).map_err(io_fault(&certificate.file))?;
    for twin in known.iter().filter(|twin| twin.sha256 == certificate.sha256 && twin.file != certificate.file) {
        fs::remove_file(&twin.file).map_err(io_fault(&twin.file))?;
    }
    let (register, name) = (Register::of(pki), target.file_name().and_then(|name| name.to_str()).unwrap_or_default());
    let noted = if to == TrustList::Rejected { register.withdraw(name) } else { register.restore(name) };
    noted.map_err(io_fault(&target))?;
    (certificate.list, certificate.file) = (to, target);
    Ok(certificate)
}

fn unknown(list: TrustList, found: &str, known: &[KnownCertificate]) -> PkiFault {
    let there: Vec<_> = known.iter().map(|known| format!("{:.12} ({})", known.sha1, known.subject)).collect();
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    PkiFault::Unknown { list, found: found.to_owned(), there }
}

/// Lower-case digits without the colons and spaces people copy along; empty when it is no fingerprint.
fn plain_hex(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).map(|c| c.to_ascii_lowercase()).collect();
    if plain.chars().all(|c| c.is_ascii_hexdigit()) { plain } else { String::new() }
}

fn read_list(pki: &Path, list: TrustList) -> Result<Vec<KnownCertificate>, PkiFault> {
    // Own has one certificate under a fixed name, and the key beside it is nobody's business here.
    if list == TrustList::Own {
        return Ok(read(&pki.join(OWN_CERTIFICATE), list).into_iter().collect());
    }
    let directory = pki.join(list.word());
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(PkiFault::Io { path: directory, source }),
    };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files.truncate(FILES_MAX);
    Ok(files.iter().filter_map(|file| read(file, list)).collect())
}

fn read(file: &Path, list: TrustList) -> Option<KnownCertificate> {
    if !file.exists() {
        return None;
    }
    let known = certificate_of(file).and_then(|certificate| describe(&certificate, file, list));
    if known.is_none() {
        tracing::warn!(file = %file.display(), "no certificate in DER or PEM form; passed over");
    }
    known
}

/// The certificate in a file, if it is one.
pub(crate) fn certificate_of(file: &Path) -> Option<X509> {
    if fs::metadata(file).ok()?.len() > FILE_BYTES_MAX {
        return None;
    }
    CertificateStore::read_cert(file).ok()
}

fn describe(certificate: &X509, file: &Path, list: TrustList) -> Option<KnownCertificate> {
    let der = certificate.to_der().ok()?;
    let micros = |time: Option<i64>| time.map(Timestamp::from_micros);
    Some(KnownCertificate {
        list,
        file: file.to_owned(),
        sha1: certificate.thumbprint().as_hex_string(),
        sha256: Sha256::digest(&der).iter().map(|byte| format!("{byte:02x}")).collect(),
        subject: certificate.subject_name(),
        not_before: micros(certificate.not_before().ok().map(|time| time.timestamp_micros()))?,
        not_after: micros(certificate.not_after().ok().map(|time| time.timestamp_micros()))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Settings, trust};
    use proptest::prelude::*;

    /// A directory with an own certificate, which also plays a server in `rejected`.
    fn pki() -> (tempfile::TempDir, KnownCertificate) {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            pki: directory.path().to_owned(),
            application_name: "Tally test".into(),
            application_uri: "urn:tallystick:test".into(),
            trust_any: false,
        };
        trust::ensure_own(&settings).unwrap();
        fs::copy(directory.path().join(OWN_CERTIFICATE), directory.path().join("rejected/plc.der")).unwrap();
        let known = list(directory.path()).unwrap().into_iter().find(|known| known.list == TrustList::Rejected);
        (directory, known.unwrap())
    }

    #[test]
    fn certificates_move_between_the_lists_by_fingerprint_or_file_name() {
        let (directory, known) = pki();
        assert!(known.subject.contains("Tally test"), "{known:?}");
        assert_eq!((known.sha1.len(), known.sha256.len()), (40, 64));
        assert!(known.not_before < known.not_after);
        let colons = known.sha1[..8].to_uppercase();
        let approved = approve(directory.path(), &format!("{}:{}", &colons[..4], &colons[4..])).unwrap();
        assert_eq!(approved.file, directory.path().join("trusted/plc.der"));
        assert!(approved.file.exists() && !known.file.exists());
        let text = approve(directory.path(), &known.sha256).unwrap_err().to_string();
        assert!(text.contains("`rejected`") && text.contains("none"), "{text}");
        assert_eq!(reject(directory.path(), "plc.der").unwrap().list, TrustList::Rejected);
        let text = reject(directory.path(), "zz").unwrap_err().to_string();
        assert!(text.contains("`zz`"), "{text}");
    }

    #[test]
    fn twins_move_together_and_junk_is_passed_over() {
        let (directory, known) = pki();
        fs::copy(&known.file, directory.path().join("rejected/again.der")).unwrap();
        fs::write(directory.path().join("rejected/readme.txt"), "hello").unwrap();
        let approved = approve(directory.path(), &known.sha256[..10]).unwrap();
        assert!(approved.file.exists());
        let left = list(directory.path()).unwrap().into_iter().filter(|known| known.list == TrustList::Rejected);
        assert_eq!(left.count(), 0);
        assert!(list(&directory.path().join("nowhere")).unwrap().is_empty());
    }

    proptest! {
        /// Whatever bytes lie in the directory: no panic, and never a certificate out of junk.
        #[test]
        fn any_file_is_read_or_passed_over(bytes: Vec<u8>) {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir_all(directory.path().join("rejected")).unwrap();
            fs::write(directory.path().join("rejected/x.der"), &bytes).unwrap();
            prop_assert!(list(directory.path()).unwrap().is_empty());
        }
    }
}
