//! Where a key of the state stands in the tree, and how the tree is hashed. A ledger has one scheme for ever, by the word of its
//! genesis; those from before there were two have the first.
//!
//! ```text
//! scattered   k    = SHA-256(key)
//!             leaf = SHA-256(0x00 ‖ k ‖ v)     inner node = SHA-256(0x01 ‖ bit ‖ left ‖ right)
//! grouped     k    = 0 ‖ SHA-256(key) without its first bit                                             a key of no group
//!             k    = 1 ‖ SHA-256(group) bits 1 to 63 ‖ SHA-256(key) bits 0 to 191                       a key of a group
//!             leaf = SHA-256(0x02 ‖ k ‖ v)     inner node = SHA-256(0x03 ‖ bit ‖ left ‖ right)
//! ```
//! **Why groups.** What is hashed alone has no neighbours: an agreement, its term and its money lie in three far-off parts of a large
//! tree, and each is read, hashed and written for itself. In a group they are neighbours, with those of the agreements opened next.
//! **Which group.** `prefix ‖ 0x00 ‖ number >> 4` (eight bytes, big-endian) of the agreement or round in the key; see [`group_of`]. No
//! group grows without end: of an agreement there are its record, its term, its account and its first steps.
//! **Why other hashes.** A tree answers for keys by where they stand. If both schemes hashed alike, a way to the place that the
//! other scheme gives a key would show that it is absent. As it is a root is of one scheme, and a proof fits no root of the other
//! (but where a tree has one key alone, at a place that both give it: then every other key is absent from both).
//! **No two keys share a place.** In a group there are fewer keys than 2⁸⁰, told apart by 192 bits; keys of no group by 255.

use crate::state_tree::Leaf;
use crate::{Hash, sha256};
use sha2::{Digest, Sha256};

/// Agreements of a group, as a power of two.
const GROUP_BITS: u32 = 4;
/// Steps of an agreement below this number are in its group.
const STEPS_GROUPED: u64 = 8;
/// What a key that is in a group has set in its first byte.
const GROUPED_BIT: u8 = 0x80;

/// How a ledger's state tree is hashed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyScheme {
    /// Every key by itself.
    #[default]
    Scattered,
    /// What belongs to an agreement together, with its neighbours.
    Grouped,
}

impl KeyScheme {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Scattered, Self::Grouped];

    /// Its number in a genesis.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::Scattered => 1,
            Self::Grouped => 2,
        }
    }

    /// The scheme with this number.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.number() == number)
    }

    /// Where `key` stands in the tree.
    #[must_use]
    pub fn key_hash(self, key: &[u8]) -> Hash {
        KeyHasher::new(self).hash(key)
    }

    pub(crate) fn leaf_hash(self, leaf: &Leaf) -> Hash {
        let first = match self {
            Self::Scattered => 0x00,
            Self::Grouped => 0x02,
        };
        Sha256::new().chain_update([first]).chain_update(leaf.key).chain_update(leaf.value).finalize().into()
    }

    /// Hash of the inner node where the keys part at `bit`.
    #[must_use]
    pub fn node_hash(self, bit: u8, left: &Hash, right: &Hash) -> Hash {
        let first = match self {
            Self::Scattered => 0x01,
            Self::Grouped => 0x03,
        };
        Sha256::new().chain_update([first, bit]).chain_update(left).chain_update(right).finalize().into()
    }
}

/// Hashes keys one after the other. Neighbours are often of one group, whose hash is then made once.
#[derive(Debug)]
pub(crate) struct KeyHasher<'a> {
    scheme: KeyScheme,
    last: Option<(Group<'a>, Hash)>,
}

impl<'a> KeyHasher<'a> {
    pub(crate) const fn new(scheme: KeyScheme) -> Self {
        Self { scheme, last: None }
    }

    pub(crate) fn hash(&mut self, key: &'a [u8]) -> Hash {
        let own = sha256(key);
        if self.scheme == KeyScheme::Scattered {
            return own;
        }
        let Some(group) = Group::of(key) else { return ungrouped(own) };
        let near = match &self.last {
            Some((last, near)) if *last == group => *near,
            _ => self.last.insert((group, group.hash())).1,
        };
        grouped(near, &own)
    }
}

fn ungrouped(mut own: Hash) -> Hash {
    own[0] &= !GROUPED_BIT;
    own
}

fn grouped(mut near: Hash, own: &Hash) -> Hash {
    near[0] |= GROUPED_BIT;
    near[8..].copy_from_slice(&own[..24]);
    near
}

/// What keys have in common that stand side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Group<'a> {
    prefix: &'a [u8],
    number: u64,
}

impl<'a> Group<'a> {
    /// See [`group_of`].
    fn of(key: &'a [u8]) -> Option<Self> {
        let (kind, rest) = key.split_first()?;
        match kind {
            b'm' | b'S' => Self::numbered(rest).and_then(|(group, behind)| behind.is_empty().then_some(group)),
            b't' => Self::numbered(rest.get(8..)?).and_then(|(group, behind)| behind.is_empty().then_some(group)),
            b'h' => {
                let (group, step) = Self::numbered(rest)?;
                (u64::from_be_bytes(step.try_into().ok()?) < STEPS_GROUPED).then_some(group)
            }
            b'a' => Self::escrow(rest.strip_prefix(b"escrow:")?),
            _ => None,
        }
    }

    /// Of `prefix 00 number`, and what stands behind.
    fn numbered(rest: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let end = rest.iter().position(|byte| *byte == 0).filter(|end| *end > 0)?;
        let (number, behind) = rest.get(end + 1..)?.split_first_chunk()?;
        Some((Self { prefix: &rest[..end], number: u64::from_be_bytes(*number) >> GROUP_BITS }, behind))
    }

    /// Of an agreement's id as people write it.
    fn escrow(id: &'a [u8]) -> Option<Self> {
        let dash = id.iter().rposition(|byte| *byte == b'-').filter(|dash| *dash > 0)?;
        let (prefix, digits) = (&id[..dash], &id[dash + 1..]);
        let is_plain = digits.iter().all(u8::is_ascii_digit) && !digits.starts_with(b"0") && !prefix.contains(&0);
        let number: u64 = std::str::from_utf8(digits).ok().filter(|_| is_plain)?.parse().ok()?;
        Some(Self { prefix, number: number >> GROUP_BITS })
    }

    fn bytes(&self) -> Vec<u8> {
        [self.prefix, &[0], &self.number.to_be_bytes()].concat()
    }

    fn hash(&self) -> Hash {
        sha256(&self.bytes())
    }
}

/// The group of a key in a tree of scheme [`KeyScheme::Grouped`]; `None` when it has none.
///
/// ```text
/// m prefix 00 number            S prefix 00 number            t due (8 bytes) prefix 00 number
/// h prefix 00 number step       step below 8, nothing behind it
/// a escrow:PREFIX-NUMBER        decimal, no 0 in front, below 2⁶⁴; the last `-` counts
/// ```
/// Numbers are eight bytes, big-endian; the prefix is not empty and ends at the first 0x00.
#[must_use]
pub fn group_of(key: &[u8]) -> Option<Vec<u8>> {
    Group::of(key).map(|group| group.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KINDS: [&[u8]; 4] = [b"m", b"S", b"h", b"t\0\0\0\0mo\0\0"];

    fn key(kind: &[u8], number: u64, behind: &[u8]) -> Vec<u8> {
        [kind, b"mo\0", &number.to_be_bytes(), behind].concat()
    }

    #[test]
    fn what_belongs_to_an_agreement_stands_together() {
        let group = Some([&b"mo\0"[..], &2_u64.to_be_bytes()].concat());
        let step = |number: u64| key(b"h", 40, &number.to_be_bytes());
        let near = [
            key(b"m", 32, b""),
            key(b"m", 47, b""),
            key(b"S", 40, b""),
            key(b"t\0\0\0\0mo\0\x01", 40, b""),
            step(2),
            step(7),
            b"aescrow:mo-47".to_vec(),
        ];
        let places = near.clone().map(|key| KeyScheme::Grouped.key_hash(&key));
        for (key, place) in near.iter().zip(places) {
            assert_eq!(group_of(key), group, "{}", key.escape_ascii());
            assert_eq!(place[..8], places[0][..8]);
            assert!(place[0] & GROUPED_BIT != 0 && place[8..] == sha256(key)[..24]);
        }
        let alone = [
            step(8),
            key(b"h", 40, b"\0\0\0\0\0\0\0\x02\0"),
            key(b"h", 40, b""),
            key(b"m", 40, b"\0"),
            key(b"t\0\0\0\0mo\0\x01", 40, b"\0"),
            b"m\0\0\0\0\0\0\0\0\0".to_vec(),
            b"aescrow:mo-047".to_vec(),
            b"aescrow:mo-0".to_vec(),
            b"aescrow:mo-".to_vec(),
            b"aescrow:-47".to_vec(),
            b"aescrow:mo-+7".to_vec(),
            b"aescrow:mo-18446744073709551616".to_vec(),
            b"aacme/EUR".to_vec(),
            b"omaintenance-order\0press-01\0".to_vec(),
            Vec::new(),
        ];
        for key in alone {
            assert_eq!(group_of(&key), None, "{}", key.escape_ascii());
            let (place, own) = (KeyScheme::Grouped.key_hash(&key), sha256(&key));
            assert!(place[0] == own[0] & 0x7f && place[1..] == own[1..]);
        }
        assert_eq!(group_of(b"aescrow:a-b-17"), Some(b"a-b\0\0\0\0\0\0\0\0\x01".to_vec()));
    }

    #[test]
    fn numbers_stand_for_schemes() {
        assert_eq!(
            [0, 1, 2, 3].map(KeyScheme::from_number),
            [None, Some(KeyScheme::Scattered), Some(KeyScheme::Grouped), None]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_place(keys in proptest::collection::vec(prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            (proptest::sample::select(KINDS.to_vec()), 0_u64..99, any::<Option<[u8; 8]>>())
                .prop_map(|(kind, number, behind)| key(kind, number, behind.as_ref().map_or(&[], |behind| &behind[..]))),
            "escrow:[a-z]{0,2}-[0-9]{0,22}".prop_map(|id| [b"a", id.as_bytes()].concat()),
        ], 0..30)) {
            for scheme in KeyScheme::ALL {
                let mut hasher = KeyHasher::new(scheme);
                for key in &keys {
                    prop_assert_eq!(hasher.hash(key), scheme.key_hash(key));
                }
            }
            for key in &keys {
                let place = KeyScheme::Grouped.key_hash(key);
                prop_assert_eq!(place[0] & GROUPED_BIT != 0, group_of(key).is_some());
            }
        }
    }
}
