//! The securities a simulated server offers.

use opcua::crypto::SecurityPolicy;
use opcua::types::MessageSecurityMode;
use tally_model::OpcUaPolicy;

/// A way to secure a session that the server offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpcUaOffer {
    /// No security.
    None,
    /// Basic256Sha256, signed.
    Basic256Sha256Sign,
    /// Basic256Sha256, signed and encrypted.
    Basic256Sha256SignAndEncrypt,
    /// `Aes128_Sha256_RsaOaep`, signed and encrypted.
    Aes128SignAndEncrypt,
    /// `Aes256_Sha256_RsaPss`, signed and encrypted.
    Aes256SignAndEncrypt,
    /// `Aes128_Sha256_RsaOaep`, signed.
    Aes128Sign,
    /// `Aes256_Sha256_RsaPss`, signed.
    Aes256Sign,
    /// Basic256, signed and encrypted; deprecated.
    Basic256SignAndEncrypt,
    /// Basic128Rsa15, signed and encrypted; deprecated.
    Basic128Rsa15SignAndEncrypt,
}

impl OpcUaOffer {
    /// What OPC UA has deprecated: offered only when asked for.
    pub const DEPRECATED: &'static [Self] = &[Self::Basic256SignAndEncrypt, Self::Basic128Rsa15SignAndEncrypt];

    /// Everything a server of today offers.
    pub const ALL: &'static [Self] = &[
        Self::None,
        Self::Basic256Sha256Sign,
        Self::Basic256Sha256SignAndEncrypt,
        Self::Aes128SignAndEncrypt,
        Self::Aes256SignAndEncrypt,
        Self::Aes128Sign,
        Self::Aes256Sign,
    ];

    /// What a mapping's word asks for; `None` for `best`, which names none.
    #[must_use]
    pub const fn of(policy: OpcUaPolicy) -> Option<Self> {
        Some(match policy {
            OpcUaPolicy::Best => return None,
            OpcUaPolicy::None => Self::None,
            OpcUaPolicy::Basic256Sha256Sign => Self::Basic256Sha256Sign,
            OpcUaPolicy::Basic256Sha256SignAndEncrypt => Self::Basic256Sha256SignAndEncrypt,
            OpcUaPolicy::Aes128Sign => Self::Aes128Sign,
            OpcUaPolicy::Aes128SignAndEncrypt => Self::Aes128SignAndEncrypt,
            OpcUaPolicy::Aes256Sign => Self::Aes256Sign,
            OpcUaPolicy::Aes256SignAndEncrypt => Self::Aes256SignAndEncrypt,
            OpcUaPolicy::Basic256SignAndEncrypt => Self::Basic256SignAndEncrypt,
            OpcUaPolicy::Basic128Rsa15SignAndEncrypt => Self::Basic128Rsa15SignAndEncrypt,
        })
    }

    pub(super) const fn parts(self) -> (SecurityPolicy, MessageSecurityMode) {
        match self {
            Self::None => (SecurityPolicy::None, MessageSecurityMode::None),
            Self::Basic256Sha256Sign => (SecurityPolicy::Basic256Sha256, MessageSecurityMode::Sign),
            Self::Basic256Sha256SignAndEncrypt => (SecurityPolicy::Basic256Sha256, MessageSecurityMode::SignAndEncrypt),
            Self::Aes128SignAndEncrypt => (SecurityPolicy::Aes128Sha256RsaOaep, MessageSecurityMode::SignAndEncrypt),
            Self::Aes256SignAndEncrypt => (SecurityPolicy::Aes256Sha256RsaPss, MessageSecurityMode::SignAndEncrypt),
            Self::Aes128Sign => (SecurityPolicy::Aes128Sha256RsaOaep, MessageSecurityMode::Sign),
            Self::Aes256Sign => (SecurityPolicy::Aes256Sha256RsaPss, MessageSecurityMode::Sign),
            Self::Basic256SignAndEncrypt => (SecurityPolicy::Basic256, MessageSecurityMode::SignAndEncrypt),
            Self::Basic128Rsa15SignAndEncrypt => (SecurityPolicy::Basic128Rsa15, MessageSecurityMode::SignAndEncrypt),
        }
    }
}
