//! The authenticated state of the ledger: a map from keys to values whose root stands in every checkpoint.
//!
//! A binary Merkle trie over key hashes, compressed: an inner node stands only where two stored keys part. Its shape
//! depends on the keys alone, never on the order in which they came.
//!
//! ```text
//! key hash   k = SHA-256(key)                  value hash   v = SHA-256(value)
//! leaf         = SHA-256(0x00 ‖ k ‖ v)
//! inner node   = SHA-256(0x01 ‖ bit ‖ left ‖ right)      bit: u8, where the keys below part; bit 0 is the highest of byte 0;
//!                                                         keys with a 0 there are left
//! empty        = 32 zero bytes
//! ```
//! Because the bit is hashed along, the way to a key is fixed at every node: a way that ends in another key's leaf proves
//! that the key is not there.
//!
//! [`StateTree`] keeps all of it in memory, some 230 bytes a key: for tests, and to hold others against. What a ledger keeps on
//! disk is made of [`StatePage`](crate::StatePage)s.

use crate::cbor::{self, Cbor, CborFault, Fields, bytes, int, map};
use crate::state_page::{StateChange, key_order};
use crate::{Hash, sha256};
use sha2::{Digest, Sha256};

/// Root of the state without keys; SHA-256 gives it for no input anyone knows.
pub const EMPTY_STATE: Hash = [0; 32];

/// The tree.
#[derive(Debug, Default)]
pub struct StateTree {
    root: Option<Child>,
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
    /// The root that the checkpoint binds.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.root.as_ref().map_or(EMPTY_STATE, |child| child.hash)
    }

    /// Sets (`Some`) or deletes (`None`) keys. Of two changes of one key the later one counts.
    pub fn apply<'a>(&mut self, changes: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>) {
        self.root = apply(self.root.take(), &state_changes(changes));
    }

    /// Proves what `key` is, or that it is not.
    #[must_use]
    pub fn prove(&self, key: &[u8]) -> StateProof {
        let key = sha256(key);
        let mut steps = Vec::new();
        let mut next = &self.root;
        loop {
            match next.as_ref().map(|child| &child.node) {
                None => return StateProof { leaf: None, steps },
                Some(Node::Leaf(leaf)) => return StateProof { leaf: Some((leaf.key, leaf.value)), steps },
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
pub fn state_changes<'a>(changes: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Vec<StateChange> {
    let hashed = changes.into_iter().map(|(key, value)| (sha256(key), value.map(sha256)));
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
    fn leaf(leaf: Leaf) -> Self {
        Self { hash: leaf_hash(&leaf), node: Node::Leaf(Box::new(leaf)) }
    }

    const fn key(&self) -> &Hash {
        match &self.node {
            Node::Leaf(leaf) => &leaf.key,
            Node::Inner(inner) => &inner.key,
        }
    }
}

pub(crate) fn leaf_hash(leaf: &Leaf) -> Hash {
    Sha256::new().chain_update([0x00]).chain_update(leaf.key).chain_update(leaf.value).finalize().into()
}

/// Hash of the inner node where the keys part at `bit`.
#[must_use]
pub fn inner_hash(bit: u8, left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([0x01, bit]).chain_update(left).chain_update(right).finalize().into()
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

/// `changes` are sorted, no key twice, and all belong below `child`'s place.
fn apply(child: Option<Child>, changes: &[StateChange]) -> Option<Child> {
    let ([first, ..], [.., last]) = (changes, changes) else { return child };
    let Some(child) = child else { return build(&leaves_of(changes)) };
    // Where the first of the changed keys leaves this child's common way; between `first` and `last` none leaves it earlier,
    // for they are sorted.
    let leaves_at = [parting(child.key(), &first.0), parting(child.key(), &last.0)].into_iter().flatten().min();
    let mut inner = match child.node {
        Node::Leaf(leaf) => return build(&with_leaf(&leaf, changes)),
        Node::Inner(inner) => inner,
    };
    match leaves_at {
        Some(earlier) if earlier < inner.bit => {
            let (to_left, to_right) = part(changes, earlier);
            let is_right = bit_of(&inner.key, earlier);
            let child = Some(Child { hash: child.hash, node: Node::Inner(inner) });
            let (left, right) = if is_right { (None, child) } else { (child, None) };
            join(earlier, apply(left, to_left), apply(right, to_right))
        }
        _ => {
            let (to_left, to_right) = part(changes, inner.bit);
            inner.left = apply(inner.left.take(), to_left);
            inner.right = apply(inner.right.take(), to_right);
            settle(inner)
        }
    }
}

/// Those with a 0 at `bit`, and those with a 1.
fn part(changes: &[StateChange], bit: u8) -> (&[StateChange], &[StateChange]) {
    changes.split_at(changes.partition_point(|change| !bit_of(&change.0, bit)))
}

/// An inner node behind a change below it: hashed again, or gone when a side is empty.
fn settle(mut inner: Box<Inner>) -> Option<Child> {
    match (&inner.left, &inner.right) {
        (Some(left), Some(right)) => {
            let hash = inner_hash(inner.bit, &left.hash, &right.hash);
            Some(Child { hash, node: Node::Inner(inner) })
        }
        _ => inner.left.take().or_else(|| inner.right.take()),
    }
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

/// A tree of sorted leaves.
fn build(leaves: &[Leaf]) -> Option<Child> {
    let ([first, ..], [.., last]) = (leaves, leaves) else { return None };
    let Some(at) = parting(&first.key, &last.key) else { return Some(Child::leaf(*first)) };
    let (left, right) = leaves.split_at(leaves.partition_point(|leaf| !bit_of(&leaf.key, at)));
    join(at, build(left), build(right))
}

fn join(bit: u8, left: Option<Child>, right: Option<Child>) -> Option<Child> {
    match (left, right) {
        (Some(left), Some(right)) => {
            let key = *left.key();
            settle(Box::new(Inner { key, bit, left: Some(left), right: Some(right) }))
        }
        (only, None) | (None, only) => only,
    }
}

/// Root of a whole state at once, from its `(SHA-256(key), SHA-256(value))` pairs in any order, no key twice. Sorts them in
/// place and needs no tree: 64 bytes a key where [`StateTree`] needs some 230.
#[must_use]
pub fn state_root(pairs: &mut [(Hash, Hash)]) -> Hash {
    pairs.sort_unstable();
    root_of_sorted(pairs)
}

fn root_of_sorted(pairs: &[(Hash, Hash)]) -> Hash {
    let ([(first, value), ..], [.., (last, _)]) = (pairs, pairs) else { return EMPTY_STATE };
    let Some(at) = parting(first, last) else { return leaf_hash(&Leaf { key: *first, value: *value }) };
    let (left, right) = pairs.split_at(pairs.partition_point(|(key, _)| !bit_of(key, at)));
    inner_hash(at, &root_of_sorted(left), &root_of_sorted(right))
}

/// Why a proof does not show what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateProofFault {
    /// The CBOR is not what the CDDL says.
    #[error("state proof: {0}")]
    Cbor(#[from] CborFault),
    /// The steps do not lead from the root to this key.
    #[error("state proof: the way does not lead to the key")]
    Way,
    /// The proof shows another value, or that the key is (not) there.
    #[error("state proof: it shows another value than the one claimed")]
    Value,
    /// The way does not lead to the root.
    #[error("state proof: the way does not lead to the root")]
    Root,
}

/// Proof of what a key is, or that it is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateProof {
    /// Key hash and value hash of the leaf where the way ends; `None` in the empty state.
    leaf: Option<(Hash, Hash)>,
    /// From the root down: where the keys part, and the hash of the side not taken.
    steps: Vec<(u8, Hash)>,
}

impl StateProof {
    /// The proof of a way: the leaf (key hash, value hash) where it ends, and the steps from the root down. It shows nothing
    /// that [`verify`](Self::verify) does not find in it.
    #[must_use]
    pub const fn new(leaf: Option<(Hash, Hash)>, steps: Vec<(u8, Hash)>) -> Self {
        Self { leaf, steps }
    }

    /// Checks that in the state with this `root` the value of `key` is `value`; `None`: that it is not there.
    ///
    /// # Errors
    /// [`StateProofFault`].
    pub fn verify(&self, root: &Hash, key: &[u8], value: Option<&[u8]>) -> Result<(), StateProofFault> {
        let key = sha256(key);
        let Some((found, value_hash)) = self.leaf else {
            return self.verify_empty(root, value);
        };
        let is_rising = self.steps.windows(2).all(|pair| pair[0].0 < pair[1].0);
        // The leaf must hang where its own key leads, and the key asked for must lead there too.
        let is_way = self.steps.iter().all(|(bit, _)| bit_of(&found, *bit) == bit_of(&key, *bit));
        if !is_rising || !is_way {
            return Err(StateProofFault::Way);
        }
        let shown = (found == key).then_some(value_hash);
        if shown != value.map(sha256) {
            return Err(StateProofFault::Value);
        }
        let mut hash = leaf_hash(&Leaf { key: found, value: value_hash });
        for (bit, sibling) in self.steps.iter().rev() {
            hash = if bit_of(&key, *bit) { inner_hash(*bit, sibling, &hash) } else { inner_hash(*bit, &hash, sibling) };
        }
        if hash == *root { Ok(()) } else { Err(StateProofFault::Root) }
    }

    fn verify_empty(&self, root: &Hash, value: Option<&[u8]>) -> Result<(), StateProofFault> {
        match (self.steps.as_slice(), value) {
            ([], None) if *root == EMPTY_STATE => Ok(()),
            ([], None) => Err(StateProofFault::Root),
            ([], Some(_)) => Err(StateProofFault::Value),
            _ => Err(StateProofFault::Way),
        }
    }

    /// As CBOR: `{"leaf": [key hash, value hash] (absent in the empty state), "steps": [[bit, hash], …]}`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let steps = self.steps.iter().map(|(bit, hash)| Cbor::Array(vec![int(*bit), bytes(*hash)]));
        let mut fields = vec![("steps", Cbor::Array(steps.collect()))];
        if let Some((key, value)) = self.leaf {
            fields.push(("leaf", Cbor::Array(vec![bytes(key), bytes(value)])));
        }
        cbor::encode(&map(fields))
    }

    /// From CBOR, strictly; shows nothing before [`StateProof::verify`].
    ///
    /// # Errors
    /// [`StateProofFault::Cbor`].
    pub fn decode(proof: &[u8]) -> Result<Self, StateProofFault> {
        let mut fields = Fields::decode(proof)?;
        let fault = |field: &str| CborFault::Type { field: field.to_owned(), expected: "as in the CDDL" };
        let steps = fields.array("steps")?.into_iter().map(|step| read_step(&step).ok_or_else(|| fault("steps")));
        let steps = steps.collect::<Result<_, _>>()?;
        let leaf = fields.take("leaf").map(|leaf| read_leaf(&leaf).ok_or_else(|| fault("leaf"))).transpose()?;
        fields.finish()?;
        Ok(Self { leaf, steps })
    }
}

fn read_step(step: &Cbor) -> Option<(u8, Hash)> {
    let [bit, hash] = step.as_array()?.as_slice() else { return None };
    Some((u8::try_from(bit.as_integer()?).ok()?, read_hash(hash)?))
}

fn read_leaf(leaf: &Cbor) -> Option<(Hash, Hash)> {
    let [key, value] = leaf.as_array()?.as_slice() else { return None };
    Some((read_hash(key)?, read_hash(value)?))
}

fn read_hash(hash: &Cbor) -> Option<Hash> {
    hash.as_bytes()?.as_slice().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Map = BTreeMap<Vec<u8>, Vec<u8>>;

    fn tree_of(map: &Map) -> StateTree {
        let mut tree = StateTree::default();
        tree.apply(map.iter().map(|(key, value)| (key.as_slice(), Some(value.as_slice()))));
        tree
    }

    #[test]
    fn roots_are_as_written_above() {
        let mut tree = StateTree::default();
        assert_eq!(tree.root(), [0; 32]);
        tree.apply([(&b"a"[..], Some(&b"1"[..]))]);
        let leaf = |key: &[u8], value: &[u8]| sha256(&[&[0][..], &sha256(key), &sha256(value)].concat());
        assert_eq!(tree.root(), leaf(b"a", b"1"));
        // SHA-256("a") begins with 0xca, SHA-256("b") with 0x3e: they part at bit 0, "b" is left.
        tree.apply([(&b"b"[..], Some(&b"2"[..]))]);
        assert_eq!(tree.root(), sha256(&[&[1, 0][..], &leaf(b"b", b"2"), &leaf(b"a", b"1")].concat()));
        tree.apply([(&b"b"[..], None), (&b"a"[..], Some(&b"3"[..])), (&b"a"[..], None)]);
        assert_eq!(tree.root(), [0; 32]);
    }

    #[test]
    fn every_flipped_bit_of_a_proof_is_noticed() {
        let map: Map = (0..50u8).map(|n| (vec![n], vec![n, n])).collect();
        let tree = tree_of(&map);
        let (proof, root) = (tree.prove(&[7]).encode(), tree.root());
        for place in 0..proof.len() * 8 {
            let mut forged = proof.clone();
            forged[place / 8] ^= 1 << (place % 8);
            let shown = StateProof::decode(&forged).and_then(|proof| proof.verify(&root, &[7], Some(&[7, 7])));
            assert!(shown.is_err(), "bit {place}");
        }
    }

    fn batches() -> impl Strategy<Value = Vec<Vec<(u8, Option<u8>)>>> {
        let change = (any::<u8>(), proptest::option::weighted(0.7, any::<u8>()));
        proptest::collection::vec(proptest::collection::vec(change, 0..40), 0..8)
    }

    proptest! {
        #[test]
        fn any_history_gives_the_tree_of_its_end(batches in batches()) {
            let (mut tree, mut map) = (StateTree::default(), Map::new());
            for batch in &batches {
                let batch: Vec<_> = batch.iter().map(|(key, value)| ([*key], value.map(|value| [value]))).collect();
                tree.apply(batch.iter().map(|(key, value)| (&key[..], value.as_ref().map(|value| &value[..]))));
                for (key, value) in &batch {
                    match value {
                        Some(value) => map.insert(key.to_vec(), value.to_vec()),
                        None => map.remove(&key[..]),
                    };
                }
                prop_assert_eq!(tree.root(), tree_of(&map).root());
            }
            let root = tree.root();
            let mut pairs: Vec<_> = map.iter().map(|(key, value)| (sha256(key), sha256(value))).collect();
            prop_assert_eq!(state_root(&mut pairs), root);
            for key in 0..=u8::MAX {
                let (proof, value) = (tree.prove(&[key]), map.get(&[key][..]).map(Vec::as_slice));
                prop_assert_eq!(StateProof::decode(&proof.encode()), Ok(proof.clone()));
                prop_assert_eq!(proof.verify(&root, &[key], value), Ok(()));
                let lie = if value.is_some() { None } else { Some(&b"?"[..]) };
                prop_assert!(proof.verify(&root, &[key], lie).is_err());
                prop_assert!(proof.verify(&root, &[key], Some(b"other")).is_err());
            }
        }

        #[test]
        fn random_bytes_never_panic(proof in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(proof) = StateProof::decode(&proof) {
                let _ = proof.verify(&[0; 32], b"key", None);
            }
        }
    }
}
