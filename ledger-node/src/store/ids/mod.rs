//! Which statement is which entry, beside the index: the ids are random, in a B-tree each would rewrite a page of its own.
//!
//! They wait in memory for a durable transaction of the index and go together, sorted, into a [`Run`]: a file that is never changed.
//! From [`RunLimits::merge`] neighbours of a size on, a thread of its own makes one of them ([`merge`]), so that there are few.
//! Which runs count stands in the index, in the same transaction as everything else that is durable with them.
//!
//! **Who writes.** The thread of the index, in its durable transactions; a merge the one file it makes. **Who deletes.** That
//! thread, behind the transaction in which a run no longer counts; opening, whatever does not count.
//!
//! **Never lost.** The rows of the blocks have every id, also of blocks that were pruned: what the runs do not cover, because a file is
//! missing, torn or rotten, is made again from them.

mod filter;
mod merge;
mod run;
#[cfg(test)]
mod tests;
mod write;

pub use merge::{Merged, Merging, merge};
pub use run::{Label, Run};
pub use write::Writer;

use super::IndexFault;
use std::iter::once;
use std::ops::Range;
use std::sync::Arc;

/// The id of a statement.
pub type Id = [u8; 32];

/// How many ids and runs there may be of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLimits {
    /// Ids from which on a durable transaction writes those that wait as a run.
    pub ids: u64,
    /// Neighbouring runs of a size that become one; at least 2.
    pub merge: usize,
}

impl Default for RunLimits {
    /// At most some 85,000 ids wait in memory, and those of blocks that wait to be written (6 MB), and ten million entries are in some
    /// ten runs, each written three times.
    fn default() -> Self {
        Self { ids: 32_768, merge: 8 }
    }
}

impl RunLimits {
    /// Runs of one size: a run of the next one is some `merge` times as large.
    fn size_of(self, run: &Run) -> u32 {
        let runs = run.label.rows() / self.ids.max(1);
        runs.max(1).ilog(self.merge.max(2) as u64)
    }
}

/// The runs that count, by their entries: from entry 0 on, without a gap.
#[derive(Debug, Default, Clone)]
pub struct Runs(Vec<Arc<Run>>);

impl Runs {
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.0.iter()
    }

    /// The entry of an id.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn find(&self, id: &Id) -> Result<Option<u64>, IndexFault> {
        for run in &self.0 {
            if let Some(entry) = run.find(id)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// One more run.
    pub fn add(&mut self, run: Run) {
        let place = self.0.partition_point(|other| other.label.entries.start < run.label.entries.start);
        self.0.insert(place, Arc::new(run));
    }

    /// The entry behind the last one.
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |run| run.label.entries.end)
    }

    /// A run in the place of those that it was made of; gives them.
    pub fn replace(&mut self, merged: Merged) -> Vec<Arc<Run>> {
        let old = self.0.extract_if(.., |run| merged.of.contains(&run.number)).collect();
        self.add(merged.run);
        old
    }

    /// The neighbours that should become one run.
    pub fn due(&self, limits: RunLimits) -> Option<Vec<Arc<Run>>> {
        let count = limits.merge.max(2);
        let alike = |runs: &&[Arc<Run>]| runs.iter().all(|run| limits.size_of(run) == limits.size_of(&runs[0]));
        self.0.windows(count).find(alike).map(<[Arc<Run>]>::to_vec)
    }

    /// The entries below `end` that no run has.
    pub fn gaps(&self, end: u64) -> Vec<Range<u64>> {
        let (mut gaps, mut next) = (Vec::new(), 0);
        for Range { start, end } in self.0.iter().map(|run| run.label.entries.clone()).chain(once(end..end)) {
            if next < start {
                gaps.push(next..start);
            }
            next = next.max(end);
        }
        gaps
    }
}
