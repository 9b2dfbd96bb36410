//! The tree over the state, on disk: the same tree as [`tally_evidence::StateTree`], root by root and proof by proof, with little of
//! it in memory.
//!
//! **Shape.** The leaves lie in pages of some 24 ([`StatePage`]), each with all keys that begin with the same bits ([`top`]). A change
//! reads one page, hashes the way up in it, and the way from it to the root in memory. Many pages are changed on two threads ([`work`]).
//! **Memory.** 110 bytes a page, so some 5 bytes a key, and [`CACHE_BYTES`] of pages at most. The file itself is in the system's page
//! cache, where there is room.
//! **Who writes.** The keeping thread, before a block is logged: a page that leaves the cache goes behind the one before, in a free part of
//! the file ([`pages`]). What the file says counts only together with a top ([`commit`]).

mod chunks;
mod commit;
mod pages;
mod segments;
mod top;
mod work;

pub use commit::Commit;

use super::IndexFault;
use super::disk::{IndexDisk, TreeFile};
use commit::{Disk, Found};
use pages::{Pages, Wait};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tally_evidence::{EMPTY_STATE, Hash, KeyScheme, StateChange, StatePage, StateProof, state_changes};
use top::Top;
use work::{Desk, Job, PAGES_MAX, Reader};

/// Bytes of pages kept in memory, as long as that is a good part of all of them.
const CACHE_BYTES: usize = 24 << 20;
/// The same of a tree that is much larger: nearly every page that is asked for is another one, so keeping them makes nothing faster. What
/// is kept are those that change in every block.
const CACHE_BYTES_GROWN: usize = 3 << 20;
/// Leaves of such a tree: their pages take four times [`CACHE_BYTES`].
const LEAVES_GROWN: u64 = 900_000;
/// Leaves of a page on average, at most: scattered, a page has a third less to a third more. Fewer make more pages, whose hashes are
/// in memory; more make each change read and write more.
const LEAVES: u64 = 24;
/// The same of keys that are grouped. Half of the pages are for keys of no group, of which there are fewer: their pages are
/// smaller, those of groups are larger. A group, which is some 50 leaves, is never in two.
const LEAVES_GROUPED: u64 = 32;
/// Changes behind the last top after which the next one is due: they are made again after a crash, some µs each.
const CHANGES_MAX: u64 = 500_000;

/// The tree.
#[derive(Debug)]
pub struct StateTree {
    scheme: KeyScheme,
    disk: Arc<Disk>,
    top: Top,
    pages: Pages,
    cache: Cache,
    memory: Memory,
    leaves: u64,
    /// Since the last top.
    changes: u64,
    /// Free as soon as the top that is being written is durable.
    leaving: Option<(u64, Vec<u32>)>,
}

/// Memory that goes from page to page.
#[derive(Debug, Default)]
struct Memory {
    desks: [Desk; 2],
    /// A page as it goes to the file.
    bytes: Vec<u8>,
    /// Of pages that left the cache, at most [`PAGES_MAX`].
    spare: Vec<StatePage>,
}

impl Memory {
    fn page(&mut self) -> StatePage {
        self.spare.pop().unwrap_or_default()
    }

    fn give(&mut self, page: StatePage) {
        if self.spare.len() < PAGES_MAX {
            self.spare.push(page);
        }
    }
}

impl StateTree {
    /// The newest tree on the disk that is not newer than block `height`, and the block it stands behind; `None` when there
    /// is none that is any good. Of another scheme it is another tree: its root tells.
    ///
    /// # Errors
    /// [`IndexFault`] when the disk cannot be read.
    pub fn open(disk: &IndexDisk, scheme: KeyScheme, height: u64) -> Result<Option<(Self, u64)>, IndexFault> {
        let disk = Arc::new(Disk::open(disk)?);
        let Some(Found { height, leaves, extents, roots }) = disk.newest(height)? else { return Ok(None) };
        let Some(pages) = Pages::open(Arc::clone(disk.pages()), &extents)? else { return Ok(None) };
        let tree = Self { top: Top::new(scheme, &roots), pages, ..Self::with(disk, scheme, leaves) };
        Ok(Some((tree, height)))
    }

    /// An empty tree; what the disk has of another one is thrown away.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn create(disk: &IndexDisk, scheme: KeyScheme) -> Result<Self, IndexFault> {
        let disk = Arc::new(Disk::open(disk)?);
        disk.clear()?;
        Ok(Self::with(disk, scheme, 0))
    }

    fn with(disk: Arc<Disk>, scheme: KeyScheme, leaves: u64) -> Self {
        let mut pages = Pages::empty(Arc::clone(disk.pages()));
        pages.push();
        let (top, cache) = (Top::new(scheme, &[EMPTY_STATE]), Cache::default());
        Self { scheme, disk, top, pages, cache, memory: Memory::default(), leaves, changes: 0, leaving: None }
    }

    /// The ledger begins: only its genesis says by which scheme. To be called before the first change.
    pub const fn begin(&mut self, scheme: KeyScheme) {
        self.scheme = scheme;
        self.top.begin(scheme);
    }

    /// How it is hashed.
    pub const fn scheme(&self) -> KeyScheme {
        self.scheme
    }

    /// Changes of the state as [`apply`](Self::apply) takes them.
    pub fn changes<'a>(&self, of: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Vec<StateChange> {
        state_changes(self.scheme, of)
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
        while !rest.is_empty() {
            let mut jobs = self.jobs(&mut rest);
            let reader = Reader { scheme: self.scheme, disk: &self.disk, pages: &self.pages, top: &self.top };
            reader.work(&mut jobs, &mut self.memory.desks)?;
            for Job { page, content, leaves, .. } in jobs {
                self.leaves = self.leaves + content.len() as u64 - leaves as u64;
                self.put(page, content);
                touched.push(page);
            }
            self.evict(self.cache_bytes())?;
        }
        self.top.settle(touched);
        self.changes += changes.len() as u64;
        while self.leaves > self.leaves_usual() * u64::from(self.top.len()) {
            self.split()?;
        }
        self.evict(self.cache_bytes())
    }

    /// Takes as many changes as are worked on at once, page by page: the keys of a page are neighbours.
    fn jobs<'a>(&mut self, rest: &mut &'a [StateChange]) -> Vec<Job<'a>> {
        let mut jobs = Vec::new();
        while let Some((first, _)) = rest.first()
            && jobs.len() < PAGES_MAX
        {
            let page = self.top.page_of(first);
            let count = rest.iter().take_while(|(key, _)| self.top.page_of(key) == page).count();
            let (changes, behind) = rest.split_at(count);
            *rest = behind;
            let cached = self.cache.take(page);
            let is_cached = cached.is_some();
            let content = cached.unwrap_or_else(|| self.memory.page());
            jobs.push(Job { page, changes, content, is_cached, leaves: 0 });
        }
        jobs
    }

    /// The file of its pages.
    pub fn pages(&self) -> &Arc<TreeFile> {
        self.disk.pages()
    }

    fn reader(&self) -> Reader<'_> {
        Reader { scheme: self.scheme, disk: &self.disk, pages: &self.pages, top: &self.top }
    }

    /// Proves what `key` is, or that it is not.
    ///
    /// # Errors
    /// [`IndexFault`] when a page cannot be read, or is not what was written.
    pub fn prove(&self, key: &[u8]) -> Result<StateProof, IndexFault> {
        let key = self.scheme.key_hash(key);
        let way = self.top.way(&key);
        let (leaf, below) = match self.cache.get(way.page) {
            Some(content) => content.way(self.scheme, &key),
            None => {
                let mut content = StatePage::default();
                self.reader().read(way.page, &mut content, &mut Vec::new(), Wait::Disk)?;
                content.way(self.scheme, &key)
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
        let read = self.reader().read(page, &mut content, &mut bytes, Wait::Disk);
        self.memory.bytes = bytes;
        read.map(|_| content)
    }

    fn put(&mut self, page: u32, content: StatePage) {
        self.top.set(page, content.root(self.scheme).unwrap_or(EMPTY_STATE));
        self.cache.put(page, content);
    }

    const fn leaves_usual(&self) -> u64 {
        match self.scheme {
            KeyScheme::Scattered => LEAVES,
            KeyScheme::Grouped => LEAVES_GROUPED,
        }
    }

    const fn cache_bytes(&self) -> usize {
        if self.leaves < LEAVES_GROWN { CACHE_BYTES } else { CACHE_BYTES_GROWN }
    }

    /// Writes pages until those in memory take `bytes` at most.
    fn evict(&mut self, bytes: usize) -> Result<(), IndexFault> {
        while let Some((page, content, is_changed)) = self.cache.pop_above(bytes) {
            if is_changed {
                self.pages.write(page, &content, &mut self.memory.bytes)?;
                self.pages.tidy()?;
            }
            self.memory.give(content);
        }
        Ok(())
    }

    /// Gives back what the last top but one needed, when the last one is durable.
    fn release(&mut self) {
        if let Some((_, segments)) = self.leaving.take_if(|(number, _)| self.disk.is_durable(*number)) {
            self.pages.free(segments);
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
        let leaving = self.pages.seal()?;
        let commit = Commit::new(
            Arc::clone(&self.disk),
            height,
            self.leaves,
            self.pages.extents().clone(),
            self.top.pages().clone(),
        );
        self.leaving = Some((commit.number(), leaving));
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
