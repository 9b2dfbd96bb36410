//! A part of the state tree that is kept as a whole: all leaves whose key hashes begin with the same bits, and the hashes of
//! the inner nodes between them. What a ledger of many keys keeps on disk; the tree itself stands in [`crate::state_tree`].
//!
//! Between sorted leaves lie as many gaps as there are inner nodes: the two sides of each part in exactly one gap. So the
//! leaves are an array, the inner hashes another, and no pointers are kept. A change costs the hashes on the way to its leaf.
//!
//! **Bytes** ([`StatePage::encode`]): all leaves, sorted (key hash [32] ‖ value hash [32]), then the inner hashes, gap by gap
//! ([32] each): 96 × leaves − 32 bytes.

use crate::Hash;
use crate::key_scheme::KeyScheme;
use crate::state_tree::{Leaf, bit_of, parting};
use std::cmp::Ordering;
use std::ops::Range;

/// A key hash with its new value hash, or `None` to delete.
pub type StateChange = (Hash, Option<Hash>);

/// Bytes of a leaf and of an inner hash.
const LEAF_BYTES: usize = 64;
const INNER_BYTES: usize = 32;

/// Leaves and the inner nodes between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatePage {
    /// Sorted by key hash, none twice.
    leaves: Vec<Leaf>,
    /// `inner[i]` is the hash of the inner node whose sides part between leaf `i` and leaf `i + 1`.
    inner: Vec<Hash>,
}

/// Memory that [`StatePage::apply`] uses from page to page, so that a change asks the allocator for nothing.
#[derive(Debug, Default)]
pub struct PageScratch {
    /// The page as it was.
    old: StatePage,
    is_stale: Vec<bool>,
}

/// Where the way to a key ends inside a page: the leaf (key hash, value hash), and the steps down to it.
pub type PageWay = (Option<(Hash, Hash)>, Vec<(u8, Hash)>);

impl StatePage {
    /// Number of leaves.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Whether there are no leaves.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// Hash of the node that stands for all leaves; `None` when there are none.
    #[must_use]
    pub fn root(&self, scheme: KeyScheme) -> Option<Hash> {
        let last = self.leaves.len().checked_sub(1)?;
        Some(self.hash(scheme, 0, last))
    }

    /// Makes `changes`, which are sorted by key hash, no key twice, all in this page.
    pub fn apply(&mut self, scheme: KeyScheme, changes: &[StateChange], scratch: &mut PageScratch) {
        std::mem::swap(self, &mut scratch.old);
        let mut merging = Merging::new(self, scratch, changes.len());
        let mut next = 0;
        for (key, value) in changes {
            let rest = merging.old.leaves.get(next..).unwrap_or_default();
            let place = next + rest.partition_point(|leaf| key_order(&leaf.key, key).is_lt());
            merging.keep(next..place);
            let is_there = merging.old.leaves.get(place).is_some_and(|leaf| leaf.key == *key);
            match value {
                Some(value) => merging.push(Leaf { key: *key, value: *value }, is_there.then_some(place)),
                None if is_there => merging.cut(),
                None => {}
            }
            next = place + usize::from(is_there);
        }
        merging.keep(next..merging.old.leaves.len());
        merging.finish(scheme);
    }

    /// The leaves with a 0 at `bit` and those with a 1, where `bit` is the first in which the leaves may differ.
    #[must_use]
    pub fn split(mut self, bit: u8) -> (Self, Self) {
        let middle = self.leaves.partition_point(|leaf| !bit_of(&leaf.key, bit));
        let leaves = self.leaves.split_off(middle);
        // The gap in the middle goes: its node now stands above both.
        let inner = self.inner.split_off(middle.min(self.inner.len()));
        if !leaves.is_empty() {
            self.inner.truncate(middle.saturating_sub(1));
        }
        (self, Self { leaves, inner })
    }

    /// The way to a key hash, from this page's root down.
    #[must_use]
    pub fn way(&self, scheme: KeyScheme, key: &Hash) -> PageWay {
        let (mut from, mut steps) = (0, Vec::new());
        let Some(mut to) = self.leaves.len().checked_sub(1) else { return (None, steps) };
        while from < to {
            let (bit, gap) = self.gap(from, to);
            if bit_of(key, bit) {
                steps.push((bit, self.hash(scheme, from, gap)));
                from = gap + 1;
            } else {
                steps.push((bit, self.hash(scheme, gap + 1, to)));
                to = gap;
            }
        }
        let leaf = &self.leaves[from];
        (Some((leaf.key, leaf.value)), steps)
    }

    /// Appends the bytes of the page.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.reserve(self.leaves.len() * (LEAF_BYTES + INNER_BYTES));
        for leaf in &self.leaves {
            bytes.extend_from_slice(&leaf.key);
            bytes.extend_from_slice(&leaf.value);
        }
        bytes.extend_from_slice(self.inner.as_flattened());
    }

    /// Reads the bytes of a page; `None` when they are none. The inner hashes are taken as they are: whoever keeps pages must
    /// be able to tell whether they are what was written.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut page = Self::default();
        page.decode_from(bytes).then_some(page)
    }

    /// The same in the memory of this page, whose leaves go; whether they are the bytes of a page. If not, this one has no
    /// leaves then.
    #[must_use]
    pub fn decode_from(&mut self, bytes: &[u8]) -> bool {
        self.clear();
        let is_page = self.take_bytes(bytes).is_some();
        if !is_page {
            self.clear();
        }
        is_page
    }

    fn take_bytes(&mut self, bytes: &[u8]) -> Option<()> {
        if bytes.is_empty() {
            return Some(());
        }
        let count = (bytes.len() + INNER_BYTES) / (LEAF_BYTES + INNER_BYTES);
        let (leaves, inner) = bytes.split_at_checked(count * LEAF_BYTES)?;
        let (leaves, []) = leaves.as_chunks::<LEAF_BYTES>() else { return None };
        let (inner, []) = inner.as_chunks::<INNER_BYTES>() else { return None };
        self.leaves.reserve_exact(leaves.len());
        for bytes in leaves {
            let (key, value) = bytes.split_first_chunk()?;
            self.leaves.push(Leaf { key: *key, value: *value.first_chunk()? });
        }
        self.inner.reserve_exact(inner.len());
        self.inner.extend_from_slice(inner);
        let is_sorted = self.leaves.windows(2).all(|pair| key_order(&pair[0].key, &pair[1].key).is_lt());
        (is_sorted && self.inner.len() + 1 == self.leaves.len()).then_some(())
    }

    /// Takes all leaves out; the memory stays.
    pub fn clear(&mut self) {
        self.leaves.clear();
        self.inner.clear();
    }

    /// Bytes of memory behind this page, used or not.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.leaves.capacity() * LEAF_BYTES + self.inner.capacity() * INNER_BYTES
    }

    /// Hash of the node over leaves `from..=to`, which are all below one node.
    fn hash(&self, scheme: KeyScheme, from: usize, to: usize) -> Hash {
        if from == to { scheme.leaf_hash(&self.leaves[from]) } else { self.inner[self.gap(from, to).1] }
    }

    /// Where leaves `from..=to` part: the bit, and the last leaf on the left. There are two at least.
    fn gap(&self, from: usize, to: usize) -> (u8, usize) {
        let leaves = &self.leaves[from..=to];
        // Different keys part somewhere.
        let bit = parting(&self.leaves[from].key, &self.leaves[to].key).unwrap_or(u8::MAX);
        (bit, from + leaves.partition_point(|leaf| !bit_of(&leaf.key, bit)).max(1) - 1)
    }
}

/// Order of key hashes. Nearly always their first bytes tell, without a call.
pub(crate) fn key_order(a: &Hash, b: &Hash) -> Ordering {
    let first = |key: &Hash| key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    first(a).cmp(&first(b)).then_with(|| a.cmp(b))
}

/// A page while changes are merged into it.
struct Merging<'a> {
    old: &'a StatePage,
    new: &'a mut StatePage,
    /// Whether a leaf is new, or has lost a neighbour: no node above it keeps its hash.
    is_stale: &'a mut Vec<bool>,
    /// Place of the last leaf in the old page, when it was there.
    last: Option<usize>,
    was_cut: bool,
}

impl<'a> Merging<'a> {
    /// The old page is in `scratch`.
    fn new(new: &'a mut StatePage, scratch: &'a mut PageScratch, changes: usize) -> Self {
        let PageScratch { old, is_stale } = scratch;
        let count = old.leaves.len() + changes;
        new.clear();
        new.leaves.reserve(count);
        new.inner.reserve(count);
        is_stale.clear();
        is_stale.reserve(count);
        Self { old, new, is_stale, last: None, was_cut: false }
    }

    /// The old leaves at `places` stay as they are.
    fn keep(&mut self, places: Range<usize>) {
        let Some(leaves) = self.old.leaves.get(places.clone()).filter(|leaves| !leaves.is_empty()) else { return };
        self.add(leaves[0], Some(places.start), false);
        self.new.leaves.extend_from_slice(&leaves[1..]);
        self.new.inner.extend_from_slice(&self.old.inner[places.start..places.end - 1]);
        self.is_stale.resize(self.new.leaves.len(), false);
        self.last = Some(places.end - 1);
    }

    /// A leaf that is new, or has a new value.
    fn push(&mut self, leaf: Leaf, place: Option<usize>) {
        self.add(leaf, place, true);
    }

    /// A leaf is left out. Every node that was above it has one of its neighbours below it.
    fn cut(&mut self) {
        if let Some(last) = self.is_stale.last_mut() {
            *last = true;
        }
        self.was_cut = true;
    }

    fn add(&mut self, leaf: Leaf, place: Option<usize>, is_stale: bool) {
        if !self.new.leaves.is_empty() {
            // A node without a stale leaf below it has the leaves it had, and parts in the gap where it did.
            let gap = place.filter(|place| *place > 0 && self.last == place.checked_sub(1));
            let known = gap.and_then(|place| self.old.inner.get(place - 1));
            self.new.inner.push(known.copied().unwrap_or_default());
        }
        self.new.leaves.push(leaf);
        self.is_stale.push(is_stale || self.was_cut);
        (self.last, self.was_cut) = (place, false);
    }

    fn finish(mut self, scheme: KeyScheme) {
        if let Some(last) = self.new.leaves.len().checked_sub(1) {
            self.settle(scheme, 0, last);
        }
    }

    /// Hashes what is stale at or below the node over leaves `from..=to`.
    fn settle(&mut self, scheme: KeyScheme, from: usize, to: usize) -> Hash {
        if from == to || !self.is_stale[from..=to].contains(&true) {
            return self.new.hash(scheme, from, to);
        }
        let (bit, gap) = self.new.gap(from, to);
        let (left, right) = (self.settle(scheme, from, gap), self.settle(scheme, gap + 1, to));
        let hash = scheme.node_hash(bit, &left, &right);
        self.new.inner[gap] = hash;
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StateProof, StateTree, in_key_order, sha256, state_changes};
    use proptest::prelude::*;

    fn batches() -> impl Strategy<Value = Vec<Vec<(u8, Option<u8>)>>> {
        let change = (any::<u8>(), proptest::option::weighted(0.6, any::<u8>()));
        proptest::collection::vec(proptest::collection::vec(change, 0..30), 0..12)
    }

    /// Of 256 keys half are of no group, the others of eight.
    fn key(number: u8) -> Vec<u8> {
        match number % 2 {
            0 => vec![number],
            _ => [b"mmo\0", &u64::from(number >> 1).to_be_bytes()[..]].concat(),
        }
    }

    proptest! {
        #[test]
        fn a_page_is_the_tree_of_its_leaves(batches in batches(), scheme in proptest::sample::select(&KeyScheme::ALL[..])) {
            let (mut page, mut tree) = (StatePage::default(), StateTree::new(scheme));
            let (mut scratch, mut again) = (PageScratch::default(), StatePage::default());
            for batch in &batches {
                let batch: Vec<_> = batch.iter().map(|(number, value)| (key(*number), value.map(|value| [value]))).collect();
                let pairs = || batch.iter().map(|(key, value)| (&key[..], value.as_ref().map(|value| &value[..])));
                page.apply(scheme, &state_changes(scheme, pairs()), &mut scratch);
                tree.apply(pairs());
                prop_assert_eq!(page.root(scheme).unwrap_or_default(), tree.root());
                let mut bytes = Vec::new();
                page.encode(&mut bytes);
                prop_assert_eq!(StatePage::decode(&bytes), Some(page.clone()));
                prop_assert!(again.decode_from(&bytes));
                prop_assert_eq!(&again, &page);
                prop_assert!(bytes.is_empty() || StatePage::decode(&bytes[1..]).is_none());
            }
            // All batches at once come to the same.
            let hashed = |(number, value): &(u8, Option<u8>)| (scheme.key_hash(&key(*number)), value.map(|value| sha256(&[value])));
            let mut at_once = StatePage::default();
            at_once.apply(scheme, &in_key_order(batches.iter().flatten().map(hashed).collect()), &mut scratch);
            prop_assert_eq!(&at_once, &page);
            for number in 0..=u8::MAX {
                let (leaf, steps) = page.way(scheme, &scheme.key_hash(&key(number)));
                prop_assert_eq!(StateProof::new(leaf, steps), tree.prove(&key(number)));
            }
            let count = page.len();
            let (left, right) = page.clone().split(0);
            prop_assert_eq!(left.len() + right.len(), count);
            let both = match (left.root(scheme), right.root(scheme)) {
                (Some(left), Some(right)) => Some(scheme.node_hash(0, &left, &right)),
                (only, None) | (None, only) => only,
            };
            prop_assert_eq!(both, page.root(scheme));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            if let Some(page) = StatePage::decode(&bytes) {
                for scheme in KeyScheme::ALL {
                    let _ = (page.root(scheme), page.way(scheme, &[7; 32]));
                }
            }
        }
    }
}
