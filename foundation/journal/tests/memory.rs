//! No length found on disk sizes memory, and opening does not load payloads. Alone in its file: it counts allocations.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// A global allocator is the only way to see what others allocate.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use tally_journal::testing::MemStorage;
use tally_journal::{Journal, Options};

/// The largest single allocation since the last reset, in bytes.
static LARGEST: AtomicUsize = AtomicUsize::new(0);

struct Largest;
#[global_allocator]
static ALLOCATOR: Largest = Largest;

// SAFETY: hands everything on to the system allocator.
unsafe impl GlobalAlloc for Largest {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Opens and answers with the journal and the largest single allocation that took.
fn open(storage: &MemStorage) -> (Journal<MemStorage>, usize) {
    LARGEST.store(0, Ordering::Relaxed);
    let journal = Journal::open_on(storage.clone(), Options::default()).unwrap();
    (journal, LARGEST.load(Ordering::Relaxed))
}

#[test]
fn memory_stays_small() {
    const SEGMENT: &str = "00000000000000000000.seg";
    for length in [u32::MAX, u32::MAX - 1, 1 << 31, 1 << 24] {
        let storage = MemStorage::new();
        drop(open(&storage));
        let mut bytes = storage.contents(SEGMENT).unwrap();
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&[1; 5000]);
        storage.put(SEGMENT, &bytes);
        let (journal, largest) = open(&storage);
        assert!(journal.repaired().is_some());
        assert!(largest < 1 << 20, "{largest} bytes for a length of {length}");
    }

    let storage = MemStorage::new();
    let (mut journal, _) = open(&storage);
    for _ in 0..3 {
        journal.append(&vec![7; 5 << 20]).unwrap();
        journal.append(b"small").unwrap();
    }
    journal.sync().unwrap();
    drop(journal);
    let (journal, largest) = open(&storage);
    assert!(largest < 1 << 20, "{largest} bytes to open");
    LARGEST.store(0, Ordering::Relaxed);
    assert_eq!(journal.read(3).unwrap().unwrap(), b"small");
    assert!(LARGEST.load(Ordering::Relaxed) < 1 << 14, "a small record drags its large neighbour along");
}
