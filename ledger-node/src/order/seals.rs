//! The seals under a block's statements, checked by a node that follows: it believes the one that orders in nothing that it can
//! check itself.
//!
//! A statement is held against the key that is registered before its block. One whose signer had no such key then is held against
//! what is registered behind the block, and only when it took effect: the contracts refuse what another key sealed (123).

use super::OpenLedgerError;
use crate::admit::{CheckedStatement, Refused, check_seal, parse_any};
use crate::execute::ExecutedEntry;
use tally_contracts::{StateRead, resolve, views};
use tally_evidence::{SignedStatement, VerifyingKey};
use tally_model::PartyId;

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
            let keys = if height == 0 { vec![ledger.clone()] } else { keys_of(state, &statement.signer) };
            match keys.iter().find(|key| key.id() == parsed.key) {
                Some(key) => {
                    check_seal(&parsed, parsed.key, || parsed.seal_holds_under(key))
                        .map_err(|source| check.fault(place, &parsed, source))?;
                }
                None => check.open.push((place, parsed)),
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
            let signer = || parsed.issuer.as_str().to_owned();
            let checked = match keys_of(state, &parsed.issuer).iter().find(|key| key.id() == parsed.key) {
                Some(key) => check_seal(parsed, parsed.key, || parsed.seal_holds_under(key)),
                None => Err(Refused::UnknownKey { signer: signer(), key: parsed.key.to_string() }),
            };
            checked.map_err(|source| self.fault(*place, parsed, source))?;
        }
        Ok(())
    }

    fn fault(&self, place: usize, parsed: &SignedStatement, source: Refused) -> OpenLedgerError {
        OpenLedgerError::Seal { height: self.height, place, signer: parsed.issuer.as_str().to_owned(), source }
    }
}

/// The key of a party, and the one before its last rotation.
fn keys_of(state: &dyn StateRead, party: &PartyId) -> Vec<VerifyingKey> {
    let key = views::party(state, party).map(|(party, _)| party.key);
    key.into_iter().chain(resolve::previous_key(state, party).map(|(key, _)| key)).collect()
}

/// Whether the contracts did anything of it; of a batch, any trigger.
fn took_effect(entry: &ExecutedEntry) -> bool {
    entry.refusal == 0 && (entry.triggers.is_empty() || entry.triggers.contains(&0))
}
