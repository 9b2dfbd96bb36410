//! How a connection to a device is secured, and with which secrets.

use std::fmt;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// A password or key that never shows itself in logs or errors, and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a secret text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself; call it only where it goes onto the wire.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Out of a file that is wiped, too: what the reader of the file copies meanwhile is its own.
impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Security policy of an OPC UA connection (OPC UA Part 7, security policy profiles).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub enum OpcUaPolicy {
    /// The strongest the server offers. Never weaker than Basic256Sha256 SignAndEncrypt unless nothing else is offered
    /// and the mapping says `none`.
    #[default]
    #[serde(rename = "best")]
    Best,
    /// No security: readable and forgeable by anyone on the wire.
    #[serde(rename = "none")]
    None,
    /// Basic256Sha256, signed only.
    #[serde(rename = "basic256sha256-sign")]
    Basic256Sha256Sign,
    /// Basic256Sha256, signed and encrypted.
    #[serde(rename = "basic256sha256-sign-encrypt")]
    Basic256Sha256SignAndEncrypt,
    /// `Aes128_Sha256_RsaOaep`, signed only.
    #[serde(rename = "aes128-sha256-rsaoaep-sign")]
    Aes128Sign,
    /// `Aes128_Sha256_RsaOaep`, signed and encrypted.
    #[serde(rename = "aes128-sha256-rsaoaep-sign-encrypt")]
    Aes128SignAndEncrypt,
    /// `Aes256_Sha256_RsaPss`, signed only.
    #[serde(rename = "aes256-sha256-rsapss-sign")]
    Aes256Sign,
    /// `Aes256_Sha256_RsaPss`, signed and encrypted.
    #[serde(rename = "aes256-sha256-rsapss-sign-encrypt")]
    Aes256SignAndEncrypt,
    /// Basic256, signed and encrypted; deprecated (SHA-1), needs `insecure: true`.
    #[serde(rename = "basic256-sign-encrypt")]
    Basic256SignAndEncrypt,
    /// Basic128Rsa15, signed and encrypted; deprecated (SHA-1, PKCS#1 v1.5), needs `insecure: true`.
    #[serde(rename = "basic128rsa15-sign-encrypt")]
    Basic128Rsa15SignAndEncrypt,
}

impl OpcUaPolicy {
    /// Every policy a mapping may name.
    pub const ALL: [Self; 10] = [
        Self::Best,
        Self::None,
        Self::Basic256Sha256Sign,
        Self::Basic256Sha256SignAndEncrypt,
        Self::Aes128Sign,
        Self::Aes128SignAndEncrypt,
        Self::Aes256Sign,
        Self::Aes256SignAndEncrypt,
        Self::Basic256SignAndEncrypt,
        Self::Basic128Rsa15SignAndEncrypt,
    ];

    /// The word used in mappings.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::None => "none",
            Self::Basic256Sha256Sign => "basic256sha256-sign",
            Self::Basic256Sha256SignAndEncrypt => "basic256sha256-sign-encrypt",
            Self::Aes128Sign => "aes128-sha256-rsaoaep-sign",
            Self::Aes128SignAndEncrypt => "aes128-sha256-rsaoaep-sign-encrypt",
            Self::Aes256Sign => "aes256-sha256-rsapss-sign",
            Self::Aes256SignAndEncrypt => "aes256-sha256-rsapss-sign-encrypt",
            Self::Basic256SignAndEncrypt => "basic256-sign-encrypt",
            Self::Basic128Rsa15SignAndEncrypt => "basic128rsa15-sign-encrypt",
        }
    }

    /// Whether OPC UA has deprecated it (Part 7, profiles of 1.04: SHA-1 is broken).
    #[must_use]
    pub const fn is_deprecated(self) -> bool {
        matches!(self, Self::Basic256SignAndEncrypt | Self::Basic128Rsa15SignAndEncrypt)
    }
}

/// How to secure and log in to a device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Security {
    /// OPC UA policy; ignored by other protocols.
    pub policy: OpcUaPolicy,
    /// User name; anonymous without one.
    pub user: Option<String>,
    /// Password of `user`.
    pub password: Option<Secret>,
    /// The mapping allows policies that OPC UA has deprecated.
    pub insecure: bool,
    /// X.509 certificate (DER or PEM) of the user, instead of a name and password (OPC UA Part 4 §7.40.5).
    pub user_certificate: Option<PathBuf>,
    /// The key of `user_certificate`, PEM.
    pub user_key: Option<PathBuf>,
    /// Certificates of a TLS connection; ignored where the endpoint is not TLS.
    pub tls: Tls,
}

/// Certificates of a TLS connection. Files are PEM and are read at every connect, so that a renewed certificate
/// needs no restart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// Certificates of the authorities that may have signed the server's.
    pub ca: Option<PathBuf>,
    /// SHA-256 over the server's own certificate (DER), 64 hexadecimal digits; instead of `ca`.
    pub pin: Option<String>,
    /// Our certificate, with its chain.
    pub certificate: Option<PathBuf>,
    /// The key of `certificate`.
    pub key: Option<PathBuf>,
}
