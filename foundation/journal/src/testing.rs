//! A disk in memory that loses power, fails and fills up on demand. For the tests of this crate and of those that stand on
//! it; everything random comes from a seed.
//!
//! It keeps two states apart: what running programs see, and what the platter holds. Only a sync carries the first over to
//! the second. [`MemStorage::power_cut`] lets any part of the rest survive, in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::storage::{SegmentName, Storage};

mod careless;
mod plain;
mod platter;

pub use careless::{Careless, Slip};
pub use plain::PlainFile;
use platter::{Change, MemFile};

/// A handle to a disk in memory. Clones share the disk. After [`power_cut`](Self::power_cut) or
/// [`restart`](Self::restart) the older handles, and journals on them, only get errors: their process is dead.
#[derive(Debug, Clone, Default)]
pub struct MemStorage {
    disk: Arc<Mutex<Disk>>,
    boot: u64,
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    /// An I/O error. A write gets half-way. After a failed sync the kernel takes the pages for clean: they can still be
    /// read, and some will never reach the platter unless written again.
    Io,
    /// The disk is full. A write gets half-way.
    NoSpace,
    /// The power goes in the middle. Every later operation fails, until [`MemStorage::power_cut`] brings it back.
    PowerOff,
}

#[derive(Debug, Default)]
struct Disk {
    /// Handles of an older boot are dead.
    boot: u64,
    files: BTreeMap<u64, MemFile>,
    /// The directory as programs see it: name to key in `files`.
    names: BTreeMap<String, u64>,
    /// The directory on the platter, and what was done since it was synced.
    names_kept: BTreeMap<String, u64>,
    names_unsynced: Vec<NameChange>,
    /// Names of files that are no segments and belong to somebody else.
    plain: BTreeSet<String>,
    files_created: u64,
    countdown: Option<(u64, DiskFault)>,
    is_off: bool,
    hangs: bool,
    bytes_max: Option<u64>,
    writes: u64,
    syncs: u64,
    random: Random,
}

#[derive(Debug)]
enum NameChange {
    Created(String, u64),
    Deleted(String),
}

impl MemStorage {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts the power and brings it back: what was synced is there, what was not is there in part. Returns the handle for
    /// the next life.
    pub fn power_cut(&self, seed: u64) -> MemStorage {
        let mut disk = self.lock();
        disk.random = Random(seed);
        disk.lose_power();
        disk.begin_boot();
        MemStorage { disk: Arc::clone(&self.disk), boot: disk.boot }
    }

    /// Kills the process but not the machine: everything written is there, synced or not.
    pub fn restart(&self) -> MemStorage {
        let mut disk = self.lock();
        disk.begin_boot();
        MemStorage { disk: Arc::clone(&self.disk), boot: disk.boot }
    }

    /// Lets the `n`-th changing operation from now (1: the next one) fail, once. Reads do not count.
    pub fn fail_operation(&self, n: u64, fault: DiskFault) {
        self.lock().countdown = Some((n, fault));
    }

    /// Whether the fault of [`fail_operation`](Self::fail_operation) has not been met yet.
    pub fn is_fault_pending(&self) -> bool {
        self.lock().countdown.is_some()
    }

    /// Whether the power went and did not come back yet.
    pub fn is_off(&self) -> bool {
        self.lock().is_off
    }

    /// Limits the disk to this many bytes over all files; `None` lifts the limit.
    pub fn set_bytes_max(&self, bytes_max: Option<u64>) {
        self.lock().bytes_max = bytes_max;
    }

    /// From now on syncs hang, or go on.
    pub fn set_hanging(&self, hangs: bool) {
        self.lock().hangs = hangs;
    }

    fn wait_while_it_hangs(&self) {
        while self.lock().hangs {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Write calls so far.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// File syncs so far.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Names of all files but [plain ones](PlainFile), sorted.
    pub fn names(&self) -> Vec<String> {
        self.lock().segments()
    }

    /// The contents of a file as programs see them.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.lock();
        Some(disk.files.get(disk.names.get(name)?)?.seen.clone())
    }

    /// Puts a file on the platter, replacing any of that name: for damage, foreign files and frozen bytes.
    pub fn put(&self, name: &str, contents: &[u8]) {
        let mut disk = self.lock();
        let key = disk.add_file(MemFile::on_platter(contents));
        disk.names.insert(name.to_owned(), key);
        disk.names_kept.insert(name.to_owned(), key);
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.lock();
        if disk.is_off || disk.boot != self.boot { Err(power_is_off()) } else { Ok(disk) }
    }

    /// For an operation that changes something: the disk, and the fault it meets.
    fn changing(&self) -> io::Result<(MutexGuard<'_, Disk>, Option<DiskFault>)> {
        let mut disk = self.alive()?;
        let fault = disk.count_down();
        disk.is_off |= fault == Some(DiskFault::PowerOff);
        Ok((disk, fault))
    }
}

impl Storage for MemStorage {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.alive()?.segments())
    }

    fn create(&mut self, segment: SegmentName) -> io::Result<()> {
        let (mut disk, fault) = self.changing()?;
        let name = segment.to_string();
        if disk.names.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !matches!(fault, Some(DiskFault::Io | DiskFault::NoSpace)) {
            let key = disk.add_file(MemFile::default());
            disk.names.insert(name.clone(), key);
            disk.names_unsynced.push(NameChange::Created(name, key));
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn write_at(&mut self, segment: SegmentName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut disk, fault) = self.changing()?;
        disk.writes += 1;
        let offset = to_usize(offset);
        let fits = disk.fitting(&segment.to_string(), offset, bytes.len())?;
        let (written, result) = match fault {
            Some(DiskFault::PowerOff) => (bytes.len(), Err(power_is_off())),
            Some(fault) => (bytes.len() / 2, Err(fault.error())),
            None if fits < bytes.len() => (fits, Err(io::ErrorKind::StorageFull.into())),
            None => (bytes.len(), Ok(())),
        };
        disk.file(segment)?.change(Change::Data { offset, bytes: bytes[..written].to_vec() });
        result
    }

    fn sync(&mut self, segment: SegmentName) -> io::Result<()> {
        self.wait_while_it_hangs();
        let (mut disk, fault) = self.changing()?;
        disk.sync_file(&segment.to_string(), fault)?;
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        let (mut disk, fault) = self.changing()?;
        if let Some(fault) = fault {
            return Err(fault.error());
        }
        disk.names_unsynced.clear();
        disk.names_kept = disk.names.clone();
        Ok(())
    }

    fn read_at(&self, segment: SegmentName, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let mut disk = self.alive()?;
        let offset = to_usize(offset);
        let found = disk.file(segment)?.seen.get(offset..offset.saturating_add(into.len()));
        into.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn truncate(&mut self, segment: SegmentName, length: u64) -> io::Result<()> {
        let (mut disk, fault) = self.changing()?;
        if !matches!(fault, Some(DiskFault::Io | DiskFault::NoSpace)) {
            disk.file(segment)?.change(Change::Length(to_usize(length)));
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn delete(&mut self, segment: SegmentName) -> io::Result<()> {
        let (mut disk, fault) = self.changing()?;
        let name = segment.to_string();
        if !matches!(fault, Some(DiskFault::Io | DiskFault::NoSpace)) {
            disk.names.remove(&name).ok_or(io::ErrorKind::NotFound)?;
            disk.names_unsynced.push(NameChange::Deleted(name));
            let summary = segment.summary();
            if disk.names.remove(&summary).is_some() {
                disk.names_unsynced.push(NameChange::Deleted(summary));
            }
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn len(&self, segment: SegmentName) -> io::Result<u64> {
        Ok(self.alive()?.file(segment)?.seen.len() as u64)
    }

    fn put_summary(&mut self, segment: SegmentName, summary: &[u8]) -> io::Result<()> {
        let file = self.file(&segment.summary());
        file.set_len(0)?;
        file.write_at(0, summary)
    }

    fn summary(&self, segment: SegmentName) -> io::Result<Option<Vec<u8>>> {
        drop(self.alive()?);
        Ok(self.contents(&segment.summary()))
    }
}

impl DiskFault {
    fn error(self) -> io::Error {
        match self {
            DiskFault::Io => io::Error::other("simulated I/O error"),
            DiskFault::NoSpace => io::ErrorKind::StorageFull.into(),
            DiskFault::PowerOff => power_is_off(),
        }
    }
}

impl Disk {
    fn add_file(&mut self, file: MemFile) -> u64 {
        self.files_created += 1;
        self.files.insert(self.files_created, file);
        self.files_created
    }

    fn segments(&self) -> Vec<String> {
        self.names.keys().filter(|name| !self.plain.contains(*name)).cloned().collect()
    }

    fn file(&mut self, segment: SegmentName) -> io::Result<&mut MemFile> {
        self.named(&segment.to_string())
    }

    fn named(&mut self, name: &str) -> io::Result<&mut MemFile> {
        let key = self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        self.files.get_mut(key).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_file(&mut self, name: &str, fault: Option<DiskFault>) -> io::Result<()> {
        self.syncs += 1;
        let mut random = self.random;
        let file = self.named(name)?;
        match fault {
            None => file.sync(),
            Some(DiskFault::PowerOff) => {}
            Some(_) => file.sync_half(&mut random),
        }
        self.random = random;
        Ok(())
    }

    /// How many of `bytes` can be written at `offset` before the disk is full. Overwriting costs nothing.
    fn fitting(&mut self, name: &str, offset: usize, bytes: usize) -> io::Result<usize> {
        let length = self.named(name)?.seen.len();
        let Some(bytes_max) = self.bytes_max else { return Ok(bytes) };
        let used: usize = self.names.values().filter_map(|key| self.files.get(key)).map(|file| file.seen.len()).sum();
        let end_max = length + to_usize(bytes_max).saturating_sub(used);
        Ok(bytes.min(end_max.saturating_sub(offset)))
    }

    fn count_down(&mut self) -> Option<DiskFault> {
        let (left, fault) = self.countdown?;
        self.countdown = (left > 1).then_some((left - 1, fault));
        (left <= 1).then_some(fault)
    }

    fn begin_boot(&mut self) {
        self.boot += 1;
        self.is_off = false;
        self.countdown = None;
    }

    fn lose_power(&mut self) {
        let mut random = self.random;
        for change in self.names_unsynced.drain(..) {
            match change {
                _ if random.below(2) == 0 => {}
                NameChange::Created(name, key) => drop(self.names_kept.insert(name, key)),
                NameChange::Deleted(name) => drop(self.names_kept.remove(&name)),
            }
        }
        self.names = self.names_kept.clone();
        let kept: Vec<u64> = self.names.values().copied().collect();
        self.files.retain(|key, _| kept.contains(key));
        for file in self.files.values_mut() {
            file.lose_power(&mut random);
        }
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("simulated power cut")
}

fn to_usize(bytes: u64) -> usize {
    crate::format::in_memory(bytes)
}

/// SplitMix64: small, seedable, the same everywhere. Public for seeded tests of those who use [`MemStorage`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.bits() % (end.max(1) as u64)).unwrap_or(0)
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        self.bits().to_le_bytes()[0]
    }
}
