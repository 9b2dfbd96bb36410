//! What makes the tree durable: two files that take turns, `state.top.0` and `state.top.1`, each saying where all pages are behind
//! one block, and what their roots are.
//!
//! ```text
//! `TALLYTOP` │ version u32 │ pages u32 │ height u64 │ leaves u64 │ per page: piece u32, pieces u32, root [32] │ CRC32C u32
//! ```
//! All integers are little-endian.
//!
//! **Order**, and what is true if we die behind each step:
//! 1. the index is durable at this block or a later one: it has what was changed since the top before
//! 2. pages synced: pieces that nobody knows yet
//! 3. top written and synced: it counts from here on. Half written: its checksum says so, and the other one counts
//! 4. the index may forget what was changed up to here; the pieces of the other top are free

use super::pages::Extent;
use crate::store::IndexFault;
use crate::store::disk::{IndexDisk, TreeFile};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tally_evidence::Hash;

const MAGIC: &[u8; 8] = b"TALLYTOP";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 32;
const PAGE_BYTES: usize = 40;
const TOPS: [&str; 2] = ["state.top.0", "state.top.1"];
const PAGES: &str = "state.pages";

/// The files of the tree.
#[derive(Debug)]
pub struct Disk {
    pages: Arc<TreeFile>,
    tops: [TreeFile; 2],
    /// The top that counts.
    counts: AtomicU64,
    /// Commits begun and durable since the tree was opened.
    begun: AtomicU64,
    durable: AtomicU64,
}

/// What a top says.
#[derive(Debug)]
pub struct Found {
    pub height: u64,
    pub leaves: u64,
    pub extents: Vec<Extent>,
    pub roots: Vec<Hash>,
}

impl Disk {
    pub fn open(disk: &IndexDisk) -> Result<Self, IndexFault> {
        let [first, second] = TOPS.map(|name| disk.tree_file(name));
        let zero = || AtomicU64::new(0);
        let pages = Arc::new(disk.tree_file(PAGES)?);
        Ok(Self { pages, tops: [first?, second?], counts: zero(), begun: zero(), durable: zero() })
    }

    pub const fn pages(&self) -> &Arc<TreeFile> {
        &self.pages
    }

    pub fn clear(&self) -> Result<(), IndexFault> {
        for file in self.tops.iter().chain([&*self.pages]) {
            if file.len()? > 0 {
                file.set_len(0)?;
                file.sync()?;
            }
        }
        Ok(())
    }

    /// A page is not what was written: no top counts any more, so that the next opening builds the tree again.
    pub fn spoil(&self) {
        for top in &self.tops {
            // Where this fails the next opening finds the damage when it comes to the page, as this one did.
            if let Err(fault) = top.set_len(0).and_then(|()| top.sync()) {
                tracing::error!(%fault, "a damaged state tree cannot be put away");
            }
        }
    }

    /// The newest top that is not newer than block `height`.
    pub fn newest(&self, height: u64) -> Result<Option<Found>, IndexFault> {
        let mut newest: Option<Found> = None;
        for (number, file) in (0..).zip(&self.tops) {
            let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(0)];
            file.read(0, &mut bytes)?;
            let Some(found) = Found::decode(&bytes).filter(|found| found.height <= height) else { continue };
            if newest.as_ref().is_none_or(|newest| newest.height < found.height) {
                self.counts.store(number, Ordering::SeqCst);
                newest = Some(found);
            }
        }
        Ok(newest)
    }

    /// Whether a commit is durable.
    pub fn is_durable(&self, number: u64) -> bool {
        self.durable.load(Ordering::SeqCst) >= number
    }
}

impl Found {
    /// `None` for anything but the bytes of a top.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        let (head, pages) = content.split_first_chunk::<HEAD_BYTES>()?;
        let number = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
        let (pages, []) = pages.as_chunks::<PAGE_BYTES>() else { return None };
        let is_one = head.starts_with(MAGIC) && number(8)? == VERSION && !pages.is_empty();
        if !is_one
            || pages.len() as u64 != u64::from(number(12)?)
            || crc32c::crc32c(content) != u32::from_le_bytes(*crc)
        {
            return None;
        }
        let mut found = Self { height: long(16)?, leaves: long(24)?, extents: Vec::new(), roots: Vec::new() };
        for page in pages {
            let ([at, units, ..], _) = page.as_chunks::<4>() else { return None };
            found.extents.push(Extent { at: u32::from_le_bytes(*at), units: u32::from_le_bytes(*units) });
            found.roots.push(*page.last_chunk()?);
        }
        Some(found)
    }
}

/// The bytes of a top.
fn encode(height: u64, leaves: u64, extents: &[Extent], roots: &[Hash]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + roots.len() * PAGE_BYTES + 4);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(roots.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&height.to_le_bytes());
    bytes.extend_from_slice(&leaves.to_le_bytes());
    for (extent, root) in extents.iter().zip(roots) {
        bytes.extend_from_slice(&extent.at.to_le_bytes());
        bytes.extend_from_slice(&extent.units.to_le_bytes());
        bytes.extend_from_slice(root);
    }
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// A top on its way to the disk, with the pages it speaks of.
#[derive(Debug)]
pub struct Commit {
    disk: Arc<Disk>,
    number: u64,
    height: u64,
    bytes: Vec<u8>,
}

impl Commit {
    pub(super) fn new(disk: Arc<Disk>, height: u64, leaves: u64, extents: &[Extent], roots: &[Hash]) -> Self {
        let number = disk.begun.fetch_add(1, Ordering::SeqCst) + 1;
        Self { disk, number, height, bytes: encode(height, leaves, extents, roots) }
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Syncs the pages, writes and syncs the top. The index must be durable up to its block.
    ///
    /// # Errors
    /// [`IndexFault`]; the top before still counts.
    pub fn write(self) -> Result<u64, IndexFault> {
        let Self { disk, number, height, bytes } = self;
        disk.pages.sync()?;
        let next = 1 - disk.counts.load(Ordering::SeqCst);
        let file = &disk.tops[usize::from(next == 1)];
        file.set_len(bytes.len() as u64)?;
        file.write(0, &bytes)?;
        file.sync()?;
        disk.counts.store(next, Ordering::SeqCst);
        disk.durable.store(number, Ordering::SeqCst);
        Ok(height)
    }
}
