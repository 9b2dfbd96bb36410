//! Files that are written once, or replaced whole.

use crate::CaFault;
use base64ct::{Base64, Encoding};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use tally_tls::{CertificateFacts, certificates};

/// Writes a new file with this mode, synced.
///
/// # Errors
/// [`CaFault::Exists`], [`CaFault::Io`].
pub fn write_new(file: &Path, mode: u32, text: &str) -> Result<(), CaFault> {
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => CaFault::Exists(file.to_owned()),
        _ => CaFault::Io { file: file.to_owned(), source },
    };
    let mut handle = OpenOptions::new().write(true).create_new(true).mode(mode).open(file).map_err(io)?;
    handle.write_all(text.as_bytes()).and_then(|()| handle.sync_all()).map_err(io)
}

/// Replaces a file whole: who reads sees the old one or the new one.
///
/// # Errors
/// [`CaFault::Io`].
pub fn replace(file: &Path, mode: u32, text: &str) -> Result<(), CaFault> {
    let beside = file.with_extension("new");
    let io = |source| CaFault::Io { file: beside.clone(), source };
    if beside.exists() {
        std::fs::remove_file(&beside).map_err(io)?;
    }
    write_new(&beside, mode, text)?;
    std::fs::rename(&beside, file).map_err(|source| CaFault::Io { file: file.to_owned(), source })
}

pub(crate) fn read(file: &Path) -> Result<String, CaFault> {
    std::fs::read_to_string(file).map_err(|source| CaFault::Io { file: file.to_owned(), source })
}

/// PEM (RFC 7468) of DER.
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> String {
    let digits = Base64::encode_string(der);
    let lines = digits.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned());
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.collect::<Vec<_>>().join("\n"))
}

/// DER of a request that is DER, PEM, or base64 in lines or not (RFC 8951 §3.1).
///
/// # Errors
/// [`CaFault::Request`].
pub fn request_bytes(bytes: &[u8]) -> Result<Vec<u8>, CaFault> {
    // A SEQUENCE: no base64 begins with this byte and a length.
    if bytes.first() == Some(&0x30) && bytes.get(1).is_some_and(|length| *length >= 0x80) {
        return Ok(bytes.to_vec());
    }
    let fault = || CaFault::Request("it is neither DER, PEM nor base64".to_owned());
    let text = std::str::from_utf8(bytes).map_err(|_| fault())?;
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
    let digits: String = lines.flat_map(|line| line.chars().filter(|c| !c.is_whitespace())).collect();
    Base64::decode_vec(&digits).map_err(|_| fault())
}

/// The names in a certificate file.
///
/// # Errors
/// [`CaFault`].
pub fn names_of(file: &Path) -> Result<Vec<String>, CaFault> {
    let der = certificates("the certificate", file)?;
    Ok(CertificateFacts::of(&der[0]).map_err(|fault| CaFault::Answer(fault.to_string()))?.names)
}
