//! The kept files of a data folder: their names, writing one, reading one.

use super::block::KeptBlock;
use crate::retain::container::{FileFault, Magic, Recorder, Records};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tally_evidence::cbor::{self, CborFault, Fields};

/// Folder of kept files inside the data folder.
pub const FOLDER: &str = "kept";
const MAGIC: Magic = Magic(b"TALLYKEP");
const SUFFIX: &str = ".kept";

/// A kept file by its name: the first and the last block.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeptName {
    /// Height of its first block; the name of the segment that went.
    pub first: u64,
    /// Height of its last block.
    pub last: u64,
}

impl KeptName {
    /// The file's name.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{:020}-{:020}{SUFFIX}", self.first, self.last)
    }

    /// Of a file's name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (first, last) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        let number = |digits: &str| {
            let is_plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
            if is_plain { digits.parse().ok() } else { None }
        };
        let name = Self { first: number(first)?, last: number(last)? };
        (name.first <= name.last).then_some(name)
    }
}

/// The kept files of a data folder, in order.
///
/// # Errors
/// [`FileFault`], also when they overlap or leave a hole, or do not begin at block 0.
pub fn list(data: &Path) -> Result<Vec<KeptName>, FileFault> {
    let folder = data.join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| FileFault::io(&folder, source))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|source| FileFault::io(&folder, source))?.file_name();
        names.extend(name.to_str().and_then(KeptName::parse));
    }
    names.sort();
    let mut next = 0;
    for name in &names {
        if name.first != next {
            let what = format!("what is kept of blocks {next} to {} is missing", name.first.saturating_sub(1));
            return Err(FileFault::content(&folder.join(name.file()), what));
        }
        next = name.last + 1;
    }
    Ok(names)
}

/// Writes a kept file of `ledger`.
///
/// # Errors
/// [`FileFault`]; the file is not there then.
pub fn write(
    data: &Path,
    ledger: &str,
    name: &KeptName,
    mut block: impl FnMut(u64) -> Result<KeptBlock, FileFault>,
) -> Result<PathBuf, FileFault> {
    let folder = data.join(FOLDER);
    fs::create_dir_all(&folder).map_err(|source| FileFault::io(&folder, source))?;
    let file = folder.join(name.file());
    let mut recorder = Recorder::create(&file, MAGIC)?;
    let head =
        cbor::map([("ledger", cbor::text(ledger)), ("first", cbor::int(name.first)), ("last", cbor::int(name.last))]);
    recorder.record(&tagged(b'h', &cbor::encode(&head)))?;
    for height in name.first..=name.last {
        recorder.record(&tagged(b'b', &block(height)?.encode()))?;
    }
    recorder.finish()?;
    Ok(file)
}

fn tagged(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind], payload].concat()
}

/// Reads a kept file of `ledger` and gives its blocks with their bytes. What they say is not checked, only that they are there.
///
/// # Errors
/// [`FileFault`]; what `take` says becomes one, with file and block.
pub fn read(
    file: &Path,
    name: &KeptName,
    ledger: &str,
    mut take: impl FnMut(u64, KeptBlock, Vec<u8>) -> Result<(), String>,
) -> Result<(), FileFault> {
    let mut records = Records::open(file, MAGIC)?;
    let head = records.next()?.unwrap_or_default();
    check_head(&head, name, ledger).map_err(|what| FileFault::content(file, what))?;
    for height in name.first..=name.last {
        let record = records.next()?.unwrap_or_default();
        let mut block = || {
            let Some((b'b', bytes)) = record.split_first() else { return Err("it is missing".to_owned()) };
            take(height, KeptBlock::decode(bytes).map_err(|fault| fault.to_string())?, bytes.to_vec())
        };
        block().map_err(|what| FileFault::content(file, format!("block {height}: {what}")))?;
    }
    match records.next()? {
        None => Ok(()),
        Some(_) => Err(FileFault::content(file, format!("something behind block {}", name.last))),
    }
}

fn check_head(record: &[u8], name: &KeptName, asked: &str) -> Result<(), String> {
    let Some((b'h', head)) = record.split_first() else { return Err("it has no head".to_owned()) };
    let read = || {
        let mut fields = Fields::decode(head)?;
        let read = (fields.text("ledger")?, fields.int::<u64>("first")?, fields.int::<u64>("last")?);
        fields.finish()?;
        Ok::<_, CborFault>(read)
    };
    let (ledger, first, last) = read().map_err(|fault| format!("its head: {fault}"))?;
    if ledger != asked {
        return Err(format!("it is of the ledger `{ledger}`, not of `{asked}`"));
    }
    if (first, last) != (name.first, name.last) {
        return Err(format!("it holds blocks {first} to {last}, its name says {} to {}", name.first, name.last));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_exact() {
        let name = KeptName { first: 7, last: 12 };
        assert_eq!(name.file(), "00000000000000000007-00000000000000000012.kept");
        assert_eq!(KeptName::parse(&name.file()), Some(name));
        for wrong in [
            "",
            "7-12.kept",
            "00000000000000000012-00000000000000000007.kept",
            "+0000000000000000007-00000000000000000012.kept",
        ] {
            assert_eq!(KeptName::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_hole_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(list(dir.path()).unwrap(), []);
        fs::create_dir(dir.path().join(FOLDER)).unwrap();
        let put = |first, last| fs::write(dir.path().join(FOLDER).join(KeptName { first, last }.file()), "").unwrap();
        put(0, 4);
        put(5, 5);
        fs::write(dir.path().join(FOLDER).join("x.kept.new"), "").unwrap();
        assert_eq!(list(dir.path()).unwrap().len(), 2);
        put(7, 9);
        assert!(list(dir.path()).unwrap_err().to_string().contains("blocks 6 to 6 is missing"));
    }

    proptest! {
        #[test]
        fn random_names_never_panic(name in "\\PC{0,60}") {
            let _ = KeptName::parse(&name);
        }
    }
}
