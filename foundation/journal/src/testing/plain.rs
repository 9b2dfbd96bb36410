//! A file that stands beside a journal on the same disk and loses power in the same moment: an index, for example.

use super::platter::{Change, MemFile};
use super::{DiskFault, MemStorage, NameChange, power_is_off, to_usize};
use std::io;

/// A file on a [`MemStorage`], read and written at any place. [`Storage::list`](crate::Storage::list) does not show it.
/// Its writes, length changes and syncs are counted and fail like those of segments.
#[derive(Debug, Clone)]
pub struct PlainFile {
    storage: MemStorage,
    name: String,
}

impl MemStorage {
    /// The file called `name`, created when missing (not durably: nobody syncs the folder for it). Where the disk cannot
    /// create it, each operation on it fails.
    pub fn file(&self, name: &str) -> PlainFile {
        let mut disk = self.lock();
        disk.plain.insert(name.to_owned());
        drop(disk);
        if let Ok((mut disk, fault)) = self.changing()
            && !disk.names.contains_key(name)
            && !matches!(fault, Some(DiskFault::Io | DiskFault::NoSpace))
        {
            let key = disk.add_file(MemFile::default());
            disk.names.insert(name.to_owned(), key);
            disk.names_unsynced.push(NameChange::Created(name.to_owned(), key));
        }
        PlainFile { storage: self.clone(), name: name.to_owned() }
    }

    /// Deletes the file called `name`; nothing when there is none. Not durable before the folder is synced.
    ///
    /// # Errors
    /// When the disk fails or is off.
    pub fn remove_file(&self, name: &str) -> io::Result<()> {
        let (mut disk, fault) = self.changing()?;
        if !matches!(fault, Some(DiskFault::Io | DiskFault::NoSpace)) && disk.names.remove(name).is_some() {
            disk.names_unsynced.push(NameChange::Deleted(name.to_owned()));
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }
}

impl PlainFile {
    /// Length in bytes.
    ///
    /// # Errors
    /// When the disk is off or the file is gone.
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.storage.alive()?.named(&self.name)?.seen.len() as u64)
    }

    /// Whether it has no bytes.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `into` from `offset`.
    ///
    /// # Errors
    /// When the file is shorter, gone, or the disk is off.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let mut disk = self.storage.alive()?;
        let offset = to_usize(offset);
        let found = disk.named(&self.name)?.seen.get(offset..offset.saturating_add(into.len()));
        into.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    /// Writes `bytes` at `offset`. A write that fails gets half-way.
    ///
    /// # Errors
    /// When the disk fails, is full or off.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut disk, fault) = self.storage.changing()?;
        disk.writes += 1;
        let offset = to_usize(offset);
        let fits = disk.fitting(&self.name, offset, bytes.len())?;
        let (written, result) = match fault {
            Some(DiskFault::PowerOff) => (bytes.len(), Err(power_is_off())),
            Some(fault) => (bytes.len() / 2, Err(fault.error())),
            None if fits < bytes.len() => (fits, Err(io::ErrorKind::StorageFull.into())),
            None => (bytes.len(), Ok(())),
        };
        disk.named(&self.name)?.change(Change::Data { offset, bytes: bytes[..written].to_vec() });
        result
    }

    /// Cuts the file to `length` bytes, or extends it by zeros.
    ///
    /// # Errors
    /// When the disk fails or is off.
    pub fn set_len(&self, length: u64) -> io::Result<()> {
        let (mut disk, fault) = self.storage.changing()?;
        if !matches!(fault, Some(DiskFault::Io | DiskFault::NoSpace)) {
            disk.named(&self.name)?.change(Change::Length(to_usize(length)));
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    /// Makes contents and length durable.
    ///
    /// # Errors
    /// When the disk fails or is off.
    pub fn sync(&self) -> io::Result<()> {
        self.storage.wait_while_it_hangs();
        let (mut disk, fault) = self.storage.changing()?;
        disk.sync_file(&self.name, fault)?;
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Storage;
    use crate::storage::SegmentName;

    #[test]
    fn it_loses_what_was_not_synced_and_is_no_segment() {
        let mut lost = 0;
        for seed in 0..60 {
            let mut disk = MemStorage::new();
            let file = disk.file("index");
            disk.create(SegmentName(0)).unwrap();
            disk.sync_directory().unwrap();
            assert_eq!(disk.list().unwrap(), ["00000000000000000000.seg"]);
            file.write_at(3, b"kept").unwrap();
            file.sync().unwrap();
            file.write_at(3, b"gone").unwrap();
            file.set_len(100).unwrap();
            let after = disk.power_cut(seed).file("index");
            assert!(file.len().is_err(), "its process is dead");
            let mut found = [0; 7];
            after.read_at(0, &mut found).unwrap();
            lost += u32::from(&found == b"\0\0\0kept");
            assert!(after.len().unwrap() == 7 || after.len().unwrap() == 100);
        }
        assert!((5..55).contains(&lost), "{lost} of 60 writes lost");
    }

    #[test]
    fn a_file_whose_name_was_never_synced_may_be_gone() {
        let gone = |seed| {
            let disk = MemStorage::new();
            disk.file("index").write_at(0, b"x").unwrap();
            disk.file("index").sync().unwrap();
            disk.power_cut(seed).file("index").is_empty().unwrap()
        };
        let count = (0..40).filter(|seed| gone(*seed)).count();
        assert!((5..35).contains(&count), "{count} of 40");
    }
}
