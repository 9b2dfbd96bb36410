//! Proof of what a key of the state is, or that it is not there: the way from the root of the tree ([`crate::StateTree`]) to where
//! the key leads.

use crate::cbor::{self, Cbor, CborFault, Fields, bytes, int, map};
use crate::key_scheme::KeyScheme;
use crate::state_tree::{EMPTY_STATE, Leaf, bit_of};
use crate::{Hash, sha256};

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

    /// Checks that in the state with this `root` the value of `key` is `value`; `None`: that it is not there. By which scheme the
    /// tree is hashed the root itself says: a way leads to it by one at most.
    ///
    /// # Errors
    /// [`StateProofFault`].
    pub fn verify(&self, root: &Hash, key: &[u8], value: Option<&[u8]>) -> Result<(), StateProofFault> {
        let Some(leaf) = self.leaf else { return self.verify_empty(root, value) };
        let scheme = KeyScheme::ALL.into_iter().find(|scheme| self.root(*scheme, leaf) == *root);
        let (found, value_hash) = leaf;
        let key = scheme.ok_or(StateProofFault::Root)?.key_hash(key);
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
        Ok(())
    }

    /// Where the way up from this leaf leads.
    fn root(&self, scheme: KeyScheme, (key, value): (Hash, Hash)) -> Hash {
        let mut hash = scheme.leaf_hash(&Leaf { key, value });
        for (bit, sibling) in self.steps.iter().rev() {
            let (left, right) = if bit_of(&key, *bit) { (sibling, &hash) } else { (&hash, sibling) };
            hash = scheme.node_hash(*bit, left, right);
        }
        hash
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

    proptest! {
        #[test]
        fn random_bytes_never_panic(proof in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(proof) = StateProof::decode(&proof) {
                let _ = proof.verify(&[0; 32], b"key", None);
            }
        }
    }
}
