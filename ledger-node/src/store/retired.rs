//! Agreements that left the state: what the outcome of their retirement says, found by the index of terms that ran out.

use super::index::{Index, TERMS, term_key};
use super::pending::PendingBlock;
use super::{CommitError, IndexFault, Store};
use redb::ReadableDatabase;
use std::collections::{BTreeMap, BTreeSet};
use tally_contracts::views::{self, AgreementView};
use tally_evidence::OutcomeRecord;
use tally_model::{AgreementId, Timestamp};

/// Height, and place among the block's outcomes.
type TermPlace = (u64, u32);

impl Index {
    /// The last term that ran out of an agreement.
    pub(in crate::store) fn last_term(&self, agreement: &AgreementId) -> Result<Option<TermPlace>, IndexFault> {
        let of_it = |block: &PendingBlock| {
            let of_it = block.term_places().filter(|((of, _), _)| of == agreement);
            of_it.max_by_key(|((_, due), _)| *due).map(|(_, place)| place)
        };
        // Terms of an agreement run out in their order.
        if let Some(place) = self.pending.find(of_it) {
            return Ok(Some(place));
        }
        let table = self.db.begin_read()?.open_table(TERMS)?;
        let [first, last] = [0, i64::MAX].map(|due| term_key(agreement, Timestamp::from_micros(due)));
        let found = table.range(first.as_slice()..=last.as_slice())?.next_back().transpose()?;
        Ok(found.map(|(_, place)| place.value()))
    }

    /// Terms of any agreement that were due at `since` or later and ran out: for each block their places. Reads every key.
    pub(in crate::store) fn terms_since(&self, since: Timestamp) -> Result<BTreeMap<u64, BTreeSet<u32>>, IndexFault> {
        let mut found: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
        for block in self.pending.blocks() {
            for (_, (height, place)) in block.term_places().filter(|((_, due), _)| *due >= since) {
                found.entry(height).or_default().insert(place);
            }
        }
        for row in self.db.begin_read()?.open_table(TERMS)?.range::<&[u8]>(..)? {
            let (key, place) = row?;
            let due = key.value().last_chunk().map(|due| i64::from_be_bytes(*due));
            if due.is_some_and(|due| due >= since.as_micros()) {
                let (height, place) = place.value();
                found.entry(height).or_default().insert(place);
            }
        }
        Ok(found)
    }
}

impl Store {
    /// An agreement: as the state has it, or, when it is retired, as the outcome of that has it.
    ///
    /// # Errors
    /// [`CommitError::Pruned`] when it is retired and that outcome is not kept; [`IndexFault`].
    pub fn agreement(&self, id: &AgreementId) -> Result<Option<AgreementView>, CommitError> {
        let state = self.state()?;
        let found = views::agreement(&state, id);
        let is_retired = found.is_none() && views::is_retired(&state, id);
        state.check()?;
        if !is_retired {
            return Ok(found);
        }
        let place = self.index.last_term(id)?;
        let retired = match place {
            Some((height, place)) => self.retirements(height, [place])?.pop(),
            None => None,
        };
        let what = || format!("what became of {id}, which has ended and is retired,");
        retired.map(Some).ok_or_else(|| self.pruned(place.map_or(u64::MAX, |(height, _)| height), what()))
    }

    /// Gives every agreement that was to be retired at `since` or later, and was. Reads all terms that ran out.
    pub(crate) fn each_retired_since(
        &self,
        since: Timestamp,
        mut take: impl FnMut(&AgreementView),
    ) -> Result<(), IndexFault> {
        for (height, places) in self.index.terms_since(since)? {
            self.retirements(height, places)?.iter().for_each(&mut take);
        }
        Ok(())
    }

    /// Those of these outcomes of a block that are retirements and still there.
    fn retirements(
        &self,
        height: u64,
        places: impl IntoIterator<Item = u32>,
    ) -> Result<Vec<AgreementView>, IndexFault> {
        let (all, kept) = match self.index.outcomes(height)? {
            Some(all) => (all, None),
            None => (Vec::new(), self.index.kept(height)?),
        };
        let bytes = |place: u32| {
            let kept = kept.as_ref().and_then(|block| block.outcome(u64::from(place)));
            kept.map(|kept| kept.outcome.as_slice()).or(all.get(place as usize).map(Vec::as_slice))
        };
        let view = |bytes| views::retired(&OutcomeRecord::decode(bytes).ok()?.events);
        Ok(places.into_iter().filter_map(bytes).filter_map(view).collect())
    }
}
