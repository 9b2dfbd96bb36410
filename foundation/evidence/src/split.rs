//! The split file: two checkpoints that one log signed and that cannot both be true. CDDL: `docs/formats/split.cddl`.
//!
//! Two roots of one size prove it by themselves. Of two sizes a consistency path proves it that leads to the root of the larger tree
//! and, on the way, to *another* root of the smaller: the larger tree's hashes are bound by its signed root, so its beginning is not the
//! smaller tree. A path that leads nowhere proves nothing: whoever has two honest checkpoints can write one.

use crate::cbor::{self, Cbor, CborFault, Fields, bytes, int, map, text};
use crate::{Hash, KeyFault, LogKey, NoteFault, NoteVerifyingKey, SignedNote, TreeNote, root_from_consistency_path};

/// Version of the format; a reader refuses others.
const VERSION: u64 = 1;

/// Two signed notes of one log, the smaller one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitFile {
    /// The log and its key.
    pub log: LogKey,
    /// The notes, whole.
    pub notes: [String; 2],
    /// Of two sizes: the consistency path that was given between them.
    pub path: Option<Vec<Hash>>,
}

/// What a split file shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Two roots of one size: two histories.
    SameSize,
    /// The larger tree does not begin with the smaller: two histories.
    Rewritten,
    /// Both are the log's, and the path between them leads nowhere: no proof. The log must show a path that does.
    NotConnected,
    /// They are one history.
    OneHistory,
}

impl Split {
    /// Whether the log is proved to have signed two histories.
    #[must_use]
    pub const fn is_proved(self) -> bool {
        matches!(self, Self::SameSize | Self::Rewritten)
    }

    /// For people.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::SameSize => "the log signed two roots of one size: it has two histories",
            Self::Rewritten => "the larger tree does not begin with the smaller: the log has two histories",
            Self::NotConnected => "both are signed by the log, but the path given between them proves nothing",
            Self::OneHistory => "both are signed by the log and are one history",
        }
    }
}

/// Why a split file shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitFault {
    /// The CBOR is not what the CDDL says.
    #[error("not a split file: {0}")]
    Cbor(#[from] CborFault),
    /// A later or unknown format.
    #[error("split format version {0}; this program reads version {VERSION}")]
    Version(u64),
    /// The log's key is none.
    #[error("the log's key: {0}")]
    Key(#[from] KeyFault),
    /// One of the notes is not the log's.
    #[error("note {number}: {fault}")]
    Note {
        /// The first or the second.
        number: usize,
        /// Why.
        fault: NoteFault,
    },
}

impl SplitFile {
    /// What two notes of `log` show, smaller size first.
    #[must_use]
    pub fn new(log: LogKey, one: String, other: String, path: Option<Vec<Hash>>) -> Self {
        let size = |note: &str| SignedNote::parse(note).and_then(|note| note.tree()).map_or(0, |tree| tree.size);
        let notes = if size(&one) <= size(&other) { [one, other] } else { [other, one] };
        Self { log, notes, path }
    }

    /// Whether `bytes` say that they are one.
    #[must_use]
    pub fn is_one(bytes: &[u8]) -> bool {
        Fields::decode(bytes).is_ok_and(|mut fields| fields.take("tallystick-split").is_some())
    }

    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = vec![
            ("tallystick-split", int(VERSION)),
            ("origin", text(self.log.origin())),
            ("key", bytes(self.log.key().to_spki())),
            ("notes", Cbor::Array(self.notes.iter().map(|note| text(note.clone())).collect())),
        ];
        if let Some(path) = &self.path {
            fields.push(("path", Cbor::Array(path.iter().map(|hash| bytes(*hash)).collect())));
        }
        cbor::encode(&map(fields))
    }

    /// Reads a file strictly. Nothing is checked yet.
    ///
    /// # Errors
    /// [`SplitFault`].
    pub fn decode(file: &[u8]) -> Result<Self, SplitFault> {
        let mut fields = Fields::decode(file)?;
        let version = fields.int("tallystick-split")?;
        if version != VERSION {
            return Err(SplitFault::Version(version));
        }
        let log = LogKey::new(fields.text("origin")?, NoteVerifyingKey::from_spki(&fields.bytes("key")?)?);
        let wrong = |expected| CborFault::Type { field: "notes".to_owned(), expected };
        let notes = fields.array("notes")?.into_iter().map(|note| note.into_text().map_err(|_| wrong("texts")));
        let notes = notes.collect::<Result<Vec<_>, _>>()?.try_into().map_err(|_| wrong("two notes"))?;
        let path = fields.take("path").map(|path| cbor::hashes(path, "path")).transpose()?;
        fields.finish()?;
        Ok(Self { log, notes, path })
    }

    /// Checks both signatures and says what they show.
    ///
    /// # Errors
    /// [`SplitFault::Note`] when one is not the log's.
    pub fn check(&self) -> Result<(Split, [TreeNote; 2]), SplitFault> {
        let open = |number: usize| {
            let opened = TreeNote::open(&self.notes[number], &self.log);
            opened.map_err(|fault| SplitFault::Note { number: number + 1, fault })
        };
        let [one, other] = [open(0)?, open(1)?];
        Ok((judge(&one, &other, self.path.as_deref()), [one, other]))
    }
}

fn judge(one: &TreeNote, other: &TreeNote, path: Option<&[Hash]>) -> Split {
    if one.size == other.size {
        return if one.root == other.root { Split::OneHistory } else { Split::SameSize };
    }
    let Some(path) = path else { return Split::NotConnected };
    match root_from_consistency_path(one.size, other.size, one.root, path) {
        Some((from, to)) if to == other.root => {
            if from == one.root {
                Split::OneHistory
            } else {
                Split::Rewritten
            }
        }
        _ => Split::NotConnected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SigningKey, Tree, leaf_hash};
    use proptest::prelude::*;

    fn tree(entries: &[&str]) -> Tree {
        let mut tree = Tree::default();
        entries.iter().for_each(|entry| tree.push(leaf_hash(entry.as_bytes())));
        tree
    }

    fn signed(tree: &Tree, size: u64) -> String {
        let note = TreeNote { origin: "press-line".to_owned(), size, root: tree.root_at(size).unwrap() };
        note.seal(&SigningKey::from_secret(&[5; 32]).unwrap())
    }

    fn log() -> LogKey {
        let key = SigningKey::from_secret(&[5; 32]).unwrap();
        LogKey::new("press-line".to_owned(), key.public().clone().into())
    }

    #[test]
    fn two_histories_are_told_from_one_and_from_nonsense() {
        let (true_one, false_one) = (tree(&["a", "b", "c", "d", "e", "f"]), tree(&["a", "X", "c", "d", "e", "f"]));
        let check = |one: String, other: String, path| SplitFile::new(log(), one, other, path).check().unwrap().0;
        assert_eq!(check(signed(&true_one, 5), signed(&false_one, 5), None), Split::SameSize);
        assert_eq!(check(signed(&true_one, 5), signed(&true_one, 5), None), Split::OneHistory);
        let path = |tree: &Tree| tree.consistency_path(3, 6);
        assert_eq!(check(signed(&true_one, 6), signed(&true_one, 3), path(&true_one)), Split::OneHistory);
        assert_eq!(check(signed(&true_one, 3), signed(&false_one, 6), path(&false_one)), Split::Rewritten);
        assert_eq!(check(signed(&true_one, 3), signed(&true_one, 6), Some(vec![[0; 32]; 4])), Split::NotConnected);
        assert_eq!(check(signed(&true_one, 3), signed(&true_one, 6), None), Split::NotConnected);
    }

    #[test]
    fn a_file_round_trips_and_every_flipped_bit_is_noticed() {
        let (true_one, false_one) = (tree(&["a", "b", "c", "d", "e", "f"]), tree(&["a", "X", "c", "d", "e", "f"]));
        let file = SplitFile::new(log(), signed(&true_one, 3), signed(&false_one, 6), false_one.consistency_path(3, 6));
        let bytes = file.encode();
        assert!(SplitFile::is_one(&bytes));
        assert_eq!(SplitFile::decode(&bytes).unwrap(), file);
        for place in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[place / 8] ^= 1 << (place % 8);
            let shown = SplitFile::decode(&forged).and_then(|file| file.check());
            assert!(shown.is_err() || shown.is_ok_and(|(split, _)| !split.is_proved()), "bit {place}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = SplitFile::decode(&bytes).and_then(|file| file.check());
        }
    }
}
