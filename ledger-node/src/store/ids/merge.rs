//! Several runs into one, beside everything else: at most one merge at a time, on a thread of its own.
//!
//! **Order**, and what is true if we die behind each step:
//! 1. the new run written and synced: a file that the index does not list, removed on opening
//! 2. the index durable with the new run in its list instead of the old ones ([`super::Runs`]): the new one counts from here on
//! 3. the old files removed: what is left of them is removed on opening

use super::run::{Rows, Run, fence_of, id_of};
use super::write::Writer;
use crate::store::IndexFault;
use crate::store::aside::Aside;
use crate::store::disk::IndexDisk;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rows between two looks whether nobody waits for the result any more.
const LOOK_ROWS: u64 = 1 << 16;

/// Merges neighbours, oldest first, into a run with this number; `None` when `is_over` before it is done.
///
/// # Errors
/// [`IndexFault`].
pub fn merge(
    disk: &IndexDisk,
    number: u64,
    runs: &[Arc<Run>],
    is_over: &AtomicBool,
) -> Result<Option<Run>, IndexFault> {
    let first = runs.iter().map(|run| run.label.entries.start).min().unwrap_or(0);
    let end = runs.iter().map(|run| run.label.entries.end).max().unwrap_or(0);
    let mut writer = Writer::new(disk, number, first..end)?;
    let mut inputs = runs.iter().map(|run| Rows::of(run)).collect::<Result<Vec<_>, _>>()?;
    // The first bytes of each input's row decide, nearly always.
    let mut fences: Vec<u64> = inputs.iter().filter_map(|rows| rows.row().map(|row| fence_of(id_of(row)))).collect();
    let mut left = LOOK_ROWS;
    while let Some(least) = least(&fences, &inputs) {
        let input = &mut inputs[least];
        if let Some(row) = input.row() {
            writer.push_row(row)?;
        }
        input.step()?;
        match input.row() {
            Some(row) => fences[least] = fence_of(id_of(row)),
            None => drop((inputs.swap_remove(least), fences.swap_remove(least))),
        }
        left -= 1;
        if left == 0 {
            left = LOOK_ROWS;
            if is_over.load(Ordering::Relaxed) {
                return Ok(None);
            }
        }
    }
    writer.finish().map(Some)
}

/// The input with the least row.
fn least(fences: &[u64], inputs: &[Rows<'_>]) -> Option<usize> {
    let mut least = 0;
    for (next, fence) in fences.iter().enumerate().skip(1) {
        let is_less = match fence.cmp(&fences[least]) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => inputs[next].key() < inputs[least].key(),
            std::cmp::Ordering::Greater => false,
        };
        if is_less {
            least = next;
        }
    }
    (!fences.is_empty()).then_some(least)
}

/// A run that was made of others.
#[derive(Debug)]
pub struct Merged {
    pub run: Run,
    /// Numbers of the others.
    pub of: Vec<u64>,
}

/// The merge under way.
#[derive(Debug)]
pub struct Merging {
    thread: Aside<Option<Merged>>,
    is_over: Arc<AtomicBool>,
}

impl Default for Merging {
    fn default() -> Self {
        Self { thread: Aside::new("tally-ids", "statement ids"), is_over: Arc::default() }
    }
}

impl Merging {
    /// Whether none can be begun: one is under way, or done and not [taken](Self::look), or there shall be none.
    pub fn is_busy(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) || self.thread.is_begun()
    }

    /// Whether one is under way and not done.
    #[cfg(test)]
    pub fn is_working(&self) -> bool {
        self.thread.is_working()
    }

    /// No merge is begun any more.
    pub fn stop(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Begins a merge; none may be under way.
    ///
    /// # Errors
    /// No thread.
    pub fn begin(&self, disk: &IndexDisk, number: u64, runs: Vec<Arc<Run>>) -> Result<(), IndexFault> {
        let (disk, is_over) = (disk.clone(), Arc::clone(&self.is_over));
        self.thread.begin(move || {
            let run = merge(&disk, number, &runs, &is_over)?;
            Ok(run.map(|run| Merged { run, of: runs.iter().map(|run| run.number).collect() }))
        })
    }

    /// What came of the merge, once it is over; never waits.
    ///
    /// # Errors
    /// [`IndexFault`] with which it ended.
    pub fn look(&self) -> Result<Option<Merged>, IndexFault> {
        self.thread.look().map(Option::flatten)
    }
}

impl Drop for Merging {
    /// Then the thread, which is waited for, does not finish a merge that nobody would list.
    fn drop(&mut self) {
        self.stop();
    }
}
