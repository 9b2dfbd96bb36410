//! Which statement is which entry. The ids are random: written block by block each would rewrite a page of its own, so they wait in memory
//! for the durable transaction and go in together, sorted.

use super::filter::{Filter, Id};
use super::{BLOCKS, Index, IndexFault, META, STATEMENTS, decode_block};
use redb::{ReadOnlyTable, ReadableDatabase, ReadableTableMetadata, WriteTransaction};
use std::collections::HashMap;
use std::sync::PoisonError;
use tally_evidence::StatementId;

/// Ids that the filter is given at once: some 10 ms.
const FILTER_PIECE: usize = 100_000;

/// Ids of statements to their entries.
pub(super) struct Statements {
    /// Those written, opened once a write instead of once a question.
    pub(super) written: ReadOnlyTable<&'static Id, u64>,
    /// Those not written yet: at most [`FlushLimits::entries`](crate::store::FlushLimits) and a block's.
    pub(super) recent: HashMap<Id, u64>,
    /// What is certainly not among those written.
    filter: Filter,
}

impl Statements {
    /// Those of a table, of which the filter knows nothing yet.
    pub(super) fn of(written: ReadOnlyTable<&'static Id, u64>) -> Result<Self, IndexFault> {
        let filter = Filter::of(written.len()?);
        Ok(Self { written, recent: HashMap::new(), filter })
    }
}

impl Index {
    /// redb makes durable what it has when it is closed, also without us: then blocks are in whose ids are not.
    pub(super) fn remember_statements(&self) -> Result<(), IndexFault> {
        let meta = self.db.begin_read()?.open_table(META)?;
        let from = meta.get("statements")?.map_or(0, |row| row.value().0 + 1);
        let blocks = self.db.begin_read()?.open_table(BLOCKS)?;
        let mut statements = self.statements.write().unwrap_or_else(PoisonError::into_inner);
        for item in blocks.range(from..)? {
            let (height, row) = item?;
            let row = decode_block(height.value(), row.value())?;
            statements.recent.extend(row.entries.iter().map(|(_, id)| id.0).zip(row.first_entry..));
        }
        Ok(())
    }

    /// Writes the ids that wait, and `new` ones; gives all of them.
    pub(super) fn write_statements(
        &self,
        write: &WriteTransaction,
        new: Vec<(Id, u64)>,
        height: u64,
    ) -> Result<Vec<(Id, u64)>, IndexFault> {
        let mut ids = new;
        let statements = self.statements.read().unwrap_or_else(PoisonError::into_inner);
        ids.extend(statements.recent.iter().map(|(id, entry)| (*id, *entry)));
        drop(statements);
        // In key order: neighbours share pages.
        ids.sort_unstable();
        let mut table = write.open_table(STATEMENTS)?;
        for (id, entry) in &ids {
            table.insert(id, entry)?;
        }
        write.open_table(META)?.insert("statements", (height, &[][..]))?;
        Ok(ids)
    }

    /// All ids are written, these among them for the first time.
    pub(super) fn statements_written(&self, ids: &[(Id, u64)]) -> Result<(), IndexFault> {
        let written = self.db.begin_read()?.open_table(STATEMENTS)?;
        let mut statements = self.statements.write().unwrap_or_else(PoisonError::into_inner);
        statements.filter.insert(ids.iter().map(|(id, _)| *id));
        statements.written = written;
        statements.recent = HashMap::new();
        drop(statements);
        self.fill_filter()
    }

    /// Gives the filter the next piece of the table. Nobody else may write meanwhile.
    pub(super) fn fill_filter(&self) -> Result<(), IndexFault> {
        let wanted = self.statements.read().unwrap_or_else(PoisonError::into_inner).filter.wants();
        let Some(from) = wanted else { return Ok(()) };
        let mut ids = Vec::new();
        for row in self.db.begin_read()?.open_table(STATEMENTS)?.range::<&Id>(&from..)?.take(FILTER_PIECE) {
            ids.push(*row?.0.value());
        }
        let mut statements = self.statements.write().unwrap_or_else(PoisonError::into_inner);
        statements.filter.give(&ids, ids.len() < FILTER_PIECE);
        Ok(())
    }

    /// The table was written by other means.
    pub(in crate::store) fn reopen_statements(&self) -> Result<(), IndexFault> {
        let statements = Statements::of(self.db.begin_read()?.open_table(STATEMENTS)?)?;
        *self.statements.write().unwrap_or_else(PoisonError::into_inner) = statements;
        Ok(())
    }

    /// The entry of a statement.
    pub fn entry_of(&self, statement: &StatementId) -> Result<Option<u64>, IndexFault> {
        let statements = self.statements.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = statements.recent.get(&statement.0) {
            return Ok(Some(*entry));
        }
        if !statements.filter.may_have(&statement.0) {
            return Ok(None);
        }
        Ok(statements.written.get(&statement.0)?.map(|row| row.value()))
    }
}
