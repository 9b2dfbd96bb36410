//! A log checked without executing it: every seal, the chain of checkpoints, the tree of entries. Needs no index, no private key,
//! and some hundred bytes of memory an entry. What it cannot see is whether the contracts' answers are right; opening a ledger
//! without an index does that.

use super::log::Log;
use super::open::{StoreOpenError, read_block};
use super::{Head, LogDisk};
use crate::admit::CheckedStatement;
use tally_evidence::{Checkpoint, Tree, VerifyingKey, leaf_hash};

/// Checks all blocks of a log of `ledger`, sealed by `key`; gives the last one, `None` for an empty log.
///
/// # Errors
/// [`StoreOpenError`].
pub fn audit(log: LogDisk, ledger: &str, key: &VerifyingKey) -> Result<Option<Head>, StoreOpenError> {
    let log = Log::open(log)?;
    let (mut tree, mut last) = (Tree::default(), None::<Head>);
    for height in 0..log.blocks() {
        let (block, head) = read_block(&log, height, key)?;
        let checkpoint = &head.checkpoint;
        if checkpoint.ledger != ledger {
            let (found, asked) = (checkpoint.ledger.clone(), ledger.to_owned());
            return Err(StoreOpenError::OtherLedger { found, asked });
        }
        for statement in &block.statements {
            let statement = CheckedStatement::from_log(statement);
            let id = statement.map_err(|fault| broken(height, &format!("a statement of it is none: {fault}")))?.id;
            tree.push(leaf_hash(&id.0));
        }
        let previous = last.as_ref().map_or([0; 32], |last| Checkpoint::digest(&last.checkpoint));
        if checkpoint.previous != previous || checkpoint.height != height || checkpoint.time != block.time {
            return Err(broken(height, "its checkpoint does not follow the one before"));
        }
        if (checkpoint.size, checkpoint.root) != (tree.size(), tree.root()) {
            return Err(broken(height, "its entries do not give the root that its checkpoint seals"));
        }
        last = Some(head);
    }
    Ok(last)
}

fn broken(height: u64, what: &str) -> StoreOpenError {
    StoreOpenError::Broken { height, what: what.to_owned() }
}
