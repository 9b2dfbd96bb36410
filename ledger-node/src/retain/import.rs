//! Segments out of an archive back into a data folder: one that was pruned, or an empty one.
//!
//! Everything is checked before the folder is touched, and executed again from block 0 afterwards: what the archive holds is believed
//! only because the same roots come out that the ledger's key has sealed.

use super::archive::{self, ArchiveFault, Manifest, segment_names};
use super::container::FileFault;
use super::{kept, openings, snapshot};
use crate::config::NodeConfig;
use crate::engine::Engine;
use crate::private;
use crate::store::{FORMAT_PRIVATE, check_format, raise_format};
use serde::Serialize;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tally_evidence::VerifyingKey;
use tally_journal::DirStorage;
use tally_journal::files::sync_folder;

const LOG: &str = "log";
const INDEX: &str = "state.redb";
/// Where segments are copied before the folder is touched.
const LOG_NEW: &str = "log.importing";

/// What was brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Segments out of the archive.
    pub segments: usize,
    /// Height of the ledger's last block.
    pub height: u64,
    /// Its entries.
    pub entries: u64,
}

/// What has just been done; tests end the process here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportStep {
    /// The archive holds, and has what is missing.
    Checked,
    /// Its segments are beside the log, compared.
    Staged,
    /// Private fields are there again, pending.
    Openings,
    /// The index is gone.
    NoIndex,
    /// One more segment is in the log.
    Moved,
    /// All are, and what was kept in their place is gone.
    Forgotten,
    /// Nothing is left of the import but its result.
    Tidied,
}

/// Brings the segments of the archive in `dir` back into the ledger of `config`, which no node may have open.
///
/// # Errors
/// [`ArchiveFault`]. Before the first segment is moved into the log, nothing was changed; after a power cut behind that the same
/// import goes on, and until then a node opens what is there.
pub fn import(config: &NodeConfig, dir: &Path) -> Result<Imported, ArchiveFault> {
    import_with(config, dir, &mut |_| {})
}

/// The same; `step` is told of each step.
///
/// # Errors
/// [`ArchiveFault`].
pub fn import_with(
    config: &NodeConfig,
    dir: &Path,
    step: &mut dyn FnMut(ImportStep),
) -> Result<Imported, ArchiveFault> {
    let key = config.load_public_key()?;
    let (data, log) = (&config.data, config.data.join(LOG));
    let lock = DirStorage::open(&log)?;
    check_format(data).map_err(|source| ArchiveFault::Blocks { dir: data.clone(), source: Box::new(source) })?;
    let wanted = wanted(config, dir, &key)?;
    step(ImportStep::Checked);
    let staged = data.join(LOG_NEW);
    stage(dir, &staged, &wanted)?;
    step(ImportStep::Staged);
    // Before the log: if the power goes in between, the next pass of a node takes them away again.
    bring_back_openings(data, dir, &wanted)?;
    step(ImportStep::Openings);
    // The index first: with the kept files it would call blocks pruned that are there again.
    archive::remove(&data.join(INDEX))?;
    step(ImportStep::NoIndex);
    // Newest first, so that the log never has a hole.
    for manifest in wanted.iter().rev() {
        archive::rename(&staged.join(&manifest.segment), &log.join(&manifest.segment))?;
        step(ImportStep::Moved);
    }
    forget_kept(data)?;
    step(ImportStep::Forgotten);
    fs::remove_dir(&staged).map_err(|source| FileFault::io(&staged, source))?;
    step(ImportStep::Tidied);
    drop(lock);
    let engine = Engine::open(config.engine(None)?).map_err(|error| ArchiveFault::Replay(Box::new(error)))?;
    let head = engine.store().head();
    engine.close();
    let (height, entries) = head.map_or((0, 0), |head| (head.checkpoint.height, head.checkpoint.size));
    Ok(Imported { segments: wanted.len(), height, entries })
}

/// The segments of the archive that the log lacks.
fn wanted(config: &NodeConfig, dir: &Path, key: &VerifyingKey) -> Result<Vec<Manifest>, ArchiveFault> {
    let found = archive::verify(dir, key)?;
    let no = |what: String| Err(ArchiveFault::NotOurs(format!("{}: {what}", dir.display())));
    if found.ledger != config.ledger {
        return no(format!("it is of the ledger `{}`, node.yaml says `{}`", found.ledger, config.ledger));
    }
    if found.first_block > 0 {
        return no(format!("the segment of blocks 0 to {} is missing", found.first_block - 1));
    }
    let manifests = archive::list(dir)?;
    match segment_names(&config.data.join(LOG))?.first() {
        None => Ok(manifests),
        // An import that died behind its last segment left this: the rest of it is done.
        Some(first) if first.0 == 0 && is_interrupted(&config.data)? => Ok(Vec::new()),
        Some(first) if first.0 == 0 => {
            no(format!("the log in {} begins at block 0: nothing is missing", config.data.display()))
        }
        Some(first) => {
            let older: Vec<_> = manifests.into_iter().filter(|manifest| manifest.first_block < first.0).collect();
            match older.last() {
                Some(last) if last.last_block + 1 == first.0 => Ok(older),
                last => {
                    let from = last.map_or(0, |last| last.last_block + 1);
                    no(format!("the segment of blocks {from} to {} is missing", first.0 - 1))
                }
            }
        }
    }
}

fn is_interrupted(data: &Path) -> Result<bool, FileFault> {
    Ok(data.join(LOG_NEW).exists() || !kept::list(data)?.is_empty() || !snapshot::list(data)?.is_empty())
}

fn stage(dir: &Path, staged: &Path, wanted: &[Manifest]) -> Result<(), FileFault> {
    if staged.exists() {
        fs::remove_dir_all(staged).map_err(|source| FileFault::io(staged, source))?;
    }
    fs::create_dir(staged).map_err(|source| FileFault::io(staged, source))?;
    for manifest in wanted {
        let file = staged.join(&manifest.segment);
        let copy = || {
            fs::copy(dir.join(&manifest.segment), &file)?;
            // In the log the owner may write it: opening does.
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
            fs::File::open(&file)?.sync_all()
        };
        copy().map_err(|source| FileFault::io(&file, source))?;
        archive::compare(&file, manifest)?;
    }
    sync_folder(staged).map_err(|source| FileFault::io(staged, source))
}

fn bring_back_openings(data: &Path, dir: &Path, wanted: &[Manifest]) -> Result<(), ArchiveFault> {
    for manifest in wanted {
        for (name, opening) in openings::read(dir, &manifest.segment)? {
            let marked = raise_format(data, FORMAT_PRIVATE);
            marked.map_err(|source| FileFault::io(&data.join("FORMAT"), source))?;
            private::bring_back(data, &name, &opening)?;
        }
    }
    Ok(())
}

/// The log has everything again. Newest first, so that what is left always begins at block 0.
fn forget_kept(data: &Path) -> Result<(), FileFault> {
    for name in kept::list(data)?.iter().rev() {
        archive::remove(&data.join(kept::FOLDER).join(name.file()))?;
    }
    for (_, file) in snapshot::list(data)? {
        archive::remove(&file)?;
    }
    Ok(())
}
