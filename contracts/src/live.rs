//! Which entries the state still rests on: what a node that forgets old statements must not forget.
//!
//! Registrations are not looked for here: every call of the registry is kept (a device may have had another agent once, and
//! what that agent sealed rests on the registration of then). Old anchors are not kept: whoever wants to show for longer that
//! no reading is missing keeps the coverage files, or an archive.

use crate::agreements::{Direction, each_living, prefixes};
use crate::attestation::Attestation;
use crate::codec::Record;
use crate::records::{self, Agreement, LastAnchor, Standing, StepCause};
use crate::views::AgreementView;
use crate::{Refusal, StateRead, access, keys};
use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};
use tally_model::{AgreementId, Timestamp};

/// The first byte of the keys of standing terms, and of the last anchors.
const STANDING: &[u8] = b"s";
const LAST_ANCHORS: &[u8] = b"v";
/// And of the rounds of attesting.
const ATTESTATIONS: &[u8] = b"S";

/// What of some old entries is still needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Live {
    /// Entries whose statements and outcomes are.
    pub entries: BTreeSet<u64>,
    /// Agreements whose terms that ran out are.
    pub agreements: BTreeSet<String>,
}

/// What of `entries` the state still rests on: steps of agreements that have not ended, or that changed at `since` or later;
/// standing terms in force; what was said in rounds of attesting that run; the last anchor of each device; policies in force, open
/// permits, quarantines and bars. Reads every agreement of the state once, some hundreds at a time.
///
/// # Errors
/// [`Refusal::StateCorrupt`] when a record cannot be read: whoever deletes must not guess.
pub fn live(state: &dyn StateRead, entries: Range<u64>, since: Timestamp) -> Result<Live, Refusal> {
    let mut live = Live::default();
    for standing in all::<Standing>(state, STANDING)? {
        live.keep(&entries, standing.entry);
    }
    for anchor in all::<LastAnchor>(state, LAST_ANCHORS)? {
        live.keep(&entries, anchor.entry);
    }
    for round in all::<Attestation>(state, ATTESTATIONS)? {
        // What was said becomes evidence when enough have said it.
        round.votes.iter().for_each(|vote| live.keep(&entries, vote.origin.entry));
    }
    for entry in access::entries_in_force(state)? {
        live.keep(&entries, entry);
    }
    for read in prefixes(state) {
        let (prefix, given) = read?;
        each_living(state, &prefix, 1..=given, Direction::Rising, |read| {
            let agreement = read?;
            if is_live(&agreement, since) && agreement.opened_by.entry < entries.end {
                live.keep_agreement(state, &entries, &agreement)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(live)
}

fn is_live(agreement: &Agreement, since: Timestamp) -> bool {
    !agreement.ended || agreement.updated >= since
}

fn all<T: Record>(state: &dyn StateRead, prefix: &[u8]) -> Result<Vec<T>, Refusal> {
    let read = |(key, value): (Vec<u8>, Vec<u8>)| T::from_bytes(&value).ok_or_else(|| records::corrupt(&key));
    state.scan(prefix, usize::MAX).into_iter().map(read).collect()
}

impl Live {
    fn keep(&mut self, entries: &Range<u64>, entry: u64) {
        if entries.contains(&entry) {
            self.entries.insert(entry);
        }
    }

    /// An agreement that left the state since, as its retirement says: what is still wanted of it when it changed at `since` or
    /// later.
    pub fn keep_retired(&mut self, entries: &Range<u64>, agreement: &AgreementView, since: Timestamp) {
        if agreement.updated_at < since {
            return;
        }
        self.agreements.insert(agreement.id.clone());
        agreement.history.iter().chain(&agreement.last_note).for_each(|entry| self.keep(entries, *entry));
    }

    fn keep_agreement(
        &mut self,
        state: &dyn StateRead,
        entries: &Range<u64>,
        agreement: &Agreement,
    ) -> Result<(), Refusal> {
        let id: &AgreementId = &agreement.id;
        self.agreements.insert(id.to_string());
        for step in all::<StepCause>(state, &keys::steps(id))? {
            if let StepCause::Entry(origin) = step {
                self.keep(entries, origin.entry);
            }
        }
        let origins = [Some(agreement.opened_by), agreement.last_note];
        origins.into_iter().flatten().for_each(|origin| self.keep(entries, origin.entry));
        Ok(())
    }
}
