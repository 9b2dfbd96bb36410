//! The private fields of an archived segment: `FIRST.private` beside it, the one file of an archive that may go or be written anew.
//!
//! A container ([`super::container`]) of one record an opening: statement id (32 bytes), digest (32), opening. It is made when the segment
//! is archived, and again when it is archived again while the log still has it; so what was purged meanwhile is in it no longer.

use super::archive::{ArchiveFault, remove};
use super::container::{FileFault, Magic, Recorder, Records};
use crate::private::{self, OpeningName};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tally_evidence::{Commitment, StatementId};

const MAGIC: Magic = Magic(b"TALLYPRV");

/// The file beside a segment.
fn file_of(dir: &Path, segment: &str) -> PathBuf {
    dir.join(segment.trim_end_matches(".seg").to_owned() + ".private")
}

/// Writes what is kept in `data` of the private fields of these statements, if anything is.
///
/// # Errors
/// [`ArchiveFault`].
pub fn put(
    data: &Path,
    dir: &Path,
    segment: &str,
    statements: impl FnOnce() -> Result<BTreeSet<StatementId>, ArchiveFault>,
) -> Result<(), ArchiveFault> {
    let (folder, file) = (data.join(private::FOLDER), file_of(dir, segment));
    let kept: Vec<_> = private::names(&folder)?.into_iter().filter(|(_, pending)| !pending).collect();
    if kept.is_empty() {
        return Ok(remove(&file)?);
    }
    let (statements, mut recorder) = (statements()?, None);
    for (name, _) in kept.into_iter().filter(|(name, _)| statements.contains(&name.statement)) {
        let Some(opening) = private::read(&folder.join(name.file()), &name)? else { continue };
        let recorder = match &mut recorder {
            Some(recorder) => recorder,
            none => none.insert(Recorder::create(&file, MAGIC)?),
        };
        recorder.record(&[&name.statement.0[..], &name.digest, &opening].concat())?;
    }
    let Some(recorder) = recorder else { return Ok(remove(&file)?) };
    recorder.finish()?;
    let closed = fs::set_permissions(&file, fs::Permissions::from_mode(0o600));
    Ok(closed.map_err(|source| FileFault::io(&file, source))?)
}

/// The openings beside a segment; none when there are none.
///
/// # Errors
/// [`FileFault`], also when one is not what its call commits to.
pub fn read(dir: &Path, segment: &str) -> Result<Vec<(OpeningName, Vec<u8>)>, FileFault> {
    let file = file_of(dir, segment);
    if !file.exists() {
        return Ok(Vec::new());
    }
    let (mut records, mut found) = (Records::open(&file, MAGIC)?, Vec::new());
    while let Some(record) = records.next()? {
        let wrong = || FileFault::content(&file, "a record is no opening of the call that it names");
        let (statement, rest) = record.split_first_chunk::<32>().ok_or_else(wrong)?;
        let (digest, opening) = rest.split_first_chunk::<32>().ok_or_else(wrong)?;
        if Commitment::to(opening).0 != *digest {
            return Err(wrong());
        }
        found.push((OpeningName { statement: StatementId(*statement), digest: *digest }, opening.to_vec()));
    }
    Ok(found)
}
