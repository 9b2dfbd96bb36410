//! What a witness remembers, in files that people can read.
//!
//! ```text
//! DATA/LOCK                  held while a witness runs
//! DATA/HASH.note             the last note cosigned, with the log's signature and ours; HASH = SHA-256 of the origin, hexadecimal
//! DATA/HASH.alarm.split      proof that the log has two histories: while it stands here nothing of this log is cosigned
//! DATA/HASH.doubt.split      the last two notes with a path that leads nowhere: no proof (`docs/formats/witness.md`), no alarm
//! DATA/settled/HASH.N.split  alarms that an operator settled
//! ```
//! **Who writes, who deletes.** The witness replaces files whole and syncs them before it answers; `tally witness settle` moves alarms away,
//! while the witness is stopped. **Limits.** Three files of at most 130 KiB a log; settled ones stay.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use tally_evidence::{LogKey, NoteFault, SignedNote, SplitFile, sha256};
use tally_journal::files;

/// Why what was remembered is of no use.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The system says no.
    #[error("{}: {source}", file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else is at the folder.
    #[error("{} is in use by another witness", folder.display())]
    InUse {
        /// Which folder.
        folder: PathBuf,
    },
    /// A file was changed, or the log's key was.
    #[error(
        "{}: {fault}; it was changed, or `key` of this log is another than the one it was cosigned with: put the key back, or \
         `tally witness settle --forget` to begin anew with this log",
        file.display()
    )]
    Note {
        /// Which file.
        file: PathBuf,
        /// What is wrong.
        fault: NoteFault,
    },
    /// There is nothing to settle.
    #[error("there is no alarm about {origin} in {}", folder.display())]
    NoAlarm {
        /// Which log.
        origin: String,
        /// Where it would stand.
        folder: PathBuf,
    },
}

/// The folder, locked as long as this lives.
pub struct Records {
    folder: PathBuf,
    _lock: File,
}

/// What `settle` did.
#[derive(Debug, PartialEq, Eq)]
pub struct Settled {
    /// Where the alarm's proof is kept now, if there was one.
    pub kept: Option<PathBuf>,
    /// Whether the last cosigned note was forgotten.
    pub is_forgotten: bool,
}

/// Name of a log's files, and its path in the API: SHA-256 of its origin.
pub fn hash_of(origin: &str) -> String {
    hex::encode(sha256(origin.as_bytes()))
}

impl Records {
    /// Opens the folder, made when missing.
    ///
    /// # Errors
    /// [`RecordError::Io`], [`RecordError::InUse`].
    pub fn open(folder: &Path) -> Result<Self, RecordError> {
        let at = |file: &Path, source| RecordError::Io { file: file.to_owned(), source };
        fs::create_dir_all(folder).map_err(|source| at(folder, source))?;
        let file = folder.join("LOCK");
        let lock = File::create(&file).map_err(|source| at(&file, source))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder: folder.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(RecordError::InUse { folder: folder.to_owned() }),
            Err(TryLockError::Error(source)) => Err(at(&file, source)),
        }
    }

    fn path(&self, origin: &str, ending: &str) -> PathBuf {
        self.folder.join(format!("{}.{ending}", hash_of(origin)))
    }

    /// The last note cosigned of this log.
    ///
    /// # Errors
    /// [`RecordError`], also when it is not this log's.
    pub fn last(&self, log: &LogKey) -> Result<Option<SignedNote>, RecordError> {
        let file = self.path(log.origin(), "note");
        let text = files::read(&file).map_err(|source| RecordError::Io { file: file.clone(), source })?;
        let note = text.map(|text| SignedNote::parse(&text).and_then(|note| log.check(&note).map(|_| note)));
        note.transpose().map_err(|fault| RecordError::Note { file, fault })
    }

    /// Where the proof of two histories stands, if there is one.
    pub fn alarm(&self, origin: &str) -> Option<PathBuf> {
        Some(self.path(origin, "alarm.split")).filter(|file| file.exists())
    }

    /// Keeps the note just cosigned; it is on the disk when this returns.
    ///
    /// # Errors
    /// [`RecordError::Io`]; what is on the disk then is the old one or the new one.
    pub fn cosigned(&self, origin: &str, note: &SignedNote) -> Result<(), RecordError> {
        self.replace(&format!("{}.note", hash_of(origin)), note.to_string().as_bytes()).map(|_| ())
    }

    /// Keeps two notes that do not fit together; says where. The first alarm stays: what follows from it proves no more.
    ///
    /// # Errors
    /// [`RecordError::Io`].
    pub fn contradiction(&self, split: &SplitFile, is_proved: bool) -> Result<PathBuf, RecordError> {
        let origin = split.log.origin();
        if let Some(file) = self.alarm(origin).filter(|_| is_proved) {
            return Ok(file);
        }
        let kind = if is_proved { "alarm" } else { "doubt" };
        self.replace(&format!("{}.{kind}.split", hash_of(origin)), &split.encode())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, RecordError> {
        let file = self.folder.join(name);
        let replaced = files::replace(&file, bytes);
        replaced.map(|()| file.clone()).map_err(|source| RecordError::Io { file, source })
    }

    /// An operator has looked at the alarm: the log is cosigned again. With `forget` from its next note on, whatever it is.
    ///
    /// # Errors
    /// [`RecordError::NoAlarm`] when there is nothing to do.
    pub fn settle(&self, origin: &str, forget: bool) -> Result<Settled, RecordError> {
        let note = self.path(origin, "note");
        let (alarm, has_note) = (self.alarm(origin), note.exists());
        if alarm.is_none() && !(forget && has_note) {
            return Err(RecordError::NoAlarm { origin: origin.to_owned(), folder: self.folder.clone() });
        }
        let io = |source| RecordError::Io { file: self.folder.clone(), source };
        let settled = self.folder.join("settled");
        fs::create_dir_all(&settled).map_err(io)?;
        let free = |ending: &str| {
            let names = (1..u32::MAX).map(|number| settled.join(format!("{}.{number}.{ending}", hash_of(origin))));
            names.into_iter().find(|file| !file.exists()).unwrap_or_else(|| settled.join(hash_of(origin)))
        };
        if forget && has_note {
            fs::rename(&note, free("note")).map_err(io)?;
        }
        let kept = alarm.map(|alarm| (alarm, free("split")));
        if let Some((alarm, kept)) = &kept {
            fs::rename(alarm, kept).map_err(io)?;
        }
        for folder in [&settled, &self.folder] {
            files::sync_folder(folder).map_err(io)?;
        }
        Ok(Settled { kept: kept.map(|(_, kept)| kept), is_forgotten: forget && has_note })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_evidence::{SigningKey, TreeNote};

    #[test]
    fn one_witness_a_folder_and_the_wrong_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::from_secret(&[5; 32]).unwrap();
        let note = TreeNote { origin: "press-line".to_owned(), size: 9, root: [7; 32] }.seal(&key);
        let log = LogKey::new("press-line".to_owned(), key.public().clone().into());
        let records = Records::open(dir.path()).unwrap();
        assert!(matches!(Records::open(dir.path()), Err(RecordError::InUse { .. })));
        assert!(records.last(&log).unwrap().is_none());
        records.cosigned("press-line", &SignedNote::parse(&note).unwrap()).unwrap();
        drop(records);
        let records = Records::open(dir.path()).unwrap();
        assert_eq!(records.last(&log).unwrap().unwrap().to_string(), note);
        let other = SigningKey::from_secret(&[6; 32]).unwrap();
        let other = LogKey::new("press-line".to_owned(), other.public().clone().into());
        assert!(matches!(records.last(&other), Err(RecordError::Note { fault: NoteFault::Unsigned, .. })));
        assert!(matches!(records.settle("press-line", false), Err(RecordError::NoAlarm { .. })));
        assert_eq!(records.settle("press-line", true).unwrap(), Settled { kept: None, is_forgotten: true });
        assert!(records.last(&log).unwrap().is_none());
    }
}
