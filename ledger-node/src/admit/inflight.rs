//! Statements between the door and the ledger, by id: the second of two equal ones waits for the first.
//!
//! ```text
//!  reserve ──▶ first ──▶ (not committed yet?) ──▶ queued ──▶ settled: all waiting get the same answer
//!          └─▶ joined ─────────────────────────────────────▶
//! ```
//! Whoever reserves first looks whether the statement is committed *after* reserving. A block becomes visible before its
//! statements are settled here, so no statement can slip through between the two looks and be executed twice.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tally_evidence::StatementId;
use tokio::sync::oneshot;

/// What waiting submitters get; it is copied to each.
pub struct InFlight<T> {
    /// Who waits for each statement. The lock is held for single map operations, and once a block for all its statements.
    waiting: Arc<Mutex<Waiting<T>>>,
    /// Statements of each block that is synced but not answered yet, oldest first: at most those that the keeping thread has.
    logged: Mutex<VecDeque<Vec<StatementId>>>,
}

/// How far a statement is that has no receipt yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnItsWay {
    /// Checked, waiting in memory for its block; a crash loses it.
    Accepted,
    /// Its block is synced; the index is being brought up to it.
    Durable,
}

impl OnItsWay {
    /// The word in the header `tally-state`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Durable => "durable",
        }
    }
}

/// The first who waits, and those who joined, who are few and far between.
type Waiting<T> = HashMap<StatementId, (oneshot::Sender<T>, Vec<oneshot::Sender<T>>)>;

/// The answer to a reservation.
pub enum Reserved<T> {
    /// Nobody else brings it: go on with it. Dropping this without [`First::queued`] gives the reservation back.
    First(First<T>, oneshot::Receiver<T>),
    /// Somebody else does: wait.
    Joined(oneshot::Receiver<T>),
}

/// A reservation.
pub struct First<T> {
    waiting: Arc<Mutex<Waiting<T>>>,
    id: StatementId,
    is_queued: bool,
}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self { waiting: Arc::default(), logged: Mutex::default() }
    }
}

impl<T: Clone> InFlight<T> {
    /// Reserves `id`, or joins whoever did.
    pub fn reserve(&self, id: StatementId) -> Reserved<T> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, others)) = waiting.get_mut(&id) {
            others.push(sender);
            return Reserved::Joined(receiver);
        }
        waiting.insert(id, (sender, Vec::new()));
        drop(waiting);
        Reserved::First(First { waiting: Arc::clone(&self.waiting), id, is_queued: false }, receiver)
    }

    /// How far `id` is; `None`: nobody brings it, or it was answered.
    pub fn state(&self, id: &StatementId) -> Option<OnItsWay> {
        if !self.waiting.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id) {
            return None;
        }
        let logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        Some(if logged.iter().any(|block| block.contains(id)) { OnItsWay::Durable } else { OnItsWay::Accepted })
    }

    /// The block of these statements is synced.
    pub fn logged(&self, block: Vec<StatementId>) {
        self.logged.lock().unwrap_or_else(PoisonError::into_inner).push_back(block);
    }

    /// Answers everyone who waits for the oldest logged block.
    pub fn settle_block(&self, answers: impl Iterator<Item = (StatementId, T)>) {
        self.settle(answers);
        self.logged.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    }

    /// Answers everyone who waits for these statements.
    pub fn settle(&self, answers: impl Iterator<Item = (StatementId, T)>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, answer) in answers {
            let Some((first, others)) = waiting.remove(&id) else { continue };
            // Whoever went away meanwhile asks again and gets the first receipt.
            for sender in others {
                let _ = sender.send(answer.clone());
            }
            let _ = first.send(answer);
        }
    }

    /// Gives up everyone: their receivers see that nobody will answer.
    pub fn abandon(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.logged.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl<T> First<T> {
    /// From here on the ledger settles it.
    pub fn queued(mut self) {
        self.is_queued = true;
    }
}

impl<T> Drop for First<T> {
    fn drop(&mut self) {
        if !self.is_queued {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: StatementId = StatementId([7; 32]);

    #[test]
    fn the_second_waits_for_the_first() {
        let inflight = InFlight::default();
        let Reserved::First(first, mut one) = inflight.reserve(ID) else { panic!("nobody was there") };
        let Reserved::Joined(mut two) = inflight.reserve(ID) else { panic!("somebody was there") };
        first.queued();
        assert_eq!(inflight.state(&ID), Some(OnItsWay::Accepted));
        inflight.logged(vec![ID]);
        assert_eq!(inflight.state(&ID), Some(OnItsWay::Durable));
        inflight.settle_block([(ID, 5)].into_iter());
        assert_eq!(inflight.state(&ID), None);
        assert_eq!((one.try_recv(), two.try_recv()), (Ok(5), Ok(5)));
        assert!(matches!(inflight.reserve(ID), Reserved::First(..)));
    }

    #[test]
    fn a_reservation_given_back_tells_those_who_joined() {
        let inflight = InFlight::<u8>::default();
        let Reserved::First(first, _one) = inflight.reserve(ID) else { panic!("nobody was there") };
        let Reserved::Joined(mut two) = inflight.reserve(ID) else { panic!("somebody was there") };
        drop(first);
        assert!(two.try_recv().is_err());
        assert!(matches!(inflight.reserve(ID), Reserved::First(..)));
    }
}
