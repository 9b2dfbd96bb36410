//! Where the bytes of the data folder are.

use super::index::Index;
use super::{IndexFault, Store, encode_block};
use std::fs;
use std::io;
use std::path::Path;

/// A part of the data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// File or folder, from the data folder.
    pub place: String,
    /// What the bytes are.
    pub what: String,
    /// How many.
    pub bytes: u64,
}

/// All bytes of the data folder: the sum of the parts is the length of all its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// In the order of the folder: log, index, the rest.
    pub parts: Vec<Part>,
    /// Length of all files.
    pub bytes: u64,
    /// What they take on the disk (blocks of the file system; less where files have holes).
    pub disk_bytes: u64,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum UsageFault {
    /// The folder cannot be read.
    #[error("cannot read the data folder: {0}")]
    Folder(#[from] io::Error),
    /// The index cannot be read.
    #[error(transparent)]
    Index(#[from] IndexFault),
    /// The ledger stands on disks of a test.
    #[error("this ledger has no data folder")]
    None,
}

impl Store {
    /// Explains every byte of the data folder. Reads the rows of all blocks: seconds for millions of them.
    ///
    /// The node goes on meanwhile, so the parts are of slightly different moments; what was written between two looks counts as
    /// framing of the log, or as free pages of the index.
    ///
    /// # Errors
    /// [`UsageFault`].
    pub fn usage(&self) -> Result<Usage, UsageFault> {
        let folder = self.folder.as_deref().ok_or(UsageFault::None)?;
        let mut usage = Usage { parts: Vec::new(), bytes: 0, disk_bytes: 0 };
        self.index.pending.wait()?;
        // The contents first: what comes in between is then in the files, and not the other way round.
        let (blocks, tables) = (blocks(&self.index, self.log.first())?, self.index.tables()?);
        let files = files(folder, folder)?;
        let total = |is_ours: &dyn Fn(&str) -> bool| {
            files.iter().filter(|file| is_ours(&file.name)).map(|file| file.bytes).sum()
        };
        usage.log(&blocks, total(&|name| is_segment(name)));
        usage.index(&tables, total(&|name| name == INDEX));
        let is_run = |name: &str| name.starts_with(RUNS);
        let count = files.iter().filter(|file| is_run(&file.name)).count();
        if count > 0 {
            let what = format!("statement → entry: the ids of all statements, sorted, in {count} files");
            usage.part(RUNS, &what, total(&is_run));
        }
        let is_private = |name: &str| name.starts_with(PRIVATE);
        let count = files.iter().filter(|file| is_private(&file.name)).count();
        if count > 0 {
            let what = format!("{count} private fields of calls in clear, as long as they are not purged");
            usage.part(PRIVATE, &what, total(&is_private));
        }
        for file in &files {
            usage.bytes += file.bytes;
            usage.disk_bytes += file.disk_bytes;
            if !is_segment(&file.name) && file.name != INDEX && !is_run(&file.name) && !is_private(&file.name) {
                usage.part(&file.name, what_is(&file.name), file.bytes);
            }
        }
        Ok(usage)
    }
}

/// The index, and the folder of the log.
const INDEX: &str = "state.redb";
const LOG: &str = "log/";
/// The folder of runs of statement ids.
const RUNS: &str = "statements/";
/// The folder of private fields.
const PRIVATE: &str = "private/";

fn is_segment(name: &str) -> bool {
    name.strip_prefix(LOG).is_some_and(|file| tally_journal::SegmentName::parse(file).is_some())
}

fn what_is(name: &str) -> &'static str {
    match name {
        "FORMAT" => "the version of the formats in this folder",
        _ if name.starts_with("checking/") => "left by an interrupted `tally ledger check`; the next one removes it",
        _ if name.starts_with("joining/") => "left by an interrupted `tally ledger join`; the next one goes on with it",
        "alarms.json" => "alarms, and who acknowledged them",
        "FOLLOWS" => "whose blocks this folder takes: it never orders before it is promoted",
        "second-history.block" => "a block that the ledger's key sealed and that contradicts the log here",
        "log/LOCK" => "who has the log open",
        "witness/final.note" => "the last checkpoint that enough witnesses signed",
        "witness/alarm.split" => "proof that this ledger's key signed two histories",
        _ if name.starts_with("witness_for/") => "what this node signed last of other ledgers, as their witness",
        _ if name.ends_with(".new") => "unfinished; removed by the next retention pass",
        _ if name.starts_with("kept/") => "what is kept of a segment of the log that was pruned",
        _ if name.starts_with("snapshot/") => "the state behind a block, to rebuild the index from",
        _ if name.starts_with("summary/") => "what is known of a file of the log, so that opening need not read it",
        "projection.sqlite" => "the ledger as tables, for questions; may be removed at any time",
        "projection.sqlite-wal" | "projection.sqlite-shm" => "what was written to these tables last",
        "tree/state.pages" => "tree over the state: its pages, and room for those that are being written",
        "tree/state.top.0" | "tree/state.top.1" => "tree over the state: where its pages are",
        "tree/entries.damaged" => "not empty when the tree of entries is to be built again",
        _ if name.starts_with("tree/entries.") => "tree over the entries: the hashes of a level",
        _ => "nothing of the node's: somebody put it here",
    }
}

impl Usage {
    fn part(&mut self, place: &str, what: &str, bytes: u64) {
        self.parts.push(Part { place: place.to_owned(), what: what.to_owned(), bytes });
    }

    fn log(&mut self, blocks: &Blocks, length: u64) {
        let Blocks { count, entries, statements, checkpoints, records } = *blocks;
        self.part("log", &format!("{entries} statements, as they were signed"), statements);
        self.part("log", &format!("{count} sealed checkpoints"), checkpoints);
        self.part(
            "log",
            "around them in the blocks: names, lengths, times",
            records.saturating_sub(statements + checkpoints),
        );
        self.part("log", "frames, checksums, sync marks and heads of the files", length.saturating_sub(records));
    }

    fn index(&mut self, tables: &[(&'static str, u64, u64)], length: u64) {
        let (stored, around) = tables.iter().fold((0, 0), |sums, table| (sums.0 + table.1, sums.1 + table.2));
        for (what, bytes, _) in tables {
            self.part(INDEX, what, *bytes);
        }
        self.part(INDEX, "around them in the pages: branches, lengths, room for more", around);
        self.part(
            INDEX,
            "free pages and the index's own books; it shrinks when it is rebuilt",
            length.saturating_sub(stored + around),
        );
    }
}

/// Sums over all blocks.
#[derive(Default)]
struct Blocks {
    count: u64,
    entries: u64,
    statements: u64,
    checkpoints: u64,
    /// Records of the journal, without their frames.
    records: u64,
}

/// Of the blocks from `first` on: those before were pruned.
fn blocks(index: &Index, first: u64) -> Result<Blocks, IndexFault> {
    let mut sums = Blocks::default();
    index.each_block(first, |height, row| {
        let statements: u64 = row.entries.iter().map(|((_, length), _)| u64::from(*length)).sum();
        sums.count += 1;
        sums.entries += row.entries.len() as u64;
        sums.statements += statements;
        sums.checkpoints += row.checkpoint.len() as u64;
        // The statements end the record.
        sums.records += match row.entries.last() {
            Some(((offset, length), _)) => u64::from(*offset) + u64::from(*length),
            None => encode_block(height, row.time, &row.checkpoint, std::iter::empty()).0.len() as u64,
        };
        Ok(())
    })?;
    Ok(sums)
}

struct FoundFile {
    name: String,
    bytes: u64,
    disk_bytes: u64,
}

/// Length of all files below `folder`.
pub fn folder_bytes(folder: &Path) -> io::Result<u64> {
    Ok(files(folder, folder)?.iter().map(|file| file.bytes).sum())
}

/// What the files below `folder` take on the disk: less than their lengths where they have holes.
pub fn folder_disk_bytes(folder: &Path) -> io::Result<u64> {
    Ok(files(folder, folder)?.iter().map(|file| file.disk_bytes).sum())
}

/// All files below `folder`, with their names from `root`, sorted. Links are not followed.
fn files(root: &Path, folder: &Path) -> io::Result<Vec<FoundFile>> {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let meta = match fs::symlink_metadata(&path) {
            // Gone between the two looks.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            meta => meta?,
        };
        if meta.is_dir() {
            found.extend(files(root, &path)?);
            continue;
        }
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        found.push(FoundFile { name, bytes: meta.len(), disk_bytes: meta.blocks() * 512 });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}
