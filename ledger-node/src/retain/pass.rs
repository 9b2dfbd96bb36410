//! A retention pass: what goes by the operator's days and bytes, and the steps by which it goes.

use super::archive::{self, ArchiveFault};
use super::container::{FileFault, UNFINISHED};
use super::kept::{self, KeptBlock, KeptName};
use super::snapshot::{self, SnapshotFault, SnapshotHead};
use crate::private::PrivateError;
use crate::store::{CommitError, IndexFault, Store};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tally_contracts::live;
use tally_evidence::VerifyingKey;
use tally_journal::{JournalError, SegmentName};
use tally_model::Timestamp;

/// Blocks after which a pass pauses, and for how long: readers and the order thread go first.
const PAUSE_BLOCKS: usize = 64;
const PAUSE: Duration = Duration::from_millis(2);

/// What the operator wants to be kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// Statements younger than this stay; also those of agreements that ended within it.
    pub payloads: Option<Duration>,
    /// Bytes of the data folder above which the oldest segments go also when they are younger.
    pub disk: Option<u64>,
    /// Where segments are copied before they go.
    pub archive: Option<PathBuf>,
}

impl Retention {
    /// Whether anything ever goes.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.payloads.is_some() || self.disk.is_some()
    }
}

/// Why a segment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// All of it is older than `payloads`.
    Age,
    /// The data folder is above `disk`.
    Disk,
}

/// A segment that would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// Height of its first block.
    pub first_block: u64,
    /// Height of its last block.
    pub last_block: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Time of its last block.
    pub to: String,
    /// Why it goes.
    pub reason: Reason,
}

/// What a pass would do now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Oldest first.
    pub segments: Vec<Planned>,
    /// Bytes of the data folder.
    pub bytes: u64,
    /// Bytes that would still be above `disk` when all of it is gone: what must stay is more than that.
    pub over: u64,
    /// Blocks below this height are kept in part only.
    pub kept_below: u64,
    #[serde(skip)]
    since: Timestamp,
}

/// What a pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// Segments that went.
    pub segments: u64,
    /// Their bytes.
    pub freed: u64,
    /// Bytes of the data folder behind it.
    pub bytes: u64,
    /// Bytes above `disk` behind it.
    pub over: u64,
    /// Blocks below this height are kept in part only.
    pub kept_below: u64,
}

/// Why a pass did not come to its end. What was done is done; the next pass goes on.
#[derive(Debug, thiserror::Error)]
pub enum RetainFault {
    /// The ledger stands on disks of a test.
    #[error("this ledger has no data folder")]
    NoFolder,
    /// A file.
    #[error(transparent)]
    File(#[from] FileFault),
    /// The snapshot.
    #[error("no snapshot: {0}")]
    Snapshot(#[from] SnapshotFault),
    /// The archive.
    #[error("archive: {0}")]
    Archive(#[from] ArchiveFault),
    /// Private fields.
    #[error("private fields: {0}")]
    Private(#[from] PrivateError),
    /// Log and index.
    #[error(transparent)]
    Store(#[from] CommitError),
    /// Deleting.
    #[error("a segment of the log cannot be deleted: {0}")]
    Delete(#[from] JournalError),
    /// The state.
    #[error("the state cannot be read: {0}")]
    State(String),
    /// Somebody ends the node.
    #[error("stopped; the next pass goes on")]
    Stopped,
}

impl From<IndexFault> for RetainFault {
    fn from(fault: IndexFault) -> Self {
        Self::Store(fault.into())
    }
}

/// What has just been done; tests end the process here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// What an interrupted pass left was removed.
    Tidied,
    /// A snapshot that reaches behind the segment is there and verified.
    Snapshot,
    /// The segment is in the archive and compared.
    Archived,
    /// The kept file is there and compared.
    Kept,
    /// The index knows it.
    Forgotten,
    /// The index is durable.
    Flushed,
    /// The segment is gone.
    Deleted,
    /// Old snapshots are gone.
    Finished,
}

/// Makes passes, one at a time.
pub struct Pass<'a> {
    /// The ledger's store.
    pub store: &'a Arc<Store>,
    /// Its name.
    pub ledger: &'a str,
    /// Its key.
    pub key: &'a VerifyingKey,
    /// What is to be kept.
    pub retention: &'a Retention,
    /// Told of each step; `false` ends the pass there.
    pub step: &'a mut dyn FnMut(Step) -> bool,
}

/// What would go at `now` by the computer's clock.
///
/// The age is counted from `now` or from the last block's time, whichever is earlier: a clock that jumps ahead while nothing is
/// written deletes nothing.
///
/// # Errors
/// [`RetainFault`].
pub fn plan(store: &Store, retention: &Retention, now: Timestamp) -> Result<Plan, RetainFault> {
    let bytes = folder_bytes(store.folder().ok_or(RetainFault::NoFolder)?)?;
    let head = store.head();
    let now = head.as_ref().map_or(now, |head| now.min(head.checkpoint.time));
    let since = before(now, retention.payloads.unwrap_or_default());
    let applied = head.map_or(0, |head| head.checkpoint.height);
    let mut plan = Plan { segments: Vec::new(), bytes, over: 0, kept_below: store.kept_below(), since };
    let (segments, mut left) = (store.segments(), bytes);
    for pair in segments.windows(2) {
        let [(first, size), (next, _)] = *pair else { continue };
        let last = next - 1;
        // The last block in the index stays in the log: opening compares the two there.
        let Some(row) = store.block(last)?.filter(|_| last < applied) else { break };
        let is_old = retention.payloads.is_some() && row.time < since;
        let is_much = retention.disk.is_some_and(|disk| left > disk);
        let reason = match (is_old, is_much) {
            (true, _) => Reason::Age,
            (false, true) => Reason::Disk,
            (false, false) => break,
        };
        let to = row.time.to_string();
        plan.segments.push(Planned { first_block: first, last_block: last, bytes: size, to, reason });
        left = left.saturating_sub(size);
    }
    plan.over = retention.disk.map_or(0, |disk| left.saturating_sub(disk));
    Ok(plan)
}

fn before(now: Timestamp, age: Duration) -> Timestamp {
    let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.as_micros().saturating_sub(age))
}

/// Bytes of all files below `folder`.
fn folder_bytes(folder: &Path) -> Result<u64, FileFault> {
    crate::store::folder_bytes(folder).map_err(|source| FileFault::io(folder, source))
}

impl Pass<'_> {
    /// Does what [`plan`] says. Blocks; takes seconds a segment.
    ///
    /// # Errors
    /// [`RetainFault`].
    pub fn run(&mut self, now: Timestamp) -> Result<Done, RetainFault> {
        let data = self.store.folder().ok_or(RetainFault::NoFolder)?.to_path_buf();
        tidy(&data)?;
        self.at(Step::Tidied)?;
        let plan = plan(self.store, self.retention, now)?;
        let mut done = Done::default();
        if !plan.segments.is_empty() {
            crate::store::raise_format(&data, crate::store::FORMAT_PARTIAL)
                .map_err(|source| FileFault::io(&data.join("FORMAT"), source))?;
        }
        for segment in &plan.segments {
            self.forget(&data, segment, plan.since)?;
            done.segments += 1;
            done.freed += segment.bytes;
        }
        forget_snapshots(&data)?;
        self.at(Step::Finished)?;
        done.bytes = folder_bytes(&data)?;
        done.over = self.retention.disk.map_or(0, |disk| done.bytes.saturating_sub(disk));
        done.kept_below = self.store.kept_below();
        Ok(done)
    }

    fn at(&mut self, step: Step) -> Result<(), RetainFault> {
        if (self.step)(step) { Ok(()) } else { Err(RetainFault::Stopped) }
    }

    /// Every step here ends with what it made durable and compared; the next one relies on it.
    fn forget(&mut self, data: &Path, segment: &Planned, since: Timestamp) -> Result<(), RetainFault> {
        let (first, last) = (segment.first_block, segment.last_block);
        self.snapshot(data, last)?;
        self.at(Step::Snapshot)?;
        if let Some(dir) = &self.retention.archive {
            archive::put(data, SegmentName(first), self.key, dir)?;
            self.at(Step::Archived)?;
        }
        let name = KeptName { first, last };
        let blocks = self.keep(data, &name, since)?;
        self.at(Step::Kept)?;
        for piece in blocks.chunks(PAUSE_BLOCKS) {
            self.store.forget(piece)?;
            std::thread::sleep(PAUSE);
        }
        self.at(Step::Forgotten)?;
        // Before the segment goes: after a power cut the index must not be behind the log's new beginning.
        self.store.flush_index()?;
        self.at(Step::Flushed)?;
        self.store.discard_log_before(last + 1)?;
        tracing::info!(first, last, bytes = segment.bytes, reason = ?segment.reason, "a segment of the log was pruned");
        self.at(Step::Deleted)
    }

    /// A verified snapshot that reaches to block `last` or beyond, and back to all that is not pruned yet.
    fn snapshot(&self, data: &Path, last: u64) -> Result<SnapshotHead, RetainFault> {
        let from = self.store.kept_below();
        for (height, file) in snapshot::list(data)? {
            if height < last {
                break;
            }
            match snapshot::verify(&file, self.ledger, self.key) {
                Ok(head) if head.from <= from => return Ok(head),
                Ok(_) => {}
                Err(fault) => tracing::error!(%fault, "a snapshot does not hold; another one is made"),
            }
        }
        let view = self.store.view()?;
        Ok(snapshot::write(data, &view, from, self.key)?)
    }

    /// The kept file of a segment, compared with the index; made when it is not there.
    fn keep(&self, data: &Path, name: &KeptName, since: Timestamp) -> Result<Vec<(u64, Vec<u8>)>, RetainFault> {
        let file = data.join(kept::FOLDER).join(name.file());
        if !file.exists() {
            let live = self.live(name, since)?;
            let mut fault = None;
            let written = kept::write(data, self.ledger, name, |height| {
                self.kept_block(height, &live).map_err(|error| {
                    let what = error.to_string();
                    fault = Some(error);
                    FileFault::content(&file, what)
                })
            });
            if let Some(fault) = fault {
                return Err(fault);
            }
            written?;
        }
        let mut blocks = Vec::new();
        kept::read(&file, name, self.ledger, |height, block, bytes| {
            let row = self.store.block(height).map_err(|fault| fault.to_string())?;
            if !row.is_some_and(|row| kept::is_of(&block, &row)) {
                return Err("it is not the block that the index has".to_owned());
            }
            blocks.push((height, bytes));
            Ok(())
        })?;
        Ok(blocks)
    }

    fn live(&self, name: &KeptName, since: Timestamp) -> Result<live::Live, RetainFault> {
        let missing = |height| IndexFault::Damaged(format!("block {height} has no row"));
        let first = self.store.block(name.first)?.ok_or_else(|| missing(name.first))?;
        let last = self.store.block(name.last)?.ok_or_else(|| missing(name.last))?;
        let state = self.store.state()?;
        let live = live::live(&state, first.first_entry..last.size(), since);
        state.check()?;
        let mut live = live.map_err(|refusal| RetainFault::State(refusal.to_string()))?;
        let entries = first.first_entry..last.size();
        // Of what has left the state meanwhile the state says nothing.
        self.store.each_retired_since(since, |agreement| live.keep_retired(&entries, agreement, since))?;
        Ok(live)
    }

    fn kept_block(&self, height: u64, live: &live::Live) -> Result<KeptBlock, RetainFault> {
        if height.is_multiple_of(PAUSE_BLOCKS as u64) {
            std::thread::sleep(PAUSE);
        }
        let damaged = || IndexFault::Damaged(format!("block {height} is not complete"));
        if let Some(kept) = self.store.kept(height)? {
            return Ok(kept);
        }
        let row = self.store.block(height)?.ok_or_else(damaged)?;
        let outcomes = self.store.outcomes(height)?.ok_or_else(damaged)?;
        let statements = self.store.statements(height, &row)?;
        Ok(KeptBlock::of(&row, &outcomes, statements, live).ok_or_else(damaged)?)
    }
}

/// Removes what was being written when the power went.
fn tidy(data: &Path) -> Result<(), FileFault> {
    for folder in [kept::FOLDER, snapshot::FOLDER] {
        let folder = data.join(folder);
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.map_err(|source| FileFault::io(&folder, source))?.path();
            if path.extension().is_some_and(|extension| extension == UNFINISHED) {
                fs::remove_file(&path).map_err(|source| FileFault::io(&path, source))?;
            }
        }
    }
    Ok(())
}

/// Removes all snapshots but the newest.
fn forget_snapshots(data: &Path) -> Result<(), FileFault> {
    for (_, file) in snapshot::list(data)?.into_iter().skip(snapshot::KEEP) {
        fs::remove_file(&file).map_err(|source| FileFault::io(&file, source))?;
    }
    Ok(())
}
