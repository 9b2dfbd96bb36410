//! An authority: a folder.
//!
//! ```text
//! ca.key      its key, PKCS#8 PEM, P-256, mode 0600      ca.pem      its certificate
//! issued/     everything it issued, SERIAL.pem           invites.json codes for enrolment (digests)
//! server.pem, server.key     its own for `tally ca serve`
//! ```

use crate::files::{read, replace, write_new};
use crate::key::Key;
use crate::request::params;
use crate::{Asked, CaFault, Request};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, PublicKeyData,
    SerialNumber, date_time_ymd,
};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tally_tls::{CertificateFacts, certificates};
use x509_cert::der::{Decode, Encode};

/// Days of an authority's certificate.
pub const CA_DAYS: u32 = 3_650;
/// Days of a certificate it issues: a year, as audits come yearly.
pub const LEAF_DAYS: u32 = 365;
const DAY: u64 = 86_400;
/// A certificate begins that much before now: clocks in a plant differ.
const CLOCK_SLACK: u64 = 300;

/// A certificate that was issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate, PEM.
    pub pem: String,
    /// The same in DER.
    pub der: Vec<u8>,
    /// Its names.
    pub names: Vec<String>,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Last second in which it is valid, Unix time.
    pub ends: u64,
}

/// An open authority.
pub struct Authority {
    dir: PathBuf,
    pem: String,
    ends: u64,
    issuer: Issuer<'static, Key>,
}

impl Authority {
    /// Makes a new one in `dir`, which is made if need be (mode 0700). `now` is Unix time.
    ///
    /// # Errors
    /// [`CaFault::Exists`] when there is one already; nothing is changed then.
    pub fn init(dir: &Path, name: &str, days: u32, now: u64) -> Result<Self, CaFault> {
        let io = |source| CaFault::Io { file: dir.to_owned(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        std::fs::create_dir_all(dir.join("issued")).map_err(io)?;
        let key = Key::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        // No authority below this one: it signs what opens a door, nothing that signs.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_times(&mut params, now, now + u64::from(days) * DAY);
        params.serial_number = Some(serial()?);
        let certificate = params.self_signed(&key)?.pem();
        write_new(&dir.join("ca.key"), 0o600, &key.to_pem())?;
        write_new(&dir.join("ca.pem"), 0o644, &certificate)?;
        Self::open(dir)
    }

    /// Opens one that exists.
    ///
    /// # Errors
    /// [`CaFault`], also when others may read the key.
    pub fn open(dir: &Path) -> Result<Self, CaFault> {
        let (key_file, pem_file) = (dir.join("ca.key"), dir.join("ca.pem"));
        let key = Key::from_pem(&tally_secrets::read_text(&key_file).map_err(CaFault::secret(&key_file))?)?;
        let pem = read(&pem_file)?;
        let facts = certificates("the authority", &pem_file)?;
        let facts = CertificateFacts::of(&facts[0]).map_err(|fault| CaFault::Answer(fault.to_string()))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key)?;
        Ok(Self { dir: dir.to_owned(), pem, ends: facts.ends, issuer })
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its certificate, DER.
    ///
    /// # Errors
    /// When the file changed since.
    pub fn der(&self) -> Result<Vec<u8>, CaFault> {
        Ok(certificates("the authority", &self.dir.join("ca.pem"))?[0].to_vec())
    }

    /// Issues a certificate for what was asked: the same names, for TLS only, whatever else the request wants. `now` is Unix time.
    ///
    /// # Errors
    /// [`CaFault`].
    pub fn issue(&self, asked: &Asked, days: u32, now: u64) -> Result<Issued, CaFault> {
        self.sign(&asked.key, &asked.names, days, now)
    }

    /// A key and a certificate in these names, the first of which names the files: NAME.pem, NAME.key (0600), and ca.pem beside them.
    ///
    /// # Errors
    /// [`CaFault::Exists`]; nothing is overwritten.
    pub fn issue_into(&self, folder: &Path, names: &[String], days: u32, now: u64) -> Result<Issued, CaFault> {
        let request = Request::new(names)?;
        let issued = self.issue(&Asked::read(request.der())?, days, now)?;
        let name = &issued.names[0];
        std::fs::create_dir_all(folder).map_err(|source| CaFault::Io { file: folder.to_owned(), source })?;
        write_new(&folder.join(format!("{name}.key")), 0o600, &request.key_pem())?;
        write_new(&folder.join(format!("{name}.pem")), 0o644, &issued.pem)?;
        let ca = folder.join("ca.pem");
        if !ca.exists() {
            write_new(&ca, 0o644, &self.pem)?;
        }
        Ok(issued)
    }

    /// A new certificate for the key and the names of one that this authority issued, in its place.
    ///
    /// # Errors
    /// [`CaFault::Foreign`] when another issued it.
    pub fn renew(&self, file: &Path, days: u32, now: u64) -> Result<Issued, CaFault> {
        let old = certificates("the certificate", file)?;
        let foreign = || CaFault::Foreign(file.to_owned());
        let certificate = x509_cert::Certificate::from_der(&old[0]).map_err(|_| foreign())?;
        let serial = hex::encode(certificate.tbs_certificate.serial_number.as_bytes());
        // What we issued stands in our book, byte for byte.
        let kept = certificates("the certificate", &self.dir.join("issued").join(format!("{serial}.pem")));
        if kept.map_err(|_| foreign())?[0] != old[0] {
            return Err(foreign());
        }
        let names = CertificateFacts::of(&old[0]).map_err(|_| foreign())?.names;
        let spki = certificate.tbs_certificate.subject_public_key_info.to_der().map_err(|_| foreign())?;
        let key = rcgen::SubjectPublicKeyInfo::from_der(&spki)?;
        let issued = self.sign(&key, &names, days, now)?;
        replace(file, 0o644, &issued.pem)?;
        Ok(issued)
    }

    fn sign(&self, key: &impl PublicKeyData, names: &[String], days: u32, now: u64) -> Result<Issued, CaFault> {
        if now >= self.ends {
            return Err(CaFault::Over);
        }
        // Nothing outlives who vouches for it.
        let ends = (now + u64::from(days) * DAY).min(self.ends);
        let mut params = params(names)?;
        set_times(&mut params, now, ends);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial()?);
        let certificate = params.signed_by(key, &self.issuer)?;
        let der = certificate.der().to_vec();
        let parsed = x509_cert::Certificate::from_der(&der).map_err(|fault| CaFault::Answer(fault.to_string()))?;
        let serial = hex::encode(parsed.tbs_certificate.serial_number.as_bytes());
        write_new(&self.dir.join("issued").join(format!("{serial}.pem")), 0o644, &certificate.pem())?;
        Ok(Issued { pem: certificate.pem(), der, names: names.to_vec(), serial, ends })
    }
}

fn set_times(params: &mut CertificateParams, now: u64, ends: u64) {
    let at = |seconds: u64| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    params.not_before = at(now.saturating_sub(CLOCK_SLACK));
    params.not_after = at(ends);
}

/// 128 random bits (CA/Browser Forum asks for 64), positive.
fn serial() -> Result<SerialNumber, CaFault> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| CaFault::Randomness)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NOW: u64 = 1_790_000_000;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_authority_is_begun_once_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("ca");
        let authority = Authority::init(&folder, "Plant CA", CA_DAYS, NOW).unwrap();
        assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o077, 0);
        assert!(matches!(Authority::init(&folder, "Plant CA", CA_DAYS, NOW), Err(CaFault::Exists(_))));
        assert_eq!(Authority::open(&folder).unwrap().pem(), authority.pem());
        let out = dir.path().join("out");
        let issued = authority.issue_into(&out, &names(&["node", "node.plant", "10.0.0.5"]), 30, NOW).unwrap();
        assert_eq!(issued.ends, NOW + 30 * DAY);
        assert!(tally_tls::private_key(&out.join("node.key")).is_ok());
        assert!(matches!(authority.issue_into(&out, &names(&["node"]), 30, NOW), Err(CaFault::Exists(_))));
        std::fs::set_permissions(folder.join("ca.key"), std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Authority::open(&folder).is_err_and(|fault| fault.to_string().contains("chmod 600")));
    }

    #[test]
    fn a_request_cannot_make_itself_an_authority_and_nothing_outlives_who_signed_it() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::init(&dir.path().join("ca"), "Plant CA", 10, NOW).unwrap();
        let mut params = params(&names(&["eve"])).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let der = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec();
        let issued = authority.issue(&Asked::read(&der).unwrap(), LEAF_DAYS, NOW).unwrap();
        let certificate = x509_cert::Certificate::from_der(&issued.der).unwrap().tbs_certificate;
        let (_, basic) = certificate.get::<x509_cert::ext::pkix::BasicConstraints>().unwrap().unwrap();
        let (_, usage) = certificate.get::<x509_cert::ext::pkix::KeyUsage>().unwrap().unwrap();
        assert!(!basic.ca && !usage.key_cert_sign() && usage.digital_signature());
        assert_eq!(issued.ends, NOW + 10 * DAY);
        assert!(matches!(authority.issue(&Asked::read(&der).unwrap(), 1, NOW + 11 * DAY), Err(CaFault::Over)));
    }

    #[test]
    fn a_renewed_certificate_has_the_same_key_and_names_and_another_serial() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::init(&dir.path().join("ca"), "Plant CA", CA_DAYS, NOW).unwrap();
        let out = dir.path().join("out");
        let old = authority.issue_into(&out, &names(&["agent-01", "agent.plant"]), 30, NOW).unwrap();
        let new = authority.renew(&out.join("agent-01.pem"), 60, NOW + 20 * DAY).unwrap();
        let key = |der: &[u8]| {
            x509_cert::Certificate::from_der(der).unwrap().tbs_certificate.subject_public_key_info.to_der().unwrap()
        };
        assert_eq!((key(&old.der), &old.names), (key(&new.der), &new.names));
        assert_ne!(old.serial, new.serial);
        assert_eq!(new.ends, NOW + 80 * DAY);
        let stranger = Authority::init(&dir.path().join("other"), "Other", CA_DAYS, NOW).unwrap();
        assert!(matches!(stranger.renew(&out.join("agent-01.pem"), 60, NOW), Err(CaFault::Foreign(_))));
    }
}
