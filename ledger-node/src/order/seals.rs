//! The seals under a block's statements, checked by a node that follows: it believes the one that orders in nothing that it can
//! check itself.
//!
//! A statement is held against the key that is registered before its block. One whose signer had no such key then is held against
//! what is registered behind the block, and only when it took effect: the contracts refuse what another key sealed (123).

use super::OpenLedgerError;
use crate::admit::{CheckedStatement, Refused, check_seal, parse_any};
use crate::execute::ExecutedEntry;
use tally_contracts::{StateRead, views};
use tally_evidence::{SignedStatement, VerifyingKey};

/// What the state before a block could not say of its seals.
pub struct SealCheck {
    height: u64,
    open: Vec<(usize, SignedStatement)>,
}

impl SealCheck {
    /// Checks what can be checked with the state before the block. The genesis is sealed by the ledger itself.
    ///
    /// # Errors
    /// [`OpenLedgerError::Seal`].
    pub fn before(
        height: u64,
        statements: &[CheckedStatement],
        state: &dyn StateRead,
        ledger: &VerifyingKey,
    ) -> Result<Self, OpenLedgerError> {
        let mut check = Self { height, open: Vec::new() };
        for (place, statement) in statements.iter().enumerate() {
            let parsed = parse_any(&statement.bytes);
            let parsed = parsed.map_err(|source| OpenLedgerError::Statement { height, place, source })?;
            let registered = match views::party(state, &statement.signer) {
                _ if height == 0 => Some(ledger.clone()),
                Some((party, _)) => Some(party.key),
                None => None,
            };
            match registered.map(|key| (key.id(), key)) {
                Some((id, key)) if id == parsed.key => {
                    check_seal(&parsed, &key, id).map_err(|source| check.fault(place, &parsed, source))?;
                }
                _ => check.open.push((place, parsed)),
            }
        }
        Ok(check)
    }

    /// Checks the rest with what the contracts made of it and the state behind the block.
    ///
    /// # Errors
    /// [`OpenLedgerError::Seal`].
    pub fn after(self, entries: &[ExecutedEntry], state: &dyn StateRead) -> Result<(), OpenLedgerError> {
        for (place, parsed) in &self.open {
            if !entries.get(*place).is_none_or(took_effect) {
                continue;
            }
            let checked = match views::party(state, &parsed.issuer) {
                Some((party, _)) => check_seal(parsed, &party.key, party.key.id()),
                None => Err(Refused::UnknownSigner { signer: parsed.issuer.as_str().to_owned() }),
            };
            checked.map_err(|source| self.fault(*place, parsed, source))?;
        }
        Ok(())
    }

    fn fault(&self, place: usize, parsed: &SignedStatement, source: Refused) -> OpenLedgerError {
        OpenLedgerError::Seal { height: self.height, place, signer: parsed.issuer.as_str().to_owned(), source }
    }
}

/// Whether the contracts did anything of it; of a batch, any trigger.
fn took_effect(entry: &ExecutedEntry) -> bool {
    entry.refusal == 0 && (entry.triggers.is_empty() || entry.triggers.contains(&0))
}
