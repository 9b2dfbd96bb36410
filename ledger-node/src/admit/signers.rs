//! Registered signers with their parsed keys, so that a statement costs one verification and no lookup on disk.

use crate::store::{IndexFault, Store};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use tally_contracts::{resolve, views};
use tally_evidence::{KeyId, VerifyingKey};
use tally_model::{PartyId, Timestamp};

/// A registered signer.
#[derive(Debug)]
pub struct Signer {
    pub key: VerifyingKey,
    pub key_id: KeyId,
    pub is_revoked: bool,
    /// The key before, and until when (block time) it still speaks.
    pub previous: Option<(VerifyingKey, Timestamp)>,
}

impl Signer {
    /// The key to check a seal with that names `id`; the one in force for an unknown id. Who decides in the end is the contract,
    /// by block time; here an old key that ran out is turned away, so that it leaves no trace on the ledger.
    pub fn key_for(&self, id: &KeyId, now: Timestamp) -> (&VerifyingKey, KeyId) {
        match &self.previous {
            Some((key, until)) if key.id() == *id && now <= *until => (key, *id),
            _ => (&self.key, self.key_id),
        }
    }
}

/// The cache: as many as are registered; strangers are never kept.
#[derive(Debug, Default)]
pub struct Signers {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    signers: HashMap<PartyId, Arc<Signer>>,
    /// Rises whenever the registry may have changed: what was read from an older state is then not kept.
    generation: u64,
}

impl Signers {
    /// The signer, from memory or from the state.
    pub fn find(&self, id: &PartyId, store: &Store) -> Result<Option<Arc<Signer>>, IndexFault> {
        let generation = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(signer) = known.signers.get(id) {
                return Ok(Some(Arc::clone(signer)));
            }
            known.generation
        };
        let Some(signer) = look_up(id, store)? else { return Ok(None) };
        let signer = Arc::new(signer);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.generation == generation {
            known.signers.insert(id.clone(), Arc::clone(&signer));
        }
        Ok(Some(signer))
    }

    /// Forgets all: a block changed the registry. Called after the block is visible to readers.
    pub fn forget(&self) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.signers.clear();
        known.generation += 1;
    }
}

fn look_up(id: &PartyId, store: &Store) -> Result<Option<Signer>, IndexFault> {
    let state = store.state()?;
    let signer = views::party(&state, id).map(|(party, _)| Signer {
        key_id: party.key.id(),
        key: party.key,
        is_revoked: views::is_revoked(&state, id),
        previous: resolve::previous_key(&state, id),
    });
    state.check()?;
    Ok(signer)
}
