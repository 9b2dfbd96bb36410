//! The statement that begins a ledger.

use super::fault::OpenLedgerError;
use crate::admit::CheckedStatement;
use tally_contracts::{Genesis, genesis_body};
use tally_evidence::{SigningKey, StatementKind, sign};
use tally_model::PartyId;

/// The statement that begins a ledger.
pub(crate) struct GenesisEntry(CheckedStatement);

impl GenesisEntry {
    /// Sealed by the ledger itself: its name is the `iss`, its key the key.
    pub fn new(genesis: &Genesis, ledger: &str, key: &SigningKey) -> Result<Self, OpenLedgerError> {
        let issuer = PartyId::try_new(ledger).map_err(|_| OpenLedgerError::Name(ledger.to_owned()))?;
        let body = genesis_body(genesis);
        let subject = body.subject().to_owned();
        let payload = body.encode();
        let at = genesis.at.as_seconds();
        let bytes = sign(StatementKind::Call, key, &issuer, &subject, ledger, at, payload);
        let statement = CheckedStatement::from_log(&bytes).map_err(OpenLedgerError::Genesis)?;
        Ok(Self(statement))
    }

    pub(super) fn statement(self) -> CheckedStatement {
        self.0
    }
}
