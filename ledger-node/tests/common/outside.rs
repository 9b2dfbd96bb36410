//! A ledger looked at from outside, as an auditor would who has its log and its public key and trusts no index.

use crate::common::{TestClock, config, fingerprint, totals_are_zero};
use redb::backends::InMemoryBackend;
use std::collections::BTreeSet;
use std::path::Path;
use tally_evidence::{Checkpoint, SignedStatement, StatementId, Tree, VerifyingKey, leaf_hash};
use tally_journal::{Journal, Options, Storage};
use tally_ledger_node::testing::Plant;
use tally_ledger_node::{BlockRecord, Engine, IndexDisk, LogDisk};

/// What the log says.
pub struct Audit {
    /// One a block, each naming the one before.
    pub checkpoints: Vec<Checkpoint>,
    /// In ledger order, each once.
    pub ids: Vec<StatementId>,
}

/// Reads every block: seals, order, chain of checkpoints, tree of entries; no statement twice, no time that falls.
///
/// Panics when anything does not hold.
pub fn audit(log: impl Storage, key: &VerifyingKey) -> Audit {
    let journal = Journal::open_on(log, Options::default()).expect("the log opens");
    let (mut tree, mut seen) = (Tree::default(), BTreeSet::new());
    let mut found = Audit { checkpoints: Vec::new(), ids: Vec::new() };
    for item in journal.iter_from(0).unwrap() {
        let (height, record) = item.unwrap();
        let block = BlockRecord::decode(&record).unwrap();
        let checkpoint = Checkpoint::open(&block.checkpoint, key).unwrap();
        assert_eq!((block.height, checkpoint.height, checkpoint.time), (height, height, block.time));
        for statement in &block.statements {
            let id = SignedStatement::parse(statement).unwrap().id;
            assert!(seen.insert(id), "statement {id} is in the log twice");
            tree.push(leaf_hash(&id.0));
            found.ids.push(id);
        }
        assert_eq!((checkpoint.size, checkpoint.root), (tree.size(), tree.root()), "block {height}");
        let before = found.checkpoints.last();
        assert_eq!(checkpoint.previous, before.map_or([0; 32], Checkpoint::digest), "block {height}");
        assert!(before.is_none_or(|before| before.time < checkpoint.time), "time falls at block {height}");
        found.checkpoints.push(checkpoint);
    }
    found
}

/// Executes the whole log again with no index at all, and compares with the ledger's last word: entries, outcomes and state
/// of each block, and that no money came or went.
pub fn recompute(plant: &Plant, log: impl Storage + Send + Sync + 'static, expected: &(Vec<u8>, u64)) {
    let mut config = config(plant, Path::new("/nowhere"));
    config.genesis = None;
    config.clock = TestClock::at(0);
    let empty = IndexDisk::Backend(std::sync::Arc::new(|_| Box::new(InMemoryBackend::new())));
    let engine = Engine::open_on(config, LogDisk::new(log), &empty).expect("the log alone gives the same ledger");
    assert_eq!(&fingerprint(&engine), expected);
    assert!(totals_are_zero(&engine));
    engine.close();
}
