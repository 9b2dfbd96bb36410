//! Root of a whole state that is read from its beginning to its end, without a tree.

use std::collections::BTreeMap;
use tally_contracts::{GENESIS_KEY, views};
use tally_evidence::{Hash, KeyScheme, sha256, state_root};

/// Hashes of what was read. 64 bytes of memory a key; twice that for those before the record of the genesis, which says how they are
/// hashed: accounts, the registry and what is known of devices.
#[derive(Debug, Default)]
pub(crate) struct StateSum {
    scheme: Option<KeyScheme>,
    /// By each scheme; behind the genesis only by its own.
    pairs: [Vec<(Hash, Hash)>; KeyScheme::ALL.len()],
    count: u64,
}

impl StateSum {
    /// Adds the next pairs, in the order of their keys.
    pub fn add(&mut self, pairs: &[(Vec<u8>, Vec<u8>)]) {
        for (key, value) in pairs {
            self.count += 1;
            let hash = sha256(value);
            for (scheme, pairs) in KeyScheme::ALL.into_iter().zip(&mut self.pairs) {
                if self.scheme.is_none_or(|own| own == scheme) {
                    pairs.push((scheme.key_hash(key), hash));
                }
            }
            if key.as_slice() == GENESIS_KEY {
                // One that cannot be read gives another root than any that was sealed.
                let said = views::key_scheme(&BTreeMap::from([(key.clone(), value.clone())]));
                self.begin(said.unwrap_or_default());
            }
        }
    }

    fn begin(&mut self, own: KeyScheme) {
        self.scheme = Some(own);
        for (scheme, pairs) in KeyScheme::ALL.into_iter().zip(&mut self.pairs) {
            if scheme != own {
                *pairs = Vec::new();
            }
        }
    }

    /// Number of pairs.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The root over all of them.
    pub fn root(self) -> Hash {
        let own = self.scheme.unwrap_or_default();
        let pairs = KeyScheme::ALL.into_iter().zip(self.pairs).find(|(scheme, _)| *scheme == own);
        pairs.map_or([0; 32], |(scheme, mut pairs)| state_root(scheme, &mut pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_contracts::{Block, Genesis, Input, Kernel, Overlay, genesis_body};
    use tally_evidence::{KeyId, StateTree};
    use tally_model::{PartyId, Timestamp};

    #[test]
    fn it_is_the_root_of_the_tree_of_the_schemes_own() {
        for keys in KeyScheme::ALL {
            let (empty, ledger) = (BTreeMap::new(), PartyId::try_new("ledger").unwrap());
            let (mut overlay, genesis) = (Overlay::new(&empty), genesis_body(&Genesis { keys, ..Genesis::default() }));
            let input = Input::Call { entry: 0, signer: &ledger, key: KeyId([0; 32]), body: &genesis };
            let block = Block { ledger: ledger.to_string(), height: 0, time: Timestamp::from_micros(0) };
            Kernel::new().execute(&mut overlay, &block, &input).unwrap();
            let mut state: BTreeMap<Vec<u8>, Vec<u8>> =
                overlay.into_changes().into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
            // Before and behind the record of the genesis, of a group and of none.
            for number in 1..40_u64 {
                state.insert(format!("aescrow:mo-{number}").into_bytes(), vec![1]);
                state.insert([b"mmo\0", &number.to_be_bytes()[..]].concat(), vec![2]);
                state.insert([b"d", &number.to_be_bytes()[..]].concat(), vec![3]);
                state.insert([b"o", &number.to_be_bytes()[..]].concat(), vec![4]);
            }
            let pairs: Vec<_> = state.clone().into_iter().collect();
            let mut sum = StateSum::default();
            pairs.chunks(7).for_each(|piece| sum.add(piece));
            let mut tree = StateTree::new(keys);
            tree.apply(state.iter().map(|(key, value)| (key.as_slice(), Some(value.as_slice()))));
            assert_eq!((sum.count(), sum.root()), (state.len() as u64, tree.root()), "{keys:?}");
        }
        let mut sum = StateSum::default();
        assert_eq!(StateSum::default().root(), [0; 32]);
        sum.add(&[(b"a".to_vec(), b"1".to_vec())]);
        let mut tree = StateTree::default();
        tree.apply([(&b"a"[..], Some(&b"1"[..]))]);
        assert_eq!(sum.root(), tree.root());
    }
}
