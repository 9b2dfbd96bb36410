//! Whom we trust, and who we are: the `pki` directory.
//!
//! ```text
//! own/cert.der        our certificate, made once, valid 20 years; give it to servers that want to know us
//! own/private.pem     its key, mode 0600
//! rejected/*.der      servers we met and do not trust; written by us, at most 100 files
//! trusted/*.der|pem   servers we trust; written by the operator (and by us with `trust_any`, or on an authority's word)
//! issuers/            authorities whose servers we trust, see [`crate::issuers`]
//! ```
//!
//! A server is trusted when its very certificate lies in `trusted`, under any file name, or when an authority vouches for
//! it. Host names are not compared, and an expired certificate in `trusted` is only complained about, because the operator
//! vouched for exactly this one (both checks may be suppressed, OPC UA Part 4 §6.1.3); the application URI must match, which
//! may not be suppressed.

use crate::Settings;
use crate::config::{OWN_CERTIFICATE, OWN_KEY};
use crate::issuers::{NotVouched, Register};
use crate::pki::TrustList;
use opcua::crypto::{CertificateStore, X509, X509Data};
use opcua::types::EndpointDescription;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tally_connector_api::LinkFault;
use zeroize::Zeroizing;

/// A server that shows a new certificate at every connect must not fill the disk.
const REJECTED_FILES_MAX: usize = 100;

/// A certificate nobody renews by hand in a plant; the key is guarded by its file mode and by the servers' trust lists.
const OWN_VALID_DAYS: u32 = 20 * 365;

/// Enough for Basic256Sha256 and both AES policies (2048 to 4096 bits, Part 7), and quick on small boxes.
const OWN_KEY_BITS: u32 = 2_048;

/// Several links start together and share one directory: the first makes the key, the others wait.
static OWN_FILES: Mutex<()> = Mutex::new(());

/// Makes the directories, certificate and key that are missing. An existing pair is never replaced.
pub(crate) fn ensure_own(settings: &Settings) -> Result<(), LinkFault> {
    let _one_at_a_time = OWN_FILES.lock().unwrap_or_else(PoisonError::into_inner);
    let (certificate, key) = (settings.pki.join(OWN_CERTIFICATE), settings.pki.join(OWN_KEY));
    for directory in TrustList::ALL.map(TrustList::word) {
        fs::create_dir_all(settings.pki.join(directory)).map_err(|fault| unusable(&settings.pki, &fault))?;
    }
    match (certificate.exists(), key.exists()) {
        // The library reads it itself, at every connect.
        (true, true) => tally_secrets::judge(&key).map_err(|open| LinkFault::Refused(open.to_string())),
        (false, false) => make_own(settings, &certificate, &key),
        _ => Err(LinkFault::Refused(format!(
            "{} and {} belong together, but one of them is missing; restore it, or remove the other to get a new pair \
             (servers must then trust us anew)",
            certificate.display(),
            key.display()
        ))),
    }
}

fn make_own(settings: &Settings, certificate: &Path, key: &Path) -> Result<(), LinkFault> {
    // The library writes the key readable for all and with CR line ends: in a private directory first, then properly.
    let staging = settings.pki.join("own/.new");
    let io_fault = |fault: io::Error| unusable(&settings.pki, &fault);
    private_directory(&staging).map_err(io_fault)?;
    let (new_certificate, new_key) = (staging.join("cert.der"), staging.join("private.pem"));
    CertificateStore::create_certificate_and_key(&own_data(settings), true, &new_certificate, &new_key)
        .map_err(|fault| LinkFault::Refused(format!("our certificate cannot be made: {fault}")))?;
    let pem = fs::File::open(&new_key).and_then(|mut file| tally_secrets::text(&mut file)).map_err(io_fault)?;
    write_private(key, Zeroizing::new(pem.replace('\r', "\n")).as_bytes()).map_err(io_fault)?;
    // Last: a crash before leaves no certificate beside the key, which `ensure_own` names.
    fs::rename(&new_certificate, certificate).map_err(io_fault)?;
    fs::remove_dir_all(&staging).map_err(io_fault)?;
    tracing::info!(certificate = %certificate.display(), "made the agent's OPC UA certificate");
    Ok(())
}

/// Part 6 §6.2.2: the application URI and the host stand in the subject's alternative names.
fn own_data(settings: &Settings) -> X509Data {
    // These end up in a distinguished name, which the library puts together as text.
    let name: String = settings.application_name.chars().filter(|c| !",+=\"\\<>;/#\0".contains(*c)).collect();
    X509Data {
        key_size: OWN_KEY_BITS,
        common_name: name,
        organization: "Tallystick".to_owned(),
        organizational_unit: String::new(),
        country: String::new(),
        state: String::new(),
        alt_host_names: X509Data::alt_host_names(&settings.application_uri, None, false, true, false),
        certificate_duration_days: OWN_VALID_DAYS,
    }
}

/// Decides whether the server behind `endpoint` is who the operator trusts.
pub(crate) fn judge(settings: &Settings, endpoint: &EndpointDescription) -> Result<(), LinkFault> {
    let certificate = X509::from_byte_string(&endpoint.server_certificate).map_err(|fault| {
        LinkFault::Nonsense(format!(
            "the server's certificate cannot be read: {fault}; it must send exactly its own one (a chain with its \
             issuers is not supported)"
        ))
    })?;
    let uri = endpoint.server.application_uri.as_ref();
    certificate.is_application_uri_valid(uri).map_err(|fault| {
        LinkFault::Untrusted(format!("it says to be `{uri}`, its certificate says otherwise ({fault})"))
    })?;
    let name = CertificateStore::cert_file_name(&certificate);
    let der =
        certificate.to_der().map_err(|_| LinkFault::Nonsense("the server's certificate has no DER form".into()))?;
    let (trusted, rejected) = (settings.pki.join("trusted").join(&name), settings.pki.join("rejected").join(&name));
    let pki_fault = |fault: io::Error| unusable(&settings.pki, &fault);
    let register = Register::of(&settings.pki);
    if settings.trust_any || is_trusted(&trusted, &der, register.is_issued(&name)) {
        return accept(&rejected, &trusted, &der).map_err(pki_fault);
    }
    match register.vouch(&name, &der, since_1970()) {
        Ok(()) => {
            register.take(&name, &der).map_err(pki_fault)?;
            accept(&rejected, &trusted, &der).map_err(pki_fault)
        }
        Err(why) => {
            if register.is_issued(&name) {
                // The library believes what lies there: an authority's word that is gone must be gone there, too.
                fs::remove_file(&trusted)
                    .or_else(|fault| if trusted.exists() { Err(fault) } else { Ok(()) })
                    .map_err(pki_fault)?;
                register.drop(&name).map_err(pki_fault)?;
            }
            Err(reject(&rejected, &trusted, &der, &certificate.thumbprint().as_hex_string(), &why))
        }
    }
}

/// Whether the operator put this very certificate among the trusted ones. Read at every connect, so that nobody need
/// restart anything. The file that we wrote ourselves on an authority's word does not count.
fn is_trusted(ours: &Path, der: &[u8], is_issued: bool) -> bool {
    let files = ours.parent().and_then(|directory| fs::read_dir(directory).ok()).into_iter().flatten().flatten();
    let files = files.map(|file| file.path()).filter(|file| !(is_issued && file == ours));
    files.filter_map(|file| CertificateStore::read_cert(&file).ok()?.to_der().ok()).any(|known| known == der)
}

/// The wall clock, as certificates mean it.
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Keeps the certificate for the operator, and says what he can do.
fn reject(rejected: &Path, trusted: &Path, der: &[u8], thumbprint: &str, why: &NotVouched) -> LinkFault {
    let directory = rejected.parent().unwrap_or(rejected);
    let known = fs::read_dir(directory).map_or(0, Iterator::count);
    let text = if !rejected.exists() && known >= REJECTED_FILES_MAX {
        format!("{known} certificates wait in `{}` already; sort them first", directory.display())
    } else if let Err(fault) = fs::write(rejected, der) {
        format!("and it cannot be kept for you in `{}`: {fault}", rejected.display())
    } else {
        format!(
            "if its thumbprint {thumbprint} is the one the server shows: `tally trust approve {thumbprint:.12}`, or move it \
             yourself: mv '{}' '{}'; the link then comes up by itself",
            rejected.display(),
            trusted.display()
        )
    };
    // A plant without authorities need not hear of them.
    let text = if *why == NotVouched::Nobody { text } else { format!("{why}; {text}") };
    LinkFault::Untrusted(text)
}

/// The library looks in `rejected` first and knows only its own file names: makes both right for a certificate the
/// operator copied instead of moved, or renamed.
fn accept(rejected: &Path, trusted: &Path, der: &[u8]) -> io::Result<()> {
    if !trusted.exists() {
        fs::write(trusted, der)?;
    }
    match fs::remove_file(rejected) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => Err(fault),
        _ => Ok(()),
    }
}

fn unusable(pki: &Path, fault: &io::Error) -> LinkFault {
    LinkFault::Refused(format!("the pki directory `{}` cannot be used: {fault}; check owner and mode", pki.display()))
}

fn private_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Written beside and renamed: a reader sees no half key, and nobody else sees any.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside: PathBuf = path.with_extension("tmp");
    tally_secrets::write(&beside, bytes)?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests;
