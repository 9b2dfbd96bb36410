//! A file of records that is written once, in order, and is whole or not there: snapshots and kept files.
//!
//! ```text
//! magic [8] │ version u32 │ zero u32 │ per record: length u32, payload │ FF FF FF FF │ SHA-256 of everything before it [32]
//! ```
//! Integers are little-endian. It is written under another name, synced, read again against its digest and only then renamed
//! (`docs/formats/retention.md`).

use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use tally_journal::files;

/// The version this program writes and reads.
const VERSION: u32 = 1;
/// Length that says: no more records.
const END: u32 = u32::MAX;
/// Largest record that is read: a block's outcomes or statements are below it.
const RECORD_BYTES_MAX: u32 = 64 << 20;
/// Bytes read or written at once.
const PIECE_BYTES: usize = 256 << 10;
/// Behind the name of a file that is being written.
pub const UNFINISHED: &str = "new";

/// Which file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Magic(pub &'static [u8; 8]);

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// It cannot be read or written.
    #[error("{}: {source}", file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{}: {what}", file.display())]
    Content {
        /// Which file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl FileFault {
    /// Something is wrong with what is in `file`.
    pub fn content(file: &Path, what: impl Into<String>) -> Self {
        Self::Content { file: file.to_owned(), what: what.into() }
    }

    /// `file` cannot be read or written.
    pub fn io(file: &Path, source: io::Error) -> Self {
        Self::Io { file: file.to_owned(), source }
    }
}

/// Writes such a file.
pub struct Recorder {
    file: PathBuf,
    new: PathBuf,
    out: BufWriter<File>,
    digest: Sha256,
    magic: Magic,
}

impl Recorder {
    /// Begins `file` under its unfinished name; what an interrupted attempt left there is written over.
    ///
    /// # Errors
    /// [`FileFault`].
    pub fn create(file: &Path, magic: Magic) -> Result<Self, FileFault> {
        let new = unfinished(file);
        let made = File::create(&new).map_err(|source| FileFault::io(&new, source))?;
        let out = BufWriter::with_capacity(PIECE_BYTES, made);
        let mut recorder = Self { file: file.to_owned(), new, out, digest: Sha256::new(), magic };
        recorder.put(magic.0)?;
        recorder.put(&VERSION.to_le_bytes())?;
        recorder.put(&[0; 4])?;
        Ok(recorder)
    }

    /// One more record.
    ///
    /// # Errors
    /// [`FileFault`].
    pub fn record(&mut self, payload: &[u8]) -> Result<(), FileFault> {
        let length = u32::try_from(payload.len()).ok().filter(|length| *length <= RECORD_BYTES_MAX);
        let length =
            length.ok_or_else(|| FileFault::content(&self.file, format!("a record of {} bytes", payload.len())))?;
        self.put(&length.to_le_bytes())?;
        self.put(payload)
    }

    /// Ends it, syncs it, reads it again, and gives it its name.
    ///
    /// # Errors
    /// [`FileFault`]; the file is not there then.
    pub fn finish(mut self) -> Result<(), FileFault> {
        self.put(&END.to_le_bytes())?;
        let digest: [u8; 32] = self.digest.clone().finalize().into();
        self.out.write_all(&digest).map_err(|source| FileFault::io(&self.new, source))?;
        let Self { file, new, out, magic, .. } = self;
        let written = out.into_inner().map_err(|error| FileFault::io(&new, error.into_error()))?;
        written.sync_all().map_err(|source| FileFault::io(&new, source))?;
        // If the power goes before the rename is on the disk: an unfinished name, which nobody looks at.
        Records::open(&new, magic)?;
        files::rename(&new, &file).map_err(|source| FileFault::io(&file, source))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), FileFault> {
        self.digest.update(bytes);
        self.out.write_all(bytes).map_err(|source| FileFault::io(&self.new, source))
    }
}

/// The records of such a file, in order.
pub struct Records {
    file: PathBuf,
    input: BufReader<File>,
    is_done: bool,
}

impl Records {
    /// Opens `file` after its digest was compared: what is read afterwards is what was written.
    ///
    /// # Errors
    /// [`FileFault`].
    pub fn open(file: &Path, magic: Magic) -> Result<Self, FileFault> {
        check(file)?;
        let mut records = Self::begin(file)?;
        let (mut head, mut number) = ([0; 8], [0; 4]);
        records.fill(&mut head)?;
        records.fill(&mut number)?;
        if head != *magic.0 {
            return Err(FileFault::content(file, "it is another kind of file"));
        }
        let version = u32::from_le_bytes(number);
        if version != VERSION {
            let what = format!("it has version {version}, this program knows version {VERSION}");
            return Err(FileFault::content(file, what));
        }
        records.fill(&mut number)?;
        Ok(records)
    }

    fn begin(file: &Path) -> Result<Self, FileFault> {
        let opened = File::open(file).map_err(|source| FileFault::io(file, source))?;
        Ok(Self { file: file.to_owned(), input: BufReader::with_capacity(PIECE_BYTES, opened), is_done: false })
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<(), FileFault> {
        self.input.read_exact(into).map_err(|source| FileFault::io(&self.file, source))
    }

    /// The next one; `None` behind the last.
    ///
    /// # Errors
    /// [`FileFault`].
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, FileFault> {
        if self.is_done {
            return Ok(None);
        }
        let mut length = [0; 4];
        self.fill(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length == END {
            self.is_done = true;
            return Ok(None);
        }
        if length > RECORD_BYTES_MAX {
            return Err(FileFault::content(&self.file, format!("a record of {length} bytes")));
        }
        let mut payload = vec![0; length as usize];
        self.fill(&mut payload)?;
        Ok(Some(payload))
    }
}

/// Compares the digest at the end with everything before it.
fn check(file: &Path) -> Result<(), FileFault> {
    let io = |source| FileFault::io(file, source);
    let mut input = File::open(file).map_err(io)?;
    let length = input.metadata().map_err(io)?.len();
    // Head and end of a file without records.
    if length < 16 + 4 + 32 {
        return Err(FileFault::content(file, format!("it is cut off: {length} bytes")));
    }
    let (mut digest, mut left, mut piece) = (Sha256::new(), length - 32, vec![0; PIECE_BYTES]);
    while left > 0 {
        let count = PIECE_BYTES.min(usize::try_from(left).unwrap_or(PIECE_BYTES));
        input.read_exact(&mut piece[..count]).map_err(io)?;
        digest.update(&piece[..count]);
        left -= count as u64;
    }
    let mut said = [0; 32];
    input.read_exact(&mut said).map_err(io)?;
    let found: [u8; 32] = digest.finalize().into();
    if found == said { Ok(()) } else { Err(FileFault::content(file, "its bytes are not what was written (SHA-256)")) }
}

/// The name of `file` while it is written.
pub fn unfinished(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(UNFINISHED);
    file.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    const MAGIC: Magic = Magic(b"TALLYTST");

    fn all(file: &Path) -> Result<Vec<Vec<u8>>, FileFault> {
        let (mut records, mut found) = (Records::open(file, MAGIC)?, Vec::new());
        while let Some(record) = records.next()? {
            found.push(record);
        }
        Ok(found)
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        let mut recorder = Recorder::create(&file, MAGIC).unwrap();
        recorder.record(b"one").unwrap();
        recorder.record(b"").unwrap();
        assert!(!file.exists(), "it has its name only when it is whole");
        recorder.finish().unwrap();
        assert_eq!(all(&file).unwrap(), [b"one".to_vec(), Vec::new()]);
        let bytes = fs::read(&file).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&file, forged).unwrap();
            assert!(all(&file).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            fs::write(&file, &bytes[..cut]).unwrap();
            assert!(all(&file).is_err(), "cut at {cut}");
        }
        assert!(Records::open(&dir.path().join("none"), MAGIC).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), is_whole in any::<bool>()) {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("a");
            if is_whole {
                let mut head = [&MAGIC.0[..], &1u32.to_le_bytes(), &[0; 4]].concat();
                head.append(&mut bytes);
                let digest: [u8; 32] = Sha256::digest(&head).into();
                bytes = [&head[..], &digest].concat();
            }
            fs::write(&file, bytes).unwrap();
            let _ = all(&file);
        }
    }
}
