//! An index made anew when the log no longer begins at block 0: old blocks from the kept files, the state and the outcomes from a
//! snapshot, the blocks between from the log. Everything is compared with sealed checkpoints; what comes behind the snapshot is
//! executed again as usual.

use super::container::FileFault;
use super::kept::{self, CheckedKept, KeptChain, KeptName};
use super::snapshot::{self, Part, Snapshot};
use crate::admit::{Body, CheckedStatement};
use crate::store::{BlockRow, Index, Log, Seed, SeedOutcomes, StoreOpenError, encode_block, read_block};
use std::path::{Path, PathBuf};
use tally_evidence::{Checkpoint, Frontier, Hash, OutcomeRecord, Place, VerifyingKey, leaf_hash, root_of};

/// Blocks brought in at once.
const BLOCKS: usize = 256;

/// Which ledger, and where.
#[derive(Clone, Copy)]
pub struct Whose<'a> {
    /// The data folder.
    pub data: &'a Path,
    /// The ledger's name.
    pub ledger: &'a str,
    /// Its key.
    pub key: &'a VerifyingKey,
}

/// Fills the empty `index` of a ledger whose log begins behind block 0.
///
/// # Errors
/// [`StoreOpenError`], naming the file that is missing or does not hold.
pub fn seed(index: &Index, log: &Log, whose: Whose<'_>) -> Result<(), StoreOpenError> {
    let names = kept::list(whose.data)?;
    let covered = names.last().map_or(0, |name| name.last + 1);
    if covered < log.first() {
        let what = format!("what is kept of blocks {covered} to {} is missing", log.first() - 1);
        return Err(FileFault::content(&whose.data.join(kept::FOLDER), what).into());
    }
    let file = usable_snapshot(whose, covered, log.blocks())?;
    tracing::warn!(snapshot = %file.display(), "the index is made anew from a snapshot, because older blocks were pruned");
    let mut seeding = Seeding { index, blocks: Vec::new(), tree: Frontier::default(), last: None };
    seeding.kept(whose, &names)?;
    let mut snapshot = Snapshot::open(&file, whose.ledger, whose.key)?;
    while let Some(part) = snapshot.next_part()? {
        match part {
            Part::State(pairs) => index.seed_state(&pairs)?,
            Part::Outcomes(height, outcomes) if height >= covered => seeding.logged(log, height, outcomes, whose)?,
            Part::Outcomes(..) => {}
        }
    }
    seeding.finish(&snapshot.head.checkpoint, &file)
}

/// The newest snapshot that holds and reaches from what is kept into the log.
fn usable_snapshot(whose: Whose<'_>, covered: u64, blocks: u64) -> Result<PathBuf, StoreOpenError> {
    let mut faults = Vec::new();
    for (height, file) in snapshot::list(whose.data)? {
        match snapshot::verify(&file, whose.ledger, whose.key) {
            Ok(head) if head.from <= covered && covered <= height + 1 && height < blocks => return Ok(file),
            Ok(head) => faults.push(format!(
                "{} reaches from block {} to {height}, needed is one from {covered} or below to between {} and {}",
                file.display(),
                head.from,
                covered.saturating_sub(1),
                blocks.saturating_sub(1)
            )),
            Err(fault) => faults.push(fault.to_string()),
        }
    }
    if faults.is_empty() {
        faults.push(format!("there is none in {}", whose.data.join(snapshot::FOLDER).display()));
    }
    Err(StoreOpenError::NoSnapshot { first: covered, faults: faults.join("; ") })
}

struct Seeding<'a> {
    index: &'a Index,
    /// Not brought in yet.
    blocks: Vec<Seed>,
    tree: Frontier,
    last: Option<Checkpoint>,
}

impl Seeding<'_> {
    fn kept(&mut self, whose: Whose<'_>, names: &[KeptName]) -> Result<(), StoreOpenError> {
        let mut chain = KeptChain::new(whose.ledger, whose.key);
        for name in names {
            let file = whose.data.join(kept::FOLDER).join(name.file());
            chain.file(&file, name, |block| {
                let at = block.checkpoint.height;
                self.push(of_kept(block)).map_err(|fault| FileFault::content(&file, format!("block {at}: {fault}")))
            })?;
        }
        let (tree, last) = chain.end();
        (self.tree, self.last) = (tree, last);
        Ok(())
    }

    fn logged(
        &mut self,
        log: &Log,
        height: u64,
        outcomes: Vec<Vec<u8>>,
        whose: Whose<'_>,
    ) -> Result<(), StoreOpenError> {
        let broken = |what: &str| StoreOpenError::Broken { height, what: what.to_owned() };
        let (record, head) = read_block(log, height, whose.key)?;
        let checkpoint = head.checkpoint;
        if checkpoint.previous != self.last.as_ref().map_or([0; 32], Checkpoint::digest) {
            return Err(broken("its checkpoint does not follow the one before"));
        }
        let first_entry = self.tree.count();
        let (mut ids, mut batches) = (Vec::with_capacity(record.statements.len()), Vec::new());
        for statement in &record.statements {
            let checked = CheckedStatement::from_log(statement).map_err(|_| broken("a statement of it is none"))?;
            let id = checked.id;
            if let (Body::Batch(triggers), Ok(place)) = (&checked.body, u32::try_from(ids.len())) {
                batches.push((place, u32::try_from(triggers.len()).unwrap_or(u32::MAX)));
            }
            self.tree.push(leaf_hash(&id.0));
            ids.push(id);
        }
        if (checkpoint.size, checkpoint.root) != (self.tree.count(), self.tree.root()) {
            return Err(broken("its entries do not give the root that its checkpoint seals"));
        }
        let leaves: Vec<Hash> = outcomes.iter().map(|outcome| leaf_hash(outcome)).collect();
        if (root_of(&leaves), leaves.len() as u64) != (checkpoint.outcomes, checkpoint.outcome_count) {
            return Err(broken("the outcomes in the snapshot are not those that its checkpoint seals"));
        }
        let statements = record.statements.iter().map(Vec::as_slice);
        let (_, spans) = encode_block(height, record.time, &record.checkpoint, statements);
        let row = BlockRow {
            first_entry,
            time: record.time,
            terms: u32::try_from(terms_of(&outcomes)).unwrap_or(u32::MAX),
            checkpoint: record.checkpoint,
            entries: spans.into_iter().zip(ids).collect(),
            batches,
        };
        self.last = Some(checkpoint);
        Ok(self.push(Seed { height, row, outcomes: SeedOutcomes::All(outcomes) })?)
    }

    fn push(&mut self, block: Seed) -> Result<(), crate::store::IndexFault> {
        self.blocks.push(block);
        if self.blocks.len() < BLOCKS {
            return Ok(());
        }
        self.index.seed(&std::mem::take(&mut self.blocks))
    }

    fn finish(self, snapshot: &Checkpoint, file: &Path) -> Result<(), StoreOpenError> {
        self.index.seed(&self.blocks)?;
        if self.last.as_ref() != Some(snapshot) {
            let what = format!("block {} of it is not the one of the log", snapshot.height);
            return Err(FileFault::content(file, what).into());
        }
        Ok(self.index.seeded(snapshot.height, snapshot.digest())?)
    }
}

/// How many of a block's outcomes are of terms: the first ones.
fn terms_of(outcomes: &[Vec<u8>]) -> usize {
    let is_term = |outcome: &&Vec<u8>| {
        OutcomeRecord::decode(outcome).is_ok_and(|outcome| matches!(outcome.place, Place::Term { .. }))
    };
    outcomes.iter().take_while(is_term).count()
}

/// The row of a block whose statements are gone: nothing lies anywhere.
fn of_kept(kept: CheckedKept) -> Seed {
    let CheckedKept { checkpoint, first_entry, block, bytes } = kept;
    let row = BlockRow {
        first_entry,
        time: checkpoint.time,
        terms: u32::try_from(block.terms).unwrap_or(u32::MAX),
        checkpoint: block.checkpoint,
        entries: block.entries.iter().map(|entry| ((0, 0), entry.id)).collect(),
        batches: kept::batches(&block.entries),
    };
    let outcomes = block.kept.into_iter().map(|kept| (kept.index, kept.outcome)).collect();
    Seed { height: checkpoint.height, row, outcomes: SeedOutcomes::Kept(bytes, outcomes) }
}

/// Brings kept files into the index that were written before a power cut and are not in it. Gives below which height only kept
/// files are.
///
/// # Errors
/// [`StoreOpenError`].
pub fn bring_in(index: &Index, whose: Whose<'_>) -> Result<u64, StoreOpenError> {
    let known = index.kept_below()?;
    for name in kept::list(whose.data)?.iter().filter(|name| name.last >= known) {
        let file = whose.data.join(kept::FOLDER).join(name.file());
        // Neither has it: a ledger whose segments were put back and whose index is made anew from block 0.
        if index.block(name.first)?.is_none() {
            break;
        }
        let mut blocks = Vec::new();
        kept::read(&file, name, whose.ledger, |height, block, bytes| {
            let row = index.block(height).map_err(|fault| fault.to_string())?;
            if !row.is_some_and(|row| kept::is_of(&block, &row)) {
                return Err("it is not the block that the index has".to_owned());
            }
            blocks.push((height, bytes));
            Ok(())
        })?;
        for piece in blocks.chunks(BLOCKS) {
            index.forget(piece)?;
        }
    }
    Ok(index.kept_below()?)
}
