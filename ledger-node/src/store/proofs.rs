//! Proofs from the trees on disk: none that was not followed to a root the ledger knows.

use super::{Head, IndexFault, Store};
use std::sync::{Arc, PoisonError};
use tally_evidence::{Hash, StateProof, StatementId, leaf_hash, root_from_consistency_path, root_from_path};

impl Store {
    /// Inclusion path and root of entry `entry`, which is the statement `id`, for the tree of the first `size` entries. The path was
    /// followed from the statement to the root, and that to the head's.
    ///
    /// # Errors
    /// [`IndexFault::Damaged`] when it leads elsewhere: nothing is proved with it.
    pub fn inclusion(&self, id: &StatementId, entry: u64, size: u64) -> Result<Option<(Vec<Hash>, Hash)>, IndexFault> {
        let Some(root) = self.root_at(size)? else { return Ok(None) };
        let Some(path) = self.entries.inclusion_path(entry, size)? else { return Ok(None) };
        if root_from_path(leaf_hash(&id.0), entry, size, &path) != Some(root) {
            return Err(self.entries.damaged(&format!("the path of entry {entry} among {size}")));
        }
        Ok(Some((path, root)))
    }

    /// The same for an entry whose statement the index names.
    ///
    /// # Errors
    /// As [`inclusion`](Self::inclusion).
    pub fn inclusion_of(&self, entry: u64, size: u64) -> Result<Option<(Vec<Hash>, Hash)>, IndexFault> {
        let place = self.place_of(entry)?;
        let id = place.as_ref().and_then(|place| place.row.entries.get(place.place)).map(|(_, id)| *id);
        id.map_or(Ok(None), |id| self.inclusion(&id, entry, size))
    }

    /// Consistency path between two sizes and the root of the second one; followed from one known root to the other.
    ///
    /// # Errors
    /// As [`inclusion`](Self::inclusion).
    pub fn consistency(&self, old: u64, size: u64) -> Result<Option<(Vec<Hash>, Hash)>, IndexFault> {
        let (Some(old_root), Some(root)) = (self.root_at(old)?, self.root_at(size)?) else { return Ok(None) };
        let Some(path) = self.entries.consistency_path(old, size)? else { return Ok(None) };
        if root_from_consistency_path(old, size, old_root, &path) != Some((old_root, root)) {
            return Err(self.entries.damaged(&format!("the path from {old} to {size}")));
        }
        Ok(Some((path, root)))
    }

    /// Root of the first `size` entries, at most the head's; followed to the head's root.
    ///
    /// # Errors
    /// As [`inclusion`](Self::inclusion).
    pub fn root_at(&self, size: u64) -> Result<Option<Hash>, IndexFault> {
        /// Sizes remembered.
        const KNOWN_MAX: usize = 16;
        let Some(head) = self.head() else { return Ok(None) };
        let (head_size, head_root) = (head.checkpoint.size, head.checkpoint.root);
        if size >= head_size {
            return Ok((size == head_size).then_some(head_root));
        }
        let known = || self.known_roots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, root)) = known().iter().find(|(known, _)| *known == size) {
            return Ok(Some(*root));
        }
        let Some(root) = self.entries.root_at(size)? else { return Ok(None) };
        // Every tree begins with the empty one, to which no path leads.
        if size > 0 {
            let path = self.entries.consistency_path(size, head_size)?.unwrap_or_default();
            if root_from_consistency_path(size, head_size, root, &path) != Some((root, head_root)) {
                return Err(self.entries.damaged(&format!("the root of {size} entries")));
            }
        }
        let mut known = known();
        known.truncate(KNOWN_MAX - 1);
        known.push_front((size, root));
        Ok(Some(root))
    }

    /// `count` hashes of a level of the tree of the first `size` entries, from `first` on; `None` when it has not that many. They
    /// are as the disk has them: whoever puts them together to a tree compares its root.
    ///
    /// # Errors
    /// [`IndexFault`] when the disk cannot be read.
    pub fn tile_nodes(&self, level: u32, first: u64, count: u64, size: u64) -> Result<Option<Vec<u8>>, IndexFault> {
        let complete = size.checked_shr(level).unwrap_or(0);
        match first.checked_add(count) {
            Some(end) if end <= complete => self.entries.nodes(level, first, count).map(Some),
            _ => Ok(None),
        }
    }

    /// Proof of what a state key is behind the last logged block, and that block. Readers of the index may not see it yet.
    ///
    /// # Errors
    /// [`IndexFault`] when the state tree cannot be read or is damaged.
    pub fn prove_state(&self, key: &[u8]) -> Result<Option<(StateProof, Arc<Head>)>, IndexFault> {
        let proven = self.proven.read().unwrap_or_else(PoisonError::into_inner);
        let Some(head) = proven.head.clone() else { return Ok(None) };
        Ok(Some((proven.tree.prove(key)?, head)))
    }
}
