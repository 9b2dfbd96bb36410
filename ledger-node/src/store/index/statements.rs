//! Which statement is which entry: the [runs](crate::store::ids) that the index lists, and in memory the ids that are in none yet.

use super::{BLOCKS, BlockRow, ENTRIES, Index, IndexFault, META, RUNS, decode_block};
use crate::store::disk::IndexDisk;
use crate::store::ids::{Id, Label, Merged, Run, RunLimits, Runs, Writer, merge};
use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use tally_evidence::StatementId;

/// Ids sorted at once: 10 MB. More than that are only made again, when an index is.
const PIECE_IDS: u64 = 1 << 18;
/// Bytes of a run up to which all its pages are read and checked at opening: hundredths of a second.
const CHECKED_BYTES_MAX: u64 = 64 << 20;
/// Key in `META`: the block up to which the ids are in runs.
pub(super) const STATEMENTS: &str = "statements";
/// Key in `META`: the last block of the durable transaction that has it.
pub(super) const DURABLE: &str = "durable";

/// Ids of statements to their entries.
pub(super) struct Statements {
    runs: Runs,
    /// Those in no run: at most [`RunLimits::ids`], those of a [`FlushLimits`](crate::store::FlushLimits) and of the blocks that wait.
    recent: HashMap<Id, u64>,
}

impl Statements {
    /// As the index lists them. What they do not cover is made again.
    pub(super) fn load(db: &Database, disk: &IndexDisk, next_run: &AtomicU64) -> Result<Self, IndexFault> {
        let runs = listed(db, disk, next_run)?;
        let numbers: Vec<u64> = runs.iter().map(|run| run.number).collect();
        if let Err(fault) = disk.keep_runs(&numbers) {
            tracing::warn!(%fault, "files of statement ids that do not count any more stay where they are");
        }
        let mut statements = Self { runs, recent: HashMap::new() };
        let read = db.begin_read()?;
        let meta = read.open_table(META)?;
        if meta.get("applied")?.is_none() {
            // It is empty, or was never filled: of no use, and thrown away.
            return Ok(statements);
        }
        let next = meta.get(STATEMENTS)?.map_or(0, |row| row.value().0 + 1);
        for item in read.open_table(BLOCKS)?.range(next..)? {
            let (height, row) = item?;
            let row = decode_block(height.value(), row.value())?;
            statements.remember(row.entries.iter().map(|(_, id)| id.0).zip(row.first_entry..));
        }
        Ok(statements)
    }

    fn remember(&mut self, ids: impl Iterator<Item = (Id, u64)>) {
        for (id, entry) in ids {
            self.recent.entry(id).or_insert(entry);
        }
    }
}

/// The runs of the index.
fn listed(db: &Database, disk: &IndexDisk, next_run: &AtomicU64) -> Result<Runs, IndexFault> {
    let read = db.begin_read()?;
    let blocks = read.open_table(BLOCKS)?;
    let end = match read.open_table(META)?.get(STATEMENTS)?.map(|row| row.value().0) {
        Some(height) => size_behind(&blocks, height)?,
        None => 0,
    };
    let (mut runs, mut is_as_listed) = (Runs::default(), true);
    for item in read.open_table(RUNS)?.iter()? {
        let (number, label) = item?;
        next_run.fetch_max(number.value() + 1, Ordering::SeqCst);
        match open_run(disk, number.value(), label.value(), end) {
            Ok(run) => runs.add(run),
            Err(fault) => {
                tracing::warn!(%fault, "statement ids of the index are of no use; they are taken from the blocks again");
                is_as_listed = false;
            }
        }
    }
    for gap in runs.gaps(end) {
        tracing::info!(from = gap.start, to = gap.end, "the ids of these statements are taken from the blocks");
        runs.add(make(disk, next_run, &blocks, &read.open_table(ENTRIES)?, gap)?);
        is_as_listed = false;
    }
    if !is_as_listed {
        // If we die before: the list is what it was, and all this is done again.
        let write = db.begin_write()?;
        list(&write, &runs)?;
        write.commit()?;
    }
    Ok(runs)
}

fn open_run(disk: &IndexDisk, number: u64, label: &[u8], end: u64) -> Result<Run, IndexFault> {
    let damaged = || IndexFault::Damaged(format!("what it says of run {number} of the statement ids"));
    let label = Label::decode(label).filter(|label| label.entries.end <= end).ok_or_else(damaged)?;
    let run = Run::open(number, label, disk.run_file(number)?)?;
    if run.bytes() <= CHECKED_BYTES_MAX {
        run.verify()?;
    }
    Ok(run)
}

/// These runs count, and no others.
fn list(write: &WriteTransaction, runs: &Runs) -> Result<(), IndexFault> {
    let mut list = write.open_table(RUNS)?;
    list.retain(|_, _| false)?;
    for run in runs.iter() {
        list.insert(run.number, &run.label.encode()[..])?;
    }
    Ok(())
}

/// Entries up to and with block `height`.
fn size_behind(blocks: &impl ReadableTable<u64, &'static [u8]>, height: u64) -> Result<u64, IndexFault> {
    blocks.get(height)?.map_or(Ok(0), |row| Ok(decode_block(height, row.value())?.size()))
}

/// A run of the ids of these entries, from the rows of their blocks.
fn make(
    disk: &IndexDisk,
    next_run: &AtomicU64,
    blocks: &impl ReadableTable<u64, &'static [u8]>,
    firsts: &impl ReadableTable<u64, u64>,
    entries: Range<u64>,
) -> Result<Run, IndexFault> {
    let first = firsts.range(..=entries.start)?.next_back().transpose()?.map_or(0, |(_, height)| height.value());
    let (mut pieces, mut ids, mut begin) = (Vec::new(), Vec::new(), entries.start);
    for item in blocks.range(first..)? {
        let (height, row) = item?;
        let row = decode_block(height.value(), row.value())?;
        if row.first_entry >= entries.end {
            break;
        }
        let new = row.entries.iter().map(|(_, id)| id.0).zip(row.first_entry..);
        ids.extend(new.filter(|(_, entry)| entries.contains(entry)));
        if row.size() - begin >= PIECE_IDS {
            pieces.push(write_run(disk, next_run, begin..row.size().min(entries.end), &mut ids)?);
            begin = row.size();
        }
    }
    if begin < entries.end {
        pieces.push(write_run(disk, next_run, begin..entries.end, &mut ids)?);
    }
    if pieces.len() > 1 {
        let pieces: Vec<_> = pieces.drain(..).map(Arc::new).collect();
        let number = next_run.fetch_add(1, Ordering::SeqCst);
        return merge(disk, number, &pieces, &AtomicBool::new(false))?.ok_or_else(no_run);
    }
    pieces.pop().ok_or_else(no_run)
}

fn no_run() -> IndexFault {
    IndexFault::Damaged("no run can be made of the statement ids".to_owned())
}

fn write_run(
    disk: &IndexDisk,
    next_run: &AtomicU64,
    entries: Range<u64>,
    ids: &mut Vec<(Id, u64)>,
) -> Result<Run, IndexFault> {
    ids.sort_unstable();
    let mut writer = Writer::new(disk, next_run.fetch_add(1, Ordering::SeqCst), entries)?;
    ids.drain(..).try_for_each(|(id, entry)| writer.push(&id, entry))?;
    writer.finish()
}

/// What a durable transaction changes in the runs.
pub(super) struct Settled {
    /// The ids that waited, up to those of its block at most.
    run: Option<Run>,
    merged: Option<Merged>,
}

impl Index {
    /// Lists a run of the ids that wait, when they are enough, and one that was merged. The block of `height`, the last one, must be written;
    /// behind it there are `end` entries.
    ///
    /// If we die before the transaction is durable: the new files are not listed, and removed on opening; the blocks have the ids.
    pub(super) fn settle_statements(
        &self,
        write: &WriteTransaction,
        height: u64,
        end: u64,
        limits: RunLimits,
    ) -> Result<Settled, IndexFault> {
        let begin = self.statements.read().unwrap_or_else(PoisonError::into_inner).runs.end();
        let (mut list, mut meta) = (write.open_table(RUNS)?, write.open_table(META)?);
        meta.insert(DURABLE, (height, &[][..]))?;
        let run = if end.saturating_sub(begin) >= limits.ids.max(1) {
            let (blocks, firsts) = (write.open_table(BLOCKS)?, write.open_table(ENTRIES)?);
            Some(make(&self.disk, &self.next_run, &blocks, &firsts, begin..end)?)
        } else {
            None
        };
        if let Some(run) = &run {
            list.insert(run.number, &run.label.encode()[..])?;
            meta.insert(STATEMENTS, (height, &[][..]))?;
        }
        let merged = self.merged()?;
        if let Some(Merged { run, of }) = &merged {
            for number in of {
                list.remove(number)?;
            }
            list.insert(run.number, &run.label.encode()[..])?;
        }
        Ok(Settled { run, merged })
    }

    /// The transaction is durable.
    pub(super) fn statements_settled(&self, settled: Settled, limits: RunLimits) -> Result<(), IndexFault> {
        let Settled { run, merged } = settled;
        let mut statements = self.statements.write().unwrap_or_else(PoisonError::into_inner);
        let old = merged.map_or_else(Vec::new, |merged| statements.runs.replace(merged));
        if let Some(run) = run {
            let end = run.label.entries.end;
            statements.runs.add(run);
            statements.recent.retain(|_, entry| *entry >= end);
        }
        let due = statements.runs.due(limits);
        drop(statements);
        // Nobody reads them any more: who does holds the lock. If we die before, opening removes them.
        for run in old {
            if let Err(fault) = self.disk.remove_run(run.number) {
                tracing::warn!(%fault, "a file of statement ids that does not count any more stays where it is");
            }
        }
        match due {
            Some(runs) if !self.merging.is_busy() => {
                self.merging.begin(&self.disk, self.next_run.fetch_add(1, Ordering::SeqCst), runs)
            }
            _ => Ok(()),
        }
    }

    /// The ids of a new block, as far as no run has them.
    pub fn remember_statements(&self, row: &BlockRow) {
        let mut statements = self.statements.write().unwrap_or_else(PoisonError::into_inner);
        let end = statements.runs.end();
        statements
            .remember(row.entries.iter().map(|(_, id)| id.0).zip(row.first_entry..).filter(|(_, entry)| *entry >= end));
    }

    /// The run that a merge has made. One that met damage leaves all as it was: the next opening makes the damaged run again.
    fn merged(&self) -> Result<Option<Merged>, IndexFault> {
        match self.merging.look() {
            Err(IndexFault::Damaged(what)) => {
                tracing::error!(what, "statement ids are not merged before the next start");
                self.merging.stop();
                Ok(None)
            }
            merged => merged,
        }
    }

    /// The blocks were written by other means.
    pub(in crate::store) fn reload_statements(&self) -> Result<(), IndexFault> {
        let statements = Statements::load(&self.db, &self.disk, &self.next_run)?;
        *self.statements.write().unwrap_or_else(PoisonError::into_inner) = statements;
        Ok(())
    }

    /// Entries behind block `height`.
    pub(super) fn size_behind(&self, write: &WriteTransaction, height: u64) -> Result<u64, IndexFault> {
        size_behind(&write.open_table(BLOCKS)?, height)
    }

    /// The entry of a statement.
    pub fn entry_of(&self, statement: &StatementId) -> Result<Option<u64>, IndexFault> {
        let statements = self.statements.read().unwrap_or_else(PoisonError::into_inner);
        match statements.recent.get(&statement.0) {
            Some(entry) => Ok(Some(*entry)),
            None => statements.runs.find(&statement.0),
        }
    }
}
