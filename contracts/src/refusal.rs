//! The closed, numbered list of refusals.

/// Why a contract says no. The number is recorded in the outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The signer is not registered.
    #[error("`{signer}` is not registered on this ledger; the registry call `register-party` would do it")]
    UnknownSigner {
        /// Who signed.
        signer: String,
    },
}

impl Refusal {
    /// Every number, in order of precedence.
    pub const ALL: &'static [u16] = &[121];

    /// The number recorded in the outcome.
    #[must_use]
    pub const fn number(&self) -> u16 {
        match self {
            Self::UnknownSigner { .. } => 121,
        }
    }

    /// What a number means; the empty text for numbers that are none.
    #[must_use]
    pub const fn describe(number: u16) -> &'static str {
        match number {
            121 => "the signer is not registered",
            _ => "",
        }
    }
}
