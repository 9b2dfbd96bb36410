//! What a refused handshake means.

use rustls::{AlertDescription, CertificateError, Error};

/// Whether the fault is the other side's "no" to our certificate, in words. In TLS 1.3 it comes only after the handshake, instead of
/// the first answer (RFC 8446 §4.4.2.4).
#[must_use]
pub fn denied(fault: &std::io::Error) -> Option<String> {
    match refusal_of(fault) {
        Some(Error::AlertReceived(AlertDescription::CertificateRequired)) => Some(
            "it wants a certificate of ours: write `certificate` and `key`; on the command line --cert and --cert-key"
                .to_owned(),
        ),
        Some(Error::AlertReceived(AlertDescription::CertificateExpired)) => {
            Some("it does not accept our certificate (CertificateExpired): renew it".to_owned())
        }
        Some(Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::UnknownCA),
        )) => Some(format!("it does not accept our certificate ({alert:?})")),
        _ => None,
    }
}

/// The library's own fault inside a failed read, write or handshake.
#[must_use]
pub fn refusal_of(fault: &std::io::Error) -> Option<&Error> {
    fault.get_ref().and_then(|inner| inner.downcast_ref::<Error>())
}

/// Why we do not accept a certificate.
#[must_use]
pub fn in_words(reason: &CertificateError) -> String {
    match reason {
        CertificateError::ApplicationVerificationFailure => {
            "its certificate is not the pinned one; if it was renewed on purpose, change `pin`".to_owned()
        }
        CertificateError::UnknownIssuer => "its certificate comes from no authority in `ca`".to_owned(),
        CertificateError::Revoked => "its certificate was revoked".to_owned(),
        other => other.to_string(),
    }
}

/// Short name of a failed handshake, for counters: `no-certificate`, `expired`, `unknown-ca`, `revoked`, `bad-certificate`,
/// `not-tls`, `old-tls`, `refused-us`, `broken`.
#[must_use]
pub fn code(fault: &std::io::Error) -> &'static str {
    match refusal_of(fault) {
        Some(Error::NoCertificatesPresented) => "no-certificate",
        Some(Error::InvalidCertificate(reason)) => match reason {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => "expired",
            CertificateError::UnknownIssuer => "unknown-ca",
            CertificateError::Revoked => "revoked",
            _ => "bad-certificate",
        },
        Some(Error::InvalidMessage(_)) => "not-tls",
        Some(Error::PeerIncompatible(_)) => "old-tls",
        Some(Error::AlertReceived(_)) => "refused-us",
        _ => "broken",
    }
}
