//! The append-only Merkle tree of RFC 9162 §2.1: roots, inclusion and consistency paths for any earlier size.

use sha2::{Digest, Sha256};
use std::ops::Range;

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Root of the tree without leaves: SHA-256 of nothing (RFC 9162 §2.1.1).
pub const EMPTY_ROOT: Hash = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// Hash of a leaf: SHA-256(0x00 ‖ entry).
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0x00]).chain_update(entry).finalize().into()
}

/// Hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([0x01]).chain_update(left).chain_update(right).finalize().into()
}

/// Root over leaf hashes, without keeping a tree.
#[must_use]
pub fn root_of(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => EMPTY_ROOT,
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&root_of(left), &root_of(right))
        }
    }
}

/// Largest power of two below `count` (RFC 9162 §2.1.1); `count` is at least 2.
pub(crate) const fn split(count: usize) -> usize {
    1 << (count - 1).ilog2()
}

/// Likewise.
const fn split_at(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// The right edge of a growing tree: its root at any time, and nothing else. One hash for each leaf on average, 32 bytes for
/// each level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    count: u64,
    /// Roots of the complete subtrees that make up the tree, largest first: one for each 1 in the binary form of `count`.
    roots: Vec<Hash>,
}

impl Frontier {
    /// The edge of a tree of `count` leaves, when `roots` are as many as there are 1s in `count`: the roots of its complete subtrees,
    /// largest first.
    #[must_use]
    pub fn of(count: u64, roots: Vec<Hash>) -> Option<Self> {
        (roots.len() as u64 == u64::from(count.count_ones())).then_some(Self { count, roots })
    }

    /// Number of leaves.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Adds a leaf hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // Each subtree as large as the one just completed is joined with it, as in binary addition.
        for _ in 0..self.count.trailing_ones() {
            let Some(left) = self.roots.pop() else { break };
            hash = node_hash(&left, &hash);
        }
        self.roots.push(hash);
        self.count += 1;
    }

    /// Root of all leaves (RFC 9162 §2.1.1).
    #[must_use]
    pub fn root(&self) -> Hash {
        let Some((last, before)) = self.roots.split_last() else { return EMPTY_ROOT };
        before.iter().rev().fold(*last, |right, left| node_hash(left, &right))
    }
}

/// A growing tree in memory: 64 bytes a leaf. Level 0 holds the leaf hashes, level `k` the roots of complete subtrees of `2^k` leaves.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Adds a leaf hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(hash);
            let [.., left, right] = self.levels[level].as_slice() else { break };
            if self.levels[level].len() % 2 == 1 {
                break;
            }
            hash = node_hash(left, right);
        }
    }

    /// The leaf hash at `index`.
    #[must_use]
    pub fn leaf(&self, index: u64) -> Option<Hash> {
        self.levels.first()?.get(usize::try_from(index).ok()?).copied()
    }

    /// Root of the first `size` leaves; `None` when there are not that many.
    #[must_use]
    pub fn root_at(&self, size: u64) -> Option<Hash> {
        if size == 0 {
            return Some(EMPTY_ROOT);
        }
        if size > self.size() {
            return None;
        }
        self.range(0..size)
    }

    /// Root of all leaves.
    #[must_use]
    pub fn root(&self) -> Hash {
        // The last hash of a level with an odd number of them has no sibling: these are the complete subtrees, small ones to the right.
        let peaks = self.levels.iter().filter(|level| level.len() % 2 == 1).filter_map(|level| level.last());
        let join = |right: Option<Hash>, left: &Hash| Some(right.map_or(*left, |right| node_hash(left, &right)));
        peaks.fold(None, join).unwrap_or(EMPTY_ROOT)
    }

    /// Inclusion path of leaf `index` in the tree of the first `size` leaves (RFC 9162 §2.1.3.1), from the leaf up.
    #[must_use]
    pub fn inclusion_path(&self, index: u64, size: u64) -> Option<Vec<Hash>> {
        if size > self.size() {
            return None;
        }
        inclusion_ranges(index, size)?.into_iter().map(|range| self.range(range)).collect()
    }

    /// Consistency path from the first `old` to the first `size` leaves (RFC 9162 §2.1.4.1).
    #[must_use]
    pub fn consistency_path(&self, old: u64, size: u64) -> Option<Vec<Hash>> {
        if size > self.size() {
            return None;
        }
        consistency_ranges(old, size)?.into_iter().map(|range| self.range(range)).collect()
    }

    /// `count` hashes of level `level` from `first` on, concatenated: roots of complete subtrees of `2^level` leaves each (level 0:
    /// the leaf hashes themselves). `None` when there are not that many.
    #[must_use]
    pub fn nodes(&self, level: u32, first: u64, count: u64) -> Option<Vec<u8>> {
        let nodes = self.levels.get(usize::try_from(level).ok()?)?;
        let first = usize::try_from(first).ok()?;
        let end = first.checked_add(usize::try_from(count).ok()?)?;
        Some(nodes.get(first..end)?.concat())
    }

    /// Root of leaves that are a subtree of some size's tree, as in every path; `None` when not all of them are there.
    fn range(&self, range: Range<u64>) -> Option<Hash> {
        let node = |level: u32, index: u64| {
            let nodes = self.levels.get(usize::try_from(level).ok()?)?;
            nodes.get(usize::try_from(index).ok()?).copied()
        };
        range_root(range, &mut |level, index| node(level, index).ok_or(())).ok()
    }
}

/// The leaves below each hash of the inclusion path of leaf `index` in the tree of the first `size` leaves (RFC 9162 §2.1.3.1), from
/// the leaf up; [`range_root`] hashes them. `None` when there is no such leaf.
#[must_use]
pub fn inclusion_ranges(index: u64, size: u64) -> Option<Vec<Range<u64>>> {
    if index >= size {
        return None;
    }
    let (mut start, mut end, mut path) = (0, size, Vec::new());
    while end - start > 1 {
        let middle = start + split_at(end - start);
        if index < middle {
            path.push(middle..end);
            end = middle;
        } else {
            path.push(start..middle);
            start = middle;
        }
    }
    path.reverse();
    Some(path)
}

/// The leaves below each hash of the consistency path from the first `old` to the first `size` leaves (RFC 9162 §2.1.4.1); [`range_root`]
/// hashes them. `None` when there is no such path.
#[must_use]
pub fn consistency_ranges(old: u64, size: u64) -> Option<Vec<Range<u64>>> {
    if old == 0 || old > size {
        return None;
    }
    let (mut start, mut end, mut path) = (0, size, Vec::new());
    while end != old {
        let middle = start + split_at(end - start);
        if old <= middle {
            path.push(middle..end);
            end = middle;
        } else {
            path.push(start..middle);
            start = middle;
        }
    }
    // SUBPROOF(m, D[m], b): the old root itself is sent only when the recursion turned right at least once.
    if start > 0 {
        path.push(start..end);
    }
    path.reverse();
    Some(path)
}

/// Root of a range of leaves that is a subtree: all leaves of a tree, or one of the ranges of a path. `node` gives roots of complete
/// subtrees: of `2^level` leaves, the how manieth of its level.
///
/// # Errors
/// What `node` says.
pub fn range_root<E>(range: Range<u64>, node: &mut impl FnMut(u32, u64) -> Result<Hash, E>) -> Result<Hash, E> {
    let Range { start, end } = range;
    let count = end.saturating_sub(start);
    match count {
        0 => Ok(EMPTY_ROOT),
        _ if count.is_power_of_two() => node(count.ilog2(), start >> count.ilog2()),
        _ => {
            let middle = start + split_at(count);
            Ok(node_hash(&range_root(start..middle, node)?, &range_root(middle..end, node)?))
        }
    }
}

/// Root that `path` leads to from `leaf` (RFC 9162 §2.1.3.2); `None` when the path does not fit the place.
#[must_use]
pub fn root_from_path(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut fn_, mut sn, mut root) = (index, size - 1, leaf);
    for step in path {
        if sn == 0 {
            return None;
        }
        if fn_ & 1 == 1 || fn_ == sn {
            root = node_hash(step, &root);
            while fn_ & 1 == 0 && fn_ != 0 {
                fn_ >>= 1;
                sn >>= 1;
            }
        } else {
            root = node_hash(&root, step);
        }
        fn_ >>= 1;
        sn >>= 1;
    }
    (sn == 0).then_some(root)
}

/// Old and new root that a consistency path leads to (RFC 9162 §2.1.4.2); `None` when it does not fit the sizes.
#[must_use]
pub fn root_from_consistency_path(old: u64, new: u64, old_root: Hash, path: &[Hash]) -> Option<(Hash, Hash)> {
    if old == 0 || old > new {
        return None;
    }
    if old == new {
        return path.is_empty().then_some((old_root, old_root));
    }
    let mut steps = Vec::with_capacity(path.len() + 1);
    if old.is_power_of_two() {
        steps.push(old_root);
    }
    steps.extend_from_slice(path);
    let (mut fn_, mut sn) = (old - 1, new - 1);
    while fn_ & 1 == 1 {
        fn_ >>= 1;
        sn >>= 1;
    }
    let mut steps = steps.into_iter();
    let seed = steps.next()?;
    let (mut from, mut to) = (seed, seed);
    for step in steps {
        if sn == 0 {
            return None;
        }
        if fn_ & 1 == 1 || fn_ == sn {
            from = node_hash(&step, &from);
            to = node_hash(&step, &to);
            while fn_ & 1 == 0 && fn_ != 0 {
                fn_ >>= 1;
                sn >>= 1;
            }
        } else {
            to = node_hash(&to, &step);
        }
        fn_ >>= 1;
        sn >>= 1;
    }
    (sn == 0).then_some((from, to))
}

#[cfg(test)]
mod tests;
