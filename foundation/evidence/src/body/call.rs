//! What a party asks of a contract.

use super::{ARGUMENTS_MAX, BodyFault};
use crate::cbor::{self, Cbor, Fields, bytes, int, map, text};
use std::collections::BTreeMap;
use tally_model::{ActionName, AgreementId, ContractName, Timestamp};

/// A party asks a contract for something.
#[derive(Debug, Clone, PartialEq)]
pub struct CallBody {
    /// Native (`registry`, `accounts`) or from the library.
    pub contract: ContractName,
    /// What is asked.
    pub action: ActionName,
    /// Which agreement it concerns, for calls on a running one.
    pub agreement: Option<AgreementId>,
    /// Arguments; their meaning is the contract's.
    pub args: BTreeMap<String, Cbor>,
    /// Makes two otherwise equal calls two statements; 16 random bytes.
    pub nonce: [u8; 16],
    /// When the caller made it, microseconds since the epoch, by the caller's clock.
    pub at: Timestamp,
}

impl CallBody {
    /// The body's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let args = map(self.args.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let mut fields = vec![
            ("contract", text(self.contract.as_str())),
            ("action", text(self.action.as_str())),
            ("args", args),
            ("nonce", bytes(self.nonce)),
            ("at", int(self.at.as_micros())),
        ];
        if let Some(agreement) = &self.agreement {
            fields.push(("agreement", text(agreement.as_str())));
        }
        cbor::encode(&map(fields))
    }

    /// Reads a body strictly.
    ///
    /// # Errors
    /// [`BodyFault`].
    pub fn decode(body: &[u8]) -> Result<Self, BodyFault> {
        let mut fields = Fields::decode(body)?;
        let agreement = match fields.text_opt("agreement")? {
            Some(id) => Some(AgreementId::try_new(&id).map_err(|_| BodyFault::Word(id))?),
            None => None,
        };
        let call = Self {
            contract: fields.parse("contract", "a contract name")?,
            action: fields.parse("action", "an action name")?,
            agreement,
            args: fields.fields("args")?.rest().into_iter().collect(),
            nonce: fields.bytes_exact("nonce")?,
            at: Timestamp::from_micros(fields.int("at")?),
        };
        fields.finish()?;
        if call.args.len() > ARGUMENTS_MAX {
            return Err(BodyFault::TooManyArguments);
        }
        Ok(call)
    }

    /// What the statement is about: the agreement, or the contract when there is none.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.agreement.as_ref().map_or(self.contract.as_str(), AgreementId::as_str)
    }
}
