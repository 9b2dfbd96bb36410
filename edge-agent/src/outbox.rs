//! Step 7: sealed triggers on disk until the ledger has them. **After [`Outbox::sync`] a power cut loses nothing.**
//!
//! One journal record for each trigger ([`Sealed::encode`]); its record number *is* the trigger's number, so numbers have
//! no gaps and none is given twice, whatever happens. Triggers that share a seal stand in one record, so that a power cut leaves
//! all of them or none: 3 u8, statement with u32 length, count u32, and each trigger's record (without the statement) with u32
//! length. It has the number of the first; behind it follows for each further one a record that only takes its number: 4 u8,
//! number of the first u64. Opening adds those that a power cut took.
//!
//! **Who writes, who deletes.** The ingest thread puts in; the submit task marks done and discards whole segments.
//!
//! **Order.** Submitted strictly in number order, critical ones too: the ledger refuses an agent's trigger whose number is
//! not above its last one (refusal 101), so one that overtakes would kill those it overtook. Critical ones have room of their
//! own here, and in the node a lane of their own, into which they take along what this agent sent before.
//!
//! **Limits.** `outbox_bytes_max` of triggers without an answer. Alarm at half. At 15/16 only critical triggers are taken,
//! at the limit none: a rule that still holds when there is room again is sealed then. On disk it may take half as much
//! again, while SCADA's broker is away: triggers the ledger has are kept for it up to that.

mod record;

use crate::error::StoreError;
use crate::seal::Sealed;
use record::{Record, encode_batch, encode_further};
use std::cell::RefCell;
use std::collections::BTreeSet;
use tally_journal::{Journal, JournalError, Options, Storage};
use tally_model::Priority;

/// The journal's limits: small segments, so that disk comes back soon.
#[must_use]
pub fn journal_options(bytes_max: u64) -> Options {
    Options { segment_bytes_max: (bytes_max / 16).clamp(64 << 10, 16 << 20), ..Options::default() }
}

/// An open outbox.
pub struct Outbox<S: Storage> {
    journal: Journal<S>,
    bytes_max: u64,
    /// Bytes of triggers without an answer.
    pending_bytes: u64,
    pending: u64,
    /// Every trigger below it is answered.
    cursor: u64,
    /// Answered triggers behind the cursor.
    answered: BTreeSet<u64>,
    /// The batch that was read last: its triggers are mostly asked for one after the other.
    read_last: RefCell<Vec<Sealed>>,
}

impl<S: Storage> Outbox<S> {
    /// Finds what is still to be submitted: what is not among `answered`. `visit` sees every trigger still in the journal.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn begin(
        mut journal: Journal<S>,
        bytes_max: u64,
        answered: &BTreeSet<u64>,
        mut visit: impl FnMut(&Sealed),
    ) -> Result<Self, StoreError> {
        let (mut pending_bytes, mut pending, mut end) = (0, 0, None);
        for record in journal.iter_from(0).map_err(fault)? {
            let (number, bytes) = record.map_err(fault)?;
            let found = match Record::decode(number, &bytes)? {
                Record::One(sealed) => vec![*sealed],
                Record::Batch(batch) => batch,
                Record::Further(_) => continue,
            };
            end = found.last().zip(found.first()).map(|(last, first)| (first.number, last.number));
            for sealed in found {
                visit(&sealed);
                if !answered.contains(&sealed.number) {
                    pending_bytes += sealed.kept_bytes() as u64;
                    pending += 1;
                }
            }
        }
        complete(&mut journal, end)?;
        let answered = answered.iter().copied().filter(|number| *number >= journal.first_number()).collect();
        let cursor = journal.first_number();
        let read_last = RefCell::default();
        let mut outbox = Self { journal, bytes_max, pending_bytes, pending, cursor, answered, read_last };
        outbox.advance();
        Ok(outbox)
    }

    /// The number the next trigger gets.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.journal.next_number()
    }

    /// Whether a trigger of this priority and size may be put in, on top of `reserved` bytes.
    #[must_use]
    pub fn has_room(&self, priority: Priority, bytes: usize, reserved: u64) -> bool {
        let limit = if priority == Priority::Critical { self.bytes_max } else { self.bytes_max - self.bytes_max / 16 };
        self.pending_bytes + reserved + bytes as u64 <= limit
    }

    /// Puts a trigger in. Durable after [`Outbox::sync`], and not before may anyone be told of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put(&mut self, sealed: &Sealed) -> Result<(), StoreError> {
        let bytes = sealed.encode();
        let number = self.journal.append(&bytes).map_err(fault)?;
        debug_assert_eq!(number, sealed.number);
        self.note(sealed);
        Ok(())
    }

    /// Puts triggers in, in number order; those of a batch as one record.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_all(&mut self, sealed: &[Sealed]) -> Result<(), StoreError> {
        for together in sealed.chunk_by(|one, next| one.batched.is_some() && one.id == next.id) {
            match together {
                [one] if one.batched.is_none() => self.put(one)?,
                batch => self.put_batch(batch)?,
            }
        }
        Ok(())
    }

    fn put_batch(&mut self, batch: &[Sealed]) -> Result<(), StoreError> {
        let first = self.journal.append(&encode_batch(batch)).map_err(fault)?;
        // If we die from here on: opening adds what is missing of these.
        for _ in batch.iter().skip(1) {
            self.journal.append(&encode_further(first)).map_err(fault)?;
        }
        debug_assert_eq!(Some(first), batch.first().map(|sealed| sealed.number));
        batch.iter().for_each(|sealed| self.note(sealed));
        Ok(())
    }

    fn note(&mut self, sealed: &Sealed) {
        self.pending_bytes += sealed.kept_bytes() as u64;
        self.pending += 1;
    }

    /// Makes what was put in durable.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.journal.sync().map_err(fault)
    }

    /// The next trigger to submit: the oldest without an answer, once it is synced.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn next(&self) -> Result<Option<Sealed>, StoreError> {
        self.get(self.cursor)
    }

    /// The next trigger to submit when all before `ahead` were submitted: the oldest that was not, and when there is none the oldest
    /// without an answer.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn next_from(&self, ahead: u64) -> Result<Option<Sealed>, StoreError> {
        match self.get(ahead.max(self.cursor))? {
            Some(unsent) => Ok(Some(unsent)),
            None => self.next(),
        }
    }

    /// A trigger that is still in the journal and synced.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn get(&self, number: u64) -> Result<Option<Sealed>, StoreError> {
        if number >= self.journal.durable_number() {
            return Ok(None);
        }
        let found = self.read_last.borrow().iter().find(|sealed| sealed.number == number).cloned();
        match (found, self.record(number)?) {
            (Some(found), Some(_)) => Ok(Some(found)),
            (_, Some(Record::One(sealed))) => Ok(Some(*sealed)),
            (_, Some(Record::Batch(batch))) => Ok(self.remember(batch, number)),
            (_, Some(Record::Further(first))) => match self.record(first)? {
                Some(Record::Batch(batch)) => Ok(self.remember(batch, number)),
                // The record of the batch is given up already: so is all that stood in it.
                _ => Ok(None),
            },
            (_, None) => Ok(None),
        }
    }

    /// All triggers that share the seal of `sealed`, in order; itself when it has one of its own.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn together(&self, sealed: &Sealed) -> Result<Vec<Sealed>, StoreError> {
        let Some(batched) = &sealed.batched else { return Ok(vec![sealed.clone()]) };
        let first = sealed.number.saturating_sub(u64::from(batched.item));
        match self.record(first)? {
            Some(Record::Batch(batch)) => Ok(batch),
            _ => Err(StoreError::Foreign { store: "outbox", record: first }),
        }
    }

    /// Those of them that have no answer yet.
    #[must_use]
    pub fn unanswered(&self, mut sealed: Vec<Sealed>) -> Vec<Sealed> {
        sealed.retain(|sealed| sealed.number >= self.cursor && !self.answered.contains(&sealed.number));
        sealed
    }

    fn record(&self, number: u64) -> Result<Option<Record>, StoreError> {
        let bytes = self.journal.read(number).map_err(fault)?;
        bytes.map(|bytes| Record::decode(number, &bytes)).transpose()
    }

    fn remember(&self, batch: Vec<Sealed>, number: u64) -> Option<Sealed> {
        let found = batch.iter().find(|sealed| sealed.number == number).cloned();
        *self.read_last.borrow_mut() = batch;
        found
    }

    /// The trigger has its answer.
    pub fn done(&mut self, sealed: &Sealed) {
        let number = sealed.number;
        if number < self.cursor || !self.answered.insert(number) {
            return;
        }
        self.pending_bytes = self.pending_bytes.saturating_sub(sealed.kept_bytes() as u64);
        self.pending = self.pending.saturating_sub(1);
        self.advance();
    }

    fn advance(&mut self) {
        while self.answered.remove(&self.cursor) {
            self.cursor += 1;
        }
    }

    /// Gives disk back: what is answered (the answers must be synced before) and told to SCADA up to `published`. When
    /// SCADA's broker is away for long, half of `outbox_bytes_max` is kept for it and older ones are not told any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn discard(&mut self, published: u64) -> Result<(), StoreError> {
        let whole = self.whole(self.cursor.min(published))?;
        self.journal.discard_before(whole).map_err(fault)?;
        let mut until = self.journal.first_number();
        while until < self.cursor && self.journal.bytes_on_disk() > self.pending_bytes + self.bytes_max / 2 {
            until += 1 + (self.cursor - until) / 64;
            let whole = self.whole(until.min(self.cursor))?;
            self.journal.discard_before(whole).map_err(fault)?;
        }
        Ok(())
    }

    /// `number`, or the first of its batch: a batch is given up as a whole.
    fn whole(&self, number: u64) -> Result<u64, StoreError> {
        match self.record(number)? {
            Some(Record::Further(first)) => Ok(first),
            _ => Ok(number),
        }
    }

    /// The first trigger still in the journal.
    #[must_use]
    pub fn first_kept(&self) -> u64 {
        self.journal.first_number()
    }

    /// At most `count` triggers from `number` on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn some_from(&self, number: u64, count: usize) -> Result<Vec<Sealed>, StoreError> {
        let end = self.journal.durable_number();
        let numbers = (number.max(self.journal.first_number())..end).take(count);
        // Of a batch whose record was given up nothing is left.
        numbers.filter_map(|number| self.get(number).transpose()).collect()
    }

    /// Triggers without an answer.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// Their bytes.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    /// The limit on them.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// The oldest vault record that a trigger without an answer needs.
    #[must_use]
    pub fn oldest_place(&self) -> Option<u64> {
        // Old triggers stand on old readings; that a later one reaches further back is rare, and its readings are also
        // behind the running rule.
        self.get(self.cursor).ok().flatten().map(|sealed| sealed.places.0)
    }
}

fn fault(source: JournalError) -> StoreError {
    StoreError::Journal { store: "outbox", source }
}

/// Takes the numbers of the last batch (first and last trigger) that a power cut took.
fn complete<S: Storage>(journal: &mut Journal<S>, last: Option<(u64, u64)>) -> Result<(), StoreError> {
    let Some((first, last)) = last else { return Ok(()) };
    if journal.next_number() > last {
        return Ok(());
    }
    while journal.next_number() <= last {
        journal.append(&encode_further(first)).map_err(fault)?;
    }
    journal.sync().map_err(fault)
}

#[cfg(test)]
mod tests;
