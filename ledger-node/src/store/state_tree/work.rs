//! Changing many pages: read, merged and hashed on two threads, for in a grown tree that is most of the keeping thread's time.

use super::commit::Disk;
use super::pages::{Pages, Wait};
use super::top::Top;
use crate::store::IndexFault;
use std::slice::ChunksMut;
use std::sync::{Mutex, PoisonError};
use tally_evidence::{EMPTY_STATE, KeyScheme, PageScratch, StateChange, StatePage};

/// Pages changed at once: bounds what is in memory beside the cache, some 4 MB.
pub const PAGES_MAX: usize = 1_024;
/// Pages from which on a second thread helps: starting it takes as long as some ten.
const HELP_FROM: usize = 128;
/// Pages a thread takes at a time.
const PIECE: usize = 16;

/// A page with what changes in it.
#[derive(Debug)]
pub struct Job<'a> {
    pub page: u32,
    pub changes: &'a [StateChange],
    /// The page; memory for it where it is not [cached](Self::is_cached).
    pub content: StatePage,
    pub is_cached: bool,
    /// Leaves before the change.
    pub leaves: usize,
}

/// Memory that goes from page to page: the allocator would otherwise be asked ten times a change, for kilobytes each time.
#[derive(Debug, Default)]
pub struct Desk {
    scratch: PageScratch,
    /// A page as it is in the file.
    bytes: Vec<u8>,
}

/// What pages are read with.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pub scheme: KeyScheme,
    pub disk: &'a Disk,
    pub pages: &'a Pages,
    pub top: &'a Top,
}

impl Reader<'_> {
    /// Reads a page and sees that it is the one the top knows; `false` where it is not and nobody [waits](Wait).
    pub fn read(self, page: u32, content: &mut StatePage, bytes: &mut Vec<u8>, wait: Wait) -> Result<bool, IndexFault> {
        let read = self.pages.read(page, content, bytes, wait).and_then(|is_read| {
            if !is_read || content.root(self.scheme).unwrap_or(EMPTY_STATE) == self.top.pages()[page as usize] {
                return Ok(is_read);
            }
            Err(self.pages.file().damaged(&format!("page {page} is another one than the tree says")))
        });
        if let Err(IndexFault::Damaged(_)) = &read {
            self.disk.spoil();
        }
        read
    }

    /// Makes all changes in the pages.
    pub fn work(self, jobs: &mut [Job<'_>], desks: &mut [Desk; 2]) -> Result<(), IndexFault> {
        let [own, others] = desks;
        let is_helped = jobs.len() >= HELP_FROM;
        let pieces = Mutex::new(jobs.chunks_mut(PIECE));
        if !is_helped {
            return self.take_pieces(&pieces, own);
        }
        std::thread::scope(|scope| {
            let helper = std::thread::Builder::new().name("tally-pages".to_owned());
            let helper = helper.spawn_scoped(scope, || self.take_pieces(&pieces, others));
            // Where the system gives no thread the own one does it all.
            let worked = self.take_pieces(&pieces, own);
            let died = |_| Err(IndexFault::Damaged("a thread of the state tree died".to_owned()));
            let helped = helper.map_or(Ok(()), |helper| helper.join().unwrap_or_else(died));
            worked.and(helped)
        })
    }

    /// Those that have to be read from the disk come last: it reads them all at a time, while the others are worked on.
    fn take_pieces(self, pieces: &Mutex<ChunksMut<'_, Job<'_>>>, desk: &mut Desk) -> Result<(), IndexFault> {
        let mut late = Vec::new();
        loop {
            let piece = pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(piece) = piece else { break };
            for job in piece {
                if !self.change(job, desk, Wait::AtHand)? {
                    late.push(job);
                }
            }
        }
        late.into_iter().try_for_each(|job| self.change(job, desk, Wait::Disk).map(drop))
    }

    /// Makes the changes of a page; `false` where it is not there.
    fn change(self, job: &mut Job<'_>, desk: &mut Desk, wait: Wait) -> Result<bool, IndexFault> {
        if !job.is_cached && !self.read(job.page, &mut job.content, &mut desk.bytes, wait)? {
            return Ok(false);
        }
        job.leaves = job.content.len();
        job.content.apply(self.scheme, job.changes, &mut desk.scratch);
        Ok(true)
    }
}
