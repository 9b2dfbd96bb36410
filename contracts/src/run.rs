//! What every part of one execution shares: the state, the block, the events so far.

use crate::codec::Record;
use crate::records::{self, Party};
use crate::{Block, Overlay, Refusal, keys};
use std::collections::BTreeMap;
use std::time::Duration;
use tally_evidence::cbor::Cbor;
use tally_evidence::{Event, KeyId, PartyKind};
use tally_model::{PartyId, Timestamp};

/// A statement made later than this after block time comes from a clock that is wrong, not merely fast.
const FUTURE_MAX: Duration = Duration::from_secs(24 * 3600);

/// One input being executed.
pub(crate) struct Run<'s, 'b> {
    pub state: &'s mut Overlay<'b>,
    pub block: &'s Block,
    pub events: Vec<Event>,
}

impl Run<'_, '_> {
    pub(crate) fn load<T: Record>(&self, key: &[u8]) -> Result<Option<T>, Refusal> {
        records::load(self.state, key)
    }

    pub(crate) fn store<T: Record>(&mut self, key: Vec<u8>, record: &T) {
        records::store(self.state, key, record);
    }

    pub(crate) fn emit<const N: usize>(&mut self, kind: &str, subject: &str, data: [(&str, Cbor); N]) {
        let data = data.into_iter().map(|(name, value)| (name.to_owned(), value));
        self.emit_map(kind, subject, data.collect());
    }

    pub(crate) fn emit_map(&mut self, kind: &str, subject: &str, data: BTreeMap<String, Cbor>) {
        self.events.push(Event { kind: kind.to_owned(), subject: subject.to_owned(), data });
    }

    /// Nobody may speak from far in the future.
    pub(crate) fn check_time(&self, at: Timestamp) -> Result<(), Refusal> {
        if at > self.block.time.plus(FUTURE_MAX) {
            return Err(Refusal::FromTheFuture { at: at.to_string(), now: self.block.time.to_string() });
        }
        Ok(())
    }

    /// The signer: registered, not revoked, with this key or, while both hold, the one before.
    pub(crate) fn signer(&self, signer: &PartyId, key: &KeyId) -> Result<Party, Refusal> {
        let party: Option<Party> = self.load(&keys::party(signer))?;
        let party = party.ok_or_else(|| Refusal::UnknownSigner { signer: signer.to_string() })?;
        if party.revoked {
            return Err(Refusal::SignerRevoked { signer: signer.to_string() });
        }
        let was_key = |(previous, until): &(KeyId, Timestamp)| previous == key && self.block.time <= *until;
        if party.key != *key && !party.previous.as_ref().is_some_and(was_key) {
            let (found, registered) = (key.to_string(), party.key.to_string());
            return Err(Refusal::WrongKey { signer: signer.to_string(), found, registered });
        }
        Ok(party)
    }

    /// A party that is named: registered, not revoked, of one of these kinds.
    pub(crate) fn named(&self, id: &PartyId, kinds: &[PartyKind], needs: &'static str) -> Result<Party, Refusal> {
        let party: Option<Party> = self.load(&keys::party(id))?;
        let fits = |party: &Party| !party.revoked && (kinds.is_empty() || kinds.contains(&party.kind));
        party.filter(fits).ok_or_else(|| Refusal::UnknownParty { party: id.to_string(), needs })
    }
}
