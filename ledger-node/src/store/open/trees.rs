//! The trees that go with the index: from their own files, when these are good, otherwise made again.

use crate::store::entry_tree::EntryTree;
use crate::store::index::Index;
use crate::store::state_tree::StateTree;
use crate::store::{IndexDisk, IndexFault};
use tally_contracts::views;
use tally_evidence::{Checkpoint, Frontier, Hash, KeyScheme, in_key_order, leaf_hash};

/// State pairs hashed at once while the state tree is rebuilt: bounds memory, keeps the batches efficient.
const STATE_PIECE: usize = 16_384;
/// Changes of blocks behind the state tree on disk that are made in it at once: 9 MB.
const CHANGES_PIECE: usize = 131_072;

/// The tree of entries from its own files, when they are good, otherwise from the rows of all blocks.
pub(super) fn load_entries(
    disk: &IndexDisk,
    index: &Index,
    checkpoint: &Checkpoint,
) -> Result<(EntryTree, Frontier), IndexFault> {
    match kept_entries(disk, index) {
        Ok(Some((tree, edge))) if edge.root() == checkpoint.root => return Ok((tree, edge)),
        Ok(Some(_)) => tracing::warn!("the tree of entries on disk is another one; it is built again from the blocks"),
        Ok(None) => tracing::info!("there is no whole tree of entries on disk; it is built from the blocks"),
        Err(fault) => tracing::warn!(%fault, "the tree of entries is of no use; it is built again from the blocks"),
    }
    let tree = EntryTree::open(disk, 0)?;
    tree.clear()?;
    append_blocks(&tree, index, 0)?;
    tree.sync()?;
    let edge = tree.frontier()?;
    same("entries", edge.root(), checkpoint.root)?;
    tree.mended()?;
    Ok((tree, edge))
}

/// The tree on disk, brought up to the index; `None` when it is not whole.
fn kept_entries(disk: &IndexDisk, index: &Index) -> Result<Option<(EntryTree, Frontier)>, IndexFault> {
    let (size, next) = match index.written_behind()? {
        Some(height) => (index.block(height)?.map_or(0, |row| row.size()), height + 1),
        None => (0, 0),
    };
    let tree = EntryTree::open(disk, size)?;
    if tree.size() != size {
        return Ok(None);
    }
    append_blocks(&tree, index, next)?;
    tree.sync()?;
    let edge = tree.frontier()?;
    Ok(Some((tree, edge)))
}

/// Adds the entries of the blocks from `next` on.
fn append_blocks(tree: &EntryTree, index: &Index, mut next: u64) -> Result<(), IndexFault> {
    index.each_block(next, |height, row| {
        if height != next || row.first_entry != tree.size() {
            return Err(IndexFault::Damaged(format!("the row of block {height} does not follow the one before")));
        }
        next = height + 1;
        tree.append(row.entries.iter().map(|(_, id)| leaf_hash(&id.0)).collect())
    })
}

/// The state tree from its own files, when they are good, otherwise from the state.
pub(super) fn load_state(disk: &IndexDisk, index: &Index, checkpoint: &Checkpoint) -> Result<StateTree, IndexFault> {
    let scheme = views::key_scheme(&index.state()?);
    let scheme = scheme.ok_or_else(|| IndexFault::Damaged("the record of the genesis".to_owned()))?;
    match kept_state(disk, index, scheme, checkpoint.height) {
        Ok(Some(tree)) if tree.root() == checkpoint.state => return Ok(tree),
        Ok(Some(_)) => tracing::warn!("the state tree on disk is another one; it is built again from the state"),
        Ok(None) => tracing::info!("there is no state tree on disk; it is built from the state"),
        Err(fault) => tracing::warn!(%fault, "the state tree is of no use; it is built again from the state"),
    }
    let mut tree = StateTree::create(disk, scheme)?;
    index.each_state(STATE_PIECE, |pairs| {
        let changes = tree.changes(pairs.iter().map(|(key, value)| (key.as_slice(), Some(value.as_slice()))));
        tree.apply(&changes)
    })?;
    same("state", tree.root(), checkpoint.state)?;
    // The index is durable at this block: it was just opened.
    tree.commit(checkpoint.height)?.write()?;
    index.forget_tree_changes(checkpoint.height)?;
    Ok(tree)
}

/// The tree on disk, brought up to block `height`; `None` when there is none.
fn kept_state(
    disk: &IndexDisk,
    index: &Index,
    scheme: KeyScheme,
    height: u64,
) -> Result<Option<StateTree>, IndexFault> {
    let Some((mut tree, from)) = StateTree::open(disk, scheme, height)? else { return Ok(None) };
    // Many blocks at once: what they all change is changed once, and each page is read once.
    let mut waiting = Vec::new();
    index.each_tree_change(from, |mut changes| {
        waiting.append(&mut changes);
        if waiting.len() < CHANGES_PIECE { Ok(()) } else { tree.apply(&in_key_order(std::mem::take(&mut waiting))) }
    })?;
    tree.apply(&in_key_order(waiting))?;
    Ok(Some(tree))
}

fn same(what: &str, found: Hash, logged: Hash) -> Result<(), IndexFault> {
    if found == logged {
        return Ok(());
    }
    Err(IndexFault::Damaged(format!("the {what} it holds are not those of the log's checkpoint")))
}
