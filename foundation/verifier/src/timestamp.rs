//! The time-stamp of a file (RFC 3161): an authority outside the plant put its time to all of it.
//! `docs/formats/verifying.md`, *A time-stamp*.

mod asn1;
mod exchange;
mod token;

pub use exchange::{NONCE_BYTES, TimestampRequest, token_of_response};

use crate::report::{Report, Step};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use serde::Serialize;
use tally_evidence::{Hash, TimeStampToken};
use tally_model::Timestamp;
use token::Token;

const ABOUT: &str = "the time-stamp";

/// Why a time-stamp does not hold, or an authority's answer has none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimestampFault {
    /// Not DER of the type it should be.
    #[error("the {what} is not what RFC 3161 says: {reason}")]
    Form {
        /// Which part.
        what: &'static str,
        /// By the DER reader.
        reason: String,
    },
    /// The authority did not give its time.
    #[error("the authority answered {status}: {why}")]
    Refused {
        /// PKIStatus.
        status: String,
        /// Its words, and PKIFailureInfo.
        why: String,
    },
    /// Granted, but empty.
    #[error("the authority's answer holds no token")]
    NoToken,
    /// More than a file keeps.
    #[error("the token has {0} bytes; a file keeps at most 262144")]
    TooLarge(usize),
    /// An answer to somebody else's question, or to an earlier one.
    #[error("the answer is not to this question: its nonce is another one")]
    Nonce,
    /// The token is not the one that was put into the file.
    #[error("the token is not the one whose digest stands beside it")]
    Damaged,
    /// About something else.
    #[error("the token is about another digest than that of this file")]
    Imprint,
    /// A part that must be there.
    #[error("the token does not have {0}")]
    Missing(&'static str),
    /// A later TSTInfo.
    #[error("version {0} of TSTInfo; this program reads version 1")]
    Version(u8),
    /// An extension that must be understood.
    #[error("the token has a critical extension that this program does not know")]
    Critical,
    /// A time that is none.
    #[error("the token's time is none")]
    Time,
    /// The TSTInfo was changed.
    #[error("the digest of the TSTInfo is not the one that was signed")]
    Digest,
    /// Weak or unknown.
    #[error("algorithm {0}; RSA and ECDSA (P-256, P-384) with SHA-256, SHA-384 or SHA-512 count")]
    Algorithm(String),
    /// The signature does not hold.
    #[error("the authority's signature does not hold")]
    Signature,
    /// The authority's certificate cannot be used.
    #[error("the authority's certificate cannot be used: {0}")]
    Certificate(String),
    /// A certificate for something else.
    #[error("the signer's certificate is not for time-stamping alone (critical extended key usage, RFC 3161 §2.3)")]
    Purpose,
    /// No chain to an authority that the reader knows.
    #[error("the authority is not one you trust: {0}")]
    Authority(String),
    /// The token says another name than its certificate.
    #[error("the token names {said}, its certificate {certified}")]
    Name {
        /// In the token.
        said: String,
        /// In the certificate.
        certified: String,
    },
}

pub(crate) fn form(what: &'static str) -> impl FnOnce(der::Error) -> TimestampFault {
    move |fault| TimestampFault::Form { what, reason: fault.to_string() }
}

/// The authorities whose word about time the reader takes.
#[derive(Debug, Clone)]
pub struct TimeAuthorities(Vec<CertificateDer<'static>>);

impl TimeAuthorities {
    /// From certificates in PEM, at least one.
    ///
    /// # Errors
    /// [`TimestampFault::Certificate`] when there is none, or one of them cannot be read.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TimestampFault> {
        let fault = |reason: String| TimestampFault::Certificate(reason);
        let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let authorities = read.map_err(|reason| fault(reason.to_string()))?;
        for (place, authority) in authorities.iter().enumerate() {
            let read = webpki::anchor_from_trusted_cert(authority);
            read.map_err(|reason| fault(format!("certificate {} in the file: {reason:?}", place + 1)))?;
        }
        if authorities.is_empty() {
            Err(fault("no certificate (PEM) in the file".to_owned()))
        } else {
            Ok(Self(authorities))
        }
    }

    fn anchors(&self) -> Vec<TrustAnchor<'_>> {
        self.0.iter().filter_map(|authority| webpki::anchor_from_trusted_cert(authority).ok()).collect()
    }
}

/// What a time-stamp says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimeStamp {
    /// The authority's time, µs since the epoch.
    pub at: Timestamp,
    /// How far that may be off by the authority's own word, µs; `None`: it does not say.
    pub accuracy: Option<u64>,
    /// The authority by the subject of its certificate.
    pub authority: String,
    /// Whether the certificate comes from an authority that the reader gave. If not, anybody may have made the time-stamp.
    pub is_trusted: bool,
}

/// Checks a token about `digest`. Without authorities everything but who vouches for the signer's certificate.
///
/// # Errors
/// [`TimestampFault`].
pub fn check_token(
    token: &[u8],
    digest: &Hash,
    trusted: Option<&TimeAuthorities>,
) -> Result<TimeStamp, TimestampFault> {
    let token = Token::open(token)?;
    token.check_imprint(digest)?;
    let certificate = token.check_signature()?;
    if let Some(trusted) = trusted {
        token.check_authority(certificate, trusted)?;
    }
    Ok(TimeStamp {
        at: token.at,
        accuracy: token.info.accuracy.as_ref().map(asn1::Accuracy::as_micros),
        authority: token.name(certificate)?,
        is_trusted: trusted.is_some(),
    })
}

/// Checks a file's time-stamp, when it has one or the reader wants one.
pub(crate) fn check(
    token: Option<&TimeStampToken>,
    digest: &Hash,
    trusted: Option<&TimeAuthorities>,
    report: &mut Report,
) {
    let Some(token) = token else {
        if trusted.is_some() {
            report.fails(ABOUT, Step::Timestamp, "is wanted, the file has none (`tally timestamp` adds one)");
        }
        return;
    };
    let whole = if token.is_whole() { Ok(()) } else { Err(TimestampFault::Damaged) };
    let checked = whole.and_then(|()| check_token(&token.der, digest, trusted));
    let Some(stamp) = report.record(ABOUT, Step::Timestamp, checked) else { return };
    let accuracy =
        stamp.accuracy.map_or_else(|| "accuracy not said".to_owned(), |micros| format!("± {}", seconds(micros)));
    let said = format!("the file was there at {} ({accuracy}), by {}", stamp.at, stamp.authority);
    report.holds(
        ABOUT,
        Step::Timestamp,
        if stamp.is_trusted { said } else { format!("present, its authority was not checked (give --tsa-ca): {said}") },
    );
    report.timestamp = Some(stamp);
}

/// µs as seconds without needless zeros.
fn seconds(micros: u64) -> String {
    let (whole, fraction) = (micros / 1_000_000, format!("{:06}", micros % 1_000_000));
    match fraction.trim_end_matches('0') {
        "" => format!("{whole} s"),
        fraction => format!("{whole}.{fraction} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tally_evidence::Stamped;

    /// A true one: its token and digest.
    fn frozen() -> (Vec<u8>, Hash) {
        let file = include_bytes!("../../../tests/formats/timestamped.tally");
        let stamped = Stamped::split(file).unwrap();
        let digest = stamped.digest();
        (stamped.token.unwrap().der, digest)
    }

    fn trusted() -> TimeAuthorities {
        TimeAuthorities::from_pem(include_bytes!("../../../tests/formats/timestamped.tsa-ca.pem")).unwrap()
    }

    #[test]
    fn a_true_token_holds() {
        let (token, digest) = frozen();
        let stamp = check_token(&token, &digest, Some(&trusted())).unwrap();
        assert_eq!(
            (stamp.accuracy, stamp.authority.as_str(), stamp.is_trusted),
            (Some(1_500_100), "CN=TSA,O=Time", true)
        );
        assert!(check_token(&token[..token.len() - 1], &digest, None).is_err());
        assert!(check_token(&[&token[..], &[0]].concat(), &digest, None).is_err());
    }

    #[test]
    fn seconds_as_people_write_them() {
        assert_eq!([0, 1_000_000, 1_500_100, 1].map(seconds), ["0 s", "1 s", "1.5001 s", "0.000001 s"]);
    }

    proptest! {
        #[test]
        fn hostile_tokens_and_answers_are_an_error(bytes: Vec<u8>, digest: [u8; 32]) {
            prop_assert!(check_token(&bytes, &digest, None).is_err());
            prop_assert!(token_of_response(&bytes, &digest).is_err());
            prop_assert!(TimeAuthorities::from_pem(&bytes).is_err());
        }

        #[test]
        fn no_change_of_a_true_token_says_something_else(
            place: prop::sample::Index,
            length in 0_usize..4,
            with in prop::collection::vec(any::<u8>(), 0..4),
        ) {
            let (mut token, digest) = frozen();
            let stamp = check_token(&token, &digest, Some(&trusted())).unwrap();
            let from = place.index(token.len());
            let to = (from + length).min(token.len());
            token.splice(from..to, with);
            if let Ok(found) = check_token(&token, &digest, Some(&trusted())) {
                prop_assert_eq!(found, stamp);
            }
        }
    }
}
