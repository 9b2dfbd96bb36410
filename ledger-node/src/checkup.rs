//! A whole ledger checked in its data folder, with nothing but the ledger's public key: what opening takes for granted because it was
//! checked when it was written.
//!
//! In this order: every byte of the log (checksums, hash chain); kept files and log as one chain of sealed checkpoints with the roots of
//! the tree; the snapshots; then everything behind the snapshot, or all of it, is executed again beside the folder (`checking/`, removed
//! afterwards) with the signers' seals, and the roots of state and outcomes compared; and the node's own index is held against the
//! checkpoints. Nothing of the ledger is changed; a torn end of the log is cut off, as every start does.
//!
//! **Limits.** The folder must not be open in a node. Disk: as much as `state.redb`, `statements/` and `tree/` take. Memory: 64 bytes a key of the
//! state, 128 of accounts and devices.

use crate::clock::WallClock;
use crate::engine::LedgerKey;
use crate::order::{Builder, describe};
use crate::retain::{kept, snapshot};
use crate::store::{
    FlushLimits, Index, IndexDisk, IndexFault, IndexView, Log, LogDisk, StateSum, Store, audit, check_format,
    read_block,
};
use serde::Serialize;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tally_evidence::{Checkpoint, Hash, VerifyingKey, leaf_hash, root_of};

const LOG: &str = "log";
const SUMMARIES: &str = "summary";
const INDEX: &str = "state.redb";
/// Folder in which everything is executed again.
const SCRATCH: &str = "checking";
/// Pairs of the state read at once.
const PAIRS: usize = 4_096;

/// Why nothing was checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckupFault {
    /// There is no ledger.
    #[error("{} holds no ledger: there is no block in `log`", .0.display())]
    NoLedger(PathBuf),
    /// A node has it open.
    #[error("a node has this ledger open; stop it first, or check a copy (`tally backup`)")]
    InUse,
    /// A file of the check itself.
    #[error("{}: {source}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checkup {
    /// Whether all of it holds.
    pub holds: bool,
    /// The ledger; none when not even that can be read.
    pub ledger: Option<String>,
    /// Id of the key it was checked with.
    pub key: String,
    /// Its last block.
    pub height: Option<u64>,
    /// Entries up to there.
    pub entries: Option<u64>,
    /// Blocks below this height are kept in part only.
    pub kept_below: u64,
    /// Blocks from here on were executed again.
    pub executed_from: Option<u64>,
    /// Each check, in order.
    pub checks: Vec<Checked>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// What was checked: `log`, `chain`, `snapshots`, `state`, `index`.
    pub what: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// What was found, in words.
    pub words: String,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// A check begins.
    Begins(&'static str),
    /// This block was executed again.
    Executed(u64),
}

/// Checks the ledger in `data`, whose blocks `key` sealed.
///
/// # Errors
/// [`CheckupFault`], when it could not even be begun. What does not hold is in the [`Checkup`].
pub fn checkup(data: &Path, key: &VerifyingKey, told: &mut dyn FnMut(Stage)) -> Result<Checkup, CheckupFault> {
    if !data.join(LOG).is_dir() {
        return Err(CheckupFault::NoLedger(data.to_owned()));
    }
    let mut work = Work { data, key, told, found: Checkup::new(key), last: None };
    if work.log()? {
        let is_chained = work.one("chain", Work::chain);
        work.one("snapshots", Work::snapshots);
        if is_chained {
            work.one("state", Work::state);
            work.one("index", Work::index);
        }
    }
    let scratch = data.join(SCRATCH);
    match fs::remove_dir_all(&scratch) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(CheckupFault::File { file: scratch, source });
        }
        _ => {}
    }
    work.found.holds = work.found.checks.iter().all(|check| check.holds);
    Ok(work.found)
}

impl Checkup {
    fn new(key: &VerifyingKey) -> Self {
        Self {
            holds: false,
            ledger: None,
            key: key.id().to_string(),
            height: None,
            entries: None,
            kept_below: 0,
            executed_from: None,
            checks: Vec::new(),
        }
    }
}

struct Work<'a> {
    data: &'a Path,
    key: &'a VerifyingKey,
    told: &'a mut dyn FnMut(Stage),
    found: Checkup,
    /// The last block of the log.
    last: Option<Checkpoint>,
}

/// Any fault, for its words.
type Fault = Box<dyn std::error::Error>;

impl Work<'_> {
    fn one(&mut self, what: &'static str, check: impl FnOnce(&mut Self) -> Result<String, Fault>) -> bool {
        (self.told)(Stage::Begins(what));
        let found = check(self);
        let holds = found.is_ok();
        let words = found.unwrap_or_else(|fault| describe(fault.as_ref()));
        self.found.checks.push(Checked { what, holds, words });
        holds
    }

    fn disk(&self) -> Result<LogDisk, tally_journal::OpenError> {
        LogDisk::dir_with_summaries(&self.data.join(LOG), &self.data.join(SUMMARIES))
    }

    fn ledger(&self) -> &str {
        self.found.ledger.as_deref().unwrap_or_default()
    }

    /// Every byte of the log. Whether the rest can be looked at.
    fn log(&mut self) -> Result<bool, CheckupFault> {
        if let Err(tally_journal::OpenError::InUse { .. }) = self.disk() {
            return Err(CheckupFault::InUse);
        }
        let mut is_empty = false;
        let is_open = self.one("log", |work| {
            check_format(work.data)?;
            let log = Log::open(work.disk()?)?;
            is_empty = log.blocks() == 0;
            if is_empty {
                return Ok(String::new());
            }
            log.check_everything()?;
            let first = read_block(&log, log.first(), work.key)?.1.checkpoint;
            let last = read_block(&log, log.blocks() - 1, work.key)?.1.checkpoint;
            work.found.ledger = Some(first.ledger);
            (work.found.height, work.found.entries) = (Some(last.height), Some(last.size));
            work.found.kept_below = log.first();
            work.last = Some(last);
            let cut = log.repaired().map(|repair| {
                format!("; {} bytes of a torn end were cut off, nothing acknowledged was in them", repair.bytes)
            });
            let (blocks, files) = (log.blocks() - log.first(), log.segments().len());
            Ok(format!(
                "{blocks} blocks in {files} files, {} bytes: every checksum and the hash chain{}",
                log.bytes(),
                cut.unwrap_or_default()
            ))
        });
        if is_empty { Err(CheckupFault::NoLedger(self.data.to_owned())) } else { Ok(is_open) }
    }

    /// Seals, `previous`, and the tree's roots from block 0 to the last, kept files first.
    fn chain(&mut self) -> Result<String, Fault> {
        let head = audit(self.disk()?, self.data, self.ledger(), self.key)?.ok_or("there is no block")?;
        let Checkpoint { height, size, .. } = head.checkpoint;
        let kept = kept::list(self.data)?.len();
        let from = if kept == 0 { String::new() } else { format!(", {kept} kept files before the log") };
        Ok(format!("{} sealed checkpoints follow each other, and {size} entries give their roots{from}", height + 1))
    }

    fn snapshots(&mut self) -> Result<String, Fault> {
        let snapshots = snapshot::list(self.data)?;
        for (_, file) in &snapshots {
            snapshot::verify(file, self.ledger(), self.key)?;
        }
        Ok(match &snapshots[..] {
            [] => "none: nothing was pruned".to_owned(),
            [(height, _), ..] => format!("{} hold, the newest of block {height}", snapshots.len()),
        })
    }

    /// Everything executed again, beside the folder.
    fn state(&mut self) -> Result<String, Fault> {
        let scratch = self.data.join(SCRATCH);
        if scratch.exists() {
            fs::remove_dir_all(&scratch)?;
        }
        fs::create_dir(&scratch)?;
        let disk = IndexDisk::Beside { index: scratch.join(INDEX), data: self.data.to_owned() };
        let opened = Store::open(self.disk()?, &disk, self.ledger(), self.key, FlushLimits::default())?;
        let (tail, store) = (opened.tail, Arc::new(opened.store));
        // As a node that follows: the signers' seals are checked, and nothing can be sealed.
        let key = LedgerKey::from(self.key.clone());
        let mut builder = Builder::new(Arc::clone(&store), key, self.ledger().to_owned(), Arc::new(WallClock));
        let told = &mut *self.told;
        builder.catch_up(tail, &mut |height| told(Stage::Executed(height)))?;
        self.found.executed_from = Some(tail);
        let end = self.last.as_ref().map_or(0, |last| last.height + 1);
        let before = match tail {
            0 => String::new(),
            _ => format!("; the state before them is the snapshot's, whose root is sealed in block {}", tail - 1),
        };
        let executed = end.saturating_sub(tail);
        Ok(format!(
            "{executed} blocks executed again: entries, outcomes, state and signers' seals are as sealed{before}"
        ))
    }

    /// What the node answers from, held against the checkpoints.
    fn index(&mut self) -> Result<String, Fault> {
        let file = self.data.join(INDEX);
        if !file.exists() {
            return Ok("there is none; the next start makes it".to_owned());
        }
        let index = Index::open(&IndexDisk::File(file))?;
        let view = index.view()?;
        let Some((height, digest)) = view.applied()? else {
            return Ok("it is empty; the next start fills it".to_owned());
        };
        let log = Log::open(self.disk()?)?;
        if height >= log.blocks() {
            return Err(format!(
                "it has seen block {height}, the log ends before {}: entries are missing",
                log.blocks()
            )
            .into());
        }
        let mut last = None;
        for at in 0..=height {
            last = Some(self.row(&view, &index, &log, at)?);
        }
        let last = last.filter(|last| last.digest() == digest).ok_or("its last block is not the one of the log")?;
        let mut sum = StateSum::default();
        view.each_state(PAIRS, |pairs| {
            sum.add(&pairs);
            Ok::<(), IndexFault>(())
        })?;
        let pairs = sum.count();
        if sum.root() != last.state {
            return Err(
                format!("the state in it does not give the root that block {height} seals; remove `{INDEX}`").into()
            );
        }
        let behind = log.blocks() - 1 - height;
        let behind = if behind == 0 { String::new() } else { format!("; the next start adds {behind} blocks") };
        Ok(format!("{pairs} pairs of the state and the rows of {} blocks are as sealed{behind}", height + 1))
    }

    /// A row and the outcomes beside it.
    fn row(&self, view: &IndexView, index: &Index, log: &Log, height: u64) -> Result<Checkpoint, Fault> {
        let wrong = |what: &str| format!("{what} of block {height} in it is not the one of the log; remove `{INDEX}`");
        let row = view.block(height)?.ok_or_else(|| wrong("the row"))?;
        let checkpoint = Checkpoint::open(&row.checkpoint, self.key)?;
        if height >= log.first() {
            let (record, head) = read_block(log, height, self.key)?;
            if head.checkpoint != checkpoint || row.entries.len() != record.statements.len() {
                return Err(wrong("the row").into());
            }
        }
        for ((_, id), entry) in row.entries.iter().zip(row.first_entry..) {
            if index.entry_of(id)? != Some(entry) {
                return Err(wrong("the entry of a statement").into());
            }
        }
        match view.outcomes(height)? {
            Some(outcomes) => {
                let leaves: Vec<Hash> = outcomes.iter().map(|outcome| leaf_hash(outcome)).collect();
                if root_of(&leaves) != checkpoint.outcomes {
                    return Err(wrong("an outcome").into());
                }
            }
            None => {
                let left = index.kept(height)?.ok_or_else(|| wrong("what is kept"))?;
                if !kept::is_of(&left, &row) {
                    return Err(wrong("what is kept").into());
                }
            }
        }
        Ok(checkpoint)
    }
}
