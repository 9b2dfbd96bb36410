//! The statements of one block: what waits, and what comes while the block before is on its way to the disk.

use super::queue::{Queue, Room};
use crate::admit::CheckedStatement;
use std::time::{Duration, Instant};
use std::vec::IntoIter;

/// How long a block is filled at most without being asked to linger, whatever the one before waits for: its time is that of its
/// beginning.
const FILL_MAX: Duration = Duration::from_millis(250);

/// Gives statements as long as the block is to be filled. It may take its time: the next stage has work.
pub struct Filling<'a> {
    queue: &'a Queue,
    taken: IntoIter<CheckedStatement>,
    room: Room,
    /// Closed before then only when it is full.
    linger_until: Instant,
    until: Instant,
    is_last: bool,
    waited: Duration,
}

impl<'a> Filling<'a> {
    /// Begins with these statements; a busy ledger goes on for `linger` at least.
    pub fn new(queue: &'a Queue, first: Vec<CheckedStatement>, room: Room, linger: Duration) -> Self {
        let now = Instant::now();
        let room = room.without(&first);
        let (linger_until, until, waited) = (now + linger, now + linger.max(FILL_MAX), Duration::ZERO);
        Self { queue, taken: first.into_iter(), room, linger_until, until, is_last: false, waited }
    }

    /// How long it waited for statements.
    pub const fn waited(&self) -> Duration {
        self.waited
    }

    fn refill(&mut self) {
        let waiting = Instant::now();
        let more = self.queue.take_more(self.room, self.linger_until, self.until);
        self.waited += waiting.elapsed();
        self.is_last = more.is_last;
        self.room = self.room.without(&more.statements);
        self.taken = more.statements.into_iter();
    }
}

impl Iterator for Filling<'_> {
    type Item = CheckedStatement;

    fn next(&mut self) -> Option<CheckedStatement> {
        loop {
            match self.taken.next() {
                None if self.is_last || self.room.is_none() => return None,
                None => self.refill(),
                statement => return statement,
            }
        }
    }
}
