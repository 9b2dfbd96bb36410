//! Where an entry is, and the bytes that lie there.

use super::{BlockRow, CommitError, IndexFault, Pruned, Span, Store};
use tally_evidence::StatementId;
use tally_journal::SegmentName;

/// Where an entry is.
#[derive(Debug, Clone)]
pub struct EntryPlace {
    /// Its index.
    pub entry: u64,
    /// Its block.
    pub height: u64,
    /// The block's row.
    pub row: BlockRow,
    /// Its place among the block's entries.
    pub place: usize,
}

impl Store {
    /// The statement id of an entry.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn id_of(&self, entry: u64) -> Result<Option<StatementId>, IndexFault> {
        let place = self.place_of(entry)?;
        Ok(place.and_then(|place| place.row.entries.get(place.place).map(|(_, id)| *id)))
    }

    /// Where an entry is.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn place_of(&self, entry: u64) -> Result<Option<EntryPlace>, IndexFault> {
        let Some(height) = self.index.height_of(entry)? else { return Ok(None) };
        let Some(row) = self.index.block(height)? else {
            return Err(IndexFault::Damaged(format!("block {height} has no row")));
        };
        let place = usize::try_from(entry - row.first_entry).unwrap_or(usize::MAX);
        Ok((place < row.entries.len()).then_some(EntryPlace { entry, height, row, place }))
    }

    /// The ids of `count` entries from `first` on; all must be committed.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn ids(&self, first: u64, count: u64) -> Result<Vec<StatementId>, IndexFault> {
        let mut ids = Vec::new();
        while (ids.len() as u64) < count {
            let entry = first + ids.len() as u64;
            let missing = || IndexFault::Damaged(format!("entry {entry} is in no block"));
            let place = self.place_of(entry)?.ok_or_else(missing)?;
            let wanted = usize::try_from(count).unwrap_or(usize::MAX) - ids.len();
            ids.extend(place.row.entries.iter().skip(place.place).take(wanted).map(|(_, id)| *id));
        }
        Ok(ids)
    }

    /// The bytes of the statement at `place`.
    ///
    /// # Errors
    /// [`CommitError::Pruned`]; [`CommitError`] when log and index do not fit together or cannot be read.
    pub fn statement(&self, place: &EntryPlace) -> Result<Vec<u8>, CommitError> {
        let damaged = || IndexFault::Damaged(format!("entry {} is not where the index says", place.entry));
        let Some(record) = self.record(place.height)? else {
            let kept = self.index.kept(place.height)?.ok_or_else(damaged)?;
            let statement = kept.statement(place.place).map(<[u8]>::to_vec);
            let what = format!("the statement of entry {}", place.entry);
            return statement.ok_or_else(|| self.pruned(place.height, what));
        };
        let ((offset, length), _) = place.row.entries.get(place.place).ok_or_else(damaged)?;
        let bytes = record.get(*offset as usize..).and_then(|rest| rest.get(..*length as usize));
        Ok(bytes.ok_or_else(damaged)?.to_vec())
    }

    /// The bytes of all statements of block `height`, whose row is `row`.
    ///
    /// # Errors
    /// [`CommitError::Pruned`]; [`CommitError`] when log and index do not fit together or cannot be read.
    pub fn statements(&self, height: u64, row: &BlockRow) -> Result<Vec<Vec<u8>>, CommitError> {
        let damaged = || IndexFault::Damaged(format!("block {height} is not where the index says"));
        let record = self.record(height)?.ok_or_else(|| self.pruned(height, format!("block {height}")))?;
        let cut = |&((offset, length), _): &(Span, StatementId)| {
            record.get(offset as usize..)?.get(..length as usize).map(<[u8]>::to_vec)
        };
        Ok(row.entries.iter().map(cut).collect::<Option<_>>().ok_or_else(damaged)?)
    }

    /// The record of a block as the log has it ([`BlockRecord`]).
    ///
    /// # Errors
    /// [`CommitError::Pruned`]; [`CommitError`] when the log cannot be read.
    pub fn block_record(&self, height: u64) -> Result<Vec<u8>, CommitError> {
        self.record(height)?.ok_or_else(|| self.pruned(height, format!("block {height}")))
    }

    /// The record of a block; `None` when it was pruned.
    fn record(&self, height: u64) -> Result<Option<Vec<u8>>, CommitError> {
        if height < self.kept_below() {
            return Ok(None);
        }
        let record = self.log.read(height)?;
        // It may have gone between the two looks; otherwise the index is ahead of the log.
        if record.is_none() && height >= self.kept_below() {
            return Err(IndexFault::Damaged(format!("block {height} is not in the log")).into());
        }
        Ok(record)
    }

    /// What to say of something that was pruned with block `height`.
    #[must_use]
    pub fn pruned(&self, height: u64, what: String) -> CommitError {
        let names =
            self.folder.as_deref().and_then(|folder| crate::retain::kept::list(folder).ok()).unwrap_or_default();
        let name = names.into_iter().find(|name| (name.first..=name.last).contains(&height));
        let segment = name.map_or_else(|| "(unknown)".to_owned(), |name| SegmentName(name.first).to_string());
        CommitError::Pruned(Pruned { what, segment })
    }
}
