//! The tree over all entries (RFC 9162 §2.1) on disk: proofs for any size, with next to nothing of it in memory.
//!
//! **Files.** One for every fourth level: `entries.00` holds the leaf hashes, `entries.04` the roots of complete subtrees of 16 leaves,
//! `entries.08` those of 256, and so on; hash `i` of a level lies at byte 32 × `i`. Every second file is a level of C2SP tlog-tiles,
//! tile after tile. What lies between two levels is hashed again when it is asked for: from 8 hashes at most. The paths of neighbours are the
//! same from some level on, so what was hashed for one is remembered for the next: a receipt of a large tree costs little more
//! than one of a small tree.
//!
//! **Who writes.** The keeping thread, behind the log and before the index; who makes the index durable syncs before. So what the
//! index has is here, after any crash; what is here and not in the index is written over.
//!
//! **Trusted no further than it leads.** On opening the right edge must give the root of the index's checkpoint. A hash in the middle
//! that is not what was written gives a path that leads elsewhere, so no path is given that was not followed to a known root.

use super::IndexFault;
use super::disk::{IndexDisk, TreeFile};
use crate::remembered::Remembered;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use tally_evidence::{EMPTY_ROOT, Frontier, Hash, consistency_ranges, inclusion_ranges, range_root, root_of};

/// Levels from one file to the next.
const STEP: u32 = 4;
/// Hashes of one that make one of the next.
const WIDTH: usize = 1 << STEP;
const HASH_BYTES: u64 = 32;
/// Files: enough for 2^32 leaves; for more, the levels above the last file are hashed from more than 8.
const FILES: u32 = 8;
/// Leaves of the smallest range that is remembered; of smaller ones there are too many.
const KNOWN_FROM: u64 = WIDTH as u64;
/// Ranges that are remembered, some 70 bytes each; then all are forgotten.
const KNOWN_MAX: usize = 4_096;
/// Not empty when a hash was found that is not what was written: all is built again on the next opening.
const SPOILT: &str = "entries.damaged";

/// The tree.
#[derive(Debug)]
pub struct EntryTree {
    files: Vec<TreeFile>,
    spoilt: TreeFile,
    /// Leaves that are in the files.
    size: AtomicU64,
    /// Roots of ranges of leaves, which never change: leaves are only added.
    known: Remembered<Range<u64>, Hash>,
}

impl EntryTree {
    /// The tree as it is on the disk, cut to `size` leaves; empty when it has not that many, or was found damaged.
    ///
    /// # Errors
    /// [`IndexFault`] when the disk cannot be read.
    pub fn open(disk: &IndexDisk, size: u64) -> Result<Self, IndexFault> {
        let open = |level: u32| disk.tree_file(&format!("entries.{:02}", level * STEP));
        let files = (0..FILES).map(open).collect::<Result<Vec<_>, IndexFault>>()?;
        let tree =
            Self { files, spoilt: disk.tree_file(SPOILT)?, size: AtomicU64::new(0), known: Remembered::new(KNOWN_MAX) };
        let mut is_whole = tree.spoilt.len()? == 0;
        for (level, file) in (0..).zip(&tree.files) {
            is_whole &= file.len()? >= (size >> (level * STEP)) * HASH_BYTES;
        }
        tree.size.store(if is_whole { size } else { 0 }, Ordering::SeqCst);
        Ok(tree)
    }

    /// Empties the tree, to build it again.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn clear(&self) -> Result<(), IndexFault> {
        self.size.store(0, Ordering::SeqCst);
        self.known.clear();
        for file in &self.files {
            if file.len()? > 0 {
                file.set_len(0)?;
            }
        }
        Ok(())
    }

    /// What was found damaged is built again and [synced](Self::sync).
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn mended(&self) -> Result<(), IndexFault> {
        if self.spoilt.len()? == 0 {
            return Ok(());
        }
        self.spoilt.set_len(0)?;
        self.spoilt.sync()
    }

    /// Leaves in the files.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::SeqCst)
    }

    /// Adds leaf hashes. One writer at a time.
    ///
    /// # Errors
    /// [`IndexFault`]; the leaves are then not there.
    pub fn append(&self, leaves: Vec<Hash>) -> Result<(), IndexFault> {
        let old = self.size();
        let size = old + leaves.len() as u64;
        let mut new = leaves;
        for (level, file) in (0..).zip(&self.files) {
            let first = old >> (level * STEP);
            if new.is_empty() {
                break;
            }
            file.write(first * HASH_BYTES, new.as_flattened())?;
            // The subtrees that are complete now begin with hashes that are here already.
            let begun = first % WIDTH as u64;
            let mut hashes = read_hashes(file, first - begun, begun)?;
            hashes.append(&mut new);
            let (complete, _) = hashes.as_chunks::<WIDTH>();
            new = complete.iter().map(|hashes| root_of(hashes)).collect();
        }
        self.size.store(size, Ordering::SeqCst);
        Ok(())
    }

    /// Makes durable what was added.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn sync(&self) -> Result<(), IndexFault> {
        self.files.iter().filter(|file| file.unsynced() > 0).try_for_each(TreeFile::sync)
    }

    /// The right edge.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn frontier(&self) -> Result<Frontier, IndexFault> {
        let (size, mut roots, mut start) = (self.size(), Vec::new(), 0);
        for level in (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1) {
            roots.push(self.node(level, start >> level)?);
            start += 1 << level;
        }
        Frontier::of(size, roots).ok_or_else(|| self.damaged("its size"))
    }

    /// Inclusion path of a leaf in the tree of the first `size` leaves; `None` when there are not that many. Not followed.
    ///
    /// # Errors
    /// [`IndexFault`] when the disk cannot be read, here and below.
    pub fn inclusion_path(&self, index: u64, size: u64) -> Result<Option<Vec<Hash>>, IndexFault> {
        let ranges = inclusion_ranges(index, size).filter(|_| size <= self.size());
        ranges.map(|ranges| ranges.into_iter().map(|range| self.range(range)).collect()).transpose()
    }

    /// Consistency path between two sizes; `None` when there are not that many. Not followed.
    pub fn consistency_path(&self, old: u64, size: u64) -> Result<Option<Vec<Hash>>, IndexFault> {
        let ranges = consistency_ranges(old, size).filter(|_| size <= self.size());
        ranges.map(|ranges| ranges.into_iter().map(|range| self.range(range)).collect()).transpose()
    }

    /// Root of the first `size` leaves; `None` when there are not that many. Not compared with anything.
    pub fn root_at(&self, size: u64) -> Result<Option<Hash>, IndexFault> {
        match size {
            0 => Ok(Some(EMPTY_ROOT)),
            _ if size <= self.size() => self.range(0..size).map(Some),
            _ => Ok(None),
        }
    }

    /// `count` hashes of a level from `first` on, concatenated. They must be there.
    pub fn nodes(&self, level: u32, first: u64, count: u64) -> Result<Vec<u8>, IndexFault> {
        let kept = level / STEP;
        if level.is_multiple_of(STEP) && kept < FILES {
            return Ok(read_hashes(&self.files[kept as usize], first, count)?.into_flattened());
        }
        let mut nodes = Vec::new();
        for index in first..first.saturating_add(count) {
            nodes.extend(self.node(level, index)?);
        }
        Ok(nodes)
    }

    /// Something of it is not what was written: said, and remembered for the next opening.
    pub fn damaged(&self, what: &str) -> IndexFault {
        // It may be among what was remembered.
        self.known.clear();
        if let Err(fault) = self.spoilt.write(0, b"1").and_then(|()| self.spoilt.sync()) {
            tracing::error!(%fault, "a damaged tree of entries cannot be marked");
        }
        IndexFault::Damaged(format!(
            "tree/entries: {what} is not what was written; the next start builds the tree again"
        ))
    }

    fn range(&self, range: Range<u64>) -> Result<Hash, IndexFault> {
        let hash = |range| range_root(range, &mut |level, index| self.node(level, index));
        if range.end - range.start < KNOWN_FROM {
            return hash(range);
        }
        if let Some(root) = self.known.get(&range) {
            return Ok(root);
        }
        let root = hash(range.clone())?;
        self.known.put(range, root);
        Ok(root)
    }

    /// Root of a complete subtree of `2^level` leaves.
    fn node(&self, level: u32, index: u64) -> Result<Hash, IndexFault> {
        let kept = (level / STEP).min(FILES - 1);
        let above = level - kept * STEP;
        let hashes = read_hashes(&self.files[kept as usize], index << above, 1 << above)?;
        Ok(root_of(&hashes))
    }
}

fn read_hashes(file: &TreeFile, first: u64, count: u64) -> Result<Vec<Hash>, IndexFault> {
    let mut hashes = vec![[0; 32]; usize::try_from(count).unwrap_or(0)];
    if count > 0 {
        file.read(first * HASH_BYTES, hashes.as_flattened_mut())?;
    }
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;
    use tally_evidence::{Tree, leaf_hash};

    fn leaf(index: u64) -> Hash {
        leaf_hash(&index.to_be_bytes())
    }

    fn disk(folder: &Path) -> IndexDisk {
        IndexDisk::File(folder.join("state.redb"))
    }

    fn is_same(tree: &EntryTree, reference: &Tree) {
        let size = reference.size();
        assert_eq!((tree.size(), tree.frontier().unwrap().root()), (size, reference.root()));
        for at in (0..=size).step_by(37).chain([size]) {
            assert_eq!(tree.root_at(at).unwrap(), reference.root_at(at));
            for other in (0..=at).step_by(61) {
                assert_eq!(tree.inclusion_path(other, at).unwrap(), reference.inclusion_path(other, at));
                assert_eq!(tree.consistency_path(other, at).unwrap(), reference.consistency_path(other, at));
            }
        }
        assert_eq!((tree.root_at(size + 1).unwrap(), tree.inclusion_path(0, size + 1).unwrap()), (None, None));
        for level in 0..12 {
            let count = size >> level;
            assert_eq!(
                Some(tree.nodes(level, 0, count).unwrap()),
                reference.nodes(level, 0, count).or(Some(Vec::new()))
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn it_is_the_tree_in_memory(blocks in proptest::collection::vec((0u64..200, any::<bool>()), 1..14)) {
            let folder = tempfile::tempdir().unwrap();
            let disk = disk(folder.path());
            let (mut tree, mut reference) = (EntryTree::open(&disk, 0).unwrap(), Tree::default());
            for (count, is_opened) in blocks {
                let leaves: Vec<_> = (reference.size()..reference.size() + count).map(leaf).collect();
                leaves.iter().for_each(|leaf| reference.push(*leaf));
                tree.append(leaves).unwrap();
                if is_opened {
                    // What is behind that size in the files is of no block, and written over.
                    tree.append(vec![[7; 32]; 40]).unwrap();
                    tree = EntryTree::open(&disk, reference.size()).unwrap();
                }
            }
            is_same(&tree, &reference);
        }
    }

    #[test]
    fn files_that_are_too_short_or_marked_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path());
        let tree = EntryTree::open(&disk, 0).unwrap();
        tree.append((0..300).map(leaf).collect()).unwrap();
        assert_eq!(EntryTree::open(&disk, 300).unwrap().size(), 300);
        assert_eq!(EntryTree::open(&disk, 301).unwrap().size(), 0);
        std::fs::write(folder.path().join("tree/entries.08"), [0; 31]).unwrap();
        assert_eq!(EntryTree::open(&disk, 300).unwrap().size(), 0);
        std::fs::write(folder.path().join("tree/entries.08"), [0; 32]).unwrap();
        let tree = EntryTree::open(&disk, 300).unwrap();
        assert!(tree.damaged("hash 0").to_string().contains("next start"));
        assert_eq!(EntryTree::open(&disk, 300).unwrap().size(), 0);
        tree.mended().unwrap();
        assert_eq!(EntryTree::open(&disk, 300).unwrap().size(), 300);
    }
}
