//! Each kind of call to the disk fails, each in each way, while the journal opens and while it works. It stops, says which
//! file and why, refuses everything although the disk is well again, and has everything confirmed once it is reopened.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Model, assert_refuses_everything, small_segments};
use std::cell::Cell;
use std::error::Error;
use std::io;
use std::rc::Rc;
use tally_journal::testing::MemStorage;
use tally_journal::{Journal, JournalError, OpenError, SegmentName, Storage};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    List,
    Create,
    Write,
    Sync,
    SyncDirectory,
    Read,
    Truncate,
    Delete,
    Len,
}

/// A disk on which one kind of call fails as long as it is told to, without having done anything.
#[derive(Clone)]
struct Sick {
    disk: MemStorage,
    fails: Rc<Cell<Option<(Call, io::ErrorKind)>>>,
    /// Calls refused so far.
    met: Rc<Cell<u32>>,
}

impl Sick {
    fn new(disk: MemStorage) -> Self {
        Sick { disk, fails: Rc::default(), met: Rc::default() }
    }

    fn meets(&self, call: Call) -> io::Result<()> {
        match self.fails.get() {
            Some((sick, kind)) if sick == call => {
                self.met.set(self.met.get() + 1);
                Err(io::Error::new(kind, "the disk says no"))
            }
            _ => Ok(()),
        }
    }
}

impl Storage for Sick {
    fn list(&self) -> io::Result<Vec<String>> {
        self.meets(Call::List)?;
        self.disk.list()
    }
    fn create(&mut self, segment: SegmentName) -> io::Result<()> {
        self.meets(Call::Create)?;
        self.disk.create(segment)
    }
    fn write_at(&mut self, segment: SegmentName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.meets(Call::Write)?;
        self.disk.write_at(segment, offset, bytes)
    }
    fn sync(&mut self, segment: SegmentName) -> io::Result<()> {
        self.meets(Call::Sync)?;
        self.disk.sync(segment)
    }
    fn sync_directory(&mut self) -> io::Result<()> {
        self.meets(Call::SyncDirectory)?;
        self.disk.sync_directory()
    }
    fn read_at(&self, segment: SegmentName, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.meets(Call::Read)?;
        self.disk.read_at(segment, offset, into)
    }
    fn truncate(&mut self, segment: SegmentName, length: u64) -> io::Result<()> {
        self.meets(Call::Truncate)?;
        self.disk.truncate(segment, length)
    }
    fn delete(&mut self, segment: SegmentName) -> io::Result<()> {
        self.meets(Call::Delete)?;
        self.disk.delete(segment)
    }
    fn len(&self, segment: SegmentName) -> io::Result<u64> {
        self.meets(Call::Len)?;
        self.disk.len(segment)
    }
}

/// Disk full, disk broken, file system gone read-only after an error of its own.
const KINDS: [io::ErrorKind; 3] = [io::ErrorKind::StorageFull, io::ErrorKind::Other, io::ErrorKind::ReadOnlyFilesystem];

/// Several segments of confirmed records.
fn filled() -> (MemStorage, Model) {
    let (disk, mut model) = (MemStorage::new(), Model::default());
    let mut journal = Journal::open_on(disk.clone(), small_segments(200)).unwrap();
    append_some(&mut journal, &mut model).unwrap();
    drop(journal);
    assert!(disk.names().len() > 3);
    (disk, model)
}

fn append_some<S: Storage>(journal: &mut Journal<S>, model: &mut Model) -> Result<(), JournalError> {
    for n in 0..12_u8 {
        model.push(&[n; 30]);
        journal.append(&[n; 30])?;
        journal.sync()?;
        model.synced();
    }
    Ok(())
}

/// The words of an error and of all that caused it.
fn words(error: &dyn Error) -> String {
    let cause = error.source().map(words).unwrap_or_default();
    format!("{error}: {cause}")
}

#[test]
fn while_it_works() {
    for kind in KINDS {
        for (call, is_expected) in [
            (Call::Write, (|error| matches!(error, JournalError::Write { .. })) as fn(&JournalError) -> bool),
            (Call::Sync, |error| matches!(error, JournalError::Sync { .. })),
            (Call::Create, |error| matches!(error, JournalError::Create { .. })),
            (Call::SyncDirectory, |error| matches!(error, JournalError::Create { .. })),
        ] {
            let (disk, mut model) = filled();
            let sick = Sick::new(disk.clone());
            let mut journal = Journal::open_on(sick.clone(), small_segments(200)).unwrap();
            model.reopened(&journal);
            // Begins a segment with room for more: else the first thing to fail would be its creation.
            model.push(b"first");
            journal.append(b"first").and_then(|_| journal.sync()).unwrap();
            model.synced();
            sick.fails.set(Some((call, kind)));
            let error = append_some(&mut journal, &mut model).unwrap_err();
            assert!(is_expected(&error), "{call:?}: {error:?}");
            stopped(&sick, &mut journal, &error);
            drop(journal);
            reopened(&disk, &mut model);
        }
        for call in [Call::Delete, Call::SyncDirectory] {
            let (disk, mut model) = filled();
            let sick = Sick::new(disk.clone());
            let mut journal = Journal::open_on(sick.clone(), small_segments(200)).unwrap();
            model.reopened(&journal);
            sick.fails.set(Some((call, kind)));
            model.wish_discarded(9);
            let error = journal.discard_before(9).unwrap_err();
            assert!(matches!(error, JournalError::Delete { .. }), "{call:?}: {error:?}");
            stopped(&sick, &mut journal, &error);
            drop(journal);
            reopened(&disk, &mut model);
        }
    }
}

/// It named file and cause, and does not try its luck although the disk is well again.
#[track_caller]
fn stopped(sick: &Sick, journal: &mut Journal<Sick>, error: &JournalError) {
    let said = words(error);
    assert!(said.contains(".seg") && said.contains("the disk says no"), "{said}");
    sick.fails.set(None);
    let met = sick.met.get();
    assert_eq!(met, 1, "it went on after the first failure");
    assert_refuses_everything(journal);
    assert_eq!(sick.met.get(), met);
}

#[track_caller]
fn reopened(disk: &MemStorage, model: &mut Model) {
    for cut in [None, Some(7), Some(8)] {
        let disk = cut.map_or_else(|| disk.restart(), |seed| disk.power_cut(seed));
        let mut journal = Journal::open_on(disk.clone(), small_segments(200)).unwrap();
        model.reopened(&journal);
        append_some(&mut journal, model).unwrap();
    }
}

/// Reading is different: nothing is lost by it, so nothing stops for it.
#[test]
fn a_failed_read_harms_nothing() {
    for kind in KINDS {
        let (disk, mut model) = filled();
        let sick = Sick::new(disk);
        let mut journal = Journal::open_on(sick.clone(), small_segments(200)).unwrap();
        sick.fails.set(Some((Call::Read, kind)));
        let error = journal.read(0).unwrap_err();
        assert!(matches!(error, JournalError::Read { .. }) && words(&error).contains("the disk says no"), "{error:?}");
        assert!(journal.iter_from(0).unwrap().next().unwrap().is_err());
        sick.fails.set(None);
        model.reopened(&journal);
        append_some(&mut journal, &mut model).unwrap();
        model.check(&journal);
    }
}

/// Leaves behind what opening has to repair: a torn tail, or an unfinished segment.
fn torn(unfinished: bool) -> (MemStorage, Model) {
    let (disk, model) = filled();
    if unfinished {
        disk.put("00000000000000000012.seg", b"TALLYJ");
    } else {
        let last = disk.names().pop().unwrap();
        let mut bytes = disk.contents(&last).unwrap();
        bytes.extend_from_slice(&[7; 40]);
        disk.put(&last, &bytes);
    }
    (disk, model)
}

#[test]
fn while_it_opens() {
    for kind in KINDS {
        for (call, unfinished, is_expected) in [
            (Call::List, false, (|error| matches!(error, OpenError::Read { .. })) as fn(&OpenError) -> bool),
            (Call::Len, false, |error| matches!(error, OpenError::Read { .. })),
            (Call::Read, false, |error| matches!(error, OpenError::Read { .. })),
            (Call::Truncate, false, |error| matches!(error, OpenError::Repair { .. })),
            (Call::Write, false, |error| matches!(error, OpenError::Repair { .. })),
            (Call::Sync, false, |error| matches!(error, OpenError::Repair { .. })),
            (Call::SyncDirectory, false, |error| matches!(error, OpenError::Repair { .. })),
            (Call::Delete, true, |error| matches!(error, OpenError::Repair { .. })),
        ] {
            let (disk, mut model) = torn(unfinished);
            let before: Vec<_> = disk.names().iter().map(|name| disk.contents(name)).collect();
            let sick = Sick::new(disk.clone());
            sick.fails.set(Some((call, kind)));
            let error = Journal::open_on(sick.clone(), small_segments(200)).unwrap_err();
            assert!(is_expected(&error), "{call:?}: {error:?}");
            assert!(words(&error).contains("the disk says no"), "{}", words(&error));
            assert_eq!(sick.met.get(), 1, "{call:?}: it went on after the first failure");
            if matches!(error, OpenError::Read { .. }) {
                let after: Vec<_> = disk.names().iter().map(|name| disk.contents(name)).collect();
                assert_eq!(after, before, "{call:?}: what could not be read was changed");
            }
            reopened(&disk, &mut model);
        }
        for call in [Call::Create, Call::Write, Call::Sync, Call::SyncDirectory] {
            let sick = Sick::new(MemStorage::new());
            sick.fails.set(Some((call, kind)));
            let error = Journal::open_on(sick.clone(), small_segments(200)).unwrap_err();
            assert!(matches!(error, OpenError::Create { .. }), "{call:?}: {error:?}");
            reopened(&sick.disk, &mut Model::default());
        }
    }
}
