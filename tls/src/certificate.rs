//! Names and dates of a certificate (RFC 5280 §4.1).

use std::net::IpAddr;
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Tag, Tagged};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// `id-at-commonName` (RFC 5280 appendix A.1).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// What a certificate says about its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The common name first, then DNS names, URIs, mail and IP addresses of the subject alternative name, each once.
    pub names: Vec<String>,
    /// The whole subject, for people (RFC 4514).
    pub subject: String,
    /// First second in which it is valid, Unix time.
    pub begins: u64,
    /// Last second in which it is valid, Unix time.
    pub ends: u64,
}

/// A certificate that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no X.509 certificate: {0}")]
pub struct CertificateFault(String);

impl CertificateFacts {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// [`CertificateFault`].
    pub fn of(der: &[u8]) -> Result<Self, CertificateFault> {
        let fault = |fault: x509_cert::der::Error| CertificateFault(fault.to_string());
        let certificate = Certificate::from_der(der).map_err(fault)?.tbs_certificate;
        let mut names: Vec<String> = Vec::new();
        for attribute in certificate.subject.0.iter().flat_map(|set| set.0.iter()).filter(|one| one.oid == COMMON_NAME)
        {
            let is_text = matches!(attribute.value.tag(), Tag::Utf8String | Tag::PrintableString | Tag::Ia5String);
            let text = is_text.then(|| std::str::from_utf8(attribute.value.value()).ok()).flatten();
            keep(&mut names, text);
        }
        if let Some((_, alternatives)) = certificate.get::<SubjectAltName>().map_err(fault)? {
            for name in &alternatives.0 {
                match name {
                    GeneralName::DnsName(name) | GeneralName::Rfc822Name(name) => keep(&mut names, Some(name.as_str())),
                    GeneralName::UniformResourceIdentifier(name) => keep(&mut names, Some(name.as_str())),
                    GeneralName::IpAddress(octets) => keep(&mut names, address(octets.as_bytes()).as_deref()),
                    _ => {}
                }
            }
        }
        Ok(Self {
            names,
            subject: certificate.subject.to_string(),
            begins: certificate.validity.not_before.to_unix_duration().as_secs(),
            ends: certificate.validity.not_after.to_unix_duration().as_secs(),
        })
    }
}

/// Four octets or sixteen (RFC 5280 §4.2.1.6).
fn address(octets: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(octets).map(|octets| IpAddr::from(octets).to_string());
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(|octets| IpAddr::from(octets).to_string())).ok()
}

fn keep(names: &mut Vec<String>, name: Option<&str>) {
    if let Some(name) = name.filter(|name| !name.is_empty() && !names.iter().any(|known| known == name)) {
        names.push(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};

    fn certificate() -> Vec<u8> {
        let mut params =
            CertificateParams::new(vec!["agent.plant".to_owned(), "agent-01".to_owned(), "10.0.0.7".to_owned()])
                .unwrap();
        params.distinguished_name.push(DnType::CommonName, "agent-01");
        params.subject_alt_names.push(SanType::URI("urn:plant:agent".try_into().unwrap()));
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn names_and_dates() {
        let facts = CertificateFacts::of(&certificate()).unwrap();
        assert_eq!(facts.names, ["agent-01", "agent.plant", "10.0.0.7", "urn:plant:agent"]);
        assert!(facts.subject.contains("CN=agent-01"), "{}", facts.subject);
        assert_eq!(facts.ends - facts.begins, 365 * 86_400);
    }

    proptest! {
        #[test]
        fn bytes_never_panic(place in 0..400_usize, byte: u8, cut in 0..600_usize) {
            let mut bytes = certificate();
            if let Some(at) = bytes.get_mut(place) {
                *at = byte;
            }
            bytes.truncate(cut.max(1));
            let _ = CertificateFacts::of(&bytes);
        }
    }
}
