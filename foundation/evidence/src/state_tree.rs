//! The authenticated state of the ledger: a map from keys to values whose root stands in every checkpoint.
//!
//! A binary Merkle trie over key hashes, compressed: an inner node stands only where two stored keys part. Its shape
//! depends on the keys alone, never on the order in which they came.
//!
//! ```text
//! key hash   k = where the key stands              value hash   v = SHA-256(value)
//! leaf         = SHA-256(d ‖ k ‖ v)
//! inner node   = SHA-256(d + 1 ‖ bit ‖ left ‖ right)     bit: u8, where the keys below part; bit 0 is the highest of byte 0;
//!                                                         keys with a 0 there are left
//! empty        = 32 zero bytes
//! ```
//! How `k` is made, and whether `d` is 0 or 2, is the ledger's [`KeyScheme`].
//!
//! Because the bit is hashed along, the way to a key is fixed at every node: a way that ends in another key's leaf proves
//! that the key is not there.
//!
//! [`StateTree`] keeps all of it in memory, some 230 bytes a key: for tests, and to hold others against. What a ledger keeps on
//! disk is made of [`StatePage`](crate::StatePage)s.

use crate::key_scheme::{KeyHasher, KeyScheme};
use crate::state_page::{StateChange, key_order};
use crate::state_proof::StateProof;
use crate::{Hash, sha256};

/// Root of the state without keys; SHA-256 gives it for no input anyone knows.
pub const EMPTY_STATE: Hash = [0; 32];

/// The tree.
#[derive(Debug, Default)]
pub struct StateTree {
    root: Option<Child>,
    scheme: KeyScheme,
}

/// A node with its hash. The hash stands beside the pointer and not in the node, so that hashing a node anew touches neither
/// the sibling's memory nor hashes a sibling leaf again.
#[derive(Debug)]
struct Child {
    hash: Hash,
    node: Node,
}

#[derive(Debug)]
enum Node {
    Leaf(Box<Leaf>),
    Inner(Box<Inner>),
}

/// Has keys on both sides, except while changes are being made below it.
#[derive(Debug)]
struct Inner {
    /// A key that is or was below: all share its bits before `bit`.
    key: Hash,
    bit: u8,
    left: Option<Child>,
    right: Option<Child>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub key: Hash,
    pub value: Hash,
}

impl StateTree {
    /// An empty one.
    #[must_use]
    pub const fn new(scheme: KeyScheme) -> Self {
        Self { root: None, scheme }
    }

    /// The root that the checkpoint binds.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.root.as_ref().map_or(EMPTY_STATE, |child| child.hash)
    }

    /// Sets (`Some`) or deletes (`None`) keys. Of two changes of one key the later one counts.
    pub fn apply<'a>(&mut self, changes: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>) {
        self.root = self.scheme.apply(self.root.take(), &state_changes(self.scheme, changes));
    }

    /// Proves what `key` is, or that it is not.
    #[must_use]
    pub fn prove(&self, key: &[u8]) -> StateProof {
        let key = self.scheme.key_hash(key);
        let mut steps = Vec::new();
        let mut next = &self.root;
        loop {
            match next.as_ref().map(|child| &child.node) {
                None => return StateProof::new(None, steps),
                Some(Node::Leaf(leaf)) => return StateProof::new(Some((leaf.key, leaf.value)), steps),
                Some(Node::Inner(inner)) => {
                    let (taken, sibling) =
                        if bit_of(&key, inner.bit) { (&inner.right, &inner.left) } else { (&inner.left, &inner.right) };
                    steps.push((inner.bit, sibling.as_ref().map_or(EMPTY_STATE, |child| child.hash)));
                    next = taken;
                }
            }
        }
    }
}

/// Changes as the tree takes them: hashed, sorted by key hash, of two changes of one key the later one.
pub fn state_changes<'a>(
    scheme: KeyScheme,
    changes: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> Vec<StateChange> {
    let mut keys = KeyHasher::new(scheme);
    let hashed = changes.into_iter().map(|(key, value)| (keys.hash(key), value.map(sha256)));
    in_key_order(hashed.collect())
}

/// Changes in the order in which they were made, as the tree takes them: sorted by key hash, of several of one key the last one.
#[must_use]
pub fn in_key_order(changes: Vec<StateChange>) -> Vec<StateChange> {
    let mut hashed = changes;
    // Stable, so that the last of several changes of one key is the last of its run.
    hashed.sort_by(|a, b| key_order(&a.0, &b.0));
    hashed.reverse();
    hashed.dedup_by_key(|change| change.0);
    hashed.reverse();
    hashed
}

impl Child {
    fn leaf(scheme: KeyScheme, leaf: Leaf) -> Self {
        Self { hash: scheme.leaf_hash(&leaf), node: Node::Leaf(Box::new(leaf)) }
    }

    const fn key(&self) -> &Hash {
        match &self.node {
            Node::Leaf(leaf) => &leaf.key,
            Node::Inner(inner) => &inner.key,
        }
    }
}

pub(crate) const fn bit_of(key: &Hash, bit: u8) -> bool {
    key[bit as usize / 8] & (0x80 >> (bit % 8)) != 0
}

/// The first bit in which two different keys differ.
pub(crate) fn parting(a: &Hash, b: &Hash) -> Option<u8> {
    let byte = a.iter().zip(b).position(|(a, b)| a != b)?;
    let bit = (a[byte] ^ b[byte]).leading_zeros();
    u8::try_from(byte * 8 + bit as usize).ok()
}

/// Making trees: what a scheme does not hash is the same in all.
impl KeyScheme {
    /// `changes` are sorted, no key twice, and all belong below `child`'s place.
    fn apply(self, child: Option<Child>, changes: &[StateChange]) -> Option<Child> {
        let ([first, ..], [.., last]) = (changes, changes) else { return child };
        let Some(child) = child else { return self.build(&leaves_of(changes)) };
        // Where the first of the changed keys leaves this child's common way; between `first` and `last` none leaves it earlier,
        // for they are sorted.
        let leaves_at = [parting(child.key(), &first.0), parting(child.key(), &last.0)].into_iter().flatten().min();
        let mut inner = match child.node {
            Node::Leaf(leaf) => return self.build(&with_leaf(&leaf, changes)),
            Node::Inner(inner) => inner,
        };
        match leaves_at {
            Some(earlier) if earlier < inner.bit => {
                let (to_left, to_right) = part(changes, earlier);
                let is_right = bit_of(&inner.key, earlier);
                let child = Some(Child { hash: child.hash, node: Node::Inner(inner) });
                let (left, right) = if is_right { (None, child) } else { (child, None) };
                self.join(earlier, self.apply(left, to_left), self.apply(right, to_right))
            }
            _ => {
                let (to_left, to_right) = part(changes, inner.bit);
                inner.left = self.apply(inner.left.take(), to_left);
                inner.right = self.apply(inner.right.take(), to_right);
                self.settle(inner)
            }
        }
    }

    /// An inner node behind a change below it: hashed again, or gone when a side is empty.
    fn settle(self, mut inner: Box<Inner>) -> Option<Child> {
        match (&inner.left, &inner.right) {
            (Some(left), Some(right)) => {
                let hash = self.node_hash(inner.bit, &left.hash, &right.hash);
                Some(Child { hash, node: Node::Inner(inner) })
            }
            _ => inner.left.take().or_else(|| inner.right.take()),
        }
    }

    /// A tree of sorted leaves.
    fn build(self, leaves: &[Leaf]) -> Option<Child> {
        let ([first, ..], [.., last]) = (leaves, leaves) else { return None };
        let Some(at) = parting(&first.key, &last.key) else { return Some(Child::leaf(self, *first)) };
        let (left, right) = leaves.split_at(leaves.partition_point(|leaf| !bit_of(&leaf.key, at)));
        self.join(at, self.build(left), self.build(right))
    }

    fn join(self, bit: u8, left: Option<Child>, right: Option<Child>) -> Option<Child> {
        match (left, right) {
            (Some(left), Some(right)) => {
                let key = *left.key();
                self.settle(Box::new(Inner { key, bit, left: Some(left), right: Some(right) }))
            }
            (only, None) | (None, only) => only,
        }
    }

    fn root_of_sorted(self, pairs: &[(Hash, Hash)]) -> Hash {
        let ([(first, value), ..], [.., (last, _)]) = (pairs, pairs) else { return EMPTY_STATE };
        let Some(at) = parting(first, last) else { return self.leaf_hash(&Leaf { key: *first, value: *value }) };
        let (left, right) = pairs.split_at(pairs.partition_point(|(key, _)| !bit_of(key, at)));
        self.node_hash(at, &self.root_of_sorted(left), &self.root_of_sorted(right))
    }
}

/// Those with a 0 at `bit`, and those with a 1.
fn part(changes: &[StateChange], bit: u8) -> (&[StateChange], &[StateChange]) {
    changes.split_at(changes.partition_point(|change| !bit_of(&change.0, bit)))
}

fn leaves_of(changes: &[StateChange]) -> Vec<Leaf> {
    changes.iter().filter_map(|(key, value)| value.map(|value| Leaf { key: *key, value })).collect()
}

/// The leaves that stand where only `leaf` stood.
fn with_leaf(leaf: &Leaf, changes: &[StateChange]) -> Vec<Leaf> {
    let mut leaves = leaves_of(changes);
    if changes.binary_search_by_key(&leaf.key, |change| change.0).is_err() {
        let place = leaves.partition_point(|other| other.key < leaf.key);
        leaves.insert(place, *leaf);
    }
    leaves
}

/// Root of a whole state at once, from its pairs of key hash (by the scheme) and SHA-256(value) in any order, no key twice. Sorts
/// them in place and needs no tree: 64 bytes a key where [`StateTree`] needs some 230.
#[must_use]
pub fn state_root(scheme: KeyScheme, pairs: &mut [(Hash, Hash)]) -> Hash {
    pairs.sort_unstable();
    scheme.root_of_sorted(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Map = BTreeMap<Vec<u8>, Vec<u8>>;

    fn tree_of(scheme: KeyScheme, map: &Map) -> StateTree {
        let mut tree = StateTree::new(scheme);
        tree.apply(map.iter().map(|(key, value)| (key.as_slice(), Some(value.as_slice()))));
        tree
    }

    /// An agreement of 16 × 4 keys, and what is of no group; of both some share a place's first bits.
    fn key(number: u8) -> Vec<u8> {
        let of = u64::from(number >> 1);
        match number % 4 {
            0 => vec![b'o', number],
            1 => [b"mmo\0", &of.to_be_bytes()[..]].concat(),
            2 => format!("aescrow:mo-{of}").into_bytes(),
            _ => [b"t01234567mo\0", &of.to_be_bytes()[..]].concat(),
        }
    }

    #[test]
    fn roots_are_as_written_above() {
        // SHA-256("a") begins with 0xca, SHA-256("b") with 0x3e: scattered they part at bit 0, "b" is left. Without that bit they are 0x4a and
        // 0x3e, and part at bit 1, "b" is left again.
        for (scheme, of_leaf, of_node, at) in [(KeyScheme::Scattered, 0, 1, 0), (KeyScheme::Grouped, 2, 3, 1)] {
            let mut tree = StateTree::new(scheme);
            assert_eq!(tree.root(), [0; 32]);
            tree.apply([(&b"a"[..], Some(&b"1"[..]))]);
            let leaf = |key: &[u8], value: &[u8]| {
                let mut place = sha256(key);
                place[0] &= if scheme == KeyScheme::Grouped { 0x7f } else { 0xff };
                sha256(&[&[of_leaf][..], &place, &sha256(value)].concat())
            };
            assert_eq!(tree.root(), leaf(b"a", b"1"));
            tree.apply([(&b"b"[..], Some(&b"2"[..]))]);
            assert_eq!(tree.root(), sha256(&[&[of_node, at][..], &leaf(b"b", b"2"), &leaf(b"a", b"1")].concat()));
            tree.apply([(&b"b"[..], None), (&b"a"[..], Some(&b"3"[..])), (&b"a"[..], None)]);
            assert_eq!(tree.root(), [0; 32]);
        }
    }

    #[test]
    fn every_flipped_bit_of_a_proof_is_noticed() {
        let map: Map = (0..50u8).map(|n| (key(n), vec![n, n])).collect();
        for scheme in KeyScheme::ALL {
            let tree = tree_of(scheme, &map);
            let (proof, root) = (tree.prove(&key(7)).encode(), tree.root());
            for place in 0..proof.len() * 8 {
                let mut forged = proof.clone();
                forged[place / 8] ^= 1 << (place % 8);
                let shown = StateProof::decode(&forged).and_then(|proof| proof.verify(&root, &key(7), Some(&[7, 7])));
                assert!(shown.is_err(), "bit {place}");
            }
        }
    }

    fn batches() -> impl Strategy<Value = Vec<Vec<(u8, Option<u8>)>>> {
        let change = (any::<u8>(), proptest::option::weighted(0.7, any::<u8>()));
        proptest::collection::vec(proptest::collection::vec(change, 0..40), 0..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn any_history_gives_the_tree_of_its_end(batches in batches()) {
            let mut trees = KeyScheme::ALL.map(StateTree::new);
            let mut map = Map::new();
            for batch in &batches {
                let batch: Vec<_> = batch.iter().map(|(number, value)| (key(*number), value.map(|value| [value]))).collect();
                for (tree, scheme) in trees.iter_mut().zip(KeyScheme::ALL) {
                    tree.apply(batch.iter().map(|(key, value)| (&key[..], value.as_ref().map(|value| &value[..]))));
                    let mut after = map.clone();
                    for (key, value) in &batch {
                        match value {
                            Some(value) => after.insert(key.clone(), value.to_vec()),
                            None => after.remove(&key[..]),
                        };
                    }
                    prop_assert_eq!(tree.root(), tree_of(scheme, &after).root());
                    if scheme == KeyScheme::Grouped {
                        map = after;
                    }
                }
            }
            let [scattered, grouped] = trees.each_ref().map(StateTree::root);
            prop_assert_eq!(scattered == grouped, map.is_empty());
            // A single leaf may have the same place in both: what is absent beside it is shown without a word of the scheme, and is true of both.
            let is_at_one_place = |key: &Vec<u8>| KeyScheme::Scattered.key_hash(key) == KeyScheme::Grouped.key_hash(key);
            let is_alike = map.len() <= 1 && map.keys().all(is_at_one_place);
            for (tree, other) in [(&trees[0], grouped), (&trees[1], scattered)] {
                let (scheme, root) = (tree.scheme, tree.root());
                let mut pairs: Vec<_> = map.iter().map(|(key, value)| (scheme.key_hash(key), sha256(value))).collect();
                prop_assert_eq!(state_root(scheme, &mut pairs), root);
                for number in (0..=u8::MAX).step_by(5) {
                    let key = key(number);
                    let (proof, value) = (tree.prove(&key), map.get(&key).map(Vec::as_slice));
                    prop_assert_eq!(StateProof::decode(&proof.encode()), Ok(proof.clone()));
                    prop_assert_eq!(proof.verify(&root, &key, value), Ok(()));
                    let lie = if value.is_some() { None } else { Some(&b"?"[..]) };
                    prop_assert!(proof.verify(&root, &key, lie).is_err());
                    prop_assert!(proof.verify(&root, &key, Some(b"other")).is_err());
                    // Nothing that holds in a tree of one scheme holds in the other's, neither what is there nor what is not.
                    prop_assert!(is_alike || proof.verify(&other, &key, value).is_err());
                }
            }
        }

        /// Who has a tree of one scheme cannot show that a key is absent by walking to where the other scheme would have it.
        #[test]
        fn a_way_to_the_place_of_the_other_scheme_shows_nothing(numbers in proptest::collection::btree_set(any::<u8>(), 1..60)) {
            let map: Map = numbers.iter().map(|number| (key(*number), vec![*number])).collect();
            let trees = KeyScheme::ALL.map(|scheme| tree_of(scheme, &map));
            for (key, value) in &map {
                for (tree, other) in trees.iter().zip(KeyScheme::ALL.into_iter().rev()) {
                    let mut page = crate::StatePage::default();
                    page.apply(tree.scheme, &state_changes(tree.scheme, map.iter().map(|(key, value)| (&key[..], Some(&value[..])))), &mut Default::default());
                    let (leaf, steps) = page.way(tree.scheme, &other.key_hash(key));
                    let forged = StateProof::new(leaf, steps);
                    prop_assert!(forged.verify(&tree.root(), key, None).is_err(), "{:?}", tree.scheme);
                    let honest = tree.prove(key);
                    prop_assert_eq!(honest.verify(&tree.root(), key, Some(value)), Ok(()));
                }
            }
        }
    }
}
