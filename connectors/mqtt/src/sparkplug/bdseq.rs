//! The birth/death number that ties a death to its birth: kept on disk, so that it rises across restarts as well
//! (tck-id-topics-nbirth-bdseq-increment: "on every new MQTT CONNECT packet").
//!
//! The file holds the number of the last CONNECT as decimal text. It is written and synced before that CONNECT is sent: a
//! crash in between skips a number, and never uses one twice.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(crate) struct BdSeq {
    file: PathBuf,
    last: Option<u8>,
}

impl BdSeq {
    /// Reads the number; there is none before the first connection. A file that holds something else counts as none.
    pub(crate) fn open(file: PathBuf) -> io::Result<Self> {
        let last = match std::fs::read_to_string(&file) {
            Ok(text) => {
                let last = text.trim().parse().ok();
                if last.is_none() {
                    tracing::warn!(file = %file.display(), "this file holds no number from 0 to 255; bdSeq begins at 0");
                }
                last
            }
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => None,
            Err(fault) => return Err(fault),
        };
        Ok(Self { file, last })
    }

    /// The number for the next CONNECT: 0 first, 0 again after 255.
    pub(crate) fn advance(&mut self) -> io::Result<u8> {
        let next = self.last.map_or(0, |last| last.wrapping_add(1));
        write_synced(&self.file, next.to_string().as_bytes())?;
        self.last = Some(next);
        Ok(next)
    }
}

/// Whole or not at all, and there after a power cut.
fn write_synced(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = file.with_extension("tmp");
    let mut writing = File::create(&temporary)?;
    writing.write_all(bytes)?;
    writing.sync_all()?;
    std::fs::rename(&temporary, file)?;
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_rises_across_restarts_and_wraps() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bdseq");
        let mut first = BdSeq::open(file.clone()).unwrap();
        assert_eq!((first.advance().unwrap(), first.advance().unwrap()), (0, 1));
        assert_eq!(BdSeq::open(file.clone()).unwrap().advance().unwrap(), 2);
        std::fs::write(&file, "255\n").unwrap();
        assert_eq!(BdSeq::open(file.clone()).unwrap().advance().unwrap(), 0);
        std::fs::write(&file, "many").unwrap();
        assert_eq!(BdSeq::open(file).unwrap().advance().unwrap(), 0);
        assert!(BdSeq::open(dir.path().join("no/such/dir")).unwrap().advance().is_err());
    }
}
