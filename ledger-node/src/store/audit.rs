//! A log checked without executing it: every seal, the chain of checkpoints, the tree of entries. Needs no index, no private key,
//! and some hundred bytes of memory. What it cannot see is whether the contracts' answers are right; opening a ledger without an
//! index does that.

use super::log::Log;
use super::open::{StoreOpenError, read_block};
use super::{Head, LogDisk};
use crate::admit::CheckedStatement;
use crate::retain::kept::{self, KeptChain};
use std::path::Path;
use tally_evidence::{Checkpoint, Frontier, VerifyingKey, leaf_hash};

/// What stands before the first block that is audited.
pub type Before = (Frontier, Option<Checkpoint>);

/// Checks all blocks of a log of `ledger`, sealed by `key`, with what is kept in `data` of those that were pruned; gives the last
/// one, `None` for an empty log.
///
/// # Errors
/// [`StoreOpenError`].
pub fn audit(log: LogDisk, data: &Path, ledger: &str, key: &VerifyingKey) -> Result<Option<Head>, StoreOpenError> {
    let mut chain = KeptChain::new(ledger, key);
    for name in kept::list(data)? {
        chain.file(&data.join(kept::FOLDER).join(name.file()), &name, |_| Ok(()))?;
    }
    audit_from(log, ledger, key, Some(chain.end()))
}

/// Checks all blocks of a log. What stands `before` must reach up to its first block or beyond; `None`: nothing is known, and when
/// the log does not begin at block 0 its roots are not compared.
///
/// # Errors
/// [`StoreOpenError`].
pub fn audit_from(
    log: LogDisk,
    ledger: &str,
    key: &VerifyingKey,
    before: Option<Before>,
) -> Result<Option<Head>, StoreOpenError> {
    let (_, last) = walk(log, ledger, key, before)?;
    Ok(last)
}

/// Checks the blocks of a log that are behind `before`, which must reach up to its first one; gives what stands behind its last.
///
/// # Errors
/// [`StoreOpenError`].
pub fn audit_on(log: LogDisk, ledger: &str, key: &VerifyingKey, before: Before) -> Result<Before, StoreOpenError> {
    Ok(walk(log, ledger, key, Some(before))?.0)
}

/// The checkpoint of block `height`, as the log has it; `None` when it has no such block.
///
/// # Errors
/// [`StoreOpenError`].
pub fn checkpoint_in(log: LogDisk, height: u64, key: &VerifyingKey) -> Result<Option<Checkpoint>, StoreOpenError> {
    let log = Log::open(log)?;
    let is_there = (log.first()..log.blocks()).contains(&height);
    if is_there { Ok(Some(read_block(&log, height, key)?.1.checkpoint)) } else { Ok(None) }
}

fn walk(
    log: LogDisk,
    ledger: &str,
    key: &VerifyingKey,
    before: Option<Before>,
) -> Result<(Before, Option<Head>), StoreOpenError> {
    let log = Log::open(log)?;
    let has_roots = before.is_some() || log.first() == 0;
    let (mut tree, mut previous) = before.unwrap_or_default();
    let begin = previous.as_ref().map_or_else(|| if has_roots { 0 } else { log.first() }, |last| last.height + 1);
    if begin < log.first() {
        return Err(broken(begin, "it is missing: neither the log nor a kept file has it"));
    }
    let mut last = None::<Head>;
    for height in begin..log.blocks() {
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
        let is_first_known = previous.is_none() && !has_roots;
        let follows = is_first_known || checkpoint.previous == previous.as_ref().map_or([0; 32], Checkpoint::digest);
        if !follows || checkpoint.height != height || checkpoint.time != block.time {
            return Err(broken(height, "its checkpoint does not follow the one before"));
        }
        if has_roots && (checkpoint.size, checkpoint.root) != (tree.count(), tree.root()) {
            return Err(broken(height, "its entries do not give the root that its checkpoint seals"));
        }
        previous = Some(head.checkpoint.clone());
        last = Some(head);
    }
    Ok(((tree, previous), last))
}

fn broken(height: u64, what: &str) -> StoreOpenError {
    StoreOpenError::Broken { height, what: what.to_owned() }
}
