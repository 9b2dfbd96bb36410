//! `FORMAT`, a line in the data folder that says in which version of our formats everything in it is written: so that an older
//! program that finds the folder of a newer one says so, instead of calling it damaged or "repairing" it.
//!
//! **Bytes**: `tallystick node data 1` (or 2, 3, 4) and a line feed. A folder without the file is version 1: it was written before there was
//! the file, or the power went before it was synced. A later version must have the file synced before it writes anything else.
//! **Who writes**: the node, when it opens a folder that has none, and again before something of a later version is written (the first
//! signed batch is logged, the first segment pruned, the first private field taken, a ledger begun whose state is hashed in groups), holding the lock of the log.

use super::StoreOpenError;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tally_journal::files;

/// The last version this program reads.
pub const FORMAT: u32 = GROUPED;
/// Has a ledger whose state is hashed in groups ([`tally_evidence::KeyScheme::Grouped`]): an earlier program would seal wrong roots.
pub const GROUPED: u32 = 4;
/// May have calls with private fields in its log, and `private/` beside it.
pub const PRIVATE: u32 = 3;
/// May have signed batches in its log, and a log that begins behind block 0, with `kept/` and `snapshot/` beside it.
pub const PARTIAL: u32 = 2;
/// The version of a folder that holds nothing that version 1 does not know.
const FIRST: u32 = 1;
/// Name of the file.
pub const FILE: &str = "FORMAT";
/// What stands before the number.
const TITLE: &str = "tallystick node data ";
/// Longest contents that are looked at.
const BYTES_MAX: usize = 256;

/// Refuses a folder that a newer program wrote; marks one that has no mark.
///
/// # Errors
/// [`StoreOpenError::Newer`], [`StoreOpenError::Mark`]; nothing was changed then.
pub fn check(data: &Path) -> Result<(), StoreOpenError> {
    let file = data.join(FILE);
    let mark = |source| StoreOpenError::Mark { file: file.display().to_string(), source };
    match fs::read(&file) {
        Ok(bytes) => match parse(&bytes) {
            Some(found) if found > FORMAT => {
                Err(StoreOpenError::Newer { file: file.display().to_string(), found, known: FORMAT })
            }
            Some(_) => Ok(()),
            None => Err(mark(io::Error::new(io::ErrorKind::InvalidData, format!("it does not say `{TITLE}N`")))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => write(data, FIRST).map_err(mark),
        Err(error) => Err(mark(error)),
    }
}

fn parse(bytes: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(bytes.get(..bytes.len().min(BYTES_MAX))?).ok()?;
    let number = text.lines().next()?.strip_prefix(TITLE)?;
    let is_plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    // A number that does not fit is newer than anything.
    is_plain.then(|| number.parse().unwrap_or(u32::MAX))
}

/// The version that the folder is marked with.
///
/// # Errors
/// The file is there and cannot be read.
pub fn marked(data: &Path) -> io::Result<u32> {
    match fs::read(data.join(FILE)) {
        Ok(bytes) => Ok(parse(&bytes).unwrap_or(FIRST)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(FIRST),
        Err(error) => Err(error),
    }
}

/// Several threads may raise; each writes the same unfinished file.
static RAISING: Mutex<()> = Mutex::new(());

/// Marks the folder as `version` at least, before anything of that version is written into it.
///
/// # Errors
/// The file cannot be written.
pub fn raise(data: &Path, version: u32) -> io::Result<()> {
    let _raising = RAISING.lock().unwrap_or_else(PoisonError::into_inner);
    if marked(data)? >= version { Ok(()) } else { write(data, version) }
}

fn write(data: &Path, version: u32) -> io::Result<()> {
    files::replace(&data.join(FILE), format!("{TITLE}{version}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_written_once_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        check(dir.path()).unwrap();
        assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), b"tallystick node data 1\n");
        check(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        for (to, found) in [(PARTIAL, 2), (PARTIAL, 2), (PRIVATE, 3), (PARTIAL, 3), (GROUPED, 4), (PRIVATE, 4)] {
            raise(dir.path(), to).unwrap();
            check(dir.path()).unwrap();
            assert_eq!(marked(dir.path()).unwrap(), found);
            assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap(), format!("tallystick node data {found}\n"));
        }
    }

    #[test]
    fn newer_ones_and_nonsense_are_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        for (text, word) in [
            ("tallystick node data 5\n", "data format 5"),
            ("tallystick node data 99999999999\nwhatever else\n", "newer version"),
            ("", "does not say"),
            ("tallystick node data one\n", "does not say"),
            ("tallystick node data -1\n", "does not say"),
        ] {
            fs::write(&file, text).unwrap();
            let error = check(dir.path()).unwrap_err();
            let said =
                format!("{error} {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default());
            assert!(said.contains(word) && said.contains("FORMAT"), "{text:?}: {said}");
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn every_number_is_read(number in any::<u32>()) {
            prop_assert_eq!(parse(format!("{TITLE}{number}\n").as_bytes()), Some(number));
        }
    }
}
