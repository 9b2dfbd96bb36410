//! A TimeStampToken taken apart and checked: CMS SignedData (RFC 5652 §5) around a TSTInfo (RFC 3161 §2.4.2).

use super::asn1::{SHA256, SHA384, SHA512, SigningCertificate, SigningCertificateV2, TstInfo};
use super::{TimeAuthorities, TimestampFault, form};
use aws_lc_rs::digest;
use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier, SignerInfo};
use der::asn1::{ObjectIdentifier, OctetString, SetOfVec};
use der::{Any, Decode, Encode, Tag, Tagged};
use rustls_pki_types::{AlgorithmIdentifier, CertificateDer, UnixTime, alg_id};
use std::time::Duration;
use tally_evidence::Hash;
use tally_model::Timestamp;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};
use x509_cert::Certificate;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectKeyIdentifier};

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SIGNING_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.12");
const SIGNING_CERTIFICATE_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
/// The same, contents of its DER.
const TIME_STAMPING_DER: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 8];

/// A digest algorithm and the signatures over it that count.
struct Suite {
    oid: ObjectIdentifier,
    digest: &'static digest::Algorithm,
    rsa: (ObjectIdentifier, AlgorithmIdentifier),
    ecdsa: (ObjectIdentifier, AlgorithmIdentifier),
}

/// RFC 5754 §3; SHA-1 does not sign any more.
static SUITES: [Suite; 3] = [
    Suite {
        oid: SHA256,
        digest: &digest::SHA256,
        rsa: (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11"), alg_id::RSA_PKCS1_SHA256),
        ecdsa: (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2"), alg_id::ECDSA_SHA256),
    },
    Suite {
        oid: SHA384,
        digest: &digest::SHA384,
        rsa: (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12"), alg_id::RSA_PKCS1_SHA384),
        ecdsa: (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3"), alg_id::ECDSA_SHA384),
    },
    Suite {
        oid: SHA512,
        digest: &digest::SHA512,
        rsa: (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13"), alg_id::RSA_PKCS1_SHA512),
        ecdsa: (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4"), alg_id::ECDSA_SHA512),
    },
];

fn suite(oid: ObjectIdentifier) -> Result<&'static Suite, TimestampFault> {
    SUITES.iter().find(|suite| suite.oid == oid).ok_or_else(|| TimestampFault::Algorithm(oid.to_string()))
}

/// A token whose form is right; nothing of it is checked yet.
pub struct Token {
    pub info: TstInfo,
    /// When, by the authority's clock.
    pub at: Timestamp,
    /// The TSTInfo's bytes, which are signed.
    content: Vec<u8>,
    signer: SignerInfo,
    certificates: Vec<Certificate>,
}

impl Token {
    /// Reads a token strictly: DER, one signer, and nothing critical that we do not know.
    pub fn open(token: &[u8]) -> Result<Self, TimestampFault> {
        let outer = ContentInfo::from_der(token).map_err(form("token"))?;
        if outer.content_type != SIGNED_DATA {
            return Err(TimestampFault::Missing("signed data"));
        }
        let signed: SignedData = outer.content.decode_as().map_err(form("signed data"))?;
        if signed.encap_content_info.econtent_type != TST_INFO {
            return Err(TimestampFault::Missing("a TSTInfo"));
        }
        let content = signed.encap_content_info.econtent.ok_or(TimestampFault::Missing("a TSTInfo"))?;
        let content = content.decode_as::<OctetString>().map_err(form("TSTInfo"))?.into_bytes();
        let info = TstInfo::from_der(&content).map_err(form("TSTInfo"))?;
        if info.version != 1 {
            return Err(TimestampFault::Version(info.version));
        }
        if info.extensions.iter().flatten().any(|extension| extension.critical) {
            return Err(TimestampFault::Critical);
        }
        let [signer] = signed.signer_infos.0.as_slice() else {
            return Err(TimestampFault::Missing("exactly one signer"));
        };
        let certificates = signed.certificates.iter().flat_map(|set| set.0.iter()).filter_map(|choice| match choice {
            CertificateChoices::Certificate(certificate) => Some(certificate.clone()),
            CertificateChoices::Other(_) => None,
        });
        Ok(Self {
            at: time(&info.at).ok_or(TimestampFault::Time)?,
            info,
            content,
            signer: signer.clone(),
            certificates: certificates.collect(),
        })
    }

    /// It is about this SHA-256.
    pub fn check_imprint(&self, digest: &Hash) -> Result<(), TimestampFault> {
        let imprint = &self.info.imprint;
        let is_ours = imprint.algorithm.oid == SHA256 && imprint.hashed.as_bytes() == digest.as_slice();
        if is_ours { Ok(()) } else { Err(TimestampFault::Imprint) }
    }

    /// The signature holds, by the certificate in the token that the signed attributes name, which is made for time-stamping
    /// only; gives that certificate.
    pub fn check_signature(&self) -> Result<&Certificate, TimestampFault> {
        let suite = suite(self.signer.digest_alg.oid)?;
        let attributes = self.signer.signed_attrs.as_ref().ok_or(TimestampFault::Missing("signed attributes"))?;
        let kind: ObjectIdentifier = self.attribute(CONTENT_TYPE, "the attribute content-type")?;
        if kind != TST_INFO {
            return Err(TimestampFault::Missing("a content-type of TSTInfo"));
        }
        let claimed: OctetString = self.attribute(MESSAGE_DIGEST, "the attribute message-digest")?;
        if claimed.as_bytes() != digest::digest(suite.digest, &self.content).as_ref() {
            return Err(TimestampFault::Digest);
        }
        let certificate = self.named_certificate()?;
        check_purpose(certificate)?;
        // What is signed is the SET OF, not the implicit tag it is written with (RFC 5652 §5.4).
        let message = attributes.to_der().map_err(form("signed attributes"))?;
        let der = CertificateDer::from(certificate.to_der().map_err(form("certificate"))?);
        let end = EndEntityCert::try_from(&der).map_err(|fault| TimestampFault::Certificate(format!("{fault:?}")))?;
        let wanted = self.signature_algorithm(suite)?;
        let mut algorithms = ALL_VERIFICATION_ALGS.iter().filter(|known| known.signature_alg_id() == wanted);
        let signature = self.signer.signature.as_bytes();
        let holds = algorithms.any(|known| end.verify_signature(*known, &message, signature).is_ok());
        if holds { Ok(certificate) } else { Err(TimestampFault::Signature) }
    }

    /// One of the authorities vouched for the certificate at the token's time (RFC 5280 §6), for time-stamping.
    pub fn check_authority(&self, certificate: &Certificate, trusted: &TimeAuthorities) -> Result<(), TimestampFault> {
        let encode =
            |certificate: &Certificate| certificate.to_der().map(CertificateDer::from).map_err(form("certificate"));
        let der = encode(certificate)?;
        let end = EndEntityCert::try_from(&der).map_err(|fault| TimestampFault::Certificate(format!("{fault:?}")))?;
        let others: Vec<_> = self.certificates.iter().map(encode).collect::<Result<_, _>>()?;
        let micros = u64::try_from(self.at.as_micros()).map_err(|_| TimestampFault::Time)?;
        let at = UnixTime::since_unix_epoch(Duration::from_micros(micros));
        let usage = KeyUsage::required(TIME_STAMPING_DER);
        let anchors = trusted.anchors();
        let path = end.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &others, at, usage, None, None);
        path.map(drop).map_err(|fault| TimestampFault::Authority(in_words(&fault)))
    }

    /// The value of a signed attribute that stands there once and has one value.
    fn attribute<'a, T: der::Choice<'a> + der::DecodeValue<'a>>(
        &'a self,
        oid: ObjectIdentifier,
        what: &'static str,
    ) -> Result<T, TimestampFault> {
        self.attribute_opt(oid)
            .map(|value| value.decode_as().map_err(form(what)))
            .ok_or(TimestampFault::Missing(what))?
    }

    fn attribute_opt(&self, oid: ObjectIdentifier) -> Option<&Any> {
        let mut found =
            self.signer.signed_attrs.iter().flat_map(SetOfVec::iter).filter(|attribute| attribute.oid == oid);
        match (found.next(), found.next()) {
            (Some(attribute), None) => match attribute.values.as_slice() {
                [value] => Some(value),
                _ => None,
            },
            _ => None,
        }
    }

    /// The signer's certificate: named by `sid`, and by its digest in the attribute signing-certificate or its version 2
    /// (RFC 5816 §2.2.1), so that it cannot be exchanged for another one with the same key.
    fn named_certificate(&self) -> Result<&Certificate, TimestampFault> {
        let what = "the attribute signing-certificate";
        let first = |known: &'static digest::Algorithm, hash: &OctetString| (known, hash.as_bytes().to_vec());
        let named = if let Some(value) = self.attribute_opt(SIGNING_CERTIFICATE_V2) {
            let named: SigningCertificateV2 = value.decode_as().map_err(form(what))?;
            let id = named.certs.first().ok_or(TimestampFault::Missing(what))?;
            first(suite(id.algorithm.as_ref().map_or(SHA256, |algorithm| algorithm.oid))?.digest, &id.hash)
        } else {
            let value = self.attribute_opt(SIGNING_CERTIFICATE).ok_or(TimestampFault::Missing(what))?;
            let named: SigningCertificate = value.decode_as().map_err(form(what))?;
            let id = named.certs.first().ok_or(TimestampFault::Missing(what))?;
            first(&digest::SHA1_FOR_LEGACY_USE_ONLY, &id.hash)
        };
        let is_named = |certificate: &&Certificate| {
            let der = certificate.to_der().unwrap_or_default();
            self.is_sid(certificate) && digest::digest(named.0, &der).as_ref() == named.1
        };
        self.certificates.iter().find(is_named).ok_or(TimestampFault::Missing("the certificate that its signer names"))
    }

    fn is_sid(&self, certificate: &Certificate) -> bool {
        let content = &certificate.tbs_certificate;
        match &self.signer.sid {
            SignerIdentifier::IssuerAndSerialNumber(id) => {
                id.issuer == content.issuer && id.serial_number == content.serial_number
            }
            SignerIdentifier::SubjectKeyIdentifier(id) => {
                content.get::<SubjectKeyIdentifier>().is_ok_and(|found| found.is_some_and(|(_, found)| found == *id))
            }
        }
    }

    fn signature_algorithm(&self, suite: &'static Suite) -> Result<AlgorithmIdentifier, TimestampFault> {
        let oid = self.signer.signature_algorithm.oid;
        match oid {
            _ if oid == RSA_ENCRYPTION || oid == suite.rsa.0 => Ok(suite.rsa.1),
            _ if oid == suite.ecdsa.0 => Ok(suite.ecdsa.1),
            _ => Err(TimestampFault::Algorithm(oid.to_string())),
        }
    }

    /// The name that the certificate gives the authority. A name that the token gives must be the same (RFC 3161 §2.4.2).
    pub fn name(&self, certificate: &Certificate) -> Result<String, TimestampFault> {
        let subject = &certificate.tbs_certificate.subject;
        match &self.info.tsa {
            Some(GeneralName::DirectoryName(name)) if name != subject => {
                Err(TimestampFault::Name { said: name.to_string(), certified: subject.to_string() })
            }
            _ => Ok(subject.to_string()),
        }
    }
}

/// Made for time-stamping and nothing else, critically (RFC 3161 §2.3).
fn check_purpose(certificate: &Certificate) -> Result<(), TimestampFault> {
    let found = certificate.tbs_certificate.get::<ExtendedKeyUsage>().map_err(form("certificate"))?;
    let is_made_for_it = found.is_some_and(|(critical, usage)| critical && usage.0 == [TIME_STAMPING]);
    if is_made_for_it { Ok(()) } else { Err(TimestampFault::Purpose) }
}

/// GeneralizedTime as RFC 3161 §2.4.2 has it: `YYYYMMDDhhmmss[.s…]Z`, without zeros at the end of the fraction; cut to µs.
fn time(value: &Any) -> Option<Timestamp> {
    let text = std::str::from_utf8(value.value()).ok().filter(|_| value.tag() == Tag::GeneralizedTime)?;
    let (whole, fraction) = match text.strip_suffix('Z')?.split_once('.') {
        Some((_, fraction)) if fraction.is_empty() || fraction.ends_with('0') => return None,
        Some((whole, fraction)) => (whole, fraction),
        None => (text.strip_suffix('Z')?, ""),
    };
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() != 14 || fraction.len() > 18 || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let (day, hour) = whole.split_at(8);
    let fraction = fraction.get(..fraction.len().min(6))?;
    let dot = if fraction.is_empty() { "" } else { "." };
    Timestamp::parse_rfc3339(&format!(
        "{}-{}-{}T{}:{}:{}{dot}{fraction}Z",
        &day[..4],
        &day[4..6],
        &day[6..],
        &hour[..2],
        &hour[2..4],
        &hour[4..]
    ))
}

fn in_words(fault: &webpki::Error) -> String {
    match fault {
        webpki::Error::UnknownIssuer => "none of the authorities given signed its certificate".to_owned(),
        webpki::Error::CertExpired { .. } => "its certificate had expired at the time it gives".to_owned(),
        webpki::Error::CertNotValidYet { .. } => "its certificate was not valid yet at the time it gives".to_owned(),
        // One of them has the name that stands there, but not the key.
        webpki::Error::InvalidSignatureForPublicKey => {
            "an authority given has the name of its issuer, but did not sign its certificate".to_owned()
        }
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_and_without_a_fraction() {
        let read = |text: &str| time(&Any::new(Tag::GeneralizedTime, text.as_bytes()).unwrap());
        let at = |text: &str| Timestamp::parse_rfc3339(text);
        assert_eq!(read("20261121205747Z"), at("2026-11-21T20:57:47Z"));
        assert_eq!(read("20261121205747.5Z"), at("2026-11-21T20:57:47.5Z"));
        assert_eq!(read("20261121205747.123456789Z"), at("2026-11-21T20:57:47.123456Z"));
        let wrong =
            ["", "Z", "20261121205747", "20261121205747.Z", "20261121205747.50Z", "2026112120574Z", "20261321205747Z"];
        for wrong in wrong.iter().chain(&["+0261121205747Z", "20261121205747.1234567890123456789Z"]) {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(time(&Any::new(Tag::Utf8String, b"20261121205747Z".as_slice()).unwrap()), None);
    }
}
