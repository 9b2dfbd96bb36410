//! A plant's certificate authority, for tests: certificates good and bad.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tally_model::Tls;

/// An authority with its files in a folder.
pub struct Pki {
    dir: PathBuf,
    name: String,
    issuer: Issuer<'static, KeyPair>,
    /// Between us and the root; goes out behind every certificate.
    chain: String,
}

/// When a certificate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Now,
    /// Four seconds from now.
    Soon,
    Over,
}

impl Pki {
    pub fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        write(&dir.join(format!("{name}.pem")), &params.self_signed(&key).unwrap().pem());
        Self { dir: dir.to_owned(), name: name.to_owned(), issuer: Issuer::new(params, key), chain: String::new() }
    }

    /// An authority below this one.
    pub fn below(&self, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { dir: self.dir.clone(), name: self.name.clone(), issuer: Issuer::new(params, key), chain }
    }

    pub fn ca(&self) -> PathBuf {
        self.dir.join(format!("{}.pem", self.name))
    }

    /// Writes NAME.pem and NAME.key; gives their places.
    pub fn issue(&self, name: &str, when: When) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(serial(name));
        if when == When::Over {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        if when == When::Soon {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            params.not_before = date_time_ymd(2020, 1, 1);
            // Time for a busy machine to start a node and to be asked once.
            params.not_after = date_time_ymd(1970, 1, 1) + now + Duration::from_secs(12);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem() + &self.chain;
        (
            write(&self.dir.join(format!("{name}.pem")), &certificate),
            write(&self.dir.join(format!("{name}.key")), &key.serialize_pem()),
        )
    }

    /// A list with these names on it.
    pub fn revoke(&self, names: &[&str]) -> PathBuf {
        let revoked_certs = names
            .iter()
            .map(|name| RevokedCertParams {
                serial_number: serial(name),
                revocation_time: date_time_ymd(2026, 1, 1),
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2036, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        write(&self.dir.join(format!("{}.crl", self.name)), &list.signed_by(&self.issuer).unwrap().pem().unwrap())
    }

    /// What a client of that name shows, trusting this authority.
    pub fn client(&self, name: &str, when: When) -> Tls {
        let (certificate, key) = self.issue(name, when);
        Tls { ca: Some(self.ca()), pin: None, certificate: Some(certificate), key: Some(key) }
    }
}

fn serial(name: &str) -> SerialNumber {
    SerialNumber::from_slice(&tally_evidence::sha256(name.as_bytes())[..8].iter().map(|b| b & 0x7f).collect::<Vec<_>>())
}

fn write(file: &Path, text: &str) -> PathBuf {
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file.to_owned()
}
