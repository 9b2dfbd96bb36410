//! What stays of a segment of the log that goes: all that receipts need, and the statements and outcomes that are still needed.
//!
//! One file a segment, `kept/FIRST-LAST.kept` (heights, 20 digits each), as [`container`](super::container) has it. First record
//! `h` and a CBOR head, then one record `b` and a [`KeptBlock`] a block. It proves itself: checkpoints are sealed and chained, the
//! ids give the tree's roots, statements have these ids, outcomes lead to the checkpoints' outcome roots. Subjects of entries
//! whose statement is gone, and refusal numbers of outcomes that are gone, rest on the file's digest alone.

use super::container::{FileFault, Magic, Recorder, Records};
use crate::admit::{Body, CheckedStatement};
use crate::engine::refused_of_batch;
use crate::store::BlockRow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tally_contracts::live::Live;
use tally_evidence::cbor::{self, Cbor, CborFault, Fields};
use tally_evidence::{
    Checkpoint, Frontier, Hash, OutcomeRecord, Place, StatementId, Tree, VerifyingKey, leaf_hash, root_from_path,
};

/// Folder of kept files inside the data folder.
pub const FOLDER: &str = "kept";
const MAGIC: Magic = Magic(b"TALLYKEP");
const SUFFIX: &str = ".kept";

/// What stays of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptEntry {
    /// Its statement's id: the leaf of the tree.
    pub id: StatementId,
    /// What it is about: its receipt says so.
    pub subject: String,
    /// 0 when done, otherwise the number of the refusal.
    pub refusal: u16,
    /// Of a batch: how many triggers came in it, and how many of them were refused.
    pub batch: Option<(u32, u32)>,
}

/// An outcome that stays, with its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOutcome {
    /// Its place among the block's outcomes.
    pub index: u64,
    /// Its bytes.
    pub outcome: Vec<u8>,
    /// From it to the checkpoint's outcome root.
    pub path: Vec<Hash>,
    /// The statement it is of; none for a term.
    pub statement: Option<Vec<u8>>,
}

/// What stays of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptBlock {
    /// The sealed checkpoint.
    pub checkpoint: Vec<u8>,
    /// How many terms ran out in it.
    pub terms: u64,
    /// All entries, in ledger order.
    pub entries: Vec<KeptEntry>,
    /// What is still needed, by rising index.
    pub kept: Vec<KeptOutcome>,
}

impl KeptBlock {
    /// What is to stay of a block. `None` when row, outcomes and statements do not belong together.
    #[must_use]
    pub fn of(row: &BlockRow, outcomes: &[Vec<u8>], statements: Vec<Vec<u8>>, live: &Live) -> Option<Self> {
        let mut tree = Tree::default();
        outcomes.iter().for_each(|outcome| tree.push(leaf_hash(outcome)));
        let terms = u64::from(row.terms);
        let mut block = Self { checkpoint: row.checkpoint.clone(), terms, entries: Vec::new(), kept: Vec::new() };
        let mut kept_statements = Vec::with_capacity(statements.len());
        for ((_, id), statement) in row.entries.iter().zip(statements) {
            let parsed = CheckedStatement::from_log(&statement).ok().filter(|parsed| parsed.id == *id)?;
            let entry = row.first_entry + block.entries.len() as u64;
            let is_kept = live.entries.contains(&entry) || is_registration(&parsed);
            kept_statements.push(is_kept.then_some(statement));
            block.entries.push(KeptEntry { id: *id, subject: parsed.subject, refusal: 0, batch: None });
        }
        for (index, outcome) in (0u64..).zip(outcomes) {
            let decoded = OutcomeRecord::decode(outcome).ok()?;
            let (is_kept, statement) = match &decoded.place {
                Place::Term { agreement, .. } => (live.agreements.contains(agreement), None),
                Place::Entry { index, .. } => {
                    let place = place_in(row, *index)?;
                    let entry = block.entries.get_mut(place)?;
                    entry.refusal = decoded.refusal;
                    entry.batch = row.triggers_of(place).map(|triggers| (triggers, refused_of_batch(&decoded)));
                    let statement = kept_statements.get_mut(place)?.take();
                    (statement.is_some(), statement)
                }
                Place::Item { index, .. } => (live.entries.contains(index), None),
            };
            if is_kept {
                let path = tree.inclusion_path(index, outcomes.len() as u64)?;
                block.kept.push(KeptOutcome { index, outcome: outcome.clone(), path, statement });
            }
        }
        (block.entries.len() == row.entries.len()).then_some(block)
    }

    /// The statement of the entry at `place` of the block, if it stays.
    #[must_use]
    pub fn statement(&self, place: usize) -> Option<&[u8]> {
        self.of_entry(place)?.statement.as_deref()
    }

    /// The outcome of the entry at `place` of the block, if it stays.
    #[must_use]
    pub fn of_entry(&self, place: usize) -> Option<&KeptOutcome> {
        let id = self.entries.get(place)?.id;
        self.kept.iter().filter(|kept| kept.statement.is_some()).find(|kept| {
            let place = OutcomeRecord::decode(&kept.outcome).ok().map(|outcome| outcome.place);
            matches!(place, Some(Place::Entry { statement, .. }) if statement == id)
        })
    }

    /// The outcome at `index`, if it stays.
    #[must_use]
    pub fn outcome(&self, index: u64) -> Option<&KeptOutcome> {
        self.kept.iter().find(|kept| kept.index == index)
    }

    /// As deterministic CBOR (`docs/formats/retention.cddl`).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let entry = |entry: &KeptEntry| {
            let mut parts = vec![cbor::bytes(entry.id.0), cbor::text(&entry.subject), cbor::int(entry.refusal)];
            parts.extend(
                entry.batch.into_iter().flat_map(|(triggers, refused)| [cbor::int(triggers), cbor::int(refused)]),
            );
            Cbor::Array(parts)
        };
        let outcome = |kept: &KeptOutcome| {
            let path = Cbor::Array(kept.path.iter().map(|hash| cbor::bytes(*hash)).collect());
            let mut parts = vec![cbor::int(kept.index), cbor::bytes(kept.outcome.clone()), path];
            parts.extend(kept.statement.clone().map(cbor::bytes));
            Cbor::Array(parts)
        };
        cbor::encode(&cbor::map([
            ("checkpoint", cbor::bytes(self.checkpoint.clone())),
            ("terms", cbor::int(self.terms)),
            ("entries", Cbor::Array(self.entries.iter().map(entry).collect())),
            ("kept", Cbor::Array(self.kept.iter().map(outcome).collect())),
        ]))
    }

    /// Reads it strictly.
    ///
    /// # Errors
    /// [`CborFault`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CborFault> {
        let wrong =
            |field: &str| CborFault::Type { field: field.to_owned(), expected: "as docs/formats/retention.cddl says" };
        let mut fields = Fields::decode(bytes)?;
        let entries = fields.array("entries")?.into_iter().map(|item| entry(item).ok_or_else(|| wrong("entries")));
        let entries = entries.collect::<Result<_, _>>()?;
        let kept = fields.array("kept")?.into_iter().map(|item| outcome(item).ok_or_else(|| wrong("kept")));
        let kept = kept.collect::<Result<_, _>>()?;
        let block = Self { entries, kept, terms: fields.int("terms")?, checkpoint: fields.bytes("checkpoint")? };
        fields.finish()?;
        Ok(block)
    }
}

/// The batches of a block, as its row has them.
#[must_use]
pub fn batches(entries: &[KeptEntry]) -> Vec<(u32, u32)> {
    let batches = (0u32..).zip(entries).filter_map(|(place, entry)| Some((place, entry.batch?.0)));
    batches.collect()
}

/// The place of an entry in its block.
fn place_in(row: &BlockRow, entry: u64) -> Option<usize> {
    usize::try_from(entry.checked_sub(row.first_entry)?).ok()
}

fn is_registration(statement: &CheckedStatement) -> bool {
    matches!(&statement.body, Body::Call(call) if call.contract.as_str() == "registry")
}

fn entry(item: Cbor) -> Option<KeptEntry> {
    let mut parts = item.into_array().ok()?.into_iter();
    let id = StatementId(parts.next()?.into_bytes().ok()?.try_into().ok()?);
    let subject = parts.next()?.into_text().ok()?;
    let refusal = u16::try_from(parts.next()?.into_integer().ok()?).ok()?;
    let rest = parts.map(|part| u32::try_from(part.into_integer().ok()?).ok()).collect::<Option<Vec<_>>>()?;
    let batch = match rest[..] {
        [] => None,
        [triggers, refused] => Some((triggers, refused)),
        _ => return None,
    };
    Some(KeptEntry { id, subject, refusal, batch })
}

fn outcome(item: Cbor) -> Option<KeptOutcome> {
    let mut parts = item.into_array().ok()?.into_iter();
    let index = u64::try_from(parts.next()?.into_integer().ok()?).ok()?;
    let outcome = parts.next()?.into_bytes().ok()?;
    let path = parts.next()?.into_array().ok()?.into_iter().map(|hash| hash.into_bytes().ok()?.try_into().ok());
    let path = path.collect::<Option<_>>()?;
    let statement = parts.next().map(|item| item.into_bytes().map_err(|_| ())).transpose().ok()?;
    parts.next().is_none().then_some(KeptOutcome { index, outcome, path, statement })
}

/// A kept file by its name: the first and the last block.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeptName {
    /// Height of its first block; the name of the segment that went.
    pub first: u64,
    /// Height of its last block.
    pub last: u64,
}

impl KeptName {
    /// The file's name.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{:020}-{:020}{SUFFIX}", self.first, self.last)
    }

    /// Of a file's name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (first, last) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        let number = |digits: &str| {
            let is_plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
            if is_plain { digits.parse().ok() } else { None }
        };
        let name = Self { first: number(first)?, last: number(last)? };
        (name.first <= name.last).then_some(name)
    }
}

/// The kept files of a data folder, in order.
///
/// # Errors
/// [`FileFault`], also when they overlap or leave a hole, or do not begin at block 0.
pub fn list(data: &Path) -> Result<Vec<KeptName>, FileFault> {
    let folder = data.join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| FileFault::io(&folder, source))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|source| FileFault::io(&folder, source))?.file_name();
        names.extend(name.to_str().and_then(KeptName::parse));
    }
    names.sort();
    let mut next = 0;
    for name in &names {
        if name.first != next {
            let what = format!("what is kept of blocks {next} to {} is missing", name.first.saturating_sub(1));
            return Err(FileFault::content(&folder.join(name.file()), what));
        }
        next = name.last + 1;
    }
    Ok(names)
}

/// Writes a kept file of `ledger`.
///
/// # Errors
/// [`FileFault`]; the file is not there then.
pub fn write(
    data: &Path,
    ledger: &str,
    name: &KeptName,
    mut block: impl FnMut(u64) -> Result<KeptBlock, FileFault>,
) -> Result<PathBuf, FileFault> {
    let folder = data.join(FOLDER);
    fs::create_dir_all(&folder).map_err(|source| FileFault::io(&folder, source))?;
    let file = folder.join(name.file());
    let mut recorder = Recorder::create(&file, MAGIC)?;
    let head =
        cbor::map([("ledger", cbor::text(ledger)), ("first", cbor::int(name.first)), ("last", cbor::int(name.last))]);
    recorder.record(&tagged(b'h', &cbor::encode(&head)))?;
    for height in name.first..=name.last {
        recorder.record(&tagged(b'b', &block(height)?.encode()))?;
    }
    recorder.finish()?;
    Ok(file)
}

fn tagged(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind], payload].concat()
}

/// Reads a kept file of `ledger` and gives its blocks with their bytes. What they say is not checked, only that they are there.
///
/// # Errors
/// [`FileFault`]; what `take` says becomes one, with file and block.
pub fn read(
    file: &Path,
    name: &KeptName,
    ledger: &str,
    mut take: impl FnMut(u64, KeptBlock, Vec<u8>) -> Result<(), String>,
) -> Result<(), FileFault> {
    let mut records = Records::open(file, MAGIC)?;
    let head = records.next()?.unwrap_or_default();
    check_head(&head, name, ledger).map_err(|what| FileFault::content(file, what))?;
    for height in name.first..=name.last {
        let record = records.next()?.unwrap_or_default();
        let mut block = || {
            let Some((b'b', bytes)) = record.split_first() else { return Err("it is missing".to_owned()) };
            take(height, KeptBlock::decode(bytes).map_err(|fault| fault.to_string())?, bytes.to_vec())
        };
        block().map_err(|what| FileFault::content(file, format!("block {height}: {what}")))?;
    }
    match records.next()? {
        None => Ok(()),
        Some(_) => Err(FileFault::content(file, format!("something behind block {}", name.last))),
    }
}

fn check_head(record: &[u8], name: &KeptName, asked: &str) -> Result<(), String> {
    let Some((b'h', head)) = record.split_first() else { return Err("it has no head".to_owned()) };
    let read = || {
        let mut fields = Fields::decode(head)?;
        let read = (fields.text("ledger")?, fields.int::<u64>("first")?, fields.int::<u64>("last")?);
        fields.finish()?;
        Ok::<_, CborFault>(read)
    };
    let (ledger, first, last) = read().map_err(|fault| format!("its head: {fault}"))?;
    if ledger != asked {
        return Err(format!("it is of the ledger `{ledger}`, not of `{asked}`"));
    }
    if (first, last) != (name.first, name.last) {
        return Err(format!("it holds blocks {first} to {last}, its name says {} to {}", name.first, name.last));
    }
    Ok(())
}

/// Whether `block` is what is kept of the block with this row: checkpoint, entries and their order.
#[must_use]
pub fn is_of(block: &KeptBlock, row: &BlockRow) -> bool {
    block.checkpoint == row.checkpoint
        && block.entries.iter().map(|entry| entry.id).eq(row.entries.iter().map(|(_, id)| *id))
}

/// Reads kept files one after the other from block 0 on and checks what they say as far as it proves itself.
pub struct KeptChain<'a> {
    ledger: &'a str,
    key: &'a VerifyingKey,
    tree: Frontier,
    last: Option<Checkpoint>,
}

/// A block of a kept file that holds.
pub struct CheckedKept {
    /// Its checkpoint, opened.
    pub checkpoint: Checkpoint,
    /// Index of its first entry.
    pub first_entry: u64,
    /// The block.
    pub block: KeptBlock,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl<'a> KeptChain<'a> {
    /// Nothing read yet.
    #[must_use]
    pub fn new(ledger: &'a str, key: &'a VerifyingKey) -> Self {
        Self::behind(ledger, key, Default::default())
    }

    /// Goes on behind what another one read.
    #[must_use]
    pub fn behind(ledger: &'a str, key: &'a VerifyingKey, (tree, last): (Frontier, Option<Checkpoint>)) -> Self {
        Self { ledger, key, tree, last }
    }

    /// The tree and the last checkpoint behind everything read.
    #[must_use]
    pub fn end(self) -> (Frontier, Option<Checkpoint>) {
        (self.tree, self.last)
    }

    /// Reads the next file and gives its blocks.
    ///
    /// # Errors
    /// [`FileFault`], naming the file and the block.
    pub fn file(
        &mut self,
        file: &Path,
        name: &KeptName,
        mut take: impl FnMut(CheckedKept) -> Result<(), FileFault>,
    ) -> Result<(), FileFault> {
        let ledger = self.ledger;
        read(file, name, ledger, |height, block, bytes| {
            take(self.block(height, block, bytes)?).map_err(|fault| fault.to_string())
        })
    }

    fn block(&mut self, height: u64, block: KeptBlock, bytes: Vec<u8>) -> Result<CheckedKept, String> {
        let checkpoint = Checkpoint::open(&block.checkpoint, self.key).map_err(|fault| fault.to_string())?;
        let previous = self.last.as_ref().map_or([0; 32], Checkpoint::digest);
        if (checkpoint.height, checkpoint.previous) != (height, previous) || checkpoint.ledger != self.ledger {
            return Err("its checkpoint does not follow the one before".to_owned());
        }
        block.entries.iter().for_each(|entry| self.tree.push(leaf_hash(&entry.id.0)));
        let first_entry = checkpoint.size.saturating_sub(block.entries.len() as u64);
        if (checkpoint.size, checkpoint.root) != (self.tree.count(), self.tree.root()) {
            return Err("its entries do not give the root that its checkpoint seals".to_owned());
        }
        block.kept.iter().try_for_each(|kept| check_kept(&block, kept, &checkpoint))?;
        self.last = Some(checkpoint.clone());
        Ok(CheckedKept { checkpoint, first_entry, block, bytes })
    }
}

/// A kept outcome is one of the block, and its statement is the entry's.
fn check_kept(block: &KeptBlock, kept: &KeptOutcome, checkpoint: &Checkpoint) -> Result<(), String> {
    let root = root_from_path(leaf_hash(&kept.outcome), kept.index, checkpoint.outcome_count, &kept.path);
    if root != Some(checkpoint.outcomes) {
        return Err(format!("outcome {} does not lead to the outcome root", kept.index));
    }
    let wrong = || format!("what is kept of outcome {} is not that of the entry", kept.index);
    let outcome = OutcomeRecord::decode(&kept.outcome).map_err(|_| wrong())?;
    let first_entry = checkpoint.size.saturating_sub(block.entries.len() as u64);
    let entry = |index: u64| {
        let place = usize::try_from(index.checked_sub(first_entry)?).ok()?;
        block.entries.get(place)
    };
    let is_right = match (outcome.place.clone(), &kept.statement) {
        (Place::Term { .. }, None) => true,
        (Place::Item { index, statement, .. }, None) => entry(index).is_some_and(|entry| entry.id == statement),
        (Place::Entry { index, .. }, Some(statement)) => {
            let parsed = CheckedStatement::from_log(statement).map_err(|_| wrong())?;
            entry(index).is_some_and(|entry| {
                (parsed.id, &parsed.subject, outcome.refusal) == (entry.id, &entry.subject, entry.refusal)
                    && entry.batch.is_none_or(|(_, refused)| refused == refused_of_batch(&outcome))
            })
        }
        _ => false,
    };
    if is_right { Ok(()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_exact() {
        let name = KeptName { first: 7, last: 12 };
        assert_eq!(name.file(), "00000000000000000007-00000000000000000012.kept");
        assert_eq!(KeptName::parse(&name.file()), Some(name));
        for wrong in [
            "",
            "7-12.kept",
            "00000000000000000012-00000000000000000007.kept",
            "+0000000000000000007-00000000000000000012.kept",
        ] {
            assert_eq!(KeptName::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_hole_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(list(dir.path()).unwrap(), []);
        fs::create_dir(dir.path().join(FOLDER)).unwrap();
        let put = |first, last| fs::write(dir.path().join(FOLDER).join(KeptName { first, last }.file()), "").unwrap();
        put(0, 4);
        put(5, 5);
        fs::write(dir.path().join(FOLDER).join("x.kept.new"), "").unwrap();
        assert_eq!(list(dir.path()).unwrap().len(), 2);
        put(7, 9);
        assert!(list(dir.path()).unwrap_err().to_string().contains("blocks 6 to 6 is missing"));
    }

    proptest! {
        #[test]
        fn blocks_round_trip(
            checkpoint in proptest::collection::vec(any::<u8>(), 0..50),
            entries in proptest::collection::vec((any::<[u8; 32]>(), "[a-z]{0,9}", any::<u16>(), any::<Option<(u32, u32)>>()), 0..9),
            kept in proptest::collection::vec((any::<u64>(), any::<[u8; 9]>(), proptest::option::of(any::<[u8; 5]>())), 0..5),
        ) {
            let entry = |(id, subject, refusal, batch)| KeptEntry { id: StatementId(id), subject, refusal, batch };
            let outcome = |(index, bytes, statement): (u64, [u8; 9], Option<[u8; 5]>)| KeptOutcome {
                index, outcome: bytes.to_vec(), path: vec![[bytes[0]; 32]], statement: statement.map(Vec::from),
            };
            let block = KeptBlock {
                checkpoint,
                terms: 3,
                entries: entries.into_iter().map(entry).collect(),
                kept: kept.into_iter().map(outcome).collect(),
            };
            prop_assert_eq!(KeptBlock::decode(&block.encode()), Ok(block));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), name in "\\PC{0,60}") {
            let _ = KeptBlock::decode(&bytes);
            let _ = KeptName::parse(&name);
        }
    }
}
