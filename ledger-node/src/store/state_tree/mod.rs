//! The tree over the state, on disk: the same tree as [`tally_evidence::StateTree`], root by root and proof by proof, with little of
//! it in memory.
//!
//! **Shape.** The leaves lie in pages of some 24 ([`StatePage`]), each with all keys that begin with the same bits ([`top`]). A change
//! reads one page, hashes the way up in it, and the way from it to the root in memory.
//! **Memory.** 110 bytes a page, so some 5 bytes a key, and [`CACHE_BYTES`] of pages. The file itself is in the system's page
//! cache, where there is room.
//! **Who writes.** The order thread, before a block is logged: a page that leaves the cache goes to a free place of the file
//! ([`pages`]). What the file says counts only together with a top ([`commit`]).

mod commit;
mod pages;
mod top;

pub use commit::{Commit, Committing};

use super::IndexFault;
use super::disk::IndexDisk;
use commit::{Disk, Found};
use pages::{Extent, Pages};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tally_evidence::{EMPTY_STATE, Hash, PageScratch, StateChange, StatePage, StateProof, sha256};
use top::Top;

/// Bytes of pages kept in memory.
const CACHE_BYTES: usize = 24 << 20;
/// Leaves of a page on average, at most: a page has a third less to a third more. Fewer make more pages, whose hashes are in
/// memory; more make each change read and write more.
const LEAVES: u64 = 24;
/// Changes behind the last top after which the next one is due: they are made again after a crash, some µs each.
const CHANGES_MAX: u64 = 500_000;

/// The tree.
#[derive(Debug)]
pub struct StateTree {
    disk: Arc<Disk>,
    top: Top,
    pages: Pages,
    cache: Cache,
    memory: Memory,
    leaves: u64,
    /// Since the last top.
    changes: u64,
    /// Free as soon as the top that is being written is durable.
    leaving: Option<(u64, Vec<Extent>)>,
}

/// Memory that goes from page to page: the allocator would otherwise be asked ten times a change, for kilobytes each time.
#[derive(Debug, Default)]
struct Memory {
    scratch: PageScratch,
    /// A page as it is in the file.
    bytes: Vec<u8>,
    /// Of pages that left the cache.
    spare: Vec<StatePage>,
}

/// Pages whose memory is kept: as many as one change takes out of the cache, and some.
const SPARE_MAX: usize = 16;

impl Memory {
    fn page(&mut self) -> StatePage {
        self.spare.pop().unwrap_or_default()
    }

    fn give(&mut self, page: StatePage) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(page);
        }
    }
}

impl StateTree {
    /// The newest tree on the disk that is not newer than block `height`, and the block it stands behind; `None` when there
    /// is none that is any good.
    ///
    /// # Errors
    /// [`IndexFault`] when the disk cannot be read.
    pub fn open(disk: &IndexDisk, height: u64) -> Result<Option<(Self, u64)>, IndexFault> {
        let disk = Arc::new(Disk::open(disk)?);
        let Some(Found { height, leaves, extents, roots }) = disk.newest(height)? else { return Ok(None) };
        let Some(pages) = Pages::open(Arc::clone(disk.pages()), extents) else { return Ok(None) };
        if disk.pages().len()? < pages.bytes() {
            return Ok(None);
        }
        let tree = Self { top: Top::new(roots), pages, ..Self::with(disk, leaves) };
        Ok(Some((tree, height)))
    }

    /// An empty tree; what the disk has of another one is thrown away.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn create(disk: &IndexDisk) -> Result<Self, IndexFault> {
        let disk = Arc::new(Disk::open(disk)?);
        disk.clear()?;
        Ok(Self::with(disk, 0))
    }

    fn with(disk: Arc<Disk>, leaves: u64) -> Self {
        let mut pages = Pages::empty(Arc::clone(disk.pages()));
        pages.push();
        let (top, cache) = (Top::new(vec![EMPTY_STATE]), Cache::default());
        Self { disk, top, pages, cache, memory: Memory::default(), leaves, changes: 0, leaving: None }
    }

    /// The root that the checkpoint binds.
    pub fn root(&self) -> Hash {
        self.top.root()
    }

    /// Makes changes, sorted by key hash, no key twice. After an error the tree is of no use.
    ///
    /// # Errors
    /// [`IndexFault`] when pages cannot be read or written, or are not what was written.
    pub fn apply(&mut self, changes: &[StateChange]) -> Result<(), IndexFault> {
        self.release();
        let mut touched = Vec::new();
        let mut rest = changes;
        while let Some((first, _)) = rest.first() {
            let page = self.top.page_of(first);
            // The keys of a page are neighbours.
            let count = rest.iter().take_while(|(key, _)| self.top.page_of(key) == page).count();
            let (group, behind) = rest.split_at(count);
            rest = behind;
            let mut content = self.take(page)?;
            let before = content.len() as u64;
            content.apply(group, &mut self.memory.scratch);
            self.leaves = self.leaves + content.len() as u64 - before;
            self.put(page, content);
            touched.push(page);
            self.evict(CACHE_BYTES)?;
        }
        self.top.settle(touched);
        self.changes += changes.len() as u64;
        while self.leaves > LEAVES * u64::from(self.top.len()) {
            self.split()?;
        }
        self.evict(CACHE_BYTES)
    }

    /// Proves what `key` is, or that it is not.
    ///
    /// # Errors
    /// [`IndexFault`] when a page cannot be read, or is not what was written.
    pub fn prove(&self, key: &[u8]) -> Result<StateProof, IndexFault> {
        let key = sha256(key);
        let way = self.top.way(&key);
        let (leaf, below) = match self.cache.get(way.page) {
            Some(content) => content.way(&key),
            None => {
                let mut content = StatePage::default();
                self.read(way.page, &mut content, &mut Vec::new())?;
                content.way(&key)
            }
        };
        Ok(StateProof::new(leaf, [way.steps, below].concat()))
    }

    /// Adds a page, when there are too many leaves for those there are.
    fn split(&mut self) -> Result<(), IndexFault> {
        // Taken while the top still knows it as a whole.
        let content = self.take(self.top.next_split())?;
        let split = self.top.split();
        let (left, right) = content.split(split.bit);
        self.pages.push();
        self.put(split.of, left);
        self.put(split.new, right);
        self.top.deepen();
        Ok(())
    }

    fn take(&mut self, page: u32) -> Result<StatePage, IndexFault> {
        if let Some(content) = self.cache.take(page) {
            return Ok(content);
        }
        let (mut content, mut bytes) = (self.memory.page(), std::mem::take(&mut self.memory.bytes));
        let read = self.read(page, &mut content, &mut bytes);
        self.memory.bytes = bytes;
        read.map(|()| content)
    }

    /// Reads a page and sees that it is the one the top knows.
    fn read(&self, page: u32, content: &mut StatePage, bytes: &mut Vec<u8>) -> Result<(), IndexFault> {
        let read = self.pages.read(page, content, bytes).and_then(|()| {
            if content.root().unwrap_or(EMPTY_STATE) == self.top.pages()[page as usize] {
                return Ok(());
            }
            Err(self.pages.file().damaged(&format!("page {page} is another one than the tree says")))
        });
        if let Err(IndexFault::Damaged(_)) = &read {
            self.disk.spoil();
        }
        read
    }

    fn put(&mut self, page: u32, content: StatePage) {
        self.top.set(page, content.root().unwrap_or(EMPTY_STATE));
        self.cache.put(page, content);
    }

    /// Writes pages until those in memory take `bytes` at most.
    fn evict(&mut self, bytes: usize) -> Result<(), IndexFault> {
        while let Some((page, content, is_changed)) = self.cache.pop_above(bytes) {
            if is_changed {
                self.pages.write(page, &content, &mut self.memory.bytes)?;
            }
            self.memory.give(content);
        }
        Ok(())
    }

    /// Gives back what the last top but one needed, when the last one is durable.
    fn release(&mut self) {
        if let Some((_, extents)) = self.leaving.take_if(|(number, _)| self.disk.is_durable(*number)) {
            self.pages.free(extents);
        }
    }

    /// What makes the tree durable as it is behind block `height`, when that is due.
    ///
    /// # Errors
    /// [`IndexFault`] when pages cannot be written.
    pub fn commit_if_due(&mut self, height: u64) -> Result<Option<Commit>, IndexFault> {
        self.release();
        let is_due = self.changes >= CHANGES_MAX && self.leaving.is_none();
        if is_due { self.commit(height).map(Some) } else { Ok(None) }
    }

    /// What makes the tree durable as it is behind block `height`. One at a time: the last one must be durable.
    ///
    /// # Errors
    /// [`IndexFault`] when pages cannot be written.
    pub fn commit(&mut self, height: u64) -> Result<Commit, IndexFault> {
        let (pages, bytes) = (&mut self.pages, &mut self.memory.bytes);
        self.cache.each_changed(|page, content| pages.write(page, content, bytes))?;
        let extents = self.pages.seal();
        let commit = Commit::new(Arc::clone(&self.disk), height, self.leaves, self.pages.extents(), self.top.pages());
        self.leaving = Some((commit.number(), extents));
        self.changes = 0;
        Ok(commit)
    }

    /// Whether something changed since the last top.
    pub fn is_changed(&self) -> bool {
        self.changes > 0
    }
}

/// Pages in memory, the oldest leaving first: keys are hashes, so no page is asked for more often than another.
#[derive(Debug, Default)]
struct Cache {
    pages: HashMap<u32, (StatePage, bool)>,
    /// In the order in which they came; those that were taken out meanwhile are in `pages` no more, or again.
    order: VecDeque<u32>,
    bytes: usize,
}

impl Cache {
    fn get(&self, page: u32) -> Option<&StatePage> {
        self.pages.get(&page).map(|(content, _)| content)
    }

    fn take(&mut self, page: u32) -> Option<StatePage> {
        let content = self.pages.get_mut(&page)?;
        let content = std::mem::take(&mut content.0);
        self.bytes -= bytes_of(&content);
        Some(content)
    }

    fn put(&mut self, page: u32, content: StatePage) {
        self.bytes += bytes_of(&content);
        if self.pages.insert(page, (content, true)).is_none() {
            self.order.push_back(page);
        }
    }

    /// The next page that has to leave, when all take more than `bytes_max`, and whether it changed.
    fn pop_above(&mut self, bytes_max: usize) -> Option<(u32, StatePage, bool)> {
        while self.bytes > bytes_max {
            let page = self.order.pop_front()?;
            let Some((content, is_changed)) = self.pages.remove(&page) else { continue };
            self.bytes -= bytes_of(&content);
            return Some((page, content, is_changed));
        }
        None
    }

    /// Gives each page that changed, once.
    fn each_changed<E>(&mut self, mut give: impl FnMut(u32, &StatePage) -> Result<(), E>) -> Result<(), E> {
        for (page, (content, is_changed)) in &mut self.pages {
            if std::mem::take(is_changed) {
                give(*page, content)?;
            }
        }
        Ok(())
    }
}

/// What a page takes in memory, with its place in the map.
const fn bytes_of(page: &StatePage) -> usize {
    page.memory_bytes() + 150
}

#[cfg(test)]
mod tests;
