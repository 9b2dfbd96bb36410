//! What goes to an authority and what comes back (RFC 3161 §2.4). Carrying it there is for others: this crate has no network.

use super::asn1::{MessageImprint, TimeStampReq, TimeStampResp, sha256_identifier};
use super::token::Token;
use super::{TimestampFault, form};
use der::asn1::{BitString, OctetString, Uint};
use der::{Decode, Encode};
use tally_evidence::{Hash, TOKEN_BYTES_MAX};

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 16;

/// A question to an authority: put its time to this digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimestampRequest {
    digest: Hash,
    nonce: [u8; NONCE_BYTES],
}

impl TimestampRequest {
    /// About a SHA-256; the nonce comes from a generator fit for cryptography.
    #[must_use]
    pub const fn new(digest: Hash, nonce: [u8; NONCE_BYTES]) -> Self {
        Self { digest, nonce }
    }

    /// The TimeStampReq (RFC 3161 §2.4.1): version 1, SHA-256, nonce, certReq true; DER, media type `application/timestamp-query`.
    ///
    /// # Errors
    /// [`TimestampFault::Form`], which a digest and a nonce of these lengths never give.
    pub fn to_der(&self) -> Result<Vec<u8>, TimestampFault> {
        let hashed = OctetString::new(self.digest.to_vec()).map_err(form("request"))?;
        let imprint = MessageImprint { algorithm: sha256_identifier(), hashed };
        let nonce = Uint::new(&self.nonce).map_err(form("request"))?;
        TimeStampReq { version: 1, imprint, nonce, cert_req: true }.to_der().map_err(form("request"))
    }

    /// The token (DER) of an answer to this question (TimeStampResp, DER).
    ///
    /// # Errors
    /// As [`token_of_response`]; and [`TimestampFault::Nonce`] when it answers another question about the same digest.
    pub fn token(&self, response: &[u8]) -> Result<Vec<u8>, TimestampFault> {
        let der = token_of_response(response, &self.digest)?;
        let nonce = Token::open(&der)?.info.nonce;
        let asked = Uint::new(&self.nonce).map_err(form("request"))?;
        // A positive INTEGER may begin with a zero octet for its sign.
        let is_ours = nonce.is_some_and(|nonce| {
            let bytes = nonce.as_bytes();
            bytes.strip_prefix(&[0]).unwrap_or(bytes) == asked.as_bytes()
        });
        if is_ours { Ok(der) } else { Err(TimestampFault::Nonce) }
    }
}

/// The token (DER) of an answer (TimeStampResp, DER) about `digest`, when it was granted and is about it. Whether it was signed
/// by whom is left to the check of the file.
///
/// # Errors
/// [`TimestampFault`]: no answer, refused, about another digest.
pub fn token_of_response(response: &[u8], digest: &Hash) -> Result<Vec<u8>, TimestampFault> {
    let answer = TimeStampResp::from_der(response).map_err(form("answer"))?;
    // granted, grantedWithMods
    if answer.status.status > 1 {
        let texts = answer.status.texts.unwrap_or_default();
        return Err(TimestampFault::Refused {
            status: status(answer.status.status),
            why: [texts.join("; "), failures(answer.status.failure.as_ref())].join(" ").trim().to_owned(),
        });
    }
    let token = answer.token.ok_or(TimestampFault::NoToken)?.to_der().map_err(form("token"))?;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TimestampFault::TooLarge(token.len()));
    }
    Token::open(&token)?.check_imprint(digest)?;
    Ok(token)
}

/// PKIStatus in the words of RFC 3161 §2.4.2.
fn status(number: u8) -> String {
    let words = ["granted", "granted with modifications", "rejection", "waiting"];
    let words = words.get(usize::from(number)).copied().unwrap_or("a status that grants nothing");
    format!("{words} ({number})")
}

/// PKIFailureInfo in the words of RFC 3161 §2.4.2.
fn failures(info: Option<&BitString>) -> String {
    let known = [
        (0, "unknown or unsupported algorithm"),
        (2, "transaction not permitted or supported"),
        (5, "the data submitted has the wrong format"),
        (14, "its time source is not available"),
        (15, "the requested policy is not supported"),
        (16, "the requested extension is not supported"),
        (17, "the additional information cannot be understood or is not available"),
        (25, "the request cannot be handled due to a system failure"),
    ];
    let bits: Vec<_> =
        info.into_iter().flat_map(|info| info.bits().enumerate()).filter(|(_, is_set)| *is_set).collect();
    let words = bits.iter().map(|(bit, _)| {
        let found = known.iter().find(|(number, _)| number == bit);
        found.map_or_else(|| format!("failure {bit}"), |(_, words)| (*words).to_owned())
    });
    words.collect::<Vec<_>>().join("; ")
}
