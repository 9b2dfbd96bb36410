//! The whole state behind a block, in one file: what a ledger is rebuilt from once the log no longer begins at block 0.
//!
//! `snapshot/HEIGHT.snap` (20 digits), as [`container`](super::container) has it. Records, by their first byte:
//!
//! ```text
//! h   CBOR head: ledger, height, from, sealed checkpoint                        first
//! s   pairs of the state: key length u32 │ key │ value length u32 │ value, …    keys rise over all of them
//! o   height u64 │ the block's outcomes, as the index packs them                of blocks `from` to `height`, in order
//! e   number of pairs u64 │ number of blocks u64                                last
//! ```
//! The state proves itself: its root stands in the checkpoint, and outcomes lead to the roots in the checkpoints of the log. It is
//! written from one read transaction of the index, so it is of one moment and stops nobody.

use super::container::{FileFault, Magic, Recorder, Records};
use crate::store::{IndexFault, IndexView, StateSum, decode_outcomes, encode_outcomes};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tally_evidence::cbor::{self, CborFault, Fields};
use tally_evidence::{Checkpoint, VerifyingKey};

/// Folder of snapshots inside the data folder.
pub const FOLDER: &str = "snapshot";
/// Snapshots that stay: the newest, and the one before in case that rots.
pub const KEEP: usize = 2;
const MAGIC: Magic = Magic(b"TALLYSNP");
const SUFFIX: &str = ".snap";
/// Bytes of state in a record, about.
const STATE_BYTES: usize = 256 << 10;
/// Pairs read from the index at once.
const PAIRS: usize = 1_024;

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFault {
    /// Its file.
    #[error(transparent)]
    File(#[from] FileFault),
    /// The index it is made from.
    #[error(transparent)]
    Index(#[from] IndexFault),
    /// There is nothing to make it of.
    #[error("there is no block yet")]
    Empty,
}

/// What a snapshot says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotHead {
    /// The block behind which the state is.
    pub checkpoint: Checkpoint,
    /// The same, sealed.
    pub sealed: Vec<u8>,
    /// The first block whose outcomes are in it.
    pub from: u64,
}

/// A part of a snapshot.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// Pairs of the state.
    State(Vec<(Vec<u8>, Vec<u8>)>),
    /// Outcomes of a block.
    Outcomes(u64, Vec<Vec<u8>>),
}

/// The snapshots of a data folder with their heights, newest first.
///
/// # Errors
/// [`FileFault`].
pub fn list(data: &Path) -> Result<Vec<(u64, PathBuf)>, FileFault> {
    let folder = data.join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| FileFault::io(&folder, source))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| FileFault::io(&folder, source))?.path();
        let height = path.file_name().and_then(|name| height_of(name.to_str()?));
        found.extend(height.map(|height| (height, path)));
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

/// Whether, by its name, it is of the block before `first` or of a later one.
#[must_use]
pub fn reaches(file: &Path, first: u64) -> bool {
    let height = file.file_name().and_then(|name| height_of(name.to_str()?));
    height.is_some_and(|height| height + 1 >= first)
}

/// The height in the name of a snapshot.
#[must_use]
pub fn height_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let is_plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { digits.parse().ok() } else { None }
}

/// Writes the state of `view` with the outcomes of all blocks from `from` on, and checks the file: digest, order, state root.
///
/// # Errors
/// [`SnapshotFault`]; no snapshot is there then.
pub fn write(data: &Path, view: &IndexView, from: u64, key: &VerifyingKey) -> Result<SnapshotHead, SnapshotFault> {
    let (height, _) = view.applied()?.ok_or(SnapshotFault::Empty)?;
    let row = view.block(height)?.ok_or(SnapshotFault::Empty)?;
    let folder = data.join(FOLDER);
    fs::create_dir_all(&folder).map_err(|source| FileFault::io(&folder, source))?;
    let file = folder.join(format!("{height:020}{SUFFIX}"));
    let checkpoint = Checkpoint::open(&row.checkpoint, key);
    let checkpoint = checkpoint.map_err(|fault| FileFault::content(&file, fault.to_string()))?;
    let mut recorder = Recorder::create(&file, MAGIC)?;
    let head = cbor::map([
        ("ledger", cbor::text(&checkpoint.ledger)),
        ("height", cbor::int(height)),
        ("from", cbor::int(from)),
        ("checkpoint", cbor::bytes(row.checkpoint)),
    ]);
    recorder.record(&[b"h", cbor::encode(&head).as_slice()].concat())?;
    let pairs = write_state(&mut recorder, view)?;
    for height in from..=height {
        let missing = || IndexFault::Damaged(format!("block {height} has no outcomes"));
        let outcomes = view.outcomes(height)?.ok_or_else(missing)?;
        recorder.record(&[b"o", height.to_le_bytes().as_slice(), &encode_outcomes(&outcomes)].concat())?;
    }
    let blocks = (height + 1).saturating_sub(from);
    recorder.record(&[b"e", pairs.to_le_bytes().as_slice(), &blocks.to_le_bytes()].concat())?;
    let (unfinished, head) = (super::container::unfinished(&file), height);
    recorder.finish()?;
    match verify(&file, &checkpoint.ledger, key) {
        Ok(found) if found.checkpoint.height == head => Ok(found),
        Ok(_) => Err(FileFault::content(&unfinished, "it is of another block").into()),
        Err(fault) => {
            // It would only be tried, and refused, when the index is lost.
            let _ = fs::remove_file(&file);
            Err(fault.into())
        }
    }
}

fn write_state(recorder: &mut Recorder, view: &IndexView) -> Result<u64, SnapshotFault> {
    let (mut record, mut pairs) = (vec![b's'], 0u64);
    view.each_state(PAIRS, |piece| {
        for (key, value) in piece {
            pairs += 1;
            for part in [key, value] {
                // A value is part of a block's changes and far below 4 GiB.
                record.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
                record.extend_from_slice(&part);
            }
            if record.len() >= STATE_BYTES {
                recorder.record(&record)?;
                record.truncate(1);
            }
        }
        Ok::<(), SnapshotFault>(())
    })?;
    if record.len() > 1 {
        recorder.record(&record)?;
    }
    Ok(pairs)
}

/// Reads a snapshot from its beginning to its end and compares the state with the root in its checkpoint, which `key` sealed for
/// `ledger`. 64 bytes of memory a key of the state, 128 of accounts and devices.
///
/// # Errors
/// [`FileFault`].
pub fn verify(file: &Path, ledger: &str, key: &VerifyingKey) -> Result<SnapshotHead, FileFault> {
    let mut snapshot = Snapshot::open(file, ledger, key)?;
    let mut sum = StateSum::default();
    while let Some(part) = snapshot.next_part()? {
        if let Part::State(pairs) = part {
            sum.add(&pairs);
        }
    }
    if sum.root() == snapshot.head.checkpoint.state {
        return Ok(snapshot.head);
    }
    Err(FileFault::content(file, "the state in it does not give the root that its checkpoint seals"))
}

/// A snapshot that is read from its beginning to its end.
pub struct Snapshot {
    file: PathBuf,
    records: Records,
    /// What it says it is.
    pub head: SnapshotHead,
    last_key: Option<Vec<u8>>,
    pairs: u64,
    next_block: u64,
    is_done: bool,
}

impl Snapshot {
    /// Opens it: digest, head, seal.
    ///
    /// # Errors
    /// [`FileFault`].
    pub fn open(file: &Path, ledger: &str, key: &VerifyingKey) -> Result<Self, FileFault> {
        let mut records = Records::open(file, MAGIC)?;
        let record = records.next()?.unwrap_or_default();
        let Some((b'h', head)) = record.split_first() else {
            return Err(FileFault::content(file, "it has no head"));
        };
        let head = read_head(head, ledger, key).map_err(|what| FileFault::content(file, what))?;
        let next_block = head.from;
        let file = file.to_owned();
        Ok(Self { file, records, head, last_key: None, pairs: 0, next_block, is_done: false })
    }

    /// The next part; `None` behind the last, when all of it was there.
    ///
    /// # Errors
    /// [`FileFault`].
    pub fn next_part(&mut self) -> Result<Option<Part>, FileFault> {
        if self.is_done {
            return Ok(None);
        }
        let record = self.records.next()?.unwrap_or_default();
        self.part(&record).map_err(|what| FileFault::content(&self.file, what))
    }

    fn part(&mut self, record: &[u8]) -> Result<Option<Part>, String> {
        match record.split_first() {
            Some((b's', pairs)) if self.next_block == self.head.from => self.state(pairs).map(Some),
            Some((b'o', rest)) => {
                let (height, outcomes) = rest.split_first_chunk().ok_or("a block's outcomes are cut off")?;
                let height = u64::from_le_bytes(*height);
                if height != self.next_block || height > self.head.checkpoint.height {
                    return Err(format!("outcomes of block {height} stand where those of {} should", self.next_block));
                }
                self.next_block += 1;
                let outcomes =
                    decode_outcomes(outcomes).ok_or(format!("the outcomes of block {height} are damaged"))?;
                Ok(Some(Part::Outcomes(height, outcomes)))
            }
            Some((b'e', said)) => {
                let blocks = (self.head.checkpoint.height + 1).saturating_sub(self.head.from);
                let is_whole = self.next_block - self.head.from == blocks
                    && said == [self.pairs.to_le_bytes(), blocks.to_le_bytes()].concat();
                self.is_done = is_whole;
                if is_whole { Ok(None) } else { Err("it is not whole: its end says more than is in it".to_owned()) }
            }
            _ => Err("it ends early, or holds something unknown".to_owned()),
        }
    }

    fn state(&mut self, mut rest: &[u8]) -> Result<Part, String> {
        let mut pairs = Vec::new();
        while !rest.is_empty() {
            let pair = cut(&mut rest).and_then(|key| Some((key.to_vec(), cut(&mut rest)?.to_vec())));
            let (key, value) = pair.ok_or("a pair of the state is cut off")?;
            if self.last_key.as_ref().is_some_and(|last| *last >= key) {
                return Err("the keys of the state do not rise".to_owned());
            }
            self.last_key = Some(key.clone());
            self.pairs += 1;
            pairs.push((key, value));
        }
        Ok(Part::State(pairs))
    }
}

fn cut<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk()?;
    let (part, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = behind;
    Some(part)
}

fn read_head(head: &[u8], ledger: &str, key: &VerifyingKey) -> Result<SnapshotHead, String> {
    let read = || {
        let mut fields = Fields::decode(head)?;
        let read = (
            fields.text("ledger")?,
            fields.int::<u64>("height")?,
            fields.int::<u64>("from")?,
            fields.bytes("checkpoint")?,
        );
        fields.finish()?;
        Ok::<_, CborFault>(read)
    };
    let (found, height, from, sealed) = read().map_err(|fault| format!("its head: {fault}"))?;
    let checkpoint = Checkpoint::open(&sealed, key).map_err(|fault| fault.to_string())?;
    if found != ledger || checkpoint.ledger != ledger {
        return Err(format!("it is of the ledger `{found}`, not of `{ledger}`"));
    }
    if checkpoint.height != height || from > height + 1 {
        return Err(format!("its head says block {height}, its checkpoint {}", checkpoint.height));
    }
    Ok(SnapshotHead { checkpoint, sealed, from })
}
