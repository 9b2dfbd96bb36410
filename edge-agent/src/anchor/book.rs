//! The anchors on disk, each until its answer and somewhat longer, and how every device stands. The bytes stand in
//! [`super::record`].
//!
//! **Order.** Submitted in the order in which they were sealed: the ledger takes an anchor only behind the one before.
//! **Refused** anchors are not sealed again: the next one of the device waits until everything before it is answered, and says
//! which readings no anchor covers. When the ledger's chain is not ours (another agent or vault sealed for the device), it begins
//! with number 1 anew, and says so.

use super::record::{Answer, Record, SealedAnchor, TURNED_AWAY};
use super::standing::Standings;
pub use super::standing::{PENDING_MAX, Summary};
use crate::error::StoreError;
use tally_evidence::StatementId;
use tally_journal::{Journal, JournalError, Options, Storage};
use tally_model::DeviceId;

/// Bytes on disk above which answered anchors are given up, oldest first: some 60,000 anchors. The node has them all.
pub const BYTES_MAX: u64 = 64 << 20;

/// The journal's limits.
#[must_use]
pub fn journal_options() -> Options {
    Options { segment_bytes_max: 4 << 20, ..Options::default() }
}

/// The open book.
pub struct Book<S: Storage> {
    journal: Journal<S>,
    /// How every device stands.
    pub(super) standings: Standings,
    /// Vault record that came next when the states were written last.
    vault_place: u64,
}

impl<S: Storage> Book<S> {
    /// Reads what is there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn begin(journal: Journal<S>) -> Result<Self, StoreError> {
        let mut book = Self { journal, standings: Standings::default(), vault_place: 0 };
        let mut records = Vec::new();
        for record in book.journal.iter_from(0).map_err(fault)? {
            let (number, bytes) = record.map_err(fault)?;
            let record = Record::decode(&bytes).ok_or(StoreError::Foreign { store: "anchors", record: number })?;
            records.push((number, strip(record)));
        }
        for (number, record) in records {
            book.follow(number, record);
        }
        Ok(book)
    }

    fn follow(&mut self, number: u64, record: Record) {
        match record {
            Record::Anchor(anchor) => self.standings.sealed(number, &anchor),
            Record::Answer(answer) => self.standings.answered(&answer),
            Record::States(place, states) => {
                self.vault_place = place;
                states.into_iter().for_each(|state| self.standings.read(state));
            }
        }
    }

    /// Whether nothing was ever written into it.
    pub(super) fn is_empty(&self) -> bool {
        self.journal.next_number() == 0
    }

    /// Vault record that came next when the states were written last: new devices begin behind it.
    #[must_use]
    pub fn vault_place(&self) -> u64 {
        self.vault_place
    }

    /// Writes down how every device stands.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn save(&mut self, vault_place: u64) -> Result<(), StoreError> {
        self.vault_place = vault_place;
        self.append(&Record::States(vault_place, self.standings.states())).map(|_| ())
    }

    /// Puts an anchor in. Durable after [`Book::sync`], and not before may anyone be told of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put(&mut self, anchor: &SealedAnchor) -> Result<(), StoreError> {
        let record = self.append(&Record::Anchor(anchor.clone()))?;
        self.standings.sealed(record, anchor);
        Ok(())
    }

    /// Makes everything put in durable.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.journal.sync().map_err(fault)
    }

    fn append(&mut self, record: &Record) -> Result<u64, StoreError> {
        self.journal.append(&record.encode()).map_err(fault)
    }

    /// The oldest anchor without an answer, once it is synced, with its journal record.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn next(&self) -> Result<Option<(u64, SealedAnchor)>, StoreError> {
        let Some(record) = self.standings.oldest_pending() else { return Ok(None) };
        if record >= self.journal.durable_number() {
            return Ok(None);
        }
        let bytes = self.journal.read(record).map_err(fault)?.unwrap_or_default();
        match Record::decode(&bytes) {
            Some(Record::Anchor(anchor)) => Ok(Some((record, anchor))),
            _ => Err(StoreError::Foreign { store: "anchors", record }),
        }
    }

    /// Keeps an answer. Durable after the next [`Book::sync`]; until then a crash costs a second submission, which gets the same
    /// answer.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn answer(&mut self, answer: &Answer) -> Result<(), StoreError> {
        self.append(&Record::Answer(answer.clone()))?;
        self.standings.answered(answer);
        Ok(())
    }

    /// Gives disk back: what is answered, while more than [`BYTES_MAX`] is there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn shrink(&mut self, bytes_max: u64) -> Result<(), StoreError> {
        let end = self.standings.oldest_pending().unwrap_or(self.journal.next_number());
        let mut until = self.journal.first_number();
        if self.journal.bytes_on_disk() <= bytes_max || until >= end {
            return Ok(());
        }
        // If we die in between: the states stand twice.
        self.save(self.vault_place)?;
        self.sync()?;
        while until < end && self.journal.bytes_on_disk() > bytes_max {
            until = (until + 1 + (end - until) / 64).min(end);
            self.journal.discard_before(until).map_err(fault)?;
        }
        Ok(())
    }

    /// An anchor with its answer, as long as it is kept.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn find(&self, id: &StatementId) -> Result<Option<(SealedAnchor, Option<Answer>)>, StoreError> {
        self.find_by(|anchor| anchor.id == *id)
    }

    /// The anchor that covers reading `number` of `device`, with its answer, as long as it is kept. Of several (one was refused, or
    /// a new vault began) the newest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn covering(
        &self,
        device: &DeviceId,
        number: u64,
    ) -> Result<Option<(SealedAnchor, Option<Answer>)>, StoreError> {
        self.find_by(|anchor| anchor.device == *device && (anchor.first..=anchor.last).contains(&number))
    }

    /// The newest that `is_it`.
    fn find_by(
        &self,
        is_it: impl Fn(&SealedAnchor) -> bool,
    ) -> Result<Option<(SealedAnchor, Option<Answer>)>, StoreError> {
        let mut found: Option<(u64, SealedAnchor, Option<Answer>)> = None;
        for record in self.journal.iter_from(0).map_err(fault)? {
            let (number, bytes) = record.map_err(fault)?;
            match Record::decode(&bytes) {
                Some(Record::Anchor(anchor)) if is_it(&anchor) => found = Some((number, anchor, None)),
                Some(Record::Answer(answer)) => {
                    if let Some((record, _, kept)) = &mut found
                        && answer.anchor == *record
                    {
                        *kept = Some(answer);
                    }
                }
                _ => {}
            }
        }
        Ok(found.map(|(_, anchor, answer)| (anchor, answer)))
    }

    /// Anchors without an answer.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.standings.pending()
    }

    /// Every device, by name.
    #[must_use]
    pub fn summary(&self) -> Vec<Summary> {
        self.standings.summary()
    }

    /// Bytes on disk.
    #[must_use]
    pub fn bytes_on_disk(&self) -> u64 {
        self.journal.bytes_on_disk()
    }
}

impl Answer {
    /// The node turned the anchor away for good.
    #[must_use]
    pub fn turned_away(anchor: u64) -> Self {
        Self { anchor, refusal: TURNED_AWAY, entry: 0, receipt: Vec::new() }
    }
}

/// Without what opening does not need: sixty thousand statements and receipts are 60 MB.
fn strip(record: Record) -> Record {
    match record {
        Record::Anchor(anchor) => Record::Anchor(SealedAnchor { statement: Vec::new(), ..anchor }),
        Record::Answer(answer) => Record::Answer(Answer { receipt: Vec::new(), ..answer }),
        states @ Record::States(..) => states,
    }
}

fn fault(source: JournalError) -> StoreError {
    StoreError::Journal { store: "anchors", source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::anchor::standing::Before;
    use crate::store::open_journal;
    use tally_journal::testing::MemStorage;
    use tally_model::Timestamp;

    fn open(disk: &MemStorage) -> Book<MemStorage> {
        Book::begin(open_journal("anchors", disk.clone(), journal_options()).unwrap()).unwrap()
    }

    fn device() -> DeviceId {
        DeviceId::try_new("press-01").unwrap()
    }

    fn anchor(number: u64, first: u64, last: u64) -> SealedAnchor {
        let number_byte = u8::try_from(number).unwrap();
        SealedAnchor {
            device: device(),
            number,
            digest: [number_byte; 32],
            first,
            last,
            place: last,
            received: Timestamp::from_micros(i64::try_from(last).unwrap()),
            id: StatementId([number_byte; 32]),
            statement: vec![7; 500],
        }
    }

    fn answer(book: &mut Book<MemStorage>, refusal: u16) {
        let (record, _) = book.next().unwrap().unwrap();
        book.answer(&Answer { anchor: record, refusal, entry: 3, receipt: vec![1; 300] }).unwrap();
        book.sync().unwrap();
    }

    fn put(book: &mut Book<MemStorage>, number: u64, first: u64, last: u64) {
        assert!(book.standings.may_seal(&device(), false));
        book.put(&anchor(number, first, last)).unwrap();
        book.sync().unwrap();
    }

    #[test]
    fn nothing_leaves_before_its_sync_and_a_power_cut_keeps_what_was_synced() {
        let disk = MemStorage::new();
        let mut book = open(&disk);
        book.put(&anchor(1, 0, 9)).unwrap();
        assert_eq!(book.next().unwrap(), None);
        book.sync().unwrap();
        put(&mut book, 2, 10, 19);
        assert_eq!(book.next().unwrap().unwrap().1, anchor(1, 0, 9));
        answer(&mut book, 0);
        let book = open(&disk.power_cut(7));
        assert_eq!((book.pending(), book.next().unwrap().unwrap().1), (1, anchor(2, 10, 19)));
        let summary = &book.summary()[0];
        assert_eq!((summary.number, summary.next, summary.covered), (2, 20, Some(10)));
        let (found, answer) = book.find(&StatementId([1; 32])).unwrap().unwrap();
        assert_eq!((found, answer.unwrap().receipt), (anchor(1, 0, 9), vec![1; 300]));
        assert!(book.find(&StatementId([2; 32])).unwrap().unwrap().1.is_none());
    }

    #[test]
    fn behind_a_refusal_the_next_one_waits_and_says_what_is_missing() {
        let disk = MemStorage::new();
        let mut book = open(&disk);
        put(&mut book, 1, 0, 9);
        answer(&mut book, 0);
        put(&mut book, 2, 10, 19);
        put(&mut book, 3, 20, 29);
        answer(&mut book, 132);
        assert!(!book.standings.may_seal(&device(), false), "3 is not answered yet, and will be refused");
        answer(&mut book, 177);
        let before = book.standings.before(&device());
        assert_eq!((before.number, before.digest, before.next, before.is_refused), (3, [3; 32], 10, true));
        assert_eq!(open(&disk).standings.before(&device()), before);
        put(&mut book, 4, 30, 39);
        answer(&mut book, 0);
        let before = book.standings.before(&device());
        assert_eq!(
            (before.number, before.next, before.is_refused, book.standings.refusals(&device())),
            (4, 40, false, 0)
        );
    }

    #[test]
    fn when_the_ledgers_chain_is_not_ours_numbering_begins_anew() {
        let mut book = open(&MemStorage::new());
        put(&mut book, 1, 0, 9);
        answer(&mut book, 0);
        put(&mut book, 2, 10, 19);
        answer(&mut book, 132);
        put(&mut book, 3, 20, 29);
        assert_eq!(book.standings.before(&device()).number, 3, "in flight");
        answer(&mut book, 177);
        let anew = Before { number: 0, digest: [0; 32], next: 0, received: None, is_refused: true };
        assert_eq!(book.standings.before(&device()), anew);
        // Turned away by the node: who we are is the matter, not the chain.
        put(&mut book, 1, 30, 39);
        answer(&mut book, 0);
        put(&mut book, 2, 40, 49);
        let (record, _) = book.next().unwrap().unwrap();
        book.answer(&Answer::turned_away(record)).unwrap();
        assert_eq!((book.standings.before(&device()).number, book.standings.before(&device()).next), (2, 40));
    }

    #[test]
    fn disk_comes_back_and_the_states_stay() {
        let disk = MemStorage::new();
        let options = Options { segment_bytes_max: 4096, ..Options::default() };
        let open = || Book::begin(open_journal("anchors", disk.clone(), options.clone()).unwrap()).unwrap();
        let mut book = open();
        for number in 1..100 {
            put(&mut book, number, number * 10, number * 10 + 9);
            answer(&mut book, 0);
        }
        put(&mut book, 100, 1000, 1009);
        book.shrink(20_000).unwrap();
        assert!(book.journal.bytes_on_disk() < 30_000);
        let before = book.summary();
        assert_eq!(open().summary(), before);
        assert_eq!(open().next().unwrap().unwrap().1, anchor(100, 1000, 1009));
    }
}
