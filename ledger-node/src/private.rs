//! The private fields of calls in clear, as long as they may be kept: one file a field, beside the ledger and never in it.
//!
//! ```text
//! private/STATEMENT-DIGEST           an opening: its SHA-256 is DIGEST, and the call STATEMENT commits to that
//! private/STATEMENT-DIGEST.pending   the same, while it is not known yet whether the call was done
//! ```
//! **Kept.** An opening is on the disk, pending, before its statement is queued; it gets its name when the call was done, and is erased
//! when it was refused. **Purged.** Once the purge is in the ledger the file is written over, synced and deleted, and only then does
//! anybody get an answer. **When we die** anywhere in between, the next opening of the ledger ends it ([`PrivateFields::tidy`]): what
//! may be kept stands in the state. **Bounded:** an opening has at most 64 KiB, a call 64 of them; retention takes them with their
//! statements.

use crate::retain::FileFault;
use crate::store::{CommitError, FORMAT_PRIVATE, IndexFault, Store, raise_format};
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tally_contracts::{PrivateField, all_purged, fields_of};
use tally_evidence::{Commitment, Hash, Opening, StatementId};
use tally_journal::files::sync_folder;

/// Folder of the openings inside the data folder.
pub const FOLDER: &str = "private";
const PENDING: &str = ".pending";
/// Bytes written over at once.
const PIECE_BYTES: usize = 1 << 12;

/// Why private fields cannot be looked after.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileFault),
    /// What may be kept is not known.
    #[error(transparent)]
    Index(#[from] IndexFault),
    /// The state cannot be read.
    #[error("the state cannot be read: {0}")]
    State(String),
    /// The ledger stands on disks of a test.
    #[error("this ledger has no data folder, and so no place for private fields")]
    NoFolder,
}

/// The name of an opening's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpeningName {
    /// The call.
    pub statement: StatementId,
    /// SHA-256 of the file.
    pub digest: Hash,
}

impl OpeningName {
    /// The file's name.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{}-{}", self.statement, hex::encode(self.digest))
    }

    /// Of a file's name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (statement, digest) = name.split_once('-')?;
        let digest = hex::decode(digest).ok()?.try_into().ok()?;
        let found = Self { statement: statement.parse().ok()?, digest };
        (found.file() == name).then_some(found)
    }
}

/// The folder.
#[derive(Debug)]
pub(crate) struct PrivateFields {
    /// None on the disks of a test.
    folder: Option<PathBuf>,
    /// Held while a file gets another name or goes: what the state says then still holds.
    moving: Mutex<()>,
}

impl PrivateFields {
    pub fn of(data: Option<&Path>) -> Self {
        Self { folder: data.map(|data| data.join(FOLDER)), moving: Mutex::new(()) }
    }

    /// Takes what opens fields of a statement, before it is queued. On `Ok` it is on the disk.
    pub fn offer(
        &self,
        store: &Store,
        statement: StatementId,
        openings: &[(Commitment, &[u8])],
    ) -> Result<(), PrivateError> {
        let folder = self.folder.as_deref().ok_or(PrivateError::NoFolder)?;
        let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        // Of a call that is in the ledger only what may still be kept: a purged field does not come back.
        let held = store.entry_of(&statement)?.map(|entry| held(store, entry)).transpose()?;
        let data = folder.parent().unwrap_or(folder);
        raise_format(data, FORMAT_PRIVATE).map_err(|source| FileFault::io(&data.join("FORMAT"), source))?;
        make_folder(folder)?;
        for (commitment, opening) in openings {
            let name = OpeningName { statement, digest: commitment.0 };
            let is_held = held.as_ref().is_none_or(|held| held.iter().any(|field| field.commitment == *commitment));
            if is_held && !matches!(self.read(&name), Ok(Some(_))) {
                let file = folder.join(name.file() + PENDING);
                at(&file, write(&file, opening))?;
            }
        }
        Ok(at(folder, sync_folder(folder))?)
    }

    /// What came of a statement is known: its openings are kept, or erased. While it is not in the ledger nothing is done.
    pub fn settle(&self, store: &Store, statement: StatementId) -> Result<(), PrivateError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        self.settle_some(store, folder, |name| name.statement == statement, false)
    }

    /// A statement was turned away; unless another sending of it is on its way, its openings go.
    pub fn withdraw(&self, store: &Store, statement: StatementId) -> Result<(), PrivateError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        self.settle_some(store, folder, |name| name.statement == statement, true)
    }

    fn settle_some(
        &self,
        store: &Store,
        folder: &Path,
        is_wanted: impl Fn(&OpeningName) -> bool,
        is_final: bool,
    ) -> Result<(), PrivateError> {
        let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, pending) in names(folder)?.into_iter().filter(|(name, pending)| *pending && is_wanted(name)) {
            debug_assert!(pending);
            let file = folder.join(name.file() + PENDING);
            match store.entry_of(&name.statement)? {
                None if !is_final => {}
                Some(entry) if held(store, entry)?.iter().any(|field| is_opening_of(&file, field)) => {
                    // If the power goes before the new name is on the disk, the next opening does it again.
                    at(&file, fs::rename(&file, folder.join(name.file())))?;
                }
                _ => erase(&file)?,
            }
        }
        Ok(())
    }

    /// A field was purged: its file goes, and when this returns it is gone from the disk.
    pub fn purge(&self, store: &Store, entry: u64, field: &str) -> Result<(), PrivateError> {
        let of_entry = fields(store, entry)?;
        match of_entry.iter().find(|found| found.field == field && found.purged.is_some()) {
            Some(found) => self.erase_field(store, found),
            None => Ok(()),
        }
    }

    fn erase_field(&self, store: &Store, field: &PrivateField) -> Result<(), PrivateError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let Some(statement) = store.id_of(field.entry)? else { return Ok(()) };
        let name = OpeningName { statement, digest: field.commitment.0 }.file();
        let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        erase(&folder.join(name.clone() + PENDING))?;
        Ok(erase(&folder.join(name))?)
    }

    /// Ends what was interrupted: purges, and calls that were on their way. Nobody else is at the folder yet.
    pub fn tidy(&self, store: &Store) -> Result<(), PrivateError> {
        let Some(folder) = self.folder.as_deref().filter(|folder| folder.is_dir()) else { return Ok(()) };
        self.settle_some(store, folder, |_| true, true)?;
        let state = store.state()?;
        let purged = all_purged(&state).map_err(|refusal| PrivateError::State(refusal.to_string()))?;
        state.check()?;
        purged.iter().try_for_each(|field| self.erase_field(store, field))
    }

    /// Erases what opens fields of statements that were pruned.
    pub fn forget_pruned(&self, store: &Store) -> Result<(), PrivateError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        for (name, _) in names(folder)?.into_iter().filter(|(_, pending)| !pending) {
            let Some(entry) = store.entry_of(&name.statement)? else { continue };
            let Some(place) = store.place_of(entry)?.filter(|place| place.height < store.kept_below()) else {
                continue;
            };
            if matches!(store.statement(&place), Err(CommitError::Pruned(_))) {
                let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
                erase(&folder.join(name.file()))?;
            }
        }
        Ok(())
    }

    /// An opening that is kept.
    ///
    /// # Errors
    /// [`FileFault`], also when the bytes are not those that were sealed; the file is named.
    pub fn read(&self, name: &OpeningName) -> Result<Option<Vec<u8>>, FileFault> {
        let Some(folder) = &self.folder else { return Ok(None) };
        read(&folder.join(name.file()), name)
    }
}

/// Reads an opening and compares it with its name.
pub(crate) fn read(file: &Path, name: &OpeningName) -> Result<Option<Vec<u8>>, FileFault> {
    match fs::read(file) {
        Ok(opening) if Commitment::to(&opening).0 == name.digest => Ok(Some(opening)),
        Ok(_) => Err(FileFault::content(file, "its bytes are not what was sealed (SHA-256)")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileFault::io(file, error)),
    }
}

/// The openings in a folder, and whether each is pending.
pub(crate) fn names(folder: &Path) -> Result<BTreeSet<(OpeningName, bool)>, FileFault> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries.map_err(|source| FileFault::io(folder, source))?,
    };
    let mut found = BTreeSet::new();
    for entry in entries {
        let name = entry.map_err(|source| FileFault::io(folder, source))?.file_name();
        let Some(name) = name.to_str() else { continue };
        let (stem, pending) = name.strip_suffix(PENDING).map_or((name, false), |stem| (stem, true));
        found.extend(OpeningName::parse(stem).map(|name| (name, pending)));
    }
    Ok(found)
}

/// Puts an opening into a data folder that no node has open; the next opening of the ledger decides whether it may stay.
pub(crate) fn bring_back(data: &Path, name: &OpeningName, opening: &[u8]) -> Result<(), FileFault> {
    let folder = data.join(FOLDER);
    make_folder(&folder)?;
    let file = folder.join(name.file() + PENDING);
    at(&file, write(&file, opening))?;
    at(&folder, sync_folder(&folder))
}

/// Makes an opening pending again; the next opening of the ledger decides whether it may stay.
pub(crate) fn doubt(data: &Path, name: &str) -> Result<(), FileFault> {
    let file = data.join(FOLDER).join(name);
    at(&file, fs::rename(&file, data.join(FOLDER).join(name.to_owned() + PENDING)))
}

fn held(store: &Store, entry: u64) -> Result<Vec<PrivateField>, PrivateError> {
    let mut fields = fields(store, entry)?;
    fields.retain(|field| field.purged.is_none());
    Ok(fields)
}

/// The private fields of an entry.
pub(crate) fn fields(store: &Store, entry: u64) -> Result<Vec<PrivateField>, PrivateError> {
    let state = store.state()?;
    let fields = fields_of(&state, entry);
    state.check()?;
    fields.map_err(|refusal| PrivateError::State(refusal.to_string()))
}

/// Whether the file, which may be torn, opens the field.
fn is_opening_of(file: &Path, field: &PrivateField) -> bool {
    let Ok(bytes) = fs::read(file) else { return false };
    Commitment::to(&bytes) == field.commitment && Opening::decode(&bytes).is_ok_and(|found| found.name == field.field)
}

/// For the node's user alone.
fn make_folder(folder: &Path) -> Result<(), FileFault> {
    if folder.is_dir() {
        return Ok(());
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    at(folder, made.and_then(|()| sync_folder(folder.parent().unwrap_or(folder))))
}

fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    out.write_all(bytes)?;
    out.sync_all()
}

/// Writes over a file, syncs, deletes it and syncs the folder; one that is not there is erased already.
///
/// What the disk itself keeps of it (flash that moves blocks, snapshots of a volume) is out of reach of a program.
fn erase(file: &Path) -> Result<(), FileFault> {
    let over = || {
        let mut out = match OpenOptions::new().write(true).open(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            out => out?,
        };
        let mut left = usize::try_from(out.metadata()?.len()).unwrap_or(usize::MAX);
        while left > 0 {
            let piece = left.min(PIECE_BYTES);
            out.write_all(&[0; PIECE_BYTES][..piece])?;
            left -= piece;
        }
        out.sync_all()?;
        fs::remove_file(file)?;
        sync_folder(file.parent().unwrap_or(file))
    };
    at(file, over())
}

fn at<T>(file: &Path, done: io::Result<T>) -> Result<T, FileFault> {
    done.map_err(|source| FileFault::io(file, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_erased_is_written_over_first() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&file, vec![7; 10_000]).unwrap();
        // A second name of the same bytes shows what was done to them.
        fs::hard_link(&file, &other).unwrap();
        erase(&file).unwrap();
        assert!(!file.exists());
        assert_eq!(fs::read(&other).unwrap(), vec![0; 10_000]);
        erase(&file).unwrap();
    }

    proptest! {
        #[test]
        fn names_round_trip_and_nothing_else_is_one(statement: [u8; 32], digest: [u8; 32], other in "[0-9a-fA-F-]{0,140}") {
            let name = OpeningName { statement: StatementId(statement), digest };
            prop_assert_eq!(OpeningName::parse(&name.file()), Some(name));
            prop_assert_eq!(OpeningName::parse(&name.file().to_uppercase()).is_some(), name.file() == name.file().to_uppercase());
            prop_assert!(OpeningName::parse(&other).is_none_or(|name| name.file() == other));
        }
    }
}
