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

use super::chunks::Chunks;
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
/// Bytes of a top that are written at a time.
const PIECE_BYTES: usize = 1 << 20;
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

/// A top on its way to the disk, with the pages it speaks of.
#[derive(Debug)]
pub struct Commit {
    disk: Arc<Disk>,
    number: u64,
    height: u64,
    leaves: u64,
    extents: Chunks<Extent>,
    roots: Chunks<Hash>,
}

impl Commit {
    pub(super) fn new(disk: Arc<Disk>, height: u64, leaves: u64, extents: Chunks<Extent>, roots: Chunks<Hash>) -> Self {
        let number = disk.begun.fetch_add(1, Ordering::SeqCst) + 1;
        Self { disk, number, height, leaves, extents, roots }
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Syncs the pages, writes and syncs the top. The index must be durable up to its block.
    ///
    /// # Errors
    /// [`IndexFault`]; the top before still counts.
    pub fn write(self) -> Result<u64, IndexFault> {
        let disk = &self.disk;
        disk.pages.sync()?;
        let next = 1 - disk.counts.load(Ordering::SeqCst);
        self.write_to(&disk.tops[usize::from(next == 1)])?;
        disk.counts.store(next, Ordering::SeqCst);
        disk.durable.store(self.number, Ordering::SeqCst);
        Ok(self.height)
    }

    /// Writes and syncs the top. A little at a time: the log's sync, for which answers wait, would wait behind all of it.
    fn write_to(&self, file: &TreeFile) -> Result<(), IndexFault> {
        file.set_len((HEAD_BYTES + self.roots.len() * PAGE_BYTES + 4) as u64)?;
        let (mut bytes, mut crc, mut at) = (self.head(), 0, 0);
        for (extent, root) in self.extents.iter().zip(self.roots.iter()) {
            if bytes.len() >= PIECE_BYTES {
                crc = crc32c::crc32c_append(crc, &bytes);
                file.write(at, &bytes)?;
                file.sync()?;
                at += bytes.len() as u64;
                bytes.clear();
            }
            bytes.extend_from_slice(&extent.at.to_le_bytes());
            bytes.extend_from_slice(&extent.units.to_le_bytes());
            bytes.extend_from_slice(root);
        }
        let crc = crc32c::crc32c_append(crc, &bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        file.write(at, &bytes)?;
        file.sync()
    }

    fn head(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PIECE_BYTES + PAGE_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(self.roots.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&self.height.to_le_bytes());
        bytes.extend_from_slice(&self.leaves.to_le_bytes());
        bytes
    }
}
